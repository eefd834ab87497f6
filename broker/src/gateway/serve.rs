//! The other end of links: requests of other brokers' clients.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_proto::gateway::v1 as proto;
use weir_proto::gateway::v1::gateway_server::{self, GatewayServer};
use weir_quorum::listeners::OWN;
use weir_wire::{Chunk, Frame};

use crate::Broker;
use crate::api::{Answer, Peer, Refused, Reply, dispatch};
use crate::health::Health;
use crate::host::Host;
use crate::quorum::net::MESSAGE_BYTES_MAX;

/// The metadata that says for which client a link is.
pub(super) const CLIENT: &str = "weir-client";

/// Answers that wait for the stream to take them: they are small, or few.
const UNSENT_MAX: usize = 4;

/// Serves links of other brokers.
#[derive(Debug)]
pub struct GatewayService {
    health: Arc<Health>,
    stop: CancellationToken,
}

impl GatewayService {
    /// The service, which answers as soon as the broker is assembled, and whose links end with `stop`.
    #[must_use]
    pub fn server(health: Arc<Health>, stop: CancellationToken) -> GatewayServer<Self> {
        GatewayServer::new(Self { health, stop })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

type Answers = Pin<Box<dyn futures::Stream<Item = Result<proto::Response, Status>> + Send>>;

#[tonic::async_trait]
impl gateway_server::Gateway for GatewayService {
    type OpenStream = Answers;

    async fn open(
        &self,
        request: Request<Streaming<proto::Request>>,
    ) -> Result<Response<Answers>, Status> {
        let broker = Arc::clone(self.health.assembled_broker()?);
        let client = request.metadata().get(CLIENT);
        let client = client.and_then(|client| client.to_str().ok()?.parse().ok());
        let client = client.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
        let peer = Arc::new(Peer::new(client, OWN));
        let (answers, mut unsent) = mpsc::channel(UNSENT_MAX);
        let (requests, stop) = (request.into_inner(), self.stop.clone());
        tokio::spawn(async move {
            let closed = peer.closed.clone().drop_guard();
            tokio::select! {
                () = serve(&broker, &peer, requests, &answers) => {}
                () = stop.cancelled() => {}
                () = answers.closed() => {}
            }
            drop(closed);
        });
        let answers = futures::stream::poll_fn(move |cx| unsent.poll_recv(cx));
        Ok(Response::new(Box::pin(answers)))
    }
}

/// Serves one link until one side ends it.
async fn serve(
    broker: &Arc<Broker>,
    peer: &Arc<Peer>,
    mut requests: Streaming<proto::Request>,
    answers: &mpsc::Sender<Result<proto::Response, Status>>,
) {
    let in_flight_max = broker.config.limits.requests_in_flight;
    let mut waiting = FuturesUnordered::new();
    loop {
        let reads = waiting.len() < in_flight_max;
        tokio::select! {
            Some(answered) = waiting.next(), if !waiting.is_empty() => {
                let answered = match answered {
                    Ok(frame) => Ok(proto::Response { frame }),
                    Err(refused) => Err(Status::invalid_argument(format!("{refused}"))),
                };
                let is_over = answered.is_err();
                if answers.send(answered).await.is_err() || is_over {
                    return;
                }
            }
            request = requests.message(), if reads => {
                let Ok(Some(proto::Request { frame })) = request else { return };
                match dispatch(broker, peer, frame, Instant::now()) {
                    Ok((_, answer)) => waiting.push(reply(&broker.host, answer)),
                    Err(refused) => {
                        let refused = Status::invalid_argument(refused.to_string());
                        // The other side may be gone already.
                        let _ = answers.send(Err(refused)).await;
                        return;
                    }
                }
            }
        }
    }
}

/// The response, without the length before it.
pub(super) async fn reply(host: &Host, answer: Answer) -> Result<Bytes, Refused> {
    let mut reply = match answer {
        Answer::Now(reply) => reply,
        Answer::Later(reply) => reply.await,
    };
    loop {
        match reply {
            Reply::Send(frame) => {
                let mut whole = gather(host, frame).await?;
                whole.advance(4);
                return Ok(whole);
            }
            // A quota: whoever waits for the answer asks for nothing else meanwhile.
            Reply::Throttled(inner, wait) => {
                tokio::time::sleep(wait).await;
                reply = *inner;
            }
            Reply::Nothing => return Err(Refused::Unanswerable("nothing".into())),
            Reply::Close(refused) => return Err(refused),
        }
    }
}

/// A response in one piece; parts in files are read.
async fn gather(host: &Host, frame: Frame) -> Result<Bytes, Refused> {
    let frame = match frame.try_into_bytes() {
        Ok(bytes) => return Ok(bytes),
        Err(frame) => frame,
    };
    let read = move || {
        let mut whole = BytesMut::with_capacity(frame.len());
        for chunk in frame.into_chunks() {
            match chunk {
                Chunk::Bytes(bytes) => whole.extend_from_slice(&bytes),
                Chunk::File(range) => {
                    let at = whole.len();
                    whole.resize(at + range.len, 0);
                    range.file.read_exact_at(&mut whole[at..], range.offset)?;
                }
            }
        }
        Ok::<_, std::io::Error>(whole.freeze())
    };
    let read = host.blocking(read).await;
    read.map_err(|error| Refused::Unanswerable(error.to_string()))
}
