//! Offsets that are set from outside: once, and over nobody's head.

use std::collections::BTreeSet;

use proptest::prelude::*;
use weir_wire::{Offset, PartitionIndex};

use super::cluster::TestCluster;
use super::consumer::{beat, joining};
use super::transactional::producer;
use super::{GROUP, Shard, commit, join, topic_ref};
use crate::machine::Outcome;
use crate::request::{
    CommitRequest, GroupState, Once, ResetOutcome, ResetPartition, ResetRequest, ResetTo, Response,
};
use crate::transactions::Version::V2;
use crate::{Config, Epoch, Generation, GroupError, Request};

fn request(id: &str, to: ResetTo) -> ResetRequest {
    ResetRequest {
        group: GROUP.into(),
        once: Once::Named(id.to_owned()),
        dry_run: false,
        partitions: vec![ResetPartition {
            topic: topic_ref("orders"),
            partition: PartitionIndex(0),
            to,
        }],
    }
}

fn to(offset: i64) -> ResetTo {
    ResetTo::Offset(Offset(offset))
}

fn by(by: i64) -> ResetTo {
    let (start, end) = (Offset(10), Offset(100));
    ResetTo::Shift { by, start, end }
}

fn commit_as(member: &str, generation: i32, offset: i64) -> CommitRequest {
    CommitRequest {
        member: member.into(),
        generation: Generation(generation),
        ..commit("orders", offset)
    }
}

impl Shard {
    fn reset(&mut self, request: ResetRequest) -> Result<ResetOutcome, GroupError> {
        let call = self.ask(Request::Reset(request));
        match self.take(call) {
            Some(Response::Reset(outcome)) => outcome,
            other => panic!("a reset's answer wanted, {other:?} found"),
        }
    }

    fn at(&mut self) -> Option<i64> {
        self.committed("orders").map(|committed| committed.offset.0)
    }
}

/// Members that were fenced, and where the group was and is.
fn done(outcome: Result<ResetOutcome, GroupError>) -> (u32, Option<i64>, Option<i64>) {
    match outcome {
        Ok(ResetOutcome::Done {
            members, places, ..
        }) => (
            members,
            places[0].before.map(|offset| offset.0),
            places[0].after.map(|offset| offset.0),
        ),
        other => panic!("{other:?}"),
    }
}

fn was_before(outcome: &Result<ResetOutcome, GroupError>) -> bool {
    matches!(outcome, Ok(ResetOutcome::Before { .. }))
}

#[test]
fn members_of_a_classic_group_cannot_commit_over_a_reset() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    shard.commit(commit_as(&ids[0], generation, 70)).unwrap();
    assert_eq!(
        done(shard.reset(request("a", to(20)))),
        (2, Some(70), Some(20))
    );
    for id in &ids {
        assert_eq!(
            shard.commit(commit_as(id, generation, 71)),
            Err(GroupError::UnknownMember)
        );
        assert_eq!(
            shard.heartbeat(id, generation),
            Err(GroupError::UnknownMember)
        );
    }
    assert_eq!(shard.at(), Some(20));
    // They come back as new members, and go on from there.
    let call = shard.join(join("", "c0"));
    let joined = shard.joined(call).unwrap();
    let id = joined.member.to_string();
    shard.sync(&id, joined.generation.0, &[(&id, "all")]);
    assert_eq!(
        shard.commit(commit_as(&id, joined.generation.0, 21)),
        Ok(())
    );
    assert_eq!(shard.at(), Some(21));
}

#[test]
fn who_waits_to_join_is_told_to_come_again() {
    let mut shard = Shard::new();
    let (ids, _) = shard.stable(1);
    let newcomer = shard.join(join("", "c1"));
    assert_eq!(shard.take(newcomer), None, "it waits for the other one");
    shard.reset(request("a", to(20))).unwrap();
    assert_eq!(
        shard.joined(newcomer).unwrap_err().error,
        GroupError::UnknownMember
    );
    assert_eq!(shard.state(), GroupState::Empty);
    assert_eq!(shard.heartbeat(&ids[0], 1), Err(GroupError::UnknownMember));
}

