//! Who is let in on the port for brokers and the operator, and what they may say there.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;
use tonic::Code;
use tonic::transport::Channel;
use weir_broker::config::{Config, Environment};
use weir_broker::net::Dialer;
use weir_broker::start::{Running, StartError, start};
use weir_proto::admin::v1::DescribeClusterRequest;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::groups::v1::DescribeRequest;
use weir_proto::groups::v1::groups_client::GroupsClient;
use weir_proto::quorum::v1::quorum_client::QuorumClient;
use weir_proto::quorum::v1::{ControlRequest, IdentityRequest, JoinRequest, RaftMessage};
use weir_quorum::command::Goodbye;
use weir_quorum::{BrokerEpoch, BrokerId, Command, Incarnation, NodeId};
use weir_tls::{LEAF_LIFE, Role, Tls, directory};

use crate::client::{Client, TestBroker, channel};
use crate::cluster::{MEMBERS, cluster, knows};

/// Whoever has these files.
fn of(dir: &Path, who: Role) -> Tls {
    Tls::from_files(directory::files(dir, who)).unwrap()
}

async fn identity(channel: Channel) -> Result<i32, Code> {
    let answer = QuorumClient::new(channel)
        .identity(IdentityRequest {})
        .await;
    answer
        .map(|answer| answer.into_inner().broker_id)
        .map_err(|status| status.code())
}

async fn describe(channel: Channel) -> Result<usize, Code> {
    let answer = AdminClient::new(channel)
        .describe_cluster(DescribeClusterRequest {})
        .await;
    answer
        .map(|answer| answer.into_inner().brokers.len())
        .map_err(|status| status.code())
}

#[tokio::test]
async fn a_stranger_is_not_let_in() {
    let broker = TestBroker::start().await;
    let address = broker.running.addresses().quorum;
    assert_eq!(describe(broker.channel(Role::Operator)).await, Ok(1));
    // Without a certificate.
    let plain = |address: SocketAddr| {
        weir_broker::quorum::net::channel(&Dialer::Tcp, None, &address.to_string()).unwrap()
    };
    assert!(describe(plain(address)).await.is_err());
    // With one of another authority, though it trusts ours.
    let others = tempfile::tempdir().unwrap();
    directory::ensure(others.path(), "alone", &MEMBERS, SystemTime::now()).unwrap();
    std::fs::copy(
        broker.dir.path().join("tls/ca.crt"),
        others.path().join("ca.crt"),
    )
    .unwrap();
    for who in [Role::Operator, Role::Broker(0)] {
        let refused = describe(channel(address, of(others.path(), who))).await;
        assert!(refused.is_err(), "{who} of another authority was let in");
    }
    assert_eq!(describe(broker.channel(Role::Operator)).await, Ok(1));
}

#[tokio::test]
async fn the_operator_administers_and_has_no_part_in_the_quorum() {
    let broker = TestBroker::start().await;
    let operator = || broker.channel(Role::Operator);
    assert_eq!(describe(operator()).await, Ok(1));
    assert_eq!(identity(operator()).await, Err(Code::PermissionDenied));
    let vote = QuorumClient::new(operator())
        .vote(RaftMessage::default())
        .await;
    assert_eq!(vote.unwrap_err().code(), Code::PermissionDenied);
    let groups = GroupsClient::new(operator())
        .describe(DescribeRequest::default())
        .await;
    assert_eq!(groups.unwrap_err().code(), Code::PermissionDenied);
    // The broker itself may.
    assert_eq!(identity(broker.channel(Role::Broker(0))).await, Ok(0));
}

fn cluster_id(broker: &Running) -> String {
    broker.broker().metadata.cluster_id().unwrap().0
}

fn node(broker: &Running) -> NodeId {
    NodeId {
        broker: broker.broker().metadata.broker_id(),
        incarnation: broker.broker().metadata.incarnation(),
    }
}

