//! Which message is handed out next where messages have priorities, 0 to 9.
//!
//! [`Turns`] says which level comes next: strictly the greatest that has messages, or each by its weight as long as it has some, so that none
//! starves. [`Levels`] says where in the log the messages of a level are, over the whole backlog. Within a level the oldest comes first; what of it is
//! out, done or given back is the share-partition's business.

mod levels;
#[cfg(test)]
mod tests;

pub use levels::Levels;

/// How many levels there are.
pub const LEVELS: usize = 10;
/// The level of a message that says nothing.
pub const DEFAULT_LEVEL: Level = Level(4);
/// The header that says a message's level: a digit.
pub const HEADER: &str = "weir-priority";

/// A priority: the greater, the sooner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

impl Level {
    /// All of them, the least first.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> + ExactSizeIterator {
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9].map(Self).into_iter()
    }

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

    /// Its place in an array of all levels.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
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

/// Whose turn it is: smooth weighted round robin. All that have messages earn their weight with each message that is handed out, who has
/// most is next, and pays for what it got what all have earned.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// What is due to each level, of shares that went to others.
    credit: [i64; LEVELS],
}

impl Turns {
    /// The level that is next, of those that have messages.
    #[must_use]
    pub fn next(&self, choice: Choice, has: &[bool; LEVELS]) -> Option<Level> {
        let mut with_messages = Level::all().filter(|level| has[level.index()]);
        match choice {
            Choice::Strict => with_messages.next_back(),
            Choice::Weighted => with_messages
                .max_by_key(|level| (self.credit[level.index()] + level.weight(), *level)),
        }
    }

    /// So many messages of a level were handed out, while these levels had some.
    pub fn handed_out(&mut self, chosen: Level, count: i64, had: &[bool; LEVELS]) {
        let mut together = 0;
        for level in Level::all() {
            let credit = &mut self.credit[level.index()];
            if had[level.index()] {
                together += level.weight();
                *credit = credit.saturating_add(level.weight().saturating_mul(count));
            } else {
                // Who has nothing saves nothing up either.
                *credit = 0;
            }
        }
        let credit = &mut self.credit[chosen.index()];
        *credit = credit.saturating_sub(together.saturating_mul(count));
    }
}
