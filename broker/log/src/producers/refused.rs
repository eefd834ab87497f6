//! Batches of idempotent producers that were refused for good, before they became part of what is remembered of them.
//!
//! A producer does not send such a batch again, and its next ones, which may be on their way already, leave it out. Here they are taken all
//! the same: a sequence follows if only refused batches lie between. And the same batch again, by a producer that has not heard of the refusal, is refused
//! again: that its sequence lies behind would be fatal to librdkafka. Nothing else may leave a gap: behind a batch that was refused for the
//! moment librdkafka takes the next success for an acknowledgement of both.
//!
//! In memory, for one leader epoch: a new leader knows of no refusals and says OUT_OF_ORDER_SEQUENCE_NUMBER, on which clients begin
//! a new epoch. Not for transactions: one with a refused batch is aborted, and Java's producer uses the sequences again.

use std::collections::BTreeMap;

use weir_wire::batch::BatchHeader;
use weir_wire::{LeaderEpoch, ProducerEpoch, ProducerId};

/// As many batches as a client may have in flight.
const RANGES_KEPT: usize = 5;
/// Producers of one partition that were refused something: some 100 bytes each. Beyond it the one is forgotten that was refused
/// something longest ago.
const PRODUCERS_MAX: usize = 1_000;

/// First and last sequence of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    first: i32,
    last: i32,
}

impl Range {
    fn of(header: &BatchHeader) -> Self {
        let first = header.base_sequence;
        Self {
            first,
            last: first.wrapping_add(header.last_offset_delta) & i32::MAX,
        }
    }

    fn has(self, sequence: i32) -> bool {
        // Sequences go from the greatest `i32` to 0.
        let ahead = |of: i32| of.wrapping_sub(self.first) & i32::MAX;
        ahead(sequence) <= ahead(self.last)
    }

    fn overlaps(self, other: Self) -> bool {
        self.has(other.first) || other.has(self.first)
    }
}

#[derive(Clone, Debug)]
struct Refused {
    epoch: ProducerEpoch,
    /// Oldest first.
    ranges: Vec<Range>,
    /// When something of it was refused last, counted in refusals.
    at: u64,
}

/// What was refused in one partition. See the module.
#[derive(Clone, Debug, Default)]
pub(crate) struct Refusals {
    leader_epoch: Option<LeaderEpoch>,
    by_id: BTreeMap<ProducerId, Refused>,
    count: u64,
}

impl Refusals {
    /// Whether a batch, where `expected` would have been next, is taken all the same: only ones lie between that the leader of this epoch refused.
    pub(crate) fn leads(
        &self,
        header: &BatchHeader,
        leader_epoch: LeaderEpoch,
        expected: i32,
    ) -> bool {
        let Some(refused) = self.of(header, leader_epoch) else {
            return false;
        };
        let mut next = expected;
        // Each range is passed once.
        for _ in 0..refused.ranges.len() {
            let Some(range) = refused.ranges.iter().find(|range| range.first == next) else {
                return false;
            };
            next = range.last.wrapping_add(1) & i32::MAX;
            if next == header.base_sequence {
                return true;
            }
        }
        false
    }

    /// Whether the leader of this epoch refused this very batch.
    pub(crate) fn has(&self, header: &BatchHeader, leader_epoch: LeaderEpoch) -> bool {
        let range = Range::of(header);
        self.of(header, leader_epoch)
            .is_some_and(|refused| refused.ranges.contains(&range))
    }

    /// A batch is refused by the leader of this epoch.
    pub(crate) fn add(&mut self, header: &BatchHeader, leader_epoch: LeaderEpoch) {
        if !is_remembered(header) {
            return;
        }
        if self.leader_epoch != Some(leader_epoch) {
            self.by_id.clear();
            self.leader_epoch = Some(leader_epoch);
        }
        self.count += 1;
        let new = || Refused {
            epoch: header.producer_epoch,
            ranges: Vec::new(),
            at: 0,
        };
        let refused = self.by_id.entry(header.producer_id).or_insert_with(new);
        if refused.epoch != header.producer_epoch {
            *refused = new();
        }
        refused.at = self.count;
        let range = Range::of(header);
        refused.ranges.retain(|other| !other.overlaps(range));
        if refused.ranges.len() == RANGES_KEPT {
            refused.ranges.remove(0);
        }
        refused.ranges.push(range);
        if self.by_id.len() > PRODUCERS_MAX {
            let oldest = self.by_id.iter().min_by_key(|(_, refused)| refused.at);
            if let Some(id) = oldest.map(|(id, _)| *id) {
                self.by_id.remove(&id);
            }
        }
    }

    /// A batch is taken by the leader of this epoch: sequences that it uses were not refused.
    pub(crate) fn taken(&mut self, header: &BatchHeader, leader_epoch: LeaderEpoch) {
        if self.by_id.is_empty() {
            return;
        }
        if self.leader_epoch != Some(leader_epoch) {
            self.by_id.clear();
            return;
        }
        let range = Range::of(header);
        if let Some(refused) = self.by_id.get_mut(&header.producer_id) {
            refused.ranges.retain(|other| !other.overlaps(range));
            if refused.ranges.is_empty() || refused.epoch != header.producer_epoch {
                self.by_id.remove(&header.producer_id);
            }
        }
    }

    fn of(&self, header: &BatchHeader, leader_epoch: LeaderEpoch) -> Option<&Refused> {
        self.by_id
            .get(&header.producer_id)
            .filter(|refused| refused.epoch == header.producer_epoch && is_remembered(header))
            .filter(|_| self.leader_epoch == Some(leader_epoch))
    }
}

fn is_remembered(header: &BatchHeader) -> bool {
    header.producer_id.0 >= 0
        && header.base_sequence >= 0
        && !header.attributes.is_transactional()
        && !header.attributes.is_control()
}
