//! Offsets that were committed in transactions which have not ended yet.
//!
//! A group keeps its own; [`Producers`] knows, for a whole shard, in which groups a producer has some, and which epochs its
//! batches and markers may have. What always holds: a pending offset becomes the group's by the marker that commits its
//! transaction, unless a later commit of the same partition has overtaken it; by any other marker, and by whatever deletes
//! the partition's offset, it goes.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{PartitionIndex, ProducerEpoch, ProducerId};

use crate::error::GroupError;
use crate::group::Group;
use crate::machine::{Marker, Outcome, Producer};
use crate::request::{CommittedOffset, InTransaction};
use crate::transactions::Version;
use crate::types::GroupId;

/// Producers of a shard that are remembered without having anything pending: what they may still send late is refused
/// before it comes to the log. Each takes about a hundred bytes.
const PRODUCERS_MAX: usize = 65_536;
/// When there are more, this part of them gives way at once, so that the search for the silent ones pays off.
const EVICTED_PART: usize = 8;

/// The pending offsets of one group.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingOffsets {
    by_producer: BTreeMap<ProducerId, BTreeMap<(String, PartitionIndex), PendingOffset>>,
    count: usize,
    /// Grows with each commit.
    order: u64,
}

#[derive(Debug, PartialEq, Eq)]
struct PendingOffset {
    offset: CommittedOffset,
    order: u64,
    /// A later commit is the group's already.
    is_overtaken: bool,
}

impl PendingOffsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// Whether some transaction may yet change the partition's offset.
    pub(crate) fn contains(&self, topic: &str, partition: PartitionIndex) -> bool {
        let key = (topic.to_owned(), partition);
        self.by_producer
            .values()
            .any(|offsets| offsets.contains_key(&key))
    }

    /// All partitions, each once.
    pub(crate) fn places(&self) -> BTreeSet<(String, PartitionIndex)> {
        let places = self.by_producer.values().flat_map(BTreeMap::keys);
        places.cloned().collect()
    }

    pub(crate) fn put(
        &mut self,
        producer: ProducerId,
        topic: &str,
        partition: PartitionIndex,
        offset: CommittedOffset,
    ) {
        self.order += 1;
        let pending = PendingOffset {
            offset,
            order: self.order,
            is_overtaken: false,
        };
        let offsets = self.by_producer.entry(producer).or_default();
        let before = offsets.insert((topic.to_owned(), partition), pending);
        self.count += usize::from(before.is_none());
    }

    /// A commit outside of transactions is the newest.
    pub(crate) fn overtake(&mut self, topic: &str, partition: PartitionIndex) {
        self.order += 1;
        self.overtake_before(topic, partition, self.order);
    }

    fn overtake_before(&mut self, topic: &str, partition: PartitionIndex, order: u64) {
        if self.is_empty() {
            return;
        }
        let key = (topic.to_owned(), partition);
        for offsets in self.by_producer.values_mut() {
            if let Some(pending) = offsets.get_mut(&key).filter(|other| other.order < order) {
                pending.is_overtaken = true;
            }
        }
    }

    /// The partition's offset is deleted. True when something was pending.
    pub(crate) fn remove(&mut self, topic: &str, partition: PartitionIndex) -> bool {
        if self.is_empty() {
            return false;
        }
        let key = (topic.to_owned(), partition);
        let before = self.count;
        for offsets in self.by_producer.values_mut() {
            self.count -= usize::from(offsets.remove(&key).is_some());
        }
        self.by_producer.retain(|_, offsets| !offsets.is_empty());
        self.count != before
    }

    fn take(&mut self, producer: ProducerId) -> BTreeMap<(String, PartitionIndex), PendingOffset> {
        let taken = self.by_producer.remove(&producer).unwrap_or_default();
        self.count -= taken.len();
        taken
    }
}

impl Group {
    /// A producer's transaction has ended.
    pub(crate) fn end_transaction(&mut self, producer: ProducerId, outcome: Outcome) {
        for ((topic, partition), pending) in self.pending.take(producer) {
            if outcome == Outcome::Abort || pending.is_overtaken {
                continue;
            }
            self.pending
                .overtake_before(&topic, partition, pending.order);
            self.offsets.put(&topic, partition, pending.offset);
        }
    }
}

/// What a shard knows of producers.
#[derive(Debug, Default)]
pub(crate) struct Producers {
    by_id: BTreeMap<ProducerId, Known>,
    /// How many of them have something pending, which do not give way.
    busy: usize,
    /// Markers so far.
    markers: u64,
    /// Batches and markers so far.
    uses: u64,
}

#[derive(Debug)]
struct Known {
    epoch: ProducerEpoch,
    /// Of the coordinator whose marker came last, or -1.
    coordinator_epoch: i32,
    /// How many markers there were when its own came.
    last_marker: u64,
    used: u64,
    /// Where it has offsets pending.
    groups: BTreeSet<GroupId>,
}

impl Producers {
    /// How many markers have come: to be told with a commit, after its transaction was verified.
    pub(crate) const fn markers(&self) -> u64 {
        self.markers
    }

