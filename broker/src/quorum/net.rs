//! How brokers' gRPC is spoken: the one place where channels and servers between brokers are built.
//!
//! Both are plaintext. When brokers authenticate each other (mutual TLS, peers known by their certificates as broker id
//! and incarnation), it happens in [`channel`] and [`server`] and nowhere else.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

/// The largest message between brokers: a batch of the log with one very large entry, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// How many channels are kept: one for each broker, and some for addresses of the past.
const CHANNELS_MAX: usize = 2048;

/// A channel to the quorum listener at `address` (host:port). It connects when it is first used, and again when the
/// connection breaks.
pub fn channel(address: &str) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(Duration::from_secs(1))
        .tcp_nodelay(true)
        // A peer whose machine vanished sends no reset: notice within some seconds, and connect anew.
        .http2_keep_alive_interval(Duration::from_secs(2))
        .keep_alive_timeout(Duration::from_secs(5));
    Ok(endpoint.connect_lazy())
}

/// The server for the quorum listener, to which the services are added.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
}

/// The channels to other brokers, by address.
#[derive(Debug, Default)]
pub(crate) struct Channels(Mutex<BTreeMap<String, Channel>>);

impl Channels {
    /// The channel to an address.
    pub(crate) fn to(&self, address: &str) -> Result<Channel, tonic::transport::Error> {
        let mut channels = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(channel) = channels.get(address) {
            return Ok(channel.clone());
        }
        if channels.len() >= CHANNELS_MAX {
            channels.clear();
        }
        let channel = channel(address)?;
        channels.insert(address.to_owned(), channel.clone());
        Ok(channel)
    }
}
