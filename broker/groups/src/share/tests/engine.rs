//! What the engine promises, one at a time.

use super::*;
use crate::share::{AckError, DeliveryState, Departure, StateBatch};

#[test]
fn a_record_is_with_one_member_and_the_next_gets_the_next() {
    let mut partition = fresh();
    let log = [batch(0, 4), batch(5, 9)];
    assert_eq!(acquire(&mut partition, "a", &log, 5, 0), [(0, 4, 1)]);
    assert_eq!(acquire(&mut partition, "b", &log[1..], 5, 0), [(5, 9, 1)]);
    assert_eq!(acquire(&mut partition, "c", &log[1..], 5, 0), []);
    let stolen = partition.acknowledge(&member("b"), &[ack(0, 0, AckType::Accept)], MonoMs(0));
    assert_eq!(stolen, Err(AckError::NotOwner));
}

#[test]
fn what_is_too_old_is_counted_once_also_when_it_was_out_before() {
    let expired = |base, last| Fetched {
        content: Content::TooOld,
        ..batch(base, last)
    };
    let mut partition = fresh();
    let log = [expired(0, 2), batch(3, 4), control(5), expired(6, 6)];
    assert_eq!(acquire(&mut partition, "a", &log, 2, 0), [(3, 4, 1)]);
    assert_eq!(partition.take_expired(), 3, "it came no further");
    for times in [1, 0] {
        assert_eq!(acquire(&mut partition, "b", &log, 2, 0), []);
        assert_eq!(partition.take_expired(), times);
    }
    partition
        .acknowledge(&member("a"), &[ack(3, 4, AckType::Release)], MonoMs(0))
        .unwrap();
    store(&mut partition);
    let later = [expired(3, 4)];
    assert_eq!(acquire(&mut partition, "b", &later, 2, 0), []);
    assert_eq!(partition.take_expired(), 2);
}

#[test]
fn an_acknowledgement_takes_effect_when_it_is_stored() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 4)], 5, 0);
    let acked = partition.acknowledge(&member("a"), &[ack(0, 1, AckType::Accept)], MonoMs(0));
    let ticket = acked.unwrap().unwrap();
    assert_eq!(partition.start(), Offset(0));
    let write = partition.take_write().unwrap();
    assert_eq!((write.ticket, write.start), (ticket, Offset(2)));
    assert!(write.batches.is_empty(), "the start says it all");
    // One at a time; what comes meanwhile gathers.
    partition
        .acknowledge(&member("a"), &[ack(3, 3, AckType::Reject)], MonoMs(0))
        .unwrap();
    assert_eq!(partition.take_write(), None);
    partition.written(Written::Stored);
    assert_eq!(partition.start(), Offset(2));
    let write = partition.take_write().unwrap();
    assert_eq!((write.start, write.complete_count), (Offset(2), 1));
    let archived = StateBatch {
        first: Offset(3),
        last: Offset(3),
        state: DeliveryState::Archived,
        deliveries: 1,
    };
    assert_eq!(write.batches, [archived]);
}

#[test]
fn a_write_that_failed_leaves_the_record_with_its_member() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 4)], 5, 0);
    let accept = [ack(0, 4, AckType::Accept)];
    partition
        .acknowledge(&member("a"), &accept, MonoMs(0))
        .unwrap();
    let again = partition.acknowledge(&member("a"), &accept, MonoMs(0));
    assert_eq!(again, Err(AckError::NotAcquired));
    partition.take_write().unwrap();
    // The lock ends while the write is under way: the acknowledgement came in time.
    partition.tick(MonoMs(1_500));
    partition.written(Written::Failed);
    assert!(partition.next_deadline().unwrap() <= MonoMs(1_500));
    partition.tick(MonoMs(1_500));
    let again = acquire(&mut partition, "b", &[batch(0, 4)], 5, 1_500);
    assert_eq!(again, [(0, 4, 2)]);
}

