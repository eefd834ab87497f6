//! A lane without its thread: owns partitions, and takes turns.
//!
//! A turn drains the queue, stages what is to be appended, writes once for each partition, reports the appends, syncs once,
//! reports what became durable, and then sees to what nobody waits for. It has no timers and starts no threads: who drives
//! it says when, and runs the [`Job`]s that it asks for.

mod commit;
mod partition;
mod upkeep;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::background::{Job, JobDone, Urgency, Work};
use super::command::{Command, Done, Refusal, Slot};
use super::queue::Queue;
use super::{OpenPartition, Opened, PartitionHandle};
use crate::clean::Cleaner;
use crate::clock::Clock;
use crate::dir::PartitionKey;
use crate::error::{Fatal, LaneError, OpenError};
use crate::log::TruncationFailed;
use crate::reader::LogReader;
use crate::recovery;
use partition::Partition;

/// Called when a disk failure leaves it unknown what is on disk.
pub(crate) type OnFatal = Arc<dyn Fn(&Fatal) + Send + Sync>;

/// One lane.
pub struct LaneCore {
    queue: Arc<Queue>,
    clock: Arc<dyn Clock>,
    on_fatal: OnFatal,
    cleaner: Arc<Cleaner>,
    partitions: BTreeMap<Slot, Partition>,
    next_slot: u64,
    /// Partitions that are open, or being deleted.
    keys: BTreeSet<PartitionKey>,
    /// Partitions with something to write or to sync in this turn.
    touched: BTreeSet<Slot>,
    /// When partitions that are synced in the background must be.
    sync_due_ms: BTreeMap<Slot, i64>,
    commands: Vec<Command>,
    jobs: Vec<Job>,
    failed: bool,
    finished: bool,
}

impl std::fmt::Debug for LaneCore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LaneCore")
            .field("partitions", &self.partitions.len())
            .finish_non_exhaustive()
    }
}

impl LaneCore {
    pub(crate) fn new(
        queue: Arc<Queue>,
        clock: Arc<dyn Clock>,
        on_fatal: OnFatal,
        cleaner: Arc<Cleaner>,
    ) -> Self {
        Self {
            queue,
            clock,
            on_fatal,
            cleaner,
            partitions: BTreeMap::new(),
            next_slot: 0,
            keys: BTreeSet::new(),
            touched: BTreeSet::new(),
            sync_due_ms: BTreeMap::new(),
            commands: Vec::new(),
            jobs: Vec::new(),
            failed: false,
            finished: false,
        }
    }

    /// Takes all that is queued, does it, and says what is to be done in the background.
    pub fn turn(&mut self) -> Vec<Job> {
        self.write_turn();
        self.sync_turn()
    }

    /// The first half of a turn: all that is queued is done and written. [`sync_turn`](Self::sync_turn) must follow, before
    /// anything else; a simulation lets time pass in between.
    pub fn write_turn(&mut self) {
        let mut commands = std::mem::take(&mut self.commands);
        self.queue.drain(&mut commands);
        self.carry_out(commands);
    }

    /// The same, when all that is queued is quickly done. Otherwise false, and nothing is.
    pub(super) fn quick_turn(&mut self) -> bool {
        let mut commands = std::mem::take(&mut self.commands);
        let is_quick = self.queue.drain_quick(&mut commands);
        if is_quick {
            self.carry_out(commands);
        } else {
            self.commands = commands;
        }
        is_quick
    }

    fn carry_out(&mut self, mut commands: Vec<Command>) {
        let now_ms = self.clock.now_ms();
        for command in commands.drain(..) {
            self.take(command, now_ms);
        }
        self.commands = commands;
        self.write_all(now_ms);
    }

    /// The second half: what was written is synced and reported, and it is said what is to be done in the background.
    pub fn sync_turn(&mut self) -> Vec<Job> {
        self.sync_all();
        self.tidy(self.clock.now_ms());
        std::mem::take(&mut self.jobs)
    }

