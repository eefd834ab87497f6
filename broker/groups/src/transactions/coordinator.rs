//! The coordinator of one shard: all transactional ids of one partition of `__transaction_state`.
//!
//! Owns the ids, the deadlines of their transactions, and the requests that wait for a transaction to be completed. What
//! always holds: a step is emitted before it is answered; markers are asked for once the outcome is durable, and again
//! after each load, until they are written; a request that waits is answered when the transaction is completed or its
//! patience is over.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::LeaderEpoch;

use super::config::Config;
use super::end::End;
use super::error::TransactionError;
use super::init::Init;
use super::partitions::PartitionSet;
use super::request::{InitRequest, ListRequest, Request, Response};
use super::state::{State, Version};
use super::stored::{self, Stored};
use super::transaction::Transaction;
use crate::machine::{Machine, Marker, Outcome, Producer, Replayed};
use crate::outbox::{Effects, Outbox};
use crate::stored::StoredError;
use crate::types::{CallId, MonoMs, Now, Position, TransactionalId};

/// The internal topic in which transactions are kept.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";

/// What a coordinator wants done besides appends and replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write a marker to each of the partitions, until each has it or is gone; then tell with
    /// [`Request::MarkersWritten`].
    WriteMarkers(Box<Markers>),
}

/// The end of a transaction, for all of its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Markers {
    /// Of which id.
    pub id: TransactionalId,
    /// What the marker says.
    pub marker: Marker,
    /// How the producer spoke (KIP-1228).
    pub version: Version,
    /// Where it is to be written.
    pub partitions: PartitionSet,
}

/// The state while a log is read.
#[derive(Debug, Default)]
pub struct Loader {
    transactions: BTreeMap<TransactionalId, Transaction>,
}

/// The transactional ids of one shard, loaded and ready.
#[derive(Debug)]
pub struct Transactions {
    config: Config,
    /// Leader epoch of the shard, by which partitions tell this coordinator from the ones before.
    epoch: LeaderEpoch,
    transactions: BTreeMap<TransactionalId, Transaction>,
    /// When each transaction that is open is aborted.
    timeouts: BTreeSet<(MonoMs, TransactionalId)>,
    timeout_of: BTreeMap<TransactionalId, MonoMs>,
    /// Requests that wait for a transaction to be completed, in the order of their coming.
    waiting: BTreeMap<TransactionalId, Vec<Waiting>>,
    /// Until when each of those waits.
    patience: BTreeSet<(MonoMs, TransactionalId)>,
    next_check: MonoMs,
    out: Outbox<Response, Action>,
}

#[derive(Debug)]
struct Waiting {
    call: CallId,
    request: Request,
    until: MonoMs,
}

impl Transactions {
    fn init(&mut self, request: &InitRequest, now: Now) -> Result<Producer, TransactionError> {
        let id = &request.id;
        self.check_id(id)?;
        if !(1..=self.config.timeout_ms_max).contains(&request.timeout_ms) {
            return Err(TransactionError::InvalidTimeout);
        }
        let Some(transaction) = self.transactions.get_mut(id) else {
            if self.transactions.len() >= self.config.ids_max {
                return Err(TransactionError::BoundReached);
            }
            let fresh = request.fresh.ok_or(TransactionError::ProducerIdWanted)?;
            let transaction = Transaction::new(fresh, request.timeout_ms, now.wall.0);
            self.transactions.insert(id.clone(), transaction);
            return self.changed(id, now);
        };
        match transaction.init(request, now.wall.0)? {
            Init::Ready => self.changed(id, now),
            Init::Fence => {
                self.fence(id, now);
                Err(TransactionError::Concurrent)
            }
        }
    }

    /// Aborts the transaction that is open, on the coordinator's own account.
    fn fence(&mut self, id: &TransactionalId, now: Now) {
        if let Some(transaction) = self.transactions.get_mut(id) {
            // As brokers speak, whatever the producer does. When no epoch is left after this one, whoever comes next gets a
            // new producer id.
            transaction.prepare(Outcome::Abort, Version::V2, None, now.wall.0);
            let _ = self.changed(id, now);
            self.write_markers(id);
        }
    }

