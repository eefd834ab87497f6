#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

fn broker(id: i32, rack: Option<String>) -> Broker {
    Broker {
        id: BrokerId(id),
        rack,
        takes: true,
        is_leaving: false,
    }
}

fn partition(replicas: &[i32], bytes: u64) -> Partition {
    Partition {
        replicas: replicas.iter().map(|id| BrokerId(*id)).collect(),
        wanted: replicas.len(),
        bytes,
        is_moving: false,
    }
}

/// Brokers in so many racks (0: none), and partitions of `factor` replicas that lie anywhere.
fn cluster() -> impl Strategy<Value = (Vec<Broker>, Vec<Partition>)> {
    (2..8_i32, 0..4_i32, 1..4_usize).prop_flat_map(|(brokers, racks, factor)| {
        let factor = factor.min(brokers as usize);
        let all: Vec<i32> = (0..brokers).collect();
        let replicas = prop::sample::subsequence(all, factor).prop_shuffle();
        let partition =
            (replicas, 0..1000_u64).prop_map(|(replicas, bytes)| partition(&replicas, bytes));
        let brokers: Vec<Broker> = (0..brokers)
            .map(|id| broker(id, (racks > 0).then(|| format!("r{}", id % racks.max(1)))))
            .collect();
        (Just(brokers), prop::collection::vec(partition, 0..60))
    })
}

fn carry_out(partitions: &mut [Partition], moves: &[Move]) {
    for Move {
        partition,
        replicas,
    } in moves
    {
        partitions[*partition].replicas.clone_from(replicas);
    }
}

fn counts(brokers: &[Broker], partitions: &[Partition]) -> BTreeMap<BrokerId, usize> {
    let on = |id| {
        partitions
            .iter()
            .filter(|p| p.replicas.contains(&id))
            .count()
    };
    brokers.iter().map(|b| (b.id, on(b.id))).collect()
}

fn racks(brokers: &[Broker], replicas: &[BrokerId]) -> usize {
    let rack = |id: &BrokerId| brokers.iter().find(|b| b.id == *id).unwrap().rack.clone();
    replicas
        .iter()
        .filter_map(rack)
        .collect::<BTreeSet<_>>()
        .len()
}

fn come(before: &[BrokerId], after: &[BrokerId]) -> usize {
    after.iter().filter(|id| !before.contains(id)).count()
}

fn are_distinct(replicas: &[BrokerId]) -> bool {
    replicas.iter().collect::<BTreeSet<_>>().len() == replicas.len()
}

proptest! {
    #[test]
    fn a_leaving_broker_is_emptied_and_nothing_else_moves((mut brokers, before) in cluster(), leaving in 0..8_usize) {
        let leaving = leaving % brokers.len();
        brokers[leaving].is_leaving = true;
        let id = brokers[leaving].id;
        let mut after = before.clone();
        let moves = settle(&brokers, &before);
        carry_out(&mut after, &moves);
        let room = brokers.len() - 1;
        for (old, new) in before.iter().zip(&after) {
            prop_assert!(are_distinct(&new.replicas));
            prop_assert_eq!(new.replicas.len(), old.wanted);
            let must = usize::from(old.replicas.contains(&id) && old.wanted <= room);
            prop_assert_eq!(come(&old.replicas, &new.replicas), must);
            prop_assert_eq!(new.replicas.contains(&id), old.replicas.contains(&id) && must == 0);
        }
        prop_assert_eq!(settle(&brokers, &after), vec![], "what is done is done");
    }

    #[test]
    fn a_change_of_the_number_moves_only_what_it_adds_or_takes(
        (brokers, mut before) in cluster(),
        wanted in 1..6_usize,
    ) {
        let wanted = wanted.min(brokers.len());
        for partition in &mut before {
            partition.wanted = wanted;
        }
        let mut after = before.clone();
        carry_out(&mut after, &settle(&brokers, &before));
        let all = brokers.iter().filter_map(|b| b.rack.as_ref()).collect::<BTreeSet<_>>().len();
        for (old, new) in before.iter().zip(&after) {
            prop_assert!(are_distinct(&new.replicas));
            prop_assert_eq!(new.replicas.len(), wanted);
            prop_assert_eq!(come(&old.replicas, &new.replicas), wanted.saturating_sub(old.replicas.len()));
            prop_assert_eq!(new.replicas[0], old.replicas[0], "the preferred leader stays");
            let (was, is) = (racks(&brokers, &old.replicas), racks(&brokers, &new.replicas));
            let added = wanted.saturating_sub(old.replicas.len());
            prop_assert!(is >= (was + added).min(all).min(wanted) || is >= was.min(wanted), "{} {}", was, is);
        }
    }

    #[test]
    fn spreading_evens_out_with_as_few_moves_as_it_takes_and_keeps_racks((brokers, before) in cluster()) {
        let mut after = before.clone();
        for at_once in 1.. {
            let moves = spread(&brokers, &after, 3);
            if moves.is_empty() {
                break;
            }
            prop_assert!(at_once < 1_000, "it comes to an end");
            carry_out(&mut after, &moves);
        }
        for (old, new) in before.iter().zip(&after) {
            prop_assert!(are_distinct(&new.replicas));
            prop_assert_eq!(new.replicas.len(), old.replicas.len());
            prop_assert!(racks(&brokers, &new.replicas) >= racks(&brokers, &old.replicas));
        }
        let counts = counts(&brokers, &after);
        let has_racks = brokers[0].rack.is_some();
        if !has_racks {
            let (most, least) = (counts.values().max().unwrap(), counts.values().min().unwrap());
            prop_assert!(most - least <= 1, "{:?}", counts);
        }
    }

    #[test]
    fn a_plan_that_is_carried_out_a_little_at_a_time_moves_no_more_than_at_once((brokers, mut before) in cluster()) {
        for partition in &mut before {
            partition.bytes = 0;
        }
        let total = |after: &[Partition]| -> usize {
            before.iter().zip(after).map(|(old, new)| come(&old.replicas, &new.replicas)).sum()
        };
        let mut once = before.clone();
        carry_out(&mut once, &spread(&brokers, &before, usize::MAX));
        let needed: usize = {
            let counts = counts(&brokers, &before);
            let mean = counts.values().sum::<usize>() / counts.len();
            counts.values().map(|count| count.saturating_sub(mean)).sum()
        };
        prop_assert!(total(&once) <= needed, "{} for {}", total(&once), needed);
    }
}

