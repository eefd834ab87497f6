//! A simulated disk: in memory, deterministic, and honest about what a power cut takes back.
//!
//! Programs see what they wrote; beneath it, [`disk`] keeps what is certainly on the platter and every change since the last
//! sync that covers it. [`SimStorage::power_cut`] makes the disk that a machine would find after it lost power: each
//! unsynced change, to a file's bytes, its length or a directory, is kept, dropped or torn at sector boundaries, as the
//! seed says. Faults are injected from outside: failed syncs (after which the pages count as clean, as Linux has it), failed
//! reads and writes, a full disk, flipped bits, a disk that dies after so many operations.
//!
//! Harsher than a journalling file system in one way: changes to a directory are kept or dropped one by one, not in order.

mod disk;
mod node;
#[cfg(test)]
mod tests;

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::storage::{File, OpenMode, Space, Storage};
use disk::Disk;

/// What becomes of unsynced changes at a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsynced {
    /// All are lost: the least that was promised.
    Lost,
    /// All are kept: as if only the process had been killed.
    Kept,
    /// Each is kept, lost, torn or zeroed, as this seed says.
    Mixed(u64),
}

/// A kind of operation that can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// [`File::read_at`] and [`File::try_read_at`].
    Read,
    /// [`File::write_all_vectored_at`]; half of it is written.
    Write,
    /// [`File::set_len`]; nothing is done.
    SetLen,
    /// [`File::sync_data`] and [`Storage::sync_file_system`]; what was to be synced is forgotten, as if it were clean.
    Sync,
    /// [`Storage::sync_dir`].
    SyncDir,
    /// [`Storage::rename`].
    Rename,
}

/// A simulated disk. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimStorage {
    disk: Arc<Mutex<Disk>>,
}

impl Default for SimStorage {
    fn default() -> Self {
        Self::new()
    }
}

impl SimStorage {
    /// An empty disk without faults and of boundless size.
    #[must_use]
    pub fn new() -> Self {
        Self {
            disk: Arc::new(Mutex::new(Disk::new())),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as a machine finds it after a power cut now. This one is dead from here on: every operation fails.
    #[must_use]
    pub fn power_cut(&self, unsynced: Unsynced) -> Self {
        let mut disk = self.lock();
        let after = disk.after_power_cut(unsynced);
        disk.die();
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// The same disk for a process that is started anew after a kill: all that was written is still there, and the old
    /// process's files are dead.
    #[must_use]
    pub fn process_killed(&self) -> Self {
        let mut disk = self.lock();
        let after = disk.take_over();
        disk.die();
        Self {
            disk: Arc::new(Mutex::new(after)),
        }
    }

    /// Makes the next `times` operations of this kind fail with EIO, on paths that contain `path_part`.
    pub fn fail_next(&self, operation: Operation, path_part: &str, times: u32) {
        self.lock().fail_next(operation, path_part, times);
    }

    /// Lets `changes` more operations that change something happen; the last of them is done (a sync: perhaps) but reported
    /// as failed, and all later ones fail. For a power cut at every operation boundary.
    pub fn die_after(&self, changes: u64) {
        self.lock().die_after(changes);
    }

    /// Whether it has died: every operation fails.
    pub fn is_dead(&self) -> bool {
        self.lock().is_dead()
    }

    /// How many operations that change something there were.
    #[must_use]
    pub fn changes(&self) -> u64 {
        self.lock().changes()
    }

    /// How many syncs of files, directories and file systems there were.
    #[must_use]
    pub fn syncs(&self) -> Syncs {
        self.lock().syncs()
    }

    /// Sets the size of the disk. Writes beyond it fail with ENOSPC after having filled it.
    pub fn set_capacity(&self, bytes: u64) {
        self.lock().set_capacity(bytes);
    }

    /// Lets `bytes` more be written before writes fail with ENOSPC, while [`Storage::space`] goes on to promise room, as
    /// when somebody else fills the disk. [`set_capacity`](Self::set_capacity) ends it.
    pub fn fill_up_after(&self, bytes: u64) {
        self.lock().fill_up_after(bytes);
    }

    /// Flips one bit of a file's contents, in the cache and on the platter. Says whether there is such a bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> bool {
        self.lock().flip_bit(path, bit)
    }

    /// Empties the page cache: [`File::try_read_at`] says "would block" until a waiting read has been there.
    pub fn evict_page_cache(&self) {
        self.lock().evict_page_cache();
    }
}

/// Numbers of syncs, for tests that bound them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Syncs {
    /// [`File::sync_data`].
    pub files: u64,
    /// [`Storage::sync_dir`].
    pub directories: u64,
    /// [`Storage::sync_file_system`].
    pub file_systems: u64,
}

impl Storage for SimStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let node = self.lock().open(path, mode)?;
        Ok(Arc::new(SimFile {
            disk: self.clone(),
            path: path.to_owned(),
            node,
            mode,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.lock().create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        self.lock().list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.lock().exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.lock().rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.lock().remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.lock().remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.lock().sync_dir(path)
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        self.lock().sync_file_system(path)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.lock().space(path)
    }
}

#[derive(Debug)]
struct SimFile {
    disk: SimStorage,
    path: PathBuf,
    node: u64,
    mode: OpenMode,
}

impl SimFile {
    fn writable(&self) -> io::Result<()> {
        match self.mode {
            OpenMode::Read => Err(io::ErrorKind::PermissionDenied.into()),
            OpenMode::Write | OpenMode::Create => Ok(()),
        }
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.lock().len(self.node)
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk
            .lock()
            .read_at(self.node, &self.path, buf, offset, true)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk
            .lock()
            .read_at(self.node, &self.path, buf, offset, false)
    }

    fn write_all_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        self.writable()?;
        self.disk
            .lock()
            .write_at(self.node, &self.path, bufs, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.writable()?;
        self.disk.lock().set_len(self.node, &self.path, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.lock().sync_data(self.node, &self.path)
    }

    fn as_std(&self) -> Option<Arc<std::fs::File>> {
        None
    }
}
