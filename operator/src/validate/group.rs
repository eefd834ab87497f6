//! A `ConsumerGroup` that can be looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use kube::ResourceExt;
use weir_crds::{
    BEGIN_CONFIG, ConsumerScale, FIELD_OF_CONFIG, GroupBeginning, OffsetReset, ResetPosition,
};

use super::Invalid;
use crate::world::Key;

/// How far behind a group may be; either one missed is a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objective {
    /// Records that may wait.
    pub records: Option<i64>,
    /// Seconds that the oldest of them may have waited.
    pub seconds: Option<i64>,
}

/// Offsets that are to be set, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reset {
    /// Names it.
    pub id: String,
    /// Where to.
    pub to: ResetTo,
    /// Topics; empty: all that the group has offsets of.
    pub topics: Vec<String>,
    /// Partitions of the one topic; empty: all.
    pub partitions: Vec<i32>,
    /// Only say what would come of it.
    pub dry_run: bool,
}

/// Where a group begins in topics that it has read nothing of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Beginning {
    /// A share group: what its configuration is to be.
    Share(String),
    /// A group that commits offsets.
    Offsets {
        /// Where.
        at: BeginAt,
        /// In these topics.
        topics: BTreeSet<String>,
    },
}

/// Where the first offsets of a group are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BeginAt {
    /// At the first record.
    Earliest,
    /// Past the last.
    Latest,
    /// At the first record that is not older, in milliseconds since 1970.
    Timestamp(i64),
    /// At the first record that is not older than so many seconds when it is asked for.
    SecondsBack(i64),
}

impl fmt::Display for BeginAt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Earliest => f.write_str("the first message"),
            Self::Latest => f.write_str("the end"),
            Self::Timestamp(at_ms) => match Timestamp::from_millisecond(*at_ms) {
                Ok(at) => write!(f, "{at}"),
                Err(_) => write!(f, "{at_ms} ms"),
            },
            Self::SecondsBack(seconds) => write!(f, "{seconds} s before it begins"),
        }
    }
}

/// Where offsets are set to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResetTo {
    /// To the first record.
    Earliest,
    /// Past the last.
    Latest,
    /// To the first record that is not older, in milliseconds since 1970.
    Timestamp(i64),
    /// To an offset.
    Offset(i64),
    /// By so many from where the group is.
    Shift(i64),
}

/// How a Deployment follows the lag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scale {
    /// The Deployment, in the same namespace.
    pub deployment: String,
    /// Replicas at least.
    pub min: i32,
    /// Replicas at most.
    pub max: i32,
    /// Records that may wait for each.
    pub lag_per_replica: i64,
    /// Seconds for which more must have been wanted.
    pub up_window: i64,
    /// Seconds for which fewer must have been wanted.
    pub down_window: i64,
}

impl Scale {
    /// The number of replicas within the bounds that is nearest to this one.
    #[must_use]
    pub fn within(&self, replicas: i32) -> i32 {
        replicas.max(self.min).min(self.max)
    }
}

/// A group that somebody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The resource.
    pub key: Key,
    /// The cluster, in the same namespace.
    pub cluster: Key,
    /// The group's id on the brokers.
    pub id: String,
    /// Topics whose lag counts; empty: all.
    pub topics: BTreeSet<String>,
    /// When given.
    pub objective: Option<Objective>,
    /// Whether it is paused; `None`: as it is.
    pub paused: Option<bool>,
    /// Where it begins.
    pub begin: Option<Beginning>,
    /// Offsets to set, once.
    pub reset: Option<Reset>,
    /// How its consumers are scaled.
    pub scale: Option<Scale>,
    /// What its `filter`, `retry` and `deadLetters` stand for; empty: it has none of them.
    pub sharing: BTreeMap<String, String>,
    /// What its `lease`, `isolation` and `config` stand for, each for itself.
    pub config: BTreeMap<String, String>,
}

impl Group {
    /// What of the brokers' configuration says where it begins: of a share group.
    #[must_use]
    pub fn begin_config(&self) -> Option<&str> {
        match self.begin.as_ref()? {
            Beginning::Share(config) => Some(config),
            Beginning::Offsets { .. } => None,
        }
    }

