//! What is said of resets, pauses, where a group begins and the number of consumers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use weir_crds::{
    BEGIN_CONFIG, ConsumerGroupStatus, LastReset, MAX_PARTITIONS_IN_STATUS, PartitionReset,
    ScaleStatus,
};

use super::super::{Is, Wanted, truncated};
use crate::decide::group::Report;
use crate::decide::group_scale::{Hold, Verdict};
use crate::decide::reset::{DONE, REFUSED};
use crate::validate::{Beginning, Group, Scale};
use crate::world::{Consumption, Key, Refusal, ResetSeen};

/// Bytes of a reset's message: the brokers' own words, or a sentence.
const MESSAGE_BYTES_MAX: usize = 1_024;

/// Topics that a message names.
const TOPICS_TOLD_MAX: usize = 5;

/// What was done in one pass of what a resource asks for.
#[derive(Debug, Clone, Default)]
pub struct Actions {
    /// An older resource speaks for the group.
    pub conflict: Option<Key>,
    /// The Cluster is paused: nothing was done.
    pub is_held: bool,
    /// Pausing the group, or having it go on, has failed.
    pub pause_failed: Option<String>,
    /// Changing how the group is given its messages has failed.
    pub configure_failed: Option<String>,
    /// The group was to begin in topics that are new to it.
    pub begun: Option<Begun>,
    /// A reset was asked for in this pass.
    pub reset: Option<Reset>,
    /// The number of consumers was looked at.
    pub scaled: Option<Scaled>,
}

/// What came of a group's beginning.
#[derive(Debug, Clone)]
pub enum Begun {
    /// The brokers have answered, for each topic.
    Asked(BTreeMap<String, Result<ResetSeen, Refusal>>),
    /// The brokers did not answer: it is asked for again.
    NotYet(String),
}

impl Begun {
    /// Whether there is something that the next look may find done.
    #[must_use]
    pub fn is_open(&self) -> bool {
        match self {
            Self::Asked(topics) => topics.values().any(Result::is_err),
            Self::NotYet(_) => true,
        }
    }

    /// Topics in which the group begins by this, each with how many partitions were set.
    #[must_use]
    pub fn topics(&self) -> Vec<(&str, usize)> {
        let Self::Asked(topics) = self else {
            return Vec::new();
        };
        let set = topics.iter().filter_map(|(topic, outcome)| {
            let partitions = outcome.as_ref().ok()?.partitions.iter();
            let set = partitions.filter(|(.., to)| to.is_some()).count();
            (set > 0).then_some((topic.as_str(), set))
        });
        set.collect()
    }
}

/// What came of a reset that was asked for.
#[derive(Debug, Clone)]
pub enum Reset {
    /// It is done.
    Done(ResetSeen),
    /// The brokers said no.
    Refused(Refusal),
    /// The brokers could not, or did not answer: it is asked for again.
    NotYet(String),
}

/// What came of a look at the consumers' Deployment.
#[derive(Debug, Clone)]
pub enum Scaled {
    /// Something stands in the way.
    Held(Hold),
    /// It was looked at.
    Looked {
        /// What it comes to.
        verdict: Verdict,
        /// The number was changed just now.
        changed: Option<Timestamp>,
    },
    /// It could not be looked at, or changed.
    Failed(String),
}

/// Whether the group is paused because a resource asks, or asked, for it.
#[must_use]
pub fn is_paused_by(group: &Group, before: bool, now: Option<Consumption>) -> bool {
    match group.paused {
        Some(paused) => paused,
        None => before && now != Some(Consumption::Running),
    }
}

/// Whether how the group is given its messages is set as a resource asks, or asked, for.
#[must_use]
pub fn is_configured_by(group: &Group, before: bool, is_behind: bool) -> bool {
    !group.sharing.is_empty() || before && is_behind
}

/// Configurations of the group that are set as a resource asks, or asked, for, each for itself.
#[must_use]
pub fn config_keys_of(group: &Group, before: &[String], is_behind: bool) -> Vec<String> {
    let behind = before.iter().filter(|_| is_behind);
    let keys: BTreeSet<&String> = group.config.keys().chain(behind).collect();
    keys.into_iter().cloned().collect()
}

/// Whether where the share group begins is set as a resource asks, or asked, for.
#[must_use]
pub fn is_begin_configured_by(group: &Group, before: bool, is_behind: bool) -> bool {
    group.begin_config().is_some() || before && is_behind
}

