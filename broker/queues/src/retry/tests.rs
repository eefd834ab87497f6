use proptest::prelude::*;
use weir_wire::Offset;

use super::{Backoffs, BackoffsError, Breaker, Failure, Next, Parked, Policy};
use crate::Millis;
use crate::dead_letter::Reason;

fn policy(backoffs: &str, deliveries_max: i16) -> Policy {
    Policy {
        backoffs: Backoffs::parse(backoffs).expect("backoffs"),
        deliveries_max,
    }
}

#[test]
fn backoffs_follow_one_another_and_the_last_goes_on() {
    let policy = policy("1000, 5000,30000", 10);
    let mut breaker = Breaker::new(None, Millis(0));
    let waits = [(1, 1_000), (2, 5_000), (3, 30_000), (9, 30_000)];
    for (deliveries, wait) in waits {
        let next = policy.after(Failure::Released, deliveries, &mut breaker, Millis(7));
        assert_eq!(next, Next::Retry(Millis(7 + wait)));
    }
    let next = policy.after(Failure::Released, 10, &mut breaker, Millis(7));
    assert_eq!(next, Next::GiveUp(Reason::DeliveryLimit));
    let next = policy.after(Failure::Rejected, 1, &mut breaker, Millis(7));
    assert_eq!(next, Next::GiveUp(Reason::Rejected));
}

#[test]
fn a_list_that_is_none_is_refused_with_what_is_wrong() {
    assert_eq!(Backoffs::parse(""), Ok(Backoffs::default()));
    assert_eq!(
        Backoffs::parse("1000,soon"),
        Err(BackoffsError::NotOne("soon".into()))
    );
    assert!(Backoffs::parse("86400001").is_err());
    assert_eq!(
        Backoffs::parse(&vec!["1"; 65].join(",")),
        Err(BackoffsError::TooMany(65))
    );
}

#[test]
fn a_flood_of_failures_does_not_empty_the_queue_into_its_dead_letters() {
    let policy = policy("100", 1);
    let mut breaker = Breaker::new(Some(60), Millis(0));
    let mut given_up = 0;
    for _ in 0..1_000 {
        match policy.after(Failure::Released, 1, &mut breaker, Millis(0)) {
            Next::GiveUp(_) => given_up += 1,
            Next::Retry(at) => assert_eq!(at, Millis(1_000), "when the next may be given up"),
        }
    }
    assert_eq!(given_up, 60);
    assert!(breaker.is_open(Millis(999)));
    assert!(!breaker.is_open(Millis(1_000)));
}

proptest! {
    #[test]
    fn no_more_is_given_up_in_any_time_than_the_rate_and_one_bucket(
        rate in 1..200_u64,
        pauses in prop::collection::vec(0..2_000_u64, 1..400),
    ) {
        let mut breaker = Breaker::new(Some(rate), Millis(0));
        let (mut now, mut taken) = (0, Vec::new());
        for pause in pauses {
            now += pause;
            match breaker.take(Millis(now)) {
                Ok(()) => taken.push(now),
                Err(again) => {
                    prop_assert!(again.0 > now);
                    // Who comes back then is let through.
                    prop_assert!(breaker.clone().take(again).is_ok());
                }
            }
        }
        for (first, from) in taken.iter().enumerate() {
            for (last, to) in taken.iter().enumerate().skip(first) {
                let most = rate + (to - from) * rate / 60_000 + 1;
                prop_assert!((last - first + 1) as u64 <= most);
            }
        }
    }

    #[test]
    fn parked_messages_come_back_in_their_order_and_never_early(
        steps in prop::collection::vec((0..5_u8, 0..30_i64, 0..50_u64), 0..200),
    ) {
        let mut parked = Parked::default();
        let mut model: Vec<(u64, i64)> = Vec::new();
        let mut now = 0;
        for (kind, offset, number) in steps {
            match kind {
                0 | 1 => {
                    model.retain(|(_, other)| *other != offset);
                    model.push((now + number, offset));
                    parked.park(Offset(offset), Millis(now + number));
                }
                2 => {
                    now += number;
                    model.sort_unstable();
                    let due = model.iter().filter(|(due, _)| *due <= now).take(3);
                    let due: Vec<i64> = due.map(|(_, offset)| *offset).collect();
                    model.retain(|(_, offset)| !due.contains(offset));
                    let taken = parked.take_due(Millis(now), 3);
                    prop_assert_eq!(taken.into_iter().map(|offset| offset.0).collect::<Vec<_>>(), due);
                }
                3 => {
                    let was_there = model.iter().any(|(_, other)| *other == offset);
                    model.retain(|(_, other)| *other != offset);
                    prop_assert_eq!(parked.forget(Offset(offset)), was_there);
                }
                _ => {
                    model.retain(|(_, other)| *other >= offset / 4);
                    parked.drop_below(Offset(offset / 4));
                }
            }
            prop_assert_eq!(parked.len(), model.len());
            prop_assert_eq!(parked.next_due().map(|due| due.0), model.iter().map(|(due, _)| *due).min());
        }
    }
}
