//! Waiting for what the API server says, by watching it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::time::Duration;

/// How long anything may take. No story depends on speed; one that hangs has to end.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);

/// Watches an object until it is there and as wanted.
///
/// # Panics
/// When it is not within [`LIMIT`]; with the object as it is then.
pub(crate) async fn until<K>(api: &Api<K>, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + Serialize + 'static,
{
    let matches = |object: Option<&K>| object.is_some_and(&wanted);
    let watched = kube::runtime::wait::await_condition(api.clone(), name, matches);
    match tokio::time::timeout(LIMIT, watched).await {
        Ok(found) => found
            .expect("the watch goes on")
            .expect("a wanted object exists"),
        Err(_) => {
            let now = api.get_opt(name).await.expect("the API server answers");
            let now = serde_json::to_string_pretty(&now).expect("objects are JSON");
            panic!(
                "waited {} s in vain for {name}: {what}; it is now\n{now}",
                LIMIT.as_secs()
            )
        }
    }
}

/// Watches until the object of this name is gone, or another one has taken its place.
pub(crate) async fn until_replaced<K>(api: &Api<K>, name: &str, uid: &str)
where
    K: Resource + Clone + Debug + Send + DeserializeOwned + 'static,
{
    let gone =
        |object: Option<&K>| object.is_none_or(|object| object.uid().as_deref() != Some(uid));
    let watched = kube::runtime::wait::await_condition(api.clone(), name, gone);
    let outcome = tokio::time::timeout(LIMIT, watched).await;
    outcome
        .unwrap_or_else(|_| panic!("waited {} s in vain: {name} is gone", LIMIT.as_secs()))
        .expect("the watch goes on");
}

/// The condition of this type.
pub(crate) fn condition<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether `Ready` is true for the spec as it is now.
pub(crate) fn ready(object: &impl ResourceExt, conditions: &[Condition]) -> bool {
    condition(conditions, "Ready").is_some_and(|ready| {
        ready.status == "True" && ready.observed_generation == object.meta().generation
    })
}
