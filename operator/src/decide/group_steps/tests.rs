#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use proptest::prelude::*;
use weir_crds::{ConsumerGroupStatus, LastReset};

use super::{Asked, Step, plan, scale_conflicts};
use crate::validate::{BeginAt, Beginning, Group, Reset, ResetTo, Scale};
use crate::world::{Consumption, GroupSeen, Key, PartitionLag, Refusal};

fn group(name: &str, paused: Option<bool>, reset: Option<&str>) -> Group {
    Group {
        key: Key::new("shop", name),
        cluster: Key::new("shop", "main"),
        id: "billing".into(),
        topics: Default::default(),
        objective: None,
        paused,
        begin: None,
        reset: reset.map(|id| Reset {
            id: id.into(),
            to: ResetTo::Latest,
            topics: Vec::new(),
            partitions: Vec::new(),
            dry_run: false,
        }),
        scale: None,
        sharing: BTreeMap::new(),
        config: BTreeMap::new(),
    }
}

fn asked<'a>(group: &'a Group, status: &'a ConsumerGroupStatus, created: i64) -> Asked<'a> {
    Asked {
        group,
        created: Some(Timestamp::from_second(created).unwrap()),
        generation: Some(1),
        status,
    }
}

fn seen(consumption: Consumption) -> BTreeMap<String, Result<GroupSeen, Refusal>> {
    let seen = GroupSeen {
        consumption: Some(consumption),
        ..GroupSeen::default()
    };
    [("billing".to_owned(), Ok(seen))].into()
}

fn pauses(steps: &[Step]) -> Vec<bool> {
    let paused = steps.iter().filter_map(|step| match step {
        Step::Pause { paused, .. } => Some(*paused),
        Step::Configure { .. } | Step::Begin { .. } | Step::Reset { .. } => None,
    });
    paused.collect()
}

#[test]
fn a_group_is_paused_when_asked_for_and_goes_on_when_not_any_more() {
    use Consumption::{NotPausable, Paused, Pausing, Running};
    let ours = ConsumerGroupStatus {
        paused: true,
        ..ConsumerGroupStatus::default()
    };
    let plain = ConsumerGroupStatus::default();
    for (spec, status, now, expected) in [
        (Some(true), &plain, Running, vec![true]),
        (Some(true), &plain, Pausing, vec![]),
        (Some(true), &plain, Paused, vec![]),
        (Some(true), &plain, NotPausable, vec![]),
        (Some(false), &plain, Paused, vec![false]),
        (Some(false), &plain, Running, vec![]),
        (None, &ours, Paused, vec![false]),
        (None, &ours, NotPausable, vec![false]),
        (None, &ours, Running, vec![]),
        // Somebody else paused it.
        (None, &plain, Paused, vec![]),
    ] {
        let group = group("billing", spec, None);
        let steps = plan(false, &[asked(&group, status, 1)], &seen(now)).steps;
        assert_eq!(pauses(&steps), expected, "{spec:?} {now:?}");
        assert!(
            plan(true, &[asked(&group, status, 1)], &seen(now))
                .steps
                .is_empty(),
            "a paused Cluster"
        );
    }
}

#[test]
fn nothing_is_asked_of_brokers_that_were_not_seen_or_are_too_old() {
    let group = group("billing", Some(true), Some("again"));
    let status = ConsumerGroupStatus::default();
    let old = [("billing".to_owned(), Ok(GroupSeen::default()))].into();
    let refused = Refusal {
        code: "COORDINATOR_NOT_AVAILABLE".into(),
        message: String::new(),
    };
    let away = [("billing".to_owned(), Err(refused))].into();
    for seen in [BTreeMap::new(), old, away] {
        let plan = plan(false, &[asked(&group, &status, 1)], &seen);
        assert_eq!(plan.steps, []);
    }
}

#[test]
fn the_older_of_two_resources_for_one_group_is_followed() {
    let status = ConsumerGroupStatus::default();
    let (older, younger) = (
        group("b", Some(true), None),
        group("a", Some(false), Some("x")),
    );
    let silent = group("c", None, None);
    let all = [
        asked(&younger, &status, 2),
        asked(&silent, &status, 0),
        asked(&older, &status, 1),
    ];
    let plan = plan(false, &all, &seen(Consumption::Running));
    assert_eq!(pauses(&plan.steps), [true]);
    assert_eq!(plan.steps.len(), 1);
    assert_eq!(
        plan.conflicts,
        [(younger.key.clone(), older.key.clone())].into()
    );
}

