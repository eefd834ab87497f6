//! JoinGroup: a member asks for a place in the next generation.
//!
//! Decides who may join and what joining sets off. Called by the coordinator with requests whose group id and session
//! timeout are valid. What always holds: every join is answered exactly once, now or when the rebalance completes.

use std::collections::BTreeSet;

use super::member::Member;
use super::subscription;
use super::{Classic, Phase};
use crate::error::GroupError;
use crate::outbox::{Outbox, Turn, fits};
use crate::request::{JoinRefused, JoinRequest, Joined, Protocol, Response};
use crate::types::{CallId, InstanceId, MemberId};

impl Classic {
    /// Handles one JoinGroup.
    pub(crate) fn join(&mut self, turn: &mut Turn<'_>, call: CallId, request: JoinRequest) {
        let member = request.member.clone();
        if let Err(error) = self.admit(turn, &request) {
            // A member that was told its id and finds no place must not be waited for.
            if self.pending.remove(&member).is_some() {
                self.complete_join_if_all_joined(turn);
            }
            return refuse(turn.out, call, member, error);
        }
        if member.is_empty() {
            self.join_as_new(turn, call, request);
        } else if self.pending.remove(&member).is_some() {
            self.add_and_rebalance(turn, call, member, request);
        } else if let Err(error) = self.check(&member, request.instance.as_ref()) {
            refuse(turn.out, call, member, error);
        } else {
            self.rejoin(turn, call, member, request);
        }
    }

