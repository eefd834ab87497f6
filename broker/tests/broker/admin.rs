//! What the operator asks, over gRPC.

use std::collections::HashMap;

use tonic::transport::Channel;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::{Role, Tls, directory};

use crate::client::{TestBroker, channel, eventually};
use crate::cluster::cluster_with;

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
    assert_eq!(cluster.answering_broker, Some(0));
    let described = &cluster.brokers[0];
    assert_eq!(described.needed_partitions, Some(0), "{described:?}");
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
        ..proto::TopicChange::default()
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

#[tokio::test]
async fn brokers_are_cordoned_emptied_and_let_go_of_each_alone() {
    let broker = TestBroker::start().await;
    let mut admin = admin(&broker).await;
    let of = |response: tonic::Response<proto::BrokerResultsResponse>| {
        let results = response.into_inner().results.into_iter();
        let results = results.map(|result| (result.broker, result.error.map(|error| error.code)));
        results.collect::<Vec<_>>()
    };
    let unknown = (7, Some("BROKER_ID_NOT_REGISTERED".to_owned()));
    let request = proto::CordonRequest {
        brokers: vec![0, 7],
        cordoned: true,
    };
    assert_eq!(
        of(admin.cordon(request).await.unwrap()),
        [(0, None), unknown.clone()]
    );
    let request = proto::CreateTopicsRequest {
        topics: vec![proto::NewTopic {
            name: "t".into(),
            ..proto::NewTopic::default()
        }],
        validate_only: false,
    };
    let refused = codes(admin.create_topics(request).await.unwrap());
    assert_eq!(
        refused,
        [("t".into(), Some("INVALID_REPLICATION_FACTOR".into()))]
    );

    let request = proto::DrainRequest {
        brokers: vec![0, 7],
    };
    assert_eq!(
        of(admin.drain(request).await.unwrap()),
        [(0, None), unknown.clone()]
    );
    let describe = proto::DescribeClusterRequest {};
    let cluster = admin.describe_cluster(describe).await.unwrap().into_inner();
    assert!(cluster.brokers[0].draining && cluster.brokers[0].cordoned);
    assert_eq!(cluster.voters, [0], "somebody has to vote");

    let request = proto::CordonRequest {
        brokers: vec![0],
        cordoned: false,
    };
    assert_eq!(of(admin.cordon(request).await.unwrap()), [(0, None)]);
    let cluster = admin.describe_cluster(describe).await.unwrap().into_inner();
    assert!(!cluster.brokers[0].draining && !cluster.brokers[0].cordoned);
    let request = proto::UnregisterBrokersRequest {
        brokers: vec![0, 7],
    };
    let alive = (0, Some("INVALID_REQUEST".to_owned()));
    assert_eq!(
        of(admin.unregister_brokers(request).await.unwrap()),
        [alive, unknown]
    );
    let level = weir_quorum::controller::FEATURE_LEVEL;
    for (level, is_done) in [(level, true), (level + 1, false)] {
        let request = proto::RaiseFeatureLevelRequest { level };
        let answer = admin
            .raise_feature_level(request)
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.error.is_none(), is_done, "{answer:?}");
    }
    let request = proto::DescribeFeatureLevelsRequest {};
    let levels = admin
        .describe_feature_levels(request)
        .await
        .unwrap()
        .into_inner();
    let own = proto::BrokerLevel { broker: 0, level };
    assert_eq!((levels.level, levels.newest), (level, vec![own]));
    assert_eq!((levels.refused, levels.error), (Vec::new(), None));
    let request = proto::RebalanceRequest { active: true };
    assert_eq!(
        admin.rebalance(request).await.unwrap().into_inner().error,
        None
    );
}

