//! Which batches of a log belong to transactions that were aborted, and which markers end transactions of which nothing is
//! left: found out while the log is walked from its beginning, once.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::batch::{BatchHeader, BatchView, ControlRecord};
use weir_wire::{Offset, ProducerId};

use crate::aborted::Aborted;

/// The transactions that are under way where the walk is.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that begin further on; the next one is the last.
    ahead: Vec<Aborted>,
    /// Aborted ones, and whether a batch of theirs was met.
    aborted: BTreeMap<ProducerId, bool>,
    /// Producers of which a batch was met that was not aborted, and no marker since.
    committed: BTreeSet<ProducerId>,
}

impl Transactions {
    /// Those that were aborted from where the walk begins, in any order.
    pub(super) fn new(mut aborted: Vec<Aborted>) -> Self {
        aborted.sort_by_key(|one| std::cmp::Reverse((one.first, one.id)));
        Self {
            ahead: aborted,
            ..Self::default()
        }
    }

    fn reach(&mut self, offset: Offset) {
        while let Some(one) = self.ahead.pop_if(|one| one.first <= offset) {
            self.aborted.entry(one.id).or_insert(false);
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
