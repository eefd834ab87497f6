//! From the broker's configuration to the coordinators'.

use std::time::Duration;

use weir_groups::Config;

use crate::config::GroupConfig;

/// What the configuration file says about groups; the rest is the coordinators' default.
#[must_use]
pub fn coordinator_config(groups: &GroupConfig) -> Config {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let i32_ms = |duration: Duration| i32::try_from(duration.as_millis()).unwrap_or(i32::MAX);
    Config {
        initial_rebalance_delay_ms: ms(groups.initial_rebalance_delay),
        session_timeout_ms_min: i32_ms(groups.session_timeout_min),
        session_timeout_ms_max: i32_ms(groups.session_timeout_max),
        group_size_max: usize::try_from(groups.members_max).unwrap_or(usize::MAX),
        offsets_retention_ms: i64::try_from(groups.offsets_retention.as_millis())
            .unwrap_or(i64::MAX),
        ..Config::default()
    }
}
