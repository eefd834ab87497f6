//! Which fields there are, what they may hold, and what they are when nobody says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use weir_quorum::controller::FEATURE_LEVEL;
use weir_quorum::{ControlError, configs};

use super::reader::{ConfigError, Environment, Section};
use super::values::{HostPort, bytes, duration, host_port, name, number, text, truth, word};
use super::{
    ClusterConfig, Config, Endpoint, GroupConfig, Limits, Listener, LogFormat, Threads,
    TopicDefaults, TransactionConfig,
};

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
            .filter(|(name, _)| name.starts_with("WEIR_") || name == OTLP_ENDPOINT)
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
        let kafka = listener(listeners.section("kafka")?, 9092, numbered)?;
        let mut section = listeners.section("quorum")?;
        let quorum_tls = tls(section.section("tls")?, numbered)?;
        let quorum = listener(section, 9094, numbered)?;
        let mut section = listeners.section("http")?;
        let http = section.or("bind", any_interface(9600), |value| {
            host_port(&numbered(value))
        })?;
        section.finish()?;
        let mut section = listeners.section("grpc")?;
        let grpc = section.optional("bind", |value| host_port(&numbered(value)))?;
        section.finish()?;
        listeners.finish()?;

        let peers = document.list("peers", host_port)?;
        let log_dirs =
            document.list("log_dirs", |value| text(value).map(|path| numbered(&path)))?;
        let config = Self {
            cluster: cluster(document.section("cluster")?, peers.len())?,
            broker_id,
            rack,
            data_dir: PathBuf::from(numbered(&data_dir)),
            log_dirs: log_dirs.into_iter().map(PathBuf::from).collect(),
            kafka,
            quorum,
            quorum_tls,
            http,
            grpc,
            peers,
            topics: topics(document.section("topics")?)?,
            groups: groups(document.section("groups")?)?,
            transactions: transactions(document.section("transactions")?)?,
            limits: limits(document.section("limits")?)?,
            threads: threads(document.section("threads")?)?,
            otlp_endpoint: otlp_endpoint(document.section("tracing")?, environment)?,
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

/// OpenTelemetry's own name for where everything is sent.
const OTLP_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";

fn otlp_endpoint(
    mut section: Section<'_>,
    environment: &Environment,
) -> Result<Option<Endpoint>, ConfigError> {
    let said = section.optional("otlp_endpoint", Endpoint::parse)?;
    section.finish()?;
    let from_environment = environment
        .get(OTLP_ENDPOINT)
        .filter(|url| !url.trim().is_empty());
    match (said, from_environment) {
        (None, Some(url)) => {
            let endpoint = Endpoint::parse(url);
            endpoint.map(Some).map_err(|allowed| ConfigError::Invalid {
                field: format!("environment variable {OTLP_ENDPOINT}"),
                found: format!("{url:?}"),
                allowed,
            })
        }
        (said, _) => Ok(said),
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
        let mut dirs = BTreeSet::from([self.data_dir.as_path()]);
        if let Some(twice) = self.log_dirs.iter().find(|dir| !dirs.insert(dir.as_path())) {
            let allowed = "directories that differ from one another and from data_dir";
            return invalid("log_dirs", twice.display().to_string(), allowed.to_owned());
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

    /// Where partitions lie.
    #[must_use]
    pub fn partition_dirs(&self) -> Vec<PathBuf> {
        if self.log_dirs.is_empty() {
            return vec![self.data_dir.join("log")];
        }
        self.log_dirs.clone()
    }

    /// What the file says, by the names that Kafka gives to brokers' configurations.
    pub fn settings(&self) -> Result<configs::Settings, ControlError> {
        let ms = |duration: Duration| duration.as_millis().to_string();
        let mut values = BTreeMap::from(
            [
                ("num.partitions", self.topics.num_partitions.to_string()),
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
                (
                    "transaction.max.timeout.ms",
                    ms(self.transactions.timeout_max),
                ),
                (
                    "transactional.id.expiration.ms",
                    ms(self.transactions.id_expiration),
                ),
                (
                    "transaction.state.log.num.partitions",
                    self.transactions.state_partitions.to_string(),
                ),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if let Some(factor) = self.topics.replication_factor {
            values.insert("default.replication.factor".to_owned(), factor.to_string());
        }
        values.extend(self.topics.controller.clone());
        let id = self.broker_id.to_string();
        let plaintext = |address: &HostPort| format!("PLAINTEXT://{address}");
        let log_dirs = self.partition_dirs();
        let log_dirs: Vec<_> = log_dirs
            .iter()
            .map(|dir| dir.display().to_string())
            .collect();
        let log_dirs = log_dirs.join(",");
        let described = [
            ("broker.id", id.clone()),
            ("node.id", id),
            ("broker.rack", self.rack.clone().unwrap_or_default()),
            ("listeners", plaintext(&self.kafka.bind)),
            ("advertised.listeners", plaintext(&self.kafka.advertised)),
            ("log.dirs", log_dirs),
            ("connections.max.idle.ms", ms(self.limits.idle)),
            (
                "socket.request.max.bytes",
                self.limits.request_bytes.to_string(),
            ),
            ("fetch.max.bytes", self.limits.fetch_bytes.to_string()),
        ];
        values.extend(described.map(|(name, value)| (name.to_owned(), value)));
        for (name, value) in &self.topics.config {
            if let Some(name) = configs::topic_def(name)?.cluster_name {
                values.insert(name.to_owned(), value.clone());
            }
        }
        let brokers = usize::try_from(self.cluster.brokers).unwrap_or(1);
        Ok(configs::Settings::new(values)?.of_cluster(brokers))
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

/// All three or none.
fn tls(
    mut section: Section<'_>,
    numbered: impl Fn(&str) -> String,
) -> Result<Option<weir_tls::Files>, ConfigError> {
    let path = |value: &str| text(value).map(|path| PathBuf::from(numbered(&path)));
    let given = section.optional("ca", path)?;
    let files = match given {
        None => {
            // So that the error is about what is missing.
            for other in ["certificate", "key"] {
                if section.optional(other, path)?.is_some() {
                    section.required("ca", "the path of the authorities' certificates", path)?;
                }
            }
            None
        }
        Some(authorities) => Some(weir_tls::Files {
            authorities,
            certificate: section.required("certificate", "the path of a certificate", path)?,
            key: section.required("key", "the path of the certificate's private key", path)?,
        }),
    };
    section.finish()?;
    Ok(files)
}

fn listener(
    mut section: Section<'_>,
    port: u16,
    numbered: impl Fn(&str) -> String,
) -> Result<Listener, ConfigError> {
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
        feature_level: section.or("feature_level", FEATURE_LEVEL, number(1..=FEATURE_LEVEL))?,
    };
    section.finish()?;
    Ok(config)
}

fn topics(mut section: Section<'_>) -> Result<TopicDefaults, ConfigError> {
    let defaults = TopicDefaults {
        // 10,000: more than one broker is meant to lead for one topic.
        num_partitions: section.or("num.partitions", 1, number(1..=10_000))?,
        replication_factor: section.optional("default.replication.factor", number(1..=9))?,
        auto_create: section.or("auto.create.topics.enable", false, truth)?,
        controller: {
            let mut said = BTreeMap::new();
            for name in CLUSTER_CONFIGS {
                let checked = |value: &str| check_broker_config(name, value);
                if let Some(value) = section.optional(name, checked)? {
                    said.insert(name.to_owned(), value);
                }
            }
            said
        },
        config: section.rest(&topic_config_names(), check_topic_config)?,
    };
    section.finish()?;
    Ok(defaults)
}

/// What the controller and leaders heed, by Kafka's names, besides topics' own configurations.
const CLUSTER_CONFIGS: [&str; 10] = [
    "auto.leader.rebalance.enable",
    "follower.replication.throttled.rate",
    "leader.imbalance.check.interval.seconds",
    "leader.replication.throttled.rate",
    "offsets.topic.replication.factor",
    "share.coordinator.state.topic.min.isr",
    "share.coordinator.state.topic.num.partitions",
    "share.coordinator.state.topic.replication.factor",
    "transaction.state.log.min.isr",
    "transaction.state.log.replication.factor",
];

fn check_broker_config(name: &str, value: &str) -> Result<String, String> {
    let checked = configs::broker_def(name).and_then(|def| {
        let value = def.normal(value);
        def.check(&value).map(|()| value)
    });
    checked.map_err(|error| error.message)
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

fn transactions(mut section: Section<'_>) -> Result<TransactionConfig, ConfigError> {
    let config = TransactionConfig {
        timeout_max: section.or("timeout_max", SECOND * 900, duration(SECOND..=DAY))?,
        // Kafka has 31 bits for the milliseconds.
        id_expiration: section.or("id_expiration", DAY * 7, duration(SECOND..=DAY * 24))?,
        state_partitions: section.or("state_partitions", 50, number(1..=1_000))?,
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
