#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use weir_crds::{ConsumerGroupStatus, LastReset};

use super::{Actions, Begun, Reset, Scaled};
use crate::decide::group::Report;
use crate::decide::group_scale::{Hold, Verdict};
use crate::status::group::{Outcome, status};
use crate::validate::{self, BeginAt, Beginning, Group, ResetTo, Scale};
use crate::world::{Consumption, Key, Refusal, ResetSeen};

fn group() -> Group {
    Group {
        key: Key::new("shop", "billing"),
        cluster: Key::new("shop", "main"),
        id: "billing".into(),
        topics: Default::default(),
        objective: None,
        paused: None,
        begin: None,
        reset: None,
        scale: None,
        sharing: Default::default(),
        config: Default::default(),
    }
}

fn resetting(dry_run: bool) -> Group {
    Group {
        reset: Some(validate::Reset {
            id: "again".into(),
            to: ResetTo::Earliest,
            topics: Vec::new(),
            partitions: Vec::new(),
            dry_run,
        }),
        ..group()
    }
}

fn report(consumption: Option<Consumption>) -> Report {
    Report {
        state: "Stable".into(),
        consumption,
        ..Report::default()
    }
}

fn after(
    previous: &ConsumerGroupStatus,
    group: &Group,
    now: Option<Consumption>,
    done: Actions,
) -> ConsumerGroupStatus {
    let report = report(now);
    let at = Timestamp::from_second(1_000).unwrap();
    status(previous, Some(4), &Outcome::Seen(group, &report, &done), at)
}

/// The condition's status and reason.
fn told<'a>(status: &'a ConsumerGroupStatus, kind: &str) -> Option<(&'a str, &'a str)> {
    let mut conditions = status.conditions.iter();
    let found = conditions.find(|condition| condition.type_ == kind)?;
    Some((found.status.as_str(), found.reason.as_str()))
}

#[test]
fn how_messages_are_given_is_told_where_somebody_asked_for_it_and_remembered_until_taken_back() {
    let asks = Group {
        sharing: [("weir.share.filter".to_owned(), "true".to_owned())].into(),
        ..group()
    };
    let running = Some(Consumption::Running);
    let none = ConsumerGroupStatus::default();
    let failed = || Actions {
        configure_failed: Some("weir.share.filter: line 1, column 3: no".into()),
        ..Actions::default()
    };
    let refused = after(&none, &asks, running, failed());
    assert_eq!(told(&refused, "Configured"), Some(("False", "Refused")));
    let done = after(&refused, &asks, running, Actions::default());
    assert_eq!(told(&done, "Configured"), Some(("True", "Configured")));
    assert!(done.configured);
    let not_yet = after(&done, &group(), running, failed());
    assert!(not_yet.configured, "it is taken back in the next pass");
    let taken_back = after(&not_yet, &group(), running, Actions::default());
    assert!(!taken_back.configured);
    assert_eq!(told(&taken_back, "Configured"), None);
}

#[test]
fn configurations_that_were_set_are_remembered_until_they_are_taken_back() {
    let named = |keys: &[&str]| Group {
        config: keys
            .iter()
            .map(|key| ((*key).to_owned(), "1".to_owned()))
            .collect(),
        ..group()
    };
    let running = Some(Consumption::Running);
    let failed = || Actions {
        configure_failed: Some("INVALID_CONFIG: no".into()),
        ..Actions::default()
    };
    let both = after(
        &ConsumerGroupStatus::default(),
        &named(&["a", "b"]),
        running,
        Actions::default(),
    );
    assert_eq!(both.config_keys, ["a", "b"]);
    assert_eq!(told(&both, "Configured"), Some(("True", "Configured")));
    let behind = after(&both, &named(&["b", "c"]), running, failed());
    assert_eq!(behind.config_keys, ["a", "b", "c"]);
    assert_eq!(told(&behind, "Configured"), Some(("False", "Refused")));
    let one = after(&behind, &named(&["b"]), running, Actions::default());
    assert_eq!(one.config_keys, ["b"]);
    let none = after(&one, &group(), running, Actions::default());
    assert!(none.config_keys.is_empty());
    assert_eq!(told(&none, "Configured"), None);
}

