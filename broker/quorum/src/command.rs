//! What can be asked of the controller, and what it answers.
//!
//! Commands travel between brokers as JSON, so brokers of two versions read each other's: fields may be added with a
//! default, and are not refused here as they are in records.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::ControlError;
use crate::ids::{BrokerEpoch, BrokerId, Incarnation, LeaderEpoch, PartitionEpoch, TopicId};
use crate::listeners::Listener;
use crate::quotas::{QuotaEntity, Rate};
use crate::record::HostPort;

/// A request to the controller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A broker has started. Answered with [`Reply::Registered`].
    RegisterBroker(RegisterBroker),
    /// A broker is alive. Answered with [`Reply::Heartbeat`].
    Heartbeat(Heartbeat),
    /// Nobody listens where a broker should. Answered with [`Reply::Done`], whatever the controller finds when it looks for
    /// itself.
    Suspect(Suspect),
    /// A broker says goodbye: it is fenced at once. Answered with [`Reply::Done`].
    Goodbye(Goodbye),
    /// A broker names replicas of its own that may lack what it had. Answered with [`Reply::Done`].
    ReportLost(ReportLost),
    /// A broker gets no new replicas, or does again; then it is not emptied any more either. Answered with [`Reply::Done`].
    Cordon(Cordon),
    /// A broker is emptied: it gets no new replicas, and those that it has go to others, some at a time. Answered with
    /// [`Reply::Done`].
    Drain {
        /// The broker.
        id: BrokerId,
    },
    /// Replicas are spread evenly over the brokers, some at a time, or stay where they are from here on. Answered with
    /// [`Reply::Done`].
    Rebalance {
        /// Whether to go on.
        active: bool,
    },
    /// All brokers may use the features of a level from here on; there is no way back. Answered with [`Reply::Done`].
    RaiseFeatureLevel {
        /// The level.
        level: u32,
    },
    /// Asks which feature levels brokers know. Answered with [`Reply::Levels`].
    DescribeLevels,
    /// A broker has these listeners for clients besides the one of its file, and no others. Answered with [`Reply::Done`].
    SetListeners {
        /// The broker.
        id: BrokerId,
        /// All of them.
        listeners: Vec<Listener>,
    },
    /// Topics get more or fewer replicas, some partitions at a time. Answered with [`Reply::Topics`].
    ChangeReplicas(ChangeReplicas),
    /// A leader says who is in sync with it, for each partition alone. Answered with [`Reply::Partitions`].
    AlterInSync(AlterInSync),
    /// Elects leaders, for each partition alone. Answered with [`Reply::Elections`].
    ElectLeaders(ElectLeaders),
    /// Moves replicas, of each partition alone. Answered with [`Reply::Partitions`].
    Reassign(Reassign),
    /// Creates topics, each alone. Answered with [`Reply::Topics`].
    CreateTopics(CreateTopics),
    /// Grows topics, each alone. Answered with [`Reply::Topics`].
    CreatePartitions(CreatePartitions),
    /// Deletes topics, each alone. Answered with [`Reply::Topics`].
    DeleteTopics(DeleteTopics),
    /// Changes configurations, each resource alone. Answered with [`Reply::Configs`].
    AlterConfigs(AlterConfigs),
    /// Changes client quotas, each entity alone. Answered with [`Reply::Quotas`].
    AlterQuotas(AlterQuotas),
    /// Forgets a broker that is gone for good. Answered with [`Reply::Done`].
    UnregisterBroker {
        /// The broker.
        id: BrokerId,
    },
    /// Takes a block of producer ids. Answered with [`Reply::ProducerIds`].
    AllocateProducerIds(AllocateProducerIds),
    /// Makes sure that one of the brokers' own topics exists, with the partitions and the configuration that it has to
    /// have. Answered with [`Reply::Topics`]; that it is there already is no error.
    EnsureInternalTopic {
        /// Such as `__consumer_offsets` ([`crate::topics::INTERNAL_TOPICS`]).
        name: String,
    },
}

impl Command {
    /// The broker in whose name it is, where it is in that of one: nobody else may give it. What any broker may pass on for a
    /// client has none.
    #[must_use]
    pub fn speaker(&self) -> Option<BrokerId> {
        match self {
            Self::RegisterBroker(command) => Some(command.id),
            Self::Heartbeat(command) => Some(command.id),
            Self::Goodbye(command) => Some(command.id),
            Self::ReportLost(command) => Some(command.id),
            Self::AlterInSync(command) => Some(command.id),
            Self::AllocateProducerIds(command) => Some(command.id),
            Self::Suspect(command) => Some(command.reporter),
            Self::Drain { .. }
            | Self::Rebalance { .. }
            | Self::RaiseFeatureLevel { .. }
            | Self::DescribeLevels
            | Self::SetListeners { .. }
            | Self::ChangeReplicas(_)
            | Self::Cordon(_)
            | Self::ElectLeaders(_)
            | Self::Reassign(_)
            | Self::CreateTopics(_)
            | Self::CreatePartitions(_)
            | Self::DeleteTopics(_)
            | Self::AlterConfigs(_)
            | Self::AlterQuotas(_)
            | Self::UnregisterBroker { .. }
            | Self::EnsureInternalTopic { .. } => None,
        }
    }
}

