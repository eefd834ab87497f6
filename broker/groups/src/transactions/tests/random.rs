//! Random producers, crashes and markers, against partitions that remember what was written in each transaction.
//!
//! What is checked: whatever was written in one transaction has one outcome, that which its producer was told; markers come
//! to every partition in the end; no two producers ever have the same identity; every call is answered once.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_wire::ProducerId;

use super::{Shard, written};
use crate::CallId;
use crate::machine::{Machine, Marker, Outcome, Producer};
use crate::transactions::request::{AddRequest, EndRequest, InitRequest};
use crate::transactions::{Config, Markers, Request, Response, State, TransactionError, Version};

const IDS: [&str; 2] = ["payments", "refunds"];
const CLIENTS: usize = 4;
const PARTITIONS: i32 = 3;

#[derive(Clone, Debug)]
enum Step {
    /// A client begins anew, or goes on as who it is.
    Init(usize, bool),
    Add(usize, i32),
    End(usize, bool),
    /// A client sends again what was not answered.
    Repeat(usize),
    Durable(usize),
    /// One marker reaches one partition.
    Marker(usize, usize),
    Advance(u64),
    Crash,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let client = 0..CLIENTS;
    let step = prop_oneof![
        2 => (client.clone(), any::<bool>()).prop_map(|(client, again)| Step::Init(client, again)),
        6 => (client.clone(), 0..PARTITIONS).prop_map(|(client, at)| Step::Add(client, at)),
        4 => (client.clone(), any::<bool>()).prop_map(|(client, commit)| Step::End(client, commit)),
        3 => client.prop_map(Step::Repeat),
        8 => (1usize..6).prop_map(Step::Durable),
        8 => (0usize..4, 0usize..4).prop_map(|(which, at)| Step::Marker(which, at)),
        1 => prop_oneof![Just(10u64), Just(200), Just(61_000)].prop_map(Step::Advance),
        1 => Just(Step::Crash),
    ];
    proptest::collection::vec(step, 1..200)
}

/// One transaction, as its producer sees it.
type Serial = u64;

#[derive(Debug, Default)]
struct Client {
    producer: Option<Producer>,
    serial: Option<Serial>,
    /// What is under way, or was not answered.
    asked: Option<Request>,
    call: Option<CallId>,
}

/// What one partition knows of one producer id.
#[derive(Debug, Default)]
struct Written {
    epoch: i16,
    coordinator_epoch: i32,
    open: Option<Serial>,
}

struct World {
    shard: Shard,
    clients: Vec<Client>,
    /// By partition and producer id.
    written: BTreeMap<(String, i32, ProducerId), Written>,
    /// What became of what was written.
    outcomes: BTreeMap<Serial, BTreeSet<Outcome>>,
    told: BTreeMap<Serial, Outcome>,
    owners: BTreeMap<Producer, usize>,
    /// Of each marker that was asked for, where it is yet to be written.
    markers: Vec<(Markers, Vec<(String, i32)>)>,
    serials: Serial,
}

