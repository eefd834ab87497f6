//! Which of Weir's errors gets which of Kafka's codes: one table.
//!
//! Handlers turn an error into an [`ApiError`] with `into`, and put its code and message where their response has them.

mod codes;

pub use codes::ErrorCode;

/// An error as a response tells it: Kafka's code, and for people what was wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
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
