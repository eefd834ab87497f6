//! The quorum's log on disk: one append-only file of frames, rewritten when its beginning is no longer needed.
//!
//! What always holds: an append has been synced when it returns; a truncation has been synced before anything is
//! appended after it; after a write or a sync that failed nothing is written any more. On opening, a torn tail, which no
//! one was told of, is cut; damage anywhere else is an error, since what is lost there may have been acknowledged.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weir_log::mutants::Mutant;
use weir_log::storage::{File, OpenMode, Storage};

use super::files;
use super::frame::{Frame, HEADER_LEN, Kind};

/// The file.
pub(crate) const NAME: &str = "log";

/// Why a log could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogOpenError {
    #[error("cannot read the quorum's log: {0}")]
    Io(#[from] io::Error),
    #[error(
        "the quorum's log {path} is damaged at byte {at} of {len}, where entry {index} should be; what it held may have \
         been acknowledged. Restore the disk, or replace it: with an empty data directory this broker joins anew and \
         gets the log from the others"
    )]
    Damaged {
        path: PathBuf,
        at: usize,
        len: usize,
        index: u64,
    },
}

/// The writing side. There is one.
#[derive(Debug)]
pub(crate) struct LogFile {
    storage: Arc<dyn Storage>,
    dir: PathBuf,
    index: Arc<Mutex<Index>>,
    /// Where the next frame goes; all before it is synced.
    end: u64,
    failed: bool,
}

/// The reading side. Clones read the same log.
#[derive(Clone, Debug)]
pub(crate) struct LogReader(Arc<Mutex<Index>>);

#[derive(Debug)]
struct Index {
    file: Arc<dyn File>,
    /// The index of the first entry that is here.
    first: u64,
    /// What was before the first entry, as its owner wrote it.
    head: Vec<u8>,
    places: VecDeque<Place>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    len: u32,
}

impl Index {
    fn next(&self) -> u64 {
        self.first + self.places.len() as u64
    }
}

