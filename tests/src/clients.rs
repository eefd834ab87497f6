//! Where clients run: on this machine, or in a pod beside the brokers. Which one makes no difference to a story.

use crate::cluster::network::command_within;
use crate::flights::Message;
use crate::given;
use crate::log::{self, Log, Sparse};
use crate::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The folder of the Python clients.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// Far above what DNS takes to learn of a pod.
const NAMES_KNOWN: Duration = Duration::from_secs(60);

/// The time that ListOffsets takes for a partition's beginning.
const EARLIEST: i64 = -2;

/// What metadata says of a partition.
#[derive(Clone, Copy, Debug)]
pub struct Partition {
    /// The broker that leads it, if one does.
    pub leader: Option<usize>,
    /// The broker that is to lead it while all are well: its first replica's.
    pub preferred: Option<usize>,
    /// How many replicas it has.
    pub replicas: usize,
    /// How many of them are in sync.
    pub in_sync: usize,
}

/// A place that has kcat and Python with confluent-kafka.
#[derive(Clone, Debug)]
pub enum Clients {
    /// This machine.
    Here,
    /// A network namespace of this machine.
    Network {
        /// Its name.
        namespace: String,
    },
    /// A pod of the image `weir-test-clients`.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The container of such a pod on this machine, entered past Kubernetes, which may be away.
    Container {
        /// A process in it, as this machine numbers it.
        process: String,
    },
}

impl Clients {
    /// kcat, with standard input open.
    #[must_use]
    pub fn kcat(&self) -> Command {
        match self {
            Self::Here | Self::Network { .. } => self.place(Command::new("kcat")),
            Self::Pod { .. } | Self::Container { .. } => self.inside(&["kcat"]),
        }
    }

    /// One of the scripts of `tests/clients`, with standard input open.
    ///
    /// # Panics
    /// When there is no such script.
    #[must_use]
    pub fn script(&self, name: &str) -> Command {
        let file = format!("{SCRIPTS}/{name}");
        match self {
            Self::Here | Self::Network { .. } => {
                let mut python = Command::new(given::python());
                python.arg("-u").arg(file);
                self.place(python)
            }
            Self::Pod { .. } | Self::Container { .. } => {
                let source = std::fs::read_to_string(&file)
                    .unwrap_or_else(|error| panic!("{file}: {error}"));
                self.inside(&["python", "-u", "-c", &source])
            }
        }
    }

    /// Has a Kafka client configure a topic, or `group:GROUP`, as `NAME=VALUE` says; or what it is told of `NAME`.
    ///
    /// # Panics
    /// When it is refused, or nobody answers.
    #[must_use]
    pub fn config(&self, bootstrap: &str, of: &str, word: &str) -> String {
        let mut script = self.script("configs.py");
        script.args([bootstrap, of, word]).stdin(Stdio::null());
        let done = script.output().expect("it runs");
        let complaints = String::from_utf8_lossy(&done.stderr);
        assert!(
            done.status.success(),
            "configs.py {of} {word}: {complaints}"
        );
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    }

    /// The file of flights as this place sees it.
    #[must_use]
    pub fn flights(&self) -> String {
        match self {
            Self::Here | Self::Network { .. } => given::flights().display().to_string(),
            Self::Pod { .. } | Self::Container { .. } => "/flights.tsv".to_owned(),
        }
    }

    /// A program of this machine, run in this place.
    ///
    /// # Panics
    /// When this place is a pod, which has other programs.
    #[must_use]
    pub fn place(&self, command: Command) -> Command {
        match self {
            Self::Here => command,
            Self::Network { namespace } => command_within(namespace, &command),
            Self::Pod { .. } | Self::Container { .. } => {
                panic!("a pod does not have the programs of this machine")
            }
        }
    }

    fn inside(&self, words: &[&str]) -> Command {
        let (namespace, name) = match self {
            Self::Pod { namespace, name } => (namespace, name),
            Self::Container { process } => return entered(process, words),
            Self::Here | Self::Network { .. } => unreachable!("only pods have an inside"),
        };
        let mut kubectl = Command::new("kubectl");
        kubectl
            .args([
                "--namespace",
                namespace,
                "exec",
                "--stdin",
                "--quiet",
                name,
                "--",
            ])
            .args(words);
        kubectl
    }

