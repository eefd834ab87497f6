//! How a group goes from one generation to the next.
//!
//! Owns the transitions between phases. What always holds: whoever waits for an answer when a phase ends gets one; the
//! generation grows each time a rebalance completes.

use bytes::Bytes;

use super::{Classic, InitialDelay, Phase};
use crate::error::GroupError;
use crate::outbox::Turn;
use crate::request::{JoinRefused, Joined, JoinedMember, Response, Synced};
use crate::types::{MemberId, MonoMs};

impl Classic {
    /// Starts a rebalance, or completes the one that runs if nobody is waited for any more.
    pub(crate) fn rebalance(&mut self, turn: &mut Turn<'_>) {
        match self.phase {
            Phase::Preparing { .. } => self.complete_join_if_all_joined(turn),
            _ => self.prepare(turn),
        }
    }

    fn prepare(&mut self, turn: &mut Turn<'_>) {
        self.fail_syncs(turn, GroupError::RebalanceInProgress);
        let initial = (self.phase == Phase::Empty).then(|| InitialDelay {
            remaining_ms: self
                .rebalance_timeout_ms()
                .saturating_sub(turn.config.initial_rebalance_delay_ms),
            newcomer: false,
        });
        let wait_ms = match initial {
            Some(_) => turn.config.initial_rebalance_delay_ms,
            None => self.rebalance_timeout_ms(),
        };
        let deadline = turn.now.mono.after(wait_ms);
        self.enter(Phase::Preparing { deadline, initial }, turn.now.wall);
        if initial.is_none() || wait_ms == 0 {
            self.complete_join_if_all_joined_or(turn, wait_ms == 0);
        }
    }

