//! Transactions of whole logs: against what the log says when it is read from its beginning, and the rules one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on ends here")]

use bytes::Bytes;
use proptest::prelude::*;
use weir_wire::batch::{BatchBuilder, NewRecord};
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use super::*;
use crate::config::Compaction;
use crate::storage_sim::SimStorage;
use crate::testing::transactions::{
    check, marker, send_as, send_marker, send_transactional, transactional,
};
use crate::testing::{EPOCH, Rig, batch, batch_of};
use crate::{AppendError, LogConfig, Opened, Origin, PartitionHandle, TransactionError, Verified};

const VERSION_2: Origin = Origin::Marker {
    transaction_version: 2,
};

fn open(producer: i64, first: i64) -> Step {
    Step::Open {
        id: ProducerId(producer),
        epoch: ProducerEpoch(0),
        first: Offset(first),
    }
}

fn ended(producer: i64, first: i64, marker: i64) -> Step {
    Step::Ended(Ended {
        id: ProducerId(producer),
        first: Offset(first),
        marker: Offset(marker),
        is_commit: true,
        decided_to: Offset(marker + 1),
    })
}

#[test]
fn a_transaction_is_unsettled_until_the_high_watermark_has_passed_its_marker() {
    let mut transactions = Transactions::default();
    assert_eq!(transactions.last_stable(Offset(9)), Offset(9));
    transactions.apply(&open(1, 10));
    transactions.apply(&open(2, 12));
    assert_eq!(transactions.last_stable(Offset(10)), Offset(10));
    assert_eq!(transactions.last_stable(Offset(14)), Offset(10));
    transactions.apply(&ended(1, 10, 14));
    assert_eq!(transactions.last_stable(Offset(14)), Offset(10));
    assert_eq!(transactions.last_stable(Offset(15)), Offset(12));
    transactions.apply(&ended(2, 12, 15));
    assert_eq!(transactions.last_stable(Offset(16)), Offset(16));
    assert_eq!(transactions, Transactions::default());
}

#[test]
fn a_transaction_goes_on_under_a_newer_epoch_and_ends_once() {
    let mut transactions = Transactions::default();
    transactions.apply(&open(1, 10));
    transactions.apply(&Step::Open {
        id: ProducerId(1),
        epoch: ProducerEpoch(3),
        first: Offset(10),
    });
    assert!(transactions.is_ongoing(ProducerId(1), ProducerEpoch(3)));
    assert!(!transactions.is_ongoing(ProducerId(1), ProducerEpoch(0)));
    assert_eq!(transactions.open_count(), 1);
    transactions.apply(&ended(1, 10, 11));
    assert_eq!(transactions.last_stable(Offset(12)), Offset(12));
}

fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 700,
        index_interval_bytes: 150,
        snapshot_interval_bytes: 1_200,
        ..LogConfig::default()
    }
}

#[test]
fn an_idle_partition_has_no_file_of_aborted_transactions_and_one_goes_with_its_segment() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let config = LogConfig {
        retention_bytes: Some(1),
        ..small()
    };
    let (Opened { handle, .. }, _) = rig.open(&config);
    let path = rig.partition_path(0);
    let files = |rig: &Rig| {
        let mut names = rig.storage.list(&path).unwrap();
        names.retain(|name| name.ends_with(".aborted"));
        names
    };
    rig.append(&handle, &batch(3)).unwrap();
    rig.append(&handle, &batch_of(9, 0, 0, 1)).unwrap();
    for _ in 0..6 {
        send_transactional(&handle, &transactional(1, 0, -1, 2));
        send_marker(&handle, &marker(1, 0, false));
        rig.settle();
    }
    assert!(!files(&rig).is_empty());
    for _ in 0..20 {
        rig.append(&handle, &batch(5)).unwrap();
    }
    handle.retain(handle.reader().log_end());
    rig.settle();
    assert_eq!(files(&rig), Vec::<String>::new());
}

#[test]
fn the_log_is_asked_when_an_entry_of_an_aborted_transaction_is_damaged() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&small());
    for producer in 0..8 {
        send_transactional(&handle, &transactional(producer, 0, -1, 2));
        send_marker(&handle, &marker(producer, 0, false));
        rig.settle();
    }
    check(handle.reader(), "whole");
    let first = rig.partition_path(0).join("00000000000000000000.aborted");
    assert!(storage.flip_bit(&first, 100));
    check(handle.reader(), "damaged");
    rig.close(&handle);
    let (Opened { handle, .. }, _) = rig.open(&small());
    check(handle.reader(), "opened anew");
    assert!(
        handle
            .reader()
            .try_aborted_transactions(Offset(0), Offset(3))
            .is_ok()
    );
}

