//! DescribeTopicPartitions: partitions page by page, with the replicas that may be elected (KIP-966).

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::image::{Image, Partition, Topic};
use weir_wire::messages::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use weir_wire::messages::{DescribeTopicPartitionsRequestView, DescribeTopicPartitionsResponse};

use super::k03_metadata::TOPIC_OPERATIONS;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// Partitions in one response, whatever the client asks for: Kafka's default for this bound.
const PARTITIONS_MAX: usize = 2_000;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeTopicPartitionsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let names: BTreeSet<&str> = if view.topics.is_empty() {
        image.topics().map(|topic| &*topic.name).collect()
    } else {
        view.topics.iter().map(|topic| topic.name).collect()
    };
    let (first_topic, first_index) = view.cursor.map_or(("", 0), |cursor| {
        (cursor.topic_name, cursor.partition_index)
    });
    let mut left = usize::try_from(view.response_partition_limit)
        .unwrap_or(0)
        .clamp(1, PARTITIONS_MAX);
    let mut response = DescribeTopicPartitionsResponse::default();
    for name in names.into_iter().filter(|name| *name >= first_topic) {
        if left == 0 {
            response.next_cursor = Some(Cursor {
                topic_name: name.to_owned(),
                partition_index: 0,
            });
            break;
        }
        let Some(topic) = image.topic(name) else {
            response.topics.push(unknown(name));
            continue;
        };
        let from = if name == first_topic {
            usize::try_from(first_index).unwrap_or(0)
        } else {
            0
        };
        let described = describe(&image, topic, from, left);
        left -= described.partitions.len();
        let next = from + described.partitions.len();
        response.topics.push(described);
        if next < topic.partitions.len() {
            let partition_index = i32::try_from(next).unwrap_or(i32::MAX);
            response.next_cursor = Some(Cursor {
                topic_name: name.to_owned(),
                partition_index,
            });
            break;
        }
    }
    request.answer(&response)
}

fn unknown(name: &str) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        name: Some(name.to_owned()),
        topic_authorized_operations: TOPIC_OPERATIONS,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

fn describe(
    image: &Image,
    topic: &Topic,
    from: usize,
    count: usize,
) -> DescribeTopicPartitionsResponseTopic {
    let partitions = (0..).zip(&topic.partitions).skip(from).take(count);
    DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::None.code(),
        name: Some(topic.name.to_string()),
        topic_id: topic.id.0,
        is_internal: topic.is_internal(),
        partitions: partitions
            .map(|(index, partition)| describe_partition(image, index, partition))
            .collect(),
        topic_authorized_operations: TOPIC_OPERATIONS,
    }
}

fn describe_partition(
    image: &Image,
    index: i32,
    partition: &Partition,
) -> DescribeTopicPartitionsResponsePartition {
    let is_live =
        |id: &weir_quorum::BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let ids = |brokers: &[weir_quorum::BrokerId]| brokers.iter().map(|id| id.0).collect::<Vec<_>>();
    let leader = partition.leader.filter(is_live);
    let error = if leader.is_some() {
        ErrorCode::None
    } else {
        ErrorCode::LeaderNotAvailable
    };
    DescribeTopicPartitionsResponsePartition {
        error_code: error.code(),
        partition_index: index,
        leader_id: leader.map_or(-1, |id| id.0),
        leader_epoch: partition.leader_epoch.0,
        replica_nodes: ids(&partition.replicas),
        isr_nodes: ids(&partition.isr),
        eligible_leader_replicas: Some(ids(&partition.elr)),
        last_known_elr: Some(Vec::new()),
        offline_replicas: partition
            .replicas
            .iter()
            .filter(|id| !is_live(id))
            .map(|id| id.0)
            .collect(),
    }
}
