//! Writes a segment anew, once there is a difference to write.
//!
//! As long as what would be written is what the one segment that is read has, nothing is written: a segment of which nothing
//! goes is left as it is.

use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;

use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, filler};

use super::cleaner::Throttle;
use super::filter::is_filler;
use crate::dir::{TEMPORARY_SUFFIX, log_name};
use crate::files::{FileError, SYNCING};
use crate::index::IndexEntry;
use crate::segment::{NO_TIMESTAMP, Newest, Segment};
use crate::shared::Shared;
use crate::storage::{File, OpenMode};

/// What is gathered before it is written.
const BUFFER_BYTES: usize = 1 << 20;

/// Batches that went, one after another, and a batch without records is to take their place.
#[derive(Clone, Copy, Debug)]
struct Gap {
    first: BatchHeader,
    last: Offset,
    /// It was one such batch before.
    is_unchanged: bool,
}

/// A segment that is being written.
pub(super) struct Output<'a> {
    shared: &'a Shared,
    base: Offset,
    generation: u32,
    /// The file whose beginning is all of the output so far.
    same_as: Option<Arc<dyn File>>,
    file: Option<Arc<dyn File>>,
    buffer: Vec<u8>,
    /// Bytes of output, those in the buffer among them.
    len: u64,
    end: Offset,
    gap: Option<Gap>,
    entries: Vec<IndexEntry>,
    since_index: u64,
    newest: i64,
}

impl<'a> Output<'a> {
    /// Of a segment with this name. `same_as`: the file that is read, when the segment takes the place of only one.
    pub(super) fn new(
        shared: &'a Shared,
        (base, generation): (Offset, u32),
        same_as: Option<Arc<dyn File>>,
    ) -> Self {
        Self {
            shared,
            base,
            generation,
            same_as,
            file: None,
            buffer: Vec::new(),
            len: 0,
            end: base,
            gap: None,
            entries: Vec::new(),
            since_index: 0,
            newest: NO_TIMESTAMP,
        }
    }

    /// The next batch stays as it is.
    pub(super) fn keep(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        throttle: &mut Throttle<'_>,
    ) -> Result<(), FileError> {
        self.close_gap(throttle)?;
        self.put(header, bytes, true, throttle)
    }

    /// This is what stays of the next batch.
    pub(super) fn replace(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        throttle: &mut Throttle<'_>,
    ) -> Result<(), FileError> {
        self.close_gap(throttle)?;
        self.put(header, bytes, false, throttle)
    }

    /// Nothing stays of the next batch but its offsets.
    pub(super) fn drop(
        &mut self,
        header: &BatchHeader,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), FileError> {
        if let Some(gap) = &mut self.gap {
            // Epochs stay apart: where one begins is told by the log alone.
            let fits = header.last_offset().0 - gap.first.base_offset.0 <= i64::from(i32::MAX);
            if fits && gap.first.leader_epoch == header.leader_epoch {
                gap.last = header.last_offset();
                gap.is_unchanged = false;
                return Ok(());
            }
            self.close_gap(throttle)?;
        }
        self.gap = Some(Gap {
            first: *header,
            last: header.last_offset(),
            is_unchanged: is_filler(header),
        });
        Ok(())
    }

    fn close_gap(&mut self, throttle: &mut Throttle<'_>) -> Result<(), FileError> {
        let Some(gap) = self.gap.take() else {
            return Ok(());
        };
        let bytes = filler(&gap.first, gap.last);
        let Ok(header) = BatchHeader::parse(&bytes) else {
            return Ok(());
        };
        self.put(&header, &bytes, gap.is_unchanged, throttle)
    }

    fn put(
        &mut self,
        header: &BatchHeader,
        bytes: &[u8],
        is_unchanged: bool,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), FileError> {
        if !is_unchanged && let Some(source) = self.same_as.take() {
            self.copy_beginning(&*source, throttle)?;
        }
        if self.since_index >= self.shared.index_interval_bytes() && self.len > 0 {
            let relative_offset = u32::try_from(header.base_offset.0 - self.base.0);
            if let (Ok(relative_offset), Ok(position)) = (relative_offset, u32::try_from(self.len))
            {
                self.entries.push(IndexEntry {
                    relative_offset,
                    position,
                    max_timestamp_before: self.newest,
                });
                self.since_index = 0;
            }
        }
        self.since_index += bytes.len() as u64;
        self.newest = self.newest.max(header.max_timestamp_ms);
        self.len += bytes.len() as u64;
        self.end = header.next_offset();
        if self.same_as.is_none() {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush(throttle)?;
            }
        }
        Ok(())
    }

    /// The first difference: what was the same so far is written after all.
    fn copy_beginning(
        &mut self,
        source: &dyn File,
        throttle: &mut Throttle<'_>,
    ) -> Result<(), FileError> {
        let (len, mut at) = (self.len, 0);
        while at < len {
            let wanted = BUFFER_BYTES.min((len - at) as usize);
            let from = self.buffer.len();
            self.buffer.resize(from + wanted, 0);
            let read = source
                .read_at(&mut self.buffer[from..], at)
                .and_then(|read| match read == wanted {
                    true => Ok(()),
                    false => Err(std::io::ErrorKind::UnexpectedEof.into()),
                });
            read.map_err(FileError::of("reading", &self.shared.path))?;
            at += wanted as u64;
            throttle.read(wanted as u64, || self.shared.is_closed());
            self.len = at;
            self.flush(throttle)?;
        }
        Ok(())
    }

    pub(super) fn temporary(&self) -> PathBuf {
        let name = log_name(self.base, self.generation);
        self.shared.path.join(format!("{name}{TEMPORARY_SUFFIX}"))
    }

    fn open(&mut self) -> Result<Arc<dyn File>, FileError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        let path = self.temporary();
        let make = || {
            let file = self.shared.dir.storage().open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            Ok(file)
        };
        let file = make().map_err(FileError::of("making", &path))?;
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }

    fn flush(&mut self, throttle: &mut Throttle<'_>) -> Result<(), FileError> {
        let file = self.open()?;
        let bytes = self.buffer.len() as u64;
        file.write_all_vectored_at(&[IoSlice::new(&self.buffer)], self.len - bytes)
            .map_err(FileError::of("writing", &self.temporary()))?;
        self.buffer.clear();
        throttle.wrote(bytes, || self.shared.is_closed());
        Ok(())
    }

    /// The segment, whole and synced under its temporary name, with its index; `None` when nothing would change.
    pub(super) fn finish(
        mut self,
        throttle: &mut Throttle<'_>,
    ) -> Result<Option<Segment>, FileError> {
        self.close_gap(throttle)?;
        if self.same_as.is_some() {
            return Ok(None);
        }
        self.flush(throttle)?;
        let file = self.open()?;
        file.sync_data()
            .map_err(FileError::of(SYNCING, &self.temporary()))?;
        let dir = &self.shared.dir;
        let segment = Segment::new(dir, (self.base, self.generation), self.len, self.end, 0);
        segment.set_newest(Newest::Certain(self.newest));
        let entries = self.entries;
        segment.with_index(dir, &self.shared.path, |index, place| {
            index.rebuild(place, entries)
        })?;
        Ok(Some(segment))
    }
}
