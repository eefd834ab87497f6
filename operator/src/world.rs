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

/// Where a broker's volume lies, as far as it can be lost with that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// On no node in particular.
    Anywhere,
    /// On one of these nodes and on no other.
    On {
        /// As the volume names them (label `kubernetes.io/hostname`).
        names: Vec<String>,
        /// What is known of them: of the one that is best off, if there are several.
        state: NodeState,
    },
    /// That could not be read.
    Unread {
        /// Why.
        why: String,
        /// What Kubernetes says of the pod is more than a restart: no node takes it, its node does not answer, or it has not been ready for minutes.
        missed: bool,
    },
}

/// What Kubernetes knows of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeState {
    /// It is ready.
    Ready,
    /// There is a Node object, and the node does not answer or is not ready.
    Unreachable,
    /// There is no Node object.
    Gone,
}

impl Home {
    /// What is known of the node.
    #[must_use]
    pub fn state(&self) -> Option<NodeState> {
        match self {
            Self::On { state, .. } => Some(*state),
            Self::Anywhere | Self::Unread { .. } => None,
        }
    }
}

impl fmt::Display for Home {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anywhere => f.write_str("its volume lies on no node in particular"),
            Self::On { names, state } => {
                let what = match state {
                    NodeState::Ready => "is ready",
                    NodeState::Unreachable => "is not ready",
                    NodeState::Gone => "is gone",
                };
                write!(f, "the node of its volume, {}, {what}", names.join(" or "))
            }
            Self::Unread { why, .. } => write!(f, "where its volume lies cannot be read ({why})"),
        }
    }
}

/// What one broker that answered said of the cluster. All of it is from one moment, as that broker's metadata has it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Look {
    /// The cluster id on the brokers' disks; empty until the cluster has formed.
    pub cluster_id: String,
    /// The controller, while one is elected and the broker that answered hears from it.
    pub controller: Option<BrokerId>,
    /// All registered brokers.
    pub brokers: BTreeMap<BrokerId, BrokerSeen>,
    /// Who votes in the metadata quorum.
    pub voters: Vec<BrokerId>,
    /// All topics, internal ones included.
    pub topics: BTreeMap<String, TopicSeen>,
    /// The finalised feature level.
    pub feature_level: u32,
    /// Replicas are being spread evenly over the brokers.
    pub rebalancing: bool,
    /// Partitions whose replicas are being moved, for whatever reason.
    pub moving_partitions: u32,
    /// Whether the brokers can open listeners while they run.
    pub sets_listeners: bool,
    /// Whether they can open listeners whose clients speak TLS.
    pub tls_listeners: bool,
    /// Whether brokers can be told configurations while they run.
    pub configures: bool,
    /// What was set for all brokers while they run, by their names for it.
    pub config: BTreeMap<String, String>,
    /// Which feature levels brokers know; `None` when the controller did not say, or is too old to.
    pub levels: Option<Levels>,
}

/// Which feature levels brokers know, as the controller has heard.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Levels {
    /// The newest that each registered broker knows.
    pub newest: BTreeMap<BrokerId, u32>,
    /// Brokers that were not let in, since they know less than the cluster uses, and the newest that they know.
    pub refused: BTreeMap<BrokerId, u32>,
}

/// Moving replicas by themselves, and with it draining and spreading, is something that brokers do from this feature level on.
pub const MOVES_LEVEL: u32 = 2;

/// How many brokers vote in the metadata quorum, where there are as many.
pub const VOTERS: usize = 3;

impl Look {
    /// Whether it is the newest. A broker that hears from no controller may be cut off from the others: who is alive, and what partitions need,
    /// may have changed since it last heard.
    #[must_use]
    pub fn is_confirmed(&self) -> bool {
        self.controller.is_some()
    }

    /// How many of the first brokers, as many as there are to be, are alive. One that leaves stands in for none of them.
    #[must_use]
    pub fn alive(&self, size: u32) -> usize {
        let seen = |broker| self.brokers.get(&BrokerId(broker));
        (0..size)
            .filter_map(seen)
            .filter(|broker| broker.alive)
            .count()
    }

    /// How many more brokers should vote, in a cluster of this size: three of three and more, one of fewer.
    #[must_use]
    pub fn missing_voters(&self, brokers: u32) -> usize {
        let wanted = if brokers as usize >= VOTERS {
            VOTERS
        } else {
            1
        };
        wanted.saturating_sub(self.voters.len())
    }

