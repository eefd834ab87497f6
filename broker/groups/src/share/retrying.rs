//! What becomes of records that nobody acknowledged, where a group asks for more than Kafka's: a wait before each further delivery, a dead letter
//! before a record is given up, and a bound on how fast records are given up ([`weir_queues::retry`] decides).
//!
//! Owns which records wait for their time, and which are to become dead letters. What always holds:
//!
//! - What waits is in the window, available to nobody, and holds nobody up: records that are done behind it take no room.
//! - What is to become a dead letter ([`DeliveryState::Archiving`]) is never handed out again, and is not done before
//!   [`SharePartition::buried`] was called for it: the window does not pass it. No letter is written before that is stored, so whoever takes over
//!   finds it again, and hands nothing out that has a letter.
//! - A group that asks for none of it pays for the look at an `Option`.

use std::iter::{Chain, Once, once};
use std::vec;

use weir_queues::Millis;
use weir_queues::dead_letter::Reason;
use weir_queues::retry::{Backoffs, Breaker, Failure, Next, Parked, Policy};
use weir_wire::Offset;

use super::overlay::{DeliveryState, StateBatch};
use super::partition::SharePartition;
use super::runs::{Letter, State};
use crate::types::MonoMs;

/// Records of a window that are not done, where those that are done take no room: what is stored of a window has at most two batches for
/// each of these, and a state takes 20,000.
const OPEN_MAX: i64 = 8_000;
/// Records between the start and the end of such a window: how many are done is stored in 31 bits.
const SPAN_MAX: i64 = 1 << 30;

/// What a group asks for its retries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RetryConfig {
    /// `weir.share.retry.backoff.ms`.
    pub backoffs: Backoffs,
    /// `weir.share.deadletter.rate.max`: records that are given up in a minute, at most.
    pub given_up_max: Option<u64>,
    /// Whether what is given up becomes a dead letter first.
    pub has_dead_letters: bool,
}

/// Records that are to become dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dead {
    /// The first.
    pub first: Offset,
    /// The last.
    pub last: Offset,
    /// How often these were handed out.
    pub deliveries: i16,
    /// Why they are given up.
    pub reason: Reason,
}

/// What becomes of a record, and when if not at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fate {
    pub(super) state: DeliveryState,
    /// Of one that is tried again: not before.
    pub(super) due: Option<MonoMs>,
}

impl Fate {
    pub(super) const fn now(state: DeliveryState) -> Self {
        Self { state, due: None }
    }
}

/// What becomes of the records of a range: parts, in order. Most ranges are one, which takes no allocation.
pub(super) struct Fates {
    first: (i64, i64, Fate),
    rest: Vec<(i64, i64, Fate)>,
}

impl Fates {
    /// The same for all of them, at once.
    pub(super) fn alike((first, last): (i64, i64), state: DeliveryState) -> Self {
        Self {
            first: (first, last, Fate::now(state)),
            rest: Vec::new(),
        }
    }

    fn push(&mut self, offset: i64, fate: Fate) {
        match self.rest.last_mut().unwrap_or(&mut self.first) {
            before if before.2 == fate => before.1 = offset,
            _ => self.rest.push((offset, offset, fate)),
        }
    }
}

impl IntoIterator for Fates {
    type Item = (i64, i64, Fate);
    type IntoIter = Chain<Once<Self::Item>, vec::IntoIter<Self::Item>>;

    fn into_iter(self) -> Self::IntoIter {
        once(self.first).chain(self.rest)
    }
}

/// The part of a share-partition that a plain group does not have.
#[derive(Clone, Debug)]
pub(super) struct Retrying {
    config: RetryConfig,
    breaker: Breaker,
    parked: Parked,
}

impl Retrying {
    /// How many more records the window takes.
    pub(super) fn room(&self, records_max: i64, open: i64, span: i64) -> i64 {
        (records_max.min(OPEN_MAX) - open).min(SPAN_MAX - span)
    }

