//! `weir-sim`: lives of clusters, many or one; `cargo xtask sim` builds and runs it.
#![allow(
    clippy::print_stdout,
    reason = "a command for people speaks on standard output"
)]

mod child;
mod entropy;
mod lives;
mod mutants;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use weir_sim::life::live;
use weir_sim::queues::Kind;
use weir_sim::watch;

/// Lives of whole Weir clusters, each from one seed.
#[derive(Debug, Parser)]
struct Arguments {
    /// Live this seed only, and say what happens
    #[arg(long)]
    seed: Option<u64>,
    /// What the brokers say while one seed is lived (a filter as WEIR_LOG takes it)
    #[arg(long, default_value = "info,openraft=off")]
    log: String,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// How many seeds; without end unless said
    #[arg(long)]
    seeds: Option<u64>,
    /// Begin no further life after so many seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// Lives at the same time
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Keep the next seed in this file, and go on from there
    #[arg(long)]
    resume: Option<PathBuf>,
    /// Prove that a seed is the same life twice, and that every mutant is found
    #[arg(long)]
    prove: bool,
    /// Live with this defect
    #[arg(long)]
    mutant: Option<String>,
    /// Live with this kind of queue, whatever the seed says
    #[arg(long)]
    queue: Option<String>,
    /// Say only what the life came to, for the process that asked
    #[arg(long, hide = true, requires = "seed")]
    tell: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let well = match (arguments.seed, arguments.prove) {
        (_, true) => same_twice() && mutants::all_are_found(arguments.jobs),
        (Some(seed), _) => return one(seed, &arguments),
        (None, _) => lives::many(&lives::Wanted {
            from: arguments.from,
            seeds: arguments.seeds,
            seconds: arguments.seconds,
            jobs: arguments.jobs,
            resume: arguments.resume,
            with: child::With {
                mutant: arguments.mutant,
                queue: arguments.queue,
            },
        }),
    };
    ended(well)
}

fn ended(well: bool) -> ExitCode {
    if well {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn queue_kind(name: &str) -> Result<Kind, String> {
    let mut all = Kind::ALL.into_iter();
    all.find(|kind| format!("{kind:?}") == name)
        .ok_or_else(|| format!("no such queue; there are {:?}", Kind::ALL))
}

/// Lives one seed in this process.
fn one(seed: u64, arguments: &Arguments) -> ExitCode {
    if let Some(name) = &arguments.mutant
        && let Err(error) = mutants::activate(name)
    {
        eprintln!("weir-sim: {error}");
        return ExitCode::FAILURE;
    }
    let queue = match arguments.queue.as_deref().map(queue_kind).transpose() {
        Ok(queue) => queue,
        Err(error) => {
            eprintln!("weir-sim: {error}");
            return ExitCode::FAILURE;
        }
    };
    if !arguments.tell {
        watch::speak(&arguments.log);
    }
    entropy::seed(seed);
    let began = Instant::now();
    // A thread that has drawn nothing yet.
    let lived = std::thread::spawn(move || live(seed, queue));
    let Ok(verdict) = lived.join() else {
        return ExitCode::FAILURE;
    };
    if arguments.tell {
        print!("{}", child::tell(&verdict));
        return ended(verdict.wrong.is_empty());
    }
    let seconds = began.elapsed().as_secs_f64();
    println!("seed {seed}: {verdict}; {seconds:.2} s here");
    for wrong in &verdict.wrong {
        println!("  {wrong}");
    }
    ended(verdict.wrong.is_empty())
}

/// Seeds of which it is made sure that they are the same life twice.
const TWICE: std::ops::RangeInclusive<u64> = 1..=5;

fn same_twice() -> bool {
    TWICE.into_iter().all(|seed| {
        let live = || child::live(seed, &child::With::default());
        let (first, second) = (live(), live());
        let same =
            !first.hash.is_empty() && (&first.hash, first.events) == (&second.hash, second.events);
        println!(
            "seed {seed}, lived twice: {}",
            if same { "the same" } else { "not the same" }
        );
        same
    })
}
