//! What a follower takes over, and what it knows then.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod agreement;

use std::sync::Arc;

use bytes::Bytes;
use weir_wire::batch::PATCHED_LEN;
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use crate::storage_sim::{SimStorage, Unsynced};
use crate::testing::replicas::{
    all_bytes, check_history, headers, placed, placed_all, send_replica, without_records,
};
use crate::testing::transactions::{marker, send_as, send_transactional, transactional};
use crate::testing::{Rig, Told, batch, batch_at, batch_of, send};
use crate::{AppendError, Durability, Ends, LogConfig, Origin, TimestampType};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 400,
        index_interval_bytes: 100,
        snapshot_interval_bytes: 500,
        ..LogConfig::default()
    }
}

/// Ten batches of a producer, and some of nobody.
fn of_a_leader() -> Bytes {
    let batches: Vec<_> = (0..10)
        .flat_map(|number| [batch_of(9, 0, number * 2, 2), batch(1)])
        .collect();
    placed_all(&batches, 0, 3)
}

#[test]
fn a_followers_log_is_its_leaders_byte_for_byte() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = LogConfig {
        // The leader has seen to that.
        timestamp_type: TimestampType::LogAppendTime,
        ..small_segments()
    };
    let (opened, recorder) = rig.open(&config);
    let bytes = of_a_leader();
    assert_eq!(rig.replicate(&opened.handle, bytes.clone()), Ok(Offset(30)));
    assert_eq!(recorder.durable_end(), Offset(30));
    let reader = opened.handle.reader();
    assert!(reader.shared().segments().len() > 3);
    assert_eq!(all_bytes(reader), bytes);
    assert_eq!(reader.epoch_starts(), [(LeaderEpoch(3), Offset(0))]);
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&config);
    assert_eq!(opened.report.damage, None);
    assert_eq!(all_bytes(opened.handle.reader()), bytes);
}

#[test]
fn batches_that_do_not_go_on_where_the_log_ends_are_refused_and_leave_no_trace() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    rig.replicate(&opened.handle, placed(&batch(4), 0, 2))
        .unwrap();
    let good = placed(&batch_of(9, 0, 0, 2), 4, 2);
    let behind = |next: &Bytes| Bytes::from([good.clone(), next.clone()].concat());
    let contiguous = |got, expected| AppendError::NotContiguous {
        got: Offset(got),
        expected: Offset(expected),
    };
    let stale = AppendError::StaleEpoch {
        got: LeaderEpoch(1),
        latest: LeaderEpoch(2),
    };
    let refused = [
        (placed(&batch(1), 5, 2), contiguous(5, 4)),
        (placed(&batch(1), 0, 2), contiguous(0, 4)),
        (behind(&placed(&batch(1), 7, 2)), contiguous(7, 6)),
        (behind(&placed(&batch(1), 6, 1)), stale.clone()),
        (placed(&batch(1), 4, 1), stale),
    ];
    for (bytes, error) in refused {
        assert_eq!(rig.replicate(&opened.handle, bytes), Err(error));
    }
    for bad in [
        good.slice(..good.len() - 1),
        behind(&Bytes::from_static(b"x")),
    ] {
        assert!(matches!(
            rig.replicate(&opened.handle, bad),
            Err(AppendError::Malformed(_))
        ));
    }
    assert_eq!(opened.handle.reader().log_end(), Offset(4));
    assert!(rig.producers(&opened.handle).is_empty());
    // Several in one turn go on behind each other, and one that does not stops none of the others.
    let outcomes = [
        send_replica(&opened.handle, good.clone()),
        send_replica(&opened.handle, placed(&batch(1), 9, 2)),
        send_replica(&opened.handle, placed(&batch(1), 6, 2)),
        send_replica(&opened.handle, Bytes::new()),
    ];
    rig.settle();
    let outcomes = outcomes.map(|outcome| outcome.lock().unwrap().take().unwrap());
    let expected = [
        Ok(Offset(6)),
        Err(contiguous(9, 6)),
        Ok(Offset(7)),
        Ok(Offset(7)),
    ];
    assert_eq!(outcomes, expected);
}

#[test]
fn what_compaction_left_without_records_is_taken_over_too() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small_segments());
    let all = [
        without_records(40),
        batch(2),
        without_records(1),
        without_records(100_000),
        batch_of(9, 0, 0, 1),
    ];
    let bytes = placed_all(&all, 0, 1);
    let end = rig.replicate(&opened.handle, bytes.clone()).unwrap();
    assert_eq!(end, Offset(40 + 2 + 1 + 100_000 + 1));
    rig.lanes.write_checkpoints();
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&small_segments());
    assert_eq!((opened.report.damage, opened.report.log_end), (None, end));
    assert_eq!(all_bytes(opened.handle.reader()), bytes);
}

