//! A log that was thrown away is gone, with all that was derived from it, and a new one begins where it was asked to.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use weir_wire::batch::batches;
use weir_wire::{LeaderEpoch, Offset, ProducerId};

use crate::dir::segment_of;
use crate::storage::Storage;
use crate::storage_sim::{SimStorage, Unsynced};
use crate::testing::replicas::{
    all_bytes, check_history, headers, known_of, placed_all, send_replica,
};
use crate::testing::transactions::{marker, transactional};
use crate::testing::{DIR, Outcome, Rig, Told, batch, batch_of, key};
use crate::{Compaction, Durability, KnownProducers, LaneError, LogConfig, Opened, ReadError};

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 100,
        snapshot_interval_bytes: 500,
        ..LogConfig::default()
    }
}

/// A log from `base` on with everything in it that can be: 16 batches of 40 offsets.
fn some_log(base: i64, epoch: i32) -> bytes::Bytes {
    let batches: Vec<_> = (0..4)
        .flat_map(|number| {
            [
                batch_of(1, 0, number * 6, 6),
                transactional(7, 0, -1, 2),
                marker(7, 0, number % 2 == 0),
                batch(1),
            ]
        })
        .collect();
    placed_all(&batches, base, epoch)
}

/// A disk with such a log, all of it durable and in the checkpoint.
fn filled() -> (SimStorage, Rig, Opened) {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    rig.replicate(&opened.handle, some_log(0, 1)).unwrap();
    rig.lanes.write_checkpoints();
    (storage, rig, opened)
}

fn files(storage: &SimStorage) -> Vec<String> {
    let path = PathBuf::from(DIR).join(key(0).to_string());
    storage.list(&path).unwrap()
}

#[test]
fn a_reset_log_is_empty_and_goes_on_where_it_was_told_to() {
    for start in [0, 17, 40, 1_000] {
        let (storage, mut rig, opened) = filled();
        let handle = &opened.handle;
        rig.delete_records(handle, 9);
        assert_eq!(rig.reset(handle, start).unwrap(), Offset(start));
        let check = |reader: &crate::LogReader| {
            assert_eq!(
                (reader.log_start(), reader.log_end()),
                (Offset(start), Offset(start))
            );
            assert_eq!(
                (reader.synced_end(), reader.durable_end()),
                (Offset(start), Offset(start))
            );
            assert_eq!(reader.history(), (Vec::new(), Offset(start)));
            assert_eq!(reader.latest_epoch(), None);
            assert_eq!(reader.open_transactions(), 0);
            assert_eq!(reader.size_bytes(), 0);
        };
        check(handle.reader());
        assert!(rig.producers(handle).is_empty());
        let left: Vec<_> = files(&storage);
        let expected = [
            format!("{start:020}.log"),
            "log-start".to_owned(),
            "partition.metadata".to_owned(),
        ];
        assert_eq!(left, expected);
        // It is so after a start as well.
        let storage = storage.power_cut(Unsynced::Lost);
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small());
        assert_eq!(opened.report.damage, None);
        check(opened.handle.reader());
        assert!(rig.producers(&opened.handle).is_empty());
        // And it takes another leader's batches, of an older epoch even.
        let bytes = some_log(start, 0);
        rig.replicate(&opened.handle, bytes.clone()).unwrap();
        let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
        let (opened, _) = rig.open(&small());
        assert_eq!(all_bytes(opened.handle.reader()), bytes);
        check_history(opened.handle.reader(), "after a reset");
    }
}

/// Where batches of a log begin.
fn boundaries(reader: &crate::LogReader) -> Vec<i64> {
    headers(reader)
        .iter()
        .map(|header| header.base_offset.0)
        .collect()
}

