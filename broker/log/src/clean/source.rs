//! Reads a segment batch by batch, whole and checked.

use std::sync::Arc;

use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, BatchView, HEADER_LEN};

use super::cleaner::Throttle;
use crate::error::ReadError;
use crate::files::FileError;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::storage::File;
use crate::walk::WalkError;

/// What is read at once; a larger batch is read as a whole.
const CHUNK_BYTES: usize = 1 << 20;

/// A walk over a segment's batches.
pub(super) struct Source<'a> {
    shared: &'a Shared,
    segment: &'a Segment,
    file: Arc<dyn File>,
    position: u64,
    expected: Offset,
    /// The file's bytes from `bytes_at` on.
    bytes: Vec<u8>,
    bytes_at: u64,
}

impl<'a> Source<'a> {
    pub(super) fn new(shared: &'a Shared, segment: &'a Segment) -> Result<Self, ReadError> {
        Ok(Self {
            shared,
            segment,
            file: segment.file(&shared.dir, &shared.path)?,
            position: 0,
            expected: segment.base,
            bytes: Vec::new(),
            bytes_at: 0,
        })
    }

    pub(super) fn file(&self) -> &Arc<dyn File> {
        &self.file
    }

    /// The next batch; `None` at the segment's end.
    pub(super) fn next(
        &mut self,
        throttle: &mut Throttle<'_>,
    ) -> Result<Option<BatchView<'_>>, ReadError> {
        let left = self.segment.size().saturating_sub(self.position);
        if left == 0 {
            return Ok(None);
        }
        self.hold(HEADER_LEN, throttle)?;
        let header = BatchHeader::parse(self.held()).map_err(|error| self.bad(&error))?;
        let follows = header.base_offset == self.expected && header.last_offset_delta >= 0;
        if !follows || header.total_len() as u64 > left {
            return Err(self.bad(&format_args!(
                "a batch of {} bytes that says it holds {}..={}",
                header.total_len(),
                header.base_offset,
                header.last_offset()
            )));
        }
        self.hold(header.total_len(), throttle)?;
        let at = (self.position - self.bytes_at) as usize;
        self.position += header.total_len() as u64;
        let expected = std::mem::replace(&mut self.expected, header.next_offset());
        // Rewriting would give bytes that are wrong a checksum that is right.
        let checked = BatchView::split_first(&self.bytes[at..])
            .and_then(|(batch, _)| batch.check().map(|()| batch));
        checked.map(Some).map_err(|error| {
            self.expected = expected;
            bad(self.shared, self.segment, self.position, expected, &error)
        })
    }

    fn held(&self) -> &[u8] {
        let from = usize::try_from(self.position - self.bytes_at).unwrap_or(usize::MAX);
        self.bytes.get(from..).unwrap_or_default()
    }

    /// Sees to it that so many bytes from the position on are in memory, if the segment has them.
    fn hold(&mut self, wanted: usize, throttle: &mut Throttle<'_>) -> Result<(), ReadError> {
        if self.held().len() >= wanted {
            return Ok(());
        }
        let left = usize::try_from(self.segment.size() - self.position).unwrap_or(usize::MAX);
        self.bytes.resize(wanted.max(CHUNK_BYTES).min(left), 0);
        self.bytes_at = self.position;
        let path = self.segment.log_path(&self.shared.path);
        let read = self
            .file
            .read_at(&mut self.bytes, self.position)
            .map_err(FileError::of("reading", &path))?;
        self.bytes.truncate(read);
        throttle.read(read as u64, || self.shared.is_closed());
        Ok(())
    }

    fn bad(&self, found: &dyn std::fmt::Display) -> ReadError {
        bad(
            self.shared,
            self.segment,
            self.position,
            self.expected,
            found,
        )
    }
}

fn bad(
    shared: &Shared,
    segment: &Segment,
    position: u64,
    expected: Offset,
    found: &dyn std::fmt::Display,
) -> ReadError {
    shared.walk_error(
        segment,
        WalkError::Bad {
            position,
            expected,
            found: found.to_string(),
        },
    )
}
