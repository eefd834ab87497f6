//! Groups that are paused: members stay, partitions do not.

use super::cluster::TestCluster;
use super::consumer::{beat, joining};
use super::{GROUP, Shard, join, protocol};
use crate::request::{Beat, Consumption, JoinRequest};
use crate::{Epoch, GroupError, GroupSettings, Partitions, Request, Response};

/// What every client takes for "no partitions".
const NOTHING: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

impl Shard {
    fn pause(&mut self, is_paused: bool) {
        let settings = GroupSettings {
            is_paused,
            ..GroupSettings::default()
        };
        self.set_cluster(self.cluster.clone().with_settings(settings));
    }

    fn consumption(&mut self) -> Consumption {
        self.describe().consumption
    }

    /// The one member of a classic group joins again and is its own leader; what it is given.
    fn round(&mut self, member: &str) -> (String, i32, Vec<u8>) {
        let call = self.join(join(member, "c0"));
        let joined = self.joined(call).unwrap();
        let (id, generation) = (joined.member.to_string(), joined.generation.0);
        let call = self.sync(&id, generation, &[(&id, "all")]);
        let assignment = self.synced(call).unwrap().assignment.to_vec();
        (id, generation, assignment)
    }
}

#[test]
fn a_classic_group_is_paused_and_resumed_while_its_member_stays() {
    let mut shard = Shard::new();
    let (id, generation, assignment) = shard.round("");
    assert_eq!(assignment, b"all");
    shard.pause(true);
    assert_eq!(shard.consumption(), Consumption::Pausing);
    assert_eq!(
        shard.heartbeat(&id, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let (_, generation, assignment) = shard.round(&id);
    assert_eq!(assignment, NOTHING);
    assert_eq!(shard.consumption(), Consumption::Paused);
    for reloads in [false, true] {
        if reloads {
            shard.crash();
        }
        assert_eq!(shard.heartbeat(&id, generation), Ok(()), "it stays so");
        assert_eq!(shard.consumption(), Consumption::Paused);
    }
    shard.pause(false);
    assert_eq!(
        shard.heartbeat(&id, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let (_, generation, assignment) = shard.round(&id);
    assert_eq!(assignment, b"all");
    assert_eq!(shard.heartbeat(&id, generation), Ok(()));
    assert_eq!(shard.consumption(), Consumption::Running);
}

#[test]
fn a_member_that_joins_a_paused_group_has_nothing() {
    let mut shard = Shard::new();
    shard.pause(true);
    let (id, generation, assignment) = shard.round("");
    assert_eq!(assignment, NOTHING);
    assert_eq!(shard.heartbeat(&id, generation), Ok(()));
    assert_eq!(shard.consumption(), Consumption::Paused);
}

#[test]
fn a_leader_that_gave_nobody_anything_rebalances_once_more_and_no_more() {
    let mut shard = Shard::new();
    let (id, ..) = shard.round("");
    let call = shard.join(join(&id, "c0"));
    let generation = shard.joined(call).unwrap().generation.0;
    let request = super::sync(&id, generation, &[]);
    let request = crate::request::SyncRequest {
        assignments: vec![(id.as_str().into(), NOTHING.into())],
        ..request
    };
    shard.ask(Request::Sync(request));
    assert_eq!(shard.heartbeat(&id, generation), Ok(()));
    shard.crash();
    assert_eq!(
        shard.heartbeat(&id, generation),
        Err(GroupError::RebalanceInProgress)
    );
    let (_, generation, _) = shard.round(&id);
    assert_eq!(shard.heartbeat(&id, generation), Ok(()));
}

/// Kafka Streams finds its tasks in what the leader says, and ends without.
#[test]
fn groups_whose_members_tell_each_other_more_than_partitions_are_left_alone() {
    for (protocol_type, name) in [("connect", "compatible"), ("consumer", "stream")] {
        let mut shard = Shard::new();
        shard.pause(true);
        let request = JoinRequest {
            protocol_type: protocol_type.to_owned(),
            protocols: vec![protocol(name, &["orders"])],
            ..join("", "c0")
        };
        let call = shard.join(request);
        let id = shard.joined(call).unwrap().member.to_string();
        let call = shard.sync(&id, 1, &[(&id, "all")]);
        assert_eq!(shard.synced(call).unwrap().assignment, b"all".as_slice());
        assert_eq!(shard.heartbeat(&id, 1), Ok(()));
        assert_eq!(shard.consumption(), Consumption::NotPausable);
    }
}

#[test]
fn a_consumer_group_is_paused_and_resumed_while_its_members_stay() {
    let mut shard = Shard::new();
    shard.set_cluster(TestCluster::default().with("orders", 4));
    let first = shard.consumer_beat(joining("a", &["orders"])).unwrap();
    let owned = first.assignment.unwrap();
    assert_eq!(owned.len(), 4);
    shard.pause(true);
    let told = shard
        .consumer_beat(beat("a", first.epoch, Some(&owned)))
        .unwrap();
    assert_eq!(told.assignment, Some(Partitions::new()));
    assert_eq!(
        shard.consumption(),
        Consumption::Pausing,
        "it has not said that it gave them up"
    );
    let nothing = Partitions::new();
    let given_up = shard
        .consumer_beat(beat("a", told.epoch, Some(&nothing)))
        .unwrap();
    assert_eq!(shard.consumption(), Consumption::Paused);
    // A topic that comes or grows gives nobody anything.
    shard.set_cluster(shard.cluster.clone().with("orders", 8));
    shard.crash();
    let still: Beat = shard
        .consumer_beat(beat("a", given_up.epoch, Some(&nothing)))
        .unwrap();
    assert!(still.assignment.unwrap_or_default().is_empty());
    shard.pause(false);
    let resumed = shard
        .consumer_beat(beat("a", still.epoch, Some(&nothing)))
        .unwrap();
    assert_eq!(resumed.assignment.unwrap().len(), 8);
    assert_eq!(shard.consumption(), Consumption::Running);
}

#[test]
fn a_share_group_is_paused_and_resumed_while_its_members_stay() {
    let mut shard = Shard::new();
    shard.set_cluster(TestCluster::default().with("orders", 4));
    let beat = |shard: &mut Shard, epoch: Epoch| -> Beat {
        let topics = (epoch == Epoch::JOINING).then(|| ["orders".to_owned()].into());
        let request = crate::request::ShareHeartbeatRequest {
            group: GROUP.into(),
            member: "a".into(),
            epoch,
            rack: None,
            client_id: "app".to_owned(),
            client_host: "/127.0.0.1".to_owned(),
            topics,
        };
        let call = shard.ask(Request::ShareHeartbeat(request));
        match shard.take(call) {
            Some(Response::ShareHeartbeat(outcome)) => outcome.unwrap(),
            other => panic!("a heartbeat's answer wanted, {other:?} found"),
        }
    };
    let joined = beat(&mut shard, Epoch::JOINING);
    assert_eq!(joined.assignment.unwrap().len(), 4);
    shard.pause(true);
    let paused = beat(&mut shard, joined.epoch);
    assert_eq!(paused.assignment, Some(Partitions::new()));
    assert_eq!(shard.consumption(), Consumption::Paused);
    shard.pause(false);
    let resumed = beat(&mut shard, paused.epoch);
    assert_eq!(resumed.assignment.unwrap().len(), 4);
}
