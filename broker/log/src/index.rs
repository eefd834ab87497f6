//! The sparse index of one segment: offset, position and time of one batch in some four kilobytes.
//!
//! Derived from the log: it is written without a sync, may lack entries, and may lie after a power cut. Whoever looks a
//! position up compares the batch that lies there with the entry. The newest entries are in memory; those before them in a
//! file, which is read entry by entry when somebody asks, so that an idle partition costs nothing.
//!
//! The file is a row of 16-byte entries: offset from the segment's first (4), position (4), and the greatest timestamp of
//! all batches in the segment before that position (8). One file for offset and time: the two are always asked together.

use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_wire::Offset;

use crate::files::{OpenFiles, Wait};
use crate::storage::{File, OpenMode, Storage};

/// Entries held in memory before they go to the file: 4 KiB, once for each MiB of log.
const PENDING_MAX: usize = 256;
const ENTRY_LEN: usize = 16;

/// Where a batch lies, relative to its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// The batch's base offset, from the segment's first.
    pub(crate) relative_offset: u32,
    /// Where it starts.
    pub(crate) position: u32,
    /// The greatest timestamp of all batches before it in the segment.
    pub(crate) max_timestamp_before: i64,
}

impl IndexEntry {
    fn to_bytes(self) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..4].copy_from_slice(&self.relative_offset.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.position.to_be_bytes());
        bytes[8..].copy_from_slice(&self.max_timestamp_before.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: [u8; ENTRY_LEN]) -> Self {
        let [o0, o1, o2, o3, p0, p1, p2, p3, time @ ..] = bytes;
        Self {
            relative_offset: u32::from_be_bytes([o0, o1, o2, o3]),
            position: u32::from_be_bytes([p0, p1, p2, p3]),
            max_timestamp_before: i64::from_be_bytes(time),
        }
    }
}

/// One segment's index. The lane adds; anyone looks up.
#[derive(Debug)]
pub(crate) struct Index {
    key: u64,
    state: Mutex<State>,
    /// Held while the file is changed, so that a rebuild by a reader and a flush by the lane do not mix.
    writing: Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries in the file.
    flushed: u32,
    /// Entries after those, not in the file yet.
    pending: Vec<IndexEntry>,
}

/// Where an index's file is and how to get at it.
#[derive(Clone, Copy)]
pub(crate) struct IndexPlace<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) open_files: &'a OpenFiles,
    pub(crate) path: &'a Path,
}

impl Index {
    /// An index whose file holds `flushed` entries.
    pub(crate) fn new(key: u64, flushed: u32) -> Self {
        Self {
            key,
            state: Mutex::new(State {
                flushed,
                pending: Vec::new(),
            }),
            writing: Mutex::new(()),
        }
    }

    /// How many entries a file of this length holds.
    pub(crate) fn entries_in(file_len: u64) -> u32 {
        u32::try_from(file_len / ENTRY_LEN as u64).unwrap_or(u32::MAX)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, entry: IndexEntry) {
        self.lock().pending.push(entry);
    }

    /// Whether there are enough new entries to be worth a write.
    pub(crate) fn wants_flush(&self) -> bool {
        self.lock().pending.len() >= PENDING_MAX
    }

