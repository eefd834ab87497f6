//! Topics are created, grown and deleted, each of a batch alone.

use std::collections::{BTreeMap, BTreeSet};

use super::{Decision, View};
use crate::command::{
    CreatePartitions, CreateTopics, DeleteTopics, NewTopic, Reply, TopicOutcome, TopicRef,
    TopicResult,
};
use crate::configs::{IN_SYNC_MIN, cluster_number, said};
use crate::error::{ControlError, ErrorName};
use crate::image::Topic;
use crate::record::{Record, TopicDeleted};
use crate::topics::INTERNAL_TOPICS;

mod batch;

use batch::Batch;

/// How many partitions one command may create, as Kafka's: their records are one entry of the log, which stays far
/// below what one message between brokers may hold.
pub const NEW_PARTITIONS_MAX: usize = 10_000;

pub(super) fn create(view: &View<'_>, request: &CreateTopics) -> Decision {
    let mut batch = Batch::new(view);
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in &request.topics {
        *count.entry(&topic.name).or_default() += 1;
    }
    let results = request
        .topics
        .iter()
        .map(|topic| {
            if count
                .get(topic.name.as_str())
                .is_some_and(|count| *count > 1)
            {
                return refused(
                    &topic.name,
                    ControlError::new(
                        ErrorName::InvalidRequest,
                        "the topic is named twice in one request",
                    ),
                );
            }
            match batch.create(topic) {
                Ok((id, outcome)) => TopicResult {
                    name: topic.name.clone(),
                    id: Some(id),
                    outcome: Ok(outcome),
                },
                Err(error) => refused(&topic.name, error),
            }
        })
        .collect();
    batch.finish(request.validate_only, results)
}

pub(super) fn grow(view: &View<'_>, request: &CreatePartitions) -> Decision {
    let mut batch = Batch::new(view);
    let mut seen = BTreeSet::new();
    let results = request
        .topics
        .iter()
        .map(|more| {
            if !seen.insert(more.name.as_str()) {
                return refused(
                    &more.name,
                    ControlError::new(
                        ErrorName::InvalidRequest,
                        "the topic is named twice in one request",
                    ),
                );
            }
            match batch.grow(more) {
                Ok((id, outcome)) => TopicResult {
                    name: more.name.clone(),
                    id: Some(id),
                    outcome: Ok(outcome),
                },
                Err(error) => refused(&more.name, error),
            }
        })
        .collect();
    batch.finish(request.validate_only, results)
}

pub(super) fn delete(view: &View<'_>, request: &DeleteTopics) -> Decision {
    let mut gone = BTreeSet::new();
    let mut records = Vec::new();
    let results = request
        .topics
        .iter()
        .map(|wanted| {
            let (found, unknown) = match wanted {
                TopicRef::Name(name) => (
                    view.image.topic(name),
                    refused(
                        name,
                        ControlError::new(
                            ErrorName::UnknownTopicOrPartition,
                            format!("topic {name:?} does not exist"),
                        ),
                    ),
                ),
                TopicRef::Id(id) => (
                    view.image.topic_by_id(*id),
                    TopicResult {
                        name: String::new(),
                        id: Some(*id),
                        outcome: Err(ControlError::new(
                            ErrorName::UnknownTopicId,
                            format!("no topic has the id {id}"),
                        )),
                    },
                ),
            };
            let Some(topic) = found else { return unknown };
            if gone.insert(topic.id) {
                records.push(Record::TopicDeleted(TopicDeleted { id: topic.id }));
            }
            TopicResult {
                name: topic.name.to_string(),
                id: Some(topic.id),
                outcome: Ok(numbers(topic)),
            }
        })
        .collect();
    Decision::new(records, Reply::Topics(results))
}

pub(super) fn ensure_internal(view: &View<'_>, name: &str) -> Decision {
    if let Some(topic) = view.image.topic(name) {
        let result = TopicResult {
            name: name.to_owned(),
            id: Some(topic.id),
            outcome: Ok(numbers(topic)),
        };
        return Decision::new(Vec::new(), Reply::Topics(vec![result]));
    }
    let Some(internal) = INTERNAL_TOPICS
        .iter()
        .find(|internal| internal.name == name)
    else {
        let error = ControlError::new(
            ErrorName::InvalidTopicException,
            format!("{name:?} is none of the brokers' own topics"),
        );
        return Decision::new(Vec::new(), Reply::Topics(vec![refused(name, error)]));
    };
    let number = |name| {
        let number = cluster_number(view.image, view.settings, name).ok();
        number.and_then(|count| i32::try_from(count).ok())
    };
    let factor = number(internal.factor_config);
    // A topic that came to be while the first brokers of a cluster start would stay on them.
    let registered = view.image.brokers().len();
    if let Some(factor) =
        factor.filter(|factor| usize::try_from(*factor).is_ok_and(|factor| factor > registered))
    {
        let error = ControlError::new(
            ErrorName::CoordinatorNotAvailable,
            format!(
                "topic {name:?} is to have {factor} replicas ({}) and waits for as many brokers; {registered} have registered so far",
                internal.factor_config
            ),
        );
        return Decision::new(Vec::new(), Reply::Topics(vec![refused(name, error)]));
    }
    let mut config = internal.config();
    let in_sync = internal.in_sync_config;
    if let Some(minimum) = in_sync.and_then(|name| said(view.image, view.settings, name)) {
        config.insert(IN_SYNC_MIN.to_owned(), minimum.to_string());
    }
    let topic = NewTopic {
        name: name.to_owned(),
        partitions: number(internal.partitions_config),
        replication_factor: factor,
        config,
        ..NewTopic::default()
    };
    create(
        view,
        &CreateTopics {
            topics: vec![topic],
            validate_only: false,
        },
    )
}

fn refused(name: &str, error: ControlError) -> TopicResult {
    TopicResult {
        name: name.to_owned(),
        id: None,
        outcome: Err(error),
    }
}

fn numbers(topic: &Topic) -> TopicOutcome {
    TopicOutcome {
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
        replication_factor: i32::try_from(topic.replication_factor()).unwrap_or(i32::MAX),
    }
}
