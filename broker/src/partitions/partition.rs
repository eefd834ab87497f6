//! One partition that this broker holds: its log, its high watermark, and the topic's configuration for it.
//!
//! Who leads it is the metadata's word, which handlers look up for each request; [`Replica`] is what this broker is to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use prometheus::{Histogram, IntCounter};
use tokio::sync::{Notify, Semaphore, oneshot};
use weir_log::{
    Admission, AppendError, Appended, Batches, DataDir, Ends, LaneError, LogReader, Observer,
    Origin, PartitionHandle, PartitionKey, ReadError, Verified,
};
use weir_quorum::configs::{Overflow, QueueConfig, TopicConfig, ViewConfig};
use weir_quorum::image::Topic;
use weir_wire::{LeaderEpoch, Offset};

use super::gate::Gate;
use super::prepare::Queue;
use super::replica::{Assignment, Replica, Until};
use super::transactions::Pending;
use super::watermark::{Isolation, WakeGuard, Watermark};
use crate::host::Host;
use crate::queue::delay::{self, Heeds, Stage};
use crate::queue::throttle::{Offer, Patience, Throttle, Throttled};
use crate::queue::trace::{Trace, Tracing};
use crate::queue::view::{Kept, Progress};
use crate::queue::{Bound, Work};

/// What is counted for a partition's topic.
#[derive(Clone, Debug)]
pub struct Counters {
    /// Bytes of batches appended.
    pub produced_bytes: IntCounter,
    /// Records appended.
    pub produced_records: IntCounter,
    /// Bytes of batches given to consumers.
    pub fetched_bytes: IntCounter,
    /// Batches refused.
    pub produce_errors: IntCounter,
    /// Batches that a full queue has refused.
    pub queue_refusals: IntCounter,
    /// Dead letters written of its records.
    pub dead_letters: IntCounter,
    /// Records given up without one, though one was wanted.
    pub dead_letters_dropped: IntCounter,
    /// Records that a share group was not given since they were too old.
    pub expired: IntCounter,
    /// Messages that were there already.
    pub deduplicated: IntCounter,
    /// From an append being queued to its being durable.
    pub durable_duration: Histogram,
}

/// What a role is derived from; as long as all of it is the same, so is the role.
#[derive(Clone, Debug)]
pub(super) struct AssignedFor {
    pub(super) metadata: Arc<weir_quorum::image::Partition>,
    pub(super) brokers: Arc<BTreeMap<weir_quorum::BrokerId, Arc<weir_quorum::image::Broker>>>,
    pub(super) config: Arc<TopicConfig>,
}

impl AssignedFor {
    fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.metadata, &other.metadata)
            && Arc::ptr_eq(&self.brokers, &other.brokers)
            && Arc::ptr_eq(&self.config, &other.config)
    }
}

/// One partition.
#[derive(Debug)]
pub struct Partition {
    key: PartitionKey,
    topic: Arc<str>,
    handle: PartitionHandle,
    replica: Arc<Replica>,
    watermark: Arc<Watermark>,
    /// What its role was last derived from.
    assigned_for: Mutex<Option<AssignedFor>>,
    config: ArcSwap<TopicConfig>,
    /// The metadata that `config` was resolved from, once there was any.
    configured_for: ArcSwapOption<Topic>,
    /// How much of it may be unsettled, if that is bounded.
    bound: ArcSwapOption<Bound>,
    /// Counts what is not settled.
    bounds: Arc<Work>,
    /// What of it is to come later.
    delays: Arc<Stage>,
    /// What of a view has to stay.
    kept: Kept,
    view_progress: Progress,
    /// What is remembered of its messages, if anything is.
    trace: ArcSwapOption<Trace>,
    tracing: Arc<Tracing>,
    counters: Counters,
    dir: Arc<DataDir>,
    preparing: Arc<Queue>,
    permits: Arc<Semaphore>,
    /// Batches that wait for the word of a coordinator.
    pub(super) gate: Arc<Mutex<Gate<Pending>>>,
}

/// Carries a log's progress to its replica. It exists before the log is open, so the replica comes later.
#[derive(Debug, Default)]
pub(super) struct Progresses {
    opened: OnceLock<Arc<Replica>>,
}

impl Progresses {
    pub(super) fn of(&self, replica: &Arc<Replica>) {
        // Set once, by whoever opened the log.
        let _ = self.opened.set(Arc::clone(replica));
    }
}

impl Observer for Progresses {
    fn written(&self, end: Offset) {
        if let Some(replica) = self.opened.get() {
            replica.written(end);
        }
    }

    fn durable(&self, end: Offset) {
        if let Some(replica) = self.opened.get() {
            replica.durable(end);
        }
    }

