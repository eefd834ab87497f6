//! A shard on a virtual clock: its log is a list, and each test says what of it is durable, and when.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

mod classic;
pub(crate) mod cluster;
mod consumer;
mod consumer_random;
mod durability;
mod expiry;
mod migration;
mod offsets;
mod pause;
mod random;
mod reset;
mod static_members;
mod transactional;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use self::cluster::TestCluster;
use crate::classic::{Classic, subscription};
use crate::group::Kind;
use crate::request::{
    CommitPartition, CommitRequest, CommitTopic, CommittedOffset, Description, FetchRequest,
    GroupState, HeartbeatRequest, JoinRefused, JoinRequest, Joined, LeaveRequest, Leaving, Left,
    Protocol, SyncRequest, Synced, TopicRef,
};
use crate::{
    CallId, Config, Coordinator, Entry, Epoch, Generation, GroupError, Loader, Machine, MonoMs,
    Now, Position, Request, Response, StoredRecord, WallMs,
};

pub(crate) const GROUP: &str = "shop";

/// A shard and its surroundings.
pub(crate) struct Shard {
    pub(crate) config: Config,
    pub(crate) cluster: TestCluster,
    pub(crate) coordinator: Coordinator,
    /// Everything that was appended since the beginning of time.
    pub(crate) log: Vec<Entry>,
    /// How much of the log was there when the coordinator was loaded.
    loaded: usize,
    /// Lengths at which the log cannot end, for what comes next belongs to what was before.
    within: BTreeSet<usize>,
    /// How much of the log is durable.
    pub(crate) durable: usize,
    /// Whether what is appended is durable at once.
    pub(crate) syncs: bool,
    pub(crate) now: Now,
    calls: u64,
    pub(crate) replies: BTreeMap<CallId, Response>,
}

impl Shard {
    /// An empty shard without an initial delay.
    pub(crate) fn new() -> Self {
        Self::with(Config {
            initial_rebalance_delay_ms: 0,
            ..Config::default()
        })
    }

    pub(crate) fn with(config: Config) -> Self {
        let now = Now {
            mono: MonoMs(1_000_000),
            wall: WallMs(1_700_000_000_000),
        };
        Self {
            coordinator: Loader::default().finish(config.clone(), now),
            config,
            cluster: TestCluster::default(),
            log: Vec::new(),
            within: BTreeSet::new(),
            loaded: 0,
            durable: 0,
            syncs: true,
            now,
            calls: 0,
            replies: BTreeMap::new(),
        }
    }

    /// The metadata has changed.
    pub(crate) fn set_cluster(&mut self, cluster: TestCluster) {
        self.cluster = cluster;
        self.coordinator
            .set_cluster(Arc::new(self.cluster.clone()), self.now);
    }

    pub(crate) fn ask(&mut self, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.coordinator.handle(call, request, self.now);
        self.carry();
        call
    }

    /// Carries out what the coordinator wants.
    pub(crate) fn carry(&mut self) {
        let effects = self.coordinator.take_effects();
        assert_eq!(effects.broken, None);
        for entry in effects.entries {
            match entry {
                Entry::Together(records) => {
                    let start = self.log.len();
                    self.log.extend(records.into_iter().map(Entry::Record));
                    self.within.extend(start + 1..self.log.len());
                }
                entry => self.log.push(entry),
            }
        }
        assert_eq!(
            Position((self.log.len() - self.loaded) as u64),
            effects.position
        );
        for reply in effects.replies {
            assert_eq!(
                self.replies.insert(reply.call, reply.response),
                None,
                "answered twice"
            );
        }
        if self.syncs && self.durable < self.log.len() {
            self.sync_to(self.log.len());
        }
    }

    /// The durable records of the log.
    pub(crate) fn durable_records(&self) -> impl Iterator<Item = &StoredRecord> {
        self.log[..self.durable].iter().map(|entry| match entry {
            Entry::Record(record) => record,
            other => panic!("outside of transactions: {other:?}"),
        })
    }

    /// The first `length` records of the log become durable, and those that belong to them.
    pub(crate) fn sync_to(&mut self, mut length: usize) {
        while self.within.contains(&length) {
            length += 1;
        }
        self.durable = length;
        self.coordinator
            .durable(Position((length - self.loaded) as u64));
        self.carry();
    }

