//! What brokers ask each other about transactions, over gRPC on the quorum's port: both ends.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use weir_groups::transactions::{Markers, Version};
use weir_groups::{Marker, Outcome, Producer};
use weir_proto::transactions::v1 as proto;
use weir_proto::transactions::v1::transactions_client::TransactionsClient;
use weir_proto::transactions::v1::transactions_server::{self, TransactionsServer};
use weir_quorum::BrokerId;
use weir_wire::{ErrorCode, PartitionIndex, ProducerEpoch, ProducerId};

use super::markers::{MarkerWriter, Place};
use super::{TransactionCoordinators, Vouch};
use crate::health::Health;
use crate::quorum::Metadata;
use crate::quorum::net::{Channels, MESSAGE_BYTES_MAX};

/// How long another broker may take: for the disk, and for an earlier transaction to be completed.
const PATIENCE: Duration = Duration::from_secs(10);

/// A broker that could not be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("broker {broker} cannot be asked about transactions: {why}")]
pub(super) struct Unreachable {
    broker: BrokerId,
    why: String,
}

impl MarkerWriter {
    /// Has another broker write the marker to partitions that it leads: for each, Kafka's code.
    pub(super) async fn ask_leader(
        &self,
        broker: BrokerId,
        markers: &Markers,
        places: &[Place],
    ) -> Result<Vec<ErrorCode>, Unreachable> {
        let mut client = client(&self.metadata, &self.channels, broker)?;
        let Marker {
            producer,
            outcome,
            coordinator_epoch,
        } = markers.marker;
        let asked = request(proto::WriteMarkersRequest {
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0.into(),
            is_commit: outcome == Outcome::Commit,
            coordinator_epoch,
            transaction_version: markers.version.level().into(),
            partitions: to_proto(places),
        });
        let answer = client.write_markers(asked).await;
        let answer = answer.map_err(|status| unreachable(broker, &status))?;
        Ok(codes(&answer.into_inner().error_codes))
    }
}

impl TransactionCoordinators {
    /// Asks another broker whether partitions are part of a transaction: for each, Kafka's code.
    pub(super) async fn ask_coordinator(
        &self,
        broker: BrokerId,
        vouch: &Vouch,
    ) -> Result<Vec<ErrorCode>, Unreachable> {
        let mut client = client(&self.shared.metadata, &self.shared.channels, broker)?;
        let asked = request(proto::VouchRequest {
            transactional_id: vouch.id.to_string(),
            producer_id: vouch.producer.id.0,
            producer_epoch: vouch.producer.epoch.0.into(),
            add: vouch.adds,
            partitions: to_proto(&vouch.partitions),
        });
        let answer = client.vouch(asked).await;
        let answer = answer.map_err(|status| unreachable(broker, &status))?;
        Ok(codes(&answer.into_inner().error_codes))
    }
}

fn client(
    metadata: &Metadata,
    channels: &Channels,
    broker: BrokerId,
) -> Result<TransactionsClient<Channel>, Unreachable> {
    let image = metadata.image();
    let known = image
        .broker(broker)
        .ok_or_else(|| unreachable(broker, &"it has never registered"))?;
    let channel = channels
        .to_broker(broker, &known.quorum_address)
        .map_err(|error| unreachable(broker, &error))?;
    Ok(TransactionsClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}

fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(PATIENCE);
    request
}

fn unreachable(broker: BrokerId, why: &dyn std::fmt::Display) -> Unreachable {
    Unreachable {
        broker,
        why: why.to_string(),
    }
}

fn to_proto(places: &[Place]) -> Vec<proto::Partition> {
    let places = places.iter().map(|(topic, index)| proto::Partition {
        topic: topic.clone(),
        index: index.0,
    });
    places.collect()
}

fn from_proto(partitions: Vec<proto::Partition>) -> Vec<Place> {
    let partitions = partitions.into_iter();
    partitions
        .map(|partition| (partition.topic, PartitionIndex(partition.index)))
        .collect()
}

fn codes(numbers: &[i32]) -> Vec<ErrorCode> {
    let codes = numbers.iter().map(|number| {
        let code = i16::try_from(*number).ok().and_then(ErrorCode::from_code);
        code.unwrap_or(ErrorCode::UnknownServerError)
    });
    codes.collect()
}

fn numbers(codes: Vec<ErrorCode>) -> Vec<i32> {
    codes.into_iter().map(|code| code.code().into()).collect()
}

fn producer(id: i64, epoch: i32) -> Result<Producer, Status> {
    let epoch = i16::try_from(epoch).map_err(|_| Status::invalid_argument("producer_epoch"))?;
    Ok(Producer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    })
}

/// Answers other brokers for the transactions and partitions of this one.
#[derive(Debug)]
pub struct TransactionsService {
    health: Arc<Health>,
}

impl TransactionsService {
    /// The service, which answers as soon as the broker is assembled.
    #[must_use]
    pub fn server(health: Arc<Health>) -> TransactionsServer<Self> {
        TransactionsServer::new(Self { health })
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }

    fn coordinators(&self) -> Result<TransactionCoordinators, Status> {
        let broker = self.health.assembled_broker()?;
        Ok(broker.transactions.clone())
    }
}

#[tonic::async_trait]
impl transactions_server::Transactions for TransactionsService {
    async fn write_markers(
        &self,
        request: Request<proto::WriteMarkersRequest>,
    ) -> Result<Response<proto::WriteMarkersResponse>, Status> {
        let asked = request.into_inner();
        let marker = Marker {
            producer: producer(asked.producer_id, asked.producer_epoch)?,
            outcome: if asked.is_commit {
                Outcome::Commit
            } else {
                Outcome::Abort
            },
            coordinator_epoch: asked.coordinator_epoch,
        };
        let level = i16::try_from(asked.transaction_version)
            .map_err(|_| Status::invalid_argument("transaction_version"))?;
        let places = from_proto(asked.partitions);
        let coordinators = self.coordinators()?;
        let written = coordinators
            .markers()
            .write_here(marker, Version::from_level(level), &places)
            .await;
        let error_codes = numbers(written);
        Ok(Response::new(proto::WriteMarkersResponse { error_codes }))
    }

    async fn vouch(
        &self,
        request: Request<proto::VouchRequest>,
    ) -> Result<Response<proto::VouchResponse>, Status> {
        let asked = request.into_inner();
        let vouch = Vouch {
            producer: producer(asked.producer_id, asked.producer_epoch)?,
            id: asked.transactional_id.into(),
            adds: asked.add,
            partitions: from_proto(asked.partitions),
        };
        let error_codes = numbers(self.coordinators()?.vouch_here(vouch).await);
        Ok(Response::new(proto::VouchResponse { error_codes }))
    }
}
