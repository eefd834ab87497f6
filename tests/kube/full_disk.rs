//! A broker's volume has no room left: others lead what it led, clients go on within seconds, its figures say so, and when there is room it follows and
//! leads again. Nothing that was acknowledged is lost or doubled.
//!
//! The volumes that the tests' cluster makes on demand are directories, which nothing bounds. This story brings volumes of its own: a file system in a
//! file on each node, mounted where the node's kubelet sees it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use weir_crds::Cluster;
use weir_tests::wait;

use crate::flow::{Flow, PARTITIONS};
use crate::nodes::{Nodes, number};
use crate::shell::{attempt, run};
use crate::stage::{Stage, topic};
use crate::watching::{LIMIT, until};

/// Nodes, each with one volume for one broker.
const NODES: [&str; 3] = ["node1", "node2", "node3"];

/// Size of a volume: many times what the story writes, and filled in an instant.
const VOLUME_MIB: u64 = 512;

/// What a broker keeps free for what is not records; below it, it has no room.
const RESERVE_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// What is left at first: a part of the reserve, so that there is no room for records, and some for the quorum's log.
const LEFT_BYTES: u64 = 16 << 20;

/// Partitions of a topic that is made when there is no room at all: what the quorum writes of it is more than the end of a file's last block may take.
const MEANWHILE: u32 = 200;

#[tokio::test]
async fn a_full_disk_holds_nobody_up_and_is_used_again_once_there_is_room() {
    let Some(nodes) = Nodes::of_the_tests() else {
        println!("  left out: the nodes of this cluster are not ours to mount volumes on");
        return;
    };
    let stage = Stage::open("full-disk").await;
    let volumes = Volumes::make(&nodes);
    stage.apply(&format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\nspec:\n  replicas: 3\n  storage:\n    \
         size: {VOLUME_MIB}Mi\n    storageClassName: {CLASS}\n  config:\n    leader.imbalance.check.interval.seconds: 5\n"
    ));
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let flow = Flow::begin(&clients, &bootstrap, &[]);
    flow.go_on("nothing has happened yet");
    let (broker, node) = victim(&stage).await;
    let room = available(&stage, broker).expect("a broker that is well says what room it has");
    assert!(
        room < (VOLUME_MIB << 20) as f64,
        "the volume is bounded: {room} bytes"
    );

    let _ = flow.load.longest_silence();
    let began = Instant::now();
    volumes.fill(&node, LEFT_BYTES);
    wait::until("the figures say that there is no room", LIMIT, || {
        available(&stage, broker).filter(|room| *room < RESERVE_BYTES)
    });
    wait::until("others lead", LIMIT, || {
        let all = clients.describe(&bootstrap, "flights");
        let led = all
            .iter()
            .filter(|one| one.leader.is_some_and(|leader| leader != broker));
        (led.count() == PARTITIONS).then_some(())
    });
    flow.go_on("a disk is full");
    println!(
        "  a full disk: a partition was silent for at most {:.1} s; clients went on {:.1} s after it",
        flow.load.longest_silence().as_secs_f64(),
        began.elapsed().as_secs_f64()
    );

    // To the last byte, as a neighbour might: it cannot keep the quorum's log either, and ends rather than vote for what it does not have.
    volumes.fill(&node, 0);
    stage.apply(&topic("shop", "meanwhile", MEANWHILE));
    let clusters = stage.api::<Cluster>();
    until(
        &clusters,
        "shop",
        "the Cluster says who is missing",
        |cluster| {
            let conditions = cluster.status.iter().flat_map(|status| &status.conditions);
            let mut conditions = conditions.filter(|one| one.type_ == "Ready");
            conditions.any(|ready| ready.status == "False" && ready.reason == "BrokersNotReady")
        },
    )
    .await;
    flow.go_on("a disk is full to the last byte");

    let began = Instant::now();
    volumes.make_room(&node);
    stage.pod_ready(&format!("shop-broker-{broker}"), "").await;
    wait::until("the figures say that there is room", LIMIT, || {
        available(&stage, broker).filter(|room| *room > 2.0 * RESERVE_BYTES)
    });
    wait::until(
        "everything is in sync, and led by whom it was",
        LIMIT,
        || {
            let all = clients.describe(&bootstrap, "flights");
            let is_well = all
                .iter()
                .all(|one| one.in_sync == 3 && one.leader == one.preferred);
            (all.len() == PARTITIONS && is_well).then_some(())
        },
    );
    stage.topic_ready("meanwhile").await;
    flow.go_on("there is room again");
    println!(
        "  there was room again: all was well after {:.1} s",
        began.elapsed().as_secs_f64()
    );

    flow.end(&clients, &bootstrap);
    stage.cluster_ready("shop").await;
    stage.kubectl(&["delete", "clusters.weir.dev/shop", "--wait"]);
    gone(&stage).await;
    volumes.end();
    stage.close().await;
}

