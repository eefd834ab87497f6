//! What is watched, and which change makes which work.
//!
//! Custom resources are kept in stores, so that a pass over a cluster's Topics reads memory. Of owned objects only the metadata is watched; of
//! pods what makes a broker ready. A change that nobody asked for (status, managed fields) makes no work: what counts for each kind is its
//! fingerprint. A list counts when it is complete: what is not in a store yet is not taken for gone ([`Watched::until_listed`]).

use std::collections::{BTreeSet, HashMap};
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

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
    /// Waits until everything that there is of the custom resources is in the stores. Before that a Topic may be seen without its Cluster, and be
    /// let go as one whose Cluster is gone.
    pub(super) async fn until_listed(&self) {
        until_ready(&self.clusters).await;
        until_ready(&self.topics).await;
        until_ready(&self.groups).await;
    }

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
        self.groups_that(of)
    }

    /// Those of all clusters.
    pub(super) fn groups_in(&self, namespace: &str) -> Vec<Arc<ConsumerGroup>> {
        self.groups_that(|group| group.metadata.namespace.as_deref() == Some(namespace))
    }

    fn groups_that(&self, counts: impl Fn(&ConsumerGroup) -> bool) -> Vec<Arc<ConsumerGroup>> {
        read(&self.groups)
            .iter()
            .flat_map(|store| store.state_filter(&counts))
            .collect()
    }
}

#[cfg(test)]
impl Watched {
    /// With these in its stores.
    pub(super) fn of(clusters: Vec<Cluster>, groups: Vec<ConsumerGroup>) -> Self {
        let watched = Self::default();
        keep(&watched.clusters, stored_already(clusters));
        keep(&watched.groups, stored_already(groups));
        watched
    }
}

#[cfg(test)]
fn stored_already<K>(objects: Vec<K>) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    let (store, mut writer) = reflector::store();
    for object in objects {
        writer.apply_watcher_event(&Event::Apply(object));
    }
    store
}

fn read<T: Clone>(lock: &RwLock<Vec<T>>) -> Vec<T> {
    lock.read().unwrap_or_else(PoisonError::into_inner).clone()
}

fn keep<T>(lock: &RwLock<Vec<T>>, store: T) {
    lock.write()
        .unwrap_or_else(PoisonError::into_inner)
        .push(store);
}

async fn until_ready<K>(stores: &RwLock<Vec<Store<K>>>)
where
    K: Resource<DynamicType = ()> + Clone + 'static,
{
    for store in read(stores) {
        if store.wait_until_ready().await.is_err() {
            // Its watch has ended, which ends the process; nothing may be decided meanwhile.
            std::future::pending::<()>().await;
        }
    }
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

/// Between two tries to reach an API server that is away: twice as long each time, and never longer than the last of the two.
const AWAY: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(15)];

/// Waits until the API server answers, and fails, with a reason, when the custom resources cannot be read in one of the namespaces. A process that
/// ended because nobody answers would be begun anew later and later, and be away long after the API server is back.
pub(super) async fn check_resources(
    client: &Client,
    namespaces: &[String],
) -> Result<(), RunError> {
    let [mut pause, longest] = AWAY;
    while let Err((name, place, error)) = list_all(client, namespaces).await {
        let why = format!("{name} cannot be listed{place}: {}", apply::plain(&error));
        if !is_away(&error) {
            return Err(RunError::Resources(why));
        }
        tracing::warn!(error = why, "the API server is away; it is asked again");
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
    Ok(())
}

/// Whether nobody answered, or nobody who could: what an API server refuses it would refuse again.
fn is_away(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 408 | 429 | 500..),
        kube::Error::Service(_) | kube::Error::HyperError(_) => true,
        _ => false,
    }
}

