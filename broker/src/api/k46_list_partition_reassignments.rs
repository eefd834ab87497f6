//! ListPartitionReassignments: which partitions are on their way to other brokers (KIP-455).

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::image::{Image, Partition, Topic};
use weir_wire::messages::list_partition_reassignments_response::{
    OngoingPartitionReassignment, OngoingTopicReassignment,
};
use weir_wire::messages::{
    ListPartitionReassignmentsRequestView, ListPartitionReassignmentsResponse,
};

use super::{Answer, Refused, Reply, Request};
use crate::Broker;
use crate::error::ApiError;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    // Checked before anybody waits.
    request.decode::<ListPartitionReassignmentsRequestView<'_>>()?;
    let broker = Arc::clone(broker);
    Ok(Answer::later(async move {
        // As in Kafka: who has asked another broker for a move must not hear from this one, which is a moment behind, that nothing is moved.
        let response = match broker.metadata.up_to_date().await {
            Ok(image) => list(&request, &image),
            Err(error) => {
                let error = ApiError::from(error);
                Ok(ListPartitionReassignmentsResponse {
                    error_code: error.code.code(),
                    error_message: error.message(),
                    ..ListPartitionReassignmentsResponse::default()
                })
            }
        };
        match response {
            Ok(response) => request.responder().reply(&response),
            Err(refused) => Reply::Close(refused),
        }
    }))
}

fn list(request: &Request, image: &Image) -> Result<ListPartitionReassignmentsResponse, Refused> {
    let view: ListPartitionReassignmentsRequestView<'_> = request.decode()?;
    let topics: Vec<OngoingTopicReassignment> = match view.topics {
        None => image
            .topics()
            .filter_map(|topic| ongoing(topic, None))
            .collect(),
        Some(topics) => {
            // What is not there is not on its way either.
            let found = topics.iter().filter_map(|wanted| {
                let topic = image.topic(wanted.name)?;
                ongoing(topic, Some(&mut wanted.partition_indexes.iter()))
            });
            found.collect()
        }
    };
    Ok(ListPartitionReassignmentsResponse {
        topics,
        ..ListPartitionReassignmentsResponse::default()
    })
}

/// A topic's partitions that are being moved, of these or of all; `None` without any.
fn ongoing(
    topic: &Topic,
    indexes: Option<&mut dyn Iterator<Item = i32>>,
) -> Option<OngoingTopicReassignment> {
    let mut all = 0..i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    let indexes = indexes.unwrap_or(&mut all);
    let moving = indexes.filter_map(|index| {
        let partition = topic.partition(index)?;
        partition
            .is_reassigning()
            .then(|| reassignment(index, partition))
    });
    let partitions: Vec<_> = moving.collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment {
        name: topic.name.to_string(),
        partitions,
    })
}

fn reassignment(partition_index: i32, partition: &Partition) -> OngoingPartitionReassignment {
    let ids = |ids: &[BrokerId]| ids.iter().map(|id| id.0).collect();
    OngoingPartitionReassignment {
        partition_index,
        replicas: ids(&partition.replicas),
        adding_replicas: ids(&partition.adding),
        removing_replicas: ids(&partition.removing),
    }
}
