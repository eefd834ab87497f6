//! A group's configuration with every value in its type, as the coordinators of consumer and share groups want it.

use std::collections::BTreeMap;

use super::{Settings, cluster_number, effective_group, group_def, period, sharing};
use crate::error::{ControlError, ErrorName};
use crate::image::Image;

/// Where a share group begins that has read nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReset {
    /// At the end.
    Latest,
    /// At the beginning.
    Earliest,
    /// At what was written so many milliseconds ago.
    ByDuration(i64),
}

impl OffsetReset {
    /// Reads `latest`, `earliest` or `by_duration:PT1H`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "latest" => Some(Self::Latest),
            "earliest" => Some(Self::Earliest),
            _ => period::parse_ms(text.strip_prefix("by_duration:")?).map(Self::ByDuration),
        }
    }
}

/// A group's configuration. Fields are named as the configurations are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each field is the configuration of its name, documented in the table"
)]
pub struct GroupConfig {
    pub consumer_assignment_interval_ms: i32,
    pub consumer_heartbeat_interval_ms: i32,
    pub consumer_session_timeout_ms: i32,
    pub share_assignment_interval_ms: i32,
    pub share_auto_offset_reset: OffsetReset,
    pub share_delivery_count_limit: i32,
    pub share_heartbeat_interval_ms: i32,
    pub share_is_read_committed: bool,
    pub share_partition_max_record_locks: i32,
    pub share_record_lock_duration_ms: i32,
    pub share_renew_acknowledge_enable: bool,
    pub share_session_timeout_ms: i32,
    pub weir_paused: bool,
}

/// The configuration that pauses a group: Weir's own.
pub const PAUSED: &str = "weir.paused";

/// A group's number, and the broker's least and greatest for it.
const RANGES: [(&str, &str, &str); 9] = [
    (
        "consumer.assignment.interval.ms",
        "group.consumer.min.assignment.interval.ms",
        "group.consumer.max.assignment.interval.ms",
    ),
    (
        "consumer.heartbeat.interval.ms",
        "group.consumer.min.heartbeat.interval.ms",
        "group.consumer.max.heartbeat.interval.ms",
    ),
    (
        "consumer.session.timeout.ms",
        "group.consumer.min.session.timeout.ms",
        "group.consumer.max.session.timeout.ms",
    ),
    (
        "share.assignment.interval.ms",
        "group.share.min.assignment.interval.ms",
        "group.share.max.assignment.interval.ms",
    ),
    (
        "share.delivery.count.limit",
        "group.share.min.delivery.count.limit",
        "group.share.max.delivery.count.limit",
    ),
    (
        "share.heartbeat.interval.ms",
        "group.share.min.heartbeat.interval.ms",
        "group.share.max.heartbeat.interval.ms",
    ),
    (
        "share.partition.max.record.locks",
        "group.share.min.partition.max.record.locks",
        "group.share.max.partition.max.record.locks",
    ),
    (
        "share.record.lock.duration.ms",
        "group.share.min.record.lock.duration.ms",
        "group.share.max.record.lock.duration.ms",
    ),
    (
        "share.session.timeout.ms",
        "group.share.min.session.timeout.ms",
        "group.share.max.session.timeout.ms",
    ),
];

fn range(image: &Image, settings: &Settings, name: &str) -> Option<(i64, i64)> {
    let (_, min, max) = RANGES.iter().find(|(group, _, _)| *group == name)?;
    let number = |name| cluster_number(image, settings, name).ok();
    Some((number(min)?, number(max)?))
}

/// The configuration of a group, whether or not anything was set for it. A value that was set while the broker's bounds
/// were others is taken for the nearest that they allow now.
pub fn group_config(image: &Image, settings: &Settings, group: &str) -> GroupConfig {
    let text = |name: &str| {
        group_def(name)
            .map(|def| {
                effective_group(image, settings, group, def)
                    .value()
                    .trim()
                    .to_owned()
            })
            .unwrap_or_default()
    };
    // A value was checked when it was set; one that an older version let pass counts as its default.
    let number = |name: &str| {
        let default = || {
            group_def(name)
                .ok()
                .and_then(|def| def.default.parse().ok())
        };
        let number: i64 = text(name).parse().ok().or_else(default).unwrap_or_default();
        let number = match range(image, settings, name) {
            Some((min, max)) => number.min(max).max(min),
            None => number,
        };
        i32::try_from(number).unwrap_or(i32::MAX)
    };
    GroupConfig {
        consumer_assignment_interval_ms: number("consumer.assignment.interval.ms"),
        consumer_heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
        consumer_session_timeout_ms: number("consumer.session.timeout.ms"),
        share_assignment_interval_ms: number("share.assignment.interval.ms"),
        share_auto_offset_reset: OffsetReset::parse(&text("share.auto.offset.reset"))
            .unwrap_or(OffsetReset::Latest),
        share_delivery_count_limit: number("share.delivery.count.limit"),
        share_heartbeat_interval_ms: number("share.heartbeat.interval.ms"),
        share_is_read_committed: text("share.isolation.level") == "read_committed",
        share_partition_max_record_locks: number("share.partition.max.record.locks"),
        share_record_lock_duration_ms: number("share.record.lock.duration.ms"),
        share_renew_acknowledge_enable: text("share.renew.acknowledge.enable") == "true",
        share_session_timeout_ms: number("share.session.timeout.ms"),
        weir_paused: text(PAUSED) == "true",
    }
}

/// Whether what a group would have after a change lies within the broker's bounds and makes sense together.
pub fn check_group(
    image: &Image,
    settings: &Settings,
    config: &BTreeMap<String, String>,
) -> Result<(), ControlError> {
    let invalid = |message| Err(ControlError::new(ErrorName::InvalidConfig, message));
    for (name, value) in config {
        let (Some((min, max)), Ok(number)) = (range(image, settings, name), value.parse::<i64>())
        else {
            continue;
        };
        if !(min..=max).contains(&number) {
            return invalid(format!(
                "{name} must be in the range {min} to {max} inclusive."
            ));
        }
    }
    sharing::check(config)?;
    for protocol in ["consumer", "share"] {
        let number = |what: &str| {
            let name = format!("{protocol}.{what}");
            let own = config
                .get(&name)
                .and_then(|value| value.parse::<i64>().ok());
            own.or_else(|| cluster_number(image, settings, &format!("group.{name}")).ok())
        };
        if let (Some(session), Some(heartbeat)) = (
            number("session.timeout.ms"),
            number("heartbeat.interval.ms"),
        ) && session <= heartbeat
        {
            return invalid(format!(
                "{protocol}.session.timeout.ms must be greater than {protocol}.heartbeat.interval.ms"
            ));
        }
    }
    Ok(())
}
