//! What a lane promises, told step by step over a simulated disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

mod admission;
mod disk;
mod lent;

use std::sync::Arc;

use weir_wire::{LeaderEpoch, Offset};

use crate::storage::Storage;
use crate::storage_sim::{Operation, SimStorage, Unsynced};
use crate::testing::{EPOCH, Rig, batch, batch_of, key, read_all, send, split};
use crate::{AppendError, Durability, LogConfig, OpenError, SequenceError};

fn small_segments() -> LogConfig {
    LogConfig {
        segment_bytes: 300,
        ..LogConfig::default()
    }
}

#[test]
fn an_appended_batch_is_read_back_with_its_offsets() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, recorder) = rig.open(&LogConfig::default());
    assert!(opened.report.created);
    let first = rig.append(&opened.handle, &batch(3)).unwrap();
    let second = rig.append(&opened.handle, &batch(2)).unwrap();
    assert_eq!(
        (first.base_offset, first.last_offset),
        (Offset(0), Offset(2))
    );
    assert_eq!(
        (second.base_offset, second.last_offset),
        (Offset(3), Offset(4))
    );
    assert_eq!(recorder.durable_end(), Offset(5));
    let read = read_all(opened.handle.reader(), 1 << 20);
    assert_eq!(
        read.iter().map(|(base, ..)| base.0).collect::<Vec<_>>(),
        [0, 3]
    );
    assert_eq!(opened.handle.reader().latest_epoch(), Some(EPOCH));
}

#[test]
fn all_that_is_queued_is_written_and_synced_once() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig::default());
    // The first sync takes the partition's directory with it.
    rig.append(&opened.handle, &batch(1)).unwrap();
    let before = (storage.changes(), storage.syncs());
    let outcomes: Vec<_> = (0..50)
        .map(|_| rig.send(&opened.handle, &batch(1)))
        .collect();
    rig.settle();
    assert!(
        outcomes
            .iter()
            .all(|outcome| matches!(&*outcome.lock().unwrap(), Some(Ok(_))))
    );
    assert_eq!(storage.syncs().files - before.1.files, 1);
    assert_eq!(storage.changes() - before.0, 2, "one write and one sync");
    assert_eq!(recorder.durable_end(), Offset(51));
    assert_eq!(recorder.reports(), 2);
}

#[test]
fn many_dirty_partitions_are_synced_by_one_sync_of_the_file_system() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let opened: Vec<_> = (0..20)
        .map(|number| rig.try_open(number, &LogConfig::default()).unwrap())
        .collect();
    let before = storage.syncs();
    for (opened, _) in &opened {
        rig.send(&opened.handle, &batch(1));
    }
    rig.settle();
    let after = storage.syncs();
    assert_eq!(
        (
            after.files - before.files,
            after.file_systems - before.file_systems
        ),
        (0, 1)
    );
    assert!(
        opened
            .iter()
            .all(|(_, recorder)| recorder.durable_end() == Offset(1))
    );
}

#[test]
fn a_duplicate_is_answered_with_its_first_offsets() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let first = rig.append(&opened.handle, &batch_of(9, 0, 0, 3)).unwrap();
    rig.append(&opened.handle, &batch(1)).unwrap();
    let again = rig.append(&opened.handle, &batch_of(9, 0, 0, 3)).unwrap();
    assert!(again.duplicate && !first.duplicate);
    assert_eq!(
        (again.base_offset, again.last_offset),
        (first.base_offset, first.last_offset)
    );
    assert_eq!(opened.handle.reader().log_end(), Offset(4));
    let gap = rig.append(&opened.handle, &batch_of(9, 0, 7, 1));
    assert!(matches!(
        gap,
        Err(AppendError::Sequence(SequenceError::OutOfOrder {
            expected: 3,
            got: 7,
            ..
        }))
    ));
}

#[test]
fn a_retry_in_the_same_turn_is_a_duplicate_too() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let first = rig.send(&opened.handle, &batch_of(9, 0, 0, 1));
    let again = rig.send(&opened.handle, &batch_of(9, 0, 0, 1));
    rig.settle();
    let (first, again) = (
        first.lock().unwrap().take().unwrap(),
        again.lock().unwrap().take().unwrap(),
    );
    assert_eq!(first.unwrap().base_offset, again.unwrap().base_offset);
    assert_eq!(opened.handle.reader().log_end(), Offset(1));
}

