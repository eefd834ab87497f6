#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};

use weir_tls::{Due, LEAF_LIFE, Role};

use super::{Decision, Extent, Step, World, decide};
use crate::decide::certificates::members;
use crate::objects;
use crate::testing::{cluster, converged, resource};
use crate::validate::{Cluster, Defaults};
use crate::world::BrokerId;

fn applied(decision: &Decision) -> Vec<String> {
    let title = |step: &Step| match step {
        Step::Apply { child, change } => Some(format!("{}: {change}", child.title())),
        _ => None,
    };
    decision.plan.steps.iter().filter_map(title).collect()
}

fn gates(decision: &Decision) -> Vec<&'static str> {
    decision
        .plan
        .blocked
        .iter()
        .map(|blocked| blocked.gate)
        .collect()
}

fn restarts(decision: &Decision) -> Vec<BrokerId> {
    let broker = |step: &Step| {
        if let Step::RestartBroker { broker, .. } = step {
            Some(*broker)
        } else {
            None
        }
    };
    decision.plan.steps.iter().filter_map(broker).collect()
}

fn set(world: &mut World) -> &mut Value {
    world
        .objects
        .get_mut(&("StatefulSet".to_owned(), "shop-broker".to_owned()))
        .unwrap()
}

#[test]
fn a_new_cluster_gets_its_objects_and_those_that_pods_need_come_before_the_pods() {
    let decision = decide(&cluster(), &World::default()).unwrap();
    let titles: Vec<String> = applied(&decision)
        .into_iter()
        .map(|title| title.replace(": missing", ""))
        .collect();
    assert_eq!(
        titles,
        [
            "ServiceAccount shop-broker",
            "ConfigMap shop-config",
            "Service shop-brokers",
            "Service shop-bootstrap",
            "PodDisruptionBudget shop-broker",
            "StatefulSet shop-broker",
        ]
    );
    assert_eq!(gates(&decision), Vec::<&str>::new());
}

fn issued(decision: &Decision) -> Vec<Due> {
    let due = |step: &Step| match step {
        Step::Issue { due } => Some(due.clone()),
        _ => None,
    };
    decision
        .plan
        .steps
        .iter()
        .filter_map(due)
        .flatten()
        .collect()
}

/// As many seconds after the certificates were made.
fn later(seconds: u64) -> World {
    let mut world = converged(&cluster());
    world.now_s += i64::try_from(seconds).unwrap();
    world
}

#[test]
fn a_new_cluster_gets_certificates_before_anything_else() {
    let decision = decide(&cluster(), &World::default()).unwrap();
    let members = members(3).into_iter().map(Due::Leaf);
    let all: Vec<Due> = [Due::Authority].into_iter().chain(members).collect();
    assert_eq!(issued(&decision), all);
    assert!(matches!(decision.plan.steps[0], Step::Issue { .. }));
}

#[test]
fn a_broker_that_is_new_gets_its_certificate_before_its_pod() {
    let more = Cluster {
        replicas: 9,
        ..cluster()
    };
    let decision = decide(&more, &converged(&cluster())).unwrap();
    assert_eq!(issued(&decision), [Due::Leaf(Role::Broker(8))]);
    assert!(matches!(decision.plan.steps[0], Step::Issue { .. }));
}

#[test]
fn certificates_are_renewed_in_time_and_no_pod_is_rolled_for_it() {
    assert!(decide(&cluster(), &later(0)).unwrap().plan.is_empty());
    let two_thirds = LEAF_LIFE.as_secs() / 3 * 2;
    let hour = 3600;
    assert!(
        decide(&cluster(), &later(two_thirds - 2 * hour))
            .unwrap()
            .plan
            .is_empty()
    );
    let decision = decide(&cluster(), &later(two_thirds + hour)).unwrap();
    assert_eq!(issued(&decision).len(), 4);
    assert_eq!(decision.plan.steps.len(), 1, "{:?}", decision.plan);
    assert_eq!((restarts(&decision), decision.outdated), (vec![], vec![]));
}

