//! A flood of failures, which the breaker keeps out of the dead letters, and dead letters that go back by a condition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use weir_tests::lock::lock;
use weir_tests::puppet::{Kind, New, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms, numbered};

/// What is known of the messages of a flood.
#[derive(Debug, Default)]
struct Flood {
    /// Members can do them now.
    is_over: bool,
    has_ended: bool,
    /// How often each was delivered.
    deliveries: BTreeMap<String, i64>,
    /// Those that were done, and whether that is certain.
    done: BTreeMap<String, bool>,
}

pub(super) fn a_flood_of_failures_does_not_empty_the_queue(stage: &Stage) {
    const TOPIC: &str = "flood";
    const LETTERS: &str = "dlq.flood";
    const GROUP: &str = "failing";
    const EACH: usize = 15;
    const LIMIT_OF_DELIVERIES: i64 = 2;
    /// Letters a minute, and at once; a new leader begins with as many again.
    const RATE: usize = 4;
    /// Before the broker is killed, while it is away, and when it leads again.
    const LEADERS: usize = 3;
    stage.topic(TOPIC, 1, &[]);
    let takes_letters = [("errors.deadletterqueue.group.enable", "true")];
    stage.topic(LETTERS, 1, &takes_letters);
    let config = [
        ("share.delivery.count.limit", "2"),
        ("weir.share.retry.backoff.ms", "1000"),
        ("weir.share.deadletter.rate.max", "4"),
        ("errors.deadletterqueue.topic.name", LETTERS),
        ("errors.deadletterqueue.copy.record.enable", "true"),
    ];
    stage.group(GROUP, &config);
    let began_ms = now_ms();
    let all: BTreeSet<String> = EVERYONE
        .iter()
        .flat_map(|client| {
            let records = numbered(*client, 0, EACH);
            stage.send(*client, TOPIC, &records);
            records.into_iter().map(|record| record.value)
        })
        .collect();
    let flood = Mutex::<Flood>::default();
    let letters = || -> BTreeSet<String> {
        let there = stage.read(Client::Librdkafka, LETTERS, 1);
        there.into_iter().map(|letter| letter.value).collect()
    };
    thread::scope(|scope| {
        for client in SHARERS {
            let flood = &flood;
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                while !lock(flood).has_ended {
                    let records = member.poll();
                    let kind = match lock(flood).is_over {
                        true => Kind::Accept,
                        false => Kind::Reject,
                    };
                    let said = records.iter().map(|record| (record, kind));
                    let stored = member.settle(said);
                    let mut flood = lock(flood);
                    for (record, stored) in records.into_iter().zip(stored) {
                        let often = flood.deliveries.entry(record.value.clone()).or_default();
                        *often = record.deliveries.max(*often);
                        if kind == Kind::Accept {
                            *flood.done.entry(record.value).or_default() |= stored;
                        }
                    }
                }
            });
        }
        let kept = wait::poll(LIMIT, || {
            let flood = lock(&flood);
            let kept = flood.deliveries.values();
            let kept = kept.filter(|often| **often > LIMIT_OF_DELIVERIES);
            (kept.count() >= all.len() / 3).then_some(())
        });
        stage.under_way();
        if kept.is_some() {
            stage.wait_until_mended();
        }
        lock(&flood).is_over = true;
        let found = wait::poll(LIMIT, || {
            let mut settled = letters();
            settled.extend(lock(&flood).done.keys().cloned());
            (settled == all).then_some(())
        });
        lock(&flood).has_ended = true;
        assert!(kept.is_some(), "what was rejected is not delivered again");
        assert!(found.is_some(), "neither done nor given up: {flood:?}");
    });
    let letters = letters();
    let minutes = usize::try_from((now_ms() - began_ms) / 60_000).expect("some") + 1;
    let most = RATE * (LEADERS + minutes);
    assert!(
        (1..=most).contains(&letters.len()),
        "{} letters; at most {most} of {} were to be given up",
        letters.len(),
        all.len()
    );
    let flood = lock(&flood);
    let certain = flood.done.iter().filter(|(_, is_certain)| **is_certain);
    let both: Vec<_> = certain
        .filter(|(done, _)| letters.contains(*done))
        .collect();
    assert!(both.is_empty(), "done, and given up: {both:?}");
    println!("  breaker: {} dead letters of {}", letters.len(), all.len());
}

