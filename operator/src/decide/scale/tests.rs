use std::collections::{BTreeMap, BTreeSet};

use super::{Case, DRAINING, Lowered, SPREAD_WAITS, Scale, scale};
use crate::decide::cluster::Step;
use crate::validate::Invalid;
use crate::world::{BrokerId, BrokerSeen, Look, MOVES_LEVEL, Process, TopicSeen};

const OWN_TOPIC: &str = "__consumer_offsets";

/// The topic of the brokers' own had so many replicas.
fn had(replicas: u32) -> Lowered {
    Lowered::parse(&format!("{OWN_TOPIC}={replicas}"))
}

/// A cluster of so many brokers that holds replicas, and in which all is well.
struct World {
    set: Option<u32>,
    remembered: Option<u32>,
    balanced: Option<u32>,
    lowered: Lowered,
    drained: BTreeSet<BrokerId>,
    drained_unread: Option<Invalid>,
    processes: BTreeMap<BrokerId, Process>,
    look: Option<Look>,
}

fn process() -> Process {
    Process {
        hash: None,
        ready: true,
        leaving: false,
    }
}

fn world(brokers: u32) -> World {
    let seen = BrokerSeen {
        alive: true,
        replicas: 9,
        ..BrokerSeen::default()
    };
    let ids = || (0..brokers).map(BrokerId);
    World {
        set: Some(brokers),
        remembered: None,
        balanced: Some(brokers),
        lowered: Lowered::default(),
        drained: BTreeSet::new(),
        drained_unread: None,
        processes: ids().map(|id| (id, process())).collect(),
        look: Some(Look {
            controller: Some(BrokerId(0)),
            brokers: ids().map(|id| (id, seen.clone())).collect(),
            voters: ids().take(3).collect(),
            feature_level: MOVES_LEVEL,
            ..Look::default()
        }),
    }
}

impl World {
    fn to(&self, wanted: u32) -> Scale {
        scale(&Case {
            wanted,
            set: self.set,
            remembered: self.remembered,
            balanced: self.balanced,
            lowered: &self.lowered,
            drained: &self.drained,
            drained_unread: self.drained_unread.as_ref(),
            processes: &self.processes,
            look: self.look.as_ref(),
        })
    }

    fn look(&mut self) -> &mut Look {
        self.look.get_or_insert_default()
    }

    fn broker(&mut self, id: u32) -> &mut BrokerSeen {
        self.look().brokers.entry(BrokerId(id)).or_default()
    }

    /// A topic of the brokers' own.
    fn own_topic(&mut self, replicas: u32, wanted: Option<u32>) {
        let topic = TopicSeen {
            replication_factor: replicas,
            wanted_replication_factor: wanted,
            internal: true,
            ..TopicSeen::default()
        };
        self.look().topics.insert(OWN_TOPIC.into(), topic);
    }

    /// A broker's drain, with so many replicas left.
    fn drains(&mut self, id: u32, replicas: u32) {
        let broker = self.broker(id);
        (broker.draining, broker.cordoned, broker.replicas) = (true, true, replicas);
        self.look().voters.retain(|voter| voter.0 != id);
    }
}

fn ids(brokers: &[u32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(BrokerId).collect()
}

fn gate(scale: &Scale) -> Option<&'static str> {
    scale.blocked.first().map(|blocked| blocked.gate)
}

#[test]
fn a_cluster_that_is_as_asked_asks_for_nothing() {
    let expected = Scale {
        brokers: 3,
        balanced: 3,
        ..Scale::default()
    };
    assert_eq!(world(3).to(3), expected);
}

#[test]
fn a_cluster_grows_at_once_and_its_replicas_are_spread_once_when_the_new_brokers_are_there() {
    let mut world = world(3);
    let scale = world.to(4);
    assert_eq!((scale.brokers, gate(&scale)), (4, Some(SPREAD_WAITS)));
    world.set = Some(4);
    world.processes.insert(BrokerId(3), process());
    assert_eq!(gate(&world.to(4)), Some(SPREAD_WAITS), "not registered");
    world.broker(3).alive = true;
    let scale = world.to(4);
    assert_eq!(scale.before, [Step::Rebalance { over: 4 }]);
    assert_eq!((scale.balanced, gate(&scale)), (4, None));
    world.balanced = Some(scale.balanced);
    assert_eq!(world.to(4).before, []);
}