#[test]
fn a_deployment_is_scaled_by_the_older_of_two_resources() {
    let status = ConsumerGroupStatus::default();
    let scaling = |name: &str, deployment: &str| Group {
        scale: Some(Scale {
            deployment: deployment.into(),
            min: 0,
            max: 4,
            lag_per_replica: 1,
            up_window: 0,
            down_window: 0,
        }),
        ..group(name, None, None)
    };
    let (a, b, c) = (
        scaling("a", "one"),
        scaling("b", "one"),
        scaling("c", "two"),
    );
    let all = [
        asked(&a, &status, 2),
        asked(&b, &status, 1),
        asked(&c, &status, 3),
    ];
    assert_eq!(
        scale_conflicts(&all),
        [(a.key.clone(), b.key.clone())].into()
    );
}

fn consumption() -> impl Strategy<Value = Consumption> {
    prop_oneof![
        Just(Consumption::Running),
        Just(Consumption::Pausing),
        Just(Consumption::Paused),
        Just(Consumption::NotPausable),
    ]
}

#[test]
fn how_messages_are_given_is_set_as_a_whole_and_taken_back_when_nobody_asks_any_more() {
    let mut asks = group("a", None, None);
    let config = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        let owned = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    asks.sharing = config(&[("weir.share.filter", "true")]);
    let steps = |group: &Group, is_ours: bool, set: &[(&str, &str)]| {
        let status = ConsumerGroupStatus {
            configured: is_ours,
            ..ConsumerGroupStatus::default()
        };
        let mut seen = seen(Consumption::Running);
        if let Some(Ok(seen)) = seen.get_mut("billing") {
            seen.config = config(set);
        }
        let plan = plan(false, &[asked(group, &status, 1)], &seen);
        let changes = plan.steps.into_iter().find_map(|step| match step {
            Step::Configure { changes, .. } => Some(changes),
            _ => None,
        });
        changes.unwrap_or_default()
    };
    let other = ("consumer.session.timeout.ms", "50000");
    let backoff = ("weir.share.retry.backoff.ms", "1000");
    let filter = ("weir.share.filter", "true");
    let set = steps(&asks, false, &[other, backoff]);
    let expected = [
        ("weir.share.filter".to_owned(), Some("true".to_owned())),
        ("weir.share.retry.backoff.ms".to_owned(), None),
    ];
    assert_eq!(set, BTreeMap::from(expected), "what is no part of it stays");
    assert!(
        steps(&asks, true, &[other, filter]).is_empty(),
        "it settles"
    );
    let silent = group("a", None, None);
    assert!(steps(&silent, false, &[filter]).is_empty(), "not ours");
    let taken_back = steps(&silent, true, &[other, filter]);
    assert_eq!(
        taken_back,
        BTreeMap::from([("weir.share.filter".to_owned(), None)])
    );
}

type Pairs<'a> = &'a [(&'a str, &'a str)];
type Changes<'a> = &'a [(&'a str, Option<&'a str>)];

#[test]
fn other_configurations_are_set_each_for_itself_and_only_what_was_named_is_taken_back() {
    let lock = "share.record.lock.duration.ms";
    let level = "share.isolation.level";
    let foreign = ("consumer.session.timeout.ms", "50000");
    let of = |config: Pairs<'_>| -> BTreeMap<String, String> {
        let owned = config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        owned.collect()
    };
    let cases: [(Pairs<'_>, &[&str], Pairs<'_>, Changes<'_>); 6] = [
        (
            &[(lock, "45000")],
            &[],
            &[foreign],
            &[(lock, Some("45000"))],
        ),
        // What was set in another spelling is so.
        (
            &[("share.renew.acknowledge.enable", "False")],
            &[],
            &[("share.renew.acknowledge.enable", "false")],
            &[],
        ),
        (
            &[(lock, "45000")],
            &[lock],
            &[(lock, "45000"), foreign],
            &[],
        ),
        // Somebody has changed it.
        (
            &[(lock, "45000")],
            &[lock],
            &[(lock, "30000")],
            &[(lock, Some("45000"))],
        ),
        (
            &[(lock, "45000")],
            &[level, lock],
            &[(lock, "45000"), (level, "read_committed"), foreign],
            &[(level, None)],
        ),
        (&[], &[], &[(lock, "45000"), foreign], &[]),
    ];
    for (named, before, set, expected) in cases {
        let group = Group {
            config: of(named),
            ..group("a", None, None)
        };
        let status = ConsumerGroupStatus {
            config_keys: before.iter().map(|key| (*key).to_owned()).collect(),
            ..ConsumerGroupStatus::default()
        };
        let mut seen = seen(Consumption::Running);
        if let Some(Ok(seen)) = seen.get_mut("billing") {
            seen.config = of(set);
        }
        let steps = plan(false, &[asked(&group, &status, 1)], &seen).steps;
        let changes = steps.into_iter().find_map(|step| match step {
            Step::Configure { changes, .. } => Some(changes),
            _ => None,
        });
        let expected: BTreeMap<String, Option<String>> = expected
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned)))
            .collect();
        let changes = changes.unwrap_or_default();
        assert_eq!(changes, expected, "{named:?} {before:?} {set:?}");
    }
}

