//! The tables: medians over the rounds, in Markdown.

use super::broker::Kind;
use super::load::Answer;
use super::{Options, bare, kafka, lifecycle, work};
use crate::{Outcome, paths, process};
use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::fs;

/// Everything that was measured.
pub(super) struct Results {
    brokers: Vec<Kind>,
    heading: String,
    lifecycle: String,
    answers: BTreeMap<(String, Kind), Vec<Answer>>,
    facts: BTreeMap<(&'static str, Kind), Vec<f64>>,
    /// CPU seconds for each GB of the bare loop.
    bare: BTreeMap<&'static str, Vec<f64>>,
    failures: Vec<String>,
}

impl Results {
    pub(super) fn new(options: &Options) -> Outcome<Self> {
        Ok(Self {
            brokers: options.brokers.clone(),
            heading: heading(options)?,
            lifecycle: lifecycle::described(options),
            answers: BTreeMap::new(),
            facts: BTreeMap::new(),
            bare: BTreeMap::new(),
            failures: Vec::new(),
        })
    }

    pub(super) fn measured(&mut self, row: &str, kind: Kind, answer: Answer) {
        let shown = [
            "mb_s",
            "p50_ms",
            "p99_ms",
            "p999_ms",
            "broker_cpu_s",
            "client_cpu_s",
            "broker_rss_mib",
        ];
        let shown = shown
            .iter()
            .filter_map(|name| Some(format!("{name} {}", answer.number(name)?)));
        println!("  {row:<26} {}", shown.collect::<Vec<_>>().join("  "));
        self.answers
            .entry((row.to_owned(), kind))
            .or_default()
            .push(answer);
    }

    pub(super) fn fact(&mut self, row: &'static str, kind: Kind, value: f64) {
        println!("  {row:<26} {value:.3}");
        self.facts.entry((row, kind)).or_default().push(value);
    }

    pub(super) fn bare(&mut self, row: &'static str, seconds_per_gb: f64) {
        println!("  {row:<26} {seconds_per_gb:.3} s/GB");
        self.bare.entry(row).or_default().push(seconds_per_gb);
    }

    pub(super) fn failed(&mut self, row: &str, kind: Kind, error: &dyn std::error::Error) {
        println!("  {row:<26} FAILED: {error}");
        self.failures.push(format!("{kind}, {row}: {error}"));
    }

    /// An error if anything failed.
    pub(super) fn verdict(&self) -> Outcome {
        if self.failures.is_empty() {
            Ok(())
        } else {
            Err(format!("what failed:\n{}", self.failures.join("\n")).into())
        }
    }

    fn bare_loop(&self, out: &mut impl Write) -> fmt::Result {
        if self.bare.is_empty() {
            return Ok(());
        }
        let column = Column {
            title: "CPU s/GB",
            digits: 2,
            spread: true,
            value: |_| None,
        };
        write!(
            out,
            "\nA bare loop that reads frames from a socket and writes them to a file:\n\n| | {} |\n|---|---|",
            column.title
        )?;
        for (row, what, _) in bare::ROWS {
            if let Some(values) = self.bare.get(row) {
                write!(out, "\n| {what} | {} |", column.cell(values.clone()))?;
            }
        }
        writeln!(out)
    }

    fn table(&self, out: &mut impl Write, rows: &[String], columns: &[Column]) -> fmt::Result {
        let rows: Vec<_> = rows
            .iter()
            .filter(|row| self.answers.keys().any(|(measured, _)| measured == *row))
            .collect();
        if rows.is_empty() {
            return Ok(());
        }
        let took_part = |kind: &&Kind| {
            rows.iter()
                .any(|row| self.answers.contains_key(&((*row).clone(), **kind)))
        };
        let brokers: Vec<Kind> = self.brokers.iter().filter(took_part).copied().collect();
        write!(out, "\n| |")?;
        for column in columns {
            for kind in &brokers {
                write!(out, " {}, {} |", column.title, title(*kind))?;
            }
        }
        write!(
            out,
            "\n|---|{}",
            "---|".repeat(columns.len() * brokers.len())
        )?;
        for row in rows {
            write!(out, "\n| {row} |")?;
            for column in columns {
                for kind in &brokers {
                    let answers = self
                        .answers
                        .get(&(row.clone(), *kind))
                        .map(Vec::as_slice)
                        .unwrap_or_default();
                    let values = answers.iter().filter_map(column.value).collect();
                    write!(out, " {} |", column.cell(values))?;
                }
            }
        }
        writeln!(out)
    }
}

/// A figure, shown once for each broker.
struct Column {
    title: &'static str,
    digits: usize,
    /// Whether the least and the greatest value stand beside the median.
    spread: bool,
    value: fn(&Answer) -> Option<f64>,
}

impl Column {
    fn cell(&self, mut values: Vec<f64>) -> String {
        values.sort_by(f64::total_cmp);
        let digits = self.digits;
        match (values.first(), values.last()) {
            (Some(least), Some(greatest)) if self.spread && values.len() > 1 => {
                format!(
                    "{:.digits$} ({least:.digits$}–{greatest:.digits$})",
                    median(&values)
                )
            }
            (Some(_), _) => format!("{:.digits$}", median(&values)),
            _ => "–".to_owned(),
        }
    }
}

/// Of sorted values, at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 {
        sorted[middle]
    } else {
        (sorted[middle - 1] + sorted[middle]) / 2.0
    }
}

const THROUGHPUT: [Column; 3] = [
    Column {
        title: "MB/s",
        digits: 0,
        spread: true,
        value: |answer| answer.number("mb_s"),
    },
    Column {
        title: "CPU s/GB",
        digits: 2,
        spread: false,
        value: seconds_per_gb,
    },
    Column {
        title: "memory MiB",
        digits: 0,
        spread: false,
        value: |answer| answer.number("broker_rss_mib"),
    },
];

