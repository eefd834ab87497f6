//! What producers of a queue sent and heard, and what lies in its logs in the end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::value;
use crate::broker::EPOCH_MS;
use crate::history::{Place, Shared};
use crate::network::Net;

/// A message that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Where to.
    pub place: Place,
    /// Its value.
    pub value: String,
    /// Its id, where those count.
    pub id: Option<String>,
    /// The instant before which it is not due: by a broker's clock, for one whose clock is right.
    pub due_ms: Option<i64>,
    /// Whether that is an instant, which no clock moves, rather than a time from its coming.
    pub is_at: bool,
    /// When it was sent first.
    pub sent_ms: u64,
    /// What came of it.
    pub fate: Fate,
    /// When it was asked for that it is not to come, and, by the clock furthest ahead, when that was acknowledged.
    pub cancelled: Option<(u64, Option<i64>)>,
}

/// What came of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Nobody knows.
    Unknown,
    /// It was acknowledged at this offset, when the clock that was furthest ahead showed that.
    Acked {
        /// Where.
        offset: i64,
        /// When.
        at_ms: u64,
        /// What the clocks had shown by then at most.
        clock_ms: i64,
    },
    /// It was refused for good.
    Refused,
}

/// A record of a log, as a reader of everything saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its offset.
    pub offset: i64,
    /// Its value.
    pub value: String,
    /// Its headers.
    pub headers: BTreeMap<String, String>,
}

/// The books of a queue. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Books {
    net: Net,
    history: Shared,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
pub(super) struct Inner {
    pub(super) sent: Vec<Sent>,
    pub(super) seen: BTreeMap<Place, BTreeMap<i64, Seen>>,
    /// Where logs begin that do not begin at 0.
    starts: BTreeMap<Place, i64>,
    /// How far brokers' clocks were ever behind, and what they have shown at most.
    pub(super) behind_ms: i64,
    pub(super) clock_ms: i64,
    /// The next number of messages that two producers send.
    pub(super) both: u64,
    is_over: bool,
}

impl Books {
    /// Empty ones.
    #[must_use]
    pub fn new(net: Net, history: Shared) -> Self {
        Self {
            net,
            history,
            inner: Arc::default(),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life's clock.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.net.now_ms()
    }

    /// The same as a clock that is right shows it.
    #[must_use]
    pub fn time_ms(&self) -> i64 {
        EPOCH_MS + i64::try_from(self.now_ms()).unwrap_or(0)
    }

    /// Something has happened to what has this number.
    pub fn note(&self, what: &str, number: usize) {
        self.net.note(what, &[number as u64]);
    }

    /// Something must not be.
    pub fn wrong(&self, what: String) {
        self.history.wrong(what);
    }

    /// What must not be and is, as far as anyone has said so.
    #[must_use]
    pub fn wrongs(&self) -> Vec<String> {
        self.history.wrongs()
    }

    /// Everything is finished: whoever only answers is not needed any more.
    pub fn end(&self) {
        self.lock().is_over = true;
    }

    /// Whether everything is finished.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.lock().is_over
    }

    /// Brokers' clocks are wrong by so much now, at the least and at the most.
    pub fn clocks(&self, (least_ms, most_ms): (i64, i64)) {
        let clock_ms = self.time_ms() + most_ms;
        let mut inner = self.lock();
        inner.behind_ms = inner.behind_ms.min(least_ms);
        inner.clock_ms = inner.clock_ms.max(clock_ms);
    }

    /// A message is about to be sent, for the first time: its number.
    #[must_use]
    pub fn sending(&self, sent: Sent) -> usize {
        let mut inner = self.lock();
        inner.sent.push(sent);
        inner.sent.len() - 1
    }

    /// A message was acknowledged.
    pub fn acked(&self, number: usize, offset: i64) {
        let at_ms = self.now_ms();
        self.net
            .note("taken", &[number as u64, offset.unsigned_abs()]);
        let mut inner = self.lock();
        let clock_ms = inner.clock_ms;
        if let Some(sent) = inner.sent.get_mut(number) {
            sent.fate = Fate::Acked {
                offset,
                at_ms,
                clock_ms,
            };
        }
    }

    /// A message was refused for good.
    pub fn refused(&self, number: usize) {
        self.net.note("refused", &[number as u64]);
        if let Some(sent) = self.lock().sent.get_mut(number) {
            sent.fate = Fate::Refused;
        }
    }

    /// A message is about to be cancelled, or that was acknowledged.
    pub fn cancelling(&self, number: usize, is_acked: bool) {
        let (now_ms, time_ms) = (self.now_ms(), self.time_ms());
        let mut inner = self.lock();
        let clock_ms = inner.clock_ms.max(time_ms);
        if let Some(sent) = inner.sent.get_mut(number) {
            let (_, acked) = sent.cancelled.get_or_insert((now_ms, None));
            if is_acked {
                acked.get_or_insert(clock_ms);
            }
        }
    }

