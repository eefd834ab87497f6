//! The consumers' Deployment of a ConsumerGroup: looked at, and asked for another number through its scale subresource.
//!
//! Has no decisions of its own. What always holds: nothing but the number of replicas is ever written, only by the holder of the lease, and only
//! while no HorizontalPodAutoscaler names the Deployment.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::apply::plain;
use super::lease::Lease;
use crate::decide::group_scale::{self, History, Hold, Load, Verdict};
use crate::names;
use crate::status::group::Scaled;
use crate::validate::{Group, Scale};
use crate::world::Key;

/// What was recommended for each ConsumerGroup, by its Cluster and its own name. As many as there are ConsumerGroups that scale.
#[derive(Debug, Default)]
pub(super) struct Histories(Mutex<BTreeMap<(Key, Key), History>>);

impl Histories {
    /// All but these of a cluster's resources are forgotten.
    pub(super) fn keep(&self, cluster: &Key, scaling: &BTreeSet<Key>) {
        self.all()
            .retain(|(of, key), _| of != cluster || scaling.contains(key));
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<(Key, Key), History>> {
        // Nothing that can panic runs while it is held.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, group: &Group, scale: &Scale, load: Load, current: i32) -> Verdict {
        let mut all = self.all();
        let history = all
            .entry((group.cluster.clone(), group.key.clone()))
            .or_default();
        group_scale::look(scale, load, current, history, Timestamp::now())
    }
}

/// A Deployment in the way it is scaled.
pub(super) struct Consumers<'a> {
    pub(super) client: &'a Client,
    pub(super) lease: &'a Lease,
    pub(super) histories: &'a Histories,
    /// The ConsumerGroup.
    pub(super) group: &'a Group,
    pub(super) scale: &'a Scale,
}

impl Consumers<'_> {
    /// Looks at the Deployment, and asks for the number of replicas that the load asks for.
    pub(super) async fn follow(&self, load: Load) -> Scaled {
        self.try_follow(load).await.unwrap_or_else(refused)
    }

    async fn try_follow(&self, load: Load) -> Result<Scaled, kube::Error> {
        let namespace = &self.group.key.namespace;
        let api: Api<Deployment> = Api::namespaced(self.client.clone(), namespace);
        let current = match api.get_scale(&self.scale.deployment).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {
                return Ok(Scaled::Held(Hold::DeploymentNotFound));
            }
            other => other?,
        };
        let replicas = current.spec.and_then(|spec| spec.replicas).unwrap_or(0);
        let verdict = self.histories.look(self.group, self.scale, load, replicas);
        if verdict.replicas == replicas {
            return Ok(Scaled::Looked {
                verdict,
                changed: None,
            });
        }
        if let Err(lost) = self.lease.still_held().await {
            return Ok(Scaled::Failed(lost.to_string()));
        }
        // Somebody else's change in between is not written over: it is looked at the next time.
        let body = json!({
            "metadata": {"resourceVersion": current.metadata.resource_version},
            "spec": {"replicas": verdict.replicas},
        });
        let ours = PatchParams {
            field_manager: Some(names::FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        api.patch_scale(&self.scale.deployment, &ours, &Patch::Merge(body))
            .await?;
        Ok(Scaled::Looked {
            verdict,
            changed: Some(Timestamp::now()),
        })
    }
}

/// The HorizontalPodAutoscaler of each Deployment that has one, in a namespace.
pub(super) type Autoscalers = BTreeMap<String, String>;

/// Reads them, once for all groups of a namespace; or what is to be said of each that scales.
pub(super) async fn autoscalers(client: &Client, namespace: &str) -> Result<Autoscalers, Scaled> {
    let api: Api<HorizontalPodAutoscaler> = Api::namespaced(client.clone(), namespace);
    let all = api.list(&ListParams::default()).await.map_err(refused)?;
    let targets = all.items.iter().filter_map(|one| {
        let target = &one.spec.as_ref()?.scale_target_ref;
        (target.kind == "Deployment").then(|| (target.name.clone(), one.name_any()))
    });
    Ok(targets.collect())
}

fn refused(error: kube::Error) -> Scaled {
    match error {
        kube::Error::Api(status) if status.code == 403 => {
            Scaled::Held(Hold::NotPermitted(status.message))
        }
        error => Scaled::Failed(plain(&error)),
    }
}
