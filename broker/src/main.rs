//! `weir-broker`: reads its configuration, runs a broker until it is told to stop.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;
use weir_broker::certificates::{self, CertificatesOptions};
use weir_broker::config::{Config, LogFormat};
use weir_broker::metadata_files::{self, MetadataCommand};
use weir_broker::probe::messages::{self, ConsumeOptions, ProduceOptions};
use weir_broker::probe::{self, ProbeOptions};
use weir_broker::start::{OnFatal, start};

/// Exit code for a configuration that cannot be used (`EX_CONFIG`).
const EXIT_CONFIG: u8 = 78;
/// Exit code for a broker that could not come up (`EX_UNAVAILABLE`).
const EXIT_START: u8 = 69;
/// Exit code for a disk that failed (`EX_IOERR`).
const EXIT_DISK: u8 = 74;

/// A message broker that speaks Kafka's protocol.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    /// The configuration file. Every field can be overridden: `broker.id` by WEIR_BROKER_ID.
    #[arg(long, value_name = "FILE", env = "WEIR_CONFIG")]
    config: Option<PathBuf>,
    /// Only say whether the configuration can be used.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Writes messages to a cluster and reads them back.
    Probe(ProbeOptions),
    /// Writes each line of standard input as a message.
    Produce(ProduceOptions),
    /// Prints messages of a topic: partition, offset, key and value, with tabs between them.
    Consume(ConsumeOptions),
    /// Makes the certificates with which brokers prove to each other who they are, and renews those that are due.
    Certificates(CertificatesOptions),
    /// What a disk has of the cluster's metadata, and the way on when the quorum is lost.
    #[command(subcommand)]
    Metadata(MetadataCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.command {
        None => {}
        Some(Command::Probe(options)) => return run_probe(&options),
        Some(Command::Produce(options)) => {
            let input = std::io::stdin().lock();
            return report(messages::produce(&options, input).map(|count| {
                eprintln!("weir-broker: {count} messages written");
            }));
        }
        Some(Command::Consume(options)) => {
            return report(messages::consume(&options, &mut std::io::stdout().lock()));
        }
        Some(Command::Certificates(options)) => return make_certificates(&options),
        Some(Command::Metadata(command)) => {
            return report(metadata_files::run(&command, &mut std::io::stdout().lock()));
        }
    }
    let config = match Config::load(arguments.config.as_deref()).and_then(Config::checked) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("weir-broker: {error}");
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if let Err(error) = certificates::check(&config) {
        eprintln!("weir-broker: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    if arguments.check_config {
        eprintln!("weir-broker: the configuration can be used");
        return ExitCode::SUCCESS;
    }
    log_events(config.log_format);
    raise_open_files();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if config.threads.network > 0 {
        runtime.worker_threads(config.threads.network);
    }
    match runtime.enable_all().thread_name("network").build() {
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => {
            error!(%error, "threads cannot be started");
            ExitCode::from(EXIT_START)
        }
    }
}

/// Every connection and every segment of a log is an open file: as many as the system lets a process have.
fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => info!(files = ?limit.maximum, "open files at most"),
        Err(error) => warn!(%error, files = ?limit.current, "the limit of open files stays low"),
    }
}

async fn run(config: Config) -> ExitCode {
    info!(
        version = env!("CARGO_PKG_VERSION"), broker = config.broker_id, data_dir = %config.data_dir.display(), "starting"
    );
    // Before anything is open, so that no signal is ever lost.
    let (terminate, interrupt) = match (
        signal(SignalKind::terminate()),
        signal(SignalKind::interrupt()),
    ) {
        (Ok(terminate), Ok(interrupt)) => (terminate, interrupt),
        (Err(error), _) | (_, Err(error)) => {
            error!(%error, "signals cannot be received");
            return ExitCode::from(EXIT_START);
        }
    };
    let told_to_stop = told_to_stop(terminate, interrupt);
    tokio::pin!(told_to_stop);
    let on_fatal: OnFatal = Arc::new(|what| {
        // Nothing may be acknowledged, synced or tidied up after this.
        error!(what, "the process ends");
        std::process::exit(i32::from(EXIT_DISK));
    });
    let running = tokio::select! {
        started = start(config, on_fatal) => match started {
            Ok(running) => running,
            Err(error) => {
                error!(%error, "the broker cannot start");
                return ExitCode::from(EXIT_START);
            }
        },
        // Nothing is open that would have to be closed in order.
        () = &mut told_to_stop => return ExitCode::SUCCESS,
    };
    let addresses = running.addresses();
    info!(kafka = %addresses.kafka, quorum = %addresses.quorum, http = %addresses.http,
        grpc = addresses.grpc.map(tracing::field::display), "serving");
    told_to_stop.await;
    running.stop().await;
    ExitCode::SUCCESS
}

async fn told_to_stop(
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
) {
    tokio::select! {
        _ = terminate.recv() => info!("told to stop by SIGTERM"),
        _ = interrupt.recv() => info!("told to stop by SIGINT"),
    }
}

/// Events go to standard error: what, and how much, is said by `WEIR_LOG` (`info` when it says nothing; `info,weir_broker::net=debug` is a way to say more).
fn log_events(format: LogFormat) {
    // Raft's own events are many, and told again by the quorum where they matter.
    let filter = EnvFilter::try_from_env("WEIR_LOG")
        .unwrap_or_else(|_| EnvFilter::new("info,openraft=error"));
    let for_people = std::io::stderr().is_terminal();
    let events = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(for_people);
    match format {
        LogFormat::Text => events.init(),
        LogFormat::Json => events.json().flatten_event(true).init(),
    }
}

fn run_probe(options: &ProbeOptions) -> ExitCode {
    match probe::run(options) {
        Ok(summary) => {
            eprintln!(
                "weir-broker: {} messages written to {} partitions and read back in {:?}",
                summary.messages, summary.partitions, summary.took
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weir-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn report<E: std::fmt::Display>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir-broker: {error}");
            ExitCode::FAILURE
        }
    }
}

fn make_certificates(options: &CertificatesOptions) -> ExitCode {
    match certificates::make(options) {
        Ok(made) if made.is_empty() => {
            eprintln!("weir-broker: all certificates are there, and none is due");
            ExitCode::SUCCESS
        }
        Ok(made) => {
            eprintln!("weir-broker: made certificates of {}", made.join(", "));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("weir-broker: {error}");
            ExitCode::FAILURE
        }
    }
}
