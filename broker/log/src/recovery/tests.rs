//! What an opening finds, and what it does and does not do about it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use std::io::IoSlice;
use std::path::{Path, PathBuf};

use weir_wire::{LeaderEpoch, Offset};

use crate::storage::{OpenMode, Storage};
use crate::storage_sim::{SimStorage, Unsynced};
use crate::testing::{Rig, batch, batch_of, key, read_all, send};
use crate::{AppendError, Durability, LaneError, LogConfig, OpenError, PartitionHandle, ReadError};

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 600,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

fn fill(rig: &mut Rig, handle: &PartitionHandle, batches: i32) {
    for sequence in 0..batches {
        rig.append(handle, &batch_of(1, 0, sequence, 1)).unwrap();
    }
}

/// A disk that was killed with `batches` single records in it, of which the first `marked` are below the checkpoint.
fn killed(marked: i32, batches: i32) -> SimStorage {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    fill(&mut rig, &opened.handle, marked);
    rig.lanes.write_checkpoints();
    for sequence in marked..batches {
        rig.append(&opened.handle, &batch_of(1, 0, sequence, 1))
            .unwrap();
    }
    storage.process_killed()
}

fn logs(storage: &SimStorage) -> Vec<PathBuf> {
    let path = PathBuf::from("/data").join(key(0).to_string());
    let names = storage.list(&path).unwrap();
    names
        .into_iter()
        .filter(|name| name.ends_with(".log"))
        .map(|name| path.join(name))
        .collect()
}

fn length(storage: &SimStorage, path: &Path) -> u64 {
    storage.open(path, OpenMode::Read).unwrap().len().unwrap()
}

#[test]
fn a_clean_shutdown_is_opened_without_a_scan() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    fill(&mut rig, &opened.handle, 30);
    rig.shut_down();
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    assert!(rig.dir.was_clean());
    let (opened, _) = rig.open(&small());
    assert!(opened.report.clean);
    assert_eq!(
        (opened.report.scanned_bytes, opened.report.log_end),
        (0, Offset(30))
    );
    assert!(
        rig.append(&opened.handle, &batch_of(1, 0, 29, 1))
            .unwrap()
            .duplicate,
        "producers are remembered"
    );
    assert_eq!(read_all(opened.handle.reader(), 1).len(), 30);
}

#[test]
fn a_kill_is_seen_as_one_and_scans_only_above_the_checkpoint() {
    let storage = killed(30, 32);
    let mut rig = Rig::new(&storage);
    assert!(!rig.dir.was_clean());
    let (opened, _) = rig.open(&small());
    let one = batch_of(1, 0, 0, 1).len() as u64;
    assert_eq!(opened.report.scanned_bytes, 2 * one);
    assert_eq!(opened.report.log_end, Offset(32));
    assert_eq!(opened.report.damage, None);
}

#[test]
fn a_torn_tail_is_cut_and_stays_cut() {
    let storage = killed(10, 12);
    let last = logs(&storage).pop().unwrap();
    let file = storage.open(&last, OpenMode::Write).unwrap();
    let len = file.len().unwrap();
    file.write_all_vectored_at(&[IoSlice::new(&batch(1)[..50])], len)
        .unwrap();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    assert_eq!(
        (opened.report.cut_bytes, opened.report.batches_behind_cut),
        (50, 0)
    );
    assert_eq!(opened.report.log_end, Offset(12));
    let after = storage.power_cut(Unsynced::Lost);
    assert_eq!(
        length(&after, &last),
        len,
        "the cut is durable when the partition is open"
    );
}

#[test]
fn a_bad_batch_above_the_checkpoint_ends_the_log_and_what_lay_behind_is_counted() {
    let storage = killed(10, 14);
    let last = logs(&storage).pop().unwrap();
    let one = batch_of(1, 0, 0, 1).len() as u64;
    let len = length(&storage, &last);
    storage.flip_bit(&last, (len - 2 * one + 70) * 8);
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    assert_eq!(opened.report.log_end, Offset(12));
    assert_eq!(
        (opened.report.cut_bytes, opened.report.batches_behind_cut),
        (2 * one, 1)
    );
}

/// Harms a disk, and says which offsets are hurt.
type Harm<'a> = dyn Fn(&SimStorage) -> std::ops::Range<Offset> + 'a;

