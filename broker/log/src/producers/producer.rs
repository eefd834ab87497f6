//! One producer.

use weir_wire::batch::BatchHeader;
use weir_wire::{Offset, ProducerEpoch};

/// How many batches of a producer are remembered: twice as many as a client may have in flight on one connection
/// (`max.in.flight.requests.per.connection` of at most 5), since those to a leader that does not answer may be unanswered still while others went to the next.
pub(super) const BATCHES_KEPT: usize = 10;

/// The coordinator epoch of a producer that no marker has come for.
pub(super) const NO_COORDINATOR_EPOCH: i32 = -1;

/// A batch as its producer's retry would name it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SeenBatch {
    pub(super) base_sequence: i32,
    pub(super) last_offset_delta: i32,
    pub(super) base_offset: Offset,
}

impl SeenBatch {
    pub(super) fn of(header: &BatchHeader) -> Self {
        Self {
            base_sequence: header.base_sequence,
            last_offset_delta: header.last_offset_delta,
            base_offset: header.base_offset,
        }
    }

    pub(super) fn last_offset(self) -> Offset {
        self.base_offset
            .saturating_add(i64::from(self.last_offset_delta))
    }

    /// Sequences wrap from the greatest `i32` to 0.
    fn last_sequence(self) -> i32 {
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }
}

/// What is remembered of one producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) epoch: ProducerEpoch,
    /// Of the coordinator whose marker came last, or -1.
    pub(crate) coordinator_epoch: i32,
    /// When it was heard of last, by our clock.
    pub(super) last_seen_ms: i64,
    /// The greatest timestamp of its last batch or marker.
    pub(crate) last_timestamp_ms: i64,
    /// Where the transaction begins that it has open.
    pub(crate) transaction: Option<Offset>,
    /// Where its last marker lies, or -1.
    pub(super) last_marker: Offset,
    /// The last batches of its epoch, oldest first; the first `count` of them are there.
    batches: [SeenBatch; BATCHES_KEPT],
    count: u8,
}

impl Producer {
    pub(super) fn new(epoch: ProducerEpoch) -> Self {
        Self {
            epoch,
            coordinator_epoch: NO_COORDINATOR_EPOCH,
            last_seen_ms: 0,
            last_timestamp_ms: -1,
            transaction: None,
            last_marker: Offset::NONE,
            batches: [SeenBatch::default(); BATCHES_KEPT],
            count: 0,
        }
    }

    pub(super) fn batches(&self) -> &[SeenBatch] {
        self.batches
            .get(..usize::from(self.count))
            .unwrap_or(&self.batches)
    }

    pub(super) fn push(&mut self, batch: SeenBatch) {
        if usize::from(self.count) == BATCHES_KEPT {
            self.batches.rotate_left(1);
            self.batches[BATCHES_KEPT - 1] = batch;
        } else {
            self.batches[usize::from(self.count)] = batch;
            self.count += 1;
        }
    }

    /// With a new epoch sequences begin anew.
    pub(super) fn enter(&mut self, epoch: ProducerEpoch) {
        if self.epoch != epoch {
            self.epoch = epoch;
            self.count = 0;
            self.batches = [SeenBatch::default(); BATCHES_KEPT];
        }
    }

    /// The sequence of the last record of its epoch, or -1.
    pub(crate) fn last_sequence(&self) -> i32 {
        self.batches()
            .last()
            .map_or(-1, |batch| batch.last_sequence())
    }

    /// The sequence that its next batch must begin with.
    pub(super) fn next_sequence(&self) -> i32 {
        self.last_sequence().wrapping_add(1) & i32::MAX
    }
}
