//! What brokers and the operator speak over: the one place where connections to and from the quorum's port are made.
//!
//! One port, two protocols: gRPC, and streams of replication, which begin with [`STREAM_PREFACE`]. [`Channels`] is the way to
//! others, [`incoming()`] the way from them; nobody else dials or accepts. Both sides of every connection show a certificate
//! (`weir-tls`); [`Callers`] says who may call what, and [`speaks_for`] refuses what is said in another broker's name. Without
//! certificates, which there is in the simulation and in tests of parts of a broker only, nobody is known and everyone may.

mod callers;
mod channels;
mod incoming;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

use tonic::transport::Server;

pub(crate) use callers::{Callers, speaks_for};
pub(crate) use channels::Channels;
pub use channels::channel;
pub(crate) use incoming::{Incoming, incoming};
use weir_quorum::BrokerId;
use weir_tls::Role;

/// The largest message between brokers: a batch of the log with one very large entry, with room to spare.
pub const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// What a stream of replication begins with. HTTP/2 begins with other bytes (`PRI * HT`).
const STREAM_PREFACE: [u8; 8] = *b"weir-rep";

/// How long a connection may take to be made, and how long an accepted one may take to say which protocol it speaks: a
/// handshake on a machine that is busy, and one packet that was lost.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(5);

/// Who is at the other end of a connection, as its certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Peer {
    /// A broker of this cluster.
    Broker(BrokerId),
    /// Whoever administers this cluster.
    Operator,
}

impl Peer {
    /// Whether it is the broker of this id.
    pub(crate) fn is_broker(self, id: i32) -> bool {
        self == Self::Broker(BrokerId(id))
    }
}

impl From<Role> for Peer {
    fn from(role: Role) -> Self {
        match role {
            Role::Broker(id) => Self::Broker(BrokerId(id)),
            Role::Operator => Self::Operator,
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Operator => f.write_str("the operator"),
        }
    }
}

/// Streams of one connection: another broker has one for each link of its clients ([`crate::gateway`]), and the quorum's calls must never wait
/// for one. Twice the bound on subscriptions and readers at one broker, and some.
const STREAMS_MAX: u32 = 4096;

/// The server for the quorum listener, to which the services are added.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .max_concurrent_streams(STREAMS_MAX)
}
