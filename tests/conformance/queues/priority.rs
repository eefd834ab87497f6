//! What is most urgent goes first, over the whole backlog.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::thread;
use std::time::Duration;

use weir_tests::puppet::{Kind, Member, New, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, number_of};

const TOPIC: &str = "priority";
const PARTITIONS: usize = 3;
const LEVELS: usize = 10;

/// What a message has that says nothing of it.
const USUAL: usize = 4;

/// Records of each client, before a broker is killed and after.
const ROUND: usize = 2 * LEVELS * PARTITIONS;

/// What is out at a member at most, so that it is handed out one answer after the other.
const CREDIT: u32 = 5;

/// How slowly a backlog is worked off while nothing has happened yet, and how much is left for when it has.
const PACE: Duration = Duration::from_millis(500);
const KEPT: usize = 60;

pub(super) fn the_most_urgent_goes_first(stage: &Stage) {
    stage.topic(TOPIC, PARTITIONS, &[("weir.queue.priority", "strict")]);
    let mut backlog = send(stage, 0);
    thread::scope(|scope| {
        let working = SHARERS.map(|client| {
            let backlog = &backlog;
            scope.spawn(move || work_off(stage, client, "urgent", backlog))
        });
        stage.under_way();
        for one in working {
            one.join().unwrap_or_else(|why| resume_unwind(why));
        }
    });
    // A group that begins now finds all of it, and at once what came last.
    stage.wait_until_mended();
    backlog.extend(send(stage, 1));
    thread::scope(|scope| {
        for client in SHARERS {
            let backlog = &backlog;
            scope.spawn(move || work_off(stage, client, "urgent-again", backlog));
        }
    });
}

pub(super) fn the_least_urgent_has_its_share(stage: &Stage) {
    const TOPIC: &str = "priority-weighted";
    stage.topic(TOPIC, 1, &[("weir.queue.priority", "weighted")]);
    let records: Vec<_> = (0..LEVELS * ROUND)
        .map(|number| {
            let level = (number % LEVELS).to_string();
            New::of(format!("all-{number}")).header("weir-priority", level)
        })
        .collect();
    for (client, part) in EVERYONE.into_iter().zip(records.chunks(records.len() / 4)) {
        stage.send(client, TOPIC, part);
    }
    stage.under_way();
    thread::scope(|scope| {
        for client in SHARERS {
            scope.spawn(move || shares(stage, client, TOPIC));
        }
    });
}

/// What a member gets of a backlog of all levels until the most urgent has run out: each has a share, of more parts the more urgent it is.
fn shares(stage: &Stage, client: Client, topic: &str) {
    let group = format!("{topic}-{}", client.name());
    stage.group(&group, &[]);
    let member = stage.member(client, &group, topic, Some(CREDIT));
    let (mut seen, mut counts) = (BTreeSet::new(), [0; LEVELS]);
    wait::until("half of the most urgent is handed out", LIMIT * 3, || {
        let records = member.poll();
        for record in &records {
            if seen.insert(record.place()) {
                counts[number_of(&record.value) % LEVELS] += 1;
            }
        }
        // What is not stored comes again, and is known.
        let _ = member.settle(records.iter().map(|one| (one, Kind::Accept)));
        (counts[LEVELS - 1] >= ROUND / 2).then_some(())
    });
    let name = client.name();
    assert!(counts.iter().all(|count| *count > 0), "{name}: {counts:?}");
    let (least, most): (usize, usize) = (
        counts[..LEVELS / 2].iter().sum(),
        counts[LEVELS / 2..].iter().sum(),
    );
    // Of 55 parts the upper half has 40.
    assert!(most > 3 * least / 2, "{name}: {counts:?}");
}

/// Everybody sends of all levels, and as many of each to each partition. Returns what is there.
fn send(stage: &Stage, round: usize) -> BTreeSet<String> {
    let mut values = BTreeSet::new();
    for client in EVERYONE {
        let records: Vec<_> = (round * ROUND..(round + 1) * ROUND)
            .map(|number| {
                let partition = i64::try_from(number % PARTITIONS).expect("small");
                let record = New::of(format!("{}-{number}", client.name())).partition(partition);
                match level_of(number) {
                    USUAL if number.is_multiple_of(2) => record,
                    level => record.header("weir-priority", level.to_string()),
                }
            })
            .collect();
        stage.send(client, TOPIC, &records);
        values.extend(records.into_iter().map(|one| one.value));
    }
    values
}

fn level_of(number: usize) -> usize {
    number / PARTITIONS % LEVELS
}

/// What one member, alone in a group of its own, was handed out so far.
#[derive(Debug, Default)]
struct Work {
    /// The least urgent that was handed out of each partition.
    lowest: BTreeMap<i64, usize>,
    seen: BTreeSet<(i64, i64)>,
    /// Settled for certain.
    done: BTreeSet<(i64, i64)>,
    /// Done, or nobody was told whether it is.
    over: BTreeSet<String>,
}

impl Work {
    fn take(&mut self, stage: &Stage, client: Client, record: &Record) {
        let (level, place) = (level_of(number_of(&record.value)), record.place());
        assert!(
            !self.done.contains(&place) || stage.leases_may_have_ended(record.at),
            "{} got {record:?}, though it was done",
            client.name()
        );
        if !self.seen.insert(place) {
            return;
        }
        let lowest = self.lowest.entry(record.partition).or_insert(level);
        // What was handed out to nobody, since an answer was lost with its connection, comes when its lease is over.
        assert!(
            level <= *lowest || record.deliveries > 1 || stage.leases_may_have_ended(record.at),
            "{} got {record:?} of level {level} after one of {lowest}",
            client.name()
        );
        *lowest = level.min(*lowest);
    }
}

fn work_off(stage: &Stage, client: Client, name: &str, backlog: &BTreeSet<String>) {
    let group = format!("{name}-{}", client.name());
    stage.group(&group, &[]);
    let mut work = Work::default();
    let member = stage.member(client, &group, TOPIC, Some(CREDIT));
    let done = wait::poll(LIMIT * 3, || {
        if !stage.is_mended() {
            thread::sleep(PACE);
            if backlog.len() < work.over.len() + KEPT {
                return None;
            }
        }
        turn(stage, client, &member, &mut work);
        backlog.is_subset(&work.over).then_some(())
    });
    let left: Vec<_> = backlog.difference(&work.over).collect();
    assert!(done.is_some(), "{group}: never handed out: {left:?}");
    // What is done stays so.
    for _ in 0..5 {
        turn(stage, client, &member, &mut work);
    }
    let strange: Vec<_> = work.over.difference(backlog).collect();
    assert!(strange.is_empty(), "{group}: nobody sent {strange:?}");
}

fn turn(stage: &Stage, client: Client, member: &Member<'_>, work: &mut Work) {
    let records = member.poll();
    for record in &records {
        work.take(stage, client, record);
    }
    let stored = member.settle(records.iter().map(|one| (one, Kind::Accept)));
    for (record, is_stored) in records.iter().zip(stored) {
        if is_stored {
            work.done.insert(record.place());
        }
        work.over.insert(record.value.clone());
    }
}
