//! Rolling, retention and deletion of records.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use weir_wire::Offset;

use crate::storage::Storage;
use crate::storage_sim::{Operation, SimStorage, Unsynced};
use crate::testing::{Rig, batch, batch_at, read_all};
use crate::{LogConfig, PartitionHandle};

const DAY_MS: i64 = 24 * 3_600_000;

/// Two batches of one record fit a segment.
fn pairs() -> LogConfig {
    let len = batch_at(&[1], 20).len() as u64;
    LogConfig {
        segment_bytes: 2 * len,
        retention_ms: None,
        ..LogConfig::default()
    }
}

#[test]
fn an_escorted_batch_and_its_escort_are_there_together_once() {
    use weir_wire::batch::{Attributes, BatchBuilder, NewRecord};

    use crate::testing::transactions::send_as;
    use crate::testing::{EPOCH, batch_of};
    use crate::{AppendError, Origin, SequenceError};

    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    let mut append = |bytes: &[&[u8]]| {
        let bytes = bytes.concat().into();
        let outcome = send_as(&handle, &bytes, Origin::Escorted, None, EPOCH);
        rig.settle();
        outcome.lock().unwrap().take().unwrap()
    };
    let control = Attributes::default().with_control(true);
    let mut escort = BatchBuilder::new().attributes(control);
    for _ in 0..2 {
        let record = NewRecord {
            key: Some(b"\0\0\x09\x09"),
            ..NewRecord::default()
        };
        escort.push(&record).unwrap();
    }
    let escort = escort.build();
    let first = append(&[&escort, &batch_of(7, 0, 0, 3)]).unwrap();
    assert_eq!(
        (first.base_offset, first.last_offset),
        (Offset(2), Offset(4))
    );
    let again = append(&[&escort, &batch_of(7, 0, 0, 3)]).unwrap();
    assert!(again.duplicate);
    assert_eq!(again.base_offset, Offset(2));
    let gap = append(&[&escort, &batch_of(7, 0, 9, 1)]);
    assert!(matches!(
        gap,
        Err(AppendError::Sequence(SequenceError::OutOfOrder { .. }))
    ));
    let (one, other) = (batch_of(7, 0, 3, 1), batch_of(7, 0, 4, 1));
    for bad in [&[&*escort][..], &[&*one, &*other]] {
        let refused = append(bad);
        assert!(matches!(refused, Err(AppendError::Malformed(_))));
    }
    let next = append(&[&escort, &batch_of(7, 0, 3, 1)]).unwrap();
    assert_eq!(next.base_offset, Offset(7));
    let found = read_all(handle.reader(), usize::MAX).into_iter();
    let bases: Vec<i64> = found.map(|(base, ..)| base.0).collect();
    assert_eq!(bases, [0, 2, 5, 7]);
}

fn segments(handle: &PartitionHandle) -> Vec<i64> {
    handle
        .reader()
        .shared()
        .segments()
        .iter()
        .map(|segment| segment.base.0)
        .collect()
}

fn files(rig: &Rig, suffix: &str) -> Vec<String> {
    let names = rig.storage.list(&rig.partition_path(0)).unwrap();
    names
        .into_iter()
        .filter(|name| name.ends_with(suffix))
        .collect()
}

/// One record a day; returns the rig at the last of these days.
fn a_week(
    storage: &SimStorage,
    config: &LogConfig,
) -> (
    Rig,
    PartitionHandle,
    std::sync::Arc<crate::testing::Recorder>,
) {
    let mut rig = Rig::new(storage);
    let (opened, recorder) = rig.open(config);
    for day in 0..7 {
        rig.append(&opened.handle, &batch_at(&[1_000_000 + day * DAY_MS], 20))
            .unwrap();
        rig.clock.advance(DAY_MS);
    }
    (rig, opened.handle, recorder)
}

#[test]
fn segments_are_closed_by_size() {
    let (_rig, handle, _) = a_week(&SimStorage::new(), &pairs());
    assert_eq!(segments(&handle), [0, 2, 4, 6]);
}

#[test]
fn a_batch_larger_than_a_segment_gets_one_of_its_own() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&pairs());
    for len in [20, 5_000, 20] {
        rig.append(&opened.handle, &batch_at(&[1], len)).unwrap();
    }
    assert_eq!(segments(&opened.handle), [0, 1, 2]);
}

