//! The broker's configuration: one YAML file, overridden by the environment, read once at start.
//!
//! Every value is typed and lies within a bound whose reason stands beside it. An error names the field, says what was there and
//! what is allowed. Fields are read here and nowhere else, so that this file and its two parts are the reference:
//!
//! ```yaml
//! cluster:
//!   name: shop                     # optional; shown to people
//!   id: 5rKf0lVNQ5u0zV2mR1n8cg     # optional; a broker with an empty disk then only joins this cluster
//!   brokers: 3                     # how many brokers there are meant to be
//! broker:
//!   id: hostname                   # a number, or `hostname`: the number after the last '-' of the host's name
//!   rack: eu-west-1a               # optional
//! data_dir: /var/lib/weir
//! listeners:
//!   kafka: { bind: "0.0.0.0:9092", advertised: "shop-{id}.shop-brokers:9092" }
//!   quorum: { bind: "0.0.0.0:9094", advertised: "shop-{id}.shop-brokers:9094" }
//!   http: { bind: "0.0.0.0:9600" }
//! peers: ["shop-0.shop-brokers:9094", "shop-1.shop-brokers:9094", "shop-2.shop-brokers:9094"]
//! topics:
//!   num.partitions: 1
//!   retention.ms: 604800000        # any topic configuration, as the cluster's default
//! ```

mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use reader::Section;
pub use reader::{ConfigError, Environment};
pub use values::HostPort;
use values::{bytes, duration, host_port, name, number, text, truth, word};
use weir_quorum::ControlError;
use weir_quorum::configs;

/// Everything that a broker is told from outside.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The cluster that this broker is meant to be part of.
    pub cluster: ClusterConfig,
    /// This broker's number, unique in its cluster. In Kubernetes the pod's ordinal.
    pub broker_id: i32,
    /// The failure domain that this broker is in, for the placement of replicas.
    pub rack: Option<String>,
    /// Where everything that outlives the process is kept.
    pub data_dir: PathBuf,
    /// Where clients connect.
    pub kafka: Listener,
    /// Where brokers and the operator connect: quorum and administration over gRPC.
    pub quorum: Listener,
    /// Where metrics and health are served.
    pub http: HostPort,
    /// Quorum addresses of the brokers 0, 1, 2, … in this order. Empty: this broker is alone.
    pub peers: Vec<HostPort>,
    /// What a topic gets that does not say otherwise.
    pub topics: TopicDefaults,
    /// Bounds and defaults of consumer groups.
    pub groups: GroupConfig,
    /// What one broker takes at most.
    pub limits: Limits,
    /// Threads.
    pub threads: Threads,
    /// How events are written to standard error.
    pub log_format: LogFormat,
    /// How long a stopping broker waits for requests in flight.
    pub shutdown_timeout: Duration,
}

/// Which cluster, and how large.
#[derive(Clone, Debug, PartialEq)]
pub struct ClusterConfig {
    /// A name for people.
    pub name: Option<String>,
    /// The cluster's id, once it is known: a broker with an empty disk then joins and never forms a cluster.
    pub id: Option<String>,
    /// How many brokers there are meant to be. Decides how many of them vote (three, or one of fewer than three).
    pub brokers: u32,
}

/// An address to listen on, and the one under which others reach it.
#[derive(Clone, Debug, PartialEq)]
pub struct Listener {
    /// The local address; port 0 takes a free one.
    pub bind: HostPort,
    /// What others are told; port 0 stands for the port that was bound.
    pub advertised: HostPort,
}

/// What a topic gets that does not say otherwise.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDefaults {
    /// Partitions of a topic that is created without a number (`num.partitions`).
    pub num_partitions: i32,
    /// Replicas of a topic that is created without a number (`default.replication.factor`).
    pub replication_factor: i16,
    /// Whether a client that asks for a topic's metadata creates it (`auto.create.topics.enable`).
    pub auto_create: bool,
    /// Topic configurations by their Kafka names, as the cluster's defaults.
    pub config: BTreeMap<String, String>,
}

