//! Random lives of a consumer group: members of both protocols, static ones too, that join, heartbeat, lose answers,
//! revoke late, fall silent; topics that come and go; disks that lag and coordinators that die.
//!
//! What each client believes to own is kept beside what the coordinator knows, and after every step no partition may be
//! believed to be owned by two.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::cluster::TestCluster;
use super::consumer::{beat, joining};
use super::{GROUP, Shard};
use crate::group::Kind;
use crate::request::{Beat, ConsumerHeartbeatRequest, GroupState, Request, Response};
use crate::{CallId, Config, Epoch, GroupError, Partitions, TopicPartition};

const CLIENTS: usize = 5;
const TOPICS: [&str; 3] = ["orders", "flights", "hotels"];
const SESSION_MS: u64 = 45_000;

#[derive(Clone, Debug)]
enum Step {
    /// The client heartbeats, or joins if it must.
    Beat(usize),
    /// The same, and the answer is lost.
    Lost(usize),
    /// It gives up what it is to give up.
    Revoke(usize),
    Leave(usize),
    /// It restarts without a word; a static one with its instance.
    Restart(usize),
    Subscribe(usize, u8),
    Wait(u64),
    Topic(usize, i32),
    Durable(usize),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        12 => client.clone().prop_map(Step::Beat),
        2 => client.clone().prop_map(Step::Lost),
        6 => client.clone().prop_map(Step::Revoke),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Restart),
        1 => (client, any::<u8>()).prop_map(|(client, topics)| Step::Subscribe(client, topics)),
        2 => (1u64..20_000).prop_map(Step::Wait),
        1 => (0..TOPICS.len(), 0i32..6).prop_map(|(topic, count)| Step::Topic(topic, count)),
        6 => (1usize..8).prop_map(Step::Durable),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..160)
}

#[derive(Clone, Debug, Default)]
struct Client {
    /// Of which incarnation; names the member.
    life: u32,
    epoch: Epoch,
    joined: bool,
    /// What it may consume, as it was told.
    assigned: Partitions,
    /// What it consumes: what it was assigned and has not given up yet.
    owned: Partitions,
    topics: BTreeSet<String>,
    by_regex: bool,
    waits: Option<CallId>,
    /// An answer was lost: it says everything again, to hear everything.
    is_unsure: bool,
    /// When it sent the last heartbeat that was answered; after its session it stops consuming by itself.
    heard_ms: u64,
}

/// A call that is not answered yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    client: usize,
    /// Whether the answer will be heard.
    is_heard: bool,
    /// The client's incarnation that made it.
    life: u32,
    sent_ms: u64,
}

struct World {
    shard: Shard,
    clients: Vec<Client>,
    open: BTreeMap<CallId, Open>,
    newest_epochs: BTreeMap<String, Epoch>,
}

impl World {
    fn new() -> Self {
        let mut shard = Shard::with(Config {
            offsets_check_interval_ms: u64::MAX / 2,
            ..Config::default()
        });
        shard.syncs = false;
        shard.set_cluster(TestCluster::default().with("orders", 5).with("flights", 3));
        let client = Client {
            topics: TOPICS.iter().map(|topic| (*topic).to_owned()).collect(),
            ..Client::default()
        };
        Self {
            shard,
            clients: vec![client; CLIENTS],
            open: BTreeMap::new(),
            newest_epochs: BTreeMap::new(),
        }
    }

    /// Every other client is static.
    fn instance(client: usize) -> Option<String> {
        (client % 2 == 1).then(|| format!("i{client}"))
    }

    fn member(&self, client: usize) -> String {
        format!("m{client}-{}", self.clients[client].life)
    }

    fn request(&self, client: usize) -> ConsumerHeartbeatRequest {
        let (state, member) = (&self.clients[client], self.member(client));
        let instance = Self::instance(client).map(|instance| instance.as_str().into());
        if state.joined && !state.is_unsure {
            return ConsumerHeartbeatRequest {
                instance,
                ..beat(&member, state.epoch, Some(&state.owned))
            };
        }
        let regex = if state.by_regex { "[of].*" } else { "" };
        let (epoch, owned) = match state.joined {
            true => (state.epoch, state.owned.clone()),
            false => (Epoch::JOINING, Partitions::new()),
        };
        ConsumerHeartbeatRequest {
            instance,
            epoch,
            owned: Some(owned),
            // Who is slow to give up is not removed: it would not know in time, as with Kafka.
            rebalance_timeout_ms: Some(i32::MAX),
            topics: Some(state.topics.clone()),
            regex: Some(regex.to_owned()),
            ..joining(&member, &[])
        }
    }

