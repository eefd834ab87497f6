//! Brokers, as far as the operator's decisions depend on them: who is registered, alive and drained, who votes, and which replicas lie where.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{BrokerId, BrokerSeen, Levels, Look, MOVES_LEVEL, Needed, TopicSeen};

/// The newest feature level that anybody knows.
pub(super) const NEWEST: u32 = MOVES_LEVEL + 1;

/// A write with acks=all waits for so many, where a partition has as many.
const IN_SYNC_MIN: usize = 2;

#[derive(Debug, Clone, Default, PartialEq)]
struct Registration {
    alive: bool,
    draining: bool,
    /// The claim of the disk that it is registered with.
    disk: String,
    /// The newest feature level that it knows.
    level: u32,
}

#[derive(Debug, Clone, PartialEq)]
struct Partition {
    topic: usize,
    replicas: Vec<BrokerId>,
    in_sync: BTreeSet<BrokerId>,
    /// A move under way: from whom to whom.
    moves: Option<(BrokerId, BrokerId)>,
}

impl Partition {
    fn minimum(&self) -> usize {
        IN_SYNC_MIN.min(self.replicas.len() - usize::from(self.moves.is_some()))
    }

    /// Whether it would miss a broker that it could spare later.
    fn needs(&self, broker: BrokerId) -> bool {
        self.in_sync.contains(&broker)
            && self.in_sync.len() <= self.minimum()
            && self.in_sync.len() < self.replicas.len()
    }
}

/// The brokers' own truth.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Brokers {
    registered: BTreeMap<BrokerId, Registration>,
    voters: BTreeSet<BrokerId>,
    partitions: Vec<Partition>,
    topics: usize,
    /// Topics of the brokers' own.
    own: BTreeSet<usize>,
    /// How many replicas topics are to have, where that is being changed.
    wanted: BTreeMap<usize, usize>,
    rebalancing: bool,
    /// How many levels above the first the cluster uses.
    raised: u32,
    /// Who was not let in, and what it knows.
    refused: BTreeMap<BrokerId, u32>,
    /// What they were told while they ran.
    config: BTreeMap<String, String>,
}

