//! What compaction leaves.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod lives;

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::batch::{
    BatchBuilder, BatchView, Compression, NewHeader, NewRecord, batches, only_batch,
};
use weir_wire::{Offset, ProducerEpoch, ProducerId};

use crate::config::Compaction;
use crate::storage::Storage;
use crate::storage_sim::{Operation, SimStorage};
use crate::testing::{Rig, batch_of};
use crate::{AppendError, LogConfig, LogReader, PartitionHandle, SequenceError};

const HEADERS: &[NewHeader<'_>] = &[NewHeader {
    key: "from",
    value: Some(b"the weir"),
}];

/// A record to be sent: key, and the value unless it is a tombstone. Its time tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    key: u8,
    has_value: bool,
    time: i64,
}

/// Of a producer with a sequence, or of nobody.
fn keyed(producer: Option<(i64, i32)>, codec: Compression, records: &[Sent]) -> Bytes {
    let mut builder = BatchBuilder::new();
    if let Some((id, sequence)) = producer {
        builder = builder.producer(ProducerId(id), ProducerEpoch(0), sequence);
    }
    for sent in records {
        let value = format!("value of {}", sent.time).into_bytes();
        builder
            .push(&NewRecord {
                timestamp_ms: sent.time,
                key: Some(&[sent.key]),
                value: sent.has_value.then_some(&value),
                headers: HEADERS,
            })
            .unwrap();
    }
    let plain = builder.build();
    match codec {
        Compression::None => plain,
        codec => {
            let inflated = only_batch(&plain).unwrap().inflated().unwrap();
            inflated.recompress(codec, None).unwrap()
        }
    }
}

/// Everything that is in the log, by offset, after checking that the log has no hole and no batch that is not whole.
fn contents(reader: &LogReader) -> BTreeMap<i64, Sent> {
    let mut found = BTreeMap::new();
    let (mut at, end) = (reader.log_start(), reader.log_end());
    let mut expected = None;
    while at < end {
        let read = reader.read(at, end, 300, true).unwrap();
        assert!(read.next_offset > at, "nothing at {at}, below {end}");
        for batch in batches(&read.bytes) {
            let batch: BatchView<'_> = batch.unwrap();
            batch.check().unwrap();
            let header = batch.header();
            assert!(expected.is_none_or(|expected| expected == header.base_offset));
            expected = Some(header.next_offset());
            for record in batch.inflated().unwrap().iter().unwrap() {
                let record = record.unwrap();
                let sent = Sent {
                    key: record.key.unwrap()[0],
                    has_value: record.value.is_some(),
                    time: record.timestamp_ms,
                };
                if let Some(value) = record.value {
                    assert_eq!(value, format!("value of {}", sent.time).as_bytes());
                }
                assert_eq!(record.headers.iter().count(), 1);
                if record.offset >= reader.log_start() {
                    found.insert(record.offset.0, sent);
                }
            }
        }
        at = read.next_offset;
    }
    assert!(expected.is_none_or(|expected| expected == end));
    found
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 150,
        retention_ms: None,
        compaction: Some(Compaction {
            dirty_ratio_min_ppm: 0,
            delete_retention_ms: 1_000,
            ..Compaction::default()
        }),
        ..LogConfig::default()
    }
}

fn set(key: u8, time: i64) -> Sent {
    Sent {
        key,
        has_value: true,
        time,
    }
}

fn tombstone(key: u8, time: i64) -> Sent {
    Sent {
        key,
        has_value: false,
        time,
    }
}

fn clean(rig: &mut Rig, handle: &PartitionHandle) {
    handle.clean(handle.reader().durable_end());
    rig.settle();
}

/// Appends single records of a key that nobody looks at, until a new segment was begun.
fn begin_segment(rig: &mut Rig, handle: &PartitionHandle, time: &mut i64) {
    let before = handle.reader().shared().segments().len();
    while handle.reader().shared().segments().len() == before {
        *time += 1;
        let batch = keyed(None, Compression::None, &[set(255, *time)]);
        rig.append(handle, &batch).unwrap();
    }
}

