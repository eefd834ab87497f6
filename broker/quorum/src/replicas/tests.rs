#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::ids::{LeaderEpoch, PartitionEpoch};

const A: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);
const C: BrokerId = BrokerId(3);
const D: BrokerId = BrokerId(4);

fn partition(replicas: &[BrokerId]) -> Partition {
    Partition {
        replicas: replicas.to_vec(),
        isr: replicas.to_vec(),
        leader: replicas.first().copied(),
        leader_epoch: LeaderEpoch(0),
        epoch: PartitionEpoch(0),
        elr: Vec::new(),
        last_known: Vec::new(),
        adding: Vec::new(),
        removing: Vec::new(),
        unclean: None,
    }
}

/// A step with a minimum of two, and these brokers alive.
fn step(
    before: &Partition,
    alive: &[BrokerId],
    happens: impl for<'p> Fn(Step<'p>) -> Step<'p>,
) -> Partition {
    let rules = Rules {
        in_sync_min: 2,
        can_lead: &|id| alive.contains(&id),
    };
    happens(Step::new(before, rules))
        .finish()
        .unwrap_or_else(|| before.clone())
}

#[test]
fn a_leader_that_goes_is_followed_by_the_next_in_sync_in_a_new_epoch() {
    let next = step(&partition(&[A, B, C]), &[B, C], |step| step.gone(A));
    assert_eq!((next.leader, next.isr), (Some(B), vec![B, C]));
    assert_eq!(
        (next.leader_epoch, next.epoch),
        (LeaderEpoch(1), PartitionEpoch(1))
    );
    assert!(next.elr.is_empty(), "two are enough");
}

// Traps, losing data, 1.
#[test]
fn the_last_replica_standing_is_not_the_only_one_that_may_be_elected() {
    let two = step(&partition(&[A, B, C]), &[B, C], |step| step.gone(A));
    let one = step(&two, &[C], |step| step.gone(B));
    assert_eq!((one.leader, one.isr.as_slice()), (Some(C), [C].as_slice()));
    assert_eq!(one.elr, [B], "nothing was acknowledged without it");
    // The last one loses its disk: the one before it has everything acknowledged.
    let none = step(&one, &[], |step| step.wiped(C));
    assert_eq!((none.leader, none.elr.as_slice()), (None, [B].as_slice()));
    let back = step(&none, &[B], |step| step);
    assert_eq!((back.leader, back.isr), (Some(B), vec![B]));
    assert!(back.elr.is_empty());
}

#[test]
fn a_replica_that_left_while_enough_were_in_sync_is_never_elected() {
    let two = step(&partition(&[A, B, C]), &[B, C], |step| step.gone(A));
    let none = step(&step(&two, &[], |step| step.gone(B)), &[], |step| {
        step.gone(C)
    });
    assert_eq!(none.elr, [B, C]);
    let back = step(&none, &[A], |step| step);
    assert_eq!(back.leader, None);
}

#[test]
fn an_epoch_that_began_with_an_accepted_loss_is_remembered() {
    let first = partition(&[A, B, C]);
    let none = step(&first, &[], |step| step.gone(A).gone(B).gone(C));
    let led = step(&none, &[B], |step| step.accept_loss(B));
    assert_eq!((led.leader, led.unclean), (Some(B), Some(led.leader_epoch)));
    let next = step(&led, &[B, C], |step| step.in_sync(&[B, C]));
    let next = step(&next, &[C], |step| step.gone(B));
    assert_eq!((next.leader, next.unclean), (Some(C), led.unclean));
    assert!(next.leader_epoch > led.leader_epoch);
    assert_eq!(Partition::from_state(&next.to_state(0)), next);
}

#[test]
fn one_that_may_have_lost_something_is_not_elected_but_is_last_known() {
    let one = step(&partition(&[A, B]), &[B], |step| step.gone(A));
    let none = step(&one, &[], |step| step.lost(B));
    assert_eq!((none.elr.as_slice(), none.isr.len()), ([A].as_slice(), 0));
    let none = step(&none, &[], |step| step.lost(A));
    assert_eq!(none.last_known, [A, B]);
    let wiped = step(&none, &[], |step| step.wiped(A));
    assert_eq!(wiped.last_known, [B], "an empty disk holds nothing");
}

#[test]
fn a_leader_that_is_about_to_stop_goes_on_where_nobody_else_in_sync_can() {
    let one = step(&partition(&[A, B, C]), &[A], |step| step.gone(B).gone(C));
    let stopping = step(&one, &[B], |step| step);
    assert_eq!(stopping.leader, Some(A), "B is only eligible");
    let both = step(&partition(&[A, B]), &[B], |step| step);
    assert_eq!((both.leader, both.isr), (Some(B), vec![A, B]));
}

