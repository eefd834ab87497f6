//! What a leader knows of producers from batches that a follower will not see: those below the offset at which its copy begins.
//!
//! A replica that begins behind a log's first batches, since retention or a queue has let them go, would learn of a producer only what it writes from there on. As
//! the next leader it would know neither that a batch is there already nor which one comes next, and refuse what is in order. So the
//! leader tells it, and it keeps that as a state snapshot at its log's beginning.

use weir_wire::Offset;

use super::producer::{NO_COORDINATOR_EPOCH, Producer};
use super::{Producers, decode, encode};
use crate::epochs::Epochs;

/// What follows for producers from batches below some offset, which are gone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownProducers(pub(crate) Producers);

impl KnownProducers {
    /// As bytes, for another broker.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        encode(Offset::ZERO, &Epochs::default(), &self.0, &[])
    }

    /// What [`to_bytes`](Self::to_bytes) made; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        decode(bytes).map(|snapshot| Self(snapshot.producers))
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Producers {
    /// What of all this follows from batches below `start`. Transactions are left to what is written from there on.
    pub(crate) fn before(&self, start: Offset) -> KnownProducers {
        let mut known = Self::default();
        for (id, producer) in &self.by_id {
            if let Some(before) = before(producer, start) {
                known.put(*id, Some(before));
            }
        }
        KnownProducers(known)
    }
}

fn before(producer: &Producer, start: Offset) -> Option<Producer> {
    let mut known = Producer::new(producer.epoch);
    known.last_seen_ms = producer.last_seen_ms;
    known.last_timestamp_ms = producer.last_timestamp_ms;
    if producer.last_marker < start {
        known.last_marker = producer.last_marker;
        known.coordinator_epoch = producer.coordinator_epoch;
    }
    for batch in producer.batches() {
        if batch.last_offset() < start {
            known.push(*batch);
        }
    }
    let says_nothing =
        known.batches().is_empty() && known.coordinator_epoch == NO_COORDINATOR_EPOCH;
    (!says_nothing).then_some(known)
}
