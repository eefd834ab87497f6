//! A view has just what its filter lets through, each once, in order, and nobody else writes to it.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use weir_tests::puppet::{New, Reader, Record, Sent};
use weir_tests::wait;

use super::clients::{Client, EVERYONE};
use super::stage::{LIMIT, Stage, number_of};

const SOURCE: &str = "view-source";
const VIEW: &str = "view";
const PARTITIONS: usize = 3;
const FILTER: &str = "headers.region == 'eu' && int(headers.amount) > 10";

/// Records of each client at once, and how often at least.
const ROUND: usize = 20;
const ROUNDS_MIN: usize = 4;

/// More are not needed to say what is in a view.
const ROUNDS_MAX: usize = 60;

/// How long after the last one that is to come something may come that is not.
const AFTERWARDS: Duration = Duration::from_secs(2);

pub(super) fn a_view_has_what_its_filter_lets_through(stage: &Stage) {
    stage.topic(SOURCE, PARTITIONS, &[]);
    let config = [
        ("weir.queue.view.of", SOURCE),
        ("weir.queue.view.filter", FILTER),
    ];
    stage.topic(VIEW, PARTITIONS, &config);
    too_few_partitions_are_refused(stage);
    nobody_else_writes(stage);
    let has_ended = AtomicBool::new(false);
    thread::scope(|scope| {
        // They read along from the beginning on, whoever leads.
        let reading = EVERYONE.map(|client| {
            let has_ended = &has_ended;
            scope.spawn(move || read_along(stage, client, has_ended))
        });
        let sent = thread::scope(|scope| scope.spawn(|| send(stage)).join());
        has_ended.store(true, Ordering::Relaxed);
        let reading = reading.map(|one| one.join().unwrap_or_else(|why| resume_unwind(why)));
        assert!(sent.is_ok(), "all is sent");
        let source = matching(stage.read(Client::Java, SOURCE, PARTITIONS));
        for (client, (view, reader)) in EVERYONE.into_iter().zip(reading) {
            let view = rest(view, &reader, source.len());
            holds(client, &source, &view);
        }
        println!("  view: {} of its source are in it", source.len());
    });
    nobody_else_writes(stage);
}

/// Everybody sends until the broker that was killed is back, and once more.
fn send(stage: &Stage) {
    thread::scope(|scope| {
        for client in EVERYONE {
            scope.spawn(move || {
                let (mut round, mut is_last) = (0, false);
                while !is_last {
                    is_last = round + 1 >= ROUNDS_MIN && stage.is_mended();
                    if round >= ROUNDS_MAX {
                        stage.wait_until_mended();
                        is_last = true;
                    }
                    stage.send(client, SOURCE, &records(client, round));
                    round += 1;
                    if round == 2 && client == EVERYONE[0] {
                        stage.under_way();
                    }
                }
            });
        }
    });
}

fn records(client: Client, round: usize) -> Vec<New> {
    let numbers = round * ROUND..(round + 1) * ROUND;
    let all = numbers.map(|number| {
        let record = New::of(format!("{}-{number}", client.name()))
            .key(format!("{}", number % 7))
            .header("region", if number.is_multiple_of(2) { "eu" } else { "us" });
        // What the filter makes no sense of, it does not let through.
        match number % 6 {
            4 => record,
            _ => record.header("amount", (number % ROUND).to_string()),
        }
    });
    all.collect()
}

fn matches(number: usize) -> bool {
    number.is_multiple_of(2) && number % 6 != 4 && number % ROUND > 10
}

/// What of a source is to be in its view.
fn matching(source: Vec<Record>) -> Vec<Record> {
    let each = source.into_iter();
    each.filter(|one| matches(number_of(&one.value))).collect()
}

fn read_along<'a>(
    stage: &'a Stage,
    client: Client,
    has_ended: &AtomicBool,
) -> (Vec<Record>, Reader<'a>) {
    let reader = Reader::open(stage.of(client), VIEW, PARTITIONS, &Value::Null);
    let mut view = Vec::new();
    while !has_ended.load(Ordering::Relaxed) {
        view.extend(reader.poll());
    }
    (view, reader)
}

/// Reads on until so many are there, and whether more come.
fn rest(mut view: Vec<Record>, reader: &Reader<'_>, wanted: usize) -> Vec<Record> {
    // If it stays without some, it is said of which.
    let _ = wait::poll(LIMIT, || {
        view.extend(reader.poll());
        (view.len() >= wanted).then_some(())
    });
    let since = Instant::now();
    while since.elapsed() < AFTERWARDS {
        view.extend(reader.poll());
    }
    view
}

type Told<'a> = (&'a str, Option<&'a str>, &'a BTreeMap<String, String>, i64);

/// The messages of each partition, as they are at the source and in the view.
fn by_partition(records: &[Record]) -> BTreeMap<i64, Vec<(i64, Told<'_>)>> {
    let mut all = BTreeMap::<_, Vec<_>>::new();
    for one in records {
        let told = (&*one.value, one.key.as_deref(), &one.headers, one.timestamp);
        all.entry(one.partition)
            .or_default()
            .push((one.offset, told));
    }
    all
}

/// In each partition of a view are the same messages as in that of its source, in the same order, and no others.
fn holds(client: Client, source: &[Record], view: &[Record]) {
    let name = client.name();
    let (mut source, view) = (by_partition(source), by_partition(view));
    for messages in source.values_mut() {
        messages.sort_by_key(|(offset, _)| *offset);
    }
    assert!(
        view.keys().eq(source.keys()),
        "{name} read partitions {:?} of {:?}",
        view.keys(),
        source.keys()
    );
    for (partition, there) in &view {
        assert!(
            there.is_sorted_by(|(one, _), (next, _)| one < next),
            "{name} read partition {partition} as {there:?}"
        );
        let wanted = &source[partition];
        let values = |all: &[(i64, Told<'_>)]| -> Vec<String> {
            all.iter().map(|(_, told)| told.0.to_owned()).collect()
        };
        let (has, wants) = (values(there), values(wanted));
        let (had, wished): (BTreeSet<_>, BTreeSet<_>) =
            (has.iter().collect(), wants.iter().collect());
        assert!(
            has == wants,
            "{name} read of partition {partition} {} messages, not {}: without {:?}, beyond {:?}",
            has.len(),
            wants.len(),
            wished.difference(&had).collect::<Vec<_>>(),
            had.difference(&wished).collect::<Vec<_>>()
        );
        for ((_, there), (_, wanted)) in there.iter().zip(wanted) {
            assert_eq!(there, wanted, "{name}, partition {partition}");
        }
    }
}

fn nobody_else_writes(stage: &Stage) {
    for client in EVERYONE {
        let record = New::of("strange")
            .header("region", "eu")
            .header("amount", "99");
        let sent = stage
            .of(client)
            .produce("view-writer", VIEW, &[record], false);
        for one in sent {
            assert!(
                matches!(&one, Sent::Refused { error, .. } if error == "POLICY_VIOLATION"),
                "{} wrote to a view: {one:?}",
                client.name()
            );
        }
    }
}

fn too_few_partitions_are_refused(stage: &Stage) {
    let order = json!({
        "do": "topic", "name": "view-too-small", "partitions": PARTITIONS - 1, "config": {"weir.queue.view.of": SOURCE},
    });
    let told = stage.of(Client::Java).ask(order);
    let why = told["message"].as_str().unwrap_or_default();
    assert!(why.contains('2') && why.contains('3'), "{told}");
}
