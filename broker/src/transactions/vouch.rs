//! A leader's question to a transaction's coordinator, wherever that is: whether a partition is part of it (KIP-890).

use weir_groups::transactions::request::{AddRequest, VerifyRequest};
use weir_groups::transactions::{PartitionSet, TransactionError, Version};
use weir_groups::{Producer, TransactionalId};
use weir_wire::{ErrorCode, PartitionIndex};

use super::TransactionCoordinators;

/// What a producer writes where.
#[derive(Clone, Debug)]
pub struct Vouch {
    /// The id that it writes under.
    pub id: TransactionalId,
    /// Who it is.
    pub producer: Producer,
    /// Whether partitions that are not part of its transaction become so: of producers that speak version 2, which name
    /// none of them before (Produce 12, TxnOffsetCommit 5). Of others it is only asked.
    pub adds: bool,
    /// Where it writes.
    pub partitions: Vec<(String, PartitionIndex)>,
}

impl TransactionCoordinators {
    /// Whether the partitions are part of the producer's ongoing transaction: for each, Kafka's code as the coordinator
    /// gives it. Asks the coordinator here, or on another broker. Take note of where the partition's log ends *before* it
    /// is asked: a marker from there on means that its word is out of date.
    ///
    /// Codes are [`ErrorCode::None`], `PRODUCER_FENCED`, `INVALID_PRODUCER_ID_MAPPING`, `CONCURRENT_TRANSACTIONS` (an
    /// earlier transaction of the producer is still being completed, and that took some time already),
    /// `TRANSACTION_ABORTABLE` (the partition is no part of it), and those of a coordinator that is loading or away.
    pub fn vouch(&self, vouch: Vouch) -> impl Future<Output = Vec<ErrorCode>> + Send + use<> {
        let this = self.clone();
        async move {
            let count = vouch.partitions.len();
            let coordinator = match this.find(vouch.id.as_str()).await {
                Ok(coordinator) => coordinator.id,
                Err(error) => return vec![error.code(); count],
            };
            if coordinator == this.shared.metadata.broker_id() {
                return this.vouch_here(vouch).await;
            }
            match this.ask_coordinator(coordinator, &vouch).await {
                Ok(codes) if codes.len() == count => codes,
                Ok(codes) => {
                    tracing::error!(wanted = count, found = codes.len(), "codes for partitions");
                    vec![ErrorCode::UnknownServerError; count]
                }
                Err(error) => {
                    tracing::warn!(id = %vouch.id, %error, "a transaction could not be verified");
                    vec![ErrorCode::CoordinatorNotAvailable; count]
                }
            }
        }
    }

    /// As [`vouch`](Self::vouch), by the coordinator of this broker.
    pub(super) async fn vouch_here(&self, vouch: Vouch) -> Vec<ErrorCode> {
        let Vouch {
            id,
            producer,
            adds,
            partitions: places,
        } = vouch;
        let partitions: PartitionSet = places.iter().map(|(topic, at)| (topic, *at)).collect();
        let verdicts = if adds {
            let request = AddRequest {
                id,
                producer,
                version: Version::V2,
                partitions,
            };
            self.add(request).await.map(|()| Vec::new())
        } else {
            let request = VerifyRequest {
                id,
                producer,
                partitions,
            };
            self.verify(request).await
        };
        let code_of = |outcome: Result<(), TransactionError>| {
            outcome.map_or_else(TransactionError::code, |()| ErrorCode::None)
        };
        let codes = places.iter().map(|(topic, at)| match &verdicts {
            Err(error) => error.code(),
            Ok(verdicts) => verdicts
                .iter()
                .find(|(of, index, _)| of == topic && index == at)
                .map_or(ErrorCode::None, |(_, _, verdict)| code_of(*verdict)),
        });
        codes.collect()
    }
}
