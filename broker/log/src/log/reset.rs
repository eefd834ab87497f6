//! Throwing a log away and beginning it anew, empty, at some offset: when a leader's log begins behind this one's end, when nothing
//! of the two agrees, or when this one is damaged and is to be fetched again.
//!
//! A power cut may come at every step. What is found after it is the log as it was, perhaps cut at its end, or an empty one,
//! at its old start or at the new one; so the steps are, each on disk before the next:
//!
//! 1. the checkpoint vouches for nothing any more: what does not follow the first segment is not part of the log;
//! 2. everything is gone but the first segment: other segments, indexes, snapshots;
//! 3. the first segment is gone too, without which a later one would look as if the log's beginning had been lost;
//! 4. the log begins at the new start;
//! 5. there is a segment that begins there;
//! 6. a snapshot says what is known of producers from before, if anything;
//! 7. the checkpoint says so.
//!
//! Of a damaged log the checkpoint is left as it was until step 7, so that up to there it is found damaged, or empty where it was to
//! begin: never shorter and taken for whole. No file is written to or cut: who has one open reads on in it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use weir_wire::Offset;

use super::PartitionLog;
use super::state::{sync_snapshot, write_snapshot};
use super::truncation::{TruncationFailed, write_log_start};
use crate::clean::{remove_if_there, remove_superseded, store_compacted_to};
use crate::dir::{
    COMPACTED_FILE, DELETED_SUFFIX, LOG_START_FILE, METADATA_FILE, Mark, TEMPORARY_SUFFIX,
    log_name, segment_of, snapshot_name,
};
use crate::epochs::Epochs;
use crate::error::LaneError;
use crate::files::{FileError, SYNCING};
use crate::producers::{KnownProducers, Producers, encode};
use crate::segment::Segment;
use crate::shared::{Beside, EditSegments, Shared};
use crate::storage::{File, OpenMode};
use crate::transactions::Transactions;

#[cfg(test)]
mod tests;

impl PartitionLog {
    /// Throws everything away, damage too, and begins the log at `start`, durably, with what is known of producers from before. Nothing may
    /// be staged.
    pub(crate) fn reset(
        &mut self,
        start: Offset,
        producers: KnownProducers,
    ) -> Result<(), TruncationFailed> {
        if start < Offset::ZERO {
            return Err(TruncationFailed::Refused(LaneError::OffsetOutOfRange {
                wanted: start,
                start: Offset::ZERO,
                end: Offset(i64::MAX),
            }));
        }
        let known = Known::of(&self.shared, start, producers.0);
        if !self.shared.dir.take_room(known.bytes.len() as u64) {
            let full = io::Error::from(io::ErrorKind::StorageFull);
            let full = FileError::of("writing", &known.path)(full);
            return Err(TruncationFailed::unless_dying(full));
        }
        // What is under way in the background finds out that it is for nothing, and exchanges and writes nothing from here on.
        let shared = Arc::clone(&self.shared);
        let mut edit = shared.edit_segments();
        let mut beside = shared.beside();
        self.vouch_for_nothing(&mut beside)
            .map_err(TruncationFailed::unless_dying)?;
        shared.step_truncations();
        let done = self.begin_at(start, known, &mut edit, &mut beside);
        shared.step_truncations();
        done.map_err(TruncationFailed::from)
    }

    /// What is on disk besides the log says nothing that its going would make wrong. The log is still what it was.
    fn vouch_for_nothing(&mut self, beside: &mut Beside) -> Result<(), FileError> {
        self.sync_names()?;
        let shared = &self.shared;
        if shared.damage().is_none() {
            shared.mark.set(Mark {
                end: Offset::ZERO,
                segment: Offset::ZERO,
                position: 0,
            });
            shared.dir.write_checkpoint(false)?;
        }
        if shared.compacted_to() > Offset::ZERO {
            store_compacted_to(shared, beside, Offset::ZERO)?;
        }
        Ok(())
    }

