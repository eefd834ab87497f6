//! Which leader epoch each offset was written under.
//!
//! A short list of (epoch, first offset), both growing. It answers OffsetForLeaderEpoch and is what followers agree on
//! before they truncate (KIP-101, KIP-279). Rebuilt from state snapshot and log.

use weir_wire::{LeaderEpoch, Offset};

use crate::reader::EpochEnd;

/// Epochs and where they begin, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    starts: Vec<(LeaderEpoch, Offset)>,
}

impl Epochs {
    /// From a snapshot; `None` when the list does not grow.
    pub(crate) fn from_starts(starts: Vec<(LeaderEpoch, Offset)>) -> Option<Self> {
        let grows = starts.windows(2).all(|pair| match pair {
            [(epoch, start), (next_epoch, next_start)] => epoch < next_epoch && start <= next_start,
            _ => true,
        });
        grows.then_some(Self { starts })
    }

    pub(crate) fn starts(&self) -> &[(LeaderEpoch, Offset)] {
        &self.starts
    }

    pub(crate) fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|(epoch, _)| *epoch)
    }

    /// A batch of this epoch begins at `offset`, the log's end. An epoch that began there and has no batch any more is forgotten, as it
    /// would be by whoever reads the log.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, offset: Offset) {
        if self.latest().is_none_or(|latest| latest < epoch) {
            self.cut(offset);
            self.starts.push((epoch, offset));
        }
    }

    /// The log ends at `end` now.
    pub(crate) fn cut(&mut self, end: Offset) {
        self.starts.retain(|(_, start)| *start < end);
    }

    /// The log begins at `start` now: epochs before it are forgotten, the one that holds it begins there. So does the first when that
    /// is known from a later one on only: the log's start was taken back to where the batch begins that held it.
    pub(crate) fn begin_at(&mut self, start: Offset) {
        let later = self.starts.partition_point(|(_, first)| *first <= start);
        if later > 1 {
            self.starts.drain(..later - 1);
        }
        if let Some((_, first)) = self.starts.first_mut() {
            *first = start;
        }
    }

    pub(crate) fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let until = self.starts.partition_point(|(_, start)| *start <= offset);
        self.starts
            .get(until.checked_sub(1)?)
            .map(|(epoch, _)| *epoch)
    }

    /// Kafka's rule: the greatest epoch at most `asked`, and where the next begins; the asked one and the first start
    /// when all are greater; nothing when `asked` is beyond the latest.
    pub(crate) fn end_of(&self, asked: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        if self.latest().is_none_or(|latest| asked > latest) {
            return None;
        }
        let until = self.starts.partition_point(|(epoch, _)| *epoch <= asked);
        let end_offset = self.starts.get(until).map_or(log_end, |(_, start)| *start);
        let epoch = match until.checked_sub(1).and_then(|at| self.starts.get(at)) {
            Some((epoch, _)) => *epoch,
            None => asked,
        };
        Some(EpochEnd { epoch, end_offset })
    }
}
