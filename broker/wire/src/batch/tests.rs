//! Batches as they are read, built and refused.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on says so")]

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;

use super::*;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

fn three_records() -> Bytes {
    let mut builder = BatchBuilder::new().producer(ProducerId(9), ProducerEpoch(1), 40);
    let headers = [
        NewHeader {
            key: "trace",
            value: Some(b"1"),
        },
        NewHeader {
            key: "trace",
            value: None,
        },
    ];
    for (timestamp_ms, key, value) in [
        (1000, Some(b"k".as_slice()), Some(b"v".as_slice())),
        (900, None, Some(b"")),
        (1500, Some(b""), None),
    ] {
        builder
            .push(&NewRecord {
                timestamp_ms,
                key,
                value,
                headers: &headers,
            })
            .unwrap();
    }
    builder.build()
}

/// The batch with its checksum made right again after a change.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let crc = view::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn records_come_back_as_they_were_put() {
    let bytes = three_records();
    let batch = only_batch(&bytes).unwrap();
    batch.check_produced().unwrap();
    let header = batch.header();
    assert_eq!(
        (header.base_timestamp_ms, header.max_timestamp_ms),
        (1000, 1500)
    );
    assert_eq!(
        (
            header.producer_id,
            header.base_sequence,
            header.last_sequence()
        ),
        (ProducerId(9), 40, 42)
    );
    let records: Vec<_> = batch.records().unwrap().map(Result::unwrap).collect();
    assert_eq!(
        records
            .iter()
            .map(|record| record.offset.0)
            .collect::<Vec<_>>(),
        [0, 1, 2]
    );
    assert_eq!(
        records
            .iter()
            .map(|record| record.timestamp_ms)
            .collect::<Vec<_>>(),
        [1000, 900, 1500]
    );
    assert_eq!(
        (records[1].key, records[1].value),
        (None, Some(b"".as_slice()))
    );
    assert_eq!(
        (records[2].key, records[2].value),
        (Some(b"".as_slice()), None)
    );
    let headers: Vec<_> = records[0]
        .headers
        .iter()
        .map(|header| (header.key, header.value))
        .collect();
    assert_eq!(headers, [("trace", Some(b"1".as_slice())), ("trace", None)]);
}

#[test]
fn kafkas_checksum_of_known_bytes() {
    // RFC 3720, B.4: CRC32C of 32 zeros.
    assert_eq!(view::crc32c(&[0; 32]), 0x8a91_36aa);
}

#[test]
fn assigned_offset_and_epoch_leave_the_checksum_valid() {
    let bytes = three_records();
    let batch = only_batch(&bytes).unwrap();
    let patch = PatchedHeader::assign(batch.header(), Offset(7_000), LeaderEpoch(3));
    let appended = [patch.to_bytes().as_slice(), batch.after_patch()].concat();
    let appended = only_batch(&appended).unwrap();
    appended.check_produced().unwrap();
    assert_eq!(appended.header().leader_epoch, LeaderEpoch(3));
    assert_eq!(
        (
            appended.header().last_offset(),
            appended.header().next_offset()
        ),
        (Offset(7_002), Offset(7_003))
    );
    let last = appended.records().unwrap().last().unwrap().unwrap();
    assert_eq!(last.offset, Offset(7_002));
}

#[test]
fn every_flipped_bit_after_the_assigned_bytes_is_noticed() {
    let bytes = three_records();
    for byte in 16..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.to_vec();
            flipped[byte] ^= 1 << bit;
            let found = only_batch(&flipped).and_then(|batch| batch.check());
            assert!(found.is_err(), "byte {byte} bit {bit}");
        }
    }
}

#[test]
fn magic_0_and_1_are_refused_by_name() {
    for magic in [0, 1, 3] {
        let mut bytes = three_records().to_vec();
        bytes[16] = magic;
        let error = only_batch(&bytes).unwrap_err();
        assert_eq!(error, BatchError::Magic { found: magic as i8 });
        // Old formats are shorter than a header of version 2: the magic is still what is said.
        assert_eq!(BatchHeader::parse(&bytes[..20]).unwrap_err(), error);
    }
}

