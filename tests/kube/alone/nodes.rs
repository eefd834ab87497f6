//! Nodes are drained, killed, cut off, and lost for ever with their disks, and Kubernetes' control plane is away for a while, while a producer writes and a
//! group reads: clients go on within seconds, nothing that was acknowledged is lost or doubled, and nobody has to do anything but to say that a node is gone
//! for good, or a disk.
//!
//! It is one story on one cluster, since each part begins where the one before has to have ended: with everything in sync.

mod control_plane;
mod drained;
mod lost;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, ResourceExt};
use weir_crds::Cluster;
use weir_tests::clients::Clients;
use weir_tests::{given, wait};

use crate::flow::{Flow, MORE, PARTITIONS, is_whole, producer};
use crate::stage::{Stage, pod_is_ready, skipped};
use crate::watching::{LIMIT, until};

/// How long a node is cut off at least: several times the lease of a leader, and the session after which the others do without it.
const CUT_OFF: Duration = Duration::from_secs(6);

#[tokio::test]
async fn nodes_are_drained_killed_cut_off_and_lost_for_ever_under_load_and_nothing_is_lost() {
    let Some(nodes) = Nodes::of_the_tests() else {
        skipped("nodes", "the nodes of this cluster are not ours to kill");
        return;
    };
    let stage = Stage::open_alone("nodes").await;
    stage.apply(SHOP);
    let cluster = stage.cluster_ready("shop").await;
    for topic in ["flights", "island"] {
        stage.topic("shop", topic, PARTITIONS as u32).await;
    }
    let brokers = cluster.status.and_then(|status| status.brokers);
    let controller = brokers.and_then(|brokers| brokers.controller);
    let places = Places::choose(&stage, controller.expect("a controller")).await;
    let clients = stage.clients_within("clients", &places.home.1).await;
    let islander = stage.clients_on("islander", &places.third.1).await;
    let play = Play::begin(stage, clients, nodes);

    play.control_plane_away().await;
    play.killed(&places.controller).await;
    play.cut_off(&places.third, &islander).await;
    play.drained(&places.controller, &places.third).await;
    play.lost_for_ever(&places.third, &places.controller).await;
    play.given_up(&places.controller).await;
    play.end().await;
}

/// What a broker takes in of throttled replicas is so little that those who are behind stay so; no topic has such but while its story says so.
const SHOP: &str = "\
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata:
  name: shop
spec:
  replicas: 3
  storage:
    size: 1Gi
  config:
    follower.replication.throttled.rate: 2000
";

/// A broker's pod, and its node.
type Place = (String, String);

/// Which broker is where.
struct Places {
    /// The one that leads the quorum.
    controller: Place,
    /// Where the clients are, and nothing happens.
    home: Place,
    third: Place,
}

impl Places {
    async fn choose(stage: &Stage, controller: i32) -> Self {
        let (mut leads, mut others) = (Vec::new(), Vec::new());
        for pod in stage.brokers("shop").await {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
            let name = pod.name_any();
            let is_controller = name == format!("shop-broker-{controller}");
            let place = (name, node.expect("a broker that is ready has a node"));
            if is_controller {
                &mut leads
            } else {
                &mut others
            }
            .push(place);
        }
        let nodes: BTreeSet<_> = leads.iter().chain(&others).map(|(_, node)| node).collect();
        assert_eq!(nodes.len(), 3, "each broker has a node of its own");
        Self {
            controller: leads.remove(0),
            home: others.remove(0),
            third: others.remove(0),
        }
    }
}

/// Clients at work, and what happens around them.
struct Play {
    stage: Stage,
    nodes: Nodes,
    clients: Clients,
    bootstrap: String,
    flow: Flow,
}

impl Play {
    fn begin(stage: Stage, clients: Clients, nodes: Nodes) -> Self {
        let bootstrap = stage.bootstrap("shop");
        let flow = Flow::begin(&clients, &bootstrap, &["session.timeout.ms=45000"]);
        let (mark, when) = (flow.load.mark(), "nothing has happened yet");
        flow.load.wait_for(&mark, 1, PARTITIONS, LIMIT, when);
        wait::until("the group reads", LIMIT, || {
            (flow.readers.owned() == PARTITIONS && flow.readers.seen() > 0).then_some(())
        });
        Self {
            stage,
            nodes,
            clients,
            bootstrap,
            flow,
        }
    }

    /// A node loses its power, and comes back after Kubernetes has noticed.
    async fn killed(&self, (pod, node): &Place) {
        let began = self.before();
        self.nodes.tell(&["kill", number(node)]);
        self.flow.go_on("a node was killed");
        let silence = self.flow.load.longest_silence();
        self.pod_not_ready(pod).await;
        self.nodes.tell(&["up", number(node)]);
        self.all_is_well(pod).await;
        say(
            &format!("{node} killed, with the controller"),
            silence,
            began,
        );
    }