#[test]
fn segments_are_closed_by_age() {
    let config = LogConfig {
        segment_ms: 2 * DAY_MS,
        retention_ms: None,
        ..LogConfig::default()
    };
    let (_rig, handle, _) = a_week(&SimStorage::new(), &config);
    assert_eq!(segments(&handle), [0, 2, 4, 6]);
}

#[test]
fn one_turn_may_fill_several_segments() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, recorder) = rig.open(&pairs());
    for _ in 0..7 {
        rig.send(&opened.handle, &batch_at(&[1], 20));
    }
    rig.settle();
    assert_eq!(segments(&opened.handle), [0, 2, 4, 6]);
    assert_eq!(recorder.durable_end(), Offset(7));
    assert_eq!(read_all(opened.handle.reader(), 1 << 20).len(), 7);
}

#[test]
fn old_segments_are_deleted_by_time() {
    let config = LogConfig {
        retention_ms: Some(4 * DAY_MS),
        ..pairs()
    };
    let (mut rig, handle, recorder) = a_week(&SimStorage::new(), &config);
    handle.retain(Offset(7));
    rig.settle();
    // Of the day before the limit: days 0 to 2 have expired, and a segment goes as a whole.
    assert_eq!(segments(&handle), [2, 4, 6]);
    assert_eq!(recorder.log_starts(), [Offset(2)]);
    assert_eq!(files(&rig, ".log").len(), 3);
    assert!(files(&rig, ".deleted").is_empty());
}

#[test]
fn nothing_above_the_high_watermark_is_deleted() {
    let config = LogConfig {
        retention_ms: Some(1),
        ..pairs()
    };
    let (mut rig, handle, _) = a_week(&SimStorage::new(), &config);
    handle.retain(Offset(3));
    rig.settle();
    assert_eq!(segments(&handle), [2, 4, 6]);
}

#[test]
fn when_all_has_expired_the_log_is_empty_and_its_offsets_go_on() {
    let config = LogConfig {
        retention_ms: Some(1),
        ..pairs()
    };
    let storage = SimStorage::new();
    let (mut rig, handle, _) = a_week(&storage, &config);
    for _ in 0..2 {
        handle.retain(Offset(7));
        rig.settle();
    }
    assert_eq!(segments(&handle), [7]);
    assert_eq!(handle.reader().log_start(), Offset(7));
    assert_eq!(handle.reader().size_bytes(), 0);
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&config);
    assert_eq!(
        (opened.report.log_start, opened.report.log_end),
        (Offset(7), Offset(7))
    );
    assert_eq!(opened.report.damage, None);
    assert_eq!(
        rig.append(&opened.handle, &batch(1)).unwrap().base_offset,
        Offset(7)
    );
}

#[test]
fn old_segments_are_deleted_by_size() {
    let len = batch_at(&[1], 20).len() as u64;
    let config = LogConfig {
        retention_bytes: Some(3 * len),
        ..pairs()
    };
    let (mut rig, handle, _) = a_week(&SimStorage::new(), &config);
    handle.retain(Offset(7));
    rig.settle();
    assert_eq!(
        segments(&handle),
        [4, 6],
        "five records less two are at least three; three less two are not"
    );
}

#[test]
fn records_without_a_time_do_not_expire_where_the_disk_cannot_tell() {
    let config = LogConfig {
        retention_ms: Some(1),
        ..pairs()
    };
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&config);
    for _ in 0..5 {
        rig.append(&opened.handle, &batch_at(&[-1], 20)).unwrap();
    }
    rig.clock.advance(DAY_MS);
    opened.handle.retain(Offset(5));
    rig.settle();
    assert_eq!(segments(&opened.handle), [0, 2, 4]);
}

#[test]
fn records_without_a_time_are_as_old_as_their_file() {
    let config = LogConfig {
        retention_ms: Some(1),
        ..pairs()
    };
    let dir = tempfile::tempdir().unwrap();
    let storage = std::sync::Arc::new(crate::storage_os::OsStorage::new());
    let mut rig = Rig::over(storage, dir.path(), 0).unwrap();
    let (opened, _) = rig.open(&config);
    for _ in 0..5 {
        rig.append(&opened.handle, &batch_at(&[-1], 20)).unwrap();
    }
    opened.handle.retain(Offset(5));
    rig.settle();
    assert_eq!(segments(&opened.handle), [0, 2, 4], "the clock is at 1970");
    rig.clock.advance(i64::from(u32::MAX) * 1_000);
    opened.handle.retain(Offset(5));
    rig.settle();
    assert_eq!(segments(&opened.handle), [4]);
}

