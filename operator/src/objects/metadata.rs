//! Metadata that all objects of a cluster share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;
use serde_json::Value;

use crate::names;
use crate::validate::Cluster;

/// Name and labels. Namespace, owner and the annotation of what was applied are added to all objects alike.
pub(super) fn named(cluster: &Cluster, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        labels: Some(names::labels(&cluster.key.name)),
        ..ObjectMeta::default()
    }
}

/// The Cluster owns its objects and is their only controller.
pub(super) fn owner(cluster: &Cluster) -> OwnerReference {
    OwnerReference {
        api_version: weir_crds::Cluster::api_version(&()).into_owned(),
        kind: weir_crds::Cluster::kind(&()).into_owned(),
        name: cluster.key.name.clone(),
        uid: cluster.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// Whether an object that is there belongs to the cluster of this name and uid: it is labelled so, or owned by it.
#[must_use]
pub fn is_ours(cluster: &str, uid: &str, object: &Value) -> bool {
    let metadata = &object["metadata"];
    let is_owner = |owner: &Value| !uid.is_empty() && owner["uid"] == *uid;
    let owners = metadata["ownerReferences"].as_array();
    metadata["labels"][names::CLUSTER_LABEL] == *cluster
        || owners.is_some_and(|owners| owners.iter().any(is_owner))
}
