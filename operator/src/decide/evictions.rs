//! Whether anybody may evict a broker's pod, as `kubectl drain` does.
//!
//! The brokers' disruption budget counts pods that are ready, and a broker is ready when it serves, not when its replicas have caught up. So the budget is
//! closed as soon as a broker is on its way out, and opened again when all are there and no partition needs any of them: of two nodes that are drained one
//! after the other, the second waits for what the first one's broker has missed. A broker that clients should not be sent to for so long would be the
//! other way: it would be kept from them although it serves.
//!
//! A pod that is not ready may always be evicted (`unhealthyPodEvictionPolicy`), so a broken one holds up no node.

use std::collections::{BTreeMap, BTreeSet};

use crate::world::{BrokerId, BrokerSeen, Look, Process};

/// What is asked about.
#[derive(Debug)]
pub struct Case<'a> {
    /// How many brokers there are to be.
    pub size: u32,
    /// All processes.
    pub processes: &'a BTreeMap<BrokerId, Process>,
    /// What the brokers say, if any answered.
    pub look: Option<&'a Look>,
    /// One is restarted now.
    pub restarts: bool,
    /// Why none may be evicted as it is.
    pub was: Option<String>,
}

/// What brokers say without being asked again and again, of what evictions depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Availability {
    /// Brokers whose heartbeats arrive.
    pub alive: BTreeSet<BrokerId>,
    /// Whether partitions need any broker.
    pub brokers_needed: bool,
    /// Whoever says so hears from no controller, so it may be old.
    pub controller_unknown: bool,
}

impl Availability {
    /// What a look says of it.
    #[must_use]
    pub fn of(look: &Look) -> Self {
        let alive = look.brokers.iter().filter(|(_, seen)| seen.alive);
        Self {
            alive: alive.map(|(broker, _)| *broker).collect(),
            brokers_needed: some_are_needed(look),
            controller_unknown: !look.is_confirmed(),
        }
    }

    /// Whether the budget may have to be closed that was open with what was `before`. That it may be opened is no news: it is looked for while it is
    /// closed, and a broker that falls behind again and again would have it written as often. Of two who hear from no controller none knows better.
    #[must_use]
    pub fn is_worse_than(&self, before: &Self) -> bool {
        if before.controller_unknown || self.controller_unknown {
            return !before.controller_unknown;
        }
        !before.alive.is_subset(&self.alive) || (self.brokers_needed && !before.brokers_needed)
    }
}

const AWAY: &str = "a broker is away, or stopping or starting";
const UNHEARD: &str =
    "no broker that answers hears from a controller, so what they say of one another may be old";
const BEHIND: &str = "without another broker partitions would fall below their minimum of in-sync replicas, while others of their replicas catch up";

/// Why no broker that serves may be evicted now. Not in more detail than has to be known: each change of it is written.
#[must_use]
pub fn held(case: &Case<'_>) -> Option<String> {
    let serves = |broker: BrokerId| {
        let process = case.processes.get(&broker);
        process.is_some_and(|process| process.ready && !process.leaving)
    };
    if case.restarts || !(0..case.size).map(BrokerId).all(serves) {
        return Some(AWAY.to_owned());
    }
    // Nobody knows: it stays what it was.
    let Some(look) = case.look else {
        return case.was.clone();
    };
    if !look.is_confirmed() {
        return Some(UNHEARD.to_owned());
    }
    let is_alive = |broker: BrokerId| look.brokers.get(&broker).is_some_and(|seen| seen.alive);
    if !(0..case.size).map(BrokerId).all(is_alive) {
        return Some(AWAY.to_owned());
    }
    some_are_needed(look).then(|| BEHIND.to_owned())
}

fn some_are_needed(look: &Look) -> bool {
    let needed = |seen: &BrokerSeen| {
        let needed = seen.needed.as_ref();
        // Brokers of an older version do not say: all have to be whole.
        needed.map_or_else(|| some_are_short(look), |needed| needed.partitions > 0)
    };
    look.brokers.values().any(needed)
}

