//! One segment: a file of record batches whose offsets follow each other, named by the first of them.
//!
//! Shared by the lane, which moves `end` and `size` forward after it has written, and by readers, who never look beyond
//! what these say. Only the active (last) segment keeps its file open; others are opened when somebody reads them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use weir_wire::Offset;

use crate::aborted::{AbortedIndex, AbortedPlace};
use crate::dir::{DataDir, aborted_name, index_name, log_name};
use crate::files::FileError;
use crate::index::{Index, IndexPlace};
use crate::storage::{File, OpenMode};

/// How much is known of a segment's greatest timestamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newest {
    /// Nothing yet: the segment was written before this process began.
    Unknown,
    /// What the index says. Good enough to start a search, not to delete by.
    Hint(i64),
    /// What the batches say.
    Certain(i64),
}

const UNKNOWN: u8 = 0;
const HINT: u8 = 1;
const CERTAIN: u8 = 2;

/// The greatest timestamp of no batches at all.
pub(crate) const NO_TIMESTAMP: i64 = i64::MIN;

#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) base: Offset,
    /// How often compaction has written it anew; part of its files' names.
    pub(crate) generation: u32,
    size: AtomicU64,
    end: AtomicI64,
    newest: AtomicI64,
    newest_kind: AtomicU8,
    pub(crate) index: Index,
    pub(crate) aborted: AbortedIndex,
    file_key: u64,
    /// Open for writing while the segment is the active one.
    active: Mutex<Option<Arc<dyn File>>>,
}

impl Segment {
    /// A segment of `size` bytes that ends before `end`, whose index file has `index_len` bytes.
    pub(crate) fn new(
        dir: &DataDir,
        (base, generation): (Offset, u32),
        size: u64,
        end: Offset,
        index_len: u64,
    ) -> Self {
        let kind = if size == 0 { CERTAIN } else { UNKNOWN };
        Self {
            base,
            generation,
            size: AtomicU64::new(size),
            end: AtomicI64::new(end.0),
            newest: AtomicI64::new(NO_TIMESTAMP),
            newest_kind: AtomicU8::new(kind),
            index: Index::new(dir.open_files.new_key(), Index::entries_in(index_len)),
            aborted: AbortedIndex::new(dir.open_files.new_key()),
            file_key: dir.open_files.new_key(),
            active: Mutex::new(None),
        }
    }

    /// Bytes that may be read.
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The offset after the last batch.
    pub(crate) fn end(&self) -> Offset {
        Offset(self.end.load(Ordering::Acquire))
    }

    /// Says how far the segment goes now. The lane only.
    pub(crate) fn publish(&self, size: u64, end: Offset) {
        self.size.store(size, Ordering::Release);
        self.end.store(end.0, Ordering::Release);
    }

    pub(crate) fn newest(&self) -> Newest {
        match self.newest_kind.load(Ordering::Acquire) {
            CERTAIN => Newest::Certain(self.newest.load(Ordering::Acquire)),
            HINT => Newest::Hint(self.newest.load(Ordering::Acquire)),
            _ => Newest::Unknown,
        }
    }

    pub(crate) fn set_newest(&self, newest: Newest) {
        let (kind, timestamp) = match newest {
            Newest::Unknown => (UNKNOWN, NO_TIMESTAMP),
            Newest::Hint(timestamp) => (HINT, timestamp),
            Newest::Certain(timestamp) => (CERTAIN, timestamp),
        };
        // Within the life of this value timestamps only come in, so the greater one is the newer knowledge, whoever has it.
        self.newest.fetch_max(timestamp, Ordering::AcqRel);
        self.newest_kind.fetch_max(kind, Ordering::AcqRel);
    }

    /// A batch of this timestamp was appended.
    pub(crate) fn saw_timestamp(&self, timestamp: i64) {
        self.newest.fetch_max(timestamp, Ordering::AcqRel);
    }

    pub(crate) fn log_path(&self, partition: &Path) -> PathBuf {
        partition.join(log_name(self.base, self.generation))
    }

    pub(crate) fn index_path(&self, partition: &Path) -> PathBuf {
        partition.join(index_name(self.base, self.generation))
    }

    pub(crate) fn aborted_path(&self, partition: &Path) -> PathBuf {
        partition.join(aborted_name(self.base, self.generation))
    }

    /// The open file: the active one, or one that is opened now and kept for a while.
    pub(crate) fn file(&self, dir: &DataDir, partition: &Path) -> Result<Arc<dyn File>, FileError> {
        if let Some(file) = &*self.active.lock().unwrap_or_else(PoisonError::into_inner) {
            return Ok(Arc::clone(file));
        }
        let path = self.log_path(partition);
        dir.open_files
            .get(self.file_key, || dir.storage().open(&path, OpenMode::Read))
            .map_err(FileError::of("opening", &path))
    }

    /// Keeps the file open for as long as the segment is active.
    pub(crate) fn set_active(&self, file: Option<Arc<dyn File>>) {
        *self.active.lock().unwrap_or_else(PoisonError::into_inner) = file;
    }

    /// Whether it is the one that is written to.
    pub(crate) fn is_active(&self) -> bool {
        self.active
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .is_some()
    }

    /// Lets go of all open files.
    pub(crate) fn forget_files(&self, dir: &DataDir) {
        self.set_active(None);
        dir.open_files.forget(self.file_key);
        self.index.forget_file(&dir.open_files);
        self.aborted.forget_file(&dir.open_files);
    }

    /// Runs `act` with the place of the index's file.
    pub(crate) fn with_index<T>(
        &self,
        dir: &DataDir,
        partition: &Path,
        act: impl FnOnce(&Index, IndexPlace<'_>) -> io::Result<T>,
    ) -> Result<T, FileError> {
        let path = self.index_path(partition);
        let place = IndexPlace {
            storage: &**dir.storage(),
            open_files: &dir.open_files,
            path: &path,
        };
        act(&self.index, place).map_err(FileError::of("reading or writing", &path))
    }

    /// Runs `act` with the place of the aborted transactions' file.
    pub(crate) fn with_aborted<T>(
        &self,
        dir: &DataDir,
        partition: &Path,
        act: impl FnOnce(&AbortedIndex, AbortedPlace<'_>) -> io::Result<T>,
    ) -> Result<T, FileError> {
        let path = self.aborted_path(partition);
        let place = AbortedPlace {
            storage: &**dir.storage(),
            open_files: &dir.open_files,
            path: &path,
            base: self.base,
        };
        act(&self.aborted, place).map_err(FileError::of("reading or writing", &path))
    }
}
