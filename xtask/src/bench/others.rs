//! Clients that nobody here wrote, as they come: Java's, in Kafka's own tools, and librdkafka, in kcat.

use super::broker::{Installed, Running, mortal};
use super::load::Answer;
use crate::{Outcome, clients, paths, process};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

/// Whose.
#[derive(Clone, Copy)]
pub(super) enum Client {
    Java,
    Librdkafka,
}

/// Which way records go.
#[derive(Clone, Copy)]
pub(super) enum Way {
    In,
    Out,
}

/// Bytes of a record.
const BYTES: u32 = 1024;

impl Client {
    pub(super) const ALL: [Self; 2] = [Self::Java, Self::Librdkafka];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Librdkafka => "librdkafka",
        }
    }

    /// Sends so many records to a topic that is there, or reads as many as are there.
    pub(super) fn run(
        self,
        way: Way,
        brokers: &Installed,
        running: &Running,
        topic: &str,
        records: u32,
    ) -> Outcome<Answer> {
        let mut command = match self {
            Self::Java => java(way, &brokers.address, topic, records)?,
            Self::Librdkafka => kcat(way, &brokers.address, topic, records)?,
        };
        let (before, begun) = (running.cpu_seconds()?, Instant::now());
        let said = process::output(&mut command)?;
        let lasted = begun.elapsed().as_secs_f64();
        let burned = running.cpu_seconds()? - before;
        let seconds = match (self, way) {
            (Self::Java, Way::In) => f64::from(records) / sent_each_second(&said)?,
            (Self::Java, Way::Out) => fetching(&said, records)?,
            (Self::Librdkafka, Way::In) => lasted,
            (Self::Librdkafka, Way::Out) if said.len() == records as usize => lasted,
            (Self::Librdkafka, Way::Out) => {
                return Err(format!("kcat read {} of {records} records", said.len()).into());
            }
        };
        let megabytes = f64::from(records) * f64::from(BYTES) / 1e6;
        Ok(Answer::default()
            .with("mb_s", Some(megabytes / seconds))
            .with("seconds", Some(seconds))
            .with("broker_cpu_s", Some(burned))
            .with("broker_rss_mib", Some(running.resident_mib()?)))
    }
}

fn java(way: Way, address: &str, topic: &str, records: u32) -> Outcome<Command> {
    let jars = clients::kafka_tools()?;
    let mut command = mortal("java");
    command.args(["-Xmx512M", "-cp", &format!("{}/*", jars.display())]);
    match way {
        Way::In => command
            .arg("org.apache.kafka.tools.ProducerPerformance")
            .args(["--throughput", "-1", "--record-size", &BYTES.to_string()]),
        Way::Out => command
            .arg("org.apache.kafka.tools.ConsumerPerformance")
            .arg("--hide-header"),
    };
    command
        .args(["--bootstrap-server", address, "--topic", topic])
        .args(["--num-records", &records.to_string()]);
    Ok(command)
}

fn kcat(way: Way, address: &str, topic: &str, records: u32) -> Outcome<Command> {
    let mut command = mortal("kcat");
    command.args(["-b", address, "-t", topic]);
    match way {
        Way::In => command.arg("-P").arg("-l").arg(lines(records)?),
        // A byte for each record, to count.
        Way::Out => command.args(["-C", "-e", "-q", "-o", "beginning", "-f", "."]),
    };
    Ok(command)
}

/// A file with a record on each line.
fn lines(records: u32) -> Outcome<PathBuf> {
    let file = paths::target()
        .join("bench")
        .join(format!("{records}-lines"));
    if !file.exists() {
        let partial = file.with_extension("partial");
        let mut lines = BufWriter::new(File::create(&partial)?);
        for number in 0..records {
            let width = BYTES as usize;
            writeln!(lines, "{number:0width$}")?;
        }
        lines.into_inner()?.sync_all()?;
        std::fs::rename(&partial, &file)?;
    }
    Ok(file)
}

/// "1000000 records sent, 412371.1 records/sec (402.71 MB/sec), ..." in the last line.
fn sent_each_second(said: &str) -> Outcome<f64> {
    let last = said.lines().rfind(|line| line.contains("records/sec"));
    let rate = last.and_then(|line| line.split(", ").nth(1)?.split(' ').next()?.parse().ok());
    rate.ok_or_else(|| format!("ProducerPerformance did not say how fast it was: {said}").into())
}

/// Seconds, without those in which the group came together: the eighth of ten columns, in milliseconds; the fifth is how many records there were.
fn fetching(said: &str, records: u32) -> Outcome<f64> {
    let columns = |line: &str| -> Option<(u32, f64)> {
        let mut columns = line.split(", ");
        let read = columns.nth(4)?.parse().ok()?;
        Some((read, columns.nth(2)?.parse().ok()?))
    };
    match said.lines().filter_map(columns).next_back() {
        Some((read, milliseconds)) if read == records => Ok(milliseconds / 1e3),
        _ => Err(format!("ConsumerPerformance did not read {records} records: {said}").into()),
    }
}