#[test]
fn an_authority_that_cannot_be_used_is_a_gate_and_everything_else_goes_on() {
    let mut world = converged(&cluster());
    let at = ("Secret".to_owned(), "shop-ca".to_owned());
    world.objects.get_mut(&at).unwrap()["data"] = json!({});
    let decision = decide(&cluster(), &world).unwrap();
    assert_eq!(gates(&decision), ["CertificatesUnusable"]);
    assert_eq!(issued(&decision), []);
    assert!(decision.plan.blocked[0].message.contains("Secret shop-ca"));
}

#[test]
fn what_somebody_changed_in_a_secret_is_changed_back_and_not_told() {
    let mut world = converged(&cluster());
    let at = ("Secret".to_owned(), "shop-operator-tls".to_owned());
    world.objects.get_mut(&at).unwrap()["data"]["ca.crt"] = json!("QQ==");
    assert_eq!(
        applied(&decide(&cluster(), &world).unwrap()),
        ["Secret shop-operator-tls: data.ca.crt"]
    );
    // A certificate that is lost is made anew.
    let data = world.objects.get_mut(&at).unwrap();
    data["data"].as_object_mut().unwrap().remove("operator.key");
    assert_eq!(
        issued(&decide(&cluster(), &world).unwrap()),
        [Due::Leaf(Role::Operator)]
    );
}

#[test]
fn a_converged_world_plans_nothing() {
    let decision = decide(&cluster(), &converged(&cluster())).unwrap();
    assert!(decision.plan.is_empty(), "{:?}", decision.plan);
}

#[test]
fn what_somebody_changed_by_hand_is_changed_back() {
    let mut world = converged(&cluster());
    set(&mut world)["spec"]["replicas"] = json!(1);
    assert_eq!(
        applied(&decide(&cluster(), &world).unwrap()),
        ["StatefulSet shop-broker: spec.replicas: 1 → 3"]
    );
}

/// A cluster of three, of which the last is drained.
fn drained(replicas: u32) -> World {
    let mut world = converged(&cluster());
    let look = world.look.as_mut().unwrap();
    look.voters = vec![BrokerId(0)];
    let broker = look.brokers.get_mut(&BrokerId(2)).unwrap();
    (broker.draining, broker.replicas) = (true, replicas);
    world
}

fn smaller() -> Cluster {
    Cluster {
        replicas: 2,
        ..cluster()
    }
}

#[test]
fn fewer_replicas_drain_and_leave_the_set_as_it_is_until_the_last_replica_has_gone() {
    let decision = decide(&smaller(), &converged(&cluster())).unwrap();
    let drain = Step::Drain {
        brokers: vec![BrokerId(2)],
    };
    assert_eq!(decision.plan.steps, [drain]);
    assert_eq!((gates(&decision), decision.brokers), (vec!["Draining"], 3));
    let decision = decide(&smaller(), &drained(1)).unwrap();
    assert_eq!(decision.plan.steps, []);
    assert_eq!((gates(&decision), decision.brokers), (vec!["Draining"], 3));
}

#[test]
fn the_set_loses_a_broker_right_after_the_proof_that_it_is_empty() {
    let mut wanted = smaller();
    wanted.storage.deletes_on_scale_down = true;
    let decision = decide(&wanted, &drained(0)).unwrap();
    let steps: Vec<String> = decision
        .plan
        .steps
        .iter()
        .map(crate::plan::cluster_sentence)
        .collect();
    let last: Vec<&str> = steps[steps.len() - 3..]
        .iter()
        .map(String::as_str)
        .collect();
    assert_eq!(
        last,
        [
            "mark PersistentVolumeClaim data-shop-broker-2 to be deleted once its broker is gone",
            "prove that nothing is left on broker 2",
            "change StatefulSet shop-broker (spec.replicas: 3 → 2)",
        ]
    );
}

