//! Bounded queues: exactly as many messages are taken as there may be, however many clients send at once.

use std::collections::BTreeSet;
use std::ops::Range;
use std::panic::resume_unwind;
use std::thread;

use weir_tests::puppet::{Kind, New, Record, Sent};
use weir_tests::wait;

use super::clients::{Client, EVERYONE};
use super::stage::{LIMIT, Stage, numbered};

/// What the protocol calls "sold out".
const SOLD_OUT: &str = "POLICY_VIOLATION";

/// What each client tries to sell at once.
const ROUND: usize = 20;

pub(super) fn a_partition_takes_exactly_what_it_may(stage: &Stage) {
    const TOPIC: &str = "sold-out";
    let log = sell(stage, TOPIC, 1, &[("weir.queue.max.messages", "250")], "");
    assert_eq!(log.len(), 250, "{TOPIC}: what is in the log");
}

pub(super) fn a_partition_takes_as_many_bytes_as_it_may(stage: &Stage) {
    const TOPIC: &str = "sold-bytes";
    const MOST: usize = 128 << 10;
    let most = MOST.to_string();
    let bound = [("weir.queue.max.bytes", most.as_str())];
    // Nothing that franz-go, which compresses as it comes, makes less of.
    let letters = (1..=1u64 << 10).map(|at| (at * at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58);
    let end: String = letters
        .map(|letter| char::from(b'0' + u8::try_from(letter).unwrap_or(0)))
        .collect();
    let log = sell(stage, TOPIC, 1, &bound, &end);
    // Each is a batch of its own: 61 bytes and a record's lengths, and not more than that again for what a client adds.
    let sizes = log.iter().map(|record| record.value.len() + 61);
    let least: usize = sizes.sum();
    assert!(least <= MOST, "{TOPIC}: {} messages", log.len());
    let most = least + 61 * log.len();
    let one_more = (1 << 10) + 2 * 61 + 32;
    assert!(most + one_more > MOST, "{TOPIC}: {} messages", log.len());
}

pub(super) fn a_topic_takes_exactly_what_it_may(stage: &Stage) {
    const TOPIC: &str = "sold-out-topic";
    let bound = [
        ("weir.queue.max.messages", "250"),
        ("weir.queue.max.scope", "topic"),
    ];
    let log = sell(stage, TOPIC, 3, &bound, "");
    assert_eq!(log.len(), 250, "{TOPIC}: what is in the log");
}

/// What became of what was sent.
#[derive(Debug, Default)]
struct Sold {
    there: BTreeSet<String>,
    refused: BTreeSet<String>,
    /// Sent twice, since nobody was told of the first time, which may have been taken.
    twice: BTreeSet<String>,
}

/// Everybody sends before, while and after a broker is away, messages that end with this. Returns what is in the log in the end, which is what was taken.
fn sell(
    stage: &Stage,
    topic: &str,
    partitions: usize,
    bound: &[(&str, &str)],
    end: &str,
) -> Vec<Record> {
    stage.topic(topic, partitions, bound);
    let mut sold = Sold::default();
    // The first round leaves room.
    let is_refused = attempt(stage, topic, 0, end, &mut sold);
    assert!(!is_refused, "there is room for these");
    stage.under_way();
    rounds(stage, topic, 1..4, end, &mut sold);
    holds(stage, topic, partitions, &sold)
}

/// At least these rounds, more as long as a broker is away, and one when it is back.
fn rounds(stage: &Stage, topic: &str, rounds: Range<usize>, end: &str, sold: &mut Sold) {
    let mut next = rounds.start;
    while next < rounds.end || !stage.is_mended() {
        attempt(stage, topic, next, end, sold);
        next += 1;
    }
    attempt(stage, topic, next, end, sold);
}

/// Each client sends a round, all at once. Says whether anything was refused.
fn attempt(stage: &Stage, topic: &str, round: usize, end: &str, sold: &mut Sold) -> bool {
    let refused = sold.refused.len();
    let ends: Vec<_> = thread::scope(|scope| {
        let all = EVERYONE.map(|client| {
            scope.spawn(move || {
                let mut records = numbered(client, round, ROUND);
                records.iter_mut().for_each(|one| one.value.push_str(end));
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
            Sent::Refused {
                error,
                message,
                twice,
            } => {
                assert_eq!(error, SOLD_OUT, "{}: {message}", record.value);
                match twice {
                    true => sold.twice.insert(record.value),
                    false => sold.refused.insert(record.value),
                }
            }
        };
    }
    sold.refused.len() > refused
}

fn holds(stage: &Stage, topic: &str, partitions: usize, sold: &Sold) -> Vec<Record> {
    let log = stage.read(Client::Java, topic, partitions);
    let values = log.iter().map(|record| &record.value);
    let values: Vec<_> = values
        .filter(|value| !sold.twice.contains(*value))
        .collect();
    let there: BTreeSet<_> = values.iter().map(|value| (*value).clone()).collect();
    assert_eq!(
        values.len(),
        there.len(),
        "{topic}: something is there twice"
    );
    let name = |value: &String| value.chars().take(24).collect::<String>();
    let unknown: Vec<_> = there.difference(&sold.there).map(name).collect();
    let missing: Vec<_> = sold.there.difference(&there).map(name).collect();
    assert!(
        unknown.is_empty() && missing.is_empty(),
        "{topic}: there and not taken: {unknown:?}; taken and not there: {missing:?}"
    );
    let (taken, refused) = (log.len(), sold.refused.len());
    println!("  {topic}: {taken} taken, {refused} refused");
    log
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
        attempt(stage, TOPIC, round, "", &mut sold);
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
        attempt(stage, TOPIC, round, "", &mut sold);
        round += 1;
        (sold.refused.len() == before + EVERYONE.len() * ROUND).then_some(())
    });
    let log = holds(stage, TOPIC, 1, &sold);
    assert_eq!(log.len(), 100 + SETTLED, "{TOPIC}: what is in the log");
}

pub(super) fn who_sends_waits_for_room(stage: &Stage) {
    const TOPIC: &str = "throttled";
    const GROUP: &str = "shredders";
    const MOST: usize = 50;
    let most = MOST.to_string();
    let bound = [
        ("weir.queue.max.messages", most.as_str()),
        ("weir.queue.overflow", "throttle"),
        ("weir.queue.group", GROUP),
    ];
    stage.topic(TOPIC, 1, &bound);
    stage.group(GROUP, &[]);
    let end = || usize::try_from(stage.ends(TOPIC, 1)[0].1).expect("small");
    let sold = thread::scope(|scope| {
        // A round is more than there is room for: nobody is told of all of it before some is settled.
        let sending = scope.spawn(|| {
            let mut sold = Sold::default();
            rounds(stage, TOPIC, 0..3, "", &mut sold);
            sold
        });
        wait::until("the queue is full", LIMIT, || {
            (end() > MOST - ROUND).then_some(())
        });
        assert!(end() <= MOST, "{TOPIC}: more than there may be");
        assert!(!sending.is_finished(), "{TOPIC}: nobody waited for room");
        stage.under_way();
        let shredder = stage.member(Client::FranzGo, GROUP, TOPIC, Some(10));
        let mut settled = 0;
        wait::until("all that was sent is there", LIMIT * 3, || {
            let records = shredder.poll();
            settled += records.len();
            // Whatever comes of it: perhaps it was stored.
            let _ = shredder.settle(records.iter().map(|one| (one, Kind::Accept)));
            let end = end();
            assert!(
                end <= MOST + settled,
                "{TOPIC}: {end} with {settled} settled"
            );
            sending.is_finished().then_some(())
        });
        sending.join().unwrap_or_else(|why| resume_unwind(why))
    });
    assert_eq!(sold.refused, BTreeSet::new(), "{TOPIC}: nobody is refused");
    holds(stage, TOPIC, 1, &sold);
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
    attempt(stage, TOPIC, 0, "", &mut sold);
    attempt(stage, TOPIC, 1, "", &mut sold);
    stage.under_way();
    stage.wait_until_mended();
    attempt(stage, TOPIC, 2, "", &mut sold);
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
