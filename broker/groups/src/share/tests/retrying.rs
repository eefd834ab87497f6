//! Backoffs, dead letters, and what lies behind a record that waits.

use weir_queues::dead_letter::Reason;
use weir_queues::retry::Backoffs;

use super::*;
use crate::share::{DeliveryState, StateBatch};

fn retrying(backoffs: &str, has_dead_letters: bool) -> SharePartition {
    let mut partition = fresh();
    let retry = RetryConfig {
        backoffs: Backoffs::parse(backoffs).unwrap(),
        given_up_max: None,
        has_dead_letters,
    };
    partition.retry_as(Some(retry), MonoMs(0));
    partition
}

fn say(partition: &mut SharePartition, first: i64, last: i64, kind: AckType, now: u64) {
    let said = [ack(first, last, kind)];
    partition
        .acknowledge(&member("a"), &said, MonoMs(now))
        .unwrap();
    store(partition);
}

#[test]
fn a_released_record_waits_and_holds_nobody_up() {
    let mut partition = retrying("200,500", false);
    assert_eq!(
        acquire(&mut partition, "a", &[batch(0, 1)], 2, 0),
        [(0, 1, 1)]
    );
    say(&mut partition, 0, 0, AckType::Release, 100);
    say(&mut partition, 1, 1, AckType::Accept, 100);
    assert_eq!(partition.parked(), 1);
    assert_eq!(partition.next_fetch(), Some(Offset(2)));
    assert_eq!(partition.next_deadline(), Some(MonoMs(300)));
    let _ = partition.take_freed();
    partition.tick(MonoMs(299));
    assert!(!partition.take_freed());
    partition.tick(MonoMs(300));
    assert!(partition.take_freed(), "who waits is woken");
    let log = [batch(0, 1), batch(2, 2)];
    assert_eq!(acquire(&mut partition, "a", &log, 1, 300), [(0, 0, 2)]);
    // The last backoff goes on; a lock that ends is a failure too.
    partition.tick(MonoMs(1_300));
    assert_eq!(partition.next_deadline(), Some(MonoMs(1_800)));
}

#[test]
fn what_is_done_behind_a_record_that_waits_takes_no_room() {
    let mut partition = retrying("100000", false);
    let mut written = Vec::new();
    for number in 0..100 {
        let (first, last) = (number * 10, number * 10 + 8);
        let log = [batch(first, last), control(last + 1)];
        assert_eq!(acquire(&mut partition, "a", &log, 9, 0), [(first, last, 1)]);
        let (kind, from) = match number {
            0 => (AckType::Release, first + 1),
            _ => (AckType::Accept, first),
        };
        if number == 0 {
            say(&mut partition, first, first, kind, 0);
        }
        let said = [ack(from, last, AckType::Accept)];
        partition
            .acknowledge(&member("a"), &said, MonoMs(0))
            .unwrap();
        while let Some(write) = partition.take_write() {
            written.extend(write.batches);
            partition.written(Written::Stored);
        }
    }
    assert_eq!(
        (partition.start(), partition.end()),
        (Offset(0), Offset(999))
    );
    assert!(partition.runs.len() <= 3, "{:?}", partition.runs);
    let stored: crate::share::Overlay = written.into_iter().collect();
    assert!(stored.len() <= 2, "{stored:?}");
    // And the bound of what is not done holds all the same.
    let log = [batch(1_000, 1_099)];
    assert_eq!(
        acquire(&mut partition, "a", &log, 99, 0),
        [(1_000, 1_018, 1)]
    );
}

