//! Cluster and topics as the operator sees them, from the image and from what this broker knows of itself.

use weir_proto::admin::v1 as proto;
use weir_quorum::image::{Image, Topic};

use crate::Broker;

/// The cluster. What lies on disks is known of the answering broker only, and 0 for the others.
pub(super) async fn cluster(broker: &Broker) -> proto::DescribeClusterResponse {
    let image = broker.metadata.image();
    let me = broker.metadata.broker_id();
    let space = broker.disk_space().await;
    let brokers = image.brokers().map(|known| {
        let is_me = known.id == me;
        let own = |value: u64| if is_me { value } else { 0 };
        let replicas = image.partitions_on(known.id).count();
        let leaders = image.partitions_led_by(known.id).count();
        proto::Broker {
            id: known.id.0,
            incarnation: known.incarnation.to_string(),
            address: known.kafka.to_string(),
            rack: known.rack.clone().unwrap_or_default(),
            alive: !known.fenced,
            version: known.version.clone(),
            replicas: count(replicas),
            leaders: count(leaders),
            log_bytes: own(broker
                .partitions
                .all()
                .iter()
                .map(|partition| partition.reader().size_bytes())
                .sum()),
            disk_available_bytes: own(space.map_or(0, |space| space.available_bytes)),
            disk_total_bytes: own(space.map_or(0, |space| space.total_bytes)),
            cordoned: known.cordoned,
        }
    });
    proto::DescribeClusterResponse {
        cluster_id: broker
            .metadata
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        controller_id: broker.metadata.controller_id().map(|id| id.0),
        brokers: brokers.collect(),
        metadata_index: image.index(),
        voters: broker
            .metadata
            .voters()
            .into_iter()
            .map(|id| id.0)
            .collect(),
        feature_level: image.feature_level(),
    }
}

/// Topics by name, or all.
pub(super) fn topics(broker: &Broker, names: &[String]) -> proto::DescribeTopicsResponse {
    let image = broker.metadata.image();
    let topics = if names.is_empty() {
        image.topics().map(|found| topic(&image, found)).collect()
    } else {
        names
            .iter()
            .filter_map(|name| image.topic(name))
            .map(|found| topic(&image, found))
            .collect()
    };
    proto::DescribeTopicsResponse { topics }
}

fn topic(image: &Image, topic: &Topic) -> proto::Topic {
    let has_live_leader = |leader: Option<weir_quorum::BrokerId>| {
        leader
            .and_then(|id| image.broker(id))
            .is_some_and(|broker| !broker.fenced)
    };
    let offline = topic
        .partitions
        .iter()
        .filter(|partition| !has_live_leader(partition.leader))
        .count();
    let under_replicated = topic
        .partitions
        .iter()
        .filter(|partition| partition.isr.len() < partition.replicas.len())
        .count();
    proto::Topic {
        name: topic.name.to_string(),
        id: topic.id.to_string(),
        partitions: count(topic.partitions.len()),
        replication_factor: count(topic.replication_factor()),
        config: topic.config.clone().into_iter().collect(),
        internal: topic.is_internal(),
        offline_partitions: count(offline),
        under_replicated_partitions: count(under_replicated),
    }
}

fn count(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
