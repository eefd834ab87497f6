//! What stays of one batch.

use std::collections::BTreeMap;

use bytes::Bytes;
use tracing::warn;
use weir_wire::batch::{BatchHeader, BatchView, RecordView, Rewrite, RewriteError};
use weir_wire::{Offset, ProducerEpoch, ProducerId};

use super::map::OffsetMap;
use super::transactions::Transactions;

/// The last that a producer wrote into the partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LastBatch {
    pub(crate) epoch: ProducerEpoch,
    /// The last record's offset; none when only markers are left.
    pub(crate) last_offset: Option<Offset>,
}

/// What decides for a whole pass.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub(crate) now_ms: i64,
    /// How long tombstones are kept (`delete.retention.ms`).
    pub(crate) delete_retention_ms: i64,
    /// Of each producer that the log remembers.
    pub(crate) producers: BTreeMap<ProducerId, LastBatch>,
}

/// What is done with a batch.
#[derive(Debug)]
pub(super) enum Verdict {
    /// It stays as it is.
    Keep,
    /// Nothing of it stays.
    Drop,
    /// This stays of it.
    Replace(Bytes),
}

impl Rules {
    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        let last = self.producers.get(&header.producer_id);
        last.is_some_and(|last| match last.last_offset {
            Some(offset) => header.last_offset() == offset,
            None => header.attributes.is_control() && header.producer_epoch == last.epoch,
        })
    }

    /// Nothing but the header stays, and that only if its producer goes on from it.
    fn empty(&self, header: &BatchHeader) -> Result<Verdict, RewriteError> {
        match (self.is_last_of_producer(header), header.record_count) {
            (false, _) => Ok(Verdict::Drop),
            (true, 0) => Ok(Verdict::Keep),
            (true, _) => Ok(Verdict::Replace(Rewrite::of(header, None).build()?)),
        }
    }

    /// Judges a batch. One whose records cannot be read stays: topics that were not compacted before take anything.
    pub(super) fn judge(
        &self,
        batch: &BatchView<'_>,
        map: &OffsetMap,
        transactions: &mut Transactions,
    ) -> Verdict {
        let judged = if batch.header().attributes.is_control() {
            self.judge_marker(batch, transactions)
        } else {
            self.judge_records(batch, map, transactions)
        };
        judged.unwrap_or_else(|error| {
            warn!(offset = %batch.header().base_offset, %error, "a batch cannot be read, and is left as it is");
            Verdict::Keep
        })
    }

    fn judge_marker(
        &self,
        batch: &BatchView<'_>,
        transactions: &mut Transactions,
    ) -> Result<Verdict, RewriteError> {
        let header = batch.header();
        if !transactions.is_needless(batch) {
            return Ok(Verdict::Keep);
        }
        match horizon(header) {
            // The last that is known of a producer: its epoch is told by nothing else.
            _ if self.is_last_of_producer(header) => Ok(Verdict::Keep),
            Some(horizon) if horizon <= self.now_ms => Ok(Verdict::Drop),
            Some(_) => Ok(Verdict::Keep),
            None => {
                let mut rewrite = Rewrite::of(header, Some(self.new_horizon()));
                for record in batch.inflated()?.iter()? {
                    rewrite.keep(&record?);
                }
                Ok(Verdict::Replace(rewrite.build()?))
            }
        }
    }

    fn judge_records(
        &self,
        batch: &BatchView<'_>,
        map: &OffsetMap,
        transactions: &mut Transactions,
    ) -> Result<Verdict, RewriteError> {
        let header = batch.header();
        if transactions.is_aborted(header) || header.record_count == 0 {
            return self.empty(header);
        }
        let horizon = horizon(header);
        let tombstones_go = horizon.is_some_and(|horizon| horizon <= self.now_ms);
        let stays = |record: &RecordView<'_>| {
            // What is not in the map is judged by a later pass.
            record.offset >= map.end()
                || record.key.is_some_and(|key| {
                    let is_last = map.get(key).is_none_or(|last| record.offset >= last);
                    is_last && (record.value.is_some() || !tombstones_go)
                })
        };
        let inflated = batch.inflated()?;
        let (mut kept, mut tombstones) = (Vec::new(), false);
        for record in inflated.iter()? {
            let record = record?;
            if stays(&record) {
                tombstones |= record.value.is_none() && record.offset < map.end();
                kept.push(record);
            }
        }
        let new_horizon = (tombstones && horizon.is_none()).then(|| self.new_horizon());
        if kept.is_empty() {
            return self.empty(header);
        }
        if new_horizon.is_none() && kept.len() as i64 == i64::from(header.record_count) {
            return Ok(Verdict::Keep);
        }
        let mut rewrite = Rewrite::of(header, new_horizon);
        for record in &kept {
            rewrite.keep(record);
        }
        Ok(Verdict::Replace(rewrite.build()?))
    }

    fn new_horizon(&self) -> i64 {
        self.now_ms.saturating_add(self.delete_retention_ms)
    }
}

/// Until when the batch's tombstones are kept, once a pass has said so.
fn horizon(header: &BatchHeader) -> Option<i64> {
    let says = header.attributes.has_delete_horizon();
    says.then_some(header.base_timestamp_ms)
}

/// Whether a batch only takes the place of others.
pub(super) fn is_filler(header: &BatchHeader) -> bool {
    header.record_count == 0
        && header.producer_id == ProducerId::NONE
        && !header.attributes.is_control()
}
