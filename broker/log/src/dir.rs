//! A data directory: which partitions lie in it, and the checkpoint of what is certainly on disk.
//!
//! ```text
//! <dir>/log-checkpoint                    durable ends of all partitions, and whether the last shutdown was clean
//! <dir>/<topic id>-<partition>/           one partition
//!     partition.metadata                  its topic's name, id and its number, for people and for finding strays
//!     log-start                           the first readable offset, when it was ever moved
//!     00000000000000000000.log            a segment, named by its first offset
//!     00000000000000000000.index          its sparse index (offset, position, time), derived and never trusted
//!     00000000000000000000.c2.log         the same, compacted for the second time; takes the place of those of lower
//!                                         generations that begin before it ends
//!     compacted-to                        the offset below which no key occurs twice, when there ever was such a one
//!     00000000000000000000.aborted        its aborted transactions, derived, where there are any
//!     00000000000000123456.snapshot       producers and leader epochs as of an offset, derived
//!     *.deleted                           on its way out
//! <dir>/<topic id>-<partition>.deleted/   on its way out
//! ```
//!
//! Directories carry the topic's id, not its name: a topic made anew can never meet the files of the old one, and a
//! name of 249 characters leaves no room for a suffix.

mod checkpoint;
mod layout;

use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_wire::{Offset, PartitionIndex, TopicId};

use crate::error::OpenError;
use crate::files::{self, FileError, OpenFiles, SYNCING};
use crate::storage::{File, OpenMode, Storage};
pub(crate) use layout::{
    COMPACTED_FILE, DELETED_SUFFIX, LOG_START_FILE, METADATA_FILE, TEMPORARY_SUFFIX, aborted_name,
    index_name, log_name, offset_of, segment_of, snapshot_name,
};

/// Which partition, for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic's id.
    pub topic_id: TopicId,
    /// The partition's number in the topic.
    pub partition: PartitionIndex,
}

impl fmt::Display for PartitionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic_id, self.partition)
    }
}

/// A partition and what its topic is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Which one.
    pub key: PartitionKey,
    /// The topic's name, kept with the data for people.
    pub topic: String,
}

/// Up to where a partition is certainly on disk, and where in its files that is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// Everything below is on disk.
    pub(crate) end: Offset,
    /// The segment that `end` lies in, by its first offset.
    pub(crate) segment: Offset,
    /// Where in that segment.
    pub(crate) position: u64,
}

/// A mark that its lane moves and the checkpoint reads.
#[derive(Debug)]
pub(crate) struct SharedMark(Mutex<Mark>);

impl SharedMark {
    pub(crate) fn new(mark: Mark) -> Self {
        Self(Mutex::new(mark))
    }

    pub(crate) fn get(&self) -> Mark {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set(&self, mark: Mark) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = mark;
    }
}

/// What the checkpoint knows of a partition.
#[derive(Clone, Debug)]
enum Known {
    /// Not open; as last written.
    Stored { mark: Mark, clean: bool },
    /// Open.
    Open(Arc<SharedMark>),
}

/// With so much room, [`KNOWN_ROOM_BYTES`] of it are taken for granted until the file system is asked again; with less it is asked for
/// each write.
const AMPLE_ROOM_BYTES: u64 = 1 << 30;
const KNOWN_ROOM_BYTES: u64 = 4 << 20;

/// One directory that holds partitions. Open it once for each process; partitions are opened in it through
/// [`Lanes::open`](crate::Lanes::open).
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    storage: Arc<dyn Storage>,
    reserve_bytes: u64,
    /// Of what the file system had room for when it was asked last: what may be taken without asking again.
    known_room_bytes: AtomicU64,
    was_clean: bool,
    pub(crate) open_files: OpenFiles,
    known: Mutex<BTreeMap<PartitionKey, Known>>,
    /// Open partitions that do not sync what they write.
    unsynced_writers: AtomicUsize,
    /// A checksum of the checkpoint that is on disk, when that is known. Held while one is written, so that an older state
    /// never replaces a newer one.
    writing: Mutex<Option<u64>>,
}