#[test]
fn a_new_cluster_has_nothing_to_spread() {
    let world = World {
        set: None,
        remembered: None,
        balanced: None,
        lowered: Lowered::default(),
        drained: BTreeSet::new(),
        drained_unread: None,
        processes: BTreeMap::new(),
        look: None,
    };
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.balanced, gate(&scale)), (3, 3, None));
}

#[test]
fn brokers_that_go_are_drained_proven_empty_stopped_and_forgotten_in_this_order() {
    let mut world = world(5);
    let scale = world.to(3);
    let drain = Step::Drain {
        brokers: ids(&[3, 4]),
    };
    assert_eq!((scale.brokers, scale.before), (5, vec![drain]));
    world.drains(3, 4);
    world.drains(4, 0);
    // The highest goes alone when only it is empty.
    let scale = world.to(3);
    let prove = |broker| {
        vec![Step::ProveEmpty {
            brokers: ids(&[broker]),
        }]
    };
    assert_eq!((scale.brokers, &scale.before), (4, &prove(4)));
    assert_eq!((gate(&scale), &scale.after), (Some(DRAINING), &vec![]));
    let said = |scale: &Scale| scale.blocked[0].message.clone();
    assert!(said(&scale).starts_with("1 of the brokers is emptied"));
    assert!(said(&scale).contains("broker 3 holds 4 replicas"));
    world.drains(3, 1);
    world.drains(4, 3);
    let two = said(&world.to(3));
    assert!(two.starts_with("2 of the brokers are emptied"), "{two}");
    assert!(two.contains("broker 3 holds 1 replica, broker 4 holds 3 replicas"));
    world.drains(4, 0);

    world.set = Some(4);
    assert_eq!(world.to(3).after, [], "it still runs");
    world.processes.remove(&BrokerId(4));
    world.broker(4).alive = false;
    let forget = |brokers: &[u32]| {
        vec![Step::Unregister {
            brokers: ids(brokers),
        }]
    };
    assert_eq!(world.to(3).after, forget(&[4]));
    assert_eq!(world.to(3).brokers, 4, "what is empty does not come back");
    world.look().brokers.remove(&BrokerId(4));
    world.drains(3, 0);
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.before), (3, prove(3)));
    world.set = Some(3);
    world.processes.remove(&BrokerId(3));
    world.broker(3).alive = false;
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.balanced), (3, 3));
    assert_eq!((scale.after, scale.blocked), (forget(&[3]), vec![]));
}

#[test]
fn one_that_is_empty_below_one_that_is_not_stays() {
    let mut world = world(5);
    world.drains(3, 0);
    world.drains(4, 1);
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.before), (5, vec![]));
}

#[test]
fn a_broker_that_votes_or_is_not_drained_is_not_removed_however_empty() {
    let mut world = world(4);
    world.broker(3).replicas = 0;
    assert_eq!(world.to(3).brokers, 4, "nobody drains it");
    world.drains(3, 0);
    world.look().voters.push(BrokerId(3));
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.before), (4, vec![]));
    assert!(scale.blocked[0].message.contains("and votes"));
}

#[test]
fn changing_ones_mind_keeps_whoever_is_still_there() {
    let mut world = world(5);
    world.drains(3, 4);
    world.drains(4, 0);
    let keep = |brokers: &[u32]| Step::CancelDrain {
        brokers: ids(brokers),
    };
    let scale = world.to(5);
    assert_eq!(
        (scale.before, scale.after),
        (Vec::new(), vec![keep(&[3, 4])])
    );
    // What they gave away they get back.
    assert_eq!(scale.balanced, 3);
    let scale = world.to(4);
    assert_eq!(scale.after[0], keep(&[3]));
    assert_eq!((scale.brokers, scale.before.len()), (4, 1));
    // The set has lost one already: it comes back, and takes its share again.
    world.set = Some(4);
    world.balanced = Some(4);
    let scale = world.to(5);
    assert_eq!((scale.brokers, gate(&scale)), (5, Some(SPREAD_WAITS)));
}

