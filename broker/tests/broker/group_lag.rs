//! The lag of every group as metrics, whoever leads what it reads.

use weir_broker::start::Running;
use weir_wire::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use weir_wire::messages::{
    DeleteGroupsRequest, DeleteGroupsResponseView, FindCoordinatorRequest,
    FindCoordinatorResponseView, OffsetCommitRequest, OffsetCommitResponseView,
};
use weir_wire::{ErrorCode, MessageView};

use crate::client::{Client, batch, eventually, http};
use crate::cluster::{cluster, knows};

const GROUP: &str = "shop";
const LAG: &str = r#"weir_group_lag_records{group="shop",topic="orders"}"#;
const AGE: &str = r#"weir_group_lag_seconds{group="shop",topic="orders"}"#;
const MEMBERS: &str = r#"weir_group_members{group="shop"}"#;

/// What a metric of a broker says, if it is there.
pub(crate) async fn metric(broker: &Running, series: &str) -> Option<i64> {
    let (status, metrics) = http(broker, "/metrics").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    let mut lines = metrics.lines();
    let value = lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(value.parse().unwrap())
}

/// Waits until it says this, or is gone.
pub(crate) async fn becomes(broker: &Running, series: &str, expected: Option<i64>) {
    let what = format!("{series} is {expected:?}");
    eventually(&what, async || {
        (metric(broker, series).await == expected).then_some(())
    })
    .await;
}

async fn coordinator(client: &mut Client) -> i32 {
    let find = FindCoordinatorRequest {
        coordinator_keys: vec![GROUP.to_owned()],
        ..FindCoordinatorRequest::default()
    };
    eventually("there is a coordinator", async || {
        let body = client.call(6, &find).await;
        let found = FindCoordinatorResponseView::decode(&body, 6)
            .unwrap()
            .to_owned();
        let found = &found.coordinators[0];
        (found.error_code == 0).then_some(found.node_id)
    })
    .await
}

async fn commit(client: &mut Client, partition: i32, offset: i64) {
    let request = OffsetCommitRequest {
        group_id: GROUP.to_owned(),
        generation_id_or_member_epoch: -1,
        topics: vec![OffsetCommitRequestTopic {
            name: "orders".to_owned(),
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                ..OffsetCommitRequestPartition::default()
            }],
            ..OffsetCommitRequestTopic::default()
        }],
        ..OffsetCommitRequest::default()
    };
    eventually("the coordinator takes offsets", async || {
        let body = client.call(8, &request).await;
        let committed = OffsetCommitResponseView::decode(&body, 8)
            .unwrap()
            .to_owned();
        let code = committed.topics[0].partitions[0].error_code;
        let is_coming_up = [
            ErrorCode::CoordinatorLoadInProgress.code(),
            ErrorCode::NotCoordinator.code(),
        ]
        .contains(&code);
        (!is_coming_up).then(|| assert_eq!(code, 0))
    })
    .await;
}

async fn delete(client: &mut Client) {
    let request = DeleteGroupsRequest {
        groups_names: vec![GROUP.to_owned()],
    };
    let body = client.call(2, &request).await;
    let deleted = DeleteGroupsResponseView::decode(&body, 2)
        .unwrap()
        .to_owned();
    assert_eq!(deleted.results[0].error_code, 0);
}

#[tokio::test]
async fn the_coordinator_tells_a_groups_lag_whoever_leads_the_partitions_and_while_a_leader_is_away()
 {
    let (brokers, _dir) = cluster().await;
    let mut brokers: Vec<Option<Running>> = brokers.into_iter().map(Some).collect();
    let address = |brokers: &[Option<Running>], id: i32| {
        let broker = brokers[usize::try_from(id).unwrap()].as_ref();
        broker.unwrap().addresses().kafka
    };
    let mut first = Client::connect(address(&brokers, 0)).await;
    first.create_topic("orders", 3, &[]).await;
    let leaders = knows(&mut first, 3).await;
    for (&partition, &leader) in &leaders {
        let mut client = Client::connect(address(&brokers, leader)).await;
        knows(&mut client, 3).await;
        client.until_open("orders", partition..partition + 1).await;
        let records = batch(&["a", "b", "c", "d", "e"]);
        let produced = client.produce("orders", partition, records).await;
        assert_eq!(produced.error_code, 0);
    }
    let coordinator = coordinator(&mut first).await;
    let led = |is_here: bool| {
        let mut led = leaders.iter();
        let found = led.find(|(_, leader)| (**leader == coordinator) == is_here);
        found
            .map(|(partition, leader)| (*partition, *leader))
            .unwrap()
    };
    let ((here, _), (there, leader)) = (led(true), led(false));

    let mut client = Client::connect(address(&brokers, coordinator)).await;
    let at = usize::try_from(coordinator).unwrap();
    let coordinating = brokers[at].take().unwrap();
    commit(&mut client, there, 2).await;
    becomes(&coordinating, LAG, Some(3)).await;
    assert_eq!(metric(&coordinating, MEMBERS).await, Some(0));
    assert!(metric(&coordinating, AGE).await.is_some());
    for other in brokers.iter().flatten() {
        for series in [LAG, AGE, MEMBERS] {
            assert_eq!(metric(other, series).await, None, "coordinated elsewhere");
        }
    }
    commit(&mut client, there, 5).await;
    becomes(&coordinating, LAG, Some(0)).await;
    assert_eq!(metric(&coordinating, AGE).await, Some(0));

    commit(&mut client, there, 1).await;
    becomes(&coordinating, LAG, Some(4)).await;
    let away = brokers[usize::try_from(leader).unwrap()].take().unwrap();
    away.stop().await;
    // Nobody leads that partition now; that the other one is in the sum shows that it was looked at since.
    commit(&mut client, here, 3).await;
    becomes(&coordinating, LAG, Some(4 + 2)).await;

    delete(&mut client).await;
    becomes(&coordinating, LAG, None).await;
    for series in [AGE, MEMBERS] {
        assert_eq!(metric(&coordinating, series).await, None);
    }
    coordinating.stop().await;
    for broker in brokers.into_iter().flatten() {
        broker.stop().await;
    }
}
