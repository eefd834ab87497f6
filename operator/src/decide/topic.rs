//! What is done to the brokers' topics for the `Topic` resources of one cluster.
//!
//! All Topics of a cluster are decided together, so that brokers are asked once, not once for each. A field that is absent is left
//! as it is, on the brokers and in the resource; a configuration key that the resource has never named belongs to somebody else. Partitions are
//! added and never removed; the number of replicas the brokers change, some at a time. Of two resources for one topic the older wins.
//!
//! What differs from a resource that was carried out before has been changed by somebody else. That is drift, and `driftPolicy` says what
//! becomes of it; a change of the resource itself is carried out whatever it says.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::config_value::is_stored_as;
use crate::decide::gates::{self, Blocked};
use crate::validate::{Deletion, Drift, Topic};
use crate::world::{Key, Look, MOVES_LEVEL, TopicSeen};

/// The cluster that Topics and groups refer to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum ClusterView<'a> {
    /// There is none, or it is being deleted: nothing is waited for.
    Gone,
    /// It is there, and no broker has answered.
    Unseen {
        /// `spec.paused`.
        paused: bool,
    },
    /// A broker has answered.
    Seen {
        /// `spec.paused`.
        paused: bool,
        /// What it said.
        look: &'a Look,
    },
}

impl<'a> ClusterView<'a> {
    /// What the brokers said, if any answered.
    #[must_use]
    pub fn look(self) -> Option<&'a Look> {
        match self {
            Self::Seen { look, .. } => Some(look),
            Self::Gone | Self::Unseen { .. } => None,
        }
    }

    fn is_paused(self) -> bool {
        matches!(
            self,
            Self::Unseen { paused: true } | Self::Seen { paused: true, .. }
        )
    }
}

/// One change. Names are the brokers' topic names; keys are the resources'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Put the finalizer on the resource, before anything that it has to clean up after.
    TakeFinalizer {
        /// The resource.
        resource: Key,
    },
    /// Create the topic.
    Create {
        /// The resource that asks for it.
        resource: Key,
        /// The topic.
        topic: String,
        /// Absent: the cluster's default.
        partitions: Option<u32>,
        /// Absent: the cluster's default.
        replication_factor: Option<u32>,
        /// Only what the resource names.
        config: BTreeMap<String, String>,
    },
    /// Add partitions, change the number of replicas, set configuration, or several of these.
    Alter {
        /// The resource that asks for it.
        resource: Key,
        /// The topic.
        topic: String,
        /// From how many partitions to how many.
        grow: Option<(u32, u32)>,
        /// From how many replicas to how many.
        replicas: Option<(u32, u32)>,
        /// What differs from the resource.
        set_config: BTreeMap<String, String>,
        /// What the resource named once and does not any more: back to the cluster's default.
        unset_config: BTreeSet<String>,
    },
    /// Delete the topic and its data.
    Delete {
        /// The resource that asks for it.
        resource: Key,
        /// The topic.
        topic: String,
    },
    /// Let the resource go.
    ReleaseFinalizer {
        /// The resource.
        resource: Key,
    },
}

impl Step {
    /// The resource that the step is taken for.
    #[must_use]
    pub fn resource(&self) -> &Key {
        match self {
            Self::TakeFinalizer { resource }
            | Self::Create { resource, .. }
            | Self::Alter { resource, .. }
            | Self::Delete { resource, .. }
            | Self::ReleaseFinalizer { resource } => resource,
        }
    }
}

/// The gate that says that the cluster is paused.
pub const PAUSED: &str = "Paused";

/// What was decided for all Topics of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicsPlan {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// For each resource what its gate said, if one did.
    pub blocked: BTreeMap<Key, Blocked>,
    /// For each resource whose policy is to report it, what somebody else changed.
    pub drifted: BTreeMap<Key, String>,
}

/// One resource before the gates.
#[derive(Debug)]
pub struct Case<'a> {
    topic: &'a Topic,
    cluster: ClusterView<'a>,
    owner: &'a Key,
    seen: Option<&'a TopicSeen>,
}

/// Decides for all Topics of one cluster.
#[must_use]
pub fn plan(cluster: ClusterView<'_>, topics: &[Topic]) -> TopicsPlan {
    let owners = owners(topics);
    let mut ordered: Vec<&Topic> = topics.iter().collect();
    ordered.sort_by(|left, right| left.key.cmp(&right.key));
    let mut plan = TopicsPlan::default();
    for topic in ordered {
        let owner = owners
            .get(topic.name.as_str())
            .copied()
            .unwrap_or(&topic.key);
        let seen = cluster.look().and_then(|look| look.topics.get(&topic.name));
        let case = Case {
            topic,
            cluster,
            owner,
            seen,
        };
        if topic.deleting {
            leave(&case, &mut plan);
        } else {
            keep(&case, &mut plan);
        }
    }
    plan
}

