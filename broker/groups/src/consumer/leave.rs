//! Members that leave a consumer group, by themselves or because they were silent for too long.

use super::Consumer;
use crate::error::GroupError;
use crate::modern::Epoch;
use crate::modern::reconcile::{Held, Progress};
use crate::outbox::Turn;
use crate::request::{Beat, ConsumerHeartbeatRequest};
use crate::types::MemberId;

impl Consumer {
    /// The heartbeat of a member that goes: for ever, or a static one for a while.
    pub(super) fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<Beat, GroupError> {
        let id = request.member.clone();
        if let Some(instance) = &request.instance {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if *holder != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if !self.members.contains_key(&id) {
            return Err(GroupError::UnknownMember);
        }
        if request.epoch == Epoch::LEAVING_FOR_A_WHILE && request.instance.is_some() {
            self.leave_for_a_while(turn, &id);
        } else {
            self.remove(turn, std::slice::from_ref(&id));
        }
        Ok(Beat {
            member: id,
            epoch: request.epoch,
            interval_ms: 0,
            assignment: None,
        })
    }

    /// It keeps its place, and what it is assigned, until it is back or its session ends.
    fn leave_for_a_while(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.revocation = None;
        let mut current = member.current.clone();
        current.previous_epoch = current.epoch;
        current.epoch = Epoch::LEAVING_FOR_A_WHILE;
        current.revoking = Held::new();
        current.progress = Progress::Stable;
        self.hold(id, current);
        self.emit_current(turn, id);
    }

    /// Takes members out of the group; what they had is free, and the others get it with the next epoch.
    pub(crate) fn remove(&mut self, turn: &mut Turn<'_>, ids: &[MemberId]) {
        let mut is_any = false;
        for id in ids {
            if self.forget(id).is_some() {
                is_any = true;
                tracing::info!(group = %self.id, member = %id, "member is gone");
                self.emit_member_end(turn, id);
            }
        }
        // A group that becomes a classic one ends in the epoch that its members know, so that they rejoin in good order.
        if is_any && !self.is_to_be_classic(turn) {
            self.drop_unused_regexes(turn);
            self.bump(turn);
        }
    }
}