fn keys(reader: &LogReader) -> Vec<(i64, u8)> {
    contents(reader)
        .into_iter()
        .filter(|(_, sent)| sent.key != 255)
        .map(|(offset, sent)| (offset, sent.key))
        .collect()
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset_whatever_the_codec() {
    for codec in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut rig = Rig::new(&SimStorage::new());
        let (opened, _) = rig.open(&config());
        let handle = opened.handle;
        let mut time = 1_000;
        for records in [
            &[set(1, 1), set(2, 2), set(3, 3)][..],
            &[set(2, 4), set(2, 5)],
            &[set(1, 6)],
        ] {
            rig.append(&handle, &keyed(None, codec, records)).unwrap();
        }
        begin_segment(&mut rig, &handle, &mut time);
        let (end, size) = (handle.reader().log_end(), handle.reader().size_bytes());
        clean(&mut rig, &handle);
        assert_eq!(keys(handle.reader()), [(2, 3), (4, 2), (5, 1)], "{codec:?}");
        assert_eq!(handle.reader().log_end(), end);
        assert!(handle.reader().size_bytes() < size);
        // And again after a restart, without another look at every batch.
        rig.close(&handle);
        let (opened, _) = rig.open(&config());
        assert!(opened.report.clean && opened.report.damage.is_none());
        assert_eq!(keys(opened.handle.reader()), [(2, 3), (4, 2), (5, 1)]);
        assert_eq!(opened.handle.reader().dirty_bytes().0, 0);
    }
}

#[test]
fn the_active_segment_and_what_consumers_do_not_see_yet_are_left_alone() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for offset in 0..4 {
        rig.append(&handle, &keyed(None, Compression::None, &[set(1, offset)]))
            .unwrap();
    }
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()).len(), 4, "all in the active segment");
    begin_segment(&mut rig, &handle, &mut time);
    handle.clean(Offset(2));
    rig.settle();
    assert_eq!(
        keys(handle.reader()).len(),
        4,
        "above the last stable offset"
    );
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()), [(3, 1)]);
}

#[test]
fn a_tombstone_stays_for_its_time_and_then_goes() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for sent in [set(1, 1), set(2, 2), tombstone(1, 3)] {
        rig.append(&handle, &keyed(None, Compression::None, &[sent]))
            .unwrap();
    }
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()), [(1, 2), (2, 1)]);
    rig.clock.advance(999);
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert_eq!(
        keys(handle.reader()),
        [(1, 2), (2, 1)],
        "its time is not over"
    );
    rig.clock.advance(1);
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()), [(1, 2)]);
}

#[test]
fn kafka_5351_the_last_batch_of_a_producer_keeps_its_header() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for sequence in 0..3 {
        let batch = keyed(
            Some((7, sequence)),
            Compression::None,
            &[set(1, i64::from(sequence))],
        );
        rig.append(&handle, &batch).unwrap();
    }
    rig.append(&handle, &keyed(None, Compression::None, &[set(1, 9)]))
        .unwrap();
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()), [(3, 1)]);
    // From the log alone, as a broker finds it that gets it from another.
    rig.close(&handle);
    let partition = rig.partition_path(0);
    for name in storage.list(&partition).unwrap() {
        if name.ends_with(".snapshot") {
            storage.remove_file(&partition.join(name)).unwrap();
        }
    }
    let (opened, _) = rig.open(&config());
    let gap = rig.append(&opened.handle, &batch_of(7, 0, 9, 1));
    assert!(
        matches!(
            gap,
            Err(AppendError::Sequence(SequenceError::OutOfOrder {
                expected: 3,
                ..
            }))
        ),
        "{gap:?}"
    );
    let next = rig.append(&opened.handle, &batch_of(7, 0, 3, 1)).unwrap();
    assert!(!next.duplicate);
}

#[test]
fn small_segments_are_put_together_and_a_reader_of_an_old_one_goes_on() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for _ in 0..6 {
        begin_segment(&mut rig, &handle, &mut time);
    }
    let reader = handle.reader();
    let held = reader
        .slice(Offset(0), reader.log_end(), 200, true)
        .unwrap();
    let before = reader.shared().segments().len();
    // The first pass leaves of each segment next to nothing, the second puts those together.
    clean(&mut rig, &handle);
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert!(reader.shared().segments().len() < before);
    let bytes = held.try_bytes().unwrap();
    let first = batches(&bytes).next().unwrap().unwrap();
    assert_eq!(first.header().base_offset, Offset(0));
    let active = reader.shared().segments().last().unwrap().base;
    let closed = contents(reader);
    assert_eq!(
        closed.range(..active.0).count(),
        1,
        "one key has one record"
    );
}