    /// Answers, unless the request is to wait for an earlier transaction.
    fn answer(&mut self, call: CallId, request: Request, now: Now, until: MonoMs) {
        let wall = now.wall.0;
        let (id, response) = match &request {
            Request::Init(init) => (&init.id, Response::Init(self.init(init, now))),
            Request::Add(add) => {
                let bytes_max = self.config.partition_bytes_max;
                let added = self
                    .known(&add.id)
                    .and_then(|known| known.add(add, bytes_max, wall));
                let added = added.map(|is_changed| {
                    if is_changed {
                        let _ = self.changed(&add.id, now);
                    }
                });
                (&add.id, Response::Add(added))
            }
            Request::Verify(verify) => {
                let verdicts = self
                    .known(&verify.id)
                    .and_then(|known| known.verify(verify));
                (&verify.id, Response::Verify(verdicts))
            }
            Request::End(end) => {
                let ended = self.known(&end.id).and_then(|known| {
                    let ended = known.end(end, wall)?;
                    Ok((ended, known.producer_when_complete()))
                });
                let ended = ended.map(|(ended, producer)| {
                    if ended != End::Already {
                        let _ = self.changed(&end.id, now);
                    }
                    if ended == End::Prepared {
                        self.write_markers(&end.id);
                    }
                    producer
                });
                (&end.id, Response::End(ended))
            }
            Request::Describe(id) => {
                let found = match self.transactions.get(id) {
                    _ if id.is_empty() => Err(TransactionError::InvalidRequest),
                    found => found
                        .map(Transaction::describe)
                        .ok_or(TransactionError::IdNotFound),
                };
                (id, Response::Describe(found))
            }
            Request::List(list) => return self.list(call, list, now),
            Request::MarkersWritten { id, producer } => {
                self.markers_written(id, *producer, now);
                return self.out.reply_when_durable(call, Response::MarkersWritten);
            }
        };
        if is_concurrent(&response) && now.mono < until {
            let id = id.clone();
            if self.wait(&id, call, &request, until) {
                return;
            }
        }
        self.out.reply_when_durable(call, response);
    }

    /// Lets the request wait, if there is room.
    fn wait(
        &mut self,
        id: &TransactionalId,
        call: CallId,
        request: &Request,
        until: MonoMs,
    ) -> bool {
        let waiting = self.waiting.entry(id.clone()).or_default();
        if waiting.len() >= self.config.waiting_max {
            return false;
        }
        waiting.push(Waiting {
            call,
            request: request.clone(),
            until,
        });
        self.patience.insert((until, id.clone()));
        true
    }

    /// Handles again what waits for this id: all of it, or what has lost its patience.
    fn resume(&mut self, id: &TransactionalId, now: Now) {
        for waiting in self.waiting.remove(id).unwrap_or_default() {
            self.patience.remove(&(waiting.until, id.clone()));
            self.answer(waiting.call, waiting.request, now, waiting.until);
        }
    }

    fn markers_written(&mut self, id: &TransactionalId, producer: Producer, now: Now) {
        let Some(transaction) = self.transactions.get_mut(id) else {
            return;
        };
        // Of an earlier transaction, whose markers were written twice.
        let State::Prepare(outcome) = transaction.state else {
            return;
        };
        if transaction.producer != producer {
            return;
        }
        transaction.complete(outcome, now.wall.0);
        let _ = self.changed(id, now);
        self.resume(id, now);
    }

    fn list(&mut self, call: CallId, request: &ListRequest, now: Now) {
        let listed = self
            .transactions
            .iter()
            .filter_map(|(id, transaction)| transaction.list(id, request, now.wall.0));
        let listed = Response::List(listed.collect());
        self.out.reply_when_durable(call, listed);
    }

    fn check_id(&self, id: &TransactionalId) -> Result<(), TransactionError> {
        if id.is_empty() || id.len() > self.config.id_bytes_max {
            return Err(TransactionError::InvalidRequest);
        }
        Ok(())
    }

    fn known(&mut self, id: &TransactionalId) -> Result<&mut Transaction, TransactionError> {
        self.check_id(id)?;
        self.transactions
            .get_mut(id)
            .ok_or(TransactionError::InvalidProducerIdMapping)
    }

    /// Stores what has become of an id, and lists when its transaction is over. Returns its producer.
    fn changed(&mut self, id: &TransactionalId, now: Now) -> Result<Producer, TransactionError> {
        let transaction = self
            .transactions
            .get(id)
            .ok_or(TransactionError::IdNotFound)?;
        self.out.emit(stored::record(id, transaction));
        let producer = transaction.producer;
        self.list_timeout(id, now);
        Ok(producer)
    }

