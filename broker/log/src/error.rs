//! What can go wrong, in types that say what was wanted and what was there.

use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// A range of offsets whose bytes are missing or wrong although they were once durable. Never "repaired" by cutting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The offsets that cannot be read; the end is exclusive.
    pub offsets: Range<Offset>,
    /// What was found, for the person who reads the log.
    pub found: String,
}

/// Why a batch was not appended. Nothing of it is in the log; of a leader's batches ([`Replicate`](crate::Replicate)) some of the
/// first may be, when the disk is full.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum AppendError {
    /// The lane's queue is full. Retriable.
    #[error("the lane has as much queued as it may hold")]
    Busy,
    /// The partition was closed or deleted, or the lane is shutting down. Retriable elsewhere.
    #[error("the partition is closed here")]
    Closed,
    /// A sync failed earlier; nothing is acknowledged any more and the process is ending.
    #[error("the lane has stopped after a disk failure")]
    Stopped,
    /// The disk is full (the reserve for metadata aside). Retriable when there is space.
    #[error("no space left for {wanted_bytes} bytes")]
    NoSpace {
        /// Bytes of the write that did not fit.
        wanted_bytes: u64,
    },
    /// The partition has lost bytes it once held durably, and refuses to be written.
    #[error("the partition is damaged in {}..{}: {}", .0.offsets.start, .0.offsets.end, .0.found)]
    Damaged(Damage),
    /// The batch's leader epoch is older than one the log has seen.
    #[error("leader epoch {got} is older than the log's {latest}")]
    StaleEpoch {
        /// The append's.
        got: LeaderEpoch,
        /// The log's.
        latest: LeaderEpoch,
    },
    /// A leader's batches do not begin where the log ends, or do not follow each other.
    #[error("a batch begins at {got}, and the log ends at {expected}")]
    NotContiguous {
        /// Where the batch begins.
        got: Offset,
        /// Where it would have had to.
        expected: Offset,
    },
    /// The bytes are not one whole version 2 batch.
    #[error("not a whole batch of records: {0}")]
    Malformed(String),
    /// `POLICY_VIOLATION` 44: there is no room in the partition's queue, and the producer is to give up.
    #[error("{0}")]
    Full(String),
    /// There is no room in the partition's queue for the moment. Retriable.
    #[error("{0}")]
    FullForNow(String),
    /// An idempotent producer's batch does not follow the one before.
    #[error(transparent)]
    Sequence(#[from] SequenceError),
    /// A batch or a marker does not fit the state of its producer's transaction.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// The disk refused, in a way that leaves the log as it was, such as too many open files. Retriable.
    #[error("{doing} {path}: {found}")]
    Io {
        /// What was being done, as in "making".
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the disk said.
        found: String,
    },
}

/// Why a producer's batch is out of line.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SequenceError {
    /// `OUT_OF_ORDER_SEQUENCE_NUMBER` 45: a batch is missing before this one.
    #[error("producer {producer}: expected sequence {expected}, got {got}")]
    OutOfOrder {
        /// Whose batch.
        producer: ProducerId,
        /// The sequence that would have been next.
        expected: i32,
        /// The batch's first sequence.
        got: i32,
    },
    /// `UNKNOWN_PRODUCER_ID` 59: nothing is known of this producer here, or not any more, and a batch may be missing before this one.
    #[error("producer {producer} is not known here: expected sequence 0, got {got}")]
    Unknown {
        /// Whose batch.
        producer: ProducerId,
        /// The batch's first sequence.
        got: i32,
    },
    /// `INVALID_PRODUCER_EPOCH` 47: a newer incarnation of this producer has written.
    #[error("producer {producer}: epoch {got} is fenced by {current}")]
    Fenced {
        /// Whose batch.
        producer: ProducerId,
        /// The batch's epoch.
        got: ProducerEpoch,
        /// The greatest epoch seen.
        current: ProducerEpoch,
    },
}

