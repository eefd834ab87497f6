//! The brokers' configuration file, one for all pods: a broker's id is its pod's ordinal.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;

use super::{BuildError, metadata};
use crate::broker_config::{BrokerConfig, Shared};
use crate::names;
use crate::validate::Cluster;

/// The file's name in the ConfigMap and in the pod.
pub(super) const FILE: &str = "broker.yaml";

/// Of the seconds until a pod is killed, those that requests in flight get; the rest is for leaving the quorum and closing the logs on a slow
/// disk.
fn shutdown_timeout_s(grace_s: i64) -> i64 {
    grace_s - (grace_s + 1).div_euclid(2).min(20)
}

pub(super) fn build(cluster: &Cluster, brokers: u32) -> Result<ConfigMap, BuildError> {
    let shared = Shared {
        name: &cluster.key.name,
        id: cluster.cluster_id.as_deref(),
        brokers,
        settings: &cluster.settings,
    };
    let grace_s = cluster.pod.termination_grace_period_seconds;
    let file = BrokerConfig::in_kubernetes(shared, &cluster.key.namespace)
        .with_shutdown_timeout(grace_s.map(shutdown_timeout_s))
        .to_yaml()
        .map_err(|error| BuildError::Yaml(error.to_string()))?;
    Ok(ConfigMap {
        metadata: metadata::named(cluster, names::config_map(&cluster.key.name)),
        data: Some(BTreeMap::from([(FILE.to_owned(), file)])),
        ..ConfigMap::default()
    })
}

#[cfg(test)]
mod tests {
    use super::{FILE, build};
    use crate::testing::cluster;

    #[test]
    fn brokers_are_given_the_time_that_their_pods_have_and_a_rest_to_close_in() {
        for (grace_s, expected) in [(1, "0s"), (10, "5s"), (60, "40s"), (3600, "3580s")] {
            let mut cluster = cluster();
            cluster.pod.termination_grace_period_seconds = Some(grace_s);
            let data = build(&cluster, 3).ok().and_then(|map| map.data);
            let file = data
                .and_then(|mut data| data.remove(FILE))
                .unwrap_or_default();
            assert!(
                file.contains(&format!("shutdown_timeout: {expected}\n")),
                "{file}"
            );
        }
    }
}