#[test]
fn a_broker_that_never_came_up_goes_without_having_been_registered() {
    let mut world = world(3);
    world.set = Some(4);
    let starting = Process {
        ready: false,
        ..process()
    };
    world.processes.insert(BrokerId(3), starting);
    assert_eq!(world.to(3).brokers, 3);
    // Ready, and in no look yet: it may hold something by now.
    world.processes.insert(BrokerId(3), process());
    let scale = world.to(3);
    assert_eq!((scale.brokers, gate(&scale)), (4, Some(DRAINING)));
}

#[test]
fn a_set_that_was_scaled_by_hand_is_no_proof() {
    let mut world = world(3);
    world.set = Some(2);
    world.processes.remove(&BrokerId(2));
    assert_eq!(world.to(3).brokers, 3);
    let scale = world.to(2);
    assert_eq!((scale.brokers, scale.after), (3, vec![]));
}

#[test]
fn how_many_there_are_is_remembered_when_nobody_is_left_to_be_asked() {
    let mut world = world(3);
    (world.set, world.remembered, world.look) = (Some(0), Some(3), None);
    world.processes.clear();
    let scale = world.to(1);
    assert_eq!(
        (scale.brokers, gate(&scale)),
        (3, Some("ScaleDownBrokersNotSeen"))
    );
    // What is proven empty does not come back for that.
    let mut world = self::world(4);
    world.drains(3, 0);
    (world.set, world.remembered) = (Some(3), Some(4));
    world.processes.remove(&BrokerId(3));
    assert_eq!(world.to(3).brokers, 3);
}

#[test]
fn what_cannot_be_done_is_refused_with_the_numbers_and_nothing_happens() {
    let topic = |factor, wanted| TopicSeen {
        replication_factor: factor,
        wanted_replication_factor: wanted,
        ..TopicSeen::default()
    };
    type Change = fn(&mut World);
    let cases: [(Change, &str, &[&str]); 6] = [
        (
            |world| world.look = None,
            "ScaleDownBrokersNotSeen",
            &["no broker has answered"],
        ),
        (
            |world| world.look().controller = None,
            "ScaleDownBrokersNotSeen",
            &["no controller"],
        ),
        (
            |world| world.look().feature_level = 1,
            "ScaleDownFeatureLevel",
            &["feature level 2", "uses 1"],
        ),
        (
            |world| {
                drop(
                    world
                        .look()
                        .topics
                        .insert("wide".into(), TopicSeen::default()),
                )
            },
            "ScaleDownReplicationFactor",
            &["spec.replicas is 3", "1 topics", "wide (5)", "5 or more"],
        ),
        (
            |world| {
                drop(
                    world
                        .look()
                        .topics
                        .insert("grows".into(), TopicSeen::default()),
                )
            },
            "ScaleDownReplicationFactor",
            &["grows (4)"],
        ),
        (
            |world| world.broker(1).alive = false,
            "ScaleDownBrokersMissing",
            &["2 of 3 are alive", "broker 1"],
        ),
    ];
    for (change, expected, parts) in cases {
        let mut world = world(5);
        change(&mut world);
        let wide = [("wide", topic(5, None)), ("grows", topic(2, Some(4)))];
        for (name, seen) in wide {
            if let Some(topic) = world
                .look
                .as_mut()
                .and_then(|look| look.topics.get_mut(name))
            {
                *topic = seen;
            }
        }
        let scale = world.to(3);
        assert_eq!((scale.brokers, gate(&scale)), (5, Some(expected)));
        assert_eq!((&scale.before, &scale.after), (&vec![], &vec![]));
        for part in parts {
            let message = &scale.blocked[0].message;
            assert!(message.contains(part), "{message}");
        }
    }
}

