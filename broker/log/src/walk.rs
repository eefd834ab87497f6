//! Walks the batches of a segment file from header to header, without reading what lies between.
//!
//! A walk trusts nothing: each header must be a version 2 header, lie within the segment, and go on at the offset where the
//! one before it ended.

use std::io;

use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, HEADER_LEN};

use crate::files::Wait;
use crate::storage::File;

/// What is read at once: some dozens of headers of small batches, and no more than a page that is read anyway for one.
const CHUNK_BYTES: usize = 4096;

/// A batch's header and where it lies in its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
}

impl Placed {
    /// Where the batch ends.
    pub(crate) fn end_position(&self) -> u64 {
        self.position + self.header.total_len() as u64
    }
}

/// Why a walk ended early.
#[derive(Debug)]
pub(crate) enum WalkError {
    /// The disk refused, or would have to be waited for.
    Io(io::Error),
    /// What lies at `position` is not the batch that should begin at `expected`.
    Bad {
        position: u64,
        expected: Offset,
        found: String,
    },
}

/// A walk over the batches between two positions of a file.
pub(crate) struct Walk<'a> {
    file: &'a dyn File,
    position: u64,
    limit: u64,
    expected: Offset,
    wait: Wait,
    chunk: Vec<u8>,
    chunk_at: u64,
}

impl<'a> Walk<'a> {
    /// From the batch at `position`, which must begin at offset `expected`, up to the position `limit`.
    pub(crate) fn new(
        file: &'a dyn File,
        position: u64,
        limit: u64,
        expected: Offset,
        wait: Wait,
    ) -> Self {
        Self {
            file,
            position,
            limit,
            expected,
            wait,
            chunk: Vec::new(),
            chunk_at: 0,
        }
    }

    /// The next batch; `None` at the limit.
    pub(crate) fn next(&mut self) -> Result<Option<Placed>, WalkError> {
        if self.position >= self.limit {
            return Ok(None);
        }
        if self.limit - self.position < HEADER_LEN as u64 {
            return Err(self.bad(format!(
                "{} bytes, less than a header",
                self.limit - self.position
            )));
        }
        let header = BatchHeader::parse(self.header_bytes()?)
            .map_err(|error| self.bad(error.to_string()))?;
        self.accept(header)
    }

    fn accept(&mut self, header: BatchHeader) -> Result<Option<Placed>, WalkError> {
        if header.base_offset != self.expected {
            return Err(self.bad(format!(
                "a batch that says it begins at offset {}",
                header.base_offset
            )));
        }
        if header.last_offset_delta < 0 {
            return Err(self.bad(format!(
                "a last offset delta of {}",
                header.last_offset_delta
            )));
        }
        let placed = Placed {
            position: self.position,
            header,
        };
        if placed.end_position() > self.limit {
            return Err(self.bad(format!(
                "a batch that would end at {}, after {}",
                placed.end_position(),
                self.limit
            )));
        }
        self.position = placed.end_position();
        self.expected = header.next_offset();
        Ok(Some(placed))
    }

    fn bad(&self, found: String) -> WalkError {
        WalkError::Bad {
            position: self.position,
            expected: self.expected,
            found,
        }
    }

    /// The offset that the next batch must begin at.
    pub(crate) fn expected(&self) -> Offset {
        self.expected
    }

    fn header_bytes(&mut self) -> Result<&[u8], WalkError> {
        let held = self.position >= self.chunk_at
            && self.position + HEADER_LEN as u64 <= self.chunk_at + self.chunk.len() as u64;
        if !held {
            self.fill()?;
        }
        let from = (self.position - self.chunk_at) as usize;
        match self.chunk.get(from..from + HEADER_LEN) {
            Some(bytes) => Ok(bytes),
            None if self.wait == Wait::No => Err(WalkError::Io(io::ErrorKind::WouldBlock.into())),
            None => Err(self.bad("the end of the file".to_owned())),
        }
    }

    fn fill(&mut self) -> Result<(), WalkError> {
        let wanted =
            CHUNK_BYTES.min(usize::try_from(self.limit - self.position).unwrap_or(CHUNK_BYTES));
        self.chunk.resize(wanted, 0);
        self.chunk_at = self.position;
        let read = self
            .wait
            .read_at(self.file, &mut self.chunk, self.position)
            .map_err(WalkError::Io)?;
        self.chunk.truncate(read);
        Ok(())
    }
}
