//! The aborted transactions of one segment: those whose marker lies in it, in the order of the markers.
//!
//! What a consumer that reads only what is committed needs to leave out. Derived from the log: the lane adds an entry for each marker
//! that it writes, and moves entries to the file now and then, without a sync. How many entries the file has, and which, is in
//! the state snapshot; a file that differs is made anew from the log when the partition is opened, and whatever it has beyond
//! that is not looked at. An entry carries a checksum, so that one that is damaged later is noticed, and then the log is asked.
//!
//! The file is a row of 36-byte entries: producer id (8), first offset (8), marker (8), the offset below which everything was
//! decided once the marker was written (8), CRC32C of these and the segment's first offset (4).

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use weir_wire::{Offset, ProducerId};

use crate::files::{OpenFiles, Wait};
use crate::producers::Ended;
use crate::storage::{File, OpenMode, Storage};

/// Entries held in memory before they go to the file: 8 KiB.
const PENDING_MAX: usize = 256;
const ENTRY_LEN: usize = 36;
/// Entries read at once: a page.
const CHUNK_ENTRIES: u32 = 112;

/// One aborted transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aborted {
    pub(crate) id: ProducerId,
    pub(crate) first: Offset,
    pub(crate) marker: Offset,
    /// Transactions that begin below are decided by markers up to this one.
    pub(crate) decided_to: Offset,
}

impl From<Ended> for Aborted {
    fn from(ended: Ended) -> Self {
        Self {
            id: ended.id,
            first: ended.first,
            marker: ended.marker,
            decided_to: ended.decided_to,
        }
    }
}

impl Aborted {
    fn to_bytes(self, base: Offset) -> [u8; ENTRY_LEN] {
        let mut bytes = [0; ENTRY_LEN];
        bytes[..8].copy_from_slice(&self.id.0.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_be_bytes());
        bytes[16..24].copy_from_slice(&self.marker.0.to_be_bytes());
        bytes[24..32].copy_from_slice(&self.decided_to.0.to_be_bytes());
        let checksum = checksum(&bytes[..32], base);
        bytes[32..].copy_from_slice(&checksum.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8], base: Offset) -> Option<Self> {
        let (fields, stored) = bytes.split_at_checked(32)?;
        let number = |at: usize| {
            let part = fields.get(at..)?.first_chunk::<8>()?;
            Some(i64::from_be_bytes(*part))
        };
        (stored == checksum(fields, base).to_be_bytes()).then_some(Self {
            id: ProducerId(number(0)?),
            first: Offset(number(8)?),
            marker: Offset(number(16)?),
            decided_to: Offset(number(24)?),
        })
    }
}

fn checksum(fields: &[u8], base: Offset) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(fields);
    digest.update(&base.0.to_be_bytes());
    digest.finalize() as u32
}

/// How many entries there are and which, in short: what a snapshot says of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) count: u32,
    /// Over the entries' checksums (FNV-1a).
    pub(crate) hash: u64,
}

