//! Decides for a cluster, and asks before an object is made whether its name is free: what has a name and no label is in no list.

use std::collections::BTreeSet;

use kube::Client;

use super::{apply, observe};
use crate::decide::cluster::{self, Decision, World};
use crate::decide::taken;
use crate::objects::BuildError;
use crate::validate::Cluster;

/// Why nothing was decided.
#[derive(Debug, thiserror::Error)]
pub enum DecideError {
    /// The API server cannot be read.
    #[error("{}", apply::plain(.0))]
    Kubernetes(#[from] kube::Error),
    /// An object cannot be written, which is a defect.
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Decides on what is in `world`, and on what is found there by name, which is put into it.
///
/// # Errors
/// When the API server cannot be read, or an object cannot be written.
pub async fn decide(
    client: &Client,
    cluster: &Cluster,
    world: &mut World,
) -> Result<Decision, DecideError> {
    let mut asked = BTreeSet::new();
    loop {
        let decision = cluster::decide(cluster, world)?;
        let mut names = taken::to_ask(cluster, world, &decision);
        names.retain(|(resource, name)| asked.insert((resource.kind.clone(), name.clone())));
        // What is found changes what is decided, and with it what else is to be made.
        if !observe::named(client, cluster, &names, world).await? {
            return Ok(decision);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::json;

    use super::decide;
    use crate::plan::cluster_sentence;
    use crate::testing::api::Api;
    use crate::testing::{cluster, converged};

    #[tokio::test]
    async fn names_are_asked_for_before_something_is_made_and_what_is_of_others_is_not_applied() {
        let api = Api::default();
        let mut world = converged(&cluster());
        let decision = decide(&api.client(), &cluster(), &mut world).await;
        assert!(decision.unwrap().plan.is_empty());
        assert_eq!(api.requests(), 0);

        let at = |kind: &str, name: &str| (kind.to_owned(), name.to_owned());
        let theirs = at("ConfigMap", "shop-config");
        let ours = at("StatefulSet", "shop-broker");
        world.objects.remove(&theirs);
        api.put(
            "/api/v1/namespaces/market/configmaps/shop-config",
            json!({"metadata": {"name": "shop-config"}, "data": {"theirs": "1"}}),
        );
        // It has lost its label, and its owner says whose it is.
        let mut set = world.objects.remove(&ours).unwrap();
        set["metadata"]["labels"] = json!({});
        api.put(
            "/apis/apps/v1/namespaces/market/statefulsets/shop-broker",
            set,
        );
        let decision = decide(&api.client(), &cluster(), &mut world).await;
        let plan = decision.unwrap().plan;
        let changes: Vec<String> = plan.steps.iter().map(cluster_sentence).collect();
        assert_eq!(changes.len(), 1, "{changes:?}");
        assert!(changes[0].contains("StatefulSet shop-broker (metadata.labels"));
        assert_eq!(plan.blocked.len(), 1);
        assert!(plan.blocked[0].message.contains("ConfigMap shop-config"));
        assert!(world.taken.contains(&theirs) && world.objects.contains_key(&ours));
    }
}
