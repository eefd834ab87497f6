//! A group of the consumer protocol (KIP-848): the coordinator assigns, members reconcile by heartbeats.
//!
//! Owns the members, the group epoch, the target assignment and who has which partition. What changes it is in
//! `heartbeat`, `leave`, `epochs` and `timers`; members that speak the classic protocol are served by `classic_members`,
//! and whole groups change their type in `migration`. What always holds:
//!
//! - A partition is held by one member at most, and `owners` says by whom.
//! - `static_members` has the current id of each instance, which is a member.
//! - Epochs only grow: the group's, the target's, and each member's (a static member that is away has -2 until it is back).
//! - Everything that a reply tells of is in the log before it.
//! - `wake_at` is never later than the group's next deadline.

mod classic_members;
mod commit;
mod describe;
mod embedded;
mod epochs;
mod heartbeat;
mod leave;
mod member;
mod migration;
mod replay;
mod stored;
mod subscriptions;
mod timers;

use std::collections::BTreeMap;

pub(crate) use member::{ClassicSide, Member, Profile};
pub(crate) use stored::{ConsumerKey, ConsumerRecord};
pub(crate) use subscriptions::Resolved;

use crate::modern::reconcile::{Current, Progress};
use crate::modern::{Epoch, Target, TopicPartition};
use crate::outbox::Turn;
use crate::request::GroupState;
use crate::types::{GroupId, InstanceId, MemberId, MonoMs};

/// A consumer group.
#[derive(Debug)]
pub(crate) struct Consumer {
    pub(crate) id: GroupId,
    pub(crate) epoch: Epoch,
    /// Of the topics that the newest epoch knows.
    pub(crate) topics_hash: i64,
    /// The revision of the metadata that was looked at last; none before the first look.
    seen: Option<u64>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) static_members: BTreeMap<InstanceId, MemberId>,
    pub(crate) target: Target,
    /// Who has each partition that somebody has.
    owners: BTreeMap<TopicPartition, MemberId>,
    /// The regular expressions that members subscribe with, and the topics that match.
    pub(crate) regexes: BTreeMap<String, Resolved>,
    /// When the expressions were matched with all topics last.
    regexes_checked: MonoMs,
    /// What members have, while the log is read.
    loaded: BTreeMap<MemberId, Current>,
    /// Bytes that the members' subscriptions hold.
    bytes: usize,
    wake_at: Option<MonoMs>,
}

impl Consumer {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            epoch: Epoch::default(),
            topics_hash: 0,
            seen: None,
            members: BTreeMap::new(),
            static_members: BTreeMap::new(),
            target: Target::default(),
            owners: BTreeMap::new(),
            regexes: BTreeMap::new(),
            regexes_checked: MonoMs::default(),
            loaded: BTreeMap::new(),
            bytes: 0,
            wake_at: None,
        }
    }

    /// Something of it is in the log.
    pub(crate) fn is_stored(&self) -> bool {
        self.epoch > Epoch::default() || !self.members.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.target.epoch {
            GroupState::Assigning
        } else if self
            .members
            .values()
            .all(|member| self.has_arrived(&member.current))
        {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Nobody has a partition.
    pub(crate) fn is_idle(&self) -> bool {
        self.owners.is_empty()
    }

    fn has_arrived(&self, current: &Current) -> bool {
        current.progress == Progress::Stable && current.epoch == self.target.epoch
    }

    pub(crate) fn wake_at(&self) -> Option<MonoMs> {
        self.wake_at
    }

    /// Asks to be looked at no later than `deadline`.
    fn arm(&mut self, deadline: MonoMs) {
        self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
    }

    /// Takes in a member as it is now, under its id.
    pub(crate) fn put(&mut self, member: Member) {
        if let Some(old) = self.members.get(&member.id) {
            self.bytes -= old.profile.bytes();
            if let Some(instance) = old.profile.instance.clone()
                && self.static_members.get(&instance) == Some(&member.id)
            {
                self.static_members.remove(&instance);
            }
        }
        self.bytes += member.profile.bytes();
        if let Some(instance) = &member.profile.instance {
            self.static_members
                .insert(instance.clone(), member.id.clone());
        }
        self.members.insert(member.id.clone(), member);
    }

    /// The member has `current` from now on.
    fn hold(&mut self, id: &MemberId, current: Current) {
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        for partition in member.current.held() {
            if self.owners.get(partition) == Some(id) {
                self.owners.remove(partition);
            }
        }
        for partition in current.held() {
            let before = self.owners.insert(*partition, id.clone());
            debug_assert!(before.is_none(), "two members have {partition:?}");
        }
        member.current = current;
    }

    /// Forgets a member; what it had is free.
    fn forget(&mut self, id: &MemberId) -> Option<Member> {
        self.hold(id, Current::default());
        let member = self.members.remove(id)?;
        self.bytes -= member.profile.bytes();
        if let Some(instance) = &member.profile.instance
            && self.static_members.get(instance) == Some(id)
        {
            self.static_members.remove(instance);
        }
        self.target.remove(id);
        Some(member)
    }

    /// The end of everything that is stored of the group.
    pub(crate) fn end(&self, turn: &mut Turn<'_>) {
        for id in self.members.keys() {
            self.emit_member_end(turn, id);
        }
        for regex in self.regexes.keys() {
            let key = ConsumerKey::Regex(regex.clone());
            turn.out.emit(key.tombstone(&self.id));
        }
        turn.out.emit(ConsumerKey::Target.tombstone(&self.id));
        turn.out.emit(ConsumerKey::Group.tombstone(&self.id));
    }

    fn emit_member_end(&self, turn: &mut Turn<'_>, id: &MemberId) {
        for key in [
            ConsumerKey::Current(id.clone()),
            ConsumerKey::TargetMember(id.clone()),
            ConsumerKey::Member(id.clone()),
        ] {
            turn.out.emit(key.tombstone(&self.id));
        }
    }

    /// Whether every partition has the owner that it should have.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut owners = BTreeMap::new();
        for (id, member) in &self.members {
            assert_eq!(*id, member.id);
            for partition in member.current.held() {
                assert!(
                    owners.insert(*partition, id.clone()).is_none(),
                    "two members have {partition:?}"
                );
            }
        }
        assert_eq!(owners, self.owners);
        for (instance, id) in &self.static_members {
            assert_eq!(self.members[id].profile.instance.as_ref(), Some(instance));
        }
        assert!(self.target.epoch <= self.epoch);
        let bytes: usize = self
            .members
            .values()
            .map(|member| member.profile.bytes())
            .sum();
        assert_eq!(bytes, self.bytes);
        for member in self.members.values() {
            assert!(
                self.wake_at.is_some_and(|at| at <= member.session_deadline),
                "it would live for ever"
            );
        }
    }

    /// Whether another coordinator has loaded the same.
    #[cfg(test)]
    pub(crate) fn assert_same(&self, other: &Self) {
        assert_eq!(
            (self.epoch, self.topics_hash),
            (other.epoch, other.topics_hash)
        );
        assert_eq!(self.target, other.target);
        assert_eq!(self.owners, other.owners);
        assert_eq!(self.static_members, other.static_members);
        assert!(self.members.keys().eq(other.members.keys()));
        for (id, member) in &self.members {
            let loaded = &other.members[id];
            assert_eq!(member.profile, loaded.profile);
            assert_eq!(member.current, loaded.current);
        }
        let matched = |group: &Self| -> Vec<_> {
            let regexes = group.regexes.iter();
            regexes
                .map(|(regex, resolved)| (regex.clone(), resolved.topics.clone()))
                .collect()
        };
        assert_eq!(matched(self), matched(other));
    }
}
