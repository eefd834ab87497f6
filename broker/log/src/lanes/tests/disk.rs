//! A disk that dies where nobody waits for it ends the process all the same; one that is only full does not.

use super::*;
use crate::testing::replicas::{placed, placed_all};

/// A snapshot is due after each batch.
fn with_snapshots() -> LogConfig {
    LogConfig {
        snapshot_interval_bytes: 1,
        ..small_segments()
    }
}

fn fatals(rig: &Rig) -> Vec<String> {
    let fatals = rig.fatals.lock().unwrap();
    fatals.iter().map(|fatal| fatal.doing.to_owned()).collect()
}

#[test]
fn a_snapshot_that_the_disk_does_not_take_is_fatal() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&with_snapshots());
    storage.fail_next(Operation::Write, ".snapshot", 1);
    // The batch itself is on disk, and was acknowledged before anyone knew.
    rig.append(&opened.handle, &batch_of(1, 0, 0, 1)).unwrap();
    assert_eq!(fatals(&rig), ["writing"]);
    assert_eq!(
        rig.append(&opened.handle, &batch(1)),
        Err(AppendError::Stopped)
    );
}

#[test]
fn a_snapshot_that_does_not_fit_the_disk_is_no_more_than_a_slower_start() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&with_snapshots());
    let one = batch_of(1, 0, 0, 1);
    storage.fill_up_after(one.len() as u64 + 10);
    rig.append(&opened.handle, &one).unwrap();
    assert!(fatals(&rig).is_empty());
    storage.set_capacity(1 << 30);
    rig.append(&opened.handle, &batch_of(1, 0, 1, 1)).unwrap();
}

#[test]
fn a_checkpoint_that_the_disk_does_not_take_is_fatal() {
    for (operation, doing) in [
        (Operation::Write, "writing"),
        (Operation::SetLen, "cutting"),
        (Operation::Rename, "renaming"),
        (Operation::Sync, "syncing"),
        (Operation::SyncDir, "syncing"),
    ] {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&LogConfig::default());
        rig.append(&opened.handle, &batch(1)).unwrap();
        let part = if operation == Operation::SyncDir {
            "data"
        } else {
            "log-checkpoint"
        };
        storage.fail_next(operation, part, 1);
        rig.lanes.write_checkpoints();
        assert_eq!(fatals(&rig), [doing], "{operation:?}");
    }
}

#[test]
fn a_checkpoint_that_does_not_fit_the_disk_is_written_later() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    rig.append(&opened.handle, &batch(1)).unwrap();
    storage.fill_up_after(3);
    rig.lanes.write_checkpoints();
    assert!(fatals(&rig).is_empty());
    storage.set_capacity(1 << 30);
    rig.append(&opened.handle, &batch(1)).unwrap();
}

#[test]
fn retention_that_the_disk_does_not_let_happen_is_fatal() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = LogConfig {
        retention_bytes: Some(300),
        ..small_segments()
    };
    let (opened, _) = rig.open(&config);
    let batches: Vec<_> = (0..20).map(|_| batch(1)).collect();
    rig.replicate(&opened.handle, placed_all(&batches, 0, 1))
        .unwrap();
    storage.fail_next(Operation::Write, "log-start", 1);
    opened.handle.retain(Offset(20));
    rig.settle();
    assert_eq!(fatals(&rig), ["writing"]);
}

/// Indexes are derived and never believed: one that cannot be written costs speed.
#[test]
fn an_index_that_the_disk_does_not_take_costs_speed_and_nothing_else() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = LogConfig {
        index_interval_bytes: 1,
        ..small_segments()
    };
    let (opened, _) = rig.open(&config);
    storage.fail_next(Operation::Write, ".index", 5);
    let batches: Vec<_> = (0..20).map(|_| batch(1)).collect();
    rig.replicate(&opened.handle, placed_all(&batches, 0, 1))
        .unwrap();
    rig.replicate(&opened.handle, placed(&batch(1), 20, 1))
        .unwrap();
    assert!(fatals(&rig).is_empty());
    assert_eq!(read_all(opened.handle.reader(), 100).len(), 21);
}

/// A reset that a dying disk does not take leaves nobody knows what.
#[test]
fn a_log_that_cannot_be_thrown_away_as_a_whole_is_fatal() {
    for (operation, part) in [
        (Operation::Write, "log-checkpoint"),
        (Operation::SyncDir, "-0"),
        (Operation::Write, "log-start"),
        (Operation::Rename, "log-start"),
    ] {
        let storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let (opened, _) = rig.open(&small_segments());
        rig.replicate(&opened.handle, placed(&batch(3), 0, 1))
            .unwrap();
        storage.fail_next(operation, part, 1);
        assert!(matches!(
            rig.reset(&opened.handle, 0),
            Err(crate::LaneError::Stopped)
        ));
        assert_eq!(fatals(&rig).len(), 1, "{operation:?} {part}");
    }
}

#[test]
fn a_log_that_a_full_disk_does_not_let_go_of_stays_as_it_was() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&small_segments());
    rig.replicate(&opened.handle, placed(&batch(3), 0, 1))
        .unwrap();
    storage.fill_up_after(5);
    assert!(matches!(
        rig.reset(&opened.handle, 9),
        Err(crate::LaneError::Io { .. })
    ));
    assert_eq!(opened.handle.reader().log_end(), Offset(3));
    assert!(fatals(&rig).is_empty());
    storage.set_capacity(1 << 30);
    assert_eq!(rig.reset(&opened.handle, 9).unwrap(), Offset(9));
}
