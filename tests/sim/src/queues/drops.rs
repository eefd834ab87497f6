//! Bounded queues of which the oldest messages make room: the newest are there, as many as the bound allows.

use super::BOUND;
use super::books::Books;
use crate::history::Place;

/// What must not be and is of a partition to which nobody writes any more, and into which more than its bound was written one by one; or whether what is to go is
/// not gone yet.
pub fn judge(books: &Books, place: &Place, end: i64) -> Result<bool, String> {
    let start = books.start(place);
    let wanted = end - i64::try_from(BOUND).unwrap_or(i64::MAX);
    if start > wanted {
        let count = end - start;
        return Err(format!(
            "{place:?}: {count} messages of {BOUND} are left, from {start} on"
        ));
    }
    Ok(start == wanted)
}
