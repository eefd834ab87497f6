//! ConsumerGroupHeartbeat: a member joins, says what it owns, and hears what it is to have.
//!
//! What always holds: a request is checked as a whole before anything changes; a member that is told of an epoch is in
//! the log with it.

use super::{Consumer, Member, Profile};
use crate::error::GroupError;
use crate::modern::{Epoch, Partitions};
use crate::outbox::Turn;
use crate::request::{Beat, ConsumerHeartbeatRequest, Response};
use crate::types::{CallId, MemberId};

/// Who sends the heartbeat.
pub(super) enum Sender {
    /// One that was there before.
    Known,
    /// One that has just come.
    New,
    /// A static member under a new id, in the place of an old one.
    InPlaceOf(MemberId),
}

impl Consumer {
    /// Handles one ConsumerGroupHeartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &ConsumerHeartbeatRequest,
    ) {
        let outcome = if request.epoch < Epoch::JOINING {
            self.leave(turn, request)
        } else {
            self.beat(turn, request)
        };
        match outcome {
            Ok(beat) => turn
                .out
                .reply_when_durable(call, Response::ConsumerHeartbeat(Ok(beat))),
            Err(error) => turn
                .out
                .reply(call, Response::ConsumerHeartbeat(Err(error))),
        }
    }

    /// Whether the group would take the request.
    pub(crate) fn check_heartbeat(
        &self,
        turn: &Turn<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<(), GroupError> {
        let sender = self.sender(turn, request)?;
        self.check_profile(turn, &request.member, &self.profile_of(&sender, request))
    }

    fn beat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<Beat, GroupError> {
        let is_joining = request.epoch == Epoch::JOINING;
        let sender = self.sender(turn, request)?;
        let profile = self.profile_of(&sender, request);
        self.check_profile(turn, &request.member, &profile)?;
        match &sender {
            Sender::Known => {}
            Sender::New => {
                tracing::info!(group = %self.id, member = %request.member, "member joins")
            }
            Sender::InPlaceOf(old) => self.replace(turn, old, &request.member),
        }
        let before = self
            .members
            .get(&request.member)
            .map(|member| &member.current.assigned);
        let before = before.cloned();
        let subscription_changed = self.take_profile(turn, &request.member, profile);
        self.refresh(turn, subscription_changed);
        self.reconcile(turn, &request.member, request.owned.as_ref());
        self.touch(turn, &request.member);
        let interval_ms = turn.group_settings(&self.id).consumer_heartbeat_interval_ms;
        let member = self
            .members
            .get(&request.member)
            .ok_or(GroupError::Unknown)?;
        let is_full = is_joining || request.is_full();
        let has_changed = before
            .as_ref()
            .is_none_or(|before| !before.keys().eq(member.current.assigned.keys()));
        let assignment = (is_full || has_changed).then(|| {
            member
                .current
                .assigned
                .keys()
                .copied()
                .collect::<Partitions>()
        });
        Ok(Beat {
            member: member.id.clone(),
            epoch: member.current.epoch,
            interval_ms,
            assignment,
        })
    }

    /// Who sends the request, if it may.
    fn sender(
        &self,
        turn: &Turn<'_>,
        request: &ConsumerHeartbeatRequest,
    ) -> Result<Sender, GroupError> {
        let is_joining = request.epoch == Epoch::JOINING;
        let known = self.members.get(&request.member);
        if let Some(instance) = &request.instance {
            match self.static_members.get(instance) {
                None if !is_joining => return Err(GroupError::UnknownMember),
                None => {}
                Some(holder) if *holder == request.member => {}
                Some(_) if !is_joining => return Err(GroupError::FencedInstanceId),
                Some(holder) => {
                    let may_be_replaced = self.members.get(holder).is_none_or(|holder| {
                        holder.is_classic() || holder.current.epoch == Epoch::LEAVING_FOR_A_WHILE
                    });
                    if !may_be_replaced {
                        return Err(GroupError::UnreleasedInstanceId);
                    }
                    if known.is_none() {
                        return Ok(Sender::InPlaceOf(holder.clone()));
                    }
                    return Err(GroupError::FencedInstanceId);
                }
            }
        }
        match known {
            None if !is_joining => Err(GroupError::UnknownMember),
            None if self.members.len() >= turn.config.group_size_max => {
                Err(GroupError::GroupMaxSizeReached)
            }
            None => Ok(Sender::New),
            Some(_) if is_joining => Ok(Sender::Known),
            Some(member) => check_epoch(member, request).map(|()| Sender::Known),
        }
    }

    /// What the sender says about itself, with what it has said before.
    fn profile_of(&self, sender: &Sender, request: &ConsumerHeartbeatRequest) -> Profile {
        let before = match sender {
            Sender::Known => self.members.get(&request.member),
            Sender::New => None,
            Sender::InPlaceOf(old) => self.members.get(old),
        };
        let mut profile = before
            .map(|member| member.profile.clone())
            .unwrap_or_default();
        profile.classic = None;
        profile.client_id.clone_from(&request.client_id);
        profile.client_host.clone_from(&request.client_host);
        if request.instance.is_some() {
            profile.instance.clone_from(&request.instance);
        }
        if request.rack.is_some() {
            profile.rack.clone_from(&request.rack);
        }
        if let Some(timeout_ms) = request.rebalance_timeout_ms {
            profile.rebalance_timeout_ms = timeout_ms;
        }
        if request.assignor.is_some() {
            profile.assignor.clone_from(&request.assignor);
        }
        if let Some(topics) = &request.topics {
            profile.topics.clone_from(topics);
        }
        if let Some(regex) = &request.regex {
            profile.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
        }
        profile
    }

    /// A static member is back under another id: it has what it had before.
    pub(super) fn replace(&mut self, turn: &mut Turn<'_>, old: &MemberId, id: &MemberId) {
        let share = self.target.of(old).cloned();
        let Some(mut member) = self.forget(old) else {
            return;
        };
        self.emit_member_end(turn, old);
        let mut current = std::mem::take(&mut member.current);
        (current.epoch, current.previous_epoch) = (Epoch::JOINING, Epoch::JOINING);
        member.id = id.clone();
        (member.revocation, member.classic_deadline) = (None, None);
        self.put(member);
        self.emit_profile(turn, id);
        if let Some(share) = share {
            self.target.set(id.clone(), share);
            self.emit_target_of(turn, id);
        }
        self.hold(id, current);
        self.emit_current(turn, id);
    }

    /// Takes over what a member says about itself. Tells whether it subscribes to something else than before.
    pub(super) fn take_profile(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        profile: Profile,
    ) -> bool {
        let Some(member) = self.members.get(id) else {
            self.put(Member::new(id.clone(), profile));
            self.emit_profile(turn, id);
            return true;
        };
        if member.profile == profile {
            return false;
        }
        let subscription_changed =
            member.profile.topics != profile.topics || member.profile.regex != profile.regex;
        let mut member = member.clone();
        member.profile = profile;
        member.classic_deadline = None;
        self.put(member);
        self.emit_profile(turn, id);
        subscription_changed
    }
}

/// A member that has not heard of its newest epoch comes with the one before, and owns no more than it is assigned.
fn check_epoch(member: &Member, request: &ConsumerHeartbeatRequest) -> Result<(), GroupError> {
    let current = &member.current;
    if request.epoch == current.epoch {
        return Ok(());
    }
    let owns_no_more = request.owned.as_ref().is_some_and(|owned| {
        owned
            .iter()
            .all(|partition| current.assigned.contains_key(partition))
    });
    if request.epoch < current.epoch && request.epoch == current.previous_epoch && owns_no_more {
        Ok(())
    } else {
        Err(GroupError::FencedMemberEpoch)
    }
}
