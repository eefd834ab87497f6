//! Delayed messages: never early, in the order in which they are due, and not at all when they were cancelled.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::Value;
use weir_tests::puppet::{Kind, New, Reader, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms};

const TOPIC: &str = "delay";
const GROUP: &str = "patient";
const PARTITIONS: usize = 3;

/// Messages of each client; every fifth is cancelled.
const EACH: usize = 30;

/// Messages are due within so many milliseconds, and those that are cancelled after all others, but for the last of each partition.
const SPREAD_MS: i64 = 6_000;
const CANCELLED_MS: i64 = 20_000;
const LAST_MS: i64 = 25_000;

/// What is known of a message before it comes: when it is due at the earliest.
type Due = BTreeMap<String, i64>;

pub(super) fn nothing_comes_early_or_out_of_order(stage: &Stage) {
    stage.topic(TOPIC, PARTITIONS, &[("weir.queue.delay.max.ms", "3600000")]);
    stage.group(GROUP, &[]);
    let due = Mutex::<Due>::default();
    thread::scope(|scope| {
        for (number, client) in EVERYONE.into_iter().enumerate() {
            let due = &due;
            // Whoever sends to the partition can cancel what others have sent.
            let canceller = EVERYONE[(number + 1) % EVERYONE.len()];
            scope.spawn(move || {
                let records: Vec<_> = (0..EACH).map(|number| delayed(client, number)).collect();
                let sent_ms = now_ms();
                stage.send(client, TOPIC, &records);
                let mut cancels = Vec::new();
                for (number, record) in records.into_iter().enumerate() {
                    if number % 5 == 0 {
                        let partition = record.partition.expect("it has one");
                        let cancel = New::of("").partition(partition);
                        cancels.push(cancel.header("weir-cancel", record.value));
                    } else {
                        let wanted = wanted_ms(number, sent_ms, &record);
                        due.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .insert(record.value, wanted);
                    }
                }
                stage.send(canceller, TOPIC, &cancels);
            });
        }
    });
    let mut due = due.into_inner().unwrap_or_else(PoisonError::into_inner);
    for partition in 0..PARTITIONS {
        let client = EVERYONE[partition % EVERYONE.len()];
        let record = New::of(format!("last-{partition}"))
            .partition(i64::try_from(partition).expect("small"))
            .header("weir-delay-ms", LAST_MS.to_string());
        due.insert(record.value.clone(), now_ms() + LAST_MS);
        stage.send(client, TOPIC, &[record]);
    }
    stage.under_way();
    thread::scope(|scope| {
        for client in [
            Client::Java,
            Client::Librdkafka,
            Client::FranzGo,
            Client::Grpc,
        ] {
            let due = &due;
            scope.spawn(move || read(stage, client, due));
        }
        share(stage, &due);
    });
    println!("  delay: {} came at their time", due.len());
}

fn delayed(client: Client, number: usize) -> New {
    let value = format!("{}-{number}", client.name());
    let partition = i64::try_from(number % PARTITIONS).expect("small");
    let record = New::of(value.clone())
        .partition(partition)
        .header("weir-message-id", value);
    // As far apart as a prime spreads them.
    let after_ms = 3_000 + i64::try_from(number * 1_009).expect("small") % SPREAD_MS;
    match number {
        number if number.is_multiple_of(5) => {
            record.header("weir-delay-ms", CANCELLED_MS.to_string())
        }
        number if number.is_multiple_of(2) => record.header("weir-delay-ms", after_ms.to_string()),
        _ => record.header("weir-deliver-at", (now_ms() + after_ms).to_string()),
    }
}

/// When a message that was sent at this time or later is due at the earliest.
fn wanted_ms(number: usize, sent_ms: i64, record: &New) -> i64 {
    let (_, value) = record.headers.last().expect("it has one");
    let value: i64 = value.parse().expect("a number");
    if number.is_multiple_of(2) {
        sent_ms + value
    } else {
        value
    }
}

/// A reader gets each once, when it is due, in the order of that.
fn read(stage: &Stage, client: Client, due: &Due) {
    let reader = Reader::open(stage.of(client), TOPIC, PARTITIONS, &Value::Null);
    let (mut left, mut last) = (due.clone(), BTreeMap::new());
    let found = wait::poll(LIMIT, || {
        for record in reader.poll() {
            let wanted = left.remove(&record.value);
            let wanted = wanted.unwrap_or_else(|| {
                panic!(
                    "{} got {record:?}, which was cancelled, or came twice",
                    client.name()
                )
            });
            let Some(due_ms) = is_due(&record, wanted) else {
                continue;
            };
            let before = last.insert(record.partition, due_ms);
            assert!(
                before.is_none_or(|before| before <= due_ms),
                "{} got {record:?} after what was due at {before:?}",
                client.name()
            );
        }
        left.is_empty().then_some(())
    });
    assert!(found.is_some(), "{} never got {left:?}", client.name());
}

/// A group has nothing early either, and is done with each.
fn share(stage: &Stage, due: &Due) {
    let left = Mutex::new(due.clone());
    let lock = || left.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for client in SHARERS {
            let lock = &lock;
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                let done = wait::poll(LIMIT, || {
                    let records = member.poll();
                    for record in &records {
                        let wanted = due.get(&record.value);
                        let wanted = wanted.unwrap_or_else(|| panic!("{record:?} was cancelled"));
                        is_due(record, *wanted);
                    }
                    let said = records.iter().map(|one| (one, Kind::Accept));
                    // What is not certain to be stored comes again, or does not.
                    let _ = member.settle(said);
                    let mut left = lock();
                    left.retain(|value, _| records.iter().all(|one| one.value != *value));
                    left.is_empty().then_some(())
                });
                assert!(done.is_some(), "nobody of the group got {:?}", lock());
            });
        }
    });
}

/// When it says that it was due: not before it was to be, and not after it came. One that came too late to wait says nothing.
fn is_due(record: &Record, wanted_ms: i64) -> Option<i64> {
    assert!(wanted_ms <= record.at, "due at {wanted_ms}: {record:?}");
    let told = record.headers.get("weir-delayed-from")?;
    let due_ms = told.split(',').nth(1).and_then(|due| due.parse().ok());
    let due_ms = due_ms.unwrap_or_else(|| panic!("weir-delayed-from is {told:?}"));
    assert!(
        wanted_ms <= due_ms && due_ms <= record.at,
        "wanted at {wanted_ms}, due at {due_ms}: {record:?}"
    );
    Some(due_ms)
}
