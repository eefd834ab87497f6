use super::{BrokerId, Counts, Course, TRIES_MAX, Then, Wish, proto, summary};

fn wish(dry_run: bool) -> Wish {
    Wish {
        topic: "dlq.orders".into(),
        filter: String::new(),
        remove: true,
        dry_run,
    }
}

fn refused(code: &str, leader: Option<i32>) -> proto::RedriveResponse {
    proto::RedriveResponse {
        error: Some(proto::Error {
            code: code.into(),
            message: "so".into(),
        }),
        leader,
        ..proto::RedriveResponse::default()
    }
}

fn answer(next_offset: i64, end: i64, redriven: u32) -> proto::RedriveResponse {
    proto::RedriveResponse {
        next_offset,
        redriven,
        at_end: next_offset >= end,
        end_offset: Some(end),
        ..proto::RedriveResponse::default()
    }
}

#[test]
fn a_partition_is_gone_through_to_the_end_that_it_had() {
    let wish = wish(false);
    let mut course = Course::new(3, 0);
    let first = course.request(&wish);
    assert_eq!((first.partition, first.from_offset), (3, i64::MAX));
    assert!(first.dry_run && !first.remove, "nothing is done yet");
    let elsewhere = course.heard(&wish, &refused("NOT_LEADER_OR_FOLLOWER", Some(2)));
    assert_eq!(elsewhere, Ok(Then::Elsewhere(BrokerId(2))));
    assert_eq!(course.request(&wish), first);
    let begun = course.heard(&wish, &answer(i64::MAX, 900, 0));
    assert_eq!(begun, Ok(Then::Again));
    let next = course.request(&wish);
    assert_eq!(
        (next.from_offset, next.remove, next.dry_run),
        (0, true, false)
    );
    // Letters come meanwhile, of what went back.
    assert_eq!(
        course.heard(&wish, &answer(500, 1_200, 500)),
        Ok(Then::Again)
    );
    assert_eq!(course.request(&wish).from_offset, 500);
    assert_eq!(
        course.heard(&wish, &answer(1_000, 1_500, 500)),
        Ok(Then::Done)
    );
    assert_eq!(course.counts.redriven, 1_000);
}

#[test]
fn an_empty_partition_is_done_at_once_and_an_old_broker_runs_nothing_dry() {
    let dry = wish(true);
    let mut empty = Course::new(0, 0);
    assert_eq!(empty.heard(&dry, &answer(i64::MAX, 0, 0)), Ok(Then::Done));
    let old = proto::RedriveResponse {
        at_end: true,
        next_offset: i64::MAX,
        ..proto::RedriveResponse::default()
    };
    let refused = Course::new(0, 0).heard(&dry, &old);
    assert_eq!(
        refused.map_err(|error| error.code),
        Err("UNSUPPORTED_VERSION".into())
    );
    // It goes to the end of then.
    let mut course = Course::new(0, 0);
    assert_eq!(course.heard(&wish(false), &old), Ok(Then::Again));
    assert_eq!(course.request(&wish(false)).from_offset, 0);
    let last = proto::RedriveResponse {
        next_offset: 7,
        ..old
    };
    assert_eq!(course.heard(&wish(false), &last), Ok(Then::Done));
}

#[test]
fn what_was_done_before_an_error_counts_and_is_not_done_again() {
    let wish = wish(false);
    let mut course = Course::new(0, 10);
    assert_eq!(
        course.heard(&wish, &answer(i64::MAX, 100, 0)),
        Ok(Then::Again)
    );
    let passing = proto::RedriveResponse {
        next_offset: 40,
        redriven: 30,
        ..refused("NOT_LEADER_OR_FOLLOWER", None)
    };
    assert_eq!(course.heard(&wish, &passing), Ok(Then::Later));
    assert_eq!(course.request(&wish).from_offset, 40);
    let full = course.heard(&wish, &refused("POLICY_VIOLATION", None));
    assert_eq!(
        full.map_err(|error| error.code),
        Err("POLICY_VIOLATION".into())
    );
    assert_eq!((course.next, course.counts.redriven), (40, 30));
    // Nor is a leader looked for for ever.
    let lost = refused("LEADER_NOT_AVAILABLE", None);
    let mut course = Course::new(0, 0);
    let tried = (1..).find(|_| course.heard(&wish, &lost).is_err());
    assert_eq!(tried, Some(TRIES_MAX));
}

#[test]
fn a_total_says_what_stays_to_be_done() {
    let total = Counts {
        redriven: 12,
        passed_over: 3,
        unusable: 1,
    };
    let dry = Wish {
        filter: "true".into(),
        remove: false,
        ..wish(true)
    };
    let text = summary(&dry, total);
    assert!(
        text.starts_with("Topic dlq.orders: 12 would go back, 3 passed over, 1 cannot go back.\n"),
        "{text}"
    );
    assert!(text.ends_with("--execute\n"), "{text}");
    let done = Counts {
        redriven: 12,
        ..Counts::default()
    };
    assert_eq!(
        summary(&wish(false), done),
        "Topic dlq.orders: 12 went back.\n"
    );
    let kept = Wish {
        remove: false,
        ..wish(false)
    };
    assert!(summary(&kept, done).contains("--remove deletes them"));
}
