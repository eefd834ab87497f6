//! Clients that come by different listeners: each is told of addresses of its own, everywhere where a broker tells where brokers are.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use tonic::transport::Channel;
use weir_broker::start::Running;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::{Role, Tls, directory};
use weir_wire::MessageView;
use weir_wire::messages::{
    DescribeClusterRequest, DescribeClusterResponseView, ErrorCode, FetchResponseView,
    FindCoordinatorRequest, FindCoordinatorResponseView, MetadataRequest, ProduceResponseView,
};

use crate::client::{Client, TestBroker, batch, channel, eventually, fetch, produce};
use crate::cluster::{cluster, knows};

/// What clients from outside are told, and not what anybody listens on: nobody in these tests goes there.
const OUTSIDE: i32 = 31_000;

/// Ports that nobody has now.
pub(crate) fn ports(count: usize) -> Vec<u16> {
    let taken: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("0.0.0.0:0").unwrap())
        .collect();
    let ports = taken.iter().map(|socket| socket.local_addr().unwrap());
    ports.map(|address| address.port()).collect()
}

fn outside(broker: i32, port: u16, is_known: bool) -> proto::BrokerListeners {
    let advertised = is_known.then(|| proto::AdvertisedAddress {
        host: format!("broker-{broker}.example.com"),
        port: u32::try_from(OUTSIDE + broker).unwrap(),
    });
    proto::BrokerListeners {
        broker,
        listeners: vec![proto::Listener {
            name: "outside".into(),
            port: port.into(),
            advertised,
            tls_port: 0,
        }],
    }
}

pub(crate) async fn set(admin: &mut AdminClient<Channel>, brokers: Vec<proto::BrokerListeners>) {
    let request = proto::SetListenersRequest { brokers };
    let answer = admin.set_listeners(request).await.unwrap().into_inner();
    for result in answer.results {
        assert_eq!(result.error, None, "broker {}", result.broker);
    }
}

/// A connection to a port that is opened some time.
async fn opened(port: u16) -> Client {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("the listener is open", async || {
        tokio::net::TcpStream::connect(address).await.ok()
    })
    .await;
    Client::connect(address).await
}

/// The brokers that a client is told of by Metadata.
async fn told(client: &mut Client) -> Vec<(i32, String, i32)> {
    let request = MetadataRequest {
        topics: Some(Vec::new()),
        ..MetadataRequest::default()
    };
    let response = client.metadata(9, &request).await;
    let brokers = response.brokers.into_iter();
    brokers
        .map(|broker| (broker.node_id, broker.host, broker.port))
        .collect()
}

fn everybody() -> Vec<(i32, String, i32)> {
    (0..3)
        .map(|id| (id, format!("broker-{id}.example.com"), OUTSIDE + id))
        .collect()
}

async fn stop(brokers: Vec<Running>) {
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn a_client_is_told_of_addresses_of_the_listener_that_it_came_by_and_of_no_other() {
    let (brokers, dir) = cluster().await;
    let tls = Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator)).unwrap();
    let mut admin = AdminClient::new(channel(brokers[0].addresses().quorum, tls));
    let ports = ports(3);
    let of = |id: i32, is_known| outside(id, ports[usize::try_from(id).unwrap()], is_known);
    let mut inside = Client::connect(brokers[0].addresses().kafka).await;
    inside.create_topic("t", 3, &[]).await;
    let leaders = knows(&mut inside, 3).await;

    // Before its address is known a broker is no one that a client could go to.
    set(&mut admin, vec![of(0, true), of(1, true), of(2, false)]).await;
    let mut client = opened(ports[0]).await;
    assert_eq!(told(&mut client).await, everybody()[..2]);
    let request = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    for (version, expected) in [
        (5, ErrorCode::LeaderNotAvailable),
        (9, ErrorCode::ListenerNotFound),
    ] {
        let response = client.metadata(version, &request).await;
        for partition in &response.topics[0].partitions {
            let led_by = leaders[&partition.partition_index];
            let of_two = (expected.code(), -1);
            let expected = if led_by == 2 { of_two } else { (0, led_by) };
            assert_eq!((partition.error_code, partition.leader_id), expected);
        }
        assert_ne!(
            response.controller_id, 2,
            "one that is not among the brokers"
        );
    }

    // It is told as soon as it is known, and nobody was restarted.
    set(&mut admin, vec![of(2, true)]).await;
    eventually("the third address is told", async || {
        (told(&mut client).await == everybody()).then_some(())
    })
    .await;
    let own = told(&mut inside).await;
    let expected: Vec<i32> = brokers
        .iter()
        .map(|broker| broker.addresses().kafka.port().into())
        .collect();
    let found: Vec<i32> = own.iter().map(|(_, _, port)| *port).collect();
    assert_eq!(
        found, expected,
        "who came by the other listener is told of that"
    );

    let (&partition, &leader) = leaders.iter().find(|(_, leader)| **leader != 0).unwrap();
    let body = client
        .call(10, &produce("t", partition, batch(&["a"])))
        .await;
    let response = ProduceResponseView::decode(&body, 10).unwrap().to_owned();
    assert_eq!(
        (
            response.node_endpoints[0].node_id,
            response.node_endpoints[0].port
        ),
        (leader, OUTSIDE + leader)
    );
    let mut request = fetch("t", partition, 0);
    let image = brokers[0].broker().metadata.image();
    request.topics[0].topic_id = image.topic("t").unwrap().id.0;
    request.topics[0].topic.clear();
    let body = client.call(16, &request).await;
    let response = FetchResponseView::decode(&body, 16).unwrap().to_owned();
    assert_eq!(response.node_endpoints[0].port, OUTSIDE + leader);

    let body = client.call(1, &DescribeClusterRequest::default()).await;
    let response = DescribeClusterResponseView::decode(&body, 1)
        .unwrap()
        .to_owned();
    let described: Vec<_> = response
        .brokers
        .into_iter()
        .map(|broker| (broker.broker_id, broker.host, broker.port))
        .collect();
    assert_eq!(described, everybody());
    let request = FindCoordinatorRequest {
        coordinator_keys: vec!["readers".into()],
        ..FindCoordinatorRequest::default()
    };
    let found = eventually("the group has a coordinator", async || {
        let body = client.call(4, &request).await;
        let response = FindCoordinatorResponseView::decode(&body, 4)
            .unwrap()
            .to_owned();
        let found = response.coordinators.into_iter().next()?;
        (found.error_code == 0).then_some(found)
    })
    .await;
    assert_eq!(found.port, OUTSIDE + found.node_id);
    stop(brokers).await;
}

