use proptest::prelude::*;
use weir_wire::Offset;

use super::{Choice, DEFAULT_LEVEL, LEVELS, Level, Levels, Turns};

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
fn messages_without_priority_cost_next_to_nothing() {
    let mut levels = Levels::new(Offset(7));
    for last in 7..1_000_007 {
        levels.push(Offset(last), Some(DEFAULT_LEVEL));
    }
    assert_eq!(
        levels.count(DEFAULT_LEVEL, Offset(0), Offset(i64::MAX)),
        1_000_000
    );
    assert!(levels.memory() < 32_000, "{}", levels.memory());
}

#[test]
fn any_order_of_levels_costs_half_a_byte_for_each_message() {
    let mut levels = Levels::new(Offset(0));
    for last in 0..1_000_000_i64 {
        // As good as random: no two neighbours are alike.
        let number = u8::try_from((last * 7 + last / 11) % 10).expect("a digit");
        levels.push(Offset(last), Some(level(number)));
    }
    assert!(levels.memory() < 540_000, "{}", levels.memory());
}

#[test]
fn the_greatest_that_has_messages_is_next() {
    let turns = Turns::default();
    let mut has = [false; LEVELS];
    assert_eq!(turns.next(Choice::Strict, &has), None);
    has[0] = true;
    has[7] = true;
    assert_eq!(turns.next(Choice::Strict, &has), Some(level(7)));
}

#[test]
fn shares_follow_the_weights() {
    let mut turns = Turns::default();
    let mut has = [false; LEVELS];
    (has[0], has[9]) = (true, true);
    let mut low = 0;
    for _ in 0..1_100 {
        let chosen = turns.next(Choice::Weighted, &has).expect("a level");
        turns.handed_out(chosen, 1, &has);
        low += i32::from(chosen == level(0));
    }
    assert_eq!(low, 100, "one of eleven parts");
}

proptest! {
    #[test]
    fn levels_are_those_of_a_list(
        start in 0..10_000_i64,
        runs in prop::collection::vec((1..3_000_i64, 0..11_u8, 0..3_u8), 1..40),
        asks in prop::collection::vec((0..10_u8, 0..60_000_i64, 0..60_000_i64), 1..20),
        dropped in 0..30_000_i64,
    ) {
        let mut levels = Levels::new(Offset(start));
        let mut model: Vec<Option<Level>> = Vec::new();
        for (length, number, kind) in runs {
            // Long runs, and stretches where each differs from its neighbours.
            for step in 0..length {
                let number = if kind == 0 { number } else { u8::try_from((i64::from(number) + step * 3) % 11).expect("small") };
                model.push(Level::new(number));
                if kind > 0 || step + 1 == length {
                    let last = start + i64::try_from(model.len()).expect("short") - 1;
                    levels.push(Offset(last), Level::new(number));
                }
            }
        }
        let end = start + i64::try_from(model.len()).expect("short");
        prop_assert_eq!(levels.end(), Offset(end));
        let from = start + dropped.min(end - start - 1);
        levels.drop_below(Offset(from));
        let at = |offset: i64| match offset {
            offset if offset < from || offset >= end => None,
            offset => model[usize::try_from(offset - start).expect("within")],
        };
        for (number, one, other) in asks {
            let (first, last) = (start + one.min(other), start + one.max(other));
            let wanted = level(number);
            prop_assert_eq!(levels.of(Offset(first)), at(first));
            let next = (first..end).find(|offset| at(*offset) == Some(wanted));
            prop_assert_eq!(levels.next(wanted, Offset(first)), next.map(Offset));
            let count = (first..last.min(end)).filter(|offset| at(*offset) == Some(wanted)).count();
            prop_assert_eq!(levels.count(wanted, Offset(first), Offset(last)), count as u64);
            let mut expected = first.max(from);
            for (begin, until, found) in levels.runs(Offset(first), Offset(last)) {
                prop_assert_eq!(begin, expected);
                prop_assert!((begin..=until).all(|offset| at(offset) == found));
                expected = until + 1;
            }
            prop_assert_eq!(expected, (last + 1).min(end).max(first.max(from)));
        }
    }

    #[test]
    fn no_level_starves_and_shares_hold(
        has in prop::collection::vec(any::<bool>(), LEVELS),
        counts in prop::collection::vec(1..20_i64, 2_000),
    ) {
        let has: [bool; LEVELS] = has.try_into().expect("as many");
        prop_assume!(has.contains(&true));
        let mut turns = Turns::default();
        let together: i64 = Level::all().filter(|level| has[level.index()]).map(Level::weight).sum();
        let (mut got, mut all) = ([0_i64; LEVELS], 0);
        for count in counts {
            let chosen = turns.next(Choice::Weighted, &has).expect("one has");
            prop_assert!(has[chosen.index()]);
            turns.handed_out(chosen, count, &has);
            got[chosen.index()] += count;
            all += count;
            for level in Level::all().filter(|level| has[level.index()]) {
                let due = all * level.weight() / together;
                // Never further behind its share than the largest answers of all levels together.
                prop_assert!(got[level.index()] >= due - 20 * 10, "level {} got {} of {}", level.number(), got[level.index()], due);
            }
        }
    }
}
