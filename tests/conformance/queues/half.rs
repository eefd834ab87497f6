//! What is prepared nobody sees before it is committed, and what became of it is asked when nobody says.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::resume_unwind;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use weir_tests::lock::lock;
use weir_tests::puppet::{New, Puppet, Reader};
use weir_tests::wait;

use super::clients::{Client, EVERYONE, KAFKAS};
use super::stage::{LIMIT, Stage, now_ms};

/// Every transaction has messages for both.
const TOPICS: [(&str, usize); 2] = [("half", 3), ("half-too", 1)];
const GROUP: &str = "preparing";
/// Nobody of these ever knows anything.
const FORGETFUL: &str = "forgetful";

/// When producers are asked, and how often those are that never know.
const CHECK_AFTER_MS: i64 = 1_000;
const FORGETFUL_ASKS: u32 = 2;

/// Far longer than it takes until somebody is asked again.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// Rounds of transactions, one of each fate, at least and at most while a broker is away.
const ROUNDS_MIN: usize = 3;
const ROUNDS_MAX: usize = 40;

/// What becomes of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Its producer calls `Commit`.
    Committed,
    /// Its producer calls `Rollback`.
    RolledBack,
    /// Its producer says nothing until it is asked.
    CommittedWhenAsked,
    RolledBackWhenAsked,
    /// It does not know yet when it is asked first.
    CommittedWhenAskedAgain,
    /// Nobody answers.
    Forgotten,
}

const FATES: [Fate; 6] = [
    Fate::Committed,
    Fate::RolledBack,
    Fate::CommittedWhenAsked,
    Fate::RolledBackWhenAsked,
    Fate::CommittedWhenAskedAgain,
    Fate::Forgotten,
];

impl Fate {
    fn of(number: usize) -> Self {
        FATES[number % FATES.len()]
    }

    fn is_asked(self) -> bool {
        !matches!(self, Self::Committed | Self::RolledBack)
    }

    fn is_committed(self) -> bool {
        !matches!(
            self,
            Self::RolledBack | Self::RolledBackWhenAsked | Self::Forgotten
        )
    }
}

/// What the producers know, as their database would.
#[derive(Debug, Default)]
struct Books {
    /// When each was to be prepared.
    begun_ms: BTreeMap<usize, i64>,
    /// The transactions that were prepared, by number. One whose answer was lost is not here.
    ids: BTreeMap<usize, String>,
    /// Of which somebody began to say that they are to be committed.
    committing: BTreeSet<usize>,
    /// What is decided.
    decided: BTreeSet<usize>,
    /// Of which the answer's answer was lost: it is decided, or is asked again.
    unsure: BTreeSet<usize>,
    /// How often each was asked, and when last.
    asks: BTreeMap<usize, (usize, i64)>,
    is_over: bool,
}

pub(super) fn what_is_prepared_appears_when_it_is_committed_or_never(stage: &Stage) {
    for (topic, partitions) in TOPICS {
        stage.topic(topic, partitions, &[]);
    }
    let books = Mutex::<Books>::default();
    thread::scope(|scope| {
        for client in KAFKAS {
            let books = &books;
            scope.spawn(move || nothing_is_seen_early(stage, client, books));
        }
        for number in 0..2 {
            let books = &books;
            scope.spawn(move || answer_asks(stage, number, GROUP, books));
        }
        scope.spawn(|| answer_asks(stage, 2, FORGETFUL, &books));
        let ended = thread::scope(|scope| scope.spawn(|| produce(stage, &books)).join());
        lock(&books).is_over = true;
        if let Err(why) = ended {
            resume_unwind(why);
        }
    });
    each_is_there_once(stage, &lock(&books));
}

