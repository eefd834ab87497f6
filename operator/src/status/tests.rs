#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weir_crds::ClusterStatus;

use super::cluster::{Outcome, status};
use super::{MESSAGE_BYTES_MAX, holds, newly, truncated};
use crate::decide::Blocked;
use crate::decide::cluster::{World, decide};
use crate::decide::volumes;
use crate::testing::{cluster, converged};
use crate::validate::Cluster;
use crate::world::BrokerId;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn of(previous: &ClusterStatus, cluster: &Cluster, world: &World, now: Timestamp) -> ClusterStatus {
    let decision = decide(cluster, world).unwrap();
    let outcome = Outcome::Decided {
        cluster,
        world,
        decision: &decision,
        failed: None,
        unseen: None,
    };
    status(previous, Some(4), &outcome, now)
}

fn find<'a>(status: &'a ClusterStatus, kind: &str) -> &'a Condition {
    status
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
        .unwrap()
}

#[test]
fn the_same_world_later_is_the_same_status() {
    let first = of(
        &ClusterStatus::default(),
        &cluster(),
        &converged(&cluster()),
        at(1000),
    );
    let second = of(&first, &cluster(), &converged(&cluster()), at(2000));
    assert_eq!(first, second);
    assert_eq!(holds(&first.conditions, "Ready"), Some(true));
    assert_eq!(first.observed_generation, Some(4));
    assert_eq!(
        first.bootstrap.as_deref(),
        Some("shop-bootstrap.market.svc:9092")
    );
    assert_eq!(
        (
            first.replicas,
            first.ready_replicas,
            first.version.as_deref()
        ),
        (Some(3), Some(3), Some("0.1.0"))
    );
    assert_eq!(first.plan, None);
}

#[test]
fn a_conditions_time_moves_only_when_its_status_does() {
    let first = of(
        &ClusterStatus::default(),
        &cluster(),
        &converged(&cluster()),
        at(1000),
    );
    let mut world = converged(&cluster());
    world.processes.get_mut(&BrokerId(1)).unwrap().ready = false;
    let second = of(&first, &cluster(), &world, at(2000));
    assert_eq!(find(&second, "Ready").last_transition_time.0, at(2000));
    assert_eq!(
        (
            find(&second, "Ready").reason.as_str(),
            find(&second, "Ready").message.as_str()
        ),
        ("BrokersNotReady", "2 of 3 brokers are ready")
    );
    assert_eq!(find(&second, "Stalled").last_transition_time.0, at(1000));
    assert_eq!(holds(&second.conditions, "Reconciling"), Some(true));
}

#[test]
fn pods_that_are_ready_while_no_broker_answers_are_not_known_to_be_a_cluster() {
    let world = World {
        look: None,
        ..converged(&cluster())
    };
    let status = of(&ClusterStatus::default(), &cluster(), &world, at(1));
    assert_eq!(find(&status, "Ready").status, "Unknown");
}

#[test]
fn a_broker_that_leaves_hides_none_that_is_down() {
    let four = Cluster {
        replicas: 4,
        ..cluster()
    };
    // The set has lost the last one, which is not gone yet.
    let mut world = converged(&cluster());
    let extra = converged(&four);
    let look = world.look.as_mut().unwrap();
    let last = extra.look.unwrap().brokers.remove(&BrokerId(3)).unwrap();
    let last = crate::world::BrokerSeen {
        draining: true,
        ..last
    };
    look.brokers.insert(BrokerId(3), last);
    look.brokers.get_mut(&BrokerId(1)).unwrap().alive = false;
    world
        .processes
        .insert(BrokerId(3), extra.processes[&BrokerId(3)].clone());
    let ready = |world: &World| {
        let status = of(&ClusterStatus::default(), &cluster(), world, at(1));
        let ready = find(&status, "Ready");
        (ready.status.clone(), ready.message.clone())
    };
    let no = |message: &str| ("False".to_owned(), message.to_owned());
    assert_eq!(
        ready(&world),
        no("2 of 3 brokers are alive as the brokers see it")
    );
    world.processes.get_mut(&BrokerId(1)).unwrap().ready = false;
    assert_eq!(ready(&world), no("2 of 3 brokers are ready"));
}

#[test]
fn what_brokers_say_that_hear_from_no_controller_does_not_make_a_cluster_ready() {
    let mut world = converged(&cluster());
    world.look.as_mut().unwrap().controller = None;
    let status = of(&ClusterStatus::default(), &cluster(), &world, at(1));
    let ready = find(&status, "Ready");
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("Unknown", "NoController")
    );
}

#[test]
fn what_was_known_before_a_failed_look_stays_in_the_status() {
    let before = of(
        &ClusterStatus::default(),
        &cluster(),
        &converged(&cluster()),
        at(1),
    );
    let after = status(
        &before,
        Some(5),
        &Outcome::Unread("the API server is away".into()),
        at(2),
    );
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(
        (
            find(&after, "Ready").status.as_str(),
            find(&after, "Ready").reason.as_str()
        ),
        ("Unknown", "ObservationFailed")
    );
    assert_eq!(
        after.observed_generation,
        Some(4),
        "generation 5 was not looked at"
    );
}

