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
//!   feature_level: 1               # optional; as if this were an older version, to try upgrades out
//! broker:
//!   id: hostname                   # a number, or `hostname`: the number after the last '-' of the host's name
//!   rack: eu-west-1a               # optional
//! data_dir: /var/lib/weir
//! log_dirs: [/disk1/weir, /disk2/weir]   # optional; where partitions lie instead of below data_dir
//! listeners:
//!   kafka: { bind: "0.0.0.0:9092", advertised: "shop-{id}.shop-brokers:9092" }
//!   quorum:
//!     bind: "0.0.0.0:9094"
//!     advertised: "shop-{id}.shop-brokers:9094"
//!     tls:                         # a broker that is alone makes its own when nothing is said
//!       ca: /etc/weir-tls/ca.crt
//!       certificate: "/etc/weir-tls/broker-{id}.crt"
//!       key: "/etc/weir-tls/broker-{id}.key"
//!   http: { bind: "0.0.0.0:9600" }
//!   grpc: { bind: "0.0.0.0:9096" } # optional; what clients do with queues over gRPC
//! tracing:
//!   otlp_endpoint: "http://collector:4318"   # optional; the environment's OTEL_EXPORTER_OTLP_ENDPOINT where it is not said
//! peers: ["shop-0.shop-brokers:9094", "shop-1.shop-brokers:9094", "shop-2.shop-brokers:9094"]
//! topics:
//!   num.partitions: 1
//!   default.replication.factor: 3  # optional, as is the number for each of the brokers' own topics
//!   offsets.topic.replication.factor: 3
//!   retention.ms: 604800000        # any topic configuration, as the cluster's default
//! ```

mod parse;
mod reader;
#[cfg(test)]
mod tests;
mod values;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

pub use reader::{ConfigError, Environment};
pub use values::HostPort;

use crate::queue::trace::Endpoint;

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
    /// Directories that partitions are spread over, each best on a disk of its own (`log.dirs`). Empty: one below `data_dir`.
    pub log_dirs: Vec<PathBuf>,
    /// Where clients connect.
    pub kafka: Listener,
    /// Where brokers and the operator connect: quorum and administration over gRPC.
    pub quorum: Listener,
    /// The certificates that the quorum listener is spoken over with, in files that are read again when they change. `None`: this
    /// broker is alone and makes its own.
    pub quorum_tls: Option<weir_tls::Files>,
    /// Where metrics and health are served.
    pub http: HostPort,
    /// Where clients of gRPC connect; nowhere when it is not said.
    pub grpc: Option<HostPort>,
    /// Quorum addresses of the brokers 0, 1, 2, … in this order. Empty: this broker is alone.
    pub peers: Vec<HostPort>,
    /// What a topic gets that does not say otherwise.
    pub topics: TopicDefaults,
    /// Bounds and defaults of consumer groups.
    pub groups: GroupConfig,
    /// Bounds and defaults of transactions.
    pub transactions: TransactionConfig,
    /// What one broker takes at most.
    pub limits: Limits,
    /// Threads.
    pub threads: Threads,
    /// Where spans of traced messages are sent; nowhere when it is not said.
    pub otlp_endpoint: Option<Endpoint>,
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
    /// The newest feature level that this broker says it knows: lower than it could be, it behaves in that as an older version does.
    pub feature_level: u32,
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
    /// Replicas of a topic that is created without a number (`default.replication.factor`). Unset: 3, or as many as there
    /// are brokers where that is less.
    pub replication_factor: Option<i16>,
    /// Whether a client that asks for a topic's metadata creates it (`auto.create.topics.enable`).
    pub auto_create: bool,
    /// What else the controller heeds, by Kafka's names of brokers' configurations (`offsets.topic.replication.factor`).
    pub controller: BTreeMap<String, String>,
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

/// Bounds and defaults of transactions.
#[derive(Clone, Debug, PartialEq)]
pub struct TransactionConfig {
    /// The longest that a producer may let a transaction take (`transaction.max.timeout.ms`).
    pub timeout_max: Duration,
    /// How long an id is remembered that nobody uses (`transactional.id.expiration.ms`).
    pub id_expiration: Duration,
    /// Partitions of `__transaction_state` when it is created (`transaction.state.log.num.partitions`).
    pub state_partitions: i32,
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