/// See [`Command::RegisterBroker`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterBroker {
    /// The broker.
    pub id: BrokerId,
    /// Its disk.
    pub incarnation: Incarnation,
    /// Where clients reach it.
    pub kafka: HostPort,
    /// Where other brokers and the operator reach it, host:port.
    pub quorum_address: String,
    /// The failure domain that it stands in.
    pub rack: Option<String>,
    /// The version of its software.
    pub version: String,
    /// The newest feature level that it knows.
    pub feature_level: u32,
}

/// See [`Command::Heartbeat`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// Whether it is ready to lead and serve: its logs are recovered and its metadata is caught up.
    pub ready: bool,
    /// Whether it is about to stop, and asks whether it may.
    #[serde(default)]
    pub stopping: bool,
    /// Whether its disk has no room for what it leads: others lead where they can.
    #[serde(default)]
    pub full: bool,
    /// The newest feature level that it knows.
    #[serde(default = "first_level")]
    pub feature_level: u32,
    /// How large its replicas are, told now and then while replicas are being moved: partition and bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sizes: Vec<(TopicId, i32, u64)>,
}

/// See [`Command::Suspect`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suspect {
    /// Who says so.
    pub reporter: BrokerId,
    /// The broker.
    pub id: BrokerId,
    /// The registration in which it was last known to be there.
    pub epoch: BrokerEpoch,
}

/// What brokers know that do not say.
fn first_level() -> u32 {
    1
}

/// See [`Command::ReportLost`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportLost {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// The partitions, by topic and index.
    pub partitions: BTreeSet<(TopicId, i32)>,
    /// How far their logs reach all the same, where they can be read.
    #[serde(default)]
    pub ends: Vec<LogEnd>,
}

/// How far a replica's log reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogEnd {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub index: i32,
    /// The epoch of its last batch.
    pub leader_epoch: LeaderEpoch,
    /// The offset after its last record.
    pub end: i64,
}

/// See [`Command::Cordon`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cordon {
    /// The broker.
    pub id: BrokerId,
    /// Whether it gets no new replicas.
    pub cordoned: bool,
}

/// See [`Command::ChangeReplicas`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeReplicas {
    /// The topics, by name, and how many replicas each of their partitions is to have.
    pub topics: Vec<(String, i32)>,
    /// Only say what would come of it.
    pub validate_only: bool,
}

/// See [`Command::AlterInSync`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterInSync {
    /// The leader of all of them.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
    /// The partitions.
    pub partitions: Vec<InSyncChange>,
}

/// The in-sync set of one partition, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSyncChange {
    /// The topic.
    pub topic: TopicId,
    /// The partition's index.
    pub index: i32,
    /// The epoch in which the broker leads it.
    pub leader_epoch: LeaderEpoch,
    /// The state of the partition that the change is made to.
    pub partition_epoch: PartitionEpoch,
    /// Who is in sync, each in the registration in which it was seen to be (KIP-903); the leader is among them.
    pub isr: Vec<(BrokerId, BrokerEpoch)>,
}

/// See [`Command::ElectLeaders`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectLeaders {
    /// Who is to lead.
    pub election: Election,
    /// The partitions by the names of their topics; `None`: all.
    pub partitions: Option<Vec<(String, i32)>>,
}

/// Who is to lead a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Election {
    /// The first of its replicas, if it is in sync.
    Preferred,
    /// Where nobody leads: any replica that is alive, at the price of what it lacks.
    Unclean,
}

/// See [`Command::Reassign`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassign {
    /// The partitions.
    pub partitions: Vec<Reassignment>,
    /// Whether partitions may get more or fewer replicas than they have (KIP-860).
    pub allow_replication_factor_change: bool,
}

/// Where one partition is to be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reassignment {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub index: i32,
    /// The brokers that are to hold it, the preferred leader first; `None` cancels what is under way.
    pub replicas: Option<Vec<BrokerId>>,
}

/// See [`Command::Goodbye`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goodbye {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// See [`Command::CreateTopics`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateTopics {
    /// The topics.
    pub topics: Vec<NewTopic>,
    /// Only say what would come of it.
    pub validate_only: bool,
}

/// A topic to create.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` (Kafka's −1): the cluster's `num.partitions`.
    pub partitions: Option<i32>,
    /// How many replicas of each; `None` (Kafka's −1): the cluster's `default.replication.factor`.
    pub replication_factor: Option<i32>,
    /// Which brokers hold which partition, by index from 0, the preferred leader first. Empty: the controller places
    /// them. With an assignment, both numbers above must be `None`.
    pub assignments: BTreeMap<i32, Vec<BrokerId>>,
    /// What differs from the cluster's defaults.
    pub config: BTreeMap<String, String>,
}

