//! Properties of what is decided for Topics: a small model of the brokers carries it out, with random beginnings, until nothing is left to
//! do. Those of Clusters are in [`super::simulation`].
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::topic::{self, ClusterView, Step, TopicsPlan};
use crate::validate::{Deletion, Drift, Topic};
use crate::world::{BrokerId, BrokerSeen, Key, Look, MOVES_LEVEL, TopicSeen};

/// Enough passes for any world of these sizes.
const PASSES_MAX: usize = 64;

fn brokers_topics(look: &mut Look, plan: &TopicsPlan) {
    for step in &plan.steps {
        match step {
            Step::Create {
                topic,
                partitions,
                replication_factor,
                config,
                ..
            } => {
                let seen = TopicSeen {
                    partitions: partitions.unwrap_or(3),
                    replication_factor: replication_factor.unwrap_or(1),
                    config: config.clone(),
                    ..TopicSeen::default()
                };
                assert!(
                    look.topics.insert(topic.clone(), seen).is_none(),
                    "{topic} was there"
                );
            }
            Step::Alter {
                topic,
                grow,
                replicas,
                set_config,
                unset_config,
                ..
            } => {
                let seen = look.topics.get_mut(topic).unwrap();
                if let Some((from, to)) = grow {
                    assert!(
                        seen.partitions == *from && from < to,
                        "{topic} from {from} to {to}"
                    );
                    seen.partitions = *to;
                }
                if let Some((_, to)) = replicas {
                    assert!(
                        seen.wanted_replication_factor != Some(*to),
                        "{topic} is asked twice"
                    );
                    seen.wanted_replication_factor = Some(*to);
                }
                seen.config.extend(set_config.clone());
                seen.config.retain(|key, _| !unset_config.contains(key));
            }
            Step::Delete { topic, .. } => {
                look.topics.remove(topic);
            }
            Step::TakeFinalizer { .. } | Step::ReleaseFinalizer { .. } => {}
        }
    }
}

/// What the brokers do by themselves.
fn replicate(look: &mut Look) {
    for topic in look.topics.values_mut() {
        topic.replication_factor = topic
            .wanted_replication_factor
            .take()
            .unwrap_or(topic.replication_factor);
    }
}

/// What the API server makes of finalizers: a resource that is being deleted goes when it has none.
fn api_server(topics: &mut Vec<Topic>, plan: &TopicsPlan) {
    for step in &plan.steps {
        let Some(topic) = topics
            .iter_mut()
            .find(|topic| topic.key == *step.resource())
        else {
            continue;
        };
        match step {
            Step::TakeFinalizer { .. } => topic.finalizer = true,
            Step::ReleaseFinalizer { .. } => topic.finalizer = false,
            _ => {}
        }
    }
    topics.retain(|topic| !topic.deleting || topic.finalizer);
}

fn config() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map("[ab]", "[01]", 0..3)
}

prop_compose! {
    fn any_topic(at: usize)(
        name in "[a-d]", created_s in 0_i64..3, partitions in prop::option::of(1_u32..6), factor in prop::option::of(1_u32..5),
        config in config(), configured in prop::collection::btree_set("[ab]", 0..3), report in any::<bool>(), applied in any::<bool>(), delete in any::<bool>(), deleting in prop::bool::weighted(0.2), finalizer in any::<bool>(), release in any::<bool>(),
    ) -> Topic {
        Topic {
            key: Key::new("shop", format!("resource-{at}")),
            cluster: Key::new("shop", "main"),
            created_s, name, partitions,
            replication_factor: factor,
            config,
            drift: if report { Drift::Report } else { Drift::Repair },
            applied,
            configured,
            deletion: if delete { Deletion::Delete } else { Deletion::Retain },
            deleting, finalizer, release,
        }
    }
}

fn topics() -> impl Strategy<Value = Vec<Topic>> {
    (
        any_topic(0),
        any_topic(1),
        any_topic(2),
        any_topic(3),
        any_topic(4),
        0_usize..6,
    )
        .prop_map(|(a, b, c, d, e, many)| [a, b, c, d, e].into_iter().take(many).collect())
}

