//! One way to append for all who are no Kafka clients: gateways of other protocols, dead letters, redrives.
//!
//! [`append`] appends here when this broker leads the partition, exactly as a Produce with `acks=all` would, and else asks the broker that leads it,
//! over gRPC on the brokers' own port. What always holds: an offset is given only once the batch is committed; each call is one attempt. Whoever calls
//! tries again on what passes ([`passes`]), and gives the batch a producer id, an epoch and a sequence where a second attempt is not to be a
//! second message: an attempt that failed may have been carried out.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::{Request, Response, Status};
use weir_proto::appends::v1 as proto;
use weir_proto::appends::v1::appends_client::AppendsClient;
use weir_proto::appends::v1::appends_server::{self, AppendsServer};
use weir_quorum::image::Broker as Peer;
use weir_wire::{Offset, PartitionIndex};

use crate::Broker;
use crate::api::{Led, leaders, offer};
use crate::error::{ApiError, ErrorCode};
use crate::health::Health;
use crate::net::Dialer;
use crate::quorum::net::{Channels, MESSAGE_BYTES_MAX};

/// How long one attempt may take where it is carried out: as long as a Kafka producer waits for an answer. A follower that hangs is out of
/// the in-sync set by then.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long another broker is waited for: it says by itself that it took too long.
const PATIENCE_AFAR: Duration = Duration::from_secs(32);

/// The ways to other brokers.
#[derive(Debug, Default)]
pub struct Appenders {
    channels: Channels,
}

impl Appenders {
    pub(crate) fn new(dialer: Dialer) -> Self {
        Self {
            channels: Channels::new(dialer),
        }
    }
}

/// Appends one batch to a partition, whoever leads it. The offset of its first record, once it is committed; of a batch that is there already, as an
/// idempotent producer's retry is, where it is.
///
/// # Errors
/// As a producer would be told; when the leader cannot be reached or does not answer in time, REQUEST_TIMED_OUT: it may be there all the same.
pub async fn append(
    broker: &Arc<Broker>,
    topic: &str,
    partition: PartitionIndex,
    batch: Bytes,
) -> Result<Offset, ApiError> {
    match place(broker, topic, partition)? {
        Place::Here(led) => append_here(broker, led, batch).await,
        Place::At(leader) => {
            let request = proto::AppendRequest {
                topic: topic.to_owned(),
                partition: partition.0,
                batch: batch.into(),
            };
            append_at(broker, &leader, request).await
        }
    }
}

/// Whether another attempt may do better: nothing is wrong with the batch, and a producer would send it again.
#[must_use]
pub fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::NotLeaderOrFollower
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::RequestTimedOut
            | ErrorCode::KafkaStorageError
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::UnknownLeaderEpoch
    )
}

enum Place {
    Here(Led),
    At(Arc<Peer>),
}

fn place(broker: &Broker, topic: &str, partition: PartitionIndex) -> Result<Place, ApiError> {
    let image = broker.metadata.image();
    let found = leaders::topic(&image, topic, uuid::Uuid::nil())?;
    if found.is_internal() {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let not_led = match leaders::led(broker, found, partition.0, -1) {
        Ok(led) => return Ok(Place::Here(led)),
        Err(not_led) => not_led,
    };
    let me = broker.metadata.broker_id().0;
    let leader = not_led.leader.filter(|(leader, _)| *leader != me);
    let leader = leader.and_then(|(leader, _)| image.broker(weir_quorum::BrokerId(leader)));
    leader
        .map(|leader| Place::At(Arc::clone(leader)))
        .ok_or(not_led.error)
}

async fn append_here(broker: &Arc<Broker>, led: Led, batch: Bytes) -> Result<Offset, ApiError> {
    let outcome = offer(broker, led, batch, PATIENCE)?
        .all(PATIENCE)
        .await
        .pop()
        .flatten();
    match outcome {
        Some(Ok(appended)) => Ok(appended.base_offset),
        Some(Err(unfit)) => {
            let mut error = unfit.error;
            error.code = broker.metadata.deny(error.code);
            Err(error)
        }
        None => Err(ErrorCode::RequestTimedOut.into()),
    }
}

async fn append_at(
    broker: &Broker,
    leader: &Peer,
    request: proto::AppendRequest,
) -> Result<Offset, ApiError> {
    let away = |why: String| ApiError::new(ErrorCode::RequestTimedOut, why);
    let channel = broker
        .appenders
        .channels
        .to_broker(leader.id, &leader.quorum_address)
        .map_err(|error| away(error.to_string()))?;
    let mut client = AppendsClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    let mut request = Request::new(request);
    request.set_timeout(PATIENCE_AFAR);
    let answer = client.append(request).await.map_err(|status| {
        tracing::debug!(broker = %leader.id, %status, "a leader cannot be asked to append");
        away(format!("broker {}: {status}", leader.id))
    })?;
    let answer = answer.into_inner();
    let code = i16::try_from(answer.error_code).ok();
    match code.and_then(ErrorCode::from_code) {
        Some(ErrorCode::None) => Ok(Offset(answer.base_offset)),
        Some(code) => Err(ApiError::new(code, answer.message)),
        None => Err(ApiError::new(ErrorCode::UnknownServerError, answer.message)),
    }
}

/// Appends for other brokers to what this one leads.
#[derive(Debug)]
pub struct AppendsService {
    health: Arc<Health>,
}

impl AppendsService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> AppendsServer<Self> {
        AppendsServer::new(Self { health })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl appends_server::Appends for AppendsService {
    async fn append(
        &self,
        request: Request<proto::AppendRequest>,
    ) -> Result<Response<proto::AppendResponse>, Status> {
        let broker = self.health.assembled_broker()?.clone();
        let request = request.into_inner();
        let partition = PartitionIndex(request.partition);
        let outcome = match place(&broker, &request.topic, partition) {
            Ok(Place::Here(led)) => append_here(&broker, led, request.batch.into()).await,
            // Whoever asked knows less than this broker, or more: it looks again. Nobody is asked in turn.
            Ok(Place::At(_)) => Err(ErrorCode::NotLeaderOrFollower.into()),
            // That it is led here somebody else has heard before.
            Err(error) if error.code == ErrorCode::UnknownTopicOrPartition => {
                let why = format!("{}-{} is not known here yet", request.topic, partition.0);
                Err(ApiError::new(ErrorCode::NotLeaderOrFollower, why))
            }
            Err(error) => Err(error),
        };
        Ok(Response::new(match outcome {
            Ok(offset) => proto::AppendResponse {
                error_code: 0,
                message: String::new(),
                base_offset: offset.0,
            },
            Err(error) => proto::AppendResponse {
                error_code: error.code.code().into(),
                message: error.message,
                base_offset: -1,
            },
        }))
    }
}
