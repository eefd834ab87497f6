//! What was observed: processes, and what the brokers say of themselves, their topics and groups.
//!
//! Plain values without any client. `decide` reads them; the Kubernetes and the local side fill them in. All maps are ordered, so
//! that the same world always gives the same plan.

use std::collections::BTreeMap;
use std::fmt;

/// A broker's id: the ordinal of its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrokerId(pub u32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Namespace and name of a custom resource.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Empty only for manifests that never saw a Kubernetes.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl Key {
    /// A key of its two parts.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// One broker's pod, or its process on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Hash of what it was started with; `None` when that cannot be told.
    pub hash: Option<String>,
    /// It answered its readiness probe.
    pub ready: bool,
    /// It is on its way out already.
    pub leaving: bool,
}

/// What one broker that answered said of the cluster. All of it is from one moment, as that broker's metadata has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The cluster id on the brokers' disks; empty until the cluster has formed.
    pub cluster_id: String,
    /// The controller, while one is elected.
    pub controller: Option<BrokerId>,
    /// All registered brokers.
    pub brokers: BTreeMap<BrokerId, BrokerSeen>,
    /// Who votes in the metadata quorum.
    pub voters: Vec<BrokerId>,
    /// All topics, internal ones included.
    pub topics: BTreeMap<String, TopicSeen>,
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BrokerSeen {
    /// Heartbeats arrive.
    pub alive: bool,
    /// The version that it reports.
    pub version: String,
    /// Partition replicas on its disk.
    pub replicas: u32,
    /// Partitions that it leads.
    pub leaders: u32,
}

/// A topic as the brokers have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicSeen {
    /// Kafka's topic id, as text.
    pub id: String,
    /// Number of partitions.
    pub partitions: u32,
    /// Replicas of each partition.
    pub replication_factor: u32,
    /// What differs from the cluster's defaults.
    pub config: BTreeMap<String, String>,
    /// The brokers' own, such as `__consumer_offsets`.
    pub internal: bool,
    /// Partitions without a live leader.
    pub offline_partitions: u32,
    /// Partitions with fewer in-sync replicas than replicas.
    pub under_replicated_partitions: u32,
}

/// A consumer group as its coordinator has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GroupSeen {
    /// Kafka's name of the state (`Stable`, `Empty`, `Dead` …).
    pub state: String,
    /// Members that are in the group.
    pub members: u32,
    /// Lag for each partition that has a committed offset.
    pub lag: Vec<PartitionLag>,
}

/// What a group has yet to read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// Records yet to be read.
    pub records: i64,
    /// Age of the oldest of them in milliseconds; 0 when there is none.
    pub age_ms: i64,
}

/// Why something was refused by the brokers: Kafka's error name and the brokers' own words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    /// Kafka's name of the error, such as `INVALID_REPLICATION_FACTOR`.
    pub code: String,
    /// What was wrong and what is allowed.
    pub message: String,
}
