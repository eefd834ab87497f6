//! Whole lives of a compacted log against a naive model, the power cut at every operation on the disk.
//!
//! Whatever was appended, compacted, cut and deleted before, a consumer that reads from any offset on must see of each key the
//! last record that was durable, at its offset; or nothing more of it, when that was a tombstone.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::storage_sim::Unsynced;
use crate::testing::{Outcome, Random, Recorder};
use crate::{Appended, Opened};

#[derive(Clone, Debug)]
enum Step {
    Send(Vec<(u8, bool)>, Compression),
    Settle,
    Clean,
    Truncate { back: i64 },
    DeleteRecords { back: i64 },
    Checkpoint,
    Wait,
    Reopen,
}

fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut random = Random::new(seed);
    let step = |random: &mut Random| match random.below(24) {
        0..10 => {
            let count = 1 + random.below(4);
            let records = (0..count).map(|_| (random.below(20) as u8, random.below(5) > 0));
            let records = records.collect();
            let codec = Compression::from_id(random.below(10) as u8).unwrap_or_default();
            Step::Send(records, codec)
        }
        10..14 => Step::Settle,
        14..19 => Step::Clean,
        19 => Step::Truncate {
            back: random.below(8) as i64,
        },
        20 => Step::DeleteRecords {
            back: random.below(12) as i64,
        },
        21 => Step::Checkpoint,
        22 => Step::Reopen,
        _ => Step::Wait,
    };
    (0..count).map(|_| step(&mut random)).collect()
}

fn life_config() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        snapshot_interval_bytes: 900,
        ..config()
    }
}

/// Records on their way, and what becomes of them.
type Waiting = (Vec<Sent>, Outcome<Result<Appended, AppendError>>);

#[derive(Default)]
struct Model {
    /// What was appended at an offset, since it was last cut away.
    records: BTreeMap<i64, Sent>,
    /// What was sent and never answered: it may be anywhere.
    unknown: Vec<Sent>,
    durable: i64,
    /// Consumers have seen what lies below: nothing cuts there any more.
    seen: i64,
    start_max: i64,
    time: i64,
    sent: Vec<Waiting>,
}

impl Model {
    fn learn(&mut self, recorder: &Recorder, reports: &mut usize) {
        for (records, outcome) in self.sent.drain(..) {
            match outcome.lock().unwrap().take() {
                Some(Ok(appended)) => {
                    let offsets = appended.base_offset.0..;
                    self.records.extend(offsets.zip(records));
                }
                Some(Err(_)) | None => self.unknown.extend(records),
            }
        }
        if recorder.reports() > *reports {
            *reports = recorder.reports();
            self.durable = recorder.durable_end().0;
        }
    }
}

fn live(storage: &SimStorage, steps: &[Step], map_bytes_max: u64) -> Model {
    let mut model = Model::default();
    let Ok(mut rig) = Rig::try_new(storage) else {
        return model;
    };
    rig.lanes.cleaner().set_map_bytes_max(map_bytes_max);
    let Ok((Opened { mut handle, .. }, mut recorder)) = rig.try_open(0, &life_config()) else {
        return model;
    };
    let mut reports = 0;
    for step in steps {
        match step {
            Step::Send(keys, codec) => {
                let records: Vec<_> = keys
                    .iter()
                    .map(|(key, has_value)| {
                        model.time += 1;
                        Sent {
                            key: *key,
                            has_value: *has_value,
                            time: model.time,
                        }
                    })
                    .collect();
                let outcome = rig.send(&handle, &keyed(None, *codec, &records));
                model.sent.push((records, outcome));
            }
            Step::Settle => rig.settle(),
            Step::Clean => {
                rig.settle();
                model.seen = model.seen.max(handle.reader().durable_end().0);
                clean(&mut rig, &handle);
            }
            Step::Truncate { back } => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                let reader = handle.reader();
                let end = (reader.log_end().0 - back).max(reader.log_start().0.max(model.seen));
                let Ok(read) = reader.read(Offset(end), reader.log_end(), 1, true) else {
                    break;
                };
                model.durable = model.durable.min(read.base_offset.0);
                let done: Outcome<_> = Outcome::default();
                let left = std::sync::Arc::clone(&done);
                handle.truncate_to(Offset(end), move |result| {
                    *left.lock().unwrap() = Some(result)
                });
                rig.settle();
                let result = done.lock().unwrap().take();
                if let Some(Ok(Offset(end))) = result {
                    model.records.split_off(&end);
                    model.start_max = model.start_max.min(end);
                }
            }
            Step::DeleteRecords { back } => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                let start = (model.durable - back).max(0);
                model.start_max = model.start_max.max(start);
                handle.delete_records(Offset(start), |_| {});
                rig.settle();
            }
            Step::Checkpoint => rig.lanes.write_checkpoints(),
            Step::Wait => rig.clock.advance(700),
            Step::Reopen => {
                rig.settle();
                model.learn(&recorder, &mut reports);
                handle.close(|_| {});
                rig.settle();
                match rig.try_open(0, &life_config()) {
                    Ok((
                        Opened {
                            handle: again,
                            report,
                        },
                        heard,
                    )) => {
                        assert_eq!(report.damage, None);
                        (handle, recorder, reports) = (again, heard, 0);
                    }
                    Err(_) => break,
                }
            }
        }
        if rig.cores[0].is_finished() {
            break;
        }
    }
    rig.settle();
    model.learn(&recorder, &mut reports);
    model
}