/// Which resource owns each topic: the oldest one that stays, then the smallest key.
fn owners(topics: &[Topic]) -> BTreeMap<&str, &Key> {
    let mut oldest: BTreeMap<&str, &Topic> = BTreeMap::new();
    for topic in topics {
        let rank = |topic: &Topic| (topic.deleting, topic.created_s, topic.key.clone());
        let best = oldest.entry(&topic.name).or_insert(topic);
        if rank(topic) < rank(best) {
            *best = topic;
        }
    }
    oldest
        .into_iter()
        .map(|(name, topic)| (name, &topic.key))
        .collect()
}

/// A resource that is being deleted.
fn leave(case: &Case<'_>, plan: &mut TopicsPlan) {
    let topic = case.topic;
    if !topic.finalizer {
        return;
    }
    let resource = topic.key.clone();
    // Another resource owns the topic, its policy is to keep it, somebody asked for release, or there is no cluster to clean up in.
    let nothing_to_delete = topic.deletion == Deletion::Retain
        || topic.release
        || case.owner != &topic.key
        || case.cluster == ClusterView::Gone;
    if nothing_to_delete {
        plan.steps.push(Step::ReleaseFinalizer { resource });
        return;
    }
    if let Some(blocked) = gates::first_no(gates::TOPIC, |gate| gate(case))
        .filter(|blocked| matches!(blocked.gate, PAUSED | "BrokersNotSeen"))
    {
        let message = format!(
            "{}. To let this Topic go and keep the topic's data, annotate it with {}=true",
            blocked.message,
            crate::names::RELEASE_ANNOTATION
        );
        plan.blocked
            .insert(resource, Blocked { message, ..blocked });
        return;
    }
    match case.seen {
        Some(_) => plan.steps.push(Step::Delete {
            resource,
            topic: topic.name.clone(),
        }),
        None if is_confirmed(case.cluster) => plan.steps.push(Step::ReleaseFinalizer { resource }),
        // It may have been made since: a topic is not left behind on the word of a broker that may be cut off from the others.
        None => {
            let message = format!(
                "the broker of Cluster \"{}\" that answers knows no topic \"{}\", and of no controller, so what it says may be old. It is asked \
                 again. To let this Topic go and keep the topic's data, annotate it with {}=true",
                topic.cluster.name,
                topic.name,
                crate::names::RELEASE_ANNOTATION
            );
            let gate = "BrokersNotSeen";
            plan.blocked.insert(resource, Blocked { gate, message });
        }
    }
}

fn is_confirmed(cluster: ClusterView<'_>) -> bool {
    cluster.look().is_some_and(Look::is_confirmed)
}

/// A resource that stays.
fn keep(case: &Case<'_>, plan: &mut TopicsPlan) {
    let topic = case.topic;
    let resource = topic.key.clone();
    if topic.finalizer && topic.deletion == Deletion::Retain {
        plan.steps.push(Step::ReleaseFinalizer {
            resource: resource.clone(),
        });
    }
    let reports = topic.drift == Drift::Report && topic.applied;
    if let Some(blocked) = gates::first_no(gates::TOPIC, |gate| gate(case)) {
        // What the topic is now was not asked for, so that it cannot be changed back is no refusal.
        if reports && OF_THE_TOPIC.contains(&blocked.gate) {
            plan.drifted.insert(resource, blocked.message);
        } else {
            plan.blocked.insert(resource, blocked);
        }
        return;
    }
    if topic.deletion == Deletion::Delete && !topic.finalizer {
        plan.steps.push(Step::TakeFinalizer {
            resource: resource.clone(),
        });
    }
    let Some(step) = step(topic, case.seen) else {
        return;
    };
    if reports {
        plan.drifted.insert(resource, drift(&step, case.seen));
    } else {
        plan.steps.push(step);
    }
}

/// Gates that say that a topic cannot become what its resource wants.
const OF_THE_TOPIC: [&str; 3] = [
    "PartitionsShrinkRefused",
    "ReplicationFactorAboveBrokers",
    "FeatureLevelTooLow",
];

/// What makes the topic what the resource says; `None` when it is.
fn step(topic: &Topic, seen: Option<&TopicSeen>) -> Option<Step> {
    let resource = topic.key.clone();
    let Some(seen) = seen else {
        return Some(Step::Create {
            resource,
            topic: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            config: topic.config.clone(),
        });
    };
    let grow = topic
        .partitions
        .filter(|wanted| *wanted > seen.partitions)
        .map(|wanted| (seen.partitions, wanted));
    let replicas = new_replicas(topic, seen).map(|wanted| (seen.replication_factor, wanted));
    let set_config: BTreeMap<String, String> = topic
        .config
        .iter()
        .filter(|(key, value)| {
            let stored = seen.config.get(*key);
            !stored.is_some_and(|stored| is_stored_as(value, stored))
        })
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let unset_config: BTreeSet<String> = topic
        .configured
        .iter()
        .filter(|key| !topic.config.contains_key(*key) && seen.config.contains_key(*key))
        .cloned()
        .collect();
    let configures = !set_config.is_empty() || !unset_config.is_empty();
    (grow.is_some() || replicas.is_some() || configures).then(|| Step::Alter {
        resource,
        topic: topic.name.clone(),
        grow,
        replicas,
        set_config,
        unset_config,
    })
}

