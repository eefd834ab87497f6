//! The windows of one share-partition: one, or one for each priority where its topic's messages have priorities.
//!
//! Each window is a [`SharePartition`] that goes through the log in order; to that of a level, messages of other levels are as gaps in the
//! log. So what is kept of a backlog, in memory and stored, follows what is out and what was settled out of its level's order, never
//! how the levels lie in the log. What always holds:
//!
//! - A record is in the window of its level, and nobody's in all others.
//! - One write is under way at a time for all windows, and has what each of them has gathered.
//! - The order of keys and the bound on giving up are the share-partition's, not a window's: they are lent to the window that acts.
//! - A topic without priorities pays for the look at an `Option`.
//!
//! Where messages have priorities the caller also tells of the levels of all that is in the log: see [`Windows::follow`].

mod levels;

use weir_wire::Offset;

use super::acknowledge::{AckBatch, AckError, check_form, pieces};
use super::acquire::{Acquire, Acquired};
use super::partition::{Departure, ShareConfig, SharePartition};
use super::retrying::{Dead, RetryConfig};
use super::told::Told;
use super::write::{LevelState, Restored, Ticket, Write, Written};
use crate::types::{MemberId, MonoMs};
use levels::ByLevel;
use weir_queues::priority::{Choice, Level};

/// Where something may be handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    window: usize,
    /// Nothing before it, and from the end of the window to where to read, is this window's to hand out.
    from: Offset,
    /// Where to read the log.
    pub read_from: Offset,
}

/// The windows of one share-partition. See the module.
#[derive(Clone, Debug)]
pub struct Windows {
    /// One, or that of each level, the least first.
    windows: Vec<SharePartition>,
    levels: Option<Box<ByLevel>>,
    /// The write that gathers.
    gathering: Ticket,
    is_writing: bool,
}

impl Windows {
    /// One window: in the order of the log.
    #[must_use]
    pub fn plain(config: ShareConfig, restored: Restored, is_ordered_by_key: bool) -> Self {
        Self::new(vec![ordered(
            SharePartition::restore(config, restored),
            is_ordered_by_key,
        )])
    }

    /// A window for each level. Levels of which nothing is stored begin with what is stored of all. Without a choice the oldest message
    /// comes first: for a topic whose messages have no priorities any more, until nothing is left of when they had.
    #[must_use]
    pub fn by_level(
        config: ShareConfig,
        restored: &Restored,
        is_ordered_by_key: bool,
        choice: Option<Choice>,
    ) -> Self {
        let start = restored.start.max(Offset(0));
        let windows = Level::all().map(|level| {
            let own = restored.levels.iter().find(|own| own.level == level);
            let (own_start, batches) = own.map_or((start, &restored.batches), |own| {
                (own.start.max(start), &own.batches)
            });
            let restored = Restored {
                state_epoch: restored.state_epoch,
                start: own_start,
                batches: batches.clone(),
                levels: Vec::new(),
            };
            ordered(SharePartition::restore(config, restored), is_ordered_by_key)
        });
        Self {
            levels: Some(Box::new(ByLevel::new(choice, start, is_ordered_by_key))),
            ..Self::new(windows.collect())
        }
    }

    fn new(windows: Vec<SharePartition>) -> Self {
        Self {
            windows,
            levels: None,
            gathering: Ticket(1),
            is_writing: false,
        }
    }

    /// Everything before it is done with, and how many records are from there on: with the end of the log they tell how far the group is behind. What
    /// is being stored counts as stored.
    pub fn standing(&mut self) -> (Offset, i32) {
        if let Some(levels) = &mut self.levels {
            return levels.standing(&self.windows);
        }
        let window = &self.windows[0];
        (window.start(), window.complete_count())
    }

    /// Where its window starts.
    #[must_use]
    pub fn start_at(&self, place: &Place) -> Offset {
        self.windows[place.window].start()
    }

    /// The start of a window is to be stored, whether or not anything is acknowledged.
    pub fn store_start(&mut self, place: &Place) {
        self.windows[place.window].store_start();
    }