    /// One that was acknowledged in this partition, for which `wanted` holds, among the last.
    #[must_use]
    pub fn find(
        &self,
        place: &Place,
        draw: u64,
        wanted: impl Fn(&Sent) -> bool,
    ) -> Option<(usize, Sent)> {
        let inner = self.lock();
        let sent = inner.sent.iter().enumerate().rev();
        let fit = sent.filter(|(_, sent)| {
            sent.place == *place && matches!(sent.fate, Fate::Acked { .. }) && wanted(sent)
        });
        let fit: Vec<_> = fit.take(20).collect();
        let nth = usize::try_from(draw % fit.len().max(1) as u64).unwrap_or(0);
        let (number, sent) = fit.get(nth)?;
        Some((*number, (*sent).clone()))
    }

    /// An id that another producer sends too, at about the same time.
    #[must_use]
    pub fn common_id(&self) -> String {
        let mut inner = self.lock();
        inner.both += 1;
        format!("both/{}", inner.both / 2)
    }

    /// Somebody read a record.
    pub fn seen(&self, place: &Place, record: Seen) {
        self.net.note("read", &[record.offset.unsigned_abs()]);
        let mut wrong = super::delays::early(&record, self.lock().clock_ms);
        {
            let mut inner = self.lock();
            let seen = inner.seen.entry(place.clone()).or_default();
            if let Some(before) = seen.get(&record.offset)
                && before.value != record.value
            {
                let (offset, other) = (record.offset, &before.value);
                wrong = Some(format!("{offset} was {other:?}, and is {:?}", record.value));
            }
            seen.insert(record.offset, record);
        }
        if let Some(wrong) = wrong {
            self.wrong(format!("{place:?}: {wrong}"));
        }
    }

    /// A log begins there. Whoever leads next may not know that yet.
    pub fn begins(&self, place: &Place, start: i64) {
        self.net.note("begins", &[start.unsigned_abs()]);
        let mut inner = self.lock();
        let last = inner.starts.entry(place.clone()).or_default();
        *last = start.max(*last);
    }

    /// Where a log begins at the latest that anyone has seen.
    #[must_use]
    pub fn start(&self, place: &Place) -> i64 {
        self.lock().starts.get(place).copied().unwrap_or(0)
    }

    /// Where each value is that anyone has read.
    pub(super) fn places(&self) -> BTreeMap<String, Vec<(Place, i64)>> {
        let inner = self.lock();
        let mut places: BTreeMap<String, Vec<(Place, i64)>> = BTreeMap::new();
        for (place, seen) in &inner.seen {
            for (offset, record) in seen {
                let at = (place.clone(), *offset);
                places.entry(record.value.clone()).or_default().push(at);
            }
        }
        places
    }

    /// What must not be and is, whatever is asked of the queue: each message is there at most once, what was acknowledged is there, what was refused is not, and a
    /// producer's messages are in its order.
    #[must_use]
    pub fn judge(&self, places: &[Place]) -> Vec<String> {
        let inner = self.lock();
        let mut wrong = Vec::new();
        for place in places {
            wrong.extend(inner.judge(place));
        }
        wrong
    }
}

/// The header that a released message has.
pub(super) const FROM: &str = "weir-delayed-from";

impl Inner {
    fn judge(&self, place: &Place) -> Vec<String> {
        let mut wrong = Vec::new();
        let nothing = BTreeMap::new();
        let seen = self.seen.get(place).unwrap_or(&nothing);
        let start = self.starts.get(place).copied().unwrap_or(0);
        let mut there: BTreeMap<&str, i64> = BTreeMap::new();
        let mut last: BTreeMap<&str, u64> = BTreeMap::new();
        for (offset, record) in seen {
            if let Some(other) = there.insert(&record.value, *offset) {
                let value = &record.value;
                wrong.push(format!("{place:?}: {value} is at {other} and at {offset}"));
            }
            let Some((producer, number)) = value::origin(&record.value) else {
                let value = &record.value;
                wrong.push(format!(
                    "{place:?}: {value} is at {offset}, which nobody sent"
                ));
                continue;
            };
            if !record.headers.contains_key(FROM)
                && let Some(before) = last.insert(producer, number)
                && before >= number
            {
                wrong.push(format!(
                    "{place:?}: {} at {offset} comes behind {before} of its producer",
                    record.value
                ));
            }
        }
        for sent in self.sent.iter().filter(|sent| sent.place == *place) {
            match sent.fate {
                Fate::Refused if there.contains_key(&*sent.value) => wrong.push(format!(
                    "{place:?}: {} was refused, and is there",
                    sent.value
                )),
                // Delays and ids have their own judge.
                Fate::Acked { offset, .. } if sent.id.is_none() && offset >= start => {
                    let found = seen.get(&offset).map(|record| &record.value);
                    if found != Some(&sent.value) {
                        wrong.push(format!(
                            "{place:?}: {} was acknowledged at {offset}, where {found:?} is",
                            sent.value
                        ));
                    }
                }
                _ => {}
            }
        }
        wrong
    }
}