    pub(super) fn next_due(&self) -> Option<MonoMs> {
        self.parked.next_due().map(|due| MonoMs(due.0))
    }

    pub(super) fn drop_below(&mut self, start: i64) {
        self.parked.drop_below(Offset(start));
    }

    fn fate(
        &mut self,
        failure: Failure,
        deliveries: i16,
        deliveries_max: i16,
        now: MonoMs,
    ) -> Fate {
        let policy = Policy {
            backoffs: std::mem::take(&mut self.config.backoffs),
            deliveries_max,
        };
        let next = policy.after(failure, deliveries, &mut self.breaker, Millis(now.0));
        self.config.backoffs = policy.backoffs;
        match next {
            Next::Retry(at) => Fate {
                state: DeliveryState::Available,
                due: (at.0 > now.0).then_some(MonoMs(at.0)),
            },
            Next::GiveUp(_) if self.config.has_dead_letters => Fate::now(DeliveryState::Archiving),
            Next::GiveUp(_) => Fate::now(DeliveryState::Archived),
        }
    }
}

impl SharePartition {
    /// How fast records may still be given up, where a group asks for that.
    pub(super) fn breaker(&mut self) -> Option<&mut Breaker> {
        self.retrying.as_mut().map(|retrying| &mut retrying.breaker)
    }

    /// What the group asks for its retries from now on; what waits keeps its time, unless nothing is asked any more.
    pub fn retry_as(&mut self, config: Option<RetryConfig>, now: MonoMs) {
        let at = Millis(now.0);
        match (config, &mut self.retrying) {
            (Some(config), Some(retrying)) => {
                retrying.breaker.set_rate(config.given_up_max, at);
                retrying.config = config;
            }
            (Some(config), None) => {
                self.retrying = Some(Box::new(Retrying {
                    breaker: Breaker::new(config.given_up_max, at),
                    parked: Parked::default(),
                    config,
                }));
            }
            (None, Some(_)) => {
                self.unpark(MonoMs(u64::MAX));
                self.retrying = None;
            }
            (None, None) => {}
        }
    }

    /// Whether there may be something to [take](Self::take_dead).
    #[must_use]
    pub fn has_dead(&self) -> bool {
        self.has_dead
    }

    /// Records that are to become dead letters, and were not taken yet: oldest first, at most `count`.
    pub fn take_dead(&mut self, count: i64) -> Vec<Dead> {
        if !std::mem::take(&mut self.has_dead) {
            return Vec::new();
        }
        let (mut taken, mut left) = (Vec::new(), count);
        for run in self.runs.within(self.start..=self.end - 1) {
            let State::Dead {
                deliveries,
                letter: Letter::Wanted,
            } = run.state
            else {
                continue;
            };
            if left <= 0 {
                self.has_dead = true;
                break;
            }
            let last = run.last.min(run.first + left - 1);
            self.has_dead |= last < run.last;
            left -= last - run.first + 1;
            let dead = State::Dead {
                deliveries,
                letter: Letter::Taken,
            };
            self.runs.set(run.first, last, dead);
            taken.push(Dead {
                first: Offset(run.first),
                last: Offset(last),
                deliveries,
                reason: if deliveries >= self.config.deliveries_max {
                    Reason::DeliveryLimit
                } else {
                    Reason::Rejected
                },
            });
        }
        taken
    }

    /// The dead letters of these are written, or nobody wants them: the records are done. That they are is stored with the next write.
    pub fn buried(&mut self, first: Offset, last: Offset) {
        for run in self
            .runs
            .within(first.0.max(self.start)..=last.0.min(self.end - 1))
        {
            let State::Dead { deliveries, .. } = run.state else {
                continue;
            };
            let batch = self.stored_as(StateBatch {
                first: Offset(run.first),
                last: Offset(run.last),
                state: DeliveryState::Archived,
                deliveries,
            });
            self.unsaved.put(batch);
            self.has_unsaved = true;
            self.enter(batch, None, Letter::Taken);
        }
        self.advance_start();
    }

