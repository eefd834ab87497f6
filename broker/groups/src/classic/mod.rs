//! A group of the classic protocol: its members and its phase.
//!
//! Owns the group's state and the questions one can ask of it; what changes it is in `join`, `rebalance`, `sync` and
//! `leave`. A group that only ever kept offsets is a classic one too. What always holds: a group has a leader exactly
//! while it has members; the leader and every static member's current id are members; `wake_at` is never later than the
//! group's next deadline.

mod commit;
mod describe;
mod join;
mod leave;
mod member;
mod pause;
mod rebalance;
pub(crate) mod subscription;
mod sync;

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::encode::EncodeError;

pub(crate) use join::refuse;
pub(crate) use leave::nobody_left;
pub(crate) use member::Member;
use member::protocols_bytes;

use crate::error::GroupError;
use crate::group::Since;
use crate::outbox::Turn;
use crate::request::{GroupState, JoinRefused, Protocol, Response};
use crate::stored::{StoredGroup, StoredMember, StoredRecord};
use crate::types::{CallId, Generation, GroupId, InstanceId, MemberId, MonoMs, WallMs};

/// The protocol type of ordinary consumers, whose subscriptions the broker can read.
pub(crate) const CONSUMER: &str = "consumer";

/// Where a group is between two generations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Empty,
    /// Members join; at `deadline` those who have not are left behind.
    Preparing {
        deadline: MonoMs,
        initial: Option<InitialDelay>,
    },
    /// The leader assigns; at `deadline` members who have not asked for their assignment are removed.
    Completing {
        deadline: MonoMs,
    },
    /// As above, while there are members who have not asked.
    Stable {
        deadline: Option<MonoMs>,
    },
}

/// The first rebalance of an empty group waits, so that members starting together make one generation, not many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct InitialDelay {
    pub(crate) remaining_ms: u64,
    pub(crate) newcomer: bool,
}

/// A classic group.
#[derive(Debug)]
pub(crate) struct Classic {
    pub(crate) id: GroupId,
    pub(crate) phase: Phase,
    /// When the phase last changed: the retention of an empty group's offsets counts from here.
    pub(crate) phase_since: Option<WallMs>,
    pub(crate) generation: Generation,
    /// Of the members, and kept when they have left. Absent for a group that only ever kept offsets.
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<MemberId>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) static_members: BTreeMap<InstanceId, MemberId>,
    /// Ids given out that have not come back to join, and until when they may.
    pub(crate) pending: BTreeMap<MemberId, MonoMs>,
    /// Its metadata is in the log, so that its end must be too.
    pub(crate) stored: bool,
    /// In this generation nobody has a partition, whatever the leader said.
    pub(crate) suspended: bool,
    /// When to look at the group's deadlines, at the latest.
    pub(crate) wake_at: Option<MonoMs>,
}

