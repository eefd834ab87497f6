use std::collections::{BTreeMap, BTreeSet};

use super::{ClusterView, Step, TopicsPlan, plan};
use crate::validate::{Deletion, Drift, Topic};
use crate::world::{BrokerId, BrokerSeen, Key, Look, MOVES_LEVEL, TopicSeen};

fn topic(name: &str) -> Topic {
    Topic {
        key: Key::new("shop", name),
        cluster: Key::new("shop", "main"),
        created_s: 100,
        name: name.to_owned(),
        partitions: None,
        replication_factor: None,
        config: BTreeMap::new(),
        drift: Drift::Repair,
        applied: false,
        configured: BTreeSet::new(),
        deletion: Deletion::Retain,
        deleting: false,
        finalizer: false,
        release: false,
    }
}

fn config(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

type Has<'a> = (&'a str, u32, &'a [(&'a str, &'a str)]);

fn look(topics: &[Has<'_>]) -> Look {
    Look {
        controller: Some(BrokerId(0)),
        brokers: (0..3)
            .map(|id| {
                (
                    BrokerId(id),
                    BrokerSeen {
                        alive: true,
                        ..BrokerSeen::default()
                    },
                )
            })
            .collect(),
        topics: topics
            .iter()
            .map(|(name, partitions, pairs)| {
                let seen = TopicSeen {
                    partitions: *partitions,
                    replication_factor: 1,
                    config: config(pairs),
                    ..TopicSeen::default()
                };
                ((*name).to_owned(), seen)
            })
            .collect(),
        feature_level: MOVES_LEVEL,
        ..Look::default()
    }
}

fn against(look: &Look, topics: &[Topic]) -> TopicsPlan {
    plan(
        ClusterView::Seen {
            paused: false,
            look,
        },
        topics,
    )
}

fn gate(plan: &TopicsPlan, name: &str) -> Option<&'static str> {
    plan.blocked
        .get(&Key::new("shop", name))
        .map(|blocked| blocked.gate)
}

#[test]
fn a_topic_that_is_not_there_is_created_with_what_is_set_and_nothing_else() {
    let wanted = Topic {
        partitions: Some(12),
        config: config(&[("retention.ms", "1000")]),
        ..topic("orders")
    };
    let created = Step::Create {
        resource: wanted.key.clone(),
        topic: "orders".into(),
        partitions: Some(12),
        replication_factor: None,
        config: config(&[("retention.ms", "1000")]),
    };
    assert_eq!(against(&look(&[]), &[wanted]).steps, [created]);
}

#[test]
fn what_is_unset_is_left_alone() {
    let there = look(&[(
        "orders",
        7,
        &[("retention.ms", "5"), ("cleanup.policy", "compact")],
    )]);
    let wanted = Topic {
        config: config(&[("retention.ms", "5")]),
        ..topic("orders")
    };
    assert_eq!(against(&there, &[wanted]), TopicsPlan::default());
}

#[test]
fn a_value_that_brokers_store_in_another_spelling_is_not_altered_for_ever() {
    let there = look(&[(
        "orders",
        7,
        &[
            ("cleanup.policy", "compact,delete"),
            ("preallocate", "true"),
        ],
    )]);
    let wanted = Topic {
        config: config(&[
            ("cleanup.policy", "compact, delete"),
            ("preallocate", "TRUE"),
        ]),
        ..topic("orders")
    };
    assert_eq!(against(&there, &[wanted]), TopicsPlan::default());
}

#[test]
fn drift_is_repaired_and_partitions_grow_in_one_step() {
    let there = look(&[("orders", 7, &[("retention.ms", "9")])]);
    let wanted = Topic {
        partitions: Some(9),
        config: config(&[("retention.ms", "5")]),
        ..topic("orders")
    };
    let altered = Step::Alter {
        resource: wanted.key.clone(),
        topic: "orders".into(),
        grow: Some((7, 9)),
        replicas: None,
        set_config: config(&[("retention.ms", "5")]),
        unset_config: BTreeSet::new(),
    };
    assert_eq!(against(&there, &[wanted]).steps, [altered]);
}

#[test]
fn what_the_resource_names_no_more_goes_back_to_the_default_and_nothing_else_does() {
    let others = ("cleanup.policy", "compact");
    let there = look(&[("orders", 7, &[("retention.ms", "9"), others])]);
    let named = |keys: &[&str]| Topic {
        configured: keys.iter().map(|key| (*key).to_owned()).collect(),
        ..topic("orders")
    };
    assert_eq!(against(&there, &[named(&[])]), TopicsPlan::default());
    // It went back before.
    assert_eq!(
        against(&there, &[named(&["segment.ms"])]),
        TopicsPlan::default()
    );
    let wanted = named(&["retention.ms"]);
    let altered = Step::Alter {
        resource: wanted.key.clone(),
        topic: "orders".into(),
        grow: None,
        replicas: None,
        set_config: BTreeMap::new(),
        unset_config: BTreeSet::from(["retention.ms".to_owned()]),
    };
    assert_eq!(against(&there, &[wanted]).steps, [altered]);
    let kept = Topic {
        config: config(&[("retention.ms", "9")]),
        ..named(&["retention.ms"])
    };
    assert_eq!(against(&there, &[kept]), TopicsPlan::default());
}

#[test]
fn gates_say_no_before_anything_is_done() {
    let there = look(&[("orders", 7, &[])]);
    for (wanted, expected) in [
        (
            Topic {
                partitions: Some(6),
                ..topic("orders")
            },
            "PartitionsShrinkRefused",
        ),
        (
            Topic {
                replication_factor: Some(4),
                ..topic("orders")
            },
            "ReplicationFactorAboveBrokers",
        ),
        (
            Topic {
                replication_factor: Some(4),
                ..topic("new")
            },
            "ReplicationFactorAboveBrokers",
        ),
    ] {
        let plan = against(&there, std::slice::from_ref(&wanted));
        assert_eq!(
            (gate(&plan, &wanted.name), plan.steps.len()),
            (Some(expected), 0)
        );
    }
    let wanted = [topic("orders")];
    assert_eq!(
        gate(&plan(ClusterView::Gone, &wanted), "orders"),
        Some("ClusterNotFound")
    );
    assert_eq!(
        gate(
            &plan(ClusterView::Unseen { paused: false }, &wanted),
            "orders"
        ),
        Some("BrokersNotSeen")
    );
    assert_eq!(
        gate(
            &plan(
                ClusterView::Seen {
                    paused: true,
                    look: &there
                },
                &wanted
            ),
            "orders"
        ),
        Some("Paused")
    );
}

#[test]
fn a_refusal_names_the_field_both_numbers_and_the_remedy() {
    let plan = against(
        &look(&[("orders", 7, &[])]),
        &[Topic {
            partitions: Some(6),
            ..topic("orders")
        }],
    );
    let message = plan
        .blocked
        .values()
        .next()
        .map(|blocked| blocked.message.clone())
        .unwrap_or_default();
    for part in [
        "spec.partitions is 6",
        "has 7",
        "Set spec.partitions to 7 or more",
    ] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn of_two_resources_for_one_topic_the_older_wins() {
    let there = look(&[("orders", 7, &[])]);
    let older = Topic {
        name: "orders".into(),
        partitions: Some(8),
        created_s: 1,
        ..topic("zz-older")
    };
    let newer = Topic {
        name: "orders".into(),
        partitions: Some(9),
        created_s: 2,
        ..topic("aa-newer")
    };
    let plan = against(&there, &[newer.clone(), older.clone()]);
    assert_eq!(gate(&plan, "aa-newer"), Some("Conflict"));
    assert!(
        matches!(plan.steps.as_slice(), [Step::Alter { resource, grow: Some((7, 8)), .. }] if *resource == older.key)
    );
    // And the other takes over when the older one goes, even while its finalizer still holds it.
    let older = Topic {
        deleting: true,
        finalizer: true,
        deletion: Deletion::Delete,
        ..older
    };
    let plan = against(&there, &[newer.clone(), older.clone()]);
    assert_eq!(gate(&plan, "aa-newer"), None);
    assert!(
        plan.steps
            .iter()
            .all(|step| !matches!(step, Step::Delete { .. })),
        "its data belongs to the other now: {plan:?}"
    );
}

#[test]
fn the_finalizer_is_taken_before_the_topic_is_made_and_only_when_data_goes_with_the_resource() {
    let plan = against(
        &look(&[]),
        &[Topic {
            deletion: Deletion::Delete,
            ..topic("orders")
        }],
    );
    assert!(
        matches!(
            plan.steps.as_slice(),
            [Step::TakeFinalizer { .. }, Step::Create { .. }]
        ),
        "{plan:?}"
    );
    // The policy was changed back: nothing holds the resource any more.
    let plan = against(
        &look(&[("orders", 1, &[])]),
        &[Topic {
            finalizer: true,
            ..topic("orders")
        }],
    );
    assert!(
        matches!(plan.steps.as_slice(), [Step::ReleaseFinalizer { .. }]),
        "{plan:?}"
    );
}

#[test]
fn deleting_a_resource_deletes_the_topic_only_when_its_policy_says_so() {
    let there = look(&[("orders", 1, &[])]);
    let going = Topic {
        deleting: true,
        finalizer: true,
        deletion: Deletion::Delete,
        ..topic("orders")
    };
    assert!(matches!(
        against(&there, std::slice::from_ref(&going))
            .steps
            .as_slice(),
        [Step::Delete { .. }]
    ));
    // Gone on the brokers: only then is the resource let go.
    assert!(matches!(
        against(&look(&[]), std::slice::from_ref(&going))
            .steps
            .as_slice(),
        [Step::ReleaseFinalizer { .. }]
    ));
    // On the word of a broker that may be cut off from the others it is not.
    let cut_off = Look {
        controller: None,
        ..look(&[])
    };
    let plan = against(&cut_off, std::slice::from_ref(&going));
    assert_eq!(plan.steps, []);
    assert_eq!(plan.blocked[&going.key].gate, "BrokersNotSeen");
    let retained = Topic {
        deletion: Deletion::Retain,
        ..going.clone()
    };
    assert!(matches!(
        against(&there, &[retained]).steps.as_slice(),
        [Step::ReleaseFinalizer { .. }]
    ));
    // Without a finalizer nothing waits for us.
    assert_eq!(
        against(
            &there,
            &[Topic {
                finalizer: false,
                ..going
            }]
        ),
        TopicsPlan::default()
    );
}

#[test]
fn a_finalizer_never_holds_a_namespace_when_there_is_no_cluster_to_clean_up_in() {
    let going = Topic {
        deleting: true,
        finalizer: true,
        deletion: Deletion::Delete,
        ..topic("orders")
    };
    assert!(matches!(
        plan(ClusterView::Gone, std::slice::from_ref(&going))
            .steps
            .as_slice(),
        [Step::ReleaseFinalizer { .. }]
    ));
    // The brokers may come back; until then a person can let go, and is told how.
    let waiting = plan(
        ClusterView::Unseen { paused: false },
        std::slice::from_ref(&going),
    );
    let message = waiting
        .blocked
        .values()
        .next()
        .map(|blocked| blocked.message.clone())
        .unwrap_or_default();
    assert!(
        waiting.steps.is_empty() && message.contains("weir.dev/release=true"),
        "{message}"
    );
    let released = Topic {
        release: true,
        ..going
    };
    assert!(matches!(
        plan(ClusterView::Unseen { paused: false }, &[released])
            .steps
            .as_slice(),
        [Step::ReleaseFinalizer { .. }]
    ));
}

/// A topic of one replica, of which another number is on its way.
fn replicating(wanted: Option<u32>) -> Look {
    let mut look = look(&[("orders", 7, &[])]);
    if let Some(topic) = look.topics.get_mut("orders") {
        topic.wanted_replication_factor = wanted;
    }
    look
}

#[test]
fn another_number_of_replicas_is_asked_for_once() {
    let wanted = Topic {
        replication_factor: Some(3),
        ..topic("orders")
    };
    let altered = Step::Alter {
        resource: wanted.key.clone(),
        topic: "orders".into(),
        grow: None,
        replicas: Some((1, 3)),
        set_config: BTreeMap::new(),
        unset_config: BTreeSet::new(),
    };
    let one = std::slice::from_ref(&wanted);
    let expected = std::slice::from_ref(&altered);
    assert_eq!(against(&replicating(None), one).steps, expected);
    assert_eq!(against(&replicating(Some(3)), one), TopicsPlan::default());
    // Half-way another one.
    assert_eq!(against(&replicating(Some(2)), one).steps, [altered]);
}

#[test]
fn brokers_on_their_way_out_count_for_no_replica_and_old_ones_move_none() {
    let wanted = [Topic {
        replication_factor: Some(3),
        ..topic("orders")
    }];
    let mut leaving = replicating(None);
    if let Some(broker) = leaving.brokers.get_mut(&BrokerId(2)) {
        broker.cordoned = true;
    }
    let plan = against(&leaving, &wanted);
    let blocked = &plan.blocked[&wanted[0].key];
    assert_eq!(blocked.gate, "ReplicationFactorAboveBrokers");
    assert!(
        blocked
            .message
            .contains("3 brokers, of which 1 are on their way out"),
        "{blocked:?}"
    );
    assert!(
        blocked.message.contains("set it to 2 or less"),
        "{blocked:?}"
    );
    let mut old = replicating(None);
    old.feature_level = 1;
    assert_eq!(
        gate(&against(&old, &wanted), "orders"),
        Some("FeatureLevelTooLow")
    );
}

fn reported(applied: bool) -> Topic {
    Topic {
        drift: Drift::Report,
        applied,
        partitions: Some(6),
        config: config(&[("retention.ms", "5")]),
        ..topic("orders")
    }
}

#[test]
fn what_somebody_else_changed_is_told_and_left_as_it_is_where_that_is_the_policy() {
    let wanted = reported(true);
    for (there, expected) in [
        (
            look(&[("orders", 6, &[("retention.ms", "9")])]),
            "retention.ms is 9 in place of 5",
        ),
        (
            look(&[("orders", 6, &[])]),
            "retention.ms is the cluster's default in place of 5",
        ),
        (
            look(&[("orders", 7, &[("retention.ms", "5")])]),
            "the topic has 7",
        ),
        (look(&[]), "the topic is gone"),
    ] {
        let plan = against(&there, std::slice::from_ref(&wanted));
        assert_eq!((&plan.steps, plan.blocked.len()), (&vec![], 0));
        let drift = &plan.drifted[&wanted.key];
        assert!(drift.contains(expected), "{drift}");
    }
}

#[test]
fn a_change_of_the_resource_itself_is_carried_out_whatever_the_policy_is() {
    let there = look(&[("orders", 3, &[])]);
    let plan = against(&there, &[reported(false)]);
    assert_eq!((plan.steps.len(), plan.drifted.len()), (1, 0));
}
