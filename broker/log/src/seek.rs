//! Finds batches in a segment through its index, without believing the index.
//!
//! An entry is used only when the batch that it speaks of lies where it says. One that does not makes the whole index
//! suspect: it is made anew from the log by whoever found it, and the search starts at the segment's beginning.

use tracing::warn;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, HEADER_LEN};

use crate::error::{Damage, ReadError};
use crate::files::{FileError, Wait};
use crate::index::IndexEntry;
use crate::mutants::Mutant;
use crate::segment::{NO_TIMESTAMP, Segment};
use crate::shared::Shared;
use crate::storage::File;
use crate::walk::{Placed, Walk, WalkError};

/// Where a walk can start: a position, and the offset of the batch that lies there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) position: u64,
    pub(crate) offset: Offset,
}

impl Start {
    /// A segment's beginning.
    fn of(segment: &Segment) -> Self {
        Self {
            position: 0,
            offset: segment.base,
        }
    }
}

/// The index entry that makes a walk start, and the bytes it may cross.
pub(crate) struct Sought<'a> {
    pub(crate) segment: &'a Segment,
    pub(crate) file: &'a dyn File,
    pub(crate) wait: Wait,
}

impl Shared {
    /// The place to start walking from, to find the first batch for which the index entries `holds` are too early.
    pub(crate) fn start(
        &self,
        sought: &Sought<'_>,
        holds: impl Fn(&IndexEntry) -> bool,
    ) -> Result<Start, ReadError> {
        let start = self.entry(sought, holds)?;
        if start.position == 0 {
            return Ok(start);
        }
        if Mutant::BelieveIndex.is_active() || self.is_there(sought, start)? {
            return Ok(start);
        }
        let Sought {
            segment,
            file,
            wait,
        } = *sought;
        if wait == Wait::No {
            return Err(ReadError::WouldBlock);
        }
        warn!(
            partition = %self.key, segment = %segment.base, position = start.position, offset = %start.offset,
            "an index entry points at what is not there; making the index anew from the log"
        );
        self.rebuild_index(segment, file)?;
        Ok(Start::of(segment))
    }

    /// The place that the index names for the last entry for which `holds`, not compared with the log.
    pub(crate) fn entry(
        &self,
        sought: &Sought<'_>,
        holds: impl Fn(&IndexEntry) -> bool,
    ) -> Result<Start, ReadError> {
        let segment = sought.segment;
        let entry = segment.with_index(&self.dir, &self.path, |index, place| {
            index.last_where(place, sought.wait, holds)
        })?;
        Ok(entry.map_or_else(
            || Start::of(segment),
            |entry| Start {
                position: u64::from(entry.position),
                offset: segment
                    .base
                    .saturating_add(i64::from(entry.relative_offset)),
            },
        ))
    }

    /// Whether a batch that begins at `start.offset` lies at `start.position`.
    fn is_there(&self, sought: &Sought<'_>, start: Start) -> Result<bool, ReadError> {
        let Sought {
            segment,
            file,
            wait,
        } = *sought;
        if start.position + HEADER_LEN as u64 > segment.size() {
            return Ok(false);
        }
        let mut bytes = [0; HEADER_LEN];
        let read = wait
            .read_at(file, &mut bytes, start.position)
            .map_err(FileError::of("reading", &segment.log_path(&self.path)))?;
        if read < HEADER_LEN && wait == Wait::No {
            return Err(ReadError::WouldBlock);
        }
        Ok(BatchHeader::parse(&bytes).is_ok_and(|header| {
            read == HEADER_LEN
                && header.base_offset == start.offset
                && start.position + header.total_len() as u64 <= segment.size()
        }))
    }

    /// Makes a segment's index anew from its batches, as far as these are whole. Returns their greatest timestamp.
    pub(crate) fn rebuild_index(
        &self,
        segment: &Segment,
        file: &dyn File,
    ) -> Result<i64, FileError> {
        let interval = self.index_interval_bytes();
        let mut walk = Walk::new(file, 0, segment.size(), segment.base, Wait::Yes);
        let mut entries = Vec::new();
        let mut newest = NO_TIMESTAMP;
        let mut since = 0;
        while let Ok(Some(placed)) = walk.next() {
            if since >= interval {
                entries.extend(entry_for(segment, &placed, newest));
                since = 0;
            }
            since += placed.header.total_len() as u64;
            newest = newest.max(placed.header.max_timestamp_ms);
        }
        segment.with_index(&self.dir, &self.path, |index, place| {
            index.rebuild(place, entries)
        })?;
        Ok(newest)
    }