impl World {
    fn new() -> Self {
        let shard = Shard::with(Config::default());
        Self {
            shard,
            clients: (0..CLIENTS).map(|_| Client::default()).collect(),
            written: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            told: BTreeMap::new(),
            owners: BTreeMap::new(),
            markers: Vec::new(),
            serials: 0,
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Init(client, again) => {
                let expected = self.clients[client].producer.filter(|_| again);
                self.clients[client].serial = None;
                let request = InitRequest {
                    id: id_of(client).into(),
                    timeout_ms: 60_000,
                    expected,
                    fresh: None,
                };
                self.send(client, Request::Init(request));
            }
            Step::Add(client, partition) => {
                let Some(producer) = self.idle(client) else {
                    return;
                };
                let partition = ("orders", weir_wire::PartitionIndex(partition));
                let request = AddRequest {
                    id: id_of(client).into(),
                    producer,
                    version: version_of(client),
                    partitions: [partition].into_iter().collect(),
                };
                self.send(client, Request::Add(request));
            }
            Step::End(client, commit) => {
                let Some(producer) = self.idle(client) else {
                    return;
                };
                let outcome = if commit {
                    Outcome::Commit
                } else {
                    Outcome::Abort
                };
                let request = EndRequest {
                    id: id_of(client).into(),
                    producer,
                    outcome,
                    version: version_of(client),
                    fresh: None,
                };
                self.send(client, Request::End(request));
            }
            Step::Repeat(client) => {
                let is_silent = self.clients[client].call.is_none();
                if let Some(request) = self.clients[client].asked.clone().filter(|_| is_silent) {
                    self.send(client, request);
                }
            }
            Step::Durable(entries) => {
                let length = (self.shard.durable + entries).min(self.shard.log.len());
                self.shard.sync_to(length);
            }
            Step::Marker(which, at) => self.deliver(which, at),
            Step::Advance(ms) => self.shard.advance(ms),
            Step::Crash => {
                self.shard.crash();
                self.shard.replies.clear();
                self.markers.clear();
                for client in &mut self.clients {
                    client.call = None;
                }
            }
        }
        self.settle();
    }

    /// Who the client is, if it waits for nothing.
    fn idle(&self, client: usize) -> Option<Producer> {
        let client = &self.clients[client];
        client.producer.filter(|_| client.asked.is_none())
    }

    fn send(&mut self, client: usize, request: Request) {
        self.clients[client].asked = Some(request.clone());
        let call = self.shard.ask(request);
        self.clients[client].call = Some(call);
    }

    /// Hears what was answered, and takes over markers.
    fn settle(&mut self) {
        for markers in std::mem::take(&mut self.shard.markers) {
            let places = markers
                .partitions
                .iter()
                .map(|(topic, partition)| (topic.to_owned(), partition.0));
            let places = places.collect();
            self.markers.push((markers, places));
        }
        loop {
            let answered = (0..CLIENTS).find_map(|client| {
                let call = self.clients[client].call?;
                Some((client, self.shard.replies.remove(&call)?))
            });
            let Some((client, response)) = answered else {
                break;
            };
            self.hear(client, response);
        }
        // Those of clients that did not wait.
        self.shard.replies.clear();
    }

    fn hear(&mut self, client: usize, response: Response) {
        self.clients[client].call = None;
        let asked = self.clients[client].asked.clone().unwrap();
        let error = match &response {
            Response::Init(outcome) | Response::End(outcome) => outcome.err(),
            Response::Add(outcome) => outcome.err(),
            other => panic!("{other:?}"),
        };
        match error {
            None => {}
            Some(TransactionError::Concurrent) => return,
            Some(TransactionError::ProducerIdWanted) => {
                let fresh = self.shard.fresh();
                let request = match asked {
                    Request::Init(init) => Request::Init(InitRequest { fresh, ..init }),
                    Request::End(end) => Request::End(EndRequest { fresh, ..end }),
                    other => panic!("{other:?}"),
                };
                return self.send(client, request);
            }
            Some(_) => {
                self.clients[client] = Client::default();
                return;
            }
        }
        self.clients[client].asked = None;
        match (asked, response) {
            (Request::Init(_), Response::Init(Ok(producer))) => self.become_(client, producer),
            (Request::Add(add), Response::Add(Ok(()))) => {
                for (topic, partition) in add.partitions.iter() {
                    self.write(client, add.producer, topic, partition.0);
                }
            }
            (Request::End(end), Response::End(Ok(producer))) => {
                if let Some(serial) = self.clients[client].serial.take() {
                    self.told.insert(serial, end.outcome);
                }
                self.become_(client, producer);
            }
            other => panic!("{other:?}"),
        }
    }

    fn become_(&mut self, client: usize, producer: Producer) {
        self.clients[client].producer = Some(producer);
        let owner = *self.owners.entry(producer).or_insert(client);
        assert_eq!(owner, client, "two producers are {producer:?}");
    }

