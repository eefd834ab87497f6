//! How transactions end, in both versions, and requests that come twice.

use weir_wire::ProducerEpoch;

use super::{Shard, add, at_epoch, end};
use crate::machine::Outcome::{Abort, Commit};
use crate::transactions::Version::{V0, V2};
use crate::transactions::{Config, Request, Response, State, TransactionError};

#[test]
fn in_version_2_every_transaction_has_an_epoch_of_its_own() {
    let mut shard = Shard::new();
    let mut producer = shard.init();
    for (epoch, outcome) in [(1, Commit), (2, Abort), (3, Commit)] {
        shard.add(producer, V2, 0).unwrap();
        let next = shard.end(producer, V2, outcome).unwrap();
        assert_eq!(next, at_epoch(producer, epoch));
        // It has not heard the answer.
        assert_eq!(
            shard.end(producer, V2, outcome),
            Err(TransactionError::Concurrent)
        );
        assert_eq!(shard.add(next, V2, 0), Err(TransactionError::Concurrent));
        let markers = shard.write_markers().remove(0);
        assert_eq!(
            (markers.marker.producer, markers.marker.outcome),
            (next, outcome)
        );
        assert_eq!(shard.end(producer, V2, outcome), Ok(next));
        let other = if outcome == Commit { Abort } else { Commit };
        assert_eq!(
            shard.end(producer, V2, other),
            Err(TransactionError::InvalidState)
        );
        producer = next;
    }
}

#[test]
fn in_version_0_a_producer_keeps_its_epoch() {
    let mut shard = Shard::new();
    let producer = shard.init();
    for outcome in [Commit, Abort] {
        shard.add(producer, V0, 0).unwrap();
        assert_eq!(shard.end(producer, V0, outcome), Ok(producer));
        assert_eq!(
            shard.end(producer, V0, outcome),
            Err(TransactionError::Concurrent)
        );
        let markers = shard.write_markers().remove(0);
        assert_eq!(markers.marker.producer, producer);
        assert_eq!(markers.version, V0);
        assert_eq!(shard.end(producer, V0, outcome), Ok(producer));
        let other = if outcome == Commit { Abort } else { Commit };
        assert_eq!(
            shard.end(producer, V0, other),
            Err(TransactionError::InvalidState)
        );
    }
    assert_eq!(shard.init(), at_epoch(producer, 1));
    for outcome in [Commit, Abort] {
        assert_eq!(
            shard.end(at_epoch(producer, 1), V0, outcome),
            Err(TransactionError::InvalidState),
            "nothing was begun"
        );
    }
}

#[test]
fn the_table_of_kip_890_for_ids_without_an_open_transaction() {
    for before in [
        State::Empty,
        State::Complete(Abort),
        State::Complete(Commit),
    ] {
        for outcome in [Abort, Commit] {
            for is_repeated in [true, false] {
                let mut shard = Shard::new();
                shard.init();
                let mut producer = shard.init();
                if let State::Complete(outcome) = before {
                    shard.add(producer, V2, 0).unwrap();
                    producer = shard.end(producer, V2, outcome).unwrap();
                    shard.write_markers();
                }
                assert_eq!(
                    shard.coordinator.transaction(super::ID).unwrap().state,
                    before
                );
                let epoch = producer.epoch.0;
                let who = at_epoch(producer, if is_repeated { epoch - 1 } else { epoch });
                let expected = match (before, outcome, is_repeated) {
                    (State::Empty, _, true) => Err(TransactionError::ProducerFenced),
                    (_, Abort, false) => Ok(at_epoch(producer, epoch + 1)),
                    (State::Complete(done), _, true) if done == outcome => Ok(producer),
                    _ => Err(TransactionError::InvalidState),
                };
                let found = shard.end(who, V2, outcome);
                assert_eq!(found, expected, "{before:?} {outcome:?} {is_repeated}");
                assert!(shard.markers.is_empty(), "nothing was written to");
            }
        }
    }
}