#[test]
fn where_a_group_begins_is_told_and_why_it_has_not() {
    let group = Group {
        begin: Some(Beginning::Offsets {
            at: BeginAt::Earliest,
            topics: ["orders".to_owned()].into(),
        }),
        ..group()
    };
    let refused = |code: &str| {
        let refusal = Refusal {
            code: code.into(),
            message: "no".into(),
        };
        Some(Begun::Asked([("orders".to_owned(), Err(refusal))].into()))
    };
    let running = Some(Consumption::Running);
    for (now, members, is_new, begun, expected) in [
        (running, 0, true, None, ("Unknown", "Waiting")),
        (running, 0, false, None, ("True", "HasOffsets")),
        (running, 2, false, None, ("True", "HasOffsets")),
        (running, 2, true, None, ("False", "HasMembers")),
        (None, 0, true, None, ("False", "NotSupported")),
        (
            running,
            0,
            true,
            Some(Begun::NotYet("away".into())),
            ("Unknown", "Retrying"),
        ),
        (
            running,
            0,
            true,
            refused("INVALID_REQUEST"),
            ("False", "NotSupported"),
        ),
        (
            running,
            0,
            true,
            refused("UNKNOWN_TOPIC_OR_PARTITION"),
            ("False", "TopicNotFound"),
        ),
        (
            running,
            0,
            true,
            refused("BOUND_REACHED"),
            ("False", "Refused"),
        ),
    ] {
        let report = Report {
            members,
            not_begun: is_new.then(|| "orders".to_owned()).into_iter().collect(),
            ..report(now)
        };
        let done = Actions {
            begun,
            ..Actions::default()
        };
        let at = Timestamp::from_second(1_000).unwrap();
        let outcome = Outcome::Seen(&group, &report, &done);
        let status = status(&ConsumerGroupStatus::default(), Some(4), &outcome, at);
        assert_eq!(told(&status, "Begun"), Some(expected), "{done:?}");
    }
    let plain = after(
        &ConsumerGroupStatus::default(),
        &self::group(),
        running,
        Actions::default(),
    );
    assert_eq!(told(&plain, "Begun"), None);
}

#[test]
fn where_a_share_group_begins_is_remembered_until_it_is_taken_back() {
    let share = Group {
        begin: Some(Beginning::Share("earliest".into())),
        ..group()
    };
    let running = Some(Consumption::Running);
    let failed = || Actions {
        configure_failed: Some("no".into()),
        ..Actions::default()
    };
    let none = ConsumerGroupStatus::default();
    let refused = after(&none, &share, running, failed());
    assert_eq!(told(&refused, "Begun"), Some(("False", "Refused")));
    let done = after(&refused, &share, running, Actions::default());
    assert_eq!(told(&done, "Begun"), Some(("True", "Configured")));
    assert!(done.begin_configured && !done.configured);
    assert!(
        after(&done, &group(), running, failed()).begin_configured,
        "it is taken back in the next pass"
    );
    assert!(!after(&done, &group(), running, Actions::default()).begin_configured);
}

#[test]
fn a_pause_is_told_where_somebody_asked_for_it() {
    use Consumption::{NotPausable, Paused, Pausing, Running};
    for (spec, now, expected) in [
        (None, Some(Running), None),
        (Some(false), Some(Running), Some(("False", "Running"))),
        (Some(true), Some(Pausing), Some(("False", "Pausing"))),
        (Some(true), Some(Paused), Some(("True", "Paused"))),
        (None, Some(Paused), Some(("True", "PausedElsewhere"))),
        (
            Some(true),
            Some(NotPausable),
            Some(("False", "NotPausable")),
        ),
        (Some(true), None, Some(("Unknown", "NotSupported"))),
    ] {
        let group = Group {
            paused: spec,
            ..group()
        };
        let status = after(
            &ConsumerGroupStatus::default(),
            &group,
            now,
            Actions::default(),
        );
        assert_eq!(told(&status, "Paused"), expected, "{spec:?} {now:?}");
        assert_eq!(status.paused, spec == Some(true));
    }
}

#[test]
fn a_reset_that_is_done_is_told_with_its_numbers_and_stays() {
    let seen = ResetSeen {
        before: false,
        at_ms: 1_800_000_000_123,
        fenced: 2,
        partitions: vec![
            ("orders".into(), 0, Some(70), Some(0)),
            ("orders".into(), 1, None, None),
        ],
    };
    let done = Actions {
        reset: Some(Reset::Done(seen)),
        ..Actions::default()
    };
    let now = Some(Consumption::Running);
    let first = after(
        &ConsumerGroupStatus::default(),
        &resetting(false),
        now,
        done,
    );
    let last = first.last_reset.clone().unwrap();
    assert_eq!(told(&first, "ResetDone"), Some(("True", "Done")));
    assert_eq!(
        (last.fenced_members, last.partitions_reset, last.generation),
        (Some(2), Some(1), Some(4))
    );
    assert_eq!(last.time.as_deref(), Some("2027-01-15T08:00:00Z"));
    assert_eq!(last.partitions[0].from, Some(70));
    let later = after(&first, &resetting(false), now, Actions::default());
    assert_eq!(later, first, "nothing to write");
    // The request is gone from the spec; what was done stays known.
    let gone = after(&first, &group(), now, Actions::default());
    assert_eq!(gone.last_reset, first.last_reset);
    assert_eq!(told(&gone, "ResetDone"), None);
}