#[test]
fn the_brokers_own_topics_get_fewer_replicas_before_brokers_go_and_have_them_again_when_there_are_more()
 {
    let mut world = world(3);
    world.own_topic(3, None);
    // What they had is remembered before anything is asked.
    let scale = world.to(2);
    assert_eq!((scale.brokers, scale.before), (3, vec![]));
    assert_eq!((scale.lowered, scale.blocked[0].gate), (had(3), DRAINING));
    world.lowered = had(3);
    let replicate = |replicas| Step::Replicate {
        topics: vec!["__consumer_offsets".into()],
        replicas,
    };
    let drain = Step::Drain { brokers: ids(&[2]) };
    let scale = world.to(2);
    assert_eq!(scale.before, [replicate(2), drain.clone()]);
    assert_eq!((&scale.lowered, gate(&scale)), (&had(3), Some(DRAINING)));
    world.own_topic(3, Some(2));
    assert_eq!(world.to(2).before, [drain], "asked once");
    // They have fewer, and there are fewer brokers.
    world.own_topic(2, None);
    world.look().brokers.remove(&BrokerId(2));
    world.processes.remove(&BrokerId(2));
    (world.set, world.balanced) = (Some(2), Some(2));
    let scale = world.to(2);
    assert_eq!((scale.after, scale.lowered), (vec![], had(3)));
    // One comes again.
    let mut world = self::world(3);
    (world.lowered, world.balanced) = (had(3), Some(2));
    world.own_topic(2, None);
    world.broker(2).alive = false;
    let scale = world.to(3);
    assert_eq!((scale.before, scale.lowered), (vec![], had(3)), "not yet");
    world.broker(2).alive = true;
    // Forgotten when it has been asked for, whatever an old look says.
    for seen in [2, 3] {
        world.own_topic(seen, None);
        let scale = world.to(3);
        assert_eq!(
            (&scale.before[..1], scale.lowered),
            (&[replicate(3)][..], Lowered::default())
        );
    }
    world.lowered = Lowered::default();
    world.balanced = Some(3);
    assert_eq!(world.to(3).before, [], "asked once");
}

#[test]
fn a_topic_of_a_persons_own_is_not_touched_and_still_refuses() {
    let mut world = world(3);
    world.own_topic(3, None);
    let wide = TopicSeen {
        replication_factor: 3,
        ..TopicSeen::default()
    };
    world.look().topics.insert("orders".into(), wide);
    let scale = world.to(2);
    assert_eq!(gate(&scale), Some("ScaleDownReplicationFactor"));
    assert_eq!((scale.before, scale.lowered), (vec![], Lowered::default()));
    let message = &scale.blocked[0].message;
    assert!(
        message.contains("orders (3)") && !message.contains("__consumer_offsets"),
        "{message}"
    );
}

#[test]
fn any_broker_is_emptied_and_stays_until_it_is_named_no_more() {
    let mut world = world(4);
    world.drained = ids(&[1]).into_iter().collect();
    let scale = world.to(4);
    assert_eq!(scale.before, [Step::Drain { brokers: ids(&[1]) }]);
    assert_eq!((scale.brokers, gate(&scale)), (4, Some(DRAINING)));
    assert!(
        scale.leaving.is_empty()
            && scale.blocked[0]
                .message
                .contains("not removed, as weir.dev/drain says: broker 1 holds 9"),
        "{:?}",
        scale.blocked
    );
    world.drains(1, 4);
    assert_eq!(world.to(4).before, [], "asked once");
    // Empty, it is as wanted, whatever else there is.
    world.drains(1, 0);
    world.broker(2).alive = false;
    assert_eq!(
        world.to(4),
        Scale {
            brokers: 4,
            balanced: 4,
            ..Scale::default()
        }
    );
    world.broker(2).alive = true;
    // Named no more, it stays and gets its share again.
    world.drained.clear();
    let scale = world.to(4);
    assert_eq!(scale.after, [Step::CancelDrain { brokers: ids(&[1]) }]);
    assert_eq!(scale.balanced, 1);
}

#[test]
fn a_drain_that_leaves_too_few_is_refused_with_the_remedy() {
    let mut small = world(3);
    small.drained = ids(&[0]).into_iter().collect();
    let scale = small.to(3);
    assert_eq!(
        (gate(&scale), scale.before),
        (Some("ScaleDownTooFewVoters"), vec![])
    );
    let message = &scale.blocked[0].message;
    assert!(
        message.contains("weir.dev/drain names 0") && message.contains("to 4 or more"),
        "{message}"
    );
    let mut world = world(5);
    world.drained = ids(&[0, 4]).into_iter().collect();
    // One that stays for a while is no reason to lower anything.
    world.own_topic(4, None);
    let scale = world.to(5);
    assert_eq!(
        (gate(&scale), scale.before),
        (Some("ScaleDownReplicationFactor"), vec![])
    );
    assert!(scale.blocked[0].message.contains("6 or more"));
}

