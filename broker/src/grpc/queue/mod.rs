//! `weir.queue.v1`: what clients of gRPC do with queues.
//!
//! Translates between messages with typed fields and records with headers, and asks whichever broker leads ([`Gateway`]); what becomes
//! of messages Kafka's handlers decide. What always holds: every stream and every call has a place within a bound, a client that is slow or gone
//! holds no more than what its stream's bound says, and everything ends when the broker stops.
//!
//! [`QueueListener`] is the port, and serves [`QueueService`]. Who may do what is not asked, as with Kafka's listeners.

mod calls;
mod counted;
mod message;
mod placing;
mod port;
mod publish;
mod read;
mod status;
mod subscribe;
mod transactions;

use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::{Stream, StreamExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};
use weir_groups::Outcome;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::queue_server;

pub(crate) use counted::OUTCOMES;
pub(crate) use message::Draft;
pub use port::QueueListener;

use crate::Broker;
use crate::gateway::Gateway;
use calls::Calls;
use port::Client;
use read::Reading;
use status::Refused;

/// Streams at one broker: half of the share sessions that one broker takes, since each is one at every broker that leads something for it.
const STREAMS_MAX: usize = 1_000;

/// The largest message that is taken: far above what topics take by default (1 MiB). What is larger is for Kafka's clients.
const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// The service.
#[derive(Clone, Debug)]
pub struct QueueService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    gateway: Gateway,
    /// Whose turn it is, of partitions for messages without a key.
    turn: AtomicUsize,
    streams: Arc<Semaphore>,
    calls: Calls,
    stop: CancellationToken,
}

impl Inner {
    fn turn(&self) -> usize {
        self.turn.fetch_add(1, Ordering::Relaxed)
    }

    /// A place for a stream.
    fn place_of_stream(&self) -> Result<OwnedSemaphorePermit, Refused> {
        let full = || {
            Refused::bound(format!(
                "{STREAMS_MAX} streams are open at this broker already"
            ))
        };
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| full())
    }
}

/// What streams are told of a broker that stops.
fn stopping() -> Status {
    Status::unavailable("the broker is stopping")
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl QueueService {
    /// Everything of it ends with `stop`.
    #[must_use]
    pub fn new(broker: Arc<Broker>, stop: CancellationToken) -> Self {
        Self {
            inner: Arc::new(Inner {
                gateway: Gateway::new(broker),
                turn: AtomicUsize::new(0),
                streams: Arc::new(Semaphore::new(STREAMS_MAX)),
                calls: Calls::default(),
                stop,
            }),
        }
    }

    /// A stream of responses that ends with the broker, and gives its place back with the client.
    fn until_stopped<T: Send + 'static>(
        &self,
        responses: impl Stream<Item = Result<T, Status>> + Send + 'static,
        place: OwnedSemaphorePermit,
    ) -> Response<Responses<T>> {
        let stop = self.inner.stop.clone();
        let last = futures::stream::once(async move {
            let _place = place;
            stop.is_cancelled().then(|| Err(stopping()))
        });
        let stop = self.inner.stop.clone().cancelled_owned();
        let responses = responses.take_until(Box::pin(stop));
        Response::new(Box::pin(
            responses.chain(last.filter_map(std::future::ready)),
        ))
    }
}

fn client_of<T>(request: &Request<T>) -> SocketAddr {
    let client = request.extensions().get::<Client>();
    client.map_or_else(
        || SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        |client| client.0,
    )
}

