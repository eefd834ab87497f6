#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

use crate::modern::{Epoch, Partitions, TopicPartition};
use crate::request::{
    Beat, ChangeShareStates, GroupState, ListRequest, ShareDescription, ShareHeartbeatRequest,
};
use crate::tests::cluster::TestCluster;
use crate::tests::{GROUP, Shard, join};
use crate::{GroupError, Request, Response};

fn shard(topics: &[(&str, i32)]) -> Shard {
    let mut shard = Shard::new();
    let mut cluster = TestCluster::default();
    for (name, partitions) in topics {
        cluster = cluster.with(name, *partitions);
    }
    shard.set_cluster(cluster);
    shard
}

fn beat(
    shard: &mut Shard,
    member: &str,
    epoch: i32,
    topics: Option<&[&str]>,
) -> Result<Beat, GroupError> {
    let request = ShareHeartbeatRequest {
        group: GROUP.into(),
        member: member.into(),
        epoch: Epoch(epoch),
        rack: None,
        client_id: "app".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: topics.map(|topics| topics.iter().map(|name| (*name).to_owned()).collect()),
    };
    let call = shard.ask(Request::ShareHeartbeat(request));
    match shard.take(call) {
        Some(Response::ShareHeartbeat(outcome)) => outcome,
        other => panic!("a heartbeat's answer wanted, {other:?} found"),
    }
}

fn describe(shard: &mut Shard) -> Result<ShareDescription, GroupError> {
    let call = shard.ask(Request::DescribeShare(GROUP.into()));
    match shard.take(call) {
        Some(Response::DescribeShare(outcome)) => outcome,
        other => panic!("a description wanted, {other:?} found"),
    }
}

fn numbers(partitions: Option<&Partitions>) -> Option<Vec<i32>> {
    partitions.map(|partitions| partitions.iter().map(|at| at.partition.0).collect())
}

#[test]
fn members_share_the_partitions_and_hear_of_changes_once() {
    let mut shard = shard(&[("t", 3)]);
    let a = beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    assert_eq!((a.epoch, a.interval_ms), (Epoch(1), 5_000));
    assert_eq!(numbers(a.assignment.as_ref()), Some(vec![0, 1, 2]));
    let again = beat(&mut shard, "a", 1, None).unwrap();
    assert_eq!(again.assignment, None);
    let b = beat(&mut shard, "b", 0, Some(&["t"])).unwrap();
    assert_eq!(numbers(b.assignment.as_ref()), Some(vec![1]));
    // The answer may be lost: the epoch before is taken too, and told the news again.
    for _ in 0..2 {
        let a = beat(&mut shard, "a", 1, None).unwrap();
        assert_eq!(a.epoch, Epoch(2));
        assert_eq!(numbers(a.assignment.as_ref()), Some(vec![0, 2]));
    }
    assert_eq!(
        beat(&mut shard, "a", 7, None),
        Err(GroupError::FencedMemberEpoch)
    );
    assert_eq!(
        beat(&mut shard, "c", 1, None),
        Err(GroupError::UnknownMember)
    );
    let left = beat(&mut shard, "b", -1, None).unwrap();
    assert_eq!((left.epoch, left.assignment), (Epoch(-1), None));
    let a = beat(&mut shard, "a", 2, None).unwrap();
    assert_eq!(numbers(a.assignment.as_ref()), Some(vec![0, 1, 2]));
}

#[test]
fn more_members_than_partitions_share_them() {
    let mut shard = shard(&[("t", 1)]);
    for member in ["a", "b", "c"] {
        let joined = beat(&mut shard, member, 0, Some(&["t"])).unwrap();
        assert_eq!(numbers(joined.assignment.as_ref()), Some(vec![0]));
    }
}

#[test]
fn a_member_that_is_silent_is_gone_and_a_group_without_members_keeps_its_states() {
    let mut shard = shard(&[("t", 2)]);
    beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    shard.advance(44_000);
    beat(&mut shard, "a", 1, None).unwrap();
    shard.advance(44_000);
    assert_eq!(describe(&mut shard).unwrap().state, GroupState::Stable);
    shard.advance(2_000);
    let described = describe(&mut shard).unwrap();
    assert_eq!(described.state, GroupState::Empty);
    assert_eq!(described.states[0].partitions, [0, 1]);
    // Offsets are looked through for what has expired meanwhile.
    shard.advance(30 * 24 * 3_600_000);
    assert_eq!(describe(&mut shard).unwrap().states.len(), 1);
    let states = ChangeShareStates {
        group: GROUP.into(),
        add: Vec::new(),
        remove: vec![described.states[0].id],
    };
    let call = shard.ask(Request::ChangeShareStates(states));
    assert_eq!(shard.take(call), Some(Response::ChangeShareStates(Ok(()))));
    assert_eq!(describe(&mut shard).unwrap().states, []);
}