impl Tally {
    fn add(&mut self, entry: &[u8; ENTRY_LEN]) {
        self.count += 1;
        for byte in &entry[32..] {
            self.hash = (self.hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

/// Where an index's file is and how to get at it.
#[derive(Clone, Copy)]
pub(crate) struct AbortedPlace<'a> {
    pub(crate) storage: &'a dyn Storage,
    pub(crate) open_files: &'a OpenFiles,
    pub(crate) path: &'a Path,
    /// The segment's first offset.
    pub(crate) base: Offset,
}

/// What is asked for: transactions that have a part in these offsets.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    pub(crate) from: Offset,
    pub(crate) to: Offset,
}

impl Span {
    /// Whether a transaction has a part in it.
    pub(crate) fn meets(self, aborted: &Aborted) -> bool {
        aborted.first < self.to && aborted.marker >= self.from
    }

    /// Whether no later marker can end a transaction that has a part in it.
    pub(crate) fn is_decided_by(self, aborted: &Aborted) -> bool {
        aborted.decided_to >= self.to
    }
}

/// One segment's aborted transactions. The lane adds, resets and flushes; anyone asks.
#[derive(Debug)]
pub(crate) struct AbortedIndex {
    key: u64,
    count: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Entries in the file.
    flushed: Tally,
    /// Entries after those, not in the file yet.
    pending: Vec<Aborted>,
}

impl AbortedIndex {
    /// One without entries, whatever its file holds.
    pub(crate) fn new(key: u64) -> Self {
        Self {
            key,
            count: AtomicU32::new(0),
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    pub(crate) fn add(&self, aborted: Aborted) {
        let mut state = self.lock();
        state.pending.push(aborted);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Whether there are enough new entries to be worth a write.
    pub(crate) fn wants_flush(&self) -> bool {
        !self.is_empty() && self.lock().pending.len() >= PENDING_MAX
    }

    /// What the file holds; `None` while there are entries in memory.
    pub(crate) fn tally(&self) -> Option<Tally> {
        let state = self.lock();
        state.pending.is_empty().then_some(state.flushed)
    }

    /// Moves the entries in memory to the file. Not synced: it is derived.
    pub(crate) fn flush(&self, place: AbortedPlace<'_>) -> io::Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        let (mut tally, pending) = {
            let state = self.lock();
            (state.flushed, state.pending.clone())
        };
        if pending.is_empty() {
            return Ok(());
        }
        let position = position_of(tally.count);
        let mut bytes = Vec::with_capacity(pending.len() * ENTRY_LEN);
        for aborted in &pending {
            let entry = aborted.to_bytes(place.base);
            tally.add(&entry);
            bytes.extend_from_slice(&entry);
        }
        let file = place.storage.open(place.path, OpenMode::Create)?;
        file.write_all_vectored_at(&[IoSlice::new(&bytes)], position)?;
        let mut state = self.lock();
        // The lane alone adds, and it is the lane that flushes: all that is pending was just written.
        state.pending = Vec::new();
        state.flushed = tally;
        Ok(())
    }

    /// Goes back to the entries that a snapshot knew of. `false` when the file does not hold just these; then there are none.
    pub(crate) fn reset(&self, place: AbortedPlace<'_>, wanted: Tally) -> io::Result<bool> {
        place.open_files.forget(self.key);
        let found = if wanted.count == 0 {
            Some(Tally::default())
        } else {
            tally_of(place, wanted.count)?
        };
        let holds = found == Some(wanted);
        let flushed = if holds { wanted } else { Tally::default() };
        let mut state = self.lock();
        self.count.store(flushed.count, Ordering::Release);
        *state = State {
            flushed,
            pending: Vec::new(),
        };
        Ok(holds)
    }

    /// Adds the transactions of a span to `found`. Says whether no later segment can have more of them. An entry that is not
    /// what was written is [`io::ErrorKind::InvalidData`].
    pub(crate) fn collect(
        &self,
        place: AbortedPlace<'_>,
        wait: Wait,
        span: Span,
        found: &mut Vec<Aborted>,
    ) -> io::Result<bool> {
        if self.is_empty() {
            return Ok(false);
        }
        let (flushed, pending) = {
            let state = self.lock();
            let from = state
                .pending
                .partition_point(|aborted| aborted.marker < span.from);
            let pending = state.pending.get(from..).unwrap_or_default().to_vec();
            (state.flushed.count, pending)
        };
        if flushed > 0 && collect_from_file(self.key, place, wait, flushed, span, found)? {
            return Ok(true);
        }
        for aborted in &pending {
            found.extend(Some(*aborted).filter(|aborted| span.meets(aborted)));
            if span.is_decided_by(aborted) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Closes the file.
    pub(crate) fn forget_file(&self, open_files: &OpenFiles) {
        open_files.forget(self.key);
    }
}

fn position_of(number: u32) -> u64 {
    u64::from(number) * ENTRY_LEN as u64
}

/// What the first `count` entries of a file are; `None` when one of them is not whole.
fn tally_of(place: AbortedPlace<'_>, count: u32) -> io::Result<Option<Tally>> {
    let file = match place.storage.open(place.path, OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut tally = Tally::default();
    while tally.count < count {
        let wanted = (count - tally.count).min(CHUNK_ENTRIES);
        let mut bytes = vec![0; wanted as usize * ENTRY_LEN];
        let read = file.read_at(&mut bytes, position_of(tally.count))?;
        if read < bytes.len() {
            return Ok(None);
        }
        for entry in bytes.as_chunks::<ENTRY_LEN>().0 {
            if Aborted::from_bytes(entry, place.base).is_none() {
                return Ok(None);
            }
            tally.add(entry);
        }
    }
    Ok(Some(tally))
}

fn collect_from_file(
    key: u64,
    place: AbortedPlace<'_>,
    wait: Wait,
    count: u32,
    span: Span,
    found: &mut Vec<Aborted>,
) -> io::Result<bool> {
    let file = place
        .open_files
        .get(key, || place.storage.open(place.path, OpenMode::Read))?;
    let mut low = 0;
    let mut high = count;
    while low < high {
        let middle = low + (high - low) / 2;
        let entries = entries_at(&*file, place.base, middle, 1, wait)?;
        if entries.iter().all(|aborted| aborted.marker < span.from) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    while low < count {
        let wanted = (count - low).min(CHUNK_ENTRIES);
        for aborted in entries_at(&*file, place.base, low, wanted, wait)? {
            found.extend(Some(aborted).filter(|aborted| span.meets(aborted)));
            if span.is_decided_by(&aborted) {
                return Ok(true);
            }
        }
        low += wanted;
    }
    Ok(false)
}

fn entries_at(
    file: &dyn File,
    base: Offset,
    number: u32,
    count: u32,
    wait: Wait,
) -> io::Result<Vec<Aborted>> {
    let mut bytes = vec![0; count as usize * ENTRY_LEN];
    let read = wait.read_at(file, &mut bytes, position_of(number))?;
    if read < bytes.len() {
        return Err(match wait {
            Wait::No => io::ErrorKind::WouldBlock.into(),
            Wait::Yes => io::ErrorKind::InvalidData.into(),
        });
    }
    let entry = |bytes: &[u8; ENTRY_LEN]| Aborted::from_bytes(bytes, base);
    let entries: Option<Vec<Aborted>> =
        bytes.as_chunks::<ENTRY_LEN>().0.iter().map(entry).collect();
    entries.ok_or_else(|| io::ErrorKind::InvalidData.into())
}
