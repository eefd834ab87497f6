//! The command line.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use tracing_subscriber::EnvFilter;
use weir_operator::kubectl::Kubectl;
use weir_operator::{kubernetes, local, plan};

/// Weir: a Kafka-compatible broker that lives in Kubernetes.
#[derive(Debug, Parser)]
#[command(name = "weir-operator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch a Kubernetes cluster and act.
    Run(Run),
    /// Print what would be done for some manifests.
    Plan(Plan),
    /// Run the clusters of some manifests as processes on this machine.
    Local(Local),
    /// What `kubectl weir` does: look at clusters, change them through their resources, read and write messages.
    Kubectl(Kubectl),
}

/// The same as a plugin: a link to this program by the name `kubectl-weir`, somewhere in PATH.
#[derive(Debug, Parser)]
#[command(name = "kubectl weir", bin_name = "kubectl weir", version)]
struct Plugin {
    #[command(flatten)]
    asked: Kubectl,
}

/// The name of the link.
const PLUGIN: &str = "kubectl-weir";

/// Reads the command line, by whichever name the program was called.
pub(crate) fn parse() -> Command {
    let called = std::env::args_os().next().map(PathBuf::from);
    let name = called.as_deref().and_then(std::path::Path::file_stem);
    match name == Some(PLUGIN.as_ref()) {
        true => Command::Kubectl(Plugin::parse().asked),
        false => Cli::parse().command,
    }
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Namespaces to work in, separated by commas [default: all].
    #[arg(long = "namespace", env = "WEIR_NAMESPACES", value_delimiter = ',')]
    namespaces: Vec<String>,
    /// Image of the brokers when a Cluster names neither image nor version.
    #[arg(long, env = "WEIR_BROKER_IMAGE", default_value = concat!("weir-broker:", env!("CARGO_PKG_VERSION")))]
    broker_image: String,
    /// Where metrics and health are served.
    #[arg(long, env = "WEIR_HTTP_BIND", default_value = "0.0.0.0:9600")]
    http_bind: SocketAddr,
    /// Namespace of the lease [default: the pod's, or the kubeconfig's].
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Name of this process in the lease and in events [default: host name and process id].
    #[arg(long, env = "POD_NAME")]
    identity: Option<String>,
    /// How events are written to standard error.
    #[arg(long, env = "WEIR_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// Manifests; `-` reads standard input.
    #[arg(short, long = "file", required = true, num_args = 1..)]
    pub(crate) files: Vec<PathBuf>,
    /// Compare with nothing instead of the cluster of the current kubeconfig.
    #[arg(long)]
    offline: bool,
    /// Namespace of manifests that name none [default: the kubeconfig's, or `default`].
    #[arg(short, long)]
    namespace: Option<String>,
    /// Image of the brokers when a Cluster names neither image nor version.
    #[arg(long, env = "WEIR_BROKER_IMAGE", default_value = concat!("weir-broker:", env!("CARGO_PKG_VERSION")))]
    broker_image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Local {
    /// Manifests; they are followed as they change.
    #[arg(short, long = "file", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// Where the brokers keep their data.
    #[arg(long, env = "WEIR_LOCAL_DATA", default_value = ".weir")]
    data_dir: PathBuf,
    /// The broker's program [default: `weir-broker` beside this program, or in PATH].
    #[arg(long, env = "WEIR_BROKER_BINARY")]
    broker_binary: Option<PathBuf>,
    /// Kafka port of the first broker; each further one takes the next port.
    #[arg(long, env = "WEIR_PORT_BASE", default_value_t = 9092)]
    port_base: u16,
    /// Stop with exit code 0 once messages have been written and read back.
    #[arg(long, env = "ONCE", value_parser = clap::builder::FalseyValueParser::new())]
    once: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object for each event.
    Json,
    /// Warnings only, for people.
    Quiet,
}

impl Run {
    pub(crate) fn into_options(self) -> kubernetes::Options {
        kubernetes::Options {
            namespaces: self.namespaces,
            broker_image: self.broker_image,
            http: self.http_bind,
            lease_namespace: self.lease_namespace,
            // A pod's name can come back with another process of the same StatefulSet or host: the suffix makes it this one's.
            identity: format!(
                "{}_{}",
                self.identity.unwrap_or_else(host_name),
                uuid::Uuid::new_v4().simple()
            ),
        }
    }
}

impl Plan {
    pub(crate) fn target(&self) -> plan::Target {
        plan::Target {
            offline: self.offline,
            namespace: self.namespace.clone(),
            broker_image: self.broker_image.clone(),
        }
    }
}

impl Local {
    pub(crate) fn into_options(self) -> local::Options {
        local::Options {
            files: self.files,
            data_dir: self.data_dir,
            broker_binary: self.broker_binary,
            port_base: self.port_base,
            once: self.once,
        }
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

pub(crate) fn log_to_stderr(format: LogFormat) {
    let default = if format == LogFormat::Quiet {
        "warn"
    } else {
        "info"
    };
    let filter = EnvFilter::try_from_env("WEIR_LOG").unwrap_or_else(|_| EnvFilter::new(default));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().init(),
        LogFormat::Text | LogFormat::Quiet => builder.init(),
    }
}

/// Completes at Ctrl-C or when the process is asked to end.
pub(crate) async fn stop_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

/// The reason for a failure, on standard error.
pub(crate) fn complain(error: &str) {
    // When even standard error is closed there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "weir-operator: {error}");
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::{Cli, Plugin};

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
        Plugin::command().debug_assert();
    }

    #[test]
    fn the_plugin_and_the_subcommand_take_the_same() {
        for words in [
            "status",
            "plan shop --namespace market",
            "drain shop 3",
            "restart shop",
            "lag",
            "lag --cluster shop",
            "reset-offsets billing --shift -5 --topic orders --partition 3",
            "reset-offsets billing --to earliest --execute --request-id again",
            "produce shop orders",
            "consume shop orders --from beginning --max 3",
            "trace orders --offset 3:1201",
            "trace orders --cluster shop --key k -o json",
            "trace orders --id a-1",
            "redrive dlq.orders",
            "redrive dlq.orders --cluster shop --filter true --execute",
            "redrive dlq.orders --from 3:1201 --remove --execute",
        ] {
            let words: Vec<&str> = words.split(' ').collect();
            let plugin = [&["kubectl-weir"], words.as_slice()].concat();
            let subcommand = [&["weir-operator", "kubectl"], words.as_slice()].concat();
            assert!(Plugin::try_parse_from(plugin).is_ok(), "{words:?}");
            assert!(Cli::try_parse_from(subcommand).is_ok(), "{words:?}");
        }
        assert!(
            Plugin::try_parse_from(["kubectl-weir", "lag", "a", "--cluster", "b"]).is_err(),
            "one of the two"
        );
        for words in [
            "trace orders",
            "trace orders --key k --id i",
            "trace orders --offset 3",
        ] {
            let words = words.split(' ');
            let plugin = std::iter::once("kubectl-weir").chain(words);
            assert!(Plugin::try_parse_from(plugin).is_err(), "one of the three");
        }
        let filtered = ["kubectl-weir", "redrive", "d", "--filter", "true"];
        let removed = filtered.iter().chain(&["--remove"]);
        assert!(
            Plugin::try_parse_from(removed).is_err(),
            "what does not match would be lost"
        );
    }
}
