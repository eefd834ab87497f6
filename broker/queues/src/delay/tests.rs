use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use weir_wire::Offset;

use super::{Bucket, Cancelled, Delays, Entry, Waiting, Work};
use crate::Millis;

const BEGIN: u64 = 1_700_000_123_456;
const HOUR: u64 = 3_600_000;

/// The files of buckets, and how long reading them takes.
#[derive(Default)]
struct Files {
    files: BTreeMap<Bucket, Vec<Entry>>,
    reading: Vec<Bucket>,
}

impl Files {
    fn work(&mut self, delays: &mut Delays) {
        self.carry_out(delays.take_work());
    }

    fn carry_out(&mut self, work: Vec<Work>) {
        for one in work {
            match one {
                Work::Spill(bucket, entries) => {
                    self.files.entry(bucket).or_default().extend(entries);
                }
                Work::Load(bucket) => self.reading.push(bucket),
            }
        }
    }

    /// One of those that are being read is done; in two parts.
    fn read_one(&mut self, delays: &mut Delays, which: usize) {
        if self.reading.is_empty() {
            return;
        }
        let bucket = self.reading.remove(which % self.reading.len());
        let entries = self.files.remove(&bucket).unwrap_or_default();
        let (first, rest) = entries.split_at(entries.len() / 2);
        delays.loaded(bucket, first.iter().copied(), false);
        delays.loaded(bucket, rest.iter().copied(), true);
    }

    /// Reads everything that is to be read. Whether there was anything to do.
    fn settle(&mut self, delays: &mut Delays) -> bool {
        let mut was_busy = false;
        loop {
            let work = delays.take_work();
            was_busy |= !work.is_empty() || !self.reading.is_empty();
            self.carry_out(work);
            if self.reading.is_empty() {
                return was_busy;
            }
            self.read_one(delays, 0);
        }
    }

    /// Everything that is due, with all reading done.
    fn take_all(&mut self, delays: &mut Delays, now: u64) -> Vec<Entry> {
        let mut taken = Vec::new();
        loop {
            let more = delays.take_due(Millis(now), 7);
            let is_over = more.is_empty();
            taken.extend(more);
            if !self.settle(delays) && is_over {
                return taken;
            }
        }
    }
}

#[test]
fn a_message_a_year_ahead_comes_in_its_millisecond() {
    let mut delays = Delays::new(Millis(BEGIN), None);
    let mut files = Files::default();
    let due = BEGIN + 365 * 24 * HOUR + 789;
    delays.add(Millis(due), Offset(0));
    files.settle(&mut delays);
    assert_eq!((delays.in_memory(), delays.waiting()), (0, 1));
    let mut now = BEGIN;
    let mut wakes = 0;
    while let Some(wake) = delays.next_wake() {
        now = now.max(wake.0);
        let taken = files.take_all(&mut delays, now);
        assert_eq!(taken.is_empty(), now < due, "{now}");
        wakes += 1;
    }
    assert_eq!(now, due);
    assert!(wakes < 10, "it is looked at {wakes} times");
}

#[test]
fn what_is_due_together_comes_in_the_order_in_which_it_came() {
    let mut delays = Delays::new(Millis(BEGIN), None);
    let mut files = Files::default();
    let due = BEGIN + 5 * HOUR;
    for at in 0..100 {
        delays.add(Millis(due), Offset(at));
        // Some find the bucket on its way into memory.
        if at % 20 == 0 {
            let now = due - 100_000 + u64::try_from(at).expect("small") * 1_000;
            delays.take_due(Millis(now), 1);
            files.work(&mut delays);
        }
    }
    let taken = files.take_all(&mut delays, due);
    let order: Vec<i64> = taken.iter().map(|entry| entry.at.0).collect();
    assert_eq!(order, (0..100).collect::<Vec<_>>());
}

#[test]
fn what_comes_too_late_is_due_with_the_last_and_known_by_its_key() {
    let mut delays = Delays::new(Millis(BEGIN), None);
    assert_eq!(
        delays.add(Millis(BEGIN + 10), Offset(0)),
        Millis(BEGIN + 10)
    );
    assert_eq!(delays.take_due(Millis(BEGIN + 20), 9).len(), 1);
    assert_eq!(delays.add(Millis(BEGIN), Offset(1)), Millis(BEGIN + 10));
    let last = delays.last();
    // The next leader goes through the side log.
    let mut next = Delays::new(Millis(BEGIN + 20), last);
    for (due, at) in [(BEGIN + 10, 0), (BEGIN + 10, 1)] {
        next.replay(Entry {
            due: Millis(due),
            at: Offset(at),
        });
    }
    let taken = next.take_due(Millis(BEGIN + 20), 9);
    assert_eq!(
        taken.iter().map(|entry| entry.at.0).collect::<Vec<_>>(),
        [1]
    );
}

