//! Deliberate defects, one for each way of losing data, which the simulation must find: a checker that misses its mutant is
//! broken.
//!
//! They exist in builds with the feature `mutants` only (`cargo xtask sim`); in every other build [`Mutant::is_active`] is a
//! constant. Where one sits, the code reads as if the defect were always asked about; whoever adds one adds it here, where
//! it belongs, and to the table in docs/testing.md.

/// A defect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Mutant {
    /// A batch is acknowledged, and shown to consumers, when it is written: before the sync.
    AcknowledgeBeforeSync = 1,
    /// A sync that failed is taken for one that did not.
    IgnoreFailedSync = 2,
    /// What is made or renamed is not made durable in its directory.
    NoDirectorySync = 3,
    /// An index entry is not compared with the log.
    BelieveIndex = 4,
    /// A coordinator answers before what it tells of is durable.
    AnswerBeforeDurable = 5,
    /// What is known of producers does not outlive the process.
    ForgetProducers = 6,
    /// The metadata quorum's log is not synced.
    UnsyncedQuorum = 7,
    /// A replica counts as having on its disk what it has received.
    CountReceived = 8,
    /// A follower cuts its log to its high watermark instead of to where it agrees with the leader's (KIP-101).
    TruncateToWatermark = 9,
    /// A replica is taken into the in-sync set before it has what the leader had.
    JoinEarly = 10,
    /// A follower does not remember the producers of what it is sent.
    FollowerForgetsProducers = 11,
    /// Any replica that is alive is elected.
    ElectAnybody = 12,
    /// Readers of what is committed are shown what open transactions wrote.
    ShowUndecided = 13,
    /// A transaction's marker that could not be written is not written again.
    MarkOnce = 14,
    /// What a member of a share group says of its records is acknowledged before it is stored.
    AcknowledgeUnstored = 15,
    /// Who leads a share-partition next does not go on where the last has stopped.
    ForgetShared = 16,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::AcknowledgeBeforeSync,
        Self::IgnoreFailedSync,
        Self::NoDirectorySync,
        Self::BelieveIndex,
        Self::AnswerBeforeDurable,
        Self::ForgetProducers,
        Self::UnsyncedQuorum,
        Self::CountReceived,
        Self::TruncateToWatermark,
        Self::JoinEarly,
        Self::FollowerForgetsProducers,
        Self::ElectAnybody,
        Self::ShowUndecided,
        Self::MarkOnce,
        Self::AcknowledgeUnstored,
        Self::ForgetShared,
    ];

    /// Whether this process has the defect.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn is_active(self) -> bool {
        active::get() == self as u8
    }

    /// Whether this process has the defect: it has not.
    #[cfg(not(feature = "mutants"))]
    #[must_use]
    pub const fn is_active(self) -> bool {
        false
    }
}

/// Gives this process a defect, or none.
#[cfg(feature = "mutants")]
pub fn activate(mutant: Option<Mutant>) {
    active::set(mutant.map_or(0, |mutant| mutant as u8));
}

#[cfg(feature = "mutants")]
mod active {
    use std::sync::atomic::{AtomicU8, Ordering};

    static ACTIVE: AtomicU8 = AtomicU8::new(0);

    pub(super) fn get() -> u8 {
        ACTIVE.load(Ordering::Relaxed)
    }

    pub(super) fn set(mutant: u8) {
        ACTIVE.store(mutant, Ordering::Relaxed);
    }
}
