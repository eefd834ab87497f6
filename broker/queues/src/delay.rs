//! Messages that are not due yet: what waits, in which order it is released, and which of it has to be at hand.
//!
//! What waits lies in a log, and is known here by when it is due and where it lies. What is due within the next seconds is at hand; the
//! rest is in buckets (of hours, of the minutes of the hour that has come near, of the seconds of such a minute), which the caller keeps
//! where they take little: [`Delays::take_work`] says what to append and what to read. So memory follows what falls due together, not
//! what waits. Buckets are derived: after a start the caller goes through the log and calls [`Delays::replay`] for each message.
//! [`Waiting`] is both together, with the buckets packed in memory.
//!
//! What always holds: nothing is released before it is due; messages are released in the order of (due time, place in the log), without
//! exception, since one that comes too late is due when the last was ([`Delays::add`] says so, and the caller writes that time down); so the key
//! of the last one released tells which were, and a new leader that has found it in the topic goes on from there: nothing is lost,
//! doubled or out of order.

mod bucket;
mod packed;
#[cfg(test)]
mod tests;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::Offset;

pub use bucket::{Bucket, Width};
pub use waiting::Waiting;

use crate::Millis;

/// How long before it is needed a bucket is asked for: files of a bucket are read in far less.
const LEAD_MS: [(Width, u64); 3] = [
    (Width::Hour, 300_000),
    (Width::Minute, 15_000),
    (Width::Second, 2_000),
];

/// One message that waits: the order of these is the order of release.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// When it is due.
    pub due: Millis,
    /// Where it lies in the side log.
    pub at: Offset,
}

/// What the caller has to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Append to the bucket's file.
    Spill(Bucket, Vec<Entry>),
    /// Read the bucket's file, everything that was to be appended to it included, give what it has to [`Delays::loaded`], and delete it.
    Load(Bucket),
}

/// What came of a wish to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancelled {
    /// It will not be released.
    Yes,
    /// It was cancelled before.
    Before,
    /// It has been released.
    TooLate,
}

/// The messages of one partition that wait. See the module.
#[derive(Clone, Debug)]
pub struct Delays {
    near: BTreeSet<Entry>,
    /// How many lie in each file, those included that are to be appended.
    far: BTreeMap<Bucket, u64>,
    spilling: BTreeMap<Bucket, Vec<Entry>>,
    to_load: Vec<Bucket>,
    loading: BTreeSet<Bucket>,
    /// By width: everything due before is in narrower buckets, or in memory for the narrowest.
    opened_to: BTreeMap<Width, Millis>,
    cancelled: BTreeSet<Entry>,
    /// The last one that was released, or passed over since it was cancelled.
    last: Option<Entry>,
}

impl Delays {
    /// Nothing waits. `last`: the last one that was released in an earlier life.
    #[must_use]
    pub fn new(now: Millis, last: Option<Entry>) -> Self {
        let opened = |(width, lead): (Width, u64)| {
            let next = width.start_of(now).after(width.ms());
            (width, next.max(width.start_of(now.after(lead))))
        };
        let mut opened_to: BTreeMap<Width, Millis> = LEAD_MS.into_iter().map(opened).collect();
        // What is open of a narrower width is open of the wider.
        let (minute, second) = (opened_to[&Width::Minute], opened_to[&Width::Second]);
        if let Some(hour) = opened_to.get_mut(&Width::Hour) {
            *hour = Width::Hour.end_of(*hour, minute.max(second));
        }
        if let Some(minute) = opened_to.get_mut(&Width::Minute) {
            *minute = Width::Minute.end_of(*minute, second);
        }
        Self {
            near: BTreeSet::new(),
            far: BTreeMap::new(),
            spilling: BTreeMap::new(),
            to_load: Vec::new(),
            loading: BTreeSet::new(),
            opened_to,
            cancelled: BTreeSet::new(),
            last,
        }
    }

    /// A message that is to be appended to the side log at `at`, behind all that are there. Says when it is due: not before the last one
    /// that was released.
    pub fn add(&mut self, due: Millis, at: Offset) -> Millis {
        let due = self.last.map_or(due, |last| due.max(last.due));
        self.place(Entry { due, at });
        due
    }

    /// A message that the side log has, with the time that was written down. What was released already is passed over.
    pub fn replay(&mut self, entry: Entry) {
        if self.last.is_none_or(|last| entry > last) {
            self.place(entry);
        }
    }

    /// The log says, behind the messages that were [replayed](Self::replay), that all up to this one were released.
    pub fn released_to(&mut self, last: Entry) {
        if self.last.is_some_and(|before| before >= last) {
            return;
        }
        self.last = Some(last);
        // What is far is due later than anything that was released.
        self.near = self.near.split_off(&last);
        self.near.remove(&last);
    }

    /// Lets a message that the side log has never be released.
    pub fn cancel(&mut self, entry: Entry) -> Cancelled {
        if self.last.is_some_and(|last| entry <= last) {
            return Cancelled::TooLate;
        }
        if self.cancelled.insert(entry) {
            Cancelled::Yes
        } else {
            Cancelled::Before
        }
    }

