//! One broker's disk fills up while a producer writes and a group reads. While there is no room for records others lead what it led, and clients go on; when
//! there is no room at all the broker goes, and the Cluster says so. Larger volumes are asked for: their class does not allow it, which is a condition and
//! changes nothing; once it does they grow although a broker is not ready, the broker comes back, follows and leads again. Then the volume grows by itself,
//! as far as it may. Nothing that was acknowledged is lost or doubled, and nobody is restarted for a volume.

mod growth;
mod volumes;

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::api::ListParams;
use weir_crds::Cluster;
use weir_tests::wait;

use crate::flow::{Flow, PARTITIONS};
use crate::nodes::Nodes;
use crate::shell::attempt;
use crate::stage::{Stage, skipped, topic};
use crate::watching::{LIMIT, until};
use growth::Growth;
use volumes::{CLASS, Volumes};

/// Size of a volume: many times what the story writes, and filled in an instant.
const VOLUME_MIB: u64 = 512;

/// What a broker keeps free for what is not records; below it, it has no room, and it has some again at twice as much.
const RESERVE_BYTES: f64 = 64.0 * 1024.0 * 1024.0;

/// What is left at first: a part of the reserve, so that there is no room for records, and some for the quorum's log.
const LEFT_BYTES: u64 = 16 << 20;

/// Partitions of a topic that is made when there is no room at all: what the quorum writes of it is more than the end of a file's last block may take.
const MEANWHILE: u32 = 200;

#[tokio::test]
async fn a_full_disk_holds_nobody_up_and_is_used_again_once_there_is_room() {
    let Some(nodes) = Nodes::of_the_tests() else {
        skipped(
            "full-disk",
            "the nodes of this cluster are not ours to mount volumes on",
        );
        return;
    };
    let stage = Stage::open("full-disk").await;
    let volumes = Volumes::make(&nodes, VOLUME_MIB);
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
    let growth = Growth::begin(&stage, &volumes, broker).await;
    growth.is_refused().await;

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
    growth.is_allowed().await;
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
        "  volumes were allowed to grow: all was well after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    growth.by_itself(&node).await;
    flow.go_on("a volume has grown by itself");

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
    figure(stage, broker, "weir_disk_available_bytes")
}

/// One of a broker's figures.
fn figure(stage: &Stage, broker: usize, name: &str) -> Option<f64> {
    let path = format!(
        "/api/v1/namespaces/{}/pods/shop-broker-{broker}:9600/proxy/metrics",
        stage.namespace
    );
    let read = attempt("kubectl", &["get", "--raw", &path], "");
    let text = String::from_utf8_lossy(&read.stdout);
    let mut lines = text.lines();
    let line = lines.find(|line| line.split([' ', '{']).next() == Some(name))?;
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
