//! Properties of the decisions over simulated worlds: small models of the StatefulSet controller and of brokers carry out what was
//! decided, with random beginnings, until nothing is left to do.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::cluster::{self, World, decide};
use super::topic::{self, ClusterView, Step, TopicsPlan};
use crate::names;
use crate::objects::{self, Existing};
use crate::testing;
use crate::validate::{Cluster, Deletion, Topic};
use crate::world::{BrokerId, BrokerSeen, Key, Look, Process, TopicSeen};

/// Enough passes for any world of these sizes: each broker restarts once, and each object is applied once.
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
                set_config,
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
                seen.config.extend(set_config.clone());
            }
            Step::Delete { topic, .. } => {
                look.topics.remove(topic);
            }
            Step::TakeFinalizer { .. } | Step::ReleaseFinalizer { .. } => {}
        }
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
        config in config(), delete in any::<bool>(), deleting in prop::bool::weighted(0.2), finalizer in any::<bool>(), release in any::<bool>(),
    ) -> Topic {
        Topic {
            key: Key::new("shop", format!("resource-{at}")),
            cluster: Key::new("shop", "main"),
            created_s, name, partitions,
            replication_factor: factor,
            config,
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
            if plan.steps.is_empty() {
                break;
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
        for topic in topics.iter().filter(|topic| !topic.deleting && !plan.blocked.contains_key(&topic.key)) {
            let now = &seen.topics[&topic.name];
            prop_assert!(topic.partitions.is_none_or(|wanted| wanted == now.partitions));
            prop_assert!(topic.config.iter().all(|(key, value)| now.config.get(key) == Some(value)));
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

    #[test]
    fn a_cluster_converges_one_restart_at_a_time_and_never_shrinks(
        wanted in 1_u32..6, present in 0_u32..6, ready in prop::collection::vec(any::<bool>(), 6), old in prop::collection::vec(any::<bool>(), 6),
    ) {
        let cluster = Cluster { replicas: wanted, ..testing::cluster() };
        let mut world = begin(&cluster, present, &ready, &old);
        let all_were_ready = present >= wanted && ready.iter().take(present as usize).all(|ready| *ready);
        let mut passes = 0;
        loop {
            let decision = decide(&cluster, &world).unwrap();
            prop_assert!(decision.brokers >= present, "{} of {present} brokers", decision.brokers);
            let restarts = decision.plan.steps.iter().filter(|step| matches!(step, cluster::Step::RestartBroker { .. })).count();
            prop_assert!(restarts <= 1);
            carry_out(&cluster, &mut world, &decision);
            let unready = world.processes.values().filter(|process| !process.ready).count();
            prop_assert!(!all_were_ready || unready <= 1, "{unready} brokers are away");
            if decision.plan.steps.is_empty() && unready == 0 {
                let gates: Vec<&str> = decision.plan.blocked.iter().map(|blocked| blocked.gate).collect();
                prop_assert_eq!(gates, if wanted < present { vec!["ScaleDownBlocked"] } else { vec![] });
                break;
            }
            kubelet(&mut world);
            passes += 1;
            prop_assert!(passes < PASSES_MAX, "still {:?}", decision.plan);
        }
    }
}

fn begin(cluster: &Cluster, present: u32, ready: &[bool], old: &[bool]) -> World {
    if present == 0 {
        return World {
            now_s: testing::made_at_s(),
            ..World::default()
        };
    }
    let there = Cluster {
        replicas: present,
        ..cluster.clone()
    };
    let mut world = testing::converged(&there);
    for (at, process) in world.processes.values_mut().enumerate() {
        process.ready = ready[at];
        if old[at] {
            process.hash = Some("old".to_owned());
        }
    }
    see(&mut world);
    world
}

/// The StatefulSet controller (parallel, on delete) and the API server.
fn carry_out(cluster: &Cluster, world: &mut World, decision: &cluster::Decision) {
    for step in &decision.plan.steps {
        match step {
            cluster::Step::Issue { due } => {
                let mut held = world.certificates(&cluster.key.name);
                held.issue(&cluster.key.name, due, testing::made_at())
                    .unwrap();
                for child in objects::secrets(cluster, &held).unwrap() {
                    let at = (child.resource.kind, child.name);
                    world.objects.insert(at, child.content);
                }
            }
            cluster::Step::Apply { child, .. } => {
                world.objects.insert(
                    (child.resource.kind.clone(), child.name.clone()),
                    child.content.clone(),
                );
            }
            cluster::Step::GrowVolume { broker, to, .. } => {
                let claim = world.claims.get_mut(broker).unwrap();
                (claim.requested, claim.capacity) = (to.clone(), to.clone());
            }
            cluster::Step::RestartBroker { broker, .. } => {
                world.processes.remove(broker);
            }
        }
    }
    let set = world
        .objects
        .get(&("StatefulSet".to_owned(), names::brokers(&cluster.key.name)));
    let replicas = Existing::of(set).replicas.unwrap_or(0);
    let hash = objects::pod_hash(cluster, world.existing(cluster).image(cluster));
    for broker in (0..replicas).map(BrokerId) {
        world.processes.entry(broker).or_insert_with(|| Process {
            hash: Some(hash.clone()),
            ready: false,
            leaving: false,
        });
    }
    see(world);
}

/// Pods become ready, and brokers register.
fn kubelet(world: &mut World) {
    world
        .processes
        .values_mut()
        .for_each(|process| process.ready = true);
    see(world);
}

fn see(world: &mut World) {
    let ready: Vec<BrokerId> = world
        .processes
        .iter()
        .filter(|(_, process)| process.ready)
        .map(|(broker, _)| *broker)
        .collect();
    let known = world
        .look
        .as_ref()
        .map(|look| look.brokers.keys().copied().collect::<Vec<_>>())
        .unwrap_or_default();
    world.look = (!ready.is_empty()).then(|| Look {
        brokers: known
            .into_iter()
            .chain(ready.clone())
            .map(|broker| {
                (
                    broker,
                    BrokerSeen {
                        alive: ready.contains(&broker),
                        ..BrokerSeen::default()
                    },
                )
            })
            .collect(),
        voters: (0..3)
            .map(BrokerId)
            .filter(|voter| world.processes.contains_key(voter))
            .collect(),
        ..Look::default()
    });
}
