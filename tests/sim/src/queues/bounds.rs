//! Bounded queues: whatever was acknowledged had room when it was appended.
//!
//! The backlog is reckoned from the logs and from what members of the group have said, by what is certain: a message that lies before another was there
//! when that was appended; what somebody had asked to settle by the time that it was acknowledged may have been settled.

use std::collections::BTreeMap;

use super::BOUND;
use super::books::{Books, Fate};
use crate::history::Place;

/// A message that was taken.
#[derive(Clone, Debug)]
struct Taken {
    place: Place,
    offset: i64,
    sent_ms: u64,
    acked_ms: u64,
}

/// What must not be and is. `settled` says since when a message may have been settled.
pub fn judge(
    books: &Books,
    settled: impl Fn(&Place, i64) -> Option<u64>,
    is_of_topic: bool,
) -> Vec<String> {
    let inner = books.lock();
    let taken = inner.sent.iter().filter_map(|sent| match sent.fate {
        Fate::Acked { offset, at_ms, .. } => Some(Taken {
            place: sent.place.clone(),
            offset,
            sent_ms: sent.sent_ms,
            acked_ms: at_ms,
        }),
        _ => None,
    });
    let mut taken: Vec<Taken> = taken.collect();
    taken.sort_by_key(|one| one.acked_ms);
    // What may have been settled of each partition, when.
    let mut settled_from: BTreeMap<&Place, Vec<Option<u64>>> = BTreeMap::new();
    for (place, seen) in &inner.seen {
        let end = seen.keys().next_back().map_or(0, |last| last + 1);
        let of_each = (0..end).map(|offset| settled(place, offset));
        settled_from.insert(place, of_each.collect());
    }
    // So many were certainly not settled of a partition below `end`, at a time.
    let open = |place: &Place, end: i64, now_ms: u64| {
        let records = settled_from.get(place).map_or(&[][..], Vec::as_slice);
        let records = records.iter().take(usize::try_from(end).unwrap_or(0));
        let open = records.filter(|from_ms| from_ms.is_none_or(|from_ms| from_ms > now_ms));
        open.count() as u64
    };
    let mut wrong = Vec::new();
    for one in &taken {
        let mut backlog = open(&one.place, one.offset + 1, one.acked_ms);
        if is_of_topic {
            let mut ends: BTreeMap<&Place, i64> = BTreeMap::new();
            let before = taken.iter().filter(|other| other.acked_ms < one.sent_ms);
            for other in before.filter(|other| other.place != one.place) {
                let end = ends.entry(&other.place).or_default();
                *end = (*end).max(other.offset + 1);
            }
            for (place, end) in ends {
                backlog += open(place, end, one.acked_ms);
            }
        }
        if backlog > BOUND {
            wrong.push(format!(
                "{:?}: {} was taken though {backlog} messages of at most {BOUND} are not settled",
                one.place, one.offset
            ));
        }
    }
    wrong
}
