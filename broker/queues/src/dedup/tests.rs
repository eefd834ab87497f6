use proptest::prelude::*;
use weir_wire::Offset;

use super::{MessageId, Window};
use crate::Millis;

#[test]
fn the_oldest_gives_way_when_there_are_too_many_and_that_is_counted() {
    let mut window = Window::with_bound(1_000, 2);
    for id in 0..3 {
        window.remember(MessageId(id), Offset(id as i64), Millis(0));
    }
    assert_eq!(window.find(MessageId(0), Millis(0)), None);
    assert_eq!(window.find(MessageId(2), Millis(0)), Some(Offset(2)));
    assert_eq!((window.len(), window.forgotten_early()), (2, 1));
}

proptest! {
    #[test]
    fn an_id_is_known_for_a_window_and_no_longer(
        steps in prop::collection::vec((0..8_u8, 0..12_u128, 0..40_u64), 0..300),
        length in 1..100_u64,
    ) {
        let mut window = Window::new(length);
        // Time, id, offset.
        let mut model: Vec<(u64, u128, i64)> = Vec::new();
        let (mut now, mut end) = (0, 0);
        for (kind, id, number) in steps {
            if kind == 0 {
                now += number;
                continue;
            }
            if kind == 1 {
                end = (end - number as i64 / 8).max(0);
                model.retain(|(_, _, offset)| *offset < end);
                window.truncated(Offset(end));
                continue;
            }
            let known = model.iter().find(|(came, other, _)| *other == id && came + length > now);
            let known = known.map(|(_, _, offset)| Offset(*offset));
            prop_assert_eq!(window.find(MessageId(id), Millis(now)), known);
            if known.is_none() {
                window.remember(MessageId(id), Offset(end), Millis(now));
                model.push((now, id, end));
                end += 1;
            }
        }
    }
}