fn check(storage: &SimStorage, model: &Model, what: &str) {
    let mut rig = Rig::new(storage);
    let (opened, _) = rig.open(&life_config());
    assert_eq!(opened.report.damage, None, "{what}");
    let reader = opened.handle.reader();
    let (start, end) = (reader.log_start().0, reader.log_end().0);
    assert!(start <= model.start_max, "{what}: begins at {start}");
    assert!(
        end >= model.durable,
        "{what}: ends at {end}, {} was durable",
        model.durable
    );
    let found = contents(reader);
    fits(model, &found, start, what);
    // And it goes on, and is compacted again.
    rig.append(
        &opened.handle,
        &keyed(None, Compression::None, &[set(99, 1 << 40)]),
    )
    .unwrap();
    rig.clock.advance(100_000);
    clean(&mut rig, &opened.handle);
    assert_eq!(opened.handle.reader().damage(), None, "{what}");
    let mut found = contents(opened.handle.reader());
    assert_eq!(found.remove(&end), Some(set(99, 1 << 40)), "{what}");
    fits(model, &found, start, what);
}

/// Whether what was found is what was sent, and of each key the last that was durable.
fn fits(model: &Model, found: &BTreeMap<i64, Sent>, start: i64, what: &str) {
    for (offset, sent) in found {
        let known = model.records.get(offset) == Some(sent) || model.unknown.contains(sent);
        assert!(known, "{what}: nobody sent {sent:?}, which is at {offset}");
    }
    let mut last: BTreeMap<u8, (i64, Sent)> = BTreeMap::new();
    for (offset, sent) in model.records.range(start..model.durable.max(start)) {
        last.insert(sent.key, (*offset, *sent));
    }
    for (key, (offset, sent)) in last {
        let mut later = found.range(offset + 1..);
        if later.any(|(_, sent)| sent.key == key) {
            // Sent and never answered, and yet there: it counts from now on.
            continue;
        }
        match (sent.has_value, found.get(&offset)) {
            (true, there) => {
                assert_eq!(there, Some(&sent), "{what}: the last of {key} at {offset}")
            }
            (false, Some(_)) => {}
            (false, None) => {
                let earlier = found.range(..offset).find(|(_, sent)| sent.key == key);
                assert_eq!(earlier, None, "{what}: {key} was deleted at {offset}");
            }
        }
    }
}

fn cut_power_everywhere(seed: u64) {
    let steps = steps(seed, 45);
    // Sometimes a map of twelve keys, so that a pass does not get through.
    let map_bytes_max = if seed.is_multiple_of(2) { 0 } else { 1 << 20 };
    let whole = SimStorage::new();
    let model = live(&whole, &steps, map_bytes_max);
    let changes = whole.changes();
    check(
        &whole.process_killed(),
        &model,
        &format!("seed {seed}, killed at the end"),
    );
    for at in 1..=changes {
        let storage = SimStorage::new();
        storage.die_after(at);
        let model = live(&storage, &steps, map_bytes_max);
        let unsynced = match at % 3 {
            0 => Unsynced::Lost,
            1 => Unsynced::Kept,
            _ => Unsynced::Mixed(seed ^ at),
        };
        let what = format!("seed {seed}, operation {at}, {unsynced:?}");
        check(&storage.power_cut(unsynced), &model, &what);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_consumer_sees_the_last_of_each_key_whatever_happened(seed in any::<u32>()) {
        cut_power_everywhere(u64::from(seed));
    }
}
