//! Whole Weir clusters, clients included, in one thread from one seed.
//!
//! The brokers are the real ones ([`weir_broker::start::start_on`]); what they stand on is not: disks
//! ([`weir_log::storage_sim`]), network ([`network`]), time and randomness are simulated, so that the same seed gives the same
//! life, event for event. [`life`] is where to begin to read; docs/testing.md says how to run and replay.

pub mod broker;
pub mod client;
pub mod faults;
pub mod history;
pub mod ledger;
pub mod life;
pub mod network;
pub mod node;
pub mod queues;
pub mod random;
pub mod shares;
pub mod trace;
pub mod watch;
pub mod wishes;
