//! What a partition's lane and its readers share: the list of segments, and how far each kind of reader may go.
//!
//! The lane is the only one that writes here, but for the list of segments, in which compaction exchanges some. `log_start <= synced_end <= durable_end <= log_end` always, the times of a
//! truncation or a reset aside; those are marked by an odd `truncations`, and readers that meet one start over.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use weir_wire::Offset;

use crate::config::{Durability, LogConfig};
use crate::dir::{DataDir, PartitionKey, SharedMark};
use crate::epochs::Epochs;
use crate::error::Damage;
use crate::segment::Segment;
use crate::transactions::Transactions;

/// The segments of a partition by their first offsets; never empty.
pub(crate) type Segments = Vec<Arc<Segment>>;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: PartitionKey,
    pub(crate) dir: Arc<DataDir>,
    pub(crate) path: PathBuf,
    pub(crate) mark: Arc<SharedMark>,
    segments: ArcSwap<Segments>,
    log_start: AtomicI64,
    log_end: AtomicI64,
    durable_end: AtomicI64,
    synced_end: AtomicI64,
    /// Odd while a truncation or a reset is under way.
    truncations: AtomicU64,
    gone: AtomicBool,
    closed: AtomicBool,
    uncleanable: AtomicBool,
    /// Segments that compaction has replaced and whose files are still there. Locked while the list of segments changes.
    superseded: Mutex<Segments>,
    /// Below it no key occurs twice.
    compacted_to: AtomicI64,
    epochs: Mutex<Epochs>,
    transactions: Mutex<Transactions>,
    damage: ArcSwapOption<Damage>,
    beside: Mutex<Beside>,
    /// One index entry for so many bytes, for whoever rebuilds an index.
    index_interval_bytes: AtomicU64,
    /// Whether what is appended is synced before it is acknowledged, for whoever queues.
    syncs_at_once: AtomicBool,
}

/// A partition's offsets when it is opened.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) start: Offset,
    pub(crate) end: Offset,
}

impl Shared {
    pub(crate) fn new(
        dir: Arc<DataDir>,
        key: PartitionKey,
        segments: Segments,
        bounds: Bounds,
        epochs: Epochs,
        mark: Arc<SharedMark>,
    ) -> Self {
        let path = dir.partition_path(key);
        Self {
            key,
            dir,
            path,
            mark,
            segments: ArcSwap::from_pointee(segments),
            log_start: AtomicI64::new(bounds.start.0),
            log_end: AtomicI64::new(bounds.end.0),
            durable_end: AtomicI64::new(bounds.end.0),
            synced_end: AtomicI64::new(bounds.end.0),
            truncations: AtomicU64::new(0),
            gone: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            uncleanable: AtomicBool::new(false),
            superseded: Mutex::default(),
            compacted_to: AtomicI64::new(0),
            epochs: Mutex::new(epochs),
            transactions: Mutex::default(),
            damage: ArcSwapOption::empty(),
            beside: Mutex::new(Beside {
                log_start: bounds.start,
            }),
            index_interval_bytes: AtomicU64::new(4096),
            syncs_at_once: AtomicBool::new(true),
        }
    }

    pub(crate) fn segments(&self) -> Arc<Segments> {
        self.segments.load_full()
    }

    /// The list before anyone else has it.
    pub(crate) fn set_segments(&self, segments: Segments) {
        self.segments.store(Arc::new(segments));
    }