#[test]
fn resets_that_are_not_done_say_why() {
    let now = Some(Consumption::Running);
    let refusal = Refusal {
        code: "UNKNOWN_TOPIC_OR_PARTITION".into(),
        message: "there is no topic x".into(),
    };
    let seen = ResetSeen::default();
    for (dry_run, reset, expected) in [
        (false, Some(Reset::Refused(refusal)), ("False", "Refused")),
        (
            false,
            Some(Reset::NotYet("away".into())),
            ("Unknown", "Retrying"),
        ),
        (true, Some(Reset::Done(seen)), ("False", "DryRun")),
        (false, None, ("Unknown", "Waiting")),
    ] {
        let done = Actions {
            reset,
            ..Actions::default()
        };
        let status = after(
            &ConsumerGroupStatus::default(),
            &resetting(dry_run),
            now,
            done,
        );
        assert_eq!(told(&status, "ResetDone"), Some(expected));
    }
}

#[test]
fn a_reset_that_was_done_before_a_crash_is_done() {
    let done = Actions {
        reset: Some(Reset::Done(ResetSeen {
            before: true,
            at_ms: 1_800_000_000_000,
            ..ResetSeen::default()
        })),
        ..Actions::default()
    };
    let status = after(
        &ConsumerGroupStatus::default(),
        &resetting(true),
        Some(Consumption::Running),
        done,
    );
    assert_eq!(told(&status, "ResetDone"), Some(("True", "Done")));
    let last: LastReset = status.last_reset.unwrap();
    assert!(!last.dry_run && last.time.is_some());
}

#[test]
fn who_is_not_followed_is_told_by_whom() {
    let group = Group {
        paused: Some(true),
        ..resetting(false)
    };
    let done = Actions {
        conflict: Some(Key::new("shop", "older")),
        ..Actions::default()
    };
    let status = after(
        &ConsumerGroupStatus::default(),
        &group,
        Some(Consumption::Running),
        done,
    );
    for kind in ["Paused", "ResetDone"] {
        assert_eq!(told(&status, kind), Some(("False", "Conflict")));
    }
    assert!(!status.paused);
}

#[test]
fn scaling_says_what_holds_it_and_remembers_when_it_last_did() {
    let group = Group {
        scale: Some(Scale {
            deployment: "billing".into(),
            min: 0,
            max: 4,
            lag_per_replica: 10,
            up_window: 0,
            down_window: 300,
        }),
        ..group()
    };
    let now = Some(Consumption::Running);
    let looked = |wanted, replicas, changed: Option<i64>| Actions {
        scaled: Some(Scaled::Looked {
            verdict: Verdict {
                wanted,
                replicas,
                why: String::new(),
            },
            changed: changed.map(|at| Timestamp::from_second(at).unwrap()),
        }),
        ..Actions::default()
    };
    let first = after(
        &ConsumerGroupStatus::default(),
        &group,
        now,
        looked(4, 4, Some(1_800_000_000)),
    );
    assert_eq!(told(&first, "Scaling"), Some(("True", "AtWanted")));
    let second = after(&first, &group, now, looked(0, 4, None));
    assert_eq!(told(&second, "Scaling"), Some(("True", "Stabilizing")));
    let scale = second.scale.clone().unwrap();
    assert_eq!((scale.replicas, scale.wanted_replicas), (Some(4), Some(0)));
    assert_eq!(
        scale.last_scale_time.as_deref(),
        Some("2027-01-15T08:00:00Z")
    );
    let held = Actions {
        scaled: Some(Scaled::Held(Hold::OwnedByAutoscaler("hpa".into()))),
        ..Actions::default()
    };
    let held = after(&second, &group, now, held);
    assert_eq!(told(&held, "Scaling"), Some(("False", "OwnedByAutoscaler")));
    assert_eq!(held.scale, None);
}
