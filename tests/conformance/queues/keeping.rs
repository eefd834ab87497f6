//! Which messages a group is given, and which a topic keeps: filters, time to live, duplicates.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;

use serde_json::json;
use weir_tests::puppet::{Kind, New, Reader};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms};

const PARTITIONS: usize = 3;
const EACH: usize = 30;
const HOUR_MS: i64 = 3_600_000;

pub(super) fn a_group_gets_what_its_filter_lets_through(stage: &Stage) {
    const FILTER: &str = "headers.region == 'eu' && int(headers.amount) > 10";
    stage.topic("filter", PARTITIONS, &[]);
    stage.group("europeans", &[("weir.share.filter", FILTER)]);
    let wrong = [("weir.share.filter", "headers.region == country")];
    let told = stage.try_group("europeans", &wrong);
    assert_eq!(told["error"], "INVALID_CONFIG", "{told}");
    let why = told["message"].as_str().unwrap_or_default();
    assert!(
        why.contains("weir.share.filter: line 1, column 19: \"country\" is not known"),
        "{why}"
    );
    let grpc = stage.of(Client::Grpc);
    let told = grpc.ask(json!({"do": "read-refused", "topic": "filter", "filter": "headers["}));
    assert_eq!(told["error"], "INVALID_ARGUMENT", "{told}");

    let mut wanted = Vec::new();
    for half in 0..2 {
        if half == 1 {
            stage.under_way();
            stage.wait_until_mended();
        }
        for client in EVERYONE {
            let records: Vec<_> = (half * EACH..(half + 1) * EACH)
                .map(|number| {
                    let region = if number.is_multiple_of(2) { "eu" } else { "us" };
                    let tags = if number.is_multiple_of(3) {
                        "paid,express"
                    } else {
                        "paid"
                    };
                    New::of(format!("{}-{number}", client.name()))
                        .header("region", region)
                        .header("amount", number.to_string())
                        .header("weir-tags", tags)
                })
                .collect();
            stage.send(client, "filter", &records);
            let good = (half * EACH..(half + 1) * EACH)
                .filter(|number| number.is_multiple_of(2) && *number > 10);
            wanted.extend(good.map(|number| format!("{}-{number}", client.name())));
        }
    }
    // Who reads alone brings a filter of their own.
    let words = json!({"filter": FILTER, "tags": "express || fast"});
    let reader = Reader::open(grpc, "filter", PARTITIONS, &words);
    let express = wanted.iter().filter(|value| {
        let number = value.rsplit('-').next().and_then(|text| text.parse().ok());
        number.is_some_and(|number: usize| number.is_multiple_of(3))
    });
    let mut express: Vec<_> = express.cloned().collect();
    let found = wait::poll(LIMIT, || {
        for record in reader.poll() {
            let at = express.iter().position(|value| *value == record.value);
            express.swap_remove(at.unwrap_or_else(|| panic!("{record:?} came through")));
        }
        express.is_empty().then_some(())
    });
    assert!(found.is_some(), "never read: {express:?}");
    share_exactly(stage, "filter", "europeans", &wanted);
}

pub(super) fn what_is_too_old_is_not_handed_out(stage: &Stage) {
    let ttl = [("weir.queue.message.ttl.ms", "600000")];
    stage.topic("ttl", PARTITIONS, &ttl);
    stage.group("fresh", &[]);
    let (mut fresh, mut all) = (Vec::new(), 0);
    for client in EVERYONE {
        let records: Vec<_> = (0..EACH)
            .map(|number| New {
                timestamp: number.is_multiple_of(2).then(|| now_ms() - HOUR_MS),
                ..New::of(format!("{}-{number}", client.name()))
            })
            .collect();
        stage.send(client, "ttl", &records);
        let young = records.iter().filter(|one| one.timestamp.is_none());
        fresh.extend(young.map(|one| one.value.clone()));
        all += records.len();
    }
    stage.under_way();
    stage.wait_until_mended();
    share_exactly(stage, "ttl", "fresh", &fresh);
    assert!(stage.read(Client::Librdkafka, "ttl", PARTITIONS).len() >= all);
}

pub(super) fn what_comes_twice_is_there_once(stage: &Stage) {
    let window = [("weir.queue.deduplication.window.ms", "600000")];
    stage.topic("duplicates", PARTITIONS, &window);
    // Before, while and after a broker is away, everybody sends the same.
    for turn in 0..3 {
        thread::scope(|scope| {
            for client in EVERYONE {
                scope.spawn(move || {
                    let records: Vec<_> = (0..EACH).map(identified).collect();
                    stage.send(client, "duplicates", &records);
                });
            }
        });
        match turn {
            0 => stage.under_way(),
            1 => stage.wait_until_mended(),
            _ => {}
        }
    }
    let last: Vec<_> = (0..PARTITIONS)
        .map(|partition| New::of("last").partition(i64::try_from(partition).expect("small")))
        .collect();
    stage.send(Client::Java, "duplicates", &last);
    let mut times = BTreeMap::new();
    for record in stage.read(Client::FranzGo, "duplicates", PARTITIONS) {
        *times.entry(record.value).or_insert(0) += 1;
    }
    assert_eq!(times.remove("last"), Some(PARTITIONS));
    let wanted = (0..EACH).map(|number| (format!("id-{number}"), 1));
    assert_eq!(times, wanted.collect());
}

fn identified(number: usize) -> New {
    let id = format!("id-{number}");
    let partition = i64::try_from(number % PARTITIONS).expect("small");
    New::of(id.clone())
        .partition(partition)
        .header("weir-message-id", id)
}

/// A group of all kinds of members is handed out these values, and no others.
pub(super) fn share_exactly(stage: &Stage, topic: &str, group: &str, wanted: &[String]) {
    let left = Mutex::new(wanted.to_vec());
    let lock = || left.lock().unwrap_or_else(PoisonError::into_inner);
    thread::scope(|scope| {
        for client in SHARERS {
            let lock = &lock;
            scope.spawn(move || {
                let member = stage.member(client, group, topic, None);
                let found = wait::poll(LIMIT, || {
                    let records = member.poll();
                    for record in &records {
                        assert!(wanted.contains(&record.value), "{topic}: {record:?}");
                    }
                    let _ = member.settle(records.iter().map(|one| (one, Kind::Accept)));
                    let mut left = lock();
                    left.retain(|value| records.iter().all(|one| one.value != *value));
                    left.is_empty().then_some(())
                });
                assert!(found.is_some(), "{topic}: never handed out: {:?}", lock());
            });
        }
    });
}
