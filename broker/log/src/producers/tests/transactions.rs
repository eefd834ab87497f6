//! Transactions, marker by marker.

use weir_wire::batch::EndTransactionMarker;

use super::*;
use crate::error::TransactionError;

const VERSION_1: Origin = Origin::Marker {
    transaction_version: 1,
};
const VERSION_2: Origin = Origin::Marker {
    transaction_version: 2,
};

const VOUCHED: Option<Verified> = Some(Verified {
    since: Offset(1_000),
    begins_at_zero: false,
});

fn transactional(producer: i64, epoch: i16, sequence: i32, records: i32, offset: i64) -> Arriving {
    let mut header = header(producer, epoch, sequence, records, offset);
    header.attributes = header.attributes.with_transactional(true);
    data(header)
}

fn marker(
    producer: i64,
    epoch: i16,
    coordinator_epoch: i32,
    is_commit: bool,
    offset: i64,
) -> Arriving {
    let mut header = header(producer, epoch, -1, 1, offset);
    header.attributes = Attributes::default()
        .with_transactional(true)
        .with_control(true);
    Arriving {
        header,
        marker: Some(EndTransactionMarker {
            is_commit,
            coordinator_epoch,
        }),
    }
}

/// A table that remembers these.
fn after(arriving: &[Arriving]) -> Producers {
    let mut producers = Producers::default();
    for one in arriving {
        producers.remember(one, 0);
    }
    producers
}

fn check(
    producers: &Producers,
    arriving: Arriving,
    origin: Origin,
    verified: Option<Verified>,
) -> Result<Verdict, AppendError> {
    producers.check(&arriving, origin, verified, (MAX, false))
}

#[test]
fn a_transaction_begins_only_with_its_coordinators_word_and_goes_on_without() {
    let first = transactional(1, 0, 0, 2, 10);
    let refused = check(&Producers::default(), first, Origin::Client, None);
    let producer = ProducerId(1);
    assert_eq!(
        refused,
        Err(TransactionError::NotOngoing { producer }.into())
    );
    let taken = check(&Producers::default(), first, Origin::Client, VOUCHED);
    assert_eq!(taken, Ok(Verdict::Append));
    let producers = after(&[first]);
    let next = transactional(1, 0, 2, 1, 12);
    assert_eq!(
        check(&producers, next, Origin::Client, None),
        Ok(Verdict::Append)
    );
}

#[test]
fn a_word_that_was_given_before_the_producers_last_marker_is_void() {
    let producers = after(&[transactional(1, 0, 0, 2, 10), marker(1, 0, 3, false, 12)]);
    let late = transactional(1, 0, 2, 1, 13);
    let word = |since| {
        Some(Verified {
            since: Offset(since),
            begins_at_zero: false,
        })
    };
    let producer = ProducerId(1);
    assert_eq!(
        check(&producers, late, Origin::Client, word(12)),
        Err(TransactionError::NotOngoing { producer }.into())
    );
    assert_eq!(
        check(&producers, late, Origin::Client, word(13)),
        Ok(Verdict::Append)
    );
}

#[test]
fn a_batch_outside_of_the_open_transaction_is_refused() {
    let producers = after(&[transactional(1, 0, 0, 2, 10)]);
    let plain = data(header(1, 0, 2, 1, 12));
    let producer = ProducerId(1);
    assert_eq!(
        check(&producers, plain, Origin::Client, None),
        Err(TransactionError::NotTransactional { producer }.into())
    );
}

#[test]
fn sequences_go_on_after_a_marker_of_the_same_epoch_and_begin_anew_after_a_greater_one() {
    let begun = transactional(1, 0, 0, 2, 10);
    let same = after(&[begun, marker(1, 0, 0, true, 12)]);
    assert_eq!(
        check(
            &same,
            transactional(1, 0, 2, 1, 13),
            Origin::Client,
            VOUCHED
        ),
        Ok(Verdict::Append)
    );
    let raised = after(&[begun, marker(1, 1, 0, true, 12)]);
    let gap = SequenceError::OutOfOrder {
        producer: ProducerId(1),
        expected: 0,
        got: 2,
    };
    assert_eq!(
        check(
            &raised,
            transactional(1, 1, 2, 1, 13),
            Origin::Client,
            VOUCHED
        ),
        Err(gap.into())
    );
    assert_eq!(
        check(
            &raised,
            transactional(1, 1, 0, 1, 13),
            Origin::Client,
            VOUCHED
        ),
        Ok(Verdict::Append)
    );
}