/// What a status has to say before the brokers are asked: were it written after, and the operator ended in between, nobody would know any more that a
/// pause, or a configuration, is to be taken back when the resource asks for it no longer.
#[must_use]
pub fn intended(previous: &ConsumerGroupStatus, group: &Group) -> ConsumerGroupStatus {
    ConsumerGroupStatus {
        paused: previous.paused || group.paused == Some(true),
        configured: is_configured_by(group, previous.configured, true),
        config_keys: config_keys_of(group, &previous.config_keys, true),
        begin_configured: is_begin_configured_by(group, previous.begin_configured, true),
        ..previous.clone()
    }
}

/// The fields of a status that are not conditions.
pub(super) fn fields(
    status: &mut ConsumerGroupStatus,
    previous: &ConsumerGroupStatus,
    generation: Option<i64>,
    group: &Group,
    report: &Report,
    done: &Actions,
) {
    status.consumption = report.consumption.map(|now| now.name().to_owned());
    status.paused =
        done.conflict.is_none() && is_paused_by(group, previous.paused, report.consumption);
    // What is to be taken back, and could not be or was held up, is for the next pass.
    let is_behind = done.configure_failed.is_some() || done.is_held;
    status.configured =
        done.conflict.is_none() && is_configured_by(group, previous.configured, is_behind);
    status.config_keys = match done.conflict {
        None => config_keys_of(group, &previous.config_keys, is_behind),
        Some(_) => Vec::new(),
    };
    status.begin_configured = done.conflict.is_none()
        && is_begin_configured_by(group, previous.begin_configured, is_behind);
    if let Some(reset) = &group.reset {
        let last = |state: &str| LastReset {
            request_id: reset.id.clone(),
            state: state.to_owned(),
            dry_run: reset.dry_run,
            generation,
            ..LastReset::default()
        };
        match &done.reset {
            Some(Reset::Done(seen)) => status.last_reset = Some(told(last(DONE), seen)),
            Some(Reset::Refused(refusal)) => {
                status.last_reset = Some(LastReset {
                    message: truncated(refusal.to_string(), MESSAGE_BYTES_MAX),
                    ..last(REFUSED)
                });
            }
            Some(Reset::NotYet(_)) | None => {}
        }
    }
    status.scale = group.scale.as_ref().and_then(|_| {
        let before = previous.scale.clone().unwrap_or_default();
        match &done.scaled {
            Some(Scaled::Looked { verdict, changed }) => Some(ScaleStatus {
                replicas: Some(verdict.replicas),
                wanted_replicas: Some(verdict.wanted),
                last_scale_time: changed.map_or(before.last_scale_time, |at| Some(time(at))),
            }),
            // What is not looked at is not told.
            Some(Scaled::Held(_)) => None,
            Some(Scaled::Failed(_)) | None => previous.scale.clone(),
        }
    });
}

fn told(last: LastReset, seen: &ResetSeen) -> LastReset {
    if seen.before {
        return LastReset {
            // What the brokers answer to the second asking is the same for a dry run.
            dry_run: false,
            time: Timestamp::from_millisecond(seen.at_ms).ok().map(time),
            message: "carried out; from where to where is not known any more".to_owned(),
            ..last
        };
    }
    let moved = seen.partitions.iter().filter(|(.., to)| to.is_some());
    let moved = moved.count();
    let message = match (last.dry_run, seen.partitions.len() - moved) {
        (true, _) => "nothing was changed: this is what would be".to_owned(),
        (false, 0) => "carried out".to_owned(),
        (false, left) => {
            format!("carried out; {left} partitions had no committed offset to go from")
        }
    };
    let partitions = seen.partitions.iter().take(MAX_PARTITIONS_IN_STATUS);
    let partitions = partitions.map(|(topic, partition, from, to)| PartitionReset {
        topic: topic.clone(),
        partition: *partition,
        from: *from,
        to: *to,
    });
    LastReset {
        time: Timestamp::from_millisecond(seen.at_ms).ok().map(time),
        message,
        fenced_members: i32::try_from(seen.fenced).ok(),
        partitions_reset: i32::try_from(moved).ok(),
        partitions: partitions.collect(),
        ..last
    }
}

/// The API keeps whole seconds, and so do we.
pub(super) fn time(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

/// The conditions of what is asked for. `status` has its fields already.
pub(super) fn conditions(
    status: &ConsumerGroupStatus,
    group: &Group,
    report: &Report,
    done: &Actions,
) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    wanted.extend(paused(status, group, report, done));
    wanted.extend(configured(status, group, done));
    wanted.extend(begun(group, report, done));
    wanted.extend(reset(status, group, report, done));
    if let (Some(scale), Some(scaled)) = (&group.scale, &done.scaled) {
        wanted.push(scaling(scale, scaled));
    }
    wanted
}