impl AppendError {
    /// The sequence that would have been next, where this says that a batch is missing.
    #[must_use]
    pub fn gap(&self) -> Option<i32> {
        match self {
            Self::Sequence(SequenceError::OutOfOrder { expected, .. }) => Some(*expected),
            Self::Sequence(SequenceError::Unknown { .. }) => Some(0),
            _ => None,
        }
    }
}

/// Why a batch or a marker does not fit its producer's transaction.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TransactionError {
    /// `INVALID_TXN_STATE` 48: a transactional batch of a producer that has no transaction open here, which no coordinator has
    /// vouched for since the producer's last marker (KIP-890).
    #[error("producer {producer}: the batch is not part of an ongoing transaction")]
    NotOngoing {
        /// Whose batch.
        producer: ProducerId,
    },
    /// `INVALID_TXN_STATE` 48: a batch outside of the transaction that its producer has open here.
    #[error("producer {producer}: a batch that is not transactional in the midst of a transaction")]
    NotTransactional {
        /// Whose batch.
        producer: ProducerId,
    },
    /// `TRANSACTION_COORDINATOR_FENCED` 52: a marker of a coordinator that has been replaced.
    #[error("producer {producer}: coordinator epoch {got} is fenced by {current}")]
    CoordinatorFenced {
        /// Whose transaction.
        producer: ProducerId,
        /// The marker's coordinator epoch.
        got: i32,
        /// The greatest one seen.
        current: i32,
    },
}

/// Why nothing could be read.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ReadError {
    /// `OFFSET_OUT_OF_RANGE` 1.
    #[error("offset {wanted} is outside of {start}..={end}")]
    OffsetOutOfRange {
        /// The offset asked for.
        wanted: Offset,
        /// The log's first offset.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The bytes are not in the page cache: ask again from a thread that may wait.
    #[error("the disk would have to be waited for")]
    WouldBlock,
    /// What lies there is not what was written.
    #[error("the log is damaged in {}..{}: {}", .0.offsets.start, .0.offsets.end, .0.found)]
    Corrupt(Damage),
    /// The disk refused.
    #[error("reading {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// The partition was deleted.
    #[error("the partition is gone")]
    Gone,
}

/// Why a partition, or a data directory, could not be opened.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The disk refused.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done, as in "listing".
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
    /// A file of ours holds what we did not write.
    #[error("{path}: {found}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// The partition is open already.
    #[error("the partition is open already")]
    AlreadyOpen,
    /// The lane has stopped or is shutting down.
    #[error("the lane has stopped")]
    Stopped,
}

/// Why a lane did not do what it was told (other than to append).
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum LaneError {
    /// The partition is not open here any more.
    #[error("the partition is closed here")]
    Closed,
    /// A sync failed earlier, or the lane is shutting down.
    #[error("the lane has stopped")]
    Stopped,
    /// The lane's queue is full of commands that wait.
    #[error("the lane has as much queued as it may hold")]
    Busy,
    /// The partition is damaged, and refuses to be written.
    #[error("the partition is damaged in {}..{}: {}", .0.offsets.start, .0.offsets.end, .0.found)]
    Damaged(Damage),
    /// An offset outside of the log.
    #[error("offset {wanted} is outside of {start}..={end}")]
    OffsetOutOfRange {
        /// The offset given.
        wanted: Offset,
        /// The log's first offset.
        start: Offset,
        /// The log's end.
        end: Offset,
    },
    /// The disk refused, in a way that leaves the log as it was.
    #[error("{doing} {path}: {source}")]
    Io {
        /// What was being done, as in "renaming".
        doing: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// What it said.
        source: Arc<io::Error>,
    },
}

/// A disk failure after which nothing may be acknowledged: the process must end (PostgreSQL's fsync lesson).
#[derive(Clone, Debug, Error)]
#[error("{doing} {path} failed, and what is on disk is unknown now: {source}")]
pub struct Fatal {
    /// What was being done, as in "syncing".
    pub doing: &'static str,
    /// To which file or directory.
    pub path: PathBuf,
    /// What it said.
    pub source: Arc<io::Error>,
}
