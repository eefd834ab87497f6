//! The tables: medians over the rounds, in Markdown, one section for each part of `docs/performance.md`.

mod queues;

use super::broker::Kind;
use super::columns::{self, Column};
use super::results::Results;
use super::rows::{self, Row};
use super::{Options, bare, failover, kafka, lifecycle, moving, peers};
use crate::{Outcome, paths, process};
use std::fmt::Write;
use std::fs;

/// The section that comes of watching.
const FLAME: &str = "flame";

/// Makes tables.
struct Tables<'a> {
    results: &'a Results,
    /// In the order of the columns.
    brokers: Vec<Kind>,
}

impl Tables<'_> {
    fn sections(&self, options: &Options) -> [Section; 15] {
        use rows::Kind::{
            CatchUp, Consume, EndToEnd, FanOut, HalfOfMaximum, Others, Produce, SmallBatches,
        };
        let single = |wanted: fn(&Row) -> bool| names(|row| row.brokers == 1 && wanted(row));
        let three = |wanted: fn(&Row) -> bool| names(|row| row.brokers == 3 && wanted(row));
        let throughput = single(|row| matches!(row.load, Produce(..) | Consume(_) | FanOut(_)));
        let mut busy = self.table(&throughput, &columns::BUSY);
        if !busy.is_empty() {
            busy.insert_str(
                0,
                "\nCores that the broker and the client used meanwhile:\n",
            );
        }
        let (killed, more): (Vec<_>, Vec<_>) = failover::ROWS
            .iter()
            .map(|row| row.name.to_owned())
            .partition(|name| name.starts_with("failover-killed"));
        [
            Section {
                name: "throughput",
                title: "Throughput",
                about: "Medians of the rounds (least to greatest). A GB is 10⁹ bytes of records before compression.".into(),
                body: self.table(&throughput, &columns::THROUGHPUT) + &self.bare_loop() + &busy,
            },
            Section {
                name: "other-clients",
                title: "Other clients",
                about: "A million records of 1 KiB by clients with their defaults: Java's, in Kafka's `kafka-producer-perf-test` and `kafka-consumer-perf-test`, \
                        and librdkafka, in kcat.".into(),
                body: self.table(
                    &single(|row| matches!(row.load, Others(..))),
                    &columns::THROUGHPUT,
                ),
            },
            Section {
                name: "small-batches",
                title: "Many producers of small batches",
                about: "16 producers, 64 partitions, batches of at most 4 KiB: where a broker that syncs before it acknowledges is held up by \
                        the disk. Kafka stands here twice: as it comes, without a sync, and with one for each batch.".into(),
                body: self.table(
                    &single(|row| matches!(row.load, SmallBatches)),
                    &columns::THROUGHPUT,
                ),
            },
            Section {
                name: "end-to-end",
                title: "End to end",
                about: "From the time a record was due to be sent until the reader has it; at 1,000/s one partition, at 10,000/s twelve.".into(),
                body: self.table(
                    &single(|row| matches!(row.load, EndToEnd { .. })),
                    &columns::LATENCY,
                ),
            },
            Section {
                name: "catch-up",
                title: "Beside a late group",
                about: "A producer of 1,000/s before and while a group reads gigabytes of another topic from the disk, as fast as it can: how \
                        late acknowledgements were, and records at a reader that keeps up.".into(),
                body: self.table(
                    &single(|row| matches!(row.load, CatchUp { .. })),
                    &columns::CATCH_UP,
                ),
            },
            Section {
                name: "three-brokers",
                title: "Three brokers",
                about: "Three brokers on the one machine, replication factor 3, acks=all, at least 2 in sync. Weir's brokers speak mutual TLS with each \
                        other, as they always do; Kafka's speak plaintext. At half of the maximum, the rate is half of what these brokers took \
                        just before.".into(),
                body: self.table(
                    &three(|row| matches!(row.load, Produce(..))),
                    &columns::REPLICATED_THROUGHPUT,
                ) + &self.table(
                    &three(|row| matches!(row.load, EndToEnd { .. } | HalfOfMaximum)),
                    &columns::REPLICATED_LATENCY,
                ),
            },
            Section {
                name: "failover",
                title: "Failover",
                about: "The longest time without an acknowledgement that an idempotent producer of 2,000/s sees when the leader of its partition is killed \
                        (`kill -9`), and what became of its records, all rounds together. Clients have their defaults.".into(),
                body: self.table(&killed, &columns::FAILOVER),
            },
            Section {
                name: "failover-more",
                title: "Failover of more than a leader",
                about: "The same when that broker leads the quorum too, or is frozen for 15 s (SIGSTOP). Clients of a frozen leader wait 1 s for an answer: as \
                        they come, franz-go waits 20 s and librdkafka a minute for a broker that is silent, whoever leads by then.".into(),
                body: self.table(&more, &columns::FAILOVER),
            },
            Section {
                name: "moving",
                title: "Moving replicas",
                about: moving::described(options),
                body: self.table(&moving::ROWS.map(str::to_owned), &columns::MOVING),
            },
            Section {
                name: "life-cycle",
                title: "Life cycle",
                about: lifecycle::described(options),
                body: self.facts(),
            },
            Section {
                name: "shared",
                title: "Shared consumption",
                about: super::queues::described_share(options),
                body: self.shared(),
            },
            Section {
                name: "delay",
                title: "Delayed messages",
                about: super::queues::described_delay(options),
                body: self.delayed(),
            },
            Section {
                name: "bound",
                title: "A bounded queue",
                about: super::queues::described_bound(options),
                body: self.bounded(),
            },
            Section {
                name: "before-after",
                title: "Plain topics before and after",
                about: "The same rows with a binary from before queues and with the one of now, in turns: medians of the rounds, and what the one of now is \
                        of the other. A topic that declares nothing of queues is to be no slower.".into(),
                body: self.before_and_after(),
            },
            Section {
                name: FLAME,
                title: "Where the time goes",
                about: "CPU time of the brokers' processes while a row runs, sampled by perf. What stands under its own name is what a function does itself; \
                        what it causes includes what it calls. Functions that the compiler put into others are counted as those.".into(),
                body: self.profiles(),
            },
        ]
    }

    fn bare_loop(&self) -> String {
        if self.results.bare.is_empty() {
            return String::new();
        }
        let mut out = format!(
            "\nA bare loop that reads frames from a socket and writes them to a file:\n\n| | {} |\n|---|---|\n",
            columns::BARE.title
        );
        for (row, what, _) in bare::ROWS {
            if let Some(values) = self.results.bare.get(row) {
                let _ = writeln!(out, "| {what} | {} |", columns::BARE.cell(values.clone()));
            }
        }
        out
    }

    /// Nothing if no row of it was measured.
    fn table(&self, rows: &[String], columns: &[Column]) -> String {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| {
                self.results
                    .answers
                    .keys()
                    .any(|(measured, _)| measured == *row)
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        let took_part = |kind: &&Kind| {
            rows.iter()
                .any(|row| self.results.answers.contains_key(&((*row).clone(), **kind)))
        };
        let brokers: Vec<Kind> = self.brokers.iter().filter(took_part).copied().collect();
        let mut out = String::from("\n| |");
        for column in columns {
            for kind in &brokers {
                let _ = write!(out, " {}, {} |", column.title, title(*kind));
            }
        }
        let _ = writeln!(
            out,
            "\n|---|{}",
            "---|".repeat(columns.len() * brokers.len())
        );
        for row in rows {
            let _ = write!(out, "| {row} |");
            for column in columns {
                for kind in &brokers {
                    let answers = self.results.answers.get(&(row.clone(), *kind));
                    let answers = answers.map(Vec::as_slice).unwrap_or_default();
                    let _ = write!(out, " {} |", column.of_answers(answers));
                }
            }
            out.push('\n');
        }
        out
    }

    fn facts(&self) -> String {
        let brokers = self.brokers.iter().filter(|kind| kind.is_default());
        let brokers: Vec<_> = brokers.copied().collect();
        let mut out = String::new();
        for (row, what) in lifecycle::ROWS {
            let values = brokers
                .iter()
                .map(|kind| self.results.facts.get(&(row, *kind)));
            let values: Vec<_> = values.collect();
            if values.iter().all(Option::is_none) {
                continue;
            }
            if out.is_empty() {
                out += "\n| |";
                for kind in &brokers {
                    let _ = write!(out, " {} |", title(*kind));
                }
                let _ = writeln!(out, "\n|---|{}", "---|".repeat(brokers.len()));
            }
            let _ = write!(out, "| {what} |");
            for values in values {
                let values = values.cloned().unwrap_or_default();
                let _ = write!(out, " {} |", columns::FACT.cell(values));
            }
            out.push('\n');
        }
        out
    }

    fn profiles(&self) -> String {
        let profiles = self.results.profiles.iter();
        profiles
            .map(|(kind, profile)| {
                format!(
                    "\n#### {}, {}\n\n{}",
                    profile.row,
                    title(*kind),
                    profile.summary
                )
            })
            .collect()
    }
}

