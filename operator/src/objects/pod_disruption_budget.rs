//! Evictions take one broker at a time, and none while that would take what partitions need (`decide::evictions`); they never wait for one that is not
//! ready anyway.

use std::collections::BTreeMap;

use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::names;
use crate::validate::Cluster;

/// The budget; `held` says why no broker that serves may be evicted now.
pub(super) fn build(cluster: &Cluster, held: Option<&str>) -> PodDisruptionBudget {
    let mut meta = metadata::named(cluster, names::brokers(&cluster.key.name));
    meta.annotations = held.map(|why| {
        let why = (names::EVICTIONS_HELD_ANNOTATION.to_owned(), why.to_owned());
        BTreeMap::from([why])
    });
    PodDisruptionBudget {
        metadata: meta,
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(i32::from(held.is_none()))),
            selector: Some(LabelSelector {
                match_labels: Some(names::selector(&cluster.key.name)),
                ..LabelSelector::default()
            }),
            unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
            ..PodDisruptionBudgetSpec::default()
        }),
        status: None,
    }
}