    /// The batch that holds `offset`, which must be below the segment's end.
    pub(crate) fn find(&self, sought: &Sought<'_>, offset: Offset) -> Result<Placed, ReadError> {
        let segment = sought.segment;
        let relative = u32::try_from(offset.0 - segment.base.0).unwrap_or(u32::MAX);
        let start = self.start(sought, |entry| entry.relative_offset <= relative)?;
        self.walk_until(sought, start, |placed| placed.header.next_offset() > offset)?
            .ok_or_else(|| self.ends_early(segment, offset))
    }

    /// The first batch from `start` on for which `found` holds.
    pub(crate) fn walk_until(
        &self,
        sought: &Sought<'_>,
        start: Start,
        found: impl Fn(&Placed) -> bool,
    ) -> Result<Option<Placed>, ReadError> {
        let Sought {
            segment,
            file,
            wait,
        } = *sought;
        let mut walk = Walk::new(file, start.position, segment.size(), start.offset, wait);
        loop {
            match walk.next() {
                Ok(Some(placed)) if found(&placed) => return Ok(Some(placed)),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(self.walk_error(segment, error)),
            }
        }
    }

    pub(crate) fn walk_error(&self, segment: &Segment, error: WalkError) -> ReadError {
        match error {
            WalkError::Io(error) => {
                FileError::of("reading", &segment.log_path(&self.path))(error).into()
            }
            WalkError::Bad {
                position,
                expected,
                found,
            } => ReadError::Corrupt(Damage {
                offsets: expected..segment.end().max(expected.next()),
                found: format!(
                    "{} at {position}: {found}",
                    segment.log_path(&self.path).display()
                ),
            }),
        }
    }

    pub(crate) fn ends_early(&self, segment: &Segment, offset: Offset) -> ReadError {
        ReadError::Corrupt(Damage {
            offsets: offset..segment.end().max(offset.next()),
            found: format!(
                "{} ends before that",
                segment.log_path(&self.path).display()
            ),
        })
    }

    /// A segment's greatest timestamp, from its index and the batches behind the index's last entry: a hint.
    pub(crate) fn newest_hint(&self, sought: &Sought<'_>) -> Result<i64, ReadError> {
        self.newest_before(sought, sought.segment.size())
    }

    /// The greatest timestamp of a segment's batches before `limit`, where one of them ends: a hint.
    pub(crate) fn newest_before(&self, sought: &Sought<'_>, limit: u64) -> Result<i64, ReadError> {
        let segment = sought.segment;
        let before = |entry: &IndexEntry| u64::from(entry.position) < limit;
        let last = segment.with_index(&self.dir, &self.path, |index, place| {
            index.last_where(place, sought.wait, before)
        })?;
        let start = self.start(sought, before)?;
        let mut newest = match last {
            Some(entry) if start.position == u64::from(entry.position) => {
                entry.max_timestamp_before
            }
            _ => NO_TIMESTAMP,
        };
        let mut walk = Walk::new(
            sought.file,
            start.position,
            limit,
            start.offset,
            sought.wait,
        );
        while let Some(placed) = walk
            .next()
            .map_err(|error| self.walk_error(segment, error))?
        {
            newest = newest.max(placed.header.max_timestamp_ms);
        }
        Ok(newest)
    }
}

/// The index entry of a batch, when it is near enough to the segment's beginning to have one.
pub(crate) fn entry_for(
    segment: &Segment,
    placed: &Placed,
    newest_before: i64,
) -> Option<IndexEntry> {
    Some(IndexEntry {
        relative_offset: u32::try_from(placed.header.base_offset.0 - segment.base.0).ok()?,
        position: u32::try_from(placed.position).ok()?,
        max_timestamp_before: newest_before,
    })
}