    /// Moves the entries in memory to the file. Not synced: it is derived.
    pub(crate) fn flush(&self, place: IndexPlace<'_>) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let (flushed, bytes) = {
            let state = self.lock();
            (state.flushed, to_bytes(&state.pending))
        };
        if bytes.is_empty() {
            return Ok(());
        }
        let file = place.storage.open(place.path, OpenMode::Create)?;
        file.write_all_vectored_at(
            &[IoSlice::new(&bytes)],
            u64::from(flushed) * ENTRY_LEN as u64,
        )?;
        let mut state = self.lock();
        let written = bytes.len() / ENTRY_LEN;
        // The lane alone adds and cuts, and it is the lane that flushes: the first entries are the ones just written.
        state.pending.drain(..written);
        if state.pending.is_empty() {
            state.pending = Vec::new();
        }
        state.flushed += written as u32;
        Ok(())
    }

    /// The last entry for which `holds`, which must hold for a beginning of the entries and for none after it.
    pub(crate) fn last_where(
        &self,
        place: IndexPlace<'_>,
        wait: Wait,
        holds: impl Fn(&IndexEntry) -> bool,
    ) -> io::Result<Option<IndexEntry>> {
        let flushed = {
            let state = self.lock();
            let count = state.pending.partition_point(&holds);
            if count > 0 {
                return Ok(state.pending.get(count - 1).copied());
            }
            state.flushed
        };
        if flushed == 0 {
            return Ok(None);
        }
        let file = match place
            .open_files
            .get(self.key, || place.storage.open(place.path, OpenMode::Read))
        {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        last_in_file(&*file, flushed, wait, holds)
    }

    /// Drops the entries at and after `position`.
    pub(crate) fn cut(&self, place: IndexPlace<'_>, position: u64) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let flushed = {
            let mut state = self.lock();
            state
                .pending
                .retain(|entry| u64::from(entry.position) < position);
            state.flushed
        };
        if flushed == 0 {
            return Ok(());
        }
        let mut low = 0;
        let mut high = flushed;
        let file = place.storage.open(place.path, OpenMode::Create)?;
        while low < high {
            let middle = low + (high - low) / 2;
            match entry_at(&*file, middle, Wait::Yes)? {
                Some(entry) if u64::from(entry.position) < position => low = middle + 1,
                _ => high = middle,
            }
        }
        file.set_len(u64::from(low) * ENTRY_LEN as u64)?;
        self.lock().flushed = low;
        Ok(())
    }

    /// Replaces the file by entries that were made anew from the log; those in memory stay, and win where both speak of
    /// the same bytes.
    pub(crate) fn rebuild(
        &self,
        place: IndexPlace<'_>,
        mut entries: Vec<IndexEntry>,
    ) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let first_pending = self.lock().pending.first().map(|entry| entry.position);
        entries.retain(|entry| first_pending.is_none_or(|first| entry.position < first));
        let temporary = temporary_path(place.path);
        let file = place.storage.open(&temporary, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_all_vectored_at(&[IoSlice::new(&to_bytes(&entries))], 0)?;
        place.storage.rename(&temporary, place.path)?;
        place.open_files.forget(self.key);
        self.lock().flushed = entries.len() as u32;
        Ok(())
    }

    /// Closes the file.
    pub(crate) fn forget_file(&self, open_files: &OpenFiles) {
        open_files.forget(self.key);
    }

    /// What it holds in memory and in the file, for tests.
    #[cfg(test)]
    pub(crate) fn counts(&self) -> (usize, u32) {
        let state = self.lock();
        (state.pending.len(), state.flushed)
    }
}

fn temporary_path(path: &Path) -> PathBuf {
    path.with_extension("index.tmp")
}

fn to_bytes(entries: &[IndexEntry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

fn entry_at(file: &dyn File, number: u32, wait: Wait) -> io::Result<Option<IndexEntry>> {
    let mut bytes = [0; ENTRY_LEN];
    let read = wait.read_at(file, &mut bytes, u64::from(number) * ENTRY_LEN as u64)?;
    Ok((read == ENTRY_LEN).then(|| IndexEntry::from_bytes(bytes)))
}

/// Position and offset of the last entry of an index file of this length, unchecked.
pub(crate) fn last_entry(file: &dyn File, len: u64, base: Offset) -> Option<(u64, Offset)> {
    let number = Index::entries_in(len).checked_sub(1)?;
    let entry = entry_at(file, number, Wait::Yes).ok()??;
    let offset = base.saturating_add(i64::from(entry.relative_offset));
    Some((u64::from(entry.position), offset))
}

fn last_in_file(
    file: &dyn File,
    flushed: u32,
    wait: Wait,
    holds: impl Fn(&IndexEntry) -> bool,
) -> io::Result<Option<IndexEntry>> {
    let mut found = None;
    let mut low = 0;
    let mut high = flushed;
    while low < high {
        let middle = low + (high - low) / 2;
        match entry_at(file, middle, wait)? {
            Some(entry) if holds(&entry) => {
                found = Some(entry);
                low = middle + 1;
            }
            _ => high = middle,
        }
    }
    Ok(found)
}
