//! Deleting a pod loses nothing, and the broker in the new pod is found by its name. And a broker whose pod does not change at all, though nobody hears it,
//! keeps others from being evicted.

use crate::evictions;
use crate::stage::Stage;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weir_tests::flights;
use weir_tests::log;

#[tokio::test]
async fn deleting_each_pod_loses_nothing_and_names_lead_to_the_new_one() {
    let stage = Stage::open("deletion").await;
    let cluster = stage.cluster("shop", 3).await;
    let id = cluster.status.and_then(|status| status.cluster_id);
    assert!(id.is_some(), "the cluster has an id");
    stage.topic("shop", "flights", 12).await;
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
        let whole = |cluster: &weir_crds::Cluster| {
            let brokers = cluster
                .status
                .as_ref()
                .and_then(|status| status.brokers.as_ref());
            brokers.is_some_and(|brokers| {
                (
                    brokers.registered,
                    brokers.alive,
                    brokers.offline_partitions,
                ) == (3, 3, Some(0))
            })
        };
        crate::watching::until(
            &stage.api(),
            "shop",
            "three brokers are alive and no partition is offline",
            whole,
        )
        .await;
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
