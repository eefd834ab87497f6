//! Backoffs, and dead letters (KIP-1191).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use weir_tests::lock::lock;
use weir_tests::puppet::{Kind, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms, number_of, numbered};

const TOPIC: &str = "retry";
const LETTERS: &str = "dlq.retry";
const GROUP: &str = "trying";
const PARTITIONS: usize = 3;

/// Messages of each client before the broker is killed, and as many when it is back.
const EACH: usize = 10;

/// How often a message is delivered at most, and how long it waits before the second and the third time.
const DELIVERIES: i64 = 3;
const BACKOFF_MS: [i64; 2] = [400, 1_200];

/// What became of a message.
#[derive(Debug, Default)]
struct Try {
    /// When it was released last: before that was said, and how often it had been delivered.
    released: Option<(i64, i64)>,
    is_done: bool,
}

pub(super) fn what_nobody_can_do_becomes_a_dead_letter(stage: &Stage) {
    stage.topic(TOPIC, PARTITIONS, &[]);
    let takes_letters = [("errors.deadletterqueue.group.enable", "true")];
    stage.topic(LETTERS, PARTITIONS, &takes_letters);
    let config = [
        ("share.delivery.count.limit", "3"),
        ("weir.share.retry.backoff.ms", "400,1200"),
        ("errors.deadletterqueue.topic.name", LETTERS),
        ("errors.deadletterqueue.copy.record.enable", "true"),
    ];
    stage.group(GROUP, &config);
    let tries = Mutex::<BTreeMap<(i64, i64), Try>>::default();
    let is_over = Mutex::new(false);
    let mut dead = BTreeSet::new();
    let mut letters = Vec::new();
    thread::scope(|scope| {
        for client in SHARERS {
            let (tries, is_over) = (&tries, &is_over);
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                while !*lock(is_over) {
                    let records = member.poll();
                    let kinds: Vec<_> = records
                        .iter()
                        .map(|record| take(stage, &mut lock(tries), record))
                        .collect();
                    let said = records.iter().zip(kinds.iter().copied());
                    let asked_ms = now_ms();
                    for ((record, kind), stored) in said.clone().zip(member.settle(said)) {
                        let mut tries = lock(tries);
                        let tried = tries.entry(record.place()).or_default();
                        match kind {
                            Kind::Release => {
                                tried.released = stored.then_some((asked_ms, record.deliveries));
                            }
                            _ => tried.is_done |= stored,
                        }
                    }
                }
            });
        }
        for half in 0..2 {
            for client in EVERYONE {
                let records = numbered(client, half, EACH);
                stage.send(client, TOPIC, &records);
                let doomed = records.into_iter().map(|one| one.value);
                dead.extend(doomed.filter(|value| kind(value, DELIVERIES) != Kind::Accept));
            }
            if half == 0 {
                wait::until("the first are tried", LIMIT, || {
                    (!lock(&tries).is_empty()).then_some(())
                });
                stage.under_way();
                stage.wait_until_mended();
            }
        }
        let found = wait::poll(LIMIT, || {
            letters = stage.read(Client::Librdkafka, LETTERS, PARTITIONS);
            let there: BTreeSet<_> = letters.iter().map(|one| &one.value).collect();
            dead.iter().all(|value| there.contains(value)).then_some(())
        });
        *lock(&is_over) = true;
        let there: BTreeSet<_> = letters.iter().map(|one| &one.value).collect();
        let lacking: Vec<_> = dead.iter().filter(|one| !there.contains(one)).collect();
        assert!(found.is_some(), "no dead letters of {lacking:?}");
    });
    for letter in &letters {
        assert!(dead.contains(&letter.value), "{letter:?} is not dead");
        holds(letter);
    }
    redrive(stage, &letters);
    // A crash between a letter and the end of its message writes it once more.
    println!("  retry: {} dead letters of {}", letters.len(), dead.len());
}

/// Letters go back, and are what they were.
fn redrive(stage: &Stage, letters: &[Record]) {
    let mut wanted = values(&stage.read(Client::Java, TOPIC, PARTITIONS));
    wanted.extend(letters.iter().map(|letter| letter.value.clone()));
    wanted.sort_unstable();
    let redriven: u32 = (0..PARTITIONS)
        .map(|partition| stage.redrive(LETTERS, partition))
        .sum();
    assert_eq!(redriven as usize, letters.len(), "letters that went back");
    let there = stage.read(Client::FranzGo, TOPIC, PARTITIONS);
    assert_eq!(values(&there), wanted, "what is there, and what came back");
    let marked = there.iter().find(|record| !record.headers.is_empty());
    assert_eq!(marked, None, "what letters say of themselves stays behind");
}

fn values(records: &[Record]) -> Vec<String> {
    let mut values: Vec<_> = records.iter().map(|one| one.value.clone()).collect();
    values.sort_unstable();
    values
}

/// What is to become of a message that is delivered for this time.
fn kind(value: &str, delivery: i64) -> Kind {
    match number_of(value) % 5 {
        0 => Kind::Release,
        1 => Kind::Reject,
        2 if delivery == 1 => Kind::Release,
        _ => Kind::Accept,
    }
}

/// A message comes no earlier than its backoff says, unless it waited when its leader was killed, and never when it is done.
fn take(stage: &Stage, tries: &mut BTreeMap<(i64, i64), Try>, record: &Record) -> Kind {
    let tried = tries.entry(record.place()).or_default();
    let is_left_over = stage.leases_may_have_ended(record.at);
    assert!(
        !tried.is_done || is_left_over,
        "{record:?} came again, though it was done"
    );
    assert!(record.deliveries <= DELIVERIES, "{record:?}");
    if let Some((asked_ms, deliveries)) = tried.released.take() {
        assert!(record.deliveries > deliveries || is_left_over, "{record:?}");
        let nth = usize::try_from(deliveries - 1).expect("counted from 1");
        let waited = record.at - asked_ms;
        assert!(
            waited >= BACKOFF_MS[nth.min(1)] || stage.leases_may_have_ended(asked_ms),
            "{record:?} came again after {waited} ms"
        );
    }
    kind(&record.value, record.deliveries)
}

/// What a dead letter says (KIP-1191).
fn holds(letter: &Record) {
    let says = |header: &str| letter.header(&format!("__dlq.errors.{header}"));
    assert_eq!(says("topic"), TOPIC);
    assert_eq!(says("group"), GROUP);
    assert_eq!(says("partition"), letter.partition.to_string());
    let deliveries: i64 = says("delivery.count").parse().expect("a number");
    assert!((1..=DELIVERIES).contains(&deliveries), "{letter:?}");
    assert!(!says("message").is_empty(), "{letter:?}");
    assert!(says("offset").parse::<i64>().is_ok(), "{letter:?}");
}
