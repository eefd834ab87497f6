//! Whole lives of a partition against a naive model, with the power cut at every single operation on the disk.
//!
//! A life is a list of steps from a seed. It is lived once to count the disk's operations, then again and again, the disk
//! dying one operation later each time. After each death a new process finds what the power cut left, and must find: all
//! that was reported durable, at its offsets, byte for byte; nothing that was cut away durably; no hole; no damage.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod model;

use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use weir_wire::{LeaderEpoch, Offset};

use crate::storage_sim::{SimStorage, Unsynced};
use crate::testing::replicas::{check_history, known_of, send_replica};
use crate::testing::transactions::{check as check_transactions, marker, send_as, transactional};
use crate::testing::{Outcome, Random, Recorder, Rig, batch_of, read_all, send};
use crate::{KnownProducers, LogConfig, Opened, Origin, PartitionHandle, Verified};
use model::Model;

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
    /// Cut the end off; of what is queued too, or once that is written.
    Truncate {
        back: i64,
        settled: bool,
    },
    DeleteRecords {
        back: i64,
    },
    Retain,
    Checkpoint,
    /// Let time pass.
    Wait,
    /// Queue what so many answers of a leader brought.
    Replicate {
        answers: u64,
    },
    /// Begin anew: at one of several places.
    Reset {
        place: u64,
    },
    /// Others lead.
    Elect,
}

