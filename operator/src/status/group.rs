//! Status of a ConsumerGroup.

mod actions;

use jiff::Timestamp;
use weir_crds::{ConsumerGroupStatus, Lag, MAX_TOPICS_IN_STATUS, TopicLag};

pub use actions::{
    Actions, Begun, Reset, Scaled, config_keys_of, is_begin_configured_by, is_configured_by,
    is_paused_by,
};

use super::{Is, Wanted, conditions};
use crate::decide::group::{self, Report};
use crate::validate::{Group, Invalid};
use crate::world::Refusal;

/// How a look at a group came out.
#[derive(Debug, Clone)]
pub enum Outcome<'a> {
    /// The spec makes no sense.
    Invalid(&'a Invalid),
    /// There is no such cluster.
    ClusterNotFound(&'a Group),
    /// The brokers could not be asked.
    Unreachable(&'a Group, &'a str),
    /// The brokers said no.
    Refused(&'a Group, &'a Refusal),
    /// The group was seen, and what was asked for was done, or not.
    Seen(&'a Group, &'a Report, &'a Actions),
}

/// The status after a look.
#[must_use]
pub fn status(
    previous: &ConsumerGroupStatus,
    generation: Option<i64>,
    outcome: &Outcome<'_>,
    now: Timestamp,
) -> ConsumerGroupStatus {
    let mut status = previous.clone();
    status.observed_generation = generation;
    match outcome {
        Outcome::Invalid(_) => {}
        Outcome::ClusterNotFound(group)
        | Outcome::Unreachable(group, _)
        | Outcome::Refused(group, _) => status.group_id = Some(group.id.clone()),
        Outcome::Seen(group, report, done) => {
            status.group_id = Some(group.id.clone());
            status.state = Some(report.state.clone());
            status.members = i32::try_from(report.members).ok();
            status.lag = Some(lag(report.lag));
            status.topics = report
                .topics
                .iter()
                .take(MAX_TOPICS_IN_STATUS)
                .map(|(topic, lag)| TopicLag {
                    topic: topic.clone(),
                    records: lag.records,
                    seconds: Some(lag.seconds),
                })
                .collect();
            actions::fields(&mut status, previous, generation, group, report, done);
        }
    }
    let wanted = wanted(outcome, &status);
    status.conditions = conditions(&previous.conditions, generation, now, wanted);
    status
}

fn lag(lag: group::Lag) -> Lag {
    Lag {
        records: lag.records,
        seconds: Some(lag.seconds),
    }
}

fn wanted(outcome: &Outcome<'_>, status: &ConsumerGroupStatus) -> Vec<Wanted> {
    match outcome {
        Outcome::Invalid(invalid) => vec![Wanted::new(
            "Ready",
            false,
            "InvalidSpec",
            invalid.to_string(),
        )],
        Outcome::ClusterNotFound(group) => not_seen(
            group,
            Is::False,
            "ClusterNotFound",
            format!(
                "spec.clusterRef.name: there is no Cluster \"{}\" in namespace \"{}\", or it is being deleted. Create it there, or create this ConsumerGroup anew with the right name",
                group.cluster.name, group.cluster.namespace
            ),
        ),
        Outcome::Unreachable(group, error) => {
            not_seen(group, Is::Unknown, "BrokersNotSeen", (*error).to_owned())
        }
        Outcome::Refused(group, refusal) => {
            not_seen(group, Is::False, "RefusedByBrokers", refusal.to_string())
        }
        Outcome::Seen(group, report, done) => {
            let mut wanted = vec![Wanted::new(
                "Ready",
                true,
                "Observed",
                "state and lag are the brokers' own",
            )];
            if let Some((met, numbers)) = &report.objective {
                wanted.push(Wanted::new(
                    "LagObjectiveMet",
                    *met,
                    if *met {
                        "WithinObjective"
                    } else {
                        "AboveObjective"
                    },
                    numbers.clone(),
                ));
            }
            wanted.extend(actions::conditions(status, group, report, done));
            wanted
        }
    }
}

/// A group that is not seen is not known to meet its objective.
fn not_seen(group: &Group, is: Is, reason: &str, message: String) -> Vec<Wanted> {
    let mut wanted = vec![Wanted::new("Ready", is, reason, message)];
    if group.objective.is_some() {
        wanted.push(Wanted::new(
            "LagObjectiveMet",
            Is::Unknown,
            reason,
            "the group has not been seen",
        ));
    }
    wanted
}
