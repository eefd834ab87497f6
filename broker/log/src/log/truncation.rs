//! Cutting the log's end, and moving its start.

use std::sync::Arc;

use weir_wire::Offset;

use super::PartitionLog;
use super::state::{self, State};
use crate::clean::{remove_if_there, remove_superseded, store_compacted_to};
use crate::dir::{LOG_START_FILE, METADATA_FILE, Mark, offset_of};
use crate::error::{Fatal, LaneError, ReadError};
use crate::files::{FileError, SYNCING, Wait, replace};
use crate::seek::Sought;
use crate::segment::Segment;
use crate::shared::{Beside, EditSegments, Shared, segment_at};
use crate::storage::OpenMode;

/// Why a truncation, or what else a lane was told, was not done.
#[derive(Debug)]
pub(crate) enum TruncationFailed {
    /// The log is as it was.
    Refused(LaneError),
    /// It is somewhere in between.
    Fatal(Fatal),
}

impl From<FileError> for TruncationFailed {
    fn from(error: FileError) -> Self {
        Self::Fatal(error.into())
    }
}

impl TruncationFailed {
    /// Of something that left the log as it was.
    pub(super) fn unless_dying(error: FileError) -> Self {
        match error.is_fatal() {
            true => Self::Fatal(error.into()),
            false => Self::Refused(error.into()),
        }
    }
}

/// Where the log is cut: between two batches.
#[derive(Clone, Copy, Debug)]
struct CutPoint {
    end: Offset,
    segment_number: usize,
    position: u64,
}

impl PartitionLog {
    /// Cuts the log so that it ends at the last batch boundary at or below `end`, durably. Nothing may be staged.
    pub(crate) fn truncate_to(
        &mut self,
        end: Offset,
        now_ms: i64,
    ) -> Result<Offset, TruncationFailed> {
        self.refuse_if_damaged()?;
        // What is under way in the background finds out that it is for nothing, and exchanges and writes nothing from here on.
        let shared = Arc::clone(&self.shared);
        let mut edit = shared.edit_segments();
        let mut beside = shared.beside();
        let (start, log_end) = (self.shared.log_start(), self.shared.log_end());
        if end >= log_end {
            return Ok(log_end);
        }
        if end < start {
            return Err(TruncationFailed::Refused(LaneError::OffsetOutOfRange {
                wanted: end,
                start,
                end: log_end,
            }));
        }
        let cut = self
            .cut_point(end)
            .map_err(|error| TruncationFailed::Refused(not_found(&self.shared, error)))?;
        let segment = self
            .shared
            .segments()
            .get(cut.segment_number)
            .map_or(cut.end, |segment| segment.base);
        // What stays is to be on disk when this is done, and the checkpoint is to say so.
        self.sync_names()?;
        self.sync_closed(segment)?;
        // The checkpoint lets go first: otherwise a power cut in between would make this look like damage.
        if self.shared.mark.get().end > cut.end {
            self.shared.mark.set(Mark {
                end: cut.end,
                segment,
                position: cut.position,
            });
            self.shared.dir.write_checkpoint(false)?;
        }
        if cut.end < self.shared.compacted_to() {
            store_compacted_to(&self.shared, &mut beside, cut.end)?;
        }
        if cut.end < start {
            // The batch that holds the log's start goes as a whole.
            self.move_log_start(cut.end);
            write_log_start(&self.shared, &mut beside, cut.end)?;
        }
        remove_superseded(&shared, &mut edit)?;
        self.shared.step_truncations();
        let done = self.cut(cut, &edit, now_ms);
        self.shared.step_truncations();
        drop((beside, edit));
        done?;
        self.shared.mark.set(Mark {
            end: cut.end,
            segment,
            position: cut.position,
        });
        Ok(cut.end)
    }

    fn refuse_if_damaged(&self) -> Result<(), TruncationFailed> {
        match self.shared.damage() {
            Some(damage) => Err(TruncationFailed::Refused(LaneError::Damaged(damage))),
            None => Ok(()),
        }
    }

