//! `cargo xtask bench`: Weir beside Apache Kafka, in the same run, on the same machine, with the same promise.
//!
//! The brokers take turns, each alone on the machine and on fresh directories of the same disk, for several rounds; what is
//! reported are medians. The client is the same for both (`tests/bench/kbench`). Weir runs twice: with `durability: os`,
//! which promises what Kafka promises, and with its default, `durability: fsync`.
//!
//! [`broker`] starts and ends brokers ([`kafka`], [`weir`], [`peers`]), [`load`] runs the client, [`rows`] says what is measured under
//! load and [`work`] does it, [`lifecycle`] is what is measured around it, [`failover`] what a client sees when a broker ends, [`moving`]
//! what it sees while replicas move, [`queues`] what queues do, beside other brokers that have them, [`before`] plain topics with two
//! binaries of Weir, [`bare`]
//! what the least is that any broker could need, [`flame`] where the time goes, [`results`] keeps it, and [`report`] writes the tables of [`columns`]. Whatever
//! is started here ends with this process, however that ends.

mod bare;
mod before;
mod broker;
mod columns;
mod failover;
mod flame;
mod kafka;
mod lifecycle;
mod load;
mod moving;
mod others;
mod peers;
mod queues;
mod report;
mod results;
mod rows;
mod weir;
mod work;

pub(crate) use kafka::fetch as kafka_jars;

use crate::{Outcome, binaries, images, paths};
use broker::{Kind, Programs};
use flame::Profiler;
use load::Load;
use report::Report;
use results::Results;
use std::path::{Path, PathBuf};
use std::{fs, io};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each broker has its turn, 3 times by default; medians are reported. Failover: 10 times; plain topics before and
    /// after: 9 times
    #[arg(long)]
    rounds: Option<u32>,
    /// One round with less data: to see that all works, not for figures
    #[arg(long)]
    quick: bool,
    /// What to measure where no rows are named
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::One, Part::Three, Part::LifeCycle])]
    parts: Vec<Part>,
    /// Only these rows, such as produce-1K-all-p12,start; a star at the end stands for anything: replicated-*
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these brokers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    brokers: Vec<Kind>,
    /// A release build of weir-broker to measure; it is built if none is given
    #[arg(long, env = "WEIR_BROKER_BINARY")]
    weir: Option<PathBuf>,
    /// A release build of weir-broker from before a change: plain topics are measured with both, in turns (rows plain-before-after-*)
    #[arg(long)]
    before: Option<PathBuf>,
    /// Watch Weir's brokers with perf meanwhile, and draw flame graphs into target/bench/flame: of Weir `os` in three rows, unless
    /// others are named
    #[arg(long)]
    flame: bool,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    write: bool,
}

/// Parts of the benchmark that one wants alone.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// Throughput and latency of one broker
    One,
    /// The same of three that replicate
    Three,
    /// How long nothing is acknowledged when one of three ends
    Failover,
    /// A broker of four is emptied and filled under load
    Moving,
    /// Start, rest, recovery, many partitions
    LifeCycle,
    /// Shared consumption, delay and bounds, beside RabbitMQ, Redis and RocketMQ; with --before plain topics too
    Queues,
}

impl Options {
    fn wants(&self, part: Part, row: &str) -> bool {
        if self.only.is_empty() {
            return self.parts.contains(&part);
        }
        self.only.iter().any(|only| is_meant(only, row))
    }

    /// Brokers that are asked for, among those of which this is true.
    fn kinds(&self, among: impl Fn(Kind) -> bool) -> Vec<Kind> {
        let kinds = self.brokers.iter().copied();
        kinds.filter(|kind| among(*kind)).collect()
    }

    fn rounds(&self) -> u32 {
        if self.quick || self.flame {
            1
        } else {
            self.rounds.unwrap_or(3)
        }
    }

    fn rounds_of_failover(&self) -> u32 {
        if self.quick {
            1
        } else {
            self.rounds.unwrap_or(10)
        }
    }

    fn rounds_of_before(&self) -> u32 {
        if self.quick || self.flame {
            1
        } else {
            self.rounds.unwrap_or(9)
        }
    }

    fn rounds_of_moving(&self) -> u32 {
        if self.quick {
            1
        } else {
            self.rounds.unwrap_or(1)
        }
    }

    fn check(&self) -> Outcome {
        let rows = rows::all().map(|row| row.name);
        let rows: Vec<String> = rows
            .chain(bare::ROWS.iter().map(|(name, ..)| (*name).to_owned()))
            .chain(failover::ROWS.iter().map(|row| row.name.to_owned()))
            .chain(moving::ROWS.map(str::to_owned))
            .chain(lifecycle::ROWS.iter().map(|(name, _)| (*name).to_owned()))
            .chain(queues::all().map(|row| row.name.to_owned()))
            .chain(before::names())
            .collect();
        let plain = |only: &String| before::names().any(|row| is_meant(only, &row));
        if self.before.is_none() && self.only.iter().any(plain) {
            return Err("plain topics before and after need --before FILE".into());
        }
        let unknown = |only: &&String| !rows.iter().any(|row| is_meant(only, row));
        match self.only.iter().find(unknown) {
            Some(unknown) => {
                Err(format!("no row {unknown:?}; there are:\n  {}", rows.join("\n  ")).into())
            }
            None => Ok(()),
        }
    }
}