fn beginning(topics: &[&str]) -> Group {
    Group {
        begin: Some(Beginning::Offsets {
            at: BeginAt::Earliest,
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        }),
        ..group("a", None, None)
    }
}

/// A group with so many members and an offset of one partition of each of these topics.
fn reads(members: u32, topics: &[&str]) -> BTreeMap<String, Result<GroupSeen, Refusal>> {
    let lag = topics.iter().map(|topic| PartitionLag {
        topic: (*topic).to_owned(),
        partition: 0,
        committed_offset: 70,
        records: 0,
        age_ms: 0,
        topic_partitions: 4,
    });
    let seen = GroupSeen {
        members,
        lag: lag.collect(),
        consumption: Some(Consumption::Running),
        ..GroupSeen::default()
    };
    [("billing".to_owned(), Ok(seen))].into()
}

#[test]
fn a_group_begins_in_topics_that_it_has_no_offset_of_while_it_has_no_members() {
    let group = beginning(&["orders", "audit"]);
    let status = ConsumerGroupStatus::default();
    for (is_held, members, known, expected) in [
        (false, 0, vec![], vec!["audit", "orders"]),
        (false, 0, vec!["orders", "elsewhere"], vec!["audit"]),
        (false, 0, vec!["orders", "audit"], vec![]),
        (false, 1, vec![], vec![]),
        (true, 0, vec![], vec![]),
    ] {
        let plan = plan(
            is_held,
            &[asked(&group, &status, 1)],
            &reads(members, &known),
        );
        let found = plan.steps.iter().map(|step| match step {
            Step::Begin { topics, at, .. } => {
                assert_eq!(*at, BeginAt::Earliest);
                topics.iter().map(String::as_str).collect()
            }
            other => panic!("{other:?}"),
        });
        let found: Vec<Vec<&str>> = found.collect();
        assert_eq!(found.concat(), expected, "{is_held} {members} {known:?}");
    }
    let old = [("billing".to_owned(), Ok(GroupSeen::default()))].into();
    let plan = plan(false, &[asked(&group, &status, 1)], &old);
    assert!(plan.steps.is_empty(), "brokers that are too old");
}

#[test]
fn a_group_begins_before_it_is_reset() {
    let mut group = beginning(&["orders"]);
    group.reset = self::group("a", None, Some("again")).reset;
    let status = ConsumerGroupStatus::default();
    let steps = plan(false, &[asked(&group, &status, 1)], &reads(0, &[])).steps;
    assert!(
        matches!(steps[..], [Step::Begin { .. }, Step::Reset { .. }]),
        "{steps:?}"
    );
}

#[test]
fn where_a_share_group_begins_is_a_configuration_and_is_taken_back_alone() {
    let share = Group {
        begin: Some(Beginning::Share("earliest".into())),
        ..group("a", None, None)
    };
    let silent = group("a", None, None);
    let name = "share.auto.offset.reset";
    for (group, is_ours, set, expected) in [
        (&share, false, None, Some(Some("earliest"))),
        (&share, true, Some("latest"), Some(Some("earliest"))),
        (&share, true, Some("earliest"), None),
        (&silent, false, Some("earliest"), None),
        (&silent, true, Some("earliest"), Some(None)),
        (&silent, true, None, None),
    ] {
        let status = ConsumerGroupStatus {
            begin_configured: is_ours,
            ..ConsumerGroupStatus::default()
        };
        let mut seen = reads(0, &[]);
        if let Some(Ok(seen)) = seen.get_mut("billing") {
            let set = set.map(|value| (name.to_owned(), value.to_owned()));
            // Somebody else's, which stays.
            let other = ("weir.share.filter".to_owned(), "true".to_owned());
            seen.config = set.into_iter().chain([other]).collect();
        }
        let steps = plan(false, &[asked(group, &status, 1)], &seen).steps;
        let changes = steps.iter().map(|step| match step {
            Step::Configure { changes, .. } => changes.clone(),
            other => panic!("{other:?}"),
        });
        let expected = expected.map(|value: Option<&str>| {
            BTreeMap::from([(name.to_owned(), value.map(str::to_owned))])
        });
        assert_eq!(
            changes.collect::<Vec<_>>(),
            Vec::from_iter(expected),
            "{set:?} {is_ours}"
        );
    }
}

