//! Which segments go, and how they go.
//!
//! Whole segments from the log's beginning, never beyond what the caller allows. A segment is deleted by age only when its
//! batches say how new it is; an index may say that it is worth looking. On disk the log's start moves first, durably, then
//! the files are renamed and removed: all of it in the background.

use std::path::PathBuf;
use std::sync::Arc;

use tracing::info;
use weir_wire::Offset;

use super::truncation::write_log_start;
use super::{PartitionLog, WriteFailed};
use crate::clean::{is_name_of_another, remove_if_there};
use crate::dir::DELETED_SUFFIX;
use crate::error::ReadError;
use crate::files::{FileError, Wait};
use crate::seek::Sought;
use crate::segment::{NO_TIMESTAMP, Newest, Segment};
use crate::shared::Shared;
use crate::walk::Walk;

/// Work in the background that retention asks for.
#[derive(Debug)]
pub(crate) enum RetentionJob {
    /// Remove segments that are not part of the log any more.
    Remove {
        shared: Arc<Shared>,
        segments: Vec<Arc<Segment>>,
        log_start: Offset,
    },
    /// Find out how new a segment is; retention is to be asked again when it is done.
    Age(SegmentAge),
}

/// A segment whose newest record is to be found out.
#[derive(Debug)]
pub(crate) struct SegmentAge {
    shared: Arc<Shared>,
    segment: Arc<Segment>,
    /// Only one that looks older than this is read as a whole.
    deadline_ms: i64,
}

impl RetentionJob {
    /// Does it, and says whether retention may have more to do now. After a failure it has not: the next tick tries again.
    pub(crate) fn run(&self) -> (bool, Result<(), FileError>) {
        match self {
            Self::Remove {
                shared,
                segments,
                log_start,
            } => {
                let result = remove(shared, segments, *log_start);
                (result.is_ok(), result)
            }
            Self::Age(age) => {
                let found = age.find_out();
                if let Err(error) = &found {
                    info!(partition = %age.shared.key, %error, "the age of a segment is not known; it is kept");
                }
                (found.is_ok(), Ok(()))
            }
        }
    }
}

fn remove(shared: &Shared, segments: &[Arc<Segment>], log_start: Offset) -> Result<(), FileError> {
    store_log_start(shared, log_start)?;
    let mut put_away = Vec::new();
    for segment in segments {
        put_away.extend(take_name(shared, segment)?);
        segment.forget_files(&shared.dir);
    }
    for path in put_away {
        remove_if_there(shared, &path)?;
    }
    Ok(())
}

/// Writes the log's start, unless a later one is on disk already, or the log begins earlier again since it was cut.
fn store_log_start(shared: &Shared, start: Offset) -> Result<(), FileError> {
    let mut beside = shared.beside();
    let start = start.min(shared.log_start());
    if start > beside.log_start && !shared.is_closed() {
        write_log_start(shared, &mut beside, start)?;
    }
    Ok(())
}

/// Takes a segment's name away, and what is derived from it: from then on another segment may have the name. Says what is left to
/// be removed, which may take long. Nothing, when another has the name already: the log was cut and has grown again.
fn take_name(shared: &Shared, segment: &Segment) -> Result<Option<PathBuf>, FileError> {
    let _edit = shared.edit_segments();
    if shared.is_closed() || is_name_of_another(shared, segment) {
        return Ok(None);
    }
    let path = segment.log_path(&shared.path);
    let mut deleted = path.clone().into_os_string();
    deleted.push(DELETED_SUFFIX);
    let deleted = PathBuf::from(deleted);
    match shared.dir.storage().rename(&path, &deleted) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        renamed => renamed.map_err(FileError::of("renaming", &path))?,
    }
    remove_if_there(shared, &segment.index_path(&shared.path))?;
    remove_if_there(shared, &segment.aborted_path(&shared.path))?;
    Ok(Some(deleted))
}

impl SegmentAge {
    fn find_out(&self) -> Result<(), ReadError> {
        let (shared, segment) = (&self.shared, &self.segment);
        let file = segment.file(&shared.dir, &shared.path)?;
        let sought = Sought {
            segment,
            file: &*file,
            wait: Wait::Yes,
        };
        let hint = match segment.newest() {
            Newest::Hint(newest) | Newest::Certain(newest) => newest,
            Newest::Unknown => shared.newest_hint(&sought)?,
        };
        if hint >= self.deadline_ms {
            segment.set_newest(Newest::Hint(hint));
            return Ok(());
        }
        let mut walk = Walk::new(&*file, 0, segment.size(), segment.base, Wait::Yes);
        let mut newest = NO_TIMESTAMP;
        while let Some(placed) = walk
            .next()
            .map_err(|error| shared.walk_error(segment, error))?
        {
            newest = newest.max(placed.header.max_timestamp_ms);
        }
        if newest < 0 && !segment.is_active() {
            // Its records have no time: they are as old as the file, which is not written to any more.
            let path = segment.log_path(&shared.path);
            let modified = file
                .modified_ms()
                .map_err(FileError::of("asking the age of", &path))?;
            // Where the disk cannot tell they are kept.
            newest = modified.unwrap_or(i64::MAX);
        }
        segment.set_newest(Newest::Certain(newest));
        Ok(())
    }
}

