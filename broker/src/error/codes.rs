//! Kafka's error codes under Kafka's names. Facts of the protocol; which error gets which code is told in [`super`].

use std::fmt;

/// An error code of the protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    code: i16,
    name: &'static str,
}

impl ErrorCode {
    const fn of(code: i16, name: &'static str) -> Self {
        Self { code, name }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self.code
    }

    /// Kafka's name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Whether it stands for success.
    #[must_use]
    pub const fn is_none(self) -> bool {
        self.code == 0
    }

    /// What has no code of its own.
    pub const UNKNOWN_SERVER_ERROR: Self = Self::of(-1, "UNKNOWN_SERVER_ERROR");
    /// Done.
    pub const NONE: Self = Self::of(0, "NONE");
    /// Below the log's start or above what may be read.
    pub const OFFSET_OUT_OF_RANGE: Self = Self::of(1, "OFFSET_OUT_OF_RANGE");
    /// A batch's checksum does not match.
    pub const CORRUPT_MESSAGE: Self = Self::of(2, "CORRUPT_MESSAGE");
    /// Not in the metadata.
    pub const UNKNOWN_TOPIC_OR_PARTITION: Self = Self::of(3, "UNKNOWN_TOPIC_OR_PARTITION");
    /// The partition has no leader now.
    pub const LEADER_NOT_AVAILABLE: Self = Self::of(5, "LEADER_NOT_AVAILABLE");
    /// This broker does not lead the partition.
    pub const NOT_LEADER_OR_FOLLOWER: Self = Self::of(6, "NOT_LEADER_OR_FOLLOWER");
    /// Not acknowledged within the request's timeout.
    pub const REQUEST_TIMED_OUT: Self = Self::of(7, "REQUEST_TIMED_OUT");
    /// No broker to answer.
    pub const BROKER_NOT_AVAILABLE: Self = Self::of(8, "BROKER_NOT_AVAILABLE");
    /// This broker holds no replica.
    pub const REPLICA_NOT_AVAILABLE: Self = Self::of(9, "REPLICA_NOT_AVAILABLE");
    /// A batch is above `max.message.bytes`.
    pub const MESSAGE_TOO_LARGE: Self = Self::of(10, "MESSAGE_TOO_LARGE");
    /// A commit's metadata is too long.
    pub const OFFSET_METADATA_TOO_LARGE: Self = Self::of(12, "OFFSET_METADATA_TOO_LARGE");
    /// The coordinator is still reading its log.
    pub const COORDINATOR_LOAD_IN_PROGRESS: Self = Self::of(14, "COORDINATOR_LOAD_IN_PROGRESS");
    /// There is no coordinator now.
    pub const COORDINATOR_NOT_AVAILABLE: Self = Self::of(15, "COORDINATOR_NOT_AVAILABLE");
    /// Another broker coordinates this group.
    pub const NOT_COORDINATOR: Self = Self::of(16, "NOT_COORDINATOR");
    /// Not a name that a topic may have.
    pub const INVALID_TOPIC_EXCEPTION: Self = Self::of(17, "INVALID_TOPIC_EXCEPTION");
    /// The batch is larger than a segment.
    pub const RECORD_LIST_TOO_LARGE: Self = Self::of(18, "RECORD_LIST_TOO_LARGE");
    /// Fewer in-sync replicas than the minimum.
    pub const NOT_ENOUGH_REPLICAS: Self = Self::of(19, "NOT_ENOUGH_REPLICAS");
    /// Appended, but too few replicas have it.
    pub const NOT_ENOUGH_REPLICAS_AFTER_APPEND: Self =
        Self::of(20, "NOT_ENOUGH_REPLICAS_AFTER_APPEND");
    /// Neither 0, 1 nor all.
    pub const INVALID_REQUIRED_ACKS: Self = Self::of(21, "INVALID_REQUIRED_ACKS");
    /// A member speaks for a generation that is not current.
    pub const ILLEGAL_GENERATION: Self = Self::of(22, "ILLEGAL_GENERATION");
    /// No assignor that all members know.
    pub const INCONSISTENT_GROUP_PROTOCOL: Self = Self::of(23, "INCONSISTENT_GROUP_PROTOCOL");
    /// Not a name that a group may have.
    pub const INVALID_GROUP_ID: Self = Self::of(24, "INVALID_GROUP_ID");
    /// The group has no such member.
    pub const UNKNOWN_MEMBER_ID: Self = Self::of(25, "UNKNOWN_MEMBER_ID");
    /// Outside of the allowed range.
    pub const INVALID_SESSION_TIMEOUT: Self = Self::of(26, "INVALID_SESSION_TIMEOUT");
    /// Join again.
    pub const REBALANCE_IN_PROGRESS: Self = Self::of(27, "REBALANCE_IN_PROGRESS");
    /// The commit is larger than a record may be.
    pub const INVALID_COMMIT_OFFSET_SIZE: Self = Self::of(28, "INVALID_COMMIT_OFFSET_SIZE");
    /// Not allowed on this topic.
    pub const TOPIC_AUTHORIZATION_FAILED: Self = Self::of(29, "TOPIC_AUTHORIZATION_FAILED");
    /// Not allowed on this group.
    pub const GROUP_AUTHORIZATION_FAILED: Self = Self::of(30, "GROUP_AUTHORIZATION_FAILED");
    /// Not allowed on the cluster.
    pub const CLUSTER_AUTHORIZATION_FAILED: Self = Self::of(31, "CLUSTER_AUTHORIZATION_FAILED");
    /// Further from the broker's clock than the topic allows.
    pub const INVALID_TIMESTAMP: Self = Self::of(32, "INVALID_TIMESTAMP");
    /// Not a mechanism that this listener has.
    pub const UNSUPPORTED_SASL_MECHANISM: Self = Self::of(33, "UNSUPPORTED_SASL_MECHANISM");
    /// Not now.
    pub const ILLEGAL_SASL_STATE: Self = Self::of(34, "ILLEGAL_SASL_STATE");
    /// A version that is not served.
    pub const UNSUPPORTED_VERSION: Self = Self::of(35, "UNSUPPORTED_VERSION");
    /// A topic of this name is there.
    pub const TOPIC_ALREADY_EXISTS: Self = Self::of(36, "TOPIC_ALREADY_EXISTS");
    /// Not a number of partitions that is possible here.
    pub const INVALID_PARTITIONS: Self = Self::of(37, "INVALID_PARTITIONS");
    /// Not a replication factor that is possible here.
    pub const INVALID_REPLICATION_FACTOR: Self = Self::of(38, "INVALID_REPLICATION_FACTOR");
    /// Not a placement that is possible here.
    pub const INVALID_REPLICA_ASSIGNMENT: Self = Self::of(39, "INVALID_REPLICA_ASSIGNMENT");
    /// A configuration's name or value.
    pub const INVALID_CONFIG: Self = Self::of(40, "INVALID_CONFIG");
    /// Another broker is the controller.
    pub const NOT_CONTROLLER: Self = Self::of(41, "NOT_CONTROLLER");
    /// The request contradicts itself.
    pub const INVALID_REQUEST: Self = Self::of(42, "INVALID_REQUEST");
    /// Not possible with this record format.
    pub const UNSUPPORTED_FOR_MESSAGE_FORMAT: Self = Self::of(43, "UNSUPPORTED_FOR_MESSAGE_FORMAT");
    /// Against the topic's policy.
    pub const POLICY_VIOLATION: Self = Self::of(44, "POLICY_VIOLATION");
    /// A producer's batches have a gap.
    pub const OUT_OF_ORDER_SEQUENCE_NUMBER: Self = Self::of(45, "OUT_OF_ORDER_SEQUENCE_NUMBER");
    /// A batch that was appended long before.
    pub const DUPLICATE_SEQUENCE_NUMBER: Self = Self::of(46, "DUPLICATE_SEQUENCE_NUMBER");
    /// An older incarnation of the producer.
    pub const INVALID_PRODUCER_EPOCH: Self = Self::of(47, "INVALID_PRODUCER_EPOCH");
    /// Not possible in this state of the transaction.
    pub const INVALID_TXN_STATE: Self = Self::of(48, "INVALID_TXN_STATE");
    /// The producer id belongs to another transactional id.
    pub const INVALID_PRODUCER_ID_MAPPING: Self = Self::of(49, "INVALID_PRODUCER_ID_MAPPING");
    /// Outside of the allowed range.
    pub const INVALID_TRANSACTION_TIMEOUT: Self = Self::of(50, "INVALID_TRANSACTION_TIMEOUT");
    /// The previous transaction is still being completed.
    pub const CONCURRENT_TRANSACTIONS: Self = Self::of(51, "CONCURRENT_TRANSACTIONS");
    /// Not allowed for this transactional id.
    pub const TRANSACTIONAL_ID_AUTHORIZATION_FAILED: Self =
        Self::of(53, "TRANSACTIONAL_ID_AUTHORIZATION_FAILED");
    /// There is no authorisation to be changed.
    pub const SECURITY_DISABLED: Self = Self::of(54, "SECURITY_DISABLED");
    /// The log cannot be used.
    pub const KAFKA_STORAGE_ERROR: Self = Self::of(56, "KAFKA_STORAGE_ERROR");
    /// No such directory.
    pub const LOG_DIR_NOT_FOUND: Self = Self::of(57, "LOG_DIR_NOT_FOUND");
    /// Not who they say.
    pub const SASL_AUTHENTICATION_FAILED: Self = Self::of(58, "SASL_AUTHENTICATION_FAILED");
    /// Nothing is known of this producer.
    pub const UNKNOWN_PRODUCER_ID: Self = Self::of(59, "UNKNOWN_PRODUCER_ID");
    /// The partition is being moved.
    pub const REASSIGNMENT_IN_PROGRESS: Self = Self::of(60, "REASSIGNMENT_IN_PROGRESS");
    /// The group has members.
    pub const NON_EMPTY_GROUP: Self = Self::of(68, "NON_EMPTY_GROUP");
    /// There is no such group.
    pub const GROUP_ID_NOT_FOUND: Self = Self::of(69, "GROUP_ID_NOT_FOUND");
    /// There is no such fetch session.
    pub const FETCH_SESSION_ID_NOT_FOUND: Self = Self::of(70, "FETCH_SESSION_ID_NOT_FOUND");
    /// Not the session's next epoch.
    pub const INVALID_FETCH_SESSION_EPOCH: Self = Self::of(71, "INVALID_FETCH_SESSION_EPOCH");
    /// The leader has no such listener.
    pub const LISTENER_NOT_FOUND: Self = Self::of(72, "LISTENER_NOT_FOUND");
    /// Topics cannot be deleted here.
    pub const TOPIC_DELETION_DISABLED: Self = Self::of(73, "TOPIC_DELETION_DISABLED");
    /// The client's leader epoch is old.
    pub const FENCED_LEADER_EPOCH: Self = Self::of(74, "FENCED_LEADER_EPOCH");
    /// The client's leader epoch is newer than this broker's.
    pub const UNKNOWN_LEADER_EPOCH: Self = Self::of(75, "UNKNOWN_LEADER_EPOCH");
    /// Not with this version.
    pub const UNSUPPORTED_COMPRESSION_TYPE: Self = Self::of(76, "UNSUPPORTED_COMPRESSION_TYPE");
    /// The broker has registered anew meanwhile.
    pub const STALE_BROKER_EPOCH: Self = Self::of(77, "STALE_BROKER_EPOCH");
    /// Not known yet after an election.
    pub const OFFSET_NOT_AVAILABLE: Self = Self::of(78, "OFFSET_NOT_AVAILABLE");
    /// Join again with the member id in this response.
    pub const MEMBER_ID_REQUIRED: Self = Self::of(79, "MEMBER_ID_REQUIRED");
    /// The preferred leader is not there.
    pub const PREFERRED_LEADER_NOT_AVAILABLE: Self = Self::of(80, "PREFERRED_LEADER_NOT_AVAILABLE");
    /// The group is full.
    pub const GROUP_MAX_SIZE_REACHED: Self = Self::of(81, "GROUP_MAX_SIZE_REACHED");
    /// Another member has this instance id.
    pub const FENCED_INSTANCE_ID: Self = Self::of(82, "FENCED_INSTANCE_ID");
    /// No replica may lead.
    pub const ELIGIBLE_LEADERS_NOT_AVAILABLE: Self = Self::of(83, "ELIGIBLE_LEADERS_NOT_AVAILABLE");
    /// The leader is the preferred one.
    pub const ELECTION_NOT_NEEDED: Self = Self::of(84, "ELECTION_NOT_NEEDED");
    /// Nothing is being moved.
    pub const NO_REASSIGNMENT_IN_PROGRESS: Self = Self::of(85, "NO_REASSIGNMENT_IN_PROGRESS");
    /// Members of the group read the topic.
    pub const GROUP_SUBSCRIBED_TO_TOPIC: Self = Self::of(86, "GROUP_SUBSCRIBED_TO_TOPIC");
    /// A batch that breaks the rules.
    pub const INVALID_RECORD: Self = Self::of(87, "INVALID_RECORD");
    /// A transaction has yet to commit these offsets.
    pub const UNSTABLE_OFFSET_COMMIT: Self = Self::of(88, "UNSTABLE_OFFSET_COMMIT");
    /// Too many changes.
    pub const THROTTLING_QUOTA_EXCEEDED: Self = Self::of(89, "THROTTLING_QUOTA_EXCEEDED");
    /// A newer producer has this transactional id.
    pub const PRODUCER_FENCED: Self = Self::of(90, "PRODUCER_FENCED");
    /// No topic has this id.
    pub const UNKNOWN_TOPIC_ID: Self = Self::of(100, "UNKNOWN_TOPIC_ID");
    /// The topic has another id.
    pub const INCONSISTENT_TOPIC_ID: Self = Self::of(103, "INCONSISTENT_TOPIC_ID");
    /// A session mixes names and ids.
    pub const FETCH_SESSION_TOPIC_ID_ERROR: Self = Self::of(106, "FETCH_SESSION_TOPIC_ID_ERROR");
    /// The member's epoch is old.
    pub const FENCED_MEMBER_EPOCH: Self = Self::of(110, "FENCED_MEMBER_EPOCH");
    /// Another member still has this instance id.
    pub const UNRELEASED_INSTANCE_ID: Self = Self::of(111, "UNRELEASED_INSTANCE_ID");
    /// Not an assignor of this broker.
    pub const UNSUPPORTED_ASSIGNOR: Self = Self::of(112, "UNSUPPORTED_ASSIGNOR");
    /// The member is to learn its new epoch first.
    pub const STALE_MEMBER_EPOCH: Self = Self::of(113, "STALE_MEMBER_EPOCH");
    /// No such controller.
    pub const UNKNOWN_CONTROLLER_ID: Self = Self::of(116, "UNKNOWN_CONTROLLER_ID");
    /// The transaction can only be aborted.
    pub const TRANSACTION_ABORTABLE: Self = Self::of(120, "TRANSACTION_ABORTABLE");
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.code)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl From<ErrorCode> for i16 {
    fn from(code: ErrorCode) -> Self {
        code.code
    }
}
