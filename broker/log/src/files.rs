//! Small acts on files that several modules share: whole reads, atomic replacement, a bounded set of open handles.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Fatal, LaneError, OpenError, ReadError};
use crate::storage::{File, OpenMode, Storage};

/// Handles of closed segments and their indexes that stay open between reads, for each data directory. With two for each
/// segment that is being caught up on, 512 serve 256 slow consumers, half of the 1,024 descriptors that is the least
/// common limit for a process.
const OPEN_FILES_MAX: usize = 512;

/// A failed act on a file: what, where and what the disk said.
#[derive(Clone, Debug)]
pub(crate) struct FileError {
    pub(crate) doing: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) source: Arc<io::Error>,
}

impl FileError {
    /// For `map_err`.
    pub(crate) fn of(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self {
            doing,
            path,
            source: Arc::new(source),
        }
    }

    pub(crate) fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Whether the process must end: after a failed sync nobody knows what is on disk, and a disk that does not take a change,
    /// though it is not full, is dying. What could not be read is for whoever reads it.
    pub(crate) fn is_fatal(&self) -> bool {
        self.doing == SYNCING || CHANGING.contains(&self.doing) && is_dying(&self.source)
    }
}

/// What is being done when any failure means that the process must end.
pub(crate) const SYNCING: &str = "syncing";

/// What is being done when a failure means that, if the disk is to blame.
const CHANGING: [&str; 5] = ["making", "writing", "cutting", "renaming", "removing"];

/// Whether the disk or its file system has failed, as opposed to being full or to a bound of the process.
fn is_dying(error: &io::Error) -> bool {
    use rustix::io::Errno;
    // UCLEAN is what ext4 and XFS say of a damaged file system, ROFS what they turn to.
    const DYING: [Errno; 5] = [
        Errno::IO,
        Errno::ROFS,
        Errno::NXIO,
        Errno::NODEV,
        Errno::UCLEAN,
    ];
    Errno::from_io_error(error).is_some_and(|errno| DYING.contains(&errno))
}

impl From<FileError> for Fatal {
    fn from(
        FileError {
            doing,
            path,
            source,
        }: FileError,
    ) -> Self {
        Self {
            doing,
            path,
            source,
        }
    }
}

impl From<FileError> for OpenError {
    fn from(
        FileError {
            doing,
            path,
            source,
        }: FileError,
    ) -> Self {
        Self::Io {
            doing,
            path,
            source,
        }
    }
}

impl From<FileError> for LaneError {
    fn from(
        FileError {
            doing,
            path,
            source,
        }: FileError,
    ) -> Self {
        Self::Io {
            doing,
            path,
            source,
        }
    }
}

impl From<FileError> for ReadError {
    fn from(FileError { path, source, .. }: FileError) -> Self {
        match source.kind() {
            io::ErrorKind::WouldBlock => Self::WouldBlock,
            _ => Self::Io { path, source },
        }
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// It may.
    Yes,
    /// It fails with [`io::ErrorKind::WouldBlock`] instead.
    No,
}

impl Wait {
    pub(crate) fn read_at(self, file: &dyn File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Yes => file.read_at(buf, offset),
            Self::No => file.try_read_at(buf, offset),
        }
    }
}

/// The contents of a small file; `None` when it is not there.
pub(crate) fn read_whole(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    let file = match storage.open(path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::of("opening", path)(error)),
    };
    let len = file.len().map_err(FileError::of("measuring", path))?;
    let mut bytes = vec![0; usize::try_from(len).unwrap_or(usize::MAX)];
    let read = file
        .read_at(&mut bytes, 0)
        .map_err(FileError::of("reading", path))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Replaces a file so that after a power cut at any moment either the old or the new contents are there, whole.
pub(crate) fn replace(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), FileError> {
    let temporary = dir.join(format!("{name}.tmp"));
    let target = dir.join(name);
    let file = storage
        .open(&temporary, OpenMode::Create)
        .map_err(FileError::of("making", &temporary))?;
    file.set_len(0)
        .map_err(FileError::of("cutting", &temporary))?;
    file.write_all_vectored_at(&[IoSlice::new(bytes)], 0)
        .map_err(FileError::of("writing", &temporary))?;
    file.sync_data()
        .map_err(FileError::of(SYNCING, &temporary))?;
    storage
        .rename(&temporary, &target)
        .map_err(FileError::of("renaming", &temporary))?;
    storage.sync_dir(dir).map_err(FileError::of(SYNCING, dir))
}

/// The contents of a small file; `None` when it is not there.
pub fn read_small(storage: &dyn Storage, path: &Path) -> Result<Option<Vec<u8>>, OpenError> {
    Ok(read_whole(storage, path)?)
}

/// Replaces a small file so that after a power cut either the old or the new contents are there, whole.
pub fn replace_small(
    storage: &dyn Storage,
    dir: &Path,
    name: &str,
    bytes: &[u8],
) -> Result<(), OpenError> {
    Ok(replace(storage, dir, name, bytes)?)
}

/// Open handles of files that are only read, the most recently used ones. Keys are handed out by [`Self::new_key`], so that
/// a name used twice is never mistaken.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles {
    state: Mutex<OpenFilesState>,
}

#[derive(Debug, Default)]
struct OpenFilesState {
    next_key: u64,
    clock: u64,
    files: BTreeMap<u64, (u64, Arc<dyn File>)>,
}

impl OpenFiles {
    fn lock(&self) -> MutexGuard<'_, OpenFilesState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn new_key(&self) -> u64 {
        let mut state = self.lock();
        state.next_key += 1;
        state.next_key
    }

    /// The file under this key, opened by `open` when it is not.
    pub(crate) fn get(
        &self,
        key: u64,
        open: impl FnOnce() -> io::Result<Arc<dyn File>>,
    ) -> io::Result<Arc<dyn File>> {
        {
            let mut state = self.lock();
            state.clock += 1;
            let now = state.clock;
            if let Some((used, file)) = state.files.get_mut(&key) {
                *used = now;
                return Ok(Arc::clone(file));
            }
        }
        let file = open()?;
        let mut state = self.lock();
        if state.files.len() >= OPEN_FILES_MAX
            && let Some(oldest) = state
                .files
                .iter()
                .min_by_key(|(_, (used, _))| *used)
                .map(|(key, _)| *key)
        {
            state.files.remove(&oldest);
        }
        let now = state.clock;
        state.files.insert(key, (now, Arc::clone(&file)));
        Ok(file)
    }

    /// Closes a file that was replaced or removed.
    pub(crate) fn forget(&self, key: u64) {
        self.lock().files.remove(&key);
    }
}
