//! A transactional producer, of either version of the protocol (KIP-98, KIP-890).
//!
//! It writes some records to some partitions, then commits or aborts, or leaves the transaction alone as one does that is killed. Whatever
//! it is not sure of any more it settles by taking on a new epoch, which ends what was open.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::batch::{Attributes, BatchBuilder, NewRecord};
use weir_wire::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use weir_wire::messages::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnResponseView, EndTxnRequest, EndTxnResponseView,
    ErrorCode, InitProducerIdRequest, InitProducerIdResponseView,
};
use weir_wire::{MessageView, ProducerEpoch, ProducerId};

use super::{Client, CoordinatorOf};
use crate::history::{Place, Shared};
use crate::ledger::{Ledger, Name};

/// After so long a coordinator aborts what is open: less than some transactions take when much goes wrong.
const TIMEOUT_MS: i32 = 8_000;

/// The transaction cannot go on: something ended it, or it is not known what became of it.
#[derive(Clone, Copy, Debug)]
struct Lost;

/// What an answer's code asks for.
enum Next {
    Go,
    Again,
    Lost,
}

/// A transactional producer.
#[derive(Debug)]
pub struct Transactor {
    client: Client,
    history: Shared,
    ledger: Ledger,
    places: Vec<Place>,
    id: String,
    /// Whether the producer lets partitions be added by writing to them, and gets a new epoch with each transaction.
    is_v2: bool,
    producer: (i64, i16),
    sequences: BTreeMap<Place, i32>,
    coordinator: Option<i32>,
}

impl Transactor {
    /// One that writes to these partitions.
    #[must_use]
    pub fn new(mut client: Client, history: Shared, ledger: Ledger, places: Vec<Place>) -> Self {
        let is_v2 = client.random.chance(1, 2);
        Self {
            id: format!("transactor-{}", client.host),
            client,
            history,
            ledger,
            places,
            is_v2,
            producer: (-1, -1),
            sequences: BTreeMap::new(),
            coordinator: None,
        }
    }

    /// Writes until the history says that it is enough.
    pub async fn run(mut self) {
        self.identify().await;
        let mut number = 0;
        while self.history.is_open() {
            number += 1;
            if let Err(Lost) = self.transact((self.client.host, number)).await {
                self.identify().await;
            }
            self.client.pause().await;
        }
        self.history.done();
    }

    async fn transact(&mut self, name: Name) -> Result<(), Lost> {
        let mut added = BTreeSet::new();
        for _ in 0..1 + self.client.random.within(0..5) {
            let place = self.client.random.pick(&self.places).clone();
            if !self.is_v2 && added.insert(place.clone()) {
                self.add(&place).await?;
            }
            let value = self.ledger.writing(name, &place);
            self.write(&place, &value).await?;
        }
        match self.client.random.within(0..10) {
            // As one that is killed.
            0 => Err(Lost),
            1..3 => self.end(false).await,
            _ => {
                self.ledger.committing(name);
                self.end(true).await?;
                self.ledger.committed(name);
                Ok(())
            }
        }
    }

    async fn coordinator(&mut self) -> i32 {
        loop {
            if let Some(coordinator) = self.coordinator {
                return coordinator;
            }
            let found = self
                .client
                .coordinator(&self.id, CoordinatorOf::Transactions);
            self.coordinator = found.await;
            if self.coordinator.is_none() {
                self.client.pause().await;
            }
        }
    }

    /// What to do about a coordinator's answer; none at all is like one that says that it does not coordinate this.
    fn heed(&mut self, code: Option<i16>, what: &str) -> Next {
        match code.map(ErrorCode::from_code) {
            Some(Some(ErrorCode::None)) => Next::Go,
            Some(Some(ErrorCode::ConcurrentTransactions | ErrorCode::UnknownTopicOrPartition)) => {
                Next::Again
            }
            Some(Some(
                ErrorCode::InvalidProducerEpoch
                | ErrorCode::ProducerFenced
                | ErrorCode::InvalidTxnState
                | ErrorCode::TransactionAbortable,
            )) => Next::Lost,
            None
            | Some(Some(
                ErrorCode::NotCoordinator
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::RequestTimedOut
                | ErrorCode::NotEnoughReplicas,
            )) => {
                self.coordinator = None;
                Next::Again
            }
            Some(other) => {
                let id = &self.id;
                self.history
                    .wrong(format!("{id}: {what} was refused: {code:?} {other:?}"));
                Next::Lost
            }
        }
    }

    /// Takes on a new epoch. What was open is over then, one way or the other.
    async fn identify(&mut self) {
        let version = if self.is_v2 { 5 } else { 4 };
        loop {
            let coordinator = self.coordinator().await;
            let request = InitProducerIdRequest {
                transactional_id: Some(self.id.clone()),
                transaction_timeout_ms: TIMEOUT_MS,
                producer_id: -1,
                producer_epoch: -1,
                ..InitProducerIdRequest::default()
            };
            let answer = self.client.ask(coordinator, version, &request, |body| {
                InitProducerIdResponseView::decode(body, version).map(|view| view.to_owned())
            });
            let answer = answer.await.ok();
            let code = answer.as_ref().map(|answer| answer.error_code);
            match (self.heed(code, "an identity"), answer) {
                (Next::Go, Some(answer)) => {
                    self.begin_as(answer.producer_id, answer.producer_epoch);
                    return;
                }
                _ => self.client.pause().await,
            }
        }
    }