#[test]
fn a_partition_of_a_produce_request_holds_exactly_one_batch() {
    let one = three_records();
    let two = [one.clone(), one.clone()].concat();
    assert_eq!(
        only_batch(&two),
        Err(BatchError::NotOneBatch { found: "more" })
    );
    assert_eq!(
        only_batch(&[]),
        Err(BatchError::NotOneBatch { found: "none" })
    );
    let cut = only_batch(&one[..one.len() - 1]).unwrap_err();
    assert_eq!(
        cut,
        BatchError::Truncated {
            wanted: one.len(),
            left: one.len() - 1
        }
    );
    assert_eq!(batches(&two).map(Result::unwrap).count(), 2);
}

#[test]
fn the_record_count_is_the_last_offset_delta_plus_one() {
    for (at, value) in [
        (57, 2),
        (57, 4),
        (57, 0),
        (57, -1),
        (23, 3),
        (23, -1),
        (23, i32::MAX),
    ] {
        let mut bytes = three_records().to_vec();
        bytes[at..at + 4].copy_from_slice(&i32::to_be_bytes(value));
        let bytes = resealed(bytes);
        let error = only_batch(&bytes).unwrap().check_produced().unwrap_err();
        assert!(
            matches!(error, BatchError::Count { .. }),
            "{at} {value}: {error}"
        );
    }
}

#[test]
fn what_compaction_leaves_is_valid_on_disk_and_not_from_a_producer() {
    let mut bytes = three_records().to_vec();
    bytes[23..27].copy_from_slice(&9i32.to_be_bytes());
    let bytes = resealed(bytes);
    let batch = only_batch(&bytes).unwrap();
    batch.check().unwrap();
    assert!(batch.check_produced().is_err());
    assert_eq!(batch.header().next_offset(), Offset(10));
}

#[test]
fn attributes_without_a_meaning_are_refused() {
    for (bits, valid) in [
        (0, true),
        (4, true),
        (5, false),
        (7, false),
        (0x7f & !3, true),
        (0x80, false),
        (-1, false),
    ] {
        assert_eq!(Attributes::from_bits(bits).is_ok(), valid, "{bits:#x}");
    }
    let control = Attributes::default()
        .with_control(true)
        .with_transactional(true);
    assert!(control.is_control() && control.is_transactional() && !control.has_delete_horizon());
    assert_eq!(control.bits(), 0x30);
    assert_eq!(
        Attributes::from_bits(0x0c).unwrap().timestamp_type(),
        TimestampType::LogAppendTime
    );
}

#[test]
fn a_batch_with_log_append_time_gives_it_to_every_record() {
    let attributes = Attributes::default().with_timestamp_type(TimestampType::LogAppendTime);
    let mut builder = BatchBuilder::new().attributes(attributes);
    for timestamp_ms in [5, 80] {
        builder
            .push(&NewRecord {
                timestamp_ms,
                ..NewRecord::default()
            })
            .unwrap();
    }
    let bytes = builder.build();
    let times: Vec<_> = only_batch(&bytes)
        .unwrap()
        .records()
        .unwrap()
        .map(|r| r.unwrap().timestamp_ms)
        .collect();
    assert_eq!(times, [80, 80]);
}

#[test]
fn compressed_records_are_checked_and_not_inflated() {
    let mut bytes = three_records().to_vec();
    bytes[22] = 3;
    let bytes = resealed(bytes);
    let batch = only_batch(&bytes).unwrap();
    batch.check_produced().unwrap();
    assert_eq!(
        batch.records().unwrap_err(),
        BatchError::Compressed(Compression::Lz4)
    );
}

