//! The kind `Cluster`: a set of brokers that form one Kafka-compatible cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ConfigValue, Listener, ListenerStatus, PodOverrides, Resources, SecretRef, StorageSize,
};

/// Longest name of a Cluster. The names made from it, the longest being that of a pod's controller revision label
/// (`<name>-broker-<hash of 10>`), have to fit into the 63 characters of a label or a DNS label.
pub const MAX_CLUSTER_NAME: usize = 40;

/// What a person wants of a cluster of brokers.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    shortname = "wc",
    category = "weir",
    namespaced,
    doc = "Cluster is a set of Weir brokers that any Kafka client can talk to.",
    derive = "PartialEq",
    derive = "Default",
    status = "ClusterStatus",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the cluster serves as its spec says"
    ),
    printcolumn(
        name = "Brokers",
        type_ = "integer",
        json_path = ".status.readyReplicas",
        description = "Brokers that are ready"
    ),
    printcolumn(
        name = "Desired",
        type_ = "integer",
        json_path = ".spec.replicas",
        description = "Brokers that the spec asks for"
    ),
    printcolumn(
        name = "Version",
        type_ = "string",
        json_path = ".status.version",
        description = "Version that the brokers run"
    ),
    printcolumn(
        name = "Bootstrap",
        type_ = "string",
        json_path = ".status.bootstrap",
        description = "Address to give to clients as bootstrap.servers"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the cluster is ready or not",
        priority = 1
    ),
    validation = Rule::new("self.metadata.name.size() <= 40").message("metadata.name is too long: the names of pods and Services are made from it, choose one of at most 40 characters"),
    validation = Rule::new("self.metadata.name.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')").message("metadata.name must be a DNS label, because Services are named after it: lower-case letters, digits and '-', beginning with a letter and without dots")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.version) && has(self.image))").message("version and image exclude each other: set version for a published image, or image for your own, and remove the other"))]
pub struct ClusterSpec {
    /// Number of brokers.
    #[serde(default = "three_replicas")]
    #[schemars(range(min = 1, max = 100))]
    pub replicas: i32,

    /// Version of Weir to run: the tag of the operator's broker image. Unset, the operator's own version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]+)?$")
    )]
    pub version: Option<String>,

    /// Image to run instead of a published version, with its tag or digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 512),
        regex(pattern = r"^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$")
    )]
    pub image: Option<String>,

    /// When nodes pull the image. Unset, as Kubernetes does by default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets of this namespace that registries of images ask for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<SecretRef>,

    /// The volume of each broker.
    pub storage: Storage,

    /// CPU and memory of each broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<Resources>,

    /// Broker configuration and defaults of topics, by Kafka's names (`log.retention.ms`, `min.insync.replicas`). What brokers can change while they run they are
    /// told; for the rest they are restarted one at a time, and for what was there from the beginning and is removed.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128)").message("a key of config is longer than 128 characters: Kafka has no configuration of such a name"))]
    #[x_kube(validation = Rule::new("['broker.id', 'node.id', 'cluster.id', 'process.roles', 'broker.rack', 'log.dir', 'log.dirs', 'listeners', 'advertised.listeners', 'controller.quorum.voters', 'controller.quorum.bootstrap.servers'].all(k, !(k in self))").message("config holds a key that the operator sets for each broker (identity, directories, listeners, quorum): remove it"))]
    pub config: BTreeMap<String, ConfigValue>,

    /// Additions to the broker pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodOverrides>,

    /// Further doors for clients, from outside Kubernetes too. Their addresses are in `status.listeners`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = Rule::new("self.all(a, self.exists_one(b, b.port == a.port))").message("listeners: two have the same port: give each one of its own"))]
    pub listeners: Vec<Listener>,

    /// How upgrades are finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade: Option<Upgrade>,

    /// Where spans of traced messages go (`Topic.spec.queue.trace`). Unset, nowhere, unless the environment of the pods has OTEL_EXPORTER_OTLP_ENDPOINT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing: Option<Tracing>,

    /// Where the brokers find out which rack or zone they are in. Unset, all brokers count as one rack. This version does not
    /// read the labels of nodes yet, and says so in `status.plan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rack: Option<Rack>,

    /// While true the operator changes nothing of this cluster and its topics but the disruption budget, and only reports status.
    #[serde(default)]
    pub paused: bool,
}

fn three_replicas() -> i32 {
    3
}

/// The default of [`Upgrade::finalize_after_seconds`]: ten minutes.
pub const FINALIZE_AFTER_S: i32 = 600;

/// Where spans of traced messages go.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// URL of a collector of OpenTelemetry that takes OTLP over HTTP, without TLS, such as `http://collector.monitoring:4318`. `/v1/traces` is added to it. Changing it restarts the brokers, one
    /// after the other.
    #[schemars(length(min = 1, max = 512))]
    #[x_kube(validation = Rule::new(r"self.matches('^http://([A-Za-z0-9._-]+|\\[[0-9A-Fa-f:.]+\\])(:[0-9]{1,5})?(/[A-Za-z0-9._~%/-]*)?$')").message("tracing.otlpEndpoint must be http://HOST[:PORT][/PATH], without TLS, for example http://collector:4318"))]
    pub otlp_endpoint: String,
}

/// How upgrades are finished.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Upgrade {
    /// When all brokers run a newer version and have been healthy for so many seconds, the cluster uses the features that are new in it. Until
    /// then an older version is accepted again; after, there is no way back.
    // Thirty days: whoever wants to say when sets that, and lowers it then.
    #[serde(default = "ten_minutes")]
    #[schemars(range(min = 0, max = 2_592_000))]
    pub finalize_after_seconds: i32,
}

fn ten_minutes() -> i32 {
    FINALIZE_AFTER_S
}

