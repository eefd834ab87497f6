//! What a person may say about the broker pods.
//!
//! A typed subset of a pod template rather than the whole of it, for three reasons: the operator owns the rest (names, ports,
//! probes, volumes, security context) and would have to refuse it; every field here has a bound, which a whole template
//! would not; and a hash over a whole template changes with each version of Kubernetes' API, which would roll every cluster.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, Toleration, TopologySpreadConstraint};
use kube::KubeSchema;
use serde::{Deserialize, Serialize};

use crate::{ResourceQuantity, shared::text_map};

/// CPU, memory and other resources of each broker's container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// What is set aside for each broker, by resource name (`cpu`, `memory`).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub requests: BTreeMap<String, ResourceQuantity>,

    /// What each broker may use at most, by resource name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub limits: BTreeMap<String, ResourceQuantity>,
}

/// An environment variable of the broker's container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EnvVar {
    /// Name of the variable. Names that begin with `WEIR_` are the operator's, except `WEIR_LOG`: what the brokers log, such as
    /// `info,weir_broker::net=debug`.
    #[schemars(
        length(min = 1, max = 128),
        regex(pattern = "^[A-Za-z_][A-Za-z0-9_]*$")
    )]
    #[x_kube(validation = Rule::new("!self.startsWith('WEIR_') || self == 'WEIR_LOG'").message("env names that begin with WEIR_ belong to the operator, except WEIR_LOG: use spec.config or the field of the Cluster that says the same"))]
    pub name: String,

    /// Value of the variable.
    #[serde(default)]
    #[schemars(length(max = 4096))]
    pub value: String,
}

/// Additions to the broker pods. A change of these rolls the brokers, one at a time.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct PodOverrides {
    /// Labels added to the pods. Those of `weir.dev/` and `app.kubernetes.io/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map::<32, 63>")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('weir.dev/') && !k.startsWith('app.kubernetes.io/'))").message("labels that begin with weir.dev/ or app.kubernetes.io/ belong to the operator: choose another prefix"))]
    pub labels: BTreeMap<String, String>,

    /// Annotations added to the pods. Those of `weir.dev/` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map::<32, 4096>")]
    #[x_kube(validation = Rule::new("self.all(k, !k.startsWith('weir.dev/'))").message("annotations that begin with weir.dev/ belong to the operator: choose another prefix"))]
    pub annotations: BTreeMap<String, String>,

    /// Labels that a node must have to run a broker.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map::<16, 63>")]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that do not keep brokers away.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    pub tolerations: Vec<Toleration>,

    /// Which nodes and neighbours the pods prefer, need or avoid. Unset, brokers of one Cluster prefer different nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// How the pods spread over zones, nodes or other domains.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub topology_spread_constraints: Vec<TopologySpreadConstraint>,

    /// Name of a PriorityClass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub priority_class_name: Option<String>,

    /// Annotations of the brokers' ServiceAccount, for clouds that give identities through it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "text_map::<16, 4096>")]
    pub service_account_annotations: BTreeMap<String, String>,

    /// Environment variables added to the broker's container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub env: Vec<EnvVar>,

    /// Seconds that a broker has to flush and say goodbye before it is killed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3600))]
    pub termination_grace_period_seconds: Option<i64>,
}
