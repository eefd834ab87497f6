//! `uniform`: as many partitions for each member as for any other, and each stays with whom it was.
//!
//! First everyone keeps what it had, as far as it still subscribes to it. Then what nobody has goes to whoever has least,
//! topics with few subscribers first, for they have least choice. At last partitions move from who has more to who has
//! less, for as long as a member has at least two more than another that subscribes to the same topic. Each such move
//! makes the sum of the squares of the counts smaller, so it comes to an end. When all subscribe to the same topics the
//! counts differ by one at most, and no partition has moved that could have stayed.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{PartitionIndex, TopicId};

use super::{Assignment, Spec};
use crate::modern::{Partitions, TopicPartition};
use crate::types::MemberId;

/// Assigns evenly.
pub(crate) fn uniform(spec: &Spec) -> Assignment {
    let mut loads = Loads::keep(spec);
    let mut topics: Vec<Shared> = spec
        .topics
        .keys()
        .map(|topic| loads.shared(*topic))
        .collect();
    topics.retain(|topic| !topic.subscribers.is_empty());
    topics.sort_by_key(|topic| (topic.subscribers.len(), topic.id));
    for topic in &topics {
        loads.hand_out(spec, topic);
    }
    loop {
        let mut has_moved = false;
        for topic in &topics {
            has_moved |= loads.balance(topic);
        }
        if !has_moved {
            break;
        }
    }
    loads.into_assignment()
}

/// A topic and the members that share it, by their places.
struct Shared {
    id: TopicId,
    subscribers: Vec<usize>,
}

/// What each member has so far.
struct Loads<'s> {
    members: Vec<Load<'s>>,
    /// Those that have been given to someone.
    taken: Partitions,
}

struct Load<'s> {
    id: &'s MemberId,
    topics: &'s BTreeSet<TopicId>,
    before: &'s Partitions,
    count: usize,
    own: BTreeMap<TopicId, BTreeSet<PartitionIndex>>,
}

impl<'s> Loads<'s> {
    fn keep(spec: &'s Spec) -> Self {
        let mut loads = Self {
            members: Vec::with_capacity(spec.members.len()),
            taken: Partitions::new(),
        };
        for (id, member) in &spec.members {
            let mut load = Load {
                id,
                topics: &member.topics,
                before: &member.before,
                count: 0,
                own: BTreeMap::new(),
            };
            for kept in &member.before {
                let exists = spec
                    .topics
                    .get(&kept.topic)
                    .is_some_and(|count| (0..*count).contains(&kept.partition.0));
                if exists && member.topics.contains(&kept.topic) && loads.taken.insert(*kept) {
                    load.own
                        .entry(kept.topic)
                        .or_default()
                        .insert(kept.partition);
                    load.count += 1;
                }
            }
            loads.members.push(load);
        }
        loads
    }

    fn shared(&self, id: TopicId) -> Shared {
        let subscribes =
            |(place, load): (usize, &Load<'_>)| load.topics.contains(&id).then_some(place);
        Shared {
            id,
            subscribers: self
                .members
                .iter()
                .enumerate()
                .filter_map(subscribes)
                .collect(),
        }
    }

    /// Gives the topic's partitions that nobody has to those who have least.
    fn hand_out(&mut self, spec: &Spec, topic: &Shared) {
        let count = spec.topics.get(&topic.id).copied().unwrap_or(0);
        let mut by_load: BTreeSet<(usize, usize)> = topic
            .subscribers
            .iter()
            .map(|place| (self.members[*place].count, *place))
            .collect();
        for partition in (0..count).map(PartitionIndex) {
            let place = TopicPartition {
                topic: topic.id,
                partition,
            };
            if !self.taken.insert(place) {
                continue;
            }
            let Some((load, least)) = by_load.pop_first() else {
                return;
            };
            self.members[least].add(topic.id, partition);
            by_load.insert((load + 1, least));
        }
    }

    /// Moves the topic's partitions from those who have most to those who have least. Tells whether any has moved.
    fn balance(&mut self, topic: &Shared) -> bool {
        let owns = |load: &Load<'_>| load.own.get(&topic.id).is_some_and(|own| !own.is_empty());
        let mut takers: BTreeSet<(usize, usize)> = BTreeSet::new();
        let mut givers: BTreeSet<(usize, usize)> = BTreeSet::new();
        for place in &topic.subscribers {
            let load = &self.members[*place];
            takers.insert((load.count, *place));
            if owns(load) {
                givers.insert((load.count, *place));
            }
        }
        let mut has_moved = false;
        while let (Some((least, to)), Some((most, from))) =
            (takers.first().copied(), givers.last().copied())
        {
            if most < least + 2 {
                break;
            }
            let wanted = self.members[to].before;
            let Some(partition) = self.members[from].give(topic.id, wanted) else {
                break;
            };
            self.members[to].add(topic.id, partition);
            has_moved = true;
            takers.remove(&(most, from));
            takers.remove(&(least, to));
            givers.remove(&(most, from));
            givers.remove(&(least, to));
            takers.insert((most - 1, from));
            takers.insert((least + 1, to));
            givers.insert((least + 1, to));
            if owns(&self.members[from]) {
                givers.insert((most - 1, from));
            }
        }
        has_moved
    }

    fn into_assignment(self) -> Assignment {
        let shares = self.members.into_iter().map(|load| {
            let own = load.own.into_iter().flat_map(|(topic, partitions)| {
                partitions
                    .into_iter()
                    .map(move |partition| TopicPartition { topic, partition })
            });
            (load.id.clone(), own.collect())
        });
        shares.collect()
    }
}

impl Load<'_> {
    fn add(&mut self, topic: TopicId, partition: PartitionIndex) {
        self.own.entry(topic).or_default().insert(partition);
        self.count += 1;
    }

    /// Lets go of one partition: one that the taker had before, or else one that is new here, or else the last.
    fn give(&mut self, topic: TopicId, wanted: &Partitions) -> Option<PartitionIndex> {
        let own = self.own.get_mut(&topic)?;
        let at = |partition: &PartitionIndex| TopicPartition {
            topic,
            partition: *partition,
        };
        let given = own
            .iter()
            .rev()
            .find(|partition| wanted.contains(&at(partition)))
            .or_else(|| {
                own.iter()
                    .rev()
                    .find(|partition| !self.before.contains(&at(partition)))
            })
            .or_else(|| own.last())
            .copied()?;
        own.remove(&given);
        self.count -= 1;
        Some(given)
    }
}
