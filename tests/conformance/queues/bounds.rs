//! Bounded queues: exactly as many messages are taken as there may be, however many clients send at once.

use std::collections::BTreeSet;
use std::thread;

use weir_tests::puppet::{Kind, New, Sent};
use weir_tests::wait;

use super::clients::{Client, EVERYONE};
use super::stage::{LIMIT, Stage, numbered};

/// What the protocol calls "sold out".
const SOLD_OUT: &str = "POLICY_VIOLATION";

/// What each client tries to sell at once.
const ROUND: usize = 20;

pub(super) fn a_partition_takes_exactly_what_it_may(stage: &Stage) {
    sell(
        stage,
        "sold-out",
        1,
        &[("weir.queue.max.messages", "250")],
        250,
    );
}

pub(super) fn a_topic_takes_exactly_what_it_may(stage: &Stage) {
    let bound = [
        ("weir.queue.max.messages", "250"),
        ("weir.queue.max.scope", "topic"),
    ];
    sell(stage, "sold-out-topic", 3, &bound, 250);
}

/// What became of what was sent.
#[derive(Debug, Default)]
struct Sold {
    there: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Sent twice, since nobody was told of the first time, which may have been taken.
    twice: BTreeSet<String>,
}

/// Everybody sends before, while and after a broker is away. What is in the log in the end is what was taken, exactly as many as may be.
fn sell(stage: &Stage, topic: &str, partitions: usize, bound: &[(&str, &str)], wanted: usize) {
    stage.topic(topic, partitions, bound);
    let mut sold = Sold::default();
    // The first round leaves room.
    attempt(stage, topic, 0, &mut sold);
    assert_eq!(sold.refused, BTreeSet::new(), "there is room for these");
    stage.under_way();
    let mut round = 1;
    while round < 4 || !stage.is_mended() {
        attempt(stage, topic, round, &mut sold);
        round += 1;
    }
    attempt(stage, topic, round, &mut sold);
    holds(stage, topic, partitions, &sold, wanted);
}

/// Each client sends a round, all at once.
fn attempt(stage: &Stage, topic: &str, round: usize, sold: &mut Sold) {
    let ends: Vec<_> = thread::scope(|scope| {
        let all = EVERYONE.map(|client| {
            scope.spawn(move || {
                let records = numbered(client, round, ROUND);
                let sent = stage.of(client).produce(topic, topic, &records, true);
                records.into_iter().zip(sent).collect::<Vec<_>>()
            })
        });
        let all = all.into_iter().map(|one| one.join().expect("it sells"));
        all.flatten().collect()
    });
    for (record, sent) in ends {
        match sent {
            Sent::There { twice: true } => sold.twice.insert(record.value),
            Sent::There { .. } => sold.there.insert(record.value),
            Sent::Refused { error, message } => {
                assert_eq!(error, SOLD_OUT, "{}: {message}", record.value);
                sold.refused.insert(record.value)
            }
        };
    }
}

fn holds(stage: &Stage, topic: &str, partitions: usize, sold: &Sold, wanted: usize) {
    let log = stage.read(Client::Java, topic, partitions);
    assert_eq!(log.len(), wanted, "{topic}: what is in the log");
    let mut values: Vec<_> = log.into_iter().map(|record| record.value).collect();
    values.retain(|value| !sold.twice.contains(value));
    let there: BTreeSet<_> = values.iter().cloned().collect();
    assert_eq!(
        values.len(),
        there.len(),
        "{topic}: something is there twice"
    );
    assert_eq!(
        there, sold.there,
        "{topic}: what was taken is what is there"
    );
    println!("  {topic}: {wanted} taken, {} refused", sold.refused.len());
}

pub(super) fn what_is_settled_makes_room_for_as_much(stage: &Stage) {
    const TOPIC: &str = "sold-again";
    const TILLS: &str = "tills";
    const SETTLED: usize = 50;
    let bound = [
        ("weir.queue.max.messages", "100"),
        ("weir.queue.group", TILLS),
    ];
    stage.topic(TOPIC, 1, &bound);
    stage.group(TILLS, &[]);
    let mut sold = Sold::default();
    for round in 0..2 {
        attempt(stage, TOPIC, round, &mut sold);
    }
    stage.under_way();
    stage.wait_until_mended();
    assert_eq!(
        stage.read(Client::Java, TOPIC, 1).len(),
        100,
        "before anything is settled"
    );
    let till = stage.member(Client::FranzGo, TILLS, TOPIC, Some(10));
    let mut settled = 0;
    wait::until("a till settles fifty", LIMIT, || {
        let mut orders = till.poll();
        let rest = orders.split_off(orders.len().min(SETTLED - settled));
        settled += orders.len();
        let said = orders.iter().map(|one| (one, Kind::Accept));
        let stored = till.settle(said.chain(rest.iter().map(|one| (one, Kind::Release))));
        assert!(stored.iter().all(|stored| *stored), "nobody is killed now");
        (settled == SETTLED).then_some(())
    });
    drop(till);
    let mut round = 2;
    wait::until("the room is used up", LIMIT, || {
        let before = sold.refused.len();
        attempt(stage, TOPIC, round, &mut sold);
        round += 1;
        (sold.refused.len() == before + EVERYONE.len() * ROUND).then_some(())
    });
    holds(stage, TOPIC, 1, &sold, 100 + SETTLED);
}

pub(super) fn the_oldest_make_room(stage: &Stage) {
    const TOPIC: &str = "drop-oldest";
    const KEPT: i64 = 50;
    let bound = [
        ("weir.queue.max.messages", "50"),
        ("weir.queue.overflow", "drop_oldest"),
    ];
    stage.topic(TOPIC, 1, &bound);
    let mut sold = Sold::default();
    attempt(stage, TOPIC, 0, &mut sold);
    attempt(stage, TOPIC, 1, &mut sold);
    stage.under_way();
    stage.wait_until_mended();
    attempt(stage, TOPIC, 2, &mut sold);
    let last = New::of("last-0");
    stage.send(Client::Grpc, TOPIC, &[last]);
    assert_eq!(sold.refused, BTreeSet::new(), "nobody is refused");
    let (start, end) = wait::until("only so many are left", LIMIT, || {
        let ends = stage.ends(TOPIC, 1);
        (ends[0].1 - ends[0].0 <= KEPT).then_some(ends[0])
    });
    assert_eq!(end - start, KEPT, "no more are dropped than need be");
    let sent = 3 * EVERYONE.len() * ROUND + 1;
    assert!(
        end >= i64::try_from(sent).expect("small"),
        "all were taken: {end}"
    );
    let kept = stage.read(Client::Librdkafka, TOPIC, 1);
    let offsets: Vec<_> = kept.iter().map(|record| record.offset).collect();
    assert_eq!(offsets, (start..end).collect::<Vec<_>>());
    assert_eq!(
        kept.last().map(|record| record.value.as_str()),
        Some("last-0")
    );
}
