//! Status of a Topic.

use std::collections::BTreeSet;

use jiff::Timestamp;
use weir_crds::TopicStatus;

use super::{Is, Wanted, conditions};
use crate::decide::Blocked;
use crate::validate::{Invalid, Topic};
use crate::world::{Refusal, TopicSeen};

/// How a pass over a Topic came out.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// The spec cannot be carried out.
    Invalid(&'a Invalid),
    /// A gate said no.
    Blocked(&'a Topic, &'a Blocked),
    /// The brokers said no.
    Refused(&'a Topic, &'a Refusal),
    /// The brokers could not be asked.
    Unreachable(&'a Topic, &'a str),
    /// Steps were taken; what they made has not been seen yet.
    Changed(&'a Topic),
    /// Replicas come and go; how many partitions are on their way the topic says.
    Replicating(&'a Topic, &'a TopicSeen),
    /// Somebody else changed it, and that is only to be told.
    Drifted(&'a Topic, &'a str),
    /// The topic is as it should be.
    AsWanted(&'a Topic),
}

/// The status after a pass. `seen` is the topic as the brokers have it, if they said.
#[must_use]
pub fn status(
    previous: &TopicStatus,
    generation: Option<i64>,
    outcome: &Outcome<'_>,
    seen: Option<&TopicSeen>,
    now: Timestamp,
) -> TopicStatus {
    let mut status = previous.clone();
    if let Some(seen) = seen {
        status.topic_id = Some(seen.id.clone()).filter(|id| !id.is_empty());
        status.partitions = i32::try_from(seen.partitions).ok();
        status.replication_factor = i32::try_from(seen.replication_factor).ok();
    }
    match outcome {
        Outcome::Invalid(_) => {}
        Outcome::Blocked(topic, _)
        | Outcome::Refused(topic, _)
        | Outcome::Unreachable(topic, _)
        | Outcome::Changed(topic)
        | Outcome::Replicating(topic, _)
        | Outcome::Drifted(topic, _)
        | Outcome::AsWanted(topic) => {
            status.topic_name = Some(topic.name.clone());
        }
    }
    match outcome {
        Outcome::AsWanted(topic) => {
            status.applied_generation = generation;
            status.configured = topic.config.keys().cloned().collect();
        }
        // What is to go back to the default stays named until it has.
        Outcome::Changed(topic) | Outcome::Replicating(topic, _) | Outcome::Drifted(topic, _) => {
            let named: BTreeSet<_> = topic.configured.iter().chain(topic.config.keys()).collect();
            status.configured = named.into_iter().cloned().collect();
        }
        Outcome::Invalid(_)
        | Outcome::Blocked(..)
        | Outcome::Refused(..)
        | Outcome::Unreachable(..) => {}
    }
    status.observed_generation = generation;
    status.conditions = conditions(&previous.conditions, generation, now, wanted(outcome));
    status
}

fn wanted(outcome: &Outcome<'_>) -> Vec<Wanted> {
    let stuck = |reason: &str, message: String| {
        vec![
            Wanted::new("Ready", false, reason, message.clone()),
            Wanted::new("Reconciling", false, reason, ""),
            Wanted::new("Stalled", true, reason, message),
        ]
    };
    let waiting = |is: Is, reason: &str, message: String| {
        vec![
            Wanted::new("Ready", is, reason, message.clone()),
            Wanted::new("Reconciling", true, reason, message),
            Wanted::new("Stalled", false, "NothingStalls", ""),
        ]
    };
    match outcome {
        Outcome::Invalid(invalid) => stuck("InvalidSpec", invalid.to_string()),
        Outcome::Blocked(_, blocked) if matches!(blocked.gate, "BrokersNotSeen" | "Paused") => {
            waiting(Is::Unknown, blocked.gate, blocked.message.clone())
        }
        Outcome::Blocked(_, blocked) => stuck(blocked.gate, blocked.message.clone()),
        Outcome::Refused(_, refusal) => stuck("RefusedByBrokers", refused(refusal)),
        Outcome::Unreachable(_, error) => {
            waiting(Is::Unknown, "BrokersNotSeen", (*error).to_owned())
        }
        Outcome::Changed(_) => waiting(
            Is::False,
            "Applying",
            "the brokers carry out the change".to_owned(),
        ),
        Outcome::Replicating(_, seen) => waiting(
            Is::False,
            "ChangingReplicas",
            format!(
                "each partition is to have {} replicas; {} of {} partitions are on their way now",
                seen.wanted_replication_factor
                    .unwrap_or(seen.replication_factor),
                seen.moving_partitions,
                seen.partitions
            ),
        ),
        Outcome::Drifted(_, drift) => vec![
            Wanted::new("Ready", false, "Drifted", *drift),
            Wanted::new("Reconciling", false, "Drifted", ""),
            Wanted::new("Stalled", false, "NothingStalls", ""),
            Wanted::new("Drifted", true, "ChangedBySomebodyElse", *drift),
        ],
        Outcome::AsWanted(_) => vec![
            Wanted::new("Ready", true, "AsWanted", "the topic is as its spec says"),
            Wanted::new("Reconciling", false, "Converged", ""),
            Wanted::new("Stalled", false, "NothingStalls", ""),
            Wanted::new("Drifted", false, "AsWanted", ""),
        ],
    }
}

/// The brokers' own words behind the field that they speak of.
#[must_use]
pub fn refused(refusal: &Refusal) -> String {
    let field = match refusal.code.as_str() {
        "INVALID_REPLICATION_FACTOR" => "spec.replicationFactor",
        "INVALID_PARTITIONS" => "spec.partitions",
        "INVALID_CONFIG" => "spec.config",
        "INVALID_TOPIC_EXCEPTION" => "spec.topicName",
        _ => "spec",
    };
    format!(
        "{field}: the brokers refuse it ({}): {}",
        refusal.code, refusal.message
    )
}
