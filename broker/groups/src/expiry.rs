//! When offsets, and groups without any, go by themselves (KIP-211).
//!
//! What always holds: offsets of a group with members stay while the group reads their topics; offsets of an empty group
//! stay for the retention after its last member went; a group goes only when it has neither members nor offsets.

use weir_wire::PartitionIndex;

use crate::group::{Group, Since};
use crate::outbox::Turn;
use crate::request::CommittedOffset;

impl Group {
    /// Drops what has expired, up to `budget` offsets, and what is left of a group that has nothing. True when the group
    /// is to be forgotten.
    pub(crate) fn expire(&mut self, turn: &mut Turn<'_>, budget: &mut usize) -> bool {
        let expired = self.expired(turn.now.wall.0, turn.config.offsets_retention_ms, *budget);
        *budget -= expired.len();
        for (topic, partition) in expired {
            self.drop_offset(turn, &topic, partition);
        }
        let is_over = self.kind.is_deserted() && self.keeps_nothing();
        if is_over && self.kind.is_stored() {
            self.kind.end(turn);
        }
        if is_over {
            self.forget_resets(turn);
        }
        is_over
    }

    fn expired(
        &self,
        now_ms: i64,
        retention_ms: i64,
        at_most: usize,
    ) -> Vec<(String, PartitionIndex)> {
        let since = self.kind.retained_since();
        let is_expired = |offset: &CommittedOffset| match (offset.expires_at_ms, since) {
            (_, Since::Never) => false,
            (Some(at), _) => now_ms >= at,
            (None, Since::Commit) => now_ms.saturating_sub(offset.committed_at_ms) >= retention_ms,
            (None, Since::Moment(at)) => now_ms.saturating_sub(at) >= retention_ms,
        };
        let unread = self
            .offsets
            .topics()
            .filter(|(topic, _)| !self.kind.is_subscribed_to(topic));
        let offsets = unread.flat_map(|(topic, partitions)| {
            partitions
                .iter()
                .map(move |(partition, offset)| (topic, *partition, offset))
        });
        let expired = offsets.filter(|(_, _, offset)| is_expired(offset));
        expired
            .take(at_most)
            .map(|(topic, partition, _)| (topic.to_owned(), partition))
            .collect()
    }
}
