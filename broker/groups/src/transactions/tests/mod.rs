//! A shard on a virtual clock: its log is a list, and each test says what of it is durable, and when.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::panic, reason = "tests")]

mod durability;
mod ending;
mod producers;
mod random;
mod stored;

use std::collections::BTreeMap;

use weir_wire::{LeaderEpoch, PartitionIndex, ProducerEpoch, ProducerId};

use super::coordinator::Loader;
use super::request::{AddRequest, EndRequest, InitRequest, VerifyRequest};
use super::{Action, Config, Markers, Request, Response, TransactionError, Transactions, Version};
use crate::machine::{Entry, Machine, Outcome, Producer};
use crate::{CallId, MonoMs, Now, Position, WallMs};

pub(super) const ID: &str = "payments";

/// A shard and its surroundings.
pub(super) struct Shard {
    pub(super) config: Config,
    pub(super) coordinator: Transactions,
    pub(super) log: Vec<Entry>,
    loaded: usize,
    pub(super) durable: usize,
    /// Whether what is appended is durable at once.
    pub(super) syncs: bool,
    pub(super) now: Now,
    epoch: i32,
    calls: u64,
    next_producer_id: i64,
    pub(super) replies: BTreeMap<CallId, Response>,
    /// Markers that were asked for and are not written.
    pub(super) markers: Vec<Markers>,
}

impl Shard {
    pub(super) fn new() -> Self {
        Self::with(Config {
            patience_ms: 0,
            ..Config::default()
        })
    }

    pub(super) fn with(config: Config) -> Self {
        let now = Now {
            mono: MonoMs(1_000_000),
            wall: WallMs(1_700_000_000_000),
        };
        Self {
            coordinator: Transactions::load(Loader::default(), &config, LeaderEpoch(1), now),
            config,
            log: Vec::new(),
            loaded: 0,
            durable: 0,
            syncs: true,
            now,
            epoch: 1,
            calls: 0,
            next_producer_id: 1_000,
            replies: BTreeMap::new(),
            markers: Vec::new(),
        }
    }

    /// Asks; with a new producer id when the coordinator wants one.
    pub(super) fn ask(&mut self, request: Request) -> CallId {
        self.calls += 1;
        let call = CallId(self.calls);
        self.coordinator.handle(call, request, self.now);
        self.carry();
        call
    }

    pub(super) fn fresh(&mut self) -> Option<ProducerId> {
        self.next_producer_id += 1;
        Some(ProducerId(self.next_producer_id))
    }

    fn carry(&mut self) {
        let effects = self.coordinator.take_effects();
        assert_eq!(effects.broken, None);
        self.log.extend(effects.entries);
        assert_eq!(
            Position((self.log.len() - self.loaded) as u64),
            effects.position
        );
        for reply in effects.replies {
            let before = self.replies.insert(reply.call, reply.response);
            assert_eq!(before, None, "answered twice");
        }
        for Action::WriteMarkers(markers) in effects.actions {
            self.markers.push(*markers);
        }
        if self.syncs && self.durable < self.log.len() {
            self.sync_to(self.log.len());
        }
    }

    pub(super) fn sync_to(&mut self, length: usize) {
        self.durable = length;
        self.coordinator
            .durable(Position((length - self.loaded) as u64));
        self.carry();
    }

    /// Lets time pass, stopping at each deadline.
    pub(super) fn advance(&mut self, ms: u64) {
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

    /// The process dies; another coordinator begins with what is durable.
    pub(super) fn crash(&mut self) {
        self.log.truncate(self.durable);
        self.loaded = self.log.len();
        self.epoch += 1;
        self.markers.clear();
        let mut loader = Loader::default();
        for entry in &self.log {
            for read in entry.replayed() {
                Transactions::replay(&mut loader, read).unwrap();
            }
        }
        let epoch = LeaderEpoch(self.epoch);
        self.coordinator = Transactions::load(loader, &self.config, epoch, self.now);
        self.carry();
    }

    /// All markers are written.
    pub(super) fn write_markers(&mut self) -> Vec<Markers> {
        let markers = std::mem::take(&mut self.markers);
        for markers in &markers {
            self.ask(written(markers));
        }
        markers
    }

    pub(super) fn reply(&mut self, call: CallId) -> Response {
        self.replies.remove(&call).expect("answered")
    }

    pub(super) fn init_as(
        &mut self,
        expected: Option<Producer>,
    ) -> Result<Producer, TransactionError> {
        let fresh = self.fresh();
        let call = self.ask(Request::Init(InitRequest {
            fresh,
            ..init(expected)
        }));
        match self.reply(call) {
            Response::Init(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn init(&mut self) -> Producer {
        self.init_as(None).unwrap()
    }

    pub(super) fn add(
        &mut self,
        producer: Producer,
        version: Version,
        partition: i32,
    ) -> Result<(), TransactionError> {
        let call = self.ask(Request::Add(add(producer, version, partition)));
        match self.reply(call) {
            Response::Add(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn end(
        &mut self,
        producer: Producer,
        version: Version,
        outcome: Outcome,
    ) -> Result<Producer, TransactionError> {
        let fresh = self.fresh();
        let call = self.ask(Request::End(EndRequest {
            fresh,
            ..end(producer, version, outcome)
        }));
        match self.reply(call) {
            Response::End(outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn verify(
        &mut self,
        producer: Producer,
        partition: i32,
    ) -> Result<(), TransactionError> {
        let call = self.ask(Request::Verify(VerifyRequest {
            id: ID.into(),
            producer,
            partitions: [("orders", PartitionIndex(partition))]
                .into_iter()
                .collect(),
        }));
        match self.reply(call) {
            Response::Verify(verdicts) => verdicts?[0].2,
            other => panic!("{other:?}"),
        }
    }
}

pub(super) fn init(expected: Option<Producer>) -> InitRequest {
    InitRequest {
        id: ID.into(),
        timeout_ms: 60_000,
        expected,
        fresh: None,
    }
}

pub(super) fn add(producer: Producer, version: Version, partition: i32) -> AddRequest {
    AddRequest {
        id: ID.into(),
        producer,
        version,
        partitions: [("orders", PartitionIndex(partition))]
            .into_iter()
            .collect(),
    }
}

pub(super) fn end(producer: Producer, version: Version, outcome: Outcome) -> EndRequest {
    EndRequest {
        id: ID.into(),
        producer,
        outcome,
        version,
        fresh: None,
    }
}

pub(super) fn written(markers: &Markers) -> Request {
    Request::MarkersWritten {
        id: markers.id.clone(),
        producer: markers.marker.producer,
    }
}

pub(super) fn at_epoch(producer: Producer, epoch: i16) -> Producer {
    Producer {
        epoch: ProducerEpoch(epoch),
        ..producer
    }
}
