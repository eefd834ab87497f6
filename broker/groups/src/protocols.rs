//! What a request of one protocol does to a group, whichever protocol the group has.
//!
//! A group without members becomes what the first member makes of it. One with members changes its type while they go
//! on, as far as the migration policy lets it: a classic group when the first member comes with the consumer protocol, a
//! consumer group when the last such member has gone. In between, members of the classic protocol are served by the
//! consumer group.

use crate::classic::{Classic, nobody_left, refuse};
use crate::consumer::Consumer;
use crate::error::GroupError;
use crate::group::{Group, Kind};
use crate::modern::Epoch;
use crate::outbox::Turn;
use crate::request::{
    ConsumerHeartbeatRequest, HeartbeatRequest, JoinRequest, LeaveRequest, Response,
    ShareHeartbeatRequest, SyncRequest,
};
use crate::share::group::ShareGroup;
use crate::types::CallId;

impl Group {
    /// Handles one JoinGroup.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, call: CallId, request: JoinRequest) {
        if let Kind::Consumer(group) = &mut self.kind {
            if group.is_empty() {
                if group.is_stored() {
                    group.end(turn);
                }
                self.kind = Kind::Classic(Box::new(Classic::new(self.id.clone())));
            } else if let Some(classic) = group.downgrade_for(turn, &request) {
                self.kind = Kind::Classic(Box::new(classic));
            }
        }
        match &mut self.kind {
            Kind::Classic(group) => group.join(turn, call, request),
            Kind::Consumer(group) => group.join_classic(turn, call, request),
            Kind::Share(_) => {
                let error = GroupError::InconsistentProtocol;
                refuse(turn.out, call, request.member, error);
            }
        }
    }

    /// Handles one SyncGroup.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, call: CallId, request: SyncRequest) {
        match &mut self.kind {
            Kind::Classic(group) => group.sync(turn, call, request),
            Kind::Consumer(group) => group.sync_classic(turn, call, &request),
            Kind::Share(_) => {
                let error = GroupError::UnknownMember;
                turn.out.reply(call, Response::Sync(Err(error)));
            }
        }
    }

    /// Handles one Heartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &HeartbeatRequest,
    ) {
        match &mut self.kind {
            Kind::Classic(group) => group.heartbeat(turn, call, request),
            Kind::Consumer(group) => group.heartbeat_classic(turn, call, request),
            Kind::Share(_) => {
                let error = GroupError::UnknownMember;
                turn.out.reply(call, Response::Heartbeat(Err(error)));
            }
        }
    }

    /// Handles one LeaveGroup.
    pub(crate) fn leave(&mut self, turn: &mut Turn<'_>, call: CallId, request: LeaveRequest) {
        match &mut self.kind {
            Kind::Classic(group) => group.leave(turn, call, request),
            Kind::Consumer(group) => group.leave_classic(turn, call, request),
            Kind::Share(_) => turn.out.reply(call, nobody_left(request)),
        }
        self.downgrade(turn);
    }

    /// Handles one ConsumerGroupHeartbeat.
    pub(crate) fn heartbeat_consumer(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &ConsumerHeartbeatRequest,
    ) {
        if let Kind::Classic(_) = &self.kind
            && let Err(error) = self.upgrade(turn, request)
        {
            return turn
                .out
                .reply(call, Response::ConsumerHeartbeat(Err(error)));
        }
        match &mut self.kind {
            Kind::Consumer(group) => group.heartbeat(turn, call, request),
            Kind::Classic(_) | Kind::Share(_) => {
                let error = GroupError::GroupIdNotFound;
                turn.out
                    .reply(call, Response::ConsumerHeartbeat(Err(error)));
            }
        }
        self.downgrade(turn);
    }

    /// Handles one ShareGroupHeartbeat. Only a group that is nothing else becomes a share group.
    pub(crate) fn heartbeat_share(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &ShareHeartbeatRequest,
    ) {
        if request.epoch == Epoch::JOINING && self.is_blank() {
            self.kind = Kind::Share(Box::new(ShareGroup::new(self.id.clone())));
        }
        match &mut self.kind {
            Kind::Share(group) => group.heartbeat(turn, call, request),
            Kind::Classic(_) | Kind::Consumer(_) => {
                let error = GroupError::GroupIdNotFound;
                turn.out.reply(call, Response::ShareHeartbeat(Err(error)));
            }
        }
    }

    /// Acts on every deadline that has passed.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        self.kind.tick(turn);
        self.downgrade(turn);
    }

    /// Makes a consumer group of a classic one, if the member that asks for it may be in it.
    fn upgrade(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<(), GroupError> {
        let Kind::Classic(classic) = &mut self.kind else {
            return Ok(());
        };
        if request.epoch != Epoch::JOINING {
            return Err(GroupError::GroupIdNotFound);
        }
        let consumer = if classic.is_deserted() {
            Consumer::new(self.id.clone())
        } else if turn
            .group_settings(&self.id)
            .consumer_migration
            .may_upgrade()
        {
            Consumer::from_classic(turn, classic).ok_or(GroupError::GroupIdNotFound)?
        } else {
            return Err(GroupError::GroupIdNotFound);
        };
        // Nothing changes for a request that is refused.
        consumer.check_heartbeat(turn, request)?;
        let waiting = classic.let_go();
        if classic.stored {
            self.kind.end(turn);
        }
        for (call, response) in waiting {
            turn.out.reply(call, response);
        }
        let mut consumer = Box::new(consumer);
        consumer.emit_all(turn);
        consumer.resume(turn);
        self.kind = Kind::Consumer(consumer);
        Ok(())
    }

    /// Makes a classic group of a consumer group whose last member of the consumer protocol has gone.
    fn downgrade(&mut self, turn: &mut Turn<'_>) {
        if let Kind::Consumer(group) = &self.kind
            && let Some(mut classic) = group.downgraded(turn)
        {
            classic.resume(turn);
            classic.rebalance(turn);
            self.kind = Kind::Classic(Box::new(classic));
        }
    }
}
