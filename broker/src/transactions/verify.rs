//! The first batches of a transaction: its coordinator vouches for their partitions, then they are let through (KIP-890).

use std::sync::{Arc, Mutex, PoisonError};

use weir_groups::{Producer, TransactionalId};
use weir_wire::ErrorCode;

use super::{TransactionCoordinators, Vouch};
use crate::error::ApiError;
use crate::partitions::Partition;

/// How often a coordinator is asked when a marker is written while it answers. One marker is that of the producer's last
/// transaction, which the coordinator waits for; more are sent again by a coordinator that has just taken over.
const QUESTIONS_MAX: usize = 4;

/// Partitions of one request in which batches wait. The coordinator is asked for all of them at once, when the last of those who
/// hold this lets go of it: not as part of an answer, since what waits must not depend on whether that is polled.
#[derive(Debug)]
pub struct Verification {
    coordinators: TransactionCoordinators,
    runtime: tokio::runtime::Handle,
    id: TransactionalId,
    producer: Producer,
    produce_version: i16,
    partitions: Mutex<Vec<Arc<Partition>>>,
}

impl Verification {
    /// Of the producer that writes under this id and speaks this version of Produce. Within a runtime.
    #[must_use]
    pub fn new(
        coordinators: TransactionCoordinators,
        id: TransactionalId,
        producer: Producer,
        produce_version: i16,
    ) -> Self {
        Self {
            coordinators,
            runtime: tokio::runtime::Handle::current(),
            id,
            producer,
            produce_version,
            partitions: Mutex::default(),
        }
    }

    /// Batches wait in this partition.
    pub fn add(&self, partition: Arc<Partition>) {
        self.partitions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(partition);
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        let partitions = self
            .partitions
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let partitions = std::mem::take(partitions);
        if !partitions.is_empty() {
            let (coordinators, id) = (self.coordinators.clone(), self.id.clone());
            let (producer, version) = (self.producer, self.produce_version);
            let admitting =
                async move { coordinators.admit(id, producer, version, partitions).await };
            self.runtime.spawn(admitting);
        }
    }
}

/// The first version of Produce that adds partitions to transactions, and the first whose clients know `TRANSACTION_ABORTABLE`.
pub const ADDS_FROM: i16 = 12;
const ABORTABLE_FROM: i16 = 11;

impl TransactionCoordinators {
    /// Asks the coordinator for partitions in which batches wait, and lets them through or refuses them. Ends within the time
    /// that a coordinator takes, on this broker or another.
    async fn admit(
        &self,
        id: TransactionalId,
        producer: Producer,
        produce_version: i16,
        mut partitions: Vec<Arc<Partition>>,
    ) {
        let who = (producer.id, producer.epoch);
        for _ in 0..QUESTIONS_MAX {
            for partition in &partitions {
                partition.asking(who);
            }
            let places = partitions.iter();
            let codes = self
                .vouch(Vouch {
                    id: id.clone(),
                    producer,
                    adds: produce_version >= ADDS_FROM,
                    partitions: places
                        .map(|partition| (partition.topic().to_string(), partition.key().partition))
                        .collect(),
                })
                .await;
            let mut codes = codes.into_iter();
            partitions.retain(|partition| {
                let code = codes.next().unwrap_or(ErrorCode::UnknownServerError);
                let is_again = code == ErrorCode::None && partition.is_word_out_of_date(who);
                if !is_again {
                    partition.vouched(who, for_producer(code, produce_version));
                }
                is_again
            });
            if partitions.is_empty() {
                return;
            }
        }
        for partition in partitions {
            let said = for_producer(ErrorCode::ConcurrentTransactions, produce_version);
            partition.vouched(who, said);
        }
    }
}

/// What a producer is told for a coordinator's code: one that its version knows, and that makes it do the right thing.
fn for_producer(code: ErrorCode, produce_version: i16) -> Result<(), ApiError> {
    let unverified = || {
        let message = format!(
            "it cannot be verified that the partition is part of the transaction: {}",
            code.name()
        );
        // Older clients retry this without asking for metadata.
        Err(ApiError::new(ErrorCode::NotEnoughReplicas, message))
    };
    match code {
        ErrorCode::None => Ok(()),
        ErrorCode::CoordinatorLoadInProgress
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator
        | ErrorCode::NetworkException => unverified(),
        ErrorCode::ConcurrentTransactions if produce_version < ADDS_FROM => unverified(),
        ErrorCode::ProducerFenced => Err(ErrorCode::InvalidProducerEpoch.into()),
        ErrorCode::TransactionAbortable if produce_version < ABORTABLE_FROM => {
            Err(not_part_of_it(ErrorCode::InvalidTxnState))
        }
        ErrorCode::InvalidTxnState => Err(not_part_of_it(code)),
        other => Err(other.into()),
    }
}

fn not_part_of_it(code: ErrorCode) -> ApiError {
    ApiError::new(code, "Partition was not added to the transaction")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(code: ErrorCode, version: i16) -> ErrorCode {
        for_producer(code, version).map_or_else(|error| error.code, |()| ErrorCode::None)
    }

    #[test]
    fn producers_are_told_what_their_version_knows() {
        for (code, before_11, in_11, from_12) in [
            (
                ErrorCode::None,
                ErrorCode::None,
                ErrorCode::None,
                ErrorCode::None,
            ),
            (
                ErrorCode::TransactionAbortable,
                ErrorCode::InvalidTxnState,
                ErrorCode::TransactionAbortable,
                ErrorCode::TransactionAbortable,
            ),
            (
                ErrorCode::ConcurrentTransactions,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::ConcurrentTransactions,
            ),
            (
                ErrorCode::ProducerFenced,
                ErrorCode::InvalidProducerEpoch,
                ErrorCode::InvalidProducerEpoch,
                ErrorCode::InvalidProducerEpoch,
            ),
            (
                ErrorCode::CoordinatorNotAvailable,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
                ErrorCode::NotEnoughReplicas,
            ),
            (
                ErrorCode::InvalidProducerIdMapping,
                ErrorCode::InvalidProducerIdMapping,
                ErrorCode::InvalidProducerIdMapping,
                ErrorCode::InvalidProducerIdMapping,
            ),
        ] {
            assert_eq!(told(code, 9), before_11, "{code:?}");
            assert_eq!(told(code, 11), in_11, "{code:?}");
            assert_eq!(told(code, 12), from_12, "{code:?}");
        }
    }
}
