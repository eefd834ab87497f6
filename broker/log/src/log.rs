//! One partition's log on disk, as its single writer sees it.
//!
//! Appending has two steps: [`PartitionLog::stage`] judges a batch and assigns its offsets, [`PartitionLog::write_staged`]
//! writes all that was staged with one vectored write for each segment it goes to. Nothing here syncs on its own:
//! [`PartitionLog::sync_work`] says what has to be synced, so that a lane can sync many partitions at once.
//!
//! What always holds: nothing is published to readers before it is written; a failed write leaves the log as it was; what is
//! staged is either written or taken back before anything else happens.

mod compaction;
mod replay;
mod replica;
mod reset;
mod retention;
mod staging;
mod state;
mod sync;
#[cfg(test)]
mod tests;
mod truncation;

use std::io;
use std::sync::Arc;

use tracing::debug;
use weir_wire::batch::BatchHeader;
use weir_wire::{LeaderEpoch, Offset};

use crate::config::{Durability, LogConfig};
use crate::dir::PartitionKey;
use crate::error::{AppendError, Fatal};
use crate::files::{FileError, SYNCING, Wait};
use crate::lanes::Admission;
use crate::producers::{KnownProducers, ProducerState, Producers, Refusals, Step};
use crate::seek::{Sought, entry_for};
use crate::segment::{Newest, Segment};
use crate::shared::Shared;
use crate::storage::{File, OpenMode};
use crate::walk::Placed;
pub(crate) use replay::replay;
pub(crate) use retention::RetentionJob;
use staging::{Staged, pieces};
pub(crate) use state::{SnapshotJob, State, rebuild as rebuild_state};
pub(crate) use sync::SyncWork;
pub(crate) use truncation::TruncationFailed;

/// Positions and offsets within a segment are 32 bits in its index, and Kafka's `segment.bytes` is an `i32`.
const SEGMENT_BYTES_MAX: u64 = i32::MAX as u64;

/// Why what was staged is not in the log. It has been taken back.
#[derive(Debug)]
pub(crate) enum WriteFailed {
    /// The log goes on as it was.
    Refused(AppendError),
    /// Nobody knows what is on disk.
    Fatal(Fatal),
}

/// The writing side of a partition's files.
#[derive(Debug)]
pub(crate) struct PartitionLog {
    shared: Arc<Shared>,
    config: LogConfig,
    active: Arc<Segment>,
    active_file: Arc<dyn File>,
    /// When the active segment got its first batch, by our clock.
    active_since_ms: Option<i64>,
    producers: Producers,
    /// Asked whether there is room for what clients append; most partitions have none.
    admission: Option<Arc<dyn Admission>>,
    /// What that one has refused for good.
    refusals: Refusals,
    staged: Vec<Staged>,
    staged_end: Offset,
    latest_epoch: Option<LeaderEpoch>,
    /// Closed segments whose files are kept open until they are synced: a file opened later would not hear of a failed
    /// write-back.
    unsynced_closed: Vec<(Arc<Segment>, Arc<dyn File>)>,
    /// Closed segments with index entries in memory.
    unindexed_closed: Vec<Arc<Segment>>,
    /// How many segments were begun, and at how many the directory was last synced.
    rolls: u64,
    rolls_synced: u64,
    /// The metadata's file of a partition that was made in this life, until it is synced.
    made: Option<Arc<dyn File>>,
    bytes_since_index: u64,
    bytes_since_snapshot: u64,
    /// Offsets of the state snapshots on disk, oldest first.
    snapshots: Vec<Offset>,
    /// Whether the newest snapshot of this life speaks of aborted transactions.
    tells_aborted: bool,
}

/// What opening found out; the rest of [`PartitionLog`] follows from it.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) shared: Arc<Shared>,
    pub(crate) active_file: Arc<dyn File>,
    pub(crate) producers: Producers,
    pub(crate) snapshots: Vec<Offset>,
    /// The metadata's file, when the partition's directory was made just now.
    pub(crate) made: Option<Arc<dyn File>>,
    /// The first segment was made just now.
    pub(crate) fresh: bool,
}

