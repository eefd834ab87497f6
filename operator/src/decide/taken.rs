//! Names that somebody else's objects have already.
//!
//! Objects of a cluster are found by their label. One that has a name that the cluster needs, and is neither labelled as the cluster's nor owned by
//! it, is somebody else's: applying ours over it would change it, and deleting the Cluster would delete it. It is left as it is, and a cluster
//! without brokers gets none before all of its names are free, since their pods would read what is not theirs. Nor is one that runs restarted, or what
//! pods are made of changed, while what pods read is somebody else's.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ApiResource;

use crate::decide::cluster::{Decision, Step, World};
use crate::decide::gates::Blocked;
use crate::names;
use crate::objects::Child;
use crate::validate::Cluster;

/// Gate: somebody else's object has the name of one that the cluster needs.
pub const NAME_TAKEN: &str = "NameTaken";

/// Whether a Secret of the cluster's is somebody else's: certificates cannot be kept then, and are not made.
pub(super) fn has_a_secret(world: &World) -> bool {
    world.taken.iter().any(|(kind, _)| kind == "Secret")
}

/// Whether a pod that is made now may read what is somebody else's.
pub(super) fn is_read_by_pods(world: &World) -> bool {
    let read = ["ConfigMap", "Secret", "ServiceAccount"];
    world
        .taken
        .iter()
        .any(|(kind, _)| read.contains(&kind.as_str()))
}

/// Whether an object may be applied.
pub(super) fn is_free(world: &World, child: &Child) -> bool {
    if world.taken.is_empty() {
        return true;
    }
    let at = child.at();
    let begins = child.resource.kind == "StatefulSet" && !world.objects.contains_key(&at);
    !begins && !world.taken.contains(&at)
}

/// What is said of names that are taken.
pub(super) fn blocked(cluster: &Cluster, world: &World) -> Option<Blocked> {
    let all = world.taken.iter();
    let named: Vec<String> = all.map(|(kind, name)| format!("{kind} {name}")).collect();
    (!named.is_empty()).then(|| Blocked {
        gate: NAME_TAKEN,
        message: format!(
            "not of this Cluster, and there under a name that it needs (neither labelled {}={} nor owned by it): {}. What is there is left as it is. \
             Delete it, or give it or the Cluster another name{}",
            names::CLUSTER_LABEL,
            cluster.key.name,
            named.join(", "),
            if is_read_by_pods(world) {
                ". Until then no broker is restarted"
            } else {
                ""
            }
        ),
    })
}

/// Objects that would be made, since no list has them: whether their names are free has to be asked. Secrets are always read by their names.
#[must_use]
pub fn to_ask(cluster: &Cluster, world: &World, decision: &Decision) -> Vec<(ApiResource, String)> {
    let of_step = |step: &Step| match step {
        Step::Apply { child, .. } => Some((child.resource.clone(), child.name.clone())),
        Step::Issue { .. } => {
            let name = names::authority_config_map(&cluster.key.name);
            Some((ApiResource::erase::<ConfigMap>(&()), name))
        }
        _ => None,
    };
    let named = decision.plan.steps.iter().filter_map(of_step);
    let unknown = named.filter(|(resource, name)| {
        let at = (resource.kind.clone(), name.clone());
        resource.kind != "Secret" && !world.objects.contains_key(&at) && !world.taken.contains(&at)
    });
    unknown.collect()
}
