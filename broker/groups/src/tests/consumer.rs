//! The consumer protocol, one rule a test.

use std::collections::BTreeSet;

use super::cluster::TestCluster;
use super::{GROUP, Shard, commit, fetch, topic_ref};
use crate::request::{
    Beat, CommitRequest, ConsumerDescription, ConsumerHeartbeatRequest, FetchRequest, GroupState,
    GroupType, ListRequest, Request, Response, TopicRef,
};
use crate::{Cluster, Epoch, Generation, GroupError, GroupSettings, Partitions, TopicPartition};

/// A heartbeat that says everything, from a member that joins.
pub(super) fn joining(member: &str, topics: &[&str]) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest {
        group: GROUP.into(),
        member: member.into(),
        epoch: Epoch::JOINING,
        instance: None,
        rack: None,
        rebalance_timeout_ms: Some(60_000),
        client_id: "app".to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        topics: Some(topics.iter().map(|topic| (*topic).to_owned()).collect()),
        regex: None,
        assignor: None,
        owned: Some(Partitions::new()),
    }
}

/// A heartbeat that says what the member owns and nothing else.
pub(super) fn beat(
    member: &str,
    epoch: Epoch,
    owned: Option<&Partitions>,
) -> ConsumerHeartbeatRequest {
    ConsumerHeartbeatRequest {
        epoch,
        rebalance_timeout_ms: None,
        topics: None,
        owned: owned.cloned(),
        ..joining(member, &[])
    }
}

impl Shard {
    pub(super) fn consumer_beat(
        &mut self,
        request: ConsumerHeartbeatRequest,
    ) -> Result<Beat, GroupError> {
        let call = self.ask(Request::ConsumerHeartbeat(request));
        match self.take(call) {
            Some(Response::ConsumerHeartbeat(outcome)) => outcome,
            other => panic!("a heartbeat's answer wanted, {other:?} found"),
        }
    }

    pub(super) fn describe_consumer(&mut self) -> Result<ConsumerDescription, GroupError> {
        let call = self.ask(Request::DescribeConsumer(GROUP.into()));
        match self.take(call) {
            Some(Response::DescribeConsumer(outcome)) => outcome,
            other => panic!("a description wanted, {other:?} found"),
        }
    }

    fn place(&self, topic: &str, partition: i32) -> TopicPartition {
        TopicPartition {
            topic: self.cluster.topic(topic).unwrap().id,
            partition: weir_wire::PartitionIndex(partition),
        }
    }
}

fn shard() -> Shard {
    let mut shard = Shard::new();
    shard.set_cluster(TestCluster::default().with("orders", 4).with("flights", 2));
    shard
}

/// A member that does as it is told.
#[derive(Debug)]
struct Client {
    id: String,
    epoch: Epoch,
    owned: Partitions,
}

impl Client {
    fn join(shard: &mut Shard, request: ConsumerHeartbeatRequest) -> Self {
        let beat = shard.consumer_beat(request).unwrap();
        Self {
            id: beat.member.to_string(),
            epoch: beat.epoch,
            owned: beat.assignment.unwrap(),
        }
    }

    /// Heartbeats, and takes over what it is told.
    fn beat(&mut self, shard: &mut Shard) {
        let request = beat(&self.id, self.epoch, Some(&self.owned));
        let beat = shard.consumer_beat(request).unwrap();
        self.epoch = beat.epoch;
        if let Some(assignment) = beat.assignment {
            self.owned = assignment;
        }
    }
}

fn settle(shard: &mut Shard, clients: &mut [&mut Client]) {
    for _ in 0..5 {
        for client in clients.iter_mut() {
            client.beat(shard);
        }
    }
    assert_eq!(shard.state(), GroupState::Stable);
}

#[test]
fn the_first_member_gets_everything_with_its_first_heartbeat() {
    let mut shard = shard();
    let first = shard.consumer_beat(joining("a", &["orders", "flights", "missing"]));
    let first = first.unwrap();
    assert_eq!((first.epoch, first.interval_ms), (Epoch(1), 5_000));
    assert_eq!(first.assignment.unwrap().len(), 6);
    assert_eq!(shard.state(), GroupState::Stable);
    let again = shard.consumer_beat(beat("a", Epoch(1), None)).unwrap();
    assert_eq!(again.assignment, None, "nothing new, nothing said");
}