/// Prepares, and says what became of those of which somebody says it.
fn produce(stage: &Stage, books: &Mutex<Books>) {
    let (mut round, mut is_last) = (0, false);
    while !is_last {
        is_last = round + 1 >= ROUNDS_MIN && stage.is_mended();
        if round >= ROUNDS_MAX {
            stage.wait_until_mended();
            is_last = true;
        }
        for number in round * FATES.len()..(round + 1) * FATES.len() {
            let id = prepare(stage, books, number);
            let mut books = lock(books);
            books.ids.insert(number, id.clone());
            let order = match Fate::of(number) {
                Fate::Committed => {
                    books.committing.insert(number);
                    "commit"
                }
                Fate::RolledBack => "rollback",
                _ => continue,
            };
            drop(books);
            let told = say(stage, order, &id);
            assert!(told["error"].is_null(), "{order} of {number}: {told}");
        }
        round += 1;
        if round == 2 {
            stage.under_way();
        }
    }
    let wanted: Vec<_> = (0..round * FATES.len())
        .filter(|number| Fate::of(*number).is_asked() && Fate::of(*number) != Fate::Forgotten)
        .collect();
    let since = now_ms();
    let found = wait::poll(LIMIT, || {
        let books = lock(books);
        let is_decided = |number: &usize| {
            let asked_ms = books.asks.get(number).map_or(0, |(_, at)| *at);
            let is_left_alone = is_long_ago(asked_ms.max(since));
            books.decided.contains(number) || books.unsure.contains(number) && is_left_alone
        };
        wanted.iter().all(is_decided).then_some(())
    });
    let state = lock(books);
    let left: Vec<_> = wanted
        .iter()
        .filter(|number| !state.decided.contains(number))
        .map(|number| (number, Fate::of(*number), state.asks.get(number).copied()))
        .collect();
    drop(state);
    assert!(found.is_some(), "never decided: {left:?}");
    wait_until_forgotten(books);
    what_is_decided_stays_so(stage, &lock(books).ids);
    println!("  half: {} transactions", round * FATES.len());
}

/// Prepares a transaction, and returns what it is called from now on.
fn prepare(stage: &Stage, books: &Mutex<Books>, number: usize) -> String {
    let fate = Fate::of(number);
    lock(books).begun_ms.insert(number, now_ms());
    let records = ["half", "half", "half-too"];
    let records = records.iter().enumerate().map(|(at, topic)| {
        let mut json = New::of(format!("{number}-{at}")).json();
        json["topic"] = Value::from(*topic);
        json
    });
    let (group, most) = match fate {
        Fate::Forgotten => (FORGETFUL, FORGETFUL_ASKS),
        // Asks may be lost with brokers; none of these is given up.
        _ => (GROUP, 1_000),
    };
    let order = json!({
        "do": "prepare", "group": group, "records": records.collect::<Vec<_>>(), "after": CHECK_AFTER_MS, "most": most,
    });
    let told = stage.of(Client::Grpc).ask(order);
    let id = told["transaction"].as_str();
    id.unwrap_or_else(|| panic!("{number}: {told}")).to_owned()
}

fn say(stage: &Stage, order: &str, id: &str) -> Value {
    let order = json!({"do": order, "transaction": id});
    stage.of(Client::Grpc).ask(order)
}

/// The number of the transaction that a message belongs to.
fn number_of(value: &str) -> usize {
    let number = value.split('-').next().and_then(|text| text.parse().ok());
    number.unwrap_or_else(|| panic!("{value:?} has no number"))
}

/// A producer of the group, which answers what it is asked, whoever has prepared it.
fn answer_asks(stage: &Stage, checker: usize, group: &str, books: &Mutex<Books>) {
    let (grpc, name) = (stage.of(Client::Grpc), format!("checker-{checker}"));
    grpc.ask(json!({"do": "check-open", "as": name, "group": group}));
    while !lock(books).is_over {
        let told = grpc.ask(json!({"do": "check-poll", "as": name, "ms": 200}));
        for ask in told["asks"].as_array().into_iter().flatten() {
            answer(grpc, &name, ask, books);
        }
    }
    grpc.ask(json!({"do": "check-close", "as": name}));
}

fn answer(grpc: &Puppet, checker: &str, ask: &Value, books: &Mutex<Books>) {
    let values = ask["values"].as_array().into_iter().flatten();
    let values: Vec<_> = values.filter_map(Value::as_str).collect();
    assert_eq!(values.len(), 3, "{ask}");
    let number = number_of(values[0]);
    let wanted: Vec<_> = (0..3).map(|at| format!("{number}-{at}")).collect();
    assert_eq!(values, wanted, "{ask}");
    let (id, at) = (
        ask["transaction"].as_str().unwrap_or_default(),
        ask["at"].as_i64().unwrap_or_default(),
    );
    let mut state = lock(books);
    let since = at - state.begun_ms[&number];
    assert!(since >= CHECK_AFTER_MS, "{ask} came after {since} ms");
    let is_known = state.ids.get(&number).map(|known| known == id);
    let fate = Fate::of(number);
    if fate == Fate::Forgotten {
        let asked = state.asks.entry(number).or_default();
        *asked = (asked.0 + 1, at);
        return;
    }
    let decision = match is_known {
        // It is just being prepared.
        None => "unknown",
        // Who prepared it was not told of it, and has prepared it again.
        Some(false) => "rollback",
        Some(true) => {
            let asked = state.asks.entry(number).or_default();
            *asked = (asked.0 + 1, at);
            match (fate, asked.0) {
                (Fate::CommittedWhenAsked, _) => "commit",
                (Fate::CommittedWhenAskedAgain, 2..) => "commit",
                (Fate::RolledBackWhenAsked, _) => "rollback",
                // Who has it to say is still at it.
                _ => "unknown",
            }
        }
    };
    if decision == "commit" {
        state.committing.insert(number);
    }
    drop(state);
    let order =
        json!({"do": "check-answer", "as": checker, "transaction": id, "decision": decision});
    let told = grpc.ask(order);
    match told["error"].as_str() {
        None => {
            if is_known == Some(true) && decision != "unknown" {
                lock(books).decided.insert(number);
            }
        }
        Some("UNAVAILABLE") => {
            if is_known == Some(true) && decision != "unknown" {
                lock(books).unsure.insert(number);
            }
        }
        Some(_) => panic!("{decision} to {ask}: {told}"),
    }
}

