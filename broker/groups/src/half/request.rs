//! What halves are asked for, what they answer, and what they want done.

use bytes::Bytes;
use uuid::Uuid;
use weir_wire::ErrorCode;

use crate::machine::{Outcome, Producer};

/// The greatest epoch that a producer may have and begin another transaction: far enough from the greatest that there is, so that a producer never comes to where
/// Kafka's protocol gives it another producer id, and one that was fenced cannot be told from one that was never known.
const EPOCH_MAX: i16 = 30_000;

/// A transactional id of a shard, and the producer that begins a transaction in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Which of the shard's ids. Those below [`NUMBER_MIN`](super::NUMBER_MIN) are of earlier versions.
    pub number: u64,
    /// As whom.
    pub producer: Producer,
}

impl Identity {
    /// Whether there may be another transaction of it.
    #[must_use]
    pub const fn may_go_on(&self) -> bool {
        self.producer.epoch.0 >= 0 && self.producer.epoch.0 <= EPOCH_MAX
    }
}

/// Which transactional id a commit is to begin its transaction in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// One that nobody has ever used. Its producer is what InitProducerId says, which is asked for it once: an answer that is lost may be
    /// carried out at any time later, and would fence the producer that was given since.
    New(u64),
    /// One that was used by this machine, whose transactions are over.
    Used(Identity),
}

/// Why something was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HalfError {
    /// It was never prepared, or decided long ago.
    #[error("there is no transaction {0}, or it was decided long ago")]
    Unknown(Uuid),
    /// It cannot be rolled back any more.
    #[error("transaction {0} is committed, or is just being committed")]
    Committed(Uuid),
    /// It cannot be committed any more.
    #[error("transaction {0} is rolled back")]
    RolledBack(Uuid),
    /// Its commit was begun, and nobody knows any more what became of it.
    #[error(
        "transaction {0} is in doubt: its messages were published, all of them or none, and which of the two is not known any more (its commit was interrupted, and gone on with after \
         transactional.id.expiration.ms); it is not published again"
    )]
    InDoubt(Uuid),
    /// There is another with this id.
    #[error("there is a transaction {0} already")]
    Exists(Uuid),
    /// A bound is reached.
    #[error("{0}")]
    Bound(String),
    /// The messages cannot be published, and the half is prepared as before.
    #[error("{message}")]
    Refused {
        /// As a producer would be told.
        code: ErrorCode,
        /// Why.
        message: String,
    },
}

/// What became of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The transaction is committed.
    Published,
    /// Nothing is published, nor can it be, for now.
    Refused(ErrorCode, String),
    /// One or the other; who coordinates transactions has forgotten it.
    Unknown,
}

/// What may be asked.
#[derive(Clone, Debug)]
pub enum Request {
    /// Keep this.
    Prepare {
        /// A new one.
        id: Uuid,
        /// Whose it is: any producer of the group may be asked.
        group: String,
        /// When it is asked for, and how long after an ask for the next time.
        check_after_ms: u64,
        /// How often. The next time it would be, it is rolled back.
        asks_max: u32,
        /// What is to be published.
        messages: Bytes,
    },
    /// Publish it, or forget it.
    End {
        /// Which.
        id: Uuid,
        /// How.
        outcome: Outcome,
    },
    /// What a producer of this group is to be asked; waits until there is something.
    NextAsks {
        /// The group.
        group: String,
        /// For so long.
        wait_ms: u64,
    },
    /// How many are not decided.
    Measure,
    /// From whoever carries out a commit: it is about to begin a transaction, and asks in which id.
    Take {
        /// Of which.
        id: Uuid,
    },
    /// From whoever carries out a commit: it is about to write in a transaction of this one.
    Began {
        /// Of which.
        id: Uuid,
        /// Who.
        as_whom: Identity,
    },
    /// From whoever carries out a commit: what came of it.
    Finished {
        /// Of which.
        id: Uuid,
        /// What came of it.
        fate: Fate,
        /// Who may begin the next transaction, of those that this machine has given.
        next: Option<Identity>,
    },
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Whether it is kept.
    Prepare(Result<(), HalfError>),
    /// Whether it is as was asked.
    End(Result<(), HalfError>),
    /// What to ask; nothing when the time is up.
    NextAsks(Vec<Ask>),
    /// What is not decided.
    Measure(Measured),
    /// Nothing: it is not being committed any more.
    Take(Option<Own>),
    /// False: it is not being committed any more.
    Began(bool),
    /// Taken notice of.
    Finished,
}

/// A question to a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What became of this one?
    pub id: Uuid,
    /// How often it was asked, this time counted.
    pub asked: u32,
    /// What was prepared.
    pub messages: Bytes,
}

/// What is not decided.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Halves that are prepared, or just being committed.
    pub undecided: usize,
    /// When the oldest of them was prepared, milliseconds since 1970.
    pub oldest_at_ms: Option<i64>,
}

/// What a machine wants done besides appends and replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Publish these messages in a transaction, as [`Request::Take`], [`Request::Began`] and [`Request::Finished`] say.
    Commit(Box<Commit>),
    /// Count that this has happened, and is durable.
    Count(Event),
}

/// What happens to halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// One is kept.
    Prepared,
    /// A producer is asked for one.
    Asked,
    /// One is decided.
    Decided(Outcome),
    /// One is in doubt.
    InDoubt,
}

impl Event {
    /// All that may happen.
    pub const ALL: [Self; 5] = [
        Self::Prepared,
        Self::Asked,
        Self::Decided(Outcome::Commit),
        Self::Decided(Outcome::Abort),
        Self::InDoubt,
    ];

    /// Its name among metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Prepared => "prepared",
            Self::Asked => "asked",
            Self::Decided(Outcome::Commit) => "committed",
            Self::Decided(Outcome::Abort) => "rolled_back",
            Self::InDoubt => "in_doubt",
        }
    }
}

/// Messages to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Of which.
    pub id: Uuid,
    /// Whose transaction may have been begun for it, and committed.
    pub begun: Option<Identity>,
    /// What.
    pub messages: Bytes,
}