#[test]
fn a_partition_is_given_up_before_someone_else_has_it() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    assert_eq!((b.epoch, b.owned.len()), (Epoch(2), 0));
    assert_eq!(shard.state(), GroupState::Reconciling);
    let before = a.owned.clone();
    a.beat(&mut shard);
    assert_eq!(
        (a.epoch, a.owned.len()),
        (Epoch(1), 2),
        "it is told to give up two"
    );
    b.beat(&mut shard);
    assert!(b.owned.is_empty(), "they are not given up yet");
    // Without saying what it owns it has given up nothing.
    shard.consumer_beat(beat("a", Epoch(1), None)).unwrap();
    b.beat(&mut shard);
    assert!(b.owned.is_empty());
    a.beat(&mut shard);
    assert_eq!(a.epoch, Epoch(2));
    b.beat(&mut shard);
    let both: Partitions = a.owned.union(&b.owned).copied().collect();
    assert_eq!((b.owned.len(), both), (2, before));
    assert_eq!(shard.state(), GroupState::Stable);
}

#[test]
fn a_member_that_takes_too_long_to_give_up_is_removed() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    a.beat(&mut shard);
    for _ in 0..7 {
        shard.advance(10_000);
        b.beat(&mut shard);
        let _ = shard.consumer_beat(beat("a", a.epoch, None));
    }
    assert_eq!(
        shard.consumer_beat(beat("a", a.epoch, None)),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(b.owned.len(), 4);
}

#[test]
fn a_member_that_is_silent_for_its_session_is_removed() {
    let mut shard = shard();
    Client::join(&mut shard, joining("a", &["orders"]));
    shard.advance(44_000);
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    shard.advance(2_000);
    b.beat(&mut shard);
    assert_eq!(b.owned.len(), 4);
    assert_eq!(shard.describe_consumer().unwrap().members.len(), 1);
}

#[test]
fn a_lost_answer_is_told_again_to_a_member_with_the_epoch_before() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    settle(&mut shard, &mut [&mut a, &mut b]);
    let mut c = Client::join(&mut shard, joining("c", &["orders"]));
    let before = a.epoch;
    // What it hears is lost.
    shard
        .consumer_beat(beat("a", a.epoch, Some(&a.owned)))
        .unwrap();
    let again = shard
        .consumer_beat(beat("a", before, Some(&a.owned)))
        .unwrap();
    assert!(again.epoch > before);
    a.epoch = again.epoch;
    settle(&mut shard, &mut [&mut a, &mut b, &mut c]);
    for epoch in [a.epoch.0 + 1, before.0 - 1] {
        let stranger = beat("a", Epoch(epoch), Some(&a.owned));
        assert_eq!(
            shard.consumer_beat(stranger),
            Err(GroupError::FencedMemberEpoch)
        );
    }
    let too_much = Partitions::from([shard.place("flights", 0)]);
    assert_eq!(
        shard.consumer_beat(beat("a", before, Some(&too_much))),
        Err(GroupError::FencedMemberEpoch),
        "it owns what it was not given"
    );
}

#[test]
fn who_is_not_a_member_is_told_so() {
    let mut shard = shard();
    assert_eq!(
        shard.consumer_beat(beat("a", Epoch(1), None)),
        Err(GroupError::GroupIdNotFound)
    );
    assert_eq!(
        shard.consumer_beat(beat("a", Epoch::LEAVING, None)),
        Err(GroupError::GroupIdNotFound)
    );
    Client::join(&mut shard, joining("a", &["orders"]));
    for epoch in [Epoch(1), Epoch::LEAVING] {
        assert_eq!(
            shard.consumer_beat(beat("b", epoch, None)),
            Err(GroupError::UnknownMember)
        );
    }
    let unknown = ConsumerHeartbeatRequest {
        assignor: Some("best".to_owned()),
        ..joining("b", &["orders"])
    };
    assert_eq!(
        shard.consumer_beat(unknown),
        Err(GroupError::UnsupportedAssignor)
    );
}

