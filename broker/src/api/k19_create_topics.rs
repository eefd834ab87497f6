//! CreateTopics: the controller's decision, told to the client.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{Command, CreateTopics, NewTopic, Reply, TopicResult};
use weir_quorum::configs::{self, TOPIC, cluster_number};
use weir_quorum::image::Topic;
use weir_wire::messages::create_topics_request::CreatableTopicView;
use weir_wire::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use weir_wire::messages::{CreateTopicsRequestView, CreateTopicsResponse};

use super::{Answer, Refused, Request, mutations};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::quotas::throttle_time_ms;

/// The first version whose clients understand that they have to wait before they create (KIP-599).
const STRICT_FROM: i16 = 6;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: CreateTopicsRequestView<'_> = request.decode()?;
    let mut seen = BTreeSet::new();
    let twice: BTreeSet<String> = view
        .topics
        .iter()
        .filter(|topic| !seen.insert(topic.name))
        .map(|topic| topic.name.to_owned())
        .collect();
    let mut results: Vec<CreatableTopicResult> = twice
        .iter()
        .map(|name| {
            let message = "Duplicate topic name.";
            refused(
                name.clone(),
                ApiError::new(ErrorCode::InvalidRequest, message),
            )
        })
        .collect();
    let mut topics: Vec<NewTopic> = Vec::new();
    for topic in view.topics.iter() {
        if twice.contains(topic.name) {
            continue;
        }
        match new_topic(topic) {
            Ok(topic) => topics.push(topic),
            Err(error) => results.push(refused(topic.name.to_owned(), error)),
        }
    }
    let validate_only = view.validate_only;
    let image = broker.metadata.image();
    let created = if validate_only {
        0
    } else {
        let default = || {
            cluster_number(&image, broker.metadata.settings(), "num.partitions")
                .ok()
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1)
        };
        topics.iter().map(|topic| partitions(topic, default)).sum()
    };
    let wait = match mutations::take(broker, &image, &request, STRICT_FROM, created) {
        Ok(wait) => wait,
        Err(wait) => {
            let names = topics.into_iter().map(|topic| topic.name);
            results.extend(names.map(|name| refused(name, mutations::exceeded())));
            let answer = request.answer(&CreateTopicsResponse {
                throttle_time_ms: throttle_time_ms(wait),
                topics: results,
            })?;
            return Ok(answer.throttled(wait));
        }
    };
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
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
        let response = CreateTopicsResponse {
            throttle_time_ms: throttle_time_ms(wait),
            topics: results,
        };
        responder.reply(&response).throttled(wait)
    }))
}

/// How many partitions a topic asks for.
fn partitions(topic: &NewTopic, default: impl Fn() -> usize) -> usize {
    match topic.partitions {
        Some(count) => usize::try_from(count).unwrap_or(0),
        None if topic.assignments.is_empty() => default(),
        None => topic.assignments.len(),
    }
}

fn new_topic(topic: CreatableTopicView<'_>) -> Result<NewTopic, ApiError> {
    let assignments = topic.assignments.iter().map(|assignment| {
        (
            assignment.partition_index,
            assignment.broker_ids.iter().map(BrokerId).collect(),
        )
    });
    let config = topic.configs.iter().map(|config| match config.value {
        Some(value) => Ok((config.name.to_owned(), value.to_owned())),
        None => {
            let name = config.name;
            let message = format!("Null value not supported for topic configs: {name}");
            Err(ApiError::new(ErrorCode::InvalidConfig, message))
        }
    });
    Ok(NewTopic {
        name: topic.name.to_owned(),
        // -1 is "the cluster's default".
        partitions: Some(topic.num_partitions).filter(|count| *count != -1),
        replication_factor: Some(i32::from(topic.replication_factor))
            .filter(|factor| *factor != -1),
        assignments: assignments.collect(),
        config: config.collect::<Result<_, _>>()?,
    })
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
            configs: Some(configurations(broker, wanted, outcome.replication_factor)),
            ..CreatableTopicResult::default()
        },
    }
}

/// The configuration that the topic has, or would have.
fn configurations(broker: &Broker, wanted: &NewTopic, replicas: i32) -> Vec<CreatableTopicConfigs> {
    let image = broker.metadata.image();
    let config = wanted.config.iter().map(|(name, value)| {
        let stored = configs::topic_def(name).map(|def| def.normal(value));
        (name.clone(), stored.unwrap_or_else(|_| value.clone()))
    });
    let topic = Topic::imagined(&wanted.name, config.collect(), replicas);
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