#[test]
fn fewer_replicas_than_a_topic_has_change_nothing_and_the_gate_says_so() {
    let mut world = converged(&cluster());
    let topic = crate::world::TopicSeen {
        replication_factor: 3,
        ..Default::default()
    };
    let topics = &mut world.look.as_mut().unwrap().topics;
    topics.insert("orders".into(), topic);
    let decision = decide(&smaller(), &world).unwrap();
    assert_eq!(decision.plan.steps, []);
    assert_eq!(
        (gates(&decision), decision.brokers),
        (vec!["ScaleDownReplicationFactor"], 3)
    );
}

#[test]
fn more_replicas_grow_the_set_and_restart_nobody() {
    let larger = Cluster {
        replicas: 5,
        ..cluster()
    };
    let decision = decide(&larger, &converged(&cluster())).unwrap();
    assert!(
        applied(&decision)
            .iter()
            .any(|change| change == "StatefulSet shop-broker: spec.replicas: 3 → 5"),
        "{:?}",
        applied(&decision)
    );
    assert_eq!((restarts(&decision), decision.outdated), (vec![], vec![]));
}

fn larger(size: &str) -> Cluster {
    let mut resource = resource();
    resource.spec.storage.size = weir_crds::StorageSize(size.into());
    let defaults = Defaults {
        broker_image: "weir-broker:0.1.0".into(),
    };
    Cluster::validate(&resource, &defaults).unwrap()
}

#[test]
fn a_larger_volume_grows_the_claims_first_and_does_not_touch_those_of_the_set() {
    let mut world = converged(&cluster());
    let grown = |decision: &Decision| {
        let sizes = decision.plan.steps.iter().map(|step| match step {
            Step::GrowVolume { claim, to, .. } => format!("{claim}: {to}"),
            other => format!("{other:?}"),
        });
        sizes.collect::<Vec<_>>()
    };
    assert_eq!(
        grown(&decide(&larger("20Gi"), &world).unwrap()),
        [
            "data-shop-broker-0: 20Gi",
            "data-shop-broker-1: 20Gi",
            "data-shop-broker-2: 20Gi"
        ]
    );
    for claim in world.claims.values_mut() {
        claim.requested = "20Gi".into();
    }
    let decision = decide(&larger("20Gi"), &world).unwrap();
    assert_eq!(
        (gates(&decision), grown(&decision)),
        (vec!["StorageResizing"], vec![])
    );
    for claim in world.claims.values_mut() {
        claim.capacity = "20Gi".into();
    }
    let decision = decide(&larger("20Gi"), &world).unwrap();
    assert!(decision.plan.is_empty(), "{:?}", decision.plan);
}

#[test]
fn claims_that_the_api_server_completed_are_given_back_as_they_are() {
    let mut world = converged(&cluster());
    let claim = &mut set(&mut world)["spec"]["volumeClaimTemplates"][0];
    claim["spec"]["volumeMode"] = json!("Filesystem");
    claim["status"] = json!({"phase": "Pending"});
    assert!(decide(&cluster(), &world).unwrap().plan.is_empty());
}

#[test]
fn a_changed_configuration_that_brokers_read_when_they_start_rolls_one_at_a_time() {
    let changed = configured(&[("retention.ms", "604800000"), ("max.connections", "6")]);
    let decision = decide(&changed, &converged(&cluster())).unwrap();
    assert_eq!(restarts(&decision).len(), 1);
    assert_eq!(decision.outdated.len(), 3);
    assert_eq!(told(&decision), None);
}

/// The cluster with this configuration.
fn configured(config: &[(&str, &str)]) -> Cluster {
    let mut resource = resource();
    let config = config.iter();
    resource.spec.config = config
        .map(|(key, value)| ((*key).to_owned(), (*value).into()))
        .collect();
    let defaults = Defaults {
        broker_image: "weir-broker:0.1.0".into(),
    };
    Cluster::validate(&resource, &defaults).unwrap()
}

/// What all brokers are told while they run.
fn told(decision: &Decision) -> Option<String> {
    decision.plan.steps.iter().find_map(|step| match step {
        Step::Configure { set, unset } => Some(crate::plan::configs_of(set, unset)),
        _ => None,
    })
}

