//! Deliberate defects, one for each way of losing data or breaking what a queue promises, which the simulation must find: a checker that misses its mutant is
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
    /// What was released of a topic's delayed messages is not known to who leads next.
    ReleaseTwice = 17,
    /// A delayed message is released a second before it is due.
    ReleaseEarly = 18,
    /// What waits is not looked for in the log by who leads next.
    ForgetDelayed = 19,
    /// Which ids came is not looked for in the log by who leads next.
    ForgetIds = 20,
    /// A member of a share group has a record for a quarter of the time that it is told.
    HandOutTwice = 21,
    /// A bound does not count what other producers are just appending.
    BoundLate = 22,
    /// Who leads a bounded partition next takes what is there for settled.
    BoundForgotten = 23,
    /// The ledger of a topic's bound leases before it has heard of every partition.
    LeaseTwice = 24,
    /// A record is done with before its dead letter is written.
    BuryLate = 25,
    /// A record of a share group holds up no other of its key.
    ForgetKeys = 26,
    /// A record that was released may be had at once.
    ForgetBackoff = 27,
    /// How old a message is does not count.
    HandOutExpired = 28,
    /// Which level messages have is looked at only when nothing is left of those of which it is known.
    LookLate = 29,
    /// What is settled of each level is not known to who leads next.
    ForgetLevels = 30,
    /// A view's log says of a batch that it comes where the one before it came.
    CopyTwice = 31,
    /// A view's copier reads what is written of its source, decided or not.
    CopyUndecided = 32,
    /// Making room takes away all that is there.
    DropAll = 33,
    /// Who is to wait for room is refused.
    RefuseWaiting = 34,
    /// A delayed message that was cancelled is released all the same.
    CancelIgnored = 35,
    /// Of what is due at once the second is released before the first.
    ReleaseOutOfOrder = 36,
    /// A share group is handed what its filter passes over.
    FilterForgotten = 37,
    /// Who coordinates half messages next commits again what may have been committed.
    HalfTwice = 38,
    /// Who coordinates half messages next does not know those that were asked for.
    HalfForgotten = 39,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 39] = [
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
        Self::ReleaseTwice,
        Self::ReleaseEarly,
        Self::ForgetDelayed,
        Self::ForgetIds,
        Self::HandOutTwice,
        Self::BoundLate,
        Self::BoundForgotten,
        Self::LeaseTwice,
        Self::BuryLate,
        Self::ForgetKeys,
        Self::ForgetBackoff,
        Self::HandOutExpired,
        Self::LookLate,
        Self::ForgetLevels,
        Self::CopyTwice,
        Self::CopyUndecided,
        Self::DropAll,
        Self::RefuseWaiting,
        Self::CancelIgnored,
        Self::ReleaseOutOfOrder,
        Self::FilterForgotten,
        Self::HalfTwice,
        Self::HalfForgotten,
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
