//! A connection to one broker, as a Kafka client has one.
//!
//! Here that is a call of the handlers, elsewhere a stream ([`weir_proto::gateway`]). Answers are known by the numbers of their requests, so that one
//! that waits holds up no other.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::{Buf, Bytes};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::Status;
use tonic::transport::Channel;
use weir_proto::gateway::v1 as proto;
use weir_proto::gateway::v1::gateway_client::GatewayClient;
use weir_quorum::listeners::OWN;
use weir_wire::Request;
use weir_wire::frame::{ResponseFrame, encode_request};

use super::serve::{CLIENT, reply};
use crate::Broker;
use crate::api::{Answer, Peer, dispatch};
use crate::error::{ApiError, ErrorCode};
use crate::host::Host;
use crate::quorum::net::MESSAGE_BYTES_MAX;

/// What the handlers are told the client calls itself.
const CLIENT_ID: &str = "weir-grpc";

/// Requests that wait to be sent on one link: more than there are under way at once, unless the other side hangs.
const UNSENT_MAX: usize = 1024;

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum AskError {
    /// The link is gone; whether the request was carried out is not known.
    #[error("the broker cannot be reached: {0}")]
    Lost(String),
    /// More requests wait than may; it was not asked.
    #[error("too many requests wait for the broker")]
    Busy,
    /// One side does not understand the other. A mistake of ours.
    #[error("{0}")]
    Protocol(String),
}

impl From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        let code = match error {
            AskError::Lost(_) | AskError::Busy => ErrorCode::NetworkException,
            AskError::Protocol(_) => ErrorCode::UnknownServerError,
        };
        Self::new(code, error.to_string())
    }
}

/// What does not decode, or cannot be encoded.
pub(crate) fn protocol(error: impl std::fmt::Display) -> AskError {
    AskError::Protocol(error.to_string())
}

/// A link. What belongs to it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Link {
    way: Way,
    last: AtomicI32,
}

#[derive(Debug)]
enum Way {
    Here(Here),
    There(There),
}

#[derive(Debug)]
struct Here {
    broker: Arc<Broker>,
    peer: Arc<Peer>,
}

impl Drop for Here {
    fn drop(&mut self) {
        self.peer.closed.cancel();
    }
}

#[derive(Debug)]
struct There {
    requests: mpsc::Sender<proto::Request>,
    waiting: Arc<Waiting>,
    _over: DropGuard,
}

impl Drop for There {
    fn drop(&mut self) {
        // Whoever still waits is told at once.
        self.waiting.close("the link has ended".to_owned());
    }
}

/// Who waits for which answer; nobody any more when the link is lost.
#[derive(Debug)]
struct Waiting(Mutex<Result<BTreeMap<i32, oneshot::Sender<Bytes>>, String>>);

/// A request under way.
enum Asked {
    Here(Host, Answer),
    There(oneshot::Receiver<Bytes>, Arc<Waiting>),
}

impl Link {
    pub(super) fn here(broker: Arc<Broker>, client: SocketAddr) -> Self {
        let peer = Arc::new(Peer::new(client, OWN));
        Self {
            way: Way::Here(Here { broker, peer }),
            last: AtomicI32::new(0),
        }
    }

    pub(super) fn there(channel: Channel, client: SocketAddr) -> Self {
        let (requests, unsent) = mpsc::channel(UNSENT_MAX);
        let waiting = Arc::new(Waiting(Mutex::new(Ok(BTreeMap::new()))));
        let over = CancellationToken::new();
        let running = run(channel, client, unsent, Arc::clone(&waiting));
        let ended = over.clone();
        tokio::spawn(async move { ended.run_until_cancelled(running).await });
        Self {
            way: Way::There(There {
                requests,
                waiting,
                _over: over.drop_guard(),
            }),
            last: AtomicI32::new(0),
        }
    }

    /// Whether nothing can be asked any more.
    pub(crate) fn is_lost(&self) -> bool {
        match &self.way {
            Way::Here(_) => false,
            Way::There(there) => there.waiting.lock().is_err(),
        }
    }