/// Carries out what is decided, as far as it is objects and what brokers are told, until nothing is left to do.
fn settled(world: &mut World, cluster: &Cluster) {
    /// What is told in the first pass is seen in the second, and remembered.
    const PASSES_MAX: usize = 3;
    for _ in 0..PASSES_MAX {
        let decision = decide(cluster, world).unwrap();
        for step in &decision.plan.steps {
            match step {
                Step::Apply { child, .. } => {
                    let at = (child.resource.kind.clone(), child.name.clone());
                    world.objects.insert(at, child.content.clone());
                }
                Step::Configure { set, unset } => {
                    let config = &mut world.look.as_mut().unwrap().config;
                    config.extend(set.clone());
                    config.retain(|key, _| !unset.contains(key));
                }
                other => panic!("{other:?}"),
            }
        }
    }
    let decision = decide(cluster, world).unwrap();
    assert!(decision.plan.is_empty(), "{:?}", decision.plan);
}

#[test]
fn what_brokers_can_change_while_they_run_they_are_told_and_nobody_is_restarted() {
    let mut world = converged(&cluster());
    let changed = configured(&[("retention.ms", "1000"), ("num.partitions", "6")]);
    let decision = decide(&changed, &world).unwrap();
    assert_eq!(
        told(&decision).as_deref(),
        Some("log.retention.ms=1000, num.partitions=6")
    );
    assert_eq!((restarts(&decision), decision.outdated.len()), (vec![], 0));
    settled(&mut world, &changed);

    // Somebody else has another opinion.
    let config = &mut world.look.as_mut().unwrap().config;
    config.insert("num.partitions".into(), "7".into());
    let decision = decide(&changed, &world).unwrap();
    assert_eq!(told(&decision).as_deref(), Some("num.partitions=6"));
    settled(&mut world, &changed);

    // What was only told goes as it came; what is not the resource's stays.
    let config = &mut world.look.as_mut().unwrap().config;
    config.insert("log.cleaner.backoff.ms".into(), "1".into());
    let fewer = configured(&[("retention.ms", "1000")]);
    let decision = decide(&fewer, &world).unwrap();
    assert_eq!(told(&decision).as_deref(), Some("num.partitions unset"));
    assert_eq!(restarts(&decision), []);
    settled(&mut world, &fewer);
    let config = &world.look.as_ref().unwrap().config;
    assert!(config.contains_key("log.cleaner.backoff.ms"));

    // What stands in the file since the cluster was made would come back.
    let none = configured(&[]);
    let decision = decide(&none, &world).unwrap();
    assert_eq!(told(&decision).as_deref(), Some("log.retention.ms unset"));
    assert_eq!(restarts(&decision).len(), 1);
}

#[test]
fn an_operator_that_tells_brokers_restarts_none_that_was_made_before_it() {
    let mut world = converged(&cluster());
    let annotations = &mut set(&mut world)["metadata"]["annotations"];
    let annotations = annotations.as_object_mut().unwrap();
    annotations.remove("weir.dev/file-config");
    annotations.remove("weir.dev/live-config");
    let decision = decide(&cluster(), &world).unwrap();
    assert_eq!((restarts(&decision), decision.outdated.len()), (vec![], 0));
    assert_eq!(told(&decision), None);
    assert_eq!(
        applied(&decision).len(),
        1,
        "what is in the file is remembered"
    );
    // And brokers that cannot be told have it in their file, as ever.
    world.look.as_mut().unwrap().configures = false;
    let changed = configured(&[("retention.ms", "1000")]);
    let decision = decide(&changed, &world).unwrap();
    assert_eq!(told(&decision), None);
    assert_eq!(restarts(&decision).len(), 1);
}

