//! Batches of the partition's leader on their way into a follower's log: byte for byte as the leader has them.
//!
//! The leader has judged them, given them their offsets, their epoch and, where the topic wants it, its time. What is asked here
//! is only that they go on where the log ends, so that two logs cannot drift apart unseen. Producers and transactions are
//! remembered on the way, so that a follower that becomes leader knows them as its predecessor did.

use std::ops::Range;

use bytes::Bytes;
use weir_wire::Offset;
use weir_wire::batch::{BatchView, HEADER_LEN};

use super::PartitionLog;
use super::replay::may_be_marker;
use super::staging::Staged;
use crate::error::AppendError;
use crate::mutants::Mutant;
use crate::producers::Arriving;

#[cfg(test)]
mod tests;

impl PartitionLog {
    /// Takes a leader's batches over, all of them or none. Nothing is written yet. Says where the log ends with them.
    pub(crate) fn stage_replica(
        &mut self,
        batches: &Bytes,
        now_ms: i64,
    ) -> Result<Offset, AppendError> {
        if let Some(damage) = self.shared.damage() {
            return Err(AppendError::Damaged(damage));
        }
        for (place, arriving) in self.following(batches)? {
            let header = arriving.header;
            let remembered = match Mutant::FollowerForgetsProducers.is_active() {
                true => None,
                false => self.producers.remember(&arriving, now_ms),
            };
            self.latest_epoch = Some(header.leader_epoch);
            self.staged_end = header.next_offset();
            self.staged.push(Staged {
                head: [0; HEADER_LEN],
                head_len: 0,
                bytes: batches.clone(),
                rest: place,
                header,
                remembered,
            });
        }
        Ok(self.staged_end)
    }

    /// The batches and where they lie, when they are whole, go on where the log ends, and their epochs do not go back.
    fn following(&self, batches: &Bytes) -> Result<Vec<(Range<usize>, Arriving)>, AppendError> {
        let malformed = |error| AppendError::Malformed(format!("{error}"));
        let mut expected = self.staged_end;
        let mut latest = self.latest_epoch;
        let mut at = 0;
        let mut found = Vec::new();
        while at < batches.len() {
            let (batch, _) = BatchView::split_first(&batches[at..]).map_err(malformed)?;
            let header = *batch.header();
            if header.base_offset != expected {
                return Err(AppendError::NotContiguous {
                    got: header.base_offset,
                    expected,
                });
            }
            if header.last_offset_delta < 0 {
                return Err(AppendError::Malformed(format!(
                    "last offset delta {}",
                    header.last_offset_delta
                )));
            }
            if let Some(latest) = latest.filter(|latest| header.leader_epoch < *latest) {
                return Err(AppendError::StaleEpoch {
                    got: header.leader_epoch,
                    latest,
                });
            }
            let marker = match may_be_marker(&header) {
                true => batch.end_transaction().map_err(malformed)?,
                false => None,
            };
            let end = at + header.total_len();
            found.push((at..end, Arriving { header, marker }));
            expected = header.next_offset();
            latest = Some(header.leader_epoch);
            at = end;
        }
        Ok(found)
    }
}
