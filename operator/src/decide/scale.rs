//! How many brokers there are to be, and what is asked of them until there are.
//!
//! **Up**: the set grows at once. When the new brokers are registered and ready, the brokers are asked once to spread their replicas; that it
//! was asked is remembered on the StatefulSet (`balanced`).
//!
//! **Down**: the highest brokers are drained, seen empty, stopped, and forgotten, in this order. A broker is stopped only on a look that says
//! that it is being drained, holds no replica and does not vote, and only after the controller has said so again ([`Step::ProveEmpty`]); no
//! passing of time stands in for that. It is forgotten after it was stopped, since one that lives would register again. Whether it may begin
//! at all the gates of [`gates::SCALE`] say; a drain that is under way when one of them closes stays where it is. A `spec.replicas` that
//! rises again while brokers are drained calls that off.
//!
//! How many there are is counted from the StatefulSet, from what the operator last made of it, and from the brokers' own registrations, whichever
//! says most, so that a StatefulSet that somebody scaled down by hand is no proof, also when nobody is left to be asked.

use std::collections::BTreeMap;

use crate::decide::cluster::Step;
use crate::decide::gates::{self, Blocked};
use crate::world::{BrokerId, Look, MOVES_LEVEL, Process};

/// Gate: brokers are on their way out.
pub const DRAINING: &str = "Draining";
/// Gate: replicas are spread when the new brokers are there.
pub const SPREAD_WAITS: &str = "SpreadWaits";

/// What was asked, and what there is.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// `spec.replicas`.
    pub wanted: u32,
    /// Size of the StatefulSet (or of what runs on this machine), absent before it is made.
    pub set: Option<u32>,
    /// The size that the operator last gave the StatefulSet, as that remembers it.
    pub remembered: Option<u32>,
    /// The number of brokers that replicas were last asked to be spread over, as far as that is known.
    pub balanced: Option<u32>,
    /// All processes.
    pub processes: &'a BTreeMap<BrokerId, Process>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
}

/// The number of brokers to run, what to ask of them, and what stands in the way.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Scale {
    /// How many are to run now: never without one that is not proven empty.
    pub brokers: u32,
    /// What is asked of the brokers before the set changes.
    pub before: Vec<Step>,
    /// What is asked of them after.
    pub after: Vec<Step>,
    /// The number of brokers that replicas are spread over once `before` is done.
    pub balanced: u32,
    /// Brokers that are being emptied and will go. None while a gate holds that up.
    pub leaving: Vec<BrokerId>,
    /// Why it is not as asked yet.
    pub blocked: Vec<Blocked>,
}

/// Decides the size.
#[must_use]
pub fn scale(case: &Case<'_>) -> Scale {
    let present = present(case);
    let mut scale = Scale {
        brokers: case.wanted.max(present),
        ..Scale::default()
    };
    let stay = staying(case);
    if !stay.is_empty() {
        // After the set remembers that they are to have a share again: as long as they are drained, that is known without it.
        scale.after.push(Step::CancelDrain { brokers: stay });
    }
    if case.wanted < present {
        match gates::first_no(gates::SCALE, |gate| gate(case)) {
            Some(blocked) => scale.blocked.push(blocked),
            None => shrink(case, present, &mut scale),
        }
    }
    let forgotten = forgettable(case, scale.brokers);
    if !forgotten.is_empty() {
        scale.after.push(Step::Unregister { brokers: forgotten });
    }
    spread(case, &mut scale);
    scale
}

/// How many brokers there are: the set's, those that it had before somebody else scaled it, and those that are registered and not known to be
/// empty.
fn present(case: &Case<'_>) -> u32 {
    let registered = case.look.map_or(0, |look| {
        let full = look
            .brokers
            .keys()
            .filter(|broker| !look.is_empty(**broker));
        full.max().map_or(0, |broker| broker.0.saturating_add(1))
    });
    let set = case.set.unwrap_or(0).max(case.remembered.unwrap_or(0));
    set.max(registered)
}

/// What the brokers say, if they can be asked to change anything: without a controller they would only refuse, and hold up what brings one back.
fn with_a_controller<'a>(case: &Case<'a>) -> Option<&'a Look> {
    case.look.filter(|look| look.controller.is_some())
}

