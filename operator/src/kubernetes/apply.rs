//! Writes to the API server, all under one field manager.

use std::fmt::Debug;

use futures::StreamExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use crate::names;
use crate::objects::Child;
use crate::world::Key;

/// An error in the API server's own words; the error itself repeats them with everything around.
pub(super) fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// Writes at a time, so that a thousand objects do not wait for each other and the server is not flooded.
const AT_A_TIME: usize = 16;

/// Makes all of these writes, some at a time, also when some fail.
///
/// # Errors
/// The first that a write met.
pub(super) async fn all(
    writes: Vec<BoxFuture<'_, Result<(), kube::Error>>>,
) -> Result<(), kube::Error> {
    let mut writes = futures::stream::iter(writes).buffer_unordered(AT_A_TIME);
    let mut result = Ok(());
    while let Some(written) = writes.next().await {
        result = result.and(written);
    }
    result
}

/// Ours wins over what others wrote into the same fields; the rest of the object stays theirs.
fn force() -> PatchParams {
    PatchParams::apply(names::FIELD_MANAGER).force()
}

/// Creates or changes an object of a cluster. Of one that was not there nothing is taken over that somebody else has written meanwhile.
pub(super) async fn child(
    client: &Client,
    namespace: &str,
    child: &Child,
    is_there: bool,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &child.resource);
    let mut params = force();
    params.force = is_there;
    api.patch(&child.name, &params, &Patch::Apply(&child.content))
        .await?;
    Ok(())
}

/// Has a claim ask for more.
pub(super) async fn claim_size(
    client: &Client,
    namespace: &str,
    claim: &str,
    size: &str,
) -> Result<(), kube::Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let body = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    let ours = PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(claim, &ours, &Patch::Merge(body)).await?;
    Ok(())
}

/// Sets or removes the mark on a claim that it is to be deleted once its broker is gone.
pub(super) async fn claim_mark(
    client: &Client,
    namespace: &str,
    claim: &str,
    is_released: bool,
) -> Result<(), kube::Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let value = is_released.then_some("true");
    let body = json!({"metadata": {"annotations": {names::RELEASED_ANNOTATION: value}}});
    let ours = PatchParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    api.patch(claim, &ours, &Patch::Merge(body)).await?;
    Ok(())
}

/// Deletes the very claim that was observed. One that is gone, or another by now, is left alone.
pub(super) async fn delete_claim(
    client: &Client,
    namespace: &str,
    claim: &str,
    uid: Option<String>,
) -> Result<(), kube::Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(claim, &only_this).await {
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        other => other.map(drop),
    }
}

/// Deletes a Service. One that is gone is left alone.
pub(super) async fn delete_service(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<(), kube::Error> {
    let api: Api<Service> = Api::namespaced(client.clone(), namespace);
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Creates an object of a cluster that must not be there yet.
pub(super) async fn new_child(
    client: &Client,
    namespace: &str,
    child: &Child,
) -> Result<(), kube::Error> {
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &child.resource);
    let object = serde_json::from_value(child.content.clone()).map_err(kube::Error::SerdeError)?;
    let params = PostParams {
        field_manager: Some(names::FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    };
    api.create(&params, &object).await?;
    Ok(())
}

/// Writes a status. Call it only when the status differs from the one that is there.
pub(super) async fn status<K, S>(client: &Client, key: &Key, status: &S) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
    S: Serialize,
{
    let api: Api<K> = Api::namespaced(client.clone(), &key.namespace);
    let body = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": key.name}, "status": status});
    match api
        .patch_status(&key.name, &force(), &Patch::Apply(body))
        .await
    {
        // It was deleted meanwhile, and has no status to speak of.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Sets the finalizers of an object that is still what it was when it was read.
pub(super) async fn finalizers<K>(
    client: &Client,
    object: &K,
    finalizers: Vec<String>,
) -> Result<(), kube::Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let meta = object.meta();
    let api: Api<K> = Api::namespaced(
        client.clone(),
        meta.namespace.as_deref().unwrap_or_default(),
    );
    // The resourceVersion keeps somebody else's finalizer that came in between.
    let body =
        json!({"metadata": {"resourceVersion": meta.resource_version, "finalizers": finalizers}});
    match api
        .patch(
            meta.name.as_deref().unwrap_or_default(),
            &PatchParams::default(),
            &Patch::Merge(body),
        )
        .await
    {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use futures::FutureExt;

    use super::{AT_A_TIME, all};

    #[tokio::test(start_paused = true)]
    async fn many_writes_are_made_some_at_a_time_and_one_that_fails_keeps_no_other_back() {
        let (now, most, made) = <(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicUsize>)>::default();
        let writes = (0..100).map(|at| {
            let (now, most, made) = (Arc::clone(&now), Arc::clone(&most), Arc::clone(&made));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_secs(1)).await;
                now.fetch_sub(1, Ordering::Relaxed);
                made.fetch_add(1, Ordering::Relaxed);
                match at {
                    3 => Err(kube::Error::LinesCodecMaxLineLengthExceeded),
                    _ => Ok(()),
                }
            }
            .boxed()
        });
        assert!(all(writes.collect()).await.is_err());
        assert_eq!(made.load(Ordering::Relaxed), 100);
        assert_eq!(most.load(Ordering::Relaxed), AT_A_TIME);
    }
}
