//! Which transactions of a partition are not settled yet: open, or ended by a marker that is not below the high watermark.
//!
//! The lane tells it what it has written; anyone asks. It follows from the log, and is made anew from the producers' state when
//! a log is opened or cut. Bounded by the producers' table; empty for a partition without transactions.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{Offset, ProducerEpoch, ProducerId};

use crate::producers::{Ended, Producers, Step};

/// An open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Open {
    epoch: ProducerEpoch,
    first: Offset,
}

/// The transactions of one partition that are not settled.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Transactions {
    open: BTreeMap<ProducerId, Open>,
    open_firsts: BTreeSet<Offset>,
    /// First offset and marker of those that have ended, in the order of their markers.
    ended: Vec<(Offset, Offset)>,
    /// From here on nothing is known: the log is damaged there.
    unknown_from: Option<Offset>,
}

impl Transactions {
    /// The open ones of a log.
    pub(crate) fn of(producers: &Producers) -> Self {
        let mut transactions = Self::default();
        for (id, epoch, first) in producers.open() {
            transactions.apply(&Step::Open { id, epoch, first });
        }
        transactions
    }

    /// A batch was written that did this.
    pub(crate) fn apply(&mut self, step: &Step) {
        match *step {
            Step::Open { id, epoch, first } => {
                self.open.insert(id, Open { epoch, first });
                self.open_firsts.insert(first);
            }
            Step::Ended(Ended {
                id, first, marker, ..
            }) => {
                self.open.remove(&id);
                self.open_firsts.remove(&first);
                self.ended.push((first, marker));
            }
        }
    }

    /// The offset below which everything is decided and will not change, given the high watermark; which never goes back, so
    /// that what lies below it is forgotten.
    pub(crate) fn last_stable(&mut self, high_watermark: Offset) -> Offset {
        let settled = self
            .ended
            .partition_point(|(_, marker)| *marker < high_watermark);
        self.ended.drain(..settled);
        if self.ended.is_empty() {
            self.ended = Vec::new();
        }
        let ended = self.ended.iter().map(|(first, _)| *first);
        let open = self.open_firsts.first().copied();
        let undecided = open.into_iter().chain(self.unknown_from);
        ended.chain(undecided).fold(high_watermark, Offset::min)
    }

    /// Nothing is known from `offset` on, so that nothing there is decided.
    pub(crate) fn unknown_from(&mut self, offset: Offset) {
        self.unknown_from = Some(offset);
    }

    /// Whether a producer has a transaction open under this epoch.
    pub(crate) fn is_ongoing(&self, id: ProducerId, epoch: ProducerEpoch) -> bool {
        self.open.get(&id).is_some_and(|open| open.epoch == epoch)
    }

    /// How many are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }
}
