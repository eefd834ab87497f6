//! A classic group that is paused: its members stay, and have no partitions.
//!
//! The leader assigns as ever, and the coordinator gives each member an empty assignment instead. What always holds: within one generation either
//! everybody has what the leader said, or nobody has anything; a group whose members tell each other more than partitions is left alone.

use bytes::Bytes;

use super::{CONSUMER, Classic, Phase};
use crate::error::GroupError;
use crate::outbox::Turn;

/// No topics and no user data, in version 0 of the consumer protocol's assignment, which every client reads.
const NOTHING: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];
/// The assignor of Kafka Streams: its members find their tasks in the assignment, and end without.
const STREAMS: &str = "stream";

impl Classic {
    /// Whether the coordinator can speak for the leader. One that never had members can be paused when they come.
    pub(crate) fn may_be_paused(&self) -> bool {
        let is_of_consumers = self
            .protocol_type
            .as_deref()
            .is_none_or(|it| it == CONSUMER);
        is_of_consumers && self.protocol.as_deref() != Some(STREAMS)
    }

    /// No member has a partition.
    pub(crate) fn is_idle(&self) -> bool {
        match self.phase {
            Phase::Empty => true,
            Phase::Stable { .. } => self.suspended,
            // Members may go on with what they have while they join again.
            Phase::Preparing { .. } | Phase::Completing { .. } => false,
        }
    }

    /// Takes from everyone what the leader has just given them, in a group that is paused.
    pub(super) fn suspend_if_paused(&mut self, turn: &Turn<'_>) {
        self.suspended = self.may_be_paused() && turn.group_settings(&self.id).is_paused;
        if self.suspended {
            for member in self.members.values_mut() {
                member.assignment = Bytes::from_static(NOTHING);
            }
        }
    }

    /// Whether this generation is not as it was asked for meanwhile. Looked at with each heartbeat.
    pub(super) fn is_to_be_paused_or_resumed(&self, turn: &Turn<'_>) -> bool {
        matches!(self.phase, Phase::Stable { .. })
            && self.may_be_paused()
            && self.suspended != turn.group_settings(&self.id).is_paused
    }

    /// Whether the assignments look as those of a paused group. A leader that gave nobody anything may have written the same; the group then
    /// rebalances once more than it had to after it was loaded.
    pub(super) fn has_paused_assignments(&self) -> bool {
        let mut members = self.members.values();
        self.protocol_type.as_deref() == Some(CONSUMER)
            && !self.members.is_empty()
            && members.all(|member| member.assignment == NOTHING)
    }

    /// Takes everybody out of the group; who is about to be in it has to come anew.
    pub(crate) fn fence(&mut self, turn: &mut Turn<'_>) {
        if self.is_deserted() {
            return;
        }
        self.pending.clear();
        let ids: Vec<_> = self.members.keys().cloned().collect();
        for id in &ids {
            tracing::info!(group = %self.id, member = %id, "member is fenced: offsets are reset");
            self.expel(turn, id, GroupError::UnknownMember);
        }
        if self.phase != Phase::Empty {
            self.become_empty(turn);
        }
    }
}