#[test]
fn a_newer_operators_default_image_restarts_nobody() {
    let newer = Cluster::validate(
        &resource(),
        &Defaults {
            broker_image: "weir-broker:9.9.9".into(),
        },
    )
    .unwrap();
    let decision = decide(&newer, &converged(&cluster())).unwrap();
    assert!(decision.plan.is_empty(), "{:?}", decision.plan);
}

#[test]
fn paused_says_what_waits() {
    let paused = Cluster {
        paused: true,
        replicas: 5,
        ..cluster()
    };
    assert_eq!(
        gates(&decide(&paused, &converged(&cluster())).unwrap()),
        ["Paused", "SpreadWaits"]
    );
    let idle = Cluster {
        paused: true,
        ..cluster()
    };
    assert!(
        decide(&idle, &converged(&cluster()))
            .unwrap()
            .plan
            .steps
            .is_empty()
    );
}

#[test]
fn the_hash_of_a_pod_is_the_same_for_ever() {
    // When this fails, an upgrade of the operator would restart every cluster there is. Keep the hash, whatever is changed.
    assert_eq!(
        objects::pod_hash(&cluster(), "weir-broker:0.1.0"),
        "6ee3588afb1f661b"
    );
}

#[test]
fn what_a_process_does_not_notice_is_not_in_its_hash() {
    let hash = |cluster: &Cluster| objects::pod_hash(cluster, "image");
    let before = hash(&cluster());
    assert_eq!(
        hash(&Cluster {
            replicas: 9,
            cluster_id: Some("id".into()),
            paused: true,
            ..cluster()
        }),
        before
    );
    let mut labelled = cluster();
    labelled.pod.labels.insert("team".into(), "red".into());
    assert_ne!(hash(&labelled), before);
    assert_ne!(objects::pod_hash(&cluster(), "other"), before);
}

/// What the brokers' disruption budget is changed to.
fn budget(decision: &Decision) -> Option<Value> {
    decision.plan.steps.iter().find_map(|step| match step {
        Step::Apply { child, .. } if child.resource.kind == "PodDisruptionBudget" => {
            Some(child.content.clone())
        }
        _ => None,
    })
}

#[test]
fn of_two_nodes_that_are_drained_the_second_waits_for_what_the_first_one_missed() {
    let mut world = converged(&cluster());
    let at = ("PodDisruptionBudget".to_owned(), "shop-broker".to_owned());
    assert_eq!(world.objects[&at]["spec"]["maxUnavailable"], json!(1));
    let process = |world: &mut World, ready, leaving| {
        let process = world.processes.get_mut(&BrokerId(0)).unwrap();
        (process.ready, process.leaving) = (ready, leaving);
    };
    process(&mut world, true, true);
    let decision = decide(&cluster(), &world).unwrap();
    let closed = budget(&decision).unwrap();
    assert_eq!(closed["spec"]["maxUnavailable"], json!(0));
    assert!(decision.evictions_held);
    world.objects.insert(at.clone(), closed);

    // It is back, and is behind.
    process(&mut world, true, false);
    let needed = |world: &mut World, partitions| {
        let look = world.look.as_mut().unwrap();
        let needed = crate::world::Needed {
            partitions,
            named: vec!["orders-0".into()],
        };
        look.brokers.get_mut(&BrokerId(1)).unwrap().needed = Some(needed);
    };
    needed(&mut world, 7);
    let behind = budget(&decide(&cluster(), &world).unwrap()).unwrap();
    assert_eq!(behind["spec"]["maxUnavailable"], json!(0));
    world.objects.insert(at.clone(), behind);
    // How far it is is written nowhere.
    needed(&mut world, 3);
    assert_eq!(budget(&decide(&cluster(), &world).unwrap()), None);
    // Nobody answers: it stays.
    let look = world.look.take();
    assert_eq!(budget(&decide(&cluster(), &world).unwrap()), None);
    world.look = look;

    needed(&mut world, 0);
    let decision = decide(&cluster(), &world).unwrap();
    let open = budget(&decision).unwrap();
    assert_eq!(open["spec"]["maxUnavailable"], json!(1));
    assert!(!decision.evictions_held);
    world.objects.insert(at, open);
    assert!(decide(&cluster(), &world).unwrap().plan.is_empty());
}

