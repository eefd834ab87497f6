//! Properties of what is decided for a Cluster over a simulated world: small models of the API server, the StatefulSet controller, the
//! kubelets and the brokers, with a person who changes the spec, pods that die, brokers that cannot be reached, looks that are old, and an
//! operator that is killed between any two of its writes.
//!
//! What is checked at each write is in [`world`]; what has to have come about when things calm down is here.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod brokers;
mod world;

use proptest::prelude::*;
use proptest::test_runner::{RngSeed, TestCaseError};

use super::cluster::decide;
use super::{gates, heal};
use crate::world::BrokerId;
use brokers::NEWEST;
use world::{World, own_replicas};

/// The most brokers that anybody asks for.
const BROKERS_MAX: u32 = 6;

/// Rounds after which a world that is left alone has to have settled: a roll and a scale of six brokers, one move of data at a time.
const ROUNDS_MAX: usize = 400;

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// The operator looks, decides and acts; what the brokers say may be some looks old, and it may be killed after some writes.
    Pass {
        age: usize,
        killed_after: Option<usize>,
    },
    /// The same on what a broker says that is cut off from the others.
    CutOff(usize),
    /// The StatefulSet controller catches up.
    Controller,
    /// One pod becomes ready, and those that are leaving are gone.
    Kubelet,
    /// The brokers move some of their data.
    Brokers(usize),
    /// A pod's process dies.
    Crash(u32),
    /// Somebody drains the node of a broker that serves.
    Evict(u32),
    /// The person asks for another number of brokers.
    Scale(u32),
    /// The person asks for another image; brokers do not start with the last one.
    Image(usize),
    /// The person changes their mind about volumes.
    Volumes(bool),
    /// Somebody scales the StatefulSet.
    ByHand(u32),
    /// Somebody makes a topic.
    Topic(usize, usize),
    /// The brokers can be reached, or not.
    Network(bool),
    /// A node stops answering, or is there again, or is gone with its disk.
    NodeDown(u32),
    NodeUp(u32),
    NodeGone(u32),
    /// The person wants a broker emptied that stays, or no such broker any more.
    Drain(u32),
    Uncordon,
    /// The person asks for volumes of another size.
    Size(&'static str),
    /// A broker's disk fills up.
    Fill(u32),
    /// The person changes a configuration that brokers are told while they run.
    Config(Option<u32>),
    /// The person says that the disks are lost of all whose node is not there.
    Declare,
    /// So many seconds pass.
    Time(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let pass = (0_usize..3, prop::option::weighted(0.3, 0_usize..4))
        .prop_map(|(age, killed_after)| Event::Pass { age, killed_after });
    prop_oneof![
        12 => pass,
        2 => (0_usize..3).prop_map(Event::CutOff),
        6 => Just(Event::Controller),
        8 => Just(Event::Kubelet),
        8 => (1_usize..8).prop_map(Event::Brokers),
        1 => (0..BROKERS_MAX).prop_map(Event::Crash),
        3 => (0..BROKERS_MAX).prop_map(Event::Evict),
        2 => (1..=BROKERS_MAX).prop_map(Event::Scale),
        1 => (0_usize..3).prop_map(Event::Image),
        1 => any::<bool>().prop_map(Event::Volumes),
        1 => (0..=BROKERS_MAX).prop_map(Event::ByHand),
        1 => (1_usize..6, 1_usize..4).prop_map(|(partitions, replicas)| Event::Topic(partitions, replicas)),
        1 => any::<bool>().prop_map(Event::Network),
        1 => (0..BROKERS_MAX).prop_map(Event::NodeDown),
        1 => (0..BROKERS_MAX).prop_map(Event::NodeUp),
        1 => (0..BROKERS_MAX).prop_map(Event::NodeGone),
        1 => Just(Event::Declare),
        1 => (0..BROKERS_MAX).prop_map(Event::Drain),
        1 => Just(Event::Uncordon),
        1 => prop::sample::select(&["10Gi", "20Gi", "30Gi"][..]).prop_map(Event::Size),
        1 => (0..BROKERS_MAX).prop_map(Event::Fill),
        1 => prop::option::of(1_u32..4).prop_map(Event::Config),
        4 => (1_i64..200).prop_map(Event::Time),
    ]
}

fn happens(world: &mut World, event: &Event) {
    if !matches!(event, Event::Pass { .. } | Event::Evict(_) | Event::Time(_)) {
        world.is_seen = false;
    }
    match event {
        Event::Pass { age, killed_after } => {
            world.pass(*age, *killed_after);
        }
        Event::CutOff(age) => world.cut_off_pass(*age),
        Event::Controller => world.controller(),
        Event::Kubelet => world.kubelet(),
        Event::Brokers(moves) => {
            for _ in 0..*moves {
                world.brokers.act();
            }
        }
        Event::Crash(broker) => world.crash(*broker),
        Event::Evict(broker) => world.evict(*broker),
        Event::Scale(replicas) => world.spec.replicas = *replicas,
        Event::Image(image) => world.want_image(*image),
        Event::Volumes(deletes) => world.spec.storage.deletes_on_scale_down = *deletes,
        Event::ByHand(replicas) => world.scale_by_hand(*replicas),
        Event::Topic(partitions, replicas) => world.brokers.create(*partitions, *replicas),
        Event::Network(reachable) => world.reachable = *reachable,
        Event::NodeDown(broker) => world.node_down(*broker),
        Event::NodeUp(broker) => world.node_up(*broker),
        Event::NodeGone(broker) => world.node_gone(*broker),
        Event::Declare => world.declare(),
        Event::Drain(broker) => {
            world.spec.drained.insert(BrokerId(*broker));
        }
        Event::Uncordon => world.spec.drained.clear(),
        Event::Size(size) => world.want_size(size),
        Event::Fill(broker) => world.fill(*broker),
        Event::Config(value) => world.want_config(*value),
        Event::Time(seconds) => world.time(*seconds),
    }
}

/// Lets everything go on until the operator has nothing to do and nothing changes by itself any more.
fn settle(world: &mut World) {
    for _ in 0..ROUNDS_MAX {
        let before = world.fingerprint();
        world.controller();
        for _ in 0..BROKERS_MAX {
            world.kubelet();
        }
        let moved = world.brokers.act();
        let writes = world.pass(0, None);
        // As often as the operator looks by itself.
        world.time(30);
        if writes == 0 && !moved && !world.finalizes() && world.fingerprint() == before {
            return;
        }
    }
    panic!("never at rest: {:?}", world.plan(0));
}

/// Each life is some dozen decisions, of which one takes milliseconds unoptimised: the same two dozen lives each time, so that it says the same
/// each time. `PROPTEST_CASES` asks for so many others.
fn lives() -> ProptestConfig {
    let config = ProptestConfig::default();
    if std::env::var_os("PROPTEST_CASES").is_some() {
        return config;
    }
    ProptestConfig {
        cases: 24,
        rng_seed: RngSeed::Fixed(1),
        failure_persistence: None,
        ..config
    }
}

/// What happens to one cluster.
#[derive(Debug)]
struct Life {
    /// How many brokers it begins with.
    begin: u32,
    /// Volumes of brokers that leave are deleted.
    deletes: bool,
    /// Partitions and replicas of each topic that there is from the beginning.
    topics: Vec<(usize, usize)>,
    events: Vec<Event>,
}

impl Life {
    /// Lets it all happen, and then lets the world calm down.
    fn is_led(&self) -> Result<(), TestCaseError> {
        let mut world = World::of(self.begin);
        world.spec.storage.deletes_on_scale_down = self.deletes;
        for (partitions, replicas) in &self.topics {
            world.brokers.create(*partitions, *replicas);
        }
        for event in &self.events {
            happens(&mut world, event);
        }
        world.reachable = true;
        world.want_image(0);
        // What waits now waits for proof that a disk is lost, or for a person to give up what is on it.
        settle(&mut world);
        let waits: Vec<&str> = world
            .plan(0)
            .plan
            .blocked
            .iter()
            .map(|blocked| blocked.gate)
            .collect();
        let is_told = waits.iter().any(|gate| {
            *gate == heal::HEALING || gates::HEAL.iter().any(|known| known.name == *gate)
        });
        prop_assert!(!world.someone_is_away() || is_told, "{:?}", waits);
        world.nodes_up();
        // Each time one is given up others may have become the last.
        for _ in 0..BROKERS_MAX {
            world.declare();
            settle(&mut world);
        }

        let decision = world.plan(0);
        prop_assert!(
            decision.plan.steps.is_empty(),
            "a world at rest plans {:?}",
            decision.plan.steps
        );
        let blocked: Vec<&str> = decision
            .plan
            .blocked
            .iter()
            .map(|blocked| blocked.gate)
            .collect();
        let refused = gates::SCALE.iter().any(|gate| blocked == [gate.name]);
        prop_assert!(blocked.is_empty() || refused, "{:?}", decision.plan.blocked);
        let present = world.pods_ready();
        if refused {
            prop_assert!(present > world.spec.replicas || !world.spec.drained.is_empty());
        } else {
            prop_assert_eq!(present, world.spec.replicas);
            prop_assert!(
                !world.brokers.drains_beside(&world.spec.drained),
                "nobody is left half drained"
            );
            prop_assert!(
                world.brokers.is_even(&world.spec.drained),
                "replicas are spread"
            );
            let stay = (0..world.spec.replicas).map(BrokerId);
            let stay = stay
                .filter(|broker| !world.spec.drained.contains(broker))
                .count();
            for broker in world
                .spec
                .drained
                .iter()
                .filter(|broker| broker.0 < world.spec.replicas)
            {
                prop_assert_eq!(
                    world.brokers.holds(broker.0),
                    0,
                    "broker {} is emptied",
                    broker
                );
            }
            let own = own_replicas(self.begin).min(stay);
            prop_assert_eq!(
                world.brokers.own_replicas(),
                [own].into(),
                "what was lowered is raised again"
            );
        }
        prop_assert!(world.all_run("image-0"), "everybody runs what is wanted");
        prop_assert!(world.have_room(), "volumes have grown");
        prop_assert!(world.is_configured(), "brokers were told");
        prop_assert_eq!(
            world.brokers.level(),
            NEWEST,
            "what everybody knows is used in the end"
        );
        prop_assert!(world.brokers.all_whole());
        Ok(())
    }
}

proptest! {
    #![proptest_config(lives())]

    #[test]
    fn whatever_happens_a_cluster_comes_to_what_was_asked_or_names_its_block_and_loses_nothing_on_the_way(
        begin in 1..=BROKERS_MAX, deletes in any::<bool>(), topics in prop::collection::vec((1_usize..6, 1_usize..4), 0..3),
        events in prop::collection::vec(event(), 0..60),
    ) {
        Life { begin, deletes, topics, events }.is_led()?;
    }

    #[test]
    fn the_same_world_is_decided_on_alike(begin in 1..=BROKERS_MAX, events in prop::collection::vec(event(), 0..30)) {
        let mut world = World::of(begin);
        events.iter().for_each(|event| happens(&mut world, event));
        let seen = world.observed(0);
        prop_assert_eq!(decide(&world.spec, &seen).unwrap(), decide(&world.spec, &seen).unwrap());
    }
}

/// Lives that once went wrong.
#[test]
fn a_set_scaled_to_none_by_hand_while_a_disk_is_lost_comes_back() {
    let pass = Event::Pass {
        age: 0,
        killed_after: None,
    };
    for begin in 1..=BROKERS_MAX {
        for deletes in [false, true] {
            let life = Life {
                begin,
                deletes,
                topics: vec![(3, begin.min(2) as usize)],
                events: vec![
                    Event::NodeGone(0),
                    pass.clone(),
                    Event::Scale(1),
                    Event::ByHand(0),
                ],
            };
            life.is_led().unwrap();
        }
    }
}

#[test]
fn a_disk_that_is_lost_before_it_was_filled_is_replaced_as_well() {
    let pass = || Event::Pass {
        age: 0,
        killed_after: None,
    };
    let lost = || [Event::NodeGone(0), pass(), pass(), pass()];
    let back = [Event::Controller, Event::Kubelet];
    let life = Life {
        begin: 4,
        deletes: false,
        topics: Vec::new(),
        events: lost().into_iter().chain(back).chain(lost()).collect(),
    };
    life.is_led().unwrap();
}

#[test]
fn what_was_lowered_is_not_forgotten_for_an_old_look() {
    let pass = |age| Event::Pass {
        age,
        killed_after: None,
    };
    let life = Life {
        begin: 3,
        deletes: false,
        topics: Vec::new(),
        events: vec![Event::Scale(1), pass(0), pass(0), Event::Scale(3), pass(1)],
    };
    life.is_led().unwrap();
}

#[test]
fn a_new_broker_that_is_restarted_while_replicas_are_spread_gets_its_share() {
    let pass = || Event::Pass {
        age: 0,
        killed_after: None,
    };
    let life = Life {
        begin: 5,
        deletes: false,
        topics: Vec::new(),
        events: vec![
            Event::Topic(1, 2),
            Event::Scale(4),
            pass(),
            pass(),
            Event::Scale(5),
            Event::Brokers(6),
            Event::Image(1),
            pass(),
            Event::Kubelet,
        ],
    };
    life.is_led().unwrap();
}

#[test]
fn nobody_is_restarted_or_evicted_by_what_a_broker_says_that_is_cut_off() {
    let life = |events| Life {
        begin: 3,
        deletes: false,
        topics: vec![(3, 3)],
        events,
    };
    let all_are_well = vec![Event::Image(1), Event::CutOff(0)];
    life(all_are_well).is_led().unwrap();
    // One has been away, is ready again and behind, which the one that is asked has not heard of.
    let one_is_behind = vec![
        Event::Evict(1),
        Event::Kubelet,
        Event::Controller,
        Event::Kubelet,
        Event::CutOff(2),
        Event::Evict(0),
    ];
    life(one_is_behind).is_led().unwrap();
}

#[test]
fn an_upgrade_is_finished_after_its_time_and_there_is_a_way_back_until_then() {
    let mut world = World::of(3);
    world.brokers.create(6, 3);
    world.want_image(1);
    settle(&mut world);
    assert!(world.all_run("image-1"), "an older one is accepted");
    assert_eq!(world.brokers.level(), NEWEST - 1);
    world.want_image(0);
    settle(&mut world);
    assert_eq!(world.brokers.level(), NEWEST);
    // From there on it is not, and nobody is touched.
    world.want_image(1);
    let refused = world.plan(0).plan;
    assert_eq!(refused.steps, []);
    assert_eq!(refused.blocked[0].gate, super::upgrade::REFUSED);
    settle(&mut world);
    assert!(world.all_run("image-0"));
    assert_eq!(world.pods_ready(), 3);
}

#[test]
fn three_become_two_and_three_again_and_the_brokers_own_topics_follow() {
    let mut world = World::of(3);
    world.brokers.create(6, 2);
    world.spec.replicas = 2;
    settle(&mut world);
    assert_eq!(world.pods_ready(), 2);
    assert_eq!(world.brokers.own_replicas(), [2].into());
    world.spec.replicas = 3;
    settle(&mut world);
    assert_eq!(world.pods_ready(), 3);
    assert_eq!(world.brokers.own_replicas(), [3].into());
    assert!(world.brokers.all_whole());
}

#[test]
fn three_become_five_and_three_again_and_the_replicas_follow() {
    let mut world = World::of(3);
    world.brokers.create(12, 2);
    world.spec.replicas = 5;
    settle(&mut world);
    assert_eq!(world.pods_ready(), 5);
    assert!(world.brokers.holds(4) > 0, "the new ones have their share");
    world.spec.replicas = 3;
    world.spec.storage.deletes_on_scale_down = true;
    settle(&mut world);
    assert_eq!((world.pods_ready(), world.claims()), (3, 3));
    assert!(world.brokers.all_whole());
}
