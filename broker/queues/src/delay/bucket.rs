//! Buckets of time.

use std::ops::RangeInclusive;

use crate::Millis;

/// How long a bucket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Width {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour: a year has 8,760 of them.
    Hour,
}

impl Width {
    /// In milliseconds.
    #[must_use]
    pub const fn ms(self) -> u64 {
        match self {
            Self::Second => 1_000,
            Self::Minute => 60_000,
            Self::Hour => 3_600_000,
        }
    }

    /// The next wider one.
    #[must_use]
    pub const fn wider(self) -> Option<Self> {
        match self {
            Self::Second => Some(Self::Minute),
            Self::Minute => Some(Self::Hour),
            Self::Hour => None,
        }
    }

    /// Where the bucket begins that has a time.
    #[must_use]
    pub const fn start_of(self, time: Millis) -> Millis {
        Millis(time.0 - time.0 % self.ms())
    }

    /// The first bound at or behind both.
    pub(super) fn end_of(self, bound: Millis, time: Millis) -> Millis {
        let start = self.start_of(time);
        let end = if start == time {
            start
        } else {
            start.after(self.ms())
        };
        bound.max(end)
    }
}

/// One bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bucket {
    /// How long it is.
    pub width: Width,
    /// Where it begins: a multiple of its width.
    pub start: Millis,
}

impl Bucket {
    /// The one that has a time.
    #[must_use]
    pub const fn of(width: Width, time: Millis) -> Self {
        Self {
            width,
            start: width.start_of(time),
        }
    }

    /// Where the next one begins.
    #[must_use]
    pub fn end(self) -> Millis {
        self.start.after(self.width.ms())
    }

    pub(super) fn all(width: Width) -> RangeInclusive<Self> {
        let first = Self {
            width,
            start: Millis(0),
        };
        first..=Self::last(width)
    }

    pub(super) const fn last(width: Width) -> Self {
        Self {
            width,
            start: Millis(u64::MAX),
        }
    }
}
