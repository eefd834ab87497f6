//! What is set for share groups, for all of them and for one.

use std::time::Duration;

use weir_groups::share::ShareConfig;
use weir_quorum::configs::{GroupConfig, OffsetReset};

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
                lock_ms: u64::try_from(config.share_record_lock_duration_ms).unwrap_or(0),
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
