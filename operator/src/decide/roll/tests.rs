use std::collections::BTreeMap;

use super::Roll;
use crate::world::{BrokerId, BrokerSeen, Look, Needed, Process, TopicSeen};

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

/// The next restart while nobody leaves the cluster.
fn next(
    size: u32,
    hash: &str,
    processes: &BTreeMap<BrokerId, Process>,
    look: Option<&Look>,
) -> Roll {
    super::next(size, hash, processes, look, &[])
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

/// A cluster in which partitions cannot spare these brokers.
fn needed(brokers: &[u32]) -> Look {
    let mut look = look(&[true; 3]);
    for (id, broker) in &mut look.brokers {
        let named = brokers.contains(&id.0);
        broker.needed = Some(Needed {
            partitions: if named { 5 } else { 0 },
            named: if named {
                vec!["orders-0".into()]
            } else {
                vec![]
            },
        });
    }
    look
}

#[test]
fn a_blocked_roll_names_the_partition_and_restarts_another_broker_that_can_be_spared() {
    let all = processes(&[(OLD, true), (OLD, true), (OLD, true)]);
    let roll = next(3, NEW, &all, Some(&needed(&[1])));
    assert_eq!(roll.restart, Some(BrokerId(0)));
    // The quorum's leader is not restarted before the others.
    let roll = next(3, NEW, &all, Some(&needed(&[0, 1])));
    assert_eq!(roll.restart, None);
    let message = roll
        .blocked
        .map(|blocked| blocked.message)
        .unwrap_or_default();
    for part in ["broker 1 waits", "5 partitions", "orders-0 …"] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn brokers_that_vote_are_restarted_after_those_that_do_not() {
    let mut world = processes(&[(OLD, true); 5]);
    let mut look = look(&[true; 5]);
    look.controller = Some(BrokerId(1));
    look.voters = vec![BrokerId(0), BrokerId(1), BrokerId(4)];
    for expected in [3, 2, 4, 0, 1] {
        let roll = next(5, NEW, &world, Some(&look));
        assert_eq!(roll.restart, Some(BrokerId(expected)));
        world.insert(BrokerId(expected), process(NEW, true));
    }
}

#[test]
fn a_broker_on_its_way_out_is_not_restarted_unless_it_is_broken_or_its_leaving_is_held_up() {
    let mut look = look(&[true; 3]);
    if let Some(broker) = look.brokers.get_mut(&BrokerId(1)) {
        broker.draining = true;
    }
    let states = |ready| processes(&[(NEW, true), (OLD, ready), (NEW, true)]);
    let leaving = [BrokerId(1)];
    let decided = |look: &Look, ready, leaving: &[BrokerId]| {
        super::next(3, NEW, &states(ready), Some(look), leaving)
    };
    assert_eq!(decided(&look, true, &leaving), Roll::default());
    assert_eq!(decided(&look, true, &[]).restart, Some(BrokerId(1)));
    if let Some(broker) = look.brokers.get_mut(&BrokerId(1)) {
        broker.alive = false;
    }
    assert_eq!(decided(&look, false, &leaving).restart, Some(BrokerId(1)));
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
    let mut unheard = look(&[true; 3]);
    unheard.controller = None;
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
        // Whoever says that all is well may be cut off from the others.
        (&all[..], Some(unheard), "BrokersNotSeen"),
        (&all[..], Some(look(&[true, true, false])), "QuorumAtRisk"),
        (&all[..], Some(short), "PartitionWouldFallBelowMinimum"),
        (
            &all[..],
            Some(needed(&[1, 0])),
            "PartitionWouldFallBelowMinimum",
        ),
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
