//! Messages that are given up: each that was not accepted is in the topic for dead letters, with its record and why; none is that was accepted.

use std::collections::BTreeMap;

use super::books::{Books, Seen};
use super::{DELIVERIES_MAX, value};
use crate::history::Place;

/// What must not be and is. `acceptance` says whether a message was certainly accepted, and whether it may have been.
pub fn judge(
    books: &Books,
    places: &[Place],
    letters: &Place,
    acceptance: impl Fn(&Place, i64) -> (bool, bool),
) -> Vec<String> {
    let inner = books.lock();
    let mut wrong = Vec::new();
    let mut dead: BTreeMap<(Place, i64), Vec<&Seen>> = BTreeMap::new();
    for letter in inner
        .seen
        .get(letters)
        .into_iter()
        .flat_map(BTreeMap::values)
    {
        match origin(letter) {
            Some(origin) => dead.entry(origin).or_default().push(letter),
            None => wrong.push(format!("a dead letter does not say whence: {letter:?}")),
        }
    }
    for place in places {
        for (offset, record) in inner.seen.get(place).into_iter().flatten() {
            let letters = dead.remove(&(place.clone(), *offset)).unwrap_or_default();
            let (is_accepted, may_be_accepted) = acceptance(place, *offset);
            let is_wanted = value::for_nobody(&record.value).is_none();
            if !letters.is_empty() && (is_accepted || !is_wanted) {
                wrong.push(format!(
                    "{place:?}: {offset} was accepted, or is for nobody, and is a dead letter: {record:?}"
                ));
            }
            if letters.is_empty() && is_wanted && !may_be_accepted {
                wrong.push(format!(
                    "{place:?}: {offset} was not accepted, and is no dead letter: {record:?}"
                ));
            }
            for letter in letters {
                let why = letter.headers.get("__dlq.errors.message");
                let count = letter.headers.get("__dlq.errors.delivery.count");
                let count = count.and_then(|count| count.parse::<i16>().ok());
                let is_right = letter.value == record.value
                    && letter.headers.get("kind") == record.headers.get("kind")
                    && letter
                        .headers
                        .get("__dlq.errors.group")
                        .is_some_and(|it| it == "workers")
                    && count.is_some_and(|count| (1..=DELIVERIES_MAX).contains(&count))
                    && why.is_some_and(|why| !why.is_empty());
                if !is_right {
                    wrong.push(format!(
                        "{place:?}: {offset} is {record:?}, and its dead letter {letter:?}"
                    ));
                }
            }
        }
    }
    for (origin, letters) in dead {
        wrong.push(format!(
            "{origin:?} is not there, and has dead letters: {letters:?}"
        ));
    }
    wrong
}

fn origin(letter: &Seen) -> Option<(Place, i64)> {
    let header = |name: &str| letter.headers.get(name);
    let topic = header("__dlq.errors.topic")?.as_str();
    let partition = header("__dlq.errors.partition")?.parse().ok()?;
    let offset = header("__dlq.errors.offset")?.parse().ok()?;
    Some((Place(topic.into(), partition), offset))
}