#[test]
fn acknowledgements_are_taken_all_or_none() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 4)], 5, 0);
    let both = [ack(0, 1, AckType::Accept), ack(4, 7, AckType::Accept)];
    let refused = partition.acknowledge(&member("a"), &both, MonoMs(0));
    assert_eq!(refused, Err(AckError::NotFound));
    assert_eq!(partition.take_write(), None);
    for malformed in [
        vec![ack(2, 1, AckType::Accept)],
        vec![ack(0, 2, AckType::Accept), ack(2, 3, AckType::Accept)],
        vec![AckBatch {
            types: vec![AckType::Accept; 2],
            ..ack(0, 2, AckType::Accept)
        }],
        vec![AckBatch {
            types: Vec::new(),
            ..ack(0, 2, AckType::Accept)
        }],
        vec![ack(-5, 2, AckType::Accept), ack(-7, -6, AckType::Accept)],
        vec![AckBatch {
            types: vec![AckType::Accept; 2],
            ..ack(0, i64::MAX, AckType::Accept)
        }],
    ] {
        let refused = partition.acknowledge(&member("a"), &malformed, MonoMs(0));
        assert_eq!(refused, Err(AckError::Malformed), "{malformed:?}");
    }
}

#[test]
fn each_offset_may_be_acknowledged_in_its_own_way() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 4)], 5, 0);
    let types = vec![
        AckType::Accept,
        AckType::Release,
        AckType::Reject,
        AckType::Renew,
        AckType::Gap,
    ];
    let each = AckBatch {
        types,
        ..ack(0, 4, AckType::Accept)
    };
    partition
        .acknowledge(&member("a"), &[each], MonoMs(900))
        .unwrap();
    store(&mut partition);
    assert_eq!(partition.start(), Offset(1));
    let log = [batch(0, 4)];
    assert_eq!(acquire(&mut partition, "b", &log, 5, 900), [(1, 1, 2)]);
    // The renewed one is held for its time from then on.
    partition.tick(MonoMs(1_899));
    assert_eq!(acquire(&mut partition, "b", &log, 5, 1_899), []);
    partition.tick(MonoMs(1_900));
    assert_eq!(
        acquire(&mut partition, "b", &log, 5, 1_900),
        [(1, 1, 3), (3, 3, 2)]
    );
}

#[test]
fn a_record_is_given_up_when_it_was_delivered_as_often_as_allowed() {
    let mut partition = fresh();
    for (round, now) in (1..=3).zip((0..).step_by(1_000)) {
        let delivered = acquire(&mut partition, "a", &[batch(0, 0)], 5, now);
        assert_eq!(delivered, [(0, 0, round)]);
        partition.tick(MonoMs(now + 1_000));
    }
    assert_eq!(partition.start(), Offset(1));
    assert_eq!(acquire(&mut partition, "a", &[batch(0, 0)], 5, 9_000), []);
}

#[test]
fn what_a_member_that_left_in_order_had_counts_as_not_delivered() {
    let mut partition = fresh();
    let log = [batch(0, 1)];
    acquire(&mut partition, "a", &log, 5, 0);
    partition.release(&member("a"), Departure::Orderly, MonoMs(0));
    assert!(partition.take_freed());
    assert_eq!(acquire(&mut partition, "b", &log, 5, 0), [(0, 1, 1)]);
    partition.release(&member("b"), Departure::Lost, MonoMs(0));
    assert_eq!(acquire(&mut partition, "c", &log, 5, 0), [(0, 1, 2)]);
    partition.release(&member("b"), Departure::Lost, MonoMs(0));
    assert_eq!(acquire(&mut partition, "d", &log, 5, 0), []);
}

#[test]
fn what_a_member_never_heard_of_counts_as_not_delivered_and_the_rest_stays_with_it() {
    let mut partition = fresh();
    let log = [batch(0, 3)];
    acquire(&mut partition, "a", &log, 5, 0);
    partition.take_back(&member("b"), Offset(0), Offset(3), MonoMs(0));
    assert_eq!(acquire(&mut partition, "b", &log, 5, 0), []);
    partition.take_back(&member("a"), Offset(1), Offset(2), MonoMs(0));
    assert_eq!(acquire(&mut partition, "b", &log, 5, 0), [(1, 2, 1)]);
    partition.release(&member("a"), Departure::Lost, MonoMs(0));
    assert_eq!(
        acquire(&mut partition, "c", &log, 5, 0),
        [(0, 0, 2), (3, 3, 2)]
    );
}

