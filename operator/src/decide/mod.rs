//! Decides what to do, and names what stands in the way.
//!
//! Nothing here has a client, a clock or an `async fn`: validated resources and an observed world go in, a [`Plan`] comes out. The
//! same plan is executed by the operator and by local mode, printed by `weir-operator plan`, and checked by property tests.
//!
//! What always holds: a converged world plans nothing; no plan removes a broker that holds data, shrinks a topic, or deletes data that a `Topic` with
//! `deletionPolicy: Delete` did not own; the order in which resources are given does not matter.

pub mod certificates;
pub mod cluster;
pub mod config_value;
pub mod drift;
pub mod evictions;
pub mod gates;
pub mod group;
pub mod group_scale;
pub mod group_steps;
pub mod heal;
pub mod listeners;
pub mod live_config;
#[cfg(test)]
mod properties;
pub mod reset;
pub mod roll;
pub mod scale;
#[cfg(test)]
mod simulation;
pub mod taken;
pub mod topic;
pub mod upgrade;
pub mod volumes;

pub use gates::Blocked;

/// Steps to take now, and what is not done with the gate that blocks it.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan<S> {
    /// In the order in which they are to be taken.
    pub steps: Vec<S>,
    /// What is wanted and not done.
    pub blocked: Vec<Blocked>,
}

impl<S> Plan<S> {
    /// Nothing to do and nothing in the way.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.blocked.is_empty()
    }
}

impl<S> Default for Plan<S> {
    fn default() -> Self {
        Self {
            steps: Vec::new(),
            blocked: Vec::new(),
        }
    }
}