    /// What becomes of records that were handed out so often.
    pub(super) fn fates(
        &mut self,
        failure: Failure,
        (first, last): (i64, i64),
        deliveries: i16,
        now: MonoMs,
    ) -> Fates {
        let deliveries_max = self.config.deliveries_max;
        let Some(retrying) = &mut self.retrying else {
            let is_over = failure == Failure::Rejected || deliveries >= deliveries_max;
            let state = match is_over {
                true => DeliveryState::Archived,
                false => DeliveryState::Available,
            };
            return Fates::alike((first, last), state);
        };
        let mut fate = || retrying.fate(failure, deliveries, deliveries_max, now);
        let mut fates = Fates {
            first: (first, first, fate()),
            rest: Vec::new(),
        };
        // One by one: the breaker may let some of them go.
        for offset in first + 1..=last {
            fates.push(offset, fate());
        }
        fates
    }

    /// As a state is stored: of what is done nothing else counts, so that it takes one batch however much of it lies behind a record that
    /// waits.
    pub(super) fn stored_as(&self, batch: StateBatch) -> StateBatch {
        if self.retrying.is_none() || !batch.state.is_final() {
            return batch;
        }
        StateBatch {
            state: DeliveryState::Acknowledged,
            deliveries: 0,
            ..batch
        }
    }

    /// What is no record beside what is done is as good as done, in memory and in what is stored: markers of transactions would
    /// otherwise divide what lies behind a record that waits into any number of pieces.
    pub(super) fn absorb(&mut self, done: StateBatch) {
        let (first, last) = (done.first.0, done.last.0);
        let before = self.runs.states_from(first - 1).next();
        let before = before
            .filter(|(_, end, state)| *end == first - 1 && **state == State::Nothing)
            .map(|(begin, end, _)| (begin, end));
        let after = self.runs.states_from(last + 1).next();
        let after = after
            .filter(|(begin, _, state)| *begin == last + 1 && **state == State::Nothing)
            .map(|(begin, end, _)| (begin, end));
        for (first, last) in before.into_iter().chain(after) {
            self.runs.set(first, last, State::Done);
            self.has_unsaved = true;
            self.unsaved.put(StateBatch {
                first: Offset(first),
                last: Offset(last),
                state: DeliveryState::Acknowledged,
                deliveries: 0,
            });
        }
    }

    /// Lets records wait.
    pub(super) fn park(&mut self, batch: StateBatch, due: MonoMs) {
        let Some(retrying) = &mut self.retrying else {
            return;
        };
        for offset in batch.first.0..=batch.last.0 {
            retrying.parked.park(Offset(offset), Millis(due.0));
        }
        let deliveries = batch.deliveries;
        self.runs
            .set(batch.first.0, batch.last.0, State::Parked { deliveries });
    }

    /// Records whose time has come may be handed out.
    pub(super) fn unpark(&mut self, now: MonoMs) {
        let Some(retrying) = &mut self.retrying else {
            return;
        };
        for offset in retrying.parked.take_due(Millis(now.0), usize::MAX) {
            for run in self.runs.within(offset.0..=offset.0) {
                if let State::Parked { deliveries } = run.state {
                    self.runs
                        .set(run.first, run.last, State::Available { deliveries });
                    self.hint = self.hint.min(run.first);
                    self.freed = true;
                }
            }
        }
    }

    /// Whether members have records, or records wait for their time, or to become dead letters: what is known here alone.
    #[must_use]
    pub fn is_needed(&self) -> bool {
        let is_out = |(_, _, state): (i64, i64, &State)| match state {
            State::Acquired { .. } => true,
            State::Dead { .. } => self.retrying.is_some(),
            _ => false,
        };
        self.parked() > 0 || self.runs.states().any(is_out)
    }

    /// How many records wait for their time.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.retrying
            .as_ref()
            .map_or(0, |retrying| retrying.parked.len())
    }
}