#[test]
fn a_commit_of_a_version_0_transaction_is_not_taken_for_a_fenced_producers() {
    let mut shard = Shard::new();
    let first = shard.init();
    let second = shard.init();
    shard.add(second, V0, 0).unwrap();
    shard.end(second, V0, Commit).unwrap();
    shard.write_markers();
    assert_eq!(
        shard.end(first, V2, Commit),
        Err(TransactionError::ProducerFenced)
    );
}

#[test]
fn both_versions_are_spoken_side_by_side() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V0, 0).unwrap();
    shard.end(producer, V0, Commit).unwrap();
    shard.write_markers();
    // The application was upgraded.
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    let producer = shard.end(producer, V2, Commit).unwrap();
    shard.write_markers();
    assert_eq!(producer.epoch, ProducerEpoch(2));
    // And downgraded.
    let producer = shard.init();
    shard.add(producer, V0, 0).unwrap();
    assert_eq!(shard.end(producer, V0, Commit), Ok(producer));
}

#[test]
fn when_the_epochs_are_used_up_a_new_producer_id_takes_over() {
    let mut shard = Shard::new();
    let old = shard.init();
    shard.coordinator.transaction_mut(super::ID).producer.epoch = ProducerEpoch(i16::MAX - 1);
    let old = at_epoch(old, i16::MAX - 1);
    shard.add(old, V2, 0).unwrap();
    let call = shard.ask(Request::End(end(old, V2, Commit)));
    let wanted = Response::End(Err(TransactionError::ProducerIdWanted));
    assert_eq!(shard.reply(call), wanted);
    let new = shard.end(old, V2, Commit).unwrap();
    assert!(new.id != old.id && new.epoch == ProducerEpoch(0));
    // Both are told to wait, whoever it thinks it is.
    assert_eq!(
        shard.end(old, V2, Commit),
        Err(TransactionError::Concurrent)
    );
    assert_eq!(shard.end(new, V2, Abort), Err(TransactionError::Concurrent));
    assert_eq!(shard.add(new, V2, 0), Err(TransactionError::Concurrent));
    let markers = shard.write_markers().remove(0);
    assert_eq!(markers.marker.producer, at_epoch(old, i16::MAX));
    assert_eq!(shard.end(old, V2, Commit), Ok(new));
    assert_eq!(
        shard.end(old, V2, Abort),
        Err(TransactionError::InvalidState)
    );
    assert_eq!(shard.init_as(Some(old)), Ok(new), "a repeated request");
    shard.add(new, V2, 0).unwrap();
    // A coordinator that is loaded knows as much.
    shard.crash();
    assert_eq!(shard.end(new, V2, Commit), Ok(at_epoch(new, 1)));
}

#[test]
fn a_producer_id_is_replaced_when_whoever_comes_finds_it_used_up() {
    let mut shard = Shard::new();
    let old = shard.init();
    shard.coordinator.transaction_mut(super::ID).producer.epoch = ProducerEpoch(i16::MAX - 1);
    let old = at_epoch(old, i16::MAX - 1);
    let new = shard.init_as(Some(old)).unwrap();
    assert!(new.id != old.id && new.epoch == ProducerEpoch(0));
    assert_eq!(shard.init_as(Some(old)), Ok(new), "a repeated request");
    assert_eq!(shard.init_as(Some(new)), Ok(at_epoch(new, 1)));
    let last = shard.init_as(Some(old));
    assert_eq!(last, Err(TransactionError::ProducerFenced));
}

#[test]
fn the_last_epoch_fences_and_nobody_goes_on_with_it() {
    let mut shard = Shard::new();
    let old = shard.init();
    shard.coordinator.transaction_mut(super::ID).producer.epoch = ProducerEpoch(i16::MAX - 1);
    let old = at_epoch(old, i16::MAX - 1);
    shard.add(old, V2, 0).unwrap();
    shard.advance(60_000);
    let markers = shard.write_markers().remove(0);
    assert_eq!(markers.marker.producer, at_epoch(old, i16::MAX));
    for outcome in [Commit, Abort] {
        assert_eq!(
            shard.end(old, V2, outcome),
            Err(TransactionError::ProducerFenced)
        );
    }
    let new = shard.init();
    assert!(new.id != old.id && new.epoch == ProducerEpoch(0));
}