fn lock(index: &Mutex<Index>) -> MutexGuard<'_, Index> {
    // What is inside is replaced in single steps, so that it is whole even after a panic.
    index.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogFile {
    /// Opens the log in `dir`, and makes an empty one where there is none. `committed` is the last entry that is known
    /// to have been synced, if that is known.
    pub(crate) fn open(
        storage: Arc<dyn Storage>,
        dir: &Path,
        committed: Option<u64>,
    ) -> Result<Self, LogOpenError> {
        let path = dir.join(NAME);
        if !storage.exists(&path)? {
            files::replace(&*storage, dir, NAME, &whole(0, &[], std::iter::empty()))?;
        }
        let bytes = files::read(&*storage, &path)?.unwrap_or_default();
        let damaged = |at: usize, index: u64| LogOpenError::Damaged {
            path: path.clone(),
            at,
            len: bytes.len(),
            index,
        };
        let head = Frame::read(&bytes)
            .filter(|frame| frame.kind == Kind::Head)
            .ok_or_else(|| damaged(0, 0))?;
        let mut places = VecDeque::new();
        let mut at = head.len();
        // Up to where the file is certainly on disk, as its last frame says.
        let mut sure = head.synced.min(bytes.len() as u64) as usize;
        while at < bytes.len() {
            let index = head.index + places.len() as u64;
            let frame = Frame::read(&bytes[at..])
                .filter(|frame| frame.kind == Kind::Entry && frame.index == index);
            match frame {
                Some(frame) => {
                    places.push_back(Place {
                        at: at as u64,
                        len: frame.payload.len() as u32,
                    });
                    sure = sure.max(frame.synced.min(at as u64) as usize);
                    at += frame.len();
                }
                None if committed.is_some_and(|committed| committed >= index)
                    || was_synced(&bytes, at, head.synced) =>
                {
                    return Err(damaged(at, index));
                }
                None => break,
            }
        }
        if committed.is_some_and(|committed| committed >= head.index + places.len() as u64) {
            return Err(damaged(at, head.index + places.len() as u64));
        }
        let file = storage.open(&path, OpenMode::Write)?;
        if at < bytes.len() {
            tracing::warn!(
                cut = bytes.len() - at,
                at,
                "cutting a torn tail off the quorum's log"
            );
            file.set_len(at as u64)?;
            file.sync_data()?;
        }
        if let Some(unsure) = bytes.get(sure..at).filter(|unsure| !unsure.is_empty()) {
            // The kernel calls pages clean whose sync has failed: what was read may be in its cache and nowhere else, and
            // what is appended behind it would say that it is on disk.
            file.write_all_vectored_at(&[IoSlice::new(unsure)], sure as u64)?;
            file.sync_data()?;
        }
        let index = Index {
            file,
            first: head.index,
            head: head.payload.to_vec(),
            places,
        };
        Ok(Self {
            storage,
            dir: dir.to_owned(),
            index: Arc::new(Mutex::new(index)),
            end: at as u64,
            failed: false,
        })
    }

    /// The reading side.
    pub(crate) fn reader(&self) -> LogReader {
        LogReader(self.index.clone())
    }

    /// Appends entries from `first` on, and syncs.
    pub(crate) fn append(&mut self, first: u64, payloads: &[Vec<u8>]) -> io::Result<()> {
        self.guard(|log| {
            let (next, file) = {
                let index = lock(&log.index);
                (index.next(), index.file.clone())
            };
            if first != next {
                return Err(io::Error::other(format!(
                    "entry {first} is appended to a log whose next entry is {next}"
                )));
            }
            let mut bytes = Vec::with_capacity(
                payloads
                    .iter()
                    .map(|payload| payload.len() + HEADER_LEN)
                    .sum(),
            );
            let mut places = Vec::with_capacity(payloads.len());
            for (index, payload) in (first..).zip(payloads) {
                places.push(Place {
                    at: log.end + bytes.len() as u64,
                    len: payload.len() as u32,
                });
                Frame {
                    index,
                    synced: log.end,
                    kind: Kind::Entry,
                    payload,
                }
                .write(&mut bytes);
            }
            file.write_all_vectored_at(&[IoSlice::new(&bytes)], log.end)?;
            if !Mutant::UnsyncedQuorum.is_active() {
                file.sync_data()?;
            }
            log.end += bytes.len() as u64;
            lock(&log.index).places.extend(places);
            Ok(())
        })
    }

    /// Removes the entries from `from` on, durably.
    pub(crate) fn truncate(&mut self, from: u64) -> io::Result<()> {
        self.guard(|log| {
            let (end, file) = {
                let mut index = lock(&log.index);
                let keep = usize::try_from(from.saturating_sub(index.first)).unwrap_or(usize::MAX);
                let Some(place) = index.places.get(keep).copied() else {
                    return Ok(());
                };
                index.places.truncate(keep);
                (place.at, index.file.clone())
            };
            file.set_len(end)?;
            file.sync_data()?;
            log.end = end;
            Ok(())
        })
    }

    /// Removes the entries before `first`, which may lie beyond the end: then the log is empty and begins there. `head`
    /// says what was before. The file is written anew.
    pub(crate) fn purge(&mut self, first: u64, head: &[u8]) -> io::Result<()> {
        self.guard(|log| {
            let kept = {
                let index = lock(&log.index);
                first.max(index.first)..index.next()
            };
            let payloads = if kept.is_empty() {
                Vec::new()
            } else {
                log.reader().read(kept.clone(), usize::MAX)?
            };
            let bytes = whole(first, head, payloads.iter().map(Vec::as_slice));
            files::replace(&*log.storage, &log.dir, NAME, &bytes)?;
            let mut at = (HEADER_LEN + head.len()) as u64;
            let places = payloads
                .iter()
                .map(|payload| {
                    let place = Place {
                        at,
                        len: payload.len() as u32,
                    };
                    at += (HEADER_LEN + payload.len()) as u64;
                    place
                })
                .collect();
            let file = log.storage.open(&log.dir.join(NAME), OpenMode::Write)?;
            log.end = bytes.len() as u64;
            *lock(&log.index) = Index {
                file,
                first,
                head: head.to_vec(),
                places,
            };
            Ok(())
        })
    }

    fn guard(&mut self, work: impl FnOnce(&mut Self) -> io::Result<()>) -> io::Result<()> {
        if self.failed {
            return Err(io::Error::other(
                "the quorum's log failed before, and is not written any more",
            ));
        }
        let result = work(self);
        self.failed = result.is_err();
        result
    }
}