/// Brokers that are being drained and are to stay.
fn staying(case: &Case<'_>) -> Vec<BrokerId> {
    let look = with_a_controller(case).into_iter();
    let brokers = look.flat_map(|look| &look.brokers);
    brokers
        .filter(|(broker, seen)| broker.0 < case.wanted && seen.draining)
        .map(|(broker, _)| *broker)
        .collect()
}

/// Drains what is to leave, and takes from the top what is empty.
fn shrink(case: &Case<'_>, present: u32, scale: &mut Scale) {
    let Some(look) = case.look else { return };
    let leaving = || (case.wanted..present).map(BrokerId);
    let is_full = |broker: &BrokerId| look.brokers.get(broker).is_some_and(|seen| !seen.draining);
    let full: Vec<BrokerId> = leaving().filter(is_full).collect();
    if !full.is_empty() {
        scale.before.push(Step::Drain { brokers: full });
    }
    // One that is ready without being in the look has registered since.
    let is_gone = |broker: BrokerId| {
        look.is_empty(broker)
            && (look.brokers.contains_key(&broker)
                || !case
                    .processes
                    .get(&broker)
                    .is_some_and(|process| process.ready))
    };
    let empty: Vec<BrokerId> = leaving()
        .rev()
        .take_while(|broker| is_gone(*broker))
        .collect();
    if let Some(last) = empty.last() {
        scale.brokers = last.0;
    }
    // Those that the set does not have any more need no proof.
    let removed = empty
        .into_iter()
        .filter(|broker| broker.0 < case.set.unwrap_or(0));
    let removed: Vec<BrokerId> = removed.rev().collect();
    if !removed.is_empty() {
        scale.before.push(Step::ProveEmpty { brokers: removed });
    }
    if scale.brokers > case.wanted {
        scale.leaving = (case.wanted..scale.brokers).map(BrokerId).collect();
        scale.blocked.push(Blocked {
            gate: DRAINING,
            message: progress(case.wanted..scale.brokers, look),
        });
    }
}

fn progress(leaving: std::ops::Range<u32>, look: &Look) -> String {
    /// How many brokers a message names.
    const NAMED: usize = 5;
    let count = leaving.len();
    let each = leaving.take(NAMED).map(|id| {
        let broker = BrokerId(id);
        let votes = if look.voters.contains(&broker) {
            " and votes"
        } else {
            ""
        };
        match look.brokers.get(&broker) {
            Some(seen) => format!("broker {id} holds {} replicas{votes}", seen.replicas),
            None => format!("broker {id} is starting"),
        }
    });
    let each: Vec<String> = each.collect();
    let more = if count > NAMED { " …" } else { "" };
    format!(
        "{count} of the brokers are emptied before they go: {}{more}. Set spec.replicas back to keep them",
        each.join(", ")
    )
}

/// Brokers that are registered, empty, and have no process any more.
fn forgettable(case: &Case<'_>, brokers: u32) -> Vec<BrokerId> {
    let Some(look) = with_a_controller(case) else {
        return Vec::new();
    };
    let is_over = |broker: &BrokerId| {
        // As the set was observed, not as it is about to be.
        broker.0 >= brokers.max(case.set.unwrap_or(u32::MAX))
            && !case.processes.contains_key(broker)
            && look.brokers.get(broker).is_some_and(|seen| !seen.alive)
            && look.is_empty(*broker)
    };
    look.brokers.keys().copied().filter(is_over).collect()
}

/// Has replicas spread over brokers that are new.
fn spread(case: &Case<'_>, scale: &mut Scale) {
    // A cluster that is new, or older than this memory, needs none for what it has.
    let balanced = case.balanced.or(case.set).unwrap_or(scale.brokers);
    // One that was being emptied has given away what it had.
    let emptied = staying(case).first().map_or(u32::MAX, |broker| broker.0);
    let balanced = balanced.min(emptied);
    scale.balanced = balanced.min(scale.brokers);
    if scale.brokers > case.wanted || balanced >= scale.brokers {
        return;
    }
    match waits_for(case, balanced..scale.brokers) {
        Some(what) => scale.blocked.push(Blocked {
            gate: SPREAD_WAITS,
            message: format!(
                "replicas are spread over all {} brokers once {what}",
                scale.brokers
            ),
        }),
        None => {
            // Before the set remembers that it was asked: asked twice is no harm, never is.
            scale.before.push(Step::Rebalance {
                over: scale.brokers,
            });
            scale.balanced = scale.brokers;
        }
    }
}

