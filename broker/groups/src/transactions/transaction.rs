//! One transactional id: its producer, and the transaction that it has open or had last.
//!
//! What always holds: producer id and epoch only move forward, to a greater epoch or to a producer id that was never given
//! out; from a decided outcome nothing leads to the other one. Each step is one record; who calls it stores that.

use weir_wire::{ProducerEpoch, ProducerId};

use super::error::TransactionError;
use super::partitions::PartitionSet;
use super::request::{AddRequest, Verdict, VerifyRequest};
use super::state::{State, Version};
use crate::machine::{Outcome, Producer};

/// The greatest epoch. No producer is given it, so that the coordinator can always fence one.
pub(super) const EPOCH_MAX: ProducerEpoch = ProducerEpoch(i16::MAX);
/// From this epoch on a producer id is used up.
pub(super) const EPOCH_EXHAUSTED: ProducerEpoch = ProducerEpoch(i16::MAX - 1);

/// What is known of one transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transaction {
    pub(super) producer: Producer,
    /// The producer id before the last step, by which a repeated request is known after a change.
    pub(super) previous_id: ProducerId,
    /// The producer id that takes over when the transaction is completed, since the epochs of this one are used up.
    pub(super) next_id: ProducerId,
    /// The epoch before the producer's last, or none when another producer took over. Not stored.
    pub(super) last_epoch: ProducerEpoch,
    pub(super) timeout_ms: i32,
    pub(super) state: State,
    pub(super) partitions: PartitionSet,
    /// When the transaction began, milliseconds since 1970, or -1.
    pub(super) started_at_ms: i64,
    pub(super) updated_at_ms: i64,
    /// How the producer spoke last.
    pub(super) version: Version,
}

impl Transaction {
    /// An id that is used for the first time.
    pub(super) fn new(id: ProducerId, timeout_ms: i32, now_ms: i64) -> Self {
        Self {
            producer: Producer {
                id,
                epoch: ProducerEpoch(0),
            },
            previous_id: ProducerId::NONE,
            next_id: ProducerId::NONE,
            last_epoch: ProducerEpoch::NONE,
            timeout_ms,
            state: State::Empty,
            partitions: PartitionSet::default(),
            started_at_ms: -1,
            updated_at_ms: now_ms,
            version: Version::V0,
        }
    }

    /// Adds partitions, and begins the transaction with the first. False when nothing has changed.
    pub(super) fn add(
        &mut self,
        request: &AddRequest,
        bytes_max: usize,
        now_ms: i64,
    ) -> Result<bool, TransactionError> {
        self.check_current(request.producer)?;
        let is_open = self.state == State::Ongoing;
        if is_open && self.partitions.contains_all(&request.partitions) {
            return Ok(false);
        }
        let partitions = self.partitions.union(&request.partitions);
        if partitions.bytes() > bytes_max {
            return Err(TransactionError::BoundReached);
        }
        self.partitions = partitions;
        if !is_open {
            self.started_at_ms = now_ms;
        }
        self.state = State::Ongoing;
        self.version = request.version;
        self.touch(now_ms);
        Ok(true)
    }

    /// Which of the partitions are part of the ongoing transaction.
    pub(super) fn verify(&self, request: &VerifyRequest) -> Result<Vec<Verdict>, TransactionError> {
        self.check_current(request.producer)?;
        let verdict = |(topic, partition): (&str, _)| {
            let is_part = self.partitions.contains(topic, partition);
            let verdict = is_part.then_some(()).ok_or(TransactionError::Abortable);
            (topic.to_owned(), partition, verdict)
        };
        Ok(request.partitions.iter().map(verdict).collect())
    }

    /// Decides the outcome. In version 2 the epoch grows with it, and `fresh` takes over when there is none left.
    pub(super) fn prepare(
        &mut self,
        outcome: Outcome,
        version: Version,
        fresh: Option<ProducerId>,
        now_ms: i64,
    ) {
        debug_assert_eq!(self.state, State::Ongoing);
        self.next_id = ProducerId::NONE;
        if version == Version::V2 {
            if self.is_exhausted() {
                self.next_id = fresh.unwrap_or(ProducerId::NONE);
            }
            self.last_epoch = self.producer.epoch;
            self.producer.epoch = next_epoch(self.producer.epoch);
        }
        self.state = State::Prepare(outcome);
        self.version = version;
        self.touch(now_ms);
    }

    /// All markers of the decided transaction are written.
    pub(super) fn complete(&mut self, outcome: Outcome, now_ms: i64) {
        self.touch(now_ms);
        self.producer = self.producer_when_complete();
        self.next_id = ProducerId::NONE;
        self.partitions = PartitionSet::default();
        self.state = State::Complete(outcome);
    }

    /// Who the producer is once the transaction is completed.
    pub(super) fn producer_when_complete(&self) -> Producer {
        match self.next_id {
            ProducerId::NONE => self.producer,
            id => Producer {
                id,
                epoch: ProducerEpoch(0),
            },
        }
    }

    /// Whether the producer's epochs are used up.
    pub(super) fn is_exhausted(&self) -> bool {
        self.producer.epoch >= EPOCH_EXHAUSTED
    }

    /// Whether `producer` is the present one and may go on.
    fn check_current(&self, producer: Producer) -> Result<(), TransactionError> {
        let is_decided = matches!(self.state, State::Prepare(_));
        if is_decided && producer == self.producer_when_complete() {
            return Err(TransactionError::Concurrent);
        }
        if producer.id != self.producer.id {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if producer.epoch != self.producer.epoch {
            return Err(TransactionError::ProducerFenced);
        }
        if is_decided {
            return Err(TransactionError::Concurrent);
        }
        Ok(())
    }

    pub(super) fn touch(&mut self, now_ms: i64) {
        self.previous_id = self.producer.id;
        self.updated_at_ms = now_ms;
    }
}

/// The epoch after this one. At the greatest one there is nobody left to fence.
pub(super) fn next_epoch(epoch: ProducerEpoch) -> ProducerEpoch {
    ProducerEpoch(epoch.0.saturating_add(1)).min(EPOCH_MAX)
}