#[tokio::test]
async fn a_broker_that_partitions_cannot_spare_is_known_with_their_names() {
    let (mut brokers, _, dir) = cluster_with("").await;
    let tls = Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator)).unwrap();
    let mut admin = AdminClient::new(channel(brokers[0].addresses().quorum, tls));
    let topic = |name: &str, replicas| proto::NewTopic {
        name: name.into(),
        partitions: Some(1),
        replication_factor: Some(replicas),
        ..proto::NewTopic::default()
    };
    let request = proto::CreateTopicsRequest {
        topics: vec![topic("three", 3), topic("one", 1)],
        validate_only: false,
    };
    let made = codes(admin.create_topics(request).await.unwrap());
    assert_eq!(made, [("three".into(), None), ("one".into(), None)]);
    let needed = async |admin: &mut AdminClient<Channel>| {
        let described = admin.describe_cluster(proto::DescribeClusterRequest {});
        let brokers = described.await.unwrap().into_inner().brokers.into_iter();
        let needed = brokers.map(|broker| (broker.needed_partitions, broker.needed));
        needed.collect::<Vec<_>>()
    };
    assert_eq!(
        needed(&mut admin).await,
        vec![(Some(0), vec![]); 3],
        "all are whole"
    );
    let last = async |admin: &mut AdminClient<Channel>| {
        let described = admin.describe_cluster(proto::DescribeClusterRequest {});
        let brokers = described.await.unwrap().into_inner().brokers.into_iter();
        let named = brokers.map(|broker| {
            assert_eq!(
                broker.last_copies,
                u32::try_from(broker.last_copies_named.len()).ok()
            );
            broker.last_copies_named
        });
        named.collect::<Vec<_>>().concat()
    };
    let only = ["one-0".to_owned()];
    assert_eq!(last(&mut admin).await, only, "one broker has the last copy");
    let available = async |admin: &mut AdminClient<Channel>, known| {
        let request = proto::AwaitAvailabilityRequest { known };
        let answer = admin.await_availability(request).await.unwrap();
        answer.into_inner().now.unwrap()
    };
    let well = eventually("all are well", async || {
        let now = available(&mut admin, None).await;
        (!now.controller_unknown).then_some(now)
    })
    .await;
    let expected = proto::Availability {
        alive: vec![0, 1, 2],
        brokers_needed: false,
        controller_unknown: false,
    };
    assert_eq!(well, expected);
    let waits = {
        let (mut admin, known) = (admin.clone(), well.clone());
        tokio::spawn(async move { available(&mut admin, Some(known)).await })
    };
    brokers.pop().unwrap().stop().await;
    // A call ends after a while with what was known.
    let mut now = waits.await.unwrap();
    eventually("told as soon as it is another", async || {
        if now == well {
            now = available(&mut admin, Some(well.clone())).await;
        }
        (now != well).then_some(())
    })
    .await;
    eventually("both are needed, and that is told", async || {
        let now = available(&mut admin, Some(well.clone())).await;
        (now.alive == [0, 1] && now.brokers_needed).then_some(())
    })
    .await;
    // Two of three replicas are the minimum: neither of them can be spared before the third is back.
    let by_both = (Some(1), vec!["three-0".to_owned()]);
    let expected = [by_both.clone(), by_both, (Some(0), vec![])];
    eventually("both are needed", async || {
        (needed(&mut admin).await == expected).then_some(())
    })
    .await;
    assert_eq!(last(&mut admin).await, only, "away or not");
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_hears_no_controller_says_so_and_who_waits_at_it_is_told() {
    let (mut brokers, _, dir) = cluster_with("").await;
    let tls = Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator)).unwrap();
    let alone = brokers.remove(0);
    let mut admin = AdminClient::new(channel(alone.addresses().quorum, tls));
    eventually("all three to vote", async || {
        (alone.broker().metadata.voters().len() == 3).then_some(())
    })
    .await;
    let describe = proto::DescribeClusterRequest {};
    eventually("a controller is known", async || {
        let described = admin.describe_cluster(describe).await.unwrap();
        described.into_inner().controller_id
    })
    .await;
    for broker in brokers {
        broker.stop().await;
    }
    // It has heard of that, but for the controller's being gone, which nobody is there to tell.
    let mut known = None;
    loop {
        let request = proto::AwaitAvailabilityRequest {
            known: known.clone(),
        };
        let answer = admin.await_availability(request).await.unwrap();
        let now = answer.into_inner().now;
        if now.as_ref().is_some_and(|now| now.controller_unknown) {
            break;
        }
        assert_ne!(now, known, "it waited for its time");
        known = now;
    }
    let described = admin.describe_cluster(describe).await.unwrap();
    assert_eq!(described.into_inner().controller_id, None);
    alone.stop().await;
}

#[tokio::test]
async fn who_waits_for_news_of_brokers_does_not_hold_up_the_end_of_one() {
    let ask = |known| proto::AwaitAvailabilityRequest { known };
    // Where the end itself takes as long as the call may, that says nothing.
    eventually("one ends before the call's time is over", async || {
        let broker = TestBroker::start().await;
        let mut admin = admin(&broker).await;
        let known = admin.await_availability(ask(None)).await.unwrap();
        let known = known.into_inner().now;
        let waits = {
            let (mut admin, request) = (admin.clone(), ask(known.clone()));
            tokio::spawn(async move { admin.await_availability(request).await })
        };
        // By the same connection, behind it.
        let described = admin.describe_cluster(proto::DescribeClusterRequest {});
        described.await.unwrap();
        broker.running.stop().await;
        let answer = waits.await.unwrap();
        let waited = answer.is_ok_and(|answer| answer.into_inner().now == known);
        (!waited).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_number_of_replicas_is_changed_with_a_topic() {
    let broker = TestBroker::start().await;
    let mut admin = admin(&broker).await;
    let request = proto::CreateTopicsRequest {
        topics: vec![proto::NewTopic {
            name: "t".into(),
            ..proto::NewTopic::default()
        }],
        validate_only: false,
    };
    admin.create_topics(request).await.unwrap();
    for (replicas, wanted) in [
        (1, None),
        (2, Some("INVALID_REPLICATION_FACTOR".to_owned())),
    ] {
        let change = proto::TopicChange {
            name: "t".into(),
            replication_factor: Some(replicas),
            ..proto::TopicChange::default()
        };
        let request = proto::AlterTopicsRequest {
            changes: vec![change],
            validate_only: false,
        };
        let answer = codes(admin.alter_topics(request).await.unwrap());
        assert_eq!(answer, [("t".into(), wanted)]);
    }
}