#[test]
fn header_counts_are_checked_against_the_bytes_left() {
    let mut builder = BatchBuilder::new();
    builder.push(&NewRecord::default()).unwrap();
    let mut bytes = builder.build().to_vec();
    // The last byte is the header count: 60 headers in no bytes.
    *bytes.last_mut().unwrap() = 120;
    let bytes = resealed(bytes);
    let error = only_batch(&bytes)
        .unwrap()
        .records()
        .unwrap()
        .next()
        .unwrap()
        .unwrap_err();
    assert!(
        matches!(
            error,
            BatchError::TooMany {
                count: 60,
                left: 0,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn record_counts_are_checked_before_the_first_record() {
    let mut bytes = three_records().to_vec();
    bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    let error = only_batch(&bytes).unwrap().records().unwrap_err();
    assert!(matches!(error, BatchError::TooMany { .. }), "{error}");
}

#[test]
fn markers_say_commit_or_abort() {
    for kind in [ControlRecord::Commit, ControlRecord::Abort] {
        let bytes = control_batch(kind, 12, ProducerId(4), ProducerEpoch(2), 77).unwrap();
        let batch = only_batch(&bytes).unwrap();
        batch.check_produced().unwrap();
        assert_eq!(batch.control().unwrap(), Some(kind));
        assert!(batch.header().attributes.is_transactional());
        let record = batch.records().unwrap().next().unwrap().unwrap();
        assert_eq!(record.value, Some([0, 0, 0, 0, 0, 12].as_slice()));
        let marker = batch.end_transaction().unwrap().unwrap();
        assert_eq!((marker.kind(), marker.coordinator_epoch), (kind, 12));
    }
    let other = control_batch(
        ControlRecord::Other(2),
        12,
        ProducerId(4),
        ProducerEpoch(2),
        77,
    )
    .unwrap();
    assert_eq!(only_batch(&other).unwrap().end_transaction().unwrap(), None);
    assert_eq!(
        only_batch(&three_records()).unwrap().control().unwrap(),
        None
    );
}

#[test]
fn sequences_wrap_from_the_greatest_number_to_zero() {
    let mut builder = BatchBuilder::new().producer(ProducerId(1), ProducerEpoch(0), i32::MAX - 1);
    for _ in 0..3 {
        builder.push(&NewRecord::default()).unwrap();
    }
    let header = *only_batch(&builder.build()).unwrap().header();
    assert_eq!(header.last_sequence(), 0);
}

type Parts = (
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Vec<(String, Option<Vec<u8>>)>,
);

fn parts() -> impl Strategy<Value = Vec<Parts>> {
    let blob = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let headers = proptest::collection::vec((".{0,8}", blob()), 0..3);
    proptest::collection::vec((any::<i64>(), blob(), blob(), headers), 1..8)
}

fn built(parts: &[Parts]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (timestamp_ms, key, value, headers) in parts {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| NewHeader {
                key,
                value: value.as_deref(),
            })
            .collect();
        builder
            .push(&NewRecord {
                timestamp_ms: *timestamp_ms,
                key: key.as_deref(),
                value: value.as_deref(),
                headers: &headers,
            })
            .unwrap();
    }
    builder.build()
}

proptest! {
    #[test]
    fn any_records_come_back(parts in parts()) {
        // A batch cannot say timestamps that are further apart than an i64 holds.
        let parts: Vec<_> = parts.into_iter().map(|mut p| { p.0 /= 4; p }).collect();
        let bytes = built(&parts);
        let batch = only_batch(&bytes).unwrap();
        batch.check_produced().unwrap();
        let back: Vec<Parts> = batch
            .records()
            .unwrap()
            .map(|record| {
                let record = record.unwrap();
                let headers = record.headers.iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
                (record.timestamp_ms, record.key.map(<[u8]>::to_vec), record.value.map(<[u8]>::to_vec), headers)
            })
            .collect();
        prop_assert_eq!(back, parts);
    }

    #[test]
    fn the_oracle_reads_the_same_records(parts in parts()) {
        let parts: Vec<_> = parts.into_iter().map(|mut p| { p.0 /= 4; p.3.dedup_by(|a, b| a.0 == b.0); p }).collect();
        let mut bytes = BytesMut::from(built(&parts).as_ref()).freeze();
        let theirs = kafka_protocol::records::RecordBatchDecoder::decode(&mut bytes).unwrap();
        prop_assert_eq!(theirs.records.len(), parts.len());
        for (record, (timestamp, key, value, _)) in theirs.records.iter().zip(&parts) {
            prop_assert_eq!(record.timestamp, *timestamp);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
        }
    }

    #[test]
    fn a_header_comes_back_as_its_bytes(bytes in proptest::array::uniform32(any::<u8>())) {
        let mut header = [0; HEADER_LEN];
        header[..32].copy_from_slice(&bytes);
        header[29..].copy_from_slice(&bytes);
        header[16] = 2;
        header[8..12].copy_from_slice(&100i32.to_be_bytes());
        header[21..23].copy_from_slice(&[0, bytes[0] & 0x7b]);
        if let Ok(parsed) = BatchHeader::parse(&header) {
            prop_assert_eq!(parsed.to_bytes(), header);
        }
    }

    #[test]
    fn varints_come_back_and_take_as_many_bytes_as_foretold(value in any::<i64>(), shift in 0..64) {
        let value = value >> shift;
        let mut out = Vec::new();
        varint::put(&mut out, value);
        prop_assert_eq!(out.len(), varint::len(value));
        prop_assert_eq!(varint::get(&out), Some((value, out.len())));
        prop_assert_eq!(varint::get(&out[..out.len() - 1]), None);
    }
}

mod rewriting {
    use super::*;

    fn compressed(codec: Compression) -> Bytes {
        let bytes = three_records();
        let batch = only_batch(&bytes).unwrap();
        batch.inflated().unwrap().recompress(codec, None).unwrap()
    }

    const CODECS: [Compression; 5] = [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ];

    #[test]
    fn another_codec_changes_nothing_but_the_codec() {
        let plain = three_records();
        let plain = only_batch(&plain).unwrap();
        for codec in CODECS {
            let bytes = compressed(codec);
            let batch = only_batch(&bytes).unwrap();
            batch.check_produced().unwrap();
            assert_eq!(batch.header().attributes.compression(), codec);
            let inflated = batch.inflated().unwrap();
            let records: Vec<_> = inflated.iter().unwrap().map(Result::unwrap).collect();
            let expected: Vec<_> = plain.records().unwrap().map(Result::unwrap).collect();
            assert_eq!(records, expected);
        }
    }

    #[test]
    fn records_that_stay_keep_offsets_times_and_bytes_and_the_batch_its_place() {
        for codec in CODECS {
            let bytes = compressed(codec);
            let batch = only_batch(&bytes).unwrap();
            let inflated = batch.inflated().unwrap();
            let records: Vec<_> = inflated.iter().unwrap().map(Result::unwrap).collect();
            for horizon in [None, Some(77_000)] {
                let mut rewrite = Rewrite::of(batch.header(), horizon);
                rewrite.keep(&records[1]);
                rewrite.keep(&records[2]);
                let rewritten = rewrite.build().unwrap();
                let rewritten = only_batch(&rewritten).unwrap();
                rewritten.check().unwrap();
                let (before, after) = (batch.header(), rewritten.header());
                assert_eq!(after.attributes.has_delete_horizon(), horizon.is_some());
                assert_eq!(after.last_offset(), before.last_offset());
                assert_eq!(after.last_sequence(), before.last_sequence());
                assert_eq!(after.attributes.compression(), codec);
                assert_eq!(after.max_timestamp_ms, 1500);
                let kept = rewritten.inflated().unwrap();
                let kept: Vec<_> = kept.iter().unwrap().map(Result::unwrap).collect();
                assert_eq!(kept, records[1..]);
            }
        }
    }

    #[test]
    fn a_batch_of_which_nothing_stays_says_whose_it_was_and_a_filler_does_not() {
        let bytes = compressed(Compression::Zstd);
        let header = *only_batch(&bytes).unwrap().header();
        let empty = Rewrite::of(&header, None).build().unwrap();
        let empty = only_batch(&empty).unwrap();
        empty.check().unwrap();
        assert_eq!(empty.bytes().len(), HEADER_LEN);
        assert_eq!(empty.header().last_sequence(), header.last_sequence());
        assert_eq!(empty.records().unwrap().count(), 0);
        let filler = filler(&header, Offset(1000));
        let filler = only_batch(&filler).unwrap();
        filler.check().unwrap();
        assert_eq!(filler.header().last_offset(), Offset(1000));
        assert_eq!(filler.header().producer_id, ProducerId::NONE);
    }
}
