//! Names, labels and ports of what the operator makes.
//!
//! Objects of a cluster are found again by these names, so they never change: a new name would orphan the old object.

use std::collections::BTreeMap;

/// Owner of the fields that the operator applies (server-side apply).
pub const FIELD_MANAGER: &str = "weir-operator";

/// Value of `app.kubernetes.io/name` on everything that belongs to a cluster.
pub const APP: &str = "weir";

/// Names the cluster on each of its objects.
pub const CLUSTER_LABEL: &str = "weir.dev/cluster";

/// Hash of what a broker process would notice; a pod whose hash differs from its StatefulSet's is rolled.
pub const POD_HASH_ANNOTATION: &str = "weir.dev/pod-hash";

/// Hash of what the operator last applied to an object, so that a field it no longer sets is noticed too.
pub const APPLIED_ANNOTATION: &str = "weir.dev/applied";

/// Keeps a `Topic` until the broker's topic is deleted; only with `deletionPolicy: Delete`.
///
/// The escape when the brokers never come back: annotate the Topic with [`RELEASE_ANNOTATION`].
pub const TOPIC_FINALIZER: &str = "weir.dev/topic";

/// On a Topic that is being deleted: let it go now and leave the broker's topic where it is.
pub const RELEASE_ANNOTATION: &str = "weir.dev/release";

/// On a Cluster: a person's word that a broker's disk is lost for ever, as `BROKER@INCARNATION` (several with commas between them).
pub const LOST_DISK_ANNOTATION: &str = "weir.dev/lost-disk";

/// On the brokers' PodDisruptionBudget: why no broker that serves may be evicted now.
pub const EVICTIONS_HELD_ANNOTATION: &str = "weir.dev/evictions-held";

/// On a Cluster: brokers that are to hold nothing and to stay, by their numbers (several with commas between them).
pub const DRAIN_ANNOTATION: &str = "weir.dev/drain";

/// On the claim of a broker that has been emptied and is about to go: delete it once the broker is gone (`storage.onScaleDown: Delete`).
pub const RELEASED_ANNOTATION: &str = "weir.dev/released";

/// On a Service: the listener that it is of.
pub const LISTENER_LABEL: &str = "weir.dev/listener";

/// Kafka's listener.
pub const KAFKA_PORT: u16 = 9092;
/// Brokers among themselves, and the operator's `Admin`.
pub const INTERNAL_PORT: u16 = 9094;
/// Queues over gRPC.
pub const GRPC_PORT: u16 = 9096;
/// `/metrics`, `/healthz` and `/readyz`.
pub const HTTP_PORT: u16 = 9600;

/// The longest cluster name: a pod's `controller-revision-hash` label is `<StatefulSet>-<10 characters>` and labels end at 63
/// characters.
pub const CLUSTER_NAME_LEN_MAX: usize = weir_crds::MAX_CLUSTER_NAME;

/// The StatefulSet; also the ServiceAccount and the PodDisruptionBudget.
#[must_use]
pub fn brokers(cluster: &str) -> String {
    format!("{cluster}-broker")
}

/// The headless Service that gives each broker its DNS name.
#[must_use]
pub fn headless_service(cluster: &str) -> String {
    format!("{cluster}-brokers")
}

/// The Service that clients bootstrap from.
#[must_use]
pub fn bootstrap_service(cluster: &str) -> String {
    format!("{cluster}-bootstrap")
}

/// The Service of a listener: of one broker, or the one to bootstrap from. A listener's name has no '-', and is neither `brokers` nor
/// `bootstrap`, so that no other Cluster's Service has this name.
#[must_use]
pub fn listener_service(
    cluster: &str,
    listener: &str,
    broker: Option<crate::world::BrokerId>,
) -> String {
    match broker {
        Some(broker) => format!("{cluster}-listener-{listener}-{broker}"),
        None => format!("{cluster}-listener-{listener}"),
    }
}

/// The ConfigMap with the brokers' configuration file.
#[must_use]
pub fn config_map(cluster: &str) -> String {
    format!("{cluster}-config")
}

/// The Secret with the authority that issues a cluster's certificates.
#[must_use]
pub fn authority_secret(cluster: &str) -> String {
    format!("{cluster}-ca")
}

/// The ConfigMap with the certificate of that authority, for clients to trust.
#[must_use]
pub fn authority_config_map(cluster: &str) -> String {
    format!("{cluster}-ca-cert")
}

/// The Secret with the brokers' certificates.
#[must_use]
pub fn brokers_secret(cluster: &str) -> String {
    format!("{cluster}-broker-tls")
}

/// The Secret with the certificate that the operator calls the brokers with.
#[must_use]
pub fn operator_secret(cluster: &str) -> String {
    format!("{cluster}-operator-tls")
}

/// The pod of one broker.
#[must_use]
pub fn pod(cluster: &str, broker: crate::world::BrokerId) -> String {
    format!("{cluster}-broker-{broker}")
}

/// Name of the brokers' claim template.
pub const CLAIM_TEMPLATE: &str = "data";

/// The claim of one broker's volume, as the StatefulSet controller names it.
#[must_use]
pub fn claim(cluster: &str, broker: crate::world::BrokerId) -> String {
    format!("{CLAIM_TEMPLATE}-{}", pod(cluster, broker))
}

/// DNS name of one broker, as the headless Service publishes it.
#[must_use]
pub fn broker_host(cluster: &str, namespace: &str, broker: crate::world::BrokerId) -> String {
    format!(
        "{}.{}.{namespace}.svc",
        pod(cluster, broker),
        headless_service(cluster)
    )
}

/// Where clients in Kubernetes begin.
#[must_use]
pub fn bootstrap_address(cluster: &str, namespace: &str) -> String {
    format!(
        "{}.{namespace}.svc:{KAFKA_PORT}",
        bootstrap_service(cluster)
    )
}

/// Labels that select a cluster's broker pods; a StatefulSet's selector cannot change, so neither may these.
#[must_use]
pub fn selector(cluster: &str) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name", APP),
        ("app.kubernetes.io/instance", cluster),
        ("app.kubernetes.io/component", "broker"),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// Labels on every object of a cluster.
#[must_use]
pub fn labels(cluster: &str) -> BTreeMap<String, String> {
    let mut labels = selector(cluster);
    labels.insert(
        "app.kubernetes.io/managed-by".to_owned(),
        FIELD_MANAGER.to_owned(),
    );
    labels.insert(CLUSTER_LABEL.to_owned(), cluster.to_owned());
    labels
}

/// Annotations by which a Prometheus without its operator finds a broker's metrics.
#[must_use]
pub fn scraped() -> BTreeMap<String, String> {
    [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", HTTP_PORT.to_string()),
        ("prometheus.io/path", "/metrics".to_owned()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// A selector as `kubectl -l` and `status.selector` take it.
#[must_use]
pub fn selector_string(cluster: &str) -> String {
    let pairs: Vec<String> = selector(cluster)
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}