    /// The right to change the list of segments: the lane's and compaction's, one at a time and briefly.
    pub(crate) fn edit_segments(&self) -> EditSegments<'_> {
        EditSegments {
            shared: self,
            superseded: self
                .superseded
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Whether compaction met bytes that are not what was written. It leaves the partition alone until it is opened anew.
    pub(crate) fn is_uncleanable(&self) -> bool {
        self.uncleanable.load(Ordering::Acquire)
    }

    pub(crate) fn set_uncleanable(&self, uncleanable: bool) {
        self.uncleanable.store(uncleanable, Ordering::Release);
    }

    pub(crate) fn compacted_to(&self) -> Offset {
        Offset(self.compacted_to.load(Ordering::Acquire))
    }

    pub(crate) fn set_compacted_to(&self, to: Offset) {
        self.compacted_to.store(to.0, Ordering::Release);
    }

    /// Whether nothing may be changed on disk in the background any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The lane lets go of it. What the background has under way is for nothing.
    pub(crate) fn set_closed(&self) {
        let _no_swap_is_under_way = self.edit_segments();
        let _nor_is_a_file_written = self.beside();
        self.closed.store(true, Ordering::Release);
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn set_log_start(&self, start: Offset) {
        self.log_start.store(start.0, Ordering::Release);
    }

    pub(crate) fn log_end(&self) -> Offset {
        Offset(self.log_end.load(Ordering::Acquire))
    }

    pub(crate) fn set_log_end(&self, end: Offset) {
        self.log_end.store(end.0, Ordering::Release);
    }

    pub(crate) fn durable_end(&self) -> Offset {
        Offset(self.durable_end.load(Ordering::Acquire))
    }

    pub(crate) fn set_durable_end(&self, end: Offset) {
        self.durable_end.store(end.0, Ordering::Release);
    }

    pub(crate) fn synced_end(&self) -> Offset {
        Offset(self.synced_end.load(Ordering::Acquire))
    }

    pub(crate) fn set_synced_end(&self, end: Offset) {
        self.synced_end.store(end.0, Ordering::Release);
    }

    pub(crate) fn truncations(&self) -> u64 {
        self.truncations.load(Ordering::Acquire)
    }

    /// Begins or ends a truncation, or a reset.
    pub(crate) fn step_truncations(&self) {
        self.truncations.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(crate) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub(crate) fn epochs(&self) -> MutexGuard<'_, Epochs> {
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn transactions(&self) -> MutexGuard<'_, Transactions> {
        self.transactions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage.load().as_deref().cloned()
    }

    /// Only the first finding counts: it is what stopped the partition.
    pub(crate) fn set_damage(&self, damage: Damage) {
        if self.damage.load().is_none() {
            self.damage.store(Some(Arc::new(damage)));
        }
    }

    /// Nothing is left of what was damaged.
    pub(crate) fn clear_damage(&self) {
        self.damage.store(None);
    }

    /// The right to write one of the files that say something of the log as a whole.
    pub(crate) fn beside(&self) -> MutexGuard<'_, Beside> {
        self.beside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn syncs_at_once(&self) -> bool {
        self.syncs_at_once.load(Ordering::Relaxed)
    }

    pub(crate) fn index_interval_bytes(&self) -> u64 {
        self.index_interval_bytes.load(Ordering::Relaxed)
    }

    /// What others than the lane need of the settings.
    pub(crate) fn set_config(&self, config: &LogConfig) {
        self.index_interval_bytes
            .store(config.index_interval_bytes, Ordering::Relaxed);
        let syncs = config.durability == Durability::Fsync;
        self.syncs_at_once.store(syncs, Ordering::Relaxed);
    }
}

/// What the files beside the segments say: the log's start, up to where it was compacted, snapshots. Locked while the background
/// writes one of them, and while the log is cut, so that none ever speaks of a log that is no more: who has it looks first
/// whether the log was cut or closed. Whoever wants [`EditSegments`] too takes that first.
#[derive(Debug)]
pub(crate) struct Beside {
    /// The log's start as it is on disk.
    pub(crate) log_start: Offset,
}

/// The list of segments, for whoever changes it.
pub(crate) struct EditSegments<'a> {
    shared: &'a Shared,
    pub(crate) superseded: MutexGuard<'a, Segments>,
}

impl EditSegments<'_> {
    pub(crate) fn set(&self, segments: Segments) {
        self.shared.set_segments(segments);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Segments)) {
        let mut segments = (*self.shared.segments()).clone();
        change(&mut segments);
        self.set(segments);
    }
}

/// The segment that holds `offset`, or would; the first one when all begin after it.
pub(crate) fn segment_at(segments: &Segments, offset: Offset) -> usize {
    segments
        .partition_point(|segment| segment.base <= offset)
        .saturating_sub(1)
}
