//! Bounded queues: how much of a partition is not settled yet, and whether a batch may still come.
//!
//! A [`Backlog`] belongs to the partition's leader, and is asked by the one writer of its log, so that concurrent producers cannot
//! pass the bound together. Where the bound is the whole topic's, the [`Ledger`] leases parts of it to the partitions, each of which
//! keeps its [`Lease`]. What always holds: a batch is admitted only if the backlog with it is within the limit; the limits of
//! a topic's partitions, as far as anyone may use them, are never more than its bound together.

mod backlog;
mod lease;
mod ledger;
#[cfg(test)]
mod tests;

pub use backlog::{Backlog, Full, Limits, Size};
pub use lease::{Ask, Grant, Lease};
pub use ledger::Ledger;

/// What becomes of a batch that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused for good: "sold out".
    #[default]
    Reject,
    /// It is refused for the moment, and its producer slowed down.
    Throttle,
    /// The oldest messages make room for it.
    DropOldest,
}