fn look() -> impl Strategy<Value = Look> {
    let topic =
        (1_u32..6, 1_u32..3, config()).prop_map(|(partitions, replication_factor, config)| {
            TopicSeen {
                partitions,
                replication_factor,
                config,
                ..TopicSeen::default()
            }
        });
    prop::collection::btree_map("[a-e]", topic, 0..5).prop_map(|topics| Look {
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
        topics,
        feature_level: MOVES_LEVEL,
        ..Look::default()
    })
}

proptest! {
    #[test]
    fn topics_converge_never_shrink_and_are_deleted_only_when_told(mut topics in topics(), mut seen in look()) {
        let before = seen.clone();
        let told: BTreeSet<String> = topics.iter().filter(|topic| topic.deleting && topic.deletion == Deletion::Delete).map(|topic| topic.name.clone()).collect();
        let mut passes = 0;
        loop {
            let plan = topic::plan(ClusterView::Seen { paused: false, look: &seen }, &topics);
            let changing = seen.topics.values().any(|topic| topic.wanted_replication_factor.is_some());
            if plan.steps.is_empty() && !changing {
                break;
            }
            // Asked once more while replicas are on their way, nothing is asked for twice.
            if passes % 2 == 1 {
                replicate(&mut seen);
            }
            brokers_topics(&mut seen, &plan);
            api_server(&mut topics, &plan);
            passes += 1;
            prop_assert!(passes < PASSES_MAX, "still {plan:?}");
        }
        for (name, topic) in &before.topics {
            match seen.topics.get(name) {
                None => prop_assert!(told.contains(name), "{} was deleted", name),
                Some(now) => prop_assert!(now.partitions >= topic.partitions || told.contains(name)),
            }
        }
        // Whatever stays is as asked, or its gate is named.
        let plan = topic::plan(ClusterView::Seen { paused: false, look: &seen }, &topics);
        let is_told = |topic: &Topic| plan.blocked.contains_key(&topic.key) || plan.drifted.contains_key(&topic.key);
        for topic in topics.iter().filter(|topic| !topic.deleting && !is_told(topic)) {
            let now = &seen.topics[&topic.name];
            prop_assert!(topic.replication_factor.is_none_or(|wanted| wanted == now.replication_factor));
            prop_assert!(topic.partitions.is_none_or(|wanted| wanted == now.partitions));
            prop_assert!(topic.config.iter().all(|(key, value)| now.config.get(key) == Some(value)));
        }
    }

    #[test]
    fn what_somebody_else_changed_is_only_told_where_that_is_the_policy(mut topics in topics(), seen in look()) {
        for topic in &mut topics {
            (topic.drift, topic.applied, topic.deleting, topic.finalizer) = (Drift::Report, true, false, topic.deletion == Deletion::Delete);
        }
        let plan = topic::plan(ClusterView::Seen { paused: false, look: &seen }, &topics);
        prop_assert_eq!(&plan.steps, &vec![]);
        for topic in &topics {
            prop_assert!(!plan.blocked.contains_key(&topic.key) || plan.blocked[&topic.key].gate == "Conflict");
        }
    }

    #[test]
    fn the_order_of_resources_does_not_matter((shuffled, topics) in topics().prop_flat_map(|topics| (Just(topics.clone()).prop_shuffle(), Just(topics))), seen in look()) {
        let view = ClusterView::Seen { paused: false, look: &seen };
        prop_assert_eq!(topic::plan(view, &topics), topic::plan(view, &shuffled));
    }

    #[test]
    fn nothing_is_done_to_topics_of_a_paused_or_unseen_cluster(topics in topics(), seen in look()) {
        for view in [ClusterView::Seen { paused: true, look: &seen }, ClusterView::Unseen { paused: false }] {
            let plan = topic::plan(view, &topics);
            prop_assert!(plan.steps.iter().all(|step| matches!(step, Step::ReleaseFinalizer { .. })), "{:?}", plan);
        }
    }
}
