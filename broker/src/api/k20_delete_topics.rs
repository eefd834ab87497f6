//! DeleteTopics: by name, or by id from version 6 on.

use std::sync::Arc;

use weir_quorum::TopicId;
use weir_quorum::command::{Command, DeleteTopics, Reply, TopicRef};
use weir_wire::messages::delete_topics_response::DeletableTopicResult;
use weir_wire::messages::{DeleteTopicsRequestView, DeleteTopicsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

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
        responder.reply(&DeleteTopicsResponse {
            responses: responses.chain(refused).collect(),
            ..DeleteTopicsResponse::default()
        })
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