    /// Takes out at most `count` that are due, in order. What lies in a bucket that is still being read is not passed by.
    pub fn take_due(&mut self, now: Millis, count: usize) -> Vec<Entry> {
        self.advance(now);
        let read_from = self.read_from();
        let mut taken = Vec::new();
        while taken.len() < count
            && let Some(entry) = self.near.first().copied()
            && entry.due <= now
            && entry.due < read_from
        {
            self.near.remove(&entry);
            if self.last.is_some_and(|last| entry <= last) {
                // Released by a leader whose clock is ahead of this one's, so that it lay in a bucket here.
                continue;
            }
            self.last = Some(entry);
            if !self.cancelled.remove(&entry) {
                taken.push(entry);
            }
        }
        taken
    }

    /// What is to be done, in order.
    pub fn take_work(&mut self) -> Vec<Work> {
        let spilling = std::mem::take(&mut self.spilling).into_iter();
        let spills = spilling.map(|(bucket, entries)| Work::Spill(bucket, entries));
        let loads = std::mem::take(&mut self.to_load)
            .into_iter()
            .map(Work::Load);
        spills.chain(loads).collect()
    }

    /// Part of what a bucket's file has; `is_all` with the last part.
    pub fn loaded(
        &mut self,
        bucket: Bucket,
        entries: impl IntoIterator<Item = Entry>,
        is_all: bool,
    ) {
        for entry in entries {
            self.place(entry);
        }
        if is_all {
            self.loading.remove(&bucket);
        }
    }

    /// When to call [`take_due`](Self::take_due) next, if nothing comes before, such as a bucket that has been read.
    #[must_use]
    pub fn next_wake(&self) -> Option<Millis> {
        let near = self.near.first().map(|entry| entry.due);
        let near = near.filter(|due| *due < self.read_from());
        let far = LEAD_MS.into_iter().filter_map(|(width, lead)| {
            let first = self.far.range(Bucket::all(width)).next()?.0;
            Some(Millis(first.start.0.saturating_sub(lead)))
        });
        near.into_iter().chain(far).min()
    }

    /// The last one that was released: what a new leader has to know.
    #[must_use]
    pub fn last(&self) -> Option<Entry> {
        self.last
    }

    /// How many wait, those that were cancelled included; what is being read is not counted.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.in_memory() as u64 + self.far.values().sum::<u64>()
    }

    /// When the next one is due; of one that is in a bucket, when that begins.
    #[must_use]
    pub fn next_due(&self) -> Option<Millis> {
        let near = self.near.first().map(|entry| entry.due);
        let far = self.far.keys().map(|bucket| bucket.start);
        near.into_iter().chain(far).min()
    }

    /// The least offset of those in memory. Looks at all of them.
    #[must_use]
    pub fn oldest_near(&self) -> Option<Offset> {
        self.near.iter().map(|entry| entry.at).min()
    }

    /// How many of them are in memory.
    #[must_use]
    pub fn in_memory(&self) -> usize {
        self.near.len()
    }

    /// From here on something may be missing that is still being read.
    fn read_from(&self) -> Millis {
        let starts = self.loading.iter().map(|bucket| bucket.start);
        starts.min().unwrap_or(Millis(u64::MAX))
    }

    fn opened_to(&self, width: Width) -> Millis {
        self.opened_to.get(&width).copied().unwrap_or_default()
    }

    fn place(&mut self, entry: Entry) {
        let closed = [Width::Hour, Width::Minute, Width::Second]
            .into_iter()
            .find(|width| entry.due >= self.opened_to(*width));
        match closed {
            None => {
                self.near.insert(entry);
            }
            Some(width) => {
                let bucket = Bucket::of(width, entry.due);
                *self.far.entry(bucket).or_default() += 1;
                self.spilling.entry(bucket).or_default().push(entry);
            }
        }
    }

    /// Opens what has come near: widest first, since that fills the narrower ones.
    fn advance(&mut self, now: Millis) {
        for (width, lead) in LEAD_MS {
            let until = now.after(lead);
            while self.opened_to(width) <= until && self.may_open(width) {
                self.open_next(width, until);
            }
        }
    }

    /// A bucket may be opened when nothing of a wider one that is still being read, or still closed, can lie in it.
    fn may_open(&self, width: Width) -> bool {
        let at = self.opened_to(width);
        let is_closed = width
            .wider()
            .is_some_and(|wider| at >= self.opened_to(wider));
        let overlaps =
            |bucket: &Bucket| bucket.width >= width && bucket.start <= at && at < bucket.end();
        !is_closed && !self.loading.iter().any(overlaps)
    }

    fn open_next(&mut self, width: Width, until: Millis) {
        let at = self.opened_to(width);
        let bucket = Bucket { width, start: at };
        let next = if self.far.remove(&bucket).is_some() {
            self.loading.insert(bucket);
            self.to_load.push(bucket);
            bucket.end()
        } else {
            // Over all that are empty, as far as the next wider one is open and nothing of it is being read.
            let filled = self.far.range(bucket..=Bucket::last(width)).next();
            let wider = width.wider().map(|wider| self.opened_to(wider));
            let read = self
                .loading
                .iter()
                .filter(|other| other.width > width && other.start > at);
            let limits = [
                filled.map(|(bucket, _)| bucket.start),
                wider,
                read.map(|other| other.start).min(),
            ];
            let most = width.start_of(until).after(width.ms());
            let next = limits.into_iter().flatten().fold(most, Millis::min);
            next.max(bucket.end())
        };
        self.opened_to.insert(width, next);
    }
}
