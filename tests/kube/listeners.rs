//! A client outside the pod network writes and reads through node ports, while the listener comes, a pod moves, and the listener goes: nobody is
//! restarted for it, each answer has addresses of nodes, and what was acknowledged is there. Then through load balancers, which come when nobody waits for
//! them any more ([`balanced`]).
//!
//! Outside is a network namespace of this machine that has the nodes' network and no way to pods or Services; with somebody else's Kubernetes it is
//! this machine itself.

mod balanced;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU8, Ordering};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use kube::api::ListParams;
use weir_crds::{Cluster, ListenerStatus};
use weir_tests::acknowledged::Producer;
use weir_tests::clients::Clients;
use weir_tests::log;

use crate::load::Load;
use crate::nodes::cluster_of_the_tests;
use crate::shell::run;
use crate::stage::{Stage, restarts};
use crate::watching::{condition, until, until_replaced};

/// By a port of each broker's node.
const NODES: &str = "  listeners:\n    - name: nodes\n      port: 9100\n      type: nodePort\n      nodeAddressType: InternalIP\n";

#[tokio::test]
async fn clients_outside_the_pod_network_write_and_read_through_node_ports_and_load_balancers() {
    let stage = Stage::open("listeners").await;
    stage.cluster("shop", 3).await;
    stage.topic("shop", "flights", 12).await;
    let before = restarts(&stage.brokers("shop").await);
    let outside = Outside::open();

    stage.apply(&manifest(3, NODES));
    let listener = addressed(&stage, 3).await;
    let bootstrap = listener.bootstrap.clone().expect("somewhere to begin");
    println!("  reached at {bootstrap}");
    let load = Load::begin(Producer::start(&outside.clients, &bootstrap, "flights"));
    let told = brokers_told(&outside.clients, &bootstrap);
    let expected: Vec<String> = listener
        .addresses
        .iter()
        .map(|at| format!("{}:{}", at.host, at.port))
        .collect();
    assert_eq!(told, expected, "addresses of nodes, and none of pods");

    // A pod that comes back, perhaps on another node, is found there.
    let (name, uid, _) = &before[1];
    stage.kubectl(&["delete", "pod", name]);
    stage.pod_ready(name, uid).await;
    stage.cluster_ready("shop").await;
    addressed(&stage, 3).await;

    let sent = load.end().finish_with(|acknowledged| {
        let log = outside.clients.read_log(&bootstrap, "flights");
        log::holds_acknowledged(&log, acknowledged);
    });
    println!("  {sent} messages acknowledged outside, and all of them are there");
    balanced::come_later(&stage, &outside).await;

    stage.apply(&manifest(3, ""));
    until(
        &stage.api::<Cluster>(),
        "shop",
        "no listener is left",
        |cluster| {
            let status = cluster.status.as_ref();
            status.is_some_and(|status| {
                status.listeners.is_empty()
                    && status.observed_generation == cluster.metadata.generation
            })
        },
    )
    .await;
    let services = stage.api::<Service>();
    let labelled = ListParams::default().labels("weir.dev/listener");
    for service in services.list(&labelled).await.expect("Services are listed") {
        until_replaced(
            &services,
            &service.name_any(),
            &service.uid().unwrap_or_default(),
        )
        .await;
    }
    let after = restarts(&stage.brokers("shop").await);
    assert_eq!(
        (&after[0], &after[2]),
        (&before[0], &before[2]),
        "nobody was restarted for a listener"
    );
    stage.close().await;
}

/// The Cluster of so many brokers, with these further lines of its spec.
pub(crate) fn manifest(brokers: u32, lines: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Cluster\nmetadata:\n  name: shop\n\
         spec:\n  replicas: {brokers}\n  storage:\n    size: 1Gi\n{lines}"
    )
}

