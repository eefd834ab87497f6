//! Where two logs part.
//!
//! Logs of one partition are the same up to where their epochs say so: an epoch has one leader, and a leader only appends, so
//! that two logs which both have an epoch have the same records in it, as far as the shorter one goes (KIP-101, KIP-279). A
//! follower cuts its log to that point, and to nowhere else: never to its high watermark.

use weir_wire::{LeaderEpoch, Offset};

/// A log's epochs with their first offsets, oldest first, and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct History<'a> {
    /// Both grow.
    pub starts: &'a [(LeaderEpoch, Offset)],
    /// The first offset that is not there yet.
    pub end: Offset,
}

impl History<'_> {
    /// Where the epoch at this place of the list ends.
    fn end_at(&self, at: usize) -> Offset {
        self.starts
            .get(at + 1)
            .map_or(self.end, |(_, start)| *start)
    }
}

/// Up to where the follower's log is the leader's. `leader_start` is the leader's first offset: what lies below it can no
/// longer be compared, and `None` says that the follower has nothing at or above it that agrees, and begins anew there.
///
/// A follower may have epochs only that the leader never saw: what it was sent in them was not committed when the next leader,
/// which may have no record at all, was elected. The logs agree up to where the first of these begins, if the leader's log
/// reaches from below there to there.
#[must_use]
pub fn agreed_end(
    leader: History<'_>,
    leader_start: Offset,
    follower: History<'_>,
) -> Option<Offset> {
    let Some((_, first)) = follower.starts.first() else {
        // It has no batch, so nothing that could contradict.
        return (follower.end == leader_start).then_some(follower.end);
    };
    for at in (0..follower.starts.len()).rev() {
        let (epoch, _) = follower.starts[at];
        let Ok(same) = leader
            .starts
            .binary_search_by_key(&epoch, |(epoch, _)| *epoch)
        else {
            continue;
        };
        let end = follower.end_at(at).min(leader.end_at(same));
        return (end >= leader_start).then_some(end);
    }
    (leader_start..=leader.end)
        .contains(first)
        .then_some(*first)
}

#[cfg(test)]
mod tests;
