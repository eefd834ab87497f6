#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use k8s_openapi::ByteString;
use kube::Client;
use serde_json::{Value, json};
use weir_tls::Role;

use super::{PlanError, Target, print};
use crate::testing::api::Api;
use crate::testing::{certificates, resource};

const SECURED: &str = "
apiVersion: weir.dev/v1alpha1
kind: Cluster
metadata: {name: shop}
spec:
  replicas: 3
  storage: {size: 10Gi}
  listeners:
  - {name: outside, port: 9100, type: internal, tls: {certificateSecret: outside-cert}}
";

const ORDERS: &str = "
apiVersion: weir.dev/v1alpha1
kind: Topic
metadata: {name: orders}
spec: {clusterRef: {name: shop}, partitions: 3, deletionPolicy: Delete}
";

/// What is printed for some manifests, and what comes of it.
async fn planned(text: &str, client: Option<&Client>) -> (String, Result<(), PlanError>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("shop.yaml");
    std::fs::write(&file, text).unwrap();
    let target = Target {
        offline: client.is_none(),
        namespace: None,
        broker_image: "weir-broker:0.1.0".into(),
    };
    let mut out = Vec::new();
    let result = print(&[file], target, client, &mut out).await;
    (String::from_utf8(out).unwrap(), result)
}

fn path(kind: &str, name: &str) -> String {
    format!("/apis/weir.dev/v1alpha1/namespaces/market/{kind}/{name}")
}

/// An API server with the Cluster `shop`, with or without changes.
fn with_shop(change: impl FnOnce(&mut Value)) -> Api {
    let api = Api::default();
    let mut stored = serde_json::to_value(resource()).unwrap();
    change(&mut stored);
    api.put(&path("clusters", "shop"), stored);
    api
}

fn topic(name: &str, spec: &Value) -> Value {
    json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Topic", "spec": spec,
        "metadata": {"name": name, "namespace": "market", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
    })
}

#[tokio::test]
async fn a_certificate_that_is_there_holds_no_listener_up() {
    let api = with_shop(|_| {});
    let client = api.client();
    let (told, result) = planned(SECURED, Some(&client)).await;
    assert!(result.is_ok(), "{told}");
    assert!(
        told.contains("blocked by ListenerCertificateMissing"),
        "{told}"
    );

    let pair = &certificates().leaves[&Role::Broker(0)];
    let data = |text: &str| ByteString(text.as_bytes().to_vec());
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "outside-cert", "namespace": "market"},
        "data": {"tls.crt": data(&pair.certificate), "tls.key": data(&pair.key)},
    });
    api.put("/api/v1/namespaces/market/secrets/outside-cert", secret);
    let (told, result) = planned(SECURED, Some(&client)).await;
    assert!(result.is_ok(), "{told}");
    assert!(told.contains("create StatefulSet shop-broker"), "{told}");
    assert!(!told.contains("ListenerCertificateMissing"), "{told}");
}

#[tokio::test]
async fn topics_of_a_paused_cluster_wait_whoever_says_that_it_is_paused() {
    let api = with_shop(|stored| stored["spec"]["paused"] = true.into());
    let waits = "Topic market/orders\n  blocked by Paused: Cluster \"shop\" is paused";
    let (told, result) = planned(ORDERS, Some(&api.client())).await;
    assert!(told.contains(waits), "{told}");
    assert!(result.is_ok(), "what waits is not refused: {result:?}");

    let paused = SECURED.replace("replicas: 3", "replicas: 3\n  paused: true");
    let text = format!("{paused}---{ORDERS}");
    let (told, _) = planned(&text, None).await;
    let waits = waits.replace("market/", "default/");
    assert!(told.contains(&waits), "{told}");
    assert!(
        told.contains("blocked by Paused: spec.paused is true"),
        "{told}"
    );
}

#[tokio::test]
async fn a_topic_of_another_resource_is_a_conflict_also_when_no_file_names_that_one() {
    let api = with_shop(|_| {});
    let spec = json!({"clusterRef": {"name": "shop"}, "topicName": "orders"});
    api.put(&path("topics", "older"), topic("older", &spec));
    let spec = json!({"clusterRef": {"name": "shop"}, "partitions": 3});
    let mut younger = topic("orders", &spec);
    younger["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z".into();
    api.put(&path("topics", "orders"), younger);
    let (told, result) = planned(ORDERS, Some(&api.client())).await;
    assert!(told.contains("blocked by Conflict"), "{told}");
    assert!(matches!(result, Err(PlanError::Refused(1))), "{result:?}");
    assert!(!told.contains("older\n"), "nobody asked about it: {told}");
}

#[tokio::test]
async fn what_kubernetes_and_the_operator_wrote_of_a_resource_is_taken_into_account() {
    let takes = "hold the resource until its topic is deleted";
    let api = with_shop(|stored| {
        stored["metadata"]["annotations"] = json!({"weir.dev/drain": "2"});
    });
    let (told, _) = planned(ORDERS, Some(&api.client())).await;
    assert!(told.contains(takes), "{told}");
    let spec = json!({"clusterRef": {"name": "shop"}, "partitions": 3});
    let mut stored = topic("orders", &spec);
    stored["metadata"]["finalizers"] = json!([crate::names::TOPIC_FINALIZER]);
    api.put(&path("topics", "orders"), stored);
    let (told, result) = planned(ORDERS, Some(&api.client())).await;
    assert!(result.is_ok() && !told.contains(takes), "{told}");
    assert!(
        told.contains("create topic orders with 3 partitions, unless it is there"),
        "no broker answers: {told}"
    );

    let wanted = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "shop", "annotations": {"own": "1"}},
        "spec": {"replicas": 5, "storage": {"size": "10Gi"}},
    }));
    let wanted: weir_crds::Cluster = wanted.unwrap();
    let mut stored = resource();
    stored.metadata.annotations = Some([("weir.dev/drain".to_owned(), "2".to_owned())].into());
    let applied = super::applied(&wanted, &stored);
    assert_eq!(applied.spec.replicas, 5);
    assert_eq!(applied.metadata.uid, stored.metadata.uid);
    assert_eq!(applied.metadata.generation, Some(2), "its spec is another");
    let annotations = applied.metadata.annotations.unwrap();
    let names: Vec<&str> = annotations.keys().map(String::as_str).collect();
    assert_eq!(names, ["own", "weir.dev/drain"]);
}

#[tokio::test]
async fn nothing_is_asked_of_anybody_offline_and_a_cluster_that_is_nowhere_is_refused() {
    let (told, result) = planned(ORDERS, None).await;
    assert!(told.contains("blocked by ClusterNotFound"), "{told}");
    assert!(matches!(result, Err(PlanError::Refused(1))), "{result:?}");
    let api = Api::default();
    api.refuse("topics", 503);
    let (told, result) = planned(ORDERS, Some(&api.client())).await;
    assert!(
        matches!(result, Err(PlanError::Kubernetes(_))),
        "{told} {result:?}"
    );
}
