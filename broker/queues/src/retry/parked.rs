//! Messages that wait for their next delivery.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::Offset;

use crate::Millis;

/// The messages of one share-partition that wait, by when. Bounded by the window of the share-partition, which has them all.
#[derive(Clone, Debug, Default)]
pub struct Parked {
    by_due: BTreeSet<(Millis, Offset)>,
    due: BTreeMap<Offset, Millis>,
}

impl Parked {
    /// Lets a message wait. One that waits already waits for the new time.
    pub fn park(&mut self, offset: Offset, due: Millis) {
        if let Some(before) = self.due.insert(offset, due) {
            self.by_due.remove(&(before, offset));
        }
        self.by_due.insert((due, offset));
    }

    /// Takes out at most `count` messages whose time has come: what was due first comes first.
    pub fn take_due(&mut self, now: Millis, count: usize) -> Vec<Offset> {
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some((due, offset)) = self.by_due.first().copied()
            && due <= now
        {
            self.by_due.remove(&(due, offset));
            self.due.remove(&offset);
            taken.push(offset);
        }
        taken
    }

    /// When the next one's time comes.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        self.by_due.first().map(|(due, _)| *due)
    }

    /// Whether a message waits.
    #[must_use]
    pub fn is_parked(&self, offset: Offset) -> bool {
        self.due.contains_key(&offset)
    }

    /// How many wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.due.len()
    }

    /// Whether none waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.due.is_empty()
    }

    /// Lets go of a message, whenever its time would have come. `true` when it waited.
    pub fn forget(&mut self, offset: Offset) -> bool {
        let due = self.due.remove(&offset);
        due.is_some_and(|due| self.by_due.remove(&(due, offset)))
    }

    /// Lets go of everything before `start`: the log has it no more.
    pub fn drop_below(&mut self, start: Offset) {
        let kept = self.due.split_off(&start);
        for (offset, due) in std::mem::replace(&mut self.due, kept) {
            self.by_due.remove(&(due, offset));
        }
    }
}
