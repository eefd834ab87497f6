//! Load balancers that somebody makes later, as a cloud does: until then the Cluster says which address is missing and why, and nobody waits for it; as they
//! come, clients are told of them, each broker's own.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use weir_crds::{Cluster, ClusterStatus, ListenerStatus};
use weir_tests::flights;
use weir_tests::log;

use super::{NODES, Outside, brokers_told, manifest};
use crate::stage::{Stage, restarts};
use crate::tls::node;
use crate::watching::{condition, until};

/// The addresses of the load balancers, which nobody else has (RFC 5737).
const NETWORK: &str = "203.0.113.0/24";

/// What one of them is called.
const NAME: &str = "broker-2.shop.example";

/// The listener's.
const PORT: u16 = 9101;

/// Messages through the load balancers.
const MESSAGES: usize = 3_000;

/// The story is the cloud. What nodes make of the addresses is `kube-proxy`'s, as everywhere.
pub(super) async fn come_later(stage: &Stage, outside: &Outside) {
    if !outside.made {
        println!("  left out: load balancers are made by whoever runs this cluster");
        return;
    }
    let before = restarts(&stage.brokers("shop").await);
    let lines = format!("{NODES}    - name: lb\n      port: {PORT}\n      type: loadBalancer\n");
    stage.apply(&manifest(3, &lines));
    let part = "3 of 3 brokers have no address yet, broker 0 because Service shop-listener-lb-0 has no load balancer yet";
    let status = pending(stage, part).await;
    let (lb, nodes) = (listener(&status, "lb"), listener(&status, "nodes"));
    assert_eq!((&lb.bootstrap, lb.addresses.len()), (&None, 0));
    let nodes = nodes.bootstrap.clone().expect("that listener is as it was");
    assert_eq!(brokers_told(&outside.clients, &nodes).len(), 3);
    let since = waits_since(&status);

    let ingress = [
        ("shop-listener-lb", json!({"ip": "203.0.113.9"})),
        ("shop-listener-lb-0", json!({"ip": "203.0.113.10"})),
        ("shop-listener-lb-1", json!({"ip": "203.0.113.11"})),
    ];
    for (service, at) in ingress {
        balance(stage, service, &at).await;
    }
    let part = "1 of 3 brokers have no address yet, broker 2 because Service shop-listener-lb-2 has no load balancer yet";
    let status = pending(stage, part).await;
    assert_eq!(listener(&status, "lb").addresses.len(), 2);
    assert_eq!(waits_since(&status), since, "since it was asked for");

    let last = json!({"hostname": NAME, "ip": "203.0.113.12"});
    balance(stage, "shop-listener-lb-2", &last).await;
    let status = until_status(stage, "each broker has a load balancer", |status| {
        let pending = condition(&status.conditions, "ListenersPending");
        pending.is_some_and(|pending| pending.status == "False")
            && listener(status, "lb").addresses.len() == 3
    })
    .await;
    let lb = listener(&status, "lb");
    let bootstrap = format!("203.0.113.9:{PORT}");
    assert_eq!(lb.bootstrap.as_ref(), Some(&bootstrap));

    outside.reaches(NETWORK, &node(stage).await, (NAME, "203.0.113.12"));
    stage.topic("shop", "balanced", 12).await;
    let told = brokers_told(&outside.clients, &bootstrap);
    let expected = ["203.0.113.10", "203.0.113.11", NAME].map(|host| format!("{host}:{PORT}"));
    assert_eq!(told, expected, "each broker has its own");
    let some = &flights::all()[..MESSAGES];
    outside.clients.produce(&bootstrap, "balanced", some);
    let log = outside.clients.read_log(&bootstrap, "balanced");
    log::holds_exactly(&log, some).unwrap_or_else(|wrong| panic!("{wrong}"));
    assert_eq!(
        restarts(&stage.brokers("shop").await),
        before,
        "nobody was restarted for it"
    );
    println!("  {MESSAGES} messages went through load balancers that came later");
}

/// What a cloud's controller does when it has made one.
async fn balance(stage: &Stage, service: &str, at: &Value) {
    let status = json!({"status": {"loadBalancer": {"ingress": [at]}}});
    let (services, parameters) = (stage.api::<Service>(), PatchParams::default());
    let status = Patch::Merge(status);
    let patched = services.patch_status(service, &parameters, &status);
    patched.await.expect("the Service takes its address");
}

/// Waits until the Cluster says that it waits for an address, in these words.
async fn pending(stage: &Stage, part: &str) -> ClusterStatus {
    until_status(stage, part, |status| {
        condition(&status.conditions, "ListenersPending").is_some_and(|pending| {
            (pending.status.as_str(), pending.reason.as_str()) == ("True", "ListenerAddressMissing")
                && pending.message.contains(part)
        })
    })
    .await
}

async fn until_status(
    stage: &Stage,
    what: &str,
    wanted: impl Fn(&ClusterStatus) -> bool,
) -> ClusterStatus {
    let is_wanted = |cluster: &Cluster| cluster.status.as_ref().is_some_and(&wanted);
    let cluster = until(&stage.api::<Cluster>(), "shop", what, is_wanted).await;
    cluster.status.unwrap_or_default()
}

/// Since when the Cluster waits.
fn waits_since(status: &ClusterStatus) -> String {
    let pending: Option<&Condition> = condition(&status.conditions, "ListenersPending");
    let since = pending.map(|pending| &pending.last_transition_time);
    format!("{since:?}")
}

/// What the status says of a listener.
fn listener(status: &ClusterStatus, name: &str) -> ListenerStatus {
    let mut listeners = status.listeners.iter();
    let found = listeners.find(|listener| listener.name == name);
    found.cloned().unwrap_or_default()
}
