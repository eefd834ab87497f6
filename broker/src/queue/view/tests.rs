#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use bytes::Bytes;
use proptest::prelude::*;
use weir_queues::filter::Filter;
use weir_quorum::TopicId;
use weir_wire::batch::{
    BatchBuilder, BatchHeader, Compression, NewHeader, NewRecord, batches, filler, only_batch,
};
use weir_wire::frame::{ResponseFrame, encode_response};
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::{FetchRequest, FetchResponse, FetchResponseView, fetch_response};
use weir_wire::{LeaderEpoch, MessageView, Offset, Records, Request};

use super::build::{Built, Rules};
use super::find::Search;
use super::word::{COPIER, Word};
use super::{Lag, Progress};
use crate::queue::delay::without_held_back;

fn word(next: i64) -> Word {
    Word {
        source: TopicId(uuid::Uuid::from_u128(7)),
        epoch: LeaderEpoch(3),
        next: Offset(next),
    }
}

#[test]
fn a_view_is_late_since_it_was_at_its_sources_end_last() {
    let progress = Progress::default();
    assert_eq!(progress.lag(), None);
    let lag = |epoch, messages, since_ms| {
        Some(Lag {
            epoch: LeaderEpoch(epoch),
            messages,
            since_ms,
        })
    };
    progress.begins(LeaderEpoch(3), 1_000);
    progress.looked(10, 30, 2_000);
    assert_eq!(progress.lag(), lag(3, 20, 1_000));
    progress.looked(30, 30, 3_000);
    progress.looked(30, 31, 4_000);
    assert_eq!(progress.lag(), lag(3, 1, 3_000));
    // Once more after a failure, which makes it no less late.
    progress.begins(LeaderEpoch(3), 5_000);
    assert_eq!(progress.lag(), lag(3, 1, 3_000));
    progress.begins(LeaderEpoch(4), 6_000);
    assert_eq!(progress.lag(), lag(4, 0, 6_000));
}

/// As the lane gives offsets.
fn placed(appended: &Bytes, log: &mut Vec<u8>, end: &mut i64) {
    for batch in batches(appended) {
        let batch = batch.unwrap();
        let mut bytes = batch.bytes().to_vec();
        bytes[..8].copy_from_slice(&end.to_be_bytes());
        *end += i64::from(batch.header().last_offset_delta) + 1;
        log.extend_from_slice(&bytes);
    }
}