#[test]
fn a_reassignment_ends_when_the_new_replicas_are_in_sync() {
    let all = [A, B, C, D];
    let moving = step(&partition(&[A, B]), &all, |step| step.reassign(&[C, D]));
    assert_eq!(moving.replicas, [C, D, A, B]);
    assert_eq!(
        (moving.leader, moving.leader_epoch),
        (Some(A), LeaderEpoch(0))
    );
    let half = step(&moving, &all, |step| step.in_sync(&[A, B, C]));
    assert!(half.is_reassigning());
    let moved = step(&half, &all, |step| step.in_sync(&[A, B, C, D]));
    assert!(!moved.is_reassigning());
    assert_eq!(
        (moved.replicas.as_slice(), moved.isr.as_slice()),
        ([C, D].as_slice(), [C, D].as_slice())
    );
    assert_eq!(
        (moved.leader, moved.leader_epoch),
        (Some(C), LeaderEpoch(1))
    );
}

#[test]
fn a_reassignment_that_is_cancelled_or_changed_leaves_nothing_behind() {
    let all = [A, B, C, D];
    let before = partition(&[A, B]);
    let moving = step(&before, &all, |step| step.reassign(&[C, D]));
    let moving = step(&moving, &all, |step| step.in_sync(&[A, B, C]));
    let back = step(&moving, &all, |step| step.cancel());
    assert_eq!(
        (back.replicas.as_slice(), back.isr.as_slice()),
        ([A, B].as_slice(), [A, B].as_slice())
    );
    assert!(!back.is_reassigning());
    let other = step(&moving, &all, |step| step.reassign(&[A, D]));
    assert_eq!(
        (other.adding.as_slice(), other.removing.as_slice()),
        ([D].as_slice(), [B].as_slice())
    );
    assert_eq!(other.replicas, [A, D, B]);
    assert_eq!(other.isr, [A, B], "C is dropped with all it had");
    assert!(
        other.leader_epoch > moving.leader_epoch,
        "what C still sends is refused"
    );
}

/// What each broker holds, and what was acknowledged.
#[derive(Debug, Default)]
struct World {
    held: BTreeMap<BrokerId, BTreeSet<u32>>,
    acknowledged: BTreeSet<u32>,
    alive: BTreeSet<BrokerId>,
    next: u32,
}

#[derive(Clone, Debug)]
enum Event {
    /// The leader appends; these followers get it.
    Append(u8),
    /// Everybody alive fetches everything from the leader.
    Replicate,
    Stop(u8),
    Start(u8),
    /// Back with less than it had.
    Lose(u8),
    Wipe(u8),
    /// The leader looks who holds all that it does.
    Grow,
    /// The leader gives up on one.
    Shrink(u8),
    Elect,
    Reassign(u8),
    Cancel,
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => any::<u8>().prop_map(Event::Append),
        2 => Just(Event::Replicate),
        2 => (1..5_u8).prop_map(Event::Stop),
        4 => (1..5_u8).prop_map(Event::Start),
        1 => (1..5_u8).prop_map(Event::Lose),
        1 => (1..5_u8).prop_map(Event::Wipe),
        4 => Just(Event::Grow),
        2 => (1..5_u8).prop_map(Event::Shrink),
        1 => Just(Event::Elect),
        1 => any::<u8>().prop_map(Event::Reassign),
        1 => Just(Event::Cancel),
    ]
}

