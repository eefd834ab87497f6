//! What a partition remembers of its idempotent and transactional producers (KIP-98, KIP-890): epochs, the last ten batches of
//! each, and where the transaction began that a producer has open.
//!
//! Pure: (state, batch) → verdict, and nothing else. A batch that was seen before is a duplicate and gets its first offsets
//! back; one that leaves a gap, is of a fenced epoch, or belongs to no ongoing transaction is refused. The state is bounded: the
//! producers that have been silent for longest give way, but for those with an open transaction: nothing but a marker may end
//! that. It is rebuilt from a snapshot and the log's headers and markers.

mod known;
mod producer;
mod refused;
mod rules;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use weir_wire::batch::EndTransactionMarker;
use weir_wire::{Offset, ProducerEpoch, ProducerId};

use crate::clean::LastBatch;
pub use known::KnownProducers;
pub(crate) use producer::Producer;
use producer::SeenBatch;
pub(crate) use refused::Refusals;
pub(crate) use rules::{Arriving, Verdict};
pub use rules::{Origin, Verified};
pub(crate) use snapshot::{Snapshot, decode, encode};

/// When the table is full, this part of it gives way at once, so that the search for the silent ones pays off.
const EVICTED_PART: usize = 8;

/// What a table was like before a batch, for one that could not be written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    id: ProducerId,
    before: Option<Producer>,
}

/// One producer, as DescribeProducers tells of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProducerState {
    /// Who.
    pub producer_id: ProducerId,
    /// The greatest epoch seen.
    pub producer_epoch: ProducerEpoch,
    /// The sequence of the last record of that epoch, or -1.
    pub last_sequence: i32,
    /// The greatest timestamp of the last batch or marker.
    pub last_timestamp_ms: i64,
    /// Of the coordinator whose marker came last, or -1.
    pub coordinator_epoch: i32,
    /// Where the transaction begins that is open.
    pub transaction_start: Option<Offset>,
}

/// What a batch did to its producer's transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It is open, from `first` on.
    Open {
        id: ProducerId,
        epoch: ProducerEpoch,
        first: Offset,
    },
    /// It has ended.
    Ended(Ended),
}

/// A transaction and the marker that ended it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) id: ProducerId,
    pub(crate) first: Offset,
    pub(crate) marker: Offset,
    pub(crate) is_commit: bool,
    /// Everything below was decided once the marker was written: where the first transaction begins that is still open, or the
    /// offset after the marker.
    pub(crate) decided_to: Offset,
}

/// A batch as it was remembered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remembered {
    pub(crate) undo: Undo,
    pub(crate) step: Option<Step>,
}

/// All producers of a partition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Producer>,
    /// Open transactions by their first offsets.
    open: BTreeMap<Offset, ProducerId>,
}

impl Producers {
    pub(crate) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    /// All of them, by id.
    pub(crate) fn describe(&self) -> Vec<ProducerState> {
        let state = |(id, producer): (&ProducerId, &Producer)| ProducerState {
            producer_id: *id,
            producer_epoch: producer.epoch,
            last_sequence: producer.last_sequence(),
            last_timestamp_ms: producer.last_timestamp_ms,
            coordinator_epoch: producer.coordinator_epoch,
            transaction_start: producer.transaction,
        };
        self.by_id.iter().map(state).collect()
    }

    /// The last that each of them wrote, for compaction.
    pub(crate) fn last_batches(&self) -> BTreeMap<ProducerId, LastBatch> {
        let last = |producer: &Producer| LastBatch {
            epoch: producer.epoch,
            last_offset: producer.batches().last().map(|seen| seen.last_offset()),
        };
        self.by_id
            .iter()
            .map(|(id, producer)| (*id, last(producer)))
            .collect()
    }

    /// Open transactions: whose, and where they begin.
    pub(crate) fn open(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch, Offset)> {
        self.open.iter().filter_map(|(first, id)| {
            let producer = self.by_id.get(id)?;
            Some((*id, producer.epoch, *first))
        })
    }

