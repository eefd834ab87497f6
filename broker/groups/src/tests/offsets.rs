//! Commits, fetches and deletions.

use weir_wire::{Offset, PartitionIndex, TopicId};

use super::cluster::TestCluster;
use super::{GROUP, Shard, commit, fetch, join, topic_ref};
use crate::request::{
    CommitRequest, DeleteOffsetsRequest, FetchRequest, JoinRequest, Response, TopicRef,
};
use crate::{Cluster, Config, Generation, GroupError, Request};

fn by(member: &str, generation: i32, offset: i64) -> CommitRequest {
    CommitRequest {
        member: member.into(),
        generation: Generation(generation),
        ..commit("orders", offset)
    }
}

#[test]
fn a_consumer_without_a_group_may_commit_while_the_group_is_empty() {
    let mut shard = Shard::new();
    assert_eq!(shard.commit(commit("orders", 7)), Ok(()));
    assert_eq!(shard.committed("orders").unwrap().offset, Offset(7));
    assert_eq!(shard.committed("other"), None);
    shard.stable(1);
    assert_eq!(
        shard.commit(commit("orders", 8)),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(shard.committed("orders").unwrap().offset, Offset(7));
}

#[test]
fn only_members_of_the_current_generation_commit() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    assert_eq!(shard.commit(by(&ids[1], generation, 5)), Ok(()));
    assert_eq!(
        shard.commit(by(&ids[1], generation - 1, 3)),
        Err(GroupError::IllegalGeneration)
    );
    assert_eq!(
        shard.commit(by("nobody", generation, 3)),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(shard.committed("orders").unwrap().offset, Offset(5));
}

#[test]
fn a_member_may_commit_while_others_join_but_not_while_the_leader_assigns() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(2);
    shard.join(join("", "new"));
    assert_eq!(shard.commit(by(&ids[0], generation, 5)), Ok(()));
    for id in &ids {
        shard.join(join(id, "c"));
    }
    assert_eq!(
        shard.commit(by(&ids[0], generation + 1, 6)),
        Err(GroupError::RebalanceInProgress)
    );
}

#[test]
fn a_commit_is_a_sign_of_life() {
    let mut shard = Shard::new();
    let (ids, generation) = shard.stable(1);
    for offset in 0..5 {
        shard.advance(8_000);
        assert_eq!(shard.commit(by(&ids[0], generation, offset)), Ok(()));
    }
}

#[test]
fn a_commit_for_a_group_that_is_gone_says_so() {
    let mut shard = Shard::new();
    assert_eq!(
        shard.commit(by("a", 3, 1)),
        Err(GroupError::GroupIdNotFound)
    );
    let old = CommitRequest {
        tells_missing_group: false,
        ..by("a", 3, 1)
    };
    assert_eq!(shard.commit(old), Err(GroupError::IllegalGeneration));
    assert_eq!(shard.coordinator.group_count(), 0);
}

#[test]
fn each_partition_of_a_commit_succeeds_or_fails_alone() {
    let mut shard = Shard::with(Config {
        offsets_max: 2,
        ..Config::default()
    });
    let mut request = commit("orders", 1);
    let template = request.topics[0].partitions[0].clone();
    request.topics[0].partitions = (0..4)
        .map(|index| crate::request::CommitPartition {
            partition: PartitionIndex(index),
            ..template.clone()
        })
        .collect();
    request.topics[0].partitions[0].metadata = "m".repeat(4_097);
    request.topics[0].partitions[1].metadata = "m".repeat(4_096);
    let call = shard.ask(Request::Commit(request));
    let Some(Response::Commit(topics)) = shard.take(call) else {
        panic!("no answer")
    };
    let outcomes: Vec<_> = topics[0]
        .partitions
        .iter()
        .map(|(_, outcome)| *outcome)
        .collect();
    let expected = [
        Err(GroupError::OffsetMetadataTooLarge),
        Ok(()),
        Ok(()),
        Err(GroupError::BoundReached),
    ];
    assert_eq!(outcomes, expected);
    assert_eq!(
        shard.commit(commit("orders", 9)),
        Err(GroupError::BoundReached)
    );
    assert_eq!(shard.log.len(), 2);
}

#[test]
fn all_offsets_of_a_group_are_told_when_no_topics_are_named() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    shard.commit(commit("flights", 2)).unwrap();
    let call = shard.ask(Request::Fetch(FetchRequest {
        topics: None,
        ..fetch("orders")
    }));
    let Some(Response::Fetch(Ok(topics))) = shard.take(call) else {
        panic!("no answer")
    };
    let names: Vec<_> = topics
        .iter()
        .map(|topic| topic.topic.name.as_str())
        .collect();
    assert_eq!(names, ["flights", "orders"]);
}

