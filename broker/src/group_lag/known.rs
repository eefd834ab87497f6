//! What is known of groups: pure bookkeeping.
//!
//! A look may miss something, and what it misses must not look like a group that has caught up:
//!
//! - A partition whose leader cannot be asked stands where it stood last.
//! - One that was never known, since this broker coordinates the group only now, leaves its topic without a lag: the sum of the
//!   others would be too low, and nothing says so.
//! - A group whose shard does not answer stays as it was, as long as this broker is to serve the shard.
//! - What a look does say is all there is: groups, topics and partitions that it does not have any more are forgotten.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::PartitionIndex;

/// Where a group stands in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Records that it has yet to read.
    pub(super) records: i64,
    /// When the oldest of them was written; `None` when there is none.
    pub(super) oldest_ms: Option<i64>,
}

/// A group as a look has found it.
#[derive(Clone, Debug, Default)]
pub(super) struct Group {
    pub(super) members: usize,
    /// By topic and partition; `None` where that could not be learnt.
    pub(super) topics: BTreeMap<String, BTreeMap<i32, Option<Place>>>,
}

/// What a look has found.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// All groups of the shards that have answered; `None` for one that could not be asked itself.
    pub(super) groups: BTreeMap<String, Option<Group>>,
    /// Shards that this broker is to serve and that have not answered.
    pub(super) silent: BTreeSet<PartitionIndex>,
}

/// How far a group is behind in a topic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lag {
    pub(super) records: i64,
    pub(super) seconds: i64,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Known {
    groups: BTreeMap<String, Group>,
}

impl Known {
    /// Takes in what a look has found.
    pub(super) fn take(&mut self, look: Look, shard_of: impl Fn(&str) -> Option<PartitionIndex>) {
        let mut before = std::mem::take(&mut self.groups);
        for (id, found) in look.groups {
            let was = before.remove(&id);
            let now = match (found, was) {
                (Some(found), Some(was)) => Some(found.or_as_it_was(&was)),
                (found, was) => found.or(was),
            };
            self.groups.extend(now.map(|group| (id, group)));
        }
        let is_silent = |id: &str| shard_of(id).is_some_and(|shard| look.silent.contains(&shard));
        before.retain(|id, _| is_silent(id));
        self.groups.append(&mut before);
    }

    /// Each group's members.
    pub(super) fn members(&self) -> impl Iterator<Item = (&str, usize)> {
        let groups = self.groups.iter();
        groups.map(|(id, group)| (id.as_str(), group.members))
    }

    /// The lag of each pair of a group and a topic of which all is known.
    pub(super) fn lags(&self, now_ms: i64) -> impl Iterator<Item = ((&str, &str), Lag)> {
        self.groups.iter().flat_map(move |(id, group)| {
            group.topics.iter().filter_map(move |(topic, places)| {
                let mut lag = Lag::default();
                for place in places.values() {
                    let place = place.as_ref()?;
                    lag.records = lag.records.saturating_add(place.records);
                    let age_ms = place.oldest_ms.map_or(0, |at| now_ms.saturating_sub(at));
                    lag.seconds = lag.seconds.max(age_ms / 1_000);
                }
                Some(((id.as_str(), topic.as_str()), lag))
            })
        })
    }
}

impl Group {
    fn or_as_it_was(mut self, was: &Self) -> Self {
        for (topic, places) in &mut self.topics {
            let Some(before) = was.topics.get(topic) else {
                continue;
            };
            for (partition, place) in places {
                *place = place.or_else(|| before.get(partition).copied().flatten());
            }
        }
        self
    }
}