/// The volume of each broker.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.autoGrow) || !isQuantity(self.size) || !isQuantity(self.autoGrow.maximum) || quantity(self.autoGrow.maximum).compareTo(quantity(self.size)) >= 0").message("storage.autoGrow.maximum is below storage.size: write a larger one"))]
#[x_kube(validation = Rule::new("has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)").message("storage.storageClassName cannot change, because volumes cannot move between classes: create a new Cluster and move the data"))]
pub struct Storage {
    /// Size of each broker's volume, such as `10Gi`. May grow, never shrink. Volumes grow with it where their StorageClass allows expansion.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("storage.size must be a positive quantity, for example 10Gi"))]
    #[x_kube(validation = Rule::new("!isQuantity(self) || !isQuantity(oldSelf) || quantity(self).compareTo(quantity(oldSelf)) >= 0").message("storage.size cannot shrink, because volumes cannot: keep the size or write a larger one"))]
    pub size: StorageSize,

    /// StorageClass of the volumes. Unset, the default class of the Kubernetes cluster. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub storage_class_name: Option<String>,

    /// What becomes of the volumes of brokers that leave when `replicas` is lowered.
    #[serde(default)]
    pub on_scale_down: OnScaleDown,

    /// Volumes that grow by themselves when they fill up. Unset, they only grow with `size`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_grow: Option<AutoGrow>,
}

/// What becomes of the volumes of brokers that leave when `replicas` is lowered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnScaleDown {
    /// They stay; a broker that comes back under its number has its volume again.
    #[default]
    Retain,
    /// They are deleted once their broker has been emptied and forgotten.
    Delete,
}

/// Volumes that grow by themselves when they fill up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct AutoGrow {
    /// A volume grows when this many percent of it are used.
    // Below 50 a volume would grow that is half empty; above 95 a busy broker may fill the rest before it has grown.
    #[serde(default = "eighty_percent")]
    #[schemars(range(min = 50, max = 95))]
    pub threshold_percent: i32,

    /// By how much it grows each time, such as `10Gi`.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("storage.autoGrow.step must be a positive quantity, for example 10Gi"))]
    pub step: StorageSize,

    /// It never asks for more than this.
    #[x_kube(validation = Rule::new("isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))").message("storage.autoGrow.maximum must be a positive quantity, for example 500Gi"))]
    pub maximum: StorageSize,
}

fn eighty_percent() -> i32 {
    80
}

/// Where brokers find out which rack or zone they are in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rack {
    /// Label of the nodes that names the rack, such as `topology.kubernetes.io/zone`.
    #[schemars(length(min = 1, max = 253))]
    pub topology_key: String,
}

/// When nodes pull the image. Unset, as Kubernetes does by default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// Each time a container starts.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Never: the image was loaded into the node by other means.
    Never,
}

impl ImagePullPolicy {
    /// The value as Kubernetes' container field writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// What was last seen of a cluster of brokers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// What holds and what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The id that the brokers agreed on when the cluster was formed. It never changes after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub cluster_id: Option<String>,

    /// Broker pods that exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,

    /// Broker pods that are ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ready_replicas: Option<i32>,

    /// Label selector of the broker pods, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub selector: Option<String>,

    /// Address to give to clients as `bootstrap.servers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub bootstrap: Option<String>,

    /// Version that the brokers run; while they differ, the oldest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub version: Option<String>,

    /// Where clients reach the listeners of `spec.listeners`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub listeners: Vec<ListenerStatus>,

    /// The features that the brokers use, as a level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature_level: Option<FeatureLevelStatus>,

    /// What the brokers say of themselves, in numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub brokers: Option<BrokersSummary>,

    /// What the operator is about to do, and what holds it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanSummary>,
}

/// The features that the brokers use, as a level.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FeatureLevelStatus {
    /// The level that the cluster uses: no broker may know less.
    pub finalized: i32,
    /// The newest that all brokers know.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub known_to_all: Option<i32>,
    /// When the cluster will use a newer one, if it stays healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finalizes_at: Option<Time>,
}

/// What the brokers say of themselves, in numbers; nothing in it grows with the number of partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BrokersSummary {
    /// Brokers that have registered with the metadata quorum.
    pub registered: i32,
    /// Registered brokers that send heartbeats.
    pub alive: i32,
    /// The broker that leads the metadata quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub controller: Option<i32>,
    /// Brokers that vote in the metadata quorum.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub voters: Option<i32>,
    /// Topics of the cluster, internal ones included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topics: Option<i64>,
    /// Partitions of all topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i64>,
    /// Partitions that have no leader.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offline_partitions: Option<i64>,
    /// Partitions whose replicas are being moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moving_partitions: Option<i64>,
    /// Brokers that are being emptied.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    pub draining: Vec<i32>,
}

/// What the operator is about to do, and what holds it up. The lists are cut off at their bounds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanSummary {
    /// Steps to come, in their order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub steps: Vec<PlannedStep>,
    /// What is wanted and not done, each with the gate that holds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub blocked: Vec<BlockedStep>,
}

/// A step that the operator is about to take.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlannedStep {
    /// What is done, such as `RestartBroker`.
    #[schemars(length(max = 64))]
    pub action: String,
    /// What it is done to, such as `broker 2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub target: Option<String>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
}

/// Something that is wanted and not done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BlockedStep {
    /// The gate that said no, such as `ScaleDownReplicationFactor`.
    #[schemars(length(max = 64))]
    pub gate: String,
    /// What it holds up.
    #[schemars(length(max = 256))]
    pub step: String,
    /// Why, with the numbers, and what would open it.
    #[schemars(length(max = 1024))]
    pub message: String,
}
