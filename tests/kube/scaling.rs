//! A Cluster is scaled from three brokers to four and back while a producer writes: the new broker takes its share, it is emptied before it goes,
//! its volume goes with it, and nothing that was acknowledged is missing. Meanwhile another broker is emptied, stays, and has its share again.

use crate::stage::{Stage, restarts};
use crate::watching::{condition, until, until_replaced};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use weir_crds::{BrokersSummary, Cluster};
use weir_tests::acknowledged::Producer;
use weir_tests::clients::Clients;
use weir_tests::log;

/// Messages that are on their way together: each handful is acknowledged before the next, which bounds what is read in the end.
const HANDFUL: u64 = 100;

#[tokio::test]
async fn three_brokers_become_four_and_three_again_under_load_and_nothing_is_lost() {
    let stage = Stage::open("scaling").await;
    stage.apply(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: 3\n  storage:\n    size: 1Gi\n    onScaleDown: Delete\n",
    );
    stage.cluster_ready("shop").await;
    stage.topic("shop", "flights", 12).await;
    let before = restarts(&stage.brokers("shop").await);
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let load = Load::begin(Producer::start(&clients, &bootstrap, "flights"));

    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=4"]);
    at_rest(&stage, "four brokers share the replicas", 4).await;
    let claims = stage.api::<PersistentVolumeClaim>();
    let claim = claims
        .get("data-shop-broker-3")
        .await
        .expect("the new broker has a volume");

    let told = stage.weir(&["drain", "shop", "1"], "");
    assert!(told.contains("kubectl weir uncordon shop 1"), "{told}");
    emptied(&stage, &clients, &bootstrap).await;
    stage.weir(&["uncordon", "shop", "1"], "");
    at_rest(&stage, "it has its share again", 4).await;
    assert!(leads(&clients, &bootstrap).contains(&1), "it leads again");

    stage.kubectl(&["scale", "clusters.weir.dev/shop", "--replicas=3"]);
    let drains = |brokers: &BrokersSummary| brokers.draining == [3] || brokers.registered == 3;
    seen(
        &stage,
        "the fourth broker is being emptied, or has gone",
        drains,
    )
    .await;
    at_rest(&stage, "three brokers have everything", 3).await;
    until_replaced(
        &claims,
        "data-shop-broker-3",
        &claim.uid().unwrap_or_default(),
    )
    .await;

    let producer = load.end();
    let sent = producer.finish_with(|acknowledged| {
        let log = clients.read_log(&bootstrap, "flights");
        log::holds_acknowledged(&log, acknowledged);
    });
    println!("  {sent} messages acknowledged meanwhile, and all of them are there");
    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "nobody else was restarted"
    );
    stage.cluster_ready("shop").await;
    stage.close().await;
}

/// Waits until so many brokers are registered and alive, and nothing is on its way any more.
async fn at_rest(stage: &Stage, what: &str, brokers: i32) {
    until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let Some(status) = &cluster.status else {
            return false;
        };
        let rests = condition(&status.conditions, "Reconciling")
            .is_some_and(|reconciling| reconciling.status == "False");
        let is_there = status.brokers.as_ref().is_some_and(|now| {
            (now.registered, now.alive) == (brokers, brokers)
                && now.moving_partitions == Some(0)
                && now.offline_partitions == Some(0)
                && now.draining.is_empty()
        });
        rests
            && is_there
            && status.ready_replicas == Some(brokers)
            && status.observed_generation == cluster.metadata.generation
    })
    .await;
}

/// Waits until broker 1 holds nothing, is there still, and does not vote.
async fn emptied(stage: &Stage, clients: &Clients, bootstrap: &str) {
    until(
        &stage.api::<Cluster>(),
        "shop",
        "broker 1 is emptied",
        |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let rests = condition(&status.conditions, "Reconciling")
                .is_some_and(|reconciling| reconciling.status == "False");
            let is_so = status.brokers.as_ref().is_some_and(|now| {
                (now.registered, now.alive) == (4, 4)
                    && now.draining == [1]
                    && now.moving_partitions == Some(0)
            });
            rests && is_so && status.ready_replicas == Some(4)
        },
    )
    .await;
    assert!(!leads(clients, bootstrap).contains(&1), "it leads nothing");
}

/// Who is to lead partitions of the topic.
fn leads(clients: &Clients, bootstrap: &str) -> Vec<usize> {
    let all = clients.describe(bootstrap, "flights");
    all.iter().filter_map(|one| one.preferred).collect()
}

/// Waits until the brokers say so of themselves.
async fn seen(stage: &Stage, what: &str, wanted: impl Fn(&BrokersSummary) -> bool) {
    until(&stage.api::<Cluster>(), "shop", what, |cluster| {
        let brokers = cluster
            .status
            .as_ref()
            .and_then(|status| status.brokers.as_ref());
        brokers.is_some_and(&wanted)
    })
    .await;
}

/// A producer that writes until it is told to end.
pub(crate) struct Load {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<Producer>,
}

impl Load {
    pub(crate) fn begin(mut producer: Producer) -> Self {
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                producer.allow(HANDFUL);
                producer.follow(HANDFUL);
            }
            producer
        });
        Self { ends, thread }
    }

    pub(crate) fn end(self) -> Producer {
        self.ends.store(true, Ordering::Relaxed);
        self.thread
            .join()
            .expect("whatever happened, messages were acknowledged in time")
    }
}
