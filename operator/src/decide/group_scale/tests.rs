#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use proptest::prelude::*;

use super::{History, Load, REMEMBERED, look, wanted};
use crate::validate::Scale;

fn scale(min: i32, max: i32, per: i64, up: i64, down: i64) -> Scale {
    Scale {
        deployment: "billing".into(),
        min,
        max,
        lag_per_replica: per,
        up_window: up,
        down_window: down,
    }
}

fn load(records: i64) -> Load {
    Load {
        records,
        known_partitions: 8,
        partitions: Some(8),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A Deployment that is asked for what was decided, looked at every 15 seconds.
struct World {
    scale: Scale,
    history: History,
    replicas: i32,
    second: i64,
}

impl World {
    fn new(scale: Scale, replicas: i32) -> Self {
        Self {
            scale,
            history: History::default(),
            replicas,
            second: 0,
        }
    }

    fn look(&mut self, load: Load) -> i32 {
        self.second += 15;
        let verdict = look(
            &self.scale,
            load,
            self.replicas,
            &mut self.history,
            at(self.second),
        );
        self.replicas = verdict.replicas;
        self.replicas
    }
}

#[test]
fn a_replica_for_each_so_many_messages_within_bounds_and_partitions() {
    let scale = scale(0, 10, 100, 0, 0);
    for (records, expected) in [
        (0, 0),
        (1, 1),
        (100, 1),
        (101, 2),
        (750, 8),
        (i64::MAX, 8),
        (-5, 0),
    ] {
        assert_eq!(wanted(&scale, load(records), 0).0, expected, "{records}");
    }
}

#[test]
fn from_none_to_some_at_once_and_back_after_the_window() {
    let mut world = World::new(scale(0, 4, 100, 0, 60), 0);
    assert_eq!(world.look(load(0)), 0);
    assert_eq!(world.look(load(1_000)), 4);
    for _ in 0..4 {
        assert_eq!(world.look(load(0)), 4, "something waited within the minute");
    }
    assert_eq!(world.look(load(0)), 0);
}

#[test]
fn a_group_that_has_never_read_gets_one_consumer_to_find_out() {
    let mut world = World::new(scale(0, 4, 100, 0, 60), 0);
    let unknown = Load {
        records: 0,
        known_partitions: 0,
        partitions: Some(8),
    };
    assert_eq!(world.look(unknown), 1);
    for _ in 0..20 {
        assert_eq!(
            world.look(unknown),
            1,
            "nor are there fewer while nobody knows"
        );
    }
    let mut busy = World::new(scale(0, 4, 100, 0, 60), 3);
    for _ in 0..20 {
        assert_eq!(busy.look(unknown), 3);
    }
}

#[test]
fn an_operator_that_has_just_started_takes_nobody_away_for_a_whole_window() {
    let mut world = World::new(scale(0, 4, 100, 0, 60), 3);
    assert_eq!(world.look(load(0)), 3);
    // Another one takes over.
    world.history = History::default();
    for _ in 0..4 {
        assert_eq!(world.look(load(0)), 3);
    }
    world.look(load(0));
    assert_eq!(world.look(load(0)), 0);
}

#[test]
fn lag_that_comes_and_goes_moves_nothing_within_the_windows() {
    let mut world = World::new(scale(1, 4, 100, 60, 60), 2);
    for round in 0..40 {
        let records = if round % 2 == 0 { 400 } else { 0 };
        assert_eq!(world.look(load(records)), 2);
    }
}

#[test]
fn bounds_that_are_moved_hold_at_once() {
    let mut world = World::new(scale(0, 8, 100, 0, 3600), 0);
    assert_eq!(world.look(load(10_000)), 8);
    world.scale.max = 5;
    assert_eq!(world.look(load(10_000)), 5);
    (world.scale.min, world.scale.max) = (6, 7);
    assert_eq!(world.look(load(0)), 6);
}

proptest! {
    #[test]
    fn the_number_is_within_the_bounds_and_changes_only_towards_what_was_wanted_all_the_time(
        min in 0_i32..4,
        more in 0_i32..6,
        per in 1_i64..500,
        (up, down) in (0_i64..120, 0_i64..300),
        start in 0_i32..12,
        loads in prop::collection::vec((0_i64..5_000, any::<bool>()), 1..120),
    ) {
        let max = (min + more).max(1);
        let scale = scale(min, max, per, up, down);
        let mut world = World::new(scale.clone(), start);
        // A naive memory: everything that was ever wanted, and when.
        let mut all: Vec<(i64, i32)> = vec![(15, start.clamp(min, max))];
        for (records, is_known) in loads {
            let load = Load { known_partitions: if is_known { 8 } else { 0 }, ..load(records) };
            let before = world.replicas;
            let now = wanted(&scale, load, before).0;
            let after = world.look(load);
            all.push((world.second, now));
            prop_assert!((min..=max).contains(&after));
            let since = |window: i64| {
                let from = world.second - window;
                all.iter().filter(move |(at, _)| window > 0 && *at >= from).map(|(_, number)| *number).chain([now])
            };
            if after > before && before >= min {
                prop_assert!(since(up).all(|number| number >= after), "more only if wanted all the time");
            }
            if after < before && before <= max {
                prop_assert!(since(down).all(|number| number <= after), "fewer only if wanted all the time");
                prop_assert!(is_known, "what is not known takes nobody away");
            }
            if after == 0 {
                prop_assert!(before == 0 || (is_known && records == 0));
            }
            prop_assert!(world.history.recommended.len() <= REMEMBERED);
            // The same world, looked at once more in the same second.
            let mut history = world.history.clone();
            let again = look(&scale, load, after, &mut history, at(world.second));
            prop_assert_eq!(again.replicas, after);
        }
    }

    #[test]
    fn a_load_that_stays_is_answered_within_the_longer_window(
        records in 0_i64..5_000,
        start in 0_i32..12,
        (up, down) in (0_i64..120, 0_i64..300),
    ) {
        let scale = scale(0, 6, 100, up, down);
        let mut world = World::new(scale.clone(), start);
        for _ in 0..=(up.max(down) / 15 + 2) {
            world.look(load(records));
        }
        prop_assert_eq!(world.replicas, wanted(&scale, load(records), world.replicas).0);
    }
}
