//! AlterPartitionReassignments: partitions are moved to other brokers, or stay where they are after all (KIP-455, KIP-860).

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{Command, Reassign, Reassignment, Reply};
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
    // Version 0 could not say that it minds, and Kafka's answer to it is that it does not.
    let may_change_factor = view.allow_replication_factor_change || request.version == 0;
    let partitions: Vec<Reassignment> = view
        .topics
        .iter()
        .flat_map(|topic| {
            topic.partitions.iter().map(move |partition| Reassignment {
                topic: topic.name.to_owned(),
                index: partition.partition_index,
                replicas: partition
                    .replicas
                    .map(|replicas| replicas.iter().map(BrokerId).collect()),
            })
        })
        .collect();
    let names: Vec<(String, usize)> = view
        .topics
        .iter()
        .map(|topic| (topic.name.to_owned(), topic.partitions.len()))
        .collect();
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let indexes: Vec<i32> = partitions.iter().map(|wanted| wanted.index).collect();
        let command = Command::Reassign(Reassign {
            partitions,
            allow_replication_factor_change: may_change_factor,
        });
        let response = AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: may_change_factor,
            ..AlterPartitionReassignmentsResponse::default()
        };
        let response = match broker.metadata.control(command).await {
            Ok(Reply::Partitions(outcomes)) => {
                let outcomes = outcomes
                    .into_iter()
                    .map(|outcome| outcome.map_err(ApiError::from));
                let mut answered = indexes.into_iter().zip(outcomes);
                let responses = names
                    .into_iter()
                    .map(|(name, count)| ReassignableTopicResponse {
                        name,
                        partitions: answered.by_ref().take(count).map(partition).collect(),
                    });
                AlterPartitionReassignmentsResponse {
                    responses: responses.collect(),
                    ..response
                }
            }
            Ok(_) => failed(response, ErrorCode::UnknownServerError.into()),
            Err(error) => failed(response, error.into()),
        };
        responder.reply(&response)
    }))
}

fn partition((index, outcome): (i32, Result<(), ApiError>)) -> ReassignablePartitionResponse {
    let error = outcome.err();
    ReassignablePartitionResponse {
        partition_index: index,
        error_code: error.as_ref().map_or(0, |error| error.code.code()),
        error_message: error.and_then(ApiError::message),
    }
}

fn failed(
    response: AlterPartitionReassignmentsResponse,
    error: ApiError,
) -> AlterPartitionReassignmentsResponse {
    AlterPartitionReassignmentsResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..response
    }
}
