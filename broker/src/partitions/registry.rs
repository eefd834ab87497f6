//! Which partitions are open, and keeping that in step with the metadata.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weir_log::{
    Cleaner, DataDir, Lanes, OpenError, OpenPartition, Opened, PartitionKey, PartitionMeta,
    RecoveryReport,
};
use weir_quorum::Image;
use weir_quorum::configs::{Durability, Settings, TopicConfig, in_sync_min};
use weir_quorum::image::Topic;
use weir_replication::{Known, Promise};
use weir_wire::{LeaderEpoch, TopicId};

use super::partition::{AssignedFor, Counters, Partition, Progresses};
use super::replica::{Assignment, Replica};
use super::stored::Watermarks;
use super::watermark::Watermark;
use crate::metrics::Metrics;
use crate::queue::Work;
use crate::queue::trace::Tracing;
use crate::replication::Links;

/// Why a partition cannot be used here.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum PartitionError {
    /// It is being opened or deleted.
    #[error("the partition is being opened")]
    NotYet,
    /// It is not one of this broker's.
    #[error("the partition is not on this broker")]
    NotHere,
    /// Its log could not be opened.
    #[error("the partition's log cannot be used: {0}")]
    Failed(String),
}

/// Before a partition that could not be opened is tried again, at first; each time twice as long.
const OPEN_AGAIN_MIN: Duration = Duration::from_secs(1);
/// At most: what stays unreadable is said once a minute.
const OPEN_AGAIN_MAX: Duration = Duration::from_secs(60);

/// What is known of one partition of this broker.
#[derive(Debug)]
enum Slot {
    Opening,
    Open(Arc<Partition>),
    Deleting,
    Failed(String),
}

/// What is to be here, as the metadata says.
type Wanted<'i> = BTreeMap<PartitionKey, (&'i Arc<Topic>, &'i Arc<weir_quorum::image::Partition>)>;

/// All partitions of this broker.
#[derive(Debug)]
pub struct Partitions {
    me: weir_quorum::BrokerId,
    links: Arc<Links>,
    /// Where partitions lie; never empty.
    dirs: Vec<Arc<DataDir>>,
    /// Which of them each lies in.
    placed: Mutex<BTreeMap<PartitionKey, usize>>,
    permits: Arc<Semaphore>,
    /// Some bounded partition's backlog is to be counted, or room to be made.
    bounds: Arc<Work>,
    /// What is remembered of messages has this in common.
    tracing: Arc<Tracing>,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    slots: RwLock<HashMap<PartitionKey, Slot>>,
    /// What was committed in an earlier life.
    stored: Mutex<Watermarks>,
    /// The defaults of all topics, as they were when partitions were last configured.
    cluster_config: Mutex<BTreeMap<String, String>>,
    cleaner: Arc<Cleaner>,
    lanes: Mutex<Option<Lanes>>,
    /// Something was opened or deleted.
    changed: Notify,
    /// How many are still being opened.
    opening: watch::Sender<usize>,
}

impl Partitions {
    /// No partition is open yet.
    pub fn new(
        me: weir_quorum::BrokerId,
        dirs: Vec<Arc<DataDir>>,
        lanes: Lanes,
        settings: Arc<Settings>,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        Arc::new(Self {
            me,
            links: Links::new(weir_wire::BrokerId(me.0)),
            dirs,
            placed: Mutex::default(),
            permits: super::prepare::permits(),
            bounds: Arc::default(),
            tracing: Arc::default(),
            settings,
            metrics,
            slots: RwLock::default(),
            stored: Mutex::default(),
            cluster_config: Mutex::default(),
            cleaner: Arc::clone(lanes.cleaner()),
            lanes: Mutex::new(Some(lanes)),
            changed: Notify::new(),
            opening: watch::Sender::new(0),
        })
    }

    /// What traces of all partitions have in common.
    #[must_use]
    pub fn tracing(&self) -> &Tracing {
        &self.tracing
    }

    /// The ways to the brokers that follow what is led here.
    #[must_use]
    pub fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// The broker's metrics.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The directories that partitions lie in.
    #[must_use]
    pub fn dirs(&self) -> &[Arc<DataDir>] {
        &self.dirs
    }

    fn placed(&self) -> MutexGuard<'_, BTreeMap<PartitionKey, usize>> {
        self.placed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The directory of a partition: a new one goes where the fewest are.
    fn place(&self, key: PartitionKey) -> Option<&Arc<DataDir>> {
        let mut placed = self.placed();
        let number = placed.get(&key).copied().or_else(|| {
            let mut counts = vec![0_usize; self.dirs.len()];
            for number in placed.values() {
                counts[*number] += 1;
            }
            // Of several the first.
            (0..counts.len()).min_by_key(|number| counts[*number])
        })?;
        placed.insert(key, number);
        self.dirs.get(number)
    }

