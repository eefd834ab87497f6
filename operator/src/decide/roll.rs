//! Which broker is restarted next, if any.
//!
//! A broker is outdated when the hash that its process was started with is not the wanted one. Outdated brokers are restarted one at a
//! time, and one that serves only when every gate of [`gates::ROLL`] lets it: all others ready, a fresh look at the cluster (of a broker that hears
//! from the controller), the quorum keeps its
//! majority, and no partition falls below its minimum that would not if its other replicas were waited for. A partition that is whole and has
//! no replica to spare (one in all, or as many as its minimum) waits for the restart; that is what its settings say, and it blocks nothing.
//!
//! Those that vote in the quorum come after those that do not, and its leader last. Of those before the leader, one that a gate holds does not
//! hold the others.
//!
//! A broker that serves nothing (not ready, and not alive as far as the others know) is restarted without asking: waiting for a broken
//! cluster to be healthy before replacing what broke it would wait for ever. One that is on its way out is left as it is, unless it serves
//! nothing; one whose scale-down is held up stays for who knows how long, and is restarted like any other.

use std::collections::BTreeMap;

use crate::decide::gates::{self, Blocked};
use crate::world::{BrokerId, Look, Process};

/// One broker that is to be restarted while it serves.
#[derive(Debug)]
pub struct Case<'a> {
    /// The candidate.
    pub broker: BrokerId,
    /// How many brokers there should be.
    pub size: u32,
    /// All processes.
    pub processes: &'a BTreeMap<BrokerId, Process>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Roll {
    /// Restart this one now.
    pub restart: Option<BrokerId>,
    /// All that run with an old hash, the one to restart included.
    pub outdated: Vec<BrokerId>,
    /// Why none is restarted though some are outdated.
    pub blocked: Option<Blocked>,
}

/// Decides the next restart. `leaving` are on their way out of the cluster, and nothing holds that up.
#[must_use]
pub fn next(
    size: u32,
    hash: &str,
    processes: &BTreeMap<BrokerId, Process>,
    look: Option<&Look>,
    leaving: &[BrokerId],
) -> Roll {
    let goes =
        |broker: &BrokerId| leaving.contains(broker) && !serves_nothing(*broker, processes, look);
    let outdated: Vec<BrokerId> = processes
        .iter()
        .filter(|(_, process)| !process.leaving && process.hash.as_deref() != Some(hash))
        .map(|(broker, _)| *broker)
        .filter(|broker| !goes(broker))
        .collect();
    if outdated.is_empty() {
        return Roll::default();
    }
    if let Some(leaving) = processes
        .iter()
        .find(|(_, process)| process.leaving)
        .map(|(broker, _)| broker)
    {
        let blocked = Blocked {
            gate: "BrokersNotReady",
            message: format!("broker {leaving} is stopping; {} to go", list(&outdated)),
        };
        return Roll {
            restart: None,
            outdated,
            blocked: Some(blocked),
        };
    }
    let mut candidates = outdated.clone();
    candidates.sort_by_key(|broker| restart_order(*broker, processes, look));
    let mut first_no = None;
    for broker in candidates {
        let is_last = look.is_some_and(|look| look.controller == Some(broker));
        if is_last && first_no.is_some() {
            break;
        }
        let case = Case {
            broker,
            size,
            processes,
            look,
        };
        let blocked = if serves_nothing(broker, processes, look) {
            None
        } else {
            gates::first_no(gates::ROLL, |gate| gate(&case))
        };
        match blocked {
            None => {
                return Roll {
                    restart: Some(broker),
                    outdated,
                    blocked: None,
                };
            }
            Some(blocked) => first_no = first_no.or(Some(blocked)),
        }
    }
    Roll {
        restart: None,
        outdated,
        blocked: first_no,
    }
}

/// Brokers that serve nothing first, then those that are not ready, voters after the others, the controller last, and otherwise from the
/// highest id down.
fn restart_order(
    broker: BrokerId,
    processes: &BTreeMap<BrokerId, Process>,
    look: Option<&Look>,
) -> (bool, bool, bool, bool, std::cmp::Reverse<BrokerId>) {
    let ready = processes.get(&broker).is_some_and(|process| process.ready);
    let votes = look.is_some_and(|look| look.voters.contains(&broker));
    let controller = look.is_some_and(|look| look.controller == Some(broker));
    (
        !serves_nothing(broker, processes, look),
        ready,
        controller,
        votes,
        std::cmp::Reverse(broker),
    )
}

