//! The task of one shard: loads it, serves it, and begins anew when an append has failed.
//!
//! What always holds: no appends are under way when the log is read again or the task ends; so whoever reads the log next
//! reads all that this task will ever have written. After an append that failed the machine is dropped and loaded
//! anew: what it knew may be more than what the log has. So it is after a panic, which is a defect, and must not leave the
//! shard without a coordinator until its leadership moves.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use weir_groups::Machine;
use weir_log::PartitionKey;
use weir_wire::LeaderEpoch;

use super::load::load;
use super::serve::{Ended, Serving};
use super::{Refused, Shared};
use crate::partitions::PartitionError;

/// Calls that may wait for the task: what it handles within some milliseconds. More come only when it cannot keep up,
/// and clients that are refused come back later.
const INBOX: usize = 1024;
/// Before the first attempt to load anew: most reasons pass at once.
const RETRY_MIN: Duration = Duration::from_millis(20);
/// Before later attempts: often enough for clients' patience, and next to no work.
const RETRY_MAX: Duration = Duration::from_secs(2);

/// A request, and where its answer goes. When that is dropped, this broker does not serve the shard any more.
#[derive(Debug)]
pub struct Call<M: Machine> {
    /// What is asked.
    pub request: M::Request,
    /// Where the answer goes.
    pub answer: oneshot::Sender<M::Response>,
}

/// The way to a shard's task.
#[derive(Debug)]
pub struct Inbox<M: Machine> {
    calls: mpsc::Sender<Call<M>>,
    is_loaded: Arc<AtomicBool>,
}

impl<M: Machine> Clone for Inbox<M> {
    fn clone(&self) -> Self {
        Self {
            calls: self.calls.clone(),
            is_loaded: Arc::clone(&self.is_loaded),
        }
    }
}

impl<M: Machine> Inbox<M> {
    /// A way that leads to one life of the machine only: what is sent by it is let go of when that is over, and not handed to the next.
    pub(super) fn of_one_life(&self) -> (Self, mpsc::Receiver<Call<M>>) {
        let (calls, received) = mpsc::channel(INBOX);
        let is_loaded = Arc::clone(&self.is_loaded);
        (Self { calls, is_loaded }, received)
    }

    /// Hands a call over without waiting. A shard that is loading, or has too much to do, asks to come back later.
    ///
    /// # Errors
    /// [`Refused::Loading`] or [`Refused::NotHere`].
    pub fn try_send(&self, call: Call<M>) -> Result<(), Refused> {
        if !self.is_loaded.load(Ordering::Acquire) {
            return Err(Refused::Loading);
        }
        self.calls.try_send(call).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Refused::Loading,
            mpsc::error::TrySendError::Closed(_) => Refused::NotHere,
        })
    }

    /// Hands a call over when there is room, loaded or not: for what the broker itself must not lose.
    pub async fn send(&self, call: Call<M>) {
        // A shard that has ended is loaded elsewhere, from what its log has.
        let _ = self.calls.send(call).await;
    }
}

/// How a life of a machine ended.
enum Life {
    /// The shard is another broker's, or the process ends.
    Stopped,
    /// It is to be loaded anew.
    Failed {
        /// Why.
        why: String,
        /// It had served, and may do so again at once.
        had_begun: bool,
    },
}

/// What a shard's task is made of.
pub(super) struct Shard<M: Machine> {
    pub(super) key: PartitionKey,
    pub(super) epoch: LeaderEpoch,
    pub(super) shared: Arc<Shared<M>>,
    pub(super) stop: CancellationToken,
}

impl<M: Machine> Shard<M> {
    /// The way to the task, and the task, which runs until its `stop`.
    pub(super) fn start(self) -> (Inbox<M>, impl Future<Output = ()> + Send) {
        let (calls, inbox) = mpsc::channel(INBOX);
        let is_loaded = Arc::new(AtomicBool::new(false));
        let way = Inbox { calls, is_loaded };
        // A task that had a way to itself would never see that all others are gone; but what ends it is `stop` alone.
        (way.clone(), self.run(inbox, way))
    }

