use std::collections::BTreeSet;

use proptest::prelude::*;
use weir_wire::Offset;

use crate::bound::{Backlog, Full, Limits, Size};

fn messages(most: u64) -> Limits {
    Limits {
        messages: Some(most),
        bytes: None,
    }
}

fn size(messages: u64, bytes: u64) -> Size {
    Size { messages, bytes }
}

#[test]
fn the_last_place_is_given_and_no_more() {
    let mut backlog = Backlog::new(Offset(0), Offset(8), 80);
    assert_eq!(backlog.check(size(2, 1), messages(10)), Ok(()));
    backlog.appended(Offset(10), 20);
    let full = Full::Messages {
        backlog: 10,
        most: 10,
        more: 1,
    };
    assert_eq!(backlog.check(size(1, 1), messages(10)), Err(full));
    assert!(
        full.to_string()
            .contains("10 messages are not settled, and at most 10")
    );
}

#[test]
fn what_is_settled_out_of_order_makes_room() {
    let mut backlog = Backlog::new(Offset(0), Offset(10), 100);
    assert!(backlog.settled(Offset(2), 3));
    assert_eq!(backlog.size().messages, 5);
    // Late news from before.
    assert!(!backlog.settled(Offset(1), 0));
    assert_eq!(backlog.size().messages, 5);
}

#[test]
fn a_batch_that_is_larger_than_the_bound_never_fits() {
    let backlog = Backlog::new(Offset(0), Offset(0), 0);
    assert_eq!(backlog.room_for(size(11, 1), messages(10)), None);
    assert_eq!(backlog.room_for(size(10, 1), messages(10)), Some(Offset(0)));
}

#[test]
fn what_could_not_be_written_counts_no_more() {
    let mut backlog = Backlog::new(Offset(0), Offset(10), 100);
    backlog.appended(Offset(15), 50);
    backlog.appended(Offset(18), 30);
    backlog.truncated(Offset(15));
    assert_eq!(backlog.size(), size(15, 150));
    // Within a batch, as it were: it counts as a whole.
    backlog.truncated(Offset(12));
    assert_eq!(backlog.size(), size(12, 150));
    backlog.truncated(Offset(10));
    assert_eq!(backlog.size(), size(10, 100));
    backlog.settled(Offset(4), 0);
    backlog.truncated(Offset(2));
    assert_eq!(backlog.size(), size(0, 0));
}

#[test]
fn marks_of_a_long_backlog_are_bounded_and_tell_no_byte_too_few() {
    let mut backlog = Backlog::new(Offset(0), Offset(0), 0);
    for end in 1..=100_000 {
        backlog.appended(Offset(end), 10);
    }
    assert_eq!(backlog.size(), size(100_000, 1_000_000));
    backlog.settled(Offset(50_000), 0);
    let bytes = backlog.size().bytes;
    assert!((500_000..504_000).contains(&bytes), "{bytes}");
    backlog.settled(Offset(100_000), 0);
    assert_eq!(backlog.size(), size(0, 0));
}

#[derive(Clone, Debug)]
enum Step {
    Append(u64, u64),
    AppendDropping(u64, u64),
    Settle(usize),
    LogStart(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..8_u64, 1..100_u64).prop_map(|(count, bytes)| Step::Append(count, bytes)),
        1 => (1..8_u64, 1..100_u64).prop_map(|(count, bytes)| Step::AppendDropping(count, bytes)),
        6 => (0..40_usize).prop_map(Step::Settle),
        1 => (0..6_u64).prop_map(Step::LogStart),
    ];
    prop::collection::vec(step, 0..200)
}

/// Every message and batch by itself.
#[derive(Default)]
struct Model {
    end: i64,
    start: i64,
    settled: BTreeSet<i64>,
    /// First offset, end, bytes.
    batches: Vec<(i64, i64, u64)>,
}

impl Model {
    fn unsettled(&self) -> u64 {
        let open = (self.start..self.end).filter(|offset| !self.settled.contains(offset));
        open.count() as u64
    }

    fn bytes(&self) -> u64 {
        let held = self.batches.iter().filter(|(_, end, _)| *end > self.start);
        held.map(|(_, _, bytes)| bytes).sum()
    }

    fn advance(&mut self) {
        while self.settled.remove(&self.start) {
            self.start += 1;
        }
        self.settled = self.settled.split_off(&self.start);
    }
}

proptest! {
    #[test]
    fn the_bound_is_never_passed_and_room_is_never_denied(
        steps in steps(),
        most in 1..40_u64,
        bytes_most in 50..2_000_u64,
    ) {
        let limits = Limits { messages: Some(most), bytes: Some(bytes_most) };
        let mut backlog = Backlog::new(Offset(0), Offset(0), 0);
        let mut model = Model::default();
        for step in steps {
            match step {
                Step::Append(count, bytes) => {
                    let fits = model.unsettled() + count <= most && model.bytes() + bytes <= bytes_most;
                    prop_assert_eq!(backlog.check(size(count, bytes), limits).is_ok(), fits);
                    if fits {
                        let first = model.end;
                        model.end += count as i64;
                        model.batches.push((first, model.end, bytes));
                        backlog.appended(Offset(model.end), bytes);
                    }
                }
                Step::AppendDropping(count, bytes) => {
                    let Some(start) = backlog.room_for(size(count, bytes), limits) else {
                        prop_assert!(count > most || bytes > bytes_most);
                        continue;
                    };
                    backlog.log_start_moved(start);
                    model.start = model.start.max(start.0);
                    // The group says again what it has settled, as it does when the log's start moves.
                    model.advance();
                    backlog.settled(Offset(model.start), model.settled.len() as u64);
                    let first = model.end;
                    model.end += count as i64;
                    model.batches.push((first, model.end, bytes));
                    backlog.appended(Offset(model.end), bytes);
                }
                Step::Settle(nth) => {
                    let open: Vec<i64> = (model.start..model.end).filter(|offset| !model.settled.contains(offset)).collect();
                    if let Some(offset) = open.get(nth) {
                        model.settled.insert(*offset);
                        model.advance();
                        backlog.settled(Offset(model.start), model.settled.len() as u64);
                    }
                }
                Step::LogStart(by) => {
                    model.start = (model.start + by as i64).min(model.end);
                    backlog.log_start_moved(Offset(model.start));
                    model.advance();
                    backlog.settled(Offset(model.start), model.settled.len() as u64);
                }
            }
            prop_assert_eq!(backlog.size(), size(model.unsettled(), model.bytes()));
            prop_assert!(model.unsettled() <= most && model.bytes() <= bytes_most);
        }
    }
}