#[test]
fn a_replica_that_begins_behind_a_logs_first_batches_knows_their_producers_from_its_leader() {
    let (_, mut leader, led) = filled();
    let all = leader.producers(&led.handle);
    let starts: Vec<_> = boundaries(led.handle.reader())
        .into_iter()
        .chain([led.handle.reader().log_end().0])
        .collect();
    for start in starts {
        let known = leader.producers_before(&led.handle, start);
        let known = KnownProducers::from_bytes(&known.to_bytes()).unwrap();
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small());
        rig.reset_knowing(&opened.handle, start, known).unwrap();
        // It is on disk, also before anything else is.
        let storage = storage.power_cut(Unsynced::Lost);
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small());
        let reader = led.handle.reader();
        let mut at = Offset(start);
        while at < reader.log_end() {
            let read = reader.read(at, reader.log_end(), 1 << 20, true).unwrap();
            at = read.next_offset;
            rig.replicate(&opened.handle, read.bytes).unwrap();
        }
        assert_eq!(rig.producers(&opened.handle), all, "from {start} on");
        // What was taken is not taken twice, and what comes next is.
        let last = rig.append(&opened.handle, &batch_of(1, 0, 18, 6)).unwrap();
        assert!(last.base_offset < reader.log_end(), "from {start} on");
        let next = rig.append(&opened.handle, &batch_of(1, 0, 24, 6)).unwrap();
        assert_eq!(next.base_offset, reader.log_end(), "from {start} on");
    }
}

/// An older snapshot says of such producers what nothing else does: it goes only when a younger one is on disk.
#[test]
fn producers_from_before_are_known_whatever_a_power_cut_leaves_of_snapshots() {
    for seed in 0..50 {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small());
        rig.reset_knowing(&opened.handle, 40, known_of(999, 40))
            .unwrap();
        let all = some_log(40, 1);
        for batch in batches(&all) {
            let batch = all.slice_ref(batch.unwrap().bytes());
            rig.replicate(&opened.handle, batch).unwrap();
        }
        assert!(!files(&storage).contains(&format!("{:020}.snapshot", 40)));
        let storage = storage.power_cut(Unsynced::Mixed(seed));
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small());
        let known = rig.producers(&opened.handle);
        let is_known = |state: &crate::ProducerState| state.producer_id == ProducerId(999);
        assert!(known.iter().any(is_known), "seed {seed}");
    }
}

/// A partition that was made just now has no durable name until its first sync.
#[test]
fn a_partition_that_was_just_made_is_there_when_its_reset_is_done() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    rig.reset(&opened.handle, 70).unwrap();
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    assert_eq!(rig.dir.partitions().unwrap().len(), 1);
    let (opened, _) = rig.open(&small());
    assert_eq!(opened.report.damage, None);
    assert_eq!(opened.report.log_start, Offset(70));
}

#[test]
fn a_reset_below_offset_zero_is_refused() {
    let (_, mut rig, opened) = filled();
    assert!(matches!(
        rig.reset(&opened.handle, -1),
        Err(LaneError::OffsetOutOfRange { .. })
    ));
    assert_eq!(opened.handle.reader().log_end(), Offset(40));
}

#[test]
fn the_observer_hears_of_the_new_start_and_of_what_is_written_from_there_on() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, recorder) = rig.open(&small());
    rig.replicate(&opened.handle, some_log(0, 1)).unwrap();
    recorder.take_told();
    opened
        .handle
        .reset(Offset(20), KnownProducers::default(), |_| {});
    send_replica(&opened.handle, placed_all(&[batch(2)], 20, 2));
    rig.settle();
    assert_eq!(recorder.take_told(), [Told::Written(22), Told::Durable(22)]);
    assert_eq!(recorder.log_starts(), [Offset(20)]);
}

/// A log whose first segment is gone: damaged, and everything behind it still there.
fn damaged() -> SimStorage {
    let (storage, rig, _) = filled();
    let first = rig.partition_path(0).join(format!("{:020}.log", 0));
    drop(rig);
    let storage = storage.process_killed();
    storage.remove_file(&first).unwrap();
    storage.sync_dir(first.parent().unwrap()).unwrap();
    storage
}

