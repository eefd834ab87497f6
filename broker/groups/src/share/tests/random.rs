//! Random lives of a share-partition, held against the model and against what members may expect.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use weir_queues::order::KeyHash;
use weir_queues::retry::Backoffs;

use super::model::Model;
use super::*;
use crate::share::Dead;
use crate::share::partition::Departure;
use crate::share::write::Write;

const MEMBERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    Acquire {
        member: usize,
        records_max: i64,
        batch_size: i64,
        is_strict: bool,
        reach: usize,
    },
    /// What it has, from a place on, in ways.
    Acknowledge {
        member: usize,
        skip: usize,
        ways: Vec<i8>,
    },
    /// Offsets as they come, whoever has them.
    Guess {
        member: usize,
        first: i64,
        ways: Vec<i8>,
    },
    Leave(usize, bool),
    Wait(u64),
    Write(bool),
    Retain(i64),
    Crash,
    /// Takes so many that are to become dead letters; those taken before are buried.
    Bury(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let member = 0..MEMBERS;
    let ways = || proptest::collection::vec(0i8..=4, 1..6);
    let step = prop_oneof![
        8 => (member.clone(), 1i64..12, 1i64..8, any::<bool>(), 1usize..5).prop_map(
            |(member, records_max, batch_size, is_strict, reach)| Step::Acquire {
                member, records_max, batch_size, is_strict, reach
            }
        ),
        8 => (member.clone(), 0usize..6, ways()).prop_map(|(member, skip, ways)| Step::Acknowledge { member, skip, ways }),
        2 => (member.clone(), 0i64..60, ways()).prop_map(|(member, first, ways)| Step::Guess { member, first, ways }),
        1 => (member, any::<bool>()).prop_map(|(member, orderly)| Step::Leave(member, orderly)),
        3 => (0u64..700).prop_map(Step::Wait),
        8 => proptest::bool::weighted(0.8).prop_map(Step::Write),
        1 => (0i64..40).prop_map(Step::Retain),
        1 => Just(Step::Crash),
        4 => (0usize..8).prop_map(Step::Bury),
    ];
    proptest::collection::vec(step, 1..150)
}

/// A log: lengths of batches, gaps before them, and whether they are for consumers.
fn logs() -> impl Strategy<Value = Vec<Fetched>> {
    let one = (
        1i64..7,
        prop_oneof![4 => Just(0i64), 1 => 1i64..5],
        proptest::bool::weighted(0.8),
    );
    proptest::collection::vec(one, 1..60).prop_map(|parts| {
        let mut next = 0;
        let batches = parts.into_iter().map(|(len, gap, has_records)| {
            let base = next + gap;
            next = base + len;
            Fetched {
                content: match has_records {
                    true => Content::Records,
                    false => Content::Nothing,
                },
                ..batch(base, next - 1)
            }
        });
        batches.collect()
    })
}

/// The same, where each record has one of a few keys, or none.
fn logs_of_keys() -> impl Strategy<Value = Vec<Fetched>> {
    let keys = proptest::collection::vec(proptest::option::of(0u64..4), 60);
    (logs(), keys).prop_map(|(log, keys)| {
        let records = log.into_iter().flat_map(|found| {
            let is_one = found.content == Content::Records;
            let offsets = found.base.0..=found.last.0;
            let whole = (!is_one).then_some(found);
            let each = is_one.then_some(offsets).into_iter().flatten();
            whole.into_iter().chain(each.map(|at| batch(at, at)))
        });
        let keyed = records.zip(keys.into_iter().cycle());
        let keyed = keyed.map(|(found, key)| Fetched {
            key: key
                .filter(|_| found.content == Content::Records)
                .map(KeyHash),
            ..found
        });
        keyed.collect()
    })
}

struct Life {
    log: Vec<Fetched>,
    members: Vec<MemberId>,
    partition: SharePartition,
    model: Model,
    now: u64,
    /// What was acknowledged for good, and stored.
    done: BTreeSet<i64>,
    /// The write that is under way.
    writing: Option<Write>,
    retry: Option<RetryConfig>,
    /// Dead letters that are being written.
    burying: Vec<Dead>,
    is_ordered: bool,
}

