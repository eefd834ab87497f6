//! The backlog of one partition.

use std::collections::VecDeque;

use thiserror::Error;
use weir_wire::Offset;

/// Marks that a backlog's bytes are kept by, which take 16 KiB for a backlog of any length.
const MARKS_MAX: usize = 1_024;
/// When there would be more of them, neighbours become one of up to this part of the bytes: as much may be told too many then, since a
/// mark is let go of as a whole.
const GRAINS: u64 = 256;

/// How much there may be; `None`: as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Messages.
    pub messages: Option<u64>,
    /// Bytes of their batches.
    pub bytes: Option<u64>,
}

impl Limits {
    /// Whether so much is within them.
    #[must_use]
    pub fn hold(self, size: Size) -> bool {
        self.messages.is_none_or(|most| size.messages <= most)
            && self.bytes.is_none_or(|most| size.bytes <= most)
    }
}

/// How much something is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Messages.
    pub messages: u64,
    /// Bytes of their batches.
    pub bytes: u64,
}

impl Size {
    fn and(self, other: Self) -> Self {
        Self {
            messages: self.messages.saturating_add(other.messages),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }
}

/// Why a batch does not fit.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Full {
    /// The messages would be too many.
    #[error(
        "the queue is full: {backlog} messages are not settled, and at most {most} may be; {more} more do not fit"
    )]
    Messages {
        /// How many there are.
        backlog: u64,
        /// How many there may be.
        most: u64,
        /// How many would have come.
        more: u64,
    },
    /// The bytes would be too many.
    #[error(
        "the queue is full: {backlog} bytes are not settled, and at most {most} may be; {more} more do not fit"
    )]
    Bytes {
        /// How many there are.
        backlog: u64,
        /// How many there may be.
        most: u64,
        /// How many would have come.
        more: u64,
    },
}

impl Full {
    /// The same where the bound is the whole topic's, of which nothing is free.
    #[must_use]
    pub fn of_topic(self, bounds: Limits) -> String {
        let (what, most, more) = match self {
            Self::Messages { most, more, .. } => {
                ("messages", bounds.messages.unwrap_or(most), more)
            }
            Self::Bytes { most, more, .. } => ("bytes", bounds.bytes.unwrap_or(most), more),
        };
        format!(
            "the queue is full: at most {most} {what} of the topic may be unsettled, and there is no room for {more} more"
        )
    }
}

/// What of a partition is not settled. Every offset counts as a message: those of control batches too, until the group has passed
/// them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// Everything before it is settled, or gone.
    start: Offset,
    /// Settled messages from there on.
    settled_within: u64,
    end: Offset,
    /// Bytes of what lies between two ends, the last of which is `end`.
    marks: VecDeque<(Offset, u64)>,
    /// A mark of up to so many bytes is made longer by what comes next.
    grain: u64,
    bytes: u64,
}

impl Backlog {
    /// A partition of which everything before `start` is settled, and which has `bytes` from there on to `end`.
    #[must_use]
    pub fn new(start: Offset, end: Offset, bytes: u64) -> Self {
        let mut backlog = Self {
            start,
            settled_within: 0,
            end: start,
            marks: VecDeque::new(),
            grain: 0,
            bytes: 0,
        };
        backlog.appended(end, bytes);
        backlog
    }

    /// How much is not settled. Bytes of what was settled out of order count until everything before it is settled too.
    #[must_use]
    pub fn size(&self) -> Size {
        let held = u64::try_from(self.end.0 - self.start.0).unwrap_or(0);
        Size {
            messages: held.saturating_sub(self.settled_within),
            bytes: self.bytes,
        }
    }

    /// Everything before it is settled, or gone.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// Whether so much more may come.
    ///
    /// # Errors
    /// When it may not: which limit it would pass.
    pub fn check(&self, more: Size, limits: Limits) -> Result<(), Full> {
        let (now, then) = (self.size(), self.size().and(more));
        match limits {
            Limits {
                messages: Some(most),
                ..
            } if then.messages > most => Err(Full::Messages {
                backlog: now.messages,
                most,
                more: more.messages,
            }),
            Limits {
                bytes: Some(most), ..
            } if then.bytes > most => Err(Full::Bytes {
                backlog: now.bytes,
                most,
                more: more.bytes,
            }),
            _ => Ok(()),
        }
    }

