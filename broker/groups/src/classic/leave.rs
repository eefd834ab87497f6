//! LeaveGroup: members go by themselves, or an administrator removes them.
//!
//! What always holds: a member that has left owns nothing from the moment the answer goes out, for the rebalance has
//! begun; whoever waited under its id gets an answer.

use super::Classic;
use crate::error::GroupError;
use crate::outbox::Turn;
use crate::request::{LeaveRequest, Leaving, Left, Response};
use crate::types::CallId;

impl Classic {
    /// Handles one LeaveGroup.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, call: CallId, request: LeaveRequest) {
        let members_before = self.members.len();
        let pending_before = self.pending.len();
        let mut left = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let outcome = self.leave_one(turn, &leaving);
            left.push(Left {
                member: leaving.member,
                instance: leaving.instance,
                outcome,
            });
        }
        if self.members.len() != members_before {
            self.rebalance(turn);
        } else if self.pending.len() != pending_before {
            self.complete_join_if_all_joined(turn);
        }
        turn.out.reply(call, Response::Leave(Ok(left)));
    }

    fn leave_one(&mut self, turn: &mut Turn<'_>, leaving: &Leaving) -> Result<(), GroupError> {
        if leaving.instance.is_none() && self.pending.remove(&leaving.member).is_some() {
            return Ok(());
        }
        let by_instance = leaving
            .instance
            .as_ref()
            .filter(|_| leaving.member.is_empty());
        let member = match by_instance {
            Some(instance) => self
                .static_members
                .get(instance)
                .cloned()
                .ok_or(GroupError::UnknownMember)?,
            None => leaving.member.clone(),
        };
        self.check(&member, leaving.instance.as_ref())?;
        self.expel(turn, &member, GroupError::UnknownMember);
        Ok(())
    }
}

/// The answer when there is no such group: nobody in it could leave.
pub(crate) fn nobody_left(request: LeaveRequest) -> Response {
    let left = request.members.into_iter().map(|leaving| Left {
        member: leaving.member,
        instance: leaving.instance,
        outcome: Err(GroupError::UnknownMember),
    });
    Response::Leave(Ok(left.collect()))
}