/// What is to be done with a segment by its age.
enum Age {
    Expired,
    Kept,
    ToFindOut,
}

impl PartitionLog {
    /// Takes the segments out of the log that retention does not keep and that lie below `up_to`. Nothing may be staged.
    pub(crate) fn retain(
        &mut self,
        up_to: Offset,
        now_ms: i64,
    ) -> Result<Option<RetentionJob>, WriteFailed> {
        self.expire_producers(now_ms);
        if self.shared.damage().is_some() {
            return Ok(None);
        }
        let deadline_ms = self
            .config
            .retention_ms
            .map(|retention| now_ms.saturating_sub(retention));
        if let Some(deadline_ms) = deadline_ms
            && self.shared.segments().len() == 1
            && self.active.end() <= up_to
            && matches!(self.age(&self.active, deadline_ms), Age::Expired)
        {
            // All there is has expired: it can only go once it is not being written to.
            self.roll(now_ms)?;
        }
        let segments = self.shared.segments();
        let mut total: u64 = segments.iter().map(|segment| segment.size()).sum();
        let mut removed = 0;
        let mut to_find_out = None;
        for segment in segments
            .iter()
            .take(segments.len() - 1)
            .take_while(|segment| segment.end() <= up_to)
        {
            let before_start = segment.end() <= self.shared.log_start();
            let too_large = self
                .config
                .retention_bytes
                .is_some_and(|keep| total - segment.size() >= keep);
            let expired = match deadline_ms.map(|deadline_ms| self.age(segment, deadline_ms)) {
                Some(Age::Expired) => true,
                Some(Age::ToFindOut) if !before_start && !too_large => {
                    to_find_out = Some(Arc::clone(segment));
                    break;
                }
                _ => false,
            };
            if !(before_start || too_large || expired) {
                break;
            }
            total -= segment.size();
            removed += 1;
        }
        let age = |segment, deadline_ms| {
            RetentionJob::Age(SegmentAge {
                shared: Arc::clone(&self.shared),
                segment,
                deadline_ms,
            })
        };
        if removed > 0 {
            return Ok(Some(self.take_out(removed)));
        }
        let active = || Arc::clone(&self.active);
        let lone = || segments.len() == 1 && self.active.size() > 0 && self.active.end() <= up_to;
        Ok(deadline_ms.and_then(|deadline_ms| match to_find_out {
            Some(segment) => Some(age(segment, deadline_ms)),
            None if lone() && matches!(self.age(&self.active, deadline_ms), Age::ToFindOut) => {
                Some(age(active(), deadline_ms))
            }
            None => None,
        }))
    }

    fn age(&self, segment: &Segment, deadline_ms: i64) -> Age {
        match segment.newest() {
            // Records without a time: a closed segment is as old as its file, which the disk has to be asked.
            Newest::Certain(newest) if newest < 0 && !segment.is_active() && segment.size() > 0 => {
                Age::ToFindOut
            }
            Newest::Certain(newest) if newest < 0 => Age::Kept,
            Newest::Certain(newest) if newest < deadline_ms => Age::Expired,
            Newest::Certain(_) => Age::Kept,
            Newest::Hint(newest) if newest >= deadline_ms => Age::Kept,
            Newest::Hint(_) | Newest::Unknown => Age::ToFindOut,
        }
    }

    /// Readers do not see the first `count` segments from here on.
    fn take_out(&mut self, count: usize) -> RetentionJob {
        let edit = self.shared.edit_segments();
        let mut segments = (*self.shared.segments()).clone();
        let out: Vec<_> = segments.drain(..count).collect();
        let log_start = segments
            .first()
            .map_or(self.shared.log_end(), |first| first.base)
            .max(self.shared.log_start());
        self.move_log_start(log_start);
        edit.set(segments);
        self.unindexed_closed
            .retain(|segment| segment.end() > log_start);
        self.unsynced_closed
            .retain(|(segment, _)| segment.end() > log_start);
        RetentionJob::Remove {
            shared: Arc::clone(&self.shared),
            segments: out,
            log_start,
        }
    }
}
