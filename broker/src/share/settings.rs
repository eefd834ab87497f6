//! What is set for share groups, for all of them and for one.

use std::time::Duration;

use weir_groups::share::ShareConfig;

use crate::partitions::Isolation;

/// Bounds that hold for all share groups of this broker, named after Kafka's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareSettings {
    /// `group.share.max.share.sessions`: each is a member's claim on a broker, of some kilobytes.
    pub sessions_max: usize,
    /// `group.share.delivery.count.limit`.
    pub deliveries_max: i16,
    /// `group.share.partition.max.record.locks`.
    pub records_max: i64,
    /// What a group has that says nothing else.
    pub group: GroupDefaults,
}

/// What one group may say otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupDefaults {
    /// `share.record.lock.duration.ms`.
    pub lock: Duration,
    /// `share.auto.offset.reset`.
    pub start_at: StartAt,
    /// `share.isolation.level`.
    pub is_read_committed: bool,
}

impl Default for ShareSettings {
    fn default() -> Self {
        Self {
            sessions_max: 2_000,
            deliveries_max: 5,
            records_max: 2_000,
            group: GroupDefaults {
                lock: Duration::from_secs(30),
                start_at: StartAt::Latest,
                is_read_committed: false,
            },
        }
    }
}

/// Where a group begins in a partition that it has never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartAt {
    /// With what is there.
    Earliest,
    /// With what comes.
    Latest,
    /// With what came in this time.
    Ago(Duration),
}

/// What holds for one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    engine: ShareConfig,
    /// Where it begins.
    pub start_at: StartAt,
    /// Whether records of transactions that are open or aborted are kept from it.
    pub is_read_committed: bool,
}

impl GroupSettings {
    /// The bounds of its share-partitions.
    #[must_use]
    pub fn engine(&self) -> ShareConfig {
        self.engine
    }

    /// What its members may read.
    #[must_use]
    pub fn isolation(&self) -> Isolation {
        if self.is_read_committed {
            Isolation::ReadCommitted
        } else {
            Isolation::ReadUncommitted
        }
    }
}

impl ShareSettings {
    /// What holds for a group, given what an administrator has set for it.
    #[must_use]
    pub fn for_group(&self, set: impl Fn(&str) -> Option<String>) -> GroupSettings {
        let lock = set("share.record.lock.duration.ms").and_then(|ms| ms.parse().ok());
        let lock = lock.map_or(self.group.lock, Duration::from_millis);
        let deliveries = set("share.delivery.count.limit").and_then(|count| count.parse().ok());
        let records = set("share.partition.max.record.locks").and_then(|count| count.parse().ok());
        let start_at = set("share.auto.offset.reset").and_then(|at| start_at(&at));
        let isolation = set("share.isolation.level");
        GroupSettings {
            engine: ShareConfig {
                lock_ms: u64::try_from(lock.as_millis()).unwrap_or(u64::MAX),
                deliveries_max: deliveries.unwrap_or(self.deliveries_max),
                records_max: records.unwrap_or(self.records_max),
            },
            start_at: start_at.unwrap_or_else(|| self.group.start_at.clone()),
            is_read_committed: isolation.map_or(self.group.is_read_committed, |level| {
                level.eq_ignore_ascii_case("read_committed")
            }),
        }
    }
}

/// `earliest`, `latest`, or `by_duration:` and a duration as ISO 8601 writes it.
fn start_at(text: &str) -> Option<StartAt> {
    match text {
        "earliest" => Some(StartAt::Earliest),
        "latest" => Some(StartAt::Latest),
        _ => iso_duration(text.strip_prefix("by_duration:")?).map(StartAt::Ago),
    }
}

/// Days, hours, minutes and seconds: `P2DT3H4M5.5S`.
fn iso_duration(text: &str) -> Option<Duration> {
    let (days, time) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, time)) if !time.is_empty() => (days, time),
        Some(_) => return None,
        None => (text.strip_prefix('P')?, ""),
    };
    let mut total = Duration::ZERO;
    for (mut part, units) in [
        (days, [('D', 86_400.0), ('\0', 0.0), ('\0', 0.0)].as_slice()),
        (time, &[('H', 3_600.0), ('M', 60.0), ('S', 1.0)]),
    ] {
        for (unit, seconds) in units {
            if let Some((number, rest)) = part.split_once(*unit) {
                let number: f64 = number.parse().ok()?;
                total = total.checked_add(Duration::try_from_secs_f64(number * seconds).ok()?)?;
                part = rest;
            }
        }
        if !part.is_empty() {
            return None;
        }
    }
    (text.len() > 1).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_what_was_set_for_it_and_the_rest_as_all() {
        let set = |name: &str| match name {
            "share.record.lock.duration.ms" => Some("15000".to_owned()),
            "share.auto.offset.reset" => Some("by_duration:PT1H30M".to_owned()),
            "share.isolation.level" => Some("read_committed".to_owned()),
            _ => None,
        };
        let settings = ShareSettings::default().for_group(set);
        assert_eq!(settings.engine().lock_ms, 15_000);
        assert_eq!(settings.engine().deliveries_max, 5);
        assert_eq!(settings.start_at, StartAt::Ago(Duration::from_secs(5_400)));
        assert!(settings.is_read_committed);
    }

    #[test]
    fn durations_are_read_as_iso_8601_writes_them() {
        let cases = [
            ("P1D", 86_400),
            ("PT1S", 1),
            ("P1DT1H1M1S", 90_061),
            ("PT0S", 0),
        ];
        for (text, seconds) in cases {
            assert_eq!(
                iso_duration(text),
                Some(Duration::from_secs(seconds)),
                "{text}"
            );
        }
        for wrong in ["", "P", "PT", "1H", "PT1", "PT-1S", "PTxS", "P1DT"] {
            assert_eq!(iso_duration(wrong), None, "{wrong}");
        }
    }
}
