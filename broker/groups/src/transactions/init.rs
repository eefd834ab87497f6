//! InitProducerId: a producer begins to use its transactional id.

use weir_wire::{ProducerEpoch, ProducerId};

use super::error::TransactionError;
use super::partitions::PartitionSet;
use super::request::InitRequest;
use super::state::State;
use super::transaction::{EPOCH_EXHAUSTED, Transaction, next_epoch};
use crate::machine::Producer;

/// What is to be done for a producer that begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Init {
    /// The producer has its identity, which is to be stored.
    Ready,
    /// A transaction is open, which is to be aborted first.
    Fence,
}

impl Transaction {
    /// Gives the id to a producer.
    pub(super) fn init(
        &mut self,
        request: &InitRequest,
        now_ms: i64,
    ) -> Result<Init, TransactionError> {
        let is_mine = |expected: Producer| {
            expected.id == self.producer.id
                // A repeated request after the producer id has changed.
                || expected.id == self.previous_id && expected.epoch >= EPOCH_EXHAUSTED
        };
        if !request.expected.is_none_or(is_mine) {
            return Err(TransactionError::ProducerFenced);
        }
        let expected = request.expected.map(|expected| expected.epoch);
        match self.state {
            State::Prepare(_) => Err(TransactionError::Concurrent),
            // One that was replaced may not abort what its successor does.
            State::Ongoing if expected.is_some_and(|epoch| epoch != self.producer.epoch) => {
                Err(TransactionError::ProducerFenced)
            }
            State::Ongoing => Ok(Init::Fence),
            State::Empty | State::Complete(_) => {
                self.give(request, expected, now_ms)?;
                Ok(Init::Ready)
            }
        }
    }

    fn give(
        &mut self,
        request: &InitRequest,
        expected: Option<ProducerEpoch>,
        now_ms: i64,
    ) -> Result<(), TransactionError> {
        let current = self.producer.epoch;
        let (producer, last_epoch) = match expected {
            // It has its identity already, and repeats the request since it has not heard of it. Had another producer come
            // meanwhile, there would be no last epoch.
            Some(epoch) if epoch != current && epoch == self.last_epoch => (self.producer, epoch),
            Some(epoch) if epoch != current => return Err(TransactionError::ProducerFenced),
            _ => (
                self.successor(request.fresh)?,
                expected.map_or(ProducerEpoch::NONE, |_| current),
            ),
        };
        self.touch(now_ms);
        self.producer = producer;
        self.last_epoch = last_epoch;
        self.next_id = ProducerId::NONE;
        self.timeout_ms = request.timeout_ms;
        self.state = State::Empty;
        self.partitions = PartitionSet::default();
        self.started_at_ms = -1;
        Ok(())
    }

    fn successor(&self, fresh: Option<ProducerId>) -> Result<Producer, TransactionError> {
        if !self.is_exhausted() {
            return Ok(Producer {
                id: self.producer.id,
                epoch: next_epoch(self.producer.epoch),
            });
        }
        let id = fresh.ok_or(TransactionError::ProducerIdWanted)?;
        Ok(Producer {
            id,
            epoch: ProducerEpoch(0),
        })
    }
}
