//! The configurations that topics, brokers, groups and client metrics have: Kafka's names, types, ranges and defaults,
//! and Weir's own.
//!
//! A topic's value comes from the first of: the topic itself, what was set for the whole cluster, the broker's
//! configuration file, the default. A cluster-wide setting goes by another name than the topic's (`retention.ms` and
//! `log.retention.ms`), which is its synonym. A group's value comes from the group, then as a topic's does.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use crate::error::{ControlError, ErrorName};
use crate::ids::BrokerId;
use crate::image::{Image, Topic};

mod broker;
mod client_metrics;
mod group;
mod group_table;
mod period;
mod replication;
mod resolved;
mod sharing;
mod topic;
mod view;

pub use broker::BROKER;
pub use client_metrics::{CLIENT_METRICS, ClientMatch, MATCH_KEYS};
pub use group::{GroupConfig, OffsetReset, PAUSED, check_group, group_config};
pub use group_table::GROUP;
pub(crate) use replication::{IN_SYNC_MIN, in_sync_min_of, said};
pub use replication::{cluster_size, in_sync_min};
pub use resolved::{
    CleanupPolicy, Durability, Overflow, QueueConfig, Scope, TimestampType, TopicConfig,
};
pub use sharing::{DeadLetterRules, SharingConfig};
pub use topic::TOPIC;
pub use view::{VIEW_FILTER, VIEW_OF, ViewConfig};
pub(crate) use view::{Views, source_of};

/// The longest value, in bytes: as Kafka's. With it a resource's whole configuration stays far below what one metadata
/// record may hold.
pub const VALUE_BYTES_MAX: usize = 32_767;

/// One configuration.
#[derive(Clone, Copy, Debug)]
pub struct ConfigDef {
    /// Its name.
    pub name: &'static str,
    /// The type of its values.
    pub kind: ConfigKind,
    /// What it is when nothing says otherwise.
    pub default: &'static str,
    /// Which values are allowed.
    pub allowed: Allowed,
    /// For a topic's or a group's: the name under which it is set for a whole cluster.
    pub cluster_name: Option<&'static str>,
    /// Whether it says what the broker's configuration file decides, and cannot be changed while the broker runs.
    pub read_only: bool,
    /// What it does, for a person.
    pub documentation: &'static str,
}

/// The type of a configuration's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigKind {
    /// `true` or `false`.
    Boolean,
    /// Text.
    String,
    /// A 32-bit number.
    Int,
    /// A 64-bit number.
    Long,
    /// A number with a fraction.
    Double,
    /// Texts with commas between.
    List,
}

impl ConfigKind {
    /// Kafka's number for it, in DescribeConfigs.
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
        }
    }
}

/// The topic's configuration that says how far ahead a message may be due.
pub const DELAY_MAX: &str = "weir.queue.delay.max.ms";

/// The one that says for how long a message's id is remembered.
pub const DEDUPLICATION_WINDOW: &str = "weir.queue.deduplication.window.ms";

/// The one that says which part of messages is traced.
pub const TRACE_RATIO: &str = "weir.queue.trace.ratio";

/// Which values a configuration takes.
#[derive(Clone, Copy, Debug)]
pub enum Allowed {
    /// What its type allows.
    Any,
    /// A whole number in a range, ends included.
    Between(i64, i64),
    /// One whole number, or those of a range, ends included.
    OneOrBetween(i64, i64, i64),
    /// A fraction in a range, ends included.
    Fraction(f64, f64),
    /// One of these; for a list, any of these.
    OneOf(&'static [&'static str]),
    /// What satisfies this, and how a person is told what that is.
    Where(fn(&str) -> bool, &'static str),
}

impl std::fmt::Display for Allowed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Between(min, i64::MAX) => write!(f, "a whole number of at least {min}"),
            Self::Between(min, max) => write!(f, "a whole number from {min} to {max}"),
            Self::OneOrBetween(one, min, max) => {
                write!(f, "{one}, or a whole number from {min} to {max}")
            }
            Self::Fraction(min, max) => write!(f, "a number from {min} to {max}"),
            Self::Where(_, what) => f.write_str(what),
            Self::OneOf(values) => write!(f, "{}", values.join(", ")),
        }
    }
}