#[test]
fn members_of_a_consumer_group_cannot_commit_over_a_reset() {
    let mut shard = Shard::new();
    shard.set_cluster(TestCluster::default().with("orders", 1));
    let joined = shard.consumer_beat(joining("a", &["orders"])).unwrap();
    shard.commit(commit_as("a", joined.epoch.0, 70)).unwrap();
    assert_eq!(
        done(shard.reset(request("a", to(20)))),
        (1, Some(70), Some(20))
    );
    assert_eq!(
        shard.commit(commit_as("a", joined.epoch.0, 71)),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        shard.consumer_beat(beat("a", joined.epoch, None)),
        Err(GroupError::UnknownMember)
    );
    shard.crash();
    assert_eq!(shard.at(), Some(20));
    let again = shard.consumer_beat(joining("a", &["orders"])).unwrap();
    assert!(again.epoch > joined.epoch, "epochs only grow");
    assert_eq!(again.assignment.unwrap().len(), 1);
}

#[test]
fn a_request_id_is_carried_out_once_also_by_the_next_coordinator() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 70)).unwrap();
    assert_eq!(
        done(shard.reset(request("a", by(-30)))),
        (0, Some(70), Some(40))
    );
    for _ in 0..2 {
        assert!(was_before(&shard.reset(request("a", by(-30)))));
        assert_eq!(shard.at(), Some(40));
        shard.crash();
    }
    // An earlier one comes again, as when a change is taken back.
    shard.reset(request("b", by(5))).unwrap();
    assert!(was_before(&shard.reset(request("a", by(-30)))));
    assert_eq!(shard.at(), Some(45));
}

#[test]
fn a_reset_that_was_not_durable_never_was() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    shard.commit(commit_as(&ids[0], generation, 70)).unwrap();
    let before = shard.log.len();
    shard.syncs = false;
    let call = shard.ask(Request::Reset(request("a", by(-30))));
    assert_eq!(
        shard.take(call),
        None,
        "nobody is told before it is durable"
    );
    // The members' end is durable, the offsets are not.
    shard.sync_to(before + 1);
    shard.crash();
    shard.syncs = true;
    assert_eq!(shard.at(), Some(70));
    shard.sync_all();
    assert_eq!(
        done(shard.reset(request("a", by(-30)))),
        (0, Some(70), Some(40))
    );
}

#[test]
fn a_transaction_that_was_open_does_not_undo_a_reset() {
    for reloads in [false, true] {
        let mut shard = Shard::new();
        shard.commit(commit("orders", 50)).unwrap();
        shard.commit_in(producer(1, 0), V2, 0, 70).unwrap();
        shard.reset(request("a", to(20))).unwrap();
        if reloads {
            shard.crash();
        }
        shard.mark(producer(1, 1), V2, Outcome::Commit, 0).unwrap();
        assert_eq!(shard.standing(), (Some(20), true));
    }
}

#[test]
fn a_dry_run_says_what_would_come_and_changes_nothing() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    shard.commit(commit_as(&ids[0], generation, 70)).unwrap();
    let length = shard.log.len();
    let dry = ResetRequest {
        dry_run: true,
        ..request("a", by(1_000))
    };
    assert_eq!(done(shard.reset(dry)), (1, Some(70), Some(100)));
    assert_eq!(shard.log.len(), length);
    assert_eq!(shard.heartbeat(&ids[0], generation), Ok(()));
    assert_eq!(
        done(shard.reset(request("a", by(-1_000)))),
        (1, Some(70), Some(10)),
        "within the partition"
    );
}

