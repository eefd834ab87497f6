//! Work that lanes have done elsewhere: syncs that nobody waits for, snapshots, removal of files.
//!
//! A job is run once, on any thread that may wait for the disk, and reports to its lane's queue. How many there are is
//! bounded: each partition has at most one of each kind under way.

use std::sync::Arc;

use tracing::warn;

use super::command::{Command, Done, Slot};
use super::queue::Queue;
use crate::clean::CleanJob;
use crate::dir::{DataDir, PartitionKey};
use crate::error::{Fatal, LaneError};
use crate::files::FileError;
use crate::log::{RetentionJob, SnapshotJob, SyncWork};

/// Which thread a job belongs on: one that is kept free for syncs with a deadline, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    Deadline,
    None,
    /// May take minutes: has a thread of its own.
    Hours,
}

pub(crate) enum Work {
    Sync(SyncWork),
    Snapshot(SnapshotJob),
    Retention(RetentionJob),
    Clean(CleanJob),
    Delete {
        dir: Arc<DataDir>,
        key: PartitionKey,
        done: Done<()>,
    },
}

/// Work in the background that a [`LaneCore`](super::LaneCore)'s turn asks for.
pub struct Job {
    pub(crate) slot: Slot,
    pub(crate) urgency: Urgency,
    pub(crate) work: Work,
    pub(crate) queue: Arc<Queue>,
}

impl std::fmt::Debug for Job {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Job")
            .field("slot", &self.slot)
            .finish_non_exhaustive()
    }
}

/// What became of a job.
pub(crate) enum JobDone {
    Synced(Box<SyncWork>),
    SnapshotWritten,
    /// Retention may have more to do.
    Retained {
        more: bool,
    },
    /// A pass of compaction has ended.
    Cleaned,
    Deleted(PartitionKey),
    Fatal(Fatal),
}

impl Job {
    /// Does the work, and tells the lane. Waits for the disk.
    pub fn run(self) {
        let Self {
            slot, work, queue, ..
        } = self;
        let mut told = None;
        let (done, result) = match work {
            Work::Sync(work) => {
                let result = work.run();
                (JobDone::Synced(Box::new(work)), result)
            }
            Work::Snapshot(job) => (JobDone::SnapshotWritten, job.run()),
            Work::Retention(job) => {
                let (more, result) = job.run();
                (JobDone::Retained { more }, result)
            }
            Work::Clean(job) => (JobDone::Cleaned, job.run()),
            Work::Delete { dir, key, done } => {
                let result = dir.remove(key);
                told = Some((done, result.clone().map_err(LaneError::from)));
                (JobDone::Deleted(key), result)
            }
        };
        let done = match result {
            Err(error) if error.is_fatal() => JobDone::Fatal(error.into()),
            Err(error) => {
                said(&error);
                done
            }
            Ok(()) => done,
        };
        queue.push(Command::JobDone(slot, done));
        // Only now: whoever hears of it may make the partition anew, and must find its place free.
        if let Some((done, result)) = told {
            done(result);
        }
    }
}

/// None of these failures, of a full disk for one, takes anything from what was promised: snapshots are derived, and what was not
/// removed now is removed at the next start.
fn said(error: &FileError) {
    warn!(path = %error.path.display(), error = %error.source, "{} failed in the background", error.doing);
}