/// Losing data 3: what is not durable is not reported, and what is reported survives the worst power cut.
#[test]
fn an_acknowledged_batch_survives_a_power_cut() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&small_segments());
    for _ in 0..20 {
        rig.append(&opened.handle, &batch(2)).unwrap();
    }
    let durable = recorder.durable_end();
    assert_eq!(durable, Offset(40));
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&small_segments());
    assert_eq!(opened.report.damage, None);
    assert_eq!(opened.report.log_end, durable);
    assert_eq!(read_all(opened.handle.reader(), 1).len(), 20);
}

/// Losing data 4: after a sync that failed nothing is acknowledged, and nothing is tried again.
#[test]
fn a_failed_sync_stops_the_lane_for_good() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    storage.fail_next(Operation::Sync, ".log", 1);
    rig.send(&opened.handle, &batch(1));
    rig.settle();
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
    assert_eq!(
        recorder.durable_end(),
        Offset(1),
        "the batch whose sync failed is never reported"
    );
    let later = rig.append(&opened.handle, &batch(1));
    assert_eq!(later, Err(AppendError::Stopped));
    assert_eq!(recorder.durable_end(), Offset(1));
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
}

/// Losing data 4, the part after the restart: the page cache still shows what the disk never got.
#[test]
fn what_a_failed_sync_left_in_the_page_cache_is_not_believed_to_be_on_disk() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    storage.fail_next(Operation::Sync, ".log", 1);
    rig.send(&opened.handle, &batch(1));
    rig.settle();
    let restarted = storage.process_killed();
    let mut rig = Rig::new(&restarted);
    let (opened, _) = rig.open(&LogConfig::default());
    let shown = opened.handle.reader().durable_end();
    let mut rig = Rig::new(&restarted.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&LogConfig::default());
    assert_eq!(opened.report.damage, None);
    assert_eq!(
        opened.report.log_end, shown,
        "what was shown as durable is there"
    );
}

#[test]
fn a_failed_sync_of_the_whole_file_system_stops_the_lane() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let opened: Vec<_> = (0..20)
        .map(|number| rig.try_open(number, &LogConfig::default()).unwrap())
        .collect();
    storage.fail_next(Operation::Sync, "/data", 1);
    for (opened, _) in &opened {
        rig.send(&opened.handle, &batch(1));
    }
    rig.settle();
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
    assert!(opened.iter().all(|(_, recorder)| recorder.reports() == 0));
}

#[test]
fn a_failed_write_stops_the_lane_before_anyone_is_told_of_success() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig::default());
    storage.fail_next(Operation::Write, ".log", 1);
    assert_eq!(
        rig.append(&opened.handle, &batch(1)),
        Err(AppendError::Stopped)
    );
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
    assert_eq!(recorder.reports(), 0);
}

/// Losing data 8: a new segment's name is on disk before anything in it is reported.
#[test]
fn a_new_segments_directory_entry_is_synced_before_its_batches_are_durable() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&small_segments());
    let before = storage.syncs().directories;
    let mut appended = 0;
    while opened.handle.reader().size_bytes() < 700 {
        rig.append(&opened.handle, &batch(1)).unwrap();
        appended += 1;
    }
    assert!(storage.syncs().directories > before);
    assert_eq!(recorder.durable_end(), Offset(appended));
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&small_segments());
    assert_eq!(opened.report.log_end, Offset(appended));
    assert_eq!(opened.report.damage, None);
}

#[test]
fn a_new_segment_whose_directory_entry_cannot_be_synced_is_fatal() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&small_segments());
    rig.append(&opened.handle, &batch(4)).unwrap();
    storage.fail_next(Operation::SyncDir, &key(0).to_string(), 1);
    rig.send(&opened.handle, &batch(4));
    rig.settle();
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
    assert_eq!(recorder.durable_end(), Offset(4));
}

/// Speed 1: with `os` and `replicated` no append waits for the sync of a segment that was closed.
#[test]
fn rolling_does_not_sync_the_old_segment_on_the_append_path() {
    for durability in [Durability::Os, Durability::Replicated] {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, recorder) = rig.open(&LogConfig {
            durability,
            ..small_segments()
        });
        let before = storage.syncs();
        for _ in 0..10 {
            send(&opened.handle, &batch(3), EPOCH);
            // The turn alone, without the jobs that it asks for.
            let jobs: Vec<_> = rig.cores.iter_mut().flat_map(|core| core.turn()).collect();
            std::mem::forget(jobs);
        }
        assert_eq!(storage.syncs(), before, "{durability:?}");
        assert_eq!(recorder.durable_end(), Offset(30));
    }
}

