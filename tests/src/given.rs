//! What `cargo xtask test` prepares and hands over in the environment.

use std::path::PathBuf;

/// The file of flights: a key, a tab and a value on each line.
#[must_use]
pub fn flights() -> PathBuf {
    path("WEIR_FLIGHTS")
}

/// A Python that has the packages of `tests/conformance/python/requirements.txt`.
#[must_use]
pub fn python() -> PathBuf {
    path("WEIR_PYTHON")
}

/// The server.
#[must_use]
pub fn broker() -> PathBuf {
    path("WEIR_BROKER_BINARY")
}

/// The operator.
#[must_use]
pub fn operator() -> PathBuf {
    path("WEIR_OPERATOR_BINARY")
}

/// Prometheus.
#[must_use]
pub fn prometheus() -> PathBuf {
    path("WEIR_PROMETHEUS")
}

/// The folder of Apache Kafka's jars: broker and clients.
#[must_use]
pub fn kafka() -> PathBuf {
    path("WEIR_KAFKA_JARS")
}

/// The folder of the jars of Apache Kafka's command-line tools.
#[must_use]
pub fn kafka_tools() -> PathBuf {
    path("WEIR_TOOLS_JARS")
}

/// The packages of `tests/conformance/node/package.json`.
#[must_use]
pub fn node_modules() -> PathBuf {
    path("WEIR_NODE_MODULES")
}

/// A folder for what suites said, to read after a run.
#[must_use]
pub fn results() -> PathBuf {
    path("WEIR_RESULTS")
}

/// The workspace's folder.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn path(variable: &str) -> PathBuf {
    match std::env::var_os(variable) {
        Some(path) => PathBuf::from(path),
        None => panic!(
            "{variable} is not set: run this test with `cargo xtask test --only conformance` or `--only kube`"
        ),
    }
}
