//! The writing side of a partition, for everyone but its lane.

use std::sync::Arc;

use weir_wire::Offset;

use super::command::{Command, Slot};
use super::queue::Queue;
use super::{Admission, Append, Ends, Replicate};
use crate::config::LogConfig;
use crate::error::LaneError;
use crate::producers::{KnownProducers, ProducerState};
use crate::reader::LogReader;

/// The writing side of one partition: sends commands to its lane. Cheap to clone. Never blocks.
///
/// Callbacks are called exactly once: by whoever has the lane's turn, or here and now when the lane's queue is full or it has stopped.
/// They must not block.
#[derive(Clone, Debug)]
pub struct PartitionHandle {
    pub(super) reader: LogReader,
    pub(super) slot: Slot,
    pub(super) queue: Arc<Queue>,
}

impl PartitionHandle {
    /// The reading side.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.reader
    }

    /// Queues one batch.
    pub fn append(&self, append: Append) {
        self.write(Command::Append(self.slot, append));
    }

    /// Queues batches of the partition's leader.
    pub fn replicate(&self, replicate: Replicate) {
        self.write(Command::Replicate(self.slot, replicate));
    }

    fn write(&self, command: Command) {
        if self.reader.syncs_at_once() {
            self.queue.push(command);
        } else {
            self.queue.push_quick(command);
        }
    }

    /// Changes the settings from the next turn on.
    pub fn update_config(&self, config: LogConfig) {
        self.queue
            .push(Command::UpdateConfig(self.slot, Box::new(config)));
    }

    /// Has `admission` asked of each client's batch that is queued from now on, or nobody.
    pub fn set_admission(&self, admission: Option<Arc<dyn Admission>>) {
        self.queue.push(Command::SetAdmission(self.slot, admission));
    }

    /// Cuts the log so that it ends at `end`, which must be a batch's beginning or is taken down to one. On disk before
    /// `done` is called, and before anything is appended after it. Answers with the new end.
    pub fn truncate_to(
        &self,
        end: Offset,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        self.queue
            .push(Command::TruncateTo(self.slot, end, Box::new(done)));
    }

    /// Throws everything away, and damage with it, and begins the log anew at `start`, empty, without epochs and transactions, and
    /// with no producers but those that the leader knows from before: for a follower that has nothing in common with its leader, or is
    /// to be fetched again. On disk before `done` is called with `start`; a power cut before that may leave the log as it was, less of
    /// its end, or nothing of it.
    pub fn reset(
        &self,
        start: Offset,
        producers: KnownProducers,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        let producers = Box::new(producers);
        self.queue
            .push(Command::Reset(self.slot, start, producers, Box::new(done)));
    }

    /// How far the log goes, when what was queued before is written.
    pub fn ends(&self, done: impl FnOnce(Result<Ends, LaneError>) + Send + 'static) {
        self.queue.push(Command::Ends(self.slot, Box::new(done)));
    }

    /// Moves the log's first offset up to `start` (DeleteRecords). On disk before `done` is called with the log's first
    /// offset; the bytes go with a later [`retain`](Self::retain).
    pub fn delete_records(
        &self,
        start: Offset,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        self.queue
            .push(Command::DeleteRecords(self.slot, start, Box::new(done)));
    }

    /// Deletes segments that retention no longer keeps and that lie below `up_to` (the high watermark) as a whole.
    pub fn retain(&self, up_to: Offset) {
        self.queue.push(Command::Retain(self.slot, up_to));
    }

    /// What is known of the partition's producers, when what was queued before is written.
    pub fn producers(
        &self,
        done: impl FnOnce(Result<Vec<ProducerState>, LaneError>) + Send + 'static,
    ) {
        self.queue
            .push(Command::Producers(self.slot, Box::new(done)));
    }

    /// What is known of the partition's producers from batches below `start`, for a replica that begins there.
    pub fn producers_before(
        &self,
        start: Offset,
        done: impl FnOnce(Result<KnownProducers, LaneError>) + Send + 'static,
    ) {
        self.queue
            .push(Command::ProducersBefore(self.slot, start, Box::new(done)));
    }

    /// Begins a pass of compaction over what lies below `up_to` (the last stable offset), when the settings ask for it and none
    /// is under way.
    pub fn clean(&self, up_to: Offset) {
        self.queue.push(Command::Clean(self.slot, up_to));
    }

    /// Writes what is left to write, so that the next open is quick, and lets go of the partition.
    pub fn close(&self, done: impl FnOnce(Result<(), LaneError>) + Send + 'static) {
        self.queue.push(Command::Close(self.slot, Box::new(done)));
    }

    /// Removes the partition and its data. `done` is called when the data cannot come back.
    pub fn delete(&self, done: impl FnOnce(Result<(), LaneError>) + Send + 'static) {
        self.queue.push(Command::Delete(self.slot, Box::new(done)));
    }
}
