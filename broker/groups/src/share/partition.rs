//! One share-partition: what one group has out of one partition.
//!
//! Owns the window of records that are neither all done with (before its start) nor untouched (from its end on). What always
//! holds:
//!
//! - A record is out with one member at a time.
//! - It is handed out until it is acknowledged, rejected, or was handed out as often as the limit says.
//! - An acknowledgement takes effect when it is stored; until then the record stays where it is.
//! - The window holds at most [`ShareConfig::records_max`] records, whatever is asked; those that are done do not count where records wait
//!   for their time (`retrying`).
//!
//! The caller reads the log from [`SharePartition::next_fetch`] on and gives what it found to
//! [`SharePartition::acquire`]; hands acknowledgements to [`SharePartition::acknowledge`]; after either, stores what
//! [`SharePartition::take_write`] gives and tells the outcome with [`SharePartition::written`]; calls
//! [`SharePartition::tick`] at [`SharePartition::next_deadline`]. When [`SharePartition::take_freed`] says so, whoever waits
//! for records may look again. Someone who takes over later begins from what was stored.

use weir_queues::order::HeldKeys;
use weir_queues::retry::Failure;
use weir_wire::Offset;

use super::ordering::Order;
use super::overlay::{DeliveryState, Overlay, StateBatch};
use super::retrying::{Fate, Fates, Retrying};
use super::runs::{Letter, Run, Runs, State};
use super::told::Told;
use super::write::{Restored, Ticket, Written};
use crate::types::{MemberId, MonoMs};

/// The bounds of a share-partition, named after Kafka's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareConfig {
    /// `share.record.lock.duration.ms`: how long a member has a record before it is handed to another.
    pub lock_ms: u64,
    /// `group.share.delivery.count.limit`: a record that was handed out so often without being acknowledged is given up.
    pub deliveries_max: i16,
    /// `group.share.partition.max.record.locks`: records between the start and the end of the window, which bounds the memory
    /// of the window and of what is stored of it.
    pub records_max: i64,
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            lock_ms: 30_000,
            deliveries_max: 5,
            records_max: 2_000,
        }
    }
}

/// How a member went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It said so, after it had acknowledged what it took: what is left was never looked at, and its delivery does not count.
    Orderly,
    /// It is gone: what it had may be what it died of, so its delivery counts.
    Lost,
}

/// The state of one share-partition. See the module.
#[derive(Clone, Debug)]
pub struct SharePartition {
    pub(super) config: ShareConfig,
    pub(super) state_epoch: i32,
    /// Every record before it is done with.
    pub(super) start: i64,
    /// Nothing from here on was handed out yet.
    pub(super) end: i64,
    pub(super) runs: Runs,
    /// Nothing below is available.
    pub(super) hint: i64,
    /// No lock ends before it.
    pub(super) earliest_expiry: Option<MonoMs>,
    /// What is to be stored with the next write.
    pub(super) unsaved: Overlay,
    pub(super) has_unsaved: bool,
    /// The write that gathers.
    pub(super) gathering: Ticket,
    /// The write that is under way.
    pub(super) writing: Option<Ticket>,
    pub(super) freed: bool,
    /// Records that were passed over since they are too old, and were not asked for yet.
    pub(super) expired: u64,
    /// What a group asks beyond Kafka's.
    pub(super) retrying: Option<Box<Retrying>>,
    /// Which record of each key is next, where that counts.
    pub(super) order: Order,
    /// Which keys are out, lent by [`Windows`](super::Windows) where this is one of several windows.
    pub(super) held: Option<Box<HeldKeys>>,
    /// There may be some that is to become a dead letter and was not taken.
    pub(super) has_dead: bool,
    /// What the engine has done by itself, if anyone wants to know.
    pub(super) told: Option<Vec<Told>>,
}

impl SharePartition {
    /// A share-partition as it was stored. What lies between what was stored was out, or never there: it is looked at again.
    #[must_use]
    pub fn restore(config: ShareConfig, restored: Restored) -> Self {
        let Restored {
            state_epoch,
            start,
            batches,
            levels: _,
        } = restored;
        let start = start.0.max(0);
        let mut partition = Self {
            config,
            state_epoch,
            start,
            end: start,
            runs: Runs::default(),
            hint: start,
            earliest_expiry: None,
            unsaved: Overlay::default(),
            has_unsaved: false,
            gathering: Ticket(1),
            writing: None,
            freed: false,
            expired: 0,
            retrying: None,
            order: None,
            held: None,
            has_dead: false,
            told: None,
        };
        let mut stored: Overlay = batches.into_iter().collect();
        stored.drop_below(Offset(start));
        for batch in stored.batches() {
            partition.append_until(batch.first.0, State::Available { deliveries: 0 });
            let deliveries = batch.deliveries;
            let state = match batch.state {
                DeliveryState::Available => State::Available { deliveries },
                DeliveryState::Archiving => {
                    partition.has_dead = true;
                    State::Dead {
                        deliveries,
                        letter: Letter::Wanted,
                    }
                }
                DeliveryState::Acknowledged | DeliveryState::Archived => State::Done,
            };
            // An offset at the very end of what can be counted is not a record's.
            partition.append_until(batch.last.0.saturating_add(1), state);
        }
        partition.advance_start();
        partition
    }