/// What happens to a group beside what the operator does.
#[derive(Clone, Debug)]
enum Happening {
    Joins,
    Commits(u8, i64),
    Leaves,
    Look,
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        Just(Happening::Joins),
        (0_u8..3, 100_i64..200).prop_map(|(topic, offset)| Happening::Commits(topic, offset)),
        Just(Happening::Leaves),
        Just(Happening::Look),
    ]
}

proptest! {
    /// Brokers that do what they are asked, and members that come, commit and go: where somebody has committed, nobody is ever asked to begin.
    #[test]
    fn a_group_that_has_offsets_is_never_moved(happenings in prop::collection::vec(happening(), 1..40)) {
        let topics = ["t0", "t1"];
        let group = beginning(&topics);
        let status = ConsumerGroupStatus::default();
        let (mut members, mut offsets) = (0_u32, BTreeMap::<String, i64>::new());
        for happening in happenings {
            match happening {
                Happening::Joins => members += 1,
                Happening::Leaves => members = members.saturating_sub(1),
                Happening::Commits(topic, offset) if members > 0 => drop(offsets.insert(format!("t{topic}"), offset)),
                Happening::Commits(..) => {}
                Happening::Look => {
                    let known: Vec<&str> = offsets.keys().map(String::as_str).collect();
                    let steps = plan(false, &[asked(&group, &status, 1)], &reads(members, &known)).steps;
                    for step in steps {
                        let Step::Begin { topics, .. } = step else { panic!("{step:?}") };
                        prop_assert_eq!(members, 0);
                        for topic in topics {
                            prop_assert_eq!(offsets.insert(topic, 0), None);
                        }
                    }
                    prop_assert!(members > 0 || topics.iter().all(|topic| offsets.contains_key(*topic)));
                }
            }
        }
    }

    /// The brokers do as they are asked, the status is written or, after a crash, not: it settles, resets once for each id, and in any order.
    #[test]
    fn it_converges_and_no_id_is_asked_for_again_once_its_status_is_written(
        specs in prop::collection::vec((any::<Option<bool>>(), prop::option::of(0_u8..3), any::<bool>()), 1..4),
        start in consumption(),
    ) {
        let groups: Vec<Group> = specs.iter().enumerate().map(|(at, (paused, reset, _))| {
            let id = reset.map(|id| id.to_string());
            group(&format!("g{at}"), *paused, id.as_deref())
        }).collect();
        let mut statuses: Vec<ConsumerGroupStatus> = specs.iter().map(|(_, _, paused)| ConsumerGroupStatus {
            paused: *paused, ..ConsumerGroupStatus::default()
        }).collect();
        let mut now = start;
        let mut asked_for = Vec::new();
        for round in 0..4 {
            let all: Vec<Asked<'_>> = groups.iter().zip(&statuses).enumerate()
                .map(|(at, (group, status))| asked(group, status, i64::try_from(at).unwrap())).collect();
            let plan = plan(false, &all, &seen(now));
            let mut reversed = all.clone();
            reversed.reverse();
            prop_assert_eq!(&super::plan(false, &reversed, &seen(now)), &plan);
            if round >= 2 {
                prop_assert!(plan.steps.is_empty(), "it settles: {:?}", plan.steps);
            }
            for step in plan.steps {
                match step {
                    Step::Configure { .. } | Step::Begin { .. } => prop_assert!(false, "nobody asks for it"),
                    Step::Pause { paused, .. } => now = if paused { Consumption::Paused } else { Consumption::Running },
                    Step::Reset { resource, reset, .. } => {
                        let at = groups.iter().position(|group| group.key == resource).unwrap();
                        prop_assert!(!asked_for.contains(&reset.id), "{}", reset.id);
                        asked_for.push(reset.id.clone());
                        statuses[at].last_reset = Some(LastReset {
                            request_id: reset.id,
                            state: crate::decide::reset::DONE.into(),
                            generation: Some(1),
                            ..LastReset::default()
                        });
                    }
                }
            }
            for (group, status) in groups.iter().zip(&mut statuses) {
                status.paused = crate::status::group::is_paused_by(group, status.paused, Some(now));
            }
        }
    }
}