/// Losing data 11: what a producer sends again after its leader died is known to the one that took over.
#[test]
fn a_retry_of_a_replicated_batch_is_a_duplicate_to_the_follower_that_became_leader() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    rig.replicate(&opened.handle, of_a_leader()).unwrap();
    let retry = |rig: &mut Rig, handle| {
        let again = send(handle, &batch_of(9, 0, 18, 2), LeaderEpoch(4));
        rig.settle();
        let again = again.lock().unwrap().take().unwrap().unwrap();
        assert!(again.duplicate);
        assert_eq!(again.base_offset, Offset(27));
    };
    retry(&mut rig, &opened.handle);
    // Also when it was started anew before.
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&LogConfig::default());
    retry(&mut rig, &opened.handle);
    let next = send(&opened.handle, &batch_of(9, 0, 20, 1), LeaderEpoch(4));
    rig.settle();
    let next = next.lock().unwrap().take().unwrap().unwrap();
    assert_eq!((next.duplicate, next.base_offset), (false, Offset(30)));
}

#[test]
fn a_replicated_marker_ends_the_transaction() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let reader = opened.handle.reader().clone();
    let records = placed_all(&[batch(2), transactional(7, 0, 0, 2)], 0, 1);
    rig.replicate(&opened.handle, records).unwrap();
    assert_eq!(reader.last_stable(Offset(4)), Offset(2));
    assert!(reader.is_transaction_open(ProducerId(7), ProducerEpoch(0)));
    let abort = placed(&marker(7, 0, false), 4, 1);
    rig.replicate(&opened.handle, abort).unwrap();
    assert_eq!(reader.last_stable(Offset(5)), Offset(5));
    let aborted = reader.aborted_transactions(Offset(0), Offset(5)).unwrap();
    assert_eq!(aborted.len(), 1);
    assert_eq!(aborted[0].first_offset, Offset(2));
}

#[test]
fn a_transaction_that_came_from_the_leader_goes_on_under_the_follower_that_took_over() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let records = placed(&transactional(7, 0, 0, 2), 0, 1);
    rig.replicate(&opened.handle, records).unwrap();
    // Nobody has to vouch for it again.
    let next = transactional(7, 0, 2, 1);
    let next = send_as(&opened.handle, &next, Origin::Client, None, LeaderEpoch(2));
    rig.settle();
    let next = next.lock().unwrap().take().unwrap().unwrap();
    assert_eq!(next.base_offset, Offset(2));
    let origin = Origin::Marker {
        transaction_version: 1,
    };
    let end = marker(7, 0, true);
    let end = send_as(&opened.handle, &end, origin, None, LeaderEpoch(2));
    rig.settle();
    assert!(end.lock().unwrap().take().unwrap().is_ok());
    assert_eq!(opened.handle.reader().open_transactions(), 0);
}

#[test]
fn a_full_disk_refuses_replicated_batches_and_leaves_the_log_as_it_was() {
    let storage = SimStorage::new();
    storage.set_capacity(1 << 29);
    let mut rig = Rig::over(Arc::new(storage.clone()), "/data".as_ref(), 2_000).unwrap();
    let (opened, _) = rig.open(&LogConfig::default());
    rig.replicate(&opened.handle, placed(&batch(1), 0, 1))
        .unwrap();
    let big = placed_all(&[batch_of(9, 0, 0, 1), batch_at(&[1], 3_000)], 1, 1);
    storage.set_capacity(4_000);
    assert!(matches!(
        rig.replicate(&opened.handle, big.clone()),
        Err(AppendError::NoSpace { .. })
    ));
    storage.set_capacity(1 << 30);
    // The disk says that it has room and then has none.
    storage.fill_up_after(1_000);
    assert!(matches!(
        rig.replicate(&opened.handle, big.clone()),
        Err(AppendError::NoSpace { .. })
    ));
    assert_eq!(opened.handle.reader().log_end(), Offset(1));
    assert!(rig.producers(&opened.handle).is_empty());
    assert!(rig.fatals.lock().unwrap().is_empty());
    storage.set_capacity(1 << 30);
    assert_eq!(rig.replicate(&opened.handle, big), Ok(Offset(3)));
}

/// Speed: what a follower has queued is one write and one sync, however many batches there are.
#[test]
fn replicated_batches_join_the_group_commit() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig::default());
    rig.replicate(&opened.handle, placed(&batch(1), 0, 1))
        .unwrap();
    recorder.take_told();
    let before = (storage.changes(), storage.syncs());
    for base in 0..20 {
        let two = placed_all(&[batch(1), batch(1)], 1 + base * 2, 1);
        send_replica(&opened.handle, two);
    }
    rig.settle();
    assert_eq!(storage.changes() - before.0, 2, "one write and one sync");
    assert_eq!(storage.syncs().files - before.1.files, 1);
    assert_eq!(recorder.take_told(), [Told::Written(41), Told::Durable(41)]);
}

