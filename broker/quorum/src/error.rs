//! What the controller answers when it refuses: Kafka's error, and a sentence for the person who reads it.

use serde::{Deserialize, Serialize};

/// Kafka's errors that the controller gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ErrorName {
    /// −1: something that should not happen did.
    UnknownServerError,
    /// 3: no such topic or partition.
    UnknownTopicOrPartition,
    /// 7: not answered in time.
    RequestTimedOut,
    /// 15: a coordinator's topic cannot be made yet.
    CoordinatorNotAvailable,
    /// 17: not a name for a topic.
    InvalidTopicException,
    /// 35: not at the level that the cluster uses.
    UnsupportedVersion,
    /// 36: there is one of this name.
    TopicAlreadyExists,
    /// 37: too few, too many, or fewer than there are.
    InvalidPartitions,
    /// 38: too many replicas.
    InvalidReplicationFactor,
    /// 39: replicas that cannot be placed so.
    InvalidReplicaAssignment,
    /// 40: a key that is not known, or a value that it does not take.
    InvalidConfig,
    /// 41: the broker asked does not lead the quorum, or no one does.
    NotController,
    /// 42: a request that cannot be meant.
    InvalidRequest,
    /// 44: refused by a rule of this cluster.
    PolicyViolation,
    /// 74: a request of a leader that was replaced.
    FencedLeaderEpoch,
    /// 77: a heartbeat of a registration that is over.
    StaleBrokerEpoch,
    /// 80: the preferred leader is away or not in sync.
    PreferredLeaderNotAvailable,
    /// 83: no replica that could lead is alive.
    EligibleLeadersNotAvailable,
    /// 84: the leader is the one that is wanted.
    ElectionNotNeeded,
    /// 85: nothing is being moved.
    NoReassignmentInProgress,
    /// 95: made to a state that is not the newest.
    InvalidUpdateVersion,
    /// 100: no topic has this id.
    UnknownTopicId,
    /// 101: another live broker has this id.
    DuplicateBrokerRegistration,
    /// 102: the broker is not registered.
    BrokerIdNotRegistered,
    /// 104: the broker belongs to another cluster.
    InconsistentClusterId,
    /// 107: a replica that may not be in sync.
    IneligibleReplica,
}

impl ErrorName {
    /// Kafka's number for it.
    pub fn code(self) -> i16 {
        match self {
            Self::UnknownServerError => -1,
            Self::UnknownTopicOrPartition => 3,
            Self::RequestTimedOut => 7,
            Self::CoordinatorNotAvailable => 15,
            Self::InvalidTopicException => 17,
            Self::UnsupportedVersion => 35,
            Self::TopicAlreadyExists => 36,
            Self::InvalidPartitions => 37,
            Self::InvalidReplicationFactor => 38,
            Self::InvalidReplicaAssignment => 39,
            Self::InvalidConfig => 40,
            Self::NotController => 41,
            Self::InvalidRequest => 42,
            Self::PolicyViolation => 44,
            Self::FencedLeaderEpoch => 74,
            Self::StaleBrokerEpoch => 77,
            Self::PreferredLeaderNotAvailable => 80,
            Self::EligibleLeadersNotAvailable => 83,
            Self::ElectionNotNeeded => 84,
            Self::NoReassignmentInProgress => 85,
            Self::InvalidUpdateVersion => 95,
            Self::UnknownTopicId => 100,
            Self::DuplicateBrokerRegistration => 101,
            Self::BrokerIdNotRegistered => 102,
            Self::InconsistentClusterId => 104,
            Self::IneligibleReplica => 107,
        }
    }

    /// Kafka's name for it, such as `TOPIC_ALREADY_EXISTS`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::UnknownServerError => "UNKNOWN_SERVER_ERROR",
            Self::UnknownTopicOrPartition => "UNKNOWN_TOPIC_OR_PARTITION",
            Self::RequestTimedOut => "REQUEST_TIMED_OUT",
            Self::CoordinatorNotAvailable => "COORDINATOR_NOT_AVAILABLE",
            Self::InvalidTopicException => "INVALID_TOPIC_EXCEPTION",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::TopicAlreadyExists => "TOPIC_ALREADY_EXISTS",
            Self::InvalidPartitions => "INVALID_PARTITIONS",
            Self::InvalidReplicationFactor => "INVALID_REPLICATION_FACTOR",
            Self::InvalidReplicaAssignment => "INVALID_REPLICA_ASSIGNMENT",
            Self::InvalidConfig => "INVALID_CONFIG",
            Self::NotController => "NOT_CONTROLLER",
            Self::InvalidRequest => "INVALID_REQUEST",
            Self::PolicyViolation => "POLICY_VIOLATION",
            Self::FencedLeaderEpoch => "FENCED_LEADER_EPOCH",
            Self::StaleBrokerEpoch => "STALE_BROKER_EPOCH",
            Self::PreferredLeaderNotAvailable => "PREFERRED_LEADER_NOT_AVAILABLE",
            Self::EligibleLeadersNotAvailable => "ELIGIBLE_LEADERS_NOT_AVAILABLE",
            Self::ElectionNotNeeded => "ELECTION_NOT_NEEDED",
            Self::NoReassignmentInProgress => "NO_REASSIGNMENT_IN_PROGRESS",
            Self::InvalidUpdateVersion => "INVALID_UPDATE_VERSION",
            Self::UnknownTopicId => "UNKNOWN_TOPIC_ID",
            Self::DuplicateBrokerRegistration => "DUPLICATE_BROKER_REGISTRATION",
            Self::BrokerIdNotRegistered => "BROKER_ID_NOT_REGISTERED",
            Self::InconsistentClusterId => "INCONSISTENT_CLUSTER_ID",
            Self::IneligibleReplica => "INELIGIBLE_REPLICA",
        }
    }
}

impl std::fmt::Display for ErrorName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal: Kafka's error, and what was wrong and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{name}: {message}")]
pub struct ControlError {
    /// Kafka's error.
    pub name: ErrorName,
    /// What was wrong and what is allowed.
    pub message: String,
}

impl ControlError {
    /// A refusal.
    pub fn new(name: ErrorName, message: impl Into<String>) -> Self {
        Self {
            name,
            message: message.into(),
        }
    }
}