impl Classic {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            phase_since: None,
            generation: Generation(0),
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            pending: BTreeMap::new(),
            stored: false,
            suspended: false,
            wake_at: None,
        }
    }

    /// Nobody is in it, or about to be.
    pub(crate) fn is_deserted(&self) -> bool {
        self.phase == Phase::Empty && self.pending.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing { .. } => GroupState::CompletingRebalance,
            Phase::Stable { .. } => GroupState::Stable,
        }
    }

    pub(crate) fn is_leader(&self, member: &MemberId) -> bool {
        self.leader.as_ref() == Some(member)
    }

    /// Asks to be looked at no later than `deadline`.
    pub(crate) fn arm(&mut self, deadline: MonoMs) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
    }

    pub(crate) fn enter(&mut self, phase: Phase, now: WallMs) {
        self.phase = phase;
        self.phase_since = Some(now);
        let deadline = match phase {
            Phase::Empty => None,
            Phase::Preparing { deadline, .. } | Phase::Completing { deadline } => Some(deadline),
            Phase::Stable { deadline } => deadline,
        };
        if let Some(deadline) = deadline {
            self.arm(deadline);
        }
    }

    /// Counts the member's silence from now on.
    pub(crate) fn touch(&mut self, member: &MemberId, now: MonoMs) {
        if let Some(member) = self.members.get_mut(member) {
            let deadline = now.after(u64::try_from(member.session_timeout_ms).unwrap_or(0));
            member.session_deadline = deadline;
            self.arm(deadline);
        }
    }

    /// Whether `member`, who says that it is the static `instance`, is who it says.
    pub(crate) fn check(
        &self,
        member: &MemberId,
        instance: Option<&InstanceId>,
    ) -> Result<(), GroupError> {
        if let Some(instance) = instance {
            match self.static_members.get(instance) {
                None => return Err(GroupError::UnknownMember),
                Some(current) if current != member => return Err(GroupError::FencedInstanceId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member) {
            Ok(())
        } else {
            Err(GroupError::UnknownMember)
        }
    }

    /// Adds a member; the first one leads, and decides the group's protocol type.
    pub(crate) fn add(&mut self, member: Member, protocol_type: &str) {
        if self.members.is_empty() {
            self.protocol_type = Some(protocol_type.to_owned());
        }
        if let Some(instance) = &member.instance {
            self.static_members
                .insert(instance.clone(), member.id.clone());
        }
        self.leader.get_or_insert_with(|| member.id.clone());
        self.arm(member.session_deadline);
        self.members.insert(member.id.clone(), member);
    }

    /// Takes a member out; someone else leads if it led. Its waiting requests are the caller's to answer.
    pub(crate) fn remove(&mut self, id: &MemberId) -> Option<Member> {
        let member = self.members.remove(id)?;
        if let Some(instance) = &member.instance
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        if self.is_leader(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// The longest that a member may take to rejoin.
    pub(crate) fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout_ms)
            .max();
        u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
    }

    pub(crate) fn has_all_joined(&self) -> bool {
        self.pending.is_empty()
            && self
                .members
                .values()
                .all(|member| member.join_call.is_some())
    }

    /// Whether a member with these protocols can be in the group.
    pub(crate) fn supports(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols
                .iter()
                .any(|protocol| self.all_support(&protocol.name))
    }

    fn all_support(&self, protocol: &str) -> bool {
        self.members
            .values()
            .all(|member| member.supports(protocol))
    }

    /// The protocol for the next generation: of those that all members know, the one that most of them prefer; the first
    /// by name among equals.
    pub(crate) fn select_protocol(&self) -> Option<String> {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        let first = self.members.values().next()?;
        let known = first
            .protocols
            .iter()
            .map(|protocol| protocol.name.as_str());
        let candidates: BTreeSet<&str> = known
            .filter(|protocol| self.all_support(protocol))
            .collect();
        for member in self.members.values() {
            let own = member
                .protocols
                .iter()
                .map(|protocol| protocol.name.as_str());
            if let Some(preferred) = own
                .into_iter()
                .find(|protocol| candidates.contains(protocol))
            {
                *votes.entry(preferred).or_default() += 1;
            }
        }
        let most = votes.values().max().copied()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(protocol, _)| protocol.to_owned())
    }

    /// Bytes that the members hold, one more with `protocols` included.
    pub(crate) fn bytes_with(&self, joining: &MemberId, protocols: &[Protocol]) -> usize {
        let others = self.members.values().filter(|member| member.id != *joining);
        others.map(Member::bytes).sum::<usize>() + protocols_bytes(protocols)
    }

    /// Whether some member reads `topic`. A consumer group whose subscriptions cannot be read may read any.
    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        if self.protocol_type.as_deref() != Some(CONSUMER) {
            return false;
        }
        self.members.values().any(|member| {
            let protocol = self.protocol.as_deref();
            let reads = |metadata: &[u8]| {
                subscription::topics(metadata).is_none_or(|topics| topics.contains(topic))
            };
            match protocol {
                Some(_) => reads(&member.metadata(protocol)),
                None => member.protocols.iter().any(|own| reads(&own.metadata)),
            }
        })
    }

    /// Whether all members' subscriptions can be read.
    pub(crate) fn knows_subscriptions(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER)
            && self.members.values().all(|member| {
                subscription::topics(&member.metadata(self.protocol.as_deref())).is_some()
            })
    }

    /// Lets go of everyone who waits: they are to ask again, whatever the group is then.
    pub(crate) fn let_go(&mut self) -> Vec<(CallId, Response)> {
        let mut waiting = Vec::new();
        for member in self.members.values_mut() {
            let refused = JoinRefused {
                error: GroupError::RebalanceInProgress,
                member: member.id.clone(),
            };
            let join = member.join_call.take();
            waiting.extend(join.map(|call| (call, Response::Join(Err(refused)))));
            let answer = Response::Sync(Err(GroupError::RebalanceInProgress));
            waiting.extend(member.sync_call.take().map(|call| (call, answer)));
        }
        waiting
    }

    /// Its members are there, with assignments: it is stable, and in the log.
    pub(crate) fn settle(&mut self, now: WallMs) {
        self.protocol = self.select_protocol();
        self.phase = Phase::Stable { deadline: None };
        self.phase_since = Some(now);
        self.stored = true;
    }

    /// From when the retention of the group's offsets counts.
    pub(crate) fn retained_since(&self) -> Since {
        match (&self.protocol_type, self.phase) {
            // It never had members: each offset counts for itself.
            (None, _) => Since::Commit,
            (Some(_), Phase::Empty) => self
                .phase_since
                .map_or(Since::Commit, |since| Since::Moment(since.0)),
            (Some(_), Phase::Stable { .. }) if self.knows_subscriptions() => Since::Commit,
            (Some(_), _) => Since::Never,
        }
    }

    /// Takes over what the log says of the group's metadata.
    pub(crate) fn restore(&mut self, stored: StoredGroup) {
        self.members = BTreeMap::new();
        self.static_members = BTreeMap::new();
        let protocol = stored.protocol.clone().unwrap_or_default();
        for member in stored.members {
            if let Some(instance) = &member.instance {
                self.static_members
                    .insert(instance.clone(), member.id.clone());
            }
            self.members
                .insert(member.id.clone(), Member::restored(member, &protocol));
        }
        self.protocol_type =
            Some(stored.protocol_type).filter(|protocol_type| !protocol_type.is_empty());
        self.generation = stored.generation;
        self.protocol = stored.protocol;
        self.leader = stored
            .leader
            .filter(|leader| self.members.contains_key(leader));
        self.leader = self
            .leader
            .take()
            .or_else(|| self.members.keys().next().cloned());
        self.phase_since = stored.phase_since;
        self.phase = if self.members.is_empty() {
            Phase::Empty
        } else {
            Phase::Stable { deadline: None }
        };
        self.stored = true;
        self.suspended = self.has_paused_assignments();
    }

    /// Goes on after loading: every member's silence counts from now, for nobody could reach the coordinator before.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(id, turn.now.mono);
        }
        if ids.len() > turn.config.group_size_max {
            self.rebalance(turn);
        }
    }

    /// The group's metadata as it is now, for the log.
    pub(crate) fn to_stored(&self) -> Result<StoredRecord, EncodeError> {
        let members = self.members.values().map(|member| StoredMember {
            id: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        });
        let group = StoredGroup {
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            phase_since: self.phase_since,
            members: members.collect(),
        };
        StoredRecord::group(&self.id, &group)
    }
}