    fn begin_as(&mut self, id: i64, epoch: i16) {
        if self.producer != (id, epoch) {
            self.sequences.clear();
        }
        self.producer = (id, epoch);
    }

    async fn add(&mut self, place: &Place) -> Result<(), Lost> {
        let (id, epoch) = self.producer;
        loop {
            let coordinator = self.coordinator().await;
            let request = AddPartitionsToTxnRequest {
                v3_and_below_transactional_id: self.id.clone(),
                v3_and_below_producer_id: id,
                v3_and_below_producer_epoch: epoch,
                v3_and_below_topics: vec![AddPartitionsToTxnTopic {
                    name: place.0.to_string(),
                    partitions: vec![place.1],
                }],
                ..AddPartitionsToTxnRequest::default()
            };
            let answer = self.client.ask(coordinator, 3, &request, |body| {
                AddPartitionsToTxnResponseView::decode(body, 3).map(|view| view.to_owned())
            });
            let code = answer.await.ok().and_then(|mut answer| {
                let mut topic = answer.results_by_topic_v3_and_below.pop()?;
                Some(topic.results_by_partition.pop()?.partition_error_code)
            });
            match self.heed(code, "a partition of a transaction") {
                Next::Go => return Ok(()),
                Next::Lost => return Err(Lost),
                Next::Again => self.client.pause().await,
            }
        }
    }

    async fn write(&mut self, place: &Place, value: &str) -> Result<(), Lost> {
        let (id, epoch) = self.producer;
        let sequence = self.sequences.get(place).copied().unwrap_or(0);
        let mut batch = BatchBuilder::new()
            .producer(ProducerId(id), ProducerEpoch(epoch), sequence)
            .attributes(Attributes::default().with_transactional(true));
        // Far below a batch's bounds.
        let _ = batch.push(&NewRecord {
            timestamp_ms: 1_750_000_000_000,
            value: Some(value.as_bytes()),
            ..NewRecord::default()
        });
        let batch = batch.build();
        let version = if self.is_v2 { 12 } else { 9 };
        loop {
            if let Some(leader) = self.client.leader(&place.0, place.1).await {
                let at = (&*place.0, place.1);
                let answer =
                    self.client
                        .produce(leader, version, Some(&self.id), at, batch.clone());
                let code = answer.await.map(|answer| answer.error_code);
                match self.written(place, code) {
                    Next::Go => {
                        self.sequences.insert(place.clone(), sequence + 1);
                        return Ok(());
                    }
                    Next::Lost => return Err(Lost),
                    Next::Again => {}
                }
            }
            self.client.pause().await;
        }
    }

    fn written(&mut self, place: &Place, code: Option<i16>) -> Next {
        let known = code.map(ErrorCode::from_code);
        if !matches!(known, Some(Some(ErrorCode::None))) {
            self.client.forget_leader(&place.0, place.1);
        }
        match known {
            Some(Some(ErrorCode::None)) => Next::Go,
            None
            | Some(Some(
                ErrorCode::NotLeaderOrFollower
                | ErrorCode::LeaderNotAvailable
                | ErrorCode::UnknownTopicOrPartition
                | ErrorCode::RequestTimedOut
                | ErrorCode::NotEnoughReplicas
                | ErrorCode::NotEnoughReplicasAfterAppend
                | ErrorCode::KafkaStorageError
                | ErrorCode::ConcurrentTransactions
                | ErrorCode::CoordinatorLoadInProgress
                | ErrorCode::CoordinatorNotAvailable
                | ErrorCode::NotCoordinator,
            )) => Next::Again,
            Some(Some(
                ErrorCode::InvalidProducerEpoch
                | ErrorCode::ProducerFenced
                | ErrorCode::InvalidTxnState
                | ErrorCode::TransactionAbortable,
            )) => Next::Lost,
            // Nobody else writes as this producer, and it never leaves a sequence out.
            Some(other) => {
                self.history.wrong(format!(
                    "{place:?}: a batch of {}'s transaction was refused: {code:?} {other:?}",
                    self.id
                ));
                Next::Lost
            }
        }
    }

    async fn end(&mut self, committed: bool) -> Result<(), Lost> {
        let version = if self.is_v2 { 5 } else { 3 };
        let (id, epoch) = self.producer;
        loop {
            let coordinator = self.coordinator().await;
            let request = EndTxnRequest {
                transactional_id: self.id.clone(),
                producer_id: id,
                producer_epoch: epoch,
                committed,
            };
            let answer = self.client.ask(coordinator, version, &request, |body| {
                EndTxnResponseView::decode(body, version).map(|view| view.to_owned())
            });
            let answer = answer.await.ok();
            let code = answer.as_ref().map(|answer| answer.error_code);
            match (self.heed(code, "the end of a transaction"), answer) {
                (Next::Go, Some(answer)) => {
                    if self.is_v2 && answer.producer_id >= 0 {
                        self.begin_as(answer.producer_id, answer.producer_epoch);
                    }
                    return Ok(());
                }
                (Next::Lost, _) => return Err(Lost),
                _ => self.client.pause().await,
            }
        }
    }
}
