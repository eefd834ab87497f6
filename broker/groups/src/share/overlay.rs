//! States of ranges of offsets, the later over the earlier: what is persisted of a share-partition.
//!
//! What always holds: batches are in order, do not overlap, and neighbours that say the same are one.

use std::collections::BTreeMap;

use weir_wire::Offset;

/// A state that is worth storing. The numbers are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryState {
    /// To be handed out again.
    Available,
    /// A consumer was done with it.
    Acknowledged,
    /// To be given up, once its dead letter is written.
    Archiving,
    /// Given up: rejected, or handed out too often.
    Archived,
}

impl DeliveryState {
    /// As it is stored.
    #[must_use]
    pub const fn id(self) -> i8 {
        match self {
            Self::Available => 0,
            Self::Acknowledged => 2,
            Self::Archiving => 3,
            Self::Archived => 4,
        }
    }

    /// From what is stored; `None` for what nobody stores.
    #[must_use]
    pub const fn from_id(id: i8) -> Option<Self> {
        match id {
            0 => Some(Self::Available),
            2 => Some(Self::Acknowledged),
            3 => Some(Self::Archiving),
            4 => Some(Self::Archived),
            _ => None,
        }
    }

    /// Whether nothing is left to do for a record in it.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Acknowledged | Self::Archived)
    }
}

/// What is stored of a range of offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateBatch {
    /// The first.
    pub first: Offset,
    /// The last, which is not below the first.
    pub last: Offset,
    /// In which state.
    pub state: DeliveryState,
    /// How often they were handed out.
    pub deliveries: i16,
}

/// Batches, the later over the earlier. See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    map: BTreeMap<i64, (i64, DeliveryState, i16)>,
}

impl Overlay {
    /// Lays a batch over what is there. One whose last offset is below its first changes nothing.
    pub fn put(&mut self, batch: StateBatch) {
        let (first, last) = (batch.first.0, batch.last.0);
        if first > last {
            return;
        }
        self.split(first);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        let covered: Vec<i64> = self
            .map
            .range(first..=last)
            .map(|(first, _)| *first)
            .collect();
        for key in covered {
            self.map.remove(&key);
        }
        self.map
            .insert(first, (last, batch.state, batch.deliveries));
        if let Some(next) = last.checked_add(1) {
            self.join(next);
        }
        self.join(first);
    }

    /// Lays a batch over what is there, except that what is final stays so.
    pub fn put_unless_final(&mut self, batch: StateBatch) {
        let (first, last) = (batch.first.0, batch.last.0);
        if batch.state.is_final() || first > last {
            return self.put(batch);
        }
        self.split(first);
        if let Some(next) = last.checked_add(1) {
            self.split(next);
        }
        let within = self.map.range(first..=last);
        let done = within.filter(|(_, (_, state, _))| state.is_final());
        let done: Vec<_> = done.map(|(first, rest)| (*first, *rest)).collect();
        self.put(batch);
        for (first, (last, state, deliveries)) in done {
            let (first, last) = (Offset(first), Offset(last));
            self.put(StateBatch {
                first,
                last,
                state,
                deliveries,
            });
        }
    }

    /// Forgets everything below `offset`.
    pub fn drop_below(&mut self, offset: Offset) {
        self.split(offset.0);
        self.map = self.map.split_off(&offset.0);
    }

    /// The batches, in order.
    pub fn batches(&self) -> impl Iterator<Item = StateBatch> + '_ {
        self.map
            .iter()
            .map(|(first, (last, state, deliveries))| StateBatch {
                first: Offset(*first),
                last: Offset(*last),
                state: *state,
                deliveries: *deliveries,
            })
    }

    /// How many batches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.map.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    fn split(&mut self, offset: i64) {
        let Some((_, entry)) = self.map.range_mut(..offset).next_back() else {
            return;
        };
        if entry.0 < offset {
            return;
        }
        let behind = *entry;
        entry.0 = offset - 1;
        self.map.insert(offset, behind);
    }

    fn join(&mut self, first: i64) {
        let Some(&(last, state, deliveries)) = self.map.get(&first) else {
            return;
        };
        let Some((_, before)) = self.map.range_mut(..first).next_back() else {
            return;
        };
        if before.0 + 1 == first && (before.1, before.2) == (state, deliveries) {
            before.0 = last;
            self.map.remove(&first);
        }
    }
}

impl FromIterator<StateBatch> for Overlay {
    fn from_iter<I: IntoIterator<Item = StateBatch>>(batches: I) -> Self {
        let mut overlay = Self::default();
        for batch in batches {
            overlay.put(batch);
        }
        overlay
    }
}