#[test]
fn what_was_aborted_in_a_past_that_was_cut_away_is_not_told_of_what_lies_there_now() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&small());
    send_transactional(&handle, &transactional(1, 0, -1, 2));
    send_marker(&handle, &marker(1, 0, false));
    rig.settle();
    rig.truncate(&handle, 0);
    send_transactional(&handle, &transactional(1, 0, -1, 2));
    send_marker(&handle, &marker(1, 0, true));
    rig.settle();
    let reader = handle.reader();
    let found = reader.aborted_transactions(Offset(0), Offset(3)).unwrap();
    assert_eq!(found, []);
    check(reader, "after the cut");
}

#[test]
fn a_cut_opens_a_transaction_again_whose_marker_it_took() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&small());
    send_transactional(&handle, &transactional(1, 0, -1, 2));
    send_marker(&handle, &marker(1, 0, true));
    rig.settle();
    assert_eq!(handle.reader().last_stable(Offset(3)), Offset(3));
    rig.truncate(&handle, 2);
    assert_eq!(handle.reader().last_stable(Offset(2)), Offset(0));
    assert!(
        handle
            .reader()
            .is_transaction_open(ProducerId(1), ProducerEpoch(0))
    );
}

#[test]
fn a_batch_that_was_not_written_leaves_no_transaction_behind() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&LogConfig::default());
    rig.append(&handle, &batch(1)).unwrap();
    storage.fill_up_after(30);
    let outcome = send_transactional(&handle, &transactional(1, 0, -1, 2));
    rig.settle();
    assert!(matches!(
        outcome.lock().unwrap().take(),
        Some(Err(AppendError::NoSpace { .. }))
    ));
    storage.set_capacity(u64::MAX);
    assert_eq!(handle.reader().open_transactions(), 0);
    // And the lane does not think that it has one.
    let next = send_as(
        &handle,
        &transactional(1, 0, -1, 1),
        Origin::Coordinator,
        None,
        EPOCH,
    );
    rig.settle();
    let producer = ProducerId(1);
    assert_eq!(
        next.lock().unwrap().take(),
        Some(Err(TransactionError::NotOngoing { producer }.into()))
    );
}

#[test]
fn a_control_batch_is_a_markers_and_a_marker_is_a_control_batch() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&LogConfig::default());
    for (batch, origin) in [
        (marker(1, 0, true), Origin::Client),
        (marker(1, 0, true), Origin::Coordinator),
        (batch(1), VERSION_2),
    ] {
        let outcome = send_as(&handle, &batch, origin, None, EPOCH);
        rig.settle();
        assert!(matches!(
            outcome.lock().unwrap().take(),
            Some(Err(AppendError::Malformed(_)))
        ));
    }
}

#[test]
fn a_replica_that_takes_over_knows_the_transactions_from_its_log_alone() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&small());
    let first = send_transactional(&handle, &transactional(1, 7, 0, 2));
    rig.settle();
    first.lock().unwrap().take().unwrap().unwrap();
    // Killed: nothing but the log is certain.
    let storage = storage.process_killed();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&small());
    assert!(
        handle
            .reader()
            .is_transaction_open(ProducerId(1), ProducerEpoch(7))
    );
    let late = send_as(
        &handle,
        &marker(1, 7, true),
        VERSION_2,
        None,
        LeaderEpoch(EPOCH.0 + 1),
    );
    rig.settle();
    assert!(matches!(
        late.lock().unwrap().take(),
        Some(Err(AppendError::Sequence(_)))
    ));
}

#[derive(Clone, Debug)]
enum Act {
    Plain(usize),
    Data { producer: i64, count: usize },
    End { producer: i64, is_commit: bool },
    Truncate { back: i64 },
    DeleteRecords { back: i64 },
    Reopen,
    Kill,
    Compact,
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        3 => (1..4_usize).prop_map(Act::Plain),
        8 => (0..4_i64, 1..3_usize).prop_map(|(producer, count)| Act::Data { producer, count }),
        6 => (0..4_i64, any::<bool>())
            .prop_map(|(producer, is_commit)| Act::End { producer, is_commit }),
        1 => (0..9_i64).prop_map(|back| Act::Truncate { back }),
        1 => (0..20_i64).prop_map(|back| Act::DeleteRecords { back }),
        1 => Just(Act::Reopen),
        1 => Just(Act::Kill),
        2 => Just(Act::Compact),
    ];
    prop::collection::vec(act, 1..120)
}