fn names(wanted: impl Fn(&Row) -> bool) -> Vec<String> {
    rows::all()
        .filter(|row| wanted(row))
        .map(|row| row.name)
        .collect()
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Kafka => "Kafka",
        Kind::KafkaFlush => "Kafka `flush.messages=1`",
        Kind::WeirOs => "Weir `os`",
        Kind::WeirFsync => "Weir `fsync`",
        Kind::WeirGrpc => "Weir `fsync`, gRPC",
        Kind::RabbitMq => "RabbitMQ",
        Kind::Redis => "Redis",
        Kind::RocketMq => "RocketMQ",
    }
}

/// The tables, ready to be shown.
pub(super) struct Report {
    heading: String,
    sections: Vec<Section>,
    failures: String,
}

/// One part of `docs/performance.md`.
struct Section {
    /// In the marks around it.
    name: &'static str,
    title: &'static str,
    about: String,
    /// Tables; nothing was measured if there are none.
    body: String,
}

impl Report {
    /// All sections of which something was measured. What brokers reach while they are watched is no figure.
    pub(super) fn of(results: &Results, options: &Options, heading: String) -> Self {
        let tables = Tables {
            results,
            brokers: options.kinds(|_| true),
        };
        let sections = tables.sections(options).into_iter();
        let sections = sections
            .filter(|section| !section.body.is_empty())
            .filter(|section| (section.name == FLAME) == options.flame);
        let failures = results.failures.iter();
        Self {
            heading,
            sections: sections.collect(),
            failures: failures
                .map(|failure| format!("\nFailed: {failure}\n"))
                .collect(),
        }
    }

