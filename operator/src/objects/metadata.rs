//! Metadata that all objects of a cluster share.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Resource;

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
