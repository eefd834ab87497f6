//! A `ConsumerGroup` that can be looked at.

use std::collections::BTreeSet;

use kube::ResourceExt;

use super::Invalid;
use crate::world::Key;

/// How far behind a group may be; either one missed is a miss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Objective {
    /// Records that may wait.
    pub records: Option<i64>,
    /// Seconds that the oldest of them may have waited.
    pub seconds: Option<i64>,
}

/// A group that somebody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The resource.
    pub key: Key,
    /// The cluster, in the same namespace.
    pub cluster: Key,
    /// The group's id on the brokers.
    pub id: String,
    /// Topics whose lag counts; empty: all.
    pub topics: BTreeSet<String>,
    /// When given.
    pub objective: Option<Objective>,
}

impl Group {
    /// Judges a resource.
    ///
    /// # Errors
    /// Names the first field that makes no sense.
    pub fn validate(resource: &weir_crds::ConsumerGroup) -> Result<Self, Invalid> {
        let key = Key::new(
            resource.namespace().unwrap_or_default(),
            resource.name_any(),
        );
        let id = resource.group_id().to_owned();
        if id.is_empty() {
            return Err(Invalid::new(
                "spec.groupId",
                "is empty",
                "Set it, or leave it out to take the resource's name",
            ));
        }
        let objective = resource
            .spec
            .lag_objective
            .as_ref()
            .map(|objective| Objective {
                records: objective.records,
                seconds: objective.seconds,
            });
        if let Some(objective) = objective {
            for (field, value) in [
                ("records", objective.records),
                ("seconds", objective.seconds),
            ] {
                if let Some(value) = value.filter(|value| *value < 0) {
                    return Err(Invalid::new(
                        format!("spec.lagObjective.{field}"),
                        format!("{value} is negative"),
                        "Set it to 0 or more",
                    ));
                }
            }
        }
        Ok(Self {
            cluster: Key::new(
                key.namespace.clone(),
                resource.spec.cluster_ref.name.clone(),
            ),
            id,
            topics: resource.spec.topics.iter().cloned().collect(),
            objective,
            key,
        })
    }
}