impl DataDir {
    /// Opens or makes the directory, reads its checkpoint and marks it as in use, so that a kill is seen as one.
    ///
    /// `reserve_bytes` of the file system are left for checkpoints, snapshots and the quorum: appends are refused with
    /// [`AppendError::NoSpace`](crate::AppendError::NoSpace) before they would eat into it.
    pub fn open(
        storage: Arc<dyn Storage>,
        path: &Path,
        reserve_bytes: u64,
    ) -> Result<Arc<Self>, OpenError> {
        storage
            .create_dir_all(path)
            .map_err(FileError::of("making", path))?;
        if let Some(parent) = path.parent() {
            storage
                .sync_dir(parent)
                .map_err(FileError::of(SYNCING, parent))?;
        }
        // Opens the descriptor that later calls of syncfs hear of failed write-backs through, before the first write.
        storage
            .sync_file_system(path)
            .map_err(FileError::of(SYNCING, path))?;
        let checkpoint = checkpoint::read(&*storage, path)?;
        let was_clean = checkpoint.clean;
        let known = checkpoint
            .marks
            .into_iter()
            .map(|(key, mark)| {
                (
                    key,
                    Known::Stored {
                        mark,
                        clean: was_clean,
                    },
                )
            })
            .collect();
        let dir = Self {
            path: path.to_owned(),
            storage,
            reserve_bytes,
            known_room_bytes: AtomicU64::new(0),
            was_clean,
            open_files: OpenFiles::default(),
            known: Mutex::new(known),
            unsynced_writers: AtomicUsize::new(0),
            writing: Mutex::new(None),
        };
        dir.finish_deletions()?;
        dir.write_checkpoint(false)?;
        Ok(Arc::new(dir))
    }

