//! Which offset of a log is of which level.
//!
//! Owns the levels of all offsets from the oldest message that counts to the end of what was read, in chunks of [`CHUNK`] offsets. A
//! chunk of one level takes no more than its head, one of few runs 4 bytes for each, any other half a byte for each offset: 48 bytes for 4,096 messages
//! at best, 2,096 at worst, whatever the batches are like. What always holds: each chunk counts its messages of each level, so that what has none of a
//! level is passed over by one look.

use std::collections::VecDeque;

use weir_wire::Offset;

use super::{LEVELS, Level};

/// Offsets of a chunk.
const CHUNK: usize = 4_096;
/// Offsets of a chunk, as an offset.
const SPAN: i64 = 4_096;
/// Bytes of a chunk that is packed.
const PACKED: usize = CHUNK / 2;
/// Runs of a chunk, at most, where that is smaller than the packed form.
const RUNS_MAX: usize = PACKED / 4;
/// No message for consumers is at this offset.
const NOTHING: u8 = 15;

/// The levels of a part of the log. See the module.
#[derive(Clone, Debug, Default)]
pub struct Levels {
    /// The first offset of the first chunk.
    base: i64,
    /// Everything before it does not count.
    start: i64,
    /// Behind the last offset that is known.
    end: i64,
    /// Those that are full.
    chunks: VecDeque<Chunk>,
    /// The last one.
    open: Open,
}

#[derive(Clone, Debug)]
struct Chunk {
    counts: [u16; LEVELS],
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    One(u8),
    /// Where each run begins, and its level.
    Runs(Box<[(u16, u8)]>),
    Packed(Box<[u8]>),
}

#[derive(Clone, Debug)]
struct Open {
    counts: [u16; LEVELS],
    packed: Box<[u8; PACKED]>,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            counts: [0; LEVELS],
            packed: Box::new([0xff; PACKED]),
        }
    }
}

/// A run of offsets of one level, or of none.
type Run = (i64, i64, Option<Level>);

impl Levels {
    /// Nothing is known from `start` on.
    #[must_use]
    pub fn new(start: Offset) -> Self {
        Self {
            base: start.0,
            start: start.0,
            end: start.0,
            ..Self::default()
        }
    }

    /// Behind the last offset that is known.
    #[must_use]
    pub fn end(&self) -> Offset {
        Offset(self.end)
    }

    /// From the end to `last` all are of this level; `None`: nothing for consumers is there. A `last` before the end changes nothing.
    pub fn push(&mut self, last: Offset, level: Option<Level>) {
        let code = level.map_or(NOTHING, Level::number);
        while self.end <= last.0 {
            let at = self.place(self.end).1;
            let count = (SPAN - at).min(last.0 - self.end + 1);
            if count == SPAN {
                self.chunks.push_back(Chunk::of_one(code));
            } else {
                self.open.set(at, count, code);
                if at + count == SPAN {
                    self.chunks
                        .push_back(std::mem::take(&mut self.open).close());
                }
            }
            self.end += count;
        }
    }

    /// Lets go of everything before `start`, which may lie behind the end.
    pub fn drop_below(&mut self, start: Offset) {
        if start.0 >= self.end {
            *self = Self::new(start);
            return;
        }
        self.start = self.start.max(start.0);
        while self.base + SPAN <= self.start && self.chunks.pop_front().is_some() {
            self.base += SPAN;
        }
    }

    /// The level of a message. `None` where none is known.
    #[must_use]
    pub fn of(&self, offset: Offset) -> Option<Level> {
        let is_known = (self.start..self.end).contains(&offset.0);
        let run = is_known.then(|| self.run_from(offset.0));
        run.and_then(|(_, _, level)| level)
    }

    /// The first message of a level from an offset on.
    #[must_use]
    pub fn next(&self, level: Level, from: Offset) -> Option<Offset> {
        let mut at = from.0.max(self.start);
        while at < self.end {
            let (chunk, within) = self.place(at);
            if self.counts(chunk)[level.index()] == 0 {
                at += SPAN - within;
                continue;
            }
            let (first, last, found) = self.run_from(at);
            if found == Some(level) {
                return Some(Offset(first));
            }
            at = last + 1;
        }
        None
    }

    /// Messages of a level from an offset on and before another.
    #[must_use]
    pub fn count(&self, level: Level, from: Offset, until: Offset) -> u64 {
        let mut at = from.0.max(self.start);
        let until = until.0.min(self.end);
        let mut count = 0;
        while at < until {
            let (chunk, within) = self.place(at);
            let in_chunk = self.counts(chunk)[level.index()];
            if in_chunk == 0 || (within == 0 && until - at >= SPAN) {
                count += u64::from(in_chunk);
                at += SPAN - within;
                continue;
            }
            let (first, last, found) = self.run_from(at);
            let last = last.min(until - 1);
            if found == Some(level) {
                count += last.abs_diff(first) + 1;
            }
            at = last + 1;
        }
        count
    }

