//! Which brokers get a new partition's replicas.
//!
//! Leaders of one topic are spread so that no broker leads more than one partition more than another. Among brokers
//! that are equal in that, the one that holds fewer replicas of anything goes first, and then the order of a ring in
//! which neighbours stand in different racks. Followers avoid racks that the partition is in already.
//!
//! Pure and deterministic: the same candidates and rotation give the same placement.

use std::collections::{BTreeMap, BTreeSet};

use crate::ids::BrokerId;

/// A broker that may get replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The broker.
    pub id: BrokerId,
    /// Its failure domain, if it has said one.
    pub rack: Option<String>,
    /// Whether it is away or about to go: it leads nothing at first, and is taken only where no others are left.
    pub is_away: bool,
    /// How many partitions of this topic it is the preferred leader of already.
    pub topic_leaders: usize,
    /// How many replicas of anything it holds already.
    pub replicas: usize,
}

/// There are not enough brokers for the replicas of one partition, or none that could lead it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooFewBrokers;

/// Places `partitions` new partitions of one topic with `replication_factor` replicas each; the first of each is the
/// preferred leader. The candidates' counts are kept up to date, so that the next topic of a batch can go on from them.
/// `rotation` turns the ring, so that not every small topic begins at the same broker.
pub fn place(
    candidates: &mut [Candidate],
    partitions: usize,
    replication_factor: usize,
    rotation: u64,
) -> Result<Vec<Vec<BrokerId>>, TooFewBrokers> {
    let is_led = candidates.iter().any(|candidate| !candidate.is_away);
    if replication_factor == 0 || replication_factor > candidates.len() || !is_led {
        return Err(TooFewBrokers);
    }
    let ring = ring(candidates, rotation);
    let placed = (0..partitions)
        .map(|_| place_one(candidates, &ring, replication_factor))
        .collect();
    Ok(placed)
}

fn place_one(
    candidates: &mut [Candidate],
    ring: &[usize],
    replication_factor: usize,
) -> Vec<BrokerId> {
    let mut chosen: Vec<usize> = Vec::with_capacity(replication_factor);
    while chosen.len() < replication_factor {
        let is_leader = chosen.is_empty();
        let racks: BTreeSet<Option<&str>> = chosen
            .iter()
            .map(|&at| candidates[at].rack.as_deref())
            .collect();
        let next = ring
            .iter()
            .enumerate()
            .filter(|(_, at)| !chosen.contains(at))
            .min_by_key(|&(position, &at)| {
                let candidate = &candidates[at];
                let rack_taken =
                    candidate.rack.is_some() && racks.contains(&candidate.rack.as_deref());
                let leaders = if is_leader {
                    candidate.topic_leaders
                } else {
                    0
                };
                (
                    candidate.is_away,
                    rack_taken,
                    leaders,
                    candidate.replicas,
                    position,
                )
            });
        let Some((_, &at)) = next else { break };
        if is_leader {
            candidates[at].topic_leaders += 1;
        }
        candidates[at].replicas += 1;
        chosen.push(at);
    }
    chosen.into_iter().map(|at| candidates[at].id).collect()
}

/// The candidates' places in an order in which racks take turns.
fn ring(candidates: &[Candidate], rotation: u64) -> Vec<usize> {
    let mut racks: BTreeMap<Option<&str>, Vec<usize>> = BTreeMap::new();
    let mut by_id: Vec<usize> = (0..candidates.len()).collect();
    by_id.sort_by_key(|&at| candidates[at].id);
    for at in by_id {
        racks
            .entry(candidates[at].rack.as_deref())
            .or_default()
            .push(at);
    }
    let turns = racks.values().map(Vec::len).max().unwrap_or(0);
    let mut ring: Vec<usize> = (0..turns)
        .flat_map(|turn| {
            racks
                .values()
                .filter_map(move |rack| rack.get(turn).copied())
        })
        .collect();
    if !ring.is_empty() {
        // The remainder is smaller than the ring, so it fits.
        let by = usize::try_from(rotation % ring.len() as u64).unwrap_or(0);
        ring.rotate_left(by);
    }
    ring
}

#[cfg(test)]
mod tests;
