//! gRPC over the simulated network, as clients of queues speak it.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Response, Status};
use weir_broker::net::Network;
use weir_broker::quorum::net::channel;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::queue_client::QueueClient;

use super::Client;
use crate::broker::GRPC_PORT;
use crate::history::Place;
use crate::network::{HostId, host_name};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(5);
/// By this a broker says that it is Kafka's error that it tells of.
const ERROR: &str = "weir-error";

/// A service for queues at some broker, over a connection that ends with it.
pub(super) type Queues = QueueClient<Channel>;

impl Client {
    /// The service of any broker.
    pub(super) fn queues(&mut self) -> Queues {
        let broker = self.any_broker();
        self.queues_of(broker)
    }

    /// The service that was kept; that of any broker if none was.
    pub(super) fn queues_or(&mut self, kept: &mut Option<Queues>) -> Queues {
        kept.take().unwrap_or_else(|| self.queues())
    }

    /// The service of a broker.
    pub(super) fn queues_of(&self, broker: i32) -> Queues {
        let broker = HostId::try_from(broker).unwrap_or(0);
        let address = format!("{}:{GRPC_PORT}", host_name(broker));
        let channel = channel(&self.place.dialer(), None, &address);
        #[allow(
            clippy::expect_used,
            reason = "hosts have names of which URIs are made"
        )]
        let channel = channel.expect("an address");
        QueueClient::new(channel)
    }
}

/// What was answered; or a refusal, or nothing: then nobody knows what came of it.
pub(super) async fn answer<T>(
    asking: impl Future<Output = Result<Response<T>, Status>>,
) -> Result<T, Option<Status>> {
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) if is_refusal(&status) => Err(Some(status)),
        Ok(Err(_)) | Err(_) => Err(None),
    }
}

/// Whether a status tells of what was asked, and not of the way there.
fn is_refusal(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => false,
        Code::Internal => status.metadata().contains_key(ERROR),
        _ => true,
    }
}

/// What a client streams.
pub(super) fn stream<T: Send + 'static>(
    mut requests: mpsc::Receiver<T>,
) -> impl futures::Stream<Item = T> + Send + 'static {
    futures::stream::poll_fn(move |cx| requests.poll_recv(cx))
}

/// A message for a partition.
pub(super) fn to(place: &Place, value: &str) -> proto::PublishRequest {
    proto::PublishRequest {
        topic: place.0.to_string(),
        partition: Some(place.1),
        message: Some(message(value)),
    }
}

pub(super) fn message(value: &str) -> proto::Message {
    proto::Message {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..proto::Message::default()
    }
}

/// A message's value.
pub(super) fn value(message: Option<&proto::Message>) -> String {
    let value = message.and_then(|message| message.value.as_deref());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}