#[test]
fn replicated_batches_are_synced_in_the_background_within_the_bound() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig {
        durability: Durability::Replicated,
        ..LogConfig::default()
    });
    rig.append(&opened.handle, &batch(1)).unwrap();
    assert_eq!(recorder.durable_end(), Offset(1));
    assert_eq!(opened.handle.reader().synced_end(), Offset(0));
    let due = rig.cores[0].wake_at_ms().unwrap();
    let now = 1_000_000;
    assert!(due > now && due < now + 1_000);
    rig.clock.advance(due - now);
    rig.settle();
    assert_eq!(opened.handle.reader().synced_end(), Offset(1));
    assert_eq!(rig.cores[0].wake_at_ms(), None, "an idle lane is not woken");
}

#[test]
fn a_failed_background_sync_is_fatal_too() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig {
        durability: Durability::Replicated,
        ..LogConfig::default()
    });
    rig.append(&opened.handle, &batch(1)).unwrap();
    storage.fail_next(Operation::Sync, ".log", 1);
    rig.clock.advance(1_000);
    rig.settle();
    assert_eq!(rig.fatals.lock().unwrap().len(), 1);
    assert_eq!(
        rig.append(&opened.handle, &batch(1)),
        Err(AppendError::Stopped)
    );
}

#[test]
fn os_batches_are_reported_without_any_sync() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig {
        durability: Durability::Os,
        ..LogConfig::default()
    });
    let before = storage.syncs();
    rig.append(&opened.handle, &batch(1)).unwrap();
    assert_eq!(storage.syncs(), before);
    assert_eq!(recorder.durable_end(), Offset(1));
}

#[test]
fn changing_to_fsync_makes_what_is_there_durable() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig {
        durability: Durability::Os,
        ..LogConfig::default()
    });
    rig.append(&opened.handle, &batch(1)).unwrap();
    opened.handle.update_config(LogConfig::default());
    rig.settle();
    assert_eq!(opened.handle.reader().synced_end(), Offset(1));
}

#[test]
fn a_full_disk_refuses_appends_and_serves_them_again_when_there_is_space() {
    let storage = SimStorage::new();
    storage.set_capacity(1 << 29);
    let mut rig = Rig::over(Arc::new(storage.clone()), "/data".as_ref(), 2_000).unwrap();
    let (opened, recorder) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch_of(9, 0, 0, 1)).unwrap();
    storage.set_capacity(4_000);
    let big = crate::testing::batch_at(&[1], 3_000);
    assert!(matches!(
        rig.append(&opened.handle, &big),
        Err(AppendError::NoSpace { .. })
    ));
    rig.lanes.write_checkpoints();
    assert!(
        rig.fatals.lock().unwrap().is_empty(),
        "the reserve is for this"
    );
    storage.set_capacity(1 << 30);
    let next = rig.append(&opened.handle, &batch_of(9, 0, 1, 1)).unwrap();
    assert_eq!(next.base_offset, Offset(1));
    assert_eq!(recorder.durable_end(), Offset(2));
}

#[test]
fn what_follows_a_batch_that_there_was_no_room_for_is_refused_for_want_of_room_too() {
    let storage = SimStorage::new();
    storage.set_capacity(1 << 29);
    let mut rig = Rig::over(Arc::new(storage.clone()), "/data".as_ref(), 2_000).unwrap();
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch_of(9, 0, 0, 1)).unwrap();
    storage.set_capacity(2_000);
    for sequence in [1, 2] {
        assert!(matches!(
            rig.append(&opened.handle, &batch_of(9, 0, sequence, 1)),
            Err(AppendError::NoSpace { .. })
        ));
    }
    storage.set_capacity(1 << 30);
    rig.append(&opened.handle, &batch_of(9, 0, 1, 1)).unwrap();
    // From here on a gap is a gap.
    assert!(matches!(
        rig.append(&opened.handle, &batch_of(9, 0, 3, 1)),
        Err(AppendError::Sequence(SequenceError::OutOfOrder { .. }))
    ));
    rig.append(&opened.handle, &batch_of(9, 0, 2, 1)).unwrap();
}

#[test]
fn a_full_disk_does_not_stop_retention_which_makes_room_again() {
    let storage = SimStorage::new();
    storage.set_capacity(1 << 29);
    let mut rig = Rig::over(Arc::new(storage.clone()), "/data".as_ref(), 2_000).unwrap();
    let config = LogConfig {
        segment_bytes: 1_000,
        retention_bytes: Some(1_000),
        ..LogConfig::default()
    };
    let (opened, _) = rig.open(&config);
    for _ in 0..8 {
        rig.append(&opened.handle, &crate::testing::batch_at(&[1], 800))
            .unwrap();
    }
    let space = storage.space("/data".as_ref()).unwrap();
    let used = space.total_bytes - space.available_bytes;
    storage.set_capacity(used + 2_100);
    let next = crate::testing::batch_at(&[1], 800);
    assert!(matches!(
        rig.append(&opened.handle, &next),
        Err(AppendError::NoSpace { .. })
    ));
    opened.handle.retain(Offset(8));
    rig.settle();
    assert!(opened.handle.reader().log_start() > Offset(0));
    let appended = rig.append(&opened.handle, &next).unwrap();
    assert_eq!(appended.base_offset, Offset(8));
}

