//! Metadata: which brokers and topics there are, and who leads what.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::command::{Command, CreateTopics, NewTopic, Reply as Controlled};
use weir_quorum::image::{Image, Topic};
use weir_quorum::{BrokerId, ErrorName, TopicId, configs};
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

/// The first version in which a client is told that a leader has no address on its listener.
const LISTENER_ERRORS_FROM: i16 = 6;

/// One topic of the request, each once.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Wanted {
    Name(String),
    Id(uuid::Uuid),
}

/// A whole request, free of its frame.
struct Query {
    /// By which listener the client came.
    listener: Arc<str>,
    version: i16,
    /// `None`: all topics.
    topics: Option<BTreeSet<Wanted>>,
    with_topic_operations: bool,
    with_cluster_operations: bool,
}

impl Query {
    /// Who leads the topics that are asked for by name or id.
    fn leaders(&self, image: &Image) -> BTreeSet<BrokerId> {
        let wanted = self.topics.iter().flatten();
        let topics = wanted.filter_map(|wanted| match wanted {
            Wanted::Name(name) => image.topic(name),
            Wanted::Id(id) => image.topic_by_id(TopicId(*id)),
        });
        topics
            .flat_map(|topic| &topic.partitions)
            .filter_map(|partition| partition.leader)
            .collect()
    }
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
        listener: Arc::clone(&request.peer.listener),
        version: request.version,
        topics,
        with_topic_operations: view.include_topic_authorized_operations,
        with_cluster_operations: view.include_cluster_authorized_operations,
    };
    let image = broker.metadata.image();
    let missing = missing_topics(&image, &query);
    // Before version 4 a client could not say that it does not want this.
    let may_create = view.allow_auto_topic_creation || request.version < 4;
    if missing.is_empty() || !may_create || !creates(broker, &image) {
        let mut leaders = query.leaders(&image).into_iter();
        if !leaders.any(|leader| broker.metadata.is_in_doubt(leader)) {
            return request.answer(&answer(broker, &image, &query, &BTreeSet::new()));
        }
        let (responder, broker) = (request.responder(), Arc::clone(broker));
        return Ok(Answer::later(async move {
            let image = broker.metadata.settled(|image| query.leaders(image)).await;
            responder.reply(&answer(&broker, &image, &query, &BTreeSet::new()))
        }));
    }
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let refused = create(&broker, missing).await;
        responder.reply(&answer(&broker, &broker.metadata.image(), &query, &refused))
    }))
}

/// Whether topics are created because someone asks for them.
fn creates(broker: &Broker, image: &Image) -> bool {
    let metadata = &broker.metadata;
    let name = "auto.create.topics.enable";
    configs::broker_value(image, metadata.settings(), metadata.broker_id(), name)
        .is_some_and(|value| value == "true")
}

/// Creates topics with the cluster's defaults, the brokers' own as they have to be. Returns the names that no topic can have
/// beside those that there are; what could not be created for another reason is answered as unknown.
async fn create(broker: &Broker, names: Vec<String>) -> BTreeSet<String> {
    let (internal, names): (Vec<_>, Vec<_>) = names
        .into_iter()
        .partition(|name| weir_quorum::topics::is_internal(name));
    for name in internal {
        let _ = broker
            .metadata
            .control(Command::EnsureInternalTopic { name })
            .await;
    }
    let topics = names.into_iter().map(|name| NewTopic {
        name,
        ..NewTopic::default()
    });
    let command = Command::CreateTopics(CreateTopics {
        topics: topics.collect(),
        validate_only: false,
    });
    let Ok(Controlled::Topics(results)) = broker.metadata.control(command).await else {
        return BTreeSet::new();
    };
    let refused = results.into_iter().filter(|result| {
        let error = result.outcome.as_ref().err();
        error.is_some_and(|error| error.name == ErrorName::InvalidTopicException)
    });
    refused.map(|result| result.name).collect()
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

fn answer(
    broker: &Broker,
    image: &Image,
    query: &Query,
    refused: &BTreeSet<String>,
) -> MetadataResponse {
    let known = broker.metadata.known_to_clients(image);
    let brokers = known.filter_map(|broker| {
        let endpoint = leaders::endpoint(image, &query.listener, broker)?;
        Some(MetadataResponseBroker {
            node_id: endpoint.id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
        })
    });
    let brokers: Vec<_> = brokers.collect();
    // One that is not among the brokers would be looked for in vain.
    let controller = broker.metadata.controller_id().map(|id| id.0);
    let controller = controller.filter(|id| brokers.iter().any(|broker| broker.node_id == *id));
    let topics = match &query.topics {
        None => image
            .topics()
            .map(|topic| describe(image, topic, query))
            .collect(),
        Some(wanted) => wanted
            .iter()
            .map(|wanted| describe_wanted(image, wanted, query, refused))
            .collect(),
    };
    MetadataResponse {
        brokers,
        cluster_id: broker.metadata.cluster_id().map(|id| id.to_string()),
        controller_id: controller.unwrap_or(-1),
        topics,
        cluster_authorized_operations: if query.with_cluster_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..MetadataResponse::default()
    }
}

fn describe_wanted(
    image: &Image,
    wanted: &Wanted,
    query: &Query,
    refused: &BTreeSet<String>,
) -> MetadataResponseTopic {
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
                let is_name =
                    weir_quorum::topics::check_name(name).is_ok() && !refused.contains(name);
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
    let reaches = |id: &weir_quorum::BrokerId| {
        let broker = image.broker(*id);
        broker.is_some_and(|broker| image.address(broker, &query.listener).is_some())
    };
    let ids = |brokers: &[weir_quorum::BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let partitions = (0..).zip(&topic.partitions).map(|(index, partition)| {
        let alive = partition.leader.filter(is_live);
        let leader = alive.filter(reaches);
        let error = match (leader, alive) {
            (Some(_), _) => ErrorCode::None,
            (None, Some(_)) if query.version >= LISTENER_ERRORS_FROM => ErrorCode::ListenerNotFound,
            (None, _) => ErrorCode::LeaderNotAvailable,
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
