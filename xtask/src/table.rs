//! The tables of clients in `docs/compatibility.md`, made of what the conformance suites are expected to say, which they are checked
//! against whenever they run.

use crate::{Outcome, paths};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

/// Clients that run the same scenarios: the file in `tests/conformance/expected`, and the column.
const CLIENTS: [(&str, &str); 6] = [
    ("java", "Java"),
    ("librdkafka", "librdkafka"),
    ("sarama", "Sarama"),
    ("aiokafka", "aiokafka"),
    ("kafka-python", "kafka-python"),
    ("kafkajs", "KafkaJS"),
];

/// Suites of other people, and what they are.
const SUITES: [(&str, &str); 3] = [
    ("franz-go", "franz-go's own tests, `pkg/kgo`"),
    (
        "kafka-tools",
        "Apache Kafka's command-line tools, with what they print",
    ),
    (
        "differential",
        "the same protocol calls to Apache Kafka 4.4 and to Weir, answers compared field by field",
    ),
];

/// Scenarios in the order of the table, and what each is.
const SCENARIOS: [(&str, &str); 49] = [
    ("produce-none", "produce without compression, and consume"),
    ("produce-gzip", "gzip"),
    ("produce-snappy", "snappy"),
    ("produce-lz4", "lz4"),
    ("produce-zstd", "zstd"),
    ("produce-acks-0", "acks=0"),
    ("produce-acks-1", "acks=1"),
    ("produce-idempotent", "idempotent producer"),
    ("record-shape", "headers, timestamps, nulls"),
    ("record-too-large", "too large a record is refused"),
    ("offsets-by-time", "offsets by time"),
    ("log-append-time", "the broker's timestamps"),
    ("group-rebalance", "group of two members, rebalance"),
    ("group-cooperative", "cooperative rebalance"),
    ("group-static", "static members"),
    ("group-commits", "commits"),
    ("group-pattern", "topics by pattern"),
    ("group-consumer-rebalance", "KIP-848 group, rebalance"),
    ("group-consumer-range", "KIP-848 group, range"),
    ("group-consumer-static", "KIP-848 group, static members"),
    ("group-consumer-commits", "KIP-848 group, commits"),
    ("group-consumer-pattern", "KIP-848 group, topics by pattern"),
    ("group-upgrade", "a classic group becomes one of KIP-848"),
    ("transactions", "transactions, committed and aborted"),
    (
        "transactions-open",
        "an open transaction holds readers back",
    ),
    ("transactions-offsets", "offsets in transactions"),
    (
        "transactions-offsets-consumer",
        "the same in a KIP-848 group",
    ),
    ("transactions-fencing", "fencing"),
    ("transactions-timeout", "transactions time out"),
    ("share-group", "share group"),
    (
        "share-group-acknowledge",
        "share group: accept, release, reject",
    ),
    ("admin-topics", "admin: topics"),
    ("admin-topic-errors", "admin: what is refused"),
    ("admin-configs", "admin: configurations of topics"),
    ("admin-broker-configs", "admin: configurations of brokers"),
    ("admin-records", "admin: delete records, list offsets"),
    ("admin-groups", "admin: groups and their offsets"),
    ("admin-share-groups", "admin: share groups"),
    ("admin-transactions", "admin: transactions and producers"),
    ("admin-cluster", "admin: the cluster"),
    ("admin-features", "admin: features"),
    ("admin-log-dirs", "admin: log directories"),
    ("admin-quotas", "admin: quotas"),
    ("admin-scram", "admin: SCRAM credentials"),
    ("admin-elections", "admin: elections, reassignments"),
    ("admin-client-metrics", "admin: client metrics"),
    ("admin-acls", "admin: access control lists"),
    ("admin-delegation-tokens", "admin: delegation tokens"),
    ("admin-quorum", "admin: the quorum"),
];

/// Clients that have parts in the scenarios of queues: as `tests/conformance/expected/queues.txt` names them, and the column.
const QUEUE_CLIENTS: [(&str, &str); 4] = [
    ("java", "Java"),
    ("librdkafka", "librdkafka"),
    ("franz-go", "franz-go"),
    ("grpc", "gRPC (Python)"),
];

/// Scenarios of queues in the order of the table, and what each is.
const QUEUE_SCENARIOS: [(&str, &str); 23] = [
    (
        "share",
        "point to point: accept, release, reject, renew; each is done with once",
    ),
    ("broadcast", "broadcast: every reader gets everything, once"),
    ("credit", "no more is out than there is credit for"),
    ("delay", "delay, deliver-at, cancel: never early, in order"),
    ("retry", "retries with backoff, dead letters, redrive"),
    (
        "breaker",
        "a flood of rejections: so many are given up a minute, the others come again",
    ),
    (
        "redrive",
        "dead letters go back by a condition, and the others stay",
    ),
    ("filter", "filters, and where a bad one is wrong"),
    ("time-to-live", "time to live"),
    ("sold-out", "bounded partition: exactly as many are taken"),
    ("sold-out-topic", "bounded topic: exactly as many are taken"),
    ("sold-bytes", "bounded by bytes: as many are taken as fit"),
    (
        "throttled",
        "who sends waits for room, and nobody is refused",
    ),
    ("sold-again", "what is settled makes room for as much"),
    ("drop-oldest", "the oldest make room"),
    ("order", "of one key one is out at a time"),
    ("request-reply", "request and reply"),
    ("duplicates", "duplicates by id are there once"),
    (
        "priority",
        "the most urgent goes first, over the whole backlog of a partition",
    ),
    (
        "priority-weighted",
        "weighted priorities: each has its share, none starves",
    ),
    (
        "half",
        "prepared messages: seen when committed, or never; who does not say is asked",
    ),
    (
        "view",
        "a view: what matches, once, in order; nobody else writes",
    ),
    (
        "trace",
        "what is told of a message: appended, delivered, settled",
    ),
];