fn keyed(count: usize) -> Bytes {
    let mut builder = BatchBuilder::new();
    for record in 0..count {
        let key = [record as u8];
        builder
            .push(&NewRecord {
                timestamp_ms: 1_000,
                key: Some(&key),
                value: Some(&[b'v'; 20]),
                headers: &[],
            })
            .unwrap();
    }
    builder.build()
}

/// `compacted_to`: consumers have seen what lies below, and compaction may have left out records of transactions that end there,
/// so that nobody truncates to before it.
fn act(rig: &mut Rig, handle: &PartitionHandle, act: &Act, compacted_to: &mut i64) {
    let reader = handle.reader();
    match act {
        Act::Plain(count) => drop(rig.send(handle, &keyed(*count))),
        Act::Data { producer, count } => {
            drop(send_transactional(
                handle,
                &transactional(*producer, 0, -1, *count),
            ));
        }
        Act::End {
            producer,
            is_commit,
        } => drop(send_marker(handle, &marker(*producer, 0, *is_commit))),
        Act::Truncate { back } => {
            rig.settle();
            let end = (reader.log_end().0 - back).max(reader.log_start().0);
            if end >= *compacted_to {
                rig.truncate(handle, end);
            }
        }
        Act::DeleteRecords { back } => {
            rig.settle();
            let start = (reader.log_end().0 - back).max(reader.log_start().0);
            rig.delete_records(handle, start);
        }
        Act::Compact => {
            rig.settle();
            rig.clock.advance(20);
            let stable = reader.last_stable(reader.log_end());
            // The log's end is the high watermark here, below which nothing is ever cut: what decides of the transactions below
            // the last stable offset may lie anywhere before it.
            *compacted_to = reader.log_end().0;
            handle.clean(stable);
        }
        Act::Reopen | Act::Kill => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn transactions_are_as_the_log_says_whatever_happens_to_it(acts in acts(), is_compacted in any::<bool>()) {
        let config = LogConfig {
            compaction: is_compacted.then(|| Compaction {
                dirty_ratio_min_ppm: 0,
                delete_retention_ms: 10,
                ..Compaction::default()
            }),
            ..small()
        };
        let mut storage = SimStorage::new();
        let mut rig = Rig::new(&storage);
        let mut compacted_to = 0;
        let (Opened { mut handle, .. }, _) = rig.open(&config);
        for (number, one) in acts.iter().enumerate() {
            act(&mut rig, &handle, one, &mut compacted_to);
            rig.settle();
            match one {
                Act::Reopen => {
                    rig.close(&handle);
                    handle = rig.open(&config).0.handle;
                }
                Act::Kill => {
                    storage = storage.process_killed();
                    rig = Rig::new(&storage);
                    handle = rig.open(&config).0.handle;
                }
                _ => {}
            }
            check(handle.reader(), &format!("after {number}: {one:?}"));
        }
    }
}

#[test]
fn a_coordinators_word_is_checked_by_the_lane() {
    let storage = SimStorage::new();
    let mut rig = Rig::new(&storage);
    let (Opened { handle, .. }, _) = rig.open(&LogConfig::default());
    let word = |since| {
        Some(Verified {
            since,
            begins_at_zero: true,
        })
    };
    let before = handle.reader().log_end();
    send_marker(&handle, &marker(1, 0, false));
    // Asked before the marker was written, answered after.
    let stale = send_as(
        &handle,
        &transactional(1, 0, 0, 1),
        Origin::Client,
        word(before),
        EPOCH,
    );
    rig.settle();
    assert!(matches!(
        stale.lock().unwrap().take(),
        Some(Err(AppendError::Transaction(_)))
    ));
    let since = handle.reader().log_end();
    let fresh = send_as(
        &handle,
        &transactional(1, 0, 0, 1),
        Origin::Client,
        word(since),
        EPOCH,
    );
    rig.settle();
    assert!(fresh.lock().unwrap().take().unwrap().is_ok());
}
