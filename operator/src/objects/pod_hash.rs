//! The hash of what a broker process would notice.
//!
//! Made from what the person wrote, never from the pod template that comes out of it: a newer operator may write another template, and its
//! pods then differ only when they are replaced for another reason. The number of brokers, their peers and the cluster's id are left out, since
//! a running broker learns those from the cluster itself.

use serde::Serialize;
use weir_crds::{PodOverrides, Resources};

use super::digest;
use crate::broker_config::Settings;
use crate::validate::Cluster;

/// Serialised in this order and with these names for ever: any change of either restarts every cluster (there is a test of that). What is new is left
/// out where a Cluster does not say it.
#[derive(Serialize)]
struct Noticed<'a> {
    image: &'a str,
    settings: &'a Settings,
    resources: &'a Resources,
    pod: PodOverrides,
    #[serde(skip_serializing_if = "Option::is_none")]
    otlp_endpoint: Option<&'a str>,
}

/// The hash for a cluster whose brokers run `image`.
#[must_use]
pub fn pod_hash(cluster: &Cluster, image: &str) -> String {
    // Annotations of the ServiceAccount are not the pod's.
    let pod = PodOverrides {
        service_account_annotations: std::collections::BTreeMap::new(),
        ..cluster.pod.clone()
    };
    let noticed = Noticed {
        image,
        settings: &cluster.settings,
        resources: &cluster.resources,
        pod,
        otlp_endpoint: cluster.otlp_endpoint.as_deref(),
    };
    // These types are maps and strings; should one ever fail to serialise, a constant rolls nothing.
    digest(&noticed).unwrap_or_default()
}
