//! The table against a naive model, and the rules one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use weir_wire::batch::{Attributes, BatchHeader};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::*;
use crate::epochs::Epochs;
use crate::error::{AppendError, SequenceError};

const MAX: usize = 100;

fn header(
    producer: i64,
    epoch: i16,
    base_sequence: i32,
    records: i32,
    base_offset: i64,
) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(base_offset),
        length: 49,
        leader_epoch: LeaderEpoch(0),
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp_ms: 0,
        max_timestamp_ms: 0,
        producer_id: ProducerId(producer),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence,
        record_count: records,
    }
}

fn data(header: BatchHeader) -> Arriving {
    Arriving {
        header,
        marker: None,
    }
}

/// What is said of a client's batch.
fn judge(producers: &Producers, header: &BatchHeader) -> Result<Verdict, AppendError> {
    producers.check(&data(*header), Origin::Client, None, (MAX, false))
}

/// A table that has seen these batches, one after the other from offset 0.
fn table(batches: &[(i64, i16, i32, i32)]) -> Producers {
    let mut producers = Producers::default();
    let mut offset = 0;
    for (producer, epoch, sequence, records) in batches {
        let header = header(*producer, *epoch, *sequence, *records, offset);
        assert_eq!(judge(&producers, &header), Ok(Verdict::Append));
        producers.remember(&data(header), 0);
        offset += i64::from(*records);
    }
    producers
}

#[test]
fn a_retry_gets_its_first_offsets() {
    let producers = table(&[(1, 0, 0, 3), (1, 0, 3, 2), (2, 0, 0, 1)]);
    let verdict = judge(&producers, &header(1, 0, 3, 2, 99));
    assert_eq!(
        verdict,
        Ok(Verdict::Duplicate {
            base_offset: Offset(3),
            last_offset: Offset(4)
        })
    );
}

#[test]
fn only_the_last_ten_batches_are_remembered() {
    let producers = table(
        &(0..11)
            .map(|sequence| (1, 0, sequence, 1))
            .collect::<Vec<_>>(),
    );
    assert!(matches!(
        judge(&producers, &header(1, 0, 1, 1, 9)),
        Ok(Verdict::Duplicate { .. })
    ));
    let forgotten = judge(&producers, &header(1, 0, 0, 1, 9));
    assert_eq!(
        forgotten,
        Err(SequenceError::OutOfOrder {
            producer: ProducerId(1),
            expected: 11,
            got: 0
        }
        .into())
    );
}

#[test]
fn a_gap_is_out_of_order() {
    let producers = table(&[(1, 0, 0, 3)]);
    let verdict = judge(&producers, &header(1, 0, 4, 1, 3));
    assert_eq!(
        verdict,
        Err(SequenceError::OutOfOrder {
            producer: ProducerId(1),
            expected: 3,
            got: 4
        }
        .into())
    );
}

#[test]
fn sequences_wrap_at_the_greatest_number() {
    let producers = table(&[(1, 0, i32::MAX - 1, 2)]);
    assert_eq!(
        judge(&producers, &header(1, 0, 0, 1, 2)),
        Ok(Verdict::Append)
    );
    let producers = table(&[(1, 0, i32::MAX, 3)]);
    assert_eq!(
        judge(&producers, &header(1, 0, 2, 1, 3)),
        Ok(Verdict::Append)
    );
}

#[test]
fn an_older_epoch_is_fenced_and_a_newer_one_begins_at_zero() {
    let producers = table(&[(1, 3, 0, 1)]);
    let fenced = judge(&producers, &header(1, 2, 1, 1, 1));
    assert_eq!(
        fenced,
        Err(SequenceError::Fenced {
            producer: ProducerId(1),
            got: ProducerEpoch(2),
            current: ProducerEpoch(3)
        }
        .into())
    );
    assert_eq!(
        judge(&producers, &header(1, 4, 0, 1, 1)),
        Ok(Verdict::Append)
    );
    let late = judge(&producers, &header(1, 4, 1, 1, 1));
    assert_eq!(
        late,
        Err(SequenceError::OutOfOrder {
            producer: ProducerId(1),
            expected: 0,
            got: 1
        }
        .into())
    );
}

#[test]
fn a_producer_that_is_not_known_may_go_on_anywhere() {
    assert_eq!(
        judge(&Producers::default(), &header(1, 5, 77, 1, 0)),
        Ok(Verdict::Append)
    );
}

#[test]
fn the_silent_ones_are_forgotten() {
    let mut producers = Producers::default();
    producers.remember(&data(header(1, 0, 0, 1, 0)), 10);
    producers.remember(&data(header(2, 0, 0, 1, 1)), 20);
    producers.expire(20);
    assert_eq!(
        producers.by_id.keys().copied().collect::<Vec<_>>(),
        [ProducerId(2)]
    );
}

#[test]
fn the_table_is_bounded_and_the_silent_ones_give_way() {
    let mut producers = Producers::default();
    for producer in 0..1_000 {
        producers.remember(&data(header(producer, 0, 0, 1, producer)), producer);
        producers.trim(64);
        assert!(producers.by_id.len() <= 64);
    }
    assert!(producers.by_id.contains_key(&ProducerId(999)));
    assert!(!producers.by_id.contains_key(&ProducerId(0)));
}

#[test]
fn a_snapshot_that_was_changed_is_none() {
    let bytes = encode(Offset(4), &Epochs::default(), &table(&[(1, 0, 0, 3)]), &[]);
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        assert_eq!(decode(&changed), None);
        assert_eq!(decode(&bytes[..at]), None);
    }
}

