//! How many brokers there are to be, and what is asked of them until there are.
//!
//! **Up**: the set grows at once. When the new brokers are registered and ready, the brokers are asked once to spread their replicas; that it
//! was asked is remembered on the StatefulSet (`balanced`).
//!
//! **Down**: the highest brokers are drained, seen empty, stopped, and forgotten, in this order. A broker is stopped only on a look that says
//! that it is being drained, holds no replica and does not vote, and only after the controller has said so again ([`Step::ProveEmpty`]); no
//! passing of time stands in for that. It is forgotten after it was stopped, since one that lives would register again. Whether it may begin
//! at all the gates of [`gates::SCALE`] say; a drain that is under way when one of them closes stays where it is. A `spec.replicas` that
//! rises again while brokers are drained calls that off. The brokers' own topics are no reason to refuse: they get as many replicas as brokers
//! stay, and what they had is remembered on the StatefulSet first (`lowered`), so that they have it again when there are brokers for it.
//!
//! **Emptied, and staying** (`weir.dev/drain` on the Cluster): any brokers are drained in the same way and behind the same gates, and go on as members
//! that hold nothing, until the annotation names them no more.
//!
//! How many there are is counted from the StatefulSet, from what the operator last made of it, and from the brokers' own registrations, whichever
//! says most, so that a StatefulSet that somebody scaled down by hand is no proof, also when nobody is left to be asked.

mod own_topics;
mod refusals;

use std::collections::{BTreeMap, BTreeSet};

use crate::decide::cluster::Step;
use crate::decide::gates::{self, Blocked};
use crate::names;
use crate::validate::Invalid;
use crate::world::{BrokerId, Look, MOVES_LEVEL, Process};

pub use own_topics::Lowered;
pub(super) use refusals::{
    level_too_low, not_seen, some_are_missing, too_few_vote, too_many_replicas,
};

/// Gate: brokers are on their way out.
pub const DRAINING: &str = "Draining";
/// Gate: it cannot be read which brokers are to hold nothing and to stay.
pub const DRAIN_UNREAD: &str = "DrainAnnotationInvalid";
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
    /// How many replicas the brokers' own topics had before brokers left for which there were too many, as the StatefulSet remembers it.
    pub lowered: &'a Lowered,
    /// Brokers that are to hold nothing and to stay.
    pub drained: &'a BTreeSet<BrokerId>,
    /// Why it cannot be read which these are: those that are being drained go on being, and no others are.
    pub drained_unread: Option<&'a Invalid>,
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
    /// How many replicas the brokers' own topics are to have again when there are brokers for them.
    pub lowered: Lowered,
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
        lowered: case.lowered.clone(),
        ..Scale::default()
    };
    let stay = staying(case);
    if !stay.is_empty() {
        // After the set remembers that they are to have a share again: as long as they are drained, that is known without it.
        scale.after.push(Step::CancelDrain { brokers: stay });
    }
    let full = to_be_emptied(case);
    if shrinks(case) || !full.is_empty() {
        match gates::first_no(gates::SCALE, |gate| gate(case)) {
            Some(blocked) => scale.blocked.push(blocked),
            None => {
                if shrinks(case) && own_topics::fit(case, &mut scale) {
                    shrink(case, present, &mut scale);
                }
                empty(case, &full, &mut scale);
            }
        }
    }
    own_topics::raise(case, &mut scale);
    let forgotten = forgettable(case, scale.brokers);
    if !forgotten.is_empty() {
        scale.after.push(Step::Unregister { brokers: forgotten });
    }
    spread(case, &mut scale);
    if let Some(invalid) = case.drained_unread {
        scale.blocked.push(Blocked {
            gate: DRAIN_UNREAD,
            message: format!(
                "{invalid}. Until then brokers that are being emptied, or were, stay so"
            ),
        });
    }
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

fn shrinks(case: &Case<'_>) -> bool {
    case.wanted < present(case)
}