    /// Makes the names durable of a partition that was made in this life, without which nothing in it is.
    pub(super) fn sync_names(&mut self) -> Result<(), FileError> {
        let Some(metadata) = &self.made else {
            return Ok(());
        };
        let (storage, path) = (self.shared.dir.storage(), &self.shared.path);
        metadata
            .sync_data()
            .map_err(FileError::of(SYNCING, &path.join(METADATA_FILE)))?;
        for path in [path.as_path(), self.shared.dir.path()] {
            storage
                .sync_dir(path)
                .map_err(FileError::of(SYNCING, path))?;
        }
        self.made = None;
        Ok(())
    }

    /// Syncs the closed segments below one that were not yet.
    fn sync_closed(&self, below: Offset) -> Result<(), FileError> {
        let closed = self.unsynced_closed.iter();
        for (segment, file) in closed.filter(|(segment, _)| segment.base < below) {
            file.sync_data()
                .map_err(FileError::of(SYNCING, &segment.log_path(&self.shared.path)))?;
        }
        Ok(())
    }

    fn cut_point(&self, end: Offset) -> Result<CutPoint, ReadError> {
        let segments = self.shared.segments();
        let segment_number = segment_at(&segments, end);
        let segment = segments.get(segment_number).ok_or(ReadError::Gone)?;
        if segment.base == end {
            return Ok(CutPoint {
                end,
                segment_number,
                position: 0,
            });
        }
        let file = segment.file(&self.shared.dir, &self.shared.path)?;
        let placed = self.shared.find(
            &Sought {
                segment,
                file: &*file,
                wait: Wait::Yes,
            },
            end,
        )?;
        Ok(CutPoint {
            end: placed.header.base_offset,
            segment_number,
            position: placed.position,
        })
    }

    fn cut(
        &mut self,
        cut: CutPoint,
        edit: &EditSegments<'_>,
        now_ms: i64,
    ) -> Result<(), TruncationFailed> {
        let shared = Arc::clone(&self.shared);
        let storage = &**shared.dir.storage();
        let mut segments = (*shared.segments()).clone();
        shared.set_durable_end(cut.end.min(shared.durable_end()));
        shared.set_synced_end(cut.end.min(shared.synced_end()));
        {
            let mut epochs = shared.epochs();
            epochs.cut(cut.end);
            shared.set_log_end(cut.end);
        }
        // From the end, so that a power cut on the way leaves a log without a hole.
        for segment in segments.drain(cut.segment_number + 1..).rev() {
            segment.forget_files(&shared.dir);
            for path in [
                segment.log_path(&shared.path),
                segment.index_path(&shared.path),
                segment.aborted_path(&shared.path),
            ] {
                remove_if_there(&shared, &path)?;
            }
        }
        let Some(old) = segments.pop() else {
            return Ok(());
        };
        let path = old.log_path(&shared.path);
        let file = storage
            .open(&path, OpenMode::Write)
            .map_err(FileError::of("opening", &path))?;
        file.set_len(cut.position)
            .map_err(FileError::of("cutting", &path))?;
        file.sync_data().map_err(FileError::of(SYNCING, &path))?;
        old.with_index(&shared.dir, &shared.path, |index, place| index.flush(place))?;
        old.with_index(&shared.dir, &shared.path, |index, place| {
            index.cut(place, cut.position)
        })?;
        old.forget_files(&shared.dir);
        remove_snapshots_beyond(&shared, cut.end)?;
        self.snapshots.retain(|at| *at <= cut.end);
        storage
            .sync_dir(&shared.path)
            .map_err(FileError::of(SYNCING, &shared.path))?;
        // A new value, so that what is known of its times does not outlive the batches that had them.
        let index_path = old.index_path(&shared.path);
        let index_len = storage
            .open(&index_path, OpenMode::Read)
            .and_then(|file| file.len())
            .unwrap_or(0);
        let segment = Arc::new(Segment::new(
            &shared.dir,
            (old.base, old.generation),
            cut.position,
            cut.end,
            index_len,
        ));
        segment.set_active(Some(Arc::clone(&file)));
        segments.push(Arc::clone(&segment));
        self.active = segment;
        self.active_file = file;
        self.active_since_ms = (cut.position > 0).then_some(now_ms);
        self.unsynced_closed.clear();
        self.unindexed_closed.clear();
        self.rolls_synced = self.rolls;
        self.bytes_since_index = self.config.index_interval_bytes;
        edit.set(segments);
        shared.set_synced_end(cut.end);
        self.rebuild_state(cut.end, now_ms)
    }

