//! Members of the classic protocol in a consumer group: JoinGroup, SyncGroup, Heartbeat and LeaveGroup.
//!
//! A join is their heartbeat: it says what they subscribe to and own, moves them as far as they can go now, and tells
//! their epoch as the generation. A sync tells what they have. A heartbeat tells them to join again when there is
//! somewhere to go. Nobody leads, for the coordinator assigns. What always holds: no such request waits for other members.

use super::embedded::{encode_assignment, subscription};
use super::heartbeat::Sender;
use super::{ClassicSide, Consumer, Member, Profile};
use crate::classic::{CONSUMER, refuse};
use crate::error::GroupError;
use crate::modern::reconcile::Progress;
use crate::modern::{Epoch, Partitions};
use crate::outbox::Turn;
use crate::request::{
    HeartbeatRequest, JoinRequest, Joined, LeaveRequest, Leaving, Left, Response, SyncRequest,
    Synced,
};
use crate::types::{CallId, Generation, InstanceId, MemberId};

impl Consumer {
    /// Handles one JoinGroup.
    pub(crate) fn join_classic(&mut self, turn: &mut Turn<'_>, call: CallId, request: JoinRequest) {
        let (member, unique) = (request.member.clone(), &request.unique);
        let is_unknown = member.is_empty();
        if is_unknown && request.instance.is_none() && request.member_id_required {
            let id = MemberId::from(format!("{}-{unique}", request.client_id));
            return refuse(turn.out, call, id, GroupError::MemberIdRequired);
        }
        let prefix = request
            .instance
            .as_ref()
            .map_or(request.client_id.as_str(), InstanceId::as_str);
        let id = match is_unknown {
            true => MemberId::from(format!("{prefix}-{unique}")),
            false => member.clone(),
        };
        match self.try_join(turn, id, request) {
            Ok(joined) => turn
                .out
                .reply_when_durable(call, Response::Join(Ok(joined))),
            Err(error) => refuse(turn.out, call, member, error),
        }
    }

    fn try_join(
        &mut self,
        turn: &mut Turn<'_>,
        id: MemberId,
        request: JoinRequest,
    ) -> Result<Joined, GroupError> {
        if !self.supports(&id, &request) {
            return Err(GroupError::InconsistentProtocol);
        }
        let sender = self.classic_sender(turn, &id, request.instance.as_ref())?;
        let (profile, owned) = classic_profile(turn, request)?;
        self.check_profile(turn, &id, &profile)?;
        if let Sender::InPlaceOf(old) = &sender {
            self.replace(turn, old, &id);
        }
        let subscription_changed = self.take_profile(turn, &id, profile);
        self.refresh(turn, subscription_changed);
        self.reconcile(turn, &id, Some(&owned));
        self.touch(turn, &id);
        // It is to ask for its assignment within the time that it has to join.
        self.expect(turn, &id);
        let member = self.members.get(&id).ok_or(GroupError::Unknown)?;
        Ok(Joined {
            generation: Generation(member.current.epoch.0),
            protocol_type: Some(CONSUMER.to_owned()),
            protocol: protocol_of(member),
            leader: "".into(),
            skip_assignment: false,
            member: id,
            members: Vec::new(),
        })
    }

    /// Whether the member has a protocol that all others of the classic protocol have too.
    fn supports(&self, id: &MemberId, request: &JoinRequest) -> bool {
        let others = self.members.values().filter(|member| member.id != *id);
        let sides: Vec<&ClassicSide> = others
            .filter_map(|member| member.profile.classic.as_ref())
            .collect();
        let has =
            |side: &ClassicSide, name: &str| side.protocols.iter().any(|own| own.name == name);
        request.protocol_type == CONSUMER
            && request
                .protocols
                .iter()
                .any(|own| sides.iter().all(|side| has(side, &own.name)))
    }

