//! The port for brokers and the operator: the quorum's service and administration, over gRPC.
//!
//! Both answer from the moment that the port is open; administration says `UNAVAILABLE`, and why, until the broker is assembled.

mod admin;
mod describe;
mod services;

pub use admin::AdminService;
pub use services::Services;