    /// Whether there ever was a data directory here.
    pub fn was_used(storage: &dyn Storage, path: &Path) -> Result<bool, OpenError> {
        let checkpoint = path.join(checkpoint::FILE);
        Ok(storage
            .exists(&checkpoint)
            .map_err(FileError::of("looking for", &checkpoint))?)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The disk it is on.
    #[must_use]
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Whether the last process that used it shut down cleanly.
    #[must_use]
    pub fn was_clean(&self) -> bool {
        self.was_clean
    }

    /// The partitions that lie here, open or not. A partition whose making was interrupted is not among them.
    pub fn partitions(&self) -> Result<Vec<PartitionMeta>, OpenError> {
        let names = self
            .storage
            .list(&self.path)
            .map_err(FileError::of("listing", &self.path))?;
        let mut found = Vec::new();
        for name in names {
            let Some(key) = layout::parse_dir_name(&name) else {
                continue;
            };
            let path = self.path.join(name).join(METADATA_FILE);
            let bytes = files::read_whole(&*self.storage, &path)?;
            found.extend(bytes.and_then(|bytes| layout::parse_metadata(&bytes, key)));
        }
        Ok(found)
    }

    /// Writes the checkpoint now. Never on the way to an acknowledgement: lanes have it done in the background.
    pub(crate) fn write_checkpoint(&self, clean: bool) -> Result<(), FileError> {
        let mut written = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let marks: Vec<_> = self
            .known()
            .iter()
            .map(|(key, known)| match known {
                Known::Stored { mark, .. } => (*key, *mark),
                Known::Open(mark) => (*key, mark.get()),
            })
            .collect();
        // An idle broker does not write.
        let contents = checkpoint::contents(clean, &marks);
        if *written == Some(crc_fast::crc64_nvme(contents.as_bytes())) {
            return Ok(());
        }
        *written = None;
        checkpoint::write(&*self.storage, &self.path, &contents)?;
        *written = Some(crc_fast::crc64_nvme(contents.as_bytes()));
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<PartitionKey, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last mark of a partition that is not open, and whether it was closed cleanly at it.
    pub(crate) fn stored_mark(&self, key: PartitionKey) -> Option<(Mark, bool)> {
        match self.known().get(&key) {
            Some(Known::Stored { mark, clean }) => Some((*mark, *clean)),
            Some(Known::Open(mark)) => Some((mark.get(), false)),
            None => None,
        }
    }

    /// From here on the checkpoint follows `mark`.
    pub(crate) fn opened(&self, key: PartitionKey, mark: Arc<SharedMark>) {
        self.known().insert(key, Known::Open(mark));
    }

    /// The partition was closed. `clean`: it ends at the mark, and everything is on disk.
    pub(crate) fn closed(&self, key: PartitionKey, mark: Mark, clean: bool) {
        self.known().insert(key, Known::Stored { mark, clean });
    }

    /// A partition that does not sync what it writes was opened or closed here.
    pub(crate) fn count_unsynced_writer(&self, opened: bool) {
        match opened {
            true => self.unsynced_writers.fetch_add(1, Ordering::Relaxed),
            false => self.unsynced_writers.fetch_sub(1, Ordering::Relaxed),
        };
    }

    /// Whether a sync of the whole file system may find much that nobody waits for.
    pub(crate) fn has_unsynced_writers(&self) -> bool {
        self.unsynced_writers.load(Ordering::Relaxed) > 0
    }

    /// Removes a closed partition. The checkpoint forgets it first, so that it cannot be missed; its bytes are freed before
    /// this returns.
    pub(crate) fn remove(&self, key: PartitionKey) -> Result<(), FileError> {
        self.known().remove(&key);
        self.write_checkpoint(false)?;
        let path = self.partition_path(key);
        let deleted = self.path.join(format!("{key}{DELETED_SUFFIX}"));
        self.storage
            .rename(&path, &deleted)
            .map_err(FileError::of("renaming", &path))?;
        self.storage
            .sync_dir(&self.path)
            .map_err(FileError::of(SYNCING, &self.path))?;
        self.storage
            .remove_dir_all(&deleted)
            .map_err(FileError::of("removing", &deleted))
    }

    fn finish_deletions(&self) -> Result<(), FileError> {
        let names = self
            .storage
            .list(&self.path)
            .map_err(FileError::of("listing", &self.path))?;
        for name in names.iter().filter(|name| name.ends_with(DELETED_SUFFIX)) {
            let path = self.path.join(name);
            match self.storage.remove_dir_all(&path) {
                // What was on its way out when the power went may be gone under its other name.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                outcome => outcome.map_err(FileError::of("removing", &path))?,
            }
        }
        Ok(())
    }

    pub(crate) fn partition_path(&self, key: PartitionKey) -> PathBuf {
        self.path.join(key.to_string())
    }

    /// How many bytes can be appended without eating into the reserve. A disk that cannot say counts as having room: the
    /// write itself will tell.
    pub(crate) fn room_bytes(&self) -> u64 {
        self.storage.space(&self.path).map_or(u64::MAX, |space| {
            space.available_bytes.saturating_sub(self.reserve_bytes)
        })
    }

    /// Whether there is room for so many bytes more, which are then taken. The file system is asked when what it said last is used up,
    /// not for each write, which took 3.7 % of a broker's CPU at 10,000 small writes a second.
    pub(crate) fn take_room(&self, bytes: u64) -> bool {
        let take = |known: u64| known.checked_sub(bytes);
        let known = self
            .known_room_bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        if known.is_ok() {
            return true;
        }
        let Some(left) = self.room_bytes().checked_sub(bytes) else {
            return false;
        };
        if left >= AMPLE_ROOM_BYTES {
            self.known_room_bytes
                .store(KNOWN_ROOM_BYTES, Ordering::Relaxed);
        }
        true
    }

    /// Makes a partition's directory with its metadata. Neither is durable: the partition's first sync sees to that, so that
    /// thousands of partitions are made without thousands of syncs. Returns the metadata's file.
    pub(crate) fn make_partition(&self, meta: &PartitionMeta) -> Result<Arc<dyn File>, FileError> {
        let path = self.partition_path(meta.key);
        self.storage
            .create_dir_all(&path)
            .map_err(FileError::of("making", &path))?;
        let path = path.join(METADATA_FILE);
        let write = || {
            let file = self.storage.open(&path, OpenMode::Create)?;
            file.set_len(0)?;
            file.write_all_vectored_at(&[IoSlice::new(&layout::metadata(meta))], 0)?;
            Ok(file)
        };
        write().map_err(FileError::of("writing", &path))
    }

    /// Whether the partition's directory and its metadata are there and whole.
    pub(crate) fn is_made(&self, meta: &PartitionMeta) -> Result<bool, FileError> {
        let path = self.partition_path(meta.key).join(METADATA_FILE);
        let bytes = files::read_whole(&*self.storage, &path)?;
        Ok(bytes.is_some_and(|bytes| layout::parse_metadata(&bytes, meta.key).is_some()))
    }
}
