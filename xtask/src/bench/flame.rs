//! Where brokers spend their time: `perf` watches their processes while a row runs, and what it saw becomes a flame graph, folded
//! stacks for other tools, and two tables.
//!
//! The binary is the one that is measured everywhere else: stacks are unwound by the tables that panics need, so it takes no
//! frame pointers and no debug information.

mod stacks;
mod svg;

use super::broker::{Running, mortal};
use super::folder;
use crate::{Outcome, paths, process};
use stacks::Stacks;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Samples a second of each thread that runs; a prime, so that nothing that happens every so often is hit always or never.
const FREQUENCY: &str = "997";

/// Bytes of each sample's stack that are kept: asynchronous calls nest deeply.
const STACK_BYTES: u32 = 16 << 10;

/// Rows of each table.
const FUNCTIONS: usize = 15;

/// Watches brokers.
pub(super) struct Profiler {
    perf: PathBuf,
}

/// What was seen while one row ran.
pub(super) struct Profile {
    pub(super) row: String,
    /// The flame graph.
    pub(super) picture: PathBuf,
    /// In Markdown.
    pub(super) summary: String,
}

impl Profiler {
    pub(super) fn new() -> Outcome<Self> {
        fs::create_dir_all(Self::folder())?;
        let perf = paths::program("perf").ok_or("no perf: the package linux-perf brings it")?;
        Ok(Self { perf })
    }

    fn folder() -> PathBuf {
        folder().join("flame")
    }

    fn recorded() -> PathBuf {
        Self::folder().join("perf.data")
    }

    /// The command, and perf beside it for as long as it runs.
    pub(super) fn watch(&self, running: &Running, command: &Command) -> Command {
        let mut watched = mortal(&self.perf);
        watched
            .args(["record", "--quiet", "--freq", FREQUENCY, "--call-graph"])
            .arg(format!("dwarf,{STACK_BYTES}"))
            .arg("--output")
            .arg(Self::recorded())
            .args(["--pid", &running.pids(), "--"])
            .arg(command.get_program())
            .args(command.get_args());
        watched
    }

    /// What was seen since the last time.
    pub(super) fn take(&self, row: &str) -> Outcome<Profile> {
        let told = process::output(
            process::command(&self.perf)
                .args(["script", "--no-inline", "--fields"])
                .args(["comm,period,ip,sym", "--input"])
                .arg(Self::recorded()),
        )?;
        fs::remove_file(Self::recorded())?;
        let stacks = Stacks::parse(&told);
        let picture = Self::folder().join(format!("{row}.svg"));
        fs::write(&picture, svg::draw(row, &stacks))?;
        fs::write(picture.with_extension("folded"), stacks.folded())?;
        Ok(Profile {
            row: row.to_owned(),
            picture,
            summary: summary(&stacks),
        })
    }
}

fn summary(stacks: &Stacks) -> String {
    let total: f64 = stacks.total().max(1) as f64;
    let share = |nanoseconds: u64| nanoseconds as f64 / total * 100.0;
    let threads = stacks.by_thread();
    let threads = threads
        .iter()
        .map(|(name, time)| format!("{name} {:.0} %", share(*time)));
    let mut out = format!(
        "{:.1} CPU seconds; threads: {}.\n\n| itself | function | with what it calls | function of Weir |\n|---|---|---|---|\n",
        stacks.total() as f64 / 1e9,
        threads.collect::<Vec<_>>().join(", ")
    );
    let (own, caused) = (stacks.own(), stacks.caused(|name| name.contains("weir_")));
    for rank in 0..FUNCTIONS {
        let cell = |of: &[(String, u64)]| {
            of.get(rank).map_or("| |".to_owned(), |(name, time)| {
                format!("| {:.1} % | `{name}` ", share(*time))
            })
        };
        out += &format!("{}{}|\n", cell(&own), cell(&caused));
    }
    out
}