/// Which kind could not be listed, where, and why.
type Unlisted = (&'static str, String, kube::Error);

async fn list_all(client: &Client, namespaces: &[String]) -> Result<(), Unlisted> {
    for namespace in scopes(namespaces) {
        list_one::<Cluster>(client, namespace, "clusters.weir.dev").await?;
        list_one::<Topic>(client, namespace, "topics.weir.dev").await?;
        list_one::<ConsumerGroup>(client, namespace, "consumergroups.weir.dev").await?;
    }
    Ok(())
}

async fn list_one<K>(
    client: &Client,
    namespace: Option<&String>,
    name: &'static str,
) -> Result<(), Unlisted>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned,
{
    let one = ListParams::default().limit(1);
    let listed = scoped::<K>(client, namespace).list_metadata(&one).await;
    listed.map(drop).map_err(|error| {
        let place = namespace.map_or_else(String::new, |namespace| {
            format!(" in namespace \"{namespace}\"")
        });
        (name, place, error)
    })
}

/// What is watched: each of the namespaces, or all of them at once.
fn scopes(namespaces: &[String]) -> Vec<Option<&String>> {
    if namespaces.is_empty() {
        vec![None]
    } else {
        namespaces.iter().map(Some).collect()
    }
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

/// Watches until dropped. All stores are there when this returns, before anything has been listed.
pub(super) fn run(context: &Context, namespaces: &[String]) -> impl Future<Output = ()> {
    let watches: FuturesUnordered<_> = scopes(namespaces)
        .into_iter()
        .map(|scope| Box::pin(scope_of(context, scope)))
        .collect();
    async move { watches.collect::<()>().await }
}

fn scope_of(context: &Context, namespace: Option<&String>) -> impl Future<Output = ()> {
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
        key,
        |key| {
            context.clusters.add(key.clone());
            context.topics.add(key.clone());
            context.groups.add(key);
        },
    );
    let topics = stored(
        scoped::<Topic>(client, namespace),
        &context.watched.topics,
        |topic: &Topic| in_cluster(topic, &topic.spec.cluster_ref.name),
        |key| context.topics.add(key),
    );
    let groups = stored(
        scoped::<ConsumerGroup>(client, namespace),
        &context.watched.groups,
        |group: &ConsumerGroup| in_cluster(group, &group.spec.cluster_ref.name),
        |key| context.groups.add(key),
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
        owner,
        of_cluster,
    );
    let owned = async move {
        tokio::join!(
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
    };
    async move {
        tokio::join!(clusters, topics, groups, pods, owned);
    }
}

/// Watches custom resources into a store, and tells which clusters they concern when what was asked for changes.
fn stored<K>(
    api: Api<K>,
    stores: &RwLock<Vec<Store<K>>>,
    cluster: impl Fn(&K) -> Key,
    changed: impl Fn(Key),
) -> impl Future<Output = ()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let (store, writer) = reflector::store();
    keep(stores, store);
    let objects = kube::runtime::watcher(api, watcher::Config::default());
    changes(
        objects
            // Who set which field is most of an object's memory (14 of a Topic's 20 KiB), and nobody here asks.
            .modify(|object| object.managed_fields_mut().clear())
            .reflect(writer),
        intent,
        move |object| Some(cluster(object)),
        changed,
    )
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
    let objects = kube::runtime::watcher(api, config);
    changes(objects, fingerprint, owner, changed).await;
}

/// What is known of an object: its fingerprint, and the cluster that it concerns.
type Known = HashMap<Key, (u64, Option<Key>)>;

/// Calls `changed` with the cluster of each object whose fingerprint is not what it was, and of each that is gone. What is listed anew is
/// told when the list is complete, since that is when it is in the stores.
async fn changes<K>(
    stream: impl futures::Stream<Item = watcher::Result<Event<K>>> + Send,
    fingerprint: impl Fn(&K) -> u64,
    cluster: impl Fn(&K) -> Option<Key>,
    changed: impl Fn(Key),
) where
    K: Resource<DynamicType = ()>,
{
    let mut known = Known::new();
    let mut relisted = Known::new();
    let mut stream = std::pin::pin!(stream.default_backoff());
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object)) => {
                let (print, of) = (fingerprint(&object), cluster(&object));
                let before = known.insert(key(&object), (print, of.clone()));
                if before.is_none_or(|(before, _)| before != print) {
                    of.into_iter().for_each(&changed);
                }
            }
            Ok(Event::Delete(object)) => {
                known.remove(&key(&object));
                cluster(&object).into_iter().for_each(&changed);
            }
            Ok(Event::Init) => relisted = Known::new(),
            Ok(Event::InitApply(object)) => {
                relisted.insert(key(&object), (fingerprint(&object), cluster(&object)));
            }
            Ok(Event::InitDone) => {
                let before = std::mem::replace(&mut known, std::mem::take(&mut relisted));
                // Perhaps after an absence: everything is looked at once, and what vanished meanwhile too.
                let all = known.values().chain(before.values());
                let of: BTreeSet<Key> = all.filter_map(|(_, of)| of.clone()).collect();
                of.into_iter().for_each(&changed);
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use futures::StreamExt;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::runtime::watcher::Event;

    use super::{AWAY, changes, check_resources, intent};
    use crate::kubernetes::RunError;
    use crate::testing::api::{Api, Road};
    use crate::world::Key;

    fn object(name: &str, uid: &str) -> ConfigMap {
        let mut object = ConfigMap::default();
        object.metadata.namespace = Some("shop".into());
        object.metadata.name = Some(name.into());
        object.metadata.uid = Some(uid.into());
        object
    }

    /// How many keys had been told after each event, and which.
    async fn told(events: Vec<Event<ConfigMap>>) -> (Vec<usize>, Vec<String>) {
        let told = Mutex::new(Vec::new());
        let counts = Mutex::new(Vec::new());
        // Asked for the next event, the one before has been dealt with.
        let asked = futures::stream::iter(events).map(|event| {
            let so_far = told.lock().unwrap().len();
            counts.lock().unwrap().push(so_far);
            Ok(event)
        });
        let of = |object: &ConfigMap| Some(super::key(object));
        let tell = |key: Key| told.lock().unwrap().push(key.name);
        changes(asked, intent, of, tell).await;
        let mut counts = counts.into_inner().unwrap();
        let told = told.into_inner().unwrap();
        counts.push(told.len());
        (counts.into_iter().skip(1).collect(), told)
    }

    #[tokio::test]
    async fn what_is_listed_is_told_when_the_list_is_complete() {
        let (counts, told) = told(vec![
            Event::Init,
            Event::InitApply(object("a", "1")),
            Event::InitApply(object("b", "2")),
            Event::InitDone,
        ])
        .await;
        assert_eq!(counts, [0, 0, 0, 2]);
        assert_eq!(told, ["a", "b"]);
    }

    #[tokio::test]
    async fn what_vanished_during_an_absence_is_told_with_the_next_list() {
        let (counts, told) = told(vec![
            Event::Init,
            Event::InitApply(object("a", "1")),
            Event::InitDone,
            Event::Apply(object("a", "1")),
            Event::Apply(object("b", "2")),
            Event::Init,
            Event::InitDone,
        ])
        .await;
        assert_eq!(counts, [0, 0, 1, 1, 2, 2, 4]);
        assert_eq!(told, ["a", "b", "a", "b"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_is_away_is_waited_for() {
        let api = Api::default();
        let back_at = tokio::time::Instant::now() + Duration::from_secs(300);
        let client = api.client_by(Arc::new(move || {
            if tokio::time::Instant::now() < back_at {
                Road::Refused
            } else {
                Road::Takes(Duration::ZERO, Duration::ZERO)
            }
        }));
        let checked = check_resources(&client, &["shop".to_owned()]).await;
        assert!(checked.is_ok(), "{checked:?}");
        assert!(
            back_at.elapsed() <= AWAY[1],
            "{:?} after it was back",
            back_at.elapsed()
        );
        assert_eq!(api.requests(), 3, "once for each kind");

        // One that answers that it cannot answer is away too.
        api.refuse("topics", 503);
        let client = api.client();
        let minute = Duration::from_secs(60);
        let checked = tokio::time::timeout(minute, check_resources(&client, &[])).await;
        assert!(checked.is_err(), "{checked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_an_api_server_refuses_ends_the_process_at_once_and_says_why() {
        for code in [403, 404] {
            let api = Api::default();
            api.refuse("topics", code);
            let began = tokio::time::Instant::now();
            let checked = check_resources(&api.client(), &["shop".to_owned()]).await;
            let why = match checked {
                Err(RunError::Resources(why)) => why,
                other => panic!("{other:?}"),
            };
            assert_eq!(
                why,
                format!(
                    "topics.weir.dev cannot be listed in namespace \"shop\": answered with {code}"
                )
            );
            assert!(began.elapsed() < AWAY[0]);
        }
    }
}
