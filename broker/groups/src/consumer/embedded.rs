//! What members of the classic protocol tell each other, as far as the coordinator has to speak it for them.
//!
//! Kafka's `ConsumerProtocolSubscription` and `ConsumerProtocolAssignment`, each behind a version number.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use weir_wire::PartitionIndex;
use weir_wire::message::{Message, MessageView};
use weir_wire::messages::consumer_protocol_assignment::TopicPartition as AssignedPartitions;
use weir_wire::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolAssignmentView, ConsumerProtocolSubscription,
    ConsumerProtocolSubscriptionView,
};

use crate::cluster::Cluster;
use crate::modern::{Partitions, TopicPartition, by_topic};

/// What a member subscribes to.
pub(super) struct Subscription<'a> {
    pub(super) version: i16,
    pub(super) topics: Vec<&'a str>,
    pub(super) rack: Option<&'a str>,
    pub(super) owned: Partitions,
}

/// Reads a subscription. Partitions of topics that are gone are left out. A newer version is read as the newest known.
pub(super) fn subscription<'a>(cluster: &dyn Cluster, bytes: &'a [u8]) -> Option<Subscription<'a>> {
    let (version, bytes) = split(bytes, *ConsumerProtocolSubscription::VERSIONS.end())?;
    let view = ConsumerProtocolSubscriptionView::decode(bytes, version).ok()?;
    let owned = view.owned_partitions.iter();
    let owned = owned.flat_map(|topic| places(cluster, topic.topic, topic.partitions.iter()));
    Some(Subscription {
        version,
        topics: view.topics.iter().collect(),
        rack: view.rack_id,
        owned: owned.collect(),
    })
}

/// Reads an assignment: none when it is malformed, or carries what only its assignor understands.
pub(super) fn assignment(cluster: &dyn Cluster, bytes: &[u8]) -> Option<Partitions> {
    if bytes.is_empty() {
        return Some(Partitions::new());
    }
    let (version, bytes) = split(bytes, *ConsumerProtocolAssignment::VERSIONS.end())?;
    let view = ConsumerProtocolAssignmentView::decode(bytes, version).ok()?;
    if view.user_data.is_some_and(|data| !data.is_empty()) {
        return None;
    }
    let assigned = view.assigned_partitions.iter();
    Some(
        assigned
            .flat_map(|topic| places(cluster, topic.topic, topic.partitions.iter()))
            .collect(),
    )
}

/// Writes an assignment as a client of this version of the subscription reads it.
pub(super) fn encode_assignment(
    cluster: &dyn Cluster,
    partitions: impl Iterator<Item = TopicPartition>,
    version: i16,
) -> Bytes {
    let named: BTreeMap<_, _> = by_topic(partitions)
        .into_iter()
        .filter_map(|(id, partitions)| Some((cluster.topic_by_id(id)?.name, partitions)))
        .collect();
    let assigned = named
        .into_iter()
        .map(|(topic, partitions)| AssignedPartitions {
            topic: topic.to_string(),
            partitions,
        });
    let message = ConsumerProtocolAssignment {
        assigned_partitions: assigned.collect(),
        user_data: None,
    };
    let version = version.clamp(0, *ConsumerProtocolAssignment::VERSIONS.end());
    let mut bytes = BytesMut::new();
    bytes.put_i16(version);
    // Names come from the metadata and are short: they always fit.
    bytes.put_slice(&message.to_bytes(version).unwrap_or_default());
    bytes.freeze()
}

fn places(
    cluster: &dyn Cluster,
    topic: &str,
    partitions: impl Iterator<Item = i32>,
) -> impl Iterator<Item = TopicPartition> {
    let found = cluster.topic(topic);
    partitions.filter_map(move |partition| {
        let found = found.as_ref()?;
        (0..found.partitions)
            .contains(&partition)
            .then_some(TopicPartition {
                topic: found.id,
                partition: PartitionIndex(partition),
            })
    })
}

fn split(bytes: &[u8], newest: i16) -> Option<(i16, &[u8])> {
    let (version, bytes) = bytes.split_first_chunk::<2>()?;
    let version = i16::from_be_bytes(*version);
    (version >= 0).then_some((version.min(newest), bytes))
}