#[test]
fn replicated_batches_count_in_the_queues_bytes() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let large = placed(&batch_at(&[1], 40 << 20), 0, 1);
    let first = send_replica(&opened.handle, large.clone());
    let second = send_replica(&opened.handle, large);
    assert_eq!(second.lock().unwrap().take(), Some(Err(AppendError::Busy)));
    rig.settle();
    assert!(first.lock().unwrap().take().unwrap().is_ok());
    rig.close(&opened.handle);
    let late = rig.replicate(&opened.handle, placed(&batch(1), 1, 1));
    assert_eq!(late, Err(AppendError::Closed));
}

#[test]
fn the_observer_hears_once_a_turn_what_is_written_and_then_what_is_durable() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, recorder) = rig.open(&LogConfig::default());
    let handle = &opened.handle;
    rig.send(handle, &batch(1));
    rig.send(handle, &batch(1));
    rig.cores[0].write_turn();
    assert_eq!(recorder.take_told(), [Told::Written(2)]);
    rig.cores[0].sync_turn();
    assert_eq!(recorder.take_told(), [Told::Durable(2)]);
    rig.settle();
    // A fence in between makes two writes, and no second word.
    rig.send(handle, &batch(1));
    handle.ends(|_| {});
    rig.send(handle, &batch(1));
    rig.settle();
    assert_eq!(recorder.take_told(), [Told::Written(4), Told::Durable(4)]);
    rig.settle();
    assert!(recorder.take_told().is_empty());
    // What is written in the place of what was cut is news, though the log does not become longer by it.
    handle.truncate_to(Offset(1), |_| {});
    send_replica(handle, placed(&batch(2), 1, 2));
    rig.settle();
    assert_eq!(recorder.take_told(), [Told::Written(3), Told::Durable(3)]);
}

#[test]
fn the_ends_are_those_of_when_everything_queued_before_is_written() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig {
        durability: Durability::Replicated,
        ..LogConfig::default()
    });
    send_replica(&opened.handle, placed(&batch(3), 0, 1));
    let ends = Ends {
        log_end: Offset(3),
        synced_end: Offset(0),
        durable_end: Offset(3),
    };
    assert_eq!(rig.ends(&opened.handle), ends);
}

/// Losing data 5: the power goes at every operation while a follower cuts its log and goes on with its new leader's batches.
#[test]
fn what_was_cut_does_not_come_back_among_what_the_new_leader_sent() {
    let old: Vec<_> = (0..20).map(|number| batch_of(1, 0, number, 1)).collect();
    let new = placed_all(&[batch_of(2, 0, 0, 2), transactional(7, 0, -1, 3)], 7, 2);
    let live = |storage: &SimStorage| {
        let mut rig = Rig::try_new(storage).ok()?;
        let (opened, recorder) = rig.try_open(0, &small_segments()).ok()?;
        rig.replicate(&opened.handle, placed_all(&old, 0, 1)).ok()?;
        rig.lanes.write_checkpoints();
        let cut = crate::testing::Outcome::default();
        let left = Arc::clone(&cut);
        opened.handle.truncate_to(Offset(7), move |result| {
            *left.lock().unwrap() = Some(result)
        });
        send_replica(&opened.handle, new.clone());
        rig.settle();
        let was_cut = matches!(&*cut.lock().unwrap(), Some(Ok(Offset(7))));
        Some((was_cut, recorder.durable_end().0 == 12))
    };
    let whole = SimStorage::new();
    assert_eq!(live(&whole), Some((true, true)));
    for at in 1..=whole.changes() {
        for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Mixed(at)] {
            let what = format!("operation {at}, {unsynced:?}");
            let storage = SimStorage::new();
            storage.die_after(at);
            let (was_cut, is_durable) = live(&storage).unwrap_or_default();
            let mut rig = Rig::new(&storage.power_cut(unsynced));
            let (opened, _) = rig.open(&small_segments());
            assert_eq!(opened.report.damage, None, "{what}");
            let reader = opened.handle.reader();
            check_history(reader, &what);
            for header in headers(reader) {
                let is_old = header.leader_epoch == LeaderEpoch(1);
                let is_cut = header.base_offset >= Offset(7) && (was_cut || is_durable);
                assert!(!(is_old && is_cut), "{what}: {header:?}");
            }
            if is_durable {
                assert_eq!(reader.log_end(), Offset(12), "{what}");
                let sequences: Vec<_> = rig.producers(&opened.handle);
                let sequences: Vec<_> = sequences
                    .iter()
                    .map(|producer| (producer.producer_id.0, producer.last_sequence))
                    .collect();
                assert_eq!(sequences, [(1, 6), (2, 1), (7, -1)], "{what}");
                let reader = opened.handle.reader();
                assert_eq!(reader.last_stable(Offset(12)), Offset(9), "{what}");
            }
        }
    }
}

