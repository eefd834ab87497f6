//! The puppets that scenarios order about.

use std::process::Command;

use tempfile::TempDir;
use weir_tests::local::Local;
use weir_tests::puppet::Puppet;
use weir_tests::{given, programs};

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    /// Kafka's own.
    Java,
    /// By confluent-kafka for Python. It has no share consumer.
    Librdkafka,
    /// In Go.
    FranzGo,
    /// Generated for Python from `weir.queue.v1`.
    Grpc,
}

/// All, in the order of [`Puppets`].
pub(super) const EVERYONE: [Client; 4] = [
    Client::Java,
    Client::Librdkafka,
    Client::FranzGo,
    Client::Grpc,
];

/// Those of which each record is sent exactly once, whatever happens: idempotent producers of Kafka's protocol.
pub(super) const KAFKAS: [Client; 3] = [Client::Java, Client::Librdkafka, Client::FranzGo];

/// Those that can be members of share groups.
pub(super) const SHARERS: [Client; 3] = [Client::Java, Client::FranzGo, Client::Grpc];

impl Client {
    /// Its name in tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Java => "java",
            Self::Librdkafka => "librdkafka",
            Self::FranzGo => "franz-go",
            Self::Grpc => "grpc",
        }
    }
}

/// One of each.
#[derive(Debug)]
pub(super) struct Puppets {
    all: [Puppet; 4],
    _built: TempDir,
}

impl Puppets {
    /// Builds and starts them.
    pub(super) fn start(local: &Local) -> Self {
        let (built, bootstrap) = (tempfile::tempdir().expect("a folder"), local.bootstrap());
        let python = |script: &str| {
            let mut python = Command::new(given::python());
            python
                .arg(given::root().join("tests/clients").join(script))
                .arg(&bootstrap)
                .env("WEIR_GRPC", local.grpc(3).join(","));
            python
        };
        let mut java = programs::java("clients/java", "Puppet", &given::kafka(), built.path());
        let mut go = Command::new(programs::go("clients/go/puppet", built.path()));
        Self {
            all: [
                Puppet::start(Client::Java.name(), java.arg(&bootstrap)),
                Puppet::start(Client::Librdkafka.name(), &mut python("puppet.py")),
                Puppet::start(Client::FranzGo.name(), go.arg(&bootstrap)),
                Puppet::start(Client::Grpc.name(), &mut python("grpc_puppet.py")),
            ],
            _built: built,
        }
    }

    /// A client's.
    pub(super) fn of(&self, client: Client) -> &Puppet {
        &self.all[client as usize]
    }
}
