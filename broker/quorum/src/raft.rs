//! Raft below the metadata: openraft with this crate's names, disk, randomness and network.
//!
//! Nothing of openraft leaves the crate: [`crate::quorum::Quorum`] is the door.

pub(crate) mod blocking;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod log_file;
pub(crate) mod log_store;
pub(crate) mod network;
pub(crate) mod runtime;
pub(crate) mod snapshot_file;
pub(crate) mod state_machine;
pub(crate) mod types;