    fn log_start(&self, start: Offset) {
        if let Some(replica) = self.opened.get() {
            replica.log_start(start);
        }
    }
}

impl Partition {
    pub(super) fn new(
        topic: Arc<str>,
        handle: PartitionHandle,
        (replica, watermark): (Arc<Replica>, Arc<Watermark>),
        config: Arc<TopicConfig>,
        counters: Counters,
        (dir, permits): (Arc<DataDir>, Arc<Semaphore>),
        (bounds, tracing): (Arc<Work>, Arc<Tracing>),
    ) -> Self {
        let key = handle.reader().key();
        let partition = Self {
            key,
            topic,
            handle,
            replica,
            watermark,
            assigned_for: Mutex::default(),
            config: ArcSwap::new(config),
            configured_for: ArcSwapOption::empty(),
            bound: ArcSwapOption::empty(),
            bounds,
            delays: Arc::default(),
            kept: Kept::default(),
            view_progress: Progress::default(),
            trace: ArcSwapOption::empty(),
            tracing,
            counters,
            dir,
            preparing: Arc::default(),
            permits,
            gate: Arc::default(),
        };
        partition.bound_as(partition.config().queue.as_ref());
        partition.trace_as(partition.config().queue.as_ref());
        partition
    }

    /// What is remembered of its messages, if some are traced.
    #[must_use]
    pub fn trace(&self) -> Option<Arc<Trace>> {
        self.trace.load_full()
    }

    fn trace_as(&self, config: Option<&QueueConfig>) {
        let ratio = config.and_then(|queue| queue.trace_ratio);
        match (self.trace(), ratio) {
            (Some(trace), Some(ratio)) => trace.trace(ratio),
            (None, Some(ratio)) => {
                let (topic, tracing) = (Arc::clone(&self.topic), Arc::clone(&self.tracing));
                let trace = Trace::new(self.key, topic, ratio, tracing);
                self.trace.store(Some(Arc::new(trace)));
            }
            (_, None) => self.trace.store(None),
        }
    }

    /// Its bound, if it has one.
    #[must_use]
    pub fn bound(&self) -> Option<Arc<Bound>> {
        self.bound.load_full()
    }

    /// What is known of what is to come later.
    #[must_use]
    pub fn delays(&self) -> &Arc<Stage> {
        &self.delays
    }

    /// How far ahead messages may be due; `None`: delays are not heeded.
    #[must_use]
    pub fn delay_max_ms(&self) -> Option<u64> {
        let config = self.config.load();
        config.queue.as_ref().and_then(|queue| queue.delay_max_ms)
    }

    /// What records may ask for with their headers, if anything is heeded here.
    #[must_use]
    pub fn heeds(&self) -> Option<Heeds> {
        let config = self.config.load();
        let queue = config.queue.as_ref()?;
        let heeds = Heeds {
            delay_max_ms: queue.delay_max_ms,
            window_ms: queue.deduplication_window_ms,
        };
        heeds.is_any().then_some(heeds)
    }

    /// What it is a view of, if it is one.
    #[must_use]
    pub fn view(&self) -> Option<ViewConfig> {
        let config = self.config.load();
        config.queue.as_ref()?.view.clone()
    }

    /// What of a view has to stay.
    #[must_use]
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// How far a view is behind its source.
    #[must_use]
    pub fn view_progress(&self) -> &Progress {
        &self.view_progress
    }