    /// All starts are to be stored.
    pub fn store_starts(&mut self) {
        self.windows
            .iter_mut()
            .for_each(SharePartition::store_start);
    }

    /// Where to read the log for the next [`acquire`](Self::acquire): in the window that is next, or in that of a place, so that what comes behind
    /// is of the same level. Where messages have priorities only what lies before `end`, which is what may be read; otherwise perhaps behind
    /// it.
    pub fn next(&mut self, same_as: Option<&Place>, end: Offset) -> Option<Place> {
        let Some(levels) = &mut self.levels else {
            let from = self.windows[0].next_fetch()?;
            return Some(Place {
                window: 0,
                from,
                read_from: from,
            });
        };
        levels.next(&mut self.windows, same_as, end)
    }

    /// Hands out what is available at a place, of the batches that were read there. See [`SharePartition::acquire`].
    pub fn acquire(&mut self, place: &Place, want: Acquire<'_>, now: MonoMs) -> Vec<Acquired> {
        let from = place.from;
        let Some(levels) = &self.levels else {
            return self.windows[0].acquire(Acquire { from, ..want }, now);
        };
        let parts = levels.parts(place.window, want.batches);
        let want = Acquire {
            from,
            batches: &parts,
            ..want
        };
        let acquired = self.act(place.window, |window| window.acquire(want, now));
        if let Some(levels) = &mut self.levels {
            levels.handed_out(place.window, &acquired);
        }
        acquired
    }

    /// Takes what a member says. See [`SharePartition::acknowledge`].
    ///
    /// # Errors
    /// See [`AckError`]. Nothing took effect then.
    pub fn acknowledge(
        &mut self,
        member: &MemberId,
        batches: &[AckBatch],
        now: MonoMs,
    ) -> Result<Option<Ticket>, AckError> {
        let Some(levels) = &self.levels else {
            let written = self.windows[0].acknowledge(member, batches, now)?;
            return Ok(written.map(|_| self.gathering));
        };
        check_form(batches)?;
        let mut parts = Vec::new();
        for batch in batches {
            if batch.last >= levels.end() {
                return Err(AckError::NotFound);
            }
            for (first, last, kind) in pieces(batch, levels.start()) {
                for (first, last, window) in levels.by_window(first, last) {
                    let start = self.windows[window].start().0;
                    self.windows[window].check_range(member, first, last)?;
                    if last >= start {
                        parts.push((window, first.max(start), last, kind));
                    }
                }
            }
        }
        let mut is_written = false;
        for (window, first, last, kind) in parts {
            is_written |= self.act(window, |window| window.apply(first, last, kind, now));
        }
        Ok(is_written.then_some(self.gathering))
    }

    /// Everything before `log_start` is gone from the log.
    pub fn log_start_moved(&mut self, log_start: Offset) {
        self.each(|window| window.log_start_moved(log_start));
        if let Some(levels) = &mut self.levels {
            levels.log_start_moved(&self.windows, log_start);
        }
    }

    /// A member is gone. See [`SharePartition::release`].
    pub fn release(&mut self, member: &MemberId, departure: Departure, now: MonoMs) {
        self.each(|window| window.release(member, departure, now));
    }

    /// See [`SharePartition::take_back`].
    pub fn take_back(&mut self, member: &MemberId, first: Offset, last: Offset, now: MonoMs) {
        self.each(|window| window.take_back(member, first, last, now));
    }

    /// Everyone is gone.
    pub fn release_all(&mut self, now: MonoMs) {
        self.each(|window| window.release_all(now));
    }

    /// Takes back what is out too long, and lets go of what has waited long enough.
    pub fn tick(&mut self, now: MonoMs) {
        self.each(|window| window.tick(now));
    }