/// A number that looks as if it were drawn for each segment: by how much its age is shortened.
fn spread(key: PartitionKey, base: Offset) -> u64 {
    let (high, low) = key.topic_id.0.as_u64_pair();
    let mixed =
        high ^ low ^ base.0.unsigned_abs() ^ (u64::from(key.partition.0.unsigned_abs()) << 32);
    // SplitMix64's last steps.
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

impl PartitionLog {
    pub(crate) fn new(found: Found, config: LogConfig, now_ms: i64) -> Option<Self> {
        let Found {
            shared,
            active_file,
            producers,
            snapshots,
            made,
            fresh,
        } = found;
        let active = Arc::clone(shared.segments().last()?);
        active.set_active(Some(Arc::clone(&active_file)));
        shared.set_config(&config);
        let latest_epoch = shared.epochs().latest();
        let staged_end = shared.log_end();
        Some(Self {
            // The clock's word for a segment that was begun in an earlier life is lost; now is the latest it can have been.
            active_since_ms: (active.size() > 0).then_some(now_ms),
            active,
            active_file,
            producers,
            admission: None,
            refusals: Refusals::default(),
            staged: Vec::new(),
            staged_end,
            latest_epoch,
            unsynced_closed: Vec::new(),
            unindexed_closed: Vec::new(),
            rolls: u64::from(fresh || made.is_some()),
            rolls_synced: 0,
            made,
            // The first batch of this life gets an entry.
            bytes_since_index: config.index_interval_bytes,
            bytes_since_snapshot: 0,
            snapshots,
            tells_aborted: false,
            shared,
            config,
        })
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Moves index entries to their files, of closed segments all of them, of the active one when there are many or `all`
    /// are to go. A failure costs only speed.
    pub(crate) fn flush_index(&mut self, all: bool) {
        let flush = |segment: &Segment| {
            let (dir, path) = (&self.shared.dir, &self.shared.path);
            let index = segment.with_index(dir, path, |index, place| index.flush(place));
            let aborted = segment.with_aborted(dir, path, |aborted, place| aborted.flush(place));
            for error in [index.err(), aborted.err()].into_iter().flatten() {
                debug!(path = %error.path.display(), error = %error.source, "index entries stay in memory");
            }
        };
        for segment in std::mem::take(&mut self.unindexed_closed) {
            flush(&segment);
        }
        if all || self.active.index.wants_flush() || self.active.aborted.wants_flush() {
            flush(&self.active);
        }
    }

    pub(crate) fn config(&self) -> &LogConfig {
        &self.config
    }

    pub(crate) fn set_admission(&mut self, admission: Option<Arc<dyn Admission>>) {
        self.admission = admission;
    }

    pub(crate) fn set_config(&mut self, config: LogConfig) {
        self.shared.set_config(&config);
        self.config = config;
    }

    /// What is known of the producers.
    pub(crate) fn producers(&self) -> Vec<ProducerState> {
        self.producers.describe()
    }

    /// What is known of the producers from batches below `start`.
    pub(crate) fn producers_before(&self, start: Offset) -> KnownProducers {
        self.producers.before(start)
    }

    /// Bytes of what is staged.
    pub(crate) fn staged_bytes(&self) -> u64 {
        self.staged
            .iter()
            .map(|staged| staged.header.total_len() as u64)
            .sum()
    }

    /// Takes back all that is staged.
    pub(crate) fn unstage(&mut self) {
        let staged = std::mem::take(&mut self.staged);
        self.take_back(&staged);
    }

    /// Writes what is staged. On an error a beginning of it may be in the log ([`Shared::log_end`] says how much), and the
    /// rest was taken back.
    pub(crate) fn write_staged(&mut self, now_ms: i64) -> Result<(), WriteFailed> {
        let staged = std::mem::take(&mut self.staged);
        let mut rest = staged.as_slice();
        while let Some(first) = rest.first() {
            if self.must_roll(self.active.size(), &first.header, now_ms)
                && let Err(failed) = self.roll(now_ms)
            {
                self.take_back(rest);
                return Err(failed);
            }
            let (run, later) = rest.split_at(self.fitting(rest, now_ms));
            if let Err(failed) = self.write_run(run) {
                self.take_back(rest);
                return Err(failed);
            }
            self.active_since_ms.get_or_insert(now_ms);
            rest = later;
        }
        self.producers.trim(self.config.producers_max);
        Ok(())
    }

    /// How many of these batches go into the active segment; at least one.
    fn fitting(&self, staged: &[Staged], now_ms: i64) -> usize {
        let mut position = self.active.size();
        let fits = |one: &&Staged| {
            let fits = !self.must_roll(position, &one.header, now_ms);
            position += one.header.total_len() as u64;
            fits
        };
        staged.iter().take_while(fits).count().max(1)
    }

    fn must_roll(&self, position: u64, next: &BatchHeader, now_ms: i64) -> bool {
        if position == 0 {
            return false;
        }
        let full =
            position + next.total_len() as u64 > self.config.segment_bytes.min(SEGMENT_BYTES_MAX);
        let far = next.last_offset().0 - self.active.base.0 > i64::from(i32::MAX);
        full || far || self.is_active_old(now_ms)
    }

    /// Whether the active segment has been written to for as long as one may be.
    fn is_active_old(&self, now_ms: i64) -> bool {
        let lag_max_ms = self
            .config
            .compaction
            .map_or(i64::MAX, |compaction| compaction.lag_max_ms);
        let age_max_ms = self.config.segment_ms.min(lag_max_ms);
        let jitter_ms = match self.config.segment_jitter_ms.min(age_max_ms) {
            ..=0 => 0,
            bound => (spread(self.shared.key, self.active.base) % bound.unsigned_abs()) as i64,
        };
        self.active_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= age_max_ms - jitter_ms)
    }

    fn write_run(&mut self, run: &[Staged]) -> Result<(), WriteFailed> {
        let position = self.active.size();
        let pieces = pieces(run);
        if let Err(error) = self.active_file.write_all_vectored_at(&pieces, position) {
            let wanted_bytes = pieces.iter().map(|piece| piece.len() as u64).sum();
            return Err(self.failed_write(error, position, wanted_bytes));
        }
        self.publish(run);
        Ok(())
    }

    /// Cuts back what a failed write left. Only a full disk is survived: after anything else the file is not to be trusted.
    fn failed_write(&self, error: io::Error, position: u64, wanted_bytes: u64) -> WriteFailed {
        let path = self.active.log_path(&self.shared.path);
        let full = matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
        );
        if !full {
            return WriteFailed::Fatal(FileError::of("writing", &path)(error).into());
        }
        match self.active_file.set_len(position) {
            Ok(()) => WriteFailed::Refused(AppendError::NoSpace { wanted_bytes }),
            Err(error) => WriteFailed::Fatal(FileError::of("cutting", &path)(error).into()),
        }
    }

    /// Lets readers see a run that was written.
    fn publish(&mut self, run: &[Staged]) {
        self.know_newest();
        let mut position = self.active.size();
        for Staged { header, .. } in run {
            let len = header.total_len() as u64;
            if self.bytes_since_index >= self.config.index_interval_bytes
                && position > 0
                && let Newest::Hint(newest) | Newest::Certain(newest) = self.active.newest()
            {
                let placed = Placed {
                    position,
                    header: *header,
                };
                if let Some(entry) = entry_for(&self.active, &placed, newest) {
                    self.active.index.add(entry);
                }
                self.bytes_since_index = 0;
            }
            self.active.saw_timestamp(header.max_timestamp_ms);
            self.bytes_since_index += len;
            self.bytes_since_snapshot = self.bytes_since_snapshot.saturating_add(len);
            position += len;
        }
        let Some(last) = run.last() else { return };
        let mut steps = run
            .iter()
            .filter_map(|staged| staged.remembered?.step)
            .peekable();
        if steps.peek().is_some() {
            let mut transactions = self.shared.transactions();
            for step in steps {
                transactions.apply(&step);
                if let Step::Ended(ended) = step
                    && !ended.is_commit
                {
                    self.active.aborted.add(ended.into());
                }
            }
        }
        self.active.publish(position, last.header.next_offset());
        // Both at once for those who ask for the log's history.
        let mut epochs = self.shared.epochs();
        for Staged { header, .. } in run {
            epochs.assign(header.leader_epoch, header.base_offset);
        }
        self.shared.set_log_end(last.header.next_offset());
    }

    /// Finds out how new a segment of an earlier life is, before the first index entry is made for it.
    fn know_newest(&self) {
        if self.active.newest() != Newest::Unknown {
            return;
        }
        let sought = Sought {
            segment: &self.active,
            file: &*self.active_file,
            wait: Wait::Yes,
        };
        match self.shared.newest_hint(&sought) {
            Ok(newest) => self.active.set_newest(Newest::Hint(newest)),
            // Then it has no new index entries, and searches by time read it from the beginning.
            Err(error) => {
                debug!(partition = %self.shared.key, %error, "the newest timestamp is not known")
            }
        }
    }

    /// Takes back what could not be written, the last first.
    fn take_back(&mut self, staged: &[Staged]) {
        for one in staged.iter().rev() {
            if let Some(remembered) = one.remembered {
                self.producers.undo(remembered.undo);
            }
        }
        self.staged_end = self.shared.log_end();
        self.latest_epoch = self.shared.epochs().latest();
    }

    /// The first segment's name is on disk before there is a second: that one alone, after a power cut, would look as if the
    /// beginning of the log had been lost. Once in a partition's life, and only when it fills its first segment before its
    /// first sync; where appends do not wait for syncs, they do not wait for this one.
    fn name_first_segment(&self) -> Result<(), WriteFailed> {
        let is_first = self.rolls != self.rolls_synced && self.shared.segments().len() == 1;
        if !is_first || self.config.durability != Durability::Fsync {
            return Ok(());
        }
        let path = &self.shared.path;
        let synced = self.shared.dir.storage().sync_dir(path);
        synced.map_err(|error| WriteFailed::Fatal(FileError::of(SYNCING, path)(error).into()))
    }

    /// Begins a new segment at the log's end. The old one is neither synced nor closed here (KAFKA-9693).
    fn roll(&mut self, now_ms: i64) -> Result<(), WriteFailed> {
        self.name_first_segment()?;
        let dir = &self.shared.dir;
        let base = self.shared.log_end();
        let segment = Arc::new(Segment::new(dir, (base, 0), 0, base, 0));
        let path = segment.log_path(&self.shared.path);
        let make = || {
            let file = dir.storage().open(&path, OpenMode::Create)?;
            // A leftover of this name cannot hold anything that counts: the log ends here.
            file.set_len(0)?;
            Ok(file)
        };
        let file = make().map_err(|error: io::Error| {
            WriteFailed::Refused(match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    AppendError::NoSpace { wanted_bytes: 0 }
                }
                _ => AppendError::Io {
                    doing: "making",
                    path: path.clone(),
                    found: error.to_string(),
                },
            })
        })?;
        debug!(partition = %self.shared.key, base = %base, now_ms, "new segment");
        segment.set_active(Some(Arc::clone(&file)));
        let old = std::mem::replace(&mut self.active, Arc::clone(&segment));
        let old_file = std::mem::replace(&mut self.active_file, file);
        self.unindexed_closed.push(Arc::clone(&old));
        self.unsynced_closed.push((old, old_file));
        self.active_since_ms = None;
        self.bytes_since_index = 0;
        self.rolls += 1;
        // Retention takes whole segments: what theirs say of producers is in a snapshot by then, also after a kill.
        self.bytes_since_snapshot = self.config.snapshot_interval_bytes;
        self.shared
            .edit_segments()
            .change(|segments| segments.push(segment));
        Ok(())
    }
}
