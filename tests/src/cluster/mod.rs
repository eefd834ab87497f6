//! A cluster of real broker processes, each in a network namespace of its own, that a test does things to.
//!
//! `faults` and `soak` use it. There is no operator: the test starts what it has killed.

mod delay;
mod disk;
pub mod network;
mod process;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crate::clients::Clients;
use crate::given;
use crate::wait;
use delay::Delay;
use network::{Network, Node};
use process::Process;
use tempfile::TempDir;

/// How long a cluster may take to serve.
const LIMIT: Duration = Duration::from_secs(60);

/// Ports are the same everywhere, since each broker has its own address.
const KAFKA: u16 = 9092;
const QUORUM: u16 = 9094;

/// What a cluster is made of.
#[derive(Clone, Copy, Debug)]
pub struct Shape<'a> {
    /// How many brokers.
    pub brokers: usize,
    /// How large each broker's disk is, if it has a file system of its own.
    pub disk_bytes: Option<u64>,
    /// Further lines of each broker's configuration.
    pub settings: &'a str,
}

/// A topic to be made.
#[derive(Clone, Copy, Debug)]
pub struct Topic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions it has.
    pub partitions: usize,
    /// Its configuration.
    pub configs: &'a [(&'a str, &'a str)],
}

/// A running cluster; all ends with it.
#[derive(Debug)]
pub struct Cluster {
    delays: BTreeMap<usize, Delay>,
    // In this order: processes end before their namespaces do.
    processes: Vec<Process>,
    network: Network,
    folder: Option<TempDir>,
    clients: Clients,
}

impl Cluster {
    /// Starts brokers and waits until all of them are in the cluster.
    ///
    /// # Panics
    /// When they do not, or this machine lacks something for it.
    #[must_use]
    pub fn start(shape: Shape<'_>) -> Self {
        let network = Network::new(shape.brokers);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let certificates = folder.path().join("tls");
        let made = Command::new(given::broker())
            .args(["certificates", "--cluster", "proving", "--brokers"])
            .arg(shape.brokers.to_string())
            .arg("--dir")
            .arg(&certificates)
            .output()
            .expect("weir-broker runs");
        assert!(
            made.status.success(),
            "weir-broker certificates: {}",
            String::from_utf8_lossy(&made.stderr)
        );
        let processes = (0..shape.brokers)
            .map(|number| {
                let data = Process::data(folder.path(), number);
                let config = config(shape, number, &data, &certificates);
                let namespace = network.namespace(Node::Broker(number));
                Process::new(number, namespace, folder.path(), shape.disk_bytes, &config)
            })
            .collect();
        let clients = Clients::Network {
            namespace: network.namespace(Node::Clients),
        };
        let mut cluster = Self {
            delays: BTreeMap::new(),
            processes,
            network,
            folder: Some(folder),
            clients,
        };
        cluster.start_all();
        wait::until("all brokers are in the cluster", LIMIT, || {
            cluster.check_alive();
            let there = cluster.clients.brokers(&cluster.bootstrap());
            (there == shape.brokers).then_some(())
        });
        cluster
    }

    /// How many brokers there are.
    #[must_use]
    pub fn brokers(&self) -> usize {
        self.processes.len()
    }

    /// Where clients connect.
    #[must_use]
    pub fn bootstrap(&self) -> String {
        let addresses: Vec<_> = (0..self.brokers()).map(address).collect();
        addresses.join(",")
    }

