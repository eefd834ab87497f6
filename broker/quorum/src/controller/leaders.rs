//! Leaders are elected because somebody asks for it, or because the preferred ones are back.

use std::sync::Arc;

use super::elections::{self, Changes, Minimum};
use super::{Decision, View};
use crate::command::{ElectLeaders, Election, ElectionResult, Reply};
use crate::error::{ControlError, ErrorName};
use crate::image::{Partition, Topic};
use crate::record::Record;
use crate::replicas::{Rules, Step};

/// Partitions that get their preferred leaders back in one go: each costs its clients a look at the metadata.
const BALANCED_AT_ONCE: usize = 1_000;

pub(super) fn elect(view: &View<'_>, request: &ElectLeaders) -> Decision {
    let mut changes = Changes::default();
    let mut results = Vec::new();
    let mut minimum = Minimum::default();
    match &request.partitions {
        None => {
            for (topic, index, partition) in view.image.partitions() {
                let outcome = elect_one(
                    view,
                    request.election,
                    topic,
                    index,
                    partition,
                    (&mut minimum, &mut changes),
                );
                // Asked about everything, nobody wants to hear of what needs nothing.
                if !matches!(&outcome, Err(error) if error.name == ErrorName::ElectionNotNeeded) {
                    results.push(result(&topic.name, index, outcome));
                }
            }
        }
        Some(wanted) => {
            let mut sorted: Vec<&(String, i32)> = wanted.iter().collect();
            sorted.sort();
            sorted.dedup();
            for (name, index) in sorted {
                let found = view.image.topic(name);
                let found = found.and_then(|topic| Some((topic, topic.partition(*index)?)));
                let outcome = match found {
                    Some((topic, partition)) => elect_one(
                        view,
                        request.election,
                        topic,
                        *index,
                        partition,
                        (&mut minimum, &mut changes),
                    ),
                    None => Err(ControlError::new(
                        ErrorName::UnknownTopicOrPartition,
                        format!("there is no partition {index} of a topic {name:?}"),
                    )),
                };
                results.push(result(name, *index, outcome));
            }
        }
    }
    Decision::new(changes.into_records(), Reply::Elections(results))
}

fn result(topic: &str, index: i32, outcome: Result<(), ControlError>) -> ElectionResult {
    ElectionResult {
        topic: topic.to_owned(),
        index,
        outcome,
    }
}

fn elect_one(
    view: &View<'_>,
    election: Election,
    topic: &Arc<Topic>,
    index: i32,
    partition: &Arc<Partition>,
    (minimum, changes): (&mut Minimum, &mut Changes),
) -> Result<(), ControlError> {
    let next = match election {
        Election::Preferred => preferred(view, topic, partition, minimum)?,
        Election::Unclean if partition.leader.is_some() => return Err(not_needed()),
        Election::Unclean => elections::accept_loss(view, topic, partition).ok_or_else(|| {
            ControlError::new(
                ErrorName::EligibleLeadersNotAvailable,
                "no replica of the partition is alive",
            )
        })?,
    };
    changes.push(topic, index, &next);
    Ok(())
}

fn not_needed() -> ControlError {
    ControlError::new(
        ErrorName::ElectionNotNeeded,
        "the partition is led by whom it should be",
    )
}

/// The partition led by the first of its replicas.
fn preferred(
    view: &View<'_>,
    topic: &Topic,
    partition: &Partition,
    minimum: &mut Minimum,
) -> Result<Partition, ControlError> {
    let wanted = partition.target().next();
    if partition.leader == wanted {
        return Err(not_needed());
    }
    let is_ready = |id| partition.isr.contains(&id) && elections::can_take_over(view, id);
    if !wanted.is_some_and(is_ready) {
        return Err(ControlError::new(
            ErrorName::PreferredLeaderNotAvailable,
            "the preferred leader is away, not in sync, or its disk is full",
        ));
    }
    let rules = Rules {
        in_sync_min: minimum.of(view, topic),
        can_lead: &|id| elections::can_take_over(view, id),
    };
    Step::new(partition, rules)
        .elect()
        .finish()
        .ok_or_else(not_needed)
}

/// Gives partitions back to their preferred leaders where those are in sync, some at a time, so that brokers lead as
/// much as each other again after one was away.
pub fn balance_leaders(view: &View<'_>) -> Vec<Record> {
    let mut changes = Changes::default();
    let mut minimum = Minimum::default();
    let moved = view
        .image
        .partitions()
        .filter_map(|(topic, index, partition)| {
            // Where nobody leads, an election is another matter.
            partition.leader?;
            let next = preferred(view, topic, partition, &mut minimum).ok()?;
            Some((topic, index, next))
        });
    for (topic, index, next) in moved.take(BALANCED_AT_ONCE) {
        changes.push(topic, index, &next);
    }
    changes.into_records()
}

/// Whether preferred leaders are there that are not in sync yet: they will lead again before long.
pub fn awaits_leaders(view: &View<'_>) -> bool {
    view.image.partitions().any(|(_, _, partition)| {
        let preferred = partition.target().next();
        preferred.is_some_and(|id| {
            partition.leader != Some(id)
                && !partition.isr.contains(&id)
                && elections::can_take_over(view, id)
        })
    })
}
