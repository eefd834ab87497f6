//! CreatePartitions: topics grow.

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{Command, CreatePartitions, MorePartitions, Reply};
use weir_wire::messages::create_partitions_request::CreatePartitionsTopicView;
use weir_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use weir_wire::messages::{CreatePartitionsRequestView, CreatePartitionsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: CreatePartitionsRequestView<'_> = request.decode()?;
    let topics: Vec<MorePartitions> = view.topics.iter().map(more_partitions).collect();
    let validate_only = view.validate_only;
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let command = Command::CreatePartitions(CreatePartitions {
            topics: topics.clone(),
            validate_only,
        });
        let outcomes = match broker.metadata.control(command).await {
            Ok(Reply::Topics(results)) => results
                .into_iter()
                .map(|result| result.outcome.map_err(ApiError::from).err())
                .collect(),
            Ok(_) => vec![Some(ErrorCode::UnknownServerError.into()); topics.len()],
            Err(error) => vec![Some(ApiError::from(error)); topics.len()],
        };
        let results =
            topics
                .into_iter()
                .zip(outcomes)
                .map(|(topic, error)| CreatePartitionsTopicResult {
                    name: topic.name,
                    error_code: error
                        .as_ref()
                        .map_or(ErrorCode::None, |error| error.code)
                        .code(),
                    error_message: error.and_then(ApiError::message),
                });
        let results = results.collect();
        responder.reply(&CreatePartitionsResponse {
            results,
            ..CreatePartitionsResponse::default()
        })
    }))
}

fn more_partitions(topic: CreatePartitionsTopicView<'_>) -> MorePartitions {
    let assignments = topic.assignments.map(|assignments| {
        let brokers = assignments
            .iter()
            .map(|assignment| assignment.broker_ids.iter().map(BrokerId).collect());
        brokers.collect()
    });
    MorePartitions {
        name: topic.name.to_owned(),
        count: topic.count,
        assignments,
    }
}