#[test]
fn a_refused_first_heartbeat_leaves_no_group_behind() {
    let mut shard = shard();
    let wrong = ConsumerHeartbeatRequest {
        regex: Some("(".to_owned()),
        ..joining("a", &[])
    };
    assert_eq!(
        shard.consumer_beat(wrong),
        Err(GroupError::InvalidRegularExpression)
    );
    assert_eq!(shard.coordinator.group_count(), 0);
    assert!(shard.log.is_empty());
}

#[test]
fn a_member_that_leaves_makes_room_at_once() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    settle(&mut shard, &mut [&mut a, &mut b]);
    let left = shard
        .consumer_beat(beat("a", Epoch::LEAVING, None))
        .unwrap();
    assert_eq!(left.epoch, Epoch::LEAVING);
    b.beat(&mut shard);
    assert_eq!(b.owned.len(), 4);
    shard
        .consumer_beat(beat("b", Epoch::LEAVING, None))
        .unwrap();
    assert_eq!(shard.state(), GroupState::Empty);
    assert_eq!(shard.describe_consumer().unwrap().epoch, Epoch(4));
    let call = shard.ask(Request::DeleteGroup(GROUP.into()));
    assert_eq!(shard.take(call), Some(Response::DeleteGroup(Ok(()))));
    assert!(
        shard.replayed().groups_for_tests().is_empty(),
        "nothing is left in the log"
    );
}

#[test]
fn a_topic_that_comes_grows_and_goes_changes_the_assignment() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders", "later"]));
    shard.set_cluster(shard.cluster.clone().with("later", 3));
    a.beat(&mut shard);
    assert_eq!((a.epoch, a.owned.len()), (Epoch(2), 7));
    shard.set_cluster(shard.cluster.clone().with("orders", 6));
    a.beat(&mut shard);
    assert_eq!((a.epoch, a.owned.len()), (Epoch(3), 9));
    shard.set_cluster(shard.cluster.clone().with("unrelated", 1));
    a.beat(&mut shard);
    assert_eq!(a.epoch, Epoch(3), "nobody reads it");
    shard.set_cluster(shard.cluster.clone().without("later"));
    a.beat(&mut shard);
    a.beat(&mut shard);
    assert_eq!((a.epoch, a.owned.len()), (Epoch(4), 6));
}

#[test]
fn an_expression_matches_whole_names_of_topics_now_and_later() {
    let mut shard = shard();
    let request = ConsumerHeartbeatRequest {
        topics: None,
        regex: Some("ord.*|f".to_owned()),
        ..joining("a", &[])
    };
    let mut a = Client::join(&mut shard, request);
    assert_eq!(a.owned.len(), 4, "orders, and not flights");
    shard.set_cluster(shard.cluster.clone().with("ordinary", 2));
    shard.advance(1_000);
    a.beat(&mut shard);
    assert_eq!(a.owned.len(), 6);
    shard.crash();
    a.beat(&mut shard);
    assert_eq!(
        (a.epoch, a.owned.len()),
        (Epoch(2), 6),
        "the log knows what matched"
    );
    // Another one: the first is forgotten.
    let request = ConsumerHeartbeatRequest {
        regex: Some("flights".to_owned()),
        ..beat("a", a.epoch, Some(&a.owned))
    };
    a.owned = shard.consumer_beat(request).unwrap().assignment.unwrap();
    a.beat(&mut shard);
    a.beat(&mut shard);
    assert_eq!(a.owned.len(), 2);
    let description = shard.describe_consumer().unwrap();
    assert_eq!(description.members[0].regex.as_deref(), Some("flights"));
}

