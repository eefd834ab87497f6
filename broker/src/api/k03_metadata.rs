//! Metadata: which brokers and topics there are, and who leads what.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::command::{Command, CreateTopics, NewTopic};
use weir_quorum::image::{Image, Topic};
use weir_wire::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use weir_wire::messages::{MetadataRequestView, MetadataResponse};

use super::leaders;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// Not asked for.
pub(super) const NO_OPERATIONS: i32 = i32::MIN;
/// Everything that can be done with a topic: read, write, create, delete, alter, describe, and its configuration.
pub(super) const TOPIC_OPERATIONS: i32 =
    1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 10 | 1 << 11;
/// Everything that can be done with the cluster: create, alter, describe, cluster action, its configuration, idempotent write.
pub(super) const CLUSTER_OPERATIONS: i32 =
    1 << 5 | 1 << 7 | 1 << 8 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 12;

/// One topic of the request, each once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Name(String),
    Id(uuid::Uuid),
}

/// A whole request, free of its frame.
struct Query {
    /// `None`: all topics.
    topics: Option<BTreeSet<Wanted>>,
    with_topic_operations: bool,
    with_cluster_operations: bool,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: MetadataRequestView<'_> = request.decode()?;
    // Version 0 knows no null: there an empty list means all.
    let all = view
        .topics
        .is_none_or(|topics| request.version == 0 && topics.is_empty());
    let topics = view.topics.filter(|_| !all).map(|topics| {
        let wanted = topics.iter().map(|topic| match topic.name {
            Some(name) if topic.topic_id.is_nil() || request.version < 12 => {
                Wanted::Name(name.to_owned())
            }
            _ => Wanted::Id(topic.topic_id),
        });
        wanted.collect::<BTreeSet<_>>()
    });
    let query = Query {
        topics,
        with_topic_operations: view.include_topic_authorized_operations,
        with_cluster_operations: view.include_cluster_authorized_operations,
    };
    let image = broker.metadata.image();
    let missing = missing_topics(&image, &query);
    // Before version 4 a client could not say that it does not want this.
    let creates =
        broker.config.topics.auto_create && (view.allow_auto_topic_creation || request.version < 4);
    if missing.is_empty() || !creates {
        return request.answer(&answer(broker, &image, &query));
    }
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let topics = missing
            .into_iter()
            .map(|name| NewTopic {
                name,
                ..NewTopic::default()
            })
            .collect();
        // What could not be created is answered as unknown.
        let _ = broker
            .metadata
            .control(Command::CreateTopics(CreateTopics {
                topics,
                validate_only: false,
            }))
            .await;
        responder.reply(&answer(&broker, &broker.metadata.image(), &query))
    }))
}

fn missing_topics(image: &Image, query: &Query) -> Vec<String> {
    let named = query
        .topics
        .iter()
        .flatten()
        .filter_map(|wanted| match wanted {
            Wanted::Name(name) => Some(name),
            Wanted::Id(_) => None,
        });
    let may_exist = |name: &&String| weir_quorum::topics::check_name(name).is_ok();
    named
        .filter(may_exist)
        .filter(|name| image.topic(name).is_none())
        .cloned()
        .collect()
}

fn answer(broker: &Broker, image: &Image, query: &Query) -> MetadataResponse {
    let brokers = image.live_brokers().map(|broker| {
        let endpoint = leaders::endpoint(broker);
        MetadataResponseBroker {
            node_id: endpoint.id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
        }
    });
    let topics = match &query.topics {
        None => image
            .topics()
            .map(|topic| describe(image, topic, query))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .map(|wanted| describe_wanted(image, wanted, query))
            .collect(),
    };
    MetadataResponse {
        brokers: brokers.collect(),
        cluster_id: broker.metadata.cluster_id().map(|id| id.to_string()),
        controller_id: broker.metadata.controller_id().map_or(-1, |id| id.0),
        topics,
        cluster_authorized_operations: if query.with_cluster_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..MetadataResponse::default()
    }
}

fn describe_wanted(image: &Image, wanted: &Wanted, query: &Query) -> MetadataResponseTopic {
    let absent = |error: ErrorCode, name: Option<String>, topic_id| MetadataResponseTopic {
        error_code: error.code(),
        name,
        topic_id,
        topic_authorized_operations: NO_OPERATIONS,
        ..MetadataResponseTopic::default()
    };
    match wanted {
        Wanted::Name(name) => match image.topic(name) {
            Some(topic) => describe(image, topic, query),
            None => {
                let is_name = weir_quorum::topics::check_name(name).is_ok();
                let error = if is_name {
                    ErrorCode::UnknownTopicOrPartition
                } else {
                    ErrorCode::InvalidTopicException
                };
                absent(error, Some(name.clone()), uuid::Uuid::nil())
            }
        },
        Wanted::Id(id) => match image.topic_by_id(weir_quorum::TopicId(*id)) {
            Some(topic) => describe(image, topic, query),
            None => absent(ErrorCode::UnknownTopicId, None, *id),
        },
    }
}

fn describe(image: &Image, topic: &Topic, query: &Query) -> MetadataResponseTopic {
    let is_live =
        |id: &weir_quorum::BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let ids = |brokers: &[weir_quorum::BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let leader = partition.leader.filter(is_live);
        let error = if leader.is_some() {
            ErrorCode::None
        } else {
            ErrorCode::LeaderNotAvailable
        };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: index,
            leader_id: leader.map_or(-1, |id| id.0),
            leader_epoch: partition.leader_epoch.0,
            replica_nodes: ids(&partition.replicas),
            isr_nodes: ids(&partition.isr),
            offline_replicas: partition
                .replicas
                .iter()
                .filter(|id| !is_live(id))
                .map(|id| id.0)
                .collect(),
        }
    });
    MetadataResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.to_string()),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions: partitions.collect(),
        topic_authorized_operations: if query.with_topic_operations {
            TOPIC_OPERATIONS
        } else {
            NO_OPERATIONS
        },
    }
}