impl ConfigDef {
    /// Whether a value is one that this configuration takes; if not, names the key, the value and what is allowed.
    pub fn check(&self, value: &str) -> Result<(), ControlError> {
        if value.len() > VALUE_BYTES_MAX {
            return Err(ControlError::new(
                ErrorName::InvalidConfig,
                format!(
                    "the value of configuration {} has {} bytes; allowed: {VALUE_BYTES_MAX}",
                    self.name,
                    value.len()
                ),
            ));
        }
        let value_trimmed = value.trim();
        let good = match (self.kind, self.allowed) {
            (_, Allowed::Where(is_good, _)) => is_good(value_trimmed),
            (ConfigKind::Boolean, _) => {
                value_trimmed.eq_ignore_ascii_case("true")
                    || value_trimmed.eq_ignore_ascii_case("false")
            }
            (ConfigKind::Int, allowed) => value_trimmed
                .parse::<i32>()
                .is_ok_and(|number| allowed.holds(i64::from(number))),
            (ConfigKind::Long, allowed) => value_trimmed
                .parse::<i64>()
                .is_ok_and(|number| allowed.holds(number)),
            (ConfigKind::Double, Allowed::Fraction(min, max)) => value_trimmed
                .parse::<f64>()
                .is_ok_and(|number| (min..=max).contains(&number)),
            (ConfigKind::Double, _) => value_trimmed.parse::<f64>().is_ok_and(f64::is_finite),
            (ConfigKind::String, Allowed::OneOf(values)) => values.contains(&value_trimmed),
            (ConfigKind::List, Allowed::OneOf(values)) => {
                list(value_trimmed).all(|member| values.contains(&member))
            }
            (ConfigKind::String | ConfigKind::List, _) => true,
        };
        if good {
            return Ok(());
        }
        let allowed = match (self.kind, self.allowed) {
            (ConfigKind::Boolean, _) => "true, false".to_owned(),
            (ConfigKind::Int, Allowed::Between(min, i64::MAX)) => {
                Allowed::Between(min, i64::from(i32::MAX)).to_string()
            }
            (ConfigKind::Int | ConfigKind::Long, Allowed::Any) => "a whole number".to_owned(),
            (_, allowed) => allowed.to_string(),
        };
        Err(ControlError::new(
            ErrorName::InvalidConfig,
            format!(
                "invalid value {value:?} for configuration {}; allowed: {allowed}",
                self.name
            ),
        ))
    }

    /// The value as it is stored: without spaces around it, in the case of its type, members of a list each once.
    pub fn normal(&self, value: &str) -> String {
        let value = value.trim();
        match self.kind {
            ConfigKind::Boolean => value.to_ascii_lowercase(),
            ConfigKind::List => {
                let mut members: Vec<&str> = Vec::new();
                let mut seen = BTreeSet::new();
                for member in list(value) {
                    if seen.insert(member) {
                        members.push(member);
                    }
                }
                members.join(",")
            }
            _ => value.to_owned(),
        }
    }
}

impl Allowed {
    fn holds(self, number: i64) -> bool {
        match self {
            Self::Between(min, max) => (min..=max).contains(&number),
            Self::OneOrBetween(one, min, max) => number == one || (min..=max).contains(&number),
            _ => true,
        }
    }
}

/// The members of a list's value.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    value
        .split(',')
        .map(str::trim)
        .filter(|member| !member.is_empty())
}

/// A topic's configuration by name.
pub fn topic_def(name: &str) -> Result<&'static ConfigDef, ControlError> {
    find(TOPIC, "topic", name)
}

/// A broker's configuration by name.
pub fn broker_def(name: &str) -> Result<&'static ConfigDef, ControlError> {
    find(BROKER, "broker", name)
}

/// A group's configuration by name.
pub fn group_def(name: &str) -> Result<&'static ConfigDef, ControlError> {
    find(GROUP, "group", name)
}

/// A client metrics subscription's configuration by name.
pub fn client_metrics_def(name: &str) -> Result<&'static ConfigDef, ControlError> {
    find(CLIENT_METRICS, "client metrics", name)
}

fn find(
    table: &'static [ConfigDef],
    whose: &str,
    name: &str,
) -> Result<&'static ConfigDef, ControlError> {
    table
        .iter()
        .find(|def| def.name == name)
        .ok_or_else(|| unknown(whose, name))
}

fn unknown(whose: &str, name: &str) -> ControlError {
    ControlError::new(
        ErrorName::InvalidConfig,
        // Kafka's words, which its own tools print.
        format!("Unknown {whose} config name: {name}"),
    )
}

/// The broker's own configuration file, as far as it concerns what is in [`BROKER`]: by those names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<String, String>,
    brokers: usize,
}