#[test]
fn a_blocked_scale_down_is_a_condition_and_the_cluster_stays_ready() {
    let smaller = Cluster {
        replicas: 2,
        ..cluster()
    };
    let mut world = converged(&cluster());
    let wide = crate::world::TopicSeen {
        replication_factor: 3,
        ..Default::default()
    };
    let topics = &mut world.look.as_mut().unwrap().topics;
    topics.insert("orders".into(), wide);
    let status = of(&ClusterStatus::default(), &smaller, &world, at(1));
    for (kind, expected) in [
        ("Ready", true),
        ("ScaleDownBlocked", true),
        ("Stalled", true),
        ("Reconciling", false),
    ] {
        assert_eq!(holds(&status.conditions, kind), Some(expected), "{kind}");
    }
    let blocked = status.plan.unwrap().blocked;
    assert_eq!(
        (blocked[0].gate.as_str(), blocked[0].step.as_str()),
        ("ScaleDownReplicationFactor", "remove brokers")
    );
}

#[test]
fn what_brokers_said_last_is_not_told_for_ever() {
    let mut world = converged(&cluster());
    let mut status = of(&ClusterStatus::default(), &cluster(), &world, at(1000));
    world.look = None;
    for (now, told) in [(1010, true), (1039, true), (1040, false), (1041, false)] {
        status = of(&status, &cluster(), &world, at(now));
        assert_eq!(status.brokers.is_some(), told, "{now}");
    }
    assert!(status.cluster_id.is_some() && status.feature_level.is_some());
    let status = of(&status, &cluster(), &converged(&cluster()), at(1050));
    assert!(status.brokers.is_some());
}

#[test]
fn brokers_that_are_emptied_are_in_the_status_with_what_they_still_hold() {
    let smaller = Cluster {
        replicas: 2,
        ..cluster()
    };
    let mut world = converged(&cluster());
    let look = world.look.as_mut().unwrap();
    look.moving_partitions = 5;
    let broker = look.brokers.get_mut(&BrokerId(2)).unwrap();
    (broker.draining, broker.replicas) = (true, 7);
    let status = of(&ClusterStatus::default(), &smaller, &world, at(1));
    let reconciling = find(&status, "Reconciling");
    assert_eq!(reconciling.reason, "Draining");
    assert!(reconciling.message.contains("broker 2 holds 7 replicas"));
    for (kind, expected) in [
        ("Ready", true),
        ("ScaleDownBlocked", false),
        ("Stalled", false),
    ] {
        assert_eq!(holds(&status.conditions, kind), Some(expected), "{kind}");
    }
    let brokers = status.brokers.unwrap();
    assert_eq!(
        (brokers.draining, brokers.moving_partitions),
        (vec![2], Some(5))
    );
}

#[test]
fn only_what_is_new_is_told() {
    let ready = of(
        &ClusterStatus::default(),
        &cluster(),
        &converged(&cluster()),
        at(1),
    );
    assert!(newly(&[], &ready.conditions, "Ready").is_some());
    assert!(newly(&ready.conditions, &ready.conditions, "Ready").is_none());
    assert!(newly(&ready.conditions, &ready.conditions, "Stalled").is_none());
}

#[test]
fn messages_fit_and_are_cut_between_characters() {
    let long = truncated("ä".repeat(MESSAGE_BYTES_MAX), MESSAGE_BYTES_MAX);
    assert!(long.len() <= MESSAGE_BYTES_MAX && long.ends_with('…'));
    assert_eq!(truncated("short".into(), 10), "short");
}

#[test]
fn volumes_that_may_not_grow_stall_and_volumes_that_grow_reconcile() {
    let world = converged(&cluster());
    for (gate, stalled, reconciling) in [
        (volumes::PENDING, Some(true), Some(false)),
        (volumes::RESIZING, Some(false), Some(true)),
    ] {
        let mut decision = decide(&cluster(), &world).unwrap();
        let message = "why".to_owned();
        decision.plan.blocked.push(Blocked { gate, message });
        let outcome = Outcome::Decided {
            cluster: &cluster(),
            world: &world,
            decision: &decision,
            failed: None,
            unseen: None,
        };
        let status = status(&ClusterStatus::default(), Some(1), &outcome, at(1));
        let conditions = &status.conditions;
        assert_eq!(find(&status, "StorageResizePending").reason, gate);
        assert_eq!(
            (
                holds(conditions, "Stalled"),
                holds(conditions, "Reconciling"),
                holds(conditions, "Ready")
            ),
            (stalled, reconciling, Some(true))
        );
    }
}

#[test]
fn voters_that_are_missing_are_a_condition_and_what_nobody_saw_is_not_known() {
    let of = |world: &World| {
        let status = of(&ClusterStatus::default(), &cluster(), world, at(1));
        let found = find(&status, "VotersMissing");
        (
            found.status.clone(),
            found.reason.clone(),
            found.message.clone(),
        )
    };
    let mut world = converged(&cluster());
    assert_eq!(of(&world).0, "False");
    let look = world.look.as_mut().unwrap();
    look.voters = vec![BrokerId(0)];
    let (status, reason, message) = of(&world);
    assert_eq!((status.as_str(), reason.as_str()), ("True", "TooFewVote"));
    assert!(message.starts_with("1 of 3 brokers vote"), "{message}");
    world.look = None;
    assert_eq!(of(&world).0, "Unknown");
    // Two brokers have one voter by design.
    let two = Cluster {
        replicas: 2,
        ..cluster()
    };
    let mut world = converged(&two);
    world.look.as_mut().unwrap().voters = vec![BrokerId(0)];
    let status = super::cluster::status(
        &ClusterStatus::default(),
        Some(4),
        &Outcome::Decided {
            cluster: &two,
            world: &world,
            decision: &decide(&two, &world).unwrap(),
            failed: None,
            unseen: None,
        },
        at(1),
    );
    assert_eq!(find(&status, "VotersMissing").status, "False");
}