#[test]
fn the_window_is_bounded_however_large_the_batches_are() {
    let mut partition = fresh();
    let log = [batch(0, 999_999)];
    assert_eq!(acquire(&mut partition, "a", &log, 500, 0), [(0, 19, 1)]);
    assert_eq!(partition.next_fetch(), None);
    partition
        .acknowledge(&member("a"), &[ack(0, 9, AckType::Accept)], MonoMs(0))
        .unwrap();
    store(&mut partition);
    assert!(partition.take_freed(), "there is room again");
    assert_eq!(acquire(&mut partition, "a", &log, 500, 0), [(20, 29, 1)]);
}

#[test]
fn control_batches_and_gaps_are_passed_over() {
    let mut partition = fresh();
    let log = [
        control(0),
        batch(1, 2),
        control(3),
        batch(1_000_000, 1_000_001),
    ];
    assert_eq!(
        acquire(&mut partition, "a", &log, 50, 0),
        [(1, 2, 1), (1_000_000, 1_000_001, 1)]
    );
    assert_eq!(partition.start(), Offset(1));
    assert!(
        partition.next_fetch().is_some(),
        "a gap does not fill the window"
    );
    partition
        .acknowledge(&member("a"), &[ack(1, 2, AckType::Accept)], MonoMs(0))
        .unwrap();
    store(&mut partition);
    assert_eq!(partition.start(), Offset(1_000_000));
}

#[test]
fn what_was_compacted_away_while_it_was_available_is_not_waited_for() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 4)], 5, 0);
    partition.release(&member("a"), Departure::Lost, MonoMs(0));
    assert_eq!(
        acquire(&mut partition, "a", &[batch(3, 4)], 5, 0),
        [(3, 4, 2)]
    );
    assert_eq!(partition.start(), Offset(3));
}

#[test]
fn a_record_limit_is_never_exceeded_and_a_batch_is_whole_without_one() {
    let log = [batch(0, 6), batch(7, 13)];
    let mut partition = fresh();
    let mode = AcquireMode::RecordLimit;
    assert_eq!(
        acquire_as(&mut partition, "a", &log, (9, 1, mode), 0),
        [(0, 6, 1), (7, 8, 1)]
    );
    assert_eq!(partition.next_fetch(), Some(Offset(9)));
    let mut partition = fresh();
    let mode = AcquireMode::BatchOptimized;
    assert_eq!(
        acquire_as(&mut partition, "a", &log, (9, 20, mode), 0),
        [(0, 13, 1)]
    );
}

#[test]
fn what_retention_took_is_done_with() {
    let mut partition = fresh();
    acquire(&mut partition, "a", &[batch(0, 9)], 50, 0);
    partition.log_start_moved(Offset(5));
    assert_eq!(partition.start(), Offset(5));
    // Who has them may still say so.
    partition
        .acknowledge(&member("a"), &[ack(0, 9, AckType::Accept)], MonoMs(0))
        .unwrap();
    store(&mut partition);
    assert_eq!(partition.start(), Offset(10));
    partition.log_start_moved(Offset(100));
    assert_eq!(partition.next_fetch(), Some(Offset(100)));
}

#[test]
fn who_takes_over_begins_from_what_was_stored() {
    let stored = |first, last, state, deliveries| StateBatch {
        first: Offset(first),
        last: Offset(last),
        state,
        deliveries,
    };
    let restored = Restored {
        state_epoch: 7,
        start: Offset(5),
        batches: vec![
            stored(0, 5, DeliveryState::Acknowledged, 1),
            stored(8, 9, DeliveryState::Archived, 3),
            stored(10, 11, DeliveryState::Available, 2),
        ],
        levels: Vec::new(),
    };
    let mut partition = SharePartition::restore(CONFIG, restored);
    assert_eq!(
        (partition.start(), partition.end()),
        (Offset(6), Offset(12))
    );
    assert_eq!(
        acquire(&mut partition, "a", &[batch(0, 13)], 50, 0),
        [(6, 7, 1), (10, 11, 3), (12, 13, 1)]
    );
    assert_eq!(partition.state_epoch(), 7);
}