const BEGIN: &str = "<!-- made by `cargo xtask conformance-table`: not edited by hand -->\n";
const END: &str = "<!-- the end of what is made -->\n";

/// Writes the tables, or fails when what is written is not what would be.
pub(crate) fn run(check: bool) -> Outcome {
    let file = paths::root().join("docs/compatibility.md");
    let text = fs::read_to_string(&file)?;
    let (Some(begin), Some(end)) = (text.find(BEGIN), text.find(END)) else {
        return Err(format!("{} has no place for the tables", file.display()).into());
    };
    let wanted = format!(
        "{}{}{}",
        &text[..begin + BEGIN.len()],
        tables()?,
        &text[end..]
    );
    if wanted == text {
        return Ok(());
    }
    if check {
        return Err("docs/compatibility.md is stale: cargo xtask conformance-table".into());
    }
    Ok(fs::write(file, wanted)?)
}

fn tables() -> Outcome<String> {
    let mut out = String::from("\n| |");
    let mut columns = Vec::new();
    for (name, title) in CLIENTS {
        let expected = Expected::read(name)?;
        if let Some(unknown) = expected.verdicts.keys().find(|scenario| {
            !SCENARIOS
                .iter()
                .any(|(known, _)| known == &scenario.as_str())
        }) {
            return Err(format!("{name}: {unknown} is no scenario of xtask/src/table.rs").into());
        }
        write!(out, " {title} |")?;
        columns.push(expected);
    }
    writeln!(out, "\n|---|{}", "---|".repeat(CLIENTS.len()))?;
    let mut reasons: Vec<&str> = Vec::new();
    for (scenario, what) in SCENARIOS {
        if columns
            .iter()
            .all(|column| !column.verdicts.contains_key(scenario))
        {
            continue;
        }
        write!(out, "| {what} |")?;
        for column in &columns {
            match column.verdicts.get(scenario) {
                None => out.push_str(" |"),
                Some((word, _)) if word == "pass" => out.push_str(" yes |"),
                Some((_, why)) => {
                    let known = reasons.iter().position(|reason| reason == why);
                    let number = known.unwrap_or_else(|| {
                        reasons.push(why);
                        reasons.len() - 1
                    });
                    write!(out, " no ({}) |", number + 1)?;
                }
            }
        }
        out.push('\n');
    }
    if !reasons.is_empty() {
        let listed: Vec<_> = reasons
            .iter()
            .enumerate()
            .map(|(number, why)| format!("({}) {why}", number + 1))
            .collect();
        writeln!(out, "\n{}.", listed.join("; "))?;
    }
    queues(&mut out)?;
    writeln!(
        out,
        "\n| Suite | Passed | Known to fail | Skipped |\n|---|---|---|---|"
    )?;
    for (name, what) in SUITES {
        let expected = Expected::read(name)?;
        let number = |wanted: &str| {
            let alike = expected
                .verdicts
                .values()
                .filter(|(word, _)| word == wanted);
            alike.count()
        };
        let passed = expected.count.unwrap_or_else(|| number("pass"));
        let (failing, skipped) = (number("fail"), number("skip"));
        writeln!(out, "| {what} | {passed} | {failing} | {skipped} |")?;
    }
    out.push('\n');
    Ok(out)
}

/// Which client has a part in which scenario of queues.
fn queues(out: &mut String) -> Outcome {
    let expected = Expected::read("queues")?;
    let columns = QUEUE_CLIENTS.map(|(_, title)| title).join(" | ");
    writeln!(out, "\n| Queues, while a broker is killed | {columns} |")?;
    writeln!(out, "|---|{}", "---|".repeat(QUEUE_CLIENTS.len()))?;
    let mut told = 0;
    for (scenario, what) in QUEUE_SCENARIOS {
        write!(out, "| {what} |")?;
        for (client, _) in QUEUE_CLIENTS {
            let verdict = expected.verdicts.get(&format!("{scenario}/{client}"));
            told += usize::from(verdict.is_some());
            out.push_str(match verdict {
                None => " |",
                Some((word, _)) if word == "pass" => " yes |",
                Some(_) => " no |",
            });
        }
        out.push('\n');
    }
    if told != expected.verdicts.len() {
        return Err("queues.txt has scenarios that xtask/src/table.rs does not know".into());
    }
    Ok(())
}

/// A file of `tests/conformance/expected`; `tests/src/suite.rs` says what its lines are.
struct Expected {
    verdicts: BTreeMap<String, (String, String)>,
    count: Option<usize>,
}

impl Expected {
    fn read(name: &str) -> Outcome<Self> {
        let folder: PathBuf = paths::root().join("tests/conformance/expected");
        let text = fs::read_to_string(folder.join(format!("{name}.txt")))?;
        let mut read = Self {
            verdicts: BTreeMap::new(),
            count: None,
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((word, rest)) = line.split_once(' ') else {
                continue;
            };
            if word == "count" {
                read.count = Some(rest.parse()?);
                continue;
            }
            let (test, why) = rest.split_once(": ").unwrap_or((rest, ""));
            read.verdicts
                .insert(test.to_owned(), (word.to_owned(), why.to_owned()));
        }
        Ok(read)
    }
}
