//! Checks a segment's batches one by one, checksums included.

use std::io::IoSlice;

use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, HEADER_LEN};

use crate::error::OpenError;
use crate::files::{FileError, SYNCING, Wait};
use crate::seek::{Sought, entry_for};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::storage::{File, OpenMode};
use crate::walk::{Placed, Walk};

/// How much is read, and written again, at once.
const CHUNK_BYTES: usize = 1 << 20;
/// Where what the checksum covers begins.
const CRC_FROM: u64 = 21;

/// How far a segment is whole.
#[derive(Debug)]
pub(super) struct Scanned {
    /// Where the last whole batch ends.
    pub(super) position: u64,
    /// The offset after it.
    pub(super) offset: Offset,
    /// Whole batches behind the first that is not.
    pub(super) batches_behind: u64,
}

/// Checks from `from`, where the batch of offset `expected` must begin, and makes the index entries on the way.
pub(super) fn scan(
    shared: &Shared,
    segment: &Segment,
    from: u64,
    expected: Offset,
) -> Result<Scanned, OpenError> {
    let file = segment.file(&shared.dir, &shared.path)?;
    let path = segment.log_path(&shared.path);
    let io = |error| OpenError::from(FileError::of("reading", &path)(error));
    segment.with_index(&shared.dir, &shared.path, |index, place| {
        index.cut(place, from)
    })?;
    let mut window = Window::new(&*file);
    let sought = Sought {
        segment,
        file: &*file,
        wait: Wait::Yes,
    };
    // Without it there are no new entries, and searches are slower.
    let mut newest = shared.newest_before(&sought, from).ok();
    let mut scanned = Scanned {
        position: from,
        offset: expected,
        batches_behind: 0,
    };
    let interval = shared.index_interval_bytes();
    let mut since = 0;
    while let Some(placed) = window.batch(scanned.position, segment.size()).map_err(io)? {
        let header = placed.header;
        if header.base_offset != scanned.offset || !window.is_whole(&placed).map_err(io)? {
            scanned.batches_behind =
                count_behind(&mut window, &placed, segment.size()).map_err(io)?;
            break;
        }
        if let Some(newest) = newest.as_mut() {
            if since >= interval
                && let Some(entry) = entry_for(segment, &placed, *newest)
            {
                segment.index.add(entry);
                since = 0;
            }
            *newest = (*newest).max(header.max_timestamp_ms);
        }
        since += header.total_len() as u64;
        scanned.position = placed.end_position();
        scanned.offset = header.next_offset();
        if segment.index.wants_flush() {
            segment.with_index(&shared.dir, &shared.path, |index, place| index.flush(place))?;
        }
    }
    Ok(scanned)
}

/// Cuts a segment behind what is whole, and makes what is left durable. `again`: what was scanned is written once more, so
/// that it is certainly dirty, and certainly goes to disk with the sync.
pub(super) fn settle(
    shared: &Shared,
    segment: &Segment,
    from: u64,
    scanned: &Scanned,
    again: bool,
) -> Result<(), OpenError> {
    let cut = scanned.position < segment.size();
    if scanned.position > from || cut {
        let path = segment.log_path(&shared.path);
        let file = shared
            .dir
            .storage()
            .open(&path, OpenMode::Write)
            .map_err(FileError::of("opening", &path))?;
        if again {
            write_again(&*file, from, scanned.position).map_err(FileError::of("writing", &path))?;
        }
        if cut {
            file.set_len(scanned.position)
                .map_err(FileError::of("cutting", &path))?;
        }
        file.sync_data().map_err(FileError::of(SYNCING, &path))?;
    }
    segment.publish(scanned.position, scanned.offset);
    Ok(())
}

fn write_again(file: &dyn File, from: u64, until: u64) -> std::io::Result<()> {
    let mut chunk = vec![0; CHUNK_BYTES.min((until - from) as usize)];
    let mut position = from;
    while position < until {
        let wanted = chunk.len().min((until - position) as usize);
        let read = file.read_at(&mut chunk[..wanted], position)?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all_vectored_at(&[IoSlice::new(&chunk[..read])], position)?;
        position += read as u64;
    }
    Ok(())
}

/// How many batches of a segment that is about to be dropped look whole.
pub(super) fn whole_batches(shared: &Shared, segment: &Segment) -> Result<u64, OpenError> {
    let file = segment.file(&shared.dir, &shared.path)?;
    let mut walk = Walk::new(&*file, 0, segment.size(), segment.base, Wait::Yes);
    let mut count = 0;
    while let Ok(Some(_)) = walk.next() {
        count += 1;
    }
    Ok(count)
}

fn count_behind(window: &mut Window<'_>, bad: &Placed, limit: u64) -> std::io::Result<u64> {
    let mut count = 0;
    let mut position = bad.end_position();
    while let Some(placed) = window.batch(position, limit)? {
        if !window.is_whole(&placed)? {
            break;
        }
        count += 1;
        position = placed.end_position();
    }
    Ok(count)
}

/// A part of the file in memory; batches larger than it are read through it piece by piece, so that a length that is
/// nonsense costs no memory.
struct Window<'a> {
    file: &'a dyn File,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> Window<'a> {
    fn new(file: &'a dyn File) -> Self {
        Self {
            file,
            at: 0,
            bytes: Vec::new(),
        }
    }

    /// The bytes at `position`, at least `wanted` of them unless the file ends before.
    fn bytes(&mut self, position: u64, wanted: usize) -> std::io::Result<&[u8]> {
        let held =
            position >= self.at && position + wanted as u64 <= self.at + self.bytes.len() as u64;
        if !held {
            self.bytes.resize(CHUNK_BYTES, 0);
            let read = self.file.read_at(&mut self.bytes, position)?;
            self.bytes.truncate(read);
            self.at = position;
        }
        Ok(&self.bytes[(position - self.at) as usize..])
    }

    /// The batch at `position`, if there is one by its header and it ends within the limit.
    fn batch(&mut self, position: u64, limit: u64) -> std::io::Result<Option<Placed>> {
        if position >= limit {
            return Ok(None);
        }
        let Ok(header) = BatchHeader::parse(self.bytes(position, HEADER_LEN)?) else {
            return Ok(None);
        };
        let placed = Placed { position, header };
        Ok((header.last_offset_delta >= 0 && placed.end_position() <= limit).then_some(placed))
    }

    /// Whether the batch's checksum fits.
    fn is_whole(&mut self, placed: &Placed) -> std::io::Result<bool> {
        let mut checksum = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
        let end = placed.end_position();
        let mut position = placed.position + CRC_FROM;
        while position < end {
            let bytes = self.bytes(position, 1)?;
            if bytes.is_empty() {
                return Ok(false);
            }
            let count = bytes
                .len()
                .min(usize::try_from(end - position).unwrap_or(usize::MAX));
            checksum.update(&bytes[..count]);
            position += count as u64;
        }
        Ok(checksum.finalize() as u32 == placed.header.crc)
    }
}
