//! Custom resources into types that cannot be wrong.
//!
//! The API server has judged most of this already (the rules in the CRDs); a resource that was stored under older rules, or a manifest that never
//! saw an API server, is judged here. An error names the field, says what was there and what would be right.

mod cluster;
mod group;
mod listener;
mod topic;

pub(crate) use cluster::drained;
pub use cluster::{AutoGrow, Cluster, Defaults, Image, Storage};
pub use group::{BeginAt, Beginning, Group, Objective, Reset, ResetTo, Scale};
pub use listener::{Listener, ListenerBroker, ListenerTls, ListenerType};
pub use topic::{Deletion, Drift, Topic};

/// A resource that cannot be acted on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}. {remedy}")]
pub struct Invalid {
    /// Path of the field, such as `spec.storage.size`.
    pub field: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
}

impl Invalid {
    pub(crate) fn new(
        field: impl Into<String>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            field: field.into(),
            problem: problem.into(),
            remedy: remedy.into(),
        }
    }
}

/// A whole number that the API keeps signed and that has to be at least 1.
fn at_least_one(field: &str, value: i32) -> Result<u32, Invalid> {
    u32::try_from(value)
        .ok()
        .filter(|value| *value >= 1)
        .ok_or_else(|| {
            Invalid::new(
                field,
                format!("{value} is not possible"),
                "Set it to 1 or more",
            )
        })
}

#[cfg(test)]
mod tests;
