//! Which of Weir's errors gets which of Kafka's codes: one table.
//!
//! Handlers turn an error into an [`ApiError`] with `into`, and put its code and message where their response has them.

use weir_log::{AppendError, LaneError, ReadError, SequenceError, TransactionError};
use weir_quorum::ControlError;
pub use weir_wire::ErrorCode;
use weir_wire::batch::BatchError;

use crate::partitions::PartitionError;

/// An error as a response tells it: Kafka's code, and for people what was wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct ApiError {
    /// Kafka's code.
    pub code: ErrorCode,
    /// For people; empty when the code says it all.
    pub message: String,
}

impl ApiError {
    /// An error with something to say.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<ErrorCode> for ApiError {
    fn from(code: ErrorCode) -> Self {
        Self {
            code,
            message: String::new(),
        }
    }
}

impl ApiError {
    /// The message where a response has room for one; `None` when the code says it all.
    #[must_use]
    pub fn message(self) -> Option<String> {
        (!self.message.is_empty()).then_some(self.message)
    }
}

/// As the operator hears it.
impl From<ApiError> for weir_proto::admin::v1::Error {
    fn from(error: ApiError) -> Self {
        Self {
            code: error.code.name().to_owned(),
            message: error.message,
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let code = ErrorCode::from_code(error.name.code()).unwrap_or(ErrorCode::UnknownServerError);
        Self::new(code, error.message)
    }
}

impl From<PartitionError> for ApiError {
    fn from(error: PartitionError) -> Self {
        let code = match error {
            // Both pass: clients ask again.
            PartitionError::NotYet => ErrorCode::LeaderNotAvailable,
            PartitionError::NotHere => ErrorCode::NotLeaderOrFollower,
            PartitionError::Failed(_) => ErrorCode::KafkaStorageError,
        };
        Self::new(code, error.to_string())
    }
}

impl From<BatchError> for ApiError {
    fn from(error: BatchError) -> Self {
        let code = match error {
            BatchError::Crc { .. } => ErrorCode::CorruptMessage,
            _ => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let code = match &error {
            // The lane's queue drains within milliseconds: a retriable error that makes clients wait and come back.
            AppendError::Busy => ErrorCode::NotEnoughReplicas,
            AppendError::Closed | AppendError::StaleEpoch { .. } => ErrorCode::NotLeaderOrFollower,
            AppendError::Stopped
            | AppendError::NoSpace { .. }
            | AppendError::Damaged(_)
            | AppendError::Io { .. } => ErrorCode::KafkaStorageError,
            AppendError::Malformed(_) => ErrorCode::InvalidRecord,
            // Told from every fault: no client takes it for one, or sends the batch again.
            AppendError::Full(_) => ErrorCode::PolicyViolation,
            // One that every client sends again, after a while.
            AppendError::FullForNow(_) => ErrorCode::NotEnoughReplicas,
            AppendError::Sequence(SequenceError::OutOfOrder { .. }) => {
                ErrorCode::OutOfOrderSequenceNumber
            }
            AppendError::Sequence(SequenceError::Unknown { .. }) => ErrorCode::UnknownProducerId,
            AppendError::Sequence(SequenceError::Fenced { .. }) => ErrorCode::InvalidProducerEpoch,
            AppendError::Transaction(
                TransactionError::NotOngoing { .. } | TransactionError::NotTransactional { .. },
            ) => ErrorCode::InvalidTxnState,
            AppendError::Transaction(TransactionError::CoordinatorFenced { .. }) => {
                ErrorCode::TransactionCoordinatorFenced
            }
            _ => ErrorCode::UnknownServerError,
        };
        Self::new(code, error.to_string())
    }
}

impl From<LaneError> for ApiError {
    fn from(error: LaneError) -> Self {
        let code = match &error {
            LaneError::Closed => ErrorCode::NotLeaderOrFollower,
            LaneError::Busy => ErrorCode::NotEnoughReplicas,
            LaneError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            LaneError::Stopped | LaneError::Damaged(_) | LaneError::Io { .. } => {
                ErrorCode::KafkaStorageError
            }
            _ => ErrorCode::UnknownServerError,
        };
        Self::new(code, error.to_string())
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Corrupt(_) | ReadError::Io { .. } => ErrorCode::KafkaStorageError,
            ReadError::Gone => ErrorCode::NotLeaderOrFollower,
            _ => ErrorCode::UnknownServerError,
        };
        Self::new(code, error.to_string())
    }
}