impl LogReader {
    /// The index of the first entry, and of the one after the last.
    pub(crate) fn bounds(&self) -> Range<u64> {
        let index = lock(&self.0);
        index.first..index.next()
    }

    /// The file's length.
    pub(crate) fn bytes(&self) -> u64 {
        let index = lock(&self.0);
        let head = (HEADER_LEN + index.head.len()) as u64;
        index.places.back().map_or(head, |last| {
            last.at + HEADER_LEN as u64 + u64::from(last.len)
        })
    }

    /// What was before the first entry.
    pub(crate) fn head(&self) -> Vec<u8> {
        lock(&self.0).head.clone()
    }

    /// The payloads of those entries in `range` that are here: the first of them in any case, and more until they hold
    /// `bytes_max` bytes.
    pub(crate) fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Vec<u8>>> {
        let (file, first, places) = {
            let index = lock(&self.0);
            let range = range.start.max(index.first)..range.end.min(index.next());
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let at = |entry: u64| usize::try_from(entry - index.first).unwrap_or(usize::MAX);
            let places: Vec<Place> = index
                .places
                .range(at(range.start)..at(range.end))
                .copied()
                .collect();
            (index.file.clone(), range.start, places)
        };
        let mut payloads = Vec::with_capacity(places.len());
        let mut held = 0;
        for (index, place) in (first..).zip(places) {
            if held > 0 && held + place.len as usize > bytes_max {
                break;
            }
            held += place.len as usize;
            payloads.push(read_one(&*file, index, place)?);
        }
        Ok(payloads)
    }
}

fn read_one(file: &dyn File, index: u64, place: Place) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEADER_LEN + place.len as usize];
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], place.at + read as u64)? {
            0 => break,
            more => read += more,
        }
    }
    let whole = Frame::read(&bytes[..read]).is_some_and(|frame| frame.index == index);
    if !whole {
        return Err(io::Error::other(format!(
            "entry {index} of the quorum's log is damaged (byte {})",
            place.at
        )));
    }
    Ok(bytes.split_off(HEADER_LEN))
}

/// A whole file.
fn whole<'a>(first: u64, head: &[u8], payloads: impl Iterator<Item = &'a [u8]> + Clone) -> Vec<u8> {
    let len = HEADER_LEN
        + head.len()
        + payloads
            .clone()
            .map(|payload| HEADER_LEN + payload.len())
            .sum::<usize>();
    let mut bytes = Vec::with_capacity(len);
    Frame {
        index: first,
        synced: len as u64,
        kind: Kind::Head,
        payload: head,
    }
    .write(&mut bytes);
    for (index, payload) in (first..).zip(payloads) {
        Frame {
            index,
            synced: 0,
            kind: Kind::Entry,
            payload,
        }
        .write(&mut bytes);
    }
    bytes
}

/// Whether what is at `at`, and does not read, was certainly on disk once: the file was written with it as a whole, or a
/// later frame says so.
fn was_synced(bytes: &[u8], at: usize, written_whole: u64) -> bool {
    if (at as u64) < written_whole {
        return true;
    }
    (at + 1..bytes.len().saturating_sub(HEADER_LEN - 1)).any(|from| {
        // Looks at the cheap fields first: this runs over every byte after the damage.
        bytes[from + HEADER_LEN - 1] == 1
            && Frame::read(&bytes[from..])
                .is_some_and(|frame| frame.synced > at as u64 && frame.synced <= from as u64)
    })
}

#[cfg(test)]
mod tests;
