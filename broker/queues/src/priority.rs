//! Which message is handed out next where messages have priorities, 0 to 9.
//!
//! An index for each level over the log, exact over the whole backlog: of the level that is chosen, the oldest message comes next. Strict: the
//! greatest level that has any. Weighted: each level has a share by its weight as long as it has messages, so that none starves. Messages
//! of one level that follow each other in the log take one entry together, so that a backlog without priorities costs nothing.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use weir_wire::Offset;

/// How many levels there are.
pub const LEVELS: usize = 10;
/// The level of a message that says nothing.
pub const DEFAULT_LEVEL: Level = Level(4);

/// A priority: the greater, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// From a header's value: a digit. Anything else is [`DEFAULT_LEVEL`].
    #[must_use]
    pub fn of_header(value: Option<&[u8]>) -> Self {
        match value {
            Some([digit @ b'0'..=b'9']) => Self(digit - b'0'),
            _ => DEFAULT_LEVEL,
        }
    }

    /// The level of a number.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        (usize::from(number) < LEVELS).then_some(Self(number))
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> u8 {
        self.0
    }

    fn weight(self) -> i64 {
        i64::from(self.0) + 1
    }
}

/// How a level is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The greatest that has messages.
    Strict,
    /// Each has a share of (level + 1) parts, among those that have messages.
    Weighted,
}

/// The messages of one partition that may be handed out. See the module.
#[derive(Clone, Debug)]
pub struct Index {
    levels: [Queue; LEVELS],
    len: u64,
}

#[derive(Clone, Debug, Default)]
struct Queue {
    /// Runs of offsets: first, last.
    runs: BTreeMap<i64, i64>,
    /// What is due to it, of shares that went to others.
    credit: i64,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            levels: std::array::from_fn(|_| Queue::default()),
            len: 0,
        }
    }
}

impl Index {
    /// A message may be handed out, for the first time or again.
    pub fn put(&mut self, level: Level, offset: Offset) {
        let queue = &mut self.levels[usize::from(level.0)];
        if !queue.has(offset.0) {
            queue.put(offset.0);
            self.len += 1;
        }
    }

    /// Takes out the next one.
    pub fn take(&mut self, choice: Choice) -> Option<(Level, Offset)> {
        let level = match choice {
            Choice::Strict => (0..LEVELS)
                .rev()
                .find(|level| !self.levels[*level].runs.is_empty()),
            Choice::Weighted => self.weighted(),
        }?;
        let queue = &mut self.levels[level];
        let (first, last) = queue.runs.pop_first()?;
        if first < last {
            queue.runs.insert(first + 1, last);
        }
        self.len -= 1;
        Some((Level(u8::try_from(level).ok()?), Offset(first)))
    }

    /// Takes out a certain one. `true` when it was there.
    pub fn remove(&mut self, level: Level, offset: Offset) -> bool {
        let was_there = self.levels[usize::from(level.0)].remove(offset.0);
        self.len -= u64::from(was_there);
        was_there
    }

    /// Lets go of everything before `start`.
    pub fn drop_below(&mut self, start: Offset) {
        for queue in &mut self.levels {
            while let Some((first, last)) = queue
                .runs
                .first_key_value()
                .map(|(first, last)| (*first, *last))
                && first < start.0
            {
                queue.runs.pop_first();
                if last >= start.0 {
                    queue.runs.insert(start.0, last);
                }
            }
        }
        let runs = self.levels.iter().flat_map(|queue| &queue.runs);
        self.len = runs.map(|(first, last)| last.abs_diff(*first) + 1).sum();
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Smooth weighted round robin: all that have messages earn their weight, who has most is chosen and pays what all have earned.
    fn weighted(&mut self) -> Option<usize> {
        let mut together = 0;
        let mut chosen: Option<usize> = None;
        for level in (0..LEVELS).rev() {
            if self.levels[level].runs.is_empty() {
                // Who has nothing saves nothing up either.
                self.levels[level].credit = 0;
                continue;
            }
            let weight = Level(u8::try_from(level).ok()?).weight();
            together += weight;
            self.levels[level].credit += weight;
            if chosen.is_none_or(|best| self.levels[level].credit > self.levels[best].credit) {
                chosen = Some(level);
            }
        }
        let chosen = chosen?;
        self.levels[chosen].credit -= together;
        Some(chosen)
    }
}

impl Queue {
    fn run_of(&self, offset: i64) -> Option<(i64, i64)> {
        let (first, last) = self.runs.range(..=offset).next_back()?;
        (*last >= offset).then_some((*first, *last))
    }

    fn has(&self, offset: i64) -> bool {
        self.run_of(offset).is_some()
    }

    fn put(&mut self, offset: i64) {
        let before = self.runs.range(..offset).next_back();
        let before = before.filter(|(_, last)| **last + 1 == offset);
        let first = before.map_or(offset, |(first, _)| *first);
        let last = self.runs.remove(&(offset + 1)).unwrap_or(offset);
        self.runs.insert(first, last);
    }

    fn remove(&mut self, offset: i64) -> bool {
        let Some((first, last)) = self.run_of(offset) else {
            return false;
        };
        self.runs.remove(&first);
        if first < offset {
            self.runs.insert(first, offset - 1);
        }
        if offset < last {
            self.runs.insert(offset + 1, last);
        }
        true
    }
}
