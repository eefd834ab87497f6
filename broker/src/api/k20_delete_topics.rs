//! DeleteTopics: by name, or by id from version 6 on.

use std::sync::Arc;

use weir_quorum::TopicId;
use weir_quorum::command::{Command, DeleteTopics, Reply, TopicRef};
use weir_wire::messages::delete_topics_response::DeletableTopicResult;
use weir_wire::messages::{DeleteTopicsRequestView, DeleteTopicsResponse};

use super::{Answer, Refused, Request, mutations};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::quotas::throttle_time_ms;

/// The first version whose clients understand that they have to wait before they delete (KIP-599).
const STRICT_FROM: i16 = 5;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteTopicsRequestView<'_> = request.decode()?;
    let by_name = view
        .topic_names
        .iter()
        .map(|name| TopicRef::Name(name.to_owned()));
    let (ambiguous, states): (Vec<_>, Vec<_>) = view
        .topics
        .iter()
        .partition(|topic| topic.name.is_some() && !topic.topic_id.is_nil());
    let refused: Vec<_> = ambiguous
        .into_iter()
        .map(|topic| DeletableTopicResult {
            name: topic.name.map(str::to_owned),
            topic_id: topic.topic_id,
            error_code: ErrorCode::InvalidRequest.code(),
            error_message: Some("a topic is named by its name or by its id, not by both".into()),
        })
        .collect();
    let states = states.into_iter().map(|topic| match topic.name {
        Some(name) => TopicRef::Name(name.to_owned()),
        None => TopicRef::Id(TopicId(topic.topic_id)),
    });
    let topics: Vec<TopicRef> = by_name.chain(states).collect();
    let image = broker.metadata.image();
    let partitions = |topic: &TopicRef| {
        let topic = match topic {
            TopicRef::Name(name) => image.topic(name),
            TopicRef::Id(id) => image.topic_by_id(*id),
        };
        topic.map_or(0, |topic| topic.partitions.len())
    };
    let deleted = topics.iter().map(partitions).sum();
    let wait = match mutations::take(broker, &image, &request, STRICT_FROM, deleted) {
        Ok(wait) => wait,
        Err(wait) => {
            let exceeded = topics
                .into_iter()
                .map(|topic| result(topic, None, Some(mutations::exceeded())));
            let answer = request.answer(&DeleteTopicsResponse {
                throttle_time_ms: throttle_time_ms(wait),
                responses: exceeded.chain(refused).collect(),
            })?;
            return Ok(answer.throttled(wait));
        }
    };
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let command = Command::DeleteTopics(DeleteTopics {
            topics: topics.clone(),
        });
        let outcomes = match broker.metadata.control(command).await {
            Ok(Reply::Topics(results)) => results
                .into_iter()
                .map(|result| (result.id, result.outcome.map_err(ApiError::from).err()))
                .collect(),
            Ok(_) => vec![(None, Some(ErrorCode::UnknownServerError.into())); topics.len()],
            Err(error) => vec![(None, Some(ApiError::from(error))); topics.len()],
        };
        let responses = topics
            .into_iter()
            .zip(outcomes)
            .map(|(topic, (id, error))| result(topic, id, error));
        let response = DeleteTopicsResponse {
            throttle_time_ms: throttle_time_ms(wait),
            responses: responses.chain(refused).collect(),
        };
        responder.reply(&response).throttled(wait)
    }))
}

fn result(topic: TopicRef, id: Option<TopicId>, error: Option<ApiError>) -> DeletableTopicResult {
    let (name, named_id) = match topic {
        TopicRef::Name(name) => (Some(name), None),
        TopicRef::Id(id) => (None, Some(id)),
    };
    let code = error.as_ref().map_or(ErrorCode::None, |error| error.code);
    DeletableTopicResult {
        name,
        topic_id: named_id.or(id).unwrap_or_default().0,
        error_code: code.code(),
        error_message: error.and_then(ApiError::message),
    }
}