/// Losing data 6: a damaged replica is fetched again from a peer.
#[test]
fn the_damage_goes_with_a_reset() {
    let storage = damaged();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    let reader = opened.handle.reader();
    assert!(opened.report.damage.is_some() && reader.damage().is_some());
    assert!(matches!(
        reader.read(Offset(0), Offset(40), 100, true),
        Err(ReadError::Corrupt(_))
    ));
    rig.reset(&opened.handle, 0).unwrap();
    assert_eq!(reader.damage(), None);
    rig.replicate(&opened.handle, some_log(0, 1)).unwrap();
    assert_eq!(all_bytes(reader), some_log(0, 1));
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&small());
    assert_eq!(opened.report.damage, None);
    assert_eq!(all_bytes(opened.handle.reader()), some_log(0, 1));
}

/// A power cut in the midst leaves it damaged, or empty where it was to begin; never shorter and taken for whole.
#[test]
fn a_damaged_log_stays_damaged_until_it_is_reset() {
    for start in [0, 40, 55] {
        let reset = |storage: &SimStorage| {
            let mut rig = Rig::try_new(storage).ok()?;
            let (opened, _) = rig.try_open(0, &small()).ok()?;
            rig.lanes.write_checkpoints();
            rig.reset(&opened.handle, start).ok()
        };
        let whole = damaged();
        let before = whole.changes();
        assert!(reset(&whole).is_some());
        for at in 1..=whole.changes() - before {
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed(at)] {
                let storage = damaged();
                storage.die_after(at);
                let is_reset = reset(&storage).is_some();
                let what = format!("to {start}, operation {at}, {unsynced:?}");
                let mut rig = Rig::new(&storage.power_cut(unsynced));
                let (opened, _) = rig.open(&small());
                let reader = opened.handle.reader();
                let is_empty = reader.history() == (Vec::new(), Offset(start))
                    && reader.log_start() == Offset(start);
                let is_damaged = opened.report.damage.is_some();
                assert!(is_damaged || is_empty, "{what}");
                assert!(!(is_reset && is_damaged), "{what}");
                // The next attempt does it.
                rig.reset(&opened.handle, start).unwrap();
                assert_eq!(opened.handle.reader().damage(), None, "{what}");
            }
        }
    }
}

/// What was asked for in the background before the log was thrown away does not touch the new one.
#[test]
fn work_of_before_a_reset_leaves_the_new_log_alone() {
    let config = LogConfig {
        retention_bytes: Some(500),
        ..small()
    };
    for durability in [Durability::Fsync, Durability::Replicated] {
        let config = LogConfig {
            durability,
            ..config.clone()
        };
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        let handle = &opened.handle;
        send_replica(handle, some_log(0, 1));
        handle.retain(Offset(40));
        rig.clock.advance(10_000);
        let mut late = rig.cores[0].turn();
        handle.reset(Offset(0), KnownProducers::default(), |_| {});
        late.extend(rig.cores[0].turn());
        send_replica(handle, some_log(0, 2));
        late.extend(rig.cores[0].turn());
        assert!(late.len() >= 2, "a snapshot and retention");
        for job in late {
            job.run();
        }
        rig.settle();
        assert_eq!(all_bytes(handle.reader()), some_log(0, 2), "{durability:?}");
        rig.clock.advance(10_000);
        rig.settle();
        rig.lanes.write_checkpoints();
        let mut rig = Rig::new(&storage.power_cut(Unsynced::Kept));
        let (opened, _) = rig.open(&config);
        assert_eq!(opened.report.damage, None);
        let reader = opened.handle.reader();
        assert_eq!(reader.log_start(), Offset(0), "{durability:?}");
        assert_eq!(all_bytes(reader), some_log(0, 2), "{durability:?}");
        assert_eq!(reader.epoch_starts(), [(LeaderEpoch(2), Offset(0))]);
    }
}

