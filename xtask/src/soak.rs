//! `make soak`: `tests/soak` for an hour, then `tests/faults` with five minutes for each fault. Both are stages of `make test` in short.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::test::{Tally, on_brokers};
use crate::{Outcome, process};

/// How it is run.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// For how long; from 20 on, memory is judged
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=10_080))]
    minutes: u64,
    /// How long each fault lasts afterwards, in seconds; 0 leaves them out
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    fault_seconds: u64,
    /// Makes the choices of an earlier run again
    #[arg(long)]
    seed: Option<u64>,
}

/// The short form.
pub(crate) fn stage(filter: &str, tally: &mut Tally) -> Outcome {
    tally.tests(&mut on_brokers("soak", filter)?)
}

/// The long form. A run that fails says how to run it again.
pub(crate) fn run(options: &Options) -> Outcome {
    let seed = options.seed.unwrap_or_else(|| {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.unwrap_or(Duration::ZERO).as_secs() % 1_000_000
    });
    let again = |minutes: u64, fault_seconds: u64| {
        format!(
            "to run it again: cargo xtask soak --minutes {minutes} --fault-seconds {fault_seconds} --seed {seed}"
        )
    };
    process::run(
        on_brokers("soak", "")?
            .env("WEIR_SOAK_SECONDS", (options.minutes * 60).to_string())
            .env("WEIR_SEED", seed.to_string()),
    )
    .map_err(|error| format!("{error}\n{}", again(options.minutes, 0)))?;
    if options.fault_seconds > 0 {
        process::run(
            on_brokers("faults", "")?
                .env("WEIR_FAULT_SECONDS", options.fault_seconds.to_string())
                .env("WEIR_SEED", seed.to_string()),
        )
        .map_err(|error| format!("{error}\n{}", again(1, options.fault_seconds)))?;
    }
    Ok(())
}
