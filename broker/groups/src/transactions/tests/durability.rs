//! What may be told and done before and after the disk has it.

use super::{ID, Shard, add, end, written};
use crate::machine::Outcome::{Abort, Commit};
use crate::transactions::Version::V2;
use crate::transactions::{Request, Response, State};

#[test]
fn nobody_is_told_what_a_crash_could_take_back() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.syncs = false;
    let added = shard.ask(Request::Add(add(producer, V2, 0)));
    let ended = shard.ask(Request::End(end(producer, V2, Commit)));
    assert!(shard.replies.is_empty() && shard.markers.is_empty());
    let length = shard.log.len();
    shard.sync_to(length - 1);
    assert_eq!(shard.reply(added), Response::Add(Ok(())));
    assert!(shard.replies.is_empty() && shard.markers.is_empty());
    shard.sync_to(length);
    assert!(matches!(shard.reply(ended), Response::End(Ok(_))));
    assert_eq!(shard.markers.len(), 1);
}

#[test]
fn a_refusal_that_rests_on_what_is_not_durable_waits_too() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.syncs = false;
    shard.ask(Request::Add(add(producer, V2, 0)));
    shard.ask(Request::End(end(producer, V2, Abort)));
    let refused = shard.ask(Request::End(end(producer, V2, Commit)));
    assert!(shard.replies.is_empty());
    shard.sync_to(shard.log.len());
    assert!(matches!(shard.reply(refused), Response::End(Err(_))));
}

#[test]
fn a_coordinator_that_is_loaded_goes_on_with_the_markers() {
    for outcome in [Commit, Abort] {
        let mut shard = Shard::new();
        let producer = shard.init();
        shard.add(producer, V2, 0).unwrap();
        shard.add(producer, V2, 3).unwrap();
        let next = shard.end(producer, V2, outcome).unwrap();
        let before = shard.markers[0].clone();
        shard.crash();
        let after = shard.markers[0].clone();
        assert_eq!(after.partitions, before.partitions);
        assert_eq!(after.marker.producer, before.marker.producer);
        assert_eq!(after.marker.outcome, outcome);
        assert!(after.marker.coordinator_epoch > before.marker.coordinator_epoch);
        shard.write_markers();
        assert_eq!(shard.end(producer, V2, outcome), Ok(next));
        shard.crash();
        assert!(shard.markers.is_empty());
    }
}

#[test]
fn markers_of_an_earlier_transaction_complete_nothing() {
    let mut shard = Shard::new();
    let producer = shard.init();
    shard.add(producer, V2, 0).unwrap();
    let next = shard.end(producer, V2, Commit).unwrap();
    let first = shard.write_markers().remove(0);
    shard.add(next, V2, 0).unwrap();
    shard.end(next, V2, Abort).unwrap();
    shard.ask(written(&first));
    let state = shard.coordinator.transaction(ID).unwrap().state;
    assert_eq!(state, State::Prepare(Abort));
}