    /// A partition that is open here.
    pub fn get(&self, key: PartitionKey) -> Result<Arc<Partition>, PartitionError> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        match slots.get(&key) {
            Some(Slot::Open(partition)) => Ok(Arc::clone(partition)),
            Some(Slot::Opening) => Err(PartitionError::NotYet),
            Some(Slot::Failed(why)) => Err(PartitionError::Failed(why.clone())),
            Some(Slot::Deleting) | None => Err(PartitionError::NotHere),
        }
    }

    /// All partitions that are open here, in the order of their keys.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Partition>> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let open = slots.values().filter_map(|slot| match slot {
            Slot::Open(partition) => Some(Arc::clone(partition)),
            _ => None,
        });
        let mut open: Vec<_> = open.collect();
        open.sort_unstable_by_key(|partition| partition.key());
        open
    }

    /// Notified when something is to be done for a bounded partition.
    pub(crate) fn bounds(&self) -> Arc<Work> {
        Arc::clone(&self.bounds)
    }

    /// How many partitions have lost durable bytes, or could not be opened.
    #[must_use]
    pub fn damaged(&self) -> usize {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let is_damaged = |slot: &&Slot| match slot {
            Slot::Failed(_) => true,
            Slot::Open(partition) => partition.is_damaged(),
            Slot::Opening | Slot::Deleting => false,
        };
        slots.values().filter(is_damaged).count()
    }

    /// Which partitions have lost durable bytes, or could not be opened, in the order of their keys.
    #[must_use]
    pub fn damaged_keys(&self) -> Vec<PartitionKey> {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let is_damaged = |slot: &Slot| match slot {
            Slot::Failed(_) => true,
            Slot::Open(partition) => partition.is_damaged(),
            Slot::Opening | Slot::Deleting => false,
        };
        let damaged = slots.iter().filter(|(_, slot)| is_damaged(slot));
        let mut keys: Vec<_> = damaged.map(|(key, _)| *key).collect();
        keys.sort_unstable();
        keys
    }

    /// How many are still being opened.
    #[must_use]
    pub fn opening(&self) -> usize {
        *self.opening.borrow()
    }

    fn stored(&self) -> MutexGuard<'_, Watermarks> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has partitions that are opened from now on begin with what was committed in an earlier life.
    pub fn remember(&self, watermarks: Watermarks) {
        *self.stored() = watermarks;
    }

    /// What is committed now, of every partition.
    #[must_use]
    pub fn watermarks(&self) -> Watermarks {
        let all = self.all();
        let watermarks = all
            .iter()
            .map(|partition| (partition.key(), partition.high_watermark()));
        Watermarks(watermarks.collect())
    }

    /// Begins to open what lies in the data directory. Configurations come with the first image.
    pub fn recover(self: &Arc<Self>) -> Result<usize, OpenError> {
        let mut found = Vec::new();
        for (number, dir) in self.dirs.iter().enumerate() {
            for meta in dir.partitions()? {
                if let Some(other) = self.placed().insert(meta.key, number) {
                    return Err(OpenError::Unreadable {
                        path: dir.path().join(meta.key.to_string()),
                        found: format!(
                            "the partition lies in {} too; remove the copy that is not to be used",
                            self.dirs[other].path().display()
                        ),
                    });
                }
                found.push(meta);
            }
        }
        let count = found.len();
        let config = Arc::new(self.default_config());
        for meta in found {
            self.open(meta, Arc::clone(&config));
        }
        Ok(count)
    }

    /// What a topic gets that says nothing.
    fn default_config(&self) -> TopicConfig {
        let topic = Topic::imagined("", BTreeMap::new(), 1);
        TopicConfig::resolve(&Image::default(), &self.settings, &topic)
    }

    /// Waits until nothing is being opened.
    pub async fn opened(&self) {
        let mut opening = self.opening.subscribe();
        // The sender lives as long as `self`.
        let _ = opening.wait_for(|count| *count == 0).await;
    }

    /// Follows the metadata until `stop`. `is_current` tells whether an image is known to be no older than the cluster's.
    pub async fn follow(
        self: Arc<Self>,
        mut images: watch::Receiver<Arc<Image>>,
        is_current: impl Fn() -> bool,
        stop: CancellationToken,
    ) {
        let (mut pause, mut again_at) = (OPEN_AGAIN_MIN, None);
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            // Asked before the image is used: an image may become current meanwhile, never cease to be.
            self.apply(&image, is_current());
            if self.has_failed() {
                again_at.get_or_insert_with(|| Instant::now() + pause);
            } else if self.opening() == 0 {
                pause = OPEN_AGAIN_MIN;
            }
            let again =
                async { tokio::time::sleep_until(again_at.unwrap_or_else(Instant::now)).await };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.changed.notified() => {}
                changed = images.changed() => if changed.is_err() { return },
                () = again, if again_at.is_some() => {
                    self.forget_failed();
                    again_at = None;
                    pause = (pause * 2).min(OPEN_AGAIN_MAX);
                }
            }
        }
    }

    fn has_failed(&self) -> bool {
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        slots.values().any(|slot| matches!(slot, Slot::Failed(_)))
    }

    /// What could not be opened is tried again: a disk that does not answer for a while is no reason to be without a replica for ever.
    fn forget_failed(&self) {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, slot| !matches!(slot, Slot::Failed(_)));
    }

    fn apply(self: &Arc<Self>, image: &Image, is_current: bool) {
        let mut wanted = BTreeMap::new();
        for (topic, index, partition) in image.partitions_on(self.me) {
            wanted.insert(super::key_of(topic, index), (topic, partition));
        }
        self.configure(image, &wanted);
        // An old image, from before this process, may call it the leader of what others lead now.
        if is_current {
            self.assign(image, &wanted);
        }
        let (mut missing, mut gone) = (Vec::new(), Vec::new());
        {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            missing.extend(
                wanted
                    .iter()
                    .filter(|(key, _)| !slots.contains_key(key))
                    .map(|(key, (topic, _))| (*key, *topic)),
            );
            if is_current {
                gone.extend(slots.iter().filter_map(|(key, slot)| match slot {
                    Slot::Open(partition) if !wanted.contains_key(key) => {
                        Some(Arc::clone(partition))
                    }
                    _ => None,
                }));
                gone.sort_unstable_by_key(|partition: &Arc<Partition>| partition.key());
            }
        }
        for (key, topic) in missing {
            let config = Arc::new(TopicConfig::resolve(image, &self.settings, topic));
            self.open(
                PartitionMeta {
                    key,
                    topic: topic.name.to_string(),
                },
                config,
            );
        }
        for partition in gone {
            self.delete(&partition);
        }
        self.count(image);
    }

    /// Gives every open partition the role that the metadata has for it.
    fn assign(&self, image: &Image, wanted: &Wanted<'_>) {
        let open: Vec<_> = {
            let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
            let open = wanted
                .iter()
                .filter_map(|(key, (_, metadata))| match slots.get(key) {
                    Some(Slot::Open(partition)) => Some((Arc::clone(partition), *metadata)),
                    _ => None,
                });
            open.collect()
        };
        for (partition, metadata) in open {
            let config = partition.config();
            let from = AssignedFor {
                metadata: Arc::clone(metadata),
                brokers: Arc::clone(image.broker_map()),
                config: Arc::clone(&config),
            };
            partition.assign(from, || self.assignment(image, metadata, &config));
        }
    }

    fn assignment(
        &self,
        image: &Image,
        metadata: &weir_quorum::image::Partition,
        config: &TopicConfig,
    ) -> Assignment {
        let epoch = LeaderEpoch(metadata.leader_epoch.0);
        let wire = |id: &weir_quorum::BrokerId| weir_wire::BrokerId(id.0);
        if metadata.leader != Some(self.me) {
            return Assignment::Follow(epoch, metadata.leader.as_ref().map(wire));
        }
        let replica = |id: &weir_quorum::BrokerId| {
            let broker = image.broker(*id);
            weir_replication::Replica {
                id: wire(id),
                // One that was never registered has no registration that it could be heard in.
                registration: broker.map_or(u64::MAX, |broker| broker.epoch.0),
                may_join: broker.is_some_and(|broker| broker.can_lead()),
            }
        };
        let known = Known {
            partition_epoch: metadata.epoch.0,
            replicas: metadata.replicas.iter().map(replica).collect(),
            isr: metadata.isr.iter().map(wire).collect(),
            // While the controller counts on nothing being acknowledged, nothing is, whatever the file here says.
            in_sync_min: if metadata.is_below_minimum() {
                usize::MAX
            } else {
                usize::try_from(config.min_insync_replicas).unwrap_or(1)
            },
            promise: match config.durability {
                Durability::Fsync => Promise::Synced,
                Durability::Replicated | Durability::Os => Promise::Received,
            },
        };
        Assignment::Lead(epoch, known)
    }

    /// Gives every open partition whose topic has changed the configuration that holds now.
    fn configure(&self, image: &Image, wanted: &Wanted<'_>) {
        let mut cluster_config = self
            .cluster_config
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let defaults_changed = *cluster_config != *image.cluster_config();
        if defaults_changed {
            cluster_config.clone_from(image.cluster_config());
        }
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let mut resolved: HashMap<TopicId, Arc<TopicConfig>> = HashMap::new();
        for (key, (topic, _)) in wanted {
            let Some(Slot::Open(partition)) = slots.get(key) else {
                continue;
            };
            if partition.is_configured_for(topic) && !defaults_changed {
                continue;
            }
            let resolve = || Arc::new(TopicConfig::resolve(image, &self.settings, topic));
            let config = resolved.entry(key.topic_id).or_insert_with(resolve);
            partition.reconfigure(topic, Arc::clone(config));
        }
    }

    fn open(self: &Arc<Self>, meta: PartitionMeta, config: Arc<TopicConfig>) {
        let key = meta.key;
        {
            let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
            slots.insert(key, Slot::Opening);
        }
        self.opening.send_modify(|count| *count += 1);
        let observer = Arc::new(Progresses::default());
        let topic: Arc<str> = meta.topic.as_str().into();
        let Some(dir) = self.place(key).cloned() else {
            return;
        };
        let partition = OpenPartition {
            dir: Arc::clone(&dir),
            meta,
            config: super::log_config(&config),
            observer: Arc::clone(&observer) as Arc<dyn weir_log::Observer>,
        };
        let this = Arc::clone(self);
        let done = move |result: Result<Opened, OpenError>| {
            let slot = match result {
                Ok(opened) => {
                    report_recovery(&topic, key, &opened.report);
                    // What else is committed is not known before there is a leader.
                    let (start, end) = (opened.report.log_start, opened.report.log_end);
                    let stored = this.stored().0.remove(&key).unwrap_or(start);
                    let known = stored.clamp(start, end.max(start));
                    let stable = opened.handle.reader().last_stable(known);
                    let watermark = Arc::new(Watermark::at(known, stable));
                    let replica = Arc::new(Replica::new(
                        opened.handle.clone(),
                        Arc::clone(&watermark),
                        Arc::clone(&this.links),
                    ));
                    observer.of(&replica);
                    let counters = this.counters(&topic);
                    Slot::Open(Arc::new(Partition::new(
                        topic,
                        opened.handle,
                        (replica, watermark),
                        config,
                        counters,
                        (dir, Arc::clone(&this.permits)),
                        (Arc::clone(&this.bounds), Arc::clone(&this.tracing)),
                    )))
                }
                Err(error) => {
                    error!(%topic, partition = %key.partition, %error, "a partition cannot be opened");
                    Slot::Failed(error.to_string())
                }
            };
            this.slots
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(key, slot);
            this.opening.send_modify(|count| *count -= 1);
            this.changed.notify_one();
        };
        let lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        match &*lanes {
            Some(lanes) => lanes.open(partition, done),
            None => done(Err(OpenError::Stopped)),
        }
    }

    fn delete(self: &Arc<Self>, partition: &Arc<Partition>) {
        let key = partition.key();
        self.slots
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key, Slot::Deleting);
        info!(topic = %partition.topic(), partition = %key.partition, "deleting a partition that is to be here no more");
        let this = Arc::clone(self);
        partition.handle().delete(move |result| {
            if let Err(error) = result {
                // It is found again at the next start.
                warn!(%key, %error, "a deleted partition's files are still there");
            }
            this.slots
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&key);
            this.placed().remove(&key);
            this.changed.notify_one();
        });
        partition.replica().retire();
        self.forget_counters(partition.topic());
    }

    /// Deletes what retention no longer keeps, of every partition.
    pub fn retain(&self) {
        for partition in self.all() {
            partition.retain();
        }
    }

    /// Begins to compact what is due, of every partition. What consumers may not see yet is left alone.
    pub fn clean(&self, bytes_per_second: u64) {
        self.cleaner.set_bytes_per_second(bytes_per_second);
        for partition in self.all() {
            if partition.config().cleanup_policy.compact {
                partition.handle().clean(partition.last_stable_offset());
            }
        }
    }

    /// Whether this broker leads what the metadata says it leads, but for what it cannot open.
    #[must_use]
    pub fn leads_its_own(&self, image: &Image) -> bool {
        image
            .partitions_led_by(self.me)
            .all(
                |(topic, index, metadata)| match self.get(super::key_of(topic, index)) {
                    Ok(partition) => partition.leads(LeaderEpoch(metadata.leader_epoch.0)),
                    Err(PartitionError::Failed(_)) => true,
                    Err(PartitionError::NotYet | PartitionError::NotHere) => false,
                },
            )
    }

    /// Lets go of every role: who waits for an acknowledgement or for records is told, and finds them elsewhere.
    pub fn retire(&self) {
        for partition in self.all() {
            partition.replica().retire();
        }
    }

    /// What compaction has done.
    #[must_use]
    pub fn cleaner(&self) -> &Cleaner {
        &self.cleaner
    }

    /// Writes and syncs what is left, and closes everything. Blocks.
    pub fn shutdown(&self) {
        let lanes = self
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(lanes) = lanes {
            lanes.shutdown();
        }
    }

    /// The same for lanes without threads. What is returned is to be called when they have ended.
    pub fn shut_down_by_hand(&self) -> impl FnOnce() + Send + use<> {
        let lanes = self
            .lanes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let finish = lanes.map(Lanes::shut_down_by_hand);
        move || {
            if let Some(finish) = finish {
                finish();
            }
        }
    }

    fn counters(&self, topic: &Arc<str>) -> Counters {
        let metrics = &self.metrics;
        let labels = [metrics.topics.label(topic)];
        Counters {
            produced_bytes: metrics.topics.produced_bytes.with_label_values(&labels),
            produced_records: metrics.topics.produced_records.with_label_values(&labels),
            fetched_bytes: metrics.topics.fetched_bytes.with_label_values(&labels),
            produce_errors: metrics.topics.produce_errors.with_label_values(&labels),
            queue_refusals: metrics.topics.queue_refusals.with_label_values(&labels),
            dead_letters: metrics.topics.dead_letters.with_label_values(&labels),
            dead_letters_dropped: metrics
                .topics
                .dead_letters_dropped
                .with_label_values(&labels),
            expired: metrics.topics.expired_messages.with_label_values(&labels),
            deduplicated: metrics
                .topics
                .deduplicated_messages
                .with_label_values(&labels),
            durable_duration: metrics.durable_duration.clone(),
        }
    }

    fn forget_counters(&self, topic: &Arc<str>) {
        if !self.all().iter().any(|other| other.topic() == topic) {
            self.metrics.topics.forget(topic);
        }
    }

    fn count(&self, image: &Image) {
        let led = image.partitions_led_by(self.me);
        let (mut leaders, mut under_replicated, mut under_minimum, mut moving) = (0, 0, 0, 0);
        let mut minimum: Option<(weir_quorum::TopicId, usize)> = None;
        for (topic, _, partition) in led {
            leaders += 1;
            under_replicated += i64::from(partition.isr.len() < partition.replicas.len());
            moving += i64::from(partition.is_reassigning());
            // Partitions come topic by topic.
            let least = match minimum {
                Some((of, least)) if of == topic.id => least,
                _ => in_sync_min(image, &self.settings, topic),
            };
            minimum = Some((topic.id, least));
            under_minimum += i64::from(partition.isr.len() < least);
        }
        let offline = image
            .partitions()
            .filter(|(_, _, partition)| partition.leader.is_none())
            .count();
        self.metrics.partition_leaders.set(leaders);
        self.metrics
            .under_replicated_partitions
            .set(under_replicated);
        self.metrics.under_min_in_sync_partitions.set(under_minimum);
        self.metrics.moving_partitions.set(moving);
        self.metrics
            .offline_partitions
            .set(i64::try_from(offline).unwrap_or(i64::MAX));
    }
}

fn report_recovery(topic: &str, key: PartitionKey, report: &RecoveryReport) {
    if let Some(damage) = &report.damage {
        error!(
            topic, partition = %key.partition, from = %damage.offsets.start, to = %damage.offsets.end, found = damage.found,
            "a partition has lost bytes that were durable; it can be read outside of this range, and not be written"
        );
    }
    if report.cut_bytes > 0 || report.batches_behind_cut > 0 {
        warn!(
            topic, partition = %key.partition, bytes = report.cut_bytes, batches_behind = report.batches_behind_cut,
            "a torn tail was cut; none of it was ever acknowledged"
        );
    }
}
