//! One request on its way through a handler, and what becomes of it.
//!
//! A [`Request`] owns its frame: what a handler borrows from it lives as long as it does, and record bytes leave it by reference
//! count ([`Request::slice`]). An [`Answer`] is either there already or a future.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use weir_wire::decode::Reader;
use weir_wire::frame::encode_response;
use weir_wire::{ApiKey, Frame, MessageView, Response};

use super::pipelined::Pipelined;
use crate::partitions::Isolation;
use crate::queue::throttle::Held;
use crate::quotas::{ANONYMOUS, Client};

/// Who is at the other end of a connection, the same for all of its requests.
#[derive(Debug)]
pub struct Peer {
    /// The client's address.
    pub address: SocketAddr,
    /// The host by which clients reached this listener is not known to the protocol; this is the name of the listener. What they are told of
    /// other brokers are addresses of that one.
    pub listener: Arc<str>,
    /// Names the connection: no other in the life of the process has the same.
    pub id: u64,
    /// Cancelled when the connection has ended.
    pub closed: CancellationToken,
    /// Whether a share session was ever opened on the connection, so that its end matters.
    pub has_share_session: AtomicBool,
    /// What the client said about its software in ApiVersions: name and version.
    pub software: OnceLock<(String, String)>,
    /// What its producers were refused for the moment.
    pub(super) pipelined: Pipelined,
    /// Its batches that wait for room.
    pub(crate) held: Arc<Held>,
}

impl Peer {
    /// The other end of a new connection.
    #[must_use]
    pub fn new(address: SocketAddr, listener: impl Into<Arc<str>>) -> Self {
        static CONNECTIONS: AtomicU64 = AtomicU64::new(0);
        Self {
            address,
            listener: listener.into(),
            id: CONNECTIONS.fetch_add(1, Ordering::Relaxed),
            closed: CancellationToken::new(),
            has_share_session: AtomicBool::new(false),
            software: OnceLock::new(),
            pipelined: Pipelined::default(),
            held: Arc::default(),
        }
    }
}

/// One request, its header already read.
#[derive(Debug)]
pub struct Request {
    /// Which API.
    pub key: ApiKey,
    /// The version that the client speaks; within the range that the table advertises (Produce 0 to 2 aside).
    pub version: i16,
    /// What the response must carry for the client to know it by.
    pub correlation_id: i32,
    /// The name that the client gives itself; part of `frame`, never null here.
    pub client_id: Bytes,
    /// The whole frame, header included, without the length before it.
    pub frame: Bytes,
    /// Where the message starts in `frame`.
    pub body_start: usize,
    /// Who asks.
    pub peer: Arc<Peer>,
    /// When the whole frame was there.
    pub received: Instant,
}

impl Request {
    /// Decodes the message, whose API must be this request's. Bytes after its end are ignored, as Kafka ignores them: librdkafka (2.16
    /// at least) sends some when it asks for all topics.
    pub fn decode<'a, V: MessageView<'a>>(&'a self) -> Result<V, Refused> {
        let mut reader = Reader::new(&self.frame[self.body_start..]);
        V::decode_prefix(&mut reader, self.version)
            .map_err(|error| Refused::Malformed(error.to_string()))
    }

    /// What is needed to answer once the request itself is gone.
    #[must_use]
    pub fn responder(&self) -> Responder {
        Responder {
            version: self.version,
            correlation_id: self.correlation_id,
        }
    }

    /// Answers now.
    pub fn answer<R: Response>(&self, response: &R) -> Result<Answer, Refused> {
        Ok(Answer::Now(self.responder().reply(response)))
    }

    /// The client's name as text; what is not UTF-8 was refused before.
    #[must_use]
    pub fn client_id(&self) -> &str {
        std::str::from_utf8(&self.client_id).unwrap_or_default()
    }

    /// Who asks, as quotas know him.
    pub(crate) fn client(&self) -> Client<'_> {
        Client {
            user: ANONYMOUS,
            client_id: self.client_id(),
        }
    }

    /// Shares a part of the frame that a decoded view borrows.
    #[must_use]
    pub fn slice(&self, part: &[u8]) -> Bytes {
        self.frame.slice_ref(part)
    }
}

/// Encodes the response to one request.
#[derive(Clone, Copy, Debug)]
pub struct Responder {
    /// The request's version, which is the response's too.
    pub version: i16,
    /// The request's number on its connection.
    pub correlation_id: i32,
}

impl Responder {
    /// The response, on its way.
    #[must_use]
    pub fn reply<R: Response>(self, response: &R) -> Reply {
        match encode_response(self.version, self.correlation_id, response) {
            Ok(frame) => Reply::Send(frame),
            Err(error) => Reply::Close(Refused::Unanswerable(error.to_string())),
        }
    }
}

/// What leaves the connection for one request.
#[derive(Debug)]
pub enum Reply {
    /// A response.
    Send(Frame),
    /// Nothing: a produce with `acks=0` that went well.
    Nothing,
    /// This, and after it the connection is not read from for so long: the client took more than its quota (KIP-219).
    Throttled(Box<Reply>, Duration),
    /// The connection is closed: the only way to tell a client of an error where the protocol has no response for it.
    Close(Refused),
}

impl Reply {
    /// The reply of a client that has to wait for so long.
    #[must_use]
    pub fn throttled(self, wait: Duration) -> Self {
        if wait.is_zero() {
            return self;
        }
        Self::Throttled(Box::new(self), wait)
    }
}

/// What a handler gives back.
pub enum Answer {
    /// Known at once.
    Now(Reply),
    /// Known later. It is polled when every earlier request of its connection is answered, so what must be under way before
    /// that is begun in the handler itself.
    Later(Pin<Box<dyn Future<Output = Reply> + Send>>),
}

impl Answer {
    /// An answer that is known later.
    pub fn later(future: impl Future<Output = Reply> + Send + 'static) -> Self {
        Self::Later(Box::pin(future))
    }

    /// The answer to a client that has to wait for so long afterwards.
    #[must_use]
    pub fn throttled(self, wait: Duration) -> Self {
        if wait.is_zero() {
            return self;
        }
        match self {
            Self::Now(reply) => Self::Now(reply.throttled(wait)),
            Self::Later(future) => Self::later(async move { future.await.throttled(wait) }),
        }
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(reply) => f.debug_tuple("Now").field(reply).finish(),
            Self::Later(_) => f.write_str("Later"),
        }
    }
}

/// What a consumer may read, by its number on the wire; Kafka takes every number but 1 for reading all.
pub(super) const fn isolation(level: i8) -> Isolation {
    match level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}

/// Why a connection is closed instead of answered.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The bytes are not the message that the header announces.
    #[error("malformed request: {0}")]
    Malformed(String),
    /// An API or version that is not served.
    #[error("not served: {0}")]
    Unsupported(String),
    /// A produce with `acks=0` failed, for which there is no response.
    #[error("a produce without acknowledgement failed: {0}")]
    Unacknowledged(String),
    /// The response cannot be encoded in the version that was asked for. A mistake of ours.
    #[error("the response cannot be encoded: {0}")]
    Unanswerable(String),
}