fn waits_for(case: &Case<'_>, new: std::ops::Range<u32>) -> Option<String> {
    let Some(look) = case.look else {
        return Some("a broker answers".to_owned());
    };
    // It would only be refused, and hold up what brings one back.
    if look.controller.is_none() {
        return Some("a controller is elected".to_owned());
    }
    let is_there = |broker: &BrokerId| {
        let process = case.processes.get(broker);
        let seen = look.brokers.get(broker);
        process.is_some_and(|process| process.ready && !process.leaving)
            && seen.is_some_and(|seen| seen.alive && !seen.draining)
    };
    if let Some(missing) = new.map(BrokerId).find(|broker| !is_there(broker)) {
        return Some(format!("broker {missing} is ready and the others know it"));
    }
    (look.feature_level < MOVES_LEVEL).then(|| {
        format!(
            "the cluster uses feature level {MOVES_LEVEL}; it uses {} now",
            look.feature_level
        )
    })
}

/// Gate: nothing is known of what the brokers hold.
pub(super) fn not_seen(case: &Case<'_>) -> Option<String> {
    let why = match case.look {
        None => "no broker has answered",
        Some(look) if look.controller.is_none() => "no controller is elected",
        Some(_) => return None,
    };
    Some(format!(
        "spec.replicas is {}, and {why}, so no broker can be emptied. It goes on by itself when that changes; nothing was removed",
        case.wanted
    ))
}

/// Gate: the brokers cannot move replicas by themselves yet.
pub(super) fn level_too_low(case: &Case<'_>) -> Option<String> {
    let level = case.look?.feature_level;
    (level < MOVES_LEVEL).then(|| {
        format!(
            "spec.replicas is {}, but brokers are emptied from feature level {MOVES_LEVEL} on and the cluster uses {level}: nothing was \
             removed. Upgrade the brokers, or set spec.replicas back",
            case.wanted
        )
    })
}

/// Gate: topics have more replicas than brokers would be left.
pub(super) fn too_many_replicas(case: &Case<'_>) -> Option<String> {
    /// How many topics a message names.
    const NAMED: usize = 3;
    let factor = |topic: &crate::world::TopicSeen| {
        topic
            .wanted_replication_factor
            .map_or(topic.replication_factor, |wanted| {
                wanted.max(topic.replication_factor)
            })
    };
    let topics = case.look?.topics.iter();
    let wide: Vec<(&String, u32)> = topics
        .map(|(name, topic)| (name, factor(topic)))
        .filter(|(_, factor)| *factor > case.wanted)
        .collect();
    let most = wide.iter().map(|(_, factor)| *factor).max()?;
    let named: Vec<String> = wide
        .iter()
        .take(NAMED)
        .map(|(name, factor)| format!("{name} ({factor})"))
        .collect();
    Some(format!(
        "spec.replicas is {}, but {} topics have more replicas than that: {}{}. Nothing was removed. Lower their replicationFactor to {} (the \
         brokers' own topics: with kafka-reassign-partitions.sh), or set spec.replicas to {most} or more",
        case.wanted,
        wide.len(),
        named.join(", "),
        if wide.len() > NAMED { " …" } else { "" },
        case.wanted,
    ))
}

/// Gate: of the brokers that would be left, some are not there.
pub(super) fn some_are_missing(case: &Case<'_>) -> Option<String> {
    let look = case.look?;
    let is_alive = |broker: &BrokerId| look.brokers.get(broker).is_some_and(|seen| seen.alive);
    let missing: Vec<String> = (0..case.wanted)
        .map(BrokerId)
        .filter(|broker| !is_alive(broker))
        .map(|broker| format!("broker {broker}"))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "spec.replicas is {}, but of the brokers that would be left {} of {} are alive: {} is missing, so there is no place for what the \
             others hold, or no majority in the quorum. It goes on by itself when they are back; nothing was removed",
            case.wanted,
            case.wanted as usize - missing.len(),
            case.wanted,
            missing.join(", "),
        )
    })
}

#[cfg(test)]
mod tests;
