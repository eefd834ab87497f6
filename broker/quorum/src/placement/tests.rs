#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn candidates(count: usize, racks: usize) -> Vec<Candidate> {
    (0..count)
        .map(|id| Candidate {
            id: BrokerId(id as i32),
            rack: (racks > 0).then(|| format!("rack{}", id % racks)),
            is_away: false,
            topic_leaders: 0,
            replicas: 0,
        })
        .collect()
}

fn spread(counts: impl Iterator<Item = usize> + Clone) -> usize {
    counts.clone().max().unwrap_or(0) - counts.min().unwrap_or(0)
}

proptest! {
    #[test]
    fn leaders_of_a_topic_differ_by_at_most_one(
        brokers in 1..12_usize,
        racks in 0..4_usize,
        partitions in 0..200_usize,
        factor in 1..4_usize,
        rotation: u64,
    ) {
        prop_assume!(factor <= brokers);
        let mut candidates = candidates(brokers, racks);
        let placed = place(&mut candidates, partitions, factor, rotation).unwrap();
        prop_assert_eq!(placed.len(), partitions);
        prop_assert!(spread(candidates.iter().map(|c| c.topic_leaders)) <= 1);
        for replicas in &placed {
            prop_assert_eq!(replicas.iter().collect::<BTreeSet<_>>().len(), factor);
        }
    }

    #[test]
    fn single_replicas_differ_by_at_most_one_over_many_topics(
        brokers in 1..12_usize,
        racks in 0..4_usize,
        topics in prop::collection::vec(1..20_usize, 1..20),
        rotation: u64,
    ) {
        let mut candidates = candidates(brokers, racks);
        for partitions in topics {
            for candidate in &mut candidates {
                candidate.topic_leaders = 0;
            }
            place(&mut candidates, partitions, 1, rotation).unwrap();
        }
        prop_assert!(spread(candidates.iter().map(|c| c.replicas)) <= 1);
    }

    #[test]
    fn replicas_stand_in_as_many_racks_as_there_are(
        per_rack in 1..4_usize,
        racks in 1..5_usize,
        partitions in 1..60_usize,
        factor in 1..4_usize,
        rotation: u64,
    ) {
        prop_assume!(factor <= per_rack * racks);
        let mut candidates = candidates(per_rack * racks, racks);
        let rack_of: BTreeMap<BrokerId, String> =
            candidates.iter().map(|c| (c.id, c.rack.clone().unwrap())).collect();
        for replicas in place(&mut candidates, partitions, factor, rotation).unwrap() {
            let used: BTreeSet<_> = replicas.iter().map(|id| &rack_of[id]).collect();
            prop_assert_eq!(used.len(), factor.min(racks));
        }
    }

    #[test]
    fn the_same_rotation_gives_the_same_placement(brokers in 1..8_usize, partitions in 0..50_usize, rotation: u64) {
        let place_once = || place(&mut candidates(brokers, 2), partitions, 1, rotation).unwrap();
        prop_assert_eq!(place_once(), place_once());
    }

    #[test]
    fn a_topic_that_grows_stays_even(brokers in 1..8_usize, first in 0..40_usize, more in 0..40_usize, rotation: u64) {
        let mut candidates = candidates(brokers, 0);
        place(&mut candidates, first, 1, rotation).unwrap();
        place(&mut candidates, more, 1, rotation / 3).unwrap();
        prop_assert!(spread(candidates.iter().map(|c| c.topic_leaders)) <= 1);
    }
}

#[test]
fn a_fuller_broker_gets_the_odd_partition_last() {
    let mut candidates = candidates(3, 0);
    candidates[0].replicas = 5;
    let placed = place(&mut candidates, 2, 1, 0).unwrap();
    assert!(
        placed.iter().all(|replicas| replicas != &[BrokerId(0)]),
        "{placed:?}"
    );
}

#[test]
fn small_topics_do_not_all_begin_at_the_same_broker() {
    let first = |rotation| place(&mut candidates(4, 0), 1, 1, rotation).unwrap()[0][0];
    let begun: BTreeSet<BrokerId> = (0..4).map(first).collect();
    assert_eq!(begun.len(), 4);
}

#[test]
fn more_replicas_than_brokers_are_refused() {
    assert_eq!(place(&mut candidates(2, 0), 1, 3, 0), Err(TooFewBrokers));
    assert_eq!(place(&mut [], 1, 1, 0), Err(TooFewBrokers));
}
