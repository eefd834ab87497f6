//! Kafka's errors as gRPC's statuses: one table.

use tonic::{Code, Status};
use weir_proto::queue::v1 as proto;

use crate::error::{ApiError, ErrorCode};
use crate::gateway::passes;

/// The trailing metadata with the name of Kafka's error.
const ERROR: &str = "weir-error";

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) message: String,
    /// Kafka's, if it is one of Kafka's.
    error: Option<ErrorCode>,
}

impl Refused {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            error: None,
        }
    }

    /// A field makes no sense.
    pub(super) fn invalid(field: &str, why: impl std::fmt::Display) -> Self {
        Self::new(Code::InvalidArgument, format!("{field} {why}"))
    }

    /// A bound of the broker is reached.
    pub(super) fn bound(why: impl Into<String>) -> Self {
        Self::new(Code::ResourceExhausted, why)
    }
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        let code = match error.code {
            ErrorCode::PolicyViolation
            | ErrorCode::GroupMaxSizeReached
            | ErrorCode::ShareSessionLimitReached
            | ErrorCode::ThrottlingQuotaExceeded => Code::ResourceExhausted,
            ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId => Code::NotFound,
            ErrorCode::InvalidTopicException
            | ErrorCode::InvalidGroupId
            | ErrorCode::InvalidRecord
            | ErrorCode::InvalidRequest
            | ErrorCode::InvalidTimestamp
            | ErrorCode::MessageTooLarge
            | ErrorCode::RecordListTooLarge => Code::InvalidArgument,
            ErrorCode::OffsetOutOfRange => Code::OutOfRange,
            ErrorCode::InvalidRecordState
            | ErrorCode::InconsistentGroupProtocol
            | ErrorCode::GroupIdNotFound
            | ErrorCode::UnsupportedVersion => Code::FailedPrecondition,
            ErrorCode::TopicAuthorizationFailed | ErrorCode::GroupAuthorizationFailed => {
                Code::PermissionDenied
            }
            code if passes(code) => Code::Unavailable,
            _ => Code::Internal,
        };
        Self {
            code,
            message: if error.message.is_empty() {
                error.code.name().to_owned()
            } else {
                error.message
            },
            error: Some(error.code),
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let mut status = Self::new(refused.code, refused.message);
        if let Some(error) = refused.error
            && let Ok(name) = error.name().parse()
        {
            status.metadata_mut().insert(ERROR, name);
        }
        status
    }
}

impl From<Refused> for proto::Refusal {
    fn from(refused: Refused) -> Self {
        Self {
            code: refused.code.into(),
            message: refused.message,
            error: refused
                .error
                .map(|error| error.name().to_owned())
                .unwrap_or_default(),
        }
    }
}