/// Waits until each of so many brokers has an address, and the brokers know it.
pub(crate) async fn addressed(stage: &Stage, brokers: usize) -> ListenerStatus {
    let cluster = until(
        &stage.api::<Cluster>(),
        "shop",
        "each broker has an address",
        |cluster| {
            let Some(status) = &cluster.status else {
                return false;
            };
            let rests = condition(&status.conditions, "Reconciling")
                .is_some_and(|reconciling| reconciling.reason == "Converged");
            let all = status
                .listeners
                .first()
                .map(|listener| listener.addresses.len());
            rests
                && all == Some(brokers)
                && status.observed_generation == cluster.metadata.generation
        },
    )
    .await;
    let status = cluster.status.unwrap_or_default();
    status.listeners.into_iter().next().unwrap_or_default()
}

/// The brokers' addresses as Metadata has them, by the brokers' numbers.
fn brokers_told(clients: &Clients, bootstrap: &str) -> Vec<String> {
    let listed = clients
        .kcat()
        .args(["-L", "-J", "-b", bootstrap])
        .output()
        .expect("kcat runs");
    let metadata: serde_json::Value =
        serde_json::from_slice(&listed.stdout).expect("kcat prints JSON");
    let brokers = metadata["brokers"].as_array().expect("brokers");
    let mut told: Vec<(i64, String)> = brokers
        .iter()
        .map(|broker| {
            let name = broker["name"].as_str().unwrap_or_default();
            (broker["id"].as_i64().unwrap_or(-1), name.to_owned())
        })
        .collect();
    told.sort_unstable();
    told.into_iter().map(|(_, name)| name).collect()
}

/// A place outside the pod network, and what was made for it. Each story has one of its own.
pub(crate) struct Outside {
    pub(crate) clients: Clients,
    made: bool,
}

/// How many were made.
static OUTSIDE: AtomicU8 = AtomicU8::new(0);

impl Outside {
    pub(crate) fn open() -> Self {
        let Some(cluster) = cluster_of_the_tests() else {
            return Self {
                clients: Clients::Here,
                made: false,
            };
        };
        let number = OUTSIDE.fetch_add(1, Ordering::Relaxed);
        let name = format!("{cluster}-outside{number}");
        // What an interrupted run has left.
        forget(&name);
        let script = format!(
            "set -e\n\
             lan=$(nsenter --net=/run/netns/{cluster} ip -4 -o addr show lan0 | grep -o 'inet [0-9.]*' | cut -d' ' -f2 | sed 's/\\.1$//')\n\
             ip netns add {name}\n\
             ip link add eth0 netns {name} type veth peer name outside{number} netns {cluster}\n\
             nsenter --net=/run/netns/{cluster} ip link set outside{number} master lan0 up\n\
             nsenter --net=/run/netns/{name} ip link set lo up\n\
             nsenter --net=/run/netns/{name} ip addr add $lan.{address}/24 dev eth0\n\
             nsenter --net=/run/netns/{name} ip link set eth0 up\n",
            address = 200 + number
        );
        let done = Command::new("bash").args(["-c", &script]).status();
        assert!(
            done.is_ok_and(|status| status.success()),
            "a network outside the pods' is made"
        );
        Self {
            clients: Clients::Network { namespace: name },
            made: true,
        }
    }

    /// Has these addresses reached by a node, and a name resolved.
    fn reaches(&self, network: &str, node: &str, (name, address): (&str, &str)) {
        let Clients::Network { namespace } = &self.clients else {
            return;
        };
        // Where `ip netns exec` looks for what is to be in /etc.
        let folder = names(namespace);
        fs::create_dir_all(&folder).expect("a folder");
        let hosts = format!("127.0.0.1 localhost\n{address} {name}\n");
        fs::write(folder.join("hosts"), hosts).expect("written");
        let route = ["route", "add", network, "via", node];
        run("ip", &[&["-netns", namespace][..], &route].concat());
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        if let Clients::Network { namespace } = &self.clients
            && self.made
        {
            forget(namespace);
        }
    }
}

/// Where names are that only a network namespace knows.
fn names(namespace: &str) -> PathBuf {
    Path::new("/etc/netns").join(namespace)
}

fn forget(namespace: &str) {
    let _ = Command::new("ip")
        .args(["netns", "del", namespace])
        .output();
    let _ = fs::remove_dir_all(names(namespace));
}