    fn rebuild_state(&mut self, end: Offset, now_ms: i64) -> Result<(), TruncationFailed> {
        let rebuilt = state::rebuild(
            &self.shared,
            &self.snapshots,
            end,
            now_ms,
            self.config.producers_max,
        );
        let fatal = |error: ReadError| {
            TruncationFailed::Fatal(Fatal {
                doing: "reading",
                path: self.shared.path.clone(),
                source: Arc::new(std::io::Error::other(error)),
            })
        };
        let State {
            epochs,
            producers,
            transactions,
            damage,
        } = rebuilt.map_err(fatal)?;
        if let Some(damage) = damage {
            return Err(fatal(ReadError::Corrupt(damage)));
        }
        self.latest_epoch = epochs.latest();
        *self.shared.epochs() = epochs;
        *self.shared.transactions() = transactions;
        self.producers = producers;
        self.staged_end = end;
        Ok(())
    }

    /// Moves the log's start up, durably. The bytes go with retention.
    pub(crate) fn delete_records(&mut self, start: Offset) -> Result<Offset, TruncationFailed> {
        self.refuse_if_damaged()?;
        let (log_start, end) = (self.shared.log_start(), self.shared.durable_end());
        if start <= log_start {
            return Ok(log_start);
        }
        if start > end {
            let error = LaneError::OffsetOutOfRange {
                wanted: start,
                start: log_start,
                end,
            };
            return Err(TruncationFailed::Refused(error));
        }
        if self.made.is_some()
            && let Some(work) = self.sync_work()
        {
            // The directory that the start is written to has no durable name yet.
            work.run()?;
            self.synced(&work);
        }
        let shared = Arc::clone(&self.shared);
        let mut beside = shared.beside();
        // One that retention asked for may be on disk already, or be written later: neither is beyond what is told here.
        if start > beside.log_start {
            write_log_start(&shared, &mut beside, start).map_err(TruncationFailed::unless_dying)?;
        }
        self.move_log_start(start);
        Ok(start)
    }

    pub(super) fn move_log_start(&self, start: Offset) {
        self.shared.set_log_start(start);
        self.shared.epochs().begin_at(start);
    }
}

/// Those that are there: also one that another should have taken the place of.
fn remove_snapshots_beyond(shared: &Shared, end: Offset) -> Result<(), FileError> {
    let path = &shared.path;
    let names = shared.dir.storage().list(path);
    let names = names.map_err(FileError::of("listing", path))?;
    names
        .iter()
        .filter(|name| offset_of(name, "snapshot").is_some_and(|at| at > end))
        .try_for_each(|name| remove_if_there(shared, &path.join(name)))
}

/// Writes where the log begins.
pub(super) fn write_log_start(
    shared: &Shared,
    beside: &mut Beside,
    start: Offset,
) -> Result<(), FileError> {
    replace(
        &**shared.dir.storage(),
        &shared.path,
        LOG_START_FILE,
        format!("{start}\n").as_bytes(),
    )?;
    beside.log_start = start;
    Ok(())
}

fn not_found(shared: &Shared, error: ReadError) -> LaneError {
    match error {
        ReadError::Corrupt(damage) => LaneError::Damaged(damage),
        other => LaneError::Io {
            doing: "reading",
            path: shared.path.clone(),
            source: Arc::new(std::io::Error::other(other)),
        },
    }
}
