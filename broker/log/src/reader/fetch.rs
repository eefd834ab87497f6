//! Reads whole batches from one segment.
//!
//! One read of the file serves most fetches: it starts at the index entry before the wanted offset, and takes a little more
//! than was asked for, so that the batches between the two are in it as well.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::Offset;
use weir_wire::batch::{BatchHeader, HEADER_LEN};

use super::{Batches, FileSlice};
use crate::error::ReadError;
use crate::files::{FileError, Wait};
use crate::mutants::Mutant;
use crate::seek::{Sought, Start};
use crate::segment::Segment;
use crate::shared::{Shared, segment_at};
use crate::storage::File;
use crate::walk::{Walk, WalkError};

/// What a fetch asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Want {
    pub(super) from: Offset,
    pub(super) up_to: Offset,
    pub(super) max_bytes: usize,
    pub(super) min_one_batch: bool,
}

impl Want {
    /// Whether a batch may be added to `taken` bytes.
    fn takes(&self, header: &BatchHeader, taken: u64) -> bool {
        let fits = taken + header.total_len() as u64 <= self.max_bytes as u64;
        header.last_offset() < self.up_to && (fits || (taken == 0 && self.min_one_batch))
    }
}

/// The segment to read from, open.
struct Place {
    segment: Arc<Segment>,
    file: Arc<dyn File>,
}

/// Checks the range; `None` when there is nothing to read.
fn place(shared: &Shared, want: &mut Want) -> Result<Option<Place>, ReadError> {
    // The end first: a start that moves beyond it in between is then seen as such.
    let end = shared.log_end();
    let start = shared.log_start();
    if want.from < start || want.from > end {
        return Err(ReadError::OffsetOutOfRange {
            wanted: want.from,
            start,
            end,
        });
    }
    want.up_to = want.up_to.min(end);
    if want.from >= want.up_to {
        return Ok(None);
    }
    if let Some(damage) = shared
        .damage()
        .filter(|damage| damage.offsets.contains(&want.from))
    {
        return Err(ReadError::Corrupt(damage));
    }
    let segments = shared.segments();
    let Some(segment) = segments.get(segment_at(&segments, want.from)) else {
        return Ok(None);
    };
    let file = segment.file(&shared.dir, &shared.path)?;
    Ok(Some(Place {
        segment: Arc::clone(segment),
        file,
    }))
}

fn nothing(want: Want) -> Batches {
    Batches {
        bytes: Bytes::new(),
        base_offset: want.from,
        next_offset: want.from,
    }
}

pub(super) fn read(shared: &Shared, mut want: Want, wait: Wait) -> Result<Batches, ReadError> {
    let Some(Place { segment, file }) = place(shared, &mut want)? else {
        return Ok(nothing(want));
    };
    let sought = Sought {
        segment: &segment,
        file: &*file,
        wait,
    };
    let relative = u32::try_from(want.from.0 - segment.base.0).unwrap_or(u32::MAX);
    let mut start = shared.start(&sought, |entry| entry.relative_offset <= relative)?;
    let slack = shared.index_interval_bytes() as usize + HEADER_LEN;
    let mut read_bytes = want.max_bytes.saturating_add(slack);
    loop {
        let window = Window::read(shared, &sought, start, read_bytes)?;
        match window.cut(shared, &segment, want)? {
            Cut::Batches {
                from,
                until,
                base_offset,
                next_offset,
            } => {
                return Ok(Batches {
                    bytes: window.share(from, until),
                    base_offset,
                    next_offset,
                });
            }
            // The batch does not fit what the caller takes, or is not below its bound.
            Cut::Nothing => return Ok(nothing(want)),
            Cut::Short { at, .. } if wait == Wait::No && window.is_short() && at == start => {
                return Err(ReadError::WouldBlock);
            }
            Cut::Short { at, needs } => {
                if at == start && window.is_short() {
                    return Err(shared.ends_early(&segment, at.offset));
                }
                start = at;
                read_bytes = needs.max(read_bytes.min(want.max_bytes));
            }
        }
    }
}

/// How much may lie between the index entry before what is wanted and the log's end for one read to take all of it.
const TAIL_BYTES: u64 = 32 << 10;

