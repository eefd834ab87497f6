//! A topic's configuration with every value in its type, as the log and the request handlers want it.

use weir_queues::priority::Choice;

use super::topic::{MESSAGE_TTL, ORDER, PRIORITY};
use super::{
    DEDUPLICATION_WINDOW, DELAY_MAX, Settings, TOPIC, TRACE_RATIO, VIEW_FILTER, VIEW_OF,
    ViewConfig, effective_topic, in_sync_min, list,
};
use crate::image::{Image, Topic};

/// What acknowledged means for a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// On the disks of the in-sync replicas.
    #[default]
    Fsync,
    /// Received by the in-sync replicas, and synced in the background.
    Replicated,
    /// Received by the in-sync replicas, and left to the kernel.
    Os,
}

/// What happens to a topic's old records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanupPolicy {
    /// They are removed by time and size.
    pub delete: bool,
    /// The last of each key stays.
    pub compact: bool,
}

/// Whose clock stamps records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The leader's.
    LogAppendTime,
}

/// What becomes of a batch that does not fit into a bounded queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It is refused for good.
    #[default]
    Reject,
    /// It is refused for the moment.
    Throttle,
    /// The oldest messages make room.
    DropOldest,
}

/// What a bound is the bound of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Each partition by itself.
    #[default]
    Partition,
    /// The whole topic, whose leader of partition 0 leases it to the partitions.
    Topic,
}

/// What makes a topic more than a log. A plain topic has none of it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConfig {
    /// The share group whose unsettled messages are the backlog.
    pub group: Option<String>,
    /// Messages that may be unsettled.
    pub max_messages: Option<u64>,
    /// Their bytes.
    pub max_bytes: Option<u64>,
    /// Of each partition, or of the topic.
    pub scope: Scope,
    /// What becomes of more.
    pub overflow: Overflow,
    /// How far ahead a message may be due; 0: no further one is taken, and those that wait come when they are due.
    pub delay_max_ms: Option<u64>,
    /// For how long ids of messages are remembered.
    pub deduplication_window_ms: Option<u64>,
    /// Which part of messages is traced, if any.
    pub trace_ratio: Option<f64>,
    /// What it is a view of.
    pub view: Option<ViewConfig>,
}

impl QueueConfig {
    /// Whether there is a bound.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.max_messages.is_some() || self.max_bytes.is_some()
    }
}

/// A topic's configuration. Fields are named as the configurations are.
#[derive(Clone, Debug, PartialEq)]
#[allow(
    missing_docs,
    reason = "each field is the configuration of its name, documented in the table"
)]
pub struct TopicConfig {
    pub cleanup_policy: CleanupPolicy,
    pub compression_gzip_level: i32,
    pub compression_lz4_level: i32,
    pub compression_type: String,
    pub compression_zstd_level: i32,
    pub delete_retention_ms: i64,
    pub durability: Durability,
    pub file_delete_delay_ms: i64,
    pub index_interval_bytes: i32,
    /// `weir.queue.order` is `key`.
    pub is_ordered_by_key: bool,
    pub max_compaction_lag_ms: i64,
    pub max_message_bytes: i32,
    /// `weir.queue.message.ttl.ms`, if there is one.
    pub message_age_max_ms: Option<u64>,
    pub message_timestamp_after_max_ms: i64,
    pub message_timestamp_before_max_ms: i64,
    pub message_timestamp_type: TimestampType,
    pub min_cleanable_dirty_ratio: f64,
    pub min_compaction_lag_ms: i64,
    pub min_insync_replicas: i32,
    /// `weir.queue.priority`, where messages have priorities.
    pub priority: Option<Choice>,
    /// `weir.queue.*`, when any of it has an effect: whether a topic is plain is one look at this.
    pub queue: Option<QueueConfig>,
    pub retention_bytes: i64,
    pub retention_ms: i64,
    pub segment_bytes: i32,
    pub segment_index_bytes: i32,
    pub segment_jitter_ms: i64,
    pub segment_ms: i64,
    pub unclean_leader_election_enable: bool,
}