/// What a truncation leaves is on disk, also what no sync had come to yet.
#[test]
fn a_truncation_syncs_what_it_leaves() {
    for durability in [Durability::Fsync, Durability::Replicated, Durability::Os] {
        let config = LogConfig {
            durability,
            ..small_segments()
        };
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, recorder) = rig.open(&config);
        let bytes = of_a_leader();
        send_replica(&opened.handle, bytes.clone());
        let cut = crate::testing::Outcome::default();
        let left = Arc::clone(&cut);
        opened.handle.truncate_to(Offset(26), move |result| {
            *left.lock().unwrap() = Some(result)
        });
        // The turn alone: nothing is synced in the background.
        let jobs = rig.cores[0].turn();
        assert!(matches!(*cut.lock().unwrap(), Some(Ok(Offset(26)))));
        let end = opened.handle.reader().log_end();
        assert_eq!(opened.handle.reader().synced_end(), end, "{durability:?}");
        assert!(recorder.durable_end() >= end, "{durability:?}");
        rig.lanes.write_checkpoints();
        drop(jobs);
        let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
        let (opened, _) = rig.open(&config);
        assert_eq!(opened.report.damage, None, "{durability:?}");
        let found = all_bytes(opened.handle.reader());
        assert_eq!(opened.report.log_end, end, "{durability:?}");
        assert_eq!(found, bytes.slice(..found.len()), "{durability:?}");
    }
}

#[test]
fn what_becomes_durable_by_a_truncation_is_told() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, recorder) = rig.open(&LogConfig::default());
    rig.replicate(&opened.handle, placed(&batch(1), 0, 1))
        .unwrap();
    recorder.take_told();
    send_replica(&opened.handle, placed_all(&[batch(1), batch(1)], 1, 1));
    opened.handle.truncate_to(Offset(2), |_| {});
    rig.settle();
    let told = recorder.take_told();
    assert_eq!(told, [Told::Durable(2), Told::Written(2)]);
    // What is durable already is not told again, and it grows from there.
    rig.truncate(&opened.handle, 1);
    assert!(recorder.take_told().is_empty());
    rig.replicate(&opened.handle, placed(&batch(1), 1, 2))
        .unwrap();
    assert_eq!(recorder.take_told(), [Told::Written(2), Told::Durable(2)]);
}

/// A background job that was asked for before the log was cut finds out.
#[test]
fn a_snapshot_of_before_a_truncation_is_not_written_after_it() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = LogConfig {
        snapshot_interval_bytes: 500,
        ..LogConfig::default()
    };
    let (opened, _) = rig.open(&config);
    let old: Vec<_> = (0..10).map(|number| batch_of(1, 0, number, 1)).collect();
    send_replica(&opened.handle, placed_all(&old, 0, 1));
    let late = rig.cores[0].turn();
    assert!(!late.is_empty(), "a snapshot as of 10");
    rig.truncate(&opened.handle, 2);
    for job in late {
        job.run();
    }
    // Up to the same offset, by others, with a kill before the next snapshot.
    let new: Vec<_> = (0..8).map(|number| batch_of(2, 0, number, 1)).collect();
    send_replica(&opened.handle, placed_all(&new, 2, 2));
    rig.cores[0].turn();
    let mut rig = Rig::new(&storage.process_killed());
    let (opened, _) = rig.open(&config);
    assert_eq!(opened.report.log_end, Offset(10));
    let producers = rig.producers(&opened.handle);
    let known: Vec<_> = producers
        .iter()
        .map(|producer| (producer.producer_id.0, producer.last_sequence))
        .collect();
    assert_eq!(known, [(1, 1), (2, 7)]);
}

/// The header's first bytes are the leader's own, and what it said under them is not judged.
#[test]
fn a_leaders_appends_and_a_followers_log_are_the_same() {
    let mut leader = Rig::new(&SimStorage::new());
    let (leads, _) = leader.open(&LogConfig {
        timestamp_type: TimestampType::LogAppendTime,
        ..LogConfig::default()
    });
    for number in 0..5 {
        leader
            .append(&leads.handle, &batch_of(9, 0, number, 1))
            .unwrap();
        send_transactional(&leads.handle, &transactional(7, 0, -1, 1));
        leader.settle();
    }
    let bytes = all_bytes(leads.handle.reader());
    let mut follower = Rig::new(&SimStorage::new());
    let (follows, _) = follower.open(&LogConfig::default());
    follower.replicate(&follows.handle, bytes.clone()).unwrap();
    assert_eq!(all_bytes(follows.handle.reader()), bytes);
    assert_eq!(
        leader.producers(&leads.handle),
        follower.producers(&follows.handle)
    );
    assert!(bytes.len() > PATCHED_LEN);
}
