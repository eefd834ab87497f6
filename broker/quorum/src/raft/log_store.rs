//! openraft's log, vote and commit mark over the log file and two small files beside it.
//!
//! The vote is replaced as a whole and synced: a node must never forget whom it voted for. The commit mark is not
//! synced: it only says from where metadata can be had while the quorum is away, and guards the log against being taken
//! for torn where it is damaged. An old one does no harm.

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use weir_log::storage::{File, OpenMode, Storage};

use super::blocking::Blocking;
use super::files;
use super::log_file::{self, LogFile, LogOpenError, LogReader};
use super::types::{Entry, LogId, StorageError, StorageIoError, TypeConfig, Vote};

const VOTE: &str = "vote";
const COMMITTED: &str = "committed";

/// How much one read of the log returns at most, the first entry aside: what then travels in one message has to arrive
/// within a heartbeat.
const READ_BYTES_MAX: usize = 1 << 20;

/// openraft's log.
#[derive(Clone, Debug)]
pub(crate) struct LogStore {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    blocking: Blocking,
    log: Arc<Mutex<LogFile>>,
    reader: LogReader,
    committed: Arc<dyn File>,
    last: Option<LogId>,
}

impl LogStore {
    /// Opens what is in `dir`, where the newest snapshot holds the entries up to `snapshot`.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        blocking: Blocking,
        snapshot: Option<u64>,
    ) -> Result<Self, LogOpenError> {
        let path = dir.join(COMMITTED);
        let fresh = !storage.exists(&path)?;
        let committed = storage.open(&path, OpenMode::Create)?;
        if fresh {
            storage.sync_dir(dir)?;
        }
        // What a snapshot holds need not be in the log: one that was just received makes all of the log superfluous.
        let mark = read_committed(&*committed)?
            .map(|id| id.index)
            .filter(|mark| Some(*mark) > snapshot);
        let log = LogFile::open(storage.clone(), dir, mark)?;
        let reader = log.reader();
        let last = last_log_id(&reader)?;
        Ok(Self {
            storage,
            dir: dir.to_owned(),
            blocking,
            log: Arc::new(Mutex::new(log)),
            reader,
            committed,
            last,
        })
    }

    /// All entries after this one, which a snapshot holds.
    pub(crate) fn entries_after(&self, snapshot: Option<u64>) -> io::Result<Vec<Entry>> {
        let bounds = self.reader.bounds();
        let first = snapshot.map_or(0, |index| index + 1);
        if bounds.start > first && !bounds.is_empty() {
            return Err(io::Error::other(format!(
                "the log begins with entry {}, and what is known before it ends with {first}",
                bounds.start
            )));
        }
        decode(&self.reader.read(first..bounds.end, usize::MAX)?)
    }

    /// The log file's reading side.
    pub(crate) fn file(&self) -> LogReader {
        self.reader.clone()
    }

    async fn change(
        &self,
        work: impl FnOnce(&mut LogFile) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let log = self.log.clone();
        self.blocking
            .run(move || work(&mut log.lock().unwrap_or_else(PoisonError::into_inner)))
            .await
    }
}

/// Removes the log, and what is remembered of it. The vote stays.
pub(crate) fn remove(storage: &dyn Storage, dir: &Path) -> io::Result<()> {
    for name in [COMMITTED, log_file::NAME] {
        let path = dir.join(name);
        if storage.exists(&path)? {
            storage.remove_file(&path)?;
        }
    }
    storage.sync_dir(dir)
}

/// Remembers a vote where none was ever given.
pub(crate) fn vote_if_none(storage: &dyn Storage, dir: &Path, vote: &Vote) -> io::Result<()> {
    if storage.exists(&dir.join(VOTE))? {
        return Ok(());
    }
    files::replace(storage, dir, VOTE, &files::seal(&serde_json::to_vec(vote)?))
}

fn purged(reader: &LogReader) -> io::Result<Option<LogId>> {
    match reader.head().as_slice() {
        [] => Ok(None),
        head => Ok(serde_json::from_slice(head)?),
    }
}

fn last_log_id(reader: &LogReader) -> io::Result<Option<LogId>> {
    let bounds = reader.bounds();
    match bounds
        .end
        .checked_sub(1)
        .filter(|last| bounds.contains(last))
    {
        Some(last) => Ok(decode(&reader.read(last..bounds.end, usize::MAX)?)?
            .last()
            .map(|entry| entry.log_id)),
        None => purged(reader),
    }
}

fn decode(payloads: &[Vec<u8>]) -> io::Result<Vec<Entry>> {
    payloads
        .iter()
        .map(|payload| serde_json::from_slice(payload).map_err(io::Error::from))
        .collect()
}

