//! Brokers of two versions: what a newer one knows is used when somebody says so, and from then on an older one is not let in.

use std::sync::Arc;

use tonic::transport::Channel;
use weir_broker::start::start;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_quorum::controller::FEATURE_LEVEL;
use weir_tls::{Role, Tls, directory};

use crate::client::{TestBroker, channel, eventually};
use crate::cluster::cluster_with;

async fn levels(admin: &mut AdminClient<Channel>) -> proto::DescribeFeatureLevelsResponse {
    let request = proto::DescribeFeatureLevelsRequest {};
    let asked = admin.describe_feature_levels(request).await;
    asked.unwrap().into_inner()
}

#[tokio::test]
async fn a_newer_broker_keeps_to_the_level_of_the_older_one_until_it_is_told_otherwise() {
    let older = TestBroker::start_with("cluster: { feature_level: 1 }").await;
    let mut admin = AdminClient::new(older.channel(Role::Operator));
    let own = |level| proto::BrokerLevel { broker: 0, level };
    let seen = levels(&mut admin).await;
    assert_eq!((seen.level, seen.newest), (1, vec![own(1)]));
    let raise = proto::RaiseFeatureLevelRequest {
        level: FEATURE_LEVEL,
    };
    let answer = admin.raise_feature_level(raise).await.unwrap().into_inner();
    let error = answer.error.unwrap_or_default();
    assert!(error.message.contains("up to level 1"), "{error:?}");

    let newer = TestBroker::on(older.stop().await, "").await;
    let mut admin = AdminClient::new(newer.channel(Role::Operator));
    let seen = levels(&mut admin).await;
    assert_eq!((seen.level, seen.newest), (1, vec![own(FEATURE_LEVEL)]));
    let answer = admin.raise_feature_level(raise).await.unwrap().into_inner();
    assert_eq!(answer.error, None);
    eventually("the level is used", async || {
        (levels(&mut admin).await.level == FEATURE_LEVEL).then_some(())
    })
    .await;
    newer.stop().await;
}

#[tokio::test]
async fn a_broker_that_knows_less_than_the_cluster_uses_is_told_of_and_not_let_in() {
    let (mut brokers, configs, dir) = cluster_with("").await;
    let tls = Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator)).unwrap();
    let mut admin = AdminClient::new(channel(brokers[0].addresses().quorum, tls));
    brokers.remove(2).stop().await;
    let mut older = configs[2].clone();
    older.cluster.feature_level = 1;
    // It never comes up.
    let starting = tokio::spawn(start(older, Arc::new(|_: &str| {})));
    let refused = proto::BrokerLevel {
        broker: 2,
        level: 1,
    };
    eventually("it is told of", async || {
        let seen = levels(&mut admin).await;
        (seen.refused == [refused]).then_some(())
    })
    .await;
    let describe = proto::DescribeClusterRequest {};
    let described = admin.describe_cluster(describe).await.unwrap().into_inner();
    assert!(!described.brokers[2].alive);
    assert!(!starting.is_finished());
    starting.abort();
    for broker in brokers {
        broker.stop().await;
    }
}