impl Settings {
    /// Checks and takes values by the names in [`BROKER`], or by the topic's name for what every topic that does not say
    /// otherwise gets (`retention.ms` is `log.retention.ms` then).
    pub fn new(values: BTreeMap<String, String>) -> Result<Self, ControlError> {
        let mut settings = Self::default();
        for (name, value) in values {
            let cluster_name = TOPIC
                .iter()
                .find(|def| def.name == name)
                .and_then(|def| def.cluster_name);
            let def = broker_def(cluster_name.unwrap_or(&name))?;
            // The message names the key as it was given.
            ConfigDef {
                name: if cluster_name.is_some() {
                    topic_def(&name)?.name
                } else {
                    def.name
                },
                ..*def
            }
            .check(&value)?;
            settings.values.insert(def.name.to_owned(), value);
        }
        Ok(settings)
    }

    /// The file of a cluster that is meant to have so many brokers.
    #[must_use]
    pub fn of_cluster(mut self, brokers: usize) -> Self {
        self.brokers = brokers;
        self
    }

    /// How many brokers the cluster is meant to have; at least one.
    pub fn cluster_brokers(&self) -> usize {
        self.brokers.max(1)
    }

    /// What the file says of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// Set for the topic.
    Topic,
    /// Set for the group.
    Group,
    /// Set for the client metrics subscription.
    ClientMetrics,
    /// Set for this broker.
    DynamicBroker,
    /// Set for all brokers.
    DynamicCluster,
    /// From the broker's configuration file.
    StaticBroker,
    /// Nothing says otherwise.
    Default,
}

impl Source {
    /// Kafka's number for it, in DescribeConfigs.
    pub fn code(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Group => 8,
            Self::ClientMetrics => 7,
            Self::DynamicBroker => 2,
            Self::DynamicCluster => 3,
            Self::StaticBroker => 4,
            Self::Default => 5,
        }
    }
}

/// One place that has a value for a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synonym {
    /// The name that it goes by there.
    pub name: &'static str,
    /// The value.
    pub value: String,
    /// The place.
    pub source: Source,
}

/// A configuration's value, and all places that have one for it, the first of which counts.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The configuration.
    pub def: &'static ConfigDef,
    /// All places, the first of which counts; without any, the default does.
    pub synonyms: Vec<Synonym>,
}

impl Effective {
    /// The value.
    pub fn value(&self) -> &str {
        self.synonyms
            .first()
            .map_or(self.def.default, |synonym| &synonym.value)
    }

    /// Where it comes from.
    pub fn source(&self) -> Source {
        self.synonyms
            .first()
            .map_or(Source::Default, |synonym| synonym.source)
    }
}

/// A topic's configuration on this broker, with all places that have a value for it.
pub fn effective_topic(
    image: &Image,
    settings: &Settings,
    topic: &Topic,
    def: &'static ConfigDef,
) -> Effective {
    let default = replication::topic_default(topic, def);
    effective(
        image,
        settings,
        (Some(&topic.config), Source::Topic),
        def,
        default,
    )
}

/// A group's configuration, whether or not there is such a group, with all places that have a value for it.
pub fn effective_group(
    image: &Image,
    settings: &Settings,
    group: &str,
    def: &'static ConfigDef,
) -> Effective {
    effective(
        image,
        settings,
        (image.group_config(group), Source::Group),
        def,
        def.default.into(),
    )
}

/// A client metrics subscription's configuration, whether or not it exists.
pub fn effective_client_metrics(
    image: &Image,
    subscription: &str,
    def: &'static ConfigDef,
) -> Effective {
    let own = (
        image.client_metrics_config(subscription),
        Source::ClientMetrics,
    );
    effective(image, &Settings::default(), own, def, def.default.into())
}

fn effective(
    image: &Image,
    settings: &Settings,
    (own, source): (Option<&BTreeMap<String, String>>, Source),
    def: &'static ConfigDef,
    default: Cow<'static, str>,
) -> Effective {
    let mut synonyms = Vec::new();
    if let Some(value) = own.and_then(|config| config.get(def.name)) {
        synonyms.push(Synonym {
            name: def.name,
            value: value.clone(),
            source,
        });
    }
    if let Some(name) = def.cluster_name {
        push_cluster(image, settings, name, &mut synonyms);
    }
    // As in Kafka, a topic's configuration that no broker has is listed with no default's place.
    if def.cluster_name.is_some() || source == Source::Group {
        synonyms.push(Synonym {
            name: def.cluster_name.unwrap_or(def.name),
            value: default.into_owned(),
            source: Source::Default,
        });
    }
    Effective { def, synonyms }
}

