//! Point to point, broadcast, and credit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::thread;

use serde_json::Value;
use weir_tests::lock::lock;
use weir_tests::puppet::{Kind, Reader, Record};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, SHARERS};
use super::stage::{LIMIT, Stage, now_ms, number_of, numbered};

const PARTITIONS: usize = 6;

/// Records that each client sends at once.
const ROUND: usize = 20;

/// Rounds of each client at least.
const ROUNDS_MIN: usize = 4;

/// Records that nobody has done yet, beyond which nobody sends more.
const BACKLOG_MAX: usize = 200;

/// What is out at one member at most, where that is bounded.
const CREDIT: u32 = 5;

/// What was sent, what was handed out, and what is done.
#[derive(Debug, Default)]
struct Ledger {
    sent: BTreeSet<String>,
    /// Of these there may be two.
    twice: BTreeSet<String>,
    has_ended: bool,
    /// Where what was handed out lies, by its value.
    places: BTreeMap<String, BTreeSet<(i64, i64)>>,
    /// Done for certain, by place.
    done: BTreeSet<(i64, i64)>,
    /// What happened to each, for who asks why.
    events: BTreeMap<(i64, i64), Vec<String>>,
    /// Values that are done, or of which nobody was told.
    over: BTreeSet<String>,
    /// How often what is certain to be released was handed out before.
    released: BTreeMap<(i64, i64), i64>,
}

impl Ledger {
    /// Takes in what somebody was handed out, and says what he is to do with it.
    fn take(&mut self, stage: &Stage, client: Client, record: &Record) -> Kind {
        let place = record.place();
        self.note(
            place,
            format!(
                "{} got it at {}, the {}. time",
                client.name(),
                record.at,
                record.deliveries
            ),
        );
        // What a client had fetched before its leader was killed, it may hand out after another was done with it.
        assert!(
            !self.done.contains(&place) || stage.leases_may_have_ended(record.at),
            "{record:?} came again, though it was done: {:?}",
            self.events[&place]
        );
        let before = self.released.get(&place).copied().unwrap_or(0);
        assert!(
            record.deliveries > before || stage.leases_may_have_ended(record.at),
            "{record:?} was handed out {before} times before"
        );
        let places = self.places.entry(record.value.clone()).or_default();
        places.insert(place);
        match number_of(&record.value) % 10 {
            1 if record.deliveries == 1 => Kind::Release,
            2 => Kind::Reject,
            _ => Kind::Accept,
        }
    }

    /// Takes in what became of that.
    fn settled(
        &mut self,
        stage: &Stage,
        client: Client,
        record: &Record,
        (kind, is_stored): (Kind, bool),
    ) {
        let event = format!(
            "{} was told at {} that {kind:?} is {}",
            client.name(),
            now_ms(),
            if is_stored { "stored" } else { "unknown" }
        );
        self.note(record.place(), event);
        match (kind, is_stored) {
            (Kind::Accept | Kind::Reject, true) => {
                let is_first = self.done.insert(record.place());
                assert!(
                    is_first || stage.leases_may_have_ended(record.at),
                    "{record:?} was done twice: {:?}",
                    self.events[&record.place()]
                );
                self.over.insert(record.value.clone());
            }
            (Kind::Accept | Kind::Reject, false) => {
                self.over.insert(record.value.clone());
            }
            (Kind::Release, true) => {
                self.released.insert(record.place(), record.deliveries);
            }
            (Kind::Release | Kind::Renew, _) => {}
        }
    }

    fn note(&mut self, place: (i64, i64), event: String) {
        self.events.entry(place).or_default().push(event);
    }

    fn left(&self) -> usize {
        self.sent.difference(&self.over).count()
    }

    fn is_done(&self) -> bool {
        self.has_ended && self.left() == 0
    }
}

pub(super) fn each_is_done_with_once(stage: &Stage) {
    stage.topic("share", PARTITIONS, &[]);
    stage.group("sharers", &[]);
    share(stage, "share", "sharers", None);
}