/// None in half of the lives: a plain group.
fn retries() -> impl Strategy<Value = Option<RetryConfig>> {
    let backoffs = prop_oneof![Just(""), Just("300"), Just("100,900")];
    let rate = proptest::option::of(0u64..20);
    let retry = (backoffs, rate, any::<bool>()).prop_map(|(backoffs, rate, has_dead_letters)| {
        RetryConfig {
            backoffs: Backoffs::parse(backoffs).unwrap(),
            given_up_max: rate,
            has_dead_letters,
        }
    });
    proptest::option::of(retry)
}

impl Life {
    fn new(log: Vec<Fetched>, retry: Option<RetryConfig>) -> Self {
        let is_ordered = log.iter().any(|batch| batch.key.is_some());
        let mut partition = match is_ordered {
            true => fresh().in_order_of_keys(),
            false => fresh(),
        };
        partition.retry_as(retry.clone(), MonoMs(0));
        let mut model = Model::new(retry.as_ref(), 0);
        model.order = is_ordered.then(BTreeMap::new);
        Self {
            log,
            members: (0..MEMBERS).map(|n| member(&format!("m{n}"))).collect(),
            partition,
            model,
            is_ordered,
            retry,
            burying: Vec::new(),
            now: 0,
            done: BTreeSet::new(),
            writing: None,
        }
    }

    fn acquire(&mut self, who: usize, (max, size, strict): (i64, i64, bool), reach: usize) {
        let Some(from) = self.partition.next_fetch() else {
            return;
        };
        let mode = if strict {
            AcquireMode::RecordLimit
        } else {
            AcquireMode::BatchOptimized
        };
        let first = self.log.partition_point(|batch| batch.last < from);
        let read: Vec<_> = self.log[first..].iter().take(reach).copied().collect();
        let want = Acquire {
            member: &self.members[who],
            records_max: max,
            batch_size: size,
            mode,
            from,
            batches: &read,
        };
        let ranges = self.partition.acquire(want, MonoMs(self.now));
        let expected = self
            .model
            .acquire(who, (max, mode), from.0, &read, self.now);
        let mut got = BTreeMap::new();
        let mut before = -1;
        for range in &ranges {
            assert!(
                before < range.first.0 && range.first <= range.last,
                "{ranges:?}"
            );
            before = range.last.0;
            for offset in range.first.0..=range.last.0 {
                got.insert(offset, range.deliveries);
                assert!(!self.done.contains(&offset), "{offset} was done with");
                // More often only where the breaker has it wait.
                let is_bounded = self
                    .retry
                    .as_ref()
                    .is_none_or(|retry| retry.given_up_max.is_none());
                assert!(!is_bounded || range.deliveries <= CONFIG.deliveries_max);
            }
        }
        assert_eq!(got, expected);
        self.one_of_each_key_is_out();
        if strict {
            assert!(i64::try_from(got.len()).unwrap() <= max);
        }
    }

    /// Beside the model: the promise itself.
    fn one_of_each_key_is_out(&self) {
        let key_of = |offset: i64| {
            let found = self.log.iter().find(|found| found.base.0 == offset);
            found.and_then(|found| found.key)
        };
        let mut out = BTreeSet::new();
        for run in self.partition.runs.iter() {
            if matches!(run.state, crate::share::runs::State::Acquired { .. }) {
                for key in (run.first..=run.last).filter_map(key_of) {
                    assert!(out.insert(key), "two of {key:?} are out");
                }
            }
        }
    }

