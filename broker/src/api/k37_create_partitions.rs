//! CreatePartitions: topics grow.

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{Command, CreatePartitions, MorePartitions, Reply};
use weir_wire::messages::create_partitions_request::CreatePartitionsTopicView;
use weir_wire::messages::create_partitions_response::CreatePartitionsTopicResult;
use weir_wire::messages::{CreatePartitionsRequestView, CreatePartitionsResponse};

use super::{Answer, Refused, Request, mutations};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::quotas::throttle_time_ms;

/// The first version whose clients understand that they have to wait before they grow a topic (KIP-599).
const STRICT_FROM: i16 = 3;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: CreatePartitionsRequestView<'_> = request.decode()?;
    let topics: Vec<MorePartitions> = view.topics.iter().map(more_partitions).collect();
    let validate_only = view.validate_only;
    let image = broker.metadata.image();
    let added = |topic: &MorePartitions| {
        let now = image
            .topic(&topic.name)
            .map_or(0, |found| found.partitions.len());
        usize::try_from(topic.count).map_or(0, |count| count.saturating_sub(now))
    };
    let added = if validate_only {
        0
    } else {
        topics.iter().map(added).sum()
    };
    let wait = match mutations::take(broker, &image, &request, STRICT_FROM, added) {
        Ok(wait) => wait,
        Err(wait) => {
            let refused = topics
                .into_iter()
                .map(|topic| result(topic.name, Some(mutations::exceeded())));
            let answer = request.answer(&CreatePartitionsResponse {
                throttle_time_ms: throttle_time_ms(wait),
                results: refused.collect(),
            })?;
            return Ok(answer.throttled(wait));
        }
    };
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
        let results = topics
            .into_iter()
            .zip(outcomes)
            .map(|(topic, error)| result(topic.name, error));
        let response = CreatePartitionsResponse {
            throttle_time_ms: throttle_time_ms(wait),
            results: results.collect(),
        };
        responder.reply(&response).throttled(wait)
    }))
}

fn result(name: String, error: Option<ApiError>) -> CreatePartitionsTopicResult {
    CreatePartitionsTopicResult {
        name,
        error_code: error.as_ref().map_or(0, |error| error.code.code()),
        error_message: error.and_then(ApiError::message),
    }
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
