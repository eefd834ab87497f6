//! What a partition remembers of its idempotent producers (KIP-98): the last five batches of each.
//!
//! Pure: (state, batch) → verdict, and nothing else. A batch that was seen before is a duplicate and gets its first offsets
//! back; one that leaves a gap, or is of a fenced epoch, is refused. The state is bounded: the producers that have been
//! silent for longest give way. It is rebuilt from a snapshot and the log's headers.

mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use weir_wire::batch::BatchHeader;
use weir_wire::{Offset, ProducerEpoch, ProducerId};

use crate::error::SequenceError;
pub(crate) use snapshot::{Snapshot, decode, encode};

/// How many batches of a producer are remembered: as many as a client may have in flight
/// (`max.in.flight.requests.per.connection` of at most 5).
const BATCHES_KEPT: usize = 5;

/// When the table is full, this part of it gives way at once, so that the search for the silent ones pays off.
const EVICTED_PART: usize = 8;

/// A batch as its producer's retry would name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SeenBatch {
    base_sequence: i32,
    last_offset_delta: i32,
    base_offset: Offset,
}

impl SeenBatch {
    fn last_sequence(self) -> i32 {
        last_sequence(self.base_sequence, self.last_offset_delta)
    }
}

/// One producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    epoch: ProducerEpoch,
    last_seen_ms: i64,
    /// The last batches, oldest first; the first `count` of them are there.
    batches: [SeenBatch; BATCHES_KEPT],
    count: u8,
}

impl Producer {
    fn new(epoch: ProducerEpoch, now_ms: i64) -> Self {
        Self {
            epoch,
            last_seen_ms: now_ms,
            batches: [SeenBatch::default(); BATCHES_KEPT],
            count: 0,
        }
    }

    fn batches(&self) -> &[SeenBatch] {
        self.batches
            .get(..usize::from(self.count))
            .unwrap_or(&self.batches)
    }

    fn push(&mut self, batch: SeenBatch) {
        if usize::from(self.count) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.batches[BATCHES_KEPT - 1] = batch;
        } else {
            self.batches[usize::from(self.count)] = batch;
            self.count += 1;
        }
    }
}

/// What is to be done with a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    Append,
    /// It is in the log already, at these offsets.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
    },
}

/// What a table was like before a batch, for one that could not be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    id: ProducerId,
    before: Option<Producer>,
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// Judges a batch. Nothing changes.
    pub(crate) fn check(&self, header: &BatchHeader) -> Result<Verdict, SequenceError> {
        let Some(known) = self
            .by_id
            .get(&header.producer_id)
            .filter(|_| is_idempotent(header))
        else {
            // Of an unknown producer any sequence may come: its state may have expired, or gone with old segments.
            return Ok(Verdict::Append);
        };
        let producer = header.producer_id;
        if header.producer_epoch < known.epoch {
            return Err(SequenceError::Fenced {
                producer,
                got: header.producer_epoch,
                current: known.epoch,
            });
        }
        if header.producer_epoch > known.epoch {
            return in_order(producer, 0, header.base_sequence);
        }
        let duplicate = known.batches().iter().find(|seen| {
            seen.base_sequence == header.base_sequence
                && seen.last_offset_delta == header.last_offset_delta
        });
        if let Some(seen) = duplicate {
            let last_offset = seen
                .base_offset
                .saturating_add(i64::from(seen.last_offset_delta));
            return Ok(Verdict::Duplicate {
                base_offset: seen.base_offset,
                last_offset,
            });
        }
        match known.batches().last() {
            Some(last) => in_order(
                producer,
                next_sequence(last.last_sequence()),
                header.base_sequence,
            ),
            None => Ok(Verdict::Append),
        }
    }

    /// Remembers a batch that is appended, as `header` says with its assigned base offset.
    pub(crate) fn remember(
        &mut self,
        header: &BatchHeader,
        now_ms: i64,
        producers_max: usize,
    ) -> Option<Undo> {
        if !is_idempotent(header) {
            return None;
        }
        let id = header.producer_id;
        let before = self.by_id.get(&id).copied();
        if before.is_none() && self.by_id.len() >= producers_max {
            self.evict(producers_max);
        }
        let producer = self
            .by_id
            .entry(id)
            .or_insert_with(|| Producer::new(header.producer_epoch, now_ms));
        if producer.epoch != header.producer_epoch {
            *producer = Producer::new(header.producer_epoch, now_ms);
        }
        producer.last_seen_ms = now_ms;
        producer.push(SeenBatch {
            base_sequence: header.base_sequence,
            last_offset_delta: header.last_offset_delta,
            base_offset: header.base_offset,
        });
        Some(Undo { id, before })
    }

    /// Takes a batch back that was not written. In reverse order of what was remembered.
    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo.before {
            Some(before) => self.by_id.insert(undo.id, before),
            None => self.by_id.remove(&undo.id),
        };
    }

    /// Forgets who has been silent since before `deadline_ms`.
    pub(crate) fn expire(&mut self, deadline_ms: i64) {
        self.by_id
            .retain(|_, producer| producer.last_seen_ms >= deadline_ms);
    }

    fn evict(&mut self, producers_max: usize) {
        let mut seen: Vec<i64> = self
            .by_id
            .values()
            .map(|producer| producer.last_seen_ms)
            .collect();
        let evicted = (producers_max / EVICTED_PART).max(1).min(seen.len());
        if evicted == 0 {
            return;
        }
        let (_, youngest_evicted, _) = seen.select_nth_unstable(evicted - 1);
        let youngest_evicted = *youngest_evicted;
        let mut left = evicted;
        self.by_id.retain(|_, producer| {
            let goes = left > 0 && producer.last_seen_ms <= youngest_evicted;
            left -= usize::from(goes);
            !goes
        });
    }
}

fn is_idempotent(header: &BatchHeader) -> bool {
    header.producer_id.0 >= 0 && header.base_sequence >= 0 && !header.attributes.is_control()
}

fn in_order(producer: ProducerId, expected: i32, got: i32) -> Result<Verdict, SequenceError> {
    if expected == got {
        Ok(Verdict::Append)
    } else {
        Err(SequenceError::OutOfOrder {
            producer,
            expected,
            got,
        })
    }
}

/// Sequences wrap from the greatest `i32` to 0.
fn last_sequence(base_sequence: i32, last_offset_delta: i32) -> i32 {
    base_sequence.wrapping_add(last_offset_delta) & i32::MAX
}

fn next_sequence(sequence: i32) -> i32 {
    last_sequence(sequence, 1)
}