impl World {
    fn take(&mut self, before: &Partition, event: &Event, in_sync_min: usize) -> Partition {
        let alive = self.alive.clone();
        let can_lead = |id| alive.contains(&id);
        let rules = Rules {
            in_sync_min,
            can_lead: &can_lead,
        };
        let step = Step::new(before, rules);
        let step = match event {
            Event::Append(to) => {
                self.append(before, *to, in_sync_min);
                step
            }
            Event::Replicate => {
                self.replicate(before);
                step
            }
            Event::Stop(id) => {
                let id = BrokerId(i32::from(*id));
                self.alive.remove(&id);
                let alive = self.alive.clone();
                let can_lead = |id| alive.contains(&id);
                let rules = Rules {
                    in_sync_min,
                    can_lead: &can_lead,
                };
                let next = Step::new(before, rules).gone(id).finish();
                return next.unwrap_or_else(|| before.clone());
            }
            Event::Start(id) => {
                self.alive.insert(BrokerId(i32::from(*id)));
                let alive = self.alive.clone();
                let can_lead = |id| alive.contains(&id);
                let rules = Rules {
                    in_sync_min,
                    can_lead: &can_lead,
                };
                return Step::new(before, rules)
                    .finish()
                    .unwrap_or_else(|| before.clone());
            }
            // Only of a broker that is away, and never of so many that nobody holds everything.
            Event::Lose(id) | Event::Wipe(id) => {
                let id = BrokerId(i32::from(*id));
                let safe = |world: &Self| {
                    let holds = |other: &&BrokerId| {
                        **other != id && (before.isr.contains(other) || before.elr.contains(other))
                    };
                    before
                        .replicas
                        .iter()
                        .filter(holds)
                        .any(|other| world.acknowledged.is_subset(&world.held[other]))
                };
                if self.alive.contains(&id) || !safe(self) {
                    return before.clone();
                }
                self.held.insert(id, BTreeSet::new());
                if matches!(event, Event::Lose(_)) {
                    step.lost(id)
                } else {
                    step.wiped(id)
                }
            }
            Event::Grow => {
                let Some(leader) = before.leader else {
                    return before.clone();
                };
                let caught_up = |id: &BrokerId| {
                    self.alive.contains(id) && self.held[id].is_superset(&self.held[&leader])
                };
                let isr: Vec<BrokerId> = before
                    .replicas
                    .iter()
                    .copied()
                    .filter(|id| before.isr.contains(id) || caught_up(id))
                    .collect();
                step.in_sync(&isr)
            }
            Event::Shrink(id) => {
                let id = BrokerId(i32::from(*id));
                if before.leader.is_none() || before.leader == Some(id) {
                    return before.clone();
                }
                let isr: Vec<BrokerId> = before
                    .isr
                    .iter()
                    .copied()
                    .filter(|other| *other != id)
                    .collect();
                step.in_sync(&isr)
            }
            Event::Elect => step.elect(),
            Event::Reassign(bits) => {
                let target: Vec<BrokerId> = (1..5)
                    .filter(|id| bits & (1 << id) != 0)
                    .map(BrokerId)
                    .collect();
                if target.len() < 2 {
                    return before.clone();
                }
                step.reassign(&target)
            }
            Event::Cancel => {
                let stays = |id: &&BrokerId| !before.adding.contains(id);
                if !before.isr.iter().chain(&before.elr).any(|id| stays(&id)) {
                    return before.clone();
                }
                step.cancel()
            }
        };
        step.finish().unwrap_or_else(|| before.clone())
    }

    /// Acknowledged once all in sync have it, and enough are in sync.
    fn append(&mut self, partition: &Partition, to: u8, in_sync_min: usize) {
        let Some(leader) = partition.leader else {
            return;
        };
        let record = self.next;
        self.next += 1;
        self.held.entry(leader).or_default().insert(record);
        for id in &partition.replicas {
            // A follower takes a record only behind all that the leader had before it.
            let has_all_before = self.held[id].is_superset(
                &self.held[&leader]
                    .iter()
                    .copied()
                    .filter(|old| *old != record)
                    .collect(),
            );
            if to & (1 << id.0) != 0 && self.alive.contains(id) && has_all_before {
                self.held.entry(*id).or_default().insert(record);
            }
        }
        let isr = &partition.isr;
        let minimum = in_sync_min.min(partition.replicas.len());
        if isr.len() >= minimum {
            let everywhere: BTreeSet<u32> = self.held[&leader]
                .iter()
                .copied()
                .filter(|record| isr.iter().all(|id| self.held[id].contains(record)))
                .collect();
            self.acknowledged.extend(everywhere);
        }
    }

    /// Followers become what the leader is.
    fn replicate(&mut self, partition: &Partition) {
        let Some(leader) = partition.leader else {
            return;
        };
        let all = self.held[&leader].clone();
        for id in &partition.replicas {
            if self.alive.contains(id) {
                self.held.insert(*id, all.clone());
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    // Promise 1, as far as the controller can break it.
    #[test]
    fn whoever_leads_holds_everything_acknowledged(
        events in prop::collection::vec(event(), 1..60),
        in_sync_min in 1..4_usize,
    ) {
        let mut partition = partition(&[A, B, C]);
        let mut world = World {
            alive: [A, B, C, D].into(),
            held: [A, B, C, D].into_iter().map(|id| (id, BTreeSet::new())).collect(),
            ..World::default()
        };
        for event in &events {
            let next = world.take(&partition, event, in_sync_min);
            prop_assert!(next.epoch >= partition.epoch && next.leader_epoch >= partition.leader_epoch);
            if next.leader != partition.leader {
                prop_assert!(next.leader_epoch > partition.leader_epoch);
            }
            partition = next;
            let p = &partition;
            if let Some(leader) = p.leader {
                prop_assert!(p.isr.contains(&leader));
                prop_assert!(world.alive.contains(&leader), "{:?}", p);
                prop_assert!(world.acknowledged.is_subset(&world.held[&leader]), "{:?} after {:?}: {:?}", p, event, world);
            }
            for id in p.isr.iter().chain(&p.elr).chain(&p.last_known).chain(&p.adding).chain(&p.removing) {
                prop_assert!(p.replicas.contains(id), "{:?}", p);
            }
            prop_assert!(!p.isr.iter().any(|id| p.elr.contains(id)));
            prop_assert!(!p.replicas.is_empty());
        }
    }
}
