//! What is done to the brokers' topics for the `Topic` resources of one cluster.
//!
//! All Topics of a cluster are decided together, so that brokers are asked once, not once for each. A field that is absent is left
//! as it is, on the brokers and in the resource; a configuration key that the resource does not name belongs to somebody else. Partitions are
//! added and never removed. Of two resources for one topic the older wins.

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::config_value::is_stored_as;
use crate::decide::gates::{self, Blocked};
use crate::validate::{Deletion, Topic};
use crate::world::{Key, Look, TopicSeen};

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
    /// Add partitions, set configuration, or both.
    Alter {
        /// The resource that asks for it.
        resource: Key,
        /// The topic.
        topic: String,
        /// From how many to how many.
        grow: Option<(u32, u32)>,
        /// What differs from the resource.
        set_config: BTreeMap<String, String>,
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

/// What was decided for all Topics of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicsPlan {
    /// What to do, in order.
    pub steps: Vec<Step>,
    /// For each resource what its gate said, if one did.
    pub blocked: BTreeMap<Key, Blocked>,
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
        .filter(|blocked| matches!(blocked.gate, "Paused" | "BrokersNotSeen"))
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
        None => plan.steps.push(Step::ReleaseFinalizer { resource }),
    }
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
    if let Some(blocked) = gates::first_no(gates::TOPIC, |gate| gate(case)) {
        plan.blocked.insert(resource, blocked);
        return;
    }
    if topic.deletion == Deletion::Delete && !topic.finalizer {
        plan.steps.push(Step::TakeFinalizer {
            resource: resource.clone(),
        });
    }
    match case.seen {
        None => plan.steps.push(Step::Create {
            resource,
            topic: topic.name.clone(),
            partitions: topic.partitions,
            replication_factor: topic.replication_factor,
            config: topic.config.clone(),
        }),
        Some(seen) => {
            let grow = topic
                .partitions
                .filter(|wanted| *wanted > seen.partitions)
                .map(|wanted| (seen.partitions, wanted));
            let set_config: BTreeMap<String, String> = topic
                .config
                .iter()
                .filter(|(key, value)| {
                    let stored = seen.config.get(*key);
                    !stored.is_some_and(|stored| is_stored_as(value, stored))
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            if grow.is_some() || !set_config.is_empty() {
                plan.steps.push(Step::Alter {
                    resource,
                    topic: topic.name.clone(),
                    grow,
                    set_config,
                });
            }
        }
    }
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

/// Gate: the number of replicas of an existing topic would change.
pub(super) fn changes_replication_factor(case: &Case<'_>) -> Option<String> {
    let (wanted, seen) = (case.topic.replication_factor?, case.seen?);
    (wanted != seen.replication_factor).then(|| {
        format!(
            "spec.replicationFactor is {wanted}, but the topic has {} and this version cannot move replicas. Set it to {}, or leave it out",
            seen.replication_factor, seen.replication_factor
        )
    })
}

/// Gate: a new topic asks for more replicas than there are brokers.
pub(super) fn more_replicas_than_brokers(case: &Case<'_>) -> Option<String> {
    let (wanted, look) = (case.topic.replication_factor?, case.cluster.look()?);
    let brokers = look.brokers.len();
    (case.seen.is_none() && brokers > 0 && wanted as usize > brokers).then(|| {
        format!(
            "spec.replicationFactor is {wanted}, but Cluster \"{}\" has {brokers} brokers: set it to {brokers} or less, or raise the Cluster's spec.replicas",
            case.topic.cluster.name
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
