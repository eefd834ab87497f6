//! Everything that clients do, and the verdict over what they were told.
//!
//! | Topic | Written by | What is judged |
//! |---|---|---|
//! | `orders` | librdkafka | all there once, in order; read by a classic group and one of KIP-848, copied by transactions |
//! | `copies` | Kafka's Java clients, in transactions | a copy of `orders` |
//! | `latest` | franz-go | compacted: of each key the last value, or nothing where it was deleted |
//! | `passing` | Kafka's Java client | short retention: what is left is the end of what was written, without a gap |
//! | `jobs` | franz-go | each taken by a share group, and none confirmed twice |

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;
use weir_tests::clients::Clients;
use weir_tests::cluster::{Cluster, Topic};
use weir_tests::copier::Copier;
use weir_tests::load::{Acknowledged, Load};
use weir_tests::log::Sparse;
use weir_tests::random::Random;
use weir_tests::readers::Readers;
use weir_tests::sharers::Sharers;
use weir_tests::{compacted, flights, given, log, numbered, programs, story, wait};

/// Partitions of each topic.
const PARTITIONS: usize = 6;

/// Messages each second from each producer. In an hour that is nearly a million each, all of which the test remembers.
const RATE: u32 = 250;

/// Members of each group at most.
const MEMBERS_MAX: u64 = 4;

/// How long any step may take.
const LIMIT: Duration = Duration::from_secs(120);

/// Messages of each partition that say that it goes on.
const MORE: u64 = 10;

/// librdkafka's patience.
const PATIENCE: [&str; 3] = [
    "socket.timeout.ms=10000",
    "request.timeout.ms=10000",
    "socket.connection.setup.timeout.ms=1000",
];

/// A group of librdkafka with how many members it is meant to have.
struct Group {
    readers: Readers,
    members: u64,
}

impl Group {
    fn churn(&mut self, random: &mut Random) {
        let joins = self.members == 1 || (self.members < MEMBERS_MAX && random.between(0, 2) == 0);
        if joins {
            self.readers.join();
            self.members += 1;
        } else {
            self.readers.leave();
            self.members -= 1;
        }
    }
}

/// All clients.
pub(crate) struct Loads {
    orders: Load,
    latest: Load,
    passing: Load,
    jobs: Load,
    groups: Vec<Group>,
    copier: Copier,
    sharers: Sharers,
    /// What was built for them.
    _built: TempDir,
}

impl Loads {
    /// Makes the topics, starts the clients, and waits until all of them are at work.
    pub(crate) fn start(cluster: &Cluster, is_long: bool) -> Self {
        make_topics(cluster, is_long);
        let (clients, bootstrap) = (cluster.clients(), cluster.bootstrap());
        let built = tempfile::tempdir().expect("a temporary folder");
        let java = |main: &str, arguments: &[&str]| {
            let mut java = programs::java("clients/java", main, &given::kafka(), built.path());
            java.arg(&bootstrap).args(arguments);
            clients.place(java)
        };
        let go = programs::go("clients/go/load", built.path());
        let go = |topic: &str, kind: &str| {
            let mut go = Command::new(&go);
            go.args([&bootstrap, topic, kind]);
            clients.place(go)
        };
        let mut python = clients.script("producer.py");
        python
            .args([&bootstrap, "orders", &clients.flights()])
            .args(PATIENCE);
        let group = |name: &str, property: &str| Group {
            readers: Readers::start(clients, &bootstrap, "orders", name, 2, &[property]),
            members: 2,
        };
        let loads = Self {
            orders: Load::start("orders", python, RATE),
            latest: Load::start("latest", go("latest", "keyed"), RATE),
            passing: Load::start("passing", java("Produce", &["passing"]), RATE),
            jobs: Load::start("jobs", go("jobs", "numbered"), RATE),
            groups: vec![
                group("classic", "session.timeout.ms=45000"),
                group("next", "group.protocol=consumer"),
            ],
            copier: Copier::start(java("Copy", &["orders", "copies", "consumer", "2"])),
            sharers: Sharers::start(java("Share", &["jobs", "workers", "3"])),
            _built: built,
        };
        loads.go_on();
        for group in &loads.groups {
            wait::until("both groups read", LIMIT, || {
                (group.readers.owned() == PARTITIONS && group.readers.seen() > 0).then_some(())
            });
        }
        loads.copier.wait_until_begun();
        println!("  producers, groups, copiers and a share group are at work");
        loads
    }

    fn producers(&self) -> [&Load; 4] {
        [&self.orders, &self.latest, &self.passing, &self.jobs]
    }

    /// Somebody joins or leaves each group. The share group's members do so by themselves.
    pub(crate) fn churn(&mut self, random: &mut Random) {
        self.groups.iter_mut().for_each(|group| group.churn(random));
    }

    /// Waits until every producer goes on, in all its partitions.
    pub(crate) fn go_on(&self) {
        let marks = self.producers().map(Load::mark);
        for (load, mark) in self.producers().into_iter().zip(&marks) {
            load.wait_for(mark, MORE, PARTITIONS, LIMIT, "brokers were killed");
        }
    }

