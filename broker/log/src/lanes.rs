//! Lanes: threads that own partitions and write to them.
//!
//! A partition belongs to one lane, its single writer. A lane's turn drains all that is queued, writes once for each
//! partition, syncs once, then reports. While a sync runs, the next turn's commands gather: group commit without timers.
//! Where nothing is to be synced and a lane is at rest, whoever queued takes the turn ([`lend_turns`]). No lane ever waits for the network; what is slow and not on the way to an acknowledgement goes to a background thread.

mod background;
mod command;
mod core;
mod handle;
mod lent;
mod queue;
mod threads;

use std::fmt::{self, Debug};
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::{LeaderEpoch, Offset};

pub use self::background::Job;
pub use self::core::LaneCore;
pub use self::handle::PartitionHandle;
pub use self::lent::lend_turns;
pub use self::threads::Lanes;
use crate::config::LogConfig;
use crate::dir::{DataDir, PartitionMeta};
use crate::error::{AppendError, Damage};
use crate::producers::{Origin, Verified};

/// How many lanes there are and how much they may hold.
#[derive(Clone, Debug)]
pub struct LanesConfig {
    /// Number of lanes, each a thread.
    pub lanes: usize,
    /// Bytes of batches that may be queued at one lane; beyond it appends fail with [`AppendError::Busy`]. The default of
    /// 64 MiB is what a disk of 1 GB/s writes in the time of a slow sync.
    pub queue_bytes_max: usize,
    /// Commands that may be queued at one lane. The default of 65,536 is several for each of 10,000 partitions.
    pub queue_commands_max: usize,
    /// How often the checkpoint is written, in milliseconds. A start after a kill checks what was written since.
    pub checkpoint_interval_ms: i64,
}

impl Default for LanesConfig {
    fn default() -> Self {
        Self {
            lanes: 2,
            queue_bytes_max: 64 << 20,
            queue_commands_max: 65_536,
            checkpoint_interval_ms: 5_000,
        }
    }
}

/// One batch to append.
pub struct Append {
    /// One whole version 2 record batch, checked by the caller (checksum, counts). Its base offset and leader epoch are
    /// assigned here.
    pub batch: Bytes,
    /// The epoch under which the caller leads.
    pub leader_epoch: LeaderEpoch,
    /// Whose batch it is.
    pub origin: Origin,
    /// A coordinator's word for the first batch of a transaction.
    pub verified: Option<Verified>,
    /// A producer that is not known here has to begin with sequence 0, also where the settings do not ask for it: a leader that has only just taken over
    /// may be sent the second batch of a new producer before the first, which the leader before it has refused.
    pub begins_at_zero: bool,
    /// Called once, by whoever has the lane's turn, when the batch is written (or refused): before it is durable. Must not block.
    pub done: Box<dyn FnOnce(Result<Appended, AppendError>) + Send>,
}

impl Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append")
            .field("bytes", &self.batch.len())
            .field("leader_epoch", &self.leader_epoch)
            .finish_non_exhaustive()
    }
}

/// Who says whether there is room in a partition for what clients append: a queue's bound. Asked by the lane for each client's batch that would be
/// appended, behind the search for duplicates and before its sequence is remembered, and only of partitions that have one
/// ([`PartitionHandle::set_admission`]). Must not block.
pub trait Admission: Debug + Send + Sync {
    /// Whether the batch may be appended. What is admitted is in the log next, unless it cannot be written: then the next one is
    /// offered at the same end.
    ///
    /// # Errors
    /// When it may not.
    fn admit(&self, offered: Offered) -> Result<(), NotAdmitted>;
}

/// A client's batch that would be appended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offered {
    /// The leader's epoch.
    pub leader_epoch: LeaderEpoch,
    /// Where the log ends.
    pub end: Offset,
    /// How many offsets it takes.
    pub records: u64,
    /// Its length.
    pub bytes: u64,
}