/// Losing data 7 once more: what an index says of time is not enough to delete by.
#[test]
fn a_segment_is_not_deleted_because_its_index_says_that_it_is_old() {
    let config = LogConfig {
        retention_ms: Some(20 * DAY_MS),
        index_interval_bytes: 1,
        ..pairs()
    };
    let storage = SimStorage::new();
    let (mut rig, handle, _) = a_week(&storage, &config);
    rig.close(&handle);
    for name in files(&rig, ".index") {
        let path = rig.partition_path(0).join(name);
        let file = storage
            .open(&path, crate::storage::OpenMode::Write)
            .unwrap();
        // All times at the beginning of time.
        for at in 0..file.len().unwrap() / 16 {
            file.write_all_vectored_at(&[std::io::IoSlice::new(&[0; 8])], at * 16 + 8)
                .unwrap();
        }
    }
    let (opened, _) = rig.open(&config);
    opened.handle.retain(Offset(7));
    rig.settle();
    assert_eq!(segments(&opened.handle), [0, 2, 4, 6]);
}

#[test]
fn segments_of_an_earlier_life_expire_too() {
    let config = LogConfig {
        retention_ms: Some(4 * DAY_MS),
        ..pairs()
    };
    let (mut rig, handle, _) = a_week(&SimStorage::new(), &config);
    rig.close(&handle);
    let (opened, _) = rig.open(&config);
    opened.handle.retain(Offset(7));
    rig.settle();
    assert_eq!(segments(&opened.handle), [2, 4, 6]);
}

#[test]
fn a_segment_whose_age_cannot_be_read_is_kept_and_asked_again_later() {
    let config = LogConfig {
        retention_ms: Some(4 * DAY_MS),
        ..pairs()
    };
    let storage = SimStorage::new();
    let (mut rig, handle, _) = a_week(&storage, &config);
    rig.close(&handle);
    let (opened, _) = rig.open(&config);
    storage.fail_next(Operation::Read, "00000000000000000000.log", 1);
    opened.handle.retain(Offset(7));
    rig.settle();
    assert_eq!(segments(&opened.handle), [0, 2, 4, 6]);
    opened.handle.retain(Offset(7));
    rig.settle();
    assert_eq!(segments(&opened.handle), [2, 4, 6]);
}

#[test]
fn deleted_records_stay_deleted_and_their_segments_go_with_retention() {
    let storage = SimStorage::new();
    let (mut rig, handle, recorder) = a_week(&storage, &pairs());
    assert_eq!(rig.delete_records(&handle, 5), Offset(5));
    assert_eq!(
        rig.delete_records(&handle, 3),
        Offset(5),
        "the start does not go back"
    );
    assert_eq!(recorder.log_starts(), [Offset(5)]);
    assert_eq!(segments(&handle), [0, 2, 4, 6]);
    handle.retain(Offset(7));
    rig.settle();
    assert_eq!(segments(&handle), [4, 6]);
    let mut rig = Rig::new(&storage.power_cut(Unsynced::Lost));
    let (opened, _) = rig.open(&pairs());
    assert_eq!(opened.report.log_start, Offset(5));
    assert_eq!(opened.report.damage, None);
}

#[test]
fn an_open_slice_outlives_the_segment_it_is_of() {
    let config = LogConfig {
        retention_ms: Some(1),
        ..pairs()
    };
    let (mut rig, handle, _) = a_week(&SimStorage::new(), &config);
    let slice = handle
        .reader()
        .slice(Offset(0), Offset(7), 1 << 20, true)
        .unwrap();
    handle.retain(Offset(7));
    rig.settle();
    let mut bytes = vec![0; slice.len as usize];
    assert_eq!(
        slice.file.read_at(&mut bytes, slice.position).unwrap(),
        slice.len as usize
    );
    assert_eq!(crate::testing::split(&bytes.into()).len(), 2);
}

#[test]
fn a_segment_that_cannot_be_made_refuses_the_append_and_nothing_more() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (opened, _) = rig.open(&pairs());
    for _ in 0..2 {
        rig.append(&opened.handle, &batch_at(&[1], 20)).unwrap();
    }
    storage.fail_next(Operation::SetLen, "00000000000000000002.log", 1);
    let refused = rig.append(&opened.handle, &batch_at(&[1], 20));
    assert!(matches!(refused, Err(crate::AppendError::Io { .. })));
    let next = rig.append(&opened.handle, &batch_at(&[1], 20)).unwrap();
    assert_eq!(next.base_offset, Offset(2));
    assert!(rig.fatals.lock().unwrap().is_empty());
}