#[test]
fn the_budget_of_a_paused_cluster_follows_its_brokers_and_nothing_that_waits() {
    let paused = Cluster {
        paused: true,
        replicas: 5,
        image: crate::validate::Image::Named("newer".into()),
        ..cluster()
    };
    let mut world = converged(&cluster());
    let decision = decide(&paused, &world).unwrap();
    assert_eq!(
        budget(&decision),
        None,
        "neither is anybody missing nor restarted"
    );
    assert_eq!(decision.steps(Extent::Paused).count(), 0);
    world.processes.get_mut(&BrokerId(1)).unwrap().ready = false;
    let decision = decide(&paused, &world).unwrap();
    let kept: Vec<&Step> = decision.steps(Extent::Paused).collect();
    let [Step::Apply { child, .. }] = kept[..] else {
        panic!("{kept:?}");
    };
    assert_eq!(child.content["spec"]["maxUnavailable"], json!(0));
    let waiting = decision.plan.steps.len() - 1;
    let said = &decision.plan.blocked[0].message;
    assert!(said.contains(&format!(" {waiting} steps wait")), "{said}");
    // One that was never there is not made.
    let at = ("PodDisruptionBudget".to_owned(), "shop-broker".to_owned());
    world.objects.remove(&at);
    let decision = decide(&paused, &world).unwrap();
    assert_eq!(decision.steps(Extent::Paused).count(), 0);
    // Where only the budget is behind, nothing waits.
    let idle = Cluster {
        paused: true,
        ..cluster()
    };
    let mut world = converged(&cluster());
    world.processes.get_mut(&BrokerId(1)).unwrap().ready = false;
    let decision = decide(&idle, &world).unwrap();
    assert!(!gates(&decision).contains(&"Paused"));
    assert_eq!(decision.steps(Extent::Paused).count(), 1);
}

#[test]
fn while_a_spec_cannot_be_carried_out_certificates_are_renewed_and_nothing_else_is_done() {
    let last = Cluster {
        paused: true,
        image: crate::validate::Image::Named("newer".into()),
        ..cluster()
    };
    let mut world = converged(&cluster());
    assert_eq!(
        decide(&last, &world)
            .unwrap()
            .steps(Extent::Invalid)
            .count(),
        0
    );
    // So late that they are to be renewed.
    world.now_s += i64::try_from(LEAF_LIFE.as_secs()).unwrap() - 1;
    let decision = decide(&last, &world).unwrap();
    assert!(decision.plan.steps.len() > 1, "{:?}", decision.plan.steps);
    let kept: Vec<&Step> = decision.steps(Extent::Invalid).collect();
    assert!(matches!(kept[..], [Step::Issue { .. }]), "{kept:?}");
    assert_eq!(decision.steps(Extent::Paused).count(), 0);
    assert_eq!(
        decision.steps(Extent::All).count(),
        decision.plan.steps.len()
    );
}

#[test]
fn a_restart_closes_the_budget_before_it_begins() {
    let newer = Cluster {
        image: crate::validate::Image::Named("newer".into()),
        ..cluster()
    };
    let decision = decide(&newer, &converged(&cluster())).unwrap();
    let place = |wanted: fn(&Step) -> bool| decision.plan.steps.iter().position(wanted).unwrap();
    let closes = place(
        |step| matches!(step, Step::Apply { child, .. } if child.resource.kind == "PodDisruptionBudget"),
    );
    let restarts = place(|step| matches!(step, Step::RestartBroker { .. }));
    assert!(closes < restarts, "{:?}", decision.plan.steps);
    assert_eq!(
        budget(&decision).unwrap()["spec"]["maxUnavailable"],
        json!(0)
    );
}

fn take(world: &mut World, kind: &str, name: &str) {
    let at = (kind.to_owned(), name.to_owned());
    world.objects.remove(&at);
    world.taken.insert(at);
}