    fn acknowledge(&mut self, who: usize, first: i64, ways: &[i8]) {
        let types: Vec<_> = ways
            .iter()
            .map(|way| AckType::from_id(*way).unwrap())
            .collect();
        let last = first + i64::try_from(types.len()).unwrap() - 1;
        let said = (first..).zip(types.iter().copied()).collect();
        let batch = AckBatch {
            first: Offset(first),
            last: Offset(last),
            types,
        };
        let answer = self
            .partition
            .acknowledge(&self.members[who], &[batch], MonoMs(self.now));
        let allowed = self.model.acknowledge(who, &said, self.now);
        assert_eq!(answer.is_ok(), allowed, "{answer:?}");
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Acquire {
                member,
                records_max,
                batch_size,
                is_strict,
                reach,
            } => {
                self.acquire(member, (records_max, batch_size, is_strict), reach);
            }
            Step::Acknowledge { member, skip, ways } => {
                if let Some(first) = self.model.held_by(member).get(skip) {
                    self.acknowledge(member, *first, &ways);
                }
            }
            Step::Guess {
                member,
                first,
                ways,
            } => self.acknowledge(member, first, &ways),
            Step::Leave(who, is_orderly) => {
                let departure = if is_orderly {
                    Departure::Orderly
                } else {
                    Departure::Lost
                };
                let now = self.now;
                self.partition
                    .release(&self.members[who], departure, MonoMs(now));
                self.model
                    .give_back(|holder, _| holder == who, departure, now);
            }
            Step::Wait(ms) => {
                self.now += ms;
                let now = self.now;
                self.partition.tick(MonoMs(now));
                self.model.unpark(now);
                self.model
                    .give_back(|_, until| until <= now, Departure::Lost, now);
            }
            Step::Write(is_stored) => self.write(is_stored),
            Step::Retain(at) => {
                self.partition.log_start_moved(Offset(at));
                self.model.log_start(at);
            }
            Step::Crash => {
                self.model.crash(self.now);
                let (start, stored) = &self.model.stored;
                let batches =
                    stored
                        .iter()
                        .map(|(at, (state, deliveries))| crate::share::StateBatch {
                            first: Offset(*at),
                            last: Offset(*at),
                            state: *state,
                            deliveries: *deliveries,
                        });
                let restored = Restored {
                    state_epoch: 0,
                    start: Offset(*start),
                    batches: batches.collect(),
                    levels: Vec::new(),
                };
                self.partition = SharePartition::restore(CONFIG, restored);
                if self.is_ordered {
                    self.partition = self.partition.clone().in_order_of_keys();
                }
                self.partition
                    .retry_as(self.retry.clone(), MonoMs(self.now));
                // It may have come through or not; here it has not.
                self.writing = None;
                self.burying.clear();
            }
            Step::Bury(count) => self.bury(count),
        }
    }

    fn bury(&mut self, count: usize) {
        for dead in std::mem::take(&mut self.burying) {
            self.partition.buried(dead.first, dead.last);
            for offset in dead.first.0..=dead.last.0 {
                self.model.buried(offset);
            }
        }
        self.burying = self.partition.take_dead(i64::try_from(count).unwrap());
        let mut taken = BTreeMap::new();
        for dead in &self.burying {
            let offsets = dead.first.0..=dead.last.0;
            taken.extend(offsets.map(|offset| (offset, dead.deliveries)));
        }
        assert_eq!(taken, self.model.take_dead(count));
    }

    /// Begins a write, or ends the one under way.
    fn write(&mut self, is_stored: bool) {
        if let Some(write) = self.writing.take() {
            return self.written(&write, is_stored);
        }
        let would_be = self.model.as_if_stored();
        let Some(write) = self.partition.take_write() else {
            assert!(
                self.model.unsaved.is_empty(),
                "{:?} are to be stored",
                self.model.unsaved
            );
            return;
        };
        assert_eq!((write.start.0, i64::from(write.complete_count)), would_be);
        let unsaved = std::mem::take(&mut self.model.unsaved).split_off(&write.start.0);
        let mut told = BTreeMap::new();
        for batch in &write.batches {
            for offset in batch.first.0..=batch.last.0 {
                let said = (batch.state, batch.deliveries);
                assert_eq!(told.insert(offset, said), None, "batches overlap");
            }
        }
        assert_eq!(told, unsaved);
        self.model.gathering += 1;
        self.writing = Some(write);
    }

    fn written(&mut self, write: &Write, is_stored: bool) {
        let outcome = if is_stored {
            Written::Stored
        } else {
            Written::Failed
        };
        self.partition.written(outcome);
        self.model.settle(write, is_stored);
        if is_stored {
            self.done.extend(0..write.start.0);
            for batch in write.batches.iter().filter(|batch| batch.state.is_final()) {
                self.done.extend(batch.first.0..=batch.last.0);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn the_engine_does_what_a_state_for_each_record_would(log in prop_oneof![logs(), logs_of_keys()], retry in retries(), steps in steps()) {
        let mut life = Life::new(log, retry);
        for step in steps {
            life.step(step);
            life.model.check(&mut life.partition, &life.members);
        }
    }
}
