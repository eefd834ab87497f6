//! What may be asked of a share coordinator: APIs 83 to 87, for one share-partition each.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use thiserror::Error;
use weir_wire::messages::ErrorCode;
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::share::overlay::StateBatch;
use crate::share::write::{LevelState, Restored};
use crate::types::GroupId;

/// Names a share-partition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateKey {
    /// The group.
    pub group: GroupId,
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
}

/// As coordinators are looked up by it: `group:topicId:partition`, the id as Kafka prints it.
impl fmt::Display for StateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.group)?;
        let id = self.topic.0.as_u128();
        // 21 digits of six bits, and a last one of two.
        for digit in 0..ID_DIGITS {
            let bits = match digit * 6 {
                shift @ ..=122 => id >> (122 - shift),
                _ => id << 4,
            };
            f.write_char(char::from(DIGITS[(bits & 63) as usize]))?;
        }
        write!(f, ":{}", self.partition.0)
    }
}

/// Digits of base64 for addresses.
const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// Digits of an id.
const ID_DIGITS: u32 = 22;

impl StateKey {
    /// Whether a text is a key as coordinators are looked up by it. A group's name may have colons.
    #[must_use]
    pub fn is_one(text: &str) -> bool {
        let mut parts = text.rsplitn(3, ':');
        let partition = parts.next().and_then(|text| text.parse::<i32>().ok());
        let is_id = parts.next().is_some_and(|id| {
            id.len() == ID_DIGITS as usize && id.bytes().all(|digit| DIGITS.contains(&digit))
        });
        let group = parts.next();
        is_id
            && partition.is_some_and(|partition| partition >= 0)
            && group.is_some_and(|group| !group.is_empty())
    }
}

/// A request to the coordinator of its share-partition.
#[derive(Clone, Debug)]
pub enum StateRequest {
    /// InitializeShareGroupState.
    Initialize(InitializeState),
    /// ReadShareGroupState.
    Read(ReadState),
    /// WriteShareGroupState.
    Write(WriteState),
    /// ReadShareGroupStateSummary.
    Summary(StateKey),
    /// DeleteShareGroupState.
    Delete(StateKey),
    /// The topics are gone for ever.
    Forget(Vec<TopicId>),
    /// All topics but these are gone for ever. Answered as [`Forget`](Self::Forget) is.
    KeepOnly(BTreeSet<TopicId>),
}

/// The answer to the [`StateRequest`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateResponse {
    /// Whether it is.
    Initialize(Result<(), StateError>),
    /// What is stored. The start is [`NO_START`](super::NO_START) until one was written.
    Read(Result<Restored, StateError>),
    /// Whether it is.
    Write(Result<(), StateError>),
    /// What is stored, without the batches; `None` when nothing is.
    Summary(Option<StateSummary>),
    /// It is gone.
    Delete,
    /// They are gone.
    Forget,
}

/// A state begins, or begins anew.
#[derive(Clone, Debug)]
pub struct InitializeState {
    /// Whose.
    pub key: StateKey,
    /// Not below the one that there is.
    pub state_epoch: i32,
    /// Every record before it is done with; [`NO_START`](super::NO_START) leaves it to the leader.
    pub start: Offset,
}

/// A leader takes over.
#[derive(Clone, Debug)]
pub struct ReadState {
    /// Whose.
    pub key: StateKey,
    /// The leader's.
    pub leader_epoch: LeaderEpoch,
}

/// A leader stores.
#[derive(Clone, Debug)]
pub struct WriteState {
    /// Whose.
    pub key: StateKey,
    /// The one that the leader read.
    pub state_epoch: i32,
    /// The leader's.
    pub leader_epoch: LeaderEpoch,
    /// [`NO_START`](super::NO_START): it stays.
    pub start: Offset,
    /// -1: unknown.
    pub complete_count: i32,
    /// What has changed, the later over the earlier.
    pub batches: Vec<StateBatch>,
    /// What has changed of each priority, by a leader that keeps them apart; it has nothing in `batches`.
    pub levels: Vec<LevelState>,
}

/// A state without its batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateSummary {
    /// Of this initialisation.
    pub state_epoch: i32,
    /// Of the last leader.
    pub leader_epoch: LeaderEpoch,
    /// Every record before it is done with.
    pub start: Offset,
    /// Records from there on that are done with; -1 when unknown.
    pub complete_count: i32,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum StateError {
    /// The leader has been replaced.
    #[error("the leader epoch in the request is older than one that was seen")]
    FencedLeaderEpoch,
    /// The state was initialised anew.
    #[error("the state epoch in the request is not that of the state")]
    FencedStateEpoch,
    /// There is no state.
    #[error("the share-partition is not initialised")]
    Uninitialized,
    /// The request makes no sense.
    #[error("the group's name is empty or too long")]
    InvalidRequest,
    /// There would be too much.
    #[error("the bound on states, or on the batches of one, is reached")]
    BoundReached,
    /// Another broker coordinates it.
    #[error("this is not the coordinator")]
    NotCoordinator,
    /// The coordinator is about to know.
    #[error("the coordinator is loading")]
    Loading,
    /// There is no broker that coordinates it.
    #[error("the coordinator is not available")]
    NotAvailable,
}

impl StateError {
    /// Kafka's code for it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::FencedLeaderEpoch => ErrorCode::FencedLeaderEpoch,
            Self::FencedStateEpoch => ErrorCode::FencedStateEpoch,
            Self::Uninitialized | Self::InvalidRequest => ErrorCode::InvalidRequest,
            Self::BoundReached => ErrorCode::PolicyViolation,
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::Loading => ErrorCode::CoordinatorLoadInProgress,
            Self::NotAvailable => ErrorCode::CoordinatorNotAvailable,
        }
    }
}
