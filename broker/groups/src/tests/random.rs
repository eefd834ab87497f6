//! Random lives of a group: members that join, sync, restart, fall silent, commit; disks that lag; coordinators that die.
//!
//! After every step the invariants of the crate are checked against what clients were told and what the log has.

mod checks;

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use weir_wire::Offset;

use super::{GROUP, Shard, commit, fetch, join, protocol, sync};
use crate::request::{
    CommitRequest, GroupState, HeartbeatRequest, JoinRequest, Joined, LeaveRequest, Leaving,
    Response, SyncRequest,
};
use crate::{CallId, Config, Generation, GroupError, MemberId, Request};

const CLIENTS: usize = 4;
/// Partitions that leaders hand out.
const PARTITIONS: u8 = 5;
const TOPICS: [&str; 2] = ["orders", "flights"];

#[derive(Clone, Debug)]
enum Step {
    Join(usize),
    Sync(usize),
    Beat(usize),
    Leave(usize),
    Restart(usize),
    Resubscribe(usize),
    Commit(usize, usize),
    Fetch(usize),
    Wait(u64),
    Durable(usize),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let topic = 0..TOPICS.len();
    let step = prop_oneof![
        6 => client.clone().prop_map(Step::Join),
        6 => client.clone().prop_map(Step::Sync),
        3 => client.clone().prop_map(Step::Beat),
        1 => client.clone().prop_map(Step::Leave),
        1 => client.clone().prop_map(Step::Restart),
        1 => client.clone().prop_map(Step::Resubscribe),
        3 => (client, topic.clone()).prop_map(|(client, topic)| Step::Commit(client, topic)),
        2 => topic.prop_map(Step::Fetch),
        2 => (1u64..8_000).prop_map(Step::Wait),
        4 => (1usize..4).prop_map(Step::Durable),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..120)
}

/// What a client asked, and what it must hold the answer against.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Join,
    Sync(Generation),
    Beat,
    Leave,
    Commit {
        topic: usize,
        offset: i64,
    },
    /// The answer must not be less than what anyone knew when it was asked.
    Fetch {
        topic: usize,
        floor: i64,
    },
}

#[derive(Clone, Debug, Default)]
struct Client {
    member: String,
    generation: Generation,
    leads: Vec<MemberId>,
    must_join: bool,
    must_sync: bool,
    owned: Vec<u8>,
    subscription: usize,
    waits: Option<CallId>,
}

struct World {
    shard: Shard,
    clients: Vec<Client>,
    open: BTreeMap<CallId, (usize, Asked)>,
    unique: u64,
    next_offset: i64,
    /// The greatest offset of each topic that anyone was told of.
    known: [i64; 2],
    /// Who was told to own a partition in a generation; static members by their instance.
    owners: BTreeMap<(Generation, u8), String>,
    newest: Generation,
}

impl World {
    fn new(delay_ms: u64) -> Self {
        let config = Config {
            initial_rebalance_delay_ms: delay_ms,
            offsets_check_interval_ms: u64::MAX / 2,
            ..Config::default()
        };
        let mut shard = Shard::with(config);
        shard.syncs = false;
        Self {
            shard,
            clients: vec![
                Client {
                    must_join: true,
                    ..Client::default()
                };
                CLIENTS
            ],
            open: BTreeMap::new(),
            unique: 0,
            next_offset: 0,
            known: [0; 2],
            owners: BTreeMap::new(),
            newest: Generation(0),
        }
    }

