//! Deleting a pod loses nothing, and the broker in the new pod is found by its name. And a broker whose pod does not change at all, though nobody hears it,
//! keeps others from being evicted.

use crate::evictions;
use crate::stage::Stage;
use crate::watching::LIMIT;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weir_tests::clients::Partition;
use weir_tests::{flights, log, wait};

const PARTITIONS: usize = 12;

#[tokio::test]
async fn deleting_each_pod_loses_nothing_and_names_lead_to_the_new_one() {
    let stage = Stage::open("deletion").await;
    let cluster = stage.cluster("shop", 3).await;
    let id = cluster.status.and_then(|status| status.cluster_id);
    assert!(id.is_some(), "the cluster has an id");
    stage.topic("shop", "flights", PARTITIONS as u32).await;
    let clients = stage.clients().await;
    let bootstrap = stage.bootstrap("shop");
    let some = &flights::all()[..8_000];

    let mut sent = 0;
    for (round, pod) in stage.brokers("shop").await.iter().enumerate() {
        let next = (round + 1) * 2_000;
        clients.produce(&bootstrap, "flights", &some[sent..next]);
        sent = next;
        let (name, uid) = (pod.name_any(), pod.uid().unwrap_or_default());
        stage
            .api::<Pod>()
            .delete(&name, &Default::default())
            .await
            .expect("the pod goes");
        let again = stage.pod_ready(&name, &uid).await;
        println!(
            "  {name} moved from {:?} to {:?}",
            address(pod),
            address(&again)
        );

        // The peers, statically linked, look the new address up: the cluster is whole again.
        // The brokers say so themselves: what the Cluster's status says may be from before.
        wait::until("every replica is in sync", LIMIT, || {
            let all = clients.describe(&bootstrap, "flights");
            let is_whole = |one: &Partition| one.leader.is_some() && one.in_sync == 3;
            (all.len() == PARTITIONS && all.iter().all(is_whole)).then_some(())
        });
        let log = clients.read_log(&bootstrap, "flights");
        log::holds_exactly(&log, &some[..sent])
            .unwrap_or_else(|wrong| panic!("after {name} was deleted: {wrong}"));
    }
    let cluster = stage.cluster_ready("shop").await;
    assert_eq!(
        cluster.status.and_then(|status| status.cluster_id),
        id,
        "it is the same cluster"
    );
    evictions::follow_what_brokers_say(&stage).await;
    stage.close().await;
}

fn address(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.pod_ip.as_deref()
}