pub(super) fn no_more_is_out_than_there_is_credit_for(stage: &Stage) {
    stage.topic("credit", PARTITIONS, &[]);
    stage.group("creditors", &[]);
    what_is_pushed_follows_the_credit(stage);
    share(stage, "credit", "creditors", Some(CREDIT));
}

/// A client that is pushed to has as much as it gave credit for, more when it gives more, and the rest as it settles.
fn what_is_pushed_follows_the_credit(stage: &Stage) {
    stage.topic("push", 1, &[]);
    stage.group("pushed", &[]);
    let all = numbered(Client::Java, 0, ROUND);
    stage.send(Client::Java, "push", &all);
    let member = stage.member(Client::Grpc, "pushed", "push", Some(CREDIT));
    let pushed = |count: usize| {
        let mut out = Vec::new();
        wait::until("what there is credit for is pushed", LIMIT, || {
            out.extend(member.poll());
            (out.len() >= count).then_some(())
        });
        assert_eq!(out.len(), count, "what is pushed");
        out
    };
    let mut out = pushed(CREDIT as usize);
    member.credit(CREDIT + 3);
    out.extend(pushed(3));
    let settled = out.len();
    let stored = member.settle(out.iter().map(|one| (one, Kind::Accept)));
    assert_eq!(stored, vec![true; settled]);
    let rest = pushed(settled);
    let _ = member.settle(rest.iter().map(|one| (one, Kind::Accept)));
    pushed(all.len() - settled - rest.len());
}

/// Everybody sends until the broker that was killed is back, members of all kinds share, and what is there in the end is what was sent.
fn share(stage: &Stage, topic: &str, group: &str, credit: Option<u32>) {
    let ledger = Mutex::<Ledger>::default();
    thread::scope(|scope| {
        for client in SHARERS {
            let ledger = &ledger;
            scope.spawn(move || {
                let member = stage.member(client, group, topic, credit);
                while !lock(ledger).is_done() {
                    let records = member.poll();
                    let count = records.len();
                    assert!(
                        credit.is_none_or(|credit| count <= credit as usize),
                        "{count} are out at {}",
                        client.name()
                    );
                    let kinds: Vec<_> = records
                        .iter()
                        .map(|one| lock(ledger).take(stage, client, one))
                        .collect();
                    let said = records.iter().zip(kinds.iter().copied());
                    let is_renewed = |record: &Record| number_of(&record.value) % 10 == 3;
                    let stored = member.settle(said.clone().map(|(record, kind)| {
                        let kind = if is_renewed(record) {
                            Kind::Renew
                        } else {
                            kind
                        };
                        (record, kind)
                    }));
                    let renewed = said.clone().filter(|(record, _)| is_renewed(record));
                    let mut ended = member.settle(renewed).into_iter();
                    let stored = records.iter().zip(stored).map(|(record, stored)| {
                        let is_stored = if is_renewed(record) {
                            ended.next()
                        } else {
                            None
                        };
                        is_stored.unwrap_or(stored)
                    });
                    let stored: Vec<_> = stored.collect();
                    for ((record, kind), is_stored) in said.zip(stored) {
                        lock(ledger).settled(stage, client, record, (kind, is_stored));
                    }
                }
            });
        }
        publish(stage, topic, &ledger);
        lock(&ledger).has_ended = true;
        let found = wait::poll(LIMIT, || lock(&ledger).is_done().then_some(()));
        if found.is_none() {
            let mut ledger = lock(&ledger);
            let left: Vec<_> = ledger.sent.difference(&ledger.over).cloned().collect();
            // Lets the members end.
            ledger.over.extend(left.clone());
            drop(ledger);
            panic!("{topic}: never done: {left:?}");
        }
    });
    let ledger = lock(&ledger);
    for (value, places) in &ledger.places {
        let most = 1 + usize::from(ledger.twice.contains(value));
        assert!(
            places.len() <= most,
            "{value} was handed out from {places:?}"
        );
    }
    let there = stage.read(SHARERS[0], topic, PARTITIONS);
    holds_what_was_sent(&there, &ledger);
    println!("  {topic}: {} sent, each done with once", ledger.sent.len());
}

