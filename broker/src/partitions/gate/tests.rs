//! The gate, rule by rule.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use super::*;

const WHO: Who = (ProducerId(1), ProducerEpoch(0));

fn verified(since: i64) -> Verified {
    Verified {
        since: Offset(since),
        begins_at_zero: true,
    }
}

fn word(since: i64, number: u64) -> Word {
    Word {
        verified: verified(since),
        number,
    }
}

fn offer(gate: &mut Gate<i32>, sequence: i32, is_ongoing: bool) -> Offered<i32> {
    offer_in(gate, 1, sequence, is_ongoing)
}

fn offer_in(gate: &mut Gate<i32>, epoch: i32, sequence: i32, is_ongoing: bool) -> Offered<i32> {
    let place = (sequence, LeaderEpoch(epoch));
    gate.offer(WHO, place, sequence, is_ongoing, verified(10))
}

#[test]
fn what_belongs_to_an_open_transaction_passes_and_leaves_nothing_behind() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 5, true), Offered::Pass(5, None));
    assert!(gate.is_empty());
}

#[test]
fn batches_wait_for_the_coordinator_and_pass_in_their_order() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    assert_eq!(offer(&mut gate, 1, false), Offered::Waits);
    gate.asking(WHO, Offset(12));
    let word = word(12, 0);
    assert_eq!(gate.next(WHO), Some((0, word)));
    // One comes while others are let through.
    assert_eq!(offer(&mut gate, 2, false), Offered::Waits);
    assert_eq!(gate.next(WHO), Some((1, word)));
    assert_eq!(gate.next(WHO), Some((2, word)));
    assert_eq!(gate.next(WHO), None);
    assert_eq!(offer(&mut gate, 3, false), Offered::Pass(3, Some(word)));
    gate.settled(WHO, word, true);
    assert!(gate.is_empty());
}

#[test]
fn what_is_taken_while_others_are_let_through_counts() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    assert_eq!(offer(&mut gate, 1, false), Offered::Waits);
    let (_, word) = gate.next(WHO).unwrap();
    gate.settled(WHO, word, true);
    assert_eq!(gate.next(WHO), Some((1, word)));
    assert_eq!(gate.next(WHO), None);
    assert!(gate.is_empty());
    assert_eq!(offer(&mut gate, 2, false), Offered::Ask);
    // The last of what went before has nothing to say of this.
    gate.settled(WHO, word, false);
    assert_eq!(offer(&mut gate, 3, false), Offered::Waits);
}

#[test]
fn a_word_is_out_of_date_once_a_marker_was_written_meanwhile() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    gate.asking(WHO, Offset(12));
    assert!(!gate.is_out_of_date(WHO));
    gate.ended(ProducerId(1));
    assert!(gate.is_out_of_date(WHO));
    gate.asking(WHO, Offset(13));
    assert!(!gate.is_out_of_date(WHO));
    assert_eq!(gate.next(WHO), Some((0, word(13, 0))));
}

#[test]
fn what_waited_is_given_back_when_the_coordinator_does_not_vouch() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    assert_eq!(offer(&mut gate, 1, false), Offered::Waits);
    assert_eq!(gate.refuse(WHO), [0, 1]);
    assert!(gate.refuse(WHO).is_empty());
    // The first is still missing, so that no later one comes before it.
    assert_eq!(offer(&mut gate, 2, false), Offered::Gap(2, 0));
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
}

#[test]
fn a_new_transaction_begins_with_any_sequence() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    assert_eq!(gate.refuse(WHO), [0]);
    gate.ended(ProducerId(1));
    assert_eq!(offer(&mut gate, 7, false), Offered::Ask);
}

#[test]
fn a_word_that_the_log_did_not_accept_is_asked_for_again() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    assert_eq!(gate.next(WHO), Some((0, word(10, 0))));
    assert_eq!(gate.next(WHO), None);
    gate.settled(WHO, word(10, 0), false);
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
}

#[test]
fn incarnations_do_not_wait_for_each_other() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    let newer = (ProducerId(1), ProducerEpoch(1));
    assert_eq!(
        gate.offer(newer, (0, LeaderEpoch(1)), 100, false, verified(10)),
        Offered::Ask
    );
    assert_eq!(gate.next(newer), Some((100, word(10, 1))));
}

#[test]
fn who_is_remembered_is_bounded_and_who_waits_is_not_forgotten() {
    let mut gate = Gate::default();
    assert_eq!(offer(&mut gate, 0, false), Offered::Ask);
    for id in 2..3_000 {
        let who = (ProducerId(id), ProducerEpoch(0));
        assert_eq!(
            gate.offer(who, (0, LeaderEpoch(1)), 0, false, verified(10)),
            Offered::Ask
        );
        assert_eq!(gate.refuse(who), [0]);
    }
    assert_eq!(gate.producers.len(), REMEMBERED_MAX + 1);
    assert_eq!(offer(&mut gate, 1, false), Offered::Waits);
}

#[test]
fn what_went_wrong_in_an_earlier_leadership_is_of_no_account() {
    let mut gate = Gate::default();
    assert_eq!(offer_in(&mut gate, 1, 4, false), Offered::Ask);
    let (_, word) = gate.next(WHO).unwrap();
    assert_eq!(gate.next(WHO), None);
    gate.settled(WHO, word, false);
    assert_eq!(offer_in(&mut gate, 1, 5, false), Offered::Gap(5, 4));
    // Another has led since, and has taken number 4.
    assert_eq!(offer_in(&mut gate, 3, 5, false), Offered::Ask);
}
