#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;

use super::*;

const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[test]
fn a_traceparent_is_read_as_the_recommendation_has_it() {
    let parsed = TraceParent::parse(GOOD.as_bytes()).unwrap();
    assert_eq!(parsed.trace_id, 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736);
    assert_eq!(parsed.span_id, 0x00f0_67aa_0ba9_02b7);
    assert!(parsed.is_sampled);
    let with = |from: &str, to: &str| TraceParent::parse(GOOD.replace(from, to).as_bytes());
    assert!(!with("-01", "-00").unwrap().is_sampled);
    // Other flags are not ours to judge, nor what a later version has besides.
    assert!(with("-01", "-03").unwrap().is_sampled);
    assert!(with("00-4b", "cc-4b").is_some());
    let later = GOOD.replace("00-4b", "cc-4b") + "-what-will-be";
    assert!(TraceParent::parse(later.as_bytes()).is_some());
}

#[test]
fn a_traceparent_that_is_none_is_ignored() {
    let with = |from: &str, to: &str| GOOD.replace(from, to);
    for bad in [
        String::new(),
        "00".into(),
        with("00-4b", "ff-4b"),
        with("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
        with("00f067aa0ba902b7", &"0".repeat(16)),
        with("4bf9", "4BF9"),
        with("4bf9", "4bg9"),
        with("4bf9", "+bf9"),
        with("-01", ""),
        with("-01", "-1"),
        with("-01", "-001"),
        GOOD.to_owned() + "-more",
        GOOD.to_owned() + " ",
    ] {
        assert_eq!(TraceParent::parse(bad.as_bytes()), None, "{bad:?}");
    }
    assert_eq!(TraceParent::parse(&[0xff; 55]), None);
}

#[test]
fn a_ratio_takes_about_that_part_and_the_same_everywhere() {
    let taken = |ratio: f64, seed: u64| {
        (0..10_000)
            .filter(|offset| Ratio(ratio).takes(seed, Offset(*offset)))
            .count()
    };
    assert_eq!((taken(0.0, 7), taken(1.0, 7)), (0, 10_000));
    for seed in [1, 7, u64::MAX] {
        assert!((900..1_100).contains(&taken(0.1, seed)));
    }
    let which = |seed| -> Vec<bool> {
        (0..64)
            .map(|at| Ratio(0.5).takes(seed, Offset(at)))
            .collect()
    };
    assert_eq!(which(3), which(3));
    assert_ne!(
        which(3),
        which(4),
        "not the same offsets of every partition"
    );
}

#[test]
fn a_name_is_cut_between_characters() {
    assert_eq!(&*name("short"), "short");
    let long = "ä".repeat(100);
    assert_eq!(name(&long).len(), NAME_BYTES_MAX);
    assert_eq!(name(&format!("a{long}")).len(), NAME_BYTES_MAX - 1);
}

proptest! {
    // Each walks through thousands of messages.
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Against a list of everything.
    #[test]
    fn the_ring_keeps_the_newest_of_what_is_known(
        steps in prop::collection::vec((0..6_000_i64, prop::bool::weighted(0.6), 0..4_u64), 0..400),
        burst in 0..6_000_i64,
    ) {
        let mut ring = Ring::default();
        let (mut known, mut all): (BTreeMap<i64, u64>, Vec<(i64, u64)>) = Default::default();
        let mut told = 0;
        let note = |ring: &mut Ring, known: &mut BTreeMap<i64, u64>, at: i64, key: u64| {
            let message = Message { key: Some(KeyHash(key)), ..Message::default() };
            ring.note(Offset(at), message);
            known.insert(at, key);
            if known.len() > MESSAGES_MAX {
                known.pop_first();
            }
        };
        let add = |ring: &mut Ring, all: &mut Vec<(i64, u64)>, is_known: bool, at: i64, told: u64| {
            ring.add(Event { at: Millis(told), offset: Offset(at), what: What::Replicated });
            if is_known {
                all.push((at, told));
            }
        };
        for at in 0..burst {
            note(&mut ring, &mut known, at, 9);
            told += 1;
            let is_known = known.contains_key(&at);
            add(&mut ring, &mut all, is_known, at, told);
        }
        for (at, is_note, key) in steps {
            if is_note {
                note(&mut ring, &mut known, at, key);
            } else {
                told += 1;
                let is_known = known.contains_key(&at);
                add(&mut ring, &mut all, is_known, at, told);
            }
        }
        prop_assert!(ring.events.len() <= EVENTS_MAX && ring.messages.len() <= MESSAGES_MAX);
        let kept = &all[all.len().saturating_sub(EVENTS_MAX)..];
        for key in 0..4 {
            let of_key = |at: &i64| known.get(at) == Some(&key);
            let expected: Vec<_> = kept.iter().filter(|(at, _)| of_key(at)).map(|(_, told)| *told).collect();
            let found: Vec<_> = ring.find(Query::Key(KeyHash(key))).map(|event| event.at.0).collect();
            prop_assert_eq!(found, expected);
        }
        let expected: Vec<_> = kept.iter().filter(|(at, _)| *at == 5).map(|(_, told)| *told).collect();
        let found: Vec<_> = ring.find(Query::Offset(Offset(5))).map(|event| event.at.0).collect();
        prop_assert_eq!(found, expected);
    }
}
