//! How far a group is behind in one partition.
//!
//! Exact, because it is computed where the log is: the broker knows both ends. All offsets count, those that transaction
//! markers take up too, as consumers' positions pass over them.

use weir_wire::Offset;

/// Offsets that the group has yet to pass: from its position to the high watermark.
///
/// A position before the log's start counts from the start, since what retention has removed cannot be read; one beyond
/// the high watermark (a commit of what is not readable yet) is no lag.
#[must_use]
pub fn lag(committed: Offset, log_start: Offset, high_watermark: Offset) -> i64 {
    let position = committed.max(log_start);
    high_watermark.0.saturating_sub(position.0).max(0)
}

#[cfg(test)]
mod tests {
    use super::{Offset, lag};

    #[test]
    fn lag_is_the_distance_to_the_high_watermark() {
        assert_eq!(lag(Offset(40), Offset(0), Offset(100)), 60);
        assert_eq!(lag(Offset(100), Offset(0), Offset(100)), 0);
    }

    #[test]
    fn what_retention_removed_is_no_lag() {
        assert_eq!(lag(Offset(40), Offset(90), Offset(100)), 10);
        assert_eq!(lag(Offset(40), Offset(100), Offset(100)), 0);
    }

    #[test]
    fn a_commit_beyond_the_watermark_is_no_lag() {
        assert_eq!(lag(Offset(120), Offset(0), Offset(100)), 0);
        assert_eq!(lag(Offset(i64::MAX), Offset(0), Offset(i64::MIN)), 0);
    }
}