    /// Where the log has to begin for so much more to fit: the oldest messages make room. `None` when it never fits.
    #[must_use]
    pub fn room_for(&self, more: Size, limits: Limits) -> Option<Offset> {
        if !limits.hold(more) {
            return None;
        }
        if self.check(more, limits).is_ok() {
            return Some(self.start);
        }
        let mut start = self.start;
        if let Some(most) = limits.messages {
            // Those that were settled out of order are not looked for: which ones they are is not known here.
            let kept = i64::try_from(most - more.messages).unwrap_or(i64::MAX);
            start = start.max(Offset(self.end.0.saturating_sub(kept)));
        }
        if let Some(most) = limits.bytes {
            let mut bytes = self.bytes;
            for (end, within) in &self.marks {
                if bytes.saturating_add(more.bytes) <= most {
                    break;
                }
                bytes -= within;
                start = start.max(*end);
            }
        }
        Some(start.min(self.end))
    }

    /// A batch was appended, and the log ends at `end` now.
    pub fn appended(&mut self, end: Offset, bytes: u64) {
        if end <= self.end {
            return;
        }
        self.end = end;
        self.bytes = self.bytes.saturating_add(bytes);
        self.mark(end, bytes);
        if self.marks.len() > MARKS_MAX {
            self.grain = self.bytes / GRAINS;
            for (end, bytes) in std::mem::take(&mut self.marks) {
                self.mark(end, bytes);
            }
        }
    }

    /// The log ends at `end`, which is before what was appended last: that could not be written after all. Bytes that are not known to be gone
    /// go on counting.
    pub fn truncated(&mut self, end: Offset) {
        if end >= self.end {
            return;
        }
        self.end = end.max(self.start);
        while let Some((_, bytes)) = self.marks.pop_back_if(|(last, _)| *last > end) {
            self.bytes -= bytes;
            // Its beginning may be there still.
            let before = self.marks.back().map_or(self.start, |(last, _)| *last);
            if before < self.end {
                self.marks.push_back((self.end, bytes));
                self.bytes += bytes;
            }
        }
        let most = u64::try_from(self.end.0 - self.start.0).unwrap_or(0);
        self.settled_within = self.settled_within.min(most);
    }

    /// Where the log ends, as far as it was told here.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.end
    }

    /// The group has settled everything before `start`, and so many messages from there on. What is out of date is passed over; `true` when
    /// there is more room than before.
    pub fn settled(&mut self, start: Offset, within: u64) -> bool {
        if start < self.start {
            return false;
        }
        let before = self.size();
        self.let_go_below(start);
        let most = u64::try_from(self.end.0 - self.start.0).unwrap_or(0);
        self.settled_within = within.min(most);
        let now = self.size();
        now.messages < before.messages || now.bytes < before.bytes
    }

    /// Everything before `start` is gone from the log, settled or not.
    pub fn log_start_moved(&mut self, start: Offset) {
        if start <= self.start {
            return;
        }
        // How many of the settled ones went with it is not known: they count again until the group says.
        self.settled_within = 0;
        self.let_go_below(start);
    }

    fn let_go_below(&mut self, start: Offset) {
        self.start = start;
        self.end = self.end.max(start);
        while let Some((end, bytes)) = self.marks.front()
            && *end <= start
        {
            self.bytes -= bytes;
            self.marks.pop_front();
        }
        if self.marks.is_empty() {
            self.grain = 0;
        }
    }

    fn mark(&mut self, end: Offset, bytes: u64) {
        match self.marks.back_mut() {
            Some((last, within)) if within.saturating_add(bytes) <= self.grain => {
                (*last, *within) = (end, *within + bytes);
            }
            _ => self.marks.push_back((end, bytes)),
        }
    }
}