#[test]
fn what_is_cancelled_never_comes() {
    let mut delays = Delays::new(Millis(BEGIN), None);
    let entry = |at| Entry {
        due: Millis(BEGIN + 1_000),
        at: Offset(at),
    };
    (0..3).for_each(|at| {
        delays.add(entry(at).due, entry(at).at);
    });
    assert_eq!(delays.cancel(entry(1)), Cancelled::Yes);
    assert_eq!(delays.cancel(entry(1)), Cancelled::Before);
    let taken = delays.take_due(Millis(BEGIN + 1_000), 9);
    assert_eq!(taken, [entry(0), entry(2)]);
    assert_eq!(delays.cancel(entry(2)), Cancelled::TooLate);
}

#[test]
fn memory_follows_what_is_due_together_not_what_waits() {
    let mut delays = Delays::new(Millis(BEGIN), None);
    // A day's worth, ten a second and a thousand in one of them.
    let mut at = 0;
    let mut most = 0;
    for ms in (0..24 * HOUR).step_by(1_000).chain([7_300_000; 100]) {
        for _ in 0..10 {
            delays.add(Millis(BEGIN + ms), Offset(at));
            at += 1;
        }
        if at % 10_000 == 0 {
            delays.take_work();
        }
        most = most.max(delays.in_memory());
    }
    assert_eq!(delays.waiting(), at as u64);
    assert!(most <= 40, "{most} in memory");
    // With 16 bytes for each in memory, and some sixty for each bucket, ten million that are due within a second take 250 MB at most.
    assert!(
        delays.far.len() < 24 + 2 * 60 + 60,
        "{} buckets",
        delays.far.len()
    );
}

#[test]
fn what_a_leader_with_a_fast_clock_released_does_not_come_again() {
    let mut waiting = Waiting::new(Millis(BEGIN));
    let entry = |ahead, at| Entry {
        due: Millis(BEGIN + ahead),
        at: Offset(at),
    };
    for (ahead, at) in [(2 * HOUR, 0), (3 * HOUR, 1), (4 * HOUR, 2)] {
        waiting.replay(entry(ahead, at));
    }
    waiting.released_to(entry(3 * HOUR, 1));
    assert_eq!(waiting.floor(), Millis(BEGIN + 3 * HOUR));
    let taken = waiting.take_due(Millis(BEGIN + 5 * HOUR), 9);
    assert_eq!(taken, [entry(4 * HOUR, 2)]);
}

#[test]
fn ten_million_that_are_far_take_less_than_256_mib() {
    let mut waiting = Waiting::new(Millis(BEGIN));
    // A tenth of them here, spread over a year, as they come from many producers: neighbours are due hours apart.
    let count = 1_000_000_u64;
    for at in 0..count {
        let ahead = 10 * 60_000 + at * 7_919_000_003 % (365 * 24 * HOUR);
        waiting.add(Entry {
            due: Millis(BEGIN + ahead),
            at: Offset(i64::try_from(at).expect("small") * 3),
        });
    }
    assert_eq!(waiting.len(), count);
    let each = waiting.packed_bytes() as f64 / count as f64;
    assert!(each < 10.0, "{each} bytes each");
    assert_eq!(waiting.oldest(), Some(Offset(0)));
}

#[derive(Clone, Debug)]
enum Step {
    Add(u64),
    /// Time passes.
    Pass(u64),
    Take(usize),
    Work,
    Read(usize),
    Cancel(usize),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let far = prop_oneof![
        0..3_000_u64,
        0..200_000_u64,
        0..4 * HOUR,
        Just(5_000),
        Just(61_000)
    ];
    let pass = prop_oneof![0..500_u64, 0..5_000_u64, 0..100_000_u64, 0..2 * HOUR];
    let step = prop_oneof![
        8 => far.prop_map(Step::Add),
        4 => pass.prop_map(Step::Pass),
        6 => (0..5_usize).prop_map(Step::Take),
        6 => Just(Step::Work),
        6 => (0..10_usize).prop_map(Step::Read),
        1 => (0..50_usize).prop_map(Step::Cancel),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 0..250)
}