#[test]
fn where_it_is_asked_a_producer_that_is_not_known_begins_at_zero() {
    let judge = |producers: &Producers, header: BatchHeader| {
        producers.check(&data(header), Origin::Client, None, (MAX, true))
    };
    let nobody = Producers::default();
    assert_eq!(
        judge(&nobody, header(7, 0, 5, 1, 0)),
        Err(AppendError::Sequence(SequenceError::Unknown {
            producer: ProducerId(7),
            got: 5,
        }))
    );
    assert_eq!(judge(&nobody, header(7, 0, 0, 5, 0)), Ok(Verdict::Append));
    let known = table(&[(7, 0, 0, 5)]);
    assert_eq!(judge(&known, header(7, 0, 5, 1, 0)), Ok(Verdict::Append));
}

mod refused;
mod transactions;

/// Everything ever appended, and the rule spelled out over it.
#[derive(Default)]
struct Naive {
    appended: BTreeMap<i64, Vec<(i16, i32, i32, i64)>>,
}

impl Naive {
    fn check(&self, header: &BatchHeader) -> Result<Verdict, ()> {
        let Some(all) = self.appended.get(&header.producer_id.0) else {
            return Ok(Verdict::Append);
        };
        let epoch = all.iter().map(|(epoch, ..)| *epoch).max().unwrap();
        if header.producer_epoch.0 < epoch {
            return Err(());
        }
        if header.producer_epoch.0 > epoch {
            return if header.base_sequence == 0 {
                Ok(Verdict::Append)
            } else {
                Err(())
            };
        }
        let current: Vec<_> = all.iter().filter(|(of, ..)| *of == epoch).collect();
        for (_, sequence, records, offset) in current.iter().rev().take(10) {
            if *sequence == header.base_sequence && *records == header.record_count {
                let last_offset = Offset(offset + i64::from(*records) - 1);
                return Ok(Verdict::Duplicate {
                    base_offset: Offset(*offset),
                    last_offset,
                });
            }
        }
        let (_, sequence, records, _) = current.last().unwrap();
        let next = (i64::from(*sequence) + i64::from(*records)) % (i64::from(i32::MAX) + 1);
        if next == i64::from(header.base_sequence) {
            Ok(Verdict::Append)
        } else {
            Err(())
        }
    }
}

fn attempts() -> impl Strategy<Value = Vec<(i64, i16, i32, i32, bool)>> {
    // Sequences from a few near each other and near the end, so that retries, gaps and wraps come up.
    let sequence = prop_oneof![0..12, (i32::MAX - 6)..=i32::MAX];
    prop::collection::vec(
        (
            0_i64..3,
            0_i16..3,
            sequence,
            1..4_i32,
            prop::bool::weighted(0.1),
        ),
        1..120,
    )
}

/// A table that has these batches from one on, and knows from another what came before.
fn continued(known: KnownProducers, batches: &[BatchHeader]) -> Producers {
    let mut producers = known.0;
    for header in batches {
        producers.remember(&data(*header), 0);
    }
    producers
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// What is known from before a place, and what comes from there on, is what is known in all.
    #[test]
    fn what_comes_before_a_place_and_what_comes_after_is_all(
        batches in prop::collection::vec((0..3_i64, prop::bool::weighted(0.1), 1..4_i32), 0..60),
        at in 0..60_usize,
    ) {
        let (mut next, mut offset) = ([(0_i16, 0_i32); 3], 0);
        let mut headers = Vec::new();
        for (producer, is_new_epoch, records) in batches {
            let of = &mut next[usize::try_from(producer).unwrap()];
            if is_new_epoch {
                *of = (of.0 + 1, 0);
            }
            headers.push(header(producer, of.0, of.1, records, offset));
            of.1 += records;
            offset += i64::from(records);
        }
        let at = at.min(headers.len());
        let start = headers.get(at).map_or(Offset(offset), |header| header.base_offset);
        let all = continued(KnownProducers::default(), &headers);
        let known = KnownProducers::from_bytes(&all.before(start).to_bytes()).unwrap();
        let continued = continued(known, &headers[at..]);
        prop_assert_eq!(continued.describe(), all.describe());
        // Those of before it too, as far as a snapshot remembers: a retry is one.
        for header in &headers[at.saturating_sub(5)..] {
            prop_assert_eq!(judge(&continued, header), judge(&all, header));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_decides_as_the_naive_model(attempts in attempts()) {
        let (mut producers, mut naive) = (Producers::default(), Naive::default());
        let mut offset = 0;
        for (producer, epoch, sequence, records, undone) in attempts {
            let header = header(producer, epoch, sequence, records, offset);
            let verdict = judge(&producers, &header);
            let verdict = verdict.map_err(|_| ());
            prop_assert_eq!(verdict, naive.check(&header));
            if verdict == Ok(Verdict::Append) {
                let before = producers.clone();
                let undo = producers.remember(&data(header), 0).unwrap().undo;
                if undone {
                    producers.undo(undo);
                    prop_assert_eq!(&producers, &before);
                } else {
                    naive.appended.entry(producer).or_default().push((epoch, sequence, records, offset));
                    offset += i64::from(records);
                }
            }
            let bytes = encode(Offset(offset), &Epochs::default(), &producers, &[]);
            prop_assert_eq!(&decode(&bytes).unwrap().producers, &producers);
        }
    }
}