    /// A node has no network; a producer on it has only the broker there, which leads as far as it knows.
    async fn cut_off(&self, (pod, node): &Place, islander: &Clients) {
        let island = producer(islander, &self.bootstrap, "island", &[]);
        island.wait_for(
            &island.mark(),
            MORE,
            PARTITIONS,
            LIMIT,
            "the node has its network",
        );
        let began = self.before();
        self.nodes.tell(&["cut", number(node)]);
        self.flow.go_on("a node was cut off");
        wait::until("it lasted for long enough", LIMIT, || {
            (began.elapsed() >= CUT_OFF).then_some(())
        });
        self.flow.go_on("a node stayed cut off");
        let silence = self.flow.load.longest_silence();
        let meanwhile = island.mark();
        self.nodes.tell(&["mend", number(node)]);
        island.wait_for(&meanwhile, MORE, PARTITIONS, LIMIT, "the network is back");
        self.all_is_well(pod).await;
        let acknowledged = island.finish();
        let log = self.clients.read_log(&self.bootstrap, "island");
        is_whole(&log, &acknowledged);
        say(&format!("{node} cut off"), silence, began);
    }

    async fn node_ready(&self, node: &str) {
        let nodes: Api<Node> = Api::all(self.stage.client.clone());
        until(&nodes, node, "the node is there anew", |node| {
            let conditions = node.status.iter().flat_map(|status| &status.conditions);
            conditions
                .flatten()
                .any(|one| one.type_ == "Ready" && one.status == "True")
        })
        .await;
    }

    /// Ends the clients, and holds what they were told against what is there.
    async fn end(self) {
        self.flow.end(&self.clients, &self.bootstrap);
        self.stage.cluster_ready("shop").await;
        self.stage.close().await;
    }

    /// What was silent before now does not count.
    fn before(&self) -> Instant {
        let _ = self.flow.load.longest_silence();
        Instant::now()
    }

    async fn pod_not_ready(&self, pod: &str) {
        let pods = self.stage.api::<Pod>();
        until(&pods, pod, "Kubernetes notices", |pod| !pod_is_ready(pod)).await;
    }

    /// Waits until the broker's pod is ready, all three are alive, and every replica is in sync; clients go on.
    async fn all_is_well(&self, pod: &str) {
        self.stage.pod_ready(pod, "").await;
        let clusters = self.stage.api::<Cluster>();
        until(&clusters, "shop", "three brokers are alive", |cluster| {
            let brokers = cluster
                .status
                .as_ref()
                .and_then(|status| status.brokers.as_ref());
            brokers.is_some_and(|now| (now.alive, now.offline_partitions) == (3, Some(0)))
        })
        .await;
        for topic in ["flights", "island"] {
            wait::until(&format!("{topic} is in sync"), LIMIT, || {
                let all = self.clients.describe(&self.bootstrap, topic);
                (all.len() == PARTITIONS && all.iter().all(|one| one.in_sync == 3)).then_some(())
            });
        }
        self.flow.go_on("all is well");
    }
}

fn say(what: &str, silence: Duration, began: Instant) {
    println!(
        "  {what}: a partition was silent for at most {:.1} s; {:.1} s until all is well",
        silence.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
}

/// The number in a node's name.
pub(crate) fn number(node: &str) -> &str {
    node.trim_start_matches("node")
}

/// Nodes that can be killed and cut off: those of `cluster/up.sh`.
pub(crate) struct Nodes {
    /// The cluster's name on this machine.
    cluster: String,
}

/// The name of the cluster that `KUBECONFIG` names, if it is one that `cargo xtask` makes on this machine: also that of the network namespace that
/// its nodes are reached from.
pub(crate) fn cluster_of_the_tests() -> Option<String> {
    let kubeconfig = PathBuf::from(std::env::var_os("KUBECONFIG")?);
    let folder = kubeconfig.parent()?;
    let is_ours = folder.join("nodes").exists() && folder.join("pki").exists();
    let cluster = folder.file_name()?.to_str()?.to_owned();
    is_ours.then_some(cluster)
}

impl Nodes {
    /// Those of the cluster that `KUBECONFIG` names, if it is one of that kind.
    pub(crate) fn of_the_tests() -> Option<Self> {
        let cluster = cluster_of_the_tests()?;
        Some(Self { cluster })
    }

    /// `node.sh WORDS`
    pub(crate) fn tell(&self, words: &[&str]) {
        let done = Command::new(given::root().join("tests/kube/cluster/node.sh"))
            .args(words)
            .env("NS", &self.cluster)
            .status()
            .expect("node.sh runs");
        assert!(done.success(), "node.sh {}", words.join(" "));
    }

    /// `control.sh WORD`
    pub(crate) fn control(&self, word: &str) {
        let done = Command::new(given::root().join("tests/kube/cluster/control.sh"))
            .arg(word)
            .env("NS", &self.cluster)
            .status()
            .expect("control.sh runs");
        assert!(done.success(), "control.sh {word}");
    }
}
