//! Partitions are moved to other brokers.
//!
//! A reassignment is a part of the partition's own state: the replicas that come and those that go. The leader brings the new
//! ones up to date and in sync, and the change that does so for the last of them ends it
//! ([`replicas`](crate::replicas)). So there is nothing to resume after a crash of anyone.

use std::collections::BTreeSet;

use super::elections::{self, Changes, Minimum};
use super::{Decision, View};
use crate::command::{Reassign, Reassignment, Reply};
use crate::error::{ControlError, ErrorName};
use crate::ids::BrokerId;
use crate::image::Partition;
use crate::replicas::{Rules, Step};

pub(super) fn reassign(view: &View<'_>, request: &Reassign) -> Decision {
    let mut changes = Changes::default();
    let mut order: Vec<usize> = (0..request.partitions.len()).collect();
    order.sort_by_key(|at| {
        let wanted = &request.partitions[*at];
        (&wanted.topic, wanted.index)
    });
    let mut results = vec![Ok(()); request.partitions.len()];
    let mut previous = None;
    let mut minimum = Minimum::default();
    for at in order {
        let wanted = &request.partitions[at];
        let key = (&wanted.topic, wanted.index);
        results[at] = if previous.replace(key) == Some(key) {
            let message = "the partition is named twice in one request";
            Err(ControlError::new(ErrorName::InvalidRequest, message))
        } else {
            reassign_one(
                view,
                wanted,
                request.allow_replication_factor_change,
                (&mut minimum, &mut changes),
            )
        };
    }
    Decision::new(changes.into_records(), Reply::Partitions(results))
}

fn reassign_one(
    view: &View<'_>,
    wanted: &Reassignment,
    may_change_factor: bool,
    (minimum, changes): (&mut Minimum, &mut Changes),
) -> Result<(), ControlError> {
    let found = view.image.topic(&wanted.topic);
    let found = found.and_then(|topic| Some((topic, topic.partition(wanted.index)?)));
    let Some((topic, partition)) = found else {
        return Err(ControlError::new(
            ErrorName::UnknownTopicOrPartition,
            format!(
                "there is no partition {} of a topic {:?}",
                wanted.index, wanted.topic
            ),
        ));
    };
    let rules = Rules {
        in_sync_min: minimum.of(view, topic),
        can_lead: &|id| elections::can_lead(view.image, id),
    };
    let step = Step::new(partition, rules);
    let step = match &wanted.replicas {
        Some(replicas) => {
            check(view, partition, replicas, may_change_factor)?;
            step.reassign(replicas)
        }
        None => {
            check_cancel(partition)?;
            step.cancel()
        }
    };
    if let Some(next) = step.finish() {
        changes.push(topic, wanted.index, &next);
    }
    Ok(())
}

fn check(
    view: &View<'_>,
    partition: &Partition,
    replicas: &[BrokerId],
    may_change_factor: bool,
) -> Result<(), ControlError> {
    let wrong = |message: String| {
        Err(ControlError::new(
            ErrorName::InvalidReplicaAssignment,
            message,
        ))
    };
    if replicas.is_empty() {
        return wrong("a partition needs at least one replica".to_owned());
    }
    if replicas.iter().collect::<BTreeSet<_>>().len() != replicas.len() {
        return wrong("a broker is named twice for one partition".to_owned());
    }
    if let Some(unknown) = replicas.iter().find(|id| view.image.broker(**id).is_none()) {
        return wrong(format!("broker {unknown} is not registered"));
    }
    let now = partition.replicas.len() - partition.adding.len();
    if !may_change_factor && replicas.len() != now {
        return Err(ControlError::new(
            ErrorName::InvalidReplicationFactor,
            format!(
                "the partition has {now} replicas and would get {}; the request forbids such a change",
                replicas.len()
            ),
        ));
    }
    Ok(())
}

/// What is under way can be given up as long as somebody that stays has everything.
pub(super) fn check_cancel(partition: &Partition) -> Result<(), ControlError> {
    if !partition.is_reassigning() {
        return Err(ControlError::new(
            ErrorName::NoReassignmentInProgress,
            "no replicas of the partition are being moved",
        ));
    }
    let stays = |id: &BrokerId| !partition.adding.contains(id);
    let held = partition.isr.iter().chain(&partition.elr).any(stays);
    if held {
        Ok(())
    } else {
        Err(ControlError::new(
            ErrorName::InvalidReplicaAssignment,
            "only the new replicas hold everything; moving back would lose it",
        ))
    }
}