#[tokio::test]
async fn a_broker_speaks_in_its_own_name_only() {
    let (brokers, dir) = cluster().await;
    let tls = dir.path().join("tls");
    let as_one = || channel(brokers[0].addresses().quorum, of(&tls, Role::Broker(1)));
    let mut client = QuorumClient::new(as_one());
    let cluster_id = cluster_id(&brokers[0]);

    let join = |broker_id: i32| JoinRequest {
        cluster_id: cluster_id.clone(),
        broker_id,
        incarnation: node(&brokers[1]).incarnation.to_string(),
        address: brokers[1].addresses().quorum.to_string(),
    };
    let refused = client.join(join(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert_eq!(refused.message(), "broker 1 may not speak for broker 2");
    client.join(join(1)).await.unwrap();

    let goodbye = |id: i32| ControlRequest {
        cluster_id: cluster_id.clone(),
        command: serde_json::to_vec(&Command::Goodbye(Goodbye {
            id: BrokerId(id),
            epoch: BrokerEpoch(0),
        }))
        .unwrap(),
    };
    let refused = client.control(goodbye(2)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    client.control(goodbye(1)).await.unwrap();

    // A vote for broker 2 that broker 1 sends, in a term that would win.
    let candidate = NodeId {
        broker: BrokerId(2),
        incarnation: Incarnation(uuid::Uuid::from_u128(7)),
    };
    let vote = serde_json::json!({
        "vote": {"leader_id": {"term": 1_000_000, "node_id": candidate}, "committed": false},
        "last_log_id": null,
    });
    let message = RaftMessage {
        cluster_id: cluster_id.clone(),
        payload: serde_json::to_vec(&vote).unwrap(),
        target: node(&brokers[0]).to_string(),
    };
    let refused = client.vote(message).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
}

#[tokio::test]
async fn certificates_are_exchanged_while_everything_goes_on() {
    let (brokers, dir) = cluster().await;
    let tls = dir.path().join("tls");
    let at = brokers[1].addresses().quorum;
    let old = channel(at, of(&tls, Role::Operator));
    assert_eq!(describe(old.clone()).await, Ok(3));
    let before = std::fs::read(tls.join("broker-1.crt")).unwrap();

    // So long ago were these made.
    let due = SystemTime::now() - LEAF_LIFE * 3 / 4;
    for role in MEMBERS {
        std::fs::remove_file(directory::files(&tls, role).certificate).unwrap();
    }
    directory::ensure(&tls, "test", &MEMBERS, due).unwrap();
    let made = directory::ensure(&tls, "test", &MEMBERS, SystemTime::now()).unwrap();
    assert_eq!(made.len(), MEMBERS.len());
    assert_ne!(std::fs::read(tls.join("broker-1.crt")).unwrap(), before);
    for broker in &brokers {
        let Dialer::Tls(tls) = &broker.broker().host.dialer else {
            panic!("a broker without certificates");
        };
        assert!(tls.reload().unwrap());
    }

    // The connection from before goes on, and new ones are made.
    assert_eq!(describe(old).await, Ok(3));
    let new = channel(at, of(&tls, Role::Operator));
    assert_eq!(describe(new).await, Ok(3));
    let mut client = Client::connect(brokers[2].addresses().kafka).await;
    client.create_topic("t", 3, &[]).await;
    assert_eq!(knows(&mut client, 3).await.len(), 3);
}

#[tokio::test]
async fn a_broker_among_others_does_not_start_without_certificates() {
    let dir = TempDir::new().unwrap();
    let yaml = format!(
        "data_dir: {}\ncluster: {{ brokers: 3 }}\n",
        dir.path().display()
    );
    let config = Config::parse(&yaml, &Environment::new(), "test").unwrap();
    let started = tokio::time::timeout(
        Duration::from_secs(60),
        start(config, std::sync::Arc::new(|_: &str| {})),
    );
    assert!(matches!(
        started.await.unwrap(),
        Err(StartError::Certificates(_))
    ));
}
