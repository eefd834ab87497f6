//! From a classic group to a consumer group and back, while its members go on (KIP-848, "online migration").
//!
//! What always holds: what a member has before is what it has after; nobody else has it. Members of the classic protocol
//! are told to join again by whichever group they are in then.

use super::embedded::{assignment, encode_assignment, subscription};
use super::{ClassicSide, Consumer, ConsumerKey, ConsumerRecord, Member, Profile};
use crate::classic::{CONSUMER, Classic, Member as ClassicMember};
use crate::modern::reconcile::{Current, held_since};
use crate::modern::{Epoch, Partitions};
use crate::outbox::Turn;
use crate::request::JoinRequest;
use crate::types::{Generation, MemberId};

impl Consumer {
    /// The consumer group that a classic group becomes: none when it is not one of consumers, or its members tell each
    /// other what the coordinator cannot read.
    pub(crate) fn from_classic(turn: &Turn<'_>, classic: &Classic) -> Option<Self> {
        if classic.protocol_type.as_deref() != Some(CONSUMER) {
            return None;
        }
        let mut group = Self::new(classic.id.clone());
        group.epoch = Epoch(classic.generation.0.max(1));
        group.target.epoch = group.epoch;
        group.target.at_ms = turn.now.wall.0;
        let mut taken = Partitions::new();
        for old in classic.members.values() {
            let metadata = old.metadata(classic.protocol.as_deref());
            let metadata = match (metadata.is_empty(), old.protocols.first()) {
                // The first join of the group is not over: there is no protocol yet.
                (true, Some(first)) => first.metadata.clone(),
                _ => metadata,
            };
            let read = subscription(turn.cluster, &metadata)?;
            let mut share = assignment(turn.cluster, &old.assignment)?;
            // A leader that gives a partition to two gives it to the first.
            share.retain(|place| taken.insert(*place));
            let mut member = Member::new(old.id.clone(), profile_of(old, &read.topics, read.rack));
            member.current = Current {
                epoch: group.epoch,
                previous_epoch: group.epoch,
                ..Current::default()
            };
            let current = Current {
                assigned: held_since(share.iter().copied(), group.epoch),
                ..member.current.clone()
            };
            group.put(member);
            group.target.set(old.id.clone(), share);
            group.hold(&old.id, current);
        }
        Some(group)
    }

    /// Writes everything that there is of the group.
    pub(crate) fn emit_all(&self, turn: &mut Turn<'_>) {
        if !self.is_stored() {
            return;
        }
        for id in self.members.keys() {
            self.emit_profile(turn, id);
        }
        self.emit_group(turn);
        for id in self.members.keys() {
            self.emit_target_of(turn, id);
        }
        self.emit_target(turn);
        for id in self.members.keys() {
            self.emit_current(turn, id);
        }
        for (regex, resolved) in &self.regexes {
            let record = ConsumerRecord::Regex(resolved.clone());
            let key = ConsumerKey::Regex(regex.clone());
            turn.out.emit(record.store(&self.id, &key));
        }
    }

    /// The classic group that this one becomes, when all of its members speak the classic protocol. The end of this one
    /// and the beginning of that one are written.
    pub(crate) fn downgraded(&self, turn: &mut Turn<'_>) -> Option<Classic> {
        self.is_to_be_classic(turn)
            .then(|| self.downgraded_without(turn, None))
    }

    /// Whether all members speak the classic protocol, and the group may follow them.
    pub(super) fn is_to_be_classic(&self, turn: &Turn<'_>) -> bool {
        turn.group_settings(&self.id)
            .consumer_migration
            .may_downgrade()
            && !self.members.is_empty()
            && self.members.values().all(Member::is_classic)
    }

    /// The same, when the member that joins takes the place of the last member of the consumer protocol.
    pub(crate) fn downgrade_for(
        &self,
        turn: &mut Turn<'_>,
        request: &JoinRequest,
    ) -> Option<Classic> {
        let instance = request.instance.as_ref()?;
        let replaced = self.static_members.get(instance)?;
        let mut others = self
            .members
            .values()
            .filter(|member| member.id != *replaced);
        let is_last = !self.members.get(replaced)?.is_classic() && others.all(Member::is_classic);
        let may = turn
            .group_settings(&self.id)
            .consumer_migration
            .may_downgrade()
            && self.members.len() > 1
            && request.member.is_empty();
        (may && is_last).then(|| {
            let mut classic = self.downgraded_without(turn, Some(replaced));
            classic.resume(turn);
            classic
        })
    }

    fn downgraded_without(&self, turn: &mut Turn<'_>, gone: Option<&MemberId>) -> Classic {
        self.end(turn);
        let mut classic = Classic::new(self.id.clone());
        classic.generation = Generation(self.epoch.0);
        let stay = self
            .members
            .values()
            .filter(|member| Some(&member.id) != gone);
        for member in stay {
            let Some(side) = &member.profile.classic else {
                continue;
            };
            let version = side
                .protocols
                .first()
                .and_then(|own| Some(subscription(turn.cluster, &own.metadata)?.version));
            let assigned = member.current.assigned.keys().copied();
            let old = ClassicMember::migrated(
                member.id.clone(),
                &member.profile,
                side,
                encode_assignment(turn.cluster, assigned, version.unwrap_or(0)),
            );
            classic.add(old, CONSUMER);
        }
        classic.settle(turn.now.wall);
        turn.out.emit(classic.to_stored());
        classic
    }
}

fn profile_of(member: &ClassicMember, topics: &[&str], rack: Option<&str>) -> Profile {
    Profile {
        instance: member.instance.clone(),
        rack: rack.map(str::to_owned),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
        regex: None,
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        assignor: None,
        classic: Some(ClassicSide {
            session_timeout_ms: member.session_timeout_ms,
            protocols: member.protocols.clone(),
        }),
    }
}
