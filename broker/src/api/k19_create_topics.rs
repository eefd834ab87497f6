//! CreateTopics: the controller's decision, told to the client.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{Command, CreateTopics, NewTopic, Reply, TopicResult};
use weir_quorum::configs::{self, TOPIC};
use weir_quorum::image::Topic;
use weir_wire::messages::create_topics_request::CreatableTopicView;
use weir_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use weir_wire::messages::{CreateTopicsRequestView, CreateTopicsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: CreateTopicsRequestView<'_> = request.decode()?;
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = view
        .topics
        .iter()
        .filter(|topic| !seen.insert(topic.name))
        .map(|topic| topic.name.to_owned())
        .collect();
    let topics: Vec<NewTopic> = view
        .topics
        .iter()
        .filter(|topic| !twice.contains(topic.name))
        .map(new_topic)
        .collect();
    let validate_only = view.validate_only;
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let mut results: Vec<CreatableTopicResult> = twice
            .into_iter()
            .map(|name| {
                refused(
                    name,
                    ApiError::new(
                        ErrorCode::InvalidRequest,
                        "the topic is named twice in one request",
                    ),
                )
            })
            .collect();
        let command = Command::CreateTopics(CreateTopics {
            topics: topics.clone(),
            validate_only,
        });
        match broker.metadata.control(command).await {
            Ok(Reply::Topics(outcomes)) => {
                results.extend(
                    topics
                        .iter()
                        .zip(outcomes)
                        .map(|(topic, outcome)| result(&broker, topic, outcome)),
                );
            }
            Ok(_) => results.extend(
                topics
                    .into_iter()
                    .map(|topic| refused(topic.name, ErrorCode::UnknownServerError.into())),
            ),
            Err(error) => {
                results.extend(
                    topics
                        .into_iter()
                        .map(|topic| refused(topic.name, ApiError::from(error.clone()))),
                );
            }
        }
        responder.reply(&CreateTopicsResponse {
            topics: results,
            ..CreateTopicsResponse::default()
        })
    }))
}

fn new_topic(topic: CreatableTopicView<'_>) -> NewTopic {
    let assignments = topic.assignments.iter().map(|assignment| {
        (
            assignment.partition_index,
            assignment.broker_ids.iter().map(BrokerId).collect(),
        )
    });
    // A null is the default.
    let config = topic
        .configs
        .iter()
        .filter_map(|config| Some((config.name.to_owned(), config.value?.to_owned())));
    NewTopic {
        name: topic.name.to_owned(),
        // -1 is "the cluster's default".
        partitions: Some(topic.num_partitions).filter(|count| *count != -1),
        replication_factor: Some(i32::from(topic.replication_factor))
            .filter(|factor| *factor != -1),
        assignments: assignments.collect(),
        config: config.collect(),
    }
}

fn result(broker: &Broker, wanted: &NewTopic, result: TopicResult) -> CreatableTopicResult {
    match result.outcome {
        Err(error) => refused(wanted.name.clone(), error.into()),
        Ok(outcome) => CreatableTopicResult {
            name: wanted.name.clone(),
            topic_id: result.id.map(|id| id.0).unwrap_or_default(),
            error_code: ErrorCode::None.code(),
            num_partitions: outcome.partitions,
            replication_factor: i16::try_from(outcome.replication_factor).unwrap_or(-1),
            configs: Some(configurations(broker, wanted)),
            ..CreatableTopicResult::default()
        },
    }
}

/// The configuration that the topic has, or would have.
fn configurations(broker: &Broker, wanted: &NewTopic) -> Vec<CreatableTopicConfigs> {
    let image = broker.metadata.image();
    let topic = Topic {
        name: Arc::from(wanted.name.as_str()),
        id: weir_quorum::TopicId::default(),
        config: wanted.config.clone(),
        partitions: Vec::new(),
    };
    let effective = TOPIC.iter().map(|def| {
        let effective = configs::effective_topic(&image, broker.metadata.settings(), &topic, def);
        CreatableTopicConfigs {
            name: def.name.to_owned(),
            value: Some(effective.value().to_owned()),
            read_only: false,
            config_source: effective.source().code(),
            is_sensitive: false,
        }
    });
    effective.collect()
}

fn refused(name: String, error: ApiError) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code.code(),
        error_message: error.message(),
        num_partitions: -1,
        replication_factor: -1,
        configs: Some(Vec::new()),
        ..CreatableTopicResult::default()
    }
}
