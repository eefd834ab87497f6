//! Messages that come twice, known by their ids within a window of time.
//!
//! For producers that cannot be idempotent: who sends an id again within the window is told the offset of the first, and nothing is
//! appended. Owned by the one writer of a partition, and made anew from the log's headers when leadership moves. What always holds: an id that was appended
//! less than a window ago is known, unless more than [`IDS_MAX`] have come since.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};
use weir_wire::Offset;

use crate::Millis;

/// Ids that one partition remembers, of about 80 bytes each: 80 MB where somebody asks for that much. Who sends more within the window has the oldest
/// forgotten early, which is counted.
pub const IDS_MAX: usize = 1_000_000;

/// An id's hash, of 128 bits: two ids that share one are not met.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(pub u128);

impl MessageId {
    /// Of an id as a header has it.
    #[must_use]
    pub fn of(id: &[u8]) -> Self {
        let hash = Sha256::digest(id);
        let half = hash.first_chunk().copied().unwrap_or_default();
        Self(u128::from_be_bytes(half))
    }
}

/// The ids of one partition. See the module.
#[derive(Clone, Debug)]
pub struct Window {
    window_ms: u64,
    ids_max: usize,
    offsets: BTreeMap<MessageId, Offset>,
    /// In the order of their coming.
    by_time: VecDeque<(Millis, MessageId, Offset)>,
    forgotten_early: u64,
}

impl Window {
    /// An empty window of this length.
    #[must_use]
    pub fn new(window_ms: u64) -> Self {
        Self::with_bound(window_ms, IDS_MAX)
    }

    fn with_bound(window_ms: u64, ids_max: usize) -> Self {
        Self {
            window_ms,
            ids_max,
            offsets: BTreeMap::new(),
            by_time: VecDeque::new(),
            forgotten_early: 0,
        }
    }

    /// Another length from now on. What was forgotten stays so.
    pub fn set_window(&mut self, window_ms: u64) {
        self.window_ms = window_ms;
    }

    /// Where a message with this id is, if one came within the window.
    pub fn find(&mut self, id: MessageId, now: Millis) -> Option<Offset> {
        self.expire(now);
        self.offsets.get(&id).copied()
    }

    /// Whether a message with this id came, as far as nobody has looked for when.
    #[must_use]
    pub fn knows(&self, id: MessageId) -> bool {
        self.offsets.contains_key(&id)
    }

    /// A message with this id was appended.
    pub fn remember(&mut self, id: MessageId, offset: Offset, now: Millis) {
        self.expire(now);
        // Clocks that go back make nothing older.
        let now = self.by_time.back().map_or(now, |(last, ..)| now.max(*last));
        self.offsets.insert(id, offset);
        self.by_time.push_back((now, id, offset));
        while self.by_time.len() > self.ids_max {
            self.forget_oldest();
            self.forgotten_early += 1;
        }
    }

    /// Nothing from `end` on is in the log: an append failed, or a leader was wrong.
    pub fn truncated(&mut self, end: Offset) {
        while let Some((_, id, offset)) = self.by_time.back().copied()
            && offset >= end
        {
            self.by_time.pop_back();
            if self.offsets.get(&id) == Some(&offset) {
                self.offsets.remove(&id);
            }
        }
    }

    /// Ids that gave way to others before their time.
    #[must_use]
    pub fn forgotten_early(&self) -> u64 {
        self.forgotten_early
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    fn expire(&mut self, now: Millis) {
        while let Some((came, ..)) = self.by_time.front()
            && came.after(self.window_ms) <= now
        {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        if let Some((_, id, offset)) = self.by_time.pop_front()
            && self.offsets.get(&id) == Some(&offset)
        {
            self.offsets.remove(&id);
        }
    }
}
