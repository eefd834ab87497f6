//! Whole lives of a partition against a naive model, with the power cut at every single operation on the disk.
//!
//! A life is a list of steps from a seed. It is lived once to count the disk's operations, then again and again, the disk
//! dying one operation later each time. After each death a new process finds what the power cut left, and must find: all
//! that was reported durable, at its offsets, byte for byte; nothing that was cut away durably; no hole; no damage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use proptest::prelude::*;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, PATCHED_LEN};

use crate::storage_sim::{SimStorage, Unsynced};
use crate::testing::transactions::{
    check as check_transactions, marker, send_marker, send_transactional, transactional, whole,
};
use crate::testing::{Outcome, Random, Recorder, Rig, batch_of, read_all};
use crate::{AppendError, Appended, LogConfig, Opened};

#[derive(Clone, Debug)]
enum Step {
    /// Queue a batch of so many records.
    Send(usize),
    /// Queue a batch of one of a few producers' transactions.
    SendInTransaction {
        producer: i64,
    },
    /// Queue the end of such a transaction.
    EndTransaction {
        producer: i64,
        is_commit: bool,
    },
    /// Take the lanes' turns.
    Settle,
    Truncate {
        back: i64,
    },
    DeleteRecords {
        back: i64,
    },
    Retain,
    Checkpoint,
    /// Let time pass.
    Wait,
}

fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut step = || match random.below(26) {
        0..9 => Step::Send(1 + random.below(4) as usize),
        9..14 => Step::Settle,
        14 => Step::Truncate {
            back: random.below(6) as i64,
        },
        15 => Step::DeleteRecords {
            back: random.below(8) as i64,
        },
        16 => Step::Retain,
        17 | 18 => Step::Checkpoint,
        19..22 => Step::SendInTransaction {
            producer: 100 + random.below(3) as i64,
        },
        22..25 => Step::EndTransaction {
            producer: 100 + random.below(3) as i64,
            is_commit: random.below(2) == 0,
        },
        _ => Step::Wait,
    };
    (0..count).map(|_| step()).collect()
}

fn config() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 150,
        snapshot_interval_bytes: 700,
        retention_bytes: Some(1_500),
        ..LogConfig::default()
    }
}

/// What may and what must be in the log.
#[derive(Default)]
struct Model {
    /// What may lie at an offset: every batch that was appended there and not durably cut away.
    possible: BTreeMap<i64, Vec<Bytes>>,
    /// What must be there, from the log's start on: the greatest end that was reported durable and not asked to be cut.
    durable: i64,
    /// The log may begin anywhere up to here.
    start_max: i64,
    /// ... and not before this.
    start_min: i64,
    sequence: i32,
    /// Batches whose offsets are not known yet.
    sent: Vec<(Bytes, Outcome<Result<Appended, AppendError>>)>,
}

impl Model {
    /// Learns where the sent batches ended up.
    fn learn(&mut self, recorder: &Recorder, last_report: &mut usize) {
        for (batch, outcome) in self.sent.drain(..) {
            match outcome.lock().unwrap().take() {
                Some(Ok(appended)) => {
                    assert!(!appended.duplicate);
                    self.possible
                        .entry(appended.base_offset.0)
                        .or_default()
                        .push(batch.slice(PATCHED_LEN..));
                }
                // Written or not, nobody was told: it may turn up, at an offset that nobody knows.
                Some(Err(_)) | None => {
                    self.possible
                        .entry(i64::MAX)
                        .or_default()
                        .push(batch.slice(PATCHED_LEN..));
                }
            }
        }
        if recorder.reports() > *last_report {
            *last_report = recorder.reports();
            self.durable = recorder.durable_end().0;
        }
    }
}

/// Lives until the steps or the disk come to an end.
fn live(storage: &SimStorage, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok(mut rig) = Rig::try_new(storage) else {
        return model;
    };
    let Ok((Opened { handle, .. }, recorder)) = rig.try_open(0, &config()) else {
        return model;
    };
    let mut reports = 0;
    for step in steps {
        match step {
            Step::Send(count) => {
                let batch = batch_of(5, 0, model.sequence, *count);
                model.sequence += *count as i32;
                let outcome = rig.send(&handle, &batch);
                model.sent.push((batch, outcome));
            }
            Step::SendInTransaction { producer } => {
                let batch = transactional(*producer, 0, -1, 2);
                let outcome = send_transactional(&handle, &batch);
                model.sent.push((batch, outcome));
            }
            Step::EndTransaction {
                producer,
                is_commit,
            } => {
                let batch = marker(*producer, 0, *is_commit);
                let outcome = send_marker(&handle, &batch);
                model.sent.push((batch, outcome));
            }
            Step::Settle => rig.settle(),
            Step::Truncate { back } => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                truncate(&mut rig, &handle, &mut model, *back);
            }
            Step::DeleteRecords { back } => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                delete_records(&mut rig, &handle, &mut model, *back);
            }
            Step::Retain => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                handle.retain(Offset(model.durable));
                rig.settle();
                model.start_max = model.start_max.max(handle.reader().log_start().0);
            }
            Step::Checkpoint => rig.lanes.write_checkpoints(),
            Step::Wait => rig.clock.advance(700),
        }
        if rig.cores[0].is_finished() {
            // Whatever was under way when it stopped.
            model.start_max = model.start_max.max(handle.reader().log_start().0);
            break;
        }
    }
    rig.settle();
    model.learn(&recorder, &mut reports);
    if !storage.is_dead() {
        check_transactions(handle.reader(), "alive");
    }
    model
}

