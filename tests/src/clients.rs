//! Where clients run: on this machine, or in a pod beside the brokers. Which one makes no difference to a story.

use crate::flights::Message;
use crate::given;
use crate::log::{self, Log};
use crate::wait;
use serde_json::Value;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

/// The folder of the Python clients.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// Far above what DNS takes to learn of a pod.
const NAMES_KNOWN: Duration = Duration::from_secs(60);

/// A place that has kcat and Python with confluent-kafka.
#[derive(Clone, Debug)]
pub enum Clients {
    /// This machine.
    Here,
    /// A pod of the image `weir-test-clients`.
    Pod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
}

impl Clients {
    /// kcat, with standard input open.
    #[must_use]
    pub fn kcat(&self) -> Command {
        match self {
            Self::Here => Command::new("kcat"),
            Self::Pod { .. } => self.inside(&["kcat"]),
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
            Self::Here => {
                let mut python = Command::new(given::python());
                python.arg("-u").arg(file);
                python
            }
            Self::Pod { .. } => {
                let source = std::fs::read_to_string(&file)
                    .unwrap_or_else(|error| panic!("{file}: {error}"));
                self.inside(&["python", "-u", "-c", &source])
            }
        }
    }

    /// The file of flights as this place sees it.
    #[must_use]
    pub fn flights(&self) -> String {
        match self {
            Self::Here => given::flights().display().to_string(),
            Self::Pod { .. } => "/flights.tsv".to_owned(),
        }
    }

    fn inside(&self, words: &[&str]) -> Command {
        let Self::Pod { namespace, name } = self else {
            unreachable!("only pods have an inside")
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
            .args(["-X", "check.crcs=true", "-f", "%p %o %k\\t%s\\n"])
            .stdin(Stdio::null())
            .output()
            .expect("kcat runs")
    }

    /// How many partitions of a topic have a leader, as metadata tells it; none while nobody answers or it is not there.
    #[must_use]
    pub fn partitions(&self, bootstrap: &str, topic: &str) -> usize {
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
            return 0;
        };
        let answer: Value = serde_json::from_slice(&answer.stdout).unwrap_or_default();
        let partitions = answer["topics"][0]["partitions"].as_array();
        let leaders = partitions
            .into_iter()
            .flatten()
            .filter(|one| one["leader"].as_i64().is_some_and(|id| id >= 0));
        leaders.count()
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