#[test]
fn a_write_that_does_not_fit_leaves_the_log_as_it_was() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch_of(9, 0, 0, 1)).unwrap();
    // The disk says that it has room and then has none: another process was quicker.
    storage.fill_up_after(40);
    let first = rig.send(&opened.handle, &batch_of(9, 0, 1, 1));
    let second = rig.send(&opened.handle, &batch_of(9, 0, 2, 1));
    let retry = rig.send(&opened.handle, &batch_of(9, 0, 1, 1));
    rig.settle();
    for outcome in [first, second, retry] {
        assert!(matches!(
            outcome.lock().unwrap().take(),
            Some(Err(AppendError::NoSpace { .. }))
        ));
    }
    assert!(rig.fatals.lock().unwrap().is_empty());
    assert_eq!(opened.handle.reader().log_end(), Offset(1));
    storage.set_capacity(1 << 30);
    let next = rig.append(&opened.handle, &batch_of(9, 0, 1, 1)).unwrap();
    assert!(
        !next.duplicate,
        "a batch that could not be written was never seen"
    );
    assert_eq!(next.base_offset, Offset(1));
    assert_eq!(recorder.durable_end(), Offset(2));
    assert_eq!(read_all(opened.handle.reader(), 1 << 20).len(), 2);
}

#[test]
fn an_older_leader_epoch_is_refused() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let new = send(&opened.handle, &batch(1), LeaderEpoch(5));
    let old = send(&opened.handle, &batch(1), LeaderEpoch(4));
    rig.settle();
    assert!(new.lock().unwrap().take().unwrap().is_ok());
    let old = old.lock().unwrap().take().unwrap();
    assert_eq!(
        old,
        Err(AppendError::StaleEpoch {
            got: LeaderEpoch(4),
            latest: LeaderEpoch(5)
        })
    );
}

#[test]
fn bytes_that_are_no_batch_are_refused() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let whole = batch(1);
    let cut = whole.slice(..whole.len() - 1);
    let doubled = bytes::Bytes::from([whole.clone(), whole].concat());
    for bad in [bytes::Bytes::new(), cut, doubled] {
        assert!(matches!(
            rig.append(&opened.handle, &bad),
            Err(AppendError::Malformed(_))
        ));
    }
    assert_eq!(opened.handle.reader().log_end(), Offset(0));
}

#[test]
fn log_append_time_is_stamped_with_a_right_checksum() {
    let mut rig = Rig::new(&SimStorage::new());
    let timestamp_type = crate::TimestampType::LogAppendTime;
    let (opened, _) = rig.open(&LogConfig {
        timestamp_type,
        ..LogConfig::default()
    });
    let appended = rig.append(&opened.handle, &batch(3)).unwrap();
    assert_eq!(appended.log_append_time, Some(1_000_000));
    let batches = opened
        .handle
        .reader()
        .read(Offset(0), Offset(3), 1 << 20, true)
        .unwrap();
    // `split` checks the checksum.
    assert_eq!(split(&batches.bytes).len(), 1);
    let header = weir_wire::batch::BatchHeader::parse(&batches.bytes).unwrap();
    assert_eq!(header.max_timestamp_ms, 1_000_000);
    assert_eq!(header.attributes.timestamp_type(), timestamp_type);
}

#[test]
fn a_partition_is_opened_once_at_a_time() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    assert!(matches!(
        rig.try_open(0, &LogConfig::default()),
        Err(OpenError::AlreadyOpen)
    ));
    rig.append(&opened.handle, &batch(1)).unwrap();
    rig.close(&opened.handle);
    assert_eq!(
        rig.append(&opened.handle, &batch(1)),
        Err(AppendError::Closed)
    );
    let (opened, _) = rig.open(&LogConfig::default());
    assert!(opened.report.clean);
    assert_eq!(opened.report.log_end, Offset(1));
}

#[test]
fn a_deleted_partition_is_gone_and_can_be_made_anew() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    rig.lanes.write_checkpoints();
    opened.handle.delete(|result| result.unwrap());
    rig.settle();
    assert!(rig.dir.partitions().unwrap().is_empty());
    assert!(
        opened
            .handle
            .reader()
            .read(Offset(0), Offset(1), 100, true)
            .is_err()
    );
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    assert!(rig.dir.partitions().unwrap().is_empty());
    let (opened, _) = rig.open(&LogConfig::default());
    assert!(opened.report.created);
    assert_eq!(opened.report.damage, None);
    assert_eq!(rig.dir.partitions().unwrap()[0].topic, "flights");
}

