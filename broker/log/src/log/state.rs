//! The state that is derived from a log: producers and leader epochs, their snapshots, and how they are rebuilt.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::warn;
use weir_wire::Offset;
use weir_wire::batch::BatchView;

use super::PartitionLog;
use crate::dir::snapshot_name;
use crate::epochs::Epochs;
use crate::error::ReadError;
use crate::files::{FileError, Wait, read_whole};
use crate::producers::{self, Arriving, Producers, Snapshot};
use crate::seek::Sought;
use crate::shared::{Shared, segment_at};
use crate::storage::OpenMode;
use crate::transactions::Transactions;
use crate::walk::{Placed, Walk, WalkError};

/// Snapshots that are kept: the newest may be torn or beyond what a recovery keeps, the one before it is not.
const SNAPSHOTS_KEPT: usize = 2;

/// A marker has one record of some 20 bytes; a control batch that is larger is none.
const MARKER_BYTES_MAX: usize = 1024;

/// A snapshot to be written in the background.
#[derive(Debug)]
pub(crate) struct SnapshotJob {
    shared: Arc<Shared>,
    path: PathBuf,
    bytes: Vec<u8>,
    remove: Vec<PathBuf>,
}

impl SnapshotJob {
    /// Writes it and removes older ones. Without a sync: it carries a checksum, and there are others.
    pub(crate) fn run(&self) -> Result<(), FileError> {
        let storage = &**self.shared.dir.storage();
        let write = || {
            let file = storage.open(&self.path, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_all_vectored_at(&[std::io::IoSlice::new(&self.bytes)], 0)
        };
        write().map_err(FileError::of("writing", &self.path))?;
        for path in &self.remove {
            storage
                .remove_file(path)
                .map_err(FileError::of("removing", path))?;
        }
        Ok(())
    }
}

impl PartitionLog {
    /// Whether so much was appended that a start would have many headers to read.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.bytes_since_snapshot >= self.config.snapshot_interval_bytes
    }

    /// A snapshot of now. Nothing may be staged.
    pub(crate) fn snapshot(&mut self, now_ms: i64) -> SnapshotJob {
        self.producers
            .expire(now_ms.saturating_sub(self.config.producer_expiry_ms));
        let at = self.shared.log_end();
        let bytes = producers::encode(at, &self.shared.epochs(), &self.producers);
        self.bytes_since_snapshot = 0;
        self.snapshots.retain(|kept| *kept != at);
        self.snapshots.push(at);
        let surplus = self.snapshots.len().saturating_sub(SNAPSHOTS_KEPT);
        let path_of = |at: Offset| self.shared.path.join(snapshot_name(at));
        let remove = self.snapshots.drain(..surplus).map(path_of).collect();
        SnapshotJob {
            path: path_of(at),
            shared: Arc::clone(&self.shared),
            bytes,
            remove,
        }
    }

    /// The snapshot that spares the next start from reading headers; `None` when there is one, or nothing to say.
    pub(crate) fn closing_snapshot(&mut self, now_ms: i64) -> Option<SnapshotJob> {
        let end = self.shared.log_end();
        let nothing = self.shared.epochs().latest().is_none() && self.producers.is_empty();
        let unneeded =
            self.snapshots.last() == Some(&end) || nothing || self.shared.damage().is_some();
        (!unneeded).then(|| self.snapshot(now_ms))
    }
}

/// What follows from a log.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
}

/// What a log's batches below `end` say of producers and epochs: from the newest snapshot that is whole and not beyond
/// `end`, and the headers after it.
pub(crate) fn rebuild(
    shared: &Shared,
    snapshots: &[Offset],
    end: Offset,
    now_ms: i64,
    producers_max: usize,
) -> Result<State, ReadError> {
    let mut state = newest_snapshot(shared, snapshots, end)?.unwrap_or_else(|| {
        let segments = shared.segments();
        let first = segments.get(segment_at(&segments, shared.log_start()));
        Snapshot {
            at: first.map_or(end, |segment| segment.base),
            ..Snapshot::default()
        }
    });
    let transactions = replay(shared, &mut state, end, now_ms, producers_max)?;
    state.epochs.cut(end);
    state.epochs.begin_at(shared.log_start());
    Ok(State {
        epochs: state.epochs,
        producers: state.producers,
        transactions,
    })
}

fn newest_snapshot(
    shared: &Shared,
    snapshots: &[Offset],
    end: Offset,
) -> Result<Option<Snapshot>, ReadError> {
    let first = shared
        .segments()
        .first()
        .map_or(end, |segment| segment.base);
    for at in snapshots
        .iter()
        .rev()
        .filter(|at| **at <= end && **at >= first)
    {
        let path = shared.path.join(snapshot_name(*at));
        let bytes = read_whole(&**shared.dir.storage(), &path)?.unwrap_or_default();
        match producers::decode(&bytes).filter(|snapshot| snapshot.at == *at) {
            Some(snapshot) => return Ok(Some(snapshot)),
            None => {
                warn!(path = %path.display(), "a state snapshot is not whole; reading the log instead")
            }
        }
    }
    Ok(None)
}

fn replay(
    shared: &Shared,
    state: &mut Snapshot,
    end: Offset,
    now_ms: i64,
    producers_max: usize,
) -> Result<Transactions, ReadError> {
    let mut transactions = Transactions::of(&state.producers);
    let segments = shared.segments();
    for segment in &segments[segment_at(&segments, state.at)..] {
        let from = state.at.max(segment.base);
        if from >= end.min(segment.end()) {
            continue;
        }
        let file = segment.file(&shared.dir, &shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let first = shared.find(&sought, from)?;
        let mut walk = Walk::new(
            &*file,
            first.position,
            segment.size(),
            first.header.base_offset,
            Wait::Yes,
        );
        while let Some(placed) = walk
            .next()
            .map_err(|error| shared.walk_error(segment, error))?
        {
            let header = placed.header;
            if header.base_offset >= end {
                break;
            }
            if header.base_offset >= state.at {
                state.epochs.assign(header.leader_epoch, header.base_offset);
                let arriving = arriving(shared, &sought, &placed)?;
                // Not judged again: what is in the log was judged when it came.
                let remembered = state.producers.remember(&arriving, now_ms);
                if let Some(step) = remembered.and_then(|remembered| remembered.step) {
                    transactions.apply(&step);
                }
                state.producers.trim(producers_max);
            }
        }
    }
    Ok(transactions)
}

/// The batch as its producer's state sees it: of a marker, what it says.
fn arriving(shared: &Shared, sought: &Sought<'_>, placed: &Placed) -> Result<Arriving, ReadError> {
    let header = placed.header;
    let mut arriving = Arriving {
        header,
        marker: None,
    };
    if !header.attributes.is_control() || header.total_len() > MARKER_BYTES_MAX {
        return Ok(arriving);
    }
    let mut bytes = vec![0; header.total_len()];
    let path = sought.segment.log_path(&shared.path);
    let read = sought
        .wait
        .read_at(sought.file, &mut bytes, placed.position)
        .map_err(FileError::of("reading", &path))?;
    let marker = BatchView::split_first(bytes.get(..read).unwrap_or_default())
        .and_then(|(batch, _)| batch.end_transaction());
    arriving.marker = marker.map_err(|error| {
        let (position, expected) = (placed.position, header.base_offset);
        let found = error.to_string();
        shared.walk_error(
            sought.segment,
            WalkError::Bad {
                position,
                expected,
                found,
            },
        )
    })?;
    Ok(arriving)
}