/// Why a batch may not be appended, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAdmitted {
    /// Whoever sent it gives up; what was sent behind it is taken.
    ForGood(String),
    /// It may come again.
    ForNow(String),
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The first record's offset.
    pub base_offset: Offset,
    /// The last record's offset. The batch is durable once [`Observer::durable`] has said more than this.
    pub last_offset: Offset,
    /// The time given to the records, when the topic's timestamps are the log's.
    pub log_append_time: Option<i64>,
    /// The log's first offset at that time.
    pub log_start_offset: Offset,
    /// Whether the batch had been appended before (an idempotent producer's retry): the offsets are those of that time.
    pub duplicate: bool,
}

/// Batches as the leader has them, to append verbatim.
pub struct Replicate {
    /// Whole version 2 batches, one after the other, checked by the caller (checksums); the first begins at this log's end, each
    /// later one where the one before ended. Compaction may have left some without records.
    pub batches: Bytes,
    /// Called once, by whoever has the lane's turn, when all of them are written, before they are durable, with the new log end; or with why
    /// they are not. Must not block.
    pub done: Box<dyn FnOnce(Result<Offset, AppendError>) + Send>,
}

impl Debug for Replicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replicate")
            .field("bytes", &self.batches.len())
            .finish_non_exhaustive()
    }
}

/// How far a log goes, all of one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The offset that the next batch gets.
    pub log_end: Offset,
    /// Everything below is synced to disk.
    pub synced_end: Offset,
    /// The partition's durability is met for everything below.
    pub durable_end: Offset,
}

/// What the owner of a partition wants to be told. Called by whoever has the lane's turn; must not block.
pub trait Observer: Debug + Send + Sync {
    /// The partition's durability is met for all offsets below `end`. `end` only grows, but for
    /// [`truncate_to`](PartitionHandle::truncate_to) and [`reset`](PartitionHandle::reset): these may take it back, and answer with an
    /// end below which everything is durable; from there on it grows again.
    fn durable(&self, end: Offset);
    /// Something was written, and the log ends at `end` now: told once in a turn, after the answers to whoever waited for the writes,
    /// and before the sync that makes them durable. What followers are sent while the disk works.
    fn written(&self, end: Offset) {
        let _ = end;
    }
    /// The log's first offset moved (retention, [`PartitionHandle::delete_records`], [`PartitionHandle::reset`]).
    fn log_start(&self, start: Offset) {
        let _ = start;
    }
}

/// A partition to open, made when it is not there.
#[derive(Clone, Debug)]
pub struct OpenPartition {
    /// Where.
    pub dir: Arc<DataDir>,
    /// Which one.
    pub meta: PartitionMeta,
    /// Its settings.
    pub config: LogConfig,
    /// Whom to tell.
    pub observer: Arc<dyn Observer>,
}

/// An opened partition.
#[derive(Debug)]
pub struct Opened {
    /// The writing side.
    pub handle: PartitionHandle,
    /// What was found on disk.
    pub report: RecoveryReport,
}

/// What opening a partition found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// The partition was not there and was made.
    pub created: bool,
    /// The last shutdown was clean, and nothing was scanned.
    pub clean: bool,
    /// Bytes whose batches were checked one by one.
    pub scanned_bytes: u64,
    /// Bytes cut from the end because they were no whole batch. They had never been reported durable.
    pub cut_bytes: u64,
    /// Whole, valid batches that lay behind what was cut: more than a torn tail, worth a person's look.
    pub batches_behind_cut: u64,
    /// Segments whose index was made anew.
    pub indexes_rebuilt: u32,
    /// Durable bytes are missing or wrong. The partition can be read outside of the range, and refuses to be written.
    pub damage: Option<Damage>,
    /// The log's first offset.
    pub log_start: Offset,
    /// The log's end. Everything below it is durable.
    pub log_end: Offset,
}

#[cfg(test)]
mod tests;
