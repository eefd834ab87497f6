//! Groups that change their protocol while their members go on.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use weir_wire::message::{Message, MessageView};
use weir_wire::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use weir_wire::messages::consumer_protocol_subscription::TopicPartition as Owned;
use weir_wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentView, ConsumerProtocolSubscription,
};

use super::cluster::TestCluster;
use super::consumer::{beat, joining};
use super::{GROUP, Shard, join, sync};
use crate::request::{GroupType, HeartbeatRequest, JoinRequest, Joined, Protocol, SyncRequest};
use crate::{
    Cluster, Config, Epoch, Generation, GroupError, GroupSettings, MigrationPolicy, Partitions,
    Request,
};

type Places = BTreeMap<String, Vec<i32>>;

fn subscription(topics: &[&str], owned: &Places) -> Bytes {
    let owned = owned.iter().map(|(topic, partitions)| Owned {
        topic: topic.clone(),
        partitions: partitions.clone(),
    });
    let message = ConsumerProtocolSubscription {
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        owned_partitions: owned.collect(),
        ..ConsumerProtocolSubscription::default()
    };
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_slice(&message.to_bytes(1).unwrap());
    bytes.freeze()
}

fn assignment(places: &Places) -> Bytes {
    let assigned = places.iter().map(|(topic, partitions)| Assigned {
        topic: topic.clone(),
        partitions: partitions.clone(),
    });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_slice(&message.to_bytes(1).unwrap());
    bytes.freeze()
}

fn places(bytes: &Bytes) -> Places {
    let version = i16::from_be_bytes([bytes[0], bytes[1]]);
    let view = ConsumerProtocolAssignmentView::decode(&bytes[2..], version).unwrap();
    let topics = view.assigned_partitions.iter();
    topics
        .map(|topic| (topic.topic.to_owned(), topic.partitions.iter().collect()))
        .collect()
}

fn classic(member: &str, owned: &Places) -> JoinRequest {
    JoinRequest {
        protocols: vec![Protocol {
            name: "cooperative-sticky".to_owned(),
            metadata: subscription(&["orders"], owned),
        }],
        ..join(member, "c0")
    }
}

fn shard_with(policy: MigrationPolicy) -> Shard {
    let mut shard = Shard::with(Config {
        initial_rebalance_delay_ms: 0,
        ..Config::default()
    });
    let settings = GroupSettings {
        consumer_migration: policy,
        ..GroupSettings::default()
    };
    let cluster = TestCluster::default().with_settings(settings);
    shard.set_cluster(cluster.with("orders", 4));
    shard
}

fn shard() -> Shard {
    shard_with(MigrationPolicy::Bidirectional)
}

/// A stable classic group of one member with all partitions.
fn lone_classic(shard: &mut Shard) -> Joined {
    let call = shard.join(classic("", &Places::new()));
    let joined = shard.joined(call).unwrap();
    let all = Places::from([("orders".to_owned(), vec![0, 1, 2, 3])]);
    let request = SyncRequest {
        assignments: vec![(joined.member.clone(), assignment(&all))],
        ..sync(joined.member.as_str(), joined.generation.0, &[])
    };
    let call = shard.ask(Request::Sync(request));
    assert_eq!(places(&shard.synced(call).unwrap().assignment), all);
    joined
}

fn rejoin(shard: &mut Shard, member: &str, owned: &Places) -> Joined {
    let call = shard.join(classic(member, owned));
    shard.joined(call).unwrap()
}

fn synced(shard: &mut Shard, joined: &Joined) -> Result<Places, GroupError> {
    let request = sync(joined.member.as_str(), joined.generation.0, &[]);
    let call = shard.ask(Request::Sync(request));
    Ok(places(&shard.synced(call)?.assignment))
}

fn count(places: &Places) -> usize {
    places.values().map(Vec::len).sum()
}