    /// Every other client is a static member.
    fn instance(client: usize) -> Option<&'static str> {
        [None, Some("one"), None, Some("three")][client]
    }

    fn ask(&mut self, client: usize, asked: Asked, request: Request) {
        let call = self.shard.ask(request);
        self.open.insert(call, (client, asked));
        if matches!(asked, Asked::Join | Asked::Sync(_)) {
            self.clients[client].waits = Some(call);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Join(client) => self.join(client),
            Step::Sync(client) => self.sync(client),
            Step::Beat(client) => self.beat(client),
            Step::Leave(client) => {
                let leaving = Leaving {
                    member: self.clients[client].member.as_str().into(),
                    instance: Self::instance(client).map(Into::into),
                };
                let request = LeaveRequest {
                    group: GROUP.into(),
                    members: vec![leaving],
                };
                self.ask(client, Asked::Leave, Request::Leave(request));
            }
            Step::Restart(client) => {
                let subscription = self.clients[client].subscription;
                self.clients[client] = Client {
                    must_join: true,
                    subscription,
                    ..Client::default()
                };
            }
            Step::Resubscribe(client) => {
                self.clients[client].subscription ^= 1;
                self.clients[client].must_join = true;
            }
            Step::Commit(client, topic) => self.commit(client, topic),
            Step::Fetch(topic) => {
                let asked = Asked::Fetch {
                    topic,
                    floor: self.known[topic],
                };
                self.ask(0, asked, Request::Fetch(fetch(TOPICS[topic])));
            }
            Step::Wait(ms) => self.shard.advance(ms),
            Step::Durable(records) => {
                let length = (self.shard.durable + records).min(self.shard.log.len());
                self.shard.sync_to(length);
            }
            Step::Crash => {
                self.shard.crash();
                // Their connections end with NOT_COORDINATOR.
                self.open.clear();
                self.clients
                    .iter_mut()
                    .for_each(|client| client.waits = None);
            }
        }
        self.hear();
        self.check();
    }

    fn join(&mut self, client: usize) {
        self.unique += 1;
        let state = &self.clients[client];
        let topics: &[&str] = if state.subscription == 0 {
            &["orders"]
        } else {
            &["orders", "flights"]
        };
        let request = JoinRequest {
            instance: Self::instance(client).map(Into::into),
            member_id_required: true,
            can_skip_assignment: client == 3,
            unique: self.unique.to_string(),
            rebalance_timeout_ms: 12_000,
            protocols: vec![protocol("range", topics)],
            ..join(&state.member, "app")
        };
        self.ask(client, Asked::Join, Request::Join(request));
    }

    fn sync(&mut self, client: usize) {
        let state = &self.clients[client];
        let mut shares: BTreeMap<MemberId, Vec<u8>> = BTreeMap::new();
        for partition in 0..PARTITIONS {
            if !state.leads.is_empty() {
                let owner = &state.leads[usize::from(partition) % state.leads.len()];
                shares.entry(owner.clone()).or_default().push(partition);
            }
        }
        // Each share says of which generation it is.
        let share = |partitions: Vec<u8>| {
            Bytes::from([&state.generation.0.to_be_bytes()[..], &partitions].concat())
        };
        let assignments = shares
            .into_iter()
            .map(|(member, partitions)| (member, share(partitions)));
        let request = SyncRequest {
            instance: Self::instance(client).map(Into::into),
            assignments: assignments.collect(),
            ..sync(&state.member, state.generation.0, &[])
        };
        self.ask(
            client,
            Asked::Sync(state.generation),
            Request::Sync(request),
        );
    }

    fn beat(&mut self, client: usize) {
        let request = HeartbeatRequest {
            group: GROUP.into(),
            member: self.clients[client].member.as_str().into(),
            instance: Self::instance(client).map(Into::into),
            generation: self.clients[client].generation,
        };
        self.ask(client, Asked::Beat, Request::Heartbeat(request));
    }

    fn commit(&mut self, client: usize, topic: usize) {
        self.next_offset += 1;
        let offset = self.next_offset;
        let request = CommitRequest {
            member: self.clients[client].member.as_str().into(),
            instance: Self::instance(client).map(Into::into),
            generation: self.clients[client].generation,
            ..commit(TOPICS[topic], offset)
        };
        self.ask(
            client,
            Asked::Commit { topic, offset },
            Request::Commit(request),
        );
    }

    /// Lets every client hear what it was told.
    fn hear(&mut self) {
        for (call, response) in std::mem::take(&mut self.shard.replies) {
            let (client, asked) = self
                .open
                .remove(&call)
                .expect("only open calls are answered");
            let is_waited_for = self.clients[client].waits == Some(call);
            if is_waited_for {
                self.clients[client].waits = None;
            }
            match (asked, response) {
                (Asked::Join, Response::Join(joined)) if is_waited_for => {
                    self.hear_join(client, joined)
                }
                (Asked::Sync(generation), Response::Sync(Ok(synced))) => {
                    self.check_assignment(client, generation, &synced.assignment);
                    if is_waited_for {
                        self.clients[client].must_sync = false;
                        self.clients[client].owned =
                            synced.assignment.get(4..).unwrap_or_default().to_vec();
                    }
                }
                (Asked::Sync(_), Response::Sync(Err(error))) if is_waited_for => {
                    self.hear_error(client, error)
                }
                (Asked::Beat, Response::Heartbeat(Err(error))) => self.hear_error(client, error),
                (Asked::Commit { topic, offset }, Response::Commit(topics))
                    if topics[0].partitions[0].1.is_ok() =>
                {
                    let durable = self.durable_offset(topic);
                    assert!(durable >= offset, "acknowledged before it was durable");
                    self.known[topic] = self.known[topic].max(offset);
                }
                (Asked::Fetch { topic, floor }, Response::Fetch(Ok(topics))) => {
                    let told = topics[0].partitions[0]
                        .1
                        .as_ref()
                        .map_or(0, |offset| offset.offset.0);
                    assert!(
                        told >= floor,
                        "a committed offset went back from {floor} to {told}"
                    );
                    assert!(
                        self.durable_offset(topic) >= told,
                        "told before it was durable"
                    );
                    self.known[topic] = self.known[topic].max(told);
                }
                _ => {}
            }
        }
    }

    fn hear_join(&mut self, client: usize, joined: Result<Joined, crate::request::JoinRefused>) {
        let state = &mut self.clients[client];
        match joined {
            Ok(joined) => {
                state.leads = match joined.skip_assignment {
                    true => Vec::new(),
                    false => joined
                        .members
                        .iter()
                        .map(|member| member.member.clone())
                        .collect(),
                };
                state.member = joined.member.to_string();
                state.generation = joined.generation;
                (state.must_join, state.must_sync) = (false, true);
                state.owned.clear();
            }
            Err(refused) if refused.error == GroupError::MemberIdRequired => {
                state.member = refused.member.to_string();
            }
            Err(refused) => self.hear_error(client, refused.error),
        }
    }

    fn hear_error(&mut self, client: usize, error: GroupError) {
        let state = &mut self.clients[client];
        state.must_join = true;
        if matches!(
            error,
            GroupError::UnknownMember | GroupError::FencedInstanceId
        ) {
            state.member.clear();
        }
    }

    /// Every client behaves, the disk keeps up, nobody dies: the group must come to rest.
    fn heal(&mut self) {
        self.shard.syncs = true;
        self.shard.sync_all();
        self.hear();
        for _ in 0..120 {
            for client in 0..CLIENTS {
                let state = &self.clients[client];
                match (state.waits, state.must_join, state.must_sync) {
                    (Some(_), ..) => {}
                    (None, true, _) => self.join(client),
                    (None, false, true) => self.sync(client),
                    (None, false, false) => self.beat(client),
                }
                self.hear();
                self.check();
            }
            self.shard.advance(1_000);
            self.hear();
        }
        assert_eq!(self.shard.state(), GroupState::Stable);
        let mut owned: Vec<u8> = self
            .clients
            .iter()
            .flat_map(|client| client.owned.clone())
            .collect();
        owned.sort_unstable();
        assert_eq!(
            owned,
            (0..PARTITIONS).collect::<Vec<u8>>(),
            "each partition has one owner"
        );
        for (topic, name) in TOPICS.into_iter().enumerate() {
            let committed = self
                .shard
                .committed(name)
                .map_or(0, |committed| committed.offset.0);
            assert!(Offset(committed) >= Offset(self.known[topic]));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_the_promises_hold_and_the_group_comes_to_rest(
        steps in steps(),
        delay_ms in prop_oneof![Just(0u64), Just(3_000u64)],
    ) {
        let mut world = World::new(delay_ms);
        for step in steps {
            world.step(step);
        }
        world.heal();
    }
}