    fn admit(&self, turn: &Turn<'_>, request: &JoinRequest) -> Result<(), GroupError> {
        let known = self.members.get(&request.member);
        let returns = request
            .instance
            .as_ref()
            .is_some_and(|instance| self.static_members.contains_key(instance));
        let has_room = match self.phase {
            Phase::Empty => true,
            Phase::Preparing { .. } => {
                let waiting = self
                    .members
                    .values()
                    .filter(|member| member.join_call.is_some())
                    .count();
                known.is_some_and(|member| member.join_call.is_some())
                    || waiting < turn.config.group_size_max
            }
            Phase::Completing { .. } | Phase::Stable { .. } => {
                known.is_some() || returns || self.members.len() < turn.config.group_size_max
            }
        };
        let is_pending = self.pending.contains_key(&request.member);
        let has_room_to_wait =
            is_pending || known.is_some() || self.pending.len() < turn.config.group_size_max;
        let bytes = self.bytes_with(&request.member, &request.protocols);
        if !has_room || !has_room_to_wait || bytes > turn.config.group_bytes_max {
            return Err(GroupError::GroupMaxSizeReached);
        }
        if !self.supports(&request.protocol_type, &request.protocols) {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    fn join_as_new(&mut self, turn: &mut Turn<'_>, call: CallId, request: JoinRequest) {
        let prefix = request
            .instance
            .as_ref()
            .map_or(request.client_id.as_str(), InstanceId::as_str);
        let id = MemberId::from(format!("{prefix}-{}", request.unique));
        if let Some(instance) = &request.instance {
            match self.static_members.get(instance).cloned() {
                Some(old) => self.replace_static(turn, call, &old, id, request),
                None => self.add_and_rebalance(turn, call, id, request),
            }
        } else if request.member_id_required {
            let timeout_ms = u64::try_from(request.session_timeout_ms).unwrap_or(0);
            let deadline = turn.now.mono.after(timeout_ms);
            self.pending.insert(id.clone(), deadline);
            self.arm(deadline);
            refuse(turn.out, call, id, GroupError::MemberIdRequired);
        } else {
            self.add_and_rebalance(turn, call, id, request);
        }
    }

    fn add_and_rebalance(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        id: MemberId,
        request: JoinRequest,
    ) {
        let protocol_type = request.protocol_type.clone();
        let deadline = turn.now.mono.after(turn.config.new_member_join_timeout_ms);
        self.add(Member::joining(id, request, call, deadline), &protocol_type);
        if self.generation.0 == 0 {
            self.note_newcomer();
        }
        self.rebalance(turn);
    }

    fn rejoin(&mut self, turn: &mut Turn<'_>, call: CallId, id: MemberId, request: JoinRequest) {
        let unchanged = self
            .members
            .get(&id)
            .is_some_and(|member| member.protocols == request.protocols);
        match self.phase {
            // The answer to its last join was lost, or a follower looks what it owns: it is told again.
            Phase::Completing { .. } if unchanged => self.tell_again(turn, call, &id),
            Phase::Stable { .. } if unchanged && !self.is_leader(&id) => {
                self.tell_again(turn, call, &id)
            }
            _ => {
                self.update(turn, call, &id, request);
                self.rebalance(turn);
            }
        }
    }

    fn tell_again(&mut self, turn: &mut Turn<'_>, call: CallId, id: &MemberId) {
        let is_leader = self.is_leader(id);
        let members = if is_leader {
            self.joined_members()
        } else {
            Vec::new()
        };
        let joined = Joined {
            members,
            ..self.joined(id)
        };
        turn.out
            .reply_when_durable(call, Response::Join(Ok(joined)));
    }

    /// Takes over what the member says now; an earlier join of its own that still waits is answered.
    fn update(&mut self, turn: &mut Turn<'_>, call: CallId, id: &MemberId, request: JoinRequest) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        member.update(request);
        if let Some(earlier) = member.join_call.replace(call) {
            refuse(
                turn.out,
                earlier,
                id.clone(),
                GroupError::RebalanceInProgress,
            );
        }
    }

    /// A static member came back without its member id: it gets a new one, and whoever had the old one is fenced
    /// (KIP-345). In a stable group its assignment stays as it is.
    fn replace_static(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        old: &MemberId,
        id: MemberId,
        request: JoinRequest,
    ) {
        let leader_before = self.leader.clone();
        let Some(mut member) = self.take_over(turn, old, &id) else {
            return;
        };
        let unchanged = self.same_subscription(&member.protocols, &request.protocols);
        let can_skip_assignment = request.can_skip_assignment;
        member.update(request);
        member.is_new = false;
        let must_rebalance = !matches!(self.phase, Phase::Stable { .. });
        self.members.insert(id.clone(), member);
        self.touch(&id, turn.now.mono);
        let record = self.to_stored();
        if must_rebalance
            || !unchanged
            || !fits(&record, turn.config)
            || self.select_protocol() != self.protocol
        {
            if let Some(member) = self.members.get_mut(&id) {
                member.join_call = Some(call);
            }
            return self.rebalance(turn);
        }
        self.stored = true;
        turn.out.emit(record);
        let mut joined = self.joined(&id);
        if can_skip_assignment {
            joined.skip_assignment = self.is_leader(&id);
        } else {
            // A client that cannot be told to skip must not take itself for the leader: it would assign anew for nobody.
            joined.members = Vec::new();
            joined.leader = leader_before.unwrap_or(joined.leader);
        }
        turn.out
            .reply_when_durable(call, Response::Join(Ok(joined)));
    }

    /// Takes the member `old` out to come back as `id`; requests that wait under the old id are fenced.
    fn take_over(&mut self, turn: &mut Turn<'_>, old: &MemberId, id: &MemberId) -> Option<Member> {
        let mut member = self.members.remove(old)?;
        if let Some(call) = member.join_call.take() {
            refuse(turn.out, call, old.clone(), GroupError::FencedInstanceId);
        }
        if let Some(call) = member.sync_call.take() {
            turn.out
                .reply(call, Response::Sync(Err(GroupError::FencedInstanceId)));
        }
        if self.is_leader(old) {
            self.leader = Some(id.clone());
        }
        if let Some(instance) = &member.instance {
            self.static_members.insert(instance.clone(), id.clone());
        }
        member.id = id.clone();
        Some(member)
    }

    /// Whether a member that comes back with `after` still wants what it wanted with `before`. Subscriptions that can be
    /// read are compared by topic, for what else they carry changes with every restart.
    fn same_subscription(&self, before: &[Protocol], after: &[Protocol]) -> bool {
        let under = |protocols: &[Protocol]| {
            protocols
                .iter()
                .find(|own| Some(&own.name) == self.protocol.as_ref())
                .map(|own| own.metadata.clone())
        };
        let (Some(before), Some(after)) = (under(before), under(after)) else {
            return false;
        };
        let topics: [Option<BTreeSet<&str>>; 2] =
            [subscription::topics(&before), subscription::topics(&after)];
        match topics {
            [Some(before), Some(after)] => before == after,
            _ => before == after,
        }
    }
}

/// Answers a join with an error and the id that the member has, or is to come back with.
pub(crate) fn refuse(out: &mut Outbox, call: CallId, member: MemberId, error: GroupError) {
    out.reply(call, Response::Join(Err(JoinRefused { error, member })));
}