    pub(crate) fn sync_all(&mut self) {
        self.sync_to(self.log.len());
    }

    /// Lets time pass, stopping at each deadline.
    pub(crate) fn advance(&mut self, ms: u64) {
        let end = self.now.mono.after(ms);
        loop {
            let next = self.coordinator.next_deadline();
            let at = next.min(end).max(self.now.mono);
            self.now.wall.0 += (at.0 - self.now.mono.0) as i64;
            self.now.mono = at;
            if next > end {
                return;
            }
            self.coordinator.tick(self.now);
            self.carry();
        }
    }

    /// The process dies and another loads the shard: what was not durable is gone, and so is who waited.
    pub(crate) fn crash(&mut self) {
        self.log.truncate(self.durable);
        self.within.retain(|length| *length < self.durable);
        self.loaded = self.log.len();
        self.coordinator = self.replayed();
        self.carry();
    }

    /// What another broker would load from the log as it is.
    pub(crate) fn replayed(&self) -> Coordinator {
        let mut loader = Loader::default();
        for entry in &self.log {
            for read in entry.replayed() {
                Coordinator::replay(&mut loader, read).unwrap();
            }
        }
        let mut coordinator = loader.finish(self.config.clone(), self.now);
        coordinator.set_cluster(Arc::new(self.cluster.clone()), self.now);
        coordinator
    }

    pub(crate) fn take(&mut self, call: CallId) -> Option<Response> {
        self.replies.remove(&call)
    }

    pub(crate) fn joined(&mut self, call: CallId) -> Result<Joined, JoinRefused> {
        match self.take(call) {
            Some(Response::Join(joined)) => joined,
            other => panic!("a join's answer wanted, {other:?} found"),
        }
    }

    pub(crate) fn synced(&mut self, call: CallId) -> Result<Synced, GroupError> {
        match self.take(call) {
            Some(Response::Sync(synced)) => synced,
            other => panic!("a sync's answer wanted, {other:?} found"),
        }
    }

    pub(crate) fn join(&mut self, request: JoinRequest) -> CallId {
        self.ask(Request::Join(request))
    }

    pub(crate) fn sync(
        &mut self,
        member: &str,
        generation: i32,
        assignments: &[(&str, &str)],
    ) -> CallId {
        self.ask(Request::Sync(sync(member, generation, assignments)))
    }

    pub(crate) fn heartbeat(&mut self, member: &str, generation: i32) -> Result<(), GroupError> {
        let call = self.ask(Request::Heartbeat(HeartbeatRequest {
            group: GROUP.into(),
            member: member.into(),
            instance: None,
            generation: Generation(generation),
        }));
        match self.take(call) {
            Some(Response::Heartbeat(outcome)) => outcome,
            other => panic!("a heartbeat's answer wanted, {other:?} found"),
        }
    }

    pub(crate) fn leave(&mut self, members: &[(&str, Option<&str>)]) -> Vec<Left> {
        let members = members.iter().map(|(member, instance)| Leaving {
            member: (*member).into(),
            instance: instance.map(Into::into),
        });
        let request = LeaveRequest {
            group: GROUP.into(),
            members: members.collect(),
        };
        let call = self.ask(Request::Leave(request));
        match self.take(call) {
            Some(Response::Leave(left)) => left.unwrap(),
            other => panic!("a leave's answer wanted, {other:?} found"),
        }
    }

    pub(crate) fn describe(&mut self) -> Description {
        let call = self.ask(Request::Describe(GROUP.into()));
        match self.take(call) {
            Some(Response::Describe(description)) => description.unwrap(),
            other => panic!("a description wanted, {other:?} found"),
        }
    }

    pub(crate) fn state(&mut self) -> GroupState {
        self.describe().state
    }

    pub(crate) fn commit(&mut self, request: CommitRequest) -> Result<(), GroupError> {
        let call = self.ask(Request::Commit(request));
        match self.take(call) {
            Some(Response::Commit(topics)) => topics[0].partitions[0].1,
            other => panic!("a commit's answer wanted, {other:?} found"),
        }
    }