    /// The start is to be stored, whether or not anything is acknowledged.
    pub fn store_start(&mut self) {
        self.has_unsaved = true;
    }

    /// The epoch of the stored state; it changes when the group's offsets are set from outside.
    #[must_use]
    pub fn state_epoch(&self) -> i32 {
        self.state_epoch
    }

    /// Every record before it is done with.
    #[must_use]
    pub fn start(&self) -> Offset {
        Offset(self.start)
    }

    /// Nothing from here on was handed out yet.
    #[must_use]
    pub fn end(&self) -> Offset {
        Offset(self.end)
    }

    /// Replaces the bounds; locks that are held keep their time.
    pub fn reconfigure(&mut self, config: ShareConfig) {
        self.freed |= config.records_max > self.config.records_max;
        self.config = config;
    }

    /// How long a lock lasts.
    #[must_use]
    pub fn lock_ms(&self) -> u64 {
        self.config.lock_ms
    }

    /// Where to read the log for the next [`acquire`](Self::acquire): the first record that may be handed out. `None` while the
    /// window is full and all of it is out.
    pub fn next_fetch(&mut self) -> Option<Offset> {
        let hint = self.hint;
        let available = self
            .runs
            .states_from(hint)
            .find(|(_, last, state)| *last >= hint && matches!(state, State::Available { .. }));
        let next = available.map_or(self.end, |(first, _, _)| first.max(hint));
        self.hint = next;
        (next < self.end || self.room() > 0).then_some(Offset(next))
    }

    /// Everything before `log_start` is gone from the log.
    pub fn log_start_moved(&mut self, log_start: Offset) {
        if log_start.0 <= self.start {
            return;
        }
        self.freed |= self.room() <= 0;
        self.runs.drop_below(log_start.0);
        if let Some(retrying) = &mut self.retrying {
            retrying.drop_below(log_start.0);
        }
        self.forget_order_below(log_start.0);
        self.start = log_start.0;
        self.end = self.end.max(self.start);
        self.hint = self.hint.max(self.start);
        self.has_unsaved = true;
        self.advance_start();
    }

    /// A member is gone: what it had may be handed out again.
    pub fn release(&mut self, member: &MemberId, departure: Departure, now: MonoMs) {
        self.give_back(|state| state.is_held_by(member), departure, now);
    }

    /// Records that were handed to a member which was gone before it could hear of them: that delivery does not count.
    pub fn take_back(&mut self, member: &MemberId, first: Offset, last: Offset, now: MonoMs) {
        let mut unseen = self.runs.within(first.0..=last.0);
        unseen.retain(|run| run.state.is_held_by(member));
        self.give_back_all(unseen, Departure::Orderly, now);
    }

    /// Everyone is gone: for a leader that steps down in order.
    pub fn release_all(&mut self, now: MonoMs) {
        let held = |state: &State| matches!(state, State::Acquired { becoming: None, .. });
        self.give_back(held, Departure::Lost, now);
    }

    /// Takes back what is out too long, and lets go of what has waited long enough.
    pub fn tick(&mut self, now: MonoMs) {
        self.unpark(now);
        if self.earliest_expiry.is_none_or(|at| at > now) {
            return;
        }
        let expired = |state: &State| matches!(state, State::Acquired { until, becoming: None, .. } if *until <= now);
        self.give_back(expired, Departure::Lost, now);
        let locks = self.runs.states().filter_map(|(_, _, state)| match state {
            State::Acquired {
                until,
                becoming: None,
                ..
            } => Some(*until),
            _ => None,
        });
        self.earliest_expiry = locks.min();
    }