    /// Whether the log may have what consumers are not to be given.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        let config = self.config.load();
        let queue = config.queue.as_ref();
        queue.is_some_and(|queue| queue.delay_max_ms.is_some() || queue.view.is_some())
    }

    /// Of batches that were read, what consumers are given.
    #[must_use]
    pub fn for_consumers(&self, bytes: Bytes) -> Bytes {
        if self.holds_back() {
            delay::without_held_back(bytes)
        } else {
            bytes
        }
    }

    /// Up to where the log may be let go of, as far as its records have to stay for another reason than their age. `None`: all of it may.
    fn needed_from(&self) -> Option<Offset> {
        let config = self.config.load();
        let queue = config.queue.as_ref()?;
        if queue.delay_max_ms.is_some() {
            // Unknown: nothing is let go of.
            return Some(self.delays.oldest().unwrap_or(Offset::ZERO));
        }
        queue.view.as_ref().map(|_| self.kept.from())
    }

    fn cut(&self, batches: Batches) -> Batches {
        Batches {
            bytes: self.for_consumers(batches.bytes),
            ..batches
        }
    }

    /// Deletes what retention no longer keeps. What is to come later stays, which only its leader knows: followers' logs begin
    /// where its does.
    pub(super) fn retain(&self) {
        let needed_from = self.needed_from().unwrap_or(Offset(i64::MAX));
        let up_to = needed_from.max(self.reader().log_start());
        self.handle.retain(up_to.min(self.high_watermark()));
    }

    /// How far the log goes, when what was queued before is written.
    pub(crate) fn ends(&self) -> impl Future<Output = Result<Ends, LaneError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.handle.ends(move |ends| {
            // Nobody may be waiting any more.
            let _ = sender.send(ends);
        });
        async move { receiver.await.unwrap_or(Err(LaneError::Closed)) }
    }

    fn bound_as(&self, config: Option<&QueueConfig>) {
        let config = config.filter(|config| config.is_bounded());
        let before = self.bound();
        if before.as_ref().map(|bound| bound.config()) == config {
            return;
        }
        let refusals = || self.counters.queue_refusals.clone();
        let throttle = config
            .filter(|config| config.overflow == Overflow::Throttle)
            .map(|_| {
                let make = || Throttle::new(Arc::clone(&self.bounds), refusals());
                Arc::clone(self.replica.throttle_or(make))
            });
        let bound = config.map(|config| {
            let reader = self.reader().clone();
            let work = Arc::clone(&self.bounds);
            let throttle = throttle.clone();
            Arc::new(Bound::new(
                config.clone(),
                reader,
                refusals(),
                work,
                throttle,
            ))
        });
        self.bound.store(bound.clone());
        let scope = config
            .filter(|_| throttle.is_some())
            .map(|config| config.scope);
        let admission = bound.map(|bound| match throttle {
            Some(throttle) => Arc::new(Throttled { bound, throttle }) as Arc<dyn Admission>,
            None => bound as Arc<dyn Admission>,
        });
        self.handle.set_admission(admission);
        if let Some(throttle) = self.replica.throttle() {
            throttle.turn(scope);
        }
    }

    /// Hands a client's batch to the lane, behind those that wait for room.
    pub(crate) fn append_of_client(
        &self,
        (batch, leader_epoch): (Bytes, LeaderEpoch),
        (origin, verified): (Origin, Option<Verified>),
        until: Until,
        patience: Option<Patience>,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let Some(throttle) = self.replica.throttle() else {
            let batch = (batch, leader_epoch);
            return self.replica.append(batch, (origin, verified), until, done);
        };
        let offer = Offer {
            batch,
            leader_epoch,
            origin,
            verified,
            until,
            patience,
            done: Box::new(done),
        };
        throttle.append(&self.replica, offer);
    }

    /// The directory that it lies in.
    #[must_use]
    pub fn dir(&self) -> &Arc<DataDir> {
        &self.dir
    }

    /// Does what may end in an append, after all that was handed over before: here and now, or, when it or what is before it
    /// takes long, on a thread that may wait.
    pub fn in_order(&self, host: &Host, is_long: bool, job: impl FnOnce() + Send + 'static) {
        self.preparing.run(host, &self.permits, is_long, job);
    }

    /// Moves the log's start up to `start`, durably, and lets go of what lies before it. `done` is called once, on a lane's
    /// thread or here; it must not block. A view keeps what says how far it has come.
    pub fn delete_records(
        &self,
        start: Offset,
        done: impl FnOnce(Result<Offset, LaneError>) + Send + 'static,
    ) {
        let is_view = self.view().is_some();
        let start = match is_view {
            true => start.min(self.kept.from().max(self.reader().log_start())),
            false => start,
        };
        self.handle.delete_records(start, done);
        self.retain();
    }

    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Whether durable bytes were found missing or wrong.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.reader().damage().is_some()
    }

    /// What this broker is to it.
    #[must_use]
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// Whether this broker leads it in this epoch, and takes appends: some microseconds after the metadata says so, once
    /// everything of an earlier role is written.
    #[must_use]
    pub fn leads(&self, epoch: LeaderEpoch) -> bool {
        self.replica.leads(epoch)
    }

    /// Whether the high watermark is known to be no lower than any that was ever told (KIP-207).
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.replica.is_established()
    }

    pub(super) fn assign(&self, from: AssignedFor, assignment: impl FnOnce() -> Assignment) {
        let mut assigned = self
            .assigned_for
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if assigned
            .as_ref()
            .is_some_and(|before| before.is_same(&from))
        {
            return;
        }
        self.replica.assign(assignment());
        *assigned = Some(from);
    }

    /// What reads the log.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        self.handle.reader()
    }

    /// What is counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The topic's configuration, as it holds here.
    #[must_use]
    pub fn config(&self) -> Arc<TopicConfig> {
        self.config.load_full()
    }

    pub(super) fn is_configured_for(&self, topic: &Arc<Topic>) -> bool {
        self.configured_for
            .load()
            .as_ref()
            .is_some_and(|seen| Arc::ptr_eq(seen, topic))
    }

    pub(super) fn reconfigure(&self, topic: &Arc<Topic>, config: Arc<TopicConfig>) {
        if *self.config() != *config {
            self.handle.update_config(super::log_config(&config));
            self.bound_as(config.queue.as_ref());
            self.trace_as(config.queue.as_ref());
            self.config.store(config);
            self.delays.reconfigured();
        }
        self.configured_for.store(Some(Arc::clone(topic)));
    }

    pub(super) fn handle(&self) -> &PartitionHandle {
        &self.handle
    }

    /// The offset below which consumers may read.
    #[must_use]
    pub fn high_watermark(&self) -> Offset {
        self.watermark.get()
    }

    /// The offset below which all transactions are decided: where consumers stop that read only what is committed.
    #[must_use]
    pub fn last_stable_offset(&self) -> Offset {
        self.watermark.stable()
    }

    /// Up to where a consumer of this kind may read.
    #[must_use]
    pub fn readable(&self, isolation: Isolation) -> Offset {
        self.watermark.readable(isolation)
    }

    /// Queues one checked batch, which must not be transactional. Batches are appended in the order of the calls. `done` is called once, on a lane's thread or
    /// here: when what it waits for has happened to the batch, when it was refused, or when this broker leads the partition no
    /// more; then the batch may be in the log all the same. It must not block. With `patience` it waits for room where the topic says so.
    pub fn append(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        until: Until,
        patience: Option<Patience>,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let durable_duration = self.counters.durable_duration.clone();
        let queued = Instant::now();
        self.append_of_client(
            (batch, leader_epoch),
            (Origin::Client, None),
            until,
            patience,
            move |result| {
                if result.is_ok() {
                    durable_duration.observe(queued.elapsed().as_secs_f64());
                }
                done(result);
            },
        );
    }

    /// As [`append`](Self::append), for a batch of any kind and origin, until it is committed.
    pub fn append_as(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        origin: Origin,
        verified: Option<Verified>,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        self.replica.append(
            (batch, leader_epoch),
            (origin, verified),
            Until::Committed,
            done,
        );
    }

    /// As [`append`](Self::append), to be awaited. The batch is queued when this is called, not when it is first polled.
    pub fn append_and_wait(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        self.append_as_and_wait(batch, leader_epoch, Origin::Client, None)
    }

    /// As [`append_as`](Self::append_as), to be awaited. The batch is queued when this is called.
    pub fn append_as_and_wait(
        &self,
        batch: Bytes,
        leader_epoch: LeaderEpoch,
        origin: Origin,
        verified: Option<Verified>,
    ) -> impl Future<Output = Result<Appended, AppendError>> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.append_as(batch, leader_epoch, origin, verified, move |result| {
            // Nobody may be waiting any more; the batch is in the log all the same.
            let _ = sender.send(result);
        });
        async move { receiver.await.unwrap_or(Err(AppendError::Closed)) }
    }

    /// Batches from `from` on, below the high watermark, if they are at hand without waiting for the disk.
    pub fn try_read(
        &self,
        from: Offset,
        bytes_max: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let read = self
            .reader()
            .try_read(from, self.high_watermark(), bytes_max, min_one_batch)?;
        Ok(self.cut(read))
    }

    /// Batches from `from` on, below the high watermark. Waits for the disk.
    pub fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let read = self
            .reader()
            .read(from, self.high_watermark(), bytes_max, min_one_batch)?;
        Ok(self.cut(read))
    }

    /// Batches from `from` on that a consumer of this kind may read. Waits for the disk.
    pub fn read_as(
        &self,
        from: Offset,
        isolation: Isolation,
        bytes_max: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let read = self
            .reader()
            .read(from, self.readable(isolation), bytes_max, min_one_batch)?;
        Ok(self.cut(read))
    }

    /// Wakes `wake` once the high watermark is above `offset`, or the partition goes away.
    #[must_use = "dropping the guard gives up the place"]
    pub fn wake_above(&self, offset: Offset, wake: &Arc<Notify>) -> WakeGuard {
        self.wake_readable(offset, Isolation::ReadUncommitted, wake)
    }

    /// Wakes `wake` once a consumer of this kind may read beyond `offset`, or the partition goes away.
    #[must_use = "dropping the guard gives up the place"]
    pub fn wake_readable(
        &self,
        offset: Offset,
        isolation: Isolation,
        wake: &Arc<Notify>,
    ) -> WakeGuard {
        self.watermark.wake_above(offset, isolation, wake)
    }
}
