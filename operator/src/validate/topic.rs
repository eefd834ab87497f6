//! A `Topic` that can be carried out.

use std::collections::{BTreeMap, BTreeSet};

use kube::ResourceExt;

use super::{Invalid, at_least_one};
use crate::names;
use crate::world::Key;

/// Kafka's longest topic name.
const NAME_LEN_MAX: usize = 249;

/// Topics that the brokers keep themselves.
const INTERNAL: [&str; 4] = [
    "__consumer_offsets",
    "__transaction_state",
    "__share_group_state",
    "__half_messages",
];

/// What happens to the data when the resource is deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It stays.
    Retain,
    /// It goes.
    Delete,
}

/// What happens to changes that somebody else made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// They are changed back.
    Repair,
    /// They are only told.
    Report,
}

/// A topic that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// The resource.
    pub key: Key,
    /// The cluster, in the same namespace.
    pub cluster: Key,
    /// `metadata.creationTimestamp` in seconds, to tell which of two resources is older; 0 for manifests.
    pub created_s: i64,
    /// The topic's name on the brokers.
    pub name: String,
    /// `None`: whatever it is.
    pub partitions: Option<u32>,
    /// `None`: whatever it is.
    pub replication_factor: Option<u32>,
    /// Keys that are kept as they are here; all others are left alone.
    pub config: BTreeMap<String, String>,
    /// What somebody else's changes lead to.
    pub drift: Drift,
    /// The topic has been seen to be as this generation of the resource says: what differs now was changed by somebody else.
    pub applied: bool,
    /// Configuration keys that were set since the spec named them.
    pub configured: BTreeSet<String>,
    /// What deleting the resource does.
    pub deletion: Deletion,
    /// The resource is being deleted.
    pub deleting: bool,
    /// The resource carries our finalizer.
    pub finalizer: bool,
    /// Somebody asked to let the resource go without waiting for the brokers.
    pub release: bool,
}

impl Topic {
    /// Judges a resource. One that is being deleted asks for nothing any more, so nothing in its spec can hold it: there is no topic of a
    /// name that is none, and so nothing to delete with it.
    ///
    /// # Errors
    /// Names the first field that cannot be carried out.
    pub fn validate(resource: &weir_crds::Topic) -> Result<Self, Invalid> {
        let key = Key::new(
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        let spec = &resource.spec;
        let name = resource.kafka_name().to_owned();
        let deleting = resource.metadata.deletion_timestamp.is_some();
        let has_name = match check_name(&name) {
            Err(invalid) if !deleting => return Err(invalid),
            judged => judged.is_ok(),
        };
        let count = |field: &str, value: Option<i32>| {
            let value = value.filter(|_| !deleting);
            value.map(|value| at_least_one(field, value)).transpose()
        };
        let delay = spec.queue.as_ref().and_then(|queue| queue.delay.as_ref());
        if let Some(delay) = delay.filter(|delay| !deleting && delay.max_ms().is_none()) {
            return Err(Invalid::new(
                "spec.queue.delay.max",
                format!("\"{}\" is no period of at most a year", delay.max),
                "Use a number with ms, s, m, h or d, such as 36h".to_owned(),
            ));
        }
        Ok(Self {
            cluster: Key::new(key.namespace.clone(), spec.cluster_ref.name.clone()),
            created_s: resource
                .metadata
                .creation_timestamp
                .as_ref()
                .map_or(0, |time| time.0.as_second()),
            name,
            partitions: count("spec.partitions", spec.partitions)?,
            replication_factor: count("spec.replicationFactor", spec.replication_factor)?,
            config: spec
                .config
                .iter()
                .map(|(key, value)| (key.clone(), value.as_str().to_owned()))
                // What the resource says in fields comes last: an API server admits no such key beside them.
                .chain(spec.queue.iter().flat_map(weir_crds::Queue::config))
                .collect(),
            drift: match spec.drift_policy {
                weir_crds::DriftPolicy::Repair => Drift::Repair,
                weir_crds::DriftPolicy::Report => Drift::Report,
            },
            applied: resource.status.as_ref().is_some_and(|status| {
                status.applied_generation.is_some()
                    && status.applied_generation == resource.metadata.generation
            }),
            configured: resource
                .status
                .iter()
                .flat_map(|status| status.configured.iter().cloned())
                .collect(),
            deletion: match spec.deletion_policy {
                weir_crds::DeletionPolicy::Delete if has_name => Deletion::Delete,
                weir_crds::DeletionPolicy::Delete | weir_crds::DeletionPolicy::Retain => {
                    Deletion::Retain
                }
            },
            deleting,
            finalizer: resource
                .finalizers()
                .iter()
                .any(|name| name == names::TOPIC_FINALIZER),
            release: resource
                .annotations()
                .get(names::RELEASE_ANNOTATION)
                .is_some_and(|value| value == "true"),
            key,
        })
    }
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let field = "spec.topicName";
    let legal = name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'));
    if name.is_empty() || name.len() > NAME_LEN_MAX || !legal || name == "." || name == ".." {
        return Err(Invalid::new(
            field,
            format!("\"{name}\" is no topic name"),
            format!("Use 1 to {NAME_LEN_MAX} letters, digits, '.', '_' or '-'"),
        ));
    }
    if INTERNAL.contains(&name) {
        return Err(Invalid::new(
            field,
            format!("\"{name}\" is the brokers' own"),
            "Choose another name",
        ));
    }
    Ok(())
}
