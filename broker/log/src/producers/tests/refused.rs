//! What is remembered of batches that were refused for good.

use weir_wire::LeaderEpoch;
use weir_wire::batch::BatchHeader;

use super::super::Refusals;
use super::header;

const LEADER: LeaderEpoch = LeaderEpoch(3);

fn batch(sequence: i32, records: i32) -> BatchHeader {
    header(7, 0, sequence, records, 0)
}

#[test]
fn what_comes_behind_refused_batches_follows() {
    let mut refusals = Refusals::default();
    refusals.add(&batch(5, 5), LEADER);
    refusals.add(&batch(10, 2), LEADER);
    assert!(refusals.leads(&batch(12, 1), LEADER, 5));
    assert!(refusals.leads(&batch(10, 2), LEADER, 5));
    assert!(!refusals.leads(&batch(13, 1), LEADER, 5), "13 is not next");
    assert!(
        !refusals.leads(&batch(12, 1), LEADER, 4),
        "4 was not refused"
    );
    assert!(
        !refusals.leads(&header(8, 0, 12, 1, 0), LEADER, 5),
        "another producer"
    );
    assert!(
        !refusals.leads(&header(7, 1, 12, 1, 0), LEADER, 5),
        "another epoch"
    );
}

#[test]
fn the_same_batch_is_known_again_until_its_sequences_are_used() {
    let mut refusals = Refusals::default();
    refusals.add(&batch(5, 5), LEADER);
    refusals.taken(&batch(10, 1), LEADER);
    assert!(refusals.has(&batch(5, 5), LEADER));
    assert!(!refusals.has(&batch(5, 4), LEADER));
    refusals.taken(&batch(5, 2), LEADER);
    assert!(!refusals.has(&batch(5, 5), LEADER));
    assert!(!refusals.leads(&batch(10, 1), LEADER, 5));
}

#[test]
fn five_batches_and_a_thousand_producers_are_remembered() {
    let mut refusals = Refusals::default();
    (0..6).for_each(|sequence| refusals.add(&batch(sequence, 1), LEADER));
    assert!(!refusals.has(&batch(0, 1), LEADER) && refusals.has(&batch(1, 1), LEADER));
    for producer in 100..1_100 {
        refusals.add(&header(producer, 0, 0, 1, 0), LEADER);
    }
    assert!(!refusals.has(&batch(5, 1), LEADER));
    assert!(refusals.has(&header(100, 0, 0, 1, 0), LEADER));
}

#[test]
fn another_leader_epoch_knows_of_no_refusals() {
    let mut refusals = Refusals::default();
    refusals.add(&batch(5, 5), LEADER);
    let later = LeaderEpoch(LEADER.0 + 2);
    assert!(!refusals.leads(&batch(10, 1), later, 5));
    assert!(!refusals.has(&batch(5, 5), later));
    refusals.taken(&header(9, 0, 0, 1, 0), LeaderEpoch(4));
    assert!(!refusals.has(&batch(5, 5), LEADER));
}

#[test]
fn sequences_wrap_here_too() {
    let mut refusals = Refusals::default();
    refusals.add(&batch(i32::MAX - 1, 3), LEADER);
    assert!(refusals.leads(&batch(1, 1), LEADER, i32::MAX - 1));
    assert!(refusals.has(&batch(i32::MAX - 1, 3), LEADER));
    refusals.taken(&batch(0, 1), LEADER);
    assert!(!refusals.has(&batch(i32::MAX - 1, 3), LEADER));
}