    /// All of it as one text.
    pub(super) fn text(&self) -> String {
        let mut out = format!("{}\n", self.heading);
        for section in &self.sections {
            let Section {
                title, about, body, ..
            } = section;
            let _ = write!(out, "\n### {title}\n\n{about}\n{body}");
        }
        out + &self.failures
    }

    /// Puts each section between its marks in `docs/performance.md`; what was not measured stays as it is there.
    pub(super) fn write(&self) -> Outcome {
        let file = paths::root().join("docs/performance.md");
        let mut text = fs::read_to_string(&file)?;
        for section in &self.sections {
            let Section {
                name,
                title,
                about,
                body,
            } = section;
            let begin = format!("<!-- cargo xtask bench, {name}: begin -->");
            let end = format!("<!-- cargo xtask bench, {name}: end -->");
            let missing = || format!("{} lacks the mark {begin} or {end}", file.display());
            let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
            let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
            let heading = &self.heading;
            text =
                format!("{before}{begin}\n### {title}\n\n{about}\n\n{heading}\n{body}{end}{after}");
        }
        fs::write(&file, text)?;
        Ok(())
    }
}

/// The command, the date, and the machine without its name; to be asked before anything runs.
pub(super) fn heading(options: &Options) -> Outcome<String> {
    let date = process::output(process::command("date").args(["-u", "+%Y-%m-%d"]))?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let memory = memory
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse::<f64>().ok())
        .unwrap_or_default();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let kernel: Vec<_> = kernel.split(['.', '-']).take(2).collect();
    let disk = process::output(
        process::command("df")
            .arg("--output=fstype")
            .arg(paths::root()),
    )?;
    let disk = disk.lines().last().unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg")?;
    let java = process::output(process::command("java").arg("--version"))?;
    let peers = Kind::ALL
        .into_iter()
        .filter(|kind| super::queues::wants(options, *kind))
        .filter_map(peers::version);
    let peers: String = peers.map(|version| format!(", {version}")).collect();
    let virtual_machine = fs::read_to_string("/proc/cpuinfo")
        .is_ok_and(|cpu| cpu.contains(" hypervisor"))
        .then_some(" (virtual machine)");
    Ok(format!(
        "`cargo xtask {}` on {date}: {} cores, {:.0} GiB of memory, Linux {}{}, {disk}; Apache Kafka {} on {}{peers}; rounds: {}, of failover {}, of plain topics before and after {}; \
         load average before the run {}.",
        command(),
        std::thread::available_parallelism()?,
        memory / f64::from(1 << 20),
        kernel.join("."),
        virtual_machine.unwrap_or_default(),
        kafka::VERSION,
        java.lines().next().unwrap_or_default(),
        options.rounds(),
        options.rounds_of_failover(),
        options.rounds_of_before(),
        load.split_whitespace().next().unwrap_or_default(),
    ))
}

/// What was asked for, without where things lie on this machine.
fn command() -> String {
    let mut words = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(word) = arguments.next() {
        if word == "--weir" {
            arguments.next();
        } else if word == "--before" {
            arguments.next();
            words.push("--before FILE".to_owned());
        } else if !word.starts_with("--weir=") {
            words.push(word);
        }
    }
    words.join(" ")
}
