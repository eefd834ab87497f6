//! Which replicas go where: when a broker is emptied, when another came, when a topic is to have more or fewer replicas.
//!
//! Two plans. [`settle`] is what has to be: nothing stays on a broker that is leaving, and every partition has as many
//! replicas as it is to have. [`spread`] is what would be better: brokers that hold as many replicas, lead as many
//! partitions, and keep about as many bytes as each other. What always holds of both:
//!
//! - No replica moves that could stay: a move is made because it must be, or because it makes the brokers more alike.
//! - The replicas of a partition stand on different brokers, and never in fewer racks than before, where the plan has a choice.
//! - Only brokers that take replicas get any.
//! - What is planned again after some of it has been carried out is the rest of it: a plan needs no memory, so there is
//!   nothing to resume after a crash.
//!
//! Pure and deterministic; ties are broken by ids and by the order of the partitions.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::BrokerId;

/// Brokers keep about as many bytes as each other when no two differ by more than this part of the mean, in percent: closing
/// the rest would move more than it gains.
const BYTES_APART_PERCENT: u64 = 20;

/// How many of the largest, and of the smallest, partitions of a broker are looked at for an exchange.
const EXCHANGED_AMONG: usize = 32;

/// A broker that may hold replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// The broker.
    pub id: BrokerId,
    /// The failure domain that it stands in, if it has said one.
    pub rack: Option<String>,
    /// Whether it may get replicas: it is there, and not cordoned.
    pub takes: bool,
    /// Whether it may keep none.
    pub is_leaving: bool,
}

/// A partition as it is, or as it will be when what is under way is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Who holds it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// How many are to hold it.
    pub wanted: usize,
    /// How large it is, where that is known.
    pub bytes: u64,
    /// Whether it is on its way already: it counts for where it goes, and is left alone.
    pub is_moving: bool,
}

/// Where a partition is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move {
    /// Its place among the partitions.
    pub partition: usize,
    /// Who is to hold it, the preferred leader first.
    pub replicas: Vec<BrokerId>,
}

/// What a broker has to carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Load {
    replicas: usize,
    leaders: usize,
    bytes: u64,
}

/// The brokers, and what each carries once everything planned so far is done.
struct Loads<'a> {
    brokers: BTreeMap<BrokerId, (&'a Broker, Load)>,
}

impl<'a> Loads<'a> {
    fn of(brokers: &'a [Broker], partitions: &[Partition]) -> Self {
        let brokers = brokers
            .iter()
            .map(|broker| (broker.id, (broker, Load::default())));
        let mut loads = Self {
            brokers: brokers.collect(),
        };
        for partition in partitions {
            loads.count(&partition.replicas, partition.bytes, true);
        }
        loads
    }

    /// Counts a partition's replicas, or takes them back.
    fn count(&mut self, replicas: &[BrokerId], bytes: u64, adds: bool) {
        let change = |number: &mut usize| {
            *number = if adds {
                *number + 1
            } else {
                number.saturating_sub(1)
            };
        };
        for (position, id) in replicas.iter().enumerate() {
            let Some((_, load)) = self.brokers.get_mut(id) else {
                continue;
            };
            change(&mut load.replicas);
            if position == 0 {
                change(&mut load.leaders);
            }
            load.bytes = if adds {
                load.bytes + bytes
            } else {
                load.bytes.saturating_sub(bytes)
            };
        }
    }

    fn rack(&self, id: BrokerId) -> Option<&str> {
        self.brokers.get(&id)?.0.rack.as_deref()
    }

    fn racks(&self, replicas: &[BrokerId]) -> BTreeSet<&str> {
        replicas.iter().filter_map(|id| self.rack(*id)).collect()
    }

    fn is_leaving(&self, id: BrokerId) -> bool {
        self.brokers
            .get(&id)
            .is_some_and(|(broker, _)| broker.is_leaving)
    }

    /// The broker that another replica goes to: in a rack of its own, with the least to carry.
    fn destination(&self, others: &[BrokerId], leads: bool) -> Option<BrokerId> {
        let racks = self.racks(others);
        let free = self.brokers.values().filter(|(broker, _)| {
            broker.takes && !broker.is_leaving && !others.contains(&broker.id)
        });
        let best = free.min_by_key(|(broker, load)| {
            let is_rack_taken = broker
                .rack
                .as_deref()
                .is_some_and(|rack| racks.contains(rack));
            let leaders = if leads { load.leaders } else { 0 };
            (is_rack_taken, load.replicas, leaders, load.bytes, broker.id)
        });
        best.map(|(broker, _)| broker.id)
    }