    /// Where clients run.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// The cuts that can be made.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// Makes topics and waits until each partition is in sync everywhere.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn create(&self, topics: &[Topic<'_>]) {
        let mut script = self.clients.script("topics.py");
        script.arg(self.bootstrap());
        for topic in topics {
            let configs: String = topic
                .configs
                .iter()
                .map(|(name, value)| format!(":{name}={value}"))
                .collect();
            script.arg(format!("{}:{}{configs}", topic.name, topic.partitions));
        }
        let made = script.status().expect("python runs");
        assert!(made.success(), "topics are made");
        for topic in topics {
            self.wait_for_sync(topic.name, topic.partitions);
        }
    }

    /// Waits until all replicas of a topic are in sync, as every broker sees it: one that was cut off may not know yet that it is not.
    ///
    /// # Panics
    /// When it takes too long.
    pub fn wait_for_sync(&self, topic: &str, partitions: usize) {
        let replicas = self.brokers().min(3);
        let mut last = Vec::new();
        let found = wait::poll(LIMIT, || {
            (0..self.brokers())
                .all(|broker| {
                    last = self.clients.describe(&address(broker), topic);
                    let in_sync = last.iter().filter(|one| one.in_sync == replicas);
                    in_sync.count() == partitions
                })
                .then_some(())
        });
        assert!(
            found.is_some(),
            "not all replicas of {topic} are in sync: {last:?}"
        );
    }

    /// Starts the brokers that do not run.
    pub fn start_all(&mut self) {
        for process in self.processes.iter_mut().filter(|one| one.id().is_none()) {
            process.start();
        }
    }

    /// `kill -9` of these brokers, then of nothing else until they are gone.
    pub fn kill(&mut self, brokers: &[usize]) {
        for broker in brokers {
            self.processes[*broker].signal("KILL");
        }
        for broker in brokers {
            self.processes[*broker].kill();
        }
    }

    /// Sends a broker a signal, by its name.
    pub fn signal(&self, broker: usize, signal: &str) {
        self.processes[broker].signal(signal);
    }

    /// An empty disk for a broker that does not run.
    pub fn wipe(&self, broker: usize) {
        self.processes[broker].wipe();
    }

    /// Takes all room on a broker's disk.
    pub fn fill_disk(&self, broker: usize) {
        self.processes[broker].fill_disk();
    }

    /// Gives it back.
    pub fn make_room(&self, broker: usize) {
        self.processes[broker].make_room();
    }

    /// Lets everything between a broker and everybody else take so much longer, each way.
    pub fn delay(&mut self, broker: usize, later: Duration) {
        let node = Node::Broker(broker);
        let delay = Delay::start(&self.network, node, &[KAFKA, QUORUM], later);
        self.delays.insert(broker, delay);
    }

    /// Takes all cuts and delays away.
    pub fn mend_network(&mut self) {
        self.network.mend();
        self.delays.clear();
    }

    /// Whether this broker's process has ended by itself.
    pub fn has_ended(&mut self, broker: usize) -> bool {
        self.processes[broker].has_ended()
    }

    /// That no broker ended by itself.
    ///
    /// # Panics
    /// When one did.
    pub fn check_alive(&mut self) {
        for (number, process) in self.processes.iter_mut().enumerate() {
            let ran = process.id().is_some();
            assert!(
                !(ran && process.has_ended()),
                "broker {number} ended by itself; it said:\n{}",
                process.last_words()
            );
        }
    }

    /// Bytes of memory that a broker has now, if it runs.
    #[must_use]
    pub fn memory_bytes(&self, broker: usize) -> Option<u64> {
        self.processes[broker].memory_bytes()
    }

    /// The process id of a broker that runs.
    #[must_use]
    pub fn process(&self, broker: usize) -> Option<u32> {
        self.processes[broker].id()
    }

    /// Where everything is kept.
    ///
    /// # Panics
    /// Never: it is kept until the cluster ends.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.folder.as_ref().expect("kept").path().to_owned()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        for (number, process) in self.processes.iter().enumerate() {
            eprintln!(
                "---- the last words of broker {number}:\n{}",
                process.last_words()
            );
        }
        if let Some(folder) = self.folder.take() {
            eprintln!("---- all of it stays in {}", folder.keep().display());
        }
    }
}

fn address(broker: usize) -> String {
    format!("{}:{KAFKA}", Node::Broker(broker).address())
}

fn config(
    shape: Shape<'_>,
    number: usize,
    data: &std::path::Path,
    certificates: &std::path::Path,
) -> String {
    let own = Node::Broker(number).address();
    let (data, tls) = (data.display(), certificates.display());
    let brokers = shape.brokers;
    let mut text = format!(
        "cluster: {{ name: proving, brokers: {brokers} }}\n\
         broker: {{ id: {number} }}\n\
         data_dir: {data}\n\
         listeners:\n\
         \x20 kafka: {{ bind: \"{own}:{KAFKA}\", advertised: \"{own}:{KAFKA}\" }}\n\
         \x20 quorum:\n\
         \x20   bind: \"{own}:{QUORUM}\"\n\
         \x20   advertised: \"{own}:{QUORUM}\"\n\
         \x20   tls: {{ ca: \"{tls}/ca.crt\", certificate: \"{tls}/broker-{number}.crt\", key: \"{tls}/broker-{number}.key\" }}\n\
         \x20 http: {{ bind: \"{own}:9600\" }}\n\
         peers:\n"
    );
    for peer in 0..brokers {
        let _ = writeln!(text, "  - \"{}:{QUORUM}\"", Node::Broker(peer).address());
    }
    text + shape.settings
}