#[tonic::async_trait]
impl queue_server::Queue for QueueService {
    type PublishStreamStream = Responses<proto::PublishResult>;
    type SubscribeStream = Responses<proto::SubscribeResponse>;
    type ReadStream = Responses<proto::ReadResponse>;
    type CheckBackStream = Responses<proto::CheckBackResponse>;

    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        let published = self.inner.publish(request.into_inner()).await?;
        Ok(Response::new(published))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let place = self.inner.place_of_stream()?;
        let state = Some((Arc::clone(&self.inner), request.into_inner()));
        let results = futures::stream::unfold(state, |state| async move {
            let (inner, mut requests) = state?;
            match inner.publish_next(&mut requests).await {
                Ok(None) => None,
                Ok(Some(results)) => {
                    let results = results.into_iter().map(Ok).collect::<Vec<_>>();
                    Some((results, Some((inner, requests))))
                }
                Err(status) => Some((vec![Err(status)], None)),
            }
        });
        let results = results.flat_map(futures::stream::iter);
        Ok(self.until_stopped(results, place))
    }

    async fn subscribe(
        &self,
        request: Request<Streaming<proto::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let place = self.inner.place_of_stream()?;
        let client = client_of(&request);
        let (out, mut responses) = mpsc::channel(subscribe::UNSENT_MAX);
        let gateway = self.inner.gateway.clone();
        let serving = subscribe::serve(
            gateway,
            client,
            request.into_inner(),
            out,
            self.inner.stop.clone(),
        );
        tokio::spawn(async move {
            serving.await;
            drop(place);
        });
        let responses = futures::stream::poll_fn(move |cx| responses.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }

    async fn read(
        &self,
        request: Request<proto::ReadRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let place = self.inner.place_of_stream()?;
        let client = client_of(&request);
        let gateway = self.inner.gateway.clone();
        gateway
            .look_for([request.get_ref().topic.as_str()].into_iter())
            .await;
        let mut reading = Reading::of(gateway, client, request.into_inner())?;
        // What is published after the response's head has come is read.
        reading.begin().await?;
        let messages = futures::stream::unfold(Some(reading), |reading| async move {
            let mut reading = reading?;
            match reading.next().await {
                Ok(messages) => Some((Ok(messages), Some(reading))),
                Err(status) => Some((Err(status), None)),
            }
        });
        Ok(self.until_stopped(messages, place))
    }

    async fn call(
        &self,
        request: Request<proto::CallRequest>,
    ) -> Result<Response<proto::CallResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let answered = self.inner.call(&metadata, request).await?;
        Ok(Response::new(answered))
    }

    async fn reply(
        &self,
        request: Request<proto::ReplyRequest>,
    ) -> Result<Response<proto::ReplyResponse>, Status> {
        let replied = self.inner.reply(request.into_inner()).await?;
        Ok(Response::new(replied))
    }

    async fn prepare(
        &self,
        request: Request<proto::PrepareRequest>,
    ) -> Result<Response<proto::PrepareResponse>, Status> {
        let prepared = self.inner.prepare(request.into_inner()).await?;
        Ok(Response::new(prepared))
    }

    async fn commit(
        &self,
        request: Request<proto::CommitRequest>,
    ) -> Result<Response<proto::CommitResponse>, Status> {
        let id = &request.get_ref().transaction_id;
        self.inner.end(id, Outcome::Commit).await?;
        Ok(Response::new(proto::CommitResponse {}))
    }

    async fn rollback(
        &self,
        request: Request<proto::RollbackRequest>,
    ) -> Result<Response<proto::RollbackResponse>, Status> {
        let id = &request.get_ref().transaction_id;
        self.inner.end(id, Outcome::Abort).await?;
        Ok(Response::new(proto::RollbackResponse {}))
    }

    async fn check_back(
        &self,
        request: Request<Streaming<proto::CheckBackRequest>>,
    ) -> Result<Response<Self::CheckBackStream>, Status> {
        let place = self.inner.place_of_stream()?;
        let (out, mut responses) = mpsc::channel(transactions::UNSENT_MAX);
        let inner = Arc::clone(&self.inner);
        tokio::spawn(async move {
            inner.check_back(request.into_inner(), out).await;
            drop(place);
        });
        let responses = futures::stream::poll_fn(move |cx| responses.poll_recv(cx));
        Ok(Response::new(Box::pin(responses)))
    }
}