fn is_meant(only: &str, row: &str) -> bool {
    match only.strip_suffix('*') {
        Some(beginning) => row.starts_with(beginning),
        None => row == only,
    }
}

/// Everything that the benchmark fetches, builds and writes.
fn folder() -> PathBuf {
    paths::target().join("bench")
}

/// Measures, prints the tables, and fails if anything that was asked of a broker failed.
pub(crate) fn run(mut options: Options) -> Outcome {
    if options.flame {
        if options.only.is_empty() {
            options.only = rows::WATCHED.map(str::to_owned).to_vec();
        }
        options.brokers = if options.brokers == Kind::ALL {
            vec![Kind::WeirOs]
        } else {
            options.kinds(Kind::is_weir)
        };
    }
    options.check()?;
    let heading = report::heading(&options)?;
    let mut results = Results::default();
    let programs = prepare(&options, &mut results)?;
    let profiler = options.flame.then(Profiler::new).transpose()?;
    let mut load = Load::build(profiler)?;
    if queues::wants(&options, Kind::RocketMq) {
        load.rocketmq = peers::build_rocketmqs_client(&programs.rocketmq)?;
    }

    for round in 1..=options.rounds() {
        for (row, _, frame_bytes) in bare::ROWS {
            if options.wants(Part::One, row) {
                results.bare(row, bare::seconds_per_gb(frame_bytes, options.quick)?);
            }
        }
        for kind in turns(&options.brokers, round) {
            for brokers in [1, 3] {
                let rows: Vec<_> = rows::all()
                    .filter(|row| row.brokers == brokers && row.is_for(kind, &options))
                    .collect();
                if !rows.is_empty() {
                    println!("round {round}, {kind}, brokers: {brokers}");
                    let brokers = programs.on_fresh_disks(kind, brokers)?;
                    work::run(&rows, options.quick, &brokers, &load, &mut results)?;
                }
            }
        }
    }
    for kind in options.kinds(Kind::is_default) {
        lifecycle::run(kind, &options, &programs, &load, &mut results)?;
    }
    failover::run(&options, &programs, &load, &mut results)?;
    moving::run(&options, &programs, &load, &mut results)?;
    queues::run(&options, &programs, &load, &mut results)?;
    before::run(&options, &programs, &load, &mut results)?;
    remove(&folder().join("data"))?;

    let report = Report::of(&results, &options, heading);
    let file = folder().join("report.md");
    fs::write(&file, report.text())?;
    println!("\n{}\nwritten to {}", report.text(), file.display());
    if options.write {
        report.write()?;
    }
    results.verdict()
}

/// Who comes first changes from round to round: a disk or a neighbour that slows down over time wrongs nobody.
fn turns<T: Copy>(brokers: &[T], round: u32) -> impl Iterator<Item = T> {
    let first = round as usize - 1;
    (0..brokers.len()).map(move |turn| brokers[(first + turn) % brokers.len()])
}

fn prepare(options: &Options, results: &mut Results) -> Outcome<Programs> {
    let mut programs = Programs::default();
    let wants_image = options.wants(Part::LifeCycle, lifecycle::IMAGE);
    if options.brokers.iter().any(|kind| kind.is_kafka()) {
        programs.kafka = kafka::fetch()?;
    }
    for kind in Kind::ALL {
        if queues::wants(options, kind) {
            peers::check(kind)?;
        }
    }
    if queues::wants(options, Kind::RocketMq) {
        programs.rocketmq = peers::fetch_rocketmq()?;
    }
    if options.brokers.iter().any(|kind| kind.is_weir()) {
        programs.weir = match &options.weir {
            Some(given) => std::path::absolute(given)?,
            None => binaries::build()?.broker,
        };
        // A given binary has no image.
        if wants_image && options.weir.is_none() {
            results.fact(
                lifecycle::IMAGE,
                Kind::WeirFsync,
                size(&images::write_all()?.broker)?,
            );
        }
    }
    if options.brokers.contains(&Kind::Kafka) && wants_image {
        let mut jars = 0.0;
        for jar in fs::read_dir(&programs.kafka)? {
            jars += size(&jar?.path())?;
        }
        results.fact(lifecycle::IMAGE, Kind::Kafka, jars);
    }
    Ok(programs)
}

fn size(file: &Path) -> Outcome<f64> {
    Ok(fs::metadata(file)?.len() as f64 / f64::from(1 << 20))
}

fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
