use std::collections::BTreeSet;

use proptest::prelude::*;
use weir_wire::Offset;

use super::{Choice, DEFAULT_LEVEL, Index, LEVELS, Level};

fn level(number: u8) -> Level {
    Level::new(number).expect("a level")
}

#[test]
fn a_header_is_a_digit_or_nothing() {
    assert_eq!(Level::of_header(Some(b"9")), level(9));
    for other in [
        None,
        Some(b"".as_slice()),
        Some(b"10"),
        Some(b"x"),
        Some(b"-1"),
    ] {
        assert_eq!(Level::of_header(other), DEFAULT_LEVEL);
    }
    assert_eq!(Level::new(10), None);
}

#[test]
fn messages_without_priority_cost_one_entry_together() {
    let mut index = Index::default();
    (0..100_000).for_each(|offset| index.put(DEFAULT_LEVEL, Offset(offset)));
    assert_eq!(index.levels[4].runs.len(), 1);
    assert_eq!(index.len(), 100_000);
}

#[test]
fn shares_follow_the_weights() {
    let mut index = Index::default();
    for offset in 0..11_000 {
        index.put(
            level(u8::try_from(offset % 2).expect("a bit") * 9),
            Offset(offset),
        );
    }
    let taken = (0..1_100).filter_map(|_| index.take(Choice::Weighted));
    let low = taken.filter(|(taken, _)| *taken == level(0)).count();
    assert_eq!(low, 100, "one of eleven parts");
}

proptest! {
    #[test]
    fn strict_is_exact_over_the_whole_backlog(
        steps in prop::collection::vec((0..5_u8, 0..10_u8, 0..60_i64), 0..300),
    ) {
        let mut index = Index::default();
        // The greatest level first, then the oldest.
        let mut model: BTreeSet<(u8, i64)> = BTreeSet::new();
        for (kind, number, offset) in steps {
            match kind {
                0..=2 => {
                    index.put(level(number), Offset(offset));
                    model.insert((9 - number, offset));
                }
                3 => {
                    let taken = index.take(Choice::Strict).map(|(level, offset)| (9 - level.number(), offset.0));
                    prop_assert_eq!(taken, model.pop_first());
                }
                _ if number < 8 => {
                    let was_there = index.remove(level(number), Offset(offset));
                    prop_assert_eq!(was_there, model.remove(&(9 - number, offset)));
                }
                _ => {
                    index.drop_below(Offset(offset / 3));
                    model.retain(|(_, other)| *other >= offset / 3);
                }
            }
            prop_assert_eq!(index.len(), model.len() as u64);
        }
    }

    #[test]
    fn no_level_starves_and_each_is_in_order(
        counts in prop::collection::vec(0..200_i64, LEVELS),
    ) {
        let mut index = Index::default();
        for (number, count) in (0..).zip(&counts) {
            (0..*count).for_each(|offset| index.put(level(number), Offset(offset)));
        }
        let mut next = [0_i64; LEVELS];
        // For how long each waits.
        let mut waits = [0_i64; LEVELS];
        while let Some((taken, offset)) = index.take(Choice::Weighted) {
            let at = usize::from(taken.number());
            prop_assert_eq!(offset.0, next[at]);
            next[at] += 1;
            for other in 0..LEVELS {
                waits[other] = if other == at || next[other] == counts[other] { 0 } else { waits[other] + 1 };
                // All weights are 55; a level of weight w comes once in 55 / w turns, give or take what the others have saved up.
                let most = 2 * 55 / (other as i64 + 1) + 10;
                prop_assert!(waits[other] <= most, "level {} waits for {}", other, waits[other]);
            }
        }
        prop_assert_eq!(next.to_vec(), counts);
    }
}