    /// When to call [`tick`](Self::tick) next. Never later than the next lock ends or the next record's time comes, sometimes earlier.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        let due = self.retrying.as_ref().and_then(|parked| parked.next_due());
        self.earliest_expiry.into_iter().chain(due).min()
    }

    /// How many records were passed over since the last time because they are too old ([`Content::TooOld`](super::Content)); each once.
    pub fn take_expired(&mut self) -> u64 {
        std::mem::take(&mut self.expired)
    }

    /// Whether records, or room for more of them, have come since the last time: who waits may look again.
    pub fn take_freed(&mut self) -> bool {
        std::mem::take(&mut self.freed)
    }

    /// Whether anything is out.
    #[must_use]
    pub fn has_acquired(&self) -> bool {
        self.runs
            .states()
            .any(|(_, _, state)| matches!(state, State::Acquired { .. }))
    }

    /// Records from the start on that are done with, or were none: with the start they tell how far the group is behind.
    #[must_use]
    pub fn complete_count(&self) -> i32 {
        let over = self.runs.states().filter(|(_, _, state)| state.is_over());
        let count: i64 = over.map(|(first, last, _)| last - first + 1).sum();
        i32::try_from(count).unwrap_or(i32::MAX)
    }

    /// Where it starts, and how many records in it are not done with, once all that is on its way is stored.
    pub(super) fn will_be(&self) -> (i64, u64) {
        let open = self.runs.states();
        let mut open = open.filter(|(_, _, state)| !state.will_be_over());
        let Some((start, last, _)) = open.next() else {
            return (self.end, 0);
        };
        let rest: u64 = open.map(|(first, last, _)| last.abs_diff(first) + 1).sum();
        (start, rest + last.abs_diff(start) + 1)
    }

    /// None of these is a record of this window, whatever was stored of them.
    pub(super) fn leave_out(&mut self, first: i64, last: i64) {
        for run in self
            .runs
            .within(first.max(self.start)..=last.min(self.end - 1))
        {
            self.runs.set(run.first, run.last, State::Nothing);
        }
    }

    /// How many more records the window takes.
    pub(super) fn room(&self) -> i64 {
        if let Some(retrying) = &self.retrying {
            let open = self.runs.states().filter(|(_, _, state)| !state.is_over());
            let open = open.map(|(first, last, _)| last - first + 1).sum();
            return retrying.room(self.config.records_max, open, self.end - self.start);
        }
        let nothing = self
            .runs
            .states()
            .filter(|(_, _, state)| **state == State::Nothing);
        let nothing: i64 = nothing.map(|(first, last, _)| last - first + 1).sum();
        self.config.records_max - (self.end - self.start - nothing)
    }

    /// Makes `[end, until)` part of the window.
    pub(super) fn append_until(&mut self, until: i64, state: State) {
        if until > self.end {
            self.runs.set(self.end, until - 1, state);
            self.end = until;
        }
    }

    /// Moves the start over everything that is done with.
    pub(super) fn advance_start(&mut self) {
        let is_full = self.room() <= 0;
        let next = self
            .runs
            .states()
            .find(|(_, _, state)| !state.is_over())
            .map_or(self.end, |(first, _, _)| first);
        if next > self.start {
            self.start = next;
            self.runs.drop_below(next);
            self.hint = self.hint.max(next);
            self.freed |= is_full;
        }
    }

    /// Hands back every run that `which` names, at once; that it was is stored with the next write.
    fn give_back(&mut self, which: impl Fn(&State) -> bool, departure: Departure, now: MonoMs) {
        let held = self.runs.iter().filter(|run| which(&run.state)).collect();
        self.give_back_all(held, departure, now);
    }

    fn give_back_all(&mut self, held: Vec<Run>, departure: Departure, now: MonoMs) {
        for run in held {
            let State::Acquired { deliveries, .. } = run.state else {
                continue;
            };
            let range = (run.first, run.last);
            let (fates, deliveries) = match departure {
                Departure::Orderly => {
                    let fates = Fates::alike(range, DeliveryState::Available);
                    (fates, deliveries - 1)
                }
                Departure::Lost => {
                    let fates = self.fates(Failure::Released, range, deliveries, now);
                    (fates, deliveries)
                }
            };
            self.has_unsaved = true;
            for (first, last, Fate { state, due }) in fates {
                let batch = StateBatch {
                    first: Offset(first),
                    last: Offset(last),
                    state,
                    deliveries,
                };
                self.unsaved.put(self.stored_as(batch));
                self.tell_returned(batch, due);
                self.enter(batch, due, Letter::Unstored(self.gathering));
            }
        }
        self.advance_start();
    }

    /// A stored, or storable, state takes effect; of a record that is handed out again not before it is due. How far the letter is, of one that is to become a
    /// dead letter.
    pub(super) fn enter(&mut self, batch: StateBatch, due: Option<MonoMs>, letter: Letter) {
        self.tell_of(batch, due);
        let state = match batch.state {
            DeliveryState::Available if due.is_some() && self.retrying.is_some() => {
                return self.park(batch, due.unwrap_or_default());
            }
            DeliveryState::Archiving => {
                self.has_dead |= letter == Letter::Wanted;
                State::Dead {
                    deliveries: batch.deliveries,
                    letter,
                }
            }
            DeliveryState::Available => {
                self.freed = true;
                self.hint = self.hint.min(batch.first.0);
                State::Available {
                    deliveries: batch.deliveries,
                }
            }
            DeliveryState::Acknowledged | DeliveryState::Archived => State::Done,
        };
        let is_done = state == State::Done;
        self.runs.set(batch.first.0, batch.last.0, state);
        if is_done {
            if self.retrying.is_some() {
                self.absorb(batch);
            }
            self.let_next_go(batch.first.0, batch.last.0);
        }
    }

    /// Tells what became of the write under way. See [`Written`].
    pub fn written(&mut self, outcome: Written) {
        self.settle(outcome);
    }
}