/// Whether what is asked again would have been since.
fn is_long_ago(asked_ms: i64) -> bool {
    let patience = i64::try_from(GIVEN_UP.as_millis()).unwrap_or(i64::MAX);
    asked_ms + patience < now_ms()
}

/// What nobody answers for is given up after so many asks, some of which may be lost with their broker.
fn wait_until_forgotten(books: &Mutex<Books>) {
    let since = now_ms();
    let found = wait::poll(LIMIT, || {
        let books = lock(books);
        let mut asked = books.asks.iter();
        let is_left_alone = |(number, (_, at)): (&usize, &(usize, i64))| {
            Fate::of(*number) != Fate::Forgotten || is_long_ago(since.max(*at))
        };
        asked.all(is_left_alone).then_some(())
    });
    assert!(found.is_some(), "still asked: {:?}", lock(books).asks);
    let state = lock(books);
    let forgotten = |number: &&usize| Fate::of(**number) == Fate::Forgotten;
    let (prepared, asked) = (
        state.ids.keys().filter(forgotten).count(),
        state.asks.keys().filter(forgotten).count(),
    );
    assert!(asked * 2 > prepared, "{asked} of {prepared} were asked");
}

/// What is decided may be said again, and not otherwise.
fn what_is_decided_stays_so(stage: &Stage, ids: &BTreeMap<usize, String>) {
    for (number, id) in ids {
        let fate = Fate::of(*number);
        let (same, other) = match fate.is_committed() {
            true => ("commit", "rollback"),
            false => ("rollback", "commit"),
        };
        let told = say(stage, other, id);
        assert_eq!(
            told["error"], "FAILED_PRECONDITION",
            "{other} of {number}, {fate:?}: {told}"
        );
        let told = say(stage, same, id);
        assert!(
            told["error"].is_null(),
            "{same} of {number}, {fate:?}: {told}"
        );
    }
}

/// Who reads everything, committed or not, sees nothing before somebody says that it is to be committed. An attempt that a failure interrupted it may
/// see beside the one that went well.
fn nothing_is_seen_early(stage: &Stage, client: Client, books: &Mutex<Books>) {
    let (topic, partitions) = TOPICS[0];
    let words = json!({"isolation": "read_uncommitted"});
    let reader = Reader::open(stage.of(client), topic, partitions, &words);
    loop {
        let is_over = lock(books).is_over;
        for record in reader.poll() {
            assert!(
                lock(books).committing.contains(&number_of(&record.value)),
                "{} saw {record:?}, which nobody committed",
                client.name()
            );
        }
        if is_over {
            return;
        }
    }
}

/// All messages of what is committed are there, once, and no others.
fn each_is_there_once(stage: &Stage, books: &Books) {
    const LAST: &str = "last";
    for (topic, partitions) in TOPICS {
        // Behind the last transaction's end, so that it is the last that is read.
        let last =
            (0..partitions).map(|at| New::of(LAST).partition(i64::try_from(at).expect("small")));
        stage.send(Client::Java, topic, &last.collect::<Vec<_>>());
        let of_each: &[usize] = if topic == TOPICS[0].0 { &[0, 1] } else { &[2] };
        let committed = books
            .ids
            .keys()
            .filter(|number| Fate::of(**number).is_committed());
        let mut wanted: BTreeMap<_, _> = committed
            .flat_map(|number| of_each.iter().map(move |at| (format!("{number}-{at}"), 1)))
            .collect();
        wanted.insert(LAST.to_owned(), partitions);
        for client in EVERYONE {
            let mut there = BTreeMap::new();
            for record in stage.read(client, topic, partitions) {
                *there.entry(record.value).or_insert(0) += 1;
            }
            assert_eq!(there, wanted, "{topic}, read by {}", client.name());
        }
    }
}