    /// When to call [`tick`](Self::tick) next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        let deadlines = self
            .windows
            .iter()
            .filter_map(SharePartition::next_deadline);
        deadlines.min()
    }

    /// Whether who waits may look again, since the last time.
    pub fn take_freed(&mut self) -> bool {
        let windows = self.windows.iter_mut();
        windows.fold(false, |freed, window| window.take_freed() | freed)
    }

    /// See [`SharePartition::take_expired`].
    pub fn take_expired(&mut self) -> u64 {
        let windows = self.windows.iter_mut();
        windows.map(SharePartition::take_expired).sum()
    }

    /// What has become of messages since the last time; with `gathers` it is gathered from now on, too.
    pub fn take_told(&mut self, gathers: bool) -> Vec<Told> {
        let windows = self.windows.iter_mut();
        windows
            .flat_map(|window| window.take_told(gathers))
            .collect()
    }

    /// See [`SharePartition::is_needed`].
    #[must_use]
    pub fn is_needed(&self) -> bool {
        self.windows.iter().any(SharePartition::is_needed)
    }

    /// How many messages wait for their time.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.windows.iter().map(SharePartition::parked).sum()
    }

    /// What the group asks for its retries from now on.
    pub fn retry_as(&mut self, config: Option<&RetryConfig>, now: MonoMs) {
        self.each(|window| window.retry_as(config.cloned(), now));
    }

    /// Whether there may be something to [take](Self::take_dead).
    #[must_use]
    pub fn has_dead(&self) -> bool {
        self.windows.iter().any(SharePartition::has_dead)
    }

    /// Records that are to become dead letters, and were not taken yet: those of the greatest level first, at most `count`.
    pub fn take_dead(&mut self, count: i64) -> Vec<Dead> {
        let mut taken: Vec<Dead> = Vec::new();
        let mut left = count;
        for window in self.windows.iter_mut().rev() {
            let some = window.take_dead(left);
            left -= some
                .iter()
                .map(|dead| dead.last.0 - dead.first.0 + 1)
                .sum::<i64>();
            taken.extend(some);
        }
        taken
    }

    /// Dead letters are written. See [`SharePartition::buried`].
    pub fn buried(&mut self, first: Offset, last: Offset) {
        self.each(|window| window.buried(first, last));
    }

    /// What is to be stored now, if anything is, and nothing is being stored.
    pub fn take_write(&mut self) -> Option<Write> {
        if self.is_writing {
            return None;
        }
        let mut writes = Vec::new();
        for (level, window) in Level::all().zip(&mut self.windows) {
            if let Some(write) = window.take_write() {
                writes.push((level, write));
            }
        }
        let ticket = self.gathering;
        let write = match &mut self.levels {
            None => Write {
                ticket,
                ..writes.pop()?.1
            },
            Some(levels) => {
                let state_epoch = writes.first()?.1.state_epoch;
                let (start, complete_count) = levels.standing(&self.windows);
                let states = writes.into_iter().map(|(level, write)| LevelState {
                    level,
                    start: write.start,
                    batches: write.batches,
                });
                Write {
                    ticket,
                    state_epoch,
                    start,
                    complete_count,
                    batches: Vec::new(),
                    levels: states.collect(),
                }
            }
        };
        self.gathering = Ticket(ticket.0 + 1);
        self.is_writing = true;
        Some(write)
    }

    /// Tells what became of the write under way.
    pub fn written(&mut self, outcome: Written) {
        self.is_writing = false;
        self.each(|window| window.written(outcome));
        if let Some(levels) = &mut self.levels {
            levels.forget_settled(&self.windows);
        }
    }

    fn each(&mut self, mut act: impl FnMut(&mut SharePartition)) {
        for window in 0..self.windows.len() {
            self.act(window, &mut act);
        }
    }

    /// Lets a window act, with what all have in common.
    fn act<T>(&mut self, window: usize, act: impl FnOnce(&mut SharePartition) -> T) -> T {
        let acting = &mut self.windows[window];
        let Some(levels) = &mut self.levels else {
            return act(acting);
        };
        levels.lend(acting);
        let result = act(acting);
        for key in levels.take_back(acting) {
            for window in &mut self.windows {
                window.let_oldest_go(&[key]);
            }
        }
        result
    }
}

fn ordered(window: SharePartition, is_ordered_by_key: bool) -> SharePartition {
    match is_ordered_by_key {
        true => window.in_order_of_keys(),
        false => window,
    }
}