#[test]
fn a_producer_of_version_2_without_any_state_begins_at_zero() {
    let word = Some(Verified {
        since: Offset(0),
        begins_at_zero: true,
    });
    let none = Producers::default();
    let gap = SequenceError::OutOfOrder {
        producer: ProducerId(1),
        expected: 0,
        got: 7,
    };
    assert_eq!(
        check(&none, transactional(1, 0, 7, 1, 0), Origin::Client, word),
        Err(gap.into())
    );
    assert_eq!(
        check(&none, transactional(1, 0, 7, 1, 0), Origin::Client, VOUCHED),
        Ok(Verdict::Append)
    );
    // One of version 1 may go on with its sequences, so that it is not known says no more than that.
    let asked = none.check(
        &transactional(1, 0, 7, 1, 0),
        Origin::Client,
        VOUCHED,
        (MAX, true),
    );
    let unknown = SequenceError::Unknown {
        producer: ProducerId(1),
        got: 7,
    };
    assert_eq!(asked, Err(unknown.into()));
}

#[test]
fn a_marker_of_version_2_must_raise_the_epoch_unless_it_is_a_retry() {
    let open = after(&[transactional(1, 4, 0, 2, 10)]);
    let fenced = |got| SequenceError::Fenced {
        producer: ProducerId(1),
        got: ProducerEpoch(got),
        current: ProducerEpoch(4),
    };
    assert_eq!(
        check(&open, marker(1, 4, 0, true, 12), VERSION_2, None),
        Err(fenced(4).into())
    );
    assert_eq!(
        check(&open, marker(1, 3, 0, true, 12), VERSION_1, None),
        Err(fenced(3).into())
    );
    assert_eq!(
        check(&open, marker(1, 4, 0, true, 12), VERSION_1, None),
        Ok(Verdict::Append)
    );
    assert_eq!(
        check(&open, marker(1, 5, 0, true, 12), VERSION_2, None),
        Ok(Verdict::Append)
    );
    let ended = after(&[transactional(1, 4, 0, 2, 10), marker(1, 5, 0, true, 12)]);
    assert_eq!(
        check(&ended, marker(1, 5, 0, true, 13), VERSION_2, None),
        Ok(Verdict::Append)
    );
}

#[test]
fn a_marker_of_a_coordinator_that_was_replaced_is_refused() {
    let producers = after(&[transactional(1, 0, 0, 1, 10), marker(1, 0, 7, true, 11)]);
    let zombie = TransactionError::CoordinatorFenced {
        producer: ProducerId(1),
        got: 6,
        current: 7,
    };
    assert_eq!(
        check(&producers, marker(1, 0, 6, false, 12), VERSION_1, None),
        Err(zombie.into())
    );
    assert_eq!(
        check(&producers, marker(1, 0, 7, false, 12), VERSION_1, None),
        Ok(Verdict::Append)
    );
}

#[test]
fn who_has_a_transaction_open_is_neither_forgotten_nor_made_to_give_way() {
    let mut producers = after(&[transactional(1, 0, 0, 1, 0)]);
    for other in 2..200 {
        producers.remember(&data(header(other, 0, 0, 1, other)), other);
        producers.trim(8);
    }
    assert!(producers.by_id.len() <= 8);
    assert!(producers.by_id.contains_key(&ProducerId(1)));
    producers.expire(i64::MAX);
    assert_eq!(
        producers.by_id.keys().copied().collect::<Vec<_>>(),
        [ProducerId(1)]
    );
}

#[test]
fn a_stranger_does_not_begin_a_transaction_where_all_that_may_be_open_are() {
    let open: Vec<_> = (0..MAX as i64)
        .map(|producer| transactional(producer, 0, 0, 1, producer))
        .collect();
    let producers = after(&open);
    let one_more = transactional(9_999, 0, 0, 1, 500);
    assert_eq!(
        check(&producers, one_more, Origin::Client, VOUCHED),
        Err(AppendError::Busy)
    );
    let known = transactional(0, 0, 1, 1, 500);
    assert_eq!(
        check(&producers, known, Origin::Client, None),
        Ok(Verdict::Append)
    );
}

#[test]
fn offsets_of_a_transaction_carry_no_sequence() {
    let offsets = transactional(1, 0, -1, 2, 10);
    let producers = Producers::default();
    assert_eq!(
        check(&producers, offsets, Origin::Coordinator, VOUCHED),
        Ok(Verdict::Append)
    );
    let producers = after(&[offsets, offsets]);
    let [described] = producers.describe()[..] else {
        panic!("one producer")
    };
    assert_eq!(described.last_sequence, -1);
    assert_eq!(described.transaction_start, Some(Offset(10)));
}

#[test]
fn a_marker_tells_from_where_on_transactions_are_undecided() {
    let mut producers = after(&[transactional(1, 0, 0, 1, 0), transactional(2, 0, 0, 1, 1)]);
    let ended = |remembered: Option<Remembered>| match remembered.unwrap().step {
        Some(Step::Ended(ended)) => (ended.first.0, ended.decided_to.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        ended(producers.remember(&marker(2, 0, 0, false, 2), 0)),
        (1, 0)
    );
    assert_eq!(
        ended(producers.remember(&marker(1, 0, 0, true, 3), 0)),
        (0, 4)
    );
    let none = producers.remember(&marker(1, 0, 0, true, 4), 0).unwrap();
    assert_eq!(none.step, None);
}