/// Bounds and defaults of consumer groups.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupConfig {
    /// How long a group that was empty waits for more members (`group.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay: Duration,
    /// The shortest session timeout that a member may ask for (`group.min.session.timeout.ms`).
    pub session_timeout_min: Duration,
    /// The longest session timeout that a member may ask for (`group.max.session.timeout.ms`).
    pub session_timeout_max: Duration,
    /// Members of one group at most (`group.max.size`).
    pub members_max: u32,
    /// How long the offsets of a group without members are kept (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// Partitions of `__consumer_offsets` when it is created (`offsets.topic.num.partitions`).
    pub offsets_partitions: i32,
}

/// What one broker takes at most.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Client connections at the same time.
    pub connections: usize,
    /// One request (`socket.request.max.bytes`).
    pub request_bytes: u32,
    /// All requests that are being received or answered, over all connections.
    pub request_memory_bytes: u64,
    /// Requests of one connection that are being answered; a client that sends more is not read from meanwhile.
    pub requests_in_flight: usize,
    /// Records in one fetch response (`fetch.max.bytes`).
    pub fetch_bytes: u32,
    /// A connection without a request for this long is closed (`connections.max.idle.ms`).
    pub idle: Duration,
}

/// How many threads do what.
#[derive(Clone, Debug, PartialEq)]
pub struct Threads {
    /// Threads for network and requests; 0: as many as there are cores.
    pub network: usize,
    /// Threads that write and sync logs; 0: chosen from the number of cores.
    pub lanes: usize,
}

/// How events are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each event.
    Json,
}

impl Config {
    /// Reads the file and the process's environment. Without a file the environment and the defaults decide.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let yaml = match file {
            None => String::new(),
            Some(path) => {
                std::fs::read_to_string(path).map_err(|error| ConfigError::Unreadable {
                    path: path.display().to_string(),
                    reason: error.to_string(),
                })?
            }
        };
        let environment = std::env::vars()
            .filter(|(name, _)| name.starts_with("WEIR_"))
            .collect();
        let host_name = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        Self::parse(&yaml, &environment, &host_name)
    }

    /// Reads a configuration from a text, an environment and the host's name.
    pub fn parse(
        yaml: &str,
        environment: &Environment,
        host_name: &str,
    ) -> Result<Self, ConfigError> {
        let mut document = Section::document(yaml, environment)?;

        let mut section = document.section("broker")?;
        let broker_id = section.or("id", 0, |text| broker_id(text, host_name))?;
        let rack = section.optional("rack", name)?;
        section.finish()?;

        let numbered = |value: &str| value.replace("{id}", &broker_id.to_string());
        let data_dir = document.required("data_dir", "the path of a directory", text)?;

        let mut listeners = document.section("listeners")?;
        let kafka = listener(&mut listeners, "kafka", 9092, numbered)?;
        let quorum = listener(&mut listeners, "quorum", 9094, numbered)?;
        let mut section = listeners.section("http")?;
        let http = section.or("bind", any_interface(9600), |value| {
            host_port(&numbered(value))
        })?;
        section.finish()?;
        listeners.finish()?;

        let peers = document.list("peers", host_port)?;
        let config = Self {
            cluster: cluster(document.section("cluster")?, peers.len())?,
            broker_id,
            rack,
            data_dir: PathBuf::from(numbered(&data_dir)),
            kafka,
            quorum,
            http,
            peers,
            topics: topics(document.section("topics")?)?,
            groups: groups(document.section("groups")?)?,
            limits: limits(document.section("limits")?)?,
            threads: threads(document.section("threads")?)?,
            log_format: document.or("log_format", LogFormat::Text, {
                word(&[("text", LogFormat::Text), ("json", LogFormat::Json)])
            })?,
            // An hour: longer than any grace period that one gives a pod.
            shutdown_timeout: document.or(
                "shutdown_timeout",
                SECOND * 20,
                duration(Duration::ZERO..=SECOND * 3600),
            )?,
        };
        document.finish()?;
        Ok(config)
    }
}

