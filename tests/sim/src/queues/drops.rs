//! Bounded queues of which the oldest messages make room: the newest are there, as many as the bound allows.

use super::BOUND;
use super::books::Books;
use crate::history::Place;

/// What must not be and is of a partition to which nobody writes any more; or, where more than its bound was written one by one that is not settled, whether what is to
/// go is gone.
pub fn judge(books: &Books, place: &Place, end: i64) -> Result<bool, String> {
    let start = books.start(place);
    let wanted = end.saturating_sub_unsigned(BOUND).max(0);
    if start > wanted {
        let count = end - start;
        return Err(format!(
            "{place:?}: {count} messages of {BOUND} are left, from {start} on"
        ));
    }
    Ok(start == wanted)
}