proptest! {
    #[test]
    fn nothing_is_early_lost_twice_or_out_of_order(steps in steps()) {
        let mut now = BEGIN;
        let mut delays = Delays::new(Millis(now), None);
        let mut files = Files::default();
        // What the side log has, what of it is to be released still, and what was.
        let mut log: Vec<Entry> = Vec::new();
        let mut waiting: BTreeSet<Entry> = BTreeSet::new();
        let mut cancelled: BTreeSet<Entry> = BTreeSet::new();
        let mut released: Vec<Entry> = Vec::new();
        for step in steps {
            match step {
                Step::Add(ahead) => {
                    let at = Offset(log.len() as i64);
                    let due = delays.add(Millis(now + ahead), at);
                    prop_assert!(due.0 >= now + ahead);
                    log.push(Entry { due, at });
                    waiting.insert(Entry { due, at });
                }
                Step::Pass(ms) => now += ms,
                Step::Take(count) => {
                    let taken = delays.take_due(Millis(now), count);
                    for entry in taken {
                        prop_assert!(entry.due.0 <= now, "early");
                        prop_assert_eq!(waiting.pop_first(), Some(entry), "out of order");
                        released.push(entry);
                    }
                }
                Step::Work => files.work(&mut delays),
                Step::Read(which) => files.read_one(&mut delays, which),
                Step::Cancel(which) => {
                    let Some(entry) = log.get(which).copied() else { continue };
                    match delays.cancel(entry) {
                        Cancelled::Yes => {
                            prop_assert!(waiting.remove(&entry));
                            cancelled.insert(entry);
                        }
                        Cancelled::Before => prop_assert!(cancelled.contains(&entry)),
                        // Or it was passed over since it was cancelled.
                        Cancelled::TooLate => prop_assert!(released.contains(&entry) || cancelled.contains(&entry)),
                    }
                }
                Step::Restart => {
                    // The next leader knows what is in the topic, and goes through the side log.
                    delays = Delays::new(Millis(now), released.last().copied());
                    files = Files::default();
                    log.iter().for_each(|entry| delays.replay(*entry));
                    cancelled.iter().for_each(|entry| { delays.cancel(*entry); });
                }
            }
        }
        let end = now + 5 * HOUR;
        let rest = files.take_all(&mut delays, end);
        prop_assert_eq!(rest, waiting.into_iter().collect::<Vec<_>>());
        prop_assert_eq!(delays.next_wake(), None);
    }

    #[test]
    fn what_is_packed_comes_as_it_went(
        messages in prop::collection::vec((0..40 * 24 * HOUR, 0..5_000_i64), 0..200),
        passes in prop::collection::vec((0..3 * HOUR, 1..50_usize), 0..60),
        restart in 0..60_usize,
    ) {
        let mut now = BEGIN;
        let mut waiting = Waiting::new(Millis(now));
        let mut at = 0;
        let mut log = Vec::new();
        for (ahead, step) in messages {
            at += step + 1;
            log.push(Entry { due: Millis(now + ahead), at: Offset(at) });
        }
        log.iter().for_each(|entry| waiting.add(*entry));
        let mut expected: BTreeSet<Entry> = log.iter().copied().collect();
        let mut last = None;
        for (number, (pass, count)) in passes.into_iter().enumerate() {
            now += pass;
            if number == restart {
                // The log is read again: what was released is said behind all of it.
                waiting = Waiting::new(Millis(now));
                log.iter().for_each(|entry| waiting.replay(*entry));
                last.into_iter().for_each(|last| waiting.released_to(last));
            }
            prop_assert_eq!(waiting.len(), expected.len() as u64);
            prop_assert_eq!(waiting.oldest(), expected.iter().map(|entry| entry.at).min());
            for entry in waiting.take_due(Millis(now), count) {
                prop_assert!(entry.due.0 <= now, "early");
                prop_assert_eq!(expected.pop_first(), Some(entry));
                last = Some(entry);
            }
            prop_assert!(waiting.next_due() <= expected.first().map(|entry| entry.due));
        }
        let rest = waiting.take_due(Millis(now + 41 * 24 * HOUR), usize::MAX);
        prop_assert_eq!(rest, expected.into_iter().collect::<Vec<_>>());
        prop_assert!(waiting.is_empty());
    }
}
