//! What is watched, and which change makes which work.
//!
//! Custom resources are kept in stores, so that a pass over a cluster's Topics reads memory. Of owned objects only the metadata is watched; of
//! pods what makes a broker ready. A change that nobody asked for (status, managed fields) makes no work: what counts for each kind is its
//! fingerprint.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{Api, ListParams};
use kube::core::{NamespaceResourceScope, PartialObjectMeta};
use kube::runtime::WatchStreamExt;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::runtime::watcher::{self, Event};
use kube::{Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use weir_crds::{Cluster, ConsumerGroup, Topic};

use super::context::Context;
use super::observe;
use super::{RunError, apply};
use crate::names;
use crate::world::Key;

/// The stores of the watched namespaces.
#[derive(Default)]
pub(super) struct Watched {
    clusters: RwLock<Vec<Store<Cluster>>>,
    topics: RwLock<Vec<Store<Topic>>>,
    groups: RwLock<Vec<Store<ConsumerGroup>>>,
}

impl Watched {
    pub(super) fn cluster(&self, key: &Key) -> Option<Arc<Cluster>> {
        let reference = ObjectRef::new(&key.name).within(&key.namespace);
        read(&self.clusters)
            .iter()
            .find_map(|store| store.get(&reference))
    }

    pub(super) fn topics_of(&self, cluster: &Key) -> Vec<Arc<Topic>> {
        let of = |topic: &Topic| in_cluster(topic, &topic.spec.cluster_ref.name) == *cluster;
        read(&self.topics)
            .iter()
            .flat_map(|store| store.state_filter(of))
            .collect()
    }

    pub(super) fn groups_of(&self, cluster: &Key) -> Vec<Arc<ConsumerGroup>> {
        let of =
            |group: &ConsumerGroup| in_cluster(group, &group.spec.cluster_ref.name) == *cluster;
        read(&self.groups)
            .iter()
            .flat_map(|store| store.state_filter(of))
            .collect()
    }
}

fn read<T: Clone>(lock: &RwLock<Vec<T>>) -> Vec<T> {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep<T>(lock: &RwLock<Vec<T>>, store: T) {
    lock.write()
        .unwrap_or_else(PoisonError::into_inner)
        .push(store);
}

/// A cluster in the namespace of the resource that names it.
fn in_cluster<K: Resource>(resource: &K, cluster: &str) -> Key {
    Key::new(resource.namespace().unwrap_or_default(), cluster)
}

fn key<K: Resource>(resource: &K) -> Key {
    in_cluster(resource, &resource.name_any())
}

/// The cluster that an owned object is labelled with.
fn owner<K: Resource>(object: &K) -> Option<Key> {
    object
        .labels()
        .get(names::CLUSTER_LABEL)
        .map(|cluster| in_cluster(object, cluster))
}

/// Fails early, with a reason, when the custom resources cannot be read.
pub(super) async fn check_resources(
    client: &Client,
    namespaces: &[String],
) -> Result<(), RunError> {
    let first = namespaces.first();
    let one = ListParams::default().limit(1);
    let error = |kind: &str, error: kube::Error| {
        RunError::Resources(format!("{kind} cannot be listed: {}", apply::plain(&error)))
    };
    scoped::<Cluster>(client, first)
        .list_metadata(&one)
        .await
        .map_err(|cause| error("clusters.weir.dev", cause))?;
    scoped::<Topic>(client, first)
        .list_metadata(&one)
        .await
        .map_err(|cause| error("topics.weir.dev", cause))?;
    scoped::<ConsumerGroup>(client, first)
        .list_metadata(&one)
        .await
        .map_err(|cause| error("consumergroups.weir.dev", cause))?;
    Ok(())
}

fn scoped<K>(client: &Client, namespace: Option<&String>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// Watches until dropped.
pub(super) async fn run(context: &Context, namespaces: &[String]) {
    let scopes: Vec<Option<&String>> = if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(Some).collect()
    };
    let watches = FuturesUnordered::new();
    for scope in scopes {
        watches.push(Box::pin(scope_of(context, scope)));
    }
    watches.collect::<Vec<()>>().await;
}

async fn scope_of(context: &Context, namespace: Option<&String>) {
    let client = &context.client;
    let ours = || {
        watcher::Config::default().labels(&format!(
            "app.kubernetes.io/managed-by={}",
            names::FIELD_MANAGER
        ))
    };
    let of_cluster = |key: Key| context.clusters.add(key);

    let clusters = stored(
        scoped::<Cluster>(client, namespace),
        &context.watched.clusters,
        intent,
        |cluster: &Cluster| {
            let key = key(cluster);
            context.clusters.add(key.clone());
            context.topics.add(key.clone());
            context.groups.add(key);
        },
    );
    let topics = stored(
        scoped::<Topic>(client, namespace),
        &context.watched.topics,
        intent,
        |topic: &Topic| {
            context
                .topics
                .add(in_cluster(topic, &topic.spec.cluster_ref.name));
        },
    );
    let groups = stored(
        scoped::<ConsumerGroup>(client, namespace),
        &context.watched.groups,
        intent,
        |group: &ConsumerGroup| {
            context
                .groups
                .add(in_cluster(group, &group.spec.cluster_ref.name));
        },
    );
    let pods = changes(
        kube::runtime::watcher(scoped::<Pod>(client, namespace), ours()),
        |pod: &Pod| {
            hash(&(
                pod.uid(),
                observe::is_ready(pod),
                pod.metadata.deletion_timestamp.is_some(),
            ))
        },
        |pod: &Pod| owner(pod).into_iter().for_each(of_cluster),
    );
    tokio::join!(
        clusters,
        topics,
        groups,
        pods,
        owned(
            scoped::<PartialObjectMeta<StatefulSet>>(client, namespace),
            ours(),
            of_cluster
        ),
        owned(
            scoped::<PartialObjectMeta<ConfigMap>>(client, namespace),
            ours(),
            of_cluster
        ),
        owned(
            scoped::<PartialObjectMeta<Service>>(client, namespace),
            ours(),
            of_cluster
        ),
        owned(
            scoped::<PartialObjectMeta<ServiceAccount>>(client, namespace),
            ours(),
            of_cluster
        ),
        owned(
            scoped::<PartialObjectMeta<PodDisruptionBudget>>(client, namespace),
            ours(),
            of_cluster
        ),
    );
}

/// Watches custom resources into a store, and reports changes of what was asked for.
async fn stored<K>(
    api: Api<K>,
    stores: &RwLock<Vec<Store<K>>>,
    fingerprint: impl Fn(&K) -> u64,
    changed: impl Fn(&K),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    keep(stores, store);
    changes(
        kube::runtime::watcher(api, watcher::Config::default()).reflect(writer),
        fingerprint,
        changed,
    )
    .await;
}

/// Watches the metadata of owned objects.
async fn owned<K>(api: Api<PartialObjectMeta<K>>, config: watcher::Config, changed: impl Fn(Key))
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + Send
        + Sync
        + 'static,
{
    // A generation counts changes of the spec alone; kinds without one have no status either.
    let fingerprint = |object: &PartialObjectMeta<K>| match object.metadata.generation {
        Some(generation) => hash(&(
            object.uid(),
            generation,
            object.annotations(),
            object.labels(),
        )),
        None => hash(&object.resource_version()),
    };
    changes(kube::runtime::watcher(api, config), fingerprint, |object| {
        owner(object).into_iter().for_each(&changed)
    })
    .await;
}

/// Calls `changed` for each object whose fingerprint is not what it was, and for each that is gone.
async fn changes<K>(
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    fingerprint: impl Fn(&K) -> u64,
    changed: impl Fn(&K),
) where
    K: Resource<DynamicType = ()>,
{
    let mut known: HashMap<Key, u64> = HashMap::new();
    let mut relisted: HashMap<Key, u64> = HashMap::new();
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object)) => {
                let print = fingerprint(&object);
                if known.insert(key(&object), print) != Some(print) {
                    changed(&object);
                }
            }
            Ok(Event::Delete(object)) => {
                known.remove(&key(&object));
                changed(&object);
            }
            Ok(Event::Init) => relisted = HashMap::new(),
            Ok(Event::InitApply(object)) => {
                // Listed anew, perhaps after an absence: everything is looked at once. What vanished meanwhile is found by the minute's pass.
                relisted.insert(key(&object), fingerprint(&object));
                changed(&object);
            }
            Ok(Event::InitDone) => known = std::mem::take(&mut relisted),
            Err(error) => tracing::warn!(%error, kind = %K::kind(&()), "a watch is interrupted"),
        }
    }
}

/// What a person asked for: the spec, the annotations, and deletion.
fn intent<K: Resource>(resource: &K) -> u64 {
    let meta = resource.meta();
    hash(&(
        &meta.uid,
        meta.generation,
        meta.deletion_timestamp.is_some(),
        &meta.annotations,
    ))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
