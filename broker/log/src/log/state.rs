//! The state that is derived from a log: producers and leader epochs, their snapshots, and how they are rebuilt.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tracing::warn;
use weir_wire::Offset;

use super::PartitionLog;
use super::replay::replay;
use crate::aborted::Tally;
use crate::clean::remove_if_there;
use crate::dir::snapshot_name;
use crate::epochs::Epochs;
use crate::error::{Damage, ReadError};
use crate::files::{FileError, SYNCING, read_whole};
use crate::mutants::Mutant;
use crate::producers::{self, Producers, Snapshot, Step};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::storage::{File, OpenMode};
use crate::transactions::Transactions;

/// Snapshots that are kept of those which a power cut leaves something to say about: the newest may be torn, the one before it is not. What is beyond the
/// end on disk comes besides.
const SNAPSHOTS_KEPT: usize = 2;

/// A snapshot to be written in the background.
#[derive(Debug)]
pub(crate) struct SnapshotJob {
    shared: Arc<Shared>,
    path: PathBuf,
    bytes: Vec<u8>,
    remove: Vec<PathBuf>,
    truncations: u64,
}

impl SnapshotJob {
    /// Writes it in the background, unless the log was cut or closed since: it might speak of what is no more.
    pub(crate) fn run(&self) -> Result<(), FileError> {
        let _beside = self.shared.beside();
        if self.shared.is_closed() || self.shared.truncations() != self.truncations {
            return Ok(());
        }
        let file = self.write()?;
        if self.remove.is_empty() {
            return Ok(());
        }
        // Nothing else may say any more what an older one does of producers whose batches are gone: there is another on disk before that goes.
        sync_snapshot(&self.shared, &self.path, &*file)?;
        self.remove
            .iter()
            .try_for_each(|path| remove_if_there(&self.shared, path))
    }

    /// Writes it when the log is closed. Without a sync, of which there would be one for each partition: it carries a checksum, and older ones
    /// stay.
    pub(crate) fn write(&self) -> Result<Arc<dyn File>, FileError> {
        write_snapshot(&self.shared, &self.path, &self.bytes)
    }
}

/// Writes a snapshot's file anew, which is not on disk by that.
pub(super) fn write_snapshot(
    shared: &Shared,
    path: &Path,
    bytes: &[u8],
) -> Result<Arc<dyn File>, FileError> {
    let write = || {
        let file = shared.dir.storage().open(path, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_vectored_at(&[std::io::IoSlice::new(bytes)], 0)?;
        Ok(file)
    };
    write().map_err(FileError::of("writing", path))
}

/// Has it on disk, with its name.
pub(super) fn sync_snapshot(
    shared: &Shared,
    path: &Path,
    file: &dyn File,
) -> Result<(), FileError> {
    file.sync_data()
        .and_then(|()| shared.dir.storage().sync_dir(&shared.path))
        .map_err(FileError::of(SYNCING, path))
}

impl PartitionLog {
    /// Whether so much was appended that a start would have many headers to read.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.bytes_since_snapshot >= self.config.snapshot_interval_bytes
    }

    /// A snapshot of now; `None` when the files beside it cannot be brought to what it would say. Nothing may be staged.
    pub(crate) fn snapshot(&mut self, now_ms: i64) -> Option<SnapshotJob> {
        self.expire_producers(now_ms);
        let at = self.shared.log_end();
        let segments = self.shared.segments();
        let mut aborted = Vec::new();
        for segment in segments
            .iter()
            .filter(|segment| !segment.aborted.is_empty())
        {
            flush(&self.shared, segment);
            aborted.push((segment.base, segment.aborted.tally()?));
        }
        self.tells_aborted = !aborted.is_empty();
        let bytes = producers::encode(at, &self.shared.epochs(), &self.producers, &aborted);
        self.bytes_since_snapshot = 0;
        self.snapshots.retain(|kept| *kept != at);
        self.snapshots.push(at);
        let synced_end = self.shared.synced_end();
        let outlive = |at: &&Offset| **at <= synced_end;
        let surplus = self.snapshots.iter().filter(outlive).count();
        let surplus = surplus.saturating_sub(SNAPSHOTS_KEPT);
        let path_of = |at: Offset| self.shared.path.join(snapshot_name(at));
        let remove = self.snapshots.drain(..surplus).map(path_of).collect();
        Some(SnapshotJob {
            path: path_of(at),
            truncations: self.shared.truncations(),
            shared: Arc::clone(&self.shared),
            bytes,
            remove,
        })
    }

    /// Compaction has written some segments anew, and their aborted transactions with them: a snapshot that speaks of those
    /// would not fit.
    pub(crate) fn segments_exchanged(&mut self) {
        if self.may_tell_aborted_wrongly() {
            self.bytes_since_snapshot = self.config.snapshot_interval_bytes;
        }
    }

    fn may_tell_aborted_wrongly(&self) -> bool {
        let segments = self.shared.segments();
        self.tells_aborted || segments.iter().any(|segment| !segment.aborted.is_empty())
    }

    /// Forgets the producers that have been silent for too long.
    pub(crate) fn expire_producers(&mut self, now_ms: i64) {
        self.producers
            .expire(now_ms.saturating_sub(self.config.producer_expiry_ms));
    }

    /// The snapshot that spares the next start from reading headers; `None` when there is one, or nothing to say.
    pub(crate) fn closing_snapshot(&mut self, now_ms: i64) -> Option<SnapshotJob> {
        let end = self.shared.log_end();
        let nothing = self.shared.epochs().latest().is_none() && self.producers.is_empty();
        let is_there = self.snapshots.last() == Some(&end) && !self.may_tell_aborted_wrongly();
        let unneeded = is_there || nothing || self.shared.damage().is_some();
        if unneeded {
            None
        } else {
            self.snapshot(now_ms)
        }
    }
}