#[test]
fn a_classic_group_becomes_a_consumer_group_and_back_while_its_members_go_on() {
    let mut shard = shard();
    let old = lone_classic(&mut shard);
    let id = old.member.to_string();
    // The first member of the new protocol comes.
    let new = shard.consumer_beat(joining("new", &["orders"])).unwrap();
    assert_eq!(shard.describe().kind, GroupType::Consumer);
    assert_eq!(new.epoch, Epoch(2));
    assert!(
        new.assignment.unwrap().is_empty(),
        "the old one has everything"
    );
    assert_eq!(
        shard.heartbeat(&id, old.generation.0),
        Err(GroupError::RebalanceInProgress)
    );
    shard.crash();
    // It joins again, gives up two, and joins once more.
    let all = Places::from([("orders".to_owned(), vec![0, 1, 2, 3])]);
    let joined = rejoin(&mut shard, &id, &all);
    assert_eq!(
        (joined.generation, joined.leader.as_str()),
        (Generation(1), "")
    );
    assert_eq!(joined.protocol.as_deref(), Some("cooperative-sticky"));
    let kept = synced(&mut shard, &joined).unwrap();
    assert_eq!(count(&kept), 2);
    let waits = shard.consumer_beat(beat("new", new.epoch, Some(&Partitions::new())));
    assert_eq!(waits.unwrap().assignment, None, "they are not given up yet");
    assert_eq!(
        shard.heartbeat(&id, joined.generation.0),
        Err(GroupError::RebalanceInProgress)
    );
    let joined = rejoin(&mut shard, &id, &kept);
    assert_eq!(joined.generation, Generation(2));
    assert_eq!(synced(&mut shard, &joined), Ok(kept.clone()));
    assert_eq!(shard.heartbeat(&id, 2), Ok(()));
    let given = shard.consumer_beat(beat("new", new.epoch, Some(&Partitions::new())));
    assert_eq!(given.unwrap().assignment.unwrap().len(), 2);
    let described = shard.describe_consumer().unwrap();
    let classic: Vec<bool> = described
        .members
        .iter()
        .map(|member| member.is_classic)
        .collect();
    assert_eq!(classic.iter().filter(|is_classic| **is_classic).count(), 1);
    // The last member of the new protocol goes.
    shard
        .consumer_beat(beat("new", Epoch::LEAVING, None))
        .unwrap();
    assert_eq!(shard.describe().kind, GroupType::Classic);
    assert_eq!(
        shard.heartbeat(&id, 2),
        Err(GroupError::RebalanceInProgress),
        "it keeps what it has until it joins again"
    );
    shard.crash();
    let joined = rejoin(&mut shard, &id, &kept);
    assert_eq!(
        (joined.leader.as_str(), joined.members.len()),
        (id.as_str(), 1)
    );
    assert!(joined.generation > Generation(2));
}

#[test]
fn members_that_wait_are_let_go_when_the_group_changes() {
    let mut shard = shard();
    let old = lone_classic(&mut shard);
    let second = JoinRequest {
        unique: "2".to_owned(),
        ..classic("", &Places::new())
    };
    let waiting = shard.join(second);
    let new = shard.consumer_beat(joining("new", &["orders"])).unwrap();
    assert_eq!(
        shard.joined(waiting).unwrap_err().error,
        GroupError::RebalanceInProgress
    );
    assert!(new.epoch > Epoch(old.generation.0));
}

#[test]
fn a_classic_member_joins_a_consumer_group() {
    let mut shard = shard();
    let new = shard.consumer_beat(joining("new", &["orders"])).unwrap();
    let wrong = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..classic("", &Places::new())
    };
    let call = shard.join(wrong);
    assert_eq!(
        shard.joined(call).unwrap_err().error,
        GroupError::InconsistentProtocol
    );
    let first = JoinRequest {
        member_id_required: true,
        ..classic("", &Places::new())
    };
    let call = shard.join(first);
    let refused = shard.joined(call).unwrap_err();
    assert_eq!(refused.error, GroupError::MemberIdRequired);
    let joined = rejoin(&mut shard, refused.member.as_str(), &Places::new());
    assert_eq!(
        synced(&mut shard, &joined),
        Ok(Places::new()),
        "the other has everything"
    );
    let owned = new.assignment.unwrap();
    let told = shard
        .consumer_beat(beat("new", new.epoch, Some(&owned)))
        .unwrap();
    let kept = told.assignment.unwrap();
    assert_eq!(
        shard.heartbeat(joined.member.as_str(), 2),
        Ok(()),
        "nothing is free yet"
    );
    shard
        .consumer_beat(beat("new", new.epoch, Some(&kept)))
        .unwrap();
    assert_eq!(
        shard.heartbeat(joined.member.as_str(), 2),
        Err(GroupError::RebalanceInProgress)
    );
    let joined = rejoin(&mut shard, joined.member.as_str(), &Places::new());
    assert_eq!(count(&synced(&mut shard, &joined).unwrap()), 2);
    // It leaves by its own protocol, and is not let in by the other one's.
    let left = shard.leave(&[(joined.member.as_str(), None), ("new", None)]);
    assert_eq!(left[0].outcome, Ok(()));
    assert_eq!(left[1].outcome, Err(GroupError::UnknownMember));
    let all = shard
        .consumer_beat(beat("new", Epoch(2), Some(&kept)))
        .unwrap();
    assert_eq!(all.assignment.unwrap().len(), 4);
}

