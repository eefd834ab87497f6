//! What messages of queues say of themselves: `q/<producer>/<number>/<key>/<mark>`, and `/<level>` where they have priorities.

/// Records with this mark are older than their topic's messages may be.
pub const OLD: &str = "old";
/// Records with this mark the group's filter passes over.
pub const SKIP: &str = "skip";
/// All others.
pub const GOOD: &str = "good";

fn part(value: &str, nth: usize) -> Option<&str> {
    value.strip_prefix("q/")?.split('/').nth(nth)
}

/// Whose it is, and its how many-th.
#[must_use]
pub fn origin(value: &str) -> Option<(&str, u64)> {
    Some((part(value, 0)?, part(value, 1)?.parse().ok()?))
}

/// Its key.
#[must_use]
pub fn key(value: &str) -> Option<&str> {
    part(value, 2)
}

/// Its level, where messages have priorities.
#[must_use]
pub fn level(value: &str) -> Option<u8> {
    part(value, 4)?.parse().ok()
}

/// Why no member of a group is to be handed it, if none is.
#[must_use]
pub fn for_nobody(value: &str) -> Option<&'static str> {
    match part(value, 3)? {
        OLD => Some("which has expired"),
        SKIP => Some("which the group does not want"),
        _ => None,
    }
}