#[test]
fn a_new_broker_takes_its_share_and_leads_it() {
    let brokers: Vec<Broker> = (0..4).map(|id| broker(id, None)).collect();
    let mut partitions: Vec<Partition> = (0..12)
        .map(|n| partition(&[n % 3, (n + 1) % 3, (n + 2) % 3], 10))
        .collect();
    let moves = spread(&brokers, &partitions, usize::MAX);
    carry_out(&mut partitions, &moves);
    assert_eq!(
        counts(&brokers, &partitions)
            .into_values()
            .collect::<Vec<_>>(),
        [9; 4]
    );
    let led = |id| {
        partitions
            .iter()
            .filter(|p| p.replicas[0] == BrokerId(id))
            .count()
    };
    assert_eq!((0..4).map(led).collect::<Vec<_>>(), [3; 4]);
}

#[test]
fn a_broker_in_a_rack_of_its_own_is_preferred() {
    let mut brokers: Vec<Broker> = [(0, "a"), (1, "b"), (2, "a"), (3, "c")]
        .into_iter()
        .map(|(id, rack)| broker(id, Some(rack.into())))
        .collect();
    brokers[1].is_leaving = true;
    let moves = settle(&brokers, &[partition(&[1, 0], 0)]);
    assert_eq!(moves[0].replicas, [BrokerId(3), BrokerId(0)]);
}

#[test]
fn a_cordoned_broker_gets_nothing_and_keeps_what_it_has() {
    let mut brokers: Vec<Broker> = (0..3).map(|id| broker(id, None)).collect();
    brokers[2].takes = false;
    let partitions: Vec<Partition> = (0..4).map(|_| partition(&[0], 0)).collect();
    let mut after = partitions.clone();
    carry_out(&mut after, &spread(&brokers, &partitions, usize::MAX));
    assert_eq!(
        counts(&brokers, &after).into_values().collect::<Vec<_>>(),
        [2, 2, 0]
    );
    brokers[1].is_leaving = true;
    let on_cordoned = vec![partition(&[2, 0], 0)];
    assert_eq!(settle(&brokers, &on_cordoned), vec![]);
}

#[test]
fn bytes_are_evened_by_exchange_once_numbers_are() {
    let brokers: Vec<Broker> = (0..2).map(|id| broker(id, None)).collect();
    let mut partitions = vec![
        partition(&[0], 900),
        partition(&[0], 800),
        partition(&[1], 100),
        partition(&[1], 200),
    ];
    let moves = spread(&brokers, &partitions, usize::MAX);
    carry_out(&mut partitions, &moves);
    let on = |id| {
        partitions
            .iter()
            .filter(|p| p.replicas == [BrokerId(id)])
            .map(|p| p.bytes)
            .sum::<u64>()
    };
    assert!(on(0).abs_diff(on(1)) <= 200, "{} {}", on(0), on(1));
    assert_eq!(
        counts(&brokers, &partitions)
            .into_values()
            .collect::<Vec<_>>(),
        [2, 2]
    );
}

#[test]
fn what_is_on_its_way_counts_for_where_it_goes_and_is_left_alone() {
    let mut brokers: Vec<Broker> = (0..3).map(|id| broker(id, None)).collect();
    brokers[0].is_leaving = true;
    let partitions = vec![
        Partition {
            is_moving: true,
            ..partition(&[1], 0)
        },
        partition(&[0], 0),
    ];
    let moves = settle(&brokers, &partitions);
    assert_eq!(
        moves,
        [Move {
            partition: 1,
            replicas: vec![BrokerId(2)]
        }]
    );
}
