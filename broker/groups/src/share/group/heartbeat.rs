//! ShareGroupHeartbeat: a member joins, is alive, or leaves, and hears what it is to read.

use super::{Member, Profile, ShareGroup, ShareKey, ShareRecord};
use crate::error::GroupError;
use crate::modern::Epoch;
use crate::outbox::Turn;
use crate::request::{Beat, Response, ShareHeartbeatRequest};
use crate::types::{CallId, MemberId};

impl ShareGroup {
    /// Handles one ShareGroupHeartbeat.
    pub(crate) fn heartbeat(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &ShareHeartbeatRequest,
    ) {
        let outcome = if request.epoch == Epoch::LEAVING {
            self.leave(turn, request)
        } else {
            self.beat(turn, request)
        };
        match outcome {
            Ok(beat) => turn
                .out
                .reply_when_durable(call, Response::ShareHeartbeat(Ok(beat))),
            Err(error) => turn.out.reply(call, Response::ShareHeartbeat(Err(error))),
        }
    }

    fn beat(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ShareHeartbeatRequest,
    ) -> Result<Beat, GroupError> {
        let id = &request.member;
        let is_joining = request.epoch == Epoch::JOINING;
        let before = self.members.get(id);
        match before {
            None if !is_joining => return Err(GroupError::UnknownMember),
            None if self.members.len() >= turn.config.share_group_size_max => {
                return Err(GroupError::GroupMaxSizeReached);
            }
            None => {}
            Some(_) if is_joining => {}
            Some(member) => {
                let current = &member.current;
                let is_known =
                    request.epoch == current.epoch || request.epoch == current.previous_epoch;
                if !is_known {
                    return Err(GroupError::FencedMemberEpoch);
                }
            }
        }
        let profile = profile_of(before, request);
        let own = before.map_or(0, |member| member.profile.bytes());
        let bytes = self.bytes - own + profile.bytes();
        // One record must hold a member's.
        if bytes > turn.config.group_bytes_max && bytes > self.bytes {
            return Err(GroupError::GroupMaxSizeReached);
        }
        let had = before.map(|member| member.current.assigned.clone());
        let subscription_changed = self.take_profile(turn, id, profile);
        self.refresh(turn, subscription_changed);
        self.follow_target(turn, id);
        self.touch(turn, id);
        let interval_ms = turn.group_settings(&self.id).share_heartbeat_interval_ms;
        let member = self.members.get(id).ok_or(GroupError::Unknown)?;
        let current = &member.current;
        // Everything is told to who joins, who says everything, and who has not heard of the newest epoch.
        let is_told = is_joining
            || request.topics.is_some()
            || request.epoch != current.epoch
            || had.as_ref() != Some(&current.assigned);
        Ok(Beat {
            member: id.clone(),
            epoch: current.epoch,
            interval_ms,
            assignment: is_told.then(|| current.assigned.clone()),
        })
    }

    fn leave(
        &mut self,
        turn: &mut Turn<'_>,
        request: &ShareHeartbeatRequest,
    ) -> Result<Beat, GroupError> {
        if !self.members.contains_key(&request.member) {
            return Err(GroupError::UnknownMember);
        }
        self.remove(turn, std::slice::from_ref(&request.member));
        Ok(Beat {
            member: request.member.clone(),
            epoch: Epoch::LEAVING,
            interval_ms: 0,
            assignment: None,
        })
    }

    /// Takes over what a member says about itself. Tells whether it subscribes to something else than before.
    fn take_profile(&mut self, turn: &mut Turn<'_>, id: &MemberId, profile: Profile) -> bool {
        let before = self.members.get(id).map(|member| &member.profile);
        if before == Some(&profile) {
            return false;
        }
        let changed = before.is_none_or(|before| before.topics != profile.topics);
        if before.is_none() {
            tracing::info!(group = %self.id, member = %id, "member joins a share group");
        }
        let record = ShareRecord::Member(profile.clone());
        let key = ShareKey::Member(id.clone());
        turn.out.emit(key.record(&self.id, &record));
        self.put(id, profile);
        changed
    }

    pub(super) fn put(&mut self, id: &MemberId, profile: Profile) {
        self.bytes += profile.bytes();
        let member = self.members.entry(id.clone()).or_default();
        self.bytes -= member.profile.bytes();
        member.profile = profile;
    }
}

/// What the member says about itself, with what it has said before.
fn profile_of(before: Option<&Member>, request: &ShareHeartbeatRequest) -> Profile {
    let mut profile = before
        .map(|member| member.profile.clone())
        .unwrap_or_default();
    profile.client_id.clone_from(&request.client_id);
    profile.client_host.clone_from(&request.client_host);
    if request.rack.is_some() {
        profile.rack.clone_from(&request.rack);
    }
    if let Some(topics) = &request.topics {
        profile.topics.clone_from(topics);
    }
    profile
}
