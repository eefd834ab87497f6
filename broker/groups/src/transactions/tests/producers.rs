//! Who a producer is: InitProducerId, fencing, and what its epochs allow.

use weir_wire::ProducerEpoch;

use super::{Shard, add, at_epoch, init};
use crate::machine::Outcome::{Abort, Commit};
use crate::transactions::Version::{V0, V2};
use crate::transactions::{Config, Request, Response, TransactionError};

#[test]
fn each_producer_of_an_id_has_a_greater_epoch_than_the_one_before() {
    let mut shard = Shard::new();
    let first = shard.init();
    assert_eq!(first.epoch, ProducerEpoch(0));
    let second = shard.init();
    assert_eq!(second, at_epoch(first, 1));
    assert_eq!(
        shard.add(first, V2, 0),
        Err(TransactionError::ProducerFenced)
    );
    assert_eq!(shard.add(second, V2, 0), Ok(()));
}

#[test]
fn a_new_id_wants_a_producer_id_first() {
    let mut shard = Shard::new();
    let call = shard.ask(Request::Init(init(None)));
    let wanted = Response::Init(Err(TransactionError::ProducerIdWanted));
    assert_eq!(shard.reply(call), wanted);
    assert!(shard.log.is_empty());
}

#[test]
fn an_open_transaction_is_aborted_before_its_id_is_given_away() {
    for version in [V0, V2] {
        let mut shard = Shard::new();
        let first = shard.init();
        shard.add(first, version, 0).unwrap();
        assert_eq!(shard.init_as(None), Err(TransactionError::Concurrent));
        assert_eq!(shard.init_as(None), Err(TransactionError::Concurrent));
        assert_eq!(shard.markers.len(), 1);
        let markers = shard.write_markers().remove(0);
        assert_eq!(markers.marker.outcome, Abort);
        assert_eq!(markers.marker.producer, at_epoch(first, 1));
        assert_eq!(markers.version, V2);
        assert_eq!(shard.init(), at_epoch(first, 2));
        let late = shard.end(first, version, Commit);
        assert_eq!(late, Err(TransactionError::ProducerFenced));
    }
}

#[test]
fn a_producer_that_goes_on_after_an_error_may_ask_again() {
    let mut shard = Shard::new();
    let first = shard.init();
    let second = shard.init_as(Some(first)).unwrap();
    assert_eq!(second, at_epoch(first, 1));
    // It has not heard the answer.
    assert_eq!(shard.init_as(Some(first)), Ok(second));
    let other = shard.init();
    assert_eq!(other, at_epoch(first, 2));
    for late in [first, second] {
        assert_eq!(
            shard.init_as(Some(late)),
            Err(TransactionError::ProducerFenced)
        );
    }
    let stranger = at_epoch(
        crate::Producer {
            id: weir_wire::ProducerId(7),
            ..first
        },
        0,
    );
    assert_eq!(
        shard.init_as(Some(stranger)),
        Err(TransactionError::ProducerFenced)
    );
}

#[test]
fn a_fenced_producer_does_not_abort_what_its_successor_does() {
    let mut shard = Shard::new();
    let first = shard.init();
    let second = shard.init();
    shard.add(second, V2, 0).unwrap();
    assert_eq!(
        shard.init_as(Some(first)),
        Err(TransactionError::ProducerFenced)
    );
    assert!(shard.end(second, V2, Commit).is_ok());
}

#[test]
fn an_id_that_was_forgotten_gives_whoever_comes_back_a_new_identity() {
    let mut shard = Shard::new();
    let first = shard.init();
    shard.advance(shard.config.id_expiration_ms.unsigned_abs() + 3_600_000);
    assert!(shard.coordinator.transaction(super::ID).is_none());
    assert_eq!(
        shard.add(first, V2, 0),
        Err(TransactionError::InvalidProducerIdMapping)
    );
    let again = shard.init_as(Some(first)).unwrap();
    assert!(again.id != first.id && again.epoch == ProducerEpoch(0));
    // What expired stays so.
    shard.crash();
    assert_eq!(shard.init(), at_epoch(again, 1));
}

#[test]
fn an_id_with_an_open_transaction_does_not_expire() {
    let mut shard = Shard::new();
    shard.config.timeout_ms_max = i32::MAX;
    let first = shard.init();
    shard.add(first, V2, 0).unwrap();
    shard.end(first, V2, Commit).unwrap();
    shard.advance(shard.config.id_expiration_ms.unsigned_abs() * 2);
    assert!(shard.coordinator.transaction(super::ID).is_some());
    shard.write_markers();
    shard.advance(shard.config.id_expiration_ms.unsigned_abs() + 3_600_000);
    assert!(shard.coordinator.transaction(super::ID).is_none());
}

#[test]
fn timeouts_are_bounded_and_ids_are_checked() {
    let mut shard = Shard::with(Config {
        ids_max: 1,
        partition_bytes_max: 100,
        ..Config::default()
    });
    for timeout_ms in [0, -1, 900_001, i32::MAX] {
        let fresh = shard.fresh();
        let call = shard.ask(Request::Init(super::InitRequest {
            timeout_ms,
            fresh,
            ..init(None)
        }));
        let refused = Response::Init(Err(TransactionError::InvalidTimeout));
        assert_eq!(shard.reply(call), refused);
    }
    for id in [String::new(), "x".repeat(20_000)] {
        let fresh = shard.fresh();
        let call = shard.ask(Request::Init(super::InitRequest {
            id: id.as_str().into(),
            fresh,
            ..init(None)
        }));
        let refused = Response::Init(Err(TransactionError::InvalidRequest));
        assert_eq!(shard.reply(call), refused);
    }
    let producer = shard.init();
    let fresh = shard.fresh();
    let call = shard.ask(Request::Init(super::InitRequest {
        id: "another".into(),
        fresh,
        ..init(None)
    }));
    let refused = Response::Init(Err(TransactionError::BoundReached));
    assert_eq!(shard.reply(call), refused);
    let many = (0..1_000).map(|index| ("orders", weir_wire::PartitionIndex(index)));
    let call = shard.ask(Request::Add(super::AddRequest {
        partitions: many.collect(),
        ..add(producer, V2, 0)
    }));
    let refused = Response::Add(Err(TransactionError::BoundReached));
    assert_eq!(shard.reply(call), refused);
    assert_eq!(shard.add(producer, V2, 0), Ok(()));
}

#[test]
fn only_what_was_added_is_part_of_a_transaction() {
    let mut shard = Shard::new();
    let producer = shard.init();
    assert_eq!(shard.verify(producer, 0), Err(TransactionError::Abortable));
    shard.add(producer, V0, 0).unwrap();
    assert_eq!(shard.verify(producer, 0), Ok(()));
    assert_eq!(shard.verify(producer, 1), Err(TransactionError::Abortable));
    assert_eq!(
        shard.verify(at_epoch(producer, 7), 0),
        Err(TransactionError::ProducerFenced)
    );
    shard.end(producer, V0, Commit).unwrap();
    assert_eq!(shard.verify(producer, 0), Err(TransactionError::Concurrent));
    shard.write_markers();
    assert_eq!(shard.verify(producer, 0), Err(TransactionError::Abortable));
}
