//! A queue's bound, asked by the lane.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use weir_wire::{LeaderEpoch, Offset};

use crate::storage_sim::SimStorage;
use crate::testing::{Rig, batch, batch_of, send};
use crate::{Admission, AppendError, LogConfig, NotAdmitted, Offered, SequenceError};

/// Room for so many records in the whole log.
#[derive(Debug, Default)]
struct Room {
    records: AtomicU64,
    is_for_now: bool,
}

impl Admission for Room {
    fn admit(&self, offered: Offered) -> Result<(), NotAdmitted> {
        let end = u64::try_from(offered.end.0).unwrap() + offered.records;
        if end <= self.records.load(Ordering::SeqCst) {
            return Ok(());
        }
        let why = format!("{end} are too many");
        Err(match self.is_for_now {
            true => NotAdmitted::ForNow(why),
            false => NotAdmitted::ForGood(why),
        })
    }
}

fn room(records: u64, is_for_now: bool) -> Arc<Room> {
    Arc::new(Room {
        records: AtomicU64::new(records),
        is_for_now,
    })
}

fn refused(outcome: &Result<crate::Appended, AppendError>) -> bool {
    matches!(outcome, Err(AppendError::Full(_)))
}

#[test]
fn what_is_pipelined_behind_a_refused_batch_is_taken_in_order() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    handle.set_admission(Some(room(6, false)));
    // All of one turn: five fit, three do not, one does.
    let first = rig.send(&handle, &batch_of(7, 0, 0, 5));
    let too_many = rig.send(&handle, &batch_of(7, 0, 5, 3));
    let last = rig.send(&handle, &batch_of(7, 0, 8, 1));
    let none = rig.send(&handle, &batch_of(7, 0, 9, 1));
    rig.settle();
    let told = |outcome: crate::testing::Outcome<_>| outcome.lock().unwrap().take().unwrap();
    assert_eq!(told(first).unwrap().base_offset, Offset(0));
    assert!(refused(&told(too_many)));
    assert_eq!(told(last).unwrap().base_offset, Offset(5));
    assert!(refused(&told(none)));
    // The producer has not heard of it, and sends them again, oldest first.
    assert!(
        rig.append(&handle, &batch_of(7, 0, 0, 5))
            .unwrap()
            .duplicate
    );
    assert!(refused(&rig.append(&handle, &batch_of(7, 0, 5, 3))));
    assert!(
        rig.append(&handle, &batch_of(7, 0, 8, 1))
            .unwrap()
            .duplicate
    );
    // A real gap is one still.
    let gap = rig.append(&handle, &batch_of(7, 0, 12, 1));
    assert!(matches!(
        gap,
        Err(AppendError::Sequence(SequenceError::OutOfOrder {
            expected: 9,
            ..
        }))
    ));
}

#[test]
fn a_batch_that_is_in_the_log_is_never_sold_out() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    handle.set_admission(Some(room(5, false)));
    rig.append(&handle, &batch_of(7, 0, 0, 5)).unwrap();
    assert!(
        rig.append(&handle, &batch_of(7, 0, 0, 5))
            .unwrap()
            .duplicate
    );
    assert!(refused(&rig.append(&handle, &batch(1))));
}

#[test]
fn a_refused_batch_that_comes_again_before_any_other_is_judged_anew() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    let few = room(0, false);
    handle.set_admission(Some(Arc::clone(&few) as _));
    assert!(refused(&rig.append(&handle, &batch_of(7, 0, 0, 2))));
    few.records.store(9, Ordering::SeqCst);
    assert_eq!(
        rig.append(&handle, &batch_of(7, 0, 0, 2))
            .unwrap()
            .base_offset,
        Offset(0)
    );
    let next = rig.append(&handle, &batch_of(7, 0, 2, 1)).unwrap();
    assert_eq!(next.base_offset, Offset(2));
}

#[test]
fn behind_a_batch_that_is_refused_for_the_moment_nothing_is_passed_over() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    handle.set_admission(Some(room(1, true)));
    rig.append(&handle, &batch_of(7, 0, 0, 1)).unwrap();
    let outcome = rig.append(&handle, &batch_of(7, 0, 1, 3));
    assert!(matches!(outcome, Err(AppendError::FullForNow(_))));
    handle.set_admission(Some(room(9, true)));
    let gap = rig.append(&handle, &batch_of(7, 0, 4, 1));
    assert!(matches!(gap, Err(AppendError::Sequence(_))));
    rig.append(&handle, &batch_of(7, 0, 1, 3)).unwrap();
}

#[test]
fn a_later_leader_knows_of_no_refusals() {
    let mut rig = Rig::new(&SimStorage::new());
    let (opened, _) = rig.open(&LogConfig::default());
    let handle = opened.handle;
    handle.set_admission(Some(room(5, false)));
    rig.append(&handle, &batch_of(7, 0, 0, 1)).unwrap();
    assert!(refused(&rig.append(&handle, &batch_of(7, 0, 1, 9))));
    let later = send(&handle, &batch_of(8, 0, 0, 1), LeaderEpoch(2));
    rig.settle();
    later.lock().unwrap().take().unwrap().unwrap();
    let behind = send(&handle, &batch_of(7, 0, 10, 1), LeaderEpoch(2));
    rig.settle();
    let outcome = behind.lock().unwrap().take().unwrap();
    assert!(matches!(outcome, Err(AppendError::Sequence(_))));
}
