//! What windows have in common where messages have priorities: the levels of what is in the log, whose turn it is, and how much is unsettled.

use std::array;

use weir_queues::order::{HeldKeys, KeyHash};
use weir_queues::priority::{Choice, LEVELS, Level, Levels, Turns};
use weir_queues::retry::Breaker;
use weir_wire::Offset;

use super::{Place, Windows};
use crate::share::acquire::{Acquired, Content, Fetched};
use crate::share::partition::SharePartition;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct ByLevel {
    /// `None`: the oldest first.
    choice: Option<Choice>,
    turns: Turns,
    /// Which levels had something when one was chosen.
    had: [bool; LEVELS],
    /// From the start of all windows to the end of what was told.
    log: Levels,
    start: i64,
    /// Of each level, messages in `log` from an offset on, which is the end of its window or was.
    ahead: [Ahead; LEVELS],
    held: Option<Box<HeldKeys>>,
    breaker: Option<Breaker>,
}

#[derive(Clone, Copy, Debug)]
struct Ahead {
    from: i64,
    count: u64,
}

impl ByLevel {
    pub(super) fn new(choice: Option<Choice>, start: Offset, is_ordered_by_key: bool) -> Self {
        let ahead = Ahead {
            from: start.0,
            count: 0,
        };
        Self {
            choice,
            turns: Turns::default(),
            had: [false; LEVELS],
            log: Levels::new(start),
            start: start.0,
            ahead: [ahead; LEVELS],
            held: is_ordered_by_key.then(Box::default),
            breaker: None,
        }
    }

    pub(super) fn start(&self) -> i64 {
        self.start
    }

    pub(super) fn end(&self) -> Offset {
        self.log.end()
    }

    /// The first place, of those before `end`, of the level that is next.
    pub(super) fn next(
        &mut self,
        windows: &mut [SharePartition],
        same_as: Option<&Place>,
        end: Offset,
    ) -> Option<Place> {
        let log = &self.log;
        let place = |window: usize, engine: &mut SharePartition| {
            let from = engine.next_fetch()?;
            let read_from = match from < engine.end() {
                true => from,
                false => log.next(level_of(window)?, from)?,
            };
            let place = Place {
                window,
                from,
                read_from,
            };
            (read_from < end).then_some(place)
        };
        if let Some(before) = same_as {
            return place(before.window, &mut windows[before.window]);
        }
        let mut places = windows.iter_mut().enumerate();
        if self.choice == Some(Choice::Strict) {
            return places
                .rev()
                .find_map(|(window, engine)| place(window, engine));
        }
        let places: [Option<Place>; LEVELS] = array::from_fn(|_| {
            let (window, engine) = places.next()?;
            place(window, engine)
        });
        self.had = places.map(|place| place.is_some());
        match self.choice {
            None => places
                .into_iter()
                .flatten()
                .min_by_key(|place| place.read_from),
            Some(choice) => places[self.turns.next(choice, &self.had)?.index()],
        }
    }

    pub(super) fn handed_out(&mut self, window: usize, acquired: &[Acquired]) {
        let count = acquired
            .iter()
            .map(|range| range.last.0 - range.first.0 + 1);
        if let Some(level) = level_of(window)
            && self.choice == Some(Choice::Weighted)
        {
            self.turns.handed_out(level, count.sum(), &self.had);
        }
    }

    /// Batches as the window of a level sees them, as far as their levels are known.
    pub(super) fn parts(&self, window: usize, batches: &[Fetched]) -> Vec<Fetched> {
        let mut parts: Vec<Fetched> = Vec::with_capacity(batches.len());
        for batch in batches {
            for (first, last, level) in self.log.runs(batch.base, batch.last) {
                // Of one level each, so that what is too old counts once.
                let content = match level == level_of(window) {
                    true => batch.content,
                    false => Content::Nothing,
                };
                let is_own = content == Content::Records;
                match parts.last_mut() {
                    Some(before) if !is_own && before.content == content => {
                        before.last = Offset(last)
                    }
                    _ => parts.push(Fetched {
                        base: Offset(first),
                        last: Offset(last),
                        content,
                        key: batch.key.filter(|_| is_own),
                    }),
                }
            }
        }
        parts
    }

    /// In which windows the records of a range are.
    pub(super) fn by_window(
        &self,
        first: i64,
        last: i64,
    ) -> impl Iterator<Item = (i64, i64, usize)> {
        let runs = self.log.runs(Offset(first), Offset(last));
        runs.filter_map(|(first, last, level)| Some((first, last, level?.index())))
    }

    /// From here to `last` the log has messages of a level, or nothing for consumers.
    fn follow(&mut self, windows: &mut [SharePartition], last: Offset, level: Option<Level>) {
        let first = self.log.end().0;
        if last.0 < first {
            return;
        }
        self.log.push(last, level);
        if let Some(level) = level {
            let ahead = &mut self.ahead[level.index()];
            ahead.count += u64::try_from(last.0 + 1 - first.max(ahead.from)).unwrap_or(0);
        }
        // What was stored, or was in the one window before, is known of offsets of which nobody knew whose they are.
        for (window, engine) in windows.iter_mut().enumerate() {
            if engine.end > first && level != level_of(window) {
                engine.leave_out(first, last.0);
                engine.advance_start();
            }
        }
    }