const LATENCY: [Column; 4] = [
    Column {
        title: "p50 ms",
        digits: 2,
        spread: false,
        value: |answer| answer.number("p50_ms"),
    },
    Column {
        title: "p99 ms",
        digits: 2,
        spread: true,
        value: |answer| answer.number("p99_ms"),
    },
    Column {
        title: "p99.9 ms",
        digits: 1,
        spread: false,
        value: |answer| answer.number("p999_ms"),
    },
    Column {
        title: "cores",
        digits: 2,
        spread: false,
        value: broker_cores,
    },
];

const BUSY: [Column; 2] = [
    Column {
        title: "broker",
        digits: 2,
        spread: false,
        value: broker_cores,
    },
    Column {
        title: "client",
        digits: 2,
        spread: false,
        value: client_cores,
    },
];

fn seconds_per_gb(answer: &Answer) -> Option<f64> {
    Some(
        answer.number("broker_cpu_s")? / (answer.number("mb_s")? * answer.number("seconds")? / 1e3),
    )
}

fn broker_cores(answer: &Answer) -> Option<f64> {
    Some(answer.number("broker_cpu_s")? / answer.number("seconds")?)
}

fn client_cores(answer: &Answer) -> Option<f64> {
    Some(answer.number("client_cpu_s")? / answer.number("seconds")?)
}

fn title(kind: Kind) -> &'static str {
    match kind {
        Kind::Kafka => "Kafka",
        Kind::KafkaFlush => "Kafka `flush.messages=1`",
        Kind::WeirOs => "Weir `os`",
        Kind::WeirFsync => "Weir `fsync`",
    }
}

impl fmt::Display for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.heading)?;
        let rows: Vec<String> = work::rows().map(|row| row.name).collect();
        let (latency, rows): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row.starts_with("e2e"));
        let (synced, throughput): (Vec<_>, Vec<_>) =
            rows.into_iter().partition(|row| row == work::SMALL_BATCHES);
        writeln!(
            f,
            "\n### Throughput\n\nMedians of the rounds (least to greatest). A GB is 10⁹ bytes of records before compression."
        )?;
        self.table(f, &throughput, &THROUGHPUT)?;
        self.bare_loop(f)?;
        writeln!(f, "\nCores that the broker and the client used meanwhile:")?;
        self.table(f, &throughput, &BUSY)?;
        writeln!(
            f,
            "\n### Many producers of small batches\n\n16 producers, 64 partitions, batches of at most 4 KiB: where a broker that syncs before it acknowledges \
             is held up by the disk. Kafka stands here twice: as it comes, without a sync, and with one for each batch."
        )?;
        self.table(f, &synced, &THROUGHPUT)?;
        writeln!(
            f,
            "\n### End to end\n\nFrom the time a record was due to be sent until the reader has it; at 1,000/s one partition, at 10,000/s twelve."
        )?;
        self.table(f, &latency, &LATENCY)?;
        let brokers: Vec<_> = self
            .brokers
            .iter()
            .filter(|kind| matches!(kind, Kind::Kafka | Kind::WeirFsync))
            .collect();
        writeln!(f, "\n### Life cycle\n\n{}\n", self.lifecycle)?;
        write!(f, "| |")?;
        for kind in &brokers {
            write!(f, " {} |", title(**kind))?;
        }
        write!(f, "\n|---|{}", "---|".repeat(brokers.len()))?;
        let column = Column {
            title: "",
            digits: 2,
            spread: false,
            value: |_| None,
        };
        for (row, what) in lifecycle::ROWS {
            if !brokers
                .iter()
                .any(|kind| self.facts.contains_key(&(row, **kind)))
            {
                continue;
            }
            write!(f, "\n| {what} |")?;
            for kind in &brokers {
                let values = self.facts.get(&(row, **kind)).cloned().unwrap_or_default();
                write!(f, " {} |", column.cell(values))?;
            }
        }
        writeln!(f)?;
        for failure in &self.failures {
            writeln!(f, "\nFailed: {failure}")?;
        }
        Ok(())
    }
}

/// The date, the command, and the machine without its name.
fn heading(options: &Options) -> Outcome<String> {
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
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    Ok(format!(
        "`cargo xtask {}` on {date}: {} cores, {:.0} GiB of memory, Linux {} (virtual machine: {}), {disk}; Apache Kafka {} on {}; {} \
         {}; load average before the run {}. Broker and client share the cores.",
        arguments.join(" "),
        std::thread::available_parallelism()?,
        memory / f64::from(1 << 20),
        kernel.join("."),
        if is_virtual() { "yes" } else { "no" },
        kafka::VERSION,
        java.lines().next().unwrap_or_default(),
        options.rounds,
        if options.rounds == 1 {
            "round"
        } else {
            "rounds"
        },
        load.split_whitespace().next().unwrap_or_default(),
    ))
}

fn is_virtual() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|cpu| cpu.contains(" hypervisor"))
}

/// Replaces what is between the two marks in `docs/performance.md`.
pub(super) fn insert(report: &str) -> Outcome {
    const BEGIN: &str = "<!-- cargo xtask bench: begin -->";
    const END: &str = "<!-- cargo xtask bench: end -->";
    let file = paths::root().join("docs/performance.md");
    let text = fs::read_to_string(&file)?;
    let missing = || format!("{} lacks the mark {BEGIN} or {END}", file.display());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    fs::write(&file, format!("{before}{BEGIN}\n{report}{END}{after}"))?;
    Ok(())
}