    /// Waits until all replicas are in sync.
    pub(crate) fn wait_for_sync(&self, cluster: &Cluster) {
        for topic in ["orders", "copies", "latest", "passing", "jobs"] {
            cluster.wait_for_sync(topic, PARTITIONS);
        }
    }

    /// What was silent before now does not count.
    pub(crate) fn forget_silence(&self) {
        for load in self.producers() {
            let _ = load.longest_silence();
        }
    }

    /// How long each producer's most silent partition was.
    pub(crate) fn silence(&self) -> String {
        let told = self.producers().map(|load| {
            let longest = load.longest_silence().as_secs_f64();
            format!("{longest:.1} s ({})", load.name())
        });
        told.join(", ")
    }

    /// That all clients are content.
    pub(crate) fn check_alive(&mut self) {
        self.producers().iter().for_each(|load| load.check_alive());
        for group in &mut self.groups {
            group.readers.check_alive();
        }
        self.copier.check_alive();
        self.sharers.check_alive();
    }

    /// Lets all clients end, and holds what they were told against what is there.
    pub(crate) fn finish(self, cluster: &Cluster) {
        let (clients, bootstrap) = (cluster.clients(), cluster.bootstrap());
        // While it is written to: retention looks twice a minute, and what it leaves has to be the end.
        wait::until(
            "retention has deleted something of each partition",
            LIMIT,
            || {
                let starts = clients.starts(&bootstrap, "passing", PARTITIONS);
                (starts.len() == PARTITIONS && starts.iter().all(|start| *start > 0)).then_some(())
            },
        );
        let [orders, latest, passing, jobs] =
            [self.orders, self.latest, self.passing, self.jobs].map(Load::finish);
        let original = clients.read_log(&bootstrap, "orders");
        log::holds_acknowledged(&original, &orders);
        log::holds_in_order(&original);
        log::holds_each_once(&original, &flights::all(), orders.len());
        println!("  orders: {}, each there once, in order", orders.len());

        for group in self.groups {
            wait::until("a group has read everything", LIMIT, || {
                (group.readers.seen() >= orders.len()).then_some(())
            });
            let history = group.readers.stop();
            story::saw_the_log(&history, &original);
            println!("  a group saw all of it, {} twice", history.repeats());
        }
        let transactions = self.copier.finish();
        clients.holds_copy(&bootstrap, "copies", &original);
        println!(
            "  copies: in {} transactions, {} aborted",
            transactions.committed, transactions.aborted
        );
        judge_latest(clients, &bootstrap, &latest);
        judge_passing(clients, &bootstrap, &passing);

        let records: BTreeSet<_> = jobs.values().copied().collect();
        wait::until("the share group has acknowledged everything", LIMIT, || {
            (self.sharers.left_of(&records) == 0).then_some(())
        });
        let (confirmed, unknown) = self.sharers.stop(&records);
        println!("  jobs: {confirmed} confirmed once, of {unknown} nobody knows");
    }
}

fn make_topics(cluster: &Cluster, is_long: bool) {
    let (kept_ms, segment_ms) = if is_long {
        ("60000", "10000")
    } else {
        ("8000", "2000")
    };
    let compacted = [
        ("cleanup.policy", "compact"),
        ("segment.ms", "5000"),
        ("segment.bytes", "100000"),
        ("min.cleanable.dirty.ratio", "0.1"),
        ("delete.retention.ms", "1000"),
    ];
    let passing = [("retention.ms", kept_ms), ("segment.ms", segment_ms)];
    let topic = |name, configs| Topic {
        name,
        partitions: PARTITIONS,
        configs,
    };
    cluster.create(&[
        topic("orders", &[]),
        topic("copies", &[]),
        topic("latest", &compacted),
        topic("passing", &passing),
        topic("jobs", &[]),
    ]);
}

/// Once compaction has taken something away, what it left is right.
fn judge_latest(clients: &Clients, bootstrap: &str, acknowledged: &Acknowledged) {
    wait::until("compaction has removed something", LIMIT, || {
        let log = clients.read_committed(bootstrap, "latest");
        let left = compacted::holds_the_last(&log, acknowledged)
            .unwrap_or_else(|wrong| panic!("latest: {wrong}"));
        let written = acknowledged.len();
        (left < written).then(|| println!("  latest: {left} left of {written}"))
    });
}

/// What is left is everything from some offset on.
fn judge_passing(clients: &Clients, bootstrap: &str, acknowledged: &Acknowledged) {
    let log: Sparse = clients.read_committed(bootstrap, "passing");
    let mut written: BTreeMap<i32, BTreeMap<i64, usize>> = BTreeMap::new();
    for (number, (partition, offset)) in acknowledged {
        written
            .entry(*partition)
            .or_default()
            .insert(*offset, *number);
    }
    let mut left = 0;
    for (partition, records) in &log {
        let Some(first) = records.keys().next() else {
            continue;
        };
        for (offset, number) in written[partition].range(first..) {
            assert_eq!(
                records.get(offset),
                Some(&numbered::plain(*number)),
                "passing: message {number}, acknowledged at {partition}:{offset}, behind the first that is left, {first}"
            );
            left += 1;
        }
    }
    assert_eq!(
        log.values().map(BTreeMap::len).sum::<usize>(),
        left,
        "passing: what is left and what was written"
    );
    println!("  passing: {left} left of {}", acknowledged.len());
}