    /// Remembers a batch that is appended, as `header` says with its assigned base offset.
    pub(crate) fn remember(&mut self, arriving: &Arriving, now_ms: i64) -> Option<Remembered> {
        let header = &arriving.header;
        let id = header.producer_id;
        let is_marker = header.attributes.is_control();
        if id.0 < 0 || is_marker && arriving.marker.is_none() {
            return None;
        }
        let before = self.by_id.get(&id).copied();
        let mut producer = before.unwrap_or_else(|| Producer::new(header.producer_epoch));
        producer.enter(header.producer_epoch);
        producer.last_seen_ms = now_ms;
        producer.last_timestamp_ms = header.max_timestamp_ms;
        let opened = producer.transaction;
        match arriving.marker {
            Some(EndTransactionMarker {
                coordinator_epoch, ..
            }) => {
                producer.coordinator_epoch = coordinator_epoch;
                producer.transaction = None;
                producer.last_marker = header.base_offset;
            }
            None => {
                if header.base_sequence >= 0 {
                    producer.push(SeenBatch::of(header));
                }
                if header.attributes.is_transactional() {
                    producer.transaction.get_or_insert(header.base_offset);
                }
            }
        }
        self.put(id, Some(producer));
        let step = match (arriving.marker, opened) {
            (Some(marker), Some(first)) => Some(Step::Ended(Ended {
                id,
                first,
                marker: header.base_offset,
                is_commit: marker.is_commit,
                decided_to: self.first_open().unwrap_or(header.next_offset()),
            })),
            (Some(_), None) => None,
            (None, _) => step_of_data(id, before.as_ref(), &producer),
        };
        Some(Remembered {
            undo: Undo { id, before },
            step,
        })
    }

    /// Takes a batch back that was not written. In reverse order of what was remembered.
    pub(crate) fn undo(&mut self, undo: Undo) {
        self.put(undo.id, undo.before);
    }

    fn first_open(&self) -> Option<Offset> {
        self.open.keys().next().copied()
    }

    fn put(&mut self, id: ProducerId, producer: Option<Producer>) {
        let opened = producer.and_then(|producer| producer.transaction);
        let before = match producer {
            Some(producer) => self.by_id.insert(id, producer),
            None => self.by_id.remove(&id),
        };
        if let Some(first) = before.and_then(|before| before.transaction) {
            self.open.remove(&first);
        }
        if let Some(first) = opened {
            self.open.insert(first, id);
        }
    }

    /// Forgets who has been silent since before `deadline_ms`, but for those with an open transaction.
    pub(crate) fn expire(&mut self, deadline_ms: i64) {
        self.by_id.retain(|_, producer| {
            producer.transaction.is_some() || producer.last_seen_ms >= deadline_ms
        });
    }

    /// Brings the table down to its bound: the producers give way that have been silent for longest and have no transaction
    /// open. Nothing may be staged, or it could not be taken back.
    pub(crate) fn trim(&mut self, producers_max: usize) {
        if self.by_id.len() <= producers_max {
            return;
        }
        let idle = |producer: &Producer| producer.transaction.is_none();
        let mut seen: Vec<i64> = self
            .by_id
            .values()
            .filter(|producer| idle(producer))
            .map(|producer| producer.last_seen_ms)
            .collect();
        let surplus = self.by_id.len() - producers_max;
        let evicted = (surplus + producers_max / EVICTED_PART).min(seen.len());
        if evicted == 0 {
            return;
        }
        let (_, youngest_evicted, _) = seen.select_nth_unstable(evicted - 1);
        let youngest_evicted = *youngest_evicted;
        let mut left = evicted;
        self.by_id.retain(|_, producer| {
            let goes = left > 0 && idle(producer) && producer.last_seen_ms <= youngest_evicted;
            left -= usize::from(goes);
            !goes
        });
    }
}

/// What a batch of records did: it began a transaction, or went on with one under a new epoch.
fn step_of_data(id: ProducerId, before: Option<&Producer>, now: &Producer) -> Option<Step> {
    let first = now.transaction?;
    let is_news =
        before.is_none_or(|before| before.transaction.is_none() || before.epoch != now.epoch);
    is_news.then_some(Step::Open {
        id,
        epoch: now.epoch,
        first,
    })
}
