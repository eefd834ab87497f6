//! What a transaction coordinator refuses, and Kafka's code for each.

use thiserror::Error;
use weir_wire::messages::ErrorCode;

/// Why a request, or one partition of it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says what it is")]
pub enum TransactionError {
    #[error("the coordinator could not do this; its log says why")]
    Unknown,
    #[error("the coordinator is loading, and hence cannot serve requests")]
    CoordinatorLoadInProgress,
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("this is not the correct coordinator")]
    NotCoordinator,
    #[error("the transactional id is empty or too long")]
    InvalidRequest,
    #[error("the producer attempted a transactional operation in an invalid state")]
    InvalidState,
    #[error("the producer id is not the one that is assigned to the transactional id")]
    InvalidProducerIdMapping,
    #[error("the transaction timeout is larger than transaction.max.timeout.ms, or not positive")]
    InvalidTimeout,
    #[error("an earlier transaction of the same producer is still being completed")]
    Concurrent,
    #[error("there is a newer producer with the same transactional id")]
    ProducerFenced,
    #[error("the transactional id could not be found")]
    IdNotFound,
    #[error("the partition is not part of the transaction: abort it")]
    Abortable,
    #[error(
        "the broker's bound on transactional ids or on the partitions of one transaction is reached"
    )]
    BoundReached,
    /// Asks whoever carries the request to repeat it with a producer id that was never given out. No client sees it.
    #[error("a producer id is wanted")]
    ProducerIdWanted,
}

impl TransactionError {
    /// Kafka's code for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Unknown | Self::ProducerIdWanted => ErrorCode::UnknownServerError,
            Self::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::InvalidState => ErrorCode::InvalidTxnState,
            Self::InvalidProducerIdMapping => ErrorCode::InvalidProducerIdMapping,
            Self::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
            Self::Concurrent => ErrorCode::ConcurrentTransactions,
            Self::ProducerFenced => ErrorCode::ProducerFenced,
            Self::IdNotFound => ErrorCode::TransactionalIdNotFound,
            Self::Abortable => ErrorCode::TransactionAbortable,
            Self::BoundReached => ErrorCode::PolicyViolation,
        }
    }
}