/// See [`Command::CreatePartitions`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreatePartitions {
    /// The topics.
    pub topics: Vec<MorePartitions>,
    /// Only say what would come of it.
    pub validate_only: bool,
}

/// A topic to grow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MorePartitions {
    /// The topic.
    pub name: String,
    /// How many partitions it is to have.
    pub count: i32,
    /// Which brokers hold the new ones, in order. `None`: the controller places them.
    pub assignments: Option<Vec<Vec<BrokerId>>>,
}

/// See [`Command::DeleteTopics`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteTopics {
    /// The topics.
    pub topics: Vec<TopicRef>,
}

/// A topic by its name or its id.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum TopicRef {
    /// By name.
    Name(String),
    /// By id.
    Id(TopicId),
}

/// See [`Command::AlterConfigs`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterConfigs {
    /// The resources and what to change of each; all of one resource's changes happen, or none.
    pub resources: Vec<ConfigChanges>,
    /// Only say what would come of it.
    pub validate_only: bool,
}

/// What to change of one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigChanges {
    /// Whose configuration.
    pub resource: ConfigResource,
    /// The changes.
    pub ops: Vec<ConfigOp>,
}

/// Whose configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ConfigResource {
    /// A topic's, by name.
    Topic(String),
    /// One broker's.
    Broker(BrokerId),
    /// Every broker's default (Kafka: a broker with an empty name).
    Cluster,
    /// A group's, by its id, whether or not there is such a group.
    Group(String),
    /// A client metrics subscription's, by its name.
    ClientMetrics(String),
}

/// A change of one key, as in Kafka's IncrementalAlterConfigs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigOp {
    /// The key.
    pub key: String,
    /// What happens to it.
    pub change: ConfigChange,
}

/// What happens to a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigChange {
    /// Gets this value.
    Set(String),
    /// Goes back to the default.
    Delete,
    /// Gets these members too; for lists only.
    Append(String),
    /// Loses these members; for lists only.
    Subtract(String),
}

/// See [`Command::AlterQuotas`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlterQuotas {
    /// The entities and what to change of each.
    pub entries: Vec<QuotaChanges>,
    /// Only say what would come of it.
    pub validate_only: bool,
}

/// What to change of one entity's quotas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuotaChanges {
    /// The entity.
    pub entity: QuotaEntity,
    /// What is limited, and to what; `None`: not any more.
    pub ops: Vec<(String, Option<Rate>)>,
}

/// See [`Command::AllocateProducerIds`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllocateProducerIds {
    /// The broker.
    pub id: BrokerId,
    /// Its registration.
    pub epoch: BrokerEpoch,
}

/// What the controller answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To [`Command::RegisterBroker`].
    Registered {
        /// The registration.
        epoch: BrokerEpoch,
    },
    /// To [`Command::Heartbeat`].
    Heartbeat {
        /// Whether the broker is fenced from here on.
        fenced: bool,
        /// Whether it leads nothing and gets nothing more to lead, so that it may stop.
        #[serde(default)]
        may_stop: bool,
    },
    /// To [`Command::AlterInSync`] and [`Command::Reassign`], in the order of the request.
    Partitions(Vec<Result<(), ControlError>>),
    /// To [`Command::ElectLeaders`]: what came of each partition; without a list in the request, of those alone where an
    /// election was due.
    Elections(Vec<ElectionResult>),
    /// To [`Command::CreateTopics`], [`Command::CreatePartitions`], [`Command::DeleteTopics`] and
    /// [`Command::EnsureInternalTopic`] and [`Command::ChangeReplicas`], in the order of the request.
    Topics(Vec<TopicResult>),
    /// To [`Command::AlterConfigs`], in the order of the request.
    Configs(Vec<Result<(), ControlError>>),
    /// To [`Command::AlterQuotas`], in the order of the request.
    Quotas(Vec<Result<(), ControlError>>),
    /// To [`Command::AllocateProducerIds`].
    ProducerIds {
        /// The first of the block.
        first: i64,
        /// How many there are.
        count: i32,
    },
    /// To [`Command::DescribeLevels`].
    Levels(Levels),
    /// It is done.
    Done,
}

/// Which feature levels brokers know, as far as the controller has heard.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Levels {
    /// The newest that each registered broker knows; those that have not been heard from are left out.
    pub newest: Vec<(BrokerId, u32)>,
    /// Brokers that wanted to register and know less than the cluster uses, and the newest that they know.
    pub refused: Vec<(BrokerId, u32)>,
}

/// What became of the election of one partition's leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ElectionResult {
    /// The topic's name.
    pub topic: String,
    /// The partition's index.
    pub index: i32,
    /// Whether there is another leader now.
    pub outcome: Result<(), ControlError>,
}

/// What became of one topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicResult {
    /// Its name; empty when it was asked for by an id that no topic has.
    pub name: String,
    /// Its id; absent when there is none.
    pub id: Option<TopicId>,
    /// What it has now, or would have; or why not.
    pub outcome: Result<TopicOutcome, ControlError>,
}

/// A topic's numbers after the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicOutcome {
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each has.
    pub replication_factor: i32,
}