    /// Goes on as soon as all have joined, but not before the initial delay is over.
    pub(crate) fn complete_join_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        self.complete_join_if_all_joined_or(turn, false);
    }

    fn complete_join_if_all_joined_or(&mut self, turn: &mut Turn<'_>, without_delay: bool) {
        let Phase::Preparing { initial, .. } = self.phase else {
            return;
        };
        if (initial.is_none() || without_delay) && self.has_all_joined() {
            self.complete_join(turn);
        }
    }

    /// The time to join is over: extends the initial delay if someone came in it, or goes on with those who are there.
    pub(crate) fn join_deadline_passed(&mut self, turn: &mut Turn<'_>) {
        let Phase::Preparing { initial, .. } = self.phase else {
            return;
        };
        let Some(delay) = initial.filter(|delay| delay.newcomer && delay.remaining_ms > 0) else {
            return self.complete_join(turn);
        };
        let step_ms = turn
            .config
            .initial_rebalance_delay_ms
            .min(delay.remaining_ms);
        let deadline = turn.now.mono.after(step_ms);
        let remaining_ms = delay.remaining_ms.saturating_sub(step_ms);
        self.phase = Phase::Preparing {
            deadline,
            initial: Some(InitialDelay {
                remaining_ms,
                newcomer: false,
            }),
        };
        self.arm(deadline);
    }

    /// A member was added: the initial delay may be extended for those that start together with it.
    pub(crate) fn note_newcomer(&mut self) {
        if let Phase::Preparing {
            initial: Some(delay),
            ..
        } = &mut self.phase
        {
            delay.newcomer = true;
        }
    }

    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        let absent = self
            .members
            .values()
            .filter(|member| member.join_call.is_none());
        let left_behind: Vec<MemberId> = absent
            .filter(|member| member.instance.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &left_behind {
            self.remove(id);
        }
        if self.members.is_empty() {
            return self.become_empty(turn);
        }
        if !self.elect_joined_leader() {
            // Only static members that are away are left: they keep their place until their sessions end. At least a
            // second, lest a member with no rebalance timeout keeps the coordinator busy.
            let deadline = turn.now.mono.after(self.rebalance_timeout_ms().max(1_000));
            self.phase = Phase::Preparing {
                deadline,
                initial: None,
            };
            return self.arm(deadline);
        }
        self.generation = self.generation.next();
        self.protocol = self.select_protocol();
        let deadline = turn.now.mono.after(self.rebalance_timeout_ms());
        self.enter(Phase::Completing { deadline }, turn.now.wall);
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let joined = self.joined(&id);
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.is_new = false;
            member.sync_owed = true;
            member.assignment = Bytes::new();
            if let Some(call) = member.join_call.take() {
                turn.out.reply(call, Response::Join(Ok(joined)));
            }
            self.touch(&id, turn.now.mono);
        }
    }

    pub(super) fn become_empty(&mut self, turn: &mut Turn<'_>) {
        self.generation = self.generation.next();
        self.protocol = None;
        self.enter(Phase::Empty, turn.now.wall);
        self.stored = true;
        turn.out.emit(self.to_stored());
    }

    /// A leader that has not joined cannot assign: one who has takes over. False if nobody has.
    fn elect_joined_leader(&mut self) -> bool {
        let has_joined = |id: &MemberId| {
            self.members
                .get(id)
                .is_some_and(|member| member.join_call.is_some())
        };
        if self.leader.as_ref().is_some_and(has_joined) {
            return true;
        }
        let Some(joined) = self
            .members
            .values()
            .find(|member| member.join_call.is_some())
        else {
            return false;
        };
        self.leader = Some(joined.id.clone());
        true
    }

    /// The member's place in the current generation; the leader sees everyone's.
    pub(crate) fn joined(&self, member: &MemberId) -> Joined {
        let members = if self.is_leader(member) {
            self.joined_members()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment: false,
            member: member.clone(),
            members,
        }
    }

    pub(crate) fn joined_members(&self) -> Vec<JoinedMember> {
        let members = self.members.values().map(|member| JoinedMember {
            member: member.id.clone(),
            instance: member.instance.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        });
        members.collect()
    }

    /// What the member owns in the current generation.
    pub(crate) fn synced(&self, member: &MemberId) -> Synced {
        Synced {
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(member)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Answers everyone who waits for an assignment that is not going to come.
    pub(crate) fn fail_syncs(&mut self, turn: &mut Turn<'_>, error: GroupError) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in ids {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            member.sync_owed = false;
            if let Some(call) = member.sync_call.take() {
                turn.out.reply(call, Response::Sync(Err(error)));
                self.touch(&id, turn.now.mono);
            }
        }
    }

    /// Removes a member, answers what it waits for, and lets the others go on without it.
    pub(crate) fn expel(&mut self, turn: &mut Turn<'_>, id: &MemberId, error: GroupError) {
        let Some(mut member) = self.remove(id) else {
            return;
        };
        if let Some(call) = member.join_call.take() {
            let refused = JoinRefused {
                error,
                member: id.clone(),
            };
            turn.out.reply(call, Response::Join(Err(refused)));
        }
        if let Some(call) = member.sync_call.take() {
            turn.out.reply(call, Response::Sync(Err(error)));
        }
    }

    /// Members that have joined this generation and never asked for their assignment are taken for dead.
    pub(crate) fn sync_deadline_passed(&mut self, turn: &mut Turn<'_>) {
        let owing = self.members.values().filter(|member| member.sync_owed);
        let owing: Vec<MemberId> = owing.map(|member| member.id.clone()).collect();
        if owing.is_empty() {
            if let Phase::Stable { deadline } = &mut self.phase {
                *deadline = None;
            }
            return;
        }
        for id in &owing {
            self.expel(turn, id, GroupError::UnknownMember);
        }
        self.prepare(turn);
    }

    /// Acts on every deadline that has passed, and asks to be woken for the next.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        self.wake_at = None;
        self.expire_members(turn, now);
        match self.phase {
            Phase::Preparing { deadline, .. } if deadline <= now => self.join_deadline_passed(turn),
            Phase::Completing { deadline }
            | Phase::Stable {
                deadline: Some(deadline),
            } if deadline <= now => {
                self.sync_deadline_passed(turn);
            }
            _ => {}
        }
        self.arm_next();
    }

    fn expire_members(&mut self, turn: &mut Turn<'_>, now: MonoMs) {
        let pending_before = self.pending.len();
        self.pending.retain(|_, deadline| *deadline > now);
        let dead = self
            .members
            .values()
            .filter(|member| member.may_expire() && member.session_deadline <= now);
        let dead: Vec<MemberId> = dead.map(|member| member.id.clone()).collect();
        for id in &dead {
            tracing::info!(group = %self.id, member = %id, "member expired");
            self.expel(turn, id, GroupError::UnknownMember);
        }
        if !dead.is_empty() {
            self.rebalance(turn);
        } else if pending_before != self.pending.len() {
            self.complete_join_if_all_joined(turn);
        }
    }

    fn arm_next(&mut self) {
        let sessions = self.members.values().filter(|member| member.may_expire());
        let sessions = sessions.map(|member| member.session_deadline);
        let phase = match self.phase {
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline } => Some(deadline),
            Phase::Stable { deadline } => deadline,
            Phase::Empty => None,
        };
        let next = sessions
            .chain(self.pending.values().copied())
            .chain(phase)
            .min();
        if let Some(next) = next {
            self.arm(next);
        }
    }
}
