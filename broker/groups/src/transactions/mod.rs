//! The transaction coordinator: who writes under a transactional id, and how each transaction ends (KIP-98, KIP-890).
//!
//! A [`Transactions`] holds the transactional ids of one partition of `__transaction_state`, and does no I/O; it is a
//! [`Machine`](crate::Machine), which says how it is run. What always holds:
//!
//! - A transaction has one outcome: it is decided when the record that says so is durable, markers are written only after
//!   that, and a coordinator that is loaded again goes on with them until every partition has its marker.
//! - A producer id and epoch belong to one producer: whoever comes later under the same id gets a greater epoch, or a new
//!   producer id, after what was open has been aborted.
//! - Every reply tells of durable state, and every request may be repeated.
//! - Everything is bounded: [`Config`] has each bound with its reason.
//!
//! Clients that end transactions in version 5 or later of EndTxn speak version 2 of the protocol, in which every
//! transaction has an epoch of its own; older ones keep theirs. Both are served side by side: a producer chooses with each
//! request.

mod config;
mod coordinator;
mod end;
mod error;
mod init;
mod list;
mod partitions;
pub mod request;
mod state;
mod stored;
mod transaction;

#[cfg(test)]
mod tests;

pub use config::Config;
pub use coordinator::{Action, Markers, TRANSACTIONS_TOPIC, Transactions};
pub use error::TransactionError;
pub use partitions::PartitionSet;
pub use request::{Request, Response};
pub use state::{State, Version};