#[test]
fn the_dirty_ratio_and_the_lags_say_when() {
    let mut rig = Rig::new(&SimStorage::new());
    let compaction = Compaction {
        dirty_ratio_min_ppm: 1_000_000,
        lag_min_ms: 500,
        lag_max_ms: 2_000,
        ..Compaction::default()
    };
    let config = LogConfig {
        compaction: Some(compaction),
        ..config()
    };
    let (opened, _) = rig.open(&config);
    let handle = opened.handle;
    // The clock begins at a million.
    let mut time = 1_000_000;
    for offset in 0..3 {
        let batch = keyed(None, Compression::None, &[set(1, time + offset)]);
        rig.append(&handle, &batch).unwrap();
    }
    begin_segment(&mut rig, &handle, &mut time);
    clean(&mut rig, &handle);
    assert_eq!(
        keys(handle.reader()).len(),
        3,
        "all of it is dirty, and that is not more than all"
    );
    rig.clock.advance(1_999);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()).len(), 3, "not old enough");
    rig.clock.advance(1);
    clean(&mut rig, &handle);
    assert_eq!(
        keys(handle.reader()).len(),
        1,
        "the oldest has waited for long enough"
    );
}

#[test]
fn an_idle_topics_last_segment_is_closed_when_its_records_have_waited_for_long_enough() {
    let mut rig = Rig::new(&SimStorage::new());
    let compaction = Compaction {
        lag_max_ms: 2_000,
        ..Compaction::default()
    };
    let config = LogConfig {
        compaction: Some(compaction),
        ..config()
    };
    let (opened, _) = rig.open(&config);
    let handle = opened.handle;
    for time in [999_000, 999_001] {
        let batch = keyed(None, Compression::None, &[set(1, time)]);
        rig.append(&handle, &batch).unwrap();
    }
    rig.clock.advance(2_000);
    // The first closes it, which the lane then syncs; the second compacts it.
    clean(&mut rig, &handle);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()), [(1, 1)]);
}

#[test]
fn a_damaged_batch_is_not_given_a_right_checksum() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for offset in 0..3 {
        let batch = keyed(None, Compression::None, &[set(1, offset), set(2, offset)]);
        rig.append(&handle, &batch).unwrap();
    }
    begin_segment(&mut rig, &handle, &mut time);
    let first = rig.partition_path(0).join("00000000000000000000.log");
    assert!(storage.flip_bit(&first, 80 * 8));
    clean(&mut rig, &handle);
    assert!(handle.reader().is_uncleanable());
    assert_eq!(rig.lanes.cleaner().failures(), 1);
    assert!(storage.exists(&first).unwrap(), "it is as it was");
    clean(&mut rig, &handle);
    assert_eq!(rig.lanes.cleaner().failures(), 1, "and is left alone");
}

#[test]
fn a_full_disk_leaves_the_log_as_it_was_and_a_failed_sync_is_fatal() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config());
    let handle = opened.handle;
    let mut time = 1_000;
    for offset in 0..3 {
        let batch = keyed(None, Compression::None, &[set(1, offset)]);
        rig.append(&handle, &batch).unwrap();
    }
    begin_segment(&mut rig, &handle, &mut time);
    storage.fill_up_after(10);
    clean(&mut rig, &handle);
    assert_eq!(keys(handle.reader()).len(), 3);
    storage.set_capacity(1 << 30);
    storage.fail_next(Operation::Sync, "c1.log.tmp", 1);
    clean(&mut rig, &handle);
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
}

mod transactional {
    use std::sync::Arc;

    use weir_wire::batch::{Attributes, ControlRecord, control_batch};

    use super::*;
    use crate::testing::{EPOCH, Outcome};
    use crate::{Append, Appended, Origin, Verified};

    fn append_as(
        rig: &mut Rig,
        handle: &PartitionHandle,
        batch: Bytes,
        origin: Origin,
    ) -> Appended {
        let outcome: Outcome<_> = Outcome::default();
        let left = Arc::clone(&outcome);
        handle.append(Append {
            batch,
            leader_epoch: EPOCH,
            origin,
            verified: Some(Verified {
                since: handle.reader().log_end(),
                begins_at_zero: false,
            }),
            begins_at_zero: false,
            done: Box::new(move |result| *left.lock().unwrap() = Some(result)),
        });
        rig.settle();
        let result: Option<Result<Appended, AppendError>> = outcome.lock().unwrap().take();
        result.unwrap().unwrap()
    }

    fn data(rig: &mut Rig, handle: &PartitionHandle, producer: i64, sequence: i32, sent: Sent) {
        let value = format!("value of {}", sent.time).into_bytes();
        let mut builder = BatchBuilder::new()
            .producer(ProducerId(producer), ProducerEpoch(0), sequence)
            .attributes(Attributes::default().with_transactional(true));
        builder
            .push(&NewRecord {
                timestamp_ms: sent.time,
                key: Some(&[sent.key]),
                value: Some(&value),
                headers: HEADERS,
            })
            .unwrap();
        append_as(rig, handle, builder.build(), Origin::Client);
    }

