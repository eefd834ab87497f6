//! Status of a ConsumerGroup.

mod actions;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weir_crds::{ConsumerGroupStatus, Lag, MAX_TOPICS_IN_STATUS, TopicLag};

pub use actions::{
    Actions, Begun, Reset, Scaled, config_keys_of, intended, is_begin_configured_by,
    is_configured_by, is_paused_by,
};

use super::{Is, Wanted, conditions};
use crate::admin::is_passing;
use crate::decide::group::{self, Report};
use crate::validate::{Group, Invalid};
use crate::world::Refusal;

/// Times of two looks that are no further apart are the same: ages are whole seconds, and as old as the answer that they came with.
const SAME: SignedDuration = SignedDuration::from_secs(10);

/// The condition of a group that has an objective. Unlike others it is never left as it was: where the group is not seen, nobody knows.
const OBJECTIVE: &str = "LagObjectiveMet";

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
            let before = previous.lag.as_ref();
            let before = before.and_then(|lag| lag.oldest_time.as_deref());
            status.lag = Some(Lag {
                records: report.lag.records,
                oldest_time: oldest_time(report.lag, before, now),
            });
            let before = |topic: &str| {
                let mut topics = previous.topics.iter();
                let before = topics.find(|before| before.topic == topic)?;
                before.oldest_time.as_deref()
            };
            status.topics = report
                .topics
                .iter()
                .take(MAX_TOPICS_IN_STATUS)
                .map(|(topic, lag)| TopicLag {
                    topic: topic.clone(),
                    records: lag.records,
                    oldest_time: oldest_time(*lag, before(topic), now),
                })
                .collect();
            actions::fields(&mut status, previous, generation, group, report, done);
        }
    }
    let wanted = wanted(outcome, &status);
    status.conditions = conditions(&previous.conditions, generation, now, wanted);
    if matches!(outcome, Outcome::Unreachable(..) | Outcome::Refused(..)) {
        let known = kept(&previous.conditions, &status.conditions);
        status.conditions.extend(known);
    }
    status
}

/// Conditions of which nothing new is known. They stay as they were: each has the generation that it speaks of.
fn kept(before: &[Condition], now: &[Condition]) -> Vec<Condition> {
    let is_told = |kind: &str| now.iter().any(|condition| condition.type_ == kind);
    let untold = before
        .iter()
        .filter(|condition| condition.type_ != OBJECTIVE && !is_told(&condition.type_));
    untold.cloned().collect()
}