/// What follows from a log.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    /// What could not be read; then the rest says what lies before it.
    pub(crate) damage: Option<Damage>,
}

/// What a log's batches below `end` say of producers, transactions and epochs: from the newest snapshot that is whole, not beyond
/// `end` and fits what lies beside it, and the headers after it. The segments' aborted transactions are made anew on the way.
pub(crate) fn rebuild(
    shared: &Shared,
    snapshots: &[Offset],
    end: Offset,
    now_ms: i64,
    producers_max: usize,
) -> Result<State, ReadError> {
    let Snapshot {
        at,
        epochs,
        producers,
        ..
    } = start(shared, snapshots, end)?;
    let mut state = State {
        epochs,
        transactions: Transactions::of(&producers),
        producers,
        damage: None,
    };
    let replayed = replay(shared, at..end, |segment, arriving| {
        let header = &arriving.header;
        state.epochs.assign(header.leader_epoch, header.base_offset);
        // Not judged again: what is in the log was judged when it came.
        let remembered = state.producers.remember(arriving, now_ms);
        state.producers.trim(producers_max);
        if let Some(step) = remembered.and_then(|remembered| remembered.step) {
            state.transactions.apply(&step);
            if let Step::Ended(ended) = step
                && !ended.is_commit
            {
                segment.aborted.add(ended.into());
                if segment.aborted.wants_flush() {
                    flush(shared, segment);
                }
            }
        }
        ControlFlow::Continue(())
    });
    for segment in shared.segments().iter() {
        flush(shared, segment);
    }
    match replayed {
        Err(ReadError::Corrupt(damage)) => {
            state.transactions.unknown_from(damage.offsets.start);
            state.damage = Some(damage);
        }
        other => other?,
    }
    state.epochs.cut(end);
    state.epochs.begin_at(shared.log_start());
    if Mutant::ForgetProducers.is_active() {
        state.producers = Producers::default();
    }
    Ok(state)
}

/// What does not reach its file stays in memory.
fn flush(shared: &Shared, segment: &Segment) {
    let flushed = segment.with_aborted(&shared.dir, &shared.path, |aborted, place| {
        aborted.flush(place)
    });
    if let Err(error) = flushed {
        warn!(path = %error.path.display(), error = %error.source, "aborted transactions stay in memory");
    }
}

/// Where the headers are to be read from, and what was before.
fn start(shared: &Shared, snapshots: &[Offset], end: Offset) -> Result<Snapshot, ReadError> {
    let segments = shared.segments();
    let first = segments.first().map_or(end, |segment| segment.base);
    let mut gone = Producers::default();
    for at in snapshots
        .iter()
        .rev()
        .filter(|at| **at <= end && **at >= first)
    {
        let path = shared.path.join(snapshot_name(*at));
        let bytes = read_whole(&**shared.dir.storage(), &path)?.unwrap_or_default();
        match producers::decode(&bytes).filter(|snapshot| snapshot.at == *at) {
            Some(snapshot) if reset_aborted(shared, &snapshot)? => return Ok(snapshot),
            Some(snapshot) => {
                // All the log can say it says anew; of batches that are gone the newest knows most.
                if gone.is_empty() {
                    gone = snapshot.producers.before(first).0;
                }
                warn!(path = %path.display(), "aborted transactions are not as the state snapshot says; reading the log instead")
            }
            None => {
                warn!(path = %path.display(), "a state snapshot is not whole; reading the log instead")
            }
        }
    }
    let nothing = Snapshot {
        at: first,
        producers: gone,
        ..Snapshot::default()
    };
    reset_aborted(shared, &nothing)?;
    Ok(nothing)
}

/// Takes the segments' aborted transactions back to what they were at a snapshot. `false` when their files are not as it says.
fn reset_aborted(shared: &Shared, snapshot: &Snapshot) -> Result<bool, ReadError> {
    let mut fits = true;
    for segment in shared.segments().iter() {
        let known = snapshot
            .aborted
            .binary_search_by_key(&segment.base, |(base, _)| *base);
        let tally = known.map_or(Tally::default(), |at| snapshot.aborted[at].1);
        fits &= segment.with_aborted(&shared.dir, &shared.path, |aborted, place| {
            aborted.reset(place, tally)
        })?;
    }
    Ok(fits)
}