#[test]
fn a_group_begins_where_it_is_put_before_it_has_members() {
    let mut shard = Shard::new();
    assert_eq!(
        done(shard.reset(request("a", by(5)))),
        (0, None, None),
        "there is nothing to go from"
    );
    assert_eq!(done(shard.reset(request("b", to(20)))), (0, None, Some(20)));
    assert_eq!(shard.at(), Some(20));
    shard.crash();
    assert_eq!(shard.at(), Some(20));
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    assert_eq!(shard.take(call), Some(Response::DeleteGroup(Ok(()))));
    shard.crash();
    assert!(!shard.coordinator.groups_for_tests().contains_key(GROUP));
    assert_eq!(
        done(shard.reset(request("b", to(30)))),
        (0, None, Some(30)),
        "it is another group"
    );
}

fn begin(topic: &str, offset: i64) -> ResetRequest {
    ResetRequest {
        once: Once::WhereNew,
        partitions: vec![ResetPartition {
            topic: topic_ref(topic),
            partition: PartitionIndex(0),
            to: to(offset),
        }],
        ..request("", to(offset))
    }
}

#[test]
fn where_a_group_begins_is_set_while_it_is_new_and_never_again() {
    let mut shard = Shard::new();
    assert_eq!(done(shard.reset(begin("orders", 20))), (0, None, Some(20)));
    assert_eq!(
        done(shard.reset(begin("orders", 30))),
        (0, Some(20), None),
        "it has begun"
    );
    shard.crash();
    assert_eq!(done(shard.reset(begin("orders", 30))), (0, Some(20), None));
    assert_eq!(
        done(shard.reset(begin("audit", 7))),
        (0, None, Some(7)),
        "another topic"
    );
    assert_eq!(
        done(shard.reset(request("a", to(25)))),
        (0, Some(20), Some(25))
    );
    assert_eq!(shard.at(), Some(25));
}

#[test]
fn a_topic_with_the_offset_of_one_partition_is_left_whole() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 70)).unwrap();
    let mut grown = begin("orders", 0);
    grown.partitions[0].partition = PartitionIndex(1);
    assert_eq!(done(shard.reset(grown)), (0, None, None));
    assert_eq!(shard.at(), Some(70));
}

#[test]
fn what_an_open_transaction_would_commit_is_not_new() {
    let mut shard = Shard::new();
    shard.commit_in(producer(1, 0), V2, 0, 70).unwrap();
    assert_eq!(done(shard.reset(begin("orders", 20))), (0, None, None));
    shard.mark(producer(1, 1), V2, Outcome::Commit, 0).unwrap();
    assert_eq!(shard.at(), Some(70));
}

#[test]
fn a_group_with_members_begins_where_they_say() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    let length = shard.log.len();
    assert_eq!(
        shard.reset(begin("orders", 20)),
        Err(GroupError::NonEmptyGroup)
    );
    assert_eq!(shard.log.len(), length);
    assert_eq!(shard.heartbeat(&ids[0], generation), Ok(()));
    assert_eq!(shard.at(), None);
}

#[test]
fn a_dry_run_makes_no_group() {
    let mut shard = Shard::new();
    let dry = ResetRequest {
        dry_run: true,
        ..request("a", to(20))
    };
    assert_eq!(done(shard.reset(dry)), (0, None, Some(20)));
    assert!(shard.coordinator.groups_for_tests().is_empty());
    assert!(shard.log.is_empty());
}

#[test]
fn what_is_too_much_is_refused_and_fences_nobody() {
    let mut shard = Shard::with(Config {
        initial_rebalance_delay_ms: 0,
        record_bytes_max: 2_000,
        ..Config::default()
    });
    let (ids, generation) = shard.stable(1);
    let many = (0..100).map(|partition| ResetPartition {
        topic: topic_ref("orders"),
        partition: PartitionIndex(partition),
        to: to(1),
    });
    let large = ResetRequest {
        partitions: many.collect(),
        ..request("a", to(1))
    };
    assert_eq!(shard.reset(large), Err(GroupError::CommitTooLarge));
    for id in ["", &"x".repeat(129)] {
        assert_eq!(
            shard.reset(request(id, to(1))),
            Err(GroupError::InvalidRequest)
        );
    }
    assert_eq!(shard.heartbeat(&ids[0], generation), Ok(()));
    assert_eq!(shard.at(), None);
}