    /// Whether a broker holds nothing that the cluster would miss, and will get nothing: it is being drained, has no replica left, and does
    /// not vote. One that is not registered was never given anything, or has been forgotten after it was empty.
    #[must_use]
    pub fn is_empty(&self, broker: BrokerId) -> bool {
        let is_drained = |seen: &BrokerSeen| {
            seen.draining && seen.replicas == 0 && !self.voters.contains(&broker)
        };
        self.brokers.get(&broker).is_none_or(is_drained)
    }
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
    /// The disk that it is registered with: a new disk is a new incarnation.
    pub incarnation: String,
    /// It gets no new replicas.
    pub cordoned: bool,
    /// It is being emptied.
    pub draining: bool,
    /// Partitions that cannot spare it now, though they could once their other replicas have caught up; `None` when the brokers are too old
    /// to say.
    pub needed: Option<Needed>,
    /// Replicas on it that lack some of what the leader has.
    pub out_of_sync: u32,
    /// Partitions of which nobody else has everything that was acknowledged; `None` when the brokers are too old to say.
    pub last_copies: Option<Needed>,
    /// Its listeners besides the one of its file, in the order of their names.
    pub listeners: Vec<ListenerAt>,
}

/// A listener of one broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerAt {
    /// Its name.
    pub name: String,
    /// What the broker listens on.
    pub port: u16,
    /// Clients speak TLS.
    pub tls: bool,
    /// Where clients reach it, once that is known.
    pub advertised: Option<HostPort>,
}

/// A host and a port that clients are told.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name in DNS, or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An address of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its type, as a Node's status has it (`ExternalIP`, `InternalIP` …).
    pub kind: String,
    /// The address.
    pub address: String,
}

/// Partitions that need a broker for something.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Needed {
    /// How many.
    pub partitions: u32,
    /// The first of them, as `topic-partition`.
    pub named: Vec<String>,
}

/// The file system that a broker's data lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Disk {
    /// Its size.
    pub total_bytes: u64,
    /// What can still be written.
    pub available_bytes: u64,
}

/// A topic as the brokers have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicSeen {
    /// Kafka's topic id, as text.
    pub id: String,
    /// Number of partitions.
    pub partitions: u32,
    /// The most replicas that a partition has or is getting.
    pub replication_factor: u32,
    /// The number that they are to have, while that is being changed.
    pub wanted_replication_factor: Option<u32>,
    /// Partitions whose replicas are being moved.
    pub moving_partitions: u32,
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
    /// Whether its members read, as far as the brokers have a say in it; `None` when they are too old to have one.
    pub consumption: Option<Consumption>,
    /// What is set for it, by name.
    pub config: BTreeMap<String, String>,
}

/// Whether the members of a group read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consumption {
    /// Nothing keeps them from it.
    Running,
    /// The group is paused, and members have partitions to give up.
    Pausing,
    /// The group is paused, and no member has a partition.
    Paused,
    /// The group is to be paused, and its members speak a protocol that the brokers cannot speak for.
    NotPausable,
}

impl Consumption {
    /// As the brokers and the status name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "Running",
            Self::Pausing => "Pausing",
            Self::Paused => "Paused",
            Self::NotPausable => "NotPausable",
        }
    }

    /// Reads a name; `None` for one that is not known.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        let all = [
            Self::Running,
            Self::Pausing,
            Self::Paused,
            Self::NotPausable,
        ];
        all.into_iter().find(|known| known.name() == name)
    }

    /// Whether the group has been asked to pause.
    #[must_use]
    pub fn is_to_be_paused(self) -> bool {
        self != Self::Running
    }
}

/// What has come of a reset that the brokers did not refuse.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResetSeen {
    /// It was carried out by an earlier call: nothing has changed now.
    pub before: bool,
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// Members that were fenced.
    pub fenced: u32,
    /// Topic, partition, and its offset before and after.
    pub partitions: Vec<(String, i32, Option<i64>, Option<i64>)>,
}

/// What a group has yet to read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionLag {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset that the group will read.
    pub committed_offset: i64,
    /// Records yet to be read.
    pub records: i64,
    /// Age of the oldest of them in milliseconds; 0 when there is none.
    pub age_ms: i64,
    /// Partitions that the topic has; 0 when the brokers are too old to say.
    pub topic_partitions: u32,
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