    /// Whether the log takes a batch of this transaction, and its producer can be remembered.
    pub(crate) fn check_batch(&self, transaction: &InTransaction) -> Result<(), GroupError> {
        let Some(known) = self.by_id.get(&transaction.producer.id) else {
            return match self.is_crowded() {
                true => Err(GroupError::BoundReached),
                false => Ok(()),
            };
        };
        let epoch = transaction.producer.epoch;
        if epoch < known.epoch {
            return Err(GroupError::InvalidProducerEpoch);
        }
        // In version 0 the next transaction has the same epoch. One that ended after it was verified is not begun again,
        // or it would never end.
        let is_late = transaction.version == Version::V0
            && epoch == known.epoch
            && known.last_marker > transaction.markers_seen;
        if is_late {
            return Err(GroupError::InvalidTransactionState);
        }
        Ok(())
    }

    /// Whether the log takes the marker.
    pub(crate) fn check_marker(&self, marker: &Marker, version: Version) -> Result<(), GroupError> {
        let Some(known) = self.by_id.get(&marker.producer.id) else {
            return Ok(());
        };
        let epoch = marker.producer.epoch;
        let is_late = version == Version::V2 && epoch == known.epoch && !known.groups.is_empty();
        if epoch < known.epoch || is_late {
            return Err(GroupError::InvalidProducerEpoch);
        }
        if marker.coordinator_epoch < known.coordinator_epoch {
            return Err(GroupError::TransactionCoordinatorFenced);
        }
        Ok(())
    }

    /// A producer has an offset pending in a group.
    pub(crate) fn wrote(&mut self, producer: Producer, group: &GroupId) {
        let known = self.known(producer);
        known.epoch = producer.epoch;
        let was_idle = known.groups.is_empty();
        known.groups.insert(group.clone());
        self.busy += usize::from(was_idle);
    }

    /// A marker has come. Gives the groups in which the producer had something pending.
    pub(crate) fn ended(&mut self, marker: &Marker) -> BTreeSet<GroupId> {
        self.markers += 1;
        if self.is_crowded() && !self.by_id.contains_key(&marker.producer.id) {
            // It has nothing pending, and there is no room to remember that its epoch is over.
            return BTreeSet::new();
        }
        let markers = self.markers;
        let known = self.known(marker.producer);
        known.epoch = known.epoch.max(marker.producer.epoch);
        known.coordinator_epoch = marker.coordinator_epoch;
        known.last_marker = markers;
        let groups = std::mem::take(&mut known.groups);
        self.busy -= usize::from(!groups.is_empty());
        groups
    }

    /// As many as there may be have something pending, so that none gives way to another.
    fn is_crowded(&self) -> bool {
        self.busy >= PRODUCERS_MAX
    }

    fn known(&mut self, producer: Producer) -> &mut Known {
        let has_idle = self.busy < self.by_id.len();
        let is_full = self.by_id.len() >= PRODUCERS_MAX;
        if is_full && has_idle && !self.by_id.contains_key(&producer.id) {
            self.evict();
        }
        self.uses += 1;
        let known = self.by_id.entry(producer.id).or_insert_with(|| Known {
            epoch: producer.epoch,
            coordinator_epoch: -1,
            last_marker: 0,
            used: 0,
            groups: BTreeSet::new(),
        });
        known.used = self.uses;
        known
    }

    fn evict(&mut self) {
        let idle = self
            .by_id
            .iter()
            .filter(|(_, known)| known.groups.is_empty());
        let mut idle: Vec<(u64, ProducerId)> = idle.map(|(id, known)| (known.used, *id)).collect();
        idle.sort_unstable();
        for (_, id) in idle.into_iter().take(PRODUCERS_MAX / EVICTED_PART) {
            self.by_id.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use weir_wire::{ProducerEpoch, ProducerId};

    use super::{PRODUCERS_MAX, Producers};
    use crate::error::GroupError;
    use crate::machine::{Marker, Outcome, Producer};
    use crate::request::InTransaction;
    use crate::transactions::Version;

    fn producer(id: usize) -> Producer {
        Producer {
            id: ProducerId(i64::try_from(id).unwrap_or(i64::MAX)),
            epoch: ProducerEpoch(0),
        }
    }

    fn marker(id: usize) -> Marker {
        Marker {
            producer: producer(id),
            outcome: Outcome::Commit,
            coordinator_epoch: 0,
        }
    }

    #[test]
    fn producers_with_offsets_pending_are_bounded_and_one_more_is_refused() {
        let mut producers = Producers::default();
        let wants = |id: usize| InTransaction {
            producer: producer(id),
            version: Version::V2,
            markers_seen: 0,
        };
        for id in 0..PRODUCERS_MAX {
            assert_eq!(producers.check_batch(&wants(id)), Ok(()));
            producers.wrote(producer(id), &"group".into());
        }
        assert_eq!(
            producers.check_batch(&wants(PRODUCERS_MAX)),
            Err(GroupError::BoundReached)
        );
        assert_eq!(
            producers.check_batch(&wants(0)),
            Ok(()),
            "one that is known"
        );
        // Nor does a marker of another make room.
        producers.ended(&marker(PRODUCERS_MAX));
        assert_eq!(producers.by_id.len(), PRODUCERS_MAX);
        producers.ended(&marker(0));
        assert_eq!(producers.check_batch(&wants(PRODUCERS_MAX)), Ok(()));
        producers.wrote(producer(PRODUCERS_MAX), &"group".into());
        assert_eq!(
            (producers.by_id.len(), producers.busy),
            (PRODUCERS_MAX, PRODUCERS_MAX)
        );
    }
}