#[test]
fn a_drain_that_a_gate_holds_is_neither_called_off_nor_completed() {
    let mut world = world(4);
    world.drains(3, 0);
    world.broker(1).alive = false;
    let scale = world.to(3);
    assert_eq!((scale.brokers, scale.before), (4, vec![]));
}

#[test]
fn nothing_is_asked_that_would_only_be_refused_for_want_of_a_controller() {
    let mut world = world(4);
    world.drains(1, 3);
    let gone = world.broker(3);
    (gone.alive, gone.draining, gone.replicas) = (false, true, 0);
    world.processes.remove(&BrokerId(3));
    world.set = Some(3);
    let asked = world.to(3);
    let stays = Step::CancelDrain { brokers: ids(&[1]) };
    let forgotten = Step::Unregister { brokers: ids(&[3]) };
    assert_eq!(
        (asked.before, asked.after),
        (Vec::new(), vec![stays, forgotten])
    );
    world.look().controller = None;
    let asked = world.to(3);
    assert_eq!((asked.before, asked.after), (Vec::new(), Vec::new()));
}

#[test]
fn while_nobody_can_read_who_is_to_be_emptied_all_else_goes_on_and_nobody_is_filled_again() {
    let mut world = world(5);
    world.broker(1).draining = true;
    world.drained_unread = Some(Invalid::new(
        "metadata",
        "\"broker-1\" is no number",
        "Write",
    ));
    let scale = world.to(5);
    assert_eq!((&scale.before, &scale.after), (&vec![], &vec![]));
    assert_eq!(gate(&scale), Some("DrainAnnotationInvalid"));
    let scale = world.to(6);
    assert_eq!(scale.brokers, 6);
    world.drained_unread = None;
    let scale = world.to(5);
    assert_eq!(scale.after, [Step::CancelDrain { brokers: ids(&[1]) }]);
}

#[test]
fn each_of_the_brokers_own_topics_has_again_what_it_had_itself() {
    let mut world = world(5);
    world.own_topic(5, None);
    let other = |replicas| TopicSeen {
        replication_factor: replicas,
        internal: true,
        ..TopicSeen::default()
    };
    let topics = [("__share_group_state", 3), ("__small", 1)];
    let topics = topics.map(|(name, replicas)| (name.to_owned(), other(replicas)));
    world.look().topics.extend(topics);
    // Each is remembered when it is lowered, and with what was remembered before.
    let remembered = world.to(4).lowered;
    assert_eq!(remembered, had(5));
    world.lowered = remembered;
    world.own_topic(4, None);
    let remembered = world.to(2).lowered;
    let both = "__consumer_offsets=5,__share_group_state=3";
    assert_eq!(remembered.text().as_deref(), Some(both));
    world.own_topic(2, None);
    let topics = [("__share_group_state".to_owned(), other(2))];
    world.look().topics.extend(topics);
    (world.lowered, world.set, world.balanced) = (remembered, Some(3), Some(3));
    for gone in [3, 4] {
        world.look().brokers.remove(&BrokerId(gone));
        world.processes.remove(&BrokerId(gone));
    }
    let replicate = |topic: &str, replicas| Step::Replicate {
        topics: vec![topic.into()],
        replicas,
    };
    // One has all that it had, the other as much as there are brokers for.
    world.look().topics.remove("__small");
    let scale = world.to(3);
    let expected = Step::Replicate {
        topics: vec![OWN_TOPIC.into(), "__share_group_state".into()],
        replicas: 3,
    };
    assert_eq!(scale.before, [expected]);
    assert_eq!(scale.lowered, had(5));
    // What an older operator remembered is of all of them.
    world.lowered = Lowered::parse("3");
    assert_eq!(world.lowered.text().as_deref(), Some("3"));
    let scale = world.to(3);
    assert_eq!(scale.before.len(), 1);
    assert_eq!(scale.lowered, Lowered::default());
    world.lowered = Lowered::parse("__consumer_offsets=3,__share_group_state=2,nonsense");
    let topics = [("__share_group_state".to_owned(), other(1))];
    world.look().topics.extend(topics);
    let scale = world.to(3);
    let both = [replicate("__share_group_state", 2), replicate(OWN_TOPIC, 3)];
    assert_eq!(scale.before, both);
}