/// What consumers that keep up ask for, in one read of the file, which is where most of a small fetch's time goes; `None` when there is
/// more to read, or anything is not as it should be: [`slice()`] and [`read()`] say what.
pub(super) fn read_tail(shared: &Shared, mut want: Want) -> Result<Option<Batches>, ReadError> {
    if Mutant::BelieveIndex.is_active() {
        return Ok(None);
    }
    let Some(Place { segment, file }) = place(shared, &mut want)? else {
        return Ok(Some(nothing(want)));
    };
    let sought = Sought {
        segment: &segment,
        file: &*file,
        wait: Wait::No,
    };
    let relative = u32::try_from(want.from.0 - segment.base.0).unwrap_or(u32::MAX);
    // Not asked whether the entry is true: the window begins with the batch that it speaks of.
    let start = shared.entry(&sought, |entry| entry.relative_offset <= relative)?;
    let left = segment.size().saturating_sub(start.position);
    if left > TAIL_BYTES {
        return Ok(None);
    }
    let window = Window::read(shared, &sought, start, TAIL_BYTES as usize)?;
    Ok(match window.cut(shared, &segment, want) {
        Ok(Cut::Batches {
            from,
            until,
            base_offset,
            next_offset,
        }) => Some(Batches {
            bytes: window.share(from, until),
            base_offset,
            next_offset,
        }),
        Ok(Cut::Nothing | Cut::Short { .. }) | Err(_) => None,
    })
}

/// A part of a segment in memory, from a batch's beginning on.
struct Window {
    start: Start,
    asked: usize,
    bytes: Vec<u8>,
}

enum Cut {
    /// These bytes of the window are the batches to return.
    Batches {
        from: usize,
        until: usize,
        base_offset: Offset,
        next_offset: Offset,
    },
    /// There is none to return.
    Nothing,
    /// Read again, from here and at least so much.
    Short { at: Start, needs: usize },
}

impl Window {
    fn read(
        shared: &Shared,
        sought: &Sought<'_>,
        start: Start,
        wanted: usize,
    ) -> Result<Self, ReadError> {
        let left = usize::try_from(sought.segment.size().saturating_sub(start.position))
            .unwrap_or(usize::MAX);
        let asked = wanted.min(left);
        let mut bytes = vec![0; asked];
        let read = sought
            .wait
            .read_at(sought.file, &mut bytes, start.position)
            .map_err(FileError::of(
                "reading",
                &sought.segment.log_path(&shared.path),
            ))?;
        bytes.truncate(read);
        Ok(Self {
            start,
            asked,
            bytes,
        })
    }

    /// Whether the file gave less than it should have.
    fn is_short(&self) -> bool {
        self.bytes.len() < self.asked
    }

    fn header(
        &self,
        shared: &Shared,
        segment: &Segment,
        at: usize,
        expected: Offset,
    ) -> Result<Option<BatchHeader>, ReadError> {
        let Some(bytes) = self.bytes.get(at..at + HEADER_LEN) else {
            return Ok(None);
        };
        let bad = |found: String| {
            let position = self.start.position + at as u64;
            shared.walk_error(
                segment,
                WalkError::Bad {
                    position,
                    expected,
                    found,
                },
            )
        };
        let header = BatchHeader::parse(bytes).map_err(|error| bad(error.to_string()))?;
        if header.base_offset != expected || header.last_offset_delta < 0 {
            return Err(bad(format!(
                "a batch that says it holds {}..={}",
                header.base_offset,
                header.last_offset()
            )));
        }
        Ok(Some(header))
    }

