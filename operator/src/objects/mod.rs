//! What a Cluster is made of in Kubernetes: one file for each kind of object, each a pure function of the validated cluster; Secrets also of
//! the certificates that there are.
//!
//! Names and selectors never change (see [`crate::names`]). Everything is applied server-side under one field manager and owned by
//! the Cluster, so deleting the Cluster deletes it all but the volumes.

mod bootstrap_service;
mod config_map;
mod headless_service;
mod listener_services;
mod metadata;
mod pod_disruption_budget;
mod pod_hash;
mod secrets;
mod service_account;
mod stateful_set;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::ApiResource;
use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

pub use metadata::is_ours;
pub use pod_hash::pod_hash;
pub use secrets::{brought, credentials, held, secrets};
pub use stateful_set::Existing;

use crate::names;
use crate::validate::Cluster;

/// An object as it is to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Child {
    /// Where its kind lives in the API.
    pub resource: ApiResource,
    /// `metadata.name`.
    pub name: String,
    /// All of it, and nothing that is not ours.
    pub content: Value,
}

impl Child {
    /// `Kind name`, as people and plans say it.
    #[must_use]
    pub fn title(&self) -> String {
        format!("{} {}", self.resource.kind, self.name)
    }

    /// Its kind and name.
    #[must_use]
    pub fn at(&self) -> (String, String) {
        (self.resource.kind.clone(), self.name.clone())
    }
}

/// An object that cannot be written; the operator's own fault.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not representable as JSON.
    #[error("an object of the cluster cannot be serialised: {0}")]
    Json(#[from] serde_json::Error),
    /// Not representable as YAML.
    #[error("the brokers' configuration cannot be serialised: {0}")]
    Yaml(String),
}

/// Kinds of objects that a Cluster is made of, and that are found by their labels. Secrets are read one by one, by their names.
#[must_use]
pub fn kinds() -> [ApiResource; 5] {
    [
        ApiResource::erase::<ConfigMap>(&()),
        ApiResource::erase::<Service>(&()),
        ApiResource::erase::<ServiceAccount>(&()),
        ApiResource::erase::<PodDisruptionBudget>(&()),
        ApiResource::erase::<StatefulSet>(&()),
    ]
}

/// All objects of a cluster of `brokers` brokers but those of its listeners, in the order in which they are applied: what the pods need comes before the pods.
///
/// # Errors
/// When an object cannot be serialised, which is a defect.
pub fn desired(
    cluster: &Cluster,
    brokers: u32,
    existing: &Existing,
) -> Result<Vec<Child>, BuildError> {
    Ok(vec![
        child::<ServiceAccount>(cluster, &service_account::build(cluster))?,
        child::<ConfigMap>(cluster, &config_map::build(cluster, brokers)?)?,
        child::<Service>(cluster, &headless_service::build(cluster))?,
        child::<Service>(cluster, &bootstrap_service::build(cluster))?,
        child::<PodDisruptionBudget>(
            cluster,
            &pod_disruption_budget::build(cluster, existing.evictions_held.as_deref()),
        )?,
        child::<StatefulSet>(cluster, &stateful_set::build(cluster, brokers, existing))?,
    ])
}

/// The Services of a cluster's listeners: beside the others, since nothing depends on them but their clients.
///
/// # Errors
/// When an object cannot be serialised, which is a defect.
pub fn listeners(cluster: &Cluster, brokers: u32) -> Result<Vec<Child>, BuildError> {
    let services = listener_services::build(cluster, brokers);
    services
        .iter()
        .map(|service| child::<Service>(cluster, service))
        .collect()
}

fn child<K>(cluster: &Cluster, object: &K) -> Result<Child, BuildError>
where
    K: kube::Resource<DynamicType = ()> + Serialize,
{
    let mut content = serde_json::to_value(object)?;
    let hash = applied_hash(content.clone())?;
    if let Some(metadata) = content.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("namespace".to_owned(), cluster.key.namespace.clone().into());
        metadata.insert(
            "ownerReferences".to_owned(),
            serde_json::to_value([metadata::owner(cluster)])?,
        );
        let annotations = metadata
            .entry("annotations")
            .or_insert_with(|| Value::Object(serde_json::Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(names::APPLIED_ANNOTATION.to_owned(), hash.into());
        }
    }
    let name = object.meta().name.clone().unwrap_or_default();
    Ok(Child {
        resource: ApiResource::erase::<K>(&()),
        name,
        content,
    })
}

/// Claim templates that exist are given back as they are, with what the API server added to them, so they do not count.
fn applied_hash(mut content: Value) -> Result<String, serde_json::Error> {
    if let Some(spec) = content.get_mut("spec").and_then(Value::as_object_mut) {
        spec.remove("volumeClaimTemplates");
    }
    digest(&content)
}

/// First 16 hex digits of the SHA-256 of a value's JSON, whose keys are ordered.
pub(crate) fn digest(value: &impl Serialize) -> Result<String, serde_json::Error> {
    let json = serde_json::to_vec(value)?;
    let hash = Sha256::digest(&json);
    Ok(hash
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect())
}

#[cfg(test)]
mod tests;