#[test]
fn a_transaction_that_takes_too_long_is_aborted_and_its_producer_fenced() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V0, 0).unwrap();
    shard.advance(30_000);
    shard.add(producer, V0, 1).unwrap();
    shard.advance(29_999);
    assert!(shard.markers.is_empty());
    shard.advance(1);
    let markers = shard.write_markers().remove(0);
    assert_eq!(markers.marker.outcome, Abort);
    assert_eq!(markers.marker.producer, at_epoch(producer, 1));
    assert_eq!(markers.partitions.iter().count(), 2);
    assert_eq!(
        shard.end(producer, V0, Commit),
        Err(TransactionError::ProducerFenced)
    );
    assert_eq!(
        shard.add(producer, V0, 2),
        Err(TransactionError::ProducerFenced)
    );
}

#[test]
fn a_coordinator_that_is_loaded_keeps_to_the_timeout() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    shard.advance(50_000);
    shard.crash();
    shard.advance(9_999);
    assert!(shard.markers.is_empty());
    shard.advance(1);
    assert_eq!(shard.markers.len(), 1);
    // One that was away for longer aborts at once.
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    shard.now.wall.0 += 3_600_000;
    shard.crash();
    shard.advance(0);
    assert_eq!(shard.markers.len(), 1);
}

#[test]
fn a_request_waits_for_the_markers_of_the_transaction_before() {
    let mut shard = Shard::with(Config::default());
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    let next = shard.end(producer, V2, Commit).unwrap();
    let waits = shard.ask(Request::Add(add(next, V2, 1)));
    let repeats = shard.ask(Request::End(end(producer, V2, Commit)));
    assert!(shard.replies.is_empty());
    shard.write_markers();
    assert_eq!(shard.reply(waits), Response::Add(Ok(())));
    // By now the next transaction is open.
    let fenced = Response::End(Err(TransactionError::ProducerFenced));
    assert_eq!(shard.reply(repeats), fenced);
    assert!(shard.end(next, V2, Commit).is_ok());
    // Patience ends.
    let next = at_epoch(next, 2);
    let waits = shard.ask(Request::Add(add(next, V2, 1)));
    shard.advance(99);
    assert!(shard.replies.contains_key(&waits).eq(&false));
    shard.advance(1);
    assert_eq!(
        shard.reply(waits),
        Response::Add(Err(TransactionError::Concurrent))
    );
}

#[test]
fn a_producer_that_takes_over_waits_until_the_open_transaction_is_aborted() {
    let mut shard = Shard::with(Config::default());
    let first = shard.init();
    shard.add(first, V2, 0).unwrap();
    let fresh = shard.fresh();
    let call = shard.ask(Request::Init(super::InitRequest {
        fresh,
        ..super::init(None)
    }));
    assert!(shard.replies.is_empty());
    shard.write_markers();
    assert_eq!(shard.reply(call), Response::Init(Ok(at_epoch(first, 2))));
}

#[test]
fn only_so_many_requests_wait() {
    let mut shard = Shard::with(Config {
        waiting_max: 2,
        ..Config::default()
    });
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    let next = shard.end(producer, V2, Commit).unwrap();
    let calls: Vec<_> = (0..3)
        .map(|partition| shard.ask(Request::Add(add(next, V2, partition))))
        .collect();
    let refused = Response::Add(Err(TransactionError::Concurrent));
    assert_eq!(shard.reply(calls[2]), refused);
    shard.write_markers();
    for call in &calls[..2] {
        assert_eq!(shard.reply(*call), Response::Add(Ok(())));
    }
}
