//! Waiting for a condition, never for a time.

use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at that cannot wake us: short next to what is waited for, long next to a look.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Looks until `look` finds something.
///
/// # Panics
/// When `limit` passes first, with what was waited for.
pub fn until<T>(what: &str, limit: Duration, look: impl FnMut() -> Option<T>) -> T {
    poll(limit, look).unwrap_or_else(|| panic!("waited {} s in vain: {what}", limit.as_secs()))
}

/// Looks until `look` finds something, and says whether it did before `limit`.
pub fn poll<T>(limit: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if start.elapsed() >= limit {
            return None;
        }
        sleep(LOOK_EVERY);
    }
}