/// A broker that does not lead the quorum, and its node.
async fn victim(stage: &Stage) -> (usize, String) {
    let controller = |cluster: &Cluster| {
        let brokers = cluster.status.as_ref()?.brokers.as_ref()?;
        brokers.controller
    };
    let clusters = stage.api::<Cluster>();
    let cluster = until(&clusters, "shop", "there is a controller", |cluster| {
        controller(cluster).is_some()
    });
    let controller = controller(&cluster.await);
    let broker = (0..3)
        .find(|broker| Some(*broker) != controller)
        .expect("there are three");
    let name = format!("shop-broker-{broker}");
    let pod = stage.pod_ready(&name, "").await;
    let node = pod.spec.and_then(|spec| spec.node_name);
    let broker = usize::try_from(broker).expect("small");
    (broker, node.expect("a broker that is ready has a node"))
}

/// The room that a broker's figures tell of; none while it does not answer.
fn available(stage: &Stage, broker: usize) -> Option<f64> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/shop-broker-{broker}:9600/proxy/metrics",
        stage.namespace
    );
    let read = attempt("kubectl", &["get", "--raw", &path], "");
    let text = String::from_utf8_lossy(&read.stdout);
    let mut lines = text.lines();
    let line = lines.find(|line| line.starts_with("weir_disk_available_bytes"))?;
    line.rsplit(' ').next()?.parse().ok()
}

/// Waits until nothing uses the volumes any more.
async fn gone(stage: &Stage) {
    stage.kubectl(&["delete", "persistentvolumeclaim", "--all", "--wait"]);
    let claims = stage.api::<PersistentVolumeClaim>();
    let began = Instant::now();
    loop {
        let left = claims.list(&ListParams::default()).await;
        if left.expect("claims are listed").items.is_empty()
            && stage.brokers("shop").await.is_empty()
        {
            return;
        }
        assert!(began.elapsed() < LIMIT, "volumes are still in use");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// The StorageClass of the story's volumes, which are made by nobody but the story.
const CLASS: &str = "weir-bounded";

/// A volume on each node.
struct Volumes<'n> {
    nodes: &'n Nodes,
}

impl<'n> Volumes<'n> {
    fn make(nodes: &'n Nodes) -> Self {
        let volumes = Self { nodes };
        // What a story that failed has left.
        volumes.end();
        let mut manifests = format!(
            "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata:\n  name: {CLASS}\nprovisioner: kubernetes.io/no-provisioner\n\
             volumeBindingMode: WaitForFirstConsumer\n"
        );
        for node in NODES {
            volumes.on(
                node,
                &format!(
                    "truncate -s {VOLUME_MIB}M /mnt/pv/bounded.img && mkfs.ext4 -q -F -m 0 /mnt/pv/bounded.img && mkdir -p /mnt/pv/bounded && \
                     mount -o loop /mnt/pv/bounded.img /mnt/pv/bounded && rmdir /mnt/pv/bounded/lost+found && chmod 777 /mnt/pv/bounded"
                ),
            );
            manifests.push_str(&format!(
                "---\napiVersion: v1\nkind: PersistentVolume\nmetadata:\n  name: {CLASS}-{node}\nspec:\n  storageClassName: {CLASS}\n  \
                 capacity:\n    storage: {VOLUME_MIB}Mi\n  accessModes: [ReadWriteOnce]\n  persistentVolumeReclaimPolicy: Retain\n  \
                 local:\n    path: /mnt/pv/bounded\n  nodeAffinity:\n    required:\n      nodeSelectorTerms:\n        - matchExpressions:\n            \
                 - {{key: kubernetes.io/hostname, operator: In, values: [{node}]}}\n"
            ));
        }
        let applied = attempt("kubectl", &["apply", "--filename", "-"], &manifests);
        let wrong = String::from_utf8_lossy(&applied.stderr);
        assert!(applied.status.success(), "kubectl apply: {wrong}");
        volumes
    }

    /// Takes all room there is but so many bytes.
    fn fill(&self, node: &str, left: u64) {
        let words = match left {
            0 => "! head -c 1G /dev/zero >/mnt/pv/bounded/rest 2>/dev/null".to_owned(),
            left => format!(
                "cd /mnt/pv/bounded && fallocate -l $(($(stat -f -c '%a*%S' .) - {left})) ballast"
            ),
        };
        self.on(node, &words);
    }

    fn make_room(&self, node: &str) {
        self.on(node, "rm /mnt/pv/bounded/ballast /mnt/pv/bounded/rest");
    }

    /// Nothing is left of them, wherever they were.
    fn end(&self) {
        for node in NODES {
            let name = format!("{CLASS}-{node}");
            run(
                "kubectl",
                &[
                    "delete",
                    "persistentvolume",
                    &name,
                    "--ignore-not-found",
                    "--wait=false",
                ],
            );
            self.on(
                node,
                "if mountpoint -q /mnt/pv/bounded; then umount -l /mnt/pv/bounded; fi; rm -rf /mnt/pv/bounded /mnt/pv/bounded.img",
            );
        }
        run(
            "kubectl",
            &["delete", "storageclass", CLASS, "--ignore-not-found"],
        );
    }

    /// Runs a shell's words on a node.
    fn on(&self, node: &str, words: &str) {
        self.nodes.tell(&["exec", number(node), "sh", "-c", words]);
    }
}
