//! The requests of the share protocol, before they reach their group.

use super::Coordinator;
use crate::error::GroupError;
use crate::group::Kind;
use crate::modern::Epoch;
use crate::request::{ChangeShareStates, Response, ShareHeartbeatRequest};
use crate::share::group::ShareGroup;
use crate::types::{CallId, GroupId, Now};

impl Coordinator {
    pub(super) fn heartbeat_share(
        &mut self,
        call: CallId,
        request: &ShareHeartbeatRequest,
        now: Now,
    ) {
        let id = &request.group;
        let names = [id.len(), request.member.len()];
        let mut names = names.into_iter();
        let problem = if names.any(|bytes| bytes > self.config.name_bytes_max) {
            Some(GroupError::InvalidRequest)
        } else if self.groups.contains_key(id) {
            None
        } else if request.epoch != Epoch::JOINING {
            Some(GroupError::GroupIdNotFound)
        } else {
            self.create(id).err()
        };
        match problem {
            Some(error) => self.out.reply(call, Response::ShareHeartbeat(Err(error))),
            None => self.with(id, now, |group, turn| {
                group.heartbeat_share(turn, call, request);
            }),
        }
    }

    pub(super) fn describe_share(&mut self, call: CallId, id: &GroupId) {
        let described = match self.groups.get(id).map(|group| &group.kind) {
            Some(Kind::Share(group)) => Ok(group.describe_share(&*self.cluster)),
            _ => Err(GroupError::GroupIdNotFound),
        };
        self.out
            .reply_when_durable(call, Response::DescribeShare(described));
    }

    pub(super) fn change_share_states(
        &mut self,
        call: CallId,
        request: &ChangeShareStates,
        now: Now,
    ) {
        let mut outcome = Err(GroupError::GroupIdNotFound);
        let id = &request.group;
        // Where a group is to begin may be set before its first member comes.
        if !request.add.is_empty() && !self.groups.contains_key(id) {
            let may_be = !id.is_empty() && id.len() <= self.config.name_bytes_max;
            let made = match may_be {
                true => self.create(id),
                false => Err(GroupError::InvalidGroupId),
            };
            outcome = outcome.or(made);
        }
        self.with(id, now, |group, turn| {
            if group.is_blank() && !request.add.is_empty() {
                group.kind = Kind::Share(Box::new(ShareGroup::new(group.id.clone())));
            }
            outcome = match &mut group.kind {
                Kind::Share(group) => group.change_states(turn, &request.add, &request.remove),
                Kind::Classic(_) | Kind::Consumer(_) => Err(GroupError::GroupIdNotFound),
            };
        });
        self.out
            .reply_when_durable(call, Response::ChangeShareStates(outcome));
    }
}