fn copied(values: &[&str]) -> Bytes {
    let mut builder = super::word::builder();
    for value in values {
        let record = NewRecord {
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

fn found(log: &[u8]) -> Option<(i64, i64)> {
    let mut search = Search::default();
    search.take(log).unwrap();
    search.found.map(|(word, at)| (word.next.0, at.0))
}

#[test]
fn the_last_word_whose_batch_is_there_counts() {
    let (mut log, mut end) = (Vec::new(), 0);
    assert_eq!(found(&log), None);
    placed(
        &word(10).before(5, Some(copied(&["a", "b"]))).unwrap(),
        &mut log,
        &mut end,
    );
    assert_eq!(found(&log), Some((10, 0)));
    placed(&word(20).before(6, None).unwrap(), &mut log, &mut end);
    assert_eq!((found(&log), end), (Some((20, 3)), 5));
    // A crash has cut the batch off, and a new leader has gone on from the word before.
    let both = word(30).before(7, Some(copied(&["lost"]))).unwrap();
    let cut = both.slice(..BatchHeader::parse(&both).unwrap().total_len());
    placed(&cut, &mut log, &mut end);
    assert_eq!(found(&log), Some((20, 3)));
    placed(
        &word(25).before(7, Some(copied(&["c"]))).unwrap(),
        &mut log,
        &mut end,
    );
    assert_eq!(found(&log), Some((25, 6)));
    // Nor is it a client's, from a time in which the topic was no view.
    placed(&cut, &mut log, &mut end);
    placed(&BatchBuilder::new().build_one("theirs"), &mut log, &mut end);
    assert_eq!(found(&log), Some((25, 6)));
}

trait BuildOne {
    fn build_one(self, value: &str) -> Bytes;
}

impl BuildOne for BatchBuilder {
    fn build_one(mut self, value: &str) -> Bytes {
        let record = NewRecord {
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        };
        self.push(&record).unwrap();
        self.build()
    }
}

#[test]
fn what_compaction_leaves_of_a_batch_is_enough() {
    let (mut log, mut end) = (Vec::new(), 0);
    let both = word(10).before(5, Some(copied(&["a"]))).unwrap();
    let escort = BatchHeader::parse(&both).unwrap();
    let rest = BatchHeader::parse(&both[escort.total_len()..]).unwrap();
    let mut left = both[..escort.total_len()].to_vec();
    left.extend_from_slice(&filler(&rest, rest.last_offset()));
    placed(&Bytes::from(left), &mut log, &mut end);
    assert_eq!(found(&log), Some((10, 0)));
}

#[test]
fn consumers_are_given_no_word() {
    let both = word(10).before(5, Some(copied(&["a"]))).unwrap();
    let given = without_held_back(both.clone());
    let kinds = batches(&given).map(|batch| {
        let header = *batch.unwrap().header();
        assert!(!header.attributes.is_control());
        header.record_count
    });
    assert_eq!(kinds.collect::<Vec<_>>(), [0, 1]);
}

/// A record of the source: its key, its header `n` and its time.
type Made = (Option<String>, i64, i64);

fn source(records: &[Made], per_batch: usize, codec: Compression) -> Vec<u8> {
    let mut log = Vec::new();
    for (number, chunk) in records.chunks(per_batch).enumerate() {
        let base = i64::try_from(number * per_batch).unwrap();
        let mut builder = BatchBuilder::new().at(Offset(base), LeaderEpoch(0));
        for (key, n, time) in chunk {
            let n = n.to_string();
            let headers = [NewHeader {
                key: "n",
                value: Some(n.as_bytes()),
            }];
            builder
                .push(&NewRecord {
                    timestamp_ms: *time,
                    key: key.as_deref().map(str::as_bytes),
                    value: Some(b"value"),
                    headers: &headers,
                })
                .unwrap();
        }
        let batch = builder.build();
        let inflated = only_batch(&batch).unwrap().inflated().unwrap();
        log.extend_from_slice(&inflated.recompress(codec, None).unwrap());
    }
    log
}

fn build(rules: &Rules, records: Vec<u8>, from: i64) -> Built {
    let response = FetchResponse {
        responses: vec![fetch_response::FetchableTopicResponse {
            partitions: vec![PartitionData {
                records: Some(Records::from(Bytes::from(records))),
                ..PartitionData::default()
            }],
            ..Default::default()
        }],
        ..FetchResponse::default()
    };
    let frame = encode_response(13, 0, &response).unwrap();
    let frame = frame.try_into_bytes().unwrap().slice(4..);
    let frame = ResponseFrame::parse(FetchRequest::KEY, 13, &frame).unwrap();
    let view = FetchResponseView::decode(frame.body, 13).unwrap();
    let topic = view.responses.iter().next().unwrap();
    let data = topic.partitions.iter().next().unwrap();
    rules.build(&data, from).unwrap()
}

proptest! {
    #[test]
    fn a_view_has_what_matches_in_order_and_its_words_say_up_to_where(
        records in prop::collection::vec((prop::option::of("[a-c]"), 0..10_i64, 0..1_000_i64), 0..60),
        per_batch in 1..9_usize,
        bytes_max in 100..2_000_usize,
        from in 0..20_i64,
        needs_keys: bool,
        codec in prop::sample::select(vec![Compression::None, Compression::Lz4, Compression::Zstd]),
    ) {
        let rules = Rules {
            filter: Arc::new(Filter::parse("", "int(headers.n) > 4").unwrap()),
            needs_keys,
            bytes_max,
            codec: None,
        };
        let built = build(&rules, source(&records, per_batch, codec), from);
        let end = i64::try_from(records.len()).unwrap();
        prop_assert_eq!(built.next, end.max(from));
        let matches = |(at, (key, n, _)): &(i64, &Made)| {
            *at >= from && *n > 4 && (key.is_some() || !needs_keys)
        };
        let expected: Vec<_> = (0..).zip(&records).filter(matches).collect();
        let mut seen = 0;
        for part in &built.parts {
            let batch = only_batch(&part.batch).unwrap();
            batch.check().unwrap();
            prop_assert_eq!(batch.header().producer_id, COPIER);
            prop_assert_eq!(batch.header().attributes.compression(), codec);
            for record in batch.inflated().unwrap().iter().unwrap() {
                let record = record.unwrap();
                let (_, (key, n, time)) = expected[seen];
                prop_assert_eq!(record.key, key.as_deref().map(str::as_bytes));
                prop_assert_eq!(record.timestamp_ms, *time);
                let n = n.to_string();
                prop_assert_eq!(record.headers.iter().next().unwrap().value, Some(n.as_bytes()));
                seen += 1;
            }
            // Nothing before it is missing, and nothing from it on is there.
            let before = expected.iter().filter(|(at, _)| *at < part.next).count();
            prop_assert_eq!(seen, before);
        }
        prop_assert_eq!(seen, expected.len());
    }
}