fn read_committed(file: &dyn File) -> io::Result<Option<LogId>> {
    let mut bytes = vec![0; usize::try_from(file.len()?).unwrap_or(0).min(1024)];
    let read = file.read_at(&mut bytes, 0)?;
    // Shorter contents may leave a longer predecessor's rest behind them, so the length comes first.
    let Some((len, rest)) = bytes[..read].split_first_chunk::<4>() else {
        return Ok(None);
    };
    let sealed = rest.get(..u32::from_le_bytes(*len) as usize);
    Ok(sealed
        .and_then(files::unseal)
        .and_then(|bytes| serde_json::from_slice(bytes).ok()))
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, StorageError>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).await
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, READ_BYTES_MAX).await
    }
}

impl LogStore {
    async fn read(
        &self,
        start: u64,
        end: u64,
        bytes_max: usize,
    ) -> Result<Vec<Entry>, StorageError> {
        let reader = self.reader.clone();
        let entries = self
            .blocking
            .run(move || decode(&reader.read(start..end, bytes_max)?))
            .await;
        entries.map_err(|error| StorageIoError::read_logs(&error).into())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let last_purged_log_id =
            purged(&self.reader).map_err(|error| StorageIoError::read_logs(&error))?;
        Ok(LogState {
            last_purged_log_id,
            last_log_id: self.last,
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let (storage, dir) = (self.storage.clone(), self.dir.clone());
        let vote = serde_json::to_vec(vote).map_err(|error| StorageIoError::write_vote(&error))?;
        let written = self
            .blocking
            .run(move || files::replace(&*storage, &dir, VOTE, &files::seal(&vote)))
            .await;
        written.map_err(|error| StorageIoError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let wrong = |error: io::Error| StorageError::from(StorageIoError::read_vote(&error));
        let Some(sealed) = files::read(&*self.storage, &self.dir.join(VOTE)).map_err(wrong)? else {
            return Ok(None);
        };
        let damaged = || {
            io::Error::new(
                io::ErrorKind::InvalidData,
                "the quorum's vote on disk is damaged",
            )
        };
        let vote = files::unseal(&sealed).ok_or_else(damaged).map_err(wrong)?;
        serde_json::from_slice(vote)
            .map(Some)
            .map_err(|error| wrong(error.into()))
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let wrong = |error: io::Error| StorageError::from(StorageIoError::write(&error));
        let mark = serde_json::to_vec(&committed).map_err(|error| wrong(error.into()))?;
        let sealed = files::seal(&mark);
        let len = (sealed.len() as u32).to_le_bytes();
        let file = self.committed.clone();
        // A short write into the page cache, so it is not worth another thread.
        file.write_all_vectored_at(&[IoSlice::new(&len), IoSlice::new(&sealed)], 0)
            .map_err(wrong)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let mark =
            read_committed(&*self.committed).map_err(|error| StorageIoError::read(&error))?;
        Ok(mark.filter(|mark| self.last.is_some_and(|last| last.index >= mark.index)))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let wrong = |error: &io::Error| StorageError::from(StorageIoError::write_logs(error));
        let mut first = None;
        let mut last = self.last;
        let mut payloads = Vec::new();
        for entry in entries {
            first.get_or_insert(entry.log_id.index);
            last = Some(entry.log_id);
            payloads.push(serde_json::to_vec(&entry).map_err(|error| wrong(&error.into()))?);
        }
        let appended = match first {
            Some(first) => self.change(move |log| log.append(first, &payloads)).await,
            None => Ok(()),
        };
        match appended {
            Ok(()) => {
                self.last = last;
                callback.log_io_completed(Ok(()));
                Ok(())
            }
            Err(error) => {
                let wrong = wrong(&error);
                callback.log_io_completed(Err(error));
                Err(wrong)
            }
        }
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let wrong = |error: io::Error| StorageError::from(StorageIoError::write_logs(&error));
        self.change(move |log| log.truncate(log_id.index))
            .await
            .map_err(wrong)?;
        self.last = last_log_id(&self.reader).map_err(wrong)?;
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let wrong = |error: io::Error| StorageError::from(StorageIoError::write_logs(&error));
        if log_id.index < self.reader.bounds().start {
            return Ok(());
        }
        let head = serde_json::to_vec(&Some(log_id)).map_err(|error| wrong(error.into()))?;
        self.change(move |log| log.purge(log_id.index + 1, &head))
            .await
            .map_err(wrong)?;
        self.last = self.last.max(Some(log_id));
        Ok(())
    }
}
