//! What a coordinator refuses, and Kafka's code for each.
//!
//! One table: [`GroupError::code`].

use thiserror::Error;
use weir_wire::messages::ErrorCode;

/// Why a request, or one entry of it, was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "the message of each variant says what it is")]
pub enum GroupError {
    #[error("the coordinator could not do this; its log says why")]
    Unknown,
    #[error("this server does not host this topic-partition")]
    UnknownTopicOrPartition,
    #[error("the metadata field of the offset request was too large")]
    OffsetMetadataTooLarge,
    #[error("the coordinator is loading, and hence cannot serve requests")]
    CoordinatorLoadInProgress,
    #[error("the coordinator is not available")]
    CoordinatorNotAvailable,
    #[error("this is not the correct coordinator")]
    NotCoordinator,
    #[error("the generation in the request is not the group's current one")]
    IllegalGeneration,
    #[error("the member's protocols are incompatible with those of the group's members")]
    InconsistentProtocol,
    #[error("the group id is invalid")]
    InvalidGroupId,
    #[error("the coordinator is not aware of this member")]
    UnknownMember,
    #[error(
        "the session timeout is not within group.min.session.timeout.ms and group.max.session.timeout.ms"
    )]
    InvalidSessionTimeout,
    #[error("the group is rebalancing, so a rejoin is needed")]
    RebalanceInProgress,
    #[error("the request is larger than one append may be")]
    CommitTooLarge,
    #[error("a name in the request is too long")]
    InvalidRequest,
    #[error("the broker's bound on groups or on the offsets of one group is reached")]
    BoundReached,
    #[error("the group is not empty")]
    NonEmptyGroup,
    #[error("the group does not exist")]
    GroupIdNotFound,
    #[error("the member needs a member id before it can join: retry with the one in this response")]
    MemberIdRequired,
    #[error("the group has reached its maximum size")]
    GroupMaxSizeReached,
    #[error("the group.instance.id is in use by another member id")]
    FencedInstanceId,
    #[error("the group is subscribed to this topic")]
    GroupSubscribedToTopic,
    #[error("this server does not host this topic id")]
    UnknownTopicId,
    #[error(
        "the member epoch is not the one that the coordinator knows: give up everything and join again"
    )]
    FencedMemberEpoch,
    #[error("the instance id is still in use: wait until its member leaves or its session ends")]
    UnreleasedInstanceId,
    #[error("the assignor is not supported")]
    UnsupportedAssignor,
    #[error("the member epoch is stale: retry with that of the next heartbeat")]
    StaleMemberEpoch,
    #[error("the regular expression is not valid")]
    InvalidRegularExpression,
    #[error("offsets of a transaction that has not ended yet may change this one")]
    UnstableOffsetCommit,
    #[error("there is a newer producer with the same transactional id")]
    InvalidProducerEpoch,
    #[error("the transaction has ended meanwhile")]
    InvalidTransactionState,
    #[error("there is a newer coordinator of the transaction")]
    TransactionCoordinatorFenced,
    #[error("members of this group's protocol need a newer version of this request")]
    UnsupportedVersion,
}

impl GroupError {
    /// Kafka's code for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::Unknown => ErrorCode::UnknownServerError,
            Self::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
            Self::UnstableOffsetCommit => ErrorCode::UnstableOffsetCommit,
            Self::InvalidProducerEpoch => ErrorCode::InvalidProducerEpoch,
            Self::InvalidTransactionState => ErrorCode::InvalidTxnState,
            Self::TransactionCoordinatorFenced => ErrorCode::TransactionCoordinatorFenced,
            Self::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
            Self::CoordinatorLoadInProgress => ErrorCode::CoordinatorLoadInProgress,
            Self::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::CommitTooLarge => ErrorCode::InvalidCommitOffsetSize,
            Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::BoundReached => ErrorCode::PolicyViolation,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::GroupIdNotFound => ErrorCode::GroupIdNotFound,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
            Self::FencedInstanceId => ErrorCode::FencedInstanceId,
            Self::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
            Self::UnknownTopicId => ErrorCode::UnknownTopicId,
            Self::FencedMemberEpoch => ErrorCode::FencedMemberEpoch,
            Self::UnreleasedInstanceId => ErrorCode::UnreleasedInstanceId,
            Self::UnsupportedAssignor => ErrorCode::UnsupportedAssignor,
            Self::StaleMemberEpoch => ErrorCode::StaleMemberEpoch,
            Self::InvalidRegularExpression => ErrorCode::InvalidRegularExpression,
            Self::UnsupportedVersion => ErrorCode::UnsupportedVersion,
        }
    }

    /// The number of an outcome's code: 0 for success.
    #[must_use]
    pub const fn code_of<T>(outcome: &Result<T, Self>) -> i16 {
        match outcome {
            Ok(_) => 0,
            Err(error) => error.code().code(),
        }
    }
}
