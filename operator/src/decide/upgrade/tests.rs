#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use super::{Case, Finalize, Healthy, Known, finalize, not_let_in};
use crate::testing::{cluster, converged};
use crate::world::{BrokerId, Look, Process, TopicSeen};

const AFTER_S: i64 = 600;

fn world() -> (BTreeMap<BrokerId, Process>, Look) {
    let world = converged(&cluster());
    let mut look = world.look.unwrap();
    look.feature_level = 1;
    (world.processes, look)
}

fn decide(
    (processes, look): &(BTreeMap<BrokerId, Process>, Look),
    healthy: Option<Healthy>,
    now_s: i64,
) -> Finalize {
    finalize(&Case {
        brokers: 3,
        processes,
        outdated: &[],
        look: Some(look),
        healthy,
        finalize_after_s: AFTER_S,
        now_s,
    })
}

fn gate(finalize: &Finalize) -> &'static str {
    finalize.blocked.as_ref().map_or("", |blocked| blocked.gate)
}

#[test]
fn the_level_is_raised_after_ten_healthy_minutes_and_the_message_says_when() {
    let world = world();
    let mut healthy = None;
    for now_s in (1_000..1_600).step_by(50) {
        let waits = decide(&world, healthy, now_s);
        assert_eq!((waits.raise, gate(&waits)), (None, "FinalizeWaits"));
        assert_eq!(waits.at_s, Some(1_600));
        let message = waits.blocked.unwrap().message;
        assert!(message.contains("1970-01-01T00:26:40Z"), "{message}");
        healthy = waits.healthy;
    }
    let done = decide(&world, healthy, 1_600);
    assert_eq!((done.raise, &done.blocked), (Some(2), &None));
    assert_eq!(
        done.step(),
        Some(crate::decide::cluster::Step::RaiseFeatureLevel { level: 2 })
    );
}

#[test]
fn whatever_is_not_well_meanwhile_begins_the_time_anew() {
    type Breaks = fn(&mut (BTreeMap<BrokerId, Process>, Look));
    let breaks: [(&str, Breaks); 7] = [
        ("FinalizeRestartsPending", |(processes, _)| {
            processes.get_mut(&BrokerId(1)).unwrap().ready = false;
        }),
        ("FinalizeRestartsPending", |(processes, _)| {
            processes.remove(&BrokerId(2));
        }),
        ("FinalizeNotKnownToAll", |(_, look)| {
            let levels = look.levels.as_mut().unwrap();
            levels.newest.insert(BrokerId(0), 1);
        }),
        ("FinalizeNotKnownToAll", |(_, look)| {
            look.levels.as_mut().unwrap().newest.remove(&BrokerId(0));
        }),
        ("FinalizeUnhealthy", |(_, look)| {
            look.brokers.get_mut(&BrokerId(1)).unwrap().alive = false;
        }),
        ("FinalizeUnhealthy", |(_, look)| {
            let topic = TopicSeen {
                under_replicated_partitions: 1,
                ..TopicSeen::default()
            };
            look.topics.insert("t".into(), topic);
        }),
        ("", |(_, look)| look.levels = None),
    ];
    for (expected, breaks) in breaks {
        let healthy = decide(&world(), None, 1_000).healthy;
        let mut broken = world();
        breaks(&mut broken);
        let stopped = decide(&broken, healthy, 1_030);
        assert_eq!((stopped.raise, gate(&stopped)), (None, expected));
        assert_eq!(stopped.healthy, None);
        let again = decide(&world(), stopped.healthy, 1_060);
        assert_eq!(again.at_s, Some(1_660));
    }
    let healthy = decide(&world(), None, 1_000).healthy;
    let (processes, look) = world();
    let rolling = finalize(&Case {
        brokers: 3,
        processes: &processes,
        outdated: &[BrokerId(2)],
        look: Some(&look),
        healthy,
        finalize_after_s: AFTER_S,
        now_s: 1_030,
    });
    assert_eq!(
        (gate(&rolling), rolling.healthy),
        ("FinalizeRestartsPending", None)
    );
}