    /// The offset committed for partition 0 of `topic`.
    pub(crate) fn committed(&mut self, topic: &str) -> Option<CommittedOffset> {
        let call = self.ask(Request::Fetch(fetch(topic)));
        match self.take(call) {
            Some(Response::Fetch(Ok(topics))) => topics[0].partitions[0].1.clone(),
            other => panic!("a fetch's answer wanted, {other:?} found"),
        }
    }

    /// A group of so many members, stable; each is assigned its own id. Members' ids, the leader first.
    pub(crate) fn stable(&mut self, members: usize) -> (Vec<String>, i32) {
        assert!(self.config.initial_rebalance_delay_ms == 0);
        let first = self.join(join("", "c0"));
        let mut ids = vec![self.joined(first).unwrap().member.to_string()];
        for index in 1..members {
            let newcomer = self.join(join("", &format!("c{index}")));
            let known: Vec<CallId> = ids.iter().map(|id| self.join(join(id, "c0"))).collect();
            for call in known {
                self.joined(call).unwrap();
            }
            ids.push(self.joined(newcomer).unwrap().member.to_string());
        }
        let leader = self.joined_leader();
        ids.sort_by_key(|id| *id != leader);
        let generation = members as i32;
        let assignments: Vec<(&str, &str)> =
            ids.iter().map(|id| (id.as_str(), id.as_str())).collect();
        for id in ids.iter().rev() {
            let brought = if *id == leader {
                assignments.as_slice()
            } else {
                &[]
            };
            self.sync(id, generation, brought);
        }
        self.replies.clear();
        assert_eq!(self.state(), GroupState::Stable);
        (ids, generation)
    }

    /// The group, which is a classic one.
    pub(crate) fn classic(&self) -> &Classic {
        classic_of(&self.coordinator)
    }

    fn joined_leader(&self) -> String {
        self.classic().leader.as_ref().unwrap().to_string()
    }
}

pub(crate) fn classic_of(coordinator: &Coordinator) -> &Classic {
    match &coordinator.groups_for_tests()[GROUP].kind {
        Kind::Classic(group) => group,
        Kind::Consumer(_) | Kind::Share(_) => panic!("a classic group wanted"),
    }
}

pub(crate) fn join(member: &str, client: &str) -> JoinRequest {
    JoinRequest {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        client_id: client.to_owned(),
        client_host: "/127.0.0.1".to_owned(),
        session_timeout_ms: 10_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: "consumer".to_owned(),
        protocols: vec![protocol("range", &["orders"])],
        member_id_required: false,
        can_skip_assignment: false,
        unique: "1".to_owned(),
    }
}

pub(crate) fn protocol(name: &str, topics: &[&str]) -> Protocol {
    Protocol {
        name: name.to_owned(),
        metadata: subscription::encode(topics),
    }
}

pub(crate) fn sync(member: &str, generation: i32, assignments: &[(&str, &str)]) -> SyncRequest {
    let assignments = assignments.iter().map(|(member, assignment)| {
        (
            (*member).into(),
            Bytes::copy_from_slice(assignment.as_bytes()),
        )
    });
    SyncRequest {
        group: GROUP.into(),
        member: member.into(),
        instance: None,
        generation: Generation(generation),
        protocol_type: None,
        protocol: None,
        assignments: assignments.collect(),
    }
}

/// Commits `offset` for partition 0 of `topic`, in the name of nobody.
pub(crate) fn commit(topic: &str, offset: i64) -> CommitRequest {
    CommitRequest {
        group: GROUP.into(),
        member: "".into(),
        instance: None,
        generation: Generation::NONE,
        retention_ms: None,
        tells_missing_group: true,
        topics: vec![CommitTopic {
            topic: topic_ref(topic),
            partitions: vec![CommitPartition {
                partition: PartitionIndex(0),
                offset: Offset(offset),
                leader_epoch: LeaderEpoch::NONE,
                metadata: String::new(),
            }],
        }],
    }
}

pub(crate) fn fetch(topic: &str) -> FetchRequest {
    FetchRequest {
        group: GROUP.into(),
        member: None,
        epoch: Epoch::LEAVING,
        topics: Some(vec![(topic_ref(topic), vec![PartitionIndex(0)])]),
    }
}

pub(crate) fn topic_ref(name: &str) -> TopicRef {
    TopicRef {
        name: name.to_owned(),
        id: TopicId::ZERO,
    }
}