impl Config {
    /// The configuration, if the parts of it that several say agree.
    pub fn checked(self) -> Result<Self, ConfigError> {
        let invalid = |field: &str, found: String, allowed: String| {
            Err(ConfigError::Invalid {
                field: field.to_owned(),
                found,
                allowed,
            })
        };
        let peers = u32::try_from(self.peers.len()).unwrap_or(u32::MAX);
        if peers > self.cluster.brokers {
            let allowed = format!(
                "at most cluster.brokers ({}) addresses",
                self.cluster.brokers
            );
            return invalid("peers", format!("a list of {peers}"), allowed);
        }
        if self.groups.session_timeout_min > self.groups.session_timeout_max {
            let allowed = format!(
                "at most groups.session_timeout_max ({:?})",
                self.groups.session_timeout_max
            );
            return invalid(
                "groups.session_timeout_min",
                format!("{:?}", self.groups.session_timeout_min),
                allowed,
            );
        }
        match self.settings() {
            Ok(_) => Ok(self),
            Err(error) => invalid("topics", error.name.to_string(), error.message),
        }
    }

    /// What the file says, by the names that Kafka gives to brokers' configurations.
    pub fn settings(&self) -> Result<configs::Settings, ControlError> {
        let ms = |duration: Duration| duration.as_millis().to_string();
        let mut values = BTreeMap::from(
            [
                ("num.partitions", self.topics.num_partitions.to_string()),
                (
                    "default.replication.factor",
                    self.topics.replication_factor.to_string(),
                ),
                (
                    "auto.create.topics.enable",
                    self.topics.auto_create.to_string(),
                ),
                (
                    "group.initial.rebalance.delay.ms",
                    ms(self.groups.initial_rebalance_delay),
                ),
                (
                    "group.min.session.timeout.ms",
                    ms(self.groups.session_timeout_min),
                ),
                (
                    "group.max.session.timeout.ms",
                    ms(self.groups.session_timeout_max),
                ),
                ("group.max.size", self.groups.members_max.to_string()),
                (
                    "offsets.retention.minutes",
                    (self.groups.offsets_retention.as_secs() / 60).to_string(),
                ),
                (
                    "offsets.topic.num.partitions",
                    self.groups.offsets_partitions.to_string(),
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        for (name, value) in &self.topics.config {
            if let Some(name) = configs::topic_def(name)?.cluster_name {
                values.insert(name.to_owned(), value.clone());
            }
        }
        configs::Settings::new(values)
    }
}

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

/// Broker ids: what a StatefulSet can number, and far below what a Kafka client's arrays are made for.
const BROKER_ID_MAX: i32 = 99_999;

fn broker_id(text: &str, host_name: &str) -> Result<i32, String> {
    if text.trim() != "hostname" {
        return number(0..=BROKER_ID_MAX)(text)
            .map_err(|allowed| format!("{allowed}, or 'hostname'"));
    }
    let ordinal = host_name.rsplit_once('-').map(|(_, ordinal)| ordinal);
    ordinal.and_then(|ordinal| number(0..=BROKER_ID_MAX)(ordinal).ok()).ok_or_else(|| {
        format!("'hostname' on a host whose name ends in '-' and a number (this one is {host_name:?}), or a number")
    })
}

fn any_interface(port: u16) -> HostPort {
    HostPort {
        host: "0.0.0.0".into(),
        port,
    }
}

fn listener(
    listeners: &mut Section<'_>,
    which: &str,
    port: u16,
    numbered: impl Fn(&str) -> String,
) -> Result<Listener, ConfigError> {
    let mut section = listeners.section(which)?;
    let bind = section.or("bind", any_interface(port), |value| {
        host_port(&numbered(value))
    })?;
    let advertised = section.optional("advertised", |value| host_port(&numbered(value)))?;
    section.finish()?;
    // Bound to every interface and told nothing else, only this machine can be sure to reach it.
    let everywhere = matches!(bind.host.as_str(), "0.0.0.0" | "::");
    let host = if everywhere {
        "localhost".into()
    } else {
        bind.host.clone()
    };
    let advertised = advertised.unwrap_or(HostPort {
        host,
        port: bind.port,
    });
    Ok(Listener { bind, advertised })
}

fn cluster(mut section: Section<'_>, peers: usize) -> Result<ClusterConfig, ConfigError> {
    // 1000: every broker knows every other one; far above what one metadata quorum should serve.
    let brokers = section.or(
        "brokers",
        u32::try_from(peers.max(1)).unwrap_or(1),
        number(1..=1000),
    )?;
    let config = ClusterConfig {
        name: section.optional("name", name)?,
        id: section.optional("id", name)?,
        brokers,
    };
    section.finish()?;
    Ok(config)
}

fn topics(mut section: Section<'_>) -> Result<TopicDefaults, ConfigError> {
    let defaults = TopicDefaults {
        // 10,000: more than one broker is meant to lead for one topic.
        num_partitions: section.or("num.partitions", 1, number(1..=10_000))?,
        replication_factor: section.or("default.replication.factor", 1, number(1..=9))?,
        auto_create: section.or("auto.create.topics.enable", false, truth)?,
        config: section.rest(&topic_config_names(), check_topic_config)?,
    };
    section.finish()?;
    Ok(defaults)
}

fn topic_config_names() -> Vec<&'static str> {
    configs::TOPIC.iter().map(|def| def.name).collect()
}

fn check_topic_config(name: &str, value: &str) -> Result<(), String> {
    let checked = configs::topic_def(name).and_then(|def| def.check(value));
    checked.map_err(|error| error.message)
}

fn groups(mut section: Section<'_>) -> Result<GroupConfig, ConfigError> {
    let half_hour = SECOND * 1800;
    let config = GroupConfig {
        initial_rebalance_delay: section.or(
            "initial_rebalance_delay",
            SECOND * 3,
            duration(Duration::ZERO..=SECOND * 300),
        )?,
        session_timeout_min: section.or(
            "session_timeout_min",
            SECOND * 6,
            duration(SECOND..=half_hour),
        )?,
        session_timeout_max: section.or(
            "session_timeout_max",
            half_hour,
            duration(SECOND..=DAY),
        )?,
        // Each member's assignment is sent to all; the group's metadata is one record.
        members_max: section.or("members_max", 10_000, number(1..=100_000))?,
        offsets_retention: section.or(
            "offsets_retention",
            DAY * 7,
            duration(SECOND * 60..=DAY * 36_500),
        )?,
        offsets_partitions: section.or("offsets_partitions", 16, number(1..=1_000))?,
    };
    section.finish()?;
    Ok(config)
}

fn limits(mut section: Section<'_>) -> Result<Limits, ConfigError> {
    const MIB: u64 = 1 << 20;
    // 100 MiB is Kafka's own default, above which no client expects an answer.
    let request_bytes = section.or("request_bytes", 100 * MIB, bytes(64 << 10..=1 << 30))?;
    let limits = Limits {
        connections: section.or("connections", 10_000, number(1..=1_000_000))?,
        request_bytes: u32::try_from(request_bytes).unwrap_or(u32::MAX),
        // At least one request of the greatest size, or it could never be received.
        request_memory_bytes: section.or(
            "request_memory",
            (256 * MIB).max(request_bytes),
            bytes(request_bytes..=1 << 40),
        )?,
        requests_in_flight: section.or("requests_in_flight", 128, number(1..=10_000))?,
        fetch_bytes: {
            let fetch_bytes = section.or("fetch_bytes", 55 * MIB, bytes(1 << 10..=1 << 30))?;
            u32::try_from(fetch_bytes).unwrap_or(u32::MAX)
        },
        idle: section.or("idle", SECOND * 600, duration(SECOND..=DAY * 365))?,
    };
    section.finish()?;
    Ok(limits)
}

fn threads(mut section: Section<'_>) -> Result<Threads, ConfigError> {
    let threads = Threads {
        network: section.or("network", 0, number(0..=256))?,
        lanes: section.or("lanes", 0, number(0..=256))?,
    };
    section.finish()?;
    Ok(threads)
}