/// The number of replicas to ask for: not one that is on its way already.
fn new_replicas(topic: &Topic, seen: &TopicSeen) -> Option<u32> {
    let coming = seen
        .wanted_replication_factor
        .unwrap_or(seen.replication_factor);
    topic.replication_factor.filter(|wanted| *wanted != coming)
}

/// What differs from the resource, in a sentence.
fn drift(step: &Step, seen: Option<&TopicSeen>) -> String {
    let Step::Alter {
        grow,
        replicas,
        set_config,
        ..
    } = step
    else {
        return "the topic is gone".to_owned();
    };
    let partitions = grow.map(|(is, wanted)| format!("{is} partitions in place of {wanted}"));
    let replicas = replicas.map(|(is, wanted)| format!("{is} replicas in place of {wanted}"));
    let config = set_config.iter().map(|(key, wanted)| {
        let is = seen.and_then(|seen| seen.config.get(key));
        let is = is.map_or("the cluster's default", String::as_str);
        format!("{key} is {is} in place of {wanted}")
    });
    let all: Vec<String> = partitions
        .into_iter()
        .chain(replicas)
        .chain(config)
        .collect();
    format!(
        "{}. Somebody else changed it, and spec.driftPolicy is Report: nothing was changed back",
        all.join(", ")
    )
}

/// Gate: there is no such cluster.
pub(super) fn cluster_not_found(case: &Case<'_>) -> Option<String> {
    (case.cluster == ClusterView::Gone).then(|| {
        format!(
            "spec.clusterRef.name: there is no Cluster \"{}\" in namespace \"{}\", or it is being deleted. Create it there, or create this Topic anew with the right name",
            case.topic.cluster.name, case.topic.cluster.namespace
        )
    })
}

/// Gate: an older resource has this topic.
pub(super) fn owned_by_an_older_one(case: &Case<'_>) -> Option<String> {
    (case.owner != &case.topic.key).then(|| {
        format!(
            "spec.topicName: the topic \"{}\" already belongs to Topic \"{}\", which is older. Delete one of the two",
            case.topic.name, case.owner.name
        )
    })
}

/// Gate: the cluster is paused.
pub(super) fn paused(case: &Case<'_>) -> Option<String> {
    case.cluster.is_paused().then(|| {
        format!(
            "Cluster \"{}\" is paused (spec.paused); set it to false to go on",
            case.topic.cluster.name
        )
    })
}

/// Gate: no broker has answered.
pub(super) fn not_seen(case: &Case<'_>) -> Option<String> {
    case.cluster.look().is_none().then(|| {
        format!(
            "no broker of Cluster \"{}\" has answered yet; it is asked again",
            case.topic.cluster.name
        )
    })
}

/// Gate: partitions would be removed.
pub(super) fn shrinks(case: &Case<'_>) -> Option<String> {
    let (wanted, seen) = (case.topic.partitions?, case.seen?);
    (wanted < seen.partitions).then(|| {
        format!(
            "spec.partitions is {wanted}, but the topic has {}: partitions are never removed, since their records would be lost. Set spec.partitions to {} or more, or leave it out",
            seen.partitions, seen.partitions
        )
    })
}

/// Gate: more replicas are asked for than there are brokers that take some.
pub(super) fn more_replicas_than_brokers(case: &Case<'_>) -> Option<String> {
    let look = case.cluster.look()?;
    let wanted = match case.seen {
        Some(seen) => new_replicas(case.topic, seen)?,
        None => case.topic.replication_factor?,
    };
    let all = look.brokers.len();
    let takers = look
        .brokers
        .values()
        .filter(|broker| !broker.cordoned)
        .count();
    let leaving = if takers < all {
        format!(", of which {} are on their way out", all - takers)
    } else {
        String::new()
    };
    (all > 0 && wanted as usize > takers).then(|| {
        format!(
            "spec.replicationFactor is {wanted}, but Cluster \"{}\" has {all} brokers{leaving}: set it to {takers} or less, or raise the Cluster's \
             spec.replicas",
            case.topic.cluster.name
        )
    })
}

/// Gate: the brokers cannot change the number of replicas by themselves yet.
pub(super) fn level_too_low(case: &Case<'_>) -> Option<String> {
    let (look, seen) = (case.cluster.look()?, case.seen?);
    let wanted = new_replicas(case.topic, seen)?;
    (look.feature_level < MOVES_LEVEL).then(|| {
        format!(
            "spec.replicationFactor is {wanted}, but the topic has {} and Cluster \"{}\" uses feature level {}; replicas are added and removed from \
             {MOVES_LEVEL} on. Upgrade the brokers, or set it back",
            seen.replication_factor, case.topic.cluster.name, look.feature_level
        )
    })
}

/// Names of the topics that a set of steps touches, for messages.
#[must_use]
pub fn touched(steps: &[Step]) -> BTreeSet<&Key> {
    steps.iter().map(Step::resource).collect()
}

#[cfg(test)]
mod tests;
