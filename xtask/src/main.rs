//! `cargo xtask`: what is generated, built, packed and tested, beyond one cargo command.
//!
//! Compiled before anything else, so its dependencies stay few. Each subcommand is one module; [`process`] runs other
//! programs and [`paths`] says where things are.
#![allow(
    clippy::print_stdout,
    reason = "a command for people speaks on standard output"
)]

mod before;
mod bench;
mod binaries;
mod check;
mod clients;
mod compare;
mod fuzz;
mod image;
mod images;
mod kube;
mod local;
mod maven;
mod paths;
mod prerequisites;
mod process;
mod promtool;
mod sim;
mod soak;
mod table;
mod test;
mod wire;

use clap::{Parser, Subcommand};
use kube::Cluster;
use std::path::PathBuf;
use std::process::ExitCode;

/// What goes wrong in a task, as a sentence for the person who ran it.
pub(crate) type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, packs and tests Weir")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Build Weir and run the clusters that the manifests describe on this machine; ONCE=1 ends after the proof
    Run {
        /// Manifests to run instead of examples/quickstart.yaml
        files: Vec<PathBuf>,
    },
    /// Build the static release binaries
    Build,
    /// Write the container images as archives that containerd, Docker and Podman load
    Images {
        /// Write the image of the clients that the tests put into pods instead
        #[arg(long)]
        clients: bool,
    },
    /// Weir beside Apache Kafka on this machine, for docs/performance.md
    Bench(bench::Options),
    /// Formatting, lints, documentation and generated files
    Check,
    /// Fuzz the Kafka codec: frames, every message in every version, record batches
    Fuzz {
        /// For each target
        #[arg(long, default_value_t = 30)]
        seconds: u64,
        /// Merge what adds coverage into the committed corpus
        #[arg(long)]
        keep: bool,
    },
    /// Live whole clusters in one thread, each from one seed
    Sim(sim::Options),
    /// Generate the Kafka codec from broker/wire/schema
    Wire {
        /// Write nothing; fail when a committed file is stale
        #[arg(long)]
        check: bool,
        /// First take over Kafka's definitions: the folder common/message of an unpacked kafka-clients jar
        #[arg(long, conflicts_with = "check")]
        import: Option<PathBuf>,
    },
    /// Everything that `make test` does
    Test {
        /// Run these stages only (see --list)
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Print the stages and what each is for
        #[arg(long)]
        list: bool,
        /// Run only the tests whose name contains this (the stages that run tests of Rust)
        #[arg(long, default_value = "")]
        filter: String,
    },
    /// A week in an hour: every kind of client at once, while brokers are killed; then each fault for five minutes
    Soak(soak::Options),
    /// Write the tables of clients in docs/compatibility.md
    ConformanceTable {
        /// Write nothing; fail when they are stale
        #[arg(long)]
        check: bool,
    },
    /// Build the Kubernetes of the tests from its Go modules (cached by the hash of its sources)
    KubeBuild,
    /// Start a Kubernetes of three nodes on this machine (NODES, PORT and NS change it)
    KubeUp,
    /// Stop it
    KubeDown,
    /// Import image archives into every node of it
    KubeLoad {
        /// Archives, as `cargo xtask images` writes them
        #[arg(required = true)]
        archives: Vec<PathBuf>,
    },
    /// Print what a shell needs to reach it: `eval "$(cargo xtask kube-env)"`
    KubeEnv,
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().task {
        Task::Run { files } => local::run(&files),
        Task::Build => binaries::build().map(|built| println!("{built}")),
        Task::Images { clients: true } => {
            clients::write_image().map(|file| println!("{}", file.display()))
        }
        Task::Images { clients: false } => images::write_all().map(|_| ()),
        Task::Bench(options) => bench::run(options),
        Task::Check => check::run(),
        Task::Fuzz { seconds, keep } => fuzz::run(seconds, keep),
        Task::Sim(options) => sim::run(&options),
        Task::Wire {
            import: Some(definitions),
            ..
        } => wire::import(&definitions),
        Task::Wire { check, .. } => wire::run(check),
        Task::Test { list: true, .. } => {
            test::list();
            Ok(())
        }
        Task::Test { only, filter, .. } => test::run(&only, &filter),
        Task::Soak(options) => soak::run(&options),
        Task::ConformanceTable { check } => table::run(check),
        Task::KubeBuild => kube::build().map(|dir| println!("{}", dir.display())),
        Task::KubeUp => Cluster::chosen()
            .up()
            .map(|()| println!("{}", Cluster::chosen().environment())),
        Task::KubeDown => Cluster::chosen().down(),
        Task::KubeLoad { archives } => Cluster::chosen().load(&archives),
        Task::KubeEnv => {
            println!("{}", Cluster::chosen().environment());
            Ok(())
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