impl Brokers {
    /// They are told configurations, and to forget others.
    pub(super) fn configure(
        &mut self,
        set: &BTreeMap<String, String>,
        unset: &BTreeSet<String>,
    ) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        self.config.extend(set.clone());
        self.config.retain(|name, _| !unset.contains(name));
        Ok(())
    }

    /// What they were told while they ran.
    pub(super) fn config(&self) -> &BTreeMap<String, String> {
        &self.config
    }

    /// A broker's process that knows this feature level serves, on this disk; `false`: the others do not let it in.
    pub(super) fn join(&mut self, broker: BrokerId, disk: &str, level: u32) -> bool {
        if level < self.level() {
            self.refused.insert(broker, level);
            return false;
        }
        self.refused.remove(&broker);
        let registration = self.registered.entry(broker).or_default();
        let is_new = registration.disk != disk;
        (registration.alive, registration.disk) = (true, disk.to_owned());
        registration.level = level;
        for partition in self.partitions.iter_mut().filter(|_| is_new) {
            partition.in_sync.remove(&broker);
            // What nobody has any more goes on empty.
            if partition.in_sync.is_empty() {
                partition.in_sync.insert(broker);
            }
        }
        if self.voters.is_empty() {
            self.voters.insert(broker);
        }
        true
    }

    pub(super) fn level(&self) -> u32 {
        MOVES_LEVEL + self.raised
    }

    pub(super) fn raise(&mut self, level: u32) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        let mut brokers = self.registered.values();
        if brokers.any(|broker| broker.level < level) {
            return Err("a broker does not know it".into());
        }
        self.raised = self.raised.max(level - MOVES_LEVEL);
        Ok(())
    }

    /// A broker's process is gone.
    pub(super) fn leave(&mut self, broker: BrokerId) {
        if let Some(registration) = self.registered.get_mut(&broker) {
            registration.alive = false;
        }
        for partition in &mut self.partitions {
            // The last one stays the one that has everything.
            if partition.in_sync.len() > 1 {
                partition.in_sync.remove(&broker);
            }
        }
    }

    fn is_alive(&self, broker: BrokerId) -> bool {
        self.registered
            .get(&broker)
            .is_some_and(|broker| broker.alive)
    }

    pub(super) fn controller(&self) -> Option<BrokerId> {
        let alive = self.voters.iter().filter(|voter| self.is_alive(**voter));
        let is_majority = alive.clone().count() * 2 > self.voters.len();
        alive.min().copied().filter(|_| is_majority)
    }

    pub(super) fn is_up(&self, broker: BrokerId) -> bool {
        self.is_alive(broker)
    }

    /// The disk that a broker is registered with.
    pub(super) fn disk(&self, broker: BrokerId) -> Option<&str> {
        let registration = self.registered.get(&broker)?;
        Some(&registration.disk)
    }

    /// Whether the quorum would go on without this broker and those.
    pub(super) fn can_do_without(&self, broker: BrokerId, gone: &BTreeSet<BrokerId>) -> bool {
        let missing = |voter: &&BrokerId| **voter == broker || gone.contains(voter);
        let missing = self.voters.iter().filter(missing).count();
        (self.voters.len() - missing) * 2 > self.voters.len()
    }

    /// Partitions that nobody else has all of.
    pub(super) fn last_copies(&self, broker: BrokerId) -> usize {
        let only = |partition: &&Partition| {
            partition.in_sync.len() == 1 && partition.in_sync.contains(&broker)
        };
        self.partitions.iter().filter(only).count()
    }

    pub(super) fn out_of_sync(&self, broker: BrokerId) -> usize {
        let lacks = |partition: &&Partition| {
            partition.replicas.contains(&broker) && !partition.in_sync.contains(&broker)
        };
        self.partitions.iter().filter(lacks).count()
    }

    fn draining(&self, broker: BrokerId) -> bool {
        self.registered
            .get(&broker)
            .is_some_and(|broker| broker.draining)
    }

    fn takers(&self) -> Vec<BrokerId> {
        let takers = self
            .registered
            .iter()
            .filter(|(_, broker)| broker.alive && !broker.draining);
        takers.map(|(id, _)| *id).collect()
    }

    pub(super) fn holds(&self, broker: u32) -> usize {
        let on = |partition: &&Partition| partition.replicas.contains(&BrokerId(broker));
        self.partitions.iter().filter(on).count()
    }

    pub(super) fn is_voter(&self, broker: BrokerId) -> bool {
        self.voters.contains(&broker)
    }

    pub(super) fn is_registered(&self, broker: BrokerId) -> bool {
        self.registered.contains_key(&broker)
    }

    /// A topic, if there are brokers for it, and nobody is away who would be left without a share.
    pub(super) fn create(&mut self, partitions: usize, replicas: usize) {
        let takers = self.takers();
        let is_away = self.registered.values().any(|broker| !broker.alive);
        if self.controller().is_none() || takers.len() < replicas || is_away {
            return;
        }
        for _ in 0..partitions {
            let mut order = takers.clone();
            order.sort_by_key(|broker| (self.holds(broker.0), *broker));
            let replicas = order[..replicas].to_vec();
            self.partitions.push(Partition {
                topic: self.topics,
                in_sync: replicas.iter().copied().collect(),
                replicas,
                moves: None,
            });
        }
        self.topics += 1;
    }

    /// A topic of the brokers' own.
    pub(super) fn create_own(&mut self, replicas: usize) {
        self.own.insert(self.topics);
        self.create(3, replicas);
    }

    /// How many replicas each partition of the brokers' own topics has.
    pub(super) fn own_replicas(&self) -> BTreeSet<usize> {
        let own = self
            .partitions
            .iter()
            .filter(|partition| self.own.contains(&partition.topic));
        own.map(|partition| partition.replicas.len()).collect()
    }

    pub(super) fn replicate(&mut self, topics: &[String], replicas: u32) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        let takers = self.registered.values().filter(|broker| !broker.draining);
        let replicas = usize::try_from(replicas).unwrap();
        if takers.count() < replicas {
            return Err("more replicas than brokers that take some".into());
        }
        for topic in topics {
            let topic: usize = topic[1..].parse().unwrap();
            assert!(self.own.contains(&topic), "a person's topic is changed");
            self.wanted.insert(topic, replicas);
        }
        Ok(())
    }

    /// A partition gets the number of replicas that it is to have: one that leaves anyhow goes first, and never the last that has everything.
    fn resize(&mut self) -> bool {
        let takers = self.takers();
        for at in 0..self.partitions.len() {
            let partition = &self.partitions[at];
            let Some(wanted) = self.wanted.get(&partition.topic).copied() else {
                continue;
            };
            if partition.moves.is_some() {
                continue;
            }
            if partition.replicas.len() > wanted {
                let spared =
                    |id: &&BrokerId| partition.in_sync.len() > 1 || !partition.in_sync.contains(id);
                let order = |id: &&BrokerId| (self.draining(**id), self.holds(id.0), **id);
                let gone = partition.replicas.iter().filter(spared).max_by_key(order);
                if let Some(gone) = gone.copied() {
                    let partition = &mut self.partitions[at];
                    partition.replicas.retain(|id| *id != gone);
                    partition.in_sync.remove(&gone);
                    return true;
                }
            } else if partition.replicas.len() < wanted {
                let free = takers.iter().filter(|id| !partition.replicas.contains(id));
                if let Some(to) = free.copied().min_by_key(|id| (self.holds(id.0), *id)) {
                    self.partitions[at].replicas.push(to);
                    return true;
                }
            }
        }
        let partitions = &self.partitions;
        let before = self.wanted.len();
        self.wanted.retain(|topic, wanted| {
            let mut of = partitions
                .iter()
                .filter(|partition| partition.topic == *topic);
            of.any(|partition| partition.replicas.len() != *wanted)
        });
        self.wanted.len() != before
    }

    pub(super) fn drain(&mut self, brokers: &[BrokerId], draining: bool) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        for broker in brokers {
            if let Some(registration) = self.registered.get_mut(broker) {
                registration.draining = draining;
            }
            // What was leaving stays.
            let leaves = |partition: &&mut Partition| {
                !draining && partition.moves.is_some_and(|(from, _)| from == *broker)
            };
            for partition in self.partitions.iter_mut().filter(leaves) {
                if let Some((_, to)) = partition.moves.take() {
                    partition.replicas.retain(|replica| *replica != to);
                    partition.in_sync.remove(&to);
                }
            }
        }
        Ok(())
    }

    pub(super) fn rebalance(&mut self) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        self.rebalancing = true;
        Ok(())
    }

    pub(super) fn unregister(&mut self, brokers: &[BrokerId]) -> Result<(), String> {
        self.controller().ok_or("no controller")?;
        for broker in brokers {
            if self.is_alive(*broker) || self.holds(broker.0) > 0 || self.is_voter(*broker) {
                return Err(format!("broker {broker} is in use"));
            }
            self.registered.remove(broker);
        }
        Ok(())
    }

    /// The next thing that the brokers do by themselves; `false` when there is none.
    pub(super) fn act(&mut self) -> bool {
        self.controller().is_some()
            && (self.vote()
                || self.catch_up()
                || self.finish()
                || self.resize()
                || self.begin()
                || self.spread())
    }

    fn vote(&mut self) -> bool {
        let stays = |broker: &BrokerId| self.is_alive(*broker) && !self.draining(*broker);
        let first: Vec<BrokerId> = (0..3).map(BrokerId).collect();
        let leaves = self.voters.iter().any(|voter| self.draining(*voter));
        let wanted: BTreeSet<BrokerId> = if first.iter().all(stays) {
            first.into_iter().collect()
        } else if leaves {
            let now = self.voters.iter().copied().filter(stays);
            let others = self
                .takers()
                .into_iter()
                .filter(|id| !self.voters.contains(id));
            let order: Vec<BrokerId> = now.chain(others).take(3).collect();
            match order.len() {
                0 => return false,
                3 => order.into_iter().collect(),
                _ => [order[0]].into(),
            }
        } else {
            return false;
        };
        let changes = wanted != self.voters;
        self.voters = wanted;
        changes
    }

    fn catch_up(&mut self) -> bool {
        let alive: BTreeSet<BrokerId> = self
            .registered
            .iter()
            .filter(|(_, broker)| broker.alive)
            .map(|(id, _)| *id)
            .collect();
        for partition in &mut self.partitions {
            let leads = partition
                .in_sync
                .iter()
                .any(|replica| alive.contains(replica));
            let behind = partition.replicas.iter().find(|replica| {
                leads && alive.contains(replica) && !partition.in_sync.contains(replica)
            });
            if let Some(replica) = behind.copied() {
                partition.in_sync.insert(replica);
                return true;
            }
        }
        false
    }

    fn finish(&mut self) -> bool {
        for partition in &mut self.partitions {
            if let Some((from, to)) = partition.moves
                && partition.in_sync.contains(&to)
            {
                partition.replicas.retain(|replica| *replica != from);
                partition.in_sync.remove(&from);
                partition.moves = None;
                return true;
            }
        }
        false
    }

    fn begin(&mut self) -> bool {
        let takers = self.takers();
        for at in 0..self.partitions.len() {
            let partition = &self.partitions[at];
            let leaving = partition
                .replicas
                .iter()
                .copied()
                .find(|id| self.draining(*id));
            let (Some(from), None) = (leaving, partition.moves) else {
                continue;
            };
            let to = takers.iter().filter(|id| !partition.replicas.contains(id));
            if let Some(to) = to.copied().min_by_key(|id| (self.holds(id.0), *id)) {
                self.start(at, from, to);
                return true;
            }
        }
        false
    }

    fn spread(&mut self) -> bool {
        if !self.rebalancing {
            return false;
        }
        if let Some((at, from, to)) = self.uneven() {
            self.start(at, from, to);
            return true;
        }
        // As brokers do: who is away for a moment is to have its share too.
        let mut all = self.registered.values();
        self.rebalancing = all.any(|broker| !broker.alive && !broker.draining);
        !self.rebalancing
    }

    /// A replica that should move from a broker that holds more to one that holds at least two less.
    fn uneven(&self) -> Option<(usize, BrokerId, BrokerId)> {
        let takers = self.takers();
        for to in &takers {
            for from in &takers {
                if self.holds(from.0) < self.holds(to.0) + 2 {
                    continue;
                }
                let moves = self.partitions.iter().position(|partition| {
                    partition.moves.is_none()
                        && partition.replicas.contains(from)
                        && !partition.replicas.contains(to)
                });
                if let Some(at) = moves {
                    return Some((at, *from, *to));
                }
            }
        }
        None
    }

    fn start(&mut self, at: usize, from: BrokerId, to: BrokerId) {
        self.partitions[at].replicas.push(to);
        self.partitions[at].moves = Some((from, to));
    }

    /// Who is drained, and not to be.
    pub(super) fn drains_beside(&self, drained: &BTreeSet<BrokerId>) -> bool {
        let mut all = self.registered.iter();
        all.any(|(id, broker)| broker.draining && !drained.contains(id))
    }

    /// Whether no new broker was left without its share.
    pub(super) fn is_even(&self, drained: &BTreeSet<BrokerId>) -> bool {
        let all: usize = self
            .partitions
            .iter()
            .map(|partition| partition.replicas.len())
            .sum();
        let enough = all >= 2 * self.registered.len();
        !enough
            || self
                .registered
                .keys()
                .filter(|broker| !drained.contains(broker))
                .all(|broker| self.holds(broker.0) > 0)
    }

    pub(super) fn all_whole(&self) -> bool {
        let is_whole = |partition: &Partition| {
            partition.in_sync.len() == partition.replicas.len()
                && partition.replicas.iter().all(|id| self.is_registered(*id))
        };
        self.partitions.iter().all(is_whole)
    }

    /// Partitions that would be below their minimum without a broker though others of their replicas catch up.
    pub(super) fn needing(&self, broker: BrokerId) -> usize {
        self.partitions
            .iter()
            .filter(|partition| partition.needs(broker))
            .count()
    }

    pub(super) fn look(&self) -> Look {
        let seen = |(id, broker): (&BrokerId, &Registration)| {
            let partitions = u32::try_from(self.needing(*id)).unwrap();
            let seen = BrokerSeen {
                alive: broker.alive,
                replicas: u32::try_from(self.holds(id.0)).unwrap(),
                cordoned: broker.draining,
                draining: broker.draining,
                needed: Some(Needed {
                    partitions,
                    named: Vec::new(),
                }),
                incarnation: broker.disk.clone(),
                out_of_sync: u32::try_from(self.out_of_sync(*id)).unwrap(),
                last_copies: Some(Needed {
                    partitions: u32::try_from(self.last_copies(*id)).unwrap(),
                    named: Vec::new(),
                }),
                ..BrokerSeen::default()
            };
            (*id, seen)
        };
        let mut topics: BTreeMap<String, TopicSeen> = BTreeMap::new();
        for partition in &self.partitions {
            let topic = topics.entry(format!("t{}", partition.topic)).or_default();
            topic.partitions += 1;
            topic.internal = self.own.contains(&partition.topic);
            let wanted = self.wanted.get(&partition.topic);
            topic.wanted_replication_factor = wanted.map(|count| u32::try_from(*count).unwrap());
            let is_short = partition.in_sync.len() < partition.replicas.len();
            topic.under_replicated_partitions += u32::from(is_short);
            let replicas = partition.replicas.len() - usize::from(partition.moves.is_some());
            topic.replication_factor = topic
                .replication_factor
                .max(u32::try_from(replicas).unwrap());
        }
        let moving = self
            .partitions
            .iter()
            .filter(|partition| partition.moves.is_some());
        Look {
            cluster_id: "id".into(),
            controller: self.controller(),
            brokers: self.registered.iter().map(seen).collect(),
            voters: self.voters.iter().copied().collect(),
            topics,
            feature_level: self.level(),
            rebalancing: self.rebalancing,
            moving_partitions: u32::try_from(moving.count()).unwrap(),
            sets_listeners: true,
            tls_listeners: true,
            configures: true,
            config: self.config.clone(),
            levels: self.controller().map(|_| Levels {
                newest: self
                    .registered
                    .iter()
                    .map(|(id, broker)| (*id, broker.level))
                    .collect(),
                refused: self.refused.clone(),
            }),
        }
    }
}