#[test]
fn time_in_which_nobody_looked_does_not_count() {
    let world = world();
    let healthy = decide(&world, None, 1_000).healthy;
    let late = decide(&world, healthy, 1_000 + AFTER_S);
    assert_eq!((late.raise, late.at_s), (None, Some(1_000 + 2 * AFTER_S)));
    // Nor does a clock that went back.
    let back = decide(&world, healthy, 900);
    assert_eq!(back.at_s, Some(900 + AFTER_S));
}

#[test]
fn what_nobody_knows_anything_newer_than_is_left_alone() {
    let (processes, mut look) = world();
    look.feature_level = 2;
    assert_eq!(decide(&(processes, look), None, 0), Finalize::default());
}

fn known(level: u32, images: &[(&str, u32)]) -> Known {
    Known {
        level,
        images: images
            .iter()
            .map(|(image, level)| ((*image).to_owned(), *level))
            .collect(),
    }
}

#[test]
fn an_older_image_is_accepted_while_its_level_is_enough_and_refused_with_the_levels_after() {
    let before = known(1, &[("old", 1), ("new", 2)]);
    assert_eq!(before.refuse("old", Some("new")), None);
    let after = known(2, &[("old", 1), ("new", 2)]);
    let (blocked, kept) = after.refuse("old", Some("new")).unwrap();
    assert_eq!((blocked.gate, kept.as_str()), ("DowngradeRefused", "new"));
    for part in ["old", "up to 1", "level 2", "go on with new"] {
        assert!(blocked.message.contains(part), "{}", blocked.message);
    }
    assert_eq!(after.refuse("new", Some("new")), None);
    assert_eq!(after.refuse("never seen", Some("new")), None);
    // The set has it already, by another hand: what runs instead is the last that is known to be good.
    let (_, kept) = after.refuse("old", Some("old")).unwrap();
    assert_eq!(kept, "new");
}

#[test]
fn what_images_know_is_learned_from_the_brokers_that_run_them() {
    let (mut processes, look) = world();
    let hash = processes[&BrokerId(0)].hash.clone().unwrap();
    let learned = Known::default().learn("new", &hash, &processes, Some(&look));
    assert_eq!(learned, known(1, &[("new", 2)]));
    assert_eq!(
        Known::parse(&learned.text().unwrap()),
        Some(learned.clone())
    );
    // Of one that nobody runs nothing is learned, and what was is kept while no broker answers.
    let other = learned.learn("other", "other", &processes, Some(&look));
    assert_eq!(other, learned);
    assert_eq!(learned.learn("new", &hash, &processes, None), learned);
    // So it is where the one that answers may be cut off from the others.
    let old = Look {
        controller: None,
        feature_level: 0,
        ..look.clone()
    };
    let kept = learned.learn("new", &hash, &processes, Some(&old));
    assert_eq!(kept, learned);
    processes
        .values_mut()
        .for_each(|process| process.ready = false);
    let starting = Known::default().learn("new", &hash, &processes, Some(&look));
    assert_eq!(starting.images, []);
    assert_eq!(Known::default().text(), None);
}

#[test]
fn no_more_images_are_remembered_than_anybody_goes_back() {
    let (processes, look) = world();
    let hash = processes[&BrokerId(0)].hash.clone().unwrap();
    let mut known = Known::default();
    for build in 0..20 {
        known = known.learn(&format!("build-{build}"), &hash, &processes, Some(&look));
    }
    assert_eq!(known.images.len(), 8);
    assert_eq!(known.images[7].0, "build-19");
}

#[test]
fn a_broker_that_is_not_let_in_is_told_of_with_the_levels() {
    let (mut processes, mut look) = world();
    look.feature_level = 2;
    let refused = &mut look.levels.as_mut().unwrap().refused;
    refused.insert(BrokerId(2), 1);
    assert_eq!(not_let_in(&processes, Some(&look)), None, "it is back");
    processes.get_mut(&BrokerId(2)).unwrap().ready = false;
    let blocked = not_let_in(&processes, Some(&look)).unwrap();
    for part in ["broker 2", "up to 1", "level 2"] {
        assert!(blocked.message.contains(part), "{}", blocked.message);
    }
}
