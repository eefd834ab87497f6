//! The task of one shard: loads it, serves it, and begins anew when an append has failed.
//!
//! What always holds: no appends are under way when the log is read again or the task ends; so whoever reads the log next
//! reads all that this task will ever have written. After an append that failed the coordinator is dropped and loaded
//! anew: what it knew may be more than what the log has.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_groups::{Config, GroupError, Request, Response};
use weir_log::{Clock, PartitionKey};
use weir_wire::LeaderEpoch;

use super::load::load;
use super::serve::{Ended, Serving};
use crate::partitions::{PartitionError, Partitions};

/// Calls that may wait for the task: what it handles within some milliseconds. More come only when it cannot keep up,
/// and clients that are refused come back later.
const INBOX: usize = 1024;
/// Before the first attempt to load anew: most reasons pass at once.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Before later attempts: often enough for clients' patience, and next to no work.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A request, and where its answer goes. When that is dropped, this broker does not coordinate the group any more.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Response>,
}

/// The way to a shard's task.
#[derive(Clone, Debug)]
pub(super) struct Inbox {
    calls: mpsc::Sender<Call>,
    is_loaded: Arc<AtomicBool>,
}

impl Inbox {
    /// Hands a call over without waiting. A shard that is loading, or has too much to do, asks to come back later.
    pub(super) fn try_send(&self, call: Call) -> Result<(), GroupError> {
        if !self.is_loaded.load(Ordering::Acquire) {
            return Err(GroupError::CoordinatorLoadInProgress);
        }
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => GroupError::CoordinatorLoadInProgress,
            mpsc::error::TrySendError::Closed(_) => GroupError::NotCoordinator,
        })
    }

    /// Hands a call over when there is room, loaded or not: for what the broker itself must not lose.
    pub(super) async fn send(&self, call: Call) {
        // A shard that has ended is loaded elsewhere, from what its log has.
        let _ = self.calls.send(call).await;
    }
}

/// What a shard's task is made of.
#[derive(Debug)]
pub(super) struct Shard {
    pub(super) key: PartitionKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) partitions: Arc<Partitions>,
    pub(super) config: Config,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: CancellationToken,
}

impl Shard {
    /// The way to the task, and the task, which runs until its `stop`.
    pub(super) fn start(self) -> (Inbox, impl Future<Output = ()> + Send) {
        let (calls, inbox) = mpsc::channel(INBOX);
        let is_loaded = Arc::new(AtomicBool::new(false));
        (
            Inbox {
                calls,
                is_loaded: Arc::clone(&is_loaded),
            },
            self.run(inbox, is_loaded),
        )
    }

    async fn run(self, mut inbox: mpsc::Receiver<Call>, is_loaded: Arc<AtomicBool>) {
        let mut wait = RETRY_MIN;
        loop {
            let loaded = tokio::select! {
                () = self.stop.cancelled() => return,
                loaded = self.load() => loaded,
            };
            let failure = match loaded {
                Ok(mut serving) => {
                    is_loaded.store(true, Ordering::Release);
                    wait = RETRY_MIN;
                    let ended = serving.run(&mut inbox).await;
                    is_loaded.store(false, Ordering::Release);
                    serving.settle().await;
                    match ended {
                        Ended::Stopped => return,
                        Ended::Failed(why) => why,
                    }
                }
                Err(why) => why,
            };
            warn!(shard = %self.key.partition, why = %failure, "groups are not coordinated; loading again");
            if tokio::time::timeout(wait, self.stop.cancelled())
                .await
                .is_ok()
            {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    async fn load(&self) -> Result<Serving<'_>, String> {
        let started = Instant::now();
        let partition = loop {
            match self.partitions.get(self.key) {
                Ok(partition) => break partition,
                Err(error @ PartitionError::Failed(_)) => return Err(error.to_string()),
                // The metadata is ahead of the logs by some milliseconds.
                Err(PartitionError::NotYet | PartitionError::NotHere) => {
                    tokio::time::sleep(RETRY_MIN).await
                }
            }
        };
        let loader = load(&partition).await.map_err(|error| error.to_string())?;
        let serving = Serving::new(self, partition, loader);
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(shard = %self.key.partition, groups = serving.group_count(), ms, "coordinating groups");
        Ok(serving)
    }
}