#[test]
fn a_topic_that_comes_or_goes_changes_the_assignment() {
    let mut shard = shard(&[("t", 1)]);
    let a = beat(&mut shard, "a", 0, Some(&["t", "u"])).unwrap();
    assert_eq!(a.assignment.unwrap().len(), 1);
    let cluster = shard.cluster.clone().with("u", 2);
    shard.set_cluster(cluster);
    let a = beat(&mut shard, "a", 1, None).unwrap();
    assert_eq!((a.epoch, a.assignment.unwrap().len()), (Epoch(2), 3));
    let cluster = shard.cluster.clone().without("t");
    shard.set_cluster(cluster);
    let a = beat(&mut shard, "a", 2, None).unwrap();
    assert_eq!(a.assignment.unwrap().len(), 2);
}

#[test]
fn a_coordinator_that_takes_over_knows_the_group() {
    let mut shard = shard(&[("t", 3)]);
    beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    beat(&mut shard, "b", 0, Some(&["t"])).unwrap();
    beat(&mut shard, "a", 1, None).unwrap();
    let before = describe(&mut shard).unwrap();
    shard.crash();
    assert_eq!(describe(&mut shard).unwrap(), before);
    let a = beat(&mut shard, "a", 2, None).unwrap();
    assert_eq!((a.epoch, a.assignment), (Epoch(2), None));
    // And the session goes on from there.
    shard.advance(46_000);
    assert_eq!(describe(&mut shard).unwrap().state, GroupState::Empty);
}

#[test]
fn a_deleted_group_leaves_nothing() {
    let mut shard = shard(&[("t", 3)]);
    beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    let delete = |shard: &mut Shard| {
        let call = shard.ask(Request::DeleteGroup(GROUP.into()));
        shard.take(call)
    };
    let refused = Response::DeleteGroup(Err(GroupError::NonEmptyGroup));
    assert_eq!(delete(&mut shard), Some(refused));
    beat(&mut shard, "a", -1, None).unwrap();
    assert_eq!(delete(&mut shard), Some(Response::DeleteGroup(Ok(()))));
    assert_eq!(describe(&mut shard), Err(GroupError::GroupIdNotFound));
    shard.crash();
    assert_eq!(describe(&mut shard), Err(GroupError::GroupIdNotFound));
    assert_eq!(shard.coordinator.group_count(), 0);
}

#[test]
fn a_group_has_one_type() {
    let mut shard = shard(&[("t", 3)]);
    let call = shard.join(join("", "c"));
    shard.joined(call).unwrap();
    assert_eq!(
        beat(&mut shard, "a", 0, Some(&["t"])),
        Err(GroupError::GroupIdNotFound)
    );
    let mut shard = self::shard(&[("t", 3)]);
    beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    let call = shard.join(join("", "c"));
    let refused = shard.joined(call).unwrap_err();
    assert_eq!(refused.error, GroupError::InconsistentProtocol);
    let list = ListRequest {
        types: vec!["share".to_owned()],
        ..ListRequest::default()
    };
    let call = shard.ask(Request::List(list));
    let Some(Response::List(listed)) = shard.take(call) else {
        panic!("a list wanted");
    };
    assert_eq!(listed.len(), 1);
    assert_eq!(
        (listed[0].protocol_type.as_str(), listed[0].state),
        ("share", GroupState::Stable)
    );
}

#[test]
fn states_are_set_from_outside_only_while_nobody_reads() {
    let mut shard = shard(&[("t", 3)]);
    beat(&mut shard, "a", 0, Some(&["t"])).unwrap();
    let topic = describe(&mut shard).unwrap().states[0].id;
    let change = ChangeShareStates {
        group: GROUP.into(),
        add: vec![TopicPartition {
            topic,
            partition: weir_wire::PartitionIndex(0),
        }],
        remove: Vec::new(),
    };
    let call = shard.ask(Request::ChangeShareStates(change));
    let refused = Response::ChangeShareStates(Err(GroupError::NonEmptyGroup));
    assert_eq!(shard.take(call), Some(refused));
}

#[test]
fn where_a_group_begins_may_be_set_before_it_has_a_member() {
    let mut shard = shard(&[("t", 3)]);
    let (_, topic, _) = shard.cluster.topics().next().unwrap();
    let mut change = ChangeShareStates {
        group: GROUP.into(),
        add: Vec::new(),
        remove: Vec::new(),
    };
    let call = shard.ask(Request::ChangeShareStates(change.clone()));
    let missing = Response::ChangeShareStates(Err(GroupError::GroupIdNotFound));
    assert_eq!(shard.take(call), Some(missing));
    change.add.push(TopicPartition {
        topic,
        partition: weir_wire::PartitionIndex(1),
    });
    let call = shard.ask(Request::ChangeShareStates(change));
    assert_eq!(shard.take(call), Some(Response::ChangeShareStates(Ok(()))));
    shard.crash();
    let described = describe(&mut shard).unwrap();
    assert_eq!(described.state, GroupState::Empty);
    assert_eq!(described.states[0].partitions, [1]);
}