/// Readers that race see the old log or the new one, and nothing in between.
#[test]
fn a_reader_sees_the_old_log_or_the_new_one() {
    let (_, mut rig, opened) = filled();
    let stop = AtomicBool::new(false);
    let reader = opened.handle.reader().clone();
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0_u64;
                    while !stop.load(Ordering::Relaxed) {
                        let (starts, end) = reader.history();
                        let begins = match starts[..] {
                            [] => end.0,
                            [(_, first)] => first.0,
                            _ => unreachable!("{starts:?}"),
                        };
                        assert!([0, 100].contains(&begins));
                        assert!((begins..=begins + 40).contains(&end.0));
                        for base in [0, 100] {
                            match reader.read(Offset(base), Offset(1_000), 1 << 20, true) {
                                Ok(read) => reads += check_read(&read.bytes, base),
                                Err(ReadError::OffsetOutOfRange { .. }) => {}
                                Err(error) => unreachable!("{error}"),
                            }
                        }
                    }
                    reads
                })
            })
            .collect();
        for round in 0..60 {
            let base = if round % 2 == 0 { 100 } else { 0 };
            rig.reset(&opened.handle, base).unwrap();
            rig.replicate(&opened.handle, some_log(base, 1 + round % 2))
                .unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().unwrap();
        }
    });
}

/// Whole batches that begin where it was asked for, all of one log.
fn check_read(bytes: &bytes::Bytes, base: i64) -> u64 {
    let whole = [some_log(base, 1), some_log(base, 2)];
    assert!(whole.iter().any(|whole| whole.starts_with(bytes)));
    u64::from(!bytes.is_empty())
}

fn compacted() -> LogConfig {
    LogConfig {
        compaction: Some(Compaction {
            dirty_ratio_min_ppm: 0,
            ..Compaction::default()
        }),
        ..small()
    }
}

#[test]
fn a_log_that_compaction_had_written_anew_is_reset_too() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = compacted();
    let (opened, _) = rig.open(&config);
    rig.replicate(&opened.handle, some_log(0, 1)).unwrap();
    rig.clock.advance(100_000);
    opened.handle.clean(Offset(40));
    rig.settle();
    let generations = |storage: &SimStorage| {
        let found = files(storage);
        let found = found.iter().filter_map(|name| segment_of(name, "log"));
        found.map(|(_, generation)| generation).max()
    };
    assert!(generations(&storage) > Some(0), "something was compacted");
    rig.reset(&opened.handle, 12).unwrap();
    rig.replicate(&opened.handle, some_log(12, 1)).unwrap();
    let storage = storage.power_cut(Unsynced::Lost);
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config);
    assert_eq!(opened.report.damage, None);
    assert_eq!(all_bytes(opened.handle.reader()), some_log(12, 1));
    assert_eq!(opened.handle.reader().shared().compacted_to(), Offset(0));
    assert_eq!(generations(&storage).unwrap_or(0), 0);
}

#[test]
fn a_pass_of_compaction_that_was_asked_for_before_a_reset_does_nothing() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&compacted());
    rig.replicate(&opened.handle, some_log(0, 1)).unwrap();
    opened.handle.clean(Offset(40));
    let late = rig.cores[0].turn();
    let done: Outcome<_> = Outcome::default();
    let left = done.clone();
    opened
        .handle
        .reset(Offset(0), KnownProducers::default(), move |result| {
            *left.lock().unwrap() = Some(result.is_ok())
        });
    rig.cores[0].turn();
    assert_eq!(*done.lock().unwrap(), Some(true));
    send_replica(&opened.handle, some_log(0, 2));
    rig.cores[0].turn();
    for job in late {
        job.run();
    }
    rig.settle();
    let reader = opened.handle.reader();
    assert!(!reader.is_uncleanable());
    assert_eq!(all_bytes(reader), some_log(0, 2));
}
