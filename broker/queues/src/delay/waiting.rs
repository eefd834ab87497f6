//! What waits in one partition, with the far buckets in memory too, packed.
//!
//! Nothing of it is on disk beside the log: a message that is not near takes some six bytes ([`Packed`]), so that ten million of them take
//! 60 MB; near ones take some thirty. Who leads next makes it anew from the log.

use weir_wire::Offset;

use super::packed::Packed;
use super::{Delays, Entry, Work};
use crate::Millis;

/// The messages of one partition that wait.
#[derive(Clone, Debug)]
pub struct Waiting {
    delays: Delays,
    packed: Packed,
}

impl Waiting {
    /// Nothing waits.
    #[must_use]
    pub fn new(now: Millis) -> Self {
        Self {
            delays: Delays::new(now, None),
            packed: Packed::default(),
        }
    }

    /// A message, when the log is read from its start: passed over if it was released before.
    pub fn replay(&mut self, entry: Entry) {
        self.delays.replay(entry);
        self.pack();
    }

    /// The log says, further on, that all up to this one were released.
    pub fn released_to(&mut self, last: Entry) {
        self.delays.released_to(last);
    }

    /// A message that was appended, not due before [`floor`](Self::floor).
    pub fn add(&mut self, entry: Entry) {
        let due = self.delays.add(entry.due, entry.at);
        debug_assert_eq!(due, entry.due, "it was written down with another time");
        self.pack();
    }

    /// What is appended from now on must not be due before this, or it would be taken for released.
    #[must_use]
    pub fn floor(&self) -> Millis {
        self.delays.last().map_or(Millis(0), |last| last.due)
    }

    /// Takes out at most `count` that are due, in order.
    pub fn take_due(&mut self, now: Millis, count: usize) -> Vec<Entry> {
        let mut taken = self.delays.take_due(now, count);
        // Buckets that have come near are opened one by one; what they have may be due already.
        while self.pack() {
            taken.extend(self.delays.take_due(now, count - taken.len()));
        }
        taken
    }

    /// When to look for what is due next, if nothing comes before.
    #[must_use]
    pub fn next_wake(&self) -> Option<Millis> {
        self.delays.next_wake()
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.delays.waiting()
    }

    /// Whether none does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When the next one is due; of one that is far, when its bucket begins.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.delays.next_due()
    }

    /// The least offset of one that waits. Looks at all that are near.
    #[must_use]
    pub fn oldest(&self) -> Option<Offset> {
        let near = self.delays.oldest_near();
        near.into_iter().chain(self.packed.oldest()).min()
    }

    /// Bytes that the far ones take.
    #[must_use]
    pub fn packed_bytes(&self) -> usize {
        self.packed.bytes()
    }

    /// Whether anything was opened.
    fn pack(&mut self) -> bool {
        let mut has_opened = false;
        loop {
            let work = self.delays.take_work();
            if work.is_empty() {
                return has_opened;
            }
            for one in work {
                match one {
                    Work::Spill(bucket, entries) => self.packed.put(bucket, &entries),
                    Work::Load(bucket) => {
                        has_opened = true;
                        let entries = self.packed.take(bucket);
                        self.delays.loaded(bucket, entries, true);
                    }
                }
            }
        }
    }
}
