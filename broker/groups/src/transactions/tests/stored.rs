//! The stored format, and lists.

use bytes::Bytes;
use weir_wire::ProducerId;

use super::{ID, Shard};
use crate::machine::Outcome::{Abort, Commit};
use crate::machine::{Entry, Machine, Replayed};
use crate::transactions::Version::V2;
use crate::transactions::coordinator::Loader;
use crate::transactions::request::{ListRequest, Listing};
use crate::transactions::{Request, Response, State, TransactionError, Transactions};

fn replay(key: &[u8], value: Option<&[u8]>) -> Result<(), crate::StoredError> {
    let record = Replayed::Record {
        key,
        value,
        pending: None,
    };
    Transactions::replay(&mut Loader::default(), record)
}

#[test]
fn records_are_as_kafka_writes_them() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V2, 5).unwrap();
    let Entry::Record(record) = &shard.log[1] else {
        panic!("outside of transactions");
    };
    let mut key = vec![0, 0, 0, 8];
    key.extend(ID.as_bytes());
    assert_eq!(record.key, Bytes::from(key));
    let mut value = vec![0, 1];
    value.extend(producer.id.0.to_be_bytes());
    value.extend([0, 0]);
    value.extend(60_000i32.to_be_bytes());
    value.push(1);
    value.extend([2, 7]);
    value.extend(b"orders");
    value.extend([2, 0, 0, 0, 5, 0]);
    value.extend(shard.now.wall.0.to_be_bytes());
    value.extend(shard.now.wall.0.to_be_bytes());
    // Tagged: the producer id before, the client's version.
    value.extend([2, 0, 8]);
    value.extend(producer.id.0.to_be_bytes());
    value.extend([2, 2, 0, 2]);
    assert_eq!(record.value.as_deref(), Some(value.as_slice()));
    assert_eq!(replay(&record.key, record.value.as_deref()), Ok(()));
    for cut in 0..value.len() {
        assert!(replay(&record.key, Some(&value[..cut])).is_err(), "{cut}");
    }
}

#[test]
fn other_kinds_are_passed_over_and_unknown_states_are_not_guessed() {
    assert_eq!(replay(&[0, 9, 1, 2, 3], Some(&[])), Ok(()));
    let mut shard = Shard::new();
    shard.init();
    let Entry::Record(record) = &shard.log[0] else {
        panic!("outside of transactions");
    };
    let mut value = record.value.clone().unwrap().to_vec();
    value[16] = 9;
    assert_eq!(
        replay(&record.key, Some(&value)),
        Err(crate::StoredError::State { found: 9 })
    );
}

#[test]
fn ids_are_described_and_listed_by_state_producer_and_duration() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V2, 1).unwrap();
    shard.advance(1_000);
    let mut list = |request: ListRequest| {
        let call = shard.ask(Request::List(request));
        match shard.reply(call) {
            Response::List(listed) => listed,
            other => panic!("{other:?}"),
        }
    };
    let all = vec![Listing {
        id: ID.into(),
        producer: producer.id,
        state: State::Ongoing,
    }];
    let any = ListRequest::default;
    assert_eq!(list(any()), all);
    let states = vec![State::Empty, State::Ongoing];
    assert_eq!(list(ListRequest { states, ..any() }), all);
    let states = vec![State::Complete(Commit), State::Complete(Abort)];
    assert_eq!(list(ListRequest { states, ..any() }), []);
    let only_unseen = true;
    assert_eq!(
        list(ListRequest {
            only_unseen,
            ..any()
        }),
        []
    );
    let producers = vec![producer.id];
    assert_eq!(list(ListRequest { producers, ..any() }), all);
    let producers = vec![ProducerId(1)];
    assert_eq!(list(ListRequest { producers, ..any() }), []);
    for (ms, expected) in [(999, &all), (1_000, &vec![])] {
        let longer_than_ms = Some(ms);
        assert_eq!(
            &list(ListRequest {
                longer_than_ms,
                ..any()
            }),
            expected
        );
    }
    let mut describe = |id: &str| {
        let call = shard.ask(Request::Describe(id.into()));
        match shard.reply(call) {
            Response::Describe(found) => found,
            other => panic!("{other:?}"),
        }
    };
    let found = describe(ID).unwrap();
    assert_eq!(
        (found.state, found.producer, found.timeout_ms),
        (State::Ongoing, producer, 60_000)
    );
    assert_eq!(found.started_at_ms, 1_700_000_000_000);
    assert_eq!(describe("nobody"), Err(TransactionError::IdNotFound));
    assert_eq!(describe(""), Err(TransactionError::InvalidRequest));
}