/// Brokers that stay and take replicas.
fn remaining(case: &Case<'_>) -> Vec<BrokerId> {
    let all = (0..case.wanted).map(BrokerId);
    all.filter(|broker| !case.drained.contains(broker))
        .collect()
}

/// Brokers that are to hold nothing and to stay, and of which the others do not say yet that it is so.
fn to_be_emptied(case: &Case<'_>) -> Vec<BrokerId> {
    let Some(look) = with_a_controller(case) else {
        return Vec::new();
    };
    let stay = case
        .drained
        .iter()
        .filter(|broker| broker.0 < case.wanted && !look.is_empty(**broker));
    stay.copied().collect()
}

/// Has brokers emptied that stay.
fn empty(case: &Case<'_>, full: &[BrokerId], scale: &mut Scale) {
    let Some(look) = case.look.filter(|_| !full.is_empty()) else {
        return;
    };
    let asked = |broker: &BrokerId| look.brokers.get(broker).is_some_and(|seen| seen.draining);
    let new: Vec<BrokerId> = full
        .iter()
        .copied()
        .filter(|broker| !asked(broker))
        .collect();
    if !new.is_empty() {
        scale.before.push(Step::Drain { brokers: new });
    }
    scale.blocked.push(Blocked {
        gate: DRAINING,
        message: format!(
            "{} emptied and not removed, as {} says: {}",
            brokers_are(full.len()),
            names::DRAIN_ANNOTATION,
            held(full, look)
        ),
    });
}

/// What the brokers say, if they can be asked to change anything: without a controller they would only refuse, and hold up what brings one back.
fn with_a_controller<'a>(case: &Case<'a>) -> Option<&'a Look> {
    case.look.filter(|look| look.controller.is_some())
}

/// Brokers that are being drained and are to stay.
fn staying(case: &Case<'_>) -> Vec<BrokerId> {
    if case.drained_unread.is_some() {
        return Vec::new();
    }
    let look = with_a_controller(case).into_iter();
    let brokers = look.flat_map(|look| &look.brokers);
    brokers
        .filter(|(broker, seen)| {
            broker.0 < case.wanted && seen.draining && !case.drained.contains(broker)
        })
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
            message: format!(
                "{} emptied first and then removed: {}. Set spec.replicas back to keep all",
                brokers_are(scale.leaving.len()),
                held(&scale.leaving, look)
            ),
        });
    }
}

/// So many brokers, as the beginning of a sentence.
fn brokers_are(count: usize) -> String {
    match count {
        1 => "1 of the brokers is".to_owned(),
        _ => format!("{count} of the brokers are"),
    }
}

/// What brokers hold, in words.
fn held(brokers: &[BrokerId], look: &Look) -> String {
    /// How many brokers a message names.
    const NAMED: usize = 5;
    let each = brokers.iter().take(NAMED).map(|broker| {
        let votes = if look.voters.contains(broker) {
            " and votes"
        } else {
            ""
        };
        match look.brokers.get(broker) {
            Some(seen) => {
                let replicas = seen.replicas;
                let s = if replicas == 1 { "" } else { "s" };
                format!("broker {broker} holds {replicas} replica{s}{votes}")
            }
            None => format!("broker {broker} is starting"),
        }
    });
    let each: Vec<String> = each.collect();
    let more = if brokers.len() > NAMED { " …" } else { "" };
    format!("{}{more}", each.join(", "))
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
    // One that is to hold nothing is not waited for.
    let mut new = new
        .map(BrokerId)
        .filter(|broker| !case.drained.contains(broker));
    if let Some(missing) = new.find(|broker| !is_there(broker)) {
        return Some(format!("broker {missing} is ready and the others know it"));
    }
    (look.feature_level < MOVES_LEVEL).then(|| {
        format!(
            "the cluster uses feature level {MOVES_LEVEL}; it uses {} now",
            look.feature_level
        )
    })
}

#[cfg(test)]
mod tests;