    /// Waits until something is queued, or the queue has stopped: for whoever drives the lane without a thread.
    pub fn queued(&self) -> impl Future<Output = ()> + Send + 'static + use<> {
        let queue = Arc::clone(&self.queue);
        std::future::poll_fn(move |cx| queue.poll(cx))
    }

    /// Whether the lane has shut down, or stopped after a failure; further turns only refuse.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished || self.failed
    }

    /// Whether everyone who could queue something has let go of it.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.queue.is_over()
    }

    /// When the next turn is due though nothing may be queued: for the syncs that [`Durability::Replicated`](crate::Durability::Replicated) promises.
    #[must_use]
    pub fn wake_at_ms(&self) -> Option<i64> {
        self.sync_due_ms.values().copied().min()
    }

    /// Milliseconds until then.
    #[must_use]
    pub fn wake_in_ms(&self) -> Option<u64> {
        let now_ms = self.clock.now_ms();
        self.wake_at_ms()
            .map(|at| u64::try_from(at.saturating_sub(now_ms)).unwrap_or(0))
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.queue
    }

    fn take(&mut self, command: Command, now_ms: i64) {
        if self.failed {
            command.refuse(Refusal::Stopped);
            return;
        }
        match command {
            Command::Append(slot, append) => match self.partitions.get_mut(&slot) {
                Some(partition) => {
                    self.touched.insert(slot);
                    partition.stage(append, now_ms);
                }
                None => Command::Append(slot, append).refuse(Refusal::Closed),
            },
            Command::Replicate(slot, replicate) => match self.partitions.get_mut(&slot) {
                Some(partition) => {
                    self.touched.insert(slot);
                    partition.stage_replica(replicate, now_ms);
                }
                None => Command::Replicate(slot, replicate).refuse(Refusal::Closed),
            },
            Command::Open(wanted, done) => self.open(*wanted, done, now_ms),
            Command::UpdateConfig(slot, config) => {
                self.with(slot, now_ms, |partition| partition.set_config(*config))
            }
            Command::SetAdmission(slot, admission) => {
                self.with(slot, now_ms, |partition| partition.set_admission(admission));
            }
            Command::TruncateTo(slot, end, done) => {
                let result = self.act(slot, now_ms, |partition| partition.truncate_to(end, now_ms));
                self.answer(result, done);
            }
            Command::Reset(slot, start, producers, done) => {
                let result = self.act(slot, now_ms, |partition| partition.reset(start, *producers));
                self.answer(result, done);
            }
            Command::Ends(slot, done) => {
                let result = self.act(slot, now_ms, |partition| Ok(partition.ends()));
                self.answer(result, done);
            }
            Command::DeleteRecords(slot, start, done) => {
                let result = self.act(slot, now_ms, |partition| partition.delete_records(start));
                self.answer(result, done);
            }
            Command::Retain(slot, up_to) => self.retain(slot, up_to, now_ms),
            Command::Producers(slot, done) => {
                let result = self.act(slot, now_ms, |partition| Ok(partition.producers()));
                self.answer(result, done);
            }
            Command::ProducersBefore(slot, start, done) => {
                let result = self.act(slot, now_ms, |partition| {
                    Ok(partition.producers_before(start))
                });
                self.answer(result, done);
            }
            Command::Clean(slot, up_to) => self.clean(slot, up_to, now_ms),
            Command::Close(slot, done) => {
                let result = self.close(slot, now_ms);
                self.answer(result, done);
            }
            Command::Delete(slot, done) => self.delete(slot, done, now_ms),
            Command::JobDone(slot, done) => self.job_done(slot, done, now_ms),
            Command::Shutdown(done) => self.shut_down(done, now_ms),
        }
    }

    fn open(&mut self, wanted: OpenPartition, done: Done<Opened, OpenError>, now_ms: i64) {
        let key = wanted.meta.key;
        if !self.keys.insert(key) {
            done(Err(OpenError::AlreadyOpen));
            return;
        }
        let opened = recovery::open(&wanted.dir, &wanted.meta, wanted.config, now_ms);
        let (log, report) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.keys.remove(&key);
                done(Err(error));
                return;
            }
        };
        let slot = Slot(self.next_slot);
        self.next_slot += 1;
        let reader = LogReader::new(Arc::clone(log.shared()));
        let handle = PartitionHandle {
            reader,
            slot,
            queue: Arc::clone(&self.queue),
        };
        self.partitions
            .insert(slot, Partition::new(log, wanted.observer));
        done(Ok(Opened { handle, report }));
    }

    /// Acts on a partition after what was queued before has been written.
    fn act<T>(
        &mut self,
        slot: Slot,
        now_ms: i64,
        act: impl FnOnce(&mut Partition) -> Result<T, TruncationFailed>,
    ) -> Result<T, TruncationFailed> {
        self.write_one(slot, now_ms)
            .map_err(TruncationFailed::Fatal)?;
        self.touched.insert(slot);
        match self.partitions.get_mut(&slot) {
            Some(partition) => act(partition),
            None => Err(TruncationFailed::Refused(LaneError::Closed)),
        }
    }

    fn with(&mut self, slot: Slot, now_ms: i64, act: impl FnOnce(&mut Partition)) {
        let acted = self.act(slot, now_ms, |partition| {
            act(partition);
            Ok(())
        });
        if let Err(TruncationFailed::Fatal(fatal)) = acted {
            self.fail(&fatal);
        }
    }

    fn answer<T>(&mut self, result: Result<T, TruncationFailed>, done: Done<T>) {
        match result {
            Ok(value) => done(Ok(value)),
            Err(TruncationFailed::Refused(error)) => done(Err(error)),
            Err(TruncationFailed::Fatal(fatal)) => {
                self.fail(&fatal);
                done(Err(LaneError::Stopped));
            }
        }
    }

    /// Closes one partition with everything on disk.
    fn close(&mut self, slot: Slot, now_ms: i64) -> Result<(), TruncationFailed> {
        let key = self.act(slot, now_ms, |partition| partition.close(now_ms))?;
        self.partitions.remove(&slot);
        self.keys.remove(&key);
        Ok(())
    }

    fn delete(&mut self, slot: Slot, done: Done<()>, now_ms: i64) {
        if let Err(fatal) = self.write_one(slot, now_ms) {
            self.fail(&fatal);
            done(Err(LaneError::Stopped));
            return;
        }
        let Some(partition) = self.partitions.remove(&slot) else {
            done(Err(LaneError::Closed));
            return;
        };
        let (dir, key) = partition.gone();
        // The key stays taken until the job is done, so that nobody opens what is being removed.
        self.ask(slot, Urgency::None, Work::Delete { dir, key, done });
    }

    fn job_done(&mut self, slot: Slot, done: JobDone, now_ms: i64) {
        let partition = self.partitions.get_mut(&slot);
        match (done, partition) {
            (JobDone::Fatal(fatal), _) => self.fail(&fatal),
            (JobDone::Deleted(key), _) => {
                self.keys.remove(&key);
            }
            (JobDone::Synced(work), Some(partition)) => {
                partition.synced_in_background(&work);
                // There may be more to sync by now.
                self.touched.insert(slot);
            }
            (JobDone::SnapshotWritten, Some(partition)) => partition.snapshot_written(),
            (JobDone::Cleaned, Some(partition)) => {
                partition.cleaned();
                self.touched.insert(slot);
            }
            (JobDone::Retained { more }, Some(partition)) => {
                if let Some(up_to) = partition.retained().filter(|_| more) {
                    self.retain(slot, up_to, now_ms);
                }
            }
            (_, None) => {}
        }
    }

    fn shut_down(&mut self, done: Done<()>, now_ms: i64) {
        let mut result = self
            .sync_everything(now_ms)
            .map_err(TruncationFailed::Fatal);
        while result.is_ok()
            && let Some(slot) = self.partitions.keys().next().copied()
        {
            result = self.close(slot, now_ms);
        }
        self.finished = true;
        self.queue.stop();
        self.answer(result, done);
    }

    fn ask(&mut self, slot: Slot, urgency: Urgency, work: Work) {
        self.jobs.push(Job {
            slot,
            urgency,
            work,
            queue: Arc::clone(&self.queue),
        });
    }

    /// Stops: nothing is acknowledged any more.
    fn fail(&mut self, fatal: &Fatal) {
        if self.failed {
            return;
        }
        self.failed = true;
        self.queue.stop();
        (self.on_fatal)(fatal);
        for partition in self.partitions.values_mut() {
            partition.refuse_staged();
        }
    }
}
