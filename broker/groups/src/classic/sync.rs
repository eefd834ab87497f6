//! SyncGroup and Heartbeat: what a member does once it has a place.
//!
//! What always holds: an assignment leaves only after the generation it belongs to is durable; each member gets the
//! assignment of the generation it named, or an error.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{Classic, Phase};
use crate::error::GroupError;
use crate::outbox::{Turn, fits};
use crate::request::{HeartbeatRequest, Response, SyncRequest};
use crate::types::{CallId, Generation, InstanceId, MemberId};

impl Classic {
    /// Handles one SyncGroup.
    pub(crate) fn sync(&mut self, turn: &mut Turn<'_>, call: CallId, request: SyncRequest) {
        if let Err(error) = self.check_sync(&request) {
            return turn.out.reply(call, Response::Sync(Err(error)));
        }
        match self.phase {
            Phase::Empty => turn
                .out
                .reply(call, Response::Sync(Err(GroupError::UnknownMember))),
            Phase::Preparing { .. } => {
                turn.out
                    .reply(call, Response::Sync(Err(GroupError::RebalanceInProgress)));
            }
            Phase::Completing { .. } => {
                self.await_assignment(turn, call, &request.member);
                if self.is_leader(&request.member) {
                    self.assign(turn, request.assignments);
                }
            }
            Phase::Stable { .. } => {
                self.synced_by(&request.member);
                self.touch(&request.member, turn.now.mono);
                turn.out
                    .reply_when_durable(call, Response::Sync(Ok(self.synced(&request.member))));
            }
        }
    }

    fn check_sync(&self, request: &SyncRequest) -> Result<(), GroupError> {
        self.check(&request.member, request.instance.as_ref())?;
        if request.generation != self.generation {
            return Err(GroupError::IllegalGeneration);
        }
        let differs =
            |given: &Option<String>, own: &Option<String>| given.is_some() && given != own;
        if differs(&request.protocol_type, &self.protocol_type)
            || differs(&request.protocol, &self.protocol)
        {
            return Err(GroupError::InconsistentProtocol);
        }
        Ok(())
    }

    fn await_assignment(&mut self, turn: &mut Turn<'_>, call: CallId, id: &MemberId) {
        self.synced_by(id);
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if let Some(earlier) = member.sync_call.replace(call) {
            turn.out.reply(
                earlier,
                Response::Sync(Err(GroupError::RebalanceInProgress)),
            );
        }
    }

    fn synced_by(&mut self, id: &MemberId) {
        if let Some(member) = self.members.get_mut(id) {
            member.sync_owed = false;
        }
        if let Phase::Stable { deadline } = &mut self.phase
            && !self.members.values().any(|member| member.sync_owed)
        {
            *deadline = None;
        }
    }

    /// The leader's word: every member gets its share, or nothing if the leader forgot it.
    fn assign(&mut self, turn: &mut Turn<'_>, assignments: Vec<(MemberId, Bytes)>) {
        let mut assignments: BTreeMap<MemberId, Bytes> = assignments.into_iter().collect();
        for (id, member) in &mut self.members {
            member.assignment = assignments.remove(id).unwrap_or_default();
        }
        self.suspend_if_paused(turn);
        let record = self.to_stored();
        if !fits(&record, turn.config) {
            tracing::warn!(group = %self.id, "assignment too large to store");
            self.fail_syncs(turn, GroupError::Unknown);
            return self.rebalance(turn);
        }
        let Phase::Completing { deadline } = self.phase else {
            return;
        };
        let owes = self.members.values().any(|member| member.sync_owed);
        self.enter(
            Phase::Stable {
                deadline: owes.then_some(deadline),
            },
            turn.now.wall,
        );
        self.stored = true;
        turn.out.emit(record);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let synced = self.synced(&id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            if let Some(call) = member.sync_call.take() {
                turn.out
                    .reply_when_durable(call, Response::Sync(Ok(synced)));
                self.touch(&id, turn.now.mono);
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
        let outcome = self.check_member(
            &request.member,
            request.instance.as_ref(),
            request.generation,
        );
        let outcome = outcome.and(match self.phase {
            Phase::Empty => Err(GroupError::UnknownMember),
            Phase::Preparing { .. } => Err(GroupError::RebalanceInProgress),
            Phase::Completing { .. } | Phase::Stable { .. } => Ok(()),
        });
        let outcome = match outcome {
            Ok(()) if self.is_to_be_paused_or_resumed(turn) => {
                self.rebalance(turn);
                Err(GroupError::RebalanceInProgress)
            }
            other => other,
        };
        if matches!(outcome, Ok(()) | Err(GroupError::RebalanceInProgress)) {
            self.touch(&request.member, turn.now.mono);
        }
        turn.out.reply(call, Response::Heartbeat(outcome));
    }

    /// Whether `member` is who it says, in the generation it says.
    pub(crate) fn check_member(
        &self,
        member: &MemberId,
        instance: Option<&InstanceId>,
        generation: Generation,
    ) -> Result<(), GroupError> {
        self.check(member, instance)?;
        if generation == self.generation {
            Ok(())
        } else {
            Err(GroupError::IllegalGeneration)
        }
    }
}
