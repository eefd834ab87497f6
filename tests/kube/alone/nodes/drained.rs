//! Two nodes are drained, one right after the other, as whoever renews nodes does. The second has to wait until the first one's broker has what it
//! missed: clients who want their messages on as many replicas as the minimum says notice nothing, and no partition is ever seen with fewer.

use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use weir_tests::clients::Clients;
use weir_tests::members::lines_of;
use weir_tests::wait;

use super::{PARTITIONS, Place, Play, say};
use crate::stage::topic;
use crate::watching::LIMIT;

/// With three replicas, nobody having said another minimum.
const MINIMUM: usize = 2;

/// What the first node's broker misses at least, in messages.
const MISSED: usize = 1_500;

/// Between two looks, each of which is a program: short next to how long a broker is away.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// How often an eviction is refused before what is missed may be sent faster.
const REFUSALS: usize = 2;

impl Play {
    /// What the first one's broker has missed comes slowly (the Cluster says how slowly), and faster only when the second drain was seen to wait for it.
    pub(super) async fn drained(&self, first: &Place, second: &Place) {
        let slowly = topic("shop", "flights", PARTITIONS as u32)
            + "  config:\n    follower.replication.throttled.replicas: '*'\n";
        self.stage.apply(&slowly);
        self.stage.topic_ready("flights").await;
        let fewest = Fewest::watch(&self.clients, &self.bootstrap);
        let began = self.before();

        Drain::begin(&first.1).ends();
        let drained = Instant::now();
        let before = self.flow.load.count();
        self.flow.go_on("a node was drained");
        wait::until("its broker misses some", LIMIT, || {
            (self.flow.load.count() >= before + MISSED).then_some(())
        });
        uncordon(&first.1);
        let drain = Drain::begin(&second.1);
        self.stage.pod_ready(&first.0, "").await;
        println!(
            "  a broker was ready again {:.1} s after its node was drained",
            drained.elapsed().as_secs_f64()
        );
        // All are ready, and it is still behind: that alone holds the second drain.
        drain.is_refused(REFUSALS);
        let behind = self.clients.describe(&self.bootstrap, "flights");
        assert!(
            behind.iter().any(|one| one.in_sync < 3),
            "it is behind all the while, or this shows nothing"
        );

        self.stage
            .apply(&topic("shop", "flights", PARTITIONS as u32));
        drain.ends();
        self.flow.go_on("another node was drained");
        uncordon(&second.1);
        let silence = self.flow.load.longest_silence();
        self.all_is_well(&second.0).await;
        self.stage.topic_ready("flights").await;
        assert!(
            fewest.end() >= MINIMUM,
            "a partition had fewer replicas in sync than its minimum"
        );
        say(
            &format!(
                "{} and {} drained, one right after the other",
                first.1, second.1
            ),
            silence,
            began,
        );
    }
}

fn uncordon(node: &str) {
    crate::shell::run("kubectl", &["uncordon", node]);
}

/// `kubectl drain` of a node, of its brokers only: clients of the story have no controller that would make them anew.
struct Drain {
    child: Child,
    lines: Receiver<Vec<u8>>,
}

impl Drain {
    fn begin(node: &str) -> Self {
        let mut shell = Command::new("sh");
        shell.args([
            "-c",
            "exec kubectl drain \"$0\" --pod-selector=app.kubernetes.io/component=broker --timeout=300s 2>&1",
            node,
        ]);
        let (child, lines) = lines_of(&mut shell);
        Self { child, lines }
    }

    /// Waits until an eviction has been refused so many times, from now on.
    fn is_refused(&self, times: usize) {
        let _ = self.lines.try_iter().count();
        let mut refusals = 0;
        while refusals < times {
            let line = self.lines.recv_timeout(LIMIT);
            let line = line.expect("the drain waits, and says so");
            let line = String::from_utf8_lossy(&line);
            assert!(!line.contains(" evicted"), "it did not wait: {line}");
            refusals += usize::from(line.contains("disruption budget"));
        }
    }

    /// Waits until the node is drained.
    fn ends(mut self) {
        let mut said = Vec::new();
        while let Ok(line) = self.lines.recv_timeout(LIMIT) {
            said.push(String::from_utf8_lossy(&line).into_owned());
        }
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{}", said.join("\n"));
    }
}

impl Drop for Drain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many replicas in sync that partition of the topic had which had the fewest, of all that was seen.
struct Fewest {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<usize>,
}

impl Fewest {
    fn watch(clients: &Clients, bootstrap: &str) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let (told, clients, bootstrap) = (Arc::clone(&ends), clients.clone(), bootstrap.to_owned());
        let thread = std::thread::spawn(move || {
            let mut fewest = usize::MAX;
            while !told.load(Ordering::Relaxed) {
                std::thread::sleep(LOOK_EVERY);
                let all = clients.describe(&bootstrap, "flights");
                let now = all.iter().map(|one| one.in_sync).min();
                fewest = fewest.min(now.unwrap_or(usize::MAX));
            }
            fewest
        });
        Self { ends, thread }
    }

    fn end(self) -> usize {
        self.ends.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only looks")
    }
}