#[test]
fn a_full_queue_says_so_at_once() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    let large = crate::testing::batch_at(&[1], 40 << 20);
    let first = rig.send(&opened.handle, &large);
    let second = rig.send(&opened.handle, &large);
    assert!(first.lock().unwrap().is_none());
    assert_eq!(second.lock().unwrap().take(), Some(Err(AppendError::Busy)));
    rig.settle();
    assert!(first.lock().unwrap().take().unwrap().is_ok());
}

/// Losing data 5: what was cut does not come back, also when the power goes right after the first new batch is durable.
#[test]
fn a_truncation_is_durable_before_the_next_append() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, recorder) = rig.open(&small_segments());
    for sequence in 0..20 {
        rig.append(&opened.handle, &batch_of(1, 0, sequence, 1))
            .unwrap();
    }
    rig.lanes.write_checkpoints();
    assert_eq!(rig.truncate(&opened.handle, 7), Offset(7));
    assert_eq!(opened.handle.reader().log_end(), Offset(7));
    let new = send(&opened.handle, &batch_of(2, 0, 0, 2), LeaderEpoch(2));
    rig.settle();
    assert_eq!(
        new.lock().unwrap().take().unwrap().unwrap().base_offset,
        Offset(7)
    );
    assert_eq!(recorder.durable_end(), Offset(9));
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&small_segments());
    assert_eq!(opened.report.damage, None);
    assert_eq!(opened.report.log_end, Offset(9));
    assert_eq!(
        opened.handle.reader().epoch_of(Offset(7)),
        Some(LeaderEpoch(2))
    );
    assert_eq!(
        opened
            .handle
            .reader()
            .epoch_end(LeaderEpoch(1))
            .unwrap()
            .end_offset,
        Offset(7)
    );
    // Producers are as of the cut: sequence 7 is next, and 6 is a duplicate.
    let old = send(&opened.handle, &batch_of(1, 0, 6, 1), LeaderEpoch(2));
    let next = send(&opened.handle, &batch_of(1, 0, 7, 1), LeaderEpoch(2));
    rig.settle();
    assert!(old.lock().unwrap().take().unwrap().unwrap().duplicate);
    assert!(!next.lock().unwrap().take().unwrap().unwrap().duplicate);
}

#[test]
fn partitions_are_made_without_a_sync_for_each() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let before = storage.syncs();
    let opened: Vec<_> = (0..50)
        .map(|number| rig.try_open(number, &LogConfig::default()).unwrap())
        .collect();
    assert_eq!(storage.syncs(), before);
    for (opened, _) in &opened {
        rig.send(&opened.handle, &batch(1));
    }
    rig.settle();
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    assert_eq!(rig.dir.partitions().unwrap().len(), 50);
    assert!((0..50).all(|number| {
        rig.try_open(number, &LogConfig::default())
            .unwrap()
            .0
            .report
            .log_end
            == Offset(1)
    }));
}

#[test]
fn a_partition_that_was_made_and_never_written_may_go_with_the_power_and_comes_back_empty() {
    for seed in 0..20 {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        rig.open(&LogConfig::default());
        let mut rig = Rig::new(&storage.power_cut(Unsynced::Mixed(seed)));
        rig.dir.partitions().unwrap();
        let (opened, recorder) = rig.open(&LogConfig::default());
        assert_eq!(
            (opened.report.damage, opened.report.log_end),
            (None, Offset(0))
        );
        rig.append(&opened.handle, &batch(1)).unwrap();
        assert_eq!(recorder.durable_end(), Offset(1));
        assert_eq!(rig.dir.partitions().unwrap().len(), 1);
    }
}

/// Speed 5: what was written is let go of, and does not pin the request it came in.
#[test]
fn a_written_batch_is_let_go() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let mine = batch(1);
    assert!(mine.is_unique());
    rig.append(&opened.handle, &mine).unwrap();
    assert!(mine.is_unique());
}

#[test]
fn an_idle_broker_does_not_write_checkpoints() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    rig.lanes.write_checkpoints();
    let before = storage.changes();
    rig.lanes.write_checkpoints();
    assert_eq!(storage.changes(), before);
    rig.append(&opened.handle, &batch(1)).unwrap();
    rig.lanes.write_checkpoints();
    assert!(storage.changes() > before + 2);
}