#[test]
fn what_is_somebody_elses_is_left_as_it_is_and_no_broker_begins_beside_it() {
    for (kind, name) in [
        ("ServiceAccount", "shop-broker"),
        ("ConfigMap", "shop-config"),
        ("Service", "shop-brokers"),
        ("StatefulSet", "shop-broker"),
    ] {
        let mut world = World::default();
        take(&mut world, kind, name);
        let decision = decide(&cluster(), &world).unwrap();
        let applied = applied(&decision);
        for no in [format!("{kind} {name}: "), "StatefulSet".to_owned()] {
            assert!(!applied.iter().any(|one| one.starts_with(&no)), "{no}");
        }
        assert_eq!(gates(&decision), ["NameTaken"]);
        let said = &decision.plan.blocked[0].message;
        assert!(said.contains(&format!(": {kind} {name}.")), "{said}");
    }
    // Nor is anything made that would have to be kept in it.
    let mut world = World::default();
    take(&mut world, "Secret", "shop-broker-tls");
    let decision = decide(&cluster(), &world).unwrap();
    assert_eq!(issued(&decision), []);
    assert_eq!(gates(&decision), ["NameTaken"]);
}

#[test]
fn a_cluster_that_runs_goes_on_beside_what_is_somebody_elses() {
    let mut world = converged(&cluster());
    take(&mut world, "Service", "shop-bootstrap");
    let decision = decide(&cluster(), &world).unwrap();
    assert_eq!((decision.plan.steps, decision.brokers), (vec![], 3));
    let newer = Cluster {
        image: crate::validate::Image::Named("newer".into()),
        ..cluster()
    };
    let decision = decide(&newer, &world).unwrap();
    assert_eq!(restarts(&decision).len(), 1);
    assert!(gates(&decision).contains(&"NameTaken"));
}

/// The StatefulSet as it is to be applied, if it is.
fn applied_set(decision: &Decision) -> Option<&Value> {
    decision.plan.steps.iter().find_map(|step| match step {
        Step::Apply { child, .. } if child.resource.kind == "StatefulSet" => Some(&child.content),
        _ => None,
    })
}

#[test]
fn no_broker_is_restarted_into_what_is_somebody_elses() {
    let newer = Cluster {
        image: crate::validate::Image::Named("newer".into()),
        ..cluster()
    };
    let larger = Cluster {
        replicas: 4,
        ..newer.clone()
    };
    for (kind, name) in [
        ("ServiceAccount", "shop-broker"),
        ("ConfigMap", "shop-config"),
        ("Secret", "shop-broker-tls"),
    ] {
        let mut world = converged(&cluster());
        let before = world.clone();
        take(&mut world, kind, name);
        let decision = decide(&newer, &world).unwrap();
        assert_eq!((restarts(&decision), decision.outdated.len()), (vec![], 3));
        let mut said = decision.plan.blocked.iter().map(|one| &one.message);
        assert!(said.any(|one| one.ends_with("no broker is restarted")));
        let template = set(&mut world)["spec"]["template"].clone();
        *set(&mut world) = applied_set(&decision).unwrap().clone();
        assert_eq!(set(&mut world)["spec"]["template"], template);
        assert_eq!(applied_set(&decide(&newer, &world).unwrap()), None);
        let decision = decide(&larger, &world).unwrap();
        let grown = &applied_set(&decision).unwrap()["spec"];
        assert_eq!(
            (&grown["template"], &grown["replicas"]),
            (&template, &json!(4))
        );

        let at = (kind.to_owned(), name.to_owned());
        world
            .objects
            .insert(at.clone(), before.objects[&at].clone());
        world.taken.clear();
        let decision = decide(&newer, &world).unwrap();
        let wanted = applied_set(&decision).unwrap();
        let container = &wanted["spec"]["template"]["spec"]["containers"][0];
        assert_eq!(container["image"], "newer", "once the name is free");
        assert_eq!(restarts(&decision).len(), 1);
    }
}
