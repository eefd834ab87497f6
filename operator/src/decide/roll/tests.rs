use std::collections::BTreeMap;

use super::{Roll, next};
use crate::world::{BrokerId, BrokerSeen, Look, Process, TopicSeen};

const OLD: &str = "old";
const NEW: &str = "new";

fn process(hash: &str, ready: bool) -> Process {
    Process {
        hash: Some(hash.to_owned()),
        ready,
        leaving: false,
    }
}

fn processes(states: &[(&str, bool)]) -> BTreeMap<BrokerId, Process> {
    (0..)
        .map(BrokerId)
        .zip(states.iter().map(|(hash, ready)| process(hash, *ready)))
        .collect()
}

fn look(alive: &[bool]) -> Look {
    Look {
        controller: Some(BrokerId(2)),
        brokers: (0..)
            .map(BrokerId)
            .zip(alive.iter().map(|alive| BrokerSeen {
                alive: *alive,
                ..BrokerSeen::default()
            }))
            .collect(),
        voters: vec![BrokerId(0), BrokerId(1), BrokerId(2)],
        ..Look::default()
    }
}

fn gate(roll: &Roll) -> Option<&'static str> {
    roll.blocked.as_ref().map(|blocked| blocked.gate)
}

#[test]
fn nothing_is_restarted_when_all_run_what_is_wanted() {
    let roll = next(
        3,
        NEW,
        &processes(&[(NEW, true), (NEW, false), (NEW, true)]),
        None,
    );
    assert_eq!(roll, Roll::default());
}

#[test]
fn brokers_are_restarted_one_at_a_time_and_the_controller_last() {
    let look = look(&[true; 3]);
    let mut world = processes(&[(OLD, true), (OLD, true), (OLD, true)]);
    for expected in [1, 0, 2] {
        let roll = next(3, NEW, &world, Some(&look));
        assert_eq!(roll.restart, Some(BrokerId(expected)));
        // While it is away, no other is touched.
        world.insert(BrokerId(expected), process(NEW, false));
        let waiting = next(3, NEW, &world, Some(&look));
        assert_eq!(waiting.restart, None);
        world.insert(BrokerId(expected), process(NEW, true));
    }
    assert_eq!(next(3, NEW, &world, Some(&look)), Roll::default());
}

#[test]
fn a_serving_broker_waits_for_the_gates() {
    let all = [(OLD, true), (OLD, true), (NEW, true)];
    let mut short = look(&[true; 3]);
    short.topics.insert(
        "orders".into(),
        TopicSeen {
            replication_factor: 3,
            under_replicated_partitions: 1,
            ..TopicSeen::default()
        },
    );
    for (states, look, expected) in [
        (
            &[(OLD, true), (OLD, true), (NEW, false)][..],
            Some(look(&[true; 3])),
            "BrokersNotReady",
        ),
        // One of three has no pod at all.
        (
            &[(OLD, true), (OLD, true)][..],
            Some(look(&[true; 3])),
            "BrokersNotReady",
        ),
        (&all[..], None, "BrokersNotSeen"),
        (&all[..], Some(look(&[true, true, false])), "QuorumAtRisk"),
        (&all[..], Some(short), "PartitionWouldGoOffline"),
    ] {
        let roll = next(3, NEW, &processes(states), look.as_ref());
        assert_eq!((roll.restart, gate(&roll)), (None, Some(expected)));
    }
}

#[test]
fn a_partition_with_one_replica_holds_up_no_roll() {
    let mut seen = look(&[true; 3]);
    seen.topics.insert(
        "single".into(),
        TopicSeen {
            replication_factor: 1,
            partitions: 4,
            ..TopicSeen::default()
        },
    );
    let roll = next(
        3,
        NEW,
        &processes(&[(OLD, true), (NEW, true), (NEW, true)]),
        Some(&seen),
    );
    assert_eq!(roll.restart, Some(BrokerId(0)));
}

#[test]
fn a_broken_cluster_gets_its_repair_without_being_healthy_first() {
    // A bad configuration took all three down; nobody answers. The corrected one replaces them, one after another.
    let mut world = processes(&[(OLD, false), (OLD, false), (OLD, false)]);
    for expected in [2, 1, 0] {
        let roll = next(3, NEW, &world, None);
        assert_eq!(roll.restart, Some(BrokerId(expected)));
        world.insert(BrokerId(expected), process(NEW, false));
    }
}

#[test]
fn a_broker_that_lives_without_being_ready_is_not_taken_for_dead() {
    let look = look(&[true; 3]);
    let roll = next(
        3,
        NEW,
        &processes(&[(OLD, false), (OLD, false), (NEW, true)]),
        Some(&look),
    );
    assert_eq!((roll.restart, gate(&roll)), (None, Some("BrokersNotReady")));
}

#[test]
fn nothing_is_restarted_while_a_broker_is_leaving() {
    let mut world = processes(&[(OLD, false), (OLD, false), (NEW, true)]);
    world.insert(
        BrokerId(1),
        Process {
            hash: Some(OLD.to_owned()),
            ready: false,
            leaving: true,
        },
    );
    let roll = next(3, NEW, &world, None);
    assert_eq!((roll.restart, roll.outdated), (None, vec![BrokerId(0)]));
}
