//! The seam between everything that is kept on disk and the disk itself.
//!
//! Two implementations: the operating system's files ([`storage_os`](crate::storage_os)), and a simulated disk
//! ([`storage_sim`](crate::storage_sim)) that knows what a power cut takes back. Everything in Weir that outlives a process
//! goes through here: partition logs, the quorum's log and snapshots, the data directory's identity.
//!
//! Calls block. In production they are made from lanes' own threads or the blocking pool, never from a network
//! thread, [`File::try_read_at`] aside.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

/// How [`Storage::open`] treats a file that is or is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// The file must exist; it is opened for reading only.
    Read,
    /// The file must exist; it is opened for reading and writing.
    Write,
    /// The file is made when it is not there; it is opened for reading and writing. The new directory entry is durable
    /// only after [`Storage::sync_dir`] of its parent.
    Create,
}

/// A tree of directories and files.
pub trait Storage: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Makes a directory and its missing parents. Durable after [`sync_dir`](Self::sync_dir) of each parent.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Moves a file or directory within one file system, replacing a file at `to`. Durable after
    /// [`sync_dir`](Self::sync_dir) of both parents.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes one file.
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory and all below it.
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Makes a directory's entries durable (`fsync` of the directory).
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes all that was written to the file system that holds `path` durable (`syncfs`).
    fn sync_file_system(&self, path: &Path) -> io::Result<()>;
    /// The bytes that an unprivileged process may still write to, and the size of, the file system that holds `path`.
    fn space(&self, path: &Path) -> io::Result<Space>;
}

/// A file system's size and what is left of it, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// What an unprivileged process may still write.
    pub available_bytes: u64,
    /// The whole.
    pub total_bytes: u64,
}

/// One open file. Positions are explicit, so that readers and the one writer share it.
pub trait File: Debug + Send + Sync {
    /// The file's length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether the file holds nothing.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// When it was last written to, in milliseconds since 1970, where the disk knows.
    fn modified_ms(&self) -> io::Result<Option<i64>> {
        Ok(None)
    }
    /// Reads up to `buf.len()` bytes at `offset`; less only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// As [`read_at`](Self::read_at), but fails with [`io::ErrorKind::WouldBlock`] instead of waiting for the disk. May
    /// return less than asked when only the beginning is at hand.
    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Tells the system what will be read soon, and does not wait for it. It may know better.
    fn will_read(&self, _offset: u64, _len: u64) {}
    /// Writes all of `bufs`, one after the other, at `offset`. On an error any part may have been written.
    fn write_all_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()>;
    /// Cuts the file, or grows it with zeroes.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes the contents, and the length, durable (`fdatasync`). After an error nothing may be assumed of what was
    /// written since the last success, and it must not be tried again: the process ends.
    fn sync_data(&self) -> io::Result<()>;
    /// The operating system's file, where there is one, for `sendfile`. Holding it keeps the file open.
    fn as_std(&self) -> Option<Arc<std::fs::File>>;
}
