//! `cargo xtask bench`: Weir beside Apache Kafka, in the same run, on the same machine, with the same promise.
//!
//! The brokers take turns, each alone on the machine and on fresh directories of the same disk, for several rounds; what is
//! reported are medians. The client is the same for both (`tests/bench/kbench`). Weir runs twice: with `durability: os`,
//! which promises what Kafka promises, and with its default, `durability: fsync`.
//!
//! [`broker`] starts and ends brokers ([`kafka`], [`weir`]), [`load`] runs the client, [`work`] is what is measured under
//! load and [`lifecycle`] what is measured around it, [`bare`] what the
//! least is that any broker could need, [`report`] writes the tables. Whatever is started here ends with this
//! process, however that ends.

mod bare;
mod broker;
mod kafka;
mod lifecycle;
mod load;
mod report;
mod weir;
mod work;

pub(crate) use kafka::fetch as kafka_jars;

use crate::{Outcome, binaries, images, paths};
use broker::{Kind, Programs};
use load::Load;
use report::Results;
use std::path::PathBuf;
use std::{fs, io};

/// What to measure.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// How often each broker has its turn; medians are reported
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// One round with less data, in under six minutes: to see that all works, not for figures
    #[arg(long)]
    quick: bool,
    /// Only these rows, such as produce-1K-all-p12,start
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Only these brokers
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Kind::ALL)]
    brokers: Vec<Kind>,
    /// Put the tables into docs/performance.md
    #[arg(long)]
    write: bool,
}

impl Options {
    fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == row)
    }

    fn check(&self) -> Outcome {
        let rows = work::rows().map(|row| row.name);
        let rows: Vec<String> = rows
            .chain(bare::ROWS.iter().map(|(name, ..)| (*name).to_owned()))
            .chain(lifecycle::ROWS.iter().map(|(name, _)| (*name).to_owned()))
            .collect();
        match self.only.iter().find(|only| !rows.contains(only)) {
            Some(unknown) => {
                Err(format!("no row {unknown:?}; there are:\n  {}", rows.join("\n  ")).into())
            }
            None => Ok(()),
        }
    }
}

/// Everything that the benchmark fetches, builds and writes.
fn folder() -> PathBuf {
    paths::target().join("bench")
}

/// Measures, prints the tables, and fails if anything that was asked of a broker failed.
pub(crate) fn run(mut options: Options) -> Outcome {
    options.check()?;
    if options.quick {
        options.rounds = 1;
    }
    let mut results = Results::new(&options)?;
    let programs = prepare(&options, &mut results)?;
    let load = Load::build()?;

    let rows: Vec<_> = work::rows()
        .filter(|row| options.wants(&row.name))
        .collect();
    for round in 1..=options.rounds {
        for (row, _, frame_bytes) in bare::ROWS {
            if options.wants(row) {
                results.bare(row, bare::seconds_per_gb(frame_bytes, options.quick)?);
            }
        }
        for kind in turns(&options.brokers, round) {
            let rows: Vec<_> = rows.iter().filter(|row| row.is_for(kind)).collect();
            if !rows.is_empty() {
                println!("round {round}, {kind}");
                work::run(
                    &rows,
                    options.quick,
                    &programs.on_fresh_disk(kind)?,
                    &load,
                    &mut results,
                )?;
            }
        }
    }
    for &kind in options
        .brokers
        .iter()
        .filter(|kind| matches!(kind, Kind::Kafka | Kind::WeirFsync))
    {
        lifecycle::run(kind, &options, &programs, &load, &mut results)?;
    }
    remove(&folder().join("data"))?;

    let report = results.to_string();
    let file = folder().join("report.md");
    fs::write(&file, &report)?;
    println!("\n{report}\nwritten to {}", file.display());
    if options.write {
        report::insert(&report)?;
    }
    results.verdict()
}

/// Who comes first changes from round to round: a disk or a neighbour that slows down over time wrongs nobody.
fn turns(brokers: &[Kind], round: u32) -> impl Iterator<Item = Kind> {
    let first = round as usize - 1;
    (0..brokers.len()).map(move |turn| brokers[(first + turn) % brokers.len()])
}

fn prepare(options: &Options, results: &mut Results) -> Outcome<Programs> {
    let mut programs = Programs::default();
    if options.brokers.iter().any(|kind| kind.is_kafka()) {
        programs.kafka = kafka::fetch()?;
    }
    if options.brokers.iter().any(|kind| !kind.is_kafka()) {
        programs.weir = binaries::build()?.broker;
        if options.wants(lifecycle::IMAGE) {
            results.fact(
                lifecycle::IMAGE,
                Kind::WeirFsync,
                size(&images::write_all()?.broker)?,
            );
        }
    }
    if options.brokers.contains(&Kind::Kafka) && options.wants(lifecycle::IMAGE) {
        let mut jars = 0.0;
        for jar in fs::read_dir(&programs.kafka)? {
            jars += size(&jar?.path())?;
        }
        results.fact(lifecycle::IMAGE, Kind::Kafka, jars);
    }
    Ok(programs)
}

fn size(file: &std::path::Path) -> Outcome<f64> {
    Ok(fs::metadata(file)?.len() as f64 / f64::from(1 << 20))
}

fn remove(folder: &std::path::Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