    /// Those that take part in spreading.
    fn takers(&self) -> impl Iterator<Item = (BrokerId, Load)> + Clone {
        let takers = self.brokers.values();
        takers
            .filter(|(broker, _)| broker.takes && !broker.is_leaving)
            .map(|(broker, load)| (broker.id, *load))
    }
}

/// What has to be: nothing on brokers that leave, and as many replicas as are wanted. A partition for which there are not
/// enough brokers gets as far as it can.
pub fn settle(brokers: &[Broker], partitions: &[Partition]) -> Vec<Move> {
    let mut loads = Loads::of(brokers, partitions);
    let mut moves = Vec::new();
    for (at, partition) in partitions.iter().enumerate() {
        let leaves = |id: &BrokerId| loads.is_leaving(*id);
        let is_right = partition.replicas.len() == partition.wanted;
        if partition.is_moving || is_right && !partition.replicas.iter().any(leaves) {
            continue;
        }
        let replicas = settled(&mut loads, partition);
        if replicas != partition.replicas {
            moves.push(Move {
                partition: at,
                replicas,
            });
        }
    }
    moves
}

fn settled(loads: &mut Loads<'_>, partition: &Partition) -> Vec<BrokerId> {
    let bytes = partition.bytes;
    let mut replicas = partition.replicas.clone();
    loads.count(&replicas, bytes, false);
    while replicas.len() > partition.wanted.max(1) {
        let at = superfluous(loads, &replicas);
        replicas.remove(at);
    }
    for at in 0..replicas.len() {
        if !loads.is_leaving(replicas[at]) {
            continue;
        }
        let mut others = replicas.clone();
        others.remove(at);
        // Without a place to go it stays where it is.
        if let Some(to) = loads.destination(&others, at == 0) {
            replicas[at] = to;
        }
    }
    while replicas.len() < partition.wanted {
        let Some(to) = loads.destination(&replicas, replicas.is_empty()) else {
            break;
        };
        replicas.push(to);
    }
    loads.count(&replicas, bytes, true);
    replicas
}

/// Which of several replicas goes when there is one too many: one that must go anyhow, then one whose rack has another,
/// then the one whose broker carries most. The preferred leader is the last to go.
fn superfluous(loads: &Loads<'_>, replicas: &[BrokerId]) -> usize {
    let key = |at: usize| {
        let id = replicas[at];
        let rack = loads.rack(id);
        let shares_rack = rack.is_some()
            && replicas
                .iter()
                .any(|other| *other != id && loads.rack(*other) == rack);
        let load = loads
            .brokers
            .get(&id)
            .map(|(_, load)| *load)
            .unwrap_or_default();
        (
            loads.is_leaving(id),
            at != 0,
            shares_rack,
            load.replicas,
            load.bytes,
            at,
        )
    };
    (0..replicas.len()).max_by_key(|at| key(*at)).unwrap_or(0)
}

/// What would be better, at most so many moves of it. Nothing when brokers are as alike as can be.
pub fn spread(brokers: &[Broker], partitions: &[Partition], moves_max: usize) -> Vec<Move> {
    let mut spreading = Spreading {
        loads: Loads::of(brokers, partitions),
        partitions: partitions.to_vec(),
        changed: BTreeSet::new(),
    };
    while spreading.changed.len() < moves_max
        && (spreading.even_replicas() || spreading.even_bytes() || spreading.even_leaders())
    {}
    let moves = spreading.changed.iter().map(|at| Move {
        partition: *at,
        replicas: spreading.partitions[*at].replicas.clone(),
    });
    moves.collect()
}

struct Spreading<'a> {
    loads: Loads<'a>,
    partitions: Vec<Partition>,
    changed: BTreeSet<usize>,
}

