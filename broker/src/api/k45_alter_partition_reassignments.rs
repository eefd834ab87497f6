//! AlterPartitionReassignments: partitions are moved to other brokers (KIP-455).
//!
//! Each partition has one replica, which stays where it is until data is replicated between brokers. What asks for that is
//! granted; what asks for more is refused as Kafka refuses replicas that it cannot place.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::image::Image;
use weir_wire::messages::alter_partition_reassignments_request::ReassignablePartitionView;
use weir_wire::messages::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use weir_wire::messages::{
    AlterPartitionReassignmentsRequestView, AlterPartitionReassignmentsResponse,
};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterPartitionReassignmentsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let responses = view.topics.iter().map(|topic| ReassignableTopicResponse {
        name: topic.name.to_owned(),
        partitions: topic
            .partitions
            .iter()
            .map(|partition| {
                let error = reassign(&image, topic.name, &partition).err();
                ReassignablePartitionResponse {
                    partition_index: partition.partition_index,
                    error_code: error.as_ref().map_or(0, |error| error.code.code()),
                    error_message: error.and_then(ApiError::message),
                }
            })
            .collect(),
    });
    request.answer(&AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: view.allow_replication_factor_change,
        responses: responses.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    })
}

fn reassign(
    image: &Image,
    topic: &str,
    wanted: &ReassignablePartitionView<'_>,
) -> Result<(), ApiError> {
    let index = wanted.partition_index;
    let unknown = |message| ApiError::new(ErrorCode::UnknownTopicOrPartition, message);
    let partition = image
        .topic(topic)
        .ok_or_else(|| unknown(format!("Unable to find a topic named {topic}.")))?
        .partition(index)
        .ok_or_else(|| unknown(format!("Unable to find partition {topic}-{index}.")))?;
    let Some(replicas) = wanted.replicas else {
        let message = "No partition reassignment is in progress.";
        return Err(ApiError::new(ErrorCode::NoReassignmentInProgress, message));
    };
    let refuse = |message| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse(
            "The manual partition assignment includes an empty replica list.".to_owned(),
        );
    }
    let mut seen = BTreeSet::new();
    for replica in replicas.iter() {
        if image.broker(BrokerId(replica)).is_none() {
            return refuse(format!(
                "The manual partition assignment includes broker {replica}, but no such broker is registered."
            ));
        }
        if !seen.insert(replica) {
            return refuse(format!(
                "The manual partition assignment includes the broker {replica} more than once."
            ));
        }
    }
    if replicas.iter().eq(partition.replicas.iter().map(|id| id.0)) {
        return Ok(());
    }
    if replicas.len() > 1 {
        return refuse(format!(
            "{} replicas; partitions are not replicated between brokers yet",
            replicas.len()
        ));
    }
    refuse("partitions are not moved between brokers yet".to_owned())
}