impl TopicConfig {
    /// The configuration of a topic on this broker.
    pub fn resolve(image: &Image, settings: &Settings, topic: &Topic) -> Self {
        let text = |name: &str| {
            TOPIC
                .iter()
                .find(|def| def.name == name)
                .map(|def| {
                    effective_topic(image, settings, topic, def)
                        .value()
                        .trim()
                        .to_owned()
                })
                .unwrap_or_default()
        };
        // A value was checked when it was set; one that an older version let pass counts as its default.
        let long = |name: &str| text(name).parse().unwrap_or_else(|_| default_number(name));
        let int = |name: &str| i32::try_from(long(name)).unwrap_or(i32::MAX);
        let policy = text("cleanup.policy");
        let is_compacted = list(&policy).any(|member| member == "compact");
        Self {
            cleanup_policy: CleanupPolicy {
                delete: list(&policy).any(|member| member == "delete"),
                compact: is_compacted,
            },
            compression_gzip_level: int("compression.gzip.level"),
            compression_lz4_level: int("compression.lz4.level"),
            compression_type: text("compression.type"),
            compression_zstd_level: int("compression.zstd.level"),
            delete_retention_ms: long("delete.retention.ms"),
            durability: match text("durability").as_str() {
                "os" => Durability::Os,
                "replicated" => Durability::Replicated,
                _ => Durability::Fsync,
            },
            file_delete_delay_ms: long("file.delete.delay.ms"),
            index_interval_bytes: int("index.interval.bytes"),
            is_ordered_by_key: text(ORDER) == "key",
            max_compaction_lag_ms: long("max.compaction.lag.ms"),
            max_message_bytes: int("max.message.bytes"),
            message_age_max_ms: text(MESSAGE_TTL).parse().ok(),
            message_timestamp_after_max_ms: long("message.timestamp.after.max.ms"),
            message_timestamp_before_max_ms: long("message.timestamp.before.max.ms"),
            message_timestamp_type: match text("message.timestamp.type").as_str() {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            min_cleanable_dirty_ratio: text("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: long("min.compaction.lag.ms"),
            min_insync_replicas: i32::try_from(in_sync_min(image, settings, topic))
                .unwrap_or(i32::MAX),
            priority: match text(PRIORITY).as_str() {
                "strict" => Some(Choice::Strict),
                "weighted" => Some(Choice::Weighted),
                _ => None,
            },
            queue: queue(&text, is_compacted),
            retention_bytes: long("retention.bytes"),
            retention_ms: long("retention.ms"),
            segment_bytes: int("segment.bytes"),
            segment_index_bytes: int("segment.index.bytes"),
            segment_jitter_ms: long("segment.jitter.ms"),
            segment_ms: long("segment.ms"),
            unclean_leader_election_enable: text("unclean.leader.election.enable") == "true",
        }
    }
}

fn queue(text: &impl Fn(&str) -> String, is_compacted: bool) -> Option<QueueConfig> {
    let number = |name: &str| text(name).parse::<u64>().ok();
    let config = QueueConfig {
        group: Some(text("weir.queue.group")).filter(|group| !group.is_empty()),
        max_messages: number("weir.queue.max.messages"),
        max_bytes: number("weir.queue.max.bytes"),
        scope: match text("weir.queue.max.scope").as_str() {
            "topic" => Scope::Topic,
            _ => Scope::Partition,
        },
        overflow: match text("weir.queue.overflow").as_str() {
            "throttle" => Overflow::Throttle,
            "drop_oldest" => Overflow::DropOldest,
            _ => Overflow::Reject,
        },
        // Compaction would take away what waits.
        delay_max_ms: number(DELAY_MAX).filter(|_| !is_compacted),
        deduplication_window_ms: number(DEDUPLICATION_WINDOW),
        trace_ratio: text(TRACE_RATIO).parse().ok().filter(|ratio| *ratio > 0.0),
        view: Some(text(VIEW_OF))
            .filter(|of| !of.is_empty())
            .map(|of| ViewConfig {
                of,
                filter: text(VIEW_FILTER),
            }),
    };
    let looks_at_records = config.delay_max_ms.or(config.deduplication_window_ms);
    let is_any = config.is_bounded()
        || looks_at_records.is_some()
        || config.trace_ratio.is_some()
        || config.view.is_some();
    is_any.then_some(config)
}

fn default_number(name: &str) -> i64 {
    TOPIC
        .iter()
        .find(|def| def.name == name)
        .and_then(|def| def.default.parse().ok())
        .unwrap_or_default()
}
