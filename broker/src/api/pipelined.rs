//! What a producer is told of a batch whose predecessor on the same connection was refused for the moment.
//!
//! Idempotent producers have several batches of a partition on their way. When the first is refused with an error that passes (too few
//! replicas in sync, a leader that has only just come back) and the cause is gone before the second is looked at, the second leaves
//! out a sequence, and OUT_OF_ORDER_SEQUENCE_NUMBER would be true. librdkafka begins a new epoch on that and sends again all that it
//! has on its way, also to partitions whose brokers have it already: twice in the log. So the second is refused as the first was, and the
//! producer sends both again, in order.
//!
//! Of a producer that a partition does not know any sequence is taken, since its state may have expired. The second batch of a new one would
//! be in the log for good, and the first, when it comes again, out of order for ever: Java sends it until its time is over. So
//! nothing behind a refused batch is handed on before that has come again.
//!
//! The second may also reach the next leader, over another connection, before the producer has heard that the one before it has refused the first: a leader
//! that has only just taken over does not call it out of order, but refuses it as one that does not lead, and the producer finds it again. Nor does it
//! take the second batch of a producer that it does not know.
//!
//! Only for [`PATIENCE`], only until the first has been accepted, and only as long as the same broker leads: a batch that never comes again is a real gap, of
//! which the producer must hear, and another leader may have taken the first. One for each connection; batches sent over a new connection begin with the
//! oldest that is not acknowledged.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use weir_groups::Producer;
use weir_log::PartitionKey;
use weir_wire::batch::BatchHeader;
use weir_wire::{LeaderEpoch, ProducerId};

use crate::error::ErrorCode;

/// How long a producer may take to send a refused batch again. Clients wait at most some seconds between attempts (Java: 1 s,
/// librdkafka: 1 s, franz-go: 2.5 s) and may have to find the leader in between.
const PATIENCE: Duration = Duration::from_secs(30);

/// More producers and partitions than that are not remembered for one connection; it bounds what a client can make the broker keep
/// (64 bytes each).
const REMEMBERED_MAX: usize = 4096;

/// Which batch of an idempotent producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequenced {
    pub(super) producer: Producer,
    /// Of its first record.
    pub(super) sequence: i32,
}

impl Sequenced {
    /// `None` for a batch of a producer that does not number its batches, and for what is no batch.
    pub(super) fn of(batch: &[u8]) -> Option<Self> {
        BatchHeader::parse(batch)
            .ok()
            .and_then(|header| Self::from_header(&header))
    }

    pub(super) fn from_header(header: &BatchHeader) -> Option<Self> {
        let producer = Producer {
            id: header.producer_id,
            epoch: header.producer_epoch,
        };
        (producer.id.0 >= 0).then_some(Self {
            producer,
            sequence: header.base_sequence,
        })
    }

    /// Whether this one comes after another of the same producer. Sequences go from 2^31 - 1 to 0.
    fn is_behind(self, first: Self) -> bool {
        let ahead = self.sequence.wrapping_sub(first.sequence) & i32::MAX;
        self.producer == first.producer && (1..1 << 30).contains(&ahead)
    }
}

/// The first batch that was refused for the moment and not accepted since.
#[derive(Clone, Copy, Debug)]
struct Refusal {
    first: Sequenced,
    /// Of the partition's leader at that time; none where this broker had not heard of the partition. That stands for its first leader alone: a later one
    /// may come after another that has taken the batch.
    epoch: LeaderEpoch,
    code: ErrorCode,
    at: Instant,
    /// It has come once more, and what becomes of it is not known yet.
    came_again: bool,
}

impl Refusal {
    /// Whether the producer of a batch is still waited for.
    fn is_of(&self, batch: Sequenced, epoch: LeaderEpoch, now: Instant) -> bool {
        let has_led =
            self.epoch == epoch || (self.epoch == LeaderEpoch::NONE && epoch == LeaderEpoch(0));
        self.first.producer == batch.producer && has_led && now < self.at + PATIENCE
    }
}

type Refusals = BTreeMap<(PartitionKey, ProducerId), Refusal>;

/// What was refused for the moment on one connection. See the module.
#[derive(Debug, Default)]
pub(super) struct Pipelined {
    /// Most connections never need it.
    refusals: OnceLock<Mutex<Refusals>>,
}

impl Pipelined {
    /// Whether a batch may be handed on to a leader of this epoch: not while one before it that was refused has not come again; the error is that one's. To be
    /// called for each batch in the order of the connection.
    pub(super) fn admit(
        &self,
        (key, epoch): (PartitionKey, LeaderEpoch),
        batch: Sequenced,
        now: impl FnOnce() -> Instant,
    ) -> Result<(), ErrorCode> {
        let Some(refusals) = self.refusals.get() else {
            return Ok(());
        };
        let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(known) = refusals.get_mut(&(key, batch.producer.id)) else {
            return Ok(());
        };
        if !known.is_of(batch, epoch, now()) || known.came_again {
            return Ok(());
        }
        if batch.is_behind(known.first) {
            return Err(known.code);
        }
        known.came_again = batch == known.first;
        Ok(())
    }

    /// What the producer of this batch is told, given what became of it in a leader's epoch. To be called for each batch in the order of the connection.
    pub(super) fn settle(
        &self,
        (key, epoch): (PartitionKey, LeaderEpoch),
        batch: Sequenced,
        code: ErrorCode,
        now: impl FnOnce() -> Instant,
    ) -> ErrorCode {
        let refusals = match passes(code) {
            true => self.refusals.get_or_init(Mutex::default),
            false => match self.refusals.get() {
                Some(refusals) => refusals,
                None => return code,
            },
        };
        let now = now();
        // Nothing that can panic runs while it is held.
        let mut refusals = refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (key, batch.producer.id);
        let known = refusals.get(&place).copied();
        let known = known.filter(|known| known.is_of(batch, epoch, now));
        match (code, known) {
            (ErrorCode::None, Some(known)) if !known.first.is_behind(batch) => {
                refusals.remove(&place);
            }
            (ErrorCode::OutOfOrderSequenceNumber | ErrorCode::UnknownProducerId, Some(known))
                if batch.is_behind(known.first) =>
            {
                return known.code;
            }
            // It was refused for another that is remembered.
            (_, Some(known)) if batch.is_behind(known.first) => {}
            _ if passes(code) => {
                make_room(&mut refusals, now);
                if refusals.len() < REMEMBERED_MAX || refusals.contains_key(&place) {
                    let refusal = Refusal {
                        first: batch,
                        epoch,
                        code,
                        at: now,
                        came_again: false,
                    };
                    refusals.insert(place, refusal);
                }
            }
            _ => {}
        }
        code
    }
}

/// Errors on which every client sends the same batch again.
const fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotEnoughReplicas
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::KafkaStorageError
            | ErrorCode::UnknownTopicOrPartition
    )
}

fn make_room(refusals: &mut Refusals, now: Instant) {
    if refusals.len() >= REMEMBERED_MAX {
        refusals.retain(|_, refusal| now < refusal.at + PATIENCE);
    }
}

#[cfg(test)]
mod tests;