/// The life of a partition that leads, and is cut now and then.
fn leading(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut step = || match random.below(26) {
        0..9 => Step::Send(1 + random.below(4) as usize),
        9..14 => Step::Settle,
        14 => Step::Truncate {
            back: random.below(6) as i64,
            settled: true,
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

/// That of one that follows, leads, and follows again.
fn following(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let mut step = || match random.below(30) {
        0..4 => Step::Send(1 + random.below(4) as usize),
        4..9 => Step::Settle,
        9..13 => Step::Truncate {
            back: random.below(9) as i64,
            settled: random.below(2) == 0,
        },
        13 => Step::DeleteRecords {
            back: random.below(8) as i64,
        },
        14 => Step::Retain,
        15 | 16 => Step::Checkpoint,
        17 => Step::SendInTransaction {
            producer: 100 + random.below(3) as i64,
        },
        18 => Step::EndTransaction {
            producer: 100 + random.below(3) as i64,
            is_commit: random.below(2) == 0,
        },
        19..26 => Step::Replicate {
            answers: 1 + random.below(4),
        },
        26 | 27 => Step::Reset {
            place: random.below(5),
        },
        28 => Step::Elect,
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

/// Lives until the steps or the disk come to an end.
fn live(storage: &SimStorage, steps: &[Step]) -> Model {
    let mut model = Model::default();
    let Ok(mut rig) = Rig::try_new(storage) else {
        return model;
    };
    let Ok((Opened { handle, .. }, recorder)) = rig.try_open(0, &config()) else {
        return model;
    };
    for step in steps {
        let epoch = LeaderEpoch(model.epoch);
        match step {
            Step::Send(count) => {
                let batch = batch_of(5, 0, model.sequence, *count);
                model.sequence += *count as i32;
                let outcome = send(&handle, &batch, epoch);
                model.sent.push((batch, outcome));
            }
            Step::SendInTransaction { producer } => {
                let batch = transactional(*producer, 0, -1, 2);
                let verified = Some(Verified {
                    since: Offset(i64::MAX),
                    begins_at_zero: false,
                });
                let outcome = send_as(&handle, &batch, Origin::Coordinator, verified, epoch);
                model.sent.push((batch, outcome));
            }
            Step::EndTransaction {
                producer,
                is_commit,
            } => {
                let batch = marker(*producer, 0, *is_commit);
                let origin = Origin::Marker {
                    transaction_version: 1,
                };
                let outcome = send_as(&handle, &batch, origin, None, epoch);
                model.sent.push((batch, outcome));
            }
            Step::Settle => settle(&mut rig, &mut model, &recorder),
            Step::Replicate { answers } => {
                settle(&mut rig, &mut model, &recorder);
                let mut at = handle.reader().log_end().0;
                for kind in 0..*answers {
                    let (bytes, end) = model.lead(at, kind % 3);
                    model.replicated.push(send_replica(&handle, bytes));
                    at = end;
                }
            }
            Step::Truncate { back, settled } => {
                if *settled {
                    settle(&mut rig, &mut model, &recorder);
                }
                truncate(&mut rig, &handle, &mut model, &recorder, *back);
            }
            Step::Reset { place } => reset(&mut rig, &handle, &mut model, &recorder, *place),
            Step::DeleteRecords { back } => {
                settle(&mut rig, &mut model, &recorder);
                delete_records(&mut rig, &handle, &mut model, *back);
            }
            Step::Retain => {
                settle(&mut rig, &mut model, &recorder);
                handle.retain(Offset(model.durable));
                rig.settle();
                model.start_max = model.start_max.max(handle.reader().log_start().0);
            }
            Step::Checkpoint => rig.lanes.write_checkpoints(),
            Step::Wait => rig.clock.advance(700),
            Step::Elect => model.epoch += 1,
        }
        if rig.cores[0].is_finished() {
            // Whatever was under way when it stopped.
            model.start_max = model.start_max.max(handle.reader().log_start().0);
            break;
        }
    }
    settle(&mut rig, &mut model, &recorder);
    if !storage.is_dead() {
        check_transactions(handle.reader(), "alive");
        check_history(handle.reader(), "alive");
    }
    model
}

/// Takes turns until nothing is left to do, and learns what came of it.
fn settle(rig: &mut Rig, model: &mut Model, recorder: &Recorder) {
    rig.settle();
    let is_alive = rig.storage.exists(rig.dir.path()).is_ok();
    model.learn(recorder, is_alive);
}

/// Throws the log away, with what is queued.
fn reset(
    rig: &mut Rig,
    handle: &PartitionHandle,
    model: &mut Model,
    recorder: &Recorder,
    place: u64,
) {
    let (start, end) = (handle.reader().log_start().0, handle.reader().log_end().0);
    let to = [0, start, (start + end) / 2, end, end + 30][place as usize % 5];
    let done: Outcome<_> = Arc::default();
    let left = Arc::clone(&done);
    // From here on anything may be gone, and the log may begin at the new place.
    model.durable = 0;
    model.start_max = model.start_max.max(to);
    model.start_min = model.start_min.min(to);
    let mut known = KnownProducers::default();
    if place.is_multiple_of(2) {
        known = known_of(999, to);
    }
    handle.reset(Offset(to), known, move |result| {
        *left.lock().unwrap() = Some(result)
    });
    settle(rig, model, recorder);
    if matches!(&*done.lock().unwrap(), Some(Ok(_))) {
        model.possible.clear();
        (model.durable, model.start_min, model.start_max) = (to, to, to);
        model.sequence = 0;
        assert_eq!(handle.reader().history(), (Vec::new(), Offset(to)));
    } else {
        model.durable = 0;
    }
}

fn truncate(
    rig: &mut Rig,
    handle: &PartitionHandle,
    model: &mut Model,
    recorder: &Recorder,
    back: i64,
) {
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
    settle(rig, model, recorder);
    if let Some(Ok(Offset(new_end))) = done.lock().unwrap().take() {
        model.possible.split_off(&new_end);
        model.start_min = model.start_min.min(new_end);
        model.start_max = model.start_max.min(new_end);
        // The producer goes on from where the log ends.
        model.sequence = model.next_sequence();
    }
}

fn delete_records(rig: &mut Rig, handle: &PartitionHandle, model: &mut Model, back: i64) {
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
    check_history(reader, what);
    // And it goes on.
    if end > start {
        let next = send(
            &opened.handle,
            &batch_of(77, 0, 0, 1),
            LeaderEpoch(model.epoch),
        );
        rig.settle();
        let next = next.lock().unwrap().take().unwrap().unwrap();
        assert_eq!(next.base_offset.0, end, "{what}");
    }
}

fn cut_power_everywhere(seed: u64, steps: &[Step]) {
    let whole = SimStorage::new();
    let model = live(&whole, steps);
    let changes = whole.changes();
    check(&whole.process_killed(), &model, "killed at the end");
    for at in 1..=changes {
        let storage = SimStorage::new();
        storage.die_after(at);
        let model = live(&storage, steps);
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
        cut_power_everywhere(u64::from(seed), &leading(u64::from(seed), 40));
    }

    #[test]
    fn a_follower_finds_what_was_durable_after_a_power_cut_at_any_operation(seed in any::<u32>()) {
        cut_power_everywhere(u64::from(seed), &following(u64::from(seed), 40));
    }
}

#[test]
fn two_segments_that_were_filled_before_the_first_sync_are_no_damage() {
    for seed in [851_950_060, 879_432_320] {
        cut_power_everywhere(seed, &leading(seed, 40));
    }
}