fn publish(stage: &Stage, topic: &str, ledger: &Mutex<Ledger>) {
    thread::scope(|scope| {
        for client in EVERYONE {
            scope.spawn(move || {
                let mut round = 0;
                while round < ROUNDS_MIN || !stage.is_mended() {
                    let records = numbered(client, round, ROUND);
                    let twice = stage.send(client, topic, &records);
                    let mut state = lock(ledger);
                    state.twice.extend(twice);
                    state.sent.extend(records.into_iter().map(|one| one.value));
                    drop(state);
                    wait::until("what was sent is done", LIMIT, || {
                        (lock(ledger).left() < BACKLOG_MAX).then_some(())
                    });
                    round += 1;
                    if round == 2 && client == EVERYONE[0] {
                        stage.under_way();
                    }
                }
            });
        }
    });
}

pub(super) fn every_reader_gets_everything(stage: &Stage) {
    stage.topic("broadcast", PARTITIONS, &[]);
    let ledger = Mutex::<Ledger>::default();
    thread::scope(|scope| {
        let readers = EVERYONE.map(|client| {
            let ledger = &ledger;
            scope.spawn(move || {
                let reader = Reader::open(stage.of(client), "broadcast", PARTITIONS, &Value::Null);
                let mut got = Vec::new();
                let has_all = |got: &[Record]| {
                    let values: BTreeSet<_> = got.iter().map(|one| &one.value).collect();
                    let ledger = lock(ledger);
                    ledger.has_ended && ledger.sent.iter().all(|value| values.contains(value))
                };
                let found = wait::poll(LIMIT * 2, || {
                    got.extend(reader.poll());
                    has_all(&got).then_some(())
                });
                assert!(found.is_some(), "{} has {}", client.name(), got.len());
                got
            })
        });
        thread::scope(|scope| {
            for client in EVERYONE {
                let ledger = &ledger;
                scope.spawn(move || {
                    let mut round = 0;
                    while round < ROUNDS_MIN || !stage.is_mended() && round < ROUNDS_MAX {
                        let records = numbered(client, round, ROUND);
                        let twice = stage.send(client, "broadcast", &records);
                        let mut state = lock(ledger);
                        state.twice.extend(twice);
                        state.sent.extend(records.into_iter().map(|one| one.value));
                        round += 1;
                        if round == 2 && client == EVERYONE[0] {
                            stage.under_way();
                        }
                    }
                });
            }
        });
        stage.wait_until_mended();
        lock(&ledger).has_ended = true;
        for (client, reader) in EVERYONE.into_iter().zip(readers) {
            let got = reader.join().expect("it read");
            let mut last = BTreeMap::new();
            for record in &got {
                let before = last.insert(record.partition, record.offset);
                assert!(
                    before.is_none_or(|before| before < record.offset),
                    "{} got {record:?} after offset {before:?}",
                    client.name()
                );
            }
            holds_what_was_sent(&got, &lock(&ledger));
        }
    });
    println!(
        "  broadcast: {} sent, all read by everyone",
        lock(&ledger).sent.len()
    );
}

/// More are not needed to say that a reader gets everything.
const ROUNDS_MAX: usize = 40;

/// Nothing is lost, and nothing is there twice but what a client says it may have sent twice.
fn holds_what_was_sent(there: &[Record], ledger: &Ledger) {
    let mut times = BTreeMap::<&str, usize>::new();
    for record in there {
        *times.entry(&record.value).or_default() += 1;
    }
    for value in &ledger.sent {
        let found = times.remove(value.as_str()).unwrap_or(0);
        let most = 1 + usize::from(ledger.twice.contains(value));
        assert!(
            (1..=most).contains(&found),
            "{value} is there {found} times"
        );
    }
    assert!(times.is_empty(), "nobody sent {times:?}");
}