fn truncate(rig: &mut Rig, handle: &crate::PartitionHandle, model: &mut Model, back: i64) {
    let reader = handle.reader();
    let end = (reader.log_end().0 - back).max(reader.log_start().0);
    let done: Outcome<_> = Arc::default();
    let left = Arc::clone(&done);
    // From here on what lies behind may go; the batch that straddles the place goes with it.
    let boundary = model
        .possible
        .range(..=end)
        .next_back()
        .map_or(0, |(base, _)| *base);
    let boundary = if end >= reader.log_end().0 {
        end
    } else {
        boundary
    };
    model.durable = model.durable.min(boundary);
    model.start_min = model.start_min.min(boundary);
    handle.truncate_to(Offset(end), move |result| {
        *left.lock().unwrap() = Some(result)
    });
    rig.settle();
    if let Some(Ok(Offset(new_end))) = done.lock().unwrap().take() {
        model.possible.split_off(&new_end);
        model.start_min = model.start_min.min(new_end);
        model.start_max = model.start_max.min(new_end);
        // The producer goes on from where the log ends.
        model.sequence = next_sequence(model);
    }
}

/// The sequence after the producer's last batch in the log.
fn next_sequence(model: &Model) -> i32 {
    let batches = model.possible.values().rev().filter_map(|all| all.last());
    let headers = batches.map(|batch| BatchHeader::parse(&whole(batch)).unwrap());
    let mut own = headers.filter(|header| header.producer_id.0 == 5);
    own.next().map_or(0, |header| {
        header.base_sequence + header.last_offset_delta + 1
    })
}

fn delete_records(rig: &mut Rig, handle: &crate::PartitionHandle, model: &mut Model, back: i64) {
    let start = (model.durable - back).max(0);
    let done: Arc<Mutex<Option<_>>> = Arc::default();
    let left = Arc::clone(&done);
    model.start_max = model.start_max.max(start);
    handle.delete_records(Offset(start), move |result| {
        *left.lock().unwrap() = Some(result)
    });
    rig.settle();
    if let Some(Ok(Offset(start))) = done.lock().unwrap().take() {
        model.start_min = model.start_min.max(start);
    }
}

/// What a new process finds on this disk must fit the model.
fn check(storage: &SimStorage, model: &Model, what: &str) {
    let mut rig = Rig::new(storage);
    let (opened, _) = rig.open(&config());
    let reader = opened.handle.reader();
    assert_eq!(opened.report.damage, None, "{what}");
    let (start, end) = (reader.log_start().0, reader.log_end().0);
    assert!(
        start <= model.start_max,
        "{what}: begins at {start}, may at {}",
        model.start_max
    );
    assert!(
        start >= model.start_min.min(end),
        "{what}: begins at {start}, must not before {}",
        model.start_min
    );
    assert!(
        end >= model.durable,
        "{what}: ends at {end}, {} was durable",
        model.durable
    );
    let found = read_all(reader, 500);
    let mut expected = found.first().map_or(end, |(base, ..)| base.0);
    assert!(expected <= start);
    for (base, last, body) in found {
        assert_eq!(base.0, expected, "{what}: a hole");
        let known = model
            .possible
            .get(&base.0)
            .into_iter()
            .chain(model.possible.get(&i64::MAX));
        assert!(
            known.flatten().any(|batch| *batch == body),
            "{what}: nobody wrote what lies at {base}"
        );
        expected = last.0 + 1;
    }
    assert_eq!(expected, end, "{what}");
    check_transactions(reader, what);
    // And it goes on.
    if end > start {
        let next = rig.append(&opened.handle, &batch_of(77, 0, 0, 1)).unwrap();
        assert_eq!(next.base_offset.0, end, "{what}");
    }
}

fn cut_power_everywhere(seed: u64) {
    let steps = steps(seed, 40);
    let whole = SimStorage::new();
    let model = live(&whole, &steps);
    let changes = whole.changes();
    check(&whole.process_killed(), &model, "killed at the end");
    for at in 1..=changes {
        let storage = SimStorage::new();
        storage.die_after(at);
        let model = live(&storage, &steps);
        let unsynced = match at % 3 {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Mixed(seed ^ at),
        };
        check(
            &storage.power_cut(unsynced),
            &model,
            &format!("seed {seed}, operation {at}, {unsynced:?}"),
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn all_that_was_durable_survives_a_power_cut_at_any_operation(seed in any::<u32>()) {
        cut_power_everywhere(u64::from(seed));
    }
}

#[test]
fn two_segments_that_were_filled_before_the_first_sync_are_no_damage() {
    for seed in [851_950_060, 879_432_320] {
        cut_power_everywhere(seed);
    }
}