#[tokio::test]
async fn a_listener_comes_and_goes_while_the_broker_runs_and_is_there_after_a_restart() {
    let broker = TestBroker::start().await;
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let port = ports(1)[0];
    set(&mut admin, vec![outside(0, port, true)]).await;
    let mut client = opened(port).await;
    assert_eq!(told(&mut client).await, everybody()[..1]);
    let describe = proto::DescribeClusterRequest {};
    let described = admin.describe_cluster(describe).await.unwrap().into_inner();
    assert!(described.sets_listeners);
    assert_eq!(
        described.brokers[0].listeners,
        outside(0, port, true).listeners
    );

    let broker = broker.restart().await;
    let mut client = opened(port).await;
    assert_eq!(told(&mut client).await, everybody()[..1]);
    // What is the operator's no client takes away.
    let mut inside = broker.connect().await;
    for name in ["listeners", "advertised.listeners"] {
        let refused = inside.alter_configs(4, "0", &[(1, name, None)]).await;
        assert_eq!(refused, ErrorCode::InvalidRequest.code());
    }
    assert_eq!(told(&mut client).await, everybody()[..1]);

    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let gone = proto::BrokerListeners {
        broker: 0,
        listeners: Vec::new(),
    };
    set(&mut admin, vec![gone]).await;
    assert_eq!(client.receive().await, None, "its connections end");
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    eventually("nobody listens there", async || {
        tokio::net::TcpStream::connect(address).await.err()
    })
    .await;
    assert_eq!(
        told(&mut inside).await.len(),
        1,
        "the other listener goes on"
    );
    broker.stop().await;
}

#[tokio::test]
async fn listeners_that_cannot_be_are_refused_and_nothing_changes() {
    let broker = TestBroker::start().await;
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let listener = |name: &str, port| proto::Listener {
        name: name.into(),
        port,
        advertised: None,
        tls_port: 0,
    };
    let host = proto::Listener {
        advertised: Some(proto::AdvertisedAddress {
            host: "a,b://c".into(),
            port: 1,
        }),
        ..listener("lb", 9100)
    };
    let either = proto::Listener {
        tls_port: 9101,
        ..listener("lb", 9100)
    };
    let many = (0..17).map(|at| listener(&format!("l{at}"), 9100 + at));
    for listeners in [
        vec![listener("kafka", 9100)],
        vec![listener("Lb", 9100)],
        vec![listener("lb", 80)],
        vec![listener("lb", 70_000)],
        vec![host],
        vec![either],
        vec![listener("a", 9100), listener("b", 9100)],
        vec![listener("a", 9100), listener("a", 9101)],
        many.collect(),
    ] {
        let named = format!("{listeners:?}");
        let of_zero = proto::BrokerListeners {
            broker: 0,
            listeners,
        };
        let request = proto::SetListenersRequest {
            brokers: vec![of_zero],
        };
        let answer = admin.set_listeners(request).await.unwrap().into_inner();
        let error = answer.results.into_iter().find_map(|result| result.error);
        assert_eq!(error.unwrap_or_default().code, "INVALID_REQUEST", "{named}");
    }
    let request = proto::SetListenersRequest {
        brokers: vec![outside(7, 9100, true)],
    };
    let answer = admin.set_listeners(request).await.unwrap().into_inner();
    let error = answer.results.into_iter().find_map(|result| result.error);
    assert_eq!(error.unwrap_or_default().code, "BROKER_ID_NOT_REGISTERED");
    let image = broker.running.broker().metadata.image();
    assert_eq!(image.listeners(weir_quorum::BrokerId(0)), []);
    broker.stop().await;
}
