//! The main job: 200,000 flights in, a group of two members reads them, and half-way something breaks.

use crate::clients::Clients;
use crate::flights::{self, Message};
use crate::history::History;
use crate::log::{self, Log};
use crate::members::Members;
use crate::producer::Kcat;
use std::thread;
use std::time::{Duration, Instant};

/// How long any step may take. Nothing here depends on speed; a run that hangs has to end.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// Sends all flights through `topic`, which has 12 partitions and is empty, while a group reads them.
///
/// When half of the flights are on their way and a quarter has been read, `disturb` breaks something; the other half
/// follows at once. At three quarters the members crash and others take over.
///
/// # Panics
/// When the log does not hold each flight exactly once and in order, or the group saw anything else.
pub fn flights_flow(
    clients: &Clients,
    bootstrap: &str,
    topic: &str,
    group: &str,
    disturb: impl FnOnce(),
) {
    let flights = flights::all();
    let (first_half, second_half) = flights.split_at(flights.len() / 2);
    let start = Instant::now();
    let say = |what: &str| println!("  {:5.1} s  {what}", start.elapsed().as_secs_f64());

    let mut history = History::default();
    let mut members = Members::start(clients, bootstrap, topic, group, 2);
    members.follow(
        &mut history,
        STEP_LIMIT,
        "two members share 12 partitions",
        |history| history.owned() == 12,
    );
    say("two members own the partitions");

    let mut producer = Kcat::start(clients, bootstrap, topic);
    producer.send(first_half);
    members.follow(&mut history, STEP_LIMIT, "a quarter is read", |history| {
        history.seen().len() >= flights.len() / 4
    });
    say("a quarter is read; now something breaks");
    disturb();

    let mut members = thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            producer.send(second_half);
            producer.finish();
        });
        let three_quarters = flights.len() / 4 * 3;
        members.follow(
            &mut history,
            STEP_LIMIT,
            "three quarters are read",
            |history| history.seen().len() >= three_quarters,
        );
        members.crash(&mut history);
        say("three quarters are read; the members crash and others take over");
        let others = Members::start(clients, bootstrap, topic, group, 2);
        feeding.join().expect("everything is acknowledged");
        say("everything is acknowledged");
        others
    });
    members.follow(&mut history, STEP_LIMIT, "everything is read", |history| {
        history.seen().len() >= flights.len()
    });
    members.stop(&mut history);
    say(&format!(
        "everything is read, {} messages twice",
        history.repeats()
    ));

    let log = clients.read_log(bootstrap, topic);
    log::holds_exactly(&log, &flights).unwrap_or_else(|wrong| panic!("{topic}: {wrong}"));
    assert_eq!(log.len(), 12, "partitions with flights");
    saw_the_log(&history, &log);
    say("the log holds each flight once, and the group saw exactly the log");
}

/// Checks that what the group saw is the log, byte for byte.
///
/// # Panics
/// When it saw something else.
pub fn saw_the_log(history: &History, log: &Log) {
    let held: usize = log.values().map(Vec::len).sum();
    assert_eq!(
        history.seen().len(),
        held,
        "messages seen and messages held"
    );
    for ((partition, offset), seen) in history.seen() {
        let position = usize::try_from(*offset).expect("offsets are positive");
        let held: Option<&Message> = log
            .get(partition)
            .and_then(|messages| messages.get(position));
        assert_eq!(Some(seen), held, "partition {partition} offset {offset}");
    }
}