fn some_are_short(look: &Look) -> bool {
    let mut topics = look.topics.values();
    topics.any(|topic| topic.replication_factor > 1 && topic.under_replicated_partitions > 0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use super::{AWAY, Availability, BEHIND, Case, UNHEARD, held};
    use crate::decide::cluster::World;
    use crate::testing::{cluster, converged};
    use crate::world::{BrokerId, Needed, TopicSeen};

    /// What is said of three brokers that are well, but for this.
    fn told(change: impl FnOnce(&mut World)) -> Option<String> {
        let mut world = converged(&cluster());
        change(&mut world);
        held(&Case {
            size: 3,
            processes: &world.processes,
            look: world.look.as_ref(),
            restarts: false,
            was: None,
        })
    }

    #[test]
    fn a_broker_may_be_evicted_while_all_are_there_and_none_is_needed() {
        assert_eq!(told(|_| {}), None);
    }

    #[test]
    fn none_is_while_another_is_away_whoever_has_noticed() {
        const ONE: BrokerId = BrokerId(1);
        let changes: [fn(&mut World); 4] = [
            |world| drop(world.processes.remove(&ONE)),
            |world| world.processes.get_mut(&ONE).unwrap().ready = false,
            |world| world.processes.get_mut(&ONE).unwrap().leaving = true,
            |world| {
                let look = world.look.as_mut().unwrap();
                look.brokers.get_mut(&ONE).unwrap().alive = false;
            },
        ];
        for change in changes {
            assert_eq!(told(change).as_deref(), Some(AWAY));
        }
    }

    #[test]
    fn none_is_while_partitions_need_it_though_all_are_ready() {
        let needed = told(|world| {
            let look = world.look.as_mut().unwrap();
            look.brokers.get_mut(&BrokerId(2)).unwrap().needed = Some(Needed {
                partitions: 1,
                named: vec!["orders-0".into()],
            });
        });
        assert_eq!(needed.as_deref(), Some(BEHIND));
        // Of brokers that do not say so.
        for (short, expected) in [(0, None), (1, Some(BEHIND))] {
            let topic = TopicSeen {
                replication_factor: 3,
                under_replicated_partitions: short,
                ..TopicSeen::default()
            };
            let told = told(|world| {
                let look = world.look.as_mut().unwrap();
                look.brokers.values_mut().for_each(|it| it.needed = None);
                look.topics.insert("orders".into(), topic);
            });
            assert_eq!(told.as_deref(), expected);
        }
    }

    #[test]
    fn none_is_by_what_a_broker_says_that_hears_from_no_controller() {
        let unheard = |world: &mut World| world.look.as_mut().unwrap().controller = None;
        assert_eq!(told(unheard).as_deref(), Some(UNHEARD));
        let mut world = converged(&cluster());
        let well = Availability::of(world.look.as_ref().unwrap());
        unheard(&mut world);
        let unheard = Availability::of(world.look.as_ref().unwrap());
        assert!(unheard.is_worse_than(&well));
        assert!(!well.is_worse_than(&unheard));
        // The budget is closed by it, whoever is alive.
        let gone = Availability {
            alive: [BrokerId(0)].into(),
            ..unheard.clone()
        };
        assert!(!gone.is_worse_than(&unheard) && !unheard.is_worse_than(&gone));
    }

    #[test]
    fn what_closes_the_budget_is_worse_and_what_opens_it_is_not() {
        let seen = |alive: &[u32], brokers_needed| Availability {
            alive: alive.iter().copied().map(BrokerId).collect(),
            brokers_needed,
            controller_unknown: false,
        };
        let world = converged(&cluster());
        let well = Availability::of(world.look.as_ref().unwrap());
        assert_eq!(well, seen(&[0, 1, 2], false));
        let (gone, behind) = (seen(&[0, 2], false), seen(&[0, 1, 2], true));
        let both = seen(&[0, 2], true);
        for (before, now, expected) in [
            (&well, &gone, true),
            (&well, &behind, true),
            (&gone, &both, true),
            (&behind, &both, true),
            // One has gone and another has come.
            (&gone, &seen(&[0, 1], false), true),
            (&gone, &well, false),
            (&behind, &well, false),
            (&both, &behind, false),
            (&both, &gone, false),
            (&well, &seen(&[0, 1, 2, 3], false), false),
            (&both, &both, false),
        ] {
            assert_eq!(now.is_worse_than(before), expected, "{before:?} {now:?}");
        }
    }

    #[test]
    fn what_nobody_knows_changes_nothing_and_a_restart_counts_before_it_is_seen() {
        let world = converged(&cluster());
        let case = |restarts, was: Option<&str>| Case {
            size: 3,
            processes: &world.processes,
            look: None,
            restarts,
            was: was.map(str::to_owned),
        };
        assert_eq!(held(&case(false, None)), None);
        assert_eq!(held(&case(false, Some("so"))).as_deref(), Some("so"));
        assert_eq!(held(&case(true, None)).as_deref(), Some(AWAY));
    }
}