    fn opened(&mut self, call: CallId, client: usize, is_heard: bool) {
        let open = Open {
            client,
            is_heard,
            life: self.clients[client].life,
            sent_ms: self.shard.now.mono.0,
        };
        self.open.insert(call, open);
    }

    fn beat(&mut self, client: usize, is_heard: bool) {
        if self.clients[client].waits.is_some() {
            return;
        }
        let request = self.request(client);
        let call = self.shard.ask(Request::ConsumerHeartbeat(request));
        if is_heard {
            self.clients[client].waits = Some(call);
        }
        self.clients[client].is_unsure = !is_heard;
        self.opened(call, client, is_heard);
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Beat(client) => self.beat(client, true),
            Step::Lost(client) => self.beat(client, false),
            Step::Revoke(client) => self.revoke(client),
            Step::Leave(client) => {
                let epoch = match Self::instance(client) {
                    Some(_) => Epoch::LEAVING_FOR_A_WHILE,
                    None => Epoch::LEAVING,
                };
                let request = ConsumerHeartbeatRequest {
                    epoch,
                    ..self.request(client)
                };
                let call = self.shard.ask(Request::ConsumerHeartbeat(request));
                self.opened(call, client, false);
                self.restart(client);
            }
            Step::Restart(client) => self.restart(client),
            Step::Subscribe(client, mask) => {
                let state = &mut self.clients[client];
                let all = TOPICS.iter().enumerate();
                let chosen = all.filter(|(place, _)| mask & (1 << place) != 0);
                state.topics = chosen.map(|(_, topic)| (*topic).to_owned()).collect();
                state.by_regex = mask & 8 != 0;
                self.resubscribe(client);
            }
            Step::Wait(ms) => {
                self.shard.advance(ms);
                self.give_up_late();
            }
            Step::Topic(topic, count) => {
                let cluster = self.shard.cluster.clone();
                let cluster = match count {
                    0 => cluster.without(TOPICS[topic]),
                    count => cluster.with(TOPICS[topic], count),
                };
                self.shard.set_cluster(cluster);
            }
            Step::Durable(records) => {
                let length = (self.shard.durable + records).min(self.shard.log.len());
                self.shard.sync_to(length);
            }
            Step::Crash => {
                self.shard.crash();
                self.open.clear();
                for client in &mut self.clients {
                    client.is_unsure |= client.waits.take().is_some();
                }
            }
        }
        self.hear();
        self.check();
    }

    /// Says anew what it subscribes to, with its next heartbeat.
    fn resubscribe(&mut self, client: usize) {
        if !self.clients[client].joined || self.clients[client].waits.is_some() {
            self.clients[client].is_unsure = true;
            return;
        }
        let state = &self.clients[client];
        let regex = if state.by_regex { "[of].*" } else { "" };
        let request = ConsumerHeartbeatRequest {
            topics: Some(state.topics.clone()),
            regex: Some(regex.to_owned()),
            ..self.request(client)
        };
        let call = self.shard.ask(Request::ConsumerHeartbeat(request));
        self.clients[client].waits = Some(call);
        self.opened(call, client, true);
    }

    fn revoke(&mut self, client: usize) {
        let state = &mut self.clients[client];
        let assigned = &state.assigned;
        state.owned.retain(|place| assigned.contains(place));
    }

    /// Another process takes its place: what the old one owned it owns no more.
    fn restart(&mut self, client: usize) {
        let state = &mut self.clients[client];
        state.life += 1;
        state.joined = false;
        state.waits = None;
        state.epoch = Epoch(0);
        state.assigned.clear();
        state.owned.clear();
    }

    /// A client that has not heard from the coordinator for its session stops by itself.
    fn give_up_late(&mut self) {
        let now = self.shard.now.mono.0;
        for client in &mut self.clients {
            if client.joined && now.saturating_sub(client.heard_ms) >= SESSION_MS {
                client.owned.clear();
                client.assigned.clear();
                client.joined = false;
                // Nor does it go by an answer that is still on its way: it is told what it has when it joins again.
                client.waits = None;
            }
        }
    }

    fn hear(&mut self) {
        for (call, response) in std::mem::take(&mut self.shard.replies) {
            let open = self.open.remove(&call).expect("an open call");
            let client = open.client;
            let Response::ConsumerHeartbeat(outcome) = response else {
                panic!("a heartbeat's answer wanted, {response:?} found");
            };
            if let Ok(beat) = &outcome {
                self.check_told(beat);
            }
            let state = &self.clients[client];
            let is_same = state.waits == Some(call) && state.life == open.life;
            if !open.is_heard || !is_same {
                continue;
            }
            // Its session may have ended before the answer came: it does not go by it.
            let is_late = self.shard.now.mono.0 >= open.sent_ms + SESSION_MS;
            let state = &mut self.clients[client];
            state.waits = None;
            match outcome {
                Ok(_) if is_late => state.is_unsure = true,
                Ok(beat) => {
                    (state.joined, state.epoch) = (true, beat.epoch);
                    state.heard_ms = open.sent_ms;
                    if let Some(assignment) = beat.assignment {
                        state.owned.extend(assignment.iter().copied());
                        state.assigned = assignment;
                    }
                }
                Err(GroupError::UnreleasedInstanceId) => {}
                Err(_) => {
                    state.owned.clear();
                    state.assigned.clear();
                    state.joined = false;
                    if Self::instance(client).is_some() {
                        state.life += 1;
                    }
                }
            }
        }
    }

    /// What is told is in the durable log, and epochs never go back.
    fn check_told(&mut self, beat: &Beat) {
        if beat.epoch < Epoch(0) {
            return;
        }
        let member = beat.member.to_string();
        let before = self.newest_epochs.entry(member).or_default();
        assert!(beat.epoch >= *before, "the epoch of a member went back");
        *before = beat.epoch;
    }

    fn check(&mut self) {
        let mut owners: BTreeMap<TopicPartition, usize> = BTreeMap::new();
        for (client, state) in self.clients.iter().enumerate() {
            for place in &state.owned {
                let before = owners.insert(*place, client);
                assert_eq!(before, None, "{place:?} is consumed by two");
            }
        }
        let groups = self.shard.coordinator.groups_for_tests();
        if let Some(Kind::Consumer(group)) = groups.get(GROUP).map(|group| &group.kind) {
            group.check();
        }
        let replayed = self.shard.replayed();
        for (id, group) in groups {
            let other = replayed.groups_for_tests().get(id);
            if let (Kind::Consumer(group), Some(Kind::Consumer(other))) =
                (&group.kind, other.map(|group| &group.kind))
            {
                group.assert_same(other);
            } else {
                assert!(
                    !group.kind.is_stored(),
                    "the log knows nothing of {group:?}"
                );
            }
        }
    }

    /// Every client behaves, the disk keeps up, nobody dies: the group must come to rest.
    fn heal(&mut self) {
        self.shard.syncs = true;
        self.shard.sync_all();
        self.hear();
        for round in 0..60 {
            for client in 0..CLIENTS {
                self.revoke(client);
                self.beat(client, true);
                self.hear();
                self.check();
            }
            self.shard.advance(if round < 15 { 4_000 } else { 100 });
            self.give_up_late();
            self.hear();
        }
        assert_eq!(self.shard.state(), GroupState::Stable);
        let mut wanted: BTreeMap<String, bool> = BTreeMap::new();
        for state in &self.clients {
            assert!(state.joined);
            for (name, _, _) in self.shard.cluster.topics() {
                let reads =
                    state.topics.contains(name) || (state.by_regex && name.starts_with(['o', 'f']));
                *wanted.entry(name.to_owned()).or_default() |= reads;
            }
        }
        let owned: usize = self.clients.iter().map(|state| state.owned.len()).sum();
        let all = self.shard.cluster.topics();
        let all = all.filter(|(name, _, _)| wanted[*name]);
        let all: i32 = all.map(|(_, _, count)| count).sum();
        assert_eq!(
            owned,
            usize::try_from(all).unwrap(),
            "each partition has an owner"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, max_shrink_iters: 500, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_owners_and_the_group_comes_to_rest(steps in steps()) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        world.heal();
    }
}