#[test]
fn requests_that_are_remembered_are_bounded_and_the_newest_are() {
    let mut shard = Shard::new();
    for number in 0..40 {
        shard
            .reset(request(&number.to_string(), to(number)))
            .unwrap();
    }
    shard.crash();
    for number in 24..40 {
        assert!(was_before(
            &shard.reset(request(&number.to_string(), to(0)))
        ));
    }
    assert!(!was_before(&shard.reset(request("23", to(0)))));
}

#[derive(Clone, Debug)]
enum Step {
    Commit(i64),
    Reset { id: u8, by: i64 },
    DryRun { id: u8, by: i64 },
    Begin(i64),
    Rejoin,
    Leave,
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (10_i64..100).prop_map(Step::Commit),
        3 => (0_u8..8, -40_i64..40).prop_map(|(id, by)| Step::Reset { id, by }),
        1 => (0_u8..8, -40_i64..40).prop_map(|(id, by)| Step::DryRun { id, by }),
        2 => (10_i64..100).prop_map(Step::Begin),
        2 => Just(Step::Rejoin),
        1 => Just(Step::Leave),
        2 => Just(Step::Crash),
    ]
}

proptest! {
    /// Against a number and a set of ids: each id moves the number once, a beginning only where there is none, whoever else commits and whoever coordinates.
    #[test]
    fn each_request_moves_the_group_once(steps in prop::collection::vec(step(), 1..60)) {
        let mut shard = Shard::new();
        shard.set_cluster(TestCluster::default().with("orders", 1));
        let (mut number, mut seen) = (None::<i64>, BTreeSet::new());
        let mut member: Option<Epoch> = None;
        for step in steps {
            match step {
                Step::Commit(offset) => {
                    let outcome = match member {
                        Some(epoch) => shard.commit(commit_as("m", epoch.0, offset)),
                        // One that was fenced, and does not know it yet.
                        None => shard.commit(commit_as("m", 1, offset)),
                    };
                    prop_assert_eq!(outcome.is_ok(), member.is_some());
                    number = if member.is_some() { Some(offset) } else { number };
                }
                Step::Reset { id, by: shift } => {
                    let outcome = shard.reset(request(&id.to_string(), by(shift)));
                    if !seen.insert(id) {
                        prop_assert!(was_before(&outcome));
                    } else {
                        let after = number.map(|at| (at + shift).clamp(10, 100));
                        let fenced = u32::from(member.is_some());
                        prop_assert_eq!(done(outcome), (fenced, number, after));
                        (number, member) = (after, None);
                    }
                }
                Step::DryRun { id, by: shift } => {
                    let dry = ResetRequest { dry_run: true, ..request(&id.to_string(), by(shift)) };
                    let outcome = shard.reset(dry);
                    prop_assert_eq!(was_before(&outcome), seen.contains(&id));
                }
                Step::Begin(offset) => {
                    let outcome = shard.reset(begin("orders", offset));
                    if member.is_some() {
                        prop_assert_eq!(outcome, Err(GroupError::NonEmptyGroup));
                    } else {
                        let after = number.is_none().then_some(offset);
                        prop_assert_eq!(done(outcome), (0, number, after));
                        number = number.or(after);
                    }
                }
                Step::Leave => {
                    let leaving = beat("m", Epoch::LEAVING, None);
                    prop_assert_eq!(shard.consumer_beat(leaving).is_ok(), member.take().is_some());
                }
                Step::Rejoin => {
                    let joined = shard.consumer_beat(joining("m", &["orders"])).unwrap();
                    member = Some(joined.epoch);
                }
                Step::Crash => shard.crash(),
            }
            prop_assert_eq!(shard.at(), number);
        }
    }
}
