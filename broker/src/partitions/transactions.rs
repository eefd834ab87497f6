//! What a partition has to do with transactions: their batches, and the markers that end them.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use weir_log::{
    AppendError, Appended, KnownProducers, LaneError, Origin, ProducerState, SequenceError,
    Verified,
};
use weir_wire::batch::{EndTransactionMarker, control_batch};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::gate::{Gate, Offered, Who, Word};
use super::{Partition, Until};
use crate::error::ApiError;
use crate::queue::throttle::Patience;

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

/// A batch of a transaction.
#[derive(Clone, Debug)]
pub struct OfTransaction {
    /// The batch, checked.
    pub batch: Bytes,
    /// Whose it is.
    pub producer_id: ProducerId,
    /// Of which incarnation.
    pub producer_epoch: ProducerEpoch,
    /// Its first sequence.
    pub base_sequence: i32,
    /// How long it may wait for room.
    pub patience: Option<Patience>,
    /// Whether the producer begins each transaction with sequence 0 (transactions version 2).
    pub begins_at_zero: bool,
}

/// A batch that waits for the word of a coordinator.
pub(super) struct Pending {
    batch: Bytes,
    leader_epoch: LeaderEpoch,
    patience: Option<Patience>,
    done: Box<dyn FnOnce(Result<Appended, ApiError>) + Send>,
}

impl fmt::Debug for Pending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("bytes", &self.batch.len())
            .finish_non_exhaustive()
    }
}

fn locked(gate: &Mutex<Gate<Pending>>) -> MutexGuard<'_, Gate<Pending>> {
    // Nothing that can panic runs while it is held.
    gate.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Partition {
    /// Queues one checked batch of a producer's transaction, in the order of the calls; `done` as in [`append`](Self::append).
    /// `true`: it begins a transaction, and waits, and the producer's next ones behind it, until
    /// [`vouched`](Self::vouched) tells what its coordinator said.
    #[must_use = "somebody has to ask the coordinator"]
    pub fn offer(
        &self,
        offered: OfTransaction,
        leader_epoch: LeaderEpoch,
        done: impl FnOnce(Result<Appended, ApiError>) + Send + 'static,
    ) -> bool {
        let OfTransaction {
            batch,
            producer_id,
            producer_epoch,
            base_sequence,
            patience,
            begins_at_zero,
        } = offered;
        let who = (producer_id, producer_epoch);
        let pending = Pending {
            batch,
            leader_epoch,
            patience,
            done: Box::new(done),
        };
        let reader = self.reader();
        let verified = Verified {
            since: reader.log_end(),
            begins_at_zero,
        };
        let offered = {
            let mut gate = locked(&self.gate);
            let is_ongoing = reader.is_transaction_open(producer_id, producer_epoch);
            gate.offer(
                who,
                (base_sequence, leader_epoch),
                pending,
                is_ongoing,
                verified,
            )
        };
        match offered {
            Offered::Pass(pending, word) => {
                self.let_through(who, pending, word);
                false
            }
            Offered::Ask => true,
            Offered::Waits => false,
            Offered::Gap(pending, expected) => {
                let gap = SequenceError::OutOfOrder {
                    producer: producer_id,
                    expected,
                    got: base_sequence,
                };
                (pending.done)(Err(AppendError::from(gap).into()));
                false
            }
        }
    }

    /// The coordinator is about to be asked, for the first time or again.
    pub fn asking(&self, who: (ProducerId, ProducerEpoch)) {
        let since = self.reader().log_end();
        locked(&self.gate).asking(who, since);
    }

    /// What the coordinator has said: lets through what waits, or refuses it.
    pub fn vouched(&self, who: (ProducerId, ProducerEpoch), said: Result<(), ApiError>) {
        if let Err(error) = said {
            let waiting = locked(&self.gate).refuse(who);
            for pending in waiting {
                self.counters().produce_errors.inc();
                (pending.done)(Err(error.clone()));
            }
            return;
        }
        loop {
            // Let go of before the lane's queue is touched, which may call back at once.
            let next = locked(&self.gate).next(who);
            let Some((pending, word)) = next else {
                return;
            };
            self.let_through(who, pending, Some(word));
        }
    }

    /// Whether the coordinator has to be asked again: a marker was written meanwhile, which it may have waited for.
    #[must_use]
    pub fn is_word_out_of_date(&self, who: (ProducerId, ProducerEpoch)) -> bool {
        locked(&self.gate).is_out_of_date(who)
    }

    fn let_through(&self, who: Who, pending: Pending, word: Option<Word>) {
        let Pending {
            batch,
            leader_epoch,
            patience,
            done,
        } = pending;
        let gate = Arc::clone(&self.gate);
        let settled = move |result: Result<Appended, AppendError>| {
            if let Some(word) = word {
                locked(&gate).settled(who, word, result.is_ok());
            }
            done(result.map_err(ApiError::from));
        };
        let verified = word.map(|word| word.verified);
        self.append_of_client(
            (batch, leader_epoch),
            (Origin::Client, verified),
            Until::Committed,
            patience,
            settled,
        );
    }

    /// What is known of the partition's producers.
    pub fn producers(
        &self,
        done: impl FnOnce(Result<Vec<ProducerState>, LaneError>) + Send + 'static,
    ) {
        self.handle().producers(done);
    }

    /// What is known of them from batches below `start`.
    pub(crate) fn producers_before(
        &self,
        start: Offset,
        done: impl FnOnce(Result<KnownProducers, LaneError>) + Send + 'static,
    ) {
        self.handle().producers_before(start, done);
    }

    /// Queues a marker. `done` is called as that of [`append`](Self::append) is: once the high watermark has passed the marker, or
    /// when it was refused. [`SequenceError::Fenced`] refuses a producer epoch,
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
        let gate = Arc::clone(&self.gate);
        let done = move |result: Result<Appended, AppendError>| {
            if result.is_ok() {
                locked(&gate).ended(producer_id);
            }
            done(result);
        };
        match batch {
            Ok(batch) => self.append_as(batch, leader_epoch, origin, None, done),
            Err(error) => done(Err(AppendError::Malformed(error.to_string()))),
        }
    }
}