#[test]
fn a_classic_member_that_does_not_ask_for_its_assignment_is_removed() {
    let mut shard = shard();
    let new = shard.consumer_beat(joining("new", &["orders"])).unwrap();
    let request = JoinRequest {
        session_timeout_ms: 600_000,
        ..classic("", &Places::new())
    };
    let call = shard.join(request);
    shard.joined(call).unwrap();
    // The other one gives up half, and has both halves in the end.
    let (mut epoch, mut owned) = (new.epoch, new.assignment.unwrap());
    for _ in 0..7 {
        shard.advance(10_000);
        let told = shard.consumer_beat(beat("new", epoch, Some(&owned)));
        let told = told.unwrap();
        epoch = told.epoch;
        owned = told.assignment.unwrap_or(owned);
    }
    assert_eq!(owned.len(), 4);
    assert_eq!(shard.describe_consumer().unwrap().members.len(), 1);
}

#[test]
fn the_policy_says_which_way_groups_may_go() {
    for (policy, up, down) in [
        (MigrationPolicy::Disabled, false, false),
        (MigrationPolicy::Upgrade, true, false),
        (MigrationPolicy::Downgrade, false, true),
        (MigrationPolicy::Bidirectional, true, true),
    ] {
        let mut shard = shard_with(policy);
        lone_classic(&mut shard);
        let new = shard.consumer_beat(joining("new", &["orders"]));
        assert_eq!(new.is_ok(), up, "{policy:?}");
        assert!(up || new == Err(GroupError::GroupIdNotFound));
        let mut shard = shard_with(policy);
        shard.consumer_beat(joining("new", &["orders"])).unwrap();
        rejoin(&mut shard, "", &Places::new());
        shard
            .consumer_beat(beat("new", Epoch::LEAVING, None))
            .unwrap();
        let kind = shard.describe().kind;
        assert_eq!(kind == GroupType::Classic, down, "{policy:?}");
    }
}

#[test]
fn a_group_that_is_not_of_consumers_does_not_change() {
    let mut shard = shard();
    let request = JoinRequest {
        protocol_type: "connect".to_owned(),
        ..classic("", &Places::new())
    };
    let call = shard.join(request);
    let joined = shard.joined(call).unwrap();
    assert_eq!(
        shard.consumer_beat(joining("new", &["orders"])),
        Err(GroupError::GroupIdNotFound)
    );
    assert_eq!(shard.heartbeat(joined.member.as_str(), 1), Ok(()));
}

#[test]
fn a_static_member_moves_from_one_protocol_to_the_other_and_back() {
    let mut shard = shard();
    let other = lone_classic(&mut shard);
    let of = |member: &str, epoch| crate::request::ConsumerHeartbeatRequest {
        instance: Some("one".into()),
        epoch,
        ..joining(member, &["orders"])
    };
    let new = shard.consumer_beat(of("new", Epoch::JOINING)).unwrap();
    assert_eq!(new.epoch, Epoch(2));
    // Rolled back: the same instance with the classic protocol takes the place of the last consumer.
    let call = shard.join(JoinRequest {
        instance: Some("one".into()),
        ..classic("", &Places::new())
    });
    assert_eq!(shard.describe().kind, GroupType::Classic);
    let rejoined = shard.join(classic(other.member.as_str(), &Places::new()));
    let (back, other) = (shard.joined(call).unwrap(), shard.joined(rejoined).unwrap());
    assert_eq!(back.generation, other.generation);
    assert_eq!(back.members.len() + other.members.len(), 2);
    // And forward again, in the place of a classic member that has not left.
    let forward = shard.consumer_beat(of("newer", Epoch::JOINING)).unwrap();
    assert!(forward.epoch.0 > back.generation.0);
    let heartbeat = HeartbeatRequest {
        group: GROUP.into(),
        member: back.member.clone(),
        instance: Some("one".into()),
        generation: back.generation,
    };
    let call = shard.ask(Request::Heartbeat(heartbeat));
    assert_eq!(
        shard.take(call),
        Some(crate::Response::Heartbeat(Err(
            GroupError::FencedInstanceId
        )))
    );
    assert!(shard.cluster.topic("orders").is_some());
}