fn serves_nothing(
    broker: BrokerId,
    processes: &BTreeMap<BrokerId, Process>,
    look: Option<&Look>,
) -> bool {
    let ready = processes.get(&broker).is_some_and(|process| process.ready);
    let alive = look
        .and_then(|look| look.brokers.get(&broker))
        .is_some_and(|seen| seen.alive);
    !ready && !alive
}

/// Gate: another broker is not there, or not ready.
pub(super) fn others_not_ready(case: &Case<'_>) -> Option<String> {
    let unready: Vec<BrokerId> = (0..case.size)
        .map(BrokerId)
        .filter(|broker| {
            *broker != case.broker
                && !case
                    .processes
                    .get(broker)
                    .is_some_and(|process| process.ready && !process.leaving)
        })
        .collect();
    (!unready.is_empty()).then(|| {
        format!("broker {} waits to be restarted until all others are ready; not ready: {}. See those pods' logs", case.broker, list(&unready))
    })
}

/// Gate: no broker has answered, or none that hears from a controller, so it is not known what the partitions are now.
pub(super) fn not_seen(case: &Case<'_>) -> Option<String> {
    let broker = case.broker;
    match case.look {
        None => Some(format!(
            "broker {broker} waits to be restarted until a broker answers what its partitions are (port {})",
            crate::names::INTERNAL_PORT
        )),
        Some(look) if !look.is_confirmed() => Some(format!(
            "broker {broker} waits to be restarted until a controller is elected, and heard by a broker that answers: what brokers say without \
             one may be old"
        )),
        Some(_) => None,
    }
}

/// Gate: the voters that stay would be no majority.
pub(super) fn quorum_at_risk(case: &Case<'_>) -> Option<String> {
    let look = case.look?;
    // A single voter is always its own majority; restarting it pauses metadata changes and nothing else.
    if look.voters.len() < 2 || !look.voters.contains(&case.broker) {
        return None;
    }
    let staying = look
        .voters
        .iter()
        .filter(|voter| {
            **voter != case.broker && look.brokers.get(voter).is_some_and(|broker| broker.alive)
        })
        .count();
    let majority = look.voters.len() / 2 + 1;
    // Two voters cannot spare one: they never have a majority without each other, so that case is not held up for ever.
    (staying < majority && look.voters.len() > 2).then(|| {
        format!("without broker {}, {staying} of {} voters of the metadata quorum would be alive and {majority} are needed", case.broker, look.voters.len())
    })
}

/// Gate: partitions would have fewer in-sync replicas than their minimum, and will be able to spare this broker later.
pub(super) fn partition_would_fall_below_minimum(case: &Case<'_>) -> Option<String> {
    let look = case.look?;
    let Some(needed) = &look.brokers.get(&case.broker)?.needed else {
        return some_are_short(case.broker, look);
    };
    let more = if needed.named.len() < needed.partitions as usize {
        " …"
    } else {
        ""
    };
    (needed.partitions > 0).then(|| {
        format!(
            "broker {} waits to be restarted: without it {} partitions would fall below their minimum of in-sync replicas while others of their \
             replicas catch up: {}{more}",
            case.broker,
            needed.partitions,
            needed.named.join(", "),
        )
    })
}

/// The same of brokers of an older version, which do not say what a broker is needed for: all have to be whole.
fn some_are_short(broker: BrokerId, look: &Look) -> Option<String> {
    /// How many topics a message names.
    const NAMED: usize = 3;
    let short: Vec<&str> = look
        .topics
        .iter()
        .filter(|(_, topic)| topic.replication_factor > 1 && topic.under_replicated_partitions > 0)
        .map(|(name, _)| name.as_str())
        .collect();
    (!short.is_empty()).then(|| {
        format!(
            "broker {broker} waits to be restarted until every partition has its replicas in sync; {} topics have not: {}{}",
            short.len(),
            short[..short.len().min(NAMED)].join(", "),
            if short.len() > NAMED { " …" } else { "" },
        )
    })
}

fn list(brokers: &[BrokerId]) -> String {
    let ids: Vec<String> = brokers
        .iter()
        .map(|broker| format!("broker {broker}"))
        .collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests;