    pub(super) fn log_start_moved(&mut self, windows: &[SharePartition], log_start: Offset) {
        if log_start.0 > self.start {
            // Before what is gone is forgotten.
            (0..LEVELS).for_each(|window| self.count_ahead(window, windows[window].end));
            self.forget_before(log_start);
        }
    }

    /// What lies before all that is not settled is not asked for again.
    pub(super) fn forget_settled(&mut self, windows: &[SharePartition]) {
        // Before what is settled is forgotten.
        (0..LEVELS).for_each(|window| self.count_ahead(window, windows[window].end));
        let starts = windows.iter().enumerate();
        let starts = starts.map(|(window, engine)| self.open_from(window, engine, engine.start));
        let start = starts.min().unwrap_or(self.log.end());
        self.forget_before(start);
    }

    /// Where the first message is that a window, which starts there, has or will have.
    fn open_from(&self, window: usize, engine: &SharePartition, start: i64) -> Offset {
        match level_of(window) {
            // Nothing before the next message of the level is anybody's.
            Some(level) if start == engine.end => {
                let next = self.log.next(level, Offset(start));
                next.unwrap_or(self.log.end())
            }
            _ => Offset(start),
        }
    }

    fn forget_before(&mut self, start: Offset) {
        self.start = self.start.max(start.0);
        self.log.drop_below(start);
    }

    /// Every record before the first is done with, and how many are from there to the end, once all that is on its way is stored.
    pub(super) fn standing(&mut self, windows: &[SharePartition]) -> (Offset, i32) {
        let end = self.log.end();
        let (mut start, mut unsettled) = (end, 0);
        for (window, engine) in windows.iter().enumerate() {
            let (open, in_window) = engine.will_be();
            start = start.min(self.open_from(window, engine, open));
            self.count_ahead(window, engine.end);
            unsettled += in_window + self.ahead[window].count;
        }
        let all = u64::try_from(end.0 - start.0).unwrap_or(0);
        let settled = all.saturating_sub(unsettled);
        (start, i32::try_from(settled).unwrap_or(i32::MAX))
    }

    fn unsettled(&mut self, windows: &[SharePartition]) -> u64 {
        let mut unsettled = 0;
        for (window, engine) in windows.iter().enumerate() {
            self.count_ahead(window, engine.end);
            unsettled += engine.will_be().1 + self.ahead[window].count;
        }
        unsettled
    }

    /// The window of a level ends there now.
    fn count_ahead(&mut self, window: usize, end: i64) {
        let ahead = &mut self.ahead[window];
        if let Some(level) = level_of(window)
            && end > ahead.from
        {
            let passed = self.log.count(level, Offset(ahead.from), Offset(end));
            ahead.count = ahead.count.saturating_sub(passed);
            ahead.from = end;
        }
    }

    /// What all have in common is the window's, until it is taken back.
    pub(super) fn lend(&mut self, window: &mut SharePartition) {
        window.held = self.held.take();
        if let (Some(lent), Some(breaker)) = (window.breaker(), &self.breaker) {
            lent.clone_from(breaker);
        }
    }

    /// Keys that nobody holds any more.
    pub(super) fn take_back(&mut self, window: &mut SharePartition) -> Vec<KeyHash> {
        self.held = window.held.take();
        self.breaker = window.breaker().map(|breaker| breaker.clone());
        let held = self.held.as_mut();
        held.map(|held| held.take_free()).unwrap_or_default()
    }
}

impl Windows {
    /// From where on to tell of the log; `None` where nothing is to be told.
    #[must_use]
    pub fn follows_from(&self) -> Option<Offset> {
        self.levels.as_ref().map(|levels| levels.end())
    }

    /// Tells what is in the log, in order: up to each of these offsets messages of a level, or nothing for consumers. Before something is
    /// handed out all that may be read is to be told, or it is not the greatest level.
    pub fn follow(&mut self, log: &[(Offset, Option<Level>)]) {
        let Some(levels) = &mut self.levels else {
            return;
        };
        for (last, level) in log {
            levels.follow(&mut self.windows, *last, *level);
        }
        self.windows
            .iter_mut()
            .for_each(SharePartition::advance_start);
    }

    /// Whether all messages are settled that were told of.
    pub fn is_settled(&mut self) -> bool {
        let levels = self.levels.as_mut();
        levels.is_none_or(|levels| levels.unsettled(&self.windows) == 0)
    }

    /// Bytes that the levels of the log take.
    #[must_use]
    pub fn levels_memory(&self) -> usize {
        self.levels.as_ref().map_or(0, |levels| levels.log.memory())
    }
}

fn level_of(window: usize) -> Option<Level> {
    Level::new(u8::try_from(window).ok()?)
}
