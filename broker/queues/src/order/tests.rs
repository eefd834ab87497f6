use std::collections::BTreeSet;

use proptest::prelude::*;
use weir_wire::Offset;

use super::{HeldKeys, KeyHash, KeyOrder};

#[test]
fn a_message_that_is_tried_again_holds_up_its_own_key_only() {
    let mut order = KeyOrder::default();
    let (one, other) = (KeyHash::of(b"one"), KeyHash::of(b"other"));
    assert!(order.offer(one, Offset(0)));
    assert!(!order.offer(one, Offset(1)));
    assert!(order.offer(other, Offset(2)));
    // Given back, and parked: nothing is said here, and the next stays where it is.
    assert!(!order.is_ready(Offset(1)));
    assert_eq!(order.settled(Offset(2)), None);
    assert_eq!(order.settled(Offset(0)), Some(Offset(1)));
    assert!(order.is_ready(Offset(1)));
}

#[test]
fn a_key_is_held_until_its_message_is_settled() {
    let mut held = HeldKeys::default();
    let key = KeyHash::of(b"one");
    assert!(held.may_go(key, Offset(5)));
    held.hold(key, Offset(5));
    assert!(held.may_go(key, Offset(5)), "again");
    assert!(!held.may_go(key, Offset(1)));
    held.settled(Offset(1));
    assert_eq!(held.take_free(), []);
    held.settled(Offset(5));
    assert_eq!(held.take_free(), [key]);
    assert!(held.may_go(key, Offset(1)));
    held.hold(key, Offset(1));
    held.drop_below(Offset(2));
    assert_eq!(held.take_free(), [key], "the log begins later");
}

proptest! {
    #[test]
    fn one_of_each_key_is_ready_the_oldest(
        steps in prop::collection::vec((0..4_u8, 0..4_u64, 0..20_usize), 0..200),
    ) {
        let mut order = KeyOrder::default();
        let mut model: Vec<(i64, u64)> = Vec::new();
        let mut ready: BTreeSet<i64> = BTreeSet::new();
        let mut next = 0;
        for (kind, key, which) in steps {
            match kind {
                0 | 1 => {
                    if order.offer(KeyHash(key), Offset(next)) {
                        ready.insert(next);
                    }
                    model.push((next, key));
                    next += 1;
                }
                2 => {
                    // Whichever is settled, also one that was never out, as when it expires.
                    if let Some((offset, _)) = model.get(which).copied() {
                        model.remove(which);
                        ready.remove(&offset);
                        if let Some(next) = order.settled(Offset(offset)) {
                            prop_assert!(ready.insert(next.0), "{} was ready before", next);
                        }
                    }
                }
                _ => {
                    let start = model.first().map_or(0, |(first, _)| *first) + which as i64 / 4;
                    model.retain(|(offset, _)| *offset >= start);
                    ready = ready.split_off(&start);
                    ready.extend(order.drop_below(Offset(start)).into_iter().map(|offset| offset.0));
                }
            }
            let oldest: BTreeSet<i64> = (0..4)
                .filter_map(|key| model.iter().find(|(_, other)| *other == key).map(|(offset, _)| *offset))
                .collect();
            prop_assert_eq!(&ready, &oldest);
            for (offset, _) in &model {
                prop_assert_eq!(order.is_ready(Offset(*offset)), oldest.contains(offset));
            }
            prop_assert_eq!(order.len(), model.len());
        }
    }
}