    fn end(rig: &mut Rig, handle: &PartitionHandle, producer: i64, kind: ControlRecord) -> i64 {
        let marker = control_batch(kind, 0, ProducerId(producer), ProducerEpoch(0), 1_000).unwrap();
        let origin = Origin::Marker {
            transaction_version: 0,
        };
        append_as(rig, handle, marker, origin).base_offset.0
    }

    /// Offsets of the markers that are left.
    fn markers(reader: &LogReader) -> Vec<i64> {
        let (mut at, mut found) = (reader.log_start(), Vec::new());
        while at < reader.log_end() {
            let read = reader.read(at, reader.log_end(), 1 << 20, true).unwrap();
            for batch in batches(&read.bytes) {
                let batch = batch.unwrap();
                if batch.control().unwrap().is_some() {
                    found.push(batch.header().base_offset.0);
                }
            }
            at = read.next_offset;
        }
        found
    }

    fn data_keys(reader: &LogReader) -> Vec<(i64, u8)> {
        let (mut at, mut found) = (reader.log_start(), Vec::new());
        while at < reader.log_end() {
            let read = reader.read(at, reader.log_end(), 1 << 20, true).unwrap();
            for batch in batches(&read.bytes) {
                let batch = batch.unwrap();
                if batch.header().attributes.is_control() {
                    continue;
                }
                for record in batch.records().unwrap() {
                    let record = record.unwrap();
                    let key = record.key.unwrap()[0];
                    if key != 255 {
                        found.push((record.offset.0, key));
                    }
                }
            }
            at = read.next_offset;
        }
        found
    }

    #[test]
    fn what_was_aborted_goes_and_hides_nothing_and_its_marker_goes_when_its_time_is_over() {
        let mut rig = Rig::new(&SimStorage::new());
        let (opened, _) = rig.open(&config());
        let handle = opened.handle;
        let mut time = 5_000;
        // Offsets 0 to 2: a value that was committed, and a later one that was not.
        data(&mut rig, &handle, 1, 0, set(1, 1));
        end(&mut rig, &handle, 1, ControlRecord::Commit);
        data(&mut rig, &handle, 2, 0, set(1, 2));
        begin_segment(&mut rig, &handle, &mut time);
        // The marker lies in another segment.
        let aborted = end(&mut rig, &handle, 2, ControlRecord::Abort);
        // And both producers go on, so that neither needs its last batch.
        data(&mut rig, &handle, 1, 1, set(2, 3));
        let committed = end(&mut rig, &handle, 1, ControlRecord::Commit);
        data(&mut rig, &handle, 2, 1, set(3, 4));
        let last = end(&mut rig, &handle, 2, ControlRecord::Commit);
        begin_segment(&mut rig, &handle, &mut time);
        clean(&mut rig, &handle);
        let reader = handle.reader();
        let keys: Vec<u8> = data_keys(reader).iter().map(|(_, key)| *key).collect();
        assert_eq!(keys, [1, 2, 3], "the committed value of 1 is still there");
        assert_eq!(data_keys(reader)[0], (0, 1));
        assert_eq!(
            markers(reader),
            [1, aborted, committed, last],
            "each has had records of its transaction in this pass"
        );
        // Of the aborted transaction nothing is left; its marker gets its time, and then goes.
        begin_segment(&mut rig, &handle, &mut time);
        clean(&mut rig, &handle);
        assert_eq!(markers(handle.reader()), [1, aborted, committed, last]);
        rig.clock.advance(1_000);
        begin_segment(&mut rig, &handle, &mut time);
        clean(&mut rig, &handle);
        assert_eq!(markers(handle.reader()), [1, committed, last]);
        // What was committed keeps its marker for as long as it is there.
        rig.close(&handle);
        let (opened, _) = rig.open(&config());
        assert_eq!(
            opened.handle.reader().last_stable(opened.report.log_end),
            opened.report.log_end
        );
    }

    #[test]
    fn nothing_beyond_the_last_stable_offset_is_looked_at() {
        let mut rig = Rig::new(&SimStorage::new());
        let (opened, _) = rig.open(&config());
        let handle = opened.handle;
        let mut time = 5_000;
        for number in 0..3 {
            rig.append(&handle, &keyed(None, Compression::None, &[set(1, number)]))
                .unwrap();
        }
        data(&mut rig, &handle, 2, 0, set(1, 9));
        begin_segment(&mut rig, &handle, &mut time);
        let reader = handle.reader();
        let stable = reader.last_stable(reader.durable_end());
        assert_eq!(stable, Offset(3), "the transaction is open");
        handle.clean(stable);
        rig.settle();
        assert_eq!(data_keys(handle.reader()).len(), 4);
    }
}
