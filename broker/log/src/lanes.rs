//! Lanes: threads that own partitions and write to them.
//!
//! A partition belongs to one lane, its single writer. A lane's turn drains all that is queued, writes once for each
//! partition, syncs once, then reports. While a sync runs, the next turn's commands gather: group commit without timers.
//! No lane ever waits for the network; what is slow and not on the way to an acknowledgement goes to a background thread.

use std::fmt::Debug;
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::{LeaderEpoch, Offset};

use crate::clock::Clock;
use crate::config::LogConfig;
use crate::dir::{DataDir, PartitionMeta};
use crate::error::{AppendError, Damage, Fatal, LaneError, OpenError};
use crate::reader::LogReader;

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
    /// Called once, on the lane's thread, when the batch is written (or refused): before it is durable. Must not block.
    pub done: Box<dyn FnOnce(Result<Appended, AppendError>) + Send>,
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

/// What the owner of a partition wants to be told. Called on the lane's thread; must not block.
pub trait Observer: Debug + Send + Sync {
    /// The partition's durability is met for all offsets below `end`. `end` only grows, truncation aside.
    fn durable(&self, end: Offset);
    /// The log's first offset moved (retention, [`PartitionHandle::delete_records`]).
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

/// The writing side of one partition: sends commands to its lane. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PartitionHandle {
    reader: LogReader,
}

impl PartitionHandle {
    /// The reading side.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Queues one batch. `done` is called exactly once, here and now when the queue is full or the lane has stopped.
    pub fn append(&self, append: Append) {
        let _ = append;
        todo!()
    }

    /// Changes the settings from the next turn on.
    pub fn update_config(&self, config: LogConfig) {
        let _ = config;
        todo!()
    }

    /// Cuts the log so that it ends at `end`, which must be a batch's beginning or is taken down to one. On disk before
    /// `done` is called, and before anything is appended after it. Answers with the new end.
    pub fn truncate_to(
        &self,
        end: Offset,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        let _ = (end, done);
        todo!()
    }

    /// Moves the log's first offset up to `start` (DeleteRecords). On disk before `done` is called with the log's first
    /// offset; the bytes go with a later [`retain`](Self::retain).
    pub fn delete_records(
        &self,
        start: Offset,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        let _ = (start, done);
        todo!()
    }

    /// Deletes segments that retention no longer keeps and that lie below `up_to` (the high watermark) as a whole.
    pub fn retain(&self, up_to: Offset) {
        let _ = up_to;
        todo!()
    }

    /// Writes what is left to write, so that the next open is quick, and lets go of the partition.
    pub fn close(&self, done: impl FnOnce(Result<(), LaneError>) + Send + 'static) {
        let _ = done;
        todo!()
    }

    /// Removes the partition and its data. `done` is called when the data cannot come back; the bytes are freed later.
    pub fn delete(&self, done: impl FnOnce(Result<(), LaneError>) + Send + 'static) {
        let _ = done;
        todo!()
    }
}

/// The threads that write all partitions of a process.
#[derive(Debug)]
pub struct Lanes {
    config: LanesConfig,
}

impl Lanes {
    /// Starts the threads. `on_fatal` is called once when a disk failure leaves it unknown what is on disk: in production it
    /// logs and ends the process; nothing is acknowledged after it.
    pub fn start(
        config: LanesConfig,
        clock: Arc<dyn Clock>,
        on_fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
    ) -> std::io::Result<Self> {
        let _ = (clock, on_fatal);
        Ok(Self { config })
    }

    /// Opens a partition on its lane; `done` is called there when it has been recovered. Thousands may be under way.
    pub fn open(
        &self,
        partition: OpenPartition,
        done: impl FnOnce(Result<Opened, OpenError>) + Send + 'static,
    ) {
        let _ = (partition, done, self.config.lanes);
        todo!()
    }

    /// Syncs and closes all partitions, marks their data directories as cleanly shut down, and ends the threads. Blocks.
    pub fn shutdown(self) {
        todo!()
    }
}