/// Losing data 6: what was durable and is missing is damage; nothing is cut, nothing is written over.
#[test]
fn damage_below_the_checkpoint_is_reported_and_never_cut() {
    let cut_last = |storage: &SimStorage| {
        let last = logs(storage).pop().unwrap();
        storage
            .open(&last, OpenMode::Write)
            .unwrap()
            .set_len(length(storage, &last) - 1)
            .unwrap();
        Offset(29)..Offset(30)
    };
    let lose_middle = |storage: &SimStorage| {
        let all = logs(storage);
        storage.remove_file(&all[1]).unwrap();
        let base =
            |path: &PathBuf| Offset(path.file_stem().unwrap().to_str().unwrap().parse().unwrap());
        base(&all[1])..base(&all[2])
    };
    let lose_first = |storage: &SimStorage| {
        let all = logs(storage);
        storage.remove_file(&all[0]).unwrap();
        Offset(0)
            ..Offset(
                all[1]
                    .file_stem()
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .parse()
                    .unwrap(),
            )
    };
    let lose_last = |storage: &SimStorage| {
        let last = logs(storage).pop().unwrap();
        storage.remove_file(&last).unwrap();
        Offset(last.file_stem().unwrap().to_str().unwrap().parse().unwrap())..Offset(30)
    };
    let lose_all = |storage: &SimStorage| {
        for path in logs(storage) {
            storage.remove_file(&path).unwrap();
        }
        Offset(0)..Offset(30)
    };
    let zero_the_end = |storage: &SimStorage| {
        let last = logs(storage).pop().unwrap();
        let one = batch_of(1, 0, 0, 1).len();
        let file = storage.open(&last, OpenMode::Write).unwrap();
        let at = file.len().unwrap() - one as u64;
        file.write_all_vectored_at(&[IoSlice::new(&vec![0; one])], at)
            .unwrap();
        Offset(29)..Offset(30)
    };
    let kinds: [&Harm<'_>; 6] = [
        &cut_last,
        &lose_middle,
        &lose_first,
        &lose_last,
        &lose_all,
        &zero_the_end,
    ];
    for (number, damage) in kinds.into_iter().enumerate() {
        let storage = killed(30, 30);
        let expected = damage(&storage);
        let left: Vec<_> = logs(&storage)
            .iter()
            .map(|path| (path.clone(), length(&storage, path)))
            .collect();
        for _ in 0..2 {
            let mut rig = Rig::new(&storage);
            let (opened, recorder) = rig.open(&small());
            let found = opened
                .report
                .damage
                .clone()
                .unwrap_or_else(|| unreachable!("damage {number} was not seen"));
            assert_eq!(found.offsets, expected, "damage {number}");
            assert!(matches!(
                rig.append(&opened.handle, &batch(1)),
                Err(AppendError::Damaged(_))
            ));
            assert_eq!(recorder.reports(), 0);
            let read = opened
                .handle
                .reader()
                .read(expected.start, Offset(30), 1_000, true);
            assert!(
                matches!(
                    read,
                    Err(ReadError::Corrupt(_) | ReadError::OffsetOutOfRange { .. })
                ) || read.is_ok_and(|batches| batches.bytes.is_empty()),
                "damage {number}: the range is not served"
            );
            rig.lanes.write_checkpoints();
        }
        for (path, len) in left {
            assert_eq!(
                length(&storage, &path),
                len,
                "damage {number}: files stay as they were found"
            );
        }
    }
}