    /// A client writes where it was allowed to.
    fn write(&mut self, client: usize, producer: Producer, topic: &str, partition: i32) {
        let serials = &mut self.serials;
        let serial = *self.clients[client].serial.get_or_insert_with(|| {
            *serials += 1;
            *serials
        });
        let key = (topic.to_owned(), partition, producer.id);
        let written = self.written.entry(key).or_default();
        if producer.epoch.0 < written.epoch {
            return;
        }
        written.epoch = producer.epoch.0;
        let open = *written.open.get_or_insert(serial);
        assert_eq!(
            open, serial,
            "a transaction begins before the last has ended"
        );
    }

    fn deliver(&mut self, which: usize, at: usize) {
        if self.markers.is_empty() {
            return;
        }
        let which = which % self.markers.len();
        let (markers, places) = &mut self.markers[which];
        if !places.is_empty() {
            let (topic, partition) = places.remove(at % places.len());
            let key = (topic, partition, markers.marker.producer.id);
            let marker = markers.marker;
            let written = self.written.entry(key).or_default();
            if let Some((serial, outcome)) = written.end(&marker) {
                self.outcomes.entry(serial).or_default().insert(outcome);
            }
        }
        if self.markers[which].1.is_empty() {
            let (markers, _) = self.markers.remove(which);
            self.shard.ask(written(&markers));
        }
    }

    /// Everything that is under way comes to its end.
    fn finish(&mut self) {
        self.shard.syncs = true;
        let length = self.shard.log.len();
        self.shard.sync_to(length);
        for _ in 0..3 {
            self.shard.advance(61_000);
            self.settle();
            while !self.markers.is_empty() {
                self.deliver(0, 0);
                self.settle();
            }
        }
        assert!(
            self.clients.iter().all(|client| client.call.is_none()),
            "every call is answered"
        );
        for id in IDS {
            if let Some(transaction) = self.shard.coordinator.transaction(id) {
                let state = transaction.state;
                assert!(
                    !matches!(state, State::Ongoing | State::Prepare(_)),
                    "{state:?}"
                );
            }
        }
        for (place, written) in &self.written {
            assert_eq!(written.open, None, "{place:?} has no marker");
        }
        for (serial, outcomes) in &self.outcomes {
            assert_eq!(outcomes.len(), 1, "{serial} has both outcomes");
            if let Some(told) = self.told.get(serial) {
                assert!(outcomes.contains(told), "{serial} was told {told:?}");
            }
        }
    }
}

impl Written {
    /// Takes the marker as a partition does. Tells which transaction it ended.
    fn end(&mut self, marker: &Marker) -> Option<(Serial, Outcome)> {
        let epoch = marker.producer.epoch.0;
        if marker.coordinator_epoch < self.coordinator_epoch || epoch < self.epoch {
            return None;
        }
        self.coordinator_epoch = marker.coordinator_epoch;
        self.epoch = epoch;
        Some((self.open.take()?, marker.outcome))
    }
}

fn id_of(client: usize) -> &'static str {
    IDS[client % IDS.len()]
}

/// Two clients share an id: of the first, one speaks each version; of the second, both the newer.
fn version_of(client: usize) -> Version {
    if client == 2 {
        Version::V0
    } else {
        Version::V2
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_transaction_has_one_outcome_whatever_happens(steps in steps()) {
        let mut world = World::new();
        world.shard.syncs = false;
        for step in &steps {
            world.step(step);
        }
        world.finish();
    }

    #[test]
    fn what_is_loaded_is_what_was_known(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        let known: Vec<_> = IDS
            .iter()
            .map(|id| world.shard.coordinator.transaction(id).cloned())
            .collect();
        let count = world.shard.coordinator.count();
        world.shard.crash();
        prop_assert_eq!(world.shard.coordinator.count(), count);
        for (id, known) in IDS.iter().zip(known) {
            let loaded = world.shard.coordinator.transaction(id).cloned();
            // The one thing that is not stored.
            let known = known.map(|mut known| {
                known.last_epoch = weir_wire::ProducerEpoch::NONE;
                known
            });
            prop_assert_eq!(loaded, known);
        }
    }
}
