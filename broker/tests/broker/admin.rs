//! What the operator asks, over gRPC.

use std::collections::HashMap;

use tonic::transport::Channel;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::Role;

use crate::client::TestBroker;

async fn admin(broker: &TestBroker) -> AdminClient<Channel> {
    AdminClient::new(broker.channel(Role::Operator))
}

fn codes(response: tonic::Response<proto::TopicResultsResponse>) -> Vec<(String, Option<String>)> {
    let results = response.into_inner().results.into_iter();
    results
        .map(|result| (result.name, result.error.map(|error| error.code)))
        .collect()
}

#[tokio::test]
async fn the_cluster_and_its_one_broker_are_described() {
    let broker = TestBroker::start().await;
    let cluster = admin(&broker)
        .await
        .describe_cluster(proto::DescribeClusterRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        Some(cluster.cluster_id),
        broker
            .running
            .broker()
            .metadata
            .cluster_id()
            .map(|id| id.to_string())
    );
    assert_eq!(
        (cluster.controller_id, &cluster.voters[..]),
        (Some(0), &[0][..])
    );
    let described = &cluster.brokers[0];
    assert!(described.alive && described.disk_total_bytes > 0);
    assert_eq!(
        described.address,
        broker.running.addresses().kafka.to_string()
    );
}

#[tokio::test]
async fn topics_are_created_changed_and_deleted_each_alone() {
    let broker = TestBroker::start().await;
    let mut admin = admin(&broker).await;
    let topic = |name: &str| proto::NewTopic {
        name: name.into(),
        partitions: Some(2),
        ..proto::NewTopic::default()
    };
    let request = proto::CreateTopicsRequest {
        topics: vec![topic("a"), topic("not a name")],
        validate_only: false,
    };
    let answer = codes(admin.create_topics(request).await.unwrap());
    assert_eq!(
        answer,
        [
            ("a".into(), None),
            ("not a name".into(), Some("INVALID_TOPIC_EXCEPTION".into()))
        ]
    );

    let change = |name: &str, partitions| proto::TopicChange {
        name: name.into(),
        partitions: Some(partitions),
        set_config: HashMap::from([("retention.ms".into(), "1000".into())]),
        unset_config: Vec::new(),
    };
    let changes = vec![change("a", 4), change("b", 1)];
    let request = proto::AlterTopicsRequest {
        changes,
        validate_only: false,
    };
    let answer = codes(admin.alter_topics(request).await.unwrap());
    assert_eq!(
        answer,
        [
            ("a".into(), None),
            ("b".into(), Some("UNKNOWN_TOPIC_OR_PARTITION".into()))
        ]
    );
    // The same again is no change, and no error.
    let request = proto::AlterTopicsRequest {
        changes: vec![change("a", 4)],
        validate_only: false,
    };
    assert_eq!(
        codes(admin.alter_topics(request).await.unwrap()),
        [("a".into(), None)]
    );

    let described = admin
        .describe_topics(proto::DescribeTopicsRequest::default())
        .await
        .unwrap()
        .into_inner()
        .topics;
    assert_eq!(
        (
            described.len(),
            described[0].partitions,
            described[0].offline_partitions
        ),
        (1, 4, 0)
    );
    assert_eq!(
        described[0].config,
        HashMap::from([("retention.ms".into(), "1000".into())])
    );

    let request = proto::DeleteTopicsRequest {
        names: vec!["a".into(), "b".into()],
    };
    let answer = codes(admin.delete_topics(request).await.unwrap());
    assert_eq!(
        answer,
        [
            ("a".into(), None),
            ("b".into(), Some("UNKNOWN_TOPIC_OR_PARTITION".into()))
        ]
    );
}
