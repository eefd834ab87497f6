//! The partitions that this broker holds, as the metadata says.
//!
//! [`Partitions`] owns the open logs and the lanes that write them. It follows the metadata's image: opens what is to be here, takes over
//! configurations, deletes what is gone. What always holds: a log is deleted only under an image that is known to be current,
//! and only when its topic's id is in it no more; what was on disk when the process began is open before the broker
//! calls itself ready.

mod gate;
mod partition;
pub mod prepare;
mod registry;
mod replica;
mod stored;
mod transactions;
mod watermark;

pub use partition::{Counters, Partition};
pub use registry::{PartitionError, Partitions};
pub(crate) use replica::Standing;
pub use replica::{NotFed, Progress, Replica, Until, Wake};
pub use stored::Watermarks;
pub use transactions::{Marker, OfTransaction};
pub use watermark::{Isolation, WakeGuard, Watermark};

use weir_log::PartitionKey;
use weir_quorum::image::Topic;
use weir_wire::{PartitionIndex, TopicId};

/// How the log names a partition of a topic.
pub(crate) fn key_of(topic: &Topic, index: i32) -> PartitionKey {
    PartitionKey {
        topic_id: TopicId(topic.id.0),
        partition: PartitionIndex(index),
    }
}

use weir_log::{Compaction, LogConfig};
use weir_quorum::configs::{Durability, TimestampType, TopicConfig};

/// How long a silent producer is remembered where a topic is a queue.
const QUEUE_PRODUCER_EXPIRY_MS: i64 = 7 * 24 * 3_600_000;

/// What a topic's configuration means for its partitions' logs.
pub(crate) fn log_config(topic: &TopicConfig) -> LogConfig {
    let unbounded_below_zero = |value: i64| u64::try_from(value).ok();
    LogConfig {
        durability: match topic.durability {
            Durability::Fsync => weir_log::Durability::Fsync,
            Durability::Replicated => weir_log::Durability::Replicated,
            Durability::Os => weir_log::Durability::Os,
        },
        segment_bytes: u64::try_from(topic.segment_bytes).unwrap_or(u64::MAX),
        segment_ms: topic.segment_ms,
        segment_jitter_ms: topic.segment_jitter_ms,
        compaction: topic.cleanup_policy.compact.then_some(Compaction {
            // Between 0 and 1: that was checked when it was set.
            dirty_ratio_min_ppm: (topic.min_cleanable_dirty_ratio * 1e6) as u32,
            lag_min_ms: topic.min_compaction_lag_ms,
            lag_max_ms: topic.max_compaction_lag_ms,
            delete_retention_ms: topic.delete_retention_ms,
        }),
        // A compacted topic keeps the last record of each key for ever.
        retention_ms: topic
            .cleanup_policy
            .delete
            .then_some(topic.retention_ms)
            .filter(|ms| *ms >= 0),
        retention_bytes: topic
            .cleanup_policy
            .delete
            .then_some(topic.retention_bytes)
            .and_then(unbounded_below_zero),
        index_interval_bytes: u64::try_from(topic.index_interval_bytes).unwrap_or(0),
        timestamp_type: match topic.message_timestamp_type {
            TimestampType::CreateTime => weir_log::TimestampType::CreateTime,
            TimestampType::LogAppendTime => weir_log::TimestampType::LogAppendTime,
        },
        begins_at_zero: topic.queue.is_some(),
        producer_expiry_ms: match topic.queue {
            // Here a producer that is not known any more has to begin anew.
            Some(_) => QUEUE_PRODUCER_EXPIRY_MS,
            None => LogConfig::default().producer_expiry_ms,
        },
        ..LogConfig::default()
    }
}
