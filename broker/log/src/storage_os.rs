//! The operating system's files.
//!
//! `syncfs` reports a failed write-back only to descriptors that were open when it failed, so the descriptor for each
//! directory that is ever passed to [`Storage::sync_file_system`] is opened once and kept.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::{self, IoSlice};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::Advice;
use rustix::io::{Errno, ReadWriteFlags};

use crate::storage::{File, OpenMode, Space, Storage};

/// Most slices that one `pwritev` takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;

/// The operating system's files. One for each process is enough.
#[derive(Debug, Default)]
pub struct OsStorage {
    file_systems: Mutex<BTreeMap<PathBuf, Arc<fs::File>>>,
}

impl OsStorage {
    /// The operating system's files.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn file_system(&self, path: &Path) -> io::Result<Arc<fs::File>> {
        let mut open = self
            .file_systems
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(path) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(fs::File::open(path)?);
        open.insert(path.to_owned(), Arc::clone(&file));
        Ok(file)
    }
}

impl Storage for OsStorage {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = match mode {
            OpenMode::Read => OpenOptions::new().read(true).open(path)?,
            OpenMode::Write => OpenOptions::new().read(true).write(true).open(path)?,
            OpenMode::Create => OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(path)?,
        };
        Ok(Arc::new(OsFile(Arc::new(file))))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(path)? {
            let name = entry?.file_name();
            // We make no file whose name is not UTF-8, so such a one is not ours.
            if let Ok(name) = name.into_string() {
                names.push(name);
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }

    fn sync_file_system(&self, path: &Path) -> io::Result<()> {
        // The first call for a path opens the descriptor; whoever relies on this for durability calls it once before the
        // first write (DataDir::open does).
        let file = self.file_system(path)?;
        retry(|| rustix::fs::syncfs(&*file))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        })
    }
}

#[derive(Debug)]
struct OsFile(Arc<fs::File>);

impl File for OsFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn modified_ms(&self) -> io::Result<Option<i64>> {
        let modified = self.0.metadata()?.modified()?;
        let since = modified.duration_since(std::time::UNIX_EPOCH);
        Ok(since
            .ok()
            .and_then(|since| i64::try_from(since.as_millis()).ok()))
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.0.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn try_read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut slices = [io::IoSliceMut::new(buf)];
        match rustix::io::preadv2(&*self.0, &mut slices, offset, ReadWriteFlags::NOWAIT) {
            Ok(read) => Ok(read),
            // Not every file system can say whether it would wait; then it might.
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR | Errno::INVAL) => {
                Err(io::ErrorKind::WouldBlock.into())
            }
            Err(errno) => Err(errno.into()),
        }
    }

    fn will_read(&self, offset: u64, len: u64) {
        // Without a length it would be all that follows. Where advice is not taken, reading is slower.
        if let Some(len) = NonZeroU64::new(len) {
            let _ = rustix::fs::fadvise(&*self.0, offset, Some(len), Advice::WillNeed);
        }
    }

    fn write_all_vectored_at(&self, bufs: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut position = offset;
        for chunk in bufs.chunks(SLICES_MAX) {
            position = write_chunk(&self.0, chunk, position)?;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        retry(|| rustix::fs::fdatasync(&*self.0))
    }

    fn as_std(&self) -> Option<Arc<fs::File>> {
        Some(Arc::clone(&self.0))
    }
}

/// Writes at most [`SLICES_MAX`] slices, all of them, and returns where they end. Most writes are whole at the first try; one
/// that is not goes on slice by slice.
fn write_chunk(file: &fs::File, chunk: &[IoSlice<'_>], position: u64) -> io::Result<u64> {
    let total: usize = chunk.iter().map(|slice| slice.len()).sum();
    let end = position + total as u64;
    if total == 0 {
        return Ok(end);
    }
    let mut written = loop {
        match rustix::io::pwritev(file, chunk, position) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => break written,
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    };
    let mut slice_at = position;
    for slice in chunk {
        if written < slice.len() {
            file.write_all_at(&slice[written..], slice_at + written as u64)?;
        }
        written = written.saturating_sub(slice.len());
        slice_at += slice.len() as u64;
    }
    Ok(end)
}

/// A sync that was interrupted before it began is the one kind that may be tried again.
fn retry(mut call: impl FnMut() -> rustix::io::Result<()>) -> io::Result<()> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            other => return Ok(other?),
        }
    }
}