    fn classic_sender(
        &self,
        turn: &Turn<'_>,
        id: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<Sender, GroupError> {
        let holder = instance.and_then(|instance| self.static_members.get(instance));
        match (self.members.get(id), holder) {
            (Some(_), Some(holder)) if holder != id => Err(GroupError::FencedInstanceId),
            (Some(_), _) => Ok(Sender::Known),
            (None, Some(holder)) => Ok(Sender::InPlaceOf(holder.clone())),
            (None, None) if self.members.len() >= turn.config.group_size_max => {
                Err(GroupError::GroupMaxSizeReached)
            }
            (None, None) => Ok(Sender::New),
        }
    }

    /// Waits for the member's next request for no longer than it may take to rebalance.
    fn expect(&mut self, turn: &Turn<'_>, id: &MemberId) {
        if let Some(member) = self.members.get_mut(id) {
            let timeout_ms = u64::try_from(member.profile.rebalance_timeout_ms).unwrap_or(0);
            let deadline = turn.now.mono.after(timeout_ms);
            member.classic_deadline = Some(deadline);
            self.arm(deadline);
        }
    }

    /// Handles one SyncGroup.
    pub(crate) fn sync_classic(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &SyncRequest,
    ) {
        match self.try_sync(turn, request) {
            Ok(synced) => turn
                .out
                .reply_when_durable(call, Response::Sync(Ok(synced))),
            Err(error) => turn.out.reply(call, Response::Sync(Err(error))),
        }
    }

    fn try_sync(
        &mut self,
        turn: &mut Turn<'_>,
        request: &SyncRequest,
    ) -> Result<Synced, GroupError> {
        let instance = request.instance.as_ref();
        let member = self.classic_member(&request.member, instance, request.generation)?;
        let (protocol, group_epoch) = (protocol_of(member), self.epoch);
        let differs =
            |given: &Option<String>, own: Option<&str>| given.is_some() && given.as_deref() != own;
        if differs(&request.protocol_type, Some(CONSUMER))
            || differs(&request.protocol, protocol.as_deref())
        {
            return Err(GroupError::InconsistentProtocol);
        }
        if group_epoch > member.current.epoch && member.current.progress != Progress::Unrevoked {
            let id = request.member.clone();
            self.expect(turn, &id);
            return Err(GroupError::RebalanceInProgress);
        }
        let version = version_of(turn, member);
        let assigned = member.current.assigned.keys().copied();
        let assignment = encode_assignment(turn.cluster, assigned, version);
        if let Some(member) = self.members.get_mut(&request.member) {
            member.classic_deadline = None;
        }
        self.touch(turn, &request.member);
        Ok(Synced {
            protocol_type: Some(CONSUMER.to_owned()),
            protocol,
            assignment,
        })
    }

    /// Handles one Heartbeat.
    pub(crate) fn heartbeat_classic(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: &HeartbeatRequest,
    ) {
        let instance = request.instance.as_ref();
        let found = self.classic_member(&request.member, instance, request.generation);
        let outcome = found.map(|member| {
            let current = &member.current;
            let is_waiting = || {
                let share = self.target.of(&member.id).into_iter().flatten();
                share
                    .filter(|place| !current.assigned.contains_key(place))
                    .any(|place| self.owners.contains_key(place))
            };
            let is_to_join = current.epoch < self.epoch
                || match current.progress {
                    Progress::Stable => false,
                    Progress::Unrevoked => true,
                    Progress::Unreleased => !is_waiting(),
                };
            (is_to_join, member.classic_deadline.is_some())
        });
        let outcome = match outcome {
            Ok((is_to_join, is_expected)) => {
                self.touch(turn, &request.member);
                if is_to_join && !is_expected {
                    self.expect(turn, &request.member);
                }
                match is_to_join {
                    true => Err(GroupError::RebalanceInProgress),
                    false => Ok(()),
                }
            }
            Err(error) => Err(error),
        };
        turn.out.reply(call, Response::Heartbeat(outcome));
    }

    /// Handles one LeaveGroup.
    pub(crate) fn leave_classic(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: LeaveRequest,
    ) {
        let mut gone = Vec::new();
        let mut left = Vec::with_capacity(request.members.len());
        for leaving in request.members {
            let outcome = self.leaving(&leaving).and_then(|id| {
                // Twice in one request.
                let is_new = !gone.contains(&id);
                gone.push(id);
                is_new.then_some(()).ok_or(GroupError::UnknownMember)
            });
            left.push(Left {
                member: leaving.member,
                instance: leaving.instance,
                outcome,
            });
        }
        self.remove(turn, &gone);
        turn.out.reply_when_durable(call, Response::Leave(Ok(left)));
    }

    fn leaving(&self, leaving: &Leaving) -> Result<MemberId, GroupError> {
        let by_instance = leaving.instance.as_ref().map(|instance| {
            let holder = self.static_members.get(instance);
            holder.cloned().ok_or(GroupError::UnknownMember)
        });
        let id = match by_instance.transpose()? {
            Some(holder) if leaving.member.is_empty() || holder == leaving.member => holder,
            Some(_) => return Err(GroupError::FencedInstanceId),
            None => leaving.member.clone(),
        };
        let member = self.members.get(&id).ok_or(GroupError::UnknownMember)?;
        // An administrator removes any static member by its instance; others leave by their own protocol.
        match member.is_classic() || leaving.member.is_empty() {
            true => Ok(id),
            false => Err(GroupError::UnknownMember),
        }
    }

    /// The member of the classic protocol, if it is who it says, in the generation that it says.
    fn classic_member(
        &self,
        id: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<&Member, GroupError> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(holder) if holder != id => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        let member = self.members.get(id).filter(|member| member.is_classic());
        let member = member.ok_or(GroupError::UnknownMember)?;
        if Epoch(generation.0) == member.current.epoch {
            Ok(member)
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }
}

/// What a member says about itself with its join, and what it owns.
fn classic_profile(
    turn: &Turn<'_>,
    request: JoinRequest,
) -> Result<(Profile, Partitions), GroupError> {
    let first = request
        .protocols
        .first()
        .ok_or(GroupError::InconsistentProtocol)?;
    let metadata = first.metadata.clone();
    let read = subscription(turn.cluster, &metadata).ok_or(GroupError::InconsistentProtocol)?;
    let rebalance_timeout_ms = match request.rebalance_timeout_ms {
        absent if absent < 0 => request.session_timeout_ms,
        timeout_ms => timeout_ms,
    };
    let profile = Profile {
        instance: request.instance,
        rack: read.rack.map(str::to_owned),
        client_id: request.client_id,
        client_host: request.client_host,
        topics: read
            .topics
            .iter()
            .map(|topic| (*topic).to_owned())
            .collect(),
        regex: None,
        rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicSide {
            session_timeout_ms: request.session_timeout_ms,
            protocols: request.protocols,
        }),
    };
    Ok((profile, read.owned))
}

fn protocol_of(member: &Member) -> Option<String> {
    let side = member.profile.classic.as_ref()?;
    Some(side.protocols.first()?.name.clone())
}

/// The version of its subscription, which is that of the assignment it reads.
fn version_of(turn: &Turn<'_>, member: &Member) -> i16 {
    let side = member.profile.classic.as_ref();
    let first = side.and_then(|side| side.protocols.first());
    let read = first.and_then(|own| Some(subscription(turn.cluster, &own.metadata)?.version));
    read.unwrap_or(0)
}