    /// Asks. The request is handed over when this is called; the future waits for the body of the response.
    pub(crate) fn ask<Q: Request>(
        &self,
        version: i16,
        request: &Q,
    ) -> impl Future<Output = Result<Bytes, AskError>> + Send + use<Q> {
        let asked = self.send(version, request);
        async move {
            let frame = match asked? {
                Asked::Here(host, answer) => reply(&host, answer).await.map_err(protocol)?,
                Asked::There(answer, waiting) => match answer.await {
                    Ok(frame) => frame,
                    Err(_) => return Err(waiting.why()),
                },
            };
            let body = ResponseFrame::parse(Q::KEY, version, &frame).map_err(protocol)?;
            Ok(frame.slice_ref(body.body))
        }
    }

    fn send<Q: Request>(&self, version: i16, request: &Q) -> Result<Asked, AskError> {
        let number = self.last.fetch_add(1, Ordering::Relaxed);
        let frame = encode_request(version, number, Some(CLIENT_ID), request).map_err(protocol)?;
        let frame = frame.try_into_bytes();
        let mut frame = frame.map_err(|_| AskError::Protocol("a request of files".into()))?;
        // Its length, which a stream of messages has by itself.
        frame.advance(4);
        match &self.way {
            Way::Here(here) => {
                let asked = dispatch(&here.broker, &here.peer, frame, Instant::now());
                let (_, answer) = asked.map_err(protocol)?;
                Ok(Asked::Here(here.broker.host.clone(), answer))
            }
            Way::There(there) => {
                let (answered, answer) = oneshot::channel();
                match &mut *there.waiting.lock() {
                    Ok(waiting) => waiting.insert(number, answered),
                    Err(why) => return Err(AskError::Lost(why.clone())),
                };
                if let Err(error) = there.requests.try_send(proto::Request { frame }) {
                    there.waiting.take(number);
                    return Err(match error {
                        mpsc::error::TrySendError::Full(_) => AskError::Busy,
                        mpsc::error::TrySendError::Closed(_) => there.waiting.why(),
                    });
                }
                Ok(Asked::There(answer, Arc::clone(&there.waiting)))
            }
        }
    }
}

impl Waiting {
    #[allow(clippy::type_complexity, reason = "the lock's own")]
    fn lock(
        &self,
    ) -> std::sync::MutexGuard<'_, Result<BTreeMap<i32, oneshot::Sender<Bytes>>, String>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, number: i32) -> Option<oneshot::Sender<Bytes>> {
        self.lock().as_mut().ok()?.remove(&number)
    }

    /// Nothing is answered any more.
    fn close(&self, why: String) {
        *self.lock() = Err(why);
    }

    fn why(&self) -> AskError {
        let why = self.lock().as_ref().err().cloned();
        AskError::Lost(why.unwrap_or_else(|| "the link has ended".into()))
    }
}

/// The life of a link to another broker.
async fn run(
    channel: Channel,
    client: SocketAddr,
    mut unsent: mpsc::Receiver<proto::Request>,
    waiting: Arc<Waiting>,
) {
    let ended = async {
        let mut gateway = GatewayClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let requests = futures::stream::poll_fn(move |cx| unsent.poll_recv(cx));
        let mut requests = tonic::Request::new(requests);
        if let Ok(client) = client.to_string().parse() {
            requests.metadata_mut().insert(CLIENT, client);
        }
        let mut answers = gateway.open(requests).await?.into_inner();
        while let Some(proto::Response { frame }) = answers.message().await? {
            // Every response begins with the number of its request.
            let number = frame.first_chunk::<4>().map(|id| i32::from_be_bytes(*id));
            let waits = number.and_then(|number| waiting.take(number));
            if let Some(waits) = waits {
                // Who asked may have given up.
                let _ = waits.send(frame);
            }
        }
        Ok::<(), Status>(())
    };
    let why = match ended.await {
        Ok(()) => "it ended the link".to_owned(),
        Err(status) => status.message().to_owned(),
    };
    waiting.close(why);
}