    fn list_timeout(&mut self, id: &TransactionalId, now: Now) {
        let open = self
            .transactions
            .get(id)
            .filter(|transaction| transaction.state == State::Ongoing);
        let listed = self.timeout_of.get(id).copied();
        match (open, listed) {
            (Some(transaction), None) => {
                // The rest of its time: it may have begun before this coordinator was loaded.
                let timeout_ms = i64::from(transaction.timeout_ms);
                let ends_at_ms = transaction.started_at_ms.saturating_add(timeout_ms);
                let left_ms = ends_at_ms
                    .saturating_sub(now.wall.0)
                    .clamp(0, timeout_ms.max(0));
                let at = now.mono.after(left_ms.unsigned_abs());
                self.timeouts.insert((at, id.clone()));
                self.timeout_of.insert(id.clone(), at);
            }
            (None, Some(at)) => {
                self.timeouts.remove(&(at, id.clone()));
                self.timeout_of.remove(id);
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Asks for the markers of a decided transaction, once that is durable.
    fn write_markers(&mut self, id: &TransactionalId) {
        let Some(transaction) = self.transactions.get(id) else {
            return;
        };
        let State::Prepare(outcome) = transaction.state else {
            return;
        };
        let markers = Markers {
            id: id.clone(),
            marker: Marker {
                producer: transaction.producer,
                outcome,
                coordinator_epoch: self.epoch.0,
            },
            version: transaction.version,
            partitions: transaction.partitions.clone(),
        };
        self.out
            .act_when_durable(Action::WriteMarkers(Box::new(markers)));
    }

    fn expire(&mut self, now: Now) {
        let is_expired = |transaction: &Transaction| {
            matches!(transaction.state, State::Empty | State::Complete(_))
                && now.wall.0.saturating_sub(transaction.updated_at_ms)
                    >= self.config.id_expiration_ms
        };
        let expired = self
            .transactions
            .iter()
            .filter(|(_, transaction)| is_expired(transaction));
        let budget = self.config.expired_per_check_max;
        let expired: Vec<TransactionalId> =
            expired.take(budget).map(|(id, _)| id.clone()).collect();
        for id in &expired {
            self.transactions.remove(id);
            self.out.emit(stored::tombstone(id));
        }
        // With the budget used up there may be more: the next turn goes on, after whoever waits.
        let wait_ms = if expired.len() == budget {
            0
        } else {
            self.config.expiration_check_interval_ms
        };
        self.next_check = now.mono.after(wait_ms);
    }

    #[cfg(test)]
    pub(super) fn transaction(&self, id: &str) -> Option<&Transaction> {
        self.transactions.get(id)
    }

    #[cfg(test)]
    pub(super) fn transaction_mut(&mut self, id: &str) -> &mut Transaction {
        self.transactions.get_mut(id).expect("known")
    }
}

const fn is_concurrent(response: &Response) -> bool {
    matches!(
        response,
        Response::Init(Err(TransactionError::Concurrent))
            | Response::Add(Err(TransactionError::Concurrent))
            | Response::Verify(Err(TransactionError::Concurrent))
            | Response::End(Err(TransactionError::Concurrent))
    )
}

impl Machine for Transactions {
    const TOPIC: &'static str = TRANSACTIONS_TOPIC;
    const DUTY: &'static str = "transactions";
    type Config = Config;
    type Loader = Loader;
    type Request = Request;
    type Response = Response;
    type Action = Action;

    fn replay(loader: &mut Loader, entry: Replayed<'_>) -> Result<(), StoredError> {
        let Replayed::Record { key, value, .. } = entry else {
            return Ok(());
        };
        match stored::decode(key, value)? {
            Stored::Transaction(id, Some(transaction)) => {
                loader.transactions.insert(id, *transaction);
            }
            Stored::Transaction(id, None) => {
                loader.transactions.remove(&id);
            }
            Stored::Other => {}
        }
        Ok(())
    }

    fn load(loader: Loader, config: &Config, epoch: LeaderEpoch, now: Now) -> Self {
        let ids: Vec<TransactionalId> = loader.transactions.keys().cloned().collect();
        let mut coordinator = Self {
            next_check: now.mono.after(config.expiration_check_interval_ms),
            config: config.clone(),
            epoch,
            transactions: loader.transactions,
            timeouts: BTreeSet::new(),
            timeout_of: BTreeMap::new(),
            waiting: BTreeMap::new(),
            patience: BTreeSet::new(),
            out: Outbox::default(),
        };
        for id in &ids {
            coordinator.list_timeout(id, now);
            coordinator.write_markers(id);
        }
        coordinator
    }

    fn handle(&mut self, call: CallId, request: Request, now: Now) {
        let until = now.mono.after(self.config.patience_ms);
        self.answer(call, request, now, until);
    }

    fn durable(&mut self, position: Position) {
        self.out.durable(position);
    }

    fn tick(&mut self, now: Now) {
        while let Some((at, id)) = self.timeouts.first().cloned() {
            if at > now.mono {
                break;
            }
            self.timeouts.pop_first();
            self.timeout_of.remove(&id);
            tracing::info!(%id, "a transaction has reached its timeout and is aborted");
            self.fence(&id, now);
        }
        while let Some((at, id)) = self.patience.first().cloned() {
            if at > now.mono {
                break;
            }
            self.patience.pop_first();
            self.resume(&id, now);
        }
        if self.next_check <= now.mono {
            self.expire(now);
        }
    }

    fn next_deadline(&self) -> MonoMs {
        let firsts = [self.timeouts.first(), self.patience.first()];
        let firsts = firsts.into_iter().flatten().map(|(at, _)| *at);
        firsts.fold(self.next_check, MonoMs::min)
    }

    fn take_effects(&mut self) -> Effects<Response, Action> {
        self.out.take()
    }

    fn count(&self) -> usize {
        self.transactions.len()
    }
}
