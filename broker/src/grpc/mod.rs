//! gRPC. The port for brokers and the operator has the quorum's services and administration, a port of its own has what clients do with
//! queues ([`queue`]).
//!
//! The former answer from the moment that the port is open; administration says `UNAVAILABLE`, and why, until the broker is assembled.

mod admin;
mod availability;
mod describe;
mod queue;
mod services;
mod trace;

pub use admin::AdminService;
pub(crate) use queue::{Draft, OUTCOMES};
pub use queue::{QueueListener, QueueService};
pub use services::Services;