    async fn run(self, mut inbox: mpsc::Receiver<Call<M>>, way: Inbox<M>) {
        let mut wait = RETRY_MIN;
        loop {
            let life = AssertUnwindSafe(self.live(&mut inbox, &way)).catch_unwind();
            let why = match life.await {
                Ok(Life::Stopped) => return,
                Ok(Life::Failed { why, had_begun }) => {
                    if had_begun {
                        wait = RETRY_MIN;
                    }
                    why
                }
                // Loading or its end; what comes in between is caught in `live`. No append is under way.
                Err(_) => self.panicked(),
            };
            warn!(shard = %self.key.partition, why, "{} are not coordinated; loading again", M::DUTY);
            if tokio::time::timeout(wait, self.stop.cancelled())
                .await
                .is_ok()
            {
                return;
            }
            wait = (wait * 2).min(RETRY_MAX);
        }
    }

    /// One life of the machine. When it is over, no append is under way.
    async fn live(&self, inbox: &mut mpsc::Receiver<Call<M>>, way: &Inbox<M>) -> Life {
        let loaded = tokio::select! {
            () = self.stop.cancelled() => return Life::Stopped,
            loaded = self.load(way) => loaded,
        };
        let mut serving = match loaded {
            Ok(serving) => serving,
            Err(why) => {
                let had_begun = false;
                return Life::Failed { why, had_begun };
            }
        };
        way.is_loaded.store(true, Ordering::Release);
        let served = AssertUnwindSafe(async {
            serving.begin();
            let ended = serving.run(inbox).await;
            way.is_loaded.store(false, Ordering::Release);
            serving.settle().await;
            ended
        });
        match served.catch_unwind().await {
            Ok(Ended::Stopped) => Life::Stopped,
            Ok(Ended::Failed(why)) => {
                let had_begun = true;
                Life::Failed { why, had_begun }
            }
            Err(_) => {
                way.is_loaded.store(false, Ordering::Release);
                serving.abandon().await;
                // A request that comes again may end the next life too: the waits grow.
                let (why, had_begun) = (self.panicked(), false);
                Life::Failed { why, had_begun }
            }
        }
    }

    /// The panic has said itself where it was.
    fn panicked(&self) -> String {
        self.shared
            .partitions
            .metrics()
            .coordinator_panics
            .with_label_values(&[M::DUTY])
            .inc();
        "it panicked".to_owned()
    }

    async fn load(&self, way: &Inbox<M>) -> Result<Serving<'_, M>, String> {
        let started = Instant::now();
        let partition = loop {
            match self.shared.partitions.get(self.key) {
                Ok(partition) if partition.leads(self.epoch) => break partition,
                // Some microseconds later it does, or another broker; then this is stopped.
                Ok(_) => tokio::time::sleep(RETRY_MIN).await,
                Err(error @ PartitionError::Failed(_)) => return Err(error.to_string()),
                // The metadata is ahead of the logs by some milliseconds.
                Err(PartitionError::NotYet | PartitionError::NotHere) => {
                    tokio::time::sleep(RETRY_MIN).await
                }
            }
        };
        let loader = load::<M>(&self.shared.host, &partition)
            .await
            .map_err(|error| error.to_string())?;
        let serving = Serving::new(self, partition, loader, way);
        let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        info!(shard = %self.key.partition, count = serving.count(), ms, "coordinating {}", M::DUTY);
        Ok(serving)
    }
}

#[cfg(test)]
mod tests {
    use weir_groups::half::{Halves, Request};

    use super::*;

    #[tokio::test]
    async fn what_is_sent_to_a_life_that_is_over_reaches_no_later_one() {
        let (calls, mut inbox) = mpsc::channel(1);
        let is_loaded = Arc::new(AtomicBool::new(true));
        let way = Inbox::<Halves> { calls, is_loaded };
        let (own, received) = way.of_one_life();
        drop(received);
        let request = Request::Measure;
        let (answer, answered) = oneshot::channel();
        own.send(Call { request, answer }).await;
        assert!(answered.await.is_err());
        assert!(inbox.try_recv().is_err(), "the task has it");
    }
}
