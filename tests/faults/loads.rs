//! The clients that go on meanwhile, and the verdict over what they were told.

use std::collections::BTreeMap;
use std::time::Duration;

use tempfile::TempDir;
use weir_tests::cluster::{Cluster, Topic};
use weir_tests::copier::Copier;
use weir_tests::load::Load;
use weir_tests::random::Random;
use weir_tests::readers::Readers;
use weir_tests::{flights, given, log, numbered, programs, story, wait};

/// Messages each second from each producer: enough that each partition has some every tenth of a second.
const RATE: u32 = 300;

/// Topics and how many partitions each has; a producer has the topic of its name.
const TOPICS: [(&str, usize); 4] = [
    ("librdkafka", 6),
    ("java", 4),
    ("franz-go", 4),
    ("copies", 6),
];

/// librdkafka's patience: brokers are frozen and cut off, and a client is to look elsewhere within seconds.
const PATIENCE: [&str; 3] = [
    "socket.timeout.ms=2500",
    "request.timeout.ms=2500",
    "socket.connection.setup.timeout.ms=1000",
];

/// All clients.
pub(crate) struct Loads {
    producers: Vec<Load>,
    readers: Readers,
    copier: Copier,
    /// What was built for them.
    _built: TempDir,
}

impl Loads {
    /// Makes the topics, starts the clients, and waits until all of them are at work.
    pub(crate) fn start(cluster: &Cluster, random: &mut Random) -> Self {
        cluster.create(&TOPICS.map(|(name, partitions)| Topic {
            name,
            partitions,
            configs: &[],
        }));
        let (clients, bootstrap) = (cluster.clients(), cluster.bootstrap());
        let built = tempfile::tempdir().expect("a temporary folder");
        let java = |main: &str| programs::java("clients/java", main, &given::kafka(), built.path());

        let mut python = clients.script("producer.py");
        python
            .args([&bootstrap, "librdkafka", &clients.flights()])
            .args(PATIENCE);
        let mut produce = java("Produce");
        produce.args([&bootstrap, "java"]);
        let mut go = std::process::Command::new(programs::go("clients/go/load", built.path()));
        go.args([&bootstrap, "franz-go", "numbered"]);
        let mut copy = java("Copy");
        let protocol = ["classic", "consumer"][usize::from(random.between(0, 2) == 1)];
        copy.args([&bootstrap, "librdkafka", "copies", protocol, "2"]);
        let producers = vec![
            Load::start("librdkafka", python, RATE),
            Load::start("java", clients.place(produce), RATE),
            Load::start("franz-go", clients.place(go), RATE),
        ];
        let readers = Readers::start(
            clients,
            &bootstrap,
            "librdkafka",
            "readers",
            2,
            &["session.timeout.ms=45000"],
        );
        let copier = Copier::start(clients.place(copy));
        let mut loads = Self {
            producers,
            readers,
            copier,
            _built: built,
        };
        loads.go_on(1, None, Duration::from_secs(60), "nothing has happened yet");
        wait::until("the group reads", Duration::from_secs(60), || {
            (loads.readers.owned() == TOPICS[0].1 && loads.readers.seen() > 0).then_some(())
        });
        loads.copier.wait_until_begun();
        println!("  three producers, readers, and copiers ({protocol} group) are at work");
        loads
    }

    /// How many partitions of each producer's topic are led by others than this broker.
    pub(crate) fn led_elsewhere(
        &self,
        cluster: &Cluster,
        broker: usize,
    ) -> BTreeMap<String, usize> {
        let of = |topic: &str| {
            let all = cluster.clients().describe(&cluster.bootstrap(), topic);
            all.iter()
                .filter(|one| one.leader.is_some_and(|leader| leader != broker))
                .count()
        };
        self.producers
            .iter()
            .map(|load| (load.name().to_owned(), of(load.name())))
            .collect()
    }

    /// Waits until every partition of the producers is led by whoever is to lead it, so that none changes hands by itself.
    pub(crate) fn wait_for_preferred(&self, cluster: &Cluster) {
        for load in &self.producers {
            wait::until("whoever is to lead leads", Duration::from_secs(60), || {
                let all = cluster
                    .clients()
                    .describe(&cluster.bootstrap(), load.name());
                let is_led = all.iter().all(|one| one.leader == one.preferred);
                (is_led && !all.is_empty()).then_some(())
            });
        }
    }

    /// Waits until every producer goes on: so many more messages of all its partitions, or of as many as are told.
    pub(crate) fn go_on(
        &mut self,
        more: u64,
        partitions: Option<&BTreeMap<String, usize>>,
        limit: Duration,
        when: &str,
    ) {
        let marks: Vec<_> = self.producers.iter().map(Load::mark).collect();
        for (load, mark) in self.producers.iter().zip(&marks) {
            let all = TOPICS.iter().find(|(name, _)| *name == load.name());
            let (_, all) = all.expect("each producer has a topic");
            let wanted = partitions.map_or(*all, |some| some[load.name()]);
            load.wait_for(mark, more, wanted, limit, when);
        }
        self.check_alive();
    }

    /// That all clients are content.
    pub(crate) fn check_alive(&mut self) {
        self.producers.iter().for_each(Load::check_alive);
        self.readers.check_alive();
        self.copier.check_alive();
    }

    /// What was silent before now does not count.
    pub(crate) fn forget_silence(&self) {
        self.producers.iter().for_each(|load| {
            let _ = load.longest_silence();
        });
    }

    /// How long each producer's most silent partition was.
    pub(crate) fn silence(&self) -> String {
        let told = self.producers.iter().map(|load| {
            format!(
                "{:.1} s ({})",
                load.longest_silence().as_secs_f64(),
                load.name()
            )
        });
        told.collect::<Vec<_>>().join(", ")
    }

    /// Waits until all replicas are in sync.
    pub(crate) fn wait_for_sync(&self, cluster: &Cluster) {
        for (topic, partitions) in TOPICS {
            cluster.wait_for_sync(topic, partitions);
        }
    }

    /// Lets all clients end, and holds what they were told against what is there.
    pub(crate) fn finish(self, cluster: &Cluster) {
        let (clients, bootstrap) = (cluster.clients(), cluster.bootstrap());
        let mut sent = BTreeMap::new();
        for load in self.producers {
            let name = load.name().to_owned();
            let acknowledged = load.finish();
            let log = clients.read_log(&bootstrap, &name);
            log::holds_acknowledged(&log, &acknowledged);
            log::holds_in_order(&log);
            match name.as_str() {
                "librdkafka" => log::holds_each_once(&log, &flights::all(), acknowledged.len()),
                _ => log::holds_each_of(&log, acknowledged.len(), numbered::plain),
            }
            sent.insert(name, acknowledged.len());
        }
        let original = clients.read_log(&bootstrap, "librdkafka");
        wait::until(
            "the group has read everything",
            Duration::from_secs(60),
            || (self.readers.seen() >= sent["librdkafka"]).then_some(()),
        );
        let history = self.readers.stop();
        story::saw_the_log(&history, &original);
        let transactions = self.copier.finish();
        clients.holds_copy(&bootstrap, "copies", &original);
        assert!(transactions.committed > 0, "nothing was committed");
        println!("  sent and there once, in order: {sent:?}");
        println!(
            "  read by the group, {} twice; copied in {} transactions, {} aborted",
            history.repeats(),
            transactions.committed,
            transactions.aborted
        );
    }
}
