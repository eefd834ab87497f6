//! Numbers of the protocol that must not be swapped for one another.
//!
//! Each is transparent: the field is public, the type only says what the number is. The protocol's own sentinel values
//! (-1 and friends) are constants here, so that nobody compares with a bare number.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Position of a record in its partition. Grows by one for each record; never reused.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Offset(pub i64);

impl Offset {
    /// The first offset of a partition.
    pub const ZERO: Self = Self(0);
    /// What responses carry where there is no offset to tell.
    pub const NONE: Self = Self(-1);

    /// The offset `records` further on, or the greatest one there is.
    #[must_use]
    pub const fn saturating_add(self, records: i64) -> Self {
        Self(self.0.saturating_add(records))
    }

    /// The offset right after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        self.saturating_add(1)
    }
}

/// Number of a partition's leadership: grows with each election.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct LeaderEpoch(pub i32);

impl LeaderEpoch {
    /// What a request carries when its sender knows no epoch.
    pub const NONE: Self = Self(-1);
}

/// Number of a partition within its topic, from 0.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct PartitionIndex(pub i32);

/// Number of a broker: the ordinal of its pod.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct BrokerId(pub i32);

impl BrokerId {
    /// "No broker", as in a partition without a leader, or a client in `ReplicaId`.
    pub const NONE: Self = Self(-1);
}

/// Identity of an idempotent or transactional producer (KIP-98).
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// A batch of a producer that is not idempotent.
    pub const NONE: Self = Self(-1);
}

/// Incarnation of a producer id: a greater one fences the lesser.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct ProducerEpoch(pub i16);

impl ProducerEpoch {
    /// A batch of a producer that is not idempotent.
    pub const NONE: Self = Self(-1);
}

/// Identity of one life of a topic (KIP-516): a topic deleted and made anew has a new one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct TopicId(pub Uuid);

impl TopicId {
    /// "No topic id", as in requests that name their topics.
    pub const ZERO: Self = Self(Uuid::nil());
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for LeaderEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for PartitionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ProducerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for ProducerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
