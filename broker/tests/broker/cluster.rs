//! Three brokers in one process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::SystemTime;

use tempfile::TempDir;
use tokio::task::JoinSet;
use weir_broker::certificates;
use weir_broker::config::{Config, Environment};
use weir_broker::host::Host;
use weir_broker::net::{Dialer, Tcp};
use weir_broker::start::{OnFatal, Running, start, start_on};
use weir_log::storage_sim::SimStorage;
use weir_tls::{Role, directory};
use weir_wire::MessageView;
use weir_wire::messages::{ErrorCode, FetchResponseView, MetadataRequest, ProduceResponseView};

use crate::client::{Client, PATIENCE, batch, eventually, fetch, produce, values};

/// Who has certificates in a cluster's directory `tls`.
pub(crate) const MEMBERS: [Role; 4] = [
    Role::Broker(0),
    Role::Broker(1),
    Role::Broker(2),
    Role::Operator,
];

/// Three brokers that form one cluster.
pub(crate) async fn cluster() -> (Vec<Running>, TempDir) {
    let (brokers, _, dir) = cluster_with("").await;
    (brokers, dir)
}

/// Three brokers that form one cluster, with some lines of configuration each, and how each of them is configured.
pub(crate) async fn cluster_with(settings: &str) -> (Vec<Running>, Vec<Config>, TempDir) {
    cluster_on(settings, |_| None).await
}

/// Peers are named before they listen, so where they do is chosen here: on loopback addresses of the cluster's own, where nobody who connects is
/// given the port meanwhile.
fn addresses() -> [String; 3] {
    static CLUSTERS: AtomicU16 = AtomicU16::new(0);
    let cluster = CLUSTERS.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id() % 200 + 1;
    let [high, low] = cluster.to_be_bytes();
    [1, 2, 3].map(|broker| format!("127.{process}.{high}.{low}:{}", 29_090 + broker))
}

/// The same on other disks than the machine's, where a broker has one.
pub(crate) async fn cluster_on(
    settings: &str,
    disk_of: impl Fn(usize) -> Option<SimStorage>,
) -> (Vec<Running>, Vec<Config>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let quorum = addresses();
    let certificates = dir.path().join("tls");
    directory::ensure(&certificates, "test", &MEMBERS, SystemTime::now()).unwrap();
    let mut starting = JoinSet::new();
    let mut configs = Vec::new();
    for (id, address) in quorum.iter().enumerate() {
        let yaml = format!(
            "broker: {{ id: {id}, rack: \"{id}\" }}\ndata_dir: {}/{{id}}\npeers: {quorum:?}\nlisteners:\n  kafka: {{ bind: \"127.0.0.1:0\" }}\n  \
             quorum: {{ bind: \"{address}\", tls: {{ ca: {tls}/ca.crt, certificate: \"{tls}/broker-{{id}}.crt\", \
             key: \"{tls}/broker-{{id}}.key\" }} }}\n  http: {{ bind: \"127.0.0.1:0\" }}\n{settings}",
            dir.path().display(),
            tls = certificates.display(),
        );
        let config = Config::parse(&yaml, &Environment::new(), "test").unwrap();
        configs.push(config.clone());
        let disk = disk_of(id);
        starting.spawn(async move { (id, begin(config, disk).await) });
    }
    let started = tokio::time::timeout(PATIENCE, starting.join_all())
        .await
        .unwrap();
    let by_id: BTreeMap<_, _> = started.into_iter().collect();
    (by_id.into_values().collect(), configs, dir)
}

async fn begin(config: Config, disk: Option<SimStorage>) -> Running {
    let on_fatal: OnFatal = Arc::new(|what: &str| eprintln!("fatal: {what}"));
    let Some(disk) = disk else {
        return start(config, on_fatal).await.unwrap();
    };
    let host = Host {
        storage: Arc::new(disk),
        dialer: Dialer::Tls(Arc::new(certificates::open(&config).unwrap())),
        ..Host::system()
    };
    start_on(config, host, &Tcp, on_fatal).await.unwrap()
}

/// Waits until a broker knows the topic's partitions and all three brokers.
pub(crate) async fn knows(client: &mut Client, partitions: usize) -> BTreeMap<i32, i32> {
    let all = MetadataRequest {
        topics: None,
        ..MetadataRequest::default()
    };
    eventually("a broker knows the topic and the others", async || {
        let response = client.metadata(9, &all).await;
        let topic = response.topics.first();
        let topic = topic
            .filter(|topic| response.brokers.len() == 3 && topic.partitions.len() == partitions)?;
        let partitions = topic.partitions.iter();
        let led = partitions.map(|partition| (partition.partition_index, partition.leader_id));
        Some(led.collect())
    })
    .await
}

#[tokio::test]
async fn trap_15_a_client_at_the_wrong_broker_is_told_who_leads_and_where() {
    let (brokers, _dir) = cluster().await;
    let mut clients = Vec::new();
    for broker in &brokers {
        clients.push(Client::connect(broker.addresses().kafka).await);
    }
    clients[2].create_topic("t", 3, &[]).await;
    let leaders = knows(&mut clients[0], 3).await;
    let (&partition, &leader) = leaders.iter().find(|(_, leader)| **leader != 0).unwrap();
    let port = i32::from(
        brokers[usize::try_from(leader).unwrap()]
            .addresses()
            .kafka
            .port(),
    );

    let body = clients[0]
        .call(10, &produce("t", partition, batch(&["a"])))
        .await;
    let response = ProduceResponseView::decode(&body, 10).unwrap().to_owned();
    let refused = &response.responses[0].partition_responses[0];
    assert_eq!(refused.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert_eq!(refused.current_leader.leader_id, leader);
    let named: Vec<_> = response
        .node_endpoints
        .iter()
        .map(|node| (node.node_id, node.port))
        .collect();
    assert_eq!(named, [(leader, port)]);
    // Versions that have no room for the hint are answered without it.
    let body = clients[0]
        .call(9, &produce("t", partition, batch(&["a"])))
        .await;
    let response = ProduceResponseView::decode(&body, 9).unwrap().to_owned();
    assert_eq!(
        response.responses[0].partition_responses[0].error_code,
        ErrorCode::NotLeaderOrFollower.code()
    );

    let at_leader = &mut clients[usize::try_from(leader).unwrap()];
    knows(at_leader, 3).await;
    assert_eq!(
        at_leader
            .produce("t", partition, batch(&["a"]))
            .await
            .error_code,
        0
    );
    assert_eq!(
        values(&at_leader.fetch_from("t", partition, 0).await),
        [(0, "a".into())]
    );

    let mut request = fetch("t", partition, 0);
    for version in [4, 11, 12] {
        let body = clients[0].call(version, &request).await;
        let response = FetchResponseView::decode(&body, version)
            .unwrap()
            .to_owned();
        assert_eq!(
            response.responses[0].partitions[0].error_code,
            ErrorCode::NotLeaderOrFollower.code()
        );
    }
    request.topics[0].topic_id = brokers[0]
        .broker()
        .metadata
        .image()
        .topic("t")
        .unwrap()
        .id
        .0;
    request.topics[0].topic.clear();
    let body = clients[0].call(16, &request).await;
    let response = FetchResponseView::decode(&body, 16).unwrap().to_owned();
    assert_eq!(
        response.responses[0].partitions[0].current_leader.leader_id,
        leader
    );
    assert_eq!(response.node_endpoints[0].port, port);
    for broker in brokers {
        broker.stop().await;
    }
}
