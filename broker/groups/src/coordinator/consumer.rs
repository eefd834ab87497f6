//! The requests of the consumer protocol, before they reach their group.

use super::Coordinator;
use crate::error::GroupError;
use crate::group::Kind;
use crate::modern::Epoch;
use crate::modern::assignor::CONSUMER_ASSIGNORS;
use crate::request::{ConsumerHeartbeatRequest, Response};
use crate::types::{CallId, GroupId, Now};

impl Coordinator {
    pub(super) fn heartbeat_consumer(
        &mut self,
        call: CallId,
        request: &ConsumerHeartbeatRequest,
        now: Now,
    ) {
        let id = &request.group;
        let names = [id.len(), request.member.len()];
        let assignor = request.assignor.as_deref();
        let is_supported = |name| CONSUMER_ASSIGNORS.iter().any(|(known, _)| *known == name);
        let problem = if names
            .into_iter()
            .any(|bytes| bytes > self.config.name_bytes_max)
        {
            Some(GroupError::InvalidRequest)
        } else if !assignor.is_none_or(is_supported) {
            Some(GroupError::UnsupportedAssignor)
        } else if self.groups.contains_key(id) {
            None
        } else if request.epoch != Epoch::JOINING {
            Some(GroupError::GroupIdNotFound)
        } else {
            self.create(id).err()
        };
        match problem {
            Some(error) => self
                .out
                .reply(call, Response::ConsumerHeartbeat(Err(error))),
            None => self.with(id, now, |group, turn| {
                group.heartbeat_consumer(turn, call, request);
            }),
        }
    }

    pub(super) fn describe_consumer(&mut self, call: CallId, id: &GroupId) {
        let described = match self.groups.get(id).map(|group| &group.kind) {
            Some(Kind::Consumer(group)) => Ok(group.describe_consumer(&*self.cluster)),
            _ => Err(GroupError::GroupIdNotFound),
        };
        self.out
            .reply_when_durable(call, Response::DescribeConsumer(described));
    }
}
