//! How many consumers a group is to have: by its lag, between bounds, and not at every breath.
//!
//! As Kubernetes' own autoscaler does it: each look recommends a number, and within a stabilisation window the most cautious recommendation counts.
//! What always holds: the number is within the bounds; there is nobody only after nothing has waited for the whole window for fewer; what is not
//! known scales nothing down; what one look says, the next one with the same world says too.

use std::collections::VecDeque;

use jiff::Timestamp;

use crate::validate::Scale;

/// Recommendations that are kept: a look every quarter of a minute for the longest window, an hour, and as many for looks in between.
const REMEMBERED: usize = 480;

/// The lag that counts, as the brokers know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Records that wait.
    pub records: i64,
    /// Partitions that the group has committed offsets for. With none of them nobody knows whether anything waits.
    pub known_partitions: usize,
    /// Partitions that there are, as far as they are known; more consumers have nothing to do.
    pub partitions: Option<usize>,
}

/// What is recommended, over time.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    recommended: VecDeque<(Timestamp, i32)>,
}

/// What stands in the way, by the reason that the condition gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// The operator may not look at or change what it has to.
    NotPermitted(String),
    /// There is no such Deployment.
    DeploymentNotFound,
    /// A HorizontalPodAutoscaler scales it.
    OwnedByAutoscaler(String),
    /// An older ConsumerGroup scales it.
    Conflict(String),
    /// The group is paused: consumers have nothing to do, and lag says nothing of them.
    Paused,
    /// The Cluster is paused: nothing is done but status.
    ClusterPaused,
}

impl Hold {
    /// The condition's reason.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotPermitted(_) => "NotPermitted",
            Self::DeploymentNotFound => "DeploymentNotFound",
            Self::OwnedByAutoscaler(_) => "OwnedByAutoscaler",
            Self::Conflict(_) => "Conflict",
            Self::Paused => "GroupPaused",
            Self::ClusterPaused => "ClusterPaused",
        }
    }

    /// In words, with what to do.
    #[must_use]
    pub fn message(&self, scale: &Scale) -> String {
        let deployment = &scale.deployment;
        match self {
            Self::NotPermitted(why) => format!(
                "the operator may not scale Deployments in this namespace: {why}. Name the namespace in scaleConsumers.namespaces of the operator's chart"
            ),
            Self::DeploymentNotFound => format!(
                "spec.scale.deployment: there is no Deployment \"{deployment}\" in this namespace"
            ),
            Self::OwnedByAutoscaler(name) => format!(
                "HorizontalPodAutoscaler \"{name}\" scales Deployment \"{deployment}\": two would fight. Delete it, or remove spec.scale"
            ),
            Self::Conflict(name) => format!(
                "ConsumerGroup \"{name}\", which is older, scales Deployment \"{deployment}\""
            ),
            Self::Paused => {
                "the group is paused: the number of consumers stays as it is".to_owned()
            }
            Self::ClusterPaused => {
                "the Cluster is paused: the number of consumers stays as it is".to_owned()
            }
        }
    }
}

/// What a look comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// What the lag of this moment asks for, within the bounds.
    pub wanted: i32,
    /// What the Deployment is to be asked for now.
    pub replicas: i32,
    /// Why, in words.
    pub why: String,
}

/// How many consumers the load asks for, within the bounds.
#[must_use]
pub fn wanted(scale: &Scale, load: Load, current: i32) -> (i32, String) {
    if load.known_partitions == 0 {
        // A group that has never read has no lag that anybody could know: one consumer finds out.
        let number = scale.within(current.max(1));
        return (
            number,
            "the group has committed no offsets yet, so its lag is not known".to_owned(),
        );
    }
    let records = load.records.max(0);
    let replicas = records / scale.lag_per_replica + i64::from(records % scale.lag_per_replica > 0);
    let mut number = i32::try_from(replicas).unwrap_or(i32::MAX);
    if let Some(partitions) = load.partitions {
        number = number.min(i32::try_from(partitions).unwrap_or(i32::MAX));
    }
    let per = scale.lag_per_replica;
    (
        scale.within(number),
        format!("{records} messages wait, {per} may for each replica"),
    )
}

/// Looks once more. `current` is what the Deployment is asked for now.
#[must_use]
pub fn look(
    scale: &Scale,
    load: Load,
    current: i32,
    history: &mut History,
    now: Timestamp,
) -> Verdict {
    let (wanted, why) = wanted(scale, load, current);
    if history.recommended.is_empty() {
        // Nobody knows what was wanted before: what is there may have been, all the time.
        history.recommended.push_back((now, scale.within(current)));
    }
    history.recommended.push_back((now, wanted));
    let longest = scale.up_window.max(scale.down_window);
    history.forget(now, longest);
    let most = history.within(now, scale.down_window).max();
    let least = history.within(now, scale.up_window).min();
    let (most, least) = (most.unwrap_or(wanted), least.unwrap_or(wanted));
    // Never beyond the bounds, whatever was recommended under others.
    let replicas = scale.within(if current < least {
        least
    } else if current > most {
        most
    } else {
        current
    });
    let why = match wanted.cmp(&replicas) {
        std::cmp::Ordering::Equal => why,
        std::cmp::Ordering::Less => format!(
            "{why}: {wanted} would do, once that has been so for {} s",
            scale.down_window
        ),
        std::cmp::Ordering::Greater => format!(
            "{why}: {wanted} are wanted, once that has been so for {} s",
            scale.up_window
        ),
    };
    Verdict {
        wanted,
        replicas,
        why,
    }
}

impl History {
    /// What was recommended within the last so many seconds.
    fn within(&self, now: Timestamp, seconds: i64) -> impl Iterator<Item = i32> {
        let from = now.as_second().saturating_sub(seconds);
        // With no window only the newest counts.
        let newest = self.recommended.back().map(|(_, number)| *number);
        let recent = self
            .recommended
            .iter()
            .filter(move |(at, _)| seconds > 0 && at.as_second() >= from);
        recent.map(|(_, number)| *number).chain(newest)
    }

    fn forget(&mut self, now: Timestamp, seconds: i64) {
        let from = now.as_second().saturating_sub(seconds);
        self.recommended.retain(|(at, _)| at.as_second() >= from);
        while self.recommended.len() > REMEMBERED {
            self.recommended.pop_front();
        }
    }
}

#[cfg(test)]
mod tests;
