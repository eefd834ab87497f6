//! Which batches of a log belong to transactions that were aborted, and which markers end transactions of which nothing is
//! left: found out while the log is walked from its beginning, once.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::batch::{BatchHeader, BatchView, ControlRecord};
use weir_wire::{Offset, ProducerId};

/// A transaction that was aborted, as the log's index of these has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AbortedTransaction {
    pub(crate) producer_id: ProducerId,
    /// The first batch's base offset.
    pub(crate) first_offset: Offset,
}

/// The transactions that are under way where the walk is.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that begin further on; the next one is the last.
    ahead: Vec<AbortedTransaction>,
    /// Aborted ones, and whether a batch of theirs was met.
    aborted: BTreeMap<ProducerId, bool>,
    /// Producers of which a batch was met that was not aborted, and no marker since.
    committed: BTreeSet<ProducerId>,
}

impl Transactions {
    /// Those that were aborted from where the walk begins, in any order.
    pub(super) fn new(mut aborted: Vec<AbortedTransaction>) -> Self {
        aborted.sort_by_key(|one| std::cmp::Reverse((one.first_offset, one.producer_id)));
        Self {
            ahead: aborted,
            ..Self::default()
        }
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(one) = self.ahead.pop_if(|one| one.first_offset <= offset) {
            self.aborted.entry(one.producer_id).or_insert(false);
        }
    }

    /// Whether a batch that is no marker was aborted.
    pub(super) fn is_aborted(&mut self, header: &BatchHeader) -> bool {
        self.reach(header.last_offset());
        if !header.attributes.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&header.producer_id) {
            Some(met) => {
                *met = true;
                true
            }
            None => {
                self.committed.insert(header.producer_id);
                false
            }
        }
    }

    /// Whether a marker ends a transaction of which nothing was met, so that nobody needs it any more. A marker of a kind that
    /// is not known is needed.
    pub(super) fn is_needless(&mut self, batch: &BatchView<'_>) -> bool {
        let header = batch.header();
        self.reach(header.last_offset());
        match batch.control() {
            Ok(Some(ControlRecord::Abort)) => {
                // What comes next from this producer is of another transaction.
                self.committed.remove(&header.producer_id);
                !self.aborted.remove(&header.producer_id).unwrap_or(false)
            }
            Ok(Some(ControlRecord::Commit)) => !self.committed.remove(&header.producer_id),
            Ok(None | Some(ControlRecord::Other(_))) | Err(_) => false,
        }
    }
}