    /// Judges a resource.
    ///
    /// # Errors
    /// Names the first field that makes no sense.
    pub fn validate(resource: &weir_crds::ConsumerGroup) -> Result<Self, Invalid> {
        let key = Key::new(
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        let id = resource.group_id().to_owned();
        if id.is_empty() {
            return Err(Invalid::new(
                "spec.groupId",
                "is empty",
                "Set it, or leave it out to take the resource's name",
            ));
        }
        let objective = resource
            .spec
            .lag_objective
            .as_ref()
            .map(|objective| Objective {
                records: objective.records,
                seconds: objective.seconds,
            });
        if let Some(objective) = objective {
            for (field, value) in [
                ("records", objective.records),
                ("seconds", objective.seconds),
            ] {
                if let Some(value) = value.filter(|value| *value < 0) {
                    return Err(Invalid::new(
                        format!("spec.lagObjective.{field}"),
                        format!("{value} is negative"),
                        "Set it to 0 or more",
                    ));
                }
            }
        }
        let named = |(key, _): &&(&str, &str)| resource.spec.config.contains_key(*key);
        if let Some((key, field)) = FIELD_OF_CONFIG.iter().find(named) {
            return Err(Invalid::new(
                "spec.config",
                format!("has {key}"),
                format!("Write it as spec.{field}"),
            ));
        }
        Ok(Self {
            cluster: Key::new(
                key.namespace.clone(),
                resource.spec.cluster_ref.name.clone(),
            ),
            id,
            topics: resource.spec.topics.iter().cloned().collect(),
            objective,
            paused: resource.spec.paused,
            begin: resource
                .spec
                .begin
                .as_ref()
                .map(|begin| validate_begin(begin, &resource.spec.topics))
                .transpose()?,
            reset: resource
                .spec
                .reset
                .as_ref()
                .map(|reset| validate_reset(reset, &resource.spec.topics))
                .transpose()?,
            scale: resource
                .spec
                .scale
                .as_ref()
                .map(validate_scale)
                .transpose()?,
            sharing: resource.spec.sharing_config(),
            config: resource.spec.group_config(),
            key,
        })
    }
}

fn validate_begin(begin: &GroupBeginning, topics: &[String]) -> Result<Beginning, Invalid> {
    let mut given = Vec::new();
    if let Some(to) = begin.to {
        given.push(match to {
            ResetPosition::Earliest => BeginAt::Earliest,
            ResetPosition::Latest => BeginAt::Latest,
        });
    }
    if let Some(text) = &begin.timestamp {
        given.push(BeginAt::Timestamp(time_ms("spec.begin.timestamp", text)?));
    }
    given.extend(begin.seconds_back.map(BeginAt::SecondsBack));
    let [at] = given[..] else {
        return Err(Invalid::new(
            "spec.begin",
            format!("says {} places to begin at", given.len()),
            "Set one of to, timestamp and secondsBack",
        ));
    };
    if let BeginAt::SecondsBack(seconds) = at
        && seconds < 1
    {
        return Err(Invalid::new(
            "spec.begin.secondsBack",
            format!("{seconds} is less than 1"),
            "Set it to 1 or more, or use begin.to",
        ));
    }
    if begin.share_group {
        let config = begin.share_config().ok_or_else(|| {
            Invalid::new(
                "spec.begin.timestamp",
                format!("is nothing that {BEGIN_CONFIG} can say"),
                "Set begin.to or begin.secondsBack",
            )
        })?;
        return Ok(Beginning::Share(config));
    }
    if topics.is_empty() {
        return Err(Invalid::new(
            "spec.begin",
            "is given for no topics",
            "Name the topics that the group begins in in spec.topics, or set begin.shareGroup",
        ));
    }
    Ok(Beginning::Offsets {
        at,
        topics: topics.iter().cloned().collect(),
    })
}

fn time_ms(field: &str, text: &str) -> Result<i64, Invalid> {
    let at: Timestamp = text.parse().map_err(|_| {
        Invalid::new(
            field,
            format!("\"{text}\" is no time"),
            "Write it as 2026-11-26T06:00:00Z",
        )
    })?;
    Ok(at.as_millisecond())
}

fn validate_reset(reset: &OffsetReset, topics: &[String]) -> Result<Reset, Invalid> {
    let mut given = Vec::new();
    if let Some(to) = reset.to {
        given.push(match to {
            ResetPosition::Earliest => ResetTo::Earliest,
            ResetPosition::Latest => ResetTo::Latest,
        });
    }
    if let Some(text) = &reset.timestamp {
        given.push(ResetTo::Timestamp(time_ms("spec.reset.timestamp", text)?));
    }
    given.extend(reset.offset.map(ResetTo::Offset));
    given.extend(reset.shift.map(ResetTo::Shift));
    let [to] = given[..] else {
        return Err(Invalid::new(
            "spec.reset",
            format!("says {} places to go to", given.len()),
            "Set one of to, timestamp, offset and shift",
        ));
    };
    if reset.request_id.is_empty() {
        return Err(Invalid::new(
            "spec.reset.requestId",
            "is empty",
            "Choose a name that no reset of this group had before",
        ));
    }
    if !reset.partitions.is_empty() && reset.topics.len() != 1 {
        return Err(Invalid::new(
            "spec.reset.partitions",
            format!("are given for {} topics", reset.topics.len()),
            "Name the one topic that they are of in spec.reset.topics",
        ));
    }
    Ok(Reset {
        id: reset.request_id.clone(),
        to,
        topics: match reset.topics.is_empty() {
            true => topics.to_vec(),
            false => reset.topics.clone(),
        },
        partitions: reset.partitions.clone(),
        dry_run: reset.dry_run,
    })
}

fn validate_scale(scale: &ConsumerScale) -> Result<Scale, Invalid> {
    let bad = |field: &str, what: String, remedy: &str| {
        Err(Invalid::new(format!("spec.scale.{field}"), what, remedy))
    };
    let (min, max) = (scale.min_replicas, scale.max_replicas);
    if min < 0 {
        return bad(
            "minReplicas",
            format!("{min} is negative"),
            "Set it to 0 or more",
        );
    }
    if max < 1 || max < min {
        return bad(
            "maxReplicas",
            format!("{max} is less than minReplicas or 1"),
            "Set it to 1 or more, and to minReplicas or more",
        );
    }
    if scale.lag_per_replica < 1 {
        return bad(
            "lagPerReplica",
            format!("{} is less than 1", scale.lag_per_replica),
            "Set it to 1 or more",
        );
    }
    Ok(Scale {
        deployment: scale.deployment.clone(),
        min,
        max,
        lag_per_replica: scale.lag_per_replica,
        up_window: i64::from(scale.scale_up_stabilization_seconds.max(0)),
        down_window: i64::from(scale.scale_down_stabilization_seconds.max(0)),
    })
}
