//! The main job: 200,000 flights through a cluster, and half-way a broker's pod is deleted.

use crate::stage::Stage;
use crate::watching::until;
use weir_crds::ConsumerGroup;
use weir_tests::story;

#[tokio::test]
async fn flights_flow_while_a_broker_pod_is_deleted() {
    let stage = Stage::open("flights").await;
    stage.cluster("shop", 3).await;
    stage.topic("shop", "flights", 12).await;
    stage.apply(
        "apiVersion: weir.dev/v1alpha1\nkind: ConsumerGroup\nmetadata:\n  name: readers\n\
         spec:\n  clusterRef:\n    name: shop\n  topics: [flights]\n",
    );
    let clients = stage.clients().await;
    story::flights_flow(
        &clients,
        &stage.bootstrap("shop"),
        "flights",
        "readers",
        || {
            stage.kubectl(&["delete", "pod", "shop-broker-1", "--wait=false"]);
        },
    );

    // The group was read to its end, and the broker's own figure says so.
    let groups = stage.api::<ConsumerGroup>();
    until(&groups, "readers", "no lag", |group| {
        let lag = group.status.as_ref().and_then(|status| status.lag.as_ref());
        lag.is_some_and(|lag| lag.records == 0)
    })
    .await;
    stage.cluster_ready("shop").await;
    stage.close().await;
}