#[test]
fn a_record_is_not_done_before_its_dead_letter_is_written() {
    let mut partition = retrying("", true);
    assert_eq!(
        acquire(&mut partition, "a", &[batch(0, 2)], 3, 0),
        [(0, 2, 1)]
    );
    say(&mut partition, 0, 0, AckType::Reject, 0);
    say(&mut partition, 1, 2, AckType::Accept, 0);
    assert_eq!(partition.start(), Offset(0));
    let dead = partition.take_dead(10);
    assert_eq!(dead.len(), 1);
    assert_eq!((dead[0].first, dead[0].last), (Offset(0), Offset(0)));
    assert_eq!((dead[0].deliveries, dead[0].reason), (1, Reason::Rejected));
    assert_eq!(partition.take_dead(10), [], "somebody has it");
    assert_eq!(partition.next_fetch(), Some(Offset(3)));
    partition.buried(Offset(0), Offset(0));
    assert_eq!(partition.start(), Offset(3));
    assert_eq!(partition.take_write().unwrap().start, Offset(3));
}

#[test]
fn no_dead_letter_is_written_before_it_is_stored_that_there_is_to_be_one() {
    let mut partition = retrying("", true);
    for delivery in 1..=CONFIG.deliveries_max {
        let now = u64::try_from(delivery).unwrap() * 2 * CONFIG.lock_ms;
        let got = acquire(&mut partition, "a", &[batch(0, 0)], 1, now);
        assert_eq!(got, [(0, 0, delivery)]);
        partition.tick(MonoMs(now + CONFIG.lock_ms));
    }
    assert_eq!(
        partition.take_dead(10),
        [],
        "whoever took over would hand it out"
    );
    for outcome in [Written::Failed, Written::Stored] {
        let write = partition.take_write().unwrap();
        assert_eq!(
            write.batches.last().unwrap().state,
            DeliveryState::Archiving
        );
        assert_eq!(partition.take_dead(10), []);
        partition.written(outcome);
    }
    let dead = partition.take_dead(10);
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].reason, Reason::DeliveryLimit);
    partition.buried(Offset(0), Offset(0));
    assert_eq!(partition.start(), Offset(1));
}

#[test]
fn whoever_takes_over_finds_what_was_to_become_a_dead_letter() {
    let stored = StateBatch {
        first: Offset(4),
        last: Offset(6),
        state: DeliveryState::Archiving,
        deliveries: 3,
    };
    let restored = Restored {
        start: Offset(4),
        batches: vec![stored],
        ..Restored::default()
    };
    let mut partition = SharePartition::restore(CONFIG, restored);
    assert_eq!(
        (partition.start(), partition.next_fetch()),
        (Offset(4), Some(Offset(7)))
    );
    let dead = partition.take_dead(2);
    assert_eq!((dead[0].first, dead[0].last), (Offset(4), Offset(5)));
    assert_eq!(dead[0].reason, Reason::DeliveryLimit);
    assert_eq!(partition.take_dead(2)[0].first, Offset(6));
}

#[test]
fn a_flood_of_rejections_waits_at_the_breaker() {
    let mut partition = fresh();
    let retry = RetryConfig {
        given_up_max: Some(2),
        has_dead_letters: true,
        ..RetryConfig::default()
    };
    partition.retry_as(Some(retry), MonoMs(0));
    assert_eq!(
        acquire(&mut partition, "a", &[batch(0, 9)], 10, 0),
        [(0, 9, 1)]
    );
    say(&mut partition, 0, 9, AckType::Reject, 0);
    assert_eq!(partition.parked(), 8);
    let dead = partition.take_dead(10);
    assert_eq!((dead[0].first, dead[0].last), (Offset(0), Offset(1)));
    // The locks that were.
    partition.tick(MonoMs(1_000));
    assert_eq!(partition.next_deadline(), Some(MonoMs(30_000)));
}

#[test]
fn what_waits_may_be_had_at_once_when_backoffs_are_taken_away() {
    let mut partition = retrying("100000", false);
    assert_eq!(
        acquire(&mut partition, "a", &[batch(0, 0)], 1, 0),
        [(0, 0, 1)]
    );
    say(&mut partition, 0, 0, AckType::Release, 0);
    assert_eq!(partition.next_fetch(), Some(Offset(1)));
    partition.retry_as(None, MonoMs(1));
    assert_eq!(partition.next_fetch(), Some(Offset(0)));
}
