//! What a replica that begins behind a log's first batches asks its leader: what those said of idempotent producers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tonic::{Code, Request, Response, Status};
use tracing::warn;
use uuid::Uuid;
use weir_log::{KnownProducers, PartitionKey};
use weir_proto::replication::v1 as proto;
use weir_proto::replication::v1::replication_client::ReplicationClient;
use weir_proto::replication::v1::replication_server::{Replication, ReplicationServer};
use weir_wire::{BrokerId, LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::Shared;
use super::frames::Begin;
use crate::health::Health;
use crate::partitions::NotFed;
use crate::quorum::net::MESSAGE_BYTES_MAX;

/// How long a leader is waited for; the channel is begun again after that.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the leader knows of producers from batches below its log's start. Nothing where there are none, and from a build that cannot say: one
/// that does not know the service has nobody call it ([`Callers`](crate::quorum::net::Callers)).
pub(super) async fn known_to_leader(
    shared: &Shared,
    leader: BrokerId,
    begin: &Begin,
) -> Result<KnownProducers, NotFed> {
    let start = begin.at.log_start;
    if start <= Offset::ZERO {
        return Ok(KnownProducers::default());
    }
    let asked = async {
        let leader = weir_quorum::BrokerId(leader.0);
        let image = shared.metadata.image();
        let broker = image.broker(leader);
        let broker = broker.ok_or_else(|| Status::unavailable("the leader is not registered"))?;
        let channel = shared
            .channels
            .to_broker(leader, &broker.quorum_address)
            .map_err(|error| Status::unavailable(error.to_string()))?;
        let mut request = Request::new(proto::ProducersBeforeRequest {
            topic_id: begin.key.topic_id.0.as_bytes().to_vec(),
            partition: begin.key.partition.0,
            leader_epoch: begin.epoch.0,
            offset: start.0,
        });
        request.set_timeout(PATIENCE);
        let mut client =
            ReplicationClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answer = client.producers_before(request).await?.into_inner();
        KnownProducers::from_bytes(&answer.producers)
            .ok_or_else(|| Status::data_loss("what the leader says is no snapshot of producers"))
    };
    match asked.await {
        Err(status) if cannot_say(status.code()) => Ok(KnownProducers::default()),
        Err(status) => {
            warn!(partition = %begin.key, %leader, %status, "what a leader knows of producers cannot be learnt");
            Err(NotFed::ProducersUnknown(status.to_string()))
        }
        Ok(known) => Ok(known),
    }
}

/// Whether that is what a build says that does not know the service, without certificates and with them.
fn cannot_say(code: Code) -> bool {
    matches!(code, Code::Unimplemented | Code::PermissionDenied)
}

/// Answers followers.
#[derive(Debug)]
pub struct ReplicationService {
    health: Arc<Health>,
}

impl ReplicationService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> ReplicationServer<Self> {
        ReplicationServer::new(Self { health }).max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl Replication for ReplicationService {
    async fn producers_before(
        &self,
        request: Request<proto::ProducersBeforeRequest>,
    ) -> Result<Response<proto::ProducersBeforeResponse>, Status> {
        let broker = self.health.assembled_broker()?;
        let request = request.into_inner();
        let topic_id = Uuid::from_slice(&request.topic_id)
            .map_err(|error| Status::invalid_argument(format!("topic_id: {error}")))?;
        let key = PartitionKey {
            topic_id: TopicId(topic_id),
            partition: PartitionIndex(request.partition),
        };
        let not_led = |why: String| Status::failed_precondition(why);
        let partition = broker
            .partitions
            .get(key)
            .map_err(|error| not_led(error.to_string()))?;
        if !partition.replica().leads(LeaderEpoch(request.leader_epoch)) {
            let epoch = request.leader_epoch;
            return Err(not_led(format!("{key} is not led here in epoch {epoch}")));
        }
        let (sender, receiver) = oneshot::channel();
        partition.producers_before(Offset(request.offset), move |known| {
            // Whoever asked may have given up.
            let _ = sender.send(known);
        });
        let known = receiver
            .await
            .map_err(|_| Status::unavailable("the partition was closed"))?
            .map_err(|error| Status::unavailable(error.to_string()))?;
        Ok(Response::new(proto::ProducersBeforeResponse {
            producers: known.to_bytes(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Rolling upgrades: with certificates a build that does not know a service refuses it to everyone before it is looked for.
    #[test]
    fn a_build_that_does_not_know_the_service_has_nothing_to_say_and_others_are_asked_again() {
        assert!(cannot_say(Code::Unimplemented) && cannot_say(Code::PermissionDenied));
        for code in [
            Code::Unavailable,
            Code::FailedPrecondition,
            Code::DeadlineExceeded,
        ] {
            assert!(!cannot_say(code), "{code:?}");
        }
    }
}
