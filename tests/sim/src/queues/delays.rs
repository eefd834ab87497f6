//! Messages that come later, and messages that come twice: never early, once, in order, all of them; ids once.
//!
//! Brokers' clocks may be wrong. So of a message that is released somebody's clock must have shown that it is due, and its due time must not lie before what
//! the clock that was furthest behind could have made of it.

use std::collections::BTreeMap;

use super::books::{Books, FROM, Fate, Inner, Seen, Sent};
use crate::broker::EPOCH_MS;
use crate::history::Place;

/// The header with a message's id.
const ID: &str = "weir-message-id";
/// What clocks may differ by in rounding.
const ROUNDING_MS: i64 = 5;

/// What a clock that is right shows then.
fn time_of(ms: u64) -> i64 {
    EPOCH_MS + i64::try_from(ms).unwrap_or(0)
}

/// The receipt that its producer got, when a released message was due, and where it lay.
fn whence(record: &Seen) -> Option<(i64, i64, i64)> {
    let mut parts = record.headers.get(FROM)?.split(',').map(str::parse);
    let mut next = || parts.next()?.ok();
    Some((next()?, next()?, next()?))
}

/// Whether a record was released before any clock showed that it was due.
pub(super) fn early(record: &Seen, clock_ms: i64) -> Option<String> {
    let (_, due_ms, _) = whence(record)?;
    (due_ms > clock_ms + ROUNDING_MS).then(|| {
        let (value, offset) = (&record.value, record.offset);
        format!("{value} at {offset} is due in {} ms", due_ms - clock_ms)
    })
}

impl Sent {
    /// Before when it is certainly not due, and by when it certainly is, by a clock that is right.
    fn due(&self, behind_ms: i64) -> Option<(i64, i64)> {
        let due_ms = self.due_ms?;
        let Fate::Acked {
            at_ms, clock_ms, ..
        } = self.fate
        else {
            return None;
        };
        // Nothing is written down as due before what was released.
        Some(match self.is_at {
            true => (due_ms, due_ms.max(clock_ms)),
            false => {
                let waits = due_ms - time_of(self.sent_ms);
                let late = clock_ms.max(time_of(at_ms));
                (due_ms + behind_ms, late + waits)
            }
        })
    }
}

/// How many messages are not there that are due by now, or will be within `soon_ms`.
#[must_use]
pub fn missing(books: &Books, soon_ms: i64) -> Vec<String> {
    let now_ms = books.time_ms();
    let inner = books.lock();
    let ids = inner.ids();
    let missing = inner.sent.iter().filter(|sent| {
        let Fate::Acked { .. } = sent.fate else {
            return false;
        };
        let is_due = sent
            .due(inner.behind_ms)
            .is_none_or(|(_, late_ms)| late_ms <= now_ms + soon_ms);
        let is_there = |id: &String| ids.contains_key(&(&sent.place, id.as_str()));
        is_due && sent.cancelled.is_none() && !sent.id.as_ref().is_none_or(is_there)
    });
    missing
        .map(|sent| format!("{:?}: {sent:?}", sent.place))
        .collect()
}

impl Inner {
    fn ids(&self) -> BTreeMap<(&Place, &str), Vec<i64>> {
        let mut ids: BTreeMap<(&Place, &str), Vec<i64>> = BTreeMap::new();
        for (place, seen) in &self.seen {
            for (offset, record) in seen {
                if let Some(id) = record.headers.get(ID) {
                    ids.entry((place, id)).or_default().push(*offset);
                }
            }
        }
        ids
    }
}

/// What must not be and is, once everything was read.
#[must_use]
pub fn judge(books: &Books) -> Vec<String> {
    let inner = books.lock();
    let mut wrong = Vec::new();
    let ids = inner.ids();
    for ((place, id), offsets) in &ids {
        if offsets.len() > 1 {
            wrong.push(format!(
                "{place:?}: the message {id} is there at {offsets:?}"
            ));
        }
    }
    for (place, seen) in &inner.seen {
        let mut before = (0, -1);
        for record in seen.values() {
            let Some((_, due_ms, at)) = whence(record) else {
                continue;
            };
            if (due_ms, at) <= before {
                wrong.push(format!(
                    "{place:?}: {} was released behind {before:?}, which is due later: {:?}",
                    record.value,
                    (due_ms, at)
                ));
            }
            before = (due_ms, at);
        }
    }
    for sent in &inner.sent {
        let place = &sent.place;
        let seen = inner.seen.get(place).into_iter().flat_map(BTreeMap::values);
        let found: Vec<&Seen> = seen.filter(|record| record.value == sent.value).collect();
        let Some((early_ms, _)) = sent.due(inner.behind_ms) else {
            continue;
        };
        let cancelled_ms = sent.cancelled.and_then(|(_, acked_ms)| acked_ms);
        for record in found {
            let Some((receipt, due_ms, _)) = whence(record) else {
                // It was due when it came.
                continue;
            };
            if due_ms + ROUNDING_MS < early_ms {
                wrong.push(format!(
                    "{place:?}: {} is due {} ms before its time",
                    sent.value,
                    early_ms - due_ms
                ));
            }
            if let Fate::Acked { offset, .. } = sent.fate
                && offset != receipt
            {
                wrong.push(format!(
                    "{place:?}: {} was acknowledged at {offset}, and says {receipt}",
                    sent.value
                ));
            }
            // By a clock that was ahead it may have been due, and have come, before that was acknowledged.
            if let Some(acked_ms) = cancelled_ms
                && acked_ms < early_ms
            {
                wrong.push(format!(
                    "{place:?}: {} was cancelled at {acked_ms} by the clock furthest ahead, and was released",
                    sent.value
                ));
            }
        }
    }
    wrong
}
