//! Offsets that are committed in transactions.

use weir_wire::{PartitionIndex, ProducerEpoch, ProducerId};

use super::{GROUP, Shard, commit, fetch};
use crate::machine::{Marker, Outcome, Producer};
use crate::request::{InTransaction, Response};
use crate::transactions::Version;
use crate::transactions::Version::{V0, V2};
use crate::{GroupError, Request};

pub(super) fn producer(id: i64, epoch: i16) -> Producer {
    Producer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    }
}

impl Shard {
    pub(super) fn commit_in(
        &mut self,
        producer: Producer,
        version: Version,
        markers_seen: u64,
        offset: i64,
    ) -> Result<(), GroupError> {
        let transaction = InTransaction {
            producer,
            version,
            markers_seen,
        };
        let request = Request::CommitInTransaction(commit("orders", offset), transaction);
        let call = self.ask(request);
        match self.replies.remove(&call).unwrap() {
            Response::Commit(topics) => topics[0].partitions[0].1,
            other => panic!("{other:?}"),
        }
    }

    fn markers_seen(&mut self) -> u64 {
        let call = self.ask(Request::MarkersSeen);
        match self.replies.remove(&call).unwrap() {
            Response::MarkersSeen(seen) => seen,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn mark(
        &mut self,
        producer: Producer,
        version: Version,
        outcome: Outcome,
        coordinator_epoch: i32,
    ) -> Result<(), GroupError> {
        let marker = Marker {
            producer,
            outcome,
            coordinator_epoch,
        };
        let call = self.ask(Request::EndTransaction(marker, version));
        match self.replies.remove(&call).unwrap() {
            Response::EndTransaction(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// The group's offset, and whether it is stable.
    pub(super) fn standing(&mut self) -> (Option<i64>, bool) {
        let call = self.ask(Request::Fetch(fetch("orders")));
        match self.replies.remove(&call).unwrap() {
            Response::Fetch(Ok(topics)) => (
                topics[0].partitions[0].1.as_ref().map(|at| at.offset.0),
                !topics[0].unstable.contains(&PartitionIndex(0)),
            ),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_offset_holds_once_its_transaction_is_committed() {
    for (outcome, expected) in [(Outcome::Commit, Some(7)), (Outcome::Abort, Some(3))] {
        for reloads in [false, true] {
            let mut shard = Shard::new();
            shard.commit(commit("orders", 3)).unwrap();
            shard.commit_in(producer(1, 4), V2, 0, 7).unwrap();
            assert_eq!(shard.standing(), (Some(3), false));
            if reloads {
                shard.crash();
                assert_eq!(shard.standing(), (Some(3), false));
            }
            shard.mark(producer(1, 5), V2, outcome, 0).unwrap();
            assert_eq!(shard.standing(), (expected, true));
            shard.crash();
            assert_eq!(shard.standing(), (expected, true));
        }
    }
}

#[test]
fn a_group_that_has_only_pending_offsets_stays_until_they_are_decided() {
    let mut shard = Shard::new();
    shard.commit_in(producer(1, 4), V2, 0, 7).unwrap();
    shard.advance(8 * 24 * 60 * 60 * 1_000);
    assert_eq!(shard.standing(), (None, false));
    shard.mark(producer(1, 5), V2, Outcome::Abort, 0).unwrap();
    assert!(!shard.coordinator.groups_for_tests().contains_key(GROUP));
}

#[test]
fn the_later_commit_wins_whenever_its_transaction_ends() {
    let (first, second) = (producer(1, 0), producer(2, 0));
    let mut shard = Shard::new();
    shard.commit_in(first, V0, 0, 7).unwrap();
    shard.commit_in(second, V0, 0, 9).unwrap();
    shard.mark(second, V0, Outcome::Commit, 0).unwrap();
    assert_eq!(shard.standing(), (Some(9), false));
    shard.mark(first, V0, Outcome::Commit, 0).unwrap();
    assert_eq!(shard.standing(), (Some(9), true));
    // One outside of transactions, too.
    let seen = shard.markers_seen();
    shard.commit_in(first, V0, seen, 11).unwrap();
    shard.commit(commit("orders", 12)).unwrap();
    shard.mark(first, V0, Outcome::Commit, 0).unwrap();
    assert_eq!(shard.standing(), (Some(12), true));
    shard.crash();
    assert_eq!(shard.standing(), (Some(12), true));
}

#[test]
fn a_deletion_takes_what_is_pending_with_it() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 3)).unwrap();
    shard.commit_in(producer(1, 0), V0, 0, 7).unwrap();
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    let deleted = shard.replies.remove(&call);
    assert_eq!(deleted, Some(Response::DeleteGroup(Ok(()))));
    shard.crash();
    shard.mark(producer(1, 0), V0, Outcome::Commit, 0).unwrap();
    assert_eq!(shard.standing(), (None, true));
}

#[test]
fn a_commit_that_comes_after_its_transactions_end_is_refused() {
    // In version 2 the epoch tells.
    let mut shard = Shard::new();
    shard.mark(producer(1, 5), V2, Outcome::Abort, 0).unwrap();
    let late = shard.commit_in(producer(1, 4), V2, 9, 7);
    assert_eq!(late, Err(GroupError::InvalidProducerEpoch));
    assert_eq!(shard.commit_in(producer(1, 5), V2, 0, 7), Ok(()));
    // In version 0 the number of markers since it was verified.
    let mut shard = Shard::new();
    let seen = shard.markers_seen();
    shard.mark(producer(1, 4), V0, Outcome::Abort, 0).unwrap();
    let late = shard.commit_in(producer(1, 4), V0, seen, 7);
    assert_eq!(late, Err(GroupError::InvalidTransactionState));
    shard.crash();
    let late = shard.commit_in(producer(1, 4), V0, seen, 7);
    assert_eq!(late, Err(GroupError::InvalidTransactionState));
    let seen = shard.markers_seen();
    assert_eq!(shard.commit_in(producer(1, 4), V0, seen, 7), Ok(()));
}

#[test]
fn late_markers_and_those_of_replaced_coordinators_are_refused() {
    let mut shard = Shard::new();
    shard.commit_in(producer(1, 4), V2, 0, 7).unwrap();
    shard.mark(producer(1, 5), V2, Outcome::Commit, 3).unwrap();
    // The same again, as a coordinator does that was loaded anew.
    shard.mark(producer(1, 5), V2, Outcome::Commit, 4).unwrap();
    assert_eq!(shard.standing(), (Some(7), true));
    let old = shard.mark(producer(1, 5), V2, Outcome::Abort, 3);
    assert_eq!(old, Err(GroupError::TransactionCoordinatorFenced));
    let late = shard.mark(producer(1, 4), V2, Outcome::Abort, 4);
    assert_eq!(late, Err(GroupError::InvalidProducerEpoch));
    // By now the next transaction is open.
    shard.commit_in(producer(1, 5), V2, 0, 8).unwrap();
    let late = shard.mark(producer(1, 5), V2, Outcome::Commit, 4);
    assert_eq!(late, Err(GroupError::InvalidProducerEpoch));
    shard.crash();
    let late = shard.mark(producer(1, 5), V2, Outcome::Commit, 4);
    assert_eq!(late, Err(GroupError::InvalidProducerEpoch));
    assert_eq!(shard.standing(), (Some(7), false));
}