/// Since when the oldest record waits. Not its age, which changes though nothing happens.
fn oldest_time(lag: group::Lag, before: Option<&str>, now: Timestamp) -> Option<String> {
    if lag.seconds == 0 {
        return None;
    }
    let at = now
        .checked_sub(SignedDuration::from_secs(lag.seconds))
        .ok()?;
    let is_same = |before: &&str| {
        let before = before.parse::<Timestamp>();
        before.is_ok_and(|before| at.duration_since(before).abs() <= SAME)
    };
    Some(
        before
            .filter(is_same)
            .map_or_else(|| actions::time(at), str::to_owned),
    )
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
        Outcome::Refused(group, refusal) if is_passing(refusal) => {
            not_seen(group, Is::Unknown, "BrokersNotSeen", refusal.to_string())
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
            if let Some((met, verdict)) = &report.objective {
                wanted.push(Wanted::new(
                    OBJECTIVE,
                    *met,
                    if *met {
                        "WithinObjective"
                    } else {
                        "AboveObjective"
                    },
                    verdict.clone(),
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
            OBJECTIVE,
            Is::Unknown,
            reason,
            "the group has not been seen",
        ));
    }
    wanted
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use jiff::{SignedDuration, Timestamp};
    use weir_crds::ConsumerGroupStatus;

    use super::{Actions, Outcome, status};
    use crate::decide::group::report;
    use crate::status::holds;
    use crate::validate::{Group, Objective};
    use crate::world::{Consumption, GroupSeen, Key, PartitionLag, Refusal};

    fn group(most: Objective) -> Group {
        Group {
            key: Key::new("shop", "billing"),
            cluster: Key::new("shop", "main"),
            id: "billing".into(),
            topics: Default::default(),
            objective: Some(most),
            paused: None,
            begin: None,
            reset: None,
            scale: None,
            sharing: Default::default(),
            config: Default::default(),
        }
    }

    /// The status after a look that finds ten records, the oldest of which has waited for so long.
    fn after(previous: &ConsumerGroupStatus, most: Objective, seconds: i64) -> ConsumerGroupStatus {
        let group = group(most);
        let lag = PartitionLag {
            committed_offset: 5,
            topic: "orders".into(),
            partition: 0,
            records: 10,
            age_ms: seconds * 1_000,
            topic_partitions: 1,
        };
        let seen = GroupSeen {
            state: "Empty".into(),
            lag: vec![lag],
            ..GroupSeen::default()
        };
        let (report, done) = (report(&group, &seen), Actions::default());
        // An answer takes its time.
        let now =
            Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000 + seconds + seconds % 4);
        let outcome = Outcome::Seen(&group, &report, &done);
        status(previous, Some(1), &outcome, now)
    }

    #[test]
    fn records_that_wait_ever_longer_change_a_status_only_when_that_becomes_too_long() {
        let objective = Objective {
            records: Some(100),
            seconds: Some(60),
        };
        let first = after(&ConsumerGroupStatus::default(), objective, 15);
        assert_eq!(holds(&first.conditions, "LagObjectiveMet"), Some(true));
        for seconds in [30, 45, 60] {
            assert_eq!(
                after(&first, objective, seconds),
                first,
                "after {seconds} s"
            );
        }
        let since = first.topics[0].oldest_time.as_deref();
        assert_eq!(since, Some("1970-01-12T13:46:43Z"));
        let missed = after(&first, objective, 61);
        assert_eq!(holds(&missed.conditions, "LagObjectiveMet"), Some(false));
        for seconds in [75, 3_600, 900_000] {
            assert_eq!(
                after(&missed, objective, seconds),
                missed,
                "after {seconds} s"
            );
        }
    }

    #[test]
    fn a_group_that_brokers_cannot_tell_of_now_is_unknown_and_keeps_its_other_conditions() {
        let mut group = group(Objective::default());
        group.paused = Some(true);
        let seen = GroupSeen {
            state: "Empty".into(),
            consumption: Some(Consumption::Paused),
            ..GroupSeen::default()
        };
        let (report, done) = (report(&group, &seen), Actions::default());
        let outcome = Outcome::Seen(&group, &report, &done);
        let now = Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1_000_000);
        let first = status(&ConsumerGroupStatus::default(), Some(1), &outcome, now);
        let about = |status: &ConsumerGroupStatus| {
            ["Ready", "LagObjectiveMet", "Paused"].map(|kind| holds(&status.conditions, kind))
        };
        assert_eq!(about(&first), [Some(true); 3]);
        let refusal = |code: &str| Refusal {
            code: code.into(),
            message: "the end of orders-0 cannot be learnt from its leader now".into(),
        };
        let (passing, lasting) = (refusal("LEADER_NOT_AVAILABLE"), refusal("INVALID_GROUP_ID"));
        for (outcome, ready) in [
            (Outcome::Refused(&group, &passing), None),
            (Outcome::Refused(&group, &lasting), Some(false)),
            (Outcome::Unreachable(&group, "away"), None),
        ] {
            let later = status(&first, Some(2), &outcome, now);
            assert_eq!(about(&later), [ready, None, Some(true)], "{outcome:?}");
            let again = status(&later, Some(2), &outcome, now);
            assert_eq!(again, later, "nothing to write");
        }
    }

    #[test]
    fn the_oldest_record_is_another_one_when_some_were_read() {
        let objective = Objective::default();
        let first = after(&ConsumerGroupStatus::default(), objective, 3_600);
        let time = |status: &ConsumerGroupStatus| status.lag.clone().unwrap().oldest_time;
        assert_eq!(time(&first).as_deref(), Some("1970-01-12T13:46:40Z"));
        let mut report_of_none = first.clone();
        report_of_none.lag.as_mut().unwrap().oldest_time = Some("1970-01-12T13:00:00Z".into());
        let now = after(&report_of_none, objective, 3_600);
        assert_eq!(time(&now), time(&first));
        assert_eq!(time(&after(&first, objective, 0)), None, "none waits");
    }
}