#[test]
fn a_static_member_that_is_away_keeps_what_it_has() {
    let mut shard = shard();
    let of = |member: &str, epoch| ConsumerHeartbeatRequest {
        instance: Some("one".into()),
        epoch,
        ..joining(member, &["orders"])
    };
    let mut a = Client::join(&mut shard, of("a", Epoch::JOINING));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    settle(&mut shard, &mut [&mut a, &mut b]);
    assert_eq!(
        shard.consumer_beat(of("a2", Epoch::JOINING)),
        Err(GroupError::UnreleasedInstanceId)
    );
    assert_eq!(
        shard.consumer_beat(of("a2", a.epoch)),
        Err(GroupError::FencedInstanceId)
    );
    let away = shard.consumer_beat(of("a", Epoch::LEAVING_FOR_A_WHILE));
    assert_eq!(away.unwrap().epoch, Epoch::LEAVING_FOR_A_WHILE);
    let epoch = b.epoch;
    b.beat(&mut shard);
    assert_eq!((b.epoch, b.owned.len()), (epoch, 2), "its place is kept");
    shard.crash();
    let back = Client::join(&mut shard, of("a2", Epoch::JOINING));
    assert_eq!((back.epoch, back.owned), (epoch, a.owned));
    assert_eq!(
        shard.consumer_beat(of("a", a.epoch)),
        Err(GroupError::FencedInstanceId)
    );
    // Away for longer than its session.
    shard
        .consumer_beat(of("a2", Epoch::LEAVING_FOR_A_WHILE))
        .unwrap();
    for _ in 0..5 {
        shard.advance(10_000);
        b.beat(&mut shard);
    }
    assert_eq!(b.owned.len(), 4);
}

#[test]
fn the_assignor_that_most_ask_for_is_used() {
    let mut shard = shard();
    for (member, assignor) in [("a", "range"), ("b", "uniform"), ("c", "range")] {
        let request = ConsumerHeartbeatRequest {
            assignor: Some(assignor.to_owned()),
            ..joining(member, &["orders"])
        };
        Client::join(&mut shard, request);
    }
    assert_eq!(shard.describe_consumer().unwrap().assignor, "range");
}

#[test]
fn members_commit_in_their_epoch_or_since_they_were_given_the_partition() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let topic = TopicRef {
        id: shard.cluster.topic("orders").unwrap().id,
        ..topic_ref("orders")
    };
    let of = |member: &str, epoch: Epoch, partition: i32| {
        let mut request = CommitRequest {
            member: member.into(),
            generation: Generation(epoch.0),
            ..commit("orders", 7)
        };
        request.topics[0].topic = topic.clone();
        request.topics[0].partitions[0].partition = weir_wire::PartitionIndex(partition);
        request
    };
    assert_eq!(shard.commit(of("a", Epoch(1), 0)), Ok(()));
    assert_eq!(
        shard.commit(of("a", Epoch(2), 0)),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        shard.commit(of("b", Epoch(1), 0)),
        Err(GroupError::UnknownMember)
    );
    assert_eq!(
        shard.commit(commit("orders", 8)),
        Err(GroupError::UnknownMember)
    );
    let old = CommitRequest {
        tells_missing_group: false,
        ..of("a", Epoch(1), 0)
    };
    assert_eq!(shard.commit(old), Err(GroupError::UnsupportedVersion));
    let mut b = Client::join(&mut shard, joining("b", &["orders"]));
    settle(&mut shard, &mut [&mut a, &mut b]);
    let (kept, given) = (
        a.owned.first().unwrap().partition.0,
        b.owned.first().unwrap().partition.0,
    );
    assert_eq!(
        shard.commit(of("a", Epoch(1), kept)),
        Ok(()),
        "its own since epoch 1"
    );
    assert_eq!(
        shard.commit(of("a", Epoch(1), given)),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        shard.commit(of("b", Epoch(1), given)),
        Err(GroupError::StaleMemberEpoch)
    );
    let fetched = |shard: &mut Shard, member: Option<&str>, epoch: Epoch| {
        let call = shard.ask(Request::Fetch(FetchRequest {
            member: member.map(Into::into),
            epoch,
            ..fetch("orders")
        }));
        match shard.take(call) {
            Some(Response::Fetch(fetched)) => fetched.map(drop),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fetched(&mut shard, Some("a"), a.epoch), Ok(()));
    assert_eq!(fetched(&mut shard, None, Epoch::LEAVING), Ok(()));
    assert_eq!(
        fetched(&mut shard, Some("a"), Epoch(1)),
        Err(GroupError::StaleMemberEpoch)
    );
    assert_eq!(
        fetched(&mut shard, Some("c"), a.epoch),
        Err(GroupError::UnknownMember)
    );
}

