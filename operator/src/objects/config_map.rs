//! The brokers' configuration file, one for all pods: a broker's id is its pod's ordinal.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{BuildError, metadata};
use crate::broker_config::{BrokerConfig, Shared};
use crate::names;
use crate::validate::Cluster;

/// The file's name in the ConfigMap and in the pod.
pub(super) const FILE: &str = "broker.yaml";

pub(super) fn build(cluster: &Cluster, brokers: u32) -> Result<ConfigMap, BuildError> {
    let shared = Shared {
        name: &cluster.key.name,
        id: cluster.cluster_id.as_deref(),
        brokers,
        settings: &cluster.settings,
    };
    let file = BrokerConfig::in_kubernetes(shared, &cluster.key.namespace)
        .to_yaml()
        .map_err(|error| BuildError::Yaml(error.to_string()))?;
    Ok(ConfigMap {
        metadata: metadata::named(cluster, names::config_map(&cluster.key.name)),
        data: Some(BTreeMap::from([(FILE.to_owned(), file)])),
        ..ConfigMap::default()
    })
}
