//! What a partition has to do with transactions: their batches, and the markers that end them.

use weir_log::{AppendError, Appended, LaneError, Origin, ProducerState};
use weir_wire::batch::{EndTransactionMarker, control_batch};
use weir_wire::{LeaderEpoch, ProducerEpoch, ProducerId};

use super::Partition;

/// The end of one producer's transaction, as its coordinator tells it to every partition that is part of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Marker {
    /// Whose transaction.
    pub producer_id: ProducerId,
    /// The epoch that it ends with: with transactions of version 2 one more than that of its batches.
    pub producer_epoch: ProducerEpoch,
    /// Committed, or aborted; and the epoch of the coordinator that says so.
    pub end: EndTransactionMarker,
    /// The version of the transaction, 0 where the coordinator is too old to tell (KIP-1228).
    pub transaction_version: i8,
}

impl Partition {
    /// What is known of the partition's producers.
    pub fn producers(
        &self,
        done: impl FnOnce(Result<Vec<ProducerState>, LaneError>) + Send + 'static,
    ) {
        self.handle().producers(done);
    }

    /// Queues a marker. `done` is called as that of [`append`](Self::append) is: once the high watermark has passed the marker, or
    /// when it was refused. [`SequenceError::Fenced`](weir_log::SequenceError::Fenced) refuses a producer epoch,
    /// [`TransactionError::CoordinatorFenced`](weir_log::TransactionError::CoordinatorFenced) a coordinator's. A marker for a
    /// producer without an open transaction is written all the same.
    pub fn append_marker(
        &self,
        marker: Marker,
        leader_epoch: LeaderEpoch,
        now_ms: i64,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let Marker {
            producer_id,
            producer_epoch,
            end,
            transaction_version,
        } = marker;
        let batch = control_batch(
            end.kind(),
            end.coordinator_epoch,
            producer_id,
            producer_epoch,
            now_ms,
        );
        let origin = Origin::Marker {
            transaction_version,
        };
        match batch {
            Ok(batch) => self.append_as(batch, leader_epoch, origin, None, done),
            Err(error) => done(Err(AppendError::Malformed(error.to_string()))),
        }
    }
}