fn conflict(kind: &'static str, done: &Actions) -> Option<Wanted> {
    let other = done.conflict.as_ref()?;
    Some(Wanted::new(
        kind,
        Is::False,
        "Conflict",
        format!(
            "ConsumerGroup \"{}\", which is older, speaks for the same group: set it there, or delete one of the two",
            other.name
        ),
    ))
}

const TOO_OLD: &str = "the brokers are too old for it: upgrade them";
const HELD: &str = "the Cluster is paused: nothing is done but status";

/// Whether it is paused, where somebody has asked for that.
fn paused(
    status: &ConsumerGroupStatus,
    group: &Group,
    report: &Report,
    done: &Actions,
) -> Option<Wanted> {
    let say =
        |is: Is, reason: &str, message: &str| Some(Wanted::new("Paused", is, reason, message));
    if group.paused.is_some()
        && let Some(conflict) = conflict("Paused", done)
    {
        return Some(conflict);
    }
    let is_asked_for = group.paused.unwrap_or(false);
    let Some(now) = report.consumption else {
        return match group.paused {
            Some(_) => say(Is::Unknown, "NotSupported", TOO_OLD),
            None => None,
        };
    };
    if let Some(why) = &done.pause_failed {
        return say(now.is_to_be_paused().into(), "Failed", why);
    }
    if done.is_held && group.paused.is_some() && is_asked_for != now.is_to_be_paused() {
        return say(Is::False, "ClusterPaused", HELD);
    }
    match now {
        Consumption::Running if group.paused.is_none() && !status.paused => None,
        Consumption::Running => say(Is::False, "Running", "members have partitions"),
        Consumption::Pausing => say(
            Is::False,
            "Pausing",
            "members are to give up their partitions, each with its next heartbeats",
        ),
        Consumption::Paused if is_asked_for || status.paused => say(
            Is::True,
            "Paused",
            "members stay in the group and have no partitions",
        ),
        Consumption::Paused => say(
            Is::True,
            "PausedElsewhere",
            "the group's configuration weir.paused was set by somebody else; spec.paused: false has the group go on",
        ),
        Consumption::NotPausable => say(
            Is::False,
            "NotPausable",
            "members speak a protocol that tells them more than partitions, as those of Kafka Streams and Kafka Connect do: stop the application instead",
        ),
    }
}

/// Whether the group is given its messages as somebody has asked for.
fn configured(status: &ConsumerGroupStatus, group: &Group, done: &Actions) -> Option<Wanted> {
    let is_asked_for = !group.sharing.is_empty() || !group.config.is_empty();
    if !is_asked_for && !status.configured && status.config_keys.is_empty() {
        return None;
    }
    if let Some(conflict) = conflict("Configured", done) {
        return Some(conflict);
    }
    let (is, reason, message) = match &done.configure_failed {
        Some(why) => (Is::False, "Refused", why.clone()),
        None if done.is_held => (Is::Unknown, "ClusterPaused", HELD.to_owned()),
        None => (
            Is::True,
            "Configured",
            "the group is configured as filter, retry, deadLetters, lease, isolation and config say".to_owned(),
        ),
    };
    Some(Wanted::new("Configured", is, reason, message))
}