    /// What lies in a range, as far as it is known, in order; neighbours may be of the same level.
    pub fn runs(&self, first: Offset, last: Offset) -> impl Iterator<Item = Run> {
        let mut at = first.0.max(self.start);
        let until = last.0.min(self.end - 1);
        std::iter::from_fn(move || {
            (at <= until).then(|| {
                let (first, last, level) = self.run_from(at);
                at = last + 1;
                (first, last.min(until), level)
            })
        })
    }

    /// Bytes that it takes.
    #[must_use]
    pub fn memory(&self) -> usize {
        let bodies = self.chunks.iter().map(|chunk| match &chunk.body {
            Body::One(_) => 0,
            Body::Runs(runs) => size_of_val(&**runs),
            Body::Packed(packed) => packed.len(),
        });
        self.chunks.capacity() * size_of::<Chunk>()
            + bodies.sum::<usize>()
            + PACKED
            + size_of::<Self>()
    }

    /// In which chunk an offset is, and where in it.
    fn place(&self, offset: i64) -> (usize, i64) {
        let from_base = offset - self.base;
        let chunk = usize::try_from(from_base / SPAN).unwrap_or(0);
        (chunk, from_base % SPAN)
    }

    fn counts(&self, chunk: usize) -> &[u16; LEVELS] {
        let full = self.chunks.get(chunk).map(|chunk| &chunk.counts);
        full.unwrap_or(&self.open.counts)
    }

    /// The rest, within its chunk, of the run that has a known offset.
    fn run_from(&self, offset: i64) -> Run {
        let (chunk, within) = self.place(offset);
        let at = usize::try_from(within).unwrap_or(0);
        let (last, code) = match self.chunks.get(chunk).map(|chunk| &chunk.body) {
            None => packed_run(&*self.open.packed, at),
            Some(Body::Packed(packed)) => packed_run(packed, at),
            Some(Body::One(code)) => (CHUNK - 1, *code),
            Some(Body::Runs(runs)) => {
                let behind = runs.partition_point(|(first, _)| usize::from(*first) <= at);
                let last = runs
                    .get(behind)
                    .map_or(CHUNK, |(next, _)| usize::from(*next))
                    - 1;
                (last, runs[behind - 1].1)
            }
        };
        let last = offset + i64::try_from(last - at).unwrap_or(0);
        (offset, last.min(self.end - 1), Level::new(code))
    }
}

impl Chunk {
    fn of_one(code: u8) -> Self {
        let mut counts = [0; LEVELS];
        if let Some(count) = counts.get_mut(usize::from(code)) {
            *count = CHUNK as u16;
        }
        Self {
            counts,
            body: Body::One(code),
        }
    }
}

impl Open {
    fn set(&mut self, at: i64, count: i64, code: u8) {
        let (at, count) = (
            usize::try_from(at).unwrap_or(0),
            usize::try_from(count).unwrap_or(0),
        );
        for offset in at..at + count {
            let byte = &mut self.packed[offset / 2];
            *byte = match offset % 2 {
                0 => (*byte & 0xf0) | code,
                _ => (*byte & 0x0f) | (code << 4),
            };
        }
        if let Some(of_level) = self.counts.get_mut(usize::from(code)) {
            *of_level += u16::try_from(count).unwrap_or(0);
        }
    }

    fn close(self) -> Chunk {
        let mut runs = Vec::new();
        let mut at = 0;
        while at < CHUNK && runs.len() <= RUNS_MAX {
            let (last, code) = packed_run(&*self.packed, at);
            runs.push((u16::try_from(at).unwrap_or(0), code));
            at = last + 1;
        }
        let body = match runs.as_slice() {
            [(_, code)] => Body::One(*code),
            _ if runs.len() <= RUNS_MAX => Body::Runs(runs.into()),
            _ => Body::Packed(self.packed),
        };
        Chunk {
            counts: self.counts,
            body,
        }
    }
}

fn code_at(packed: &[u8], at: usize) -> u8 {
    (packed[at / 2] >> (4 * (at % 2))) & 0x0f
}

/// The last offset of the run that has `at`, and its code.
fn packed_run(packed: &[u8], at: usize) -> (usize, u8) {
    let code = code_at(packed, at);
    let next = (at + 1..CHUNK).find(|next| code_at(packed, *next) != code);
    (next.unwrap_or(CHUNK) - 1, code)
}
