//! The metadata image, as coordinators look at it.

use std::sync::Arc;

use weir_groups::{Cluster, GroupSettings, MigrationPolicy, TopicInfo};
use weir_quorum::configs::{self, Settings};
use weir_quorum::image::{Image, Topic};
use weir_wire::TopicId;

use crate::quorum::Metadata;

/// One image of the cluster's metadata.
#[derive(Debug)]
pub(super) struct Seen {
    image: Arc<Image>,
    metadata: Metadata,
}

impl Seen {
    /// The newest image.
    pub(super) fn newest(metadata: &Metadata) -> Self {
        Self {
            image: metadata.image(),
            metadata: metadata.clone(),
        }
    }
}

impl Cluster for Seen {
    fn revision(&self) -> u64 {
        self.image.revision()
    }

    fn topic(&self, name: &str) -> Option<TopicInfo> {
        self.image.topic(name).map(info)
    }

    fn topic_by_id(&self, id: TopicId) -> Option<TopicInfo> {
        self.image.topic_by_id(weir_quorum::TopicId(id.0)).map(info)
    }

    fn each_name(&self, each: &mut dyn FnMut(&str)) {
        for topic in self.image.topics() {
            each(&topic.name);
        }
    }

    fn racks(&self, topic: TopicId, partition: i32) -> Vec<Arc<str>> {
        let topic = self.image.topic_by_id(weir_quorum::TopicId(topic.0));
        let partition = topic.and_then(|topic| topic.partition(partition));
        let replicas = partition.iter().flat_map(|partition| &partition.replicas);
        let brokers = replicas.filter_map(|replica| self.image.broker(*replica));
        let mut racks: Vec<Arc<str>> = brokers
            .filter_map(|broker| broker.rack.as_deref().map(Arc::from))
            .collect();
        racks.sort_unstable();
        racks.dedup();
        racks
    }

    fn group_settings(&self, group: &str) -> GroupSettings {
        let (image, settings) = (&*self.image, self.metadata.settings());
        let config = configs::group_config(image, settings, group);
        GroupSettings {
            consumer_heartbeat_interval_ms: config.consumer_heartbeat_interval_ms,
            consumer_session_timeout_ms: config.consumer_session_timeout_ms,
            share_heartbeat_interval_ms: config.share_heartbeat_interval_ms,
            share_session_timeout_ms: config.share_session_timeout_ms,
            consumer_migration: migration_policy(image, settings),
            is_paused: config.weir_paused,
        }
    }
}

fn info(topic: &Arc<Topic>) -> TopicInfo {
    TopicInfo {
        id: TopicId(topic.id.0),
        name: Arc::clone(&topic.name),
        partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
    }
}

fn migration_policy(image: &Image, settings: &Settings) -> MigrationPolicy {
    let Ok(def) = configs::broker_def("group.consumer.migration.policy") else {
        return MigrationPolicy::default();
    };
    let effective = configs::effective_broker(image, settings, None, def);
    match effective.value() {
        "disabled" => MigrationPolicy::Disabled,
        "upgrade" => MigrationPolicy::Upgrade,
        "downgrade" => MigrationPolicy::Downgrade,
        _ => MigrationPolicy::Bidirectional,
    }
}
