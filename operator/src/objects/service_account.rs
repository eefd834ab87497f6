//! The brokers' ServiceAccount: a name without rights, and no token in the pods.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::metadata;
use crate::names;
use crate::validate::Cluster;

pub(super) fn build(cluster: &Cluster) -> ServiceAccount {
    let mut meta = metadata::named(cluster, names::brokers(&cluster.key.name));
    if !cluster.pod.service_account_annotations.is_empty() {
        meta.annotations = Some(cluster.pod.service_account_annotations.clone());
    }
    ServiceAccount {
        metadata: meta,
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
