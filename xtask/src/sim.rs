//! `cargo xtask sim`: whole clusters in one thread from one seed (`tests/sim`).
//!
//! Built for itself, with a profile of its own: optimised, with every assertion, and with the deliberate defects, which nothing
//! that is shipped has.

use std::path::PathBuf;

use crate::Outcome;
use crate::paths::target;
use crate::process::{cargo, command, run as go};

/// What `make test` lives: the same seeds each time, so that it says the same each time; some minutes.
const STAGE_SEEDS: u64 = 300;

/// What to live.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Live this seed only, and say what happens
    #[arg(long)]
    seed: Option<u64>,
    /// What the brokers say meanwhile, as WEIR_LOG takes it
    #[arg(long, requires = "seed")]
    log: Option<String>,
    /// The first seed; unless said, the one after the last that went well
    #[arg(long)]
    from: Option<u64>,
    /// How many; without end unless said
    #[arg(long)]
    seeds: Option<u64>,
    /// Prove that a seed is the same life twice and that every mutant is found
    #[arg(long)]
    prove: bool,
}

/// Lives seeds.
pub(crate) fn run(options: &Options) -> Outcome {
    let mut sim = command(build()?);
    if options.prove {
        sim.arg("--prove");
    } else if let Some(seed) = options.seed {
        sim.arg(format!("--seed={seed}"));
        if let Some(log) = &options.log {
            sim.arg(format!("--log={log}"));
        }
    } else if let Some(from) = options.from {
        sim.arg(format!("--from={from}"));
    } else {
        sim.arg(format!("--resume={}", home().join("next-seed").display()));
    }
    if let Some(seeds) = options.seeds {
        sim.arg(format!("--seeds={seeds}"));
    }
    go(&mut sim)
}

/// What `make test` does: the proof that it finds what it should, then lives.
pub(crate) fn stage() -> Outcome {
    let sim = build()?;
    go(command(&sim).arg("--prove"))?;
    go(command(&sim)
        .arg("--from=1")
        .arg(format!("--seeds={STAGE_SEEDS}")))
}

fn home() -> PathBuf {
    target().join("sim")
}

fn build() -> Outcome<PathBuf> {
    let mut build = cargo("build");
    build
        .args(["--locked", "--profile", "sim", "-p", "weir-sim"])
        .args(["--features", "mutants"]);
    go(&mut build)?;
    Ok(home().join("weir-sim"))
}