/// Whether the group has begun, where somebody has said where.
fn begun(group: &Group, report: &Report, done: &Actions) -> Option<Wanted> {
    let beginning = group.begin.as_ref()?;
    if let Some(conflict) = conflict("Begun", done) {
        return Some(conflict);
    }
    let say =
        |is: Is, reason: &str, message: String| Some(Wanted::new("Begun", is, reason, message));
    if matches!(beginning, Beginning::Share(_)) {
        return match &done.configure_failed {
            Some(why) => say(Is::False, "Refused", why.clone()),
            None if done.is_held => say(Is::Unknown, "ClusterPaused", HELD.to_owned()),
            None => say(
                Is::True,
                "Configured",
                format!("the share group begins as its configuration {BEGIN_CONFIG} says"),
            ),
        };
    }
    let Some(new) = listed(&report.not_begun) else {
        let message = "the group has offsets of all its topics, and is not moved";
        return say(Is::True, "HasOffsets", message.to_owned());
    };
    if report.consumption.is_none() {
        return say(Is::False, "NotSupported", TOO_OLD.to_owned());
    }
    if done.is_held {
        return say(Is::False, "ClusterPaused", HELD.to_owned());
    }
    if report.members > 0 {
        let message = format!(
            "the group has no offsets of {new}, and has members, which begin where they are configured to. It would begin as declared while it is empty"
        );
        return say(Is::False, "HasMembers", message);
    }
    match &done.begun {
        None => say(Is::Unknown, "Waiting", format!("{new}: not asked for yet")),
        Some(Begun::NotYet(why)) => say(
            Is::Unknown,
            "Retrying",
            format!("the brokers did not do it yet: {why}"),
        ),
        Some(Begun::Asked(topics)) => {
            let mut refusals = topics
                .iter()
                .filter_map(|(topic, outcome)| Some((topic, outcome.as_ref().err()?)));
            match refusals.next() {
                None => say(
                    Is::Unknown,
                    "Waiting",
                    format!("{new}: set, and not seen yet"),
                ),
                // What is sent is valid: they do not know what it is.
                Some((_, refusal)) if refusal.code == "INVALID_REQUEST" => {
                    say(Is::False, "NotSupported", TOO_OLD.to_owned())
                }
                Some((topic, refusal)) if refusal.code == "UNKNOWN_TOPIC_OR_PARTITION" => say(
                    Is::False,
                    "TopicNotFound",
                    format!("there is no topic {topic} yet: the group begins in it once there is"),
                ),
                Some((topic, refusal)) => {
                    say(Is::False, "Refused", format!("topic {topic}: {refusal}"))
                }
            }
        }
    }
}

/// The first few topics; `None` where there are none.
fn listed(topics: &BTreeSet<String>) -> Option<String> {
    let mut text: Vec<&str> = topics
        .iter()
        .take(TOPICS_TOLD_MAX)
        .map(String::as_str)
        .collect();
    if topics.len() > TOPICS_TOLD_MAX {
        text.push("others");
    }
    (!text.is_empty()).then(|| text.join(", "))
}

fn reset(
    status: &ConsumerGroupStatus,
    group: &Group,
    report: &Report,
    done: &Actions,
) -> Option<Wanted> {
    let wanted = group.reset.as_ref()?;
    if let Some(conflict) = conflict("ResetDone", done) {
        return Some(conflict);
    }
    let last = status.last_reset.as_ref();
    let last = last.filter(|last| last.request_id == wanted.id);
    let say =
        |is: Is, reason: &str, message: String| Some(Wanted::new("ResetDone", is, reason, message));
    if let Some(Reset::NotYet(why)) = &done.reset {
        return say(
            Is::Unknown,
            "Retrying",
            format!("the brokers did not do it yet: {why}"),
        );
    }
    match last {
        Some(last) if last.state == DONE && !last.dry_run => say(
            Is::True,
            "Done",
            format!("reset {} was carried out", wanted.id),
        ),
        Some(last) if last.state == DONE && wanted.dry_run => say(
            Is::False,
            "DryRun",
            "status.lastReset says what would change; set spec.reset.dryRun to false to carry it out"
                .to_owned(),
        ),
        Some(last) if last.state == REFUSED => say(Is::False, "Refused", last.message.clone()),
        _ if report.consumption.is_none() => say(Is::False, "NotSupported", TOO_OLD.to_owned()),
        _ if done.is_held => say(Is::False, "ClusterPaused", HELD.to_owned()),
        _ => say(Is::Unknown, "Waiting", "it was not asked for yet".to_owned()),
    }
}

fn scaling(scale: &Scale, scaled: &Scaled) -> Wanted {
    match scaled {
        Scaled::Held(hold) => Wanted::new("Scaling", Is::False, hold.reason(), hold.message(scale)),
        Scaled::Failed(why) => Wanted::new("Scaling", Is::Unknown, "Failed", why.clone()),
        // Numbers that move all the time are in the fields, not in the message.
        Scaled::Looked { verdict, .. } if verdict.wanted == verdict.replicas => Wanted::new(
            "Scaling",
            Is::True,
            "AtWanted",
            "there are as many consumers as the lag asks for, within the bounds",
        ),
        Scaled::Looked { .. } => Wanted::new(
            "Scaling",
            Is::True,
            "Stabilizing",
            "another number is wanted, and is asked for once that has been so for the stabilisation window",
        ),
    }
}

#[cfg(test)]
mod tests;