    /// Reads a topic's log from its beginning to its end, as soon as the brokers' names are known: those of a pod that is new
    /// take DNS a moment.
    ///
    /// # Panics
    /// When kcat fails for another reason or the log has gaps.
    #[must_use]
    pub fn read_log(&self, bootstrap: &str, topic: &str) -> Log {
        let read = wait::until("the brokers' names are known", NAMES_KNOWN, || {
            let read = self.try_read(bootstrap, topic);
            let said = String::from_utf8_lossy(&read.stderr);
            let is_unknown = !read.status.success() && said.contains("resolution failure");
            (!is_unknown).then_some(read)
        });
        assert!(
            read.status.success(),
            "kcat cannot read {topic}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
        log::read(&read.stdout).unwrap_or_else(|wrong| panic!("{topic}: {wrong}"))
    }

    /// Reads what committed readers see of a topic, which may leave offsets out.
    ///
    /// # Panics
    /// When kcat fails.
    #[must_use]
    pub fn read_committed(&self, bootstrap: &str, topic: &str) -> Sparse {
        let read = self.try_read(bootstrap, topic);
        assert!(
            read.status.success(),
            "kcat cannot read {topic}: {}",
            String::from_utf8_lossy(&read.stderr)
        );
        log::read_sparse(&read.stdout).unwrap_or_else(|wrong| panic!("{topic}: {wrong}"))
    }

    /// Holds what committed readers see of a topic against the log that it is a copy of, once all of it may be seen: the marks of
    /// the last transactions may still be on their way.
    ///
    /// # Panics
    /// When it is no copy.
    pub fn holds_copy(&self, bootstrap: &str, topic: &str, original: &Log) {
        let wanted: usize = original.values().map(Vec::len).sum();
        let mut copy = Sparse::new();
        let _ = wait::poll(NAMES_KNOWN, || {
            copy = self.read_committed(bootstrap, topic);
            let copied: usize = copy.values().map(BTreeMap::len).sum();
            (copied >= wanted).then_some(())
        });
        log::is_copy(&copy, original);
    }

    fn try_read(&self, bootstrap: &str, topic: &str) -> Output {
        self.kcat()
            .args([
                "-C",
                "-q",
                "-e",
                "-b",
                bootstrap,
                "-t",
                topic,
                "-o",
                "beginning",
            ])
            .args(["-X", "isolation.level=read_committed"])
            .args(["-X", "isolation.level=read_committed"])
            .args(["-X", "check.crcs=true", "-f", "%p %o %k\\t%s\\n"])
            .stdin(Stdio::null())
            .output()
            .expect("kcat runs")
    }

    /// How many partitions of a topic have a leader, as metadata tells it; none while nobody answers or it is not there.
    #[must_use]
    pub fn partitions(&self, bootstrap: &str, topic: &str) -> usize {
        let all = self.describe(bootstrap, topic);
        all.iter().filter(|one| one.leader.is_some()).count()
    }

    /// A topic's partitions, as metadata tells of them; none while nobody answers or it is not there.
    #[must_use]
    pub fn describe(&self, bootstrap: &str, topic: &str) -> Vec<Partition> {
        let mut kcat = self.kcat();
        kcat.args([
            "-L",
            "-J",
            "-m",
            "5",
            "-b",
            bootstrap,
            "-t",
            topic,
            "-X",
            "log_level=2",
        ]);
        let Ok(answer) = kcat.stdin(Stdio::null()).output() else {
            return Vec::new();
        };
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        let partitions = answer["topics"][0]["partitions"].as_array();
        let broker = |id: &Value| id.as_u64().and_then(|id| usize::try_from(id).ok());
        let described = partitions.into_iter().flatten().map(|one| Partition {
            leader: broker(&one["leader"]),
            preferred: broker(&one["replicas"][0]["id"]),
            replicas: one["replicas"].as_array().map_or(0, Vec::len),
            in_sync: one["isrs"].as_array().map_or(0, Vec::len),
        });
        described.collect()
    }

    /// Where each partition of a topic begins; those that nobody tells of are left out.
    #[must_use]
    pub fn starts(&self, bootstrap: &str, topic: &str, partitions: usize) -> Vec<i64> {
        let mut kcat = self.kcat();
        kcat.args(["-Q", "-b", bootstrap, "-X", "log_level=2"]);
        for partition in 0..partitions {
            kcat.args(["-t", &format!("{topic}:{partition}:{EARLIEST}")]);
        }
        let Ok(answer) = kcat.stdin(Stdio::null()).output() else {
            return Vec::new();
        };
        // `TOPIC [PARTITION] offset OFFSET`
        let said = String::from_utf8_lossy(&answer.stdout).into_owned();
        let offsets = said
            .lines()
            .filter_map(|line| line.rsplit(' ').next()?.parse().ok());
        offsets.collect()
    }

    /// How many brokers metadata lists.
    #[must_use]
    pub fn brokers(&self, bootstrap: &str) -> usize {
        let mut kcat = self.kcat();
        kcat.args(["-L", "-J", "-m", "5", "-b", bootstrap, "-X", "log_level=2"]);
        let Ok(answer) = kcat.stdin(Stdio::null()).output() else {
            return 0;
        };
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        answer["brokers"].as_array().map_or(0, Vec::len)
    }

    /// Produces messages and waits until all are acknowledged.
    ///
    /// # Panics
    /// When kcat fails.
    pub fn produce(&self, bootstrap: &str, topic: &str, messages: &[Message]) {
        let mut producer = crate::producer::Kcat::start(self, bootstrap, topic);
        producer.send(messages);
        producer.finish();
    }
}

/// A command beside this process: within its namespaces, with its variables.
fn entered(process: &str, words: &[&str]) -> Command {
    let variables = std::fs::read(format!("/proc/{process}/environ"));
    let variables = variables.unwrap_or_else(|error| panic!("process {process}: {error}"));
    let variables = String::from_utf8_lossy(&variables).into_owned();
    // By its place: where it is looked for is said by the variables of the other side.
    let mut enter = Command::new("/usr/bin/nsenter");
    enter
        .args(["--target", process, "--all", "--"])
        .args(words)
        .env_clear()
        .envs(
            variables
                .split('\0')
                .filter_map(|variable| variable.split_once('=')),
        );
    enter
}