#[test]
fn a_damaged_partition_is_not_truncated_either() {
    let storage = killed(30, 30);
    let all = logs(&storage);
    storage.remove_file(&all[1]).unwrap();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    let (sender, answer) = std::sync::mpsc::channel();
    opened
        .handle
        .truncate_to(Offset(2), move |result| sender.send(result).unwrap());
    rig.settle();
    assert!(matches!(answer.recv().unwrap(), Err(LaneError::Damaged(_))));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_an_error_that_names_it() {
    let storage = killed(3, 3);
    let path = PathBuf::from("/data/log-checkpoint");
    assert!(storage.flip_bit(&path, 8 * 25));
    let Err(OpenError::Unreadable { path: named, .. }) = Rig::try_new(&storage).map(|_| ()) else {
        unreachable!("a damaged checkpoint was taken for a whole one")
    };
    assert_eq!(named, path);
    storage.remove_file(&path).unwrap();
    let mut rig = Rig::new(&storage);
    assert_eq!(rig.open(&small()).0.report.log_end, Offset(3));
}

#[test]
fn without_a_checkpoint_everything_is_checked_and_indexed_anew() {
    let storage = killed(40, 40);
    storage
        .remove_file("/data/log-checkpoint".as_ref())
        .unwrap();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    assert_eq!(
        opened.report.scanned_bytes,
        opened.handle.reader().size_bytes()
    );
    assert_eq!(opened.report.indexes_rebuilt as usize, logs(&storage).len());
    assert_eq!(read_all(opened.handle.reader(), 1).len(), 40);
}

#[test]
fn producers_and_epochs_come_back_with_and_without_a_snapshot() {
    // Without is without segments that are rolled, too.
    for (snapshot_interval_bytes, segment_bytes) in
        [(200, small().segment_bytes), (u64::MAX, 1 << 20)]
    {
        let config = LogConfig {
            snapshot_interval_bytes,
            segment_bytes,
            ..small()
        };
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        for epoch in [1, 1, 4, 6] {
            for producer in 0..10 {
                send(
                    &opened.handle,
                    &batch_of(producer, epoch as i16, 0, 2),
                    LeaderEpoch(epoch),
                );
            }
            rig.settle();
        }
        let storage = storage.power_cut(Unsynced::Mixed(1));
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        let reader = opened.handle.reader();
        assert_eq!(
            reader.epoch_end(LeaderEpoch(1)).unwrap().end_offset,
            Offset(20)
        );
        assert_eq!(
            reader.epoch_end(LeaderEpoch(4)).unwrap().end_offset,
            Offset(40)
        );
        let retry = send(&opened.handle, &batch_of(9, 6, 0, 2), LeaderEpoch(6));
        let fenced = send(&opened.handle, &batch_of(9, 5, 2, 2), LeaderEpoch(6));
        rig.settle();
        assert!(retry.lock().unwrap().take().unwrap().unwrap().duplicate);
        assert!(matches!(
            fenced.lock().unwrap().take(),
            Some(Err(AppendError::Sequence(_)))
        ));
    }
}

/// A process that is killed writes no snapshot, and its last one may lie in what retention has taken since.
#[test]
fn producers_whose_batches_are_gone_are_known_after_a_kill() {
    let config = LogConfig {
        retention_bytes: Some(300),
        ..small()
    };
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config);
    rig.append(&opened.handle, &batch_of(5, 0, 0, 2)).unwrap();
    fill(&mut rig, &opened.handle, 20);
    opened.handle.retain(opened.handle.reader().log_end());
    rig.settle();
    assert!(opened.handle.reader().log_start() > Offset(2));
    let storage = storage.power_cut(Unsynced::Kept);
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config);
    let retry = rig.append(&opened.handle, &batch_of(5, 0, 0, 2)).unwrap();
    assert!(retry.duplicate);
    assert!(
        !rig.append(&opened.handle, &batch_of(5, 0, 2, 2))
            .unwrap()
            .duplicate
    );
}

#[test]
fn a_snapshot_beyond_the_recovered_end_is_dropped() {
    let config = LogConfig {
        durability: Durability::Os,
        snapshot_interval_bytes: 1,
        ..small()
    };
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config);
    fill(&mut rig, &opened.handle, 3);
    let storage = storage.process_killed();
    let log = logs(&storage).pop().unwrap();
    storage
        .open(&log, OpenMode::Write)
        .unwrap()
        .set_len(batch_of(1, 0, 0, 1).len() as u64)
        .unwrap();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&config);
    assert_eq!(opened.report.log_end, Offset(1));
    let again = rig.append(&opened.handle, &batch_of(1, 0, 1, 1)).unwrap();
    assert!(!again.duplicate, "what was cut was not seen");
}

#[test]
fn what_recovery_shows_is_on_disk() {
    for durability in [Durability::Fsync, Durability::Replicated, Durability::Os] {
        let config = LogConfig {
            durability,
            ..small()
        };
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        fill(&mut rig, &opened.handle, 20);
        let storage = storage.process_killed();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&config);
        let shown = opened.handle.reader().log_end();
        let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
        assert_eq!(rig.open(&config).0.report.log_end, shown, "{durability:?}");
    }
}

#[test]
fn offsets_of_deleted_records_are_not_used_again_after_a_power_cut_took_them() {
    let config = LogConfig {
        durability: Durability::Os,
        ..small()
    };
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    rig.append(&opened.handle, &batch(1)).unwrap();
    opened.handle.update_config(config.clone());
    // Too few for a second segment, so that none of these is ever synced.
    fill(&mut rig, &opened.handle, 3);
    rig.delete_records(&opened.handle, 3);
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&config);
    assert_eq!(opened.report.damage, None);
    assert_eq!(
        (opened.report.log_start, opened.report.log_end),
        (Offset(3), Offset(3))
    );
    assert_eq!(
        rig.append(&opened.handle, &batch(1)).unwrap().base_offset,
        Offset(3)
    );
}

#[test]
fn a_truncation_below_the_logs_start_moves_the_start() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small());
    rig.append(&opened.handle, &batch(3)).unwrap();
    rig.append(&opened.handle, &batch(5)).unwrap();
    rig.delete_records(&opened.handle, 6);
    assert_eq!(rig.truncate(&opened.handle, 7), Offset(3));
    assert_eq!(opened.handle.reader().log_start(), Offset(3));
    rig.append(&opened.handle, &batch(9)).unwrap();
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let report = rig.open(&small()).0.report;
    assert_eq!(
        (report.log_start, report.log_end, report.damage),
        (Offset(3), Offset(12), None)
    );
}