    fn begin_at(
        &mut self,
        start: Offset,
        known: Known,
        edit: &mut EditSegments<'_>,
        beside: &mut Beside,
    ) -> Result<(), FileError> {
        let shared = Arc::clone(&self.shared);
        remove_superseded(&shared, edit)?;
        for segment in shared.segments().iter() {
            segment.forget_files(&shared.dir);
        }
        empty_directory(&shared)?;
        write_log_start(&shared, beside, start)?;
        let (segment, file) = first_segment(&shared, start)?;
        self.forget(&segment, file);
        if !known.bytes.is_empty() {
            let file = write_snapshot(&shared, &known.path, &known.bytes)?;
            sync_snapshot(&shared, &known.path, &*file)?;
            self.producers = known.producers;
            self.snapshots.push(start);
        }
        edit.set(vec![segment]);
        shared.clear_damage();
        shared.set_uncleanable(false);
        let mut epochs = shared.epochs();
        *epochs = Epochs::default();
        shared.set_log_start(start);
        shared.set_synced_end(start);
        shared.set_durable_end(start.min(shared.durable_end()));
        shared.set_log_end(start);
        drop(epochs);
        *shared.transactions() = Transactions::default();
        shared.mark.set(Mark {
            end: start,
            segment: start,
            position: 0,
        });
        shared.dir.write_checkpoint(false)
    }

    /// The writing side is that of a log without batches.
    fn forget(&mut self, active: &Arc<Segment>, file: Arc<dyn File>) {
        self.active = Arc::clone(active);
        self.active_file = file;
        self.active_since_ms = None;
        self.producers = Producers::default();
        self.staged_end = active.base;
        self.latest_epoch = None;
        self.unsynced_closed.clear();
        self.unindexed_closed.clear();
        self.rolls_synced = self.rolls;
        self.bytes_since_index = self.config.index_interval_bytes;
        self.bytes_since_snapshot = 0;
        self.snapshots.clear();
        self.tells_aborted = false;
    }
}

/// Steps 2 and 3: no segment is left, nor what is derived from one. What is on its way out anyway is left to who sees to it.
fn empty_directory(shared: &Shared) -> Result<(), FileError> {
    let path = &shared.path;
    let storage = shared.dir.storage();
    let sync = || storage.sync_dir(path).map_err(FileError::of(SYNCING, path));
    let names = storage.list(path).map_err(FileError::of("listing", path))?;
    let logs: Vec<_> = names
        .iter()
        .filter_map(|name| segment_of(name, "log"))
        .collect();
    let first_base = logs.iter().map(|(base, _)| *base).min();
    let is_first = |(base, _): &&(Offset, u32)| Some(*base) == first_base;
    let first: Vec<String> = logs
        .iter()
        .filter(is_first)
        .map(|(base, generation)| log_name(*base, *generation))
        .collect();
    for name in names.iter().rev() {
        let stays = [METADATA_FILE, LOG_START_FILE, COMPACTED_FILE].contains(&name.as_str())
            || name.ends_with(TEMPORARY_SUFFIX)
            || name.ends_with(DELETED_SUFFIX);
        if !stays && !first.contains(name) {
            remove_if_there(shared, &path.join(name))?;
        }
    }
    sync()?;
    for name in &first {
        remove_if_there(shared, &path.join(name))?;
    }
    sync()
}

/// Step 5.
fn first_segment(
    shared: &Shared,
    start: Offset,
) -> Result<(Arc<Segment>, Arc<dyn File>), FileError> {
    let segment = Arc::new(Segment::new(&shared.dir, (start, 0), 0, start, 0));
    let path = segment.log_path(&shared.path);
    let storage = shared.dir.storage();
    let file = storage
        .open(&path, OpenMode::Create)
        .map_err(FileError::of("making", &path))?;
    storage
        .sync_dir(&shared.path)
        .map_err(FileError::of(SYNCING, &shared.path))?;
    segment.set_active(Some(Arc::clone(&file)));
    Ok((segment, file))
}

/// Producers, and the snapshot that says so; none of none.
struct Known {
    producers: Producers,
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Known {
    fn of(shared: &Shared, start: Offset, producers: Producers) -> Self {
        let bytes = match producers.is_empty() {
            true => Vec::new(),
            false => encode(start, &Epochs::default(), &producers, &[]),
        };
        Self {
            path: shared.path.join(snapshot_name(start)),
            producers,
            bytes,
        }
    }
}