pub(super) fn letters_go_back_by_a_condition(stage: &Stage) {
    const TOPIC: &str = "regional";
    const LETTERS: &str = "dlq.regional";
    const GROUP: &str = "rejecting";
    const PARTITIONS: usize = 3;
    const EACH: usize = 10;
    stage.topic(TOPIC, PARTITIONS, &[]);
    let takes_letters = [("errors.deadletterqueue.group.enable", "true")];
    stage.topic(LETTERS, PARTITIONS, &takes_letters);
    let config = [
        ("errors.deadletterqueue.topic.name", LETTERS),
        ("errors.deadletterqueue.copy.record.enable", "true"),
    ];
    stage.group(GROUP, &config);
    let mut all = BTreeSet::new();
    for client in EVERYONE {
        let records: Vec<New> = numbered(client, 0, EACH)
            .into_iter()
            .enumerate()
            .map(|(number, record)| record.header("region", region(number)))
            .collect();
        stage.send(client, TOPIC, &records);
        all.extend(records.into_iter().map(|record| record.value));
    }
    let is_over = Mutex::new(false);
    thread::scope(|scope| {
        for client in SHARERS {
            let is_over = &is_over;
            scope.spawn(move || {
                let member = stage.member(client, GROUP, TOPIC, None);
                while !*lock(is_over) {
                    let records = member.poll();
                    // What is not certain to be stored comes again, and is rejected again.
                    let _ = member.settle(records.iter().map(|record| (record, Kind::Reject)));
                }
            });
        }
        stage.under_way();
        stage.wait_until_mended();
        let found = wait::poll(LIMIT, || {
            let there = stage.read(Client::Java, LETTERS, PARTITIONS);
            let there: BTreeSet<_> = there.into_iter().map(|letter| letter.value).collect();
            (there == all).then_some(())
        });
        *lock(&is_over) = true;
        assert!(found.is_some(), "not all are dead letters");
    });
    let letters = stage.read(Client::Librdkafka, LETTERS, PARTITIONS);
    let of = |filter: &str| {
        let each = (0..PARTITIONS).map(|partition| stage.redrive_by(LETTERS, partition, filter));
        each.fold((0, 0), |(back, stay), (more_back, more_stay)| {
            (back + more_back as usize, stay + more_stay as usize)
        })
    };
    let nobody = of("headers['__dlq.errors.group'] == 'nobody'");
    assert_eq!(nobody, (0, letters.len()), "of a group that is not theirs");
    let european = |letter: &&Record| letter.header("region") == "eu";
    let mut wanted: Vec<_> = letters.iter().filter(european).map(value).collect();
    let back = of("headers.region == 'eu' && headers['__dlq.errors.group'] == 'rejecting'");
    assert_eq!(back, (wanted.len(), letters.len() - wanted.len()));

    // Members get those again, and nothing else.
    wanted.sort_unstable();
    let mut got = Vec::new();
    for client in [Client::Grpc, Client::FranzGo] {
        let member = stage.member(client, GROUP, TOPIC, Some(5));
        let half = wanted.len() / 2;
        let enough = match client {
            Client::Grpc => half,
            _ => wanted.len(),
        };
        let found = wait::poll(LIMIT, || {
            let records = member.poll();
            let said = records.iter().map(|record| (record, Kind::Accept));
            let stored = member.settle(said);
            let done = records.iter().zip(stored).filter(|(_, stored)| *stored);
            got.extend(done.map(|(record, _)| value(record)));
            (got.len() >= enough).then_some(())
        });
        assert!(found.is_some(), "{} got {got:?}", client.name());
    }
    got.sort_unstable();
    assert_eq!(got, wanted, "what went back");
    println!("  redrive: {} of {} went back", got.len(), letters.len());
}

fn region(number: usize) -> &'static str {
    match number % 3 {
        0 => "eu",
        _ => "us",
    }
}

fn value(record: &Record) -> String {
    record.value.clone()
}
