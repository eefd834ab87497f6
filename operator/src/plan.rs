//! `weir-operator plan -f FILE...`: what would be done, without doing it.
//!
//! Observes and decides exactly as the running operator does, and prints the steps and the gates instead of acting.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use kube::api::ListParams;
use kube::core::object::{HasSpec, HasStatus};
use kube::{Api, Client, Resource, ResourceExt};
use weir_crds::BEGIN_CONFIG;

use crate::admin::{Admin, disks};
use crate::decide::cluster::{self, Step, World};
use crate::decide::topic::{self, ClusterView, TopicsPlan};
use crate::kubernetes::by_name::{self, DecideError};
use crate::kubernetes::observe;
use crate::manifests::{ManifestError, Manifests};
use crate::validate::{Beginning, Cluster, Defaults, Group, Topic};
use crate::world::{Key, Look};

/// What the manifests are compared with.
#[derive(Debug, Clone)]
pub struct Target {
    /// With nothing.
    pub offline: bool,
    /// Namespace of manifests that name none.
    pub namespace: Option<String>,
    /// Image of the brokers when a Cluster names none.
    pub broker_image: String,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The files cannot be read.
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    /// Kubernetes cannot be read.
    #[error("Kubernetes cannot be read: {0}. With --offline nothing is compared with")]
    Kubernetes(String),
    /// An object cannot be written.
    #[error(transparent)]
    Build(#[from] crate::objects::BuildError),
    /// Nobody takes the output.
    #[error("the plan cannot be printed: {0}")]
    Output(#[from] std::io::Error),
    /// At least one resource cannot be carried out.
    #[error("{0} resources cannot be carried out as they are")]
    Refused(usize),
}

/// Prints the plan. Fails after printing all of it when something was refused.
///
/// # Errors
/// When files or Kubernetes cannot be read, or a resource cannot be carried out.
pub async fn run(files: &[PathBuf], target: Target, out: &mut impl Write) -> Result<(), PlanError> {
    let client = if target.offline {
        None
    } else {
        Some(
            Client::try_default()
                .await
                .map_err(|error| unreadable(&error))?,
        )
    };
    print(files, target, client.as_ref(), out).await
}

/// A cluster of the manifests, as far as its topics depend on it.
struct Seen {
    paused: bool,
    look: Option<Look>,
}

async fn print(
    files: &[PathBuf],
    target: Target,
    client: Option<&Client>,
    out: &mut impl Write,
) -> Result<(), PlanError> {
    let default_namespace = client.map_or("default", Client::default_namespace);
    let namespace = target
        .namespace
        .unwrap_or_else(|| default_namespace.to_owned());
    let (manifests, mut refused) = Manifests::read(files, &namespace, None)?;
    for sentence in &refused {
        writeln!(out, "refused: {sentence}")?;
    }
    let defaults = Defaults {
        broker_image: target.broker_image,
    };
    let mut clusters: BTreeMap<Key, Seen> = BTreeMap::new();
    for resource in &manifests.clusters {
        let key = key_of(resource);
        let (resource, world) = match client {
            Some(client) => observe_all(client, resource, &key, &defaults)
                .await
                .map_err(|error| unreadable(&error))?,
            None => (resource.clone(), World::default()),
        };
        match Cluster::validate(&resource, &defaults) {
            Ok(cluster) => print_cluster(out, &cluster, &world)?,
            Err(invalid) => {
                refused.push(print_refused(out, "Cluster", &key, &invalid.to_string())?)
            }
        }
        let paused = resource.spec.paused;
        let look = world.look;
        clusters.insert(key, Seen { paused, look });
    }
    print_topics(out, &manifests, clusters, client, &mut refused).await?;
    for resource in &manifests.groups {
        let key = key_of(resource);
        match Group::validate(resource) {
            Ok(group) => print_group(out, &group)?,
            Err(invalid) => refused.push(print_refused(
                out,
                "ConsumerGroup",
                &key,
                &invalid.to_string(),
            )?),
        }
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(PlanError::Refused(refused.len()))
    }
}

fn unreadable(error: &dyn std::fmt::Display) -> PlanError {
    PlanError::Kubernetes(error.to_string())
}

/// A manifest's resource as it is once it has been applied: with what Kubernetes, the operator and `kubectl weir` have written of the one that is there.
fn applied<K>(wanted: &K, stored: &K) -> K
where
    K: Resource + Clone + HasSpec + HasStatus<Status: Clone>,
    K::Spec: PartialEq,
{
    let mut applied = wanted.clone();
    let before = stored.meta();
    let is_changed = wanted.spec() != stored.spec();
    let meta = applied.meta_mut();
    meta.uid.clone_from(&before.uid);
    meta.creation_timestamp = before.creation_timestamp.clone();
    meta.deletion_timestamp = before.deletion_timestamp.clone();
    meta.finalizers.clone_from(&before.finalizers);
    meta.generation = before.generation.map(|now| now + i64::from(is_changed));
    let mut annotations = before.annotations.clone().unwrap_or_default();
    annotations.extend(meta.annotations.take().unwrap_or_default());
    meta.annotations = Some(annotations);
    *applied.status_mut() = stored.status().cloned();
    applied
}

/// What is seen to of a group; whether a pause or a reset is still to be asked for the running operator knows.
fn print_group(out: &mut impl Write, group: &Group) -> std::io::Result<()> {
    let Group { key, id, .. } = group;
    writeln!(
        out,
        "\nConsumerGroup {key}\n  watch group {id} of Cluster {}",
        group.cluster.name
    )?;
    match group.paused {
        Some(true) => writeln!(out, "  keep it paused")?,
        Some(false) => writeln!(out, "  keep it from being paused")?,
        None => {}
    }
    match &group.begin {
        Some(Beginning::Share(config)) => {
            writeln!(out, "  keep {BEGIN_CONFIG} at {config}")?;
        }
        Some(Beginning::Offsets { at, topics }) => writeln!(
            out,
            "  begin it at {at} in topics that it has no offsets of: {}",
            topics.iter().cloned().collect::<Vec<_>>().join(", ")
        )?,
        None => {}
    }
    if let Some(reset) = &group.reset {
        let how = if reset.dry_run {
            "dry-run"
        } else {
            "carry out"
        };
        writeln!(out, "  {how} reset {} once", reset.id)?;
    }
    if let Some(scale) = &group.scale {
        writeln!(
            out,
            "  keep Deployment {} between {} and {} replicas, one for each {} messages that wait",
            scale.deployment, scale.min, scale.max, scale.lag_per_replica
        )?;
    }
    Ok(())
}

/// The cluster as it is once applied, its objects, and what its brokers say if they can be reached from here.
async fn observe_all(
    client: &Client,
    resource: &weir_crds::Cluster,
    key: &Key,
    defaults: &Defaults,
) -> Result<(weir_crds::Cluster, World), DecideError> {
    let api: Api<weir_crds::Cluster> = Api::namespaced(client.clone(), &key.namespace);
    let stored = api.get_opt(&key.name).await?;
    let wanted = stored.map_or_else(|| resource.clone(), |stored| applied(resource, &stored));
    let uid = wanted.metadata.uid.as_deref().unwrap_or_default();
    let mut observed = observe::cluster(client, key, uid).await?;
    let cluster = Cluster::validate(&wanted, defaults).ok();
    if let Some(cluster) = &cluster {
        observe::hosts(client, cluster, &mut observed).await;
        observe::brought(client, cluster, &mut observed).await?;
    }
    if wanted.spec.storage.auto_grow.is_some() {
        observed.world.disks = disks(&observed.way).await;
    }
    observed.world.look = Admin::new(observed.way).look().await.ok();
    if let Some(cluster) = &cluster {
        by_name::decide(client, cluster, &mut observed.world).await?;
    }
    Ok((wanted, observed.world))
}

fn print_cluster(out: &mut impl Write, cluster: &Cluster, world: &World) -> Result<(), PlanError> {
    writeln!(out, "\nCluster {}", cluster.key)?;
    let decision = cluster::decide(cluster, world)?;
    for step in &decision.plan.steps {
        writeln!(out, "  {}", cluster_sentence(step))?;
    }
    for blocked in &decision.plan.blocked {
        writeln!(out, "  blocked by {}: {}", blocked.gate, blocked.message)?;
    }
    if decision.plan.is_empty() {
        writeln!(out, "  nothing to do")?;
    }
    Ok(())
}

async fn print_topics(
    out: &mut impl Write,
    manifests: &Manifests,
    mut clusters: BTreeMap<Key, Seen>,
    client: Option<&Client>,
    refused: &mut Vec<String>,
) -> Result<(), PlanError> {
    let mut stored = match client {
        Some(client) => stored_topics(client, &manifests.topics)
            .await
            .map_err(|error| unreadable(&error))?,
        None => BTreeMap::new(),
    };
    let mut by_cluster: BTreeMap<Key, Vec<Topic>> = BTreeMap::new();
    for resource in &manifests.topics {
        let key = key_of(resource);
        let resource = match stored.remove(&key) {
            Some(stored) => applied(resource, &stored),
            None => resource.clone(),
        };
        match Topic::validate(&resource) {
            Ok(topic) => by_cluster
                .entry(topic.cluster.clone())
                .or_default()
                .push(topic),
            Err(invalid) => refused.push(print_refused(out, "Topic", &key, &invalid.to_string())?),
        }
    }
    // Those that no file names: one of them may have a topic that a file names.
    let others: Vec<Topic> = stored
        .values()
        .filter_map(|resource| Topic::validate(resource).ok())
        .collect();
    for (cluster, topics) in by_cluster {
        let seen = match (clusters.remove(&cluster), client) {
            (None, Some(client)) => look_for(client, &cluster)
                .await
                .map_err(|error| unreadable(&error))?,
            // A cluster that is neither in the files nor in Kubernetes is not there.
            (known, _) => known,
        };
        // Without any broker to ask, the topics are new.
        let look = seen.as_ref().and_then(|seen| seen.look.clone());
        let look = look.unwrap_or_default();
        let nothing_known = look == Look::default();
        let view = seen.map_or(ClusterView::Gone, |seen| ClusterView::Seen {
            paused: seen.paused,
            look: &look,
        });
        let beside = others.iter().filter(|topic| topic.cluster == cluster);
        let all: Vec<Topic> = topics.iter().chain(beside).cloned().collect();
        let plan = topic::plan(view, &all);
        for topic in &topics {
            print_topic(out, topic, &plan, nothing_known, refused)?;
        }
    }
    Ok(())
}

fn print_topic(
    out: &mut impl Write,
    topic: &Topic,
    plan: &TopicsPlan,
    nothing_known: bool,
    refused: &mut Vec<String>,
) -> Result<(), PlanError> {
    writeln!(out, "\nTopic {}", topic.key)?;
    let steps = plan.steps.iter();
    let steps: Vec<&topic::Step> = steps.filter(|step| *step.resource() == topic.key).collect();
    for step in &steps {
        let unless = if nothing_known {
            ", unless it is there"
        } else {
            ""
        };
        writeln!(out, "  {}{unless}", sentence(step))?;
    }
    match (plan.blocked.get(&topic.key), plan.drifted.get(&topic.key)) {
        (Some(blocked), _) => {
            // What waits is not refused.
            if blocked.gate != topic::PAUSED {
                refused.push(blocked.message.clone());
            }
            writeln!(out, "  blocked by {}: {}", blocked.gate, blocked.message)?;
        }
        (None, Some(drift)) => writeln!(out, "  drifted: {drift}")?,
        (None, None) if steps.is_empty() => writeln!(out, "  nothing to do")?,
        (None, None) => {}
    }
    Ok(())
}

fn key_of<K: Resource>(resource: &K) -> Key {
    Key::new(
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

/// All Topics that there are in the namespaces of some.
async fn stored_topics(
    client: &Client,
    topics: &[weir_crds::Topic],
) -> Result<BTreeMap<Key, weir_crds::Topic>, kube::Error> {
    let namespaces: BTreeSet<String> = topics.iter().filter_map(ResourceExt::namespace).collect();
    let mut stored = BTreeMap::new();
    for namespace in namespaces {
        let api: Api<weir_crds::Topic> = Api::namespaced(client.clone(), &namespace);
        let all = api.list(&ListParams::default()).await?;
        stored.extend(all.into_iter().map(|topic| (key_of(&topic), topic)));
    }
    Ok(stored)
}

async fn look_for(client: &Client, cluster: &Key) -> Result<Option<Seen>, kube::Error> {
    let api: Api<weir_crds::Cluster> = Api::namespaced(client.clone(), &cluster.namespace);
    let Some(stored) = api.get_opt(&cluster.name).await? else {
        return Ok(None);
    };
    let way = observe::way_to(client, cluster).await?;
    Ok(Some(Seen {
        paused: stored.spec.paused,
        look: Admin::new(way).look().await.ok(),
    }))
}

/// Whose certificates are made, in words.
#[must_use]
pub fn names_of(due: &[weir_tls::Due]) -> String {
    let names: Vec<String> = due.iter().map(ToString::to_string).collect();
    names.join(", ")
}

/// A step for a Cluster in words.
#[must_use]
pub fn cluster_sentence(step: &Step) -> String {
    match step {
        Step::Issue { due } => format!("make certificates: {}", names_of(due)),
        Step::Apply { child, change } if change == "missing" => {
            format!("create {}", child.title())
        }
        Step::Apply { child, change } => format!("change {} ({change})", child.title()),
        Step::GrowVolume {
            claim, from, to, ..
        } => format!("grow PersistentVolumeClaim {claim} from {from} to {to}"),
        Step::CancelDrain { brokers } => format!("keep {} after all", numbers_of(brokers)),
        Step::Drain { brokers } => format!("empty {}", numbers_of(brokers)),
        Step::Replicate { topics, replicas } => {
            format!("have {} have {replicas} replicas", topics.join(", "))
        }
        Step::Rebalance { over } => format!("spread replicas over {over} brokers"),
        Step::ProveEmpty { brokers } => {
            format!("prove that nothing is left on {}", numbers_of(brokers))
        }
        Step::RaiseFeatureLevel { level } => {
            format!("have the cluster use feature level {level}, from which there is no way back")
        }
        Step::SetListeners { brokers } => {
            let ids: Vec<_> = brokers.iter().map(|(broker, _)| *broker).collect();
            format!("tell {} of its listeners", numbers_of(&ids))
        }
        Step::Configure { set, unset } => format!(
            "tell all brokers, while they run: {}",
            configs_of(set, unset)
        ),
        Step::DeleteService { name } => format!("delete Service {name}"),
        Step::Unregister { brokers } => format!("forget {}", numbers_of(brokers)),
        Step::MarkVolume { claim, .. } => {
            format!("mark PersistentVolumeClaim {claim} to be deleted once its broker is gone")
        }
        Step::KeepVolume { claim, .. } => format!("keep PersistentVolumeClaim {claim} after all"),
        Step::DeleteVolume { claim, .. } => format!("delete PersistentVolumeClaim {claim}"),
        Step::ProveLost { broker, .. } => {
            format!("prove that broker {broker} is away, and that others have what it had")
        }
        Step::DeleteLostVolume { broker, claim, why } => format!(
            "delete PersistentVolumeClaim {claim}, so that broker {broker} gets an empty disk ({why})"
        ),
        Step::DeleteLostPod { broker, .. } => {
            format!("delete the pod of broker {broker}, whose disk is lost")
        }
        Step::RestartBroker { broker, why } => format!("restart broker {broker} ({why})"),
    }
}

/// Configurations in words.
#[must_use]
pub fn configs_of(
    set: &std::collections::BTreeMap<String, String>,
    unset: &std::collections::BTreeSet<String>,
) -> String {
    let set = set.iter().map(|(key, value)| format!("{key}={value}"));
    let unset = unset.iter().map(|key| format!("{key} unset"));
    set.chain(unset).collect::<Vec<_>>().join(", ")
}

/// Brokers in words.
#[must_use]
pub fn numbers_of(brokers: &[crate::world::BrokerId]) -> String {
    let numbers: Vec<String> = brokers.iter().map(ToString::to_string).collect();
    let what = if numbers.len() == 1 {
        "broker"
    } else {
        "brokers"
    };
    format!("{what} {}", numbers.join(", "))
}

/// A step for a Topic in words.
#[must_use]
pub fn sentence(step: &topic::Step) -> String {
    let set = |config: &std::collections::BTreeMap<String, String>| {
        let pairs: Vec<String> = config
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        pairs.join(", ")
    };
    match step {
        topic::Step::TakeFinalizer { .. } => {
            "hold the resource until its topic is deleted (finalizer)".to_owned()
        }
        topic::Step::ReleaseFinalizer { .. } => "let the resource go (finalizer)".to_owned(),
        topic::Step::Create {
            topic,
            partitions,
            replication_factor,
            config,
            ..
        } => {
            let partitions = partitions.map_or_else(
                || "the cluster's default number of".to_owned(),
                |partitions| partitions.to_string(),
            );
            let replicas = replication_factor.map_or_else(String::new, |factor| {
                format!(", replication factor {factor}")
            });
            let config = if config.is_empty() {
                String::new()
            } else {
                format!(", {}", set(config))
            };
            format!("create topic {topic} with {partitions} partitions{replicas}{config}")
        }
        topic::Step::Alter {
            topic,
            grow,
            replicas,
            set_config,
            unset_config,
            ..
        } => {
            let grown =
                grow.map(|(from, to)| format!("grow topic {topic} from {from} to {to} partitions"));
            let replicated = replicas
                .map(|(from, to)| format!("change topic {topic} from {from} to {to} replicas"));
            let configured = (!set_config.is_empty())
                .then(|| format!("set {} on topic {topic}", set(set_config)));
            let unset: Vec<&str> = unset_config.iter().map(String::as_str).collect();
            let unset = (!unset.is_empty()).then(|| {
                let keys = unset.join(", ");
                format!("set {keys} back to the cluster's default on topic {topic}")
            });
            [grown, replicated, configured, unset]
                .into_iter()
                .flatten()
                .collect::<Vec<String>>()
                .join(", ")
        }
        topic::Step::Delete { topic, .. } => format!("delete topic {topic} and its data"),
    }
}

fn print_refused(
    out: &mut impl Write,
    kind: &str,
    key: &Key,
    why: &str,
) -> std::io::Result<String> {
    writeln!(out, "\n{kind} {key}\n  refused: {why}")?;
    Ok(why.to_owned())
}

#[cfg(test)]
mod tests;