#[test]
fn the_offsets_of_a_topic_made_anew_are_not_those_of_the_old_one() {
    let mut shard = Shard::new();
    let topic = |id: u128| TopicRef {
        name: "orders".to_owned(),
        id: TopicId(uuid(id)),
    };
    let mut request = commit("orders", 41);
    request.topics[0].topic = topic(1);
    shard.commit(request).unwrap();
    let of = |id: u128| FetchRequest {
        topics: Some(vec![(topic(id), vec![PartitionIndex(0)])]),
        ..fetch("orders")
    };
    for (id, expected) in [(1, Some(Offset(41))), (2, None), (0, Some(Offset(41)))] {
        let call = shard.ask(Request::Fetch(of(id)));
        let Some(Response::Fetch(Ok(topics))) = shard.take(call) else {
            panic!("no answer")
        };
        assert_eq!(
            topics[0].partitions[0]
                .1
                .as_ref()
                .map(|offset| offset.offset),
            expected,
            "id {id}"
        );
    }
    let call = shard.ask(Request::ForgetTopics(vec![topic(2)]));
    assert_eq!(
        shard.take(call),
        Some(Response::ForgetTopics(0)),
        "another topic of that name"
    );
    let call = shard.ask(Request::ForgetTopics(vec![topic(1)]));
    assert_eq!(shard.take(call), Some(Response::ForgetTopics(1)));
    assert_eq!(shard.coordinator.group_count(), 0);
    assert_eq!(shard.replayed().group_count(), 0);
}

#[test]
fn offsets_of_topics_that_went_while_nobody_coordinated_are_dropped_when_somebody_does() {
    let mut shard = Shard::new();
    let cluster = TestCluster::default().with("orders", 1).with("other", 1);
    let topic = |name: &str| TopicRef {
        name: name.to_owned(),
        id: cluster.topic(name).unwrap().id,
    };
    for name in ["orders", "other"] {
        let mut request = commit(name, 41);
        request.topics[0].topic = topic(name);
        shard.commit(request).unwrap();
    }
    // Without an id too, of a topic that there is and of one that there is not.
    shard.commit(commit("third", 1)).unwrap();
    shard.set_cluster(cluster.clone().with("third", 1));
    let call = shard.ask(Request::ForgetAbsentTopics);
    assert_eq!(shard.take(call), Some(Response::ForgetTopics(0)));
    shard.set_cluster(shard.cluster.clone().without("orders").without("third"));
    let call = shard.ask(Request::ForgetAbsentTopics);
    assert_eq!(shard.take(call), Some(Response::ForgetTopics(2)));
    let replayed = shard.replayed();
    assert_eq!(replayed.group_count(), 1);
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}

#[test]
fn offsets_of_topics_that_members_read_are_not_deleted() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    shard.commit(commit("other", 2)).unwrap();
    shard.stable(1);
    let request = DeleteOffsetsRequest {
        group: GROUP.into(),
        topics: ["orders", "other"]
            .map(|topic| (topic_ref(topic), vec![PartitionIndex(0)]))
            .into(),
    };
    let call = shard.ask(Request::DeleteOffsets(request));
    let Some(Response::DeleteOffsets(Ok(topics))) = shard.take(call) else {
        panic!("no answer")
    };
    assert_eq!(
        topics[0].partitions[0].1,
        Err(GroupError::GroupSubscribedToTopic)
    );
    assert_eq!(topics[1].partitions[0].1, Ok(()));
    assert!(shard.committed("orders").is_some());
    assert!(shard.committed("other").is_none());
}

#[test]
fn offsets_of_other_groups_with_members_are_not_deleted() {
    let mut shard = Shard::new();
    shard.join(JoinRequest {
        protocol_type: "connect".to_owned(),
        ..join("", "worker")
    });
    let request = DeleteOffsetsRequest {
        group: GROUP.into(),
        topics: vec![],
    };
    let call = shard.ask(Request::DeleteOffsets(request.clone()));
    assert_eq!(
        shard.take(call),
        Some(Response::DeleteOffsets(Err(GroupError::NonEmptyGroup)))
    );
    let call = shard.ask(Request::DeleteOffsets(DeleteOffsetsRequest {
        group: "none".into(),
        ..request
    }));
    assert_eq!(
        shard.take(call),
        Some(Response::DeleteOffsets(Err(GroupError::GroupIdNotFound)))
    );
}

#[test]
fn only_empty_groups_are_deleted_and_then_nothing_is_left() {
    let mut shard = Shard::new();
    shard.commit(commit("orders", 1)).unwrap();
    let (ids, _) = shard.stable(1);
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    assert_eq!(
        shard.take(call),
        Some(Response::DeleteGroup(Err(GroupError::NonEmptyGroup)))
    );
    shard.leave(&[(&ids[0], None)]);
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    assert_eq!(shard.take(call), Some(Response::DeleteGroup(Ok(()))));
    assert_eq!(shard.committed("orders"), None);
    assert_eq!(shard.replayed().group_count(), 0);
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    assert_eq!(
        shard.take(call),
        Some(Response::DeleteGroup(Err(GroupError::GroupIdNotFound)))
    );
}
