//! Calls: what was asked is there once at most, and certainly where it was answered. That an answer is the call's own its caller says.

use super::books::{Books, Fate};

/// What must not be and is, once everything was read.
#[must_use]
pub fn judge(books: &Books) -> Vec<String> {
    let mut there = books.places();
    let mut wrong = Vec::new();
    for sent in &books.lock().sent {
        let (value, place) = (&sent.value, &sent.place);
        let found = there.remove(value).unwrap_or_default();
        if found.len() > 1 || found.iter().any(|(at, _)| at != place) {
            wrong.push(format!("{place:?}: {value} is at {found:?}"));
        }
        if found.is_empty() && matches!(sent.fate, Fate::Acked { .. }) {
            wrong.push(format!("{place:?}: {value} was answered, and is not there"));
        }
    }
    let others = there.into_iter();
    wrong.extend(
        others.map(|(value, places)| format!("{value} is at {places:?}, and was not sent")),
    );
    wrong
}