    fn cut(&self, shared: &Shared, segment: &Segment, want: Want) -> Result<Cut, ReadError> {
        let mut at = 0;
        let mut expected = self.start.offset;
        // Past the batches before the wanted one.
        let first = loop {
            let here = Start {
                position: self.start.position + at as u64,
                offset: expected,
            };
            let Some(header) = self.header(shared, segment, at, expected)? else {
                if here.position + HEADER_LEN as u64 > segment.size() {
                    return Err(shared.ends_early(segment, expected));
                }
                return Ok(Cut::Short {
                    at: here,
                    needs: HEADER_LEN,
                });
            };
            if header.next_offset() > want.from {
                break here;
            }
            at += header.total_len();
            expected = header.next_offset();
        };
        let from = at;
        while expected < want.up_to {
            let header = match self.header(shared, segment, at, expected) {
                Ok(Some(header)) => header,
                Ok(None) => break,
                // What is before it can be read; the next read begins here and says so.
                Err(_) if at > from => break,
                Err(error) => return Err(error),
            };
            if !want.takes(&header, (at - from) as u64) {
                if at == from {
                    return Ok(Cut::Nothing);
                }
                break;
            }
            if at + header.total_len() > self.bytes.len() {
                if at == from {
                    if first.position + header.total_len() as u64 > segment.size() {
                        return Err(shared.ends_early(segment, expected));
                    }
                    return Ok(Cut::Short {
                        at: first,
                        needs: header.total_len(),
                    });
                }
                break;
            }
            at += header.total_len();
            expected = header.next_offset();
        }
        if at == from {
            return Ok(Cut::Short {
                at: first,
                needs: HEADER_LEN,
            });
        }
        Ok(Cut::Batches {
            from,
            until: at,
            base_offset: first.offset,
            next_offset: expected,
        })
    }

    /// The bytes by reference, unless that would pin a buffer more than twice as large.
    fn share(self, from: usize, until: usize) -> Bytes {
        if (until - from) < self.bytes.capacity() / 2 {
            return Bytes::copy_from_slice(&self.bytes[from..until]);
        }
        Bytes::from(self.bytes).slice(from..until)
    }
}

pub(super) fn slice(shared: &Shared, mut want: Want, wait: Wait) -> Result<FileSlice, ReadError> {
    let Some(Place { segment, file }) = place(shared, &mut want)? else {
        let segments = shared.segments();
        let last = segments.last().ok_or(ReadError::Gone)?;
        let file = last.file(&shared.dir, &shared.path)?;
        return Ok(FileSlice {
            file,
            position: 0,
            len: 0,
            base_offset: want.from,
            next_offset: want.from,
        });
    };
    let sought = Sought {
        segment: &segment,
        file: &*file,
        wait,
    };
    let first = shared.find(&sought, want.from)?;
    // The index leads near the end, so that not every header on the way is read.
    let most = first.position + want.max_bytes as u64;
    let relative_end = u32::try_from(want.up_to.0 - segment.base.0).unwrap_or(u32::MAX);
    let near_end = shared.start(&sought, |entry| {
        u64::from(entry.position) <= most && entry.relative_offset <= relative_end
    })?;
    let begin = Start {
        position: first.position,
        offset: first.header.base_offset,
    };
    let from = if near_end.position > begin.position {
        near_end
    } else {
        begin
    };
    let mut walk = Walk::new(&*file, from.position, segment.size(), from.offset, wait);
    let mut end = from;
    while let Some(placed) = walk
        .next()
        .map_err(|error| shared.walk_error(&segment, error))?
    {
        if !want.takes(&placed.header, placed.position - begin.position) {
            break;
        }
        end = Start {
            position: placed.end_position(),
            offset: placed.header.next_offset(),
        };
    }
    probe(shared, &sought, begin.position..end.position)?;
    Ok(FileSlice {
        file: Arc::clone(&file),
        position: begin.position,
        len: end.position - begin.position,
        base_offset: begin.offset,
        next_offset: if end.position == begin.position {
            want.from
        } else {
            end.offset
        },
    })
}

/// Between two looks at whether the page cache has a byte. It takes in and lets go of runs of pages, so that a run that is
/// missed is short; a look costs less than a thousandth of what sending so much does.
const PROBE_BYTES: usize = 64 << 10;

/// Whether a range can be sent without waiting for the disk, as far as looks at some of its bytes can tell; who may wait, waits
/// until it can, and has as much again read meanwhile for who asks next.
fn probe(shared: &Shared, sought: &Sought<'_>, range: Range<u64>) -> Result<(), ReadError> {
    if sought.wait == Wait::Yes {
        let len = range.end - range.start;
        sought.file.will_read(range.start, 2 * len);
    }
    let last = range.end.saturating_sub(1).max(range.start);
    for position in range.step_by(PROBE_BYTES).chain([last]) {
        sought
            .wait
            .read_at(sought.file, &mut [0], position)
            .map_err(|error| {
                FileError::of("reading", &sought.segment.log_path(&shared.path))(error)
            })?;
    }
    Ok(())
}
