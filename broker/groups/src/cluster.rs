//! What a coordinator knows of the cluster: topics and the settings of groups.
//!
//! The broker's metadata is an immutable image that is swapped when something changes. The coordinator is given each one
//! ([`crate::Coordinator::set_cluster`]) and keeps it until the next: it asks it in the middle of a decision, so nothing is
//! copied and nothing waits. What always holds: everything that a coordinator decides in one call is decided on one
//! image.

use std::fmt::Debug;
use std::sync::Arc;

use weir_wire::TopicId;

/// A topic as groups see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicInfo {
    /// Tells it from an earlier one of the same name.
    pub id: TopicId,
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions it has; they are numbered from 0.
    pub partitions: i32,
}

/// An image of the cluster's metadata. It never changes.
pub trait Cluster: Debug + Send + Sync {
    /// Grows whenever anything in the image changes; two images of one revision are the same.
    fn revision(&self) -> u64;

    /// The topic of this name.
    fn topic(&self, name: &str) -> Option<TopicInfo>;

    /// The topic of this id.
    fn topic_by_id(&self, id: TopicId) -> Option<TopicInfo>;

    /// Calls `each` with the name of every topic, in the order of names.
    fn each_name(&self, each: &mut dyn FnMut(&str));

    /// The racks of a partition's replicas, sorted, each once; those of unknown racks are left out.
    fn racks(&self, topic: TopicId, partition: i32) -> Vec<Arc<str>>;

    /// The settings of a group: its own, or those of the cluster for all groups.
    fn group_settings(&self, group: &str) -> GroupSettings;
}

/// A cluster of which nothing is known yet.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCluster;

impl Cluster for NoCluster {
    fn revision(&self) -> u64 {
        0
    }

    fn topic(&self, _: &str) -> Option<TopicInfo> {
        None
    }

    fn topic_by_id(&self, _: TopicId) -> Option<TopicInfo> {
        None
    }

    fn each_name(&self, _: &mut dyn FnMut(&str)) {}

    fn racks(&self, _: TopicId, _: i32) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn group_settings(&self, _: &str) -> GroupSettings {
        GroupSettings::default()
    }
}

/// Settings of one group, in force now. Kafka's configurations of the same names, those of resource `GROUP` and of brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// `consumer.heartbeat.interval.ms`: how often members of a consumer group are asked to heartbeat.
    pub consumer_heartbeat_interval_ms: i32,
    /// `consumer.session.timeout.ms`: how long a member of a consumer group may be silent.
    pub consumer_session_timeout_ms: i32,
    /// `share.heartbeat.interval.ms`: how often members of a share group are asked to heartbeat.
    pub share_heartbeat_interval_ms: i32,
    /// `share.session.timeout.ms`: how long a member of a share group may be silent.
    pub share_session_timeout_ms: i32,
    /// `group.consumer.migration.policy`.
    pub consumer_migration: MigrationPolicy,
    /// `weir.paused`: its members are to have no partitions.
    pub is_paused: bool,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            consumer_heartbeat_interval_ms: 5_000,
            consumer_session_timeout_ms: 45_000,
            share_heartbeat_interval_ms: 5_000,
            share_session_timeout_ms: 45_000,
            consumer_migration: MigrationPolicy::Bidirectional,
            is_paused: false,
        }
    }
}

/// Which groups may change between the classic and the consumer protocol while they have members.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// None.
    Disabled,
    /// Classic groups become consumer groups.
    Upgrade,
    /// Consumer groups become classic groups.
    Downgrade,
    /// Both.
    #[default]
    Bidirectional,
}

impl MigrationPolicy {
    /// Whether classic groups may become consumer groups.
    #[must_use]
    pub const fn may_upgrade(self) -> bool {
        matches!(self, Self::Upgrade | Self::Bidirectional)
    }

    /// Whether consumer groups may become classic groups.
    #[must_use]
    pub const fn may_downgrade(self) -> bool {
        matches!(self, Self::Downgrade | Self::Bidirectional)
    }
}