#[test]
fn groups_are_listed_by_type_and_state() {
    let mut shard = shard();
    Client::join(&mut shard, joining("a", &["orders"]));
    let mut listed = |states: &[&str], types: &[&str]| {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let call = shard.ask(Request::List(ListRequest {
            states: own(states),
            types: own(types),
        }));
        match shard.take(call) {
            Some(Response::List(listed)) => listed,
            other => panic!("{other:?}"),
        }
    };
    let all = listed(&[], &[]);
    assert_eq!(
        (all[0].kind, all[0].state),
        (GroupType::Consumer, GroupState::Stable)
    );
    assert_eq!(all[0].protocol_type, "consumer");
    assert_eq!(listed(&["stable"], &["Consumer"]).len(), 1);
    assert!(listed(&[], &["classic"]).is_empty());
    assert!(listed(&["Empty"], &["consumer"]).is_empty());
}

#[test]
fn a_groups_own_settings_hold() {
    let mut shard = shard();
    let settings = GroupSettings {
        consumer_heartbeat_interval_ms: 7_000,
        consumer_session_timeout_ms: 50_000,
        ..GroupSettings::default()
    };
    shard.set_cluster(shard.cluster.clone().with_settings(settings));
    let first = shard.consumer_beat(joining("a", &["orders"])).unwrap();
    assert_eq!(first.interval_ms, 7_000);
    shard.advance(49_000);
    assert!(shard.consumer_beat(beat("a", first.epoch, None)).is_ok());
    shard.advance(51_000);
    assert!(shard.consumer_beat(beat("a", first.epoch, None)).is_err());
}

#[test]
fn a_groups_own_session_holds_for_members_that_were_loaded() {
    for (session_ms, is_there) in [(50_000, true), (3_000, false)] {
        let mut shard = shard();
        let settings = GroupSettings {
            consumer_session_timeout_ms: session_ms,
            ..GroupSettings::default()
        };
        shard.set_cluster(shard.cluster.clone().with_settings(settings));
        let first = shard.consumer_beat(joining("a", &["orders"])).unwrap();
        shard.crash();
        shard.advance(if is_there { 49_000 } else { 3_001 });
        let again = shard.consumer_beat(beat("a", first.epoch, None));
        assert_eq!(again.is_ok(), is_there, "{session_ms}");
    }
}

#[test]
fn a_loaded_group_goes_on_where_it_was() {
    let mut shard = shard();
    let mut a = Client::join(&mut shard, joining("a", &["orders"]));
    let mut b = Client::join(&mut shard, joining("b", &["orders", "flights"]));
    a.beat(&mut shard);
    let before = shard.describe_consumer().unwrap();
    shard.crash();
    assert_eq!(shard.describe_consumer().unwrap(), before);
    b.beat(&mut shard);
    assert!(b.owned.iter().all(|place| !a.owned.contains(place)));
    settle(&mut shard, &mut [&mut a, &mut b]);
    let topics: BTreeSet<_> = a.owned.union(&b.owned).collect();
    assert_eq!(topics.len(), 6);
}

#[test]
fn an_empty_classic_group_becomes_a_consumer_group_and_keeps_its_offsets() {
    let mut shard = shard();
    assert_eq!(shard.commit(commit("orders", 41)), Ok(()));
    Client::join(&mut shard, joining("a", &["orders"]));
    assert_eq!(shard.committed("orders").unwrap().offset.0, 41);
    shard.crash();
    assert_eq!(shard.describe().kind, GroupType::Consumer);
    shard
        .consumer_beat(beat("a", Epoch::LEAVING, None))
        .unwrap();
    // And a classic one again when a classic member comes.
    let call = shard.join(super::join("", "c0"));
    shard.joined(call).unwrap();
    assert_eq!(shard.describe().kind, GroupType::Classic);
    assert_eq!(shard.committed("orders").unwrap().offset.0, 41);
}
