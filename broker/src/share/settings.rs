//! What is set for share groups, for all of them and for one.

use std::time::Duration;

use std::sync::Arc;

use weir_groups::share::{RetryConfig, ShareConfig};
use weir_log::mutants::Mutant;
use weir_queues::filter::Filter;
use weir_queues::retry::Backoffs;
use weir_quorum::configs::{GroupConfig, OffsetReset, SharingConfig};

use crate::partitions::Isolation;

/// Bounds that hold for all share groups of this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// `group.share.max.share.sessions`: each is a member's claim on a broker, of some kilobytes.
    pub sessions_max: usize,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            sessions_max: 2_000,
        }
    }
}

/// What holds for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The bounds of its share-partitions.
    pub engine: ShareConfig,
    /// Where it begins.
    pub start_at: StartAt,
    /// What its members may read.
    pub isolation: Isolation,
    /// Whether its members may renew their locks.
    pub may_renew: bool,
}

/// What a group asks beyond delivery as Kafka has it, read once. Most groups ask for none of it.
#[derive(Debug)]
pub struct Sharing {
    /// As it was written.
    pub config: SharingConfig,
    /// Which records it is given.
    pub filter: Option<Filter>,
}

impl Sharing {
    /// Reads it. What cannot be read was refused when it was written; a version that let it pass is followed in nothing.
    #[must_use]
    pub fn of(config: SharingConfig) -> Arc<Self> {
        let is_filtered = !config.filter.is_empty() && !Mutant::FilterForgotten.is_active();
        Arc::new(Self {
            filter: is_filtered
                .then(|| Filter::parse("", &config.filter).ok())
                .flatten(),
            config,
        })
    }

    /// What the engine makes of it; nothing for a group that only filters.
    #[must_use]
    pub fn retry(&self) -> Option<RetryConfig> {
        let retry = RetryConfig {
            backoffs: match Mutant::ForgetBackoff.is_active() {
                true => Backoffs::default(),
                false => Backoffs::parse(&self.config.retry_backoff).unwrap_or_default(),
            },
            given_up_max: self.config.dead_letter_rate_max,
            has_dead_letters: self.config.dead_letter_topic.is_some(),
        };
        (retry != RetryConfig::default()).then_some(retry)
    }
}

/// Where a group begins in a partition that it has never read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With what is there.
    Earliest,
    /// With what comes.
    Latest,
    /// With what came in this time.
    Ago(Duration),
}

impl GroupSettings {
    /// From the group's configuration.
    #[must_use]
    pub fn of(config: &GroupConfig) -> Self {
        Self {
            engine: ShareConfig {
                lock_ms: match u64::try_from(config.share_record_lock_duration_ms).unwrap_or(0) {
                    ms if Mutant::HandOutTwice.is_active() => ms / 4,
                    ms => ms,
                },
                deliveries_max: i16::try_from(config.share_delivery_count_limit)
                    .unwrap_or(i16::MAX),
                records_max: i64::from(config.share_partition_max_record_locks),
            },
            start_at: match config.share_auto_offset_reset {
                OffsetReset::Earliest => StartAt::Earliest,
                OffsetReset::Latest => StartAt::Latest,
                OffsetReset::ByDuration(ms) => {
                    StartAt::Ago(Duration::from_millis(u64::try_from(ms).unwrap_or(0)))
                }
            },
            isolation: if config.share_is_read_committed {
                Isolation::ReadCommitted
            } else {
                Isolation::ReadUncommitted
            },
            may_renew: config.share_renew_acknowledge_enable,
        }
    }
}