impl Spreading<'_> {
    /// Moves one replica from a broker that holds more to one that holds at least two less.
    fn even_replicas(&mut self) -> bool {
        let mut order: Vec<(BrokerId, Load)> = self.loads.takers().collect();
        order.sort_by_key(|(id, load)| (load.replicas, load.bytes, *id));
        for (from, most) in order.iter().rev() {
            for (to, least) in &order {
                if most.replicas < least.replicas + 2 {
                    break;
                }
                if let Some(at) = self.best_to_move(*from, *to, most.bytes, least.bytes) {
                    self.replace(at, *from, *to);
                    return true;
                }
            }
        }
        false
    }

    /// The partition whose going from one broker to the other brings their bytes closest together.
    fn best_to_move(&self, from: BrokerId, to: BrokerId, most: u64, least: u64) -> Option<usize> {
        let gap = most.saturating_sub(least) / 2;
        let may = (0..self.partitions.len()).filter(|at| self.may_replace(*at, from, to));
        may.min_by_key(|at| (self.partitions[*at].bytes.abs_diff(gap), *at))
    }

    /// Whether a replica may go from one broker to the other: the partition is not on its way, and in no fewer racks then.
    fn may_replace(&self, at: usize, from: BrokerId, to: BrokerId) -> bool {
        let partition = &self.partitions[at];
        let replicas = &partition.replicas;
        if partition.is_moving || !replicas.contains(&from) || replicas.contains(&to) {
            return false;
        }
        let after: Vec<BrokerId> = replicas
            .iter()
            .map(|id| if *id == from { to } else { *id })
            .collect();
        self.loads.racks(&after).len() >= self.loads.racks(replicas).len()
    }

    fn replace(&mut self, at: usize, from: BrokerId, to: BrokerId) {
        let replicas = self.partitions[at].replicas.iter();
        let after = replicas
            .map(|id| if *id == from { to } else { *id })
            .collect();
        self.set(at, after);
    }

    fn set(&mut self, at: usize, replicas: Vec<BrokerId>) {
        let partition = &mut self.partitions[at];
        self.loads
            .count(&partition.replicas, partition.bytes, false);
        partition.replicas = replicas;
        self.loads.count(&partition.replicas, partition.bytes, true);
        self.changed.insert(at);
    }

    /// Exchanges a larger partition of the fullest broker for a smaller one of the emptiest.
    fn even_bytes(&mut self) -> bool {
        let takers = self.loads.takers();
        let count = u64::try_from(takers.clone().count())
            .unwrap_or(u64::MAX)
            .max(1);
        let mean = takers.clone().map(|(_, load)| load.bytes).sum::<u64>() / count;
        let by_bytes = |(id, load): &(BrokerId, Load)| (load.bytes, *id);
        let (Some((full, most)), Some((empty, least))) = (
            takers.clone().max_by_key(by_bytes),
            takers.min_by_key(by_bytes),
        ) else {
            return false;
        };
        let gap = most.bytes - least.bytes;
        if gap <= mean / 100 * BYTES_APART_PERCENT {
            return false;
        }
        let mut larger: Vec<usize> = (0..self.partitions.len())
            .filter(|at| self.may_replace(*at, full, empty))
            .collect();
        larger.sort_by_key(|at| (std::cmp::Reverse(self.partitions[*at].bytes), *at));
        larger.truncate(EXCHANGED_AMONG);
        let mut smaller: Vec<usize> = (0..self.partitions.len())
            .filter(|at| self.may_replace(*at, empty, full))
            .collect();
        smaller.sort_by_key(|at| (self.partitions[*at].bytes, *at));
        smaller.truncate(EXCHANGED_AMONG);
        let pairs = larger
            .iter()
            .flat_map(|one| smaller.iter().map(move |other| (*one, *other)));
        let closer = pairs.filter_map(|(one, other)| {
            let difference = self.partitions[one]
                .bytes
                .checked_sub(self.partitions[other].bytes)?;
            // The gap shrinks by twice the difference, and must not open on the other side by as much.
            (difference > 0 && difference < gap).then(|| (difference.abs_diff(gap / 2), one, other))
        });
        let Some((_, one, other)) = closer.min() else {
            return false;
        };
        self.replace(one, full, empty);
        self.replace(other, empty, full);
        true
    }

    /// Lets another replica lead a partition of a broker that leads more than the other by at least two.
    fn even_leaders(&mut self) -> bool {
        let mut order: Vec<(BrokerId, Load)> = self.loads.takers().collect();
        order.sort_by_key(|(id, load)| (load.leaders, *id));
        for (from, most) in order.iter().rev() {
            for (to, least) in &order {
                if most.leaders < least.leaders + 2 {
                    break;
                }
                let found = self.partitions.iter().position(|partition| {
                    !partition.is_moving
                        && partition.replicas.first() == Some(from)
                        && partition.replicas.contains(to)
                });
                if let Some(at) = found {
                    let mut replicas = self.partitions[at].replicas.clone();
                    if let Some(second) = replicas.iter().position(|id| id == to) {
                        replicas.swap(0, second);
                    }
                    self.set(at, replicas);
                    return true;
                }
            }
        }
        false
    }
}

#[cfg(test)]
mod tests;