/// Whether what a topic would have after a change makes sense together.
pub fn check_topic(config: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let number = |name: &str| config.get(name).and_then(|value| value.parse::<i64>().ok());
    let (min, max) = ("min.compaction.lag.ms", "max.compaction.lag.ms");
    match (number(min), number(max)) {
        (Some(least), Some(most)) if least > most => Err(ControlError::new(
            ErrorName::InvalidConfig,
            format!("conflict topic config setting {min} ({least}) > {max} ({most})"),
        )),
        _ => {
            check_delay(config)?;
            view::check(config)
        }
    }
}

/// What a topic that delays messages cannot have.
fn check_delay(config: &BTreeMap<String, String>) -> Result<(), ControlError> {
    let value = |name: &str| config.get(name).map_or("", |value| value.trim());
    let is_set = |name: &str| value(name).parse().is_ok_and(|number: i64| number >= 0);
    let refuse = |what: &str| {
        let message = format!("{DELAY_MAX} is not for a topic with {what}");
        Err(ControlError::new(ErrorName::InvalidConfig, message))
    };
    if !is_set(DELAY_MAX) {
        return Ok(());
    }
    if list(value("cleanup.policy")).any(|member| member == "compact") {
        return refuse("cleanup.policy compact, which would take away what waits");
    }
    // What is released is not offered to the bound, which knows of it by its offsets alone.
    if is_set("weir.queue.max.bytes") {
        return refuse("weir.queue.max.bytes; weir.queue.max.messages it may have");
    }
    Ok(())
}

/// A broker's configuration, with all places that have a value for it. Without a broker: what all have in common.
pub fn effective_broker(
    image: &Image,
    settings: &Settings,
    broker: Option<BrokerId>,
    def: &'static ConfigDef,
) -> Effective {
    let mut synonyms = Vec::new();
    if let Some(value) = broker
        .and_then(|id| image.broker_config(id))
        .and_then(|config| config.get(def.name))
    {
        synonyms.push(Synonym {
            name: def.name,
            value: value.clone(),
            source: Source::DynamicBroker,
        });
    }
    push_cluster(image, settings, def.name, &mut synonyms);
    synonyms.push(Synonym {
        name: def.name,
        value: replication::broker_default(image, settings, def).into_owned(),
        source: Source::Default,
    });
    Effective { def, synonyms }
}

fn push_cluster(
    image: &Image,
    settings: &Settings,
    name: &'static str,
    synonyms: &mut Vec<Synonym>,
) {
    if let Some(value) = image.cluster_config().get(name) {
        synonyms.push(Synonym {
            name,
            value: value.clone(),
            source: Source::DynamicCluster,
        });
    }
    if let Some(value) = settings.get(name) {
        synonyms.push(Synonym {
            name,
            value: value.to_owned(),
            source: Source::StaticBroker,
        });
    }
}

/// A broker's configuration as it counts on this broker; `None` for a name that is not known.
pub fn broker_value(
    image: &Image,
    settings: &Settings,
    broker: BrokerId,
    name: &str,
) -> Option<String> {
    let def = broker_def(name).ok()?;
    let effective = effective_broker(image, settings, Some(broker), def);
    Some(effective.value().to_owned())
}

/// A number of one broker, such as `log.cleaner.backoff.ms`; 0 when it is none of its configurations.
pub fn broker_number(image: &Image, settings: &Settings, broker: BrokerId, name: &str) -> i64 {
    let Ok(def) = broker_def(name) else { return 0 };
    let effective = effective_broker(image, settings, Some(broker), def);
    // Checked when it was set; one that an older version let pass counts as its default.
    let value = effective.value().trim().parse();
    value.unwrap_or_else(|_| def.default.parse().unwrap_or(0))
}

/// A cluster-wide choice, such as `auto.leader.rebalance.enable`; false when it is none of the configurations.
pub fn cluster_truth(image: &Image, settings: &Settings, name: &str) -> bool {
    let def = broker_def(name);
    def.is_ok_and(|def| effective_broker(image, settings, None, def).value().trim() == "true")
}

/// A cluster-wide number, such as `num.partitions`.
pub fn cluster_number(image: &Image, settings: &Settings, name: &str) -> Result<i64, ControlError> {
    let def = broker_def(name)?;
    let effective = effective_broker(image, settings, None, def);
    effective
        .value()
        .trim()
        .parse()
        .map_err(|_| unknown("numeric broker", name))
}

#[cfg(test)]
mod tests;
