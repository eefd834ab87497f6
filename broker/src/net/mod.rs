//! The Kafka listener: connections, frames in, frames out.
//!
//! Owns every client socket. What always holds: a frame's length is checked before a byte of it is buffered, the bytes of all
//! requests that are being received or answered stay within [`RequestMemory`], the requests of one connection are handed to
//! their handlers in the order they came and their responses leave in that order, and nothing here waits for a disk or for
//! another connection. It knows no API: it looks the handler up in [`crate::api::APIS`].

mod connection;
mod dialer;
mod frames;
mod listener;
mod listeners;
mod memory;
mod outbox;
mod socket;
mod tls_socket;

pub(crate) use dialer::in_time;
pub use dialer::{Dial, Dialer, Stream};
pub use listener::KafkaListener;
pub(crate) use listeners::follow as follow_listeners;
pub use memory::RequestMemory;
pub use socket::{Listener, Network, Socket, Tcp, TcpPort};
