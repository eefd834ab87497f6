//! Where a transactional id stands, under the numbers and names that Kafka stores and tells.

use crate::machine::Outcome;

/// Where a transactional id stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It has a producer that has not begun a transaction yet.
    Empty,
    /// A transaction is open.
    Ongoing,
    /// The outcome is decided; markers are being written.
    Prepare(Outcome),
    /// All markers are written.
    Complete(Outcome),
}

impl State {
    /// All states, for those who name them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::Prepare(Outcome::Commit),
        Self::Prepare(Outcome::Abort),
        Self::Complete(Outcome::Commit),
        Self::Complete(Outcome::Abort),
    ];

    /// Names that Kafka's tools may ask for, and that nothing is ever seen in.
    pub const UNSEEN: [&'static str; 2] = ["Dead", "PrepareEpochFence"];

    /// As it is told.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::Prepare(Outcome::Commit) => "PrepareCommit",
            Self::Prepare(Outcome::Abort) => "PrepareAbort",
            Self::Complete(Outcome::Commit) => "CompleteCommit",
            Self::Complete(Outcome::Abort) => "CompleteAbort",
        }
    }

    /// As it is stored.
    #[must_use]
    pub const fn number(self) -> i8 {
        match self {
            Self::Empty => 0,
            Self::Ongoing => 1,
            Self::Prepare(Outcome::Commit) => 2,
            Self::Prepare(Outcome::Abort) => 3,
            Self::Complete(Outcome::Commit) => 4,
            Self::Complete(Outcome::Abort) => 5,
        }
    }

    /// What is stored as this number.
    #[must_use]
    pub fn from_number(number: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.number() == number)
    }
}

/// How a producer speaks of transactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// As before KIP-890: a producer keeps its epoch, and names each partition before it writes there.
    #[default]
    V0,
    /// As since KIP-890: every transaction has an epoch of its own.
    V2,
}

impl Version {
    /// The level of Kafka's feature `transaction.version`.
    #[must_use]
    pub const fn level(self) -> i8 {
        match self {
            Self::V0 => 0,
            Self::V2 => 2,
        }
    }

    /// What is stored as this level. Level 1 changed the stored format only.
    #[must_use]
    pub const fn from_level(level: i16) -> Self {
        match level {
            ..2 => Self::V0,
            2.. => Self::V2,
        }
    }
}
