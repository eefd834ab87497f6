//! A share group (KIP-932): its members, and which partitions each of them reads.
//!
//! Owns members, group epoch, target assignment, and the list of partitions whose states the share coordinators keep for
//! the group. Made of the blocks of [`crate::modern`]; members follow their target at once, since partitions are shared.
//! What always holds:
//!
//! - Epochs only grow: the group's, the target's, and each member's.
//! - Everything that a reply tells of is in the log before it.
//! - A partition that a member was given is in `states`, so that what is stored of it can be found and dropped.
//! - `wake_at` is never later than the next member's session ends.

mod describe;
mod heartbeat;
mod replay;
mod stored;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use stored::{ShareKey, ShareRecord};
use weir_wire::TopicId;

use crate::error::GroupError;
use crate::modern::assignor::{MemberSpec, Spec, simple};
use crate::modern::{Epoch, PAUSED_HASH, Partitions, Target, TopicPartition, topics_hash};
use crate::outbox::Turn;
use crate::request::GroupState;
use crate::types::{GroupId, MemberId, MonoMs};

/// Kafka's name of the protocol, in lists of groups.
pub(crate) const SHARE: &str = "share";
/// Kafka's name of the assignor.
pub(crate) const ASSIGNOR: &str = "simple";

/// What a member says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) rack: Option<String>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) topics: BTreeSet<String>,
}

impl Profile {
    fn bytes(&self) -> usize {
        let names: usize = self.topics.iter().map(String::len).sum();
        let rack = self.rack.as_ref().map_or(0, String::len);
        names + rack + self.client_id.len() + self.client_host.len()
    }
}

/// What a member has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Current {
    pub(crate) epoch: Epoch,
    /// The one before, with which a member comes that has not heard of the newest.
    pub(crate) previous_epoch: Epoch,
    pub(crate) assigned: Partitions,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Member {
    pub(crate) profile: Profile,
    pub(crate) current: Current,
    session_deadline: MonoMs,
}

/// Partitions with a state, of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stated {
    pub(crate) name: Arc<str>,
    pub(crate) partitions: BTreeSet<i32>,
}

/// By topic.
pub(crate) type States = BTreeMap<TopicId, Stated>;

/// A share group.
#[derive(Debug)]
pub(crate) struct ShareGroup {
    pub(crate) id: GroupId,
    pub(crate) epoch: Epoch,
    /// Of the topics that the newest epoch knows.
    pub(crate) topics_hash: i64,
    /// The revision of the metadata that was looked at last; none before the first look.
    seen: Option<u64>,
    pub(crate) members: BTreeMap<MemberId, Member>,
    pub(crate) target: Target,
    pub(crate) states: States,
    /// What members have, while the log is read.
    loaded: BTreeMap<MemberId, Current>,
    /// Bytes that the members' profiles hold.
    bytes: usize,
    wake_at: Option<MonoMs>,
}

impl ShareGroup {
    pub(crate) fn new(id: GroupId) -> Self {
        Self {
            id,
            epoch: Epoch::default(),
            topics_hash: 0,
            seen: None,
            members: BTreeMap::new(),
            target: Target::default(),
            states: States::new(),
            loaded: BTreeMap::new(),
            bytes: 0,
            wake_at: None,
        }
    }

    /// Something of it is in the log.
    pub(crate) fn is_stored(&self) -> bool {
        self.epoch > Epoch::default() || !self.members.is_empty() || !self.states.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(crate) fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else {
            GroupState::Stable
        }
    }

    /// Nobody has a partition.
    pub(crate) fn is_idle(&self) -> bool {
        let mut members = self.members.values();
        members.all(|member| member.current.assigned.is_empty())
    }

    pub(crate) fn wake_at(&self) -> Option<MonoMs> {
        self.wake_at
    }

    pub(crate) fn is_subscribed_to(&self, topic: &str) -> bool {
        let mut profiles = self.members.values().map(|member| &member.profile);
        profiles.any(|profile| profile.topics.contains(topic))
    }

    /// Goes on after loading: every member's silence counts from now, for nobody could reach the coordinator before.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(turn, id);
        }
    }

    /// Acts on every deadline that has passed, and asks to be woken for the next.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        let silent = self
            .members
            .iter()
            .filter(|(_, member)| member.session_deadline <= now);
        let silent: Vec<MemberId> = silent.map(|(id, _)| id.clone()).collect();
        for id in &silent {
            tracing::info!(group = %self.id, member = %id, "member of a share group was silent for too long");
        }
        self.remove(turn, &silent);
        let deadlines = self.members.values().map(|member| member.session_deadline);
        self.wake_at = deadlines.min();
    }

    /// The end of everything that is stored of the group.
    pub(crate) fn end(&self, turn: &mut Turn<'_>) {
        for id in self.members.keys() {
            self.emit_member_end(turn, id);
        }
        for key in [ShareKey::States, ShareKey::Target, ShareKey::Group] {
            turn.out.emit(key.tombstone(&self.id));
        }
    }

    /// A topic is gone for ever, and its states with it.
    pub(crate) fn forget_topic(&mut self, turn: &mut Turn<'_>, topic: TopicId) {
        if self.states.remove(&topic).is_some() {
            self.emit_states(turn);
        }
    }

    /// Adds and drops partitions whose states are set from outside; only while nobody reads.
    pub(crate) fn change_states(
        &mut self,
        turn: &mut Turn<'_>,
        add: &[TopicPartition],
        remove: &[TopicId],
    ) -> Result<(), GroupError> {
        if !self.members.is_empty() {
            return Err(GroupError::NonEmptyGroup);
        }
        let before = self.states.clone();
        for partition in add {
            let Some(topic) = turn.cluster.topic_by_id(partition.topic) else {
                continue;
            };
            let stated = self.states.entry(partition.topic).or_insert(Stated {
                name: topic.name,
                partitions: BTreeSet::new(),
            });
            stated.partitions.insert(partition.partition.0);
        }
        for topic in remove {
            self.states.remove(topic);
        }
        if self.states != before {
            self.emit_states(turn);
        }
        Ok(())
    }

    /// Looks whether the assignment is out of date, and computes the next one if so.
    fn refresh(&mut self, turn: &mut Turn<'_>, subscription_changed: bool) {
        let revision = turn.cluster.revision();
        if subscription_changed {
            self.bump(turn);
        } else if self.seen != Some(revision) {
            if self.hash(turn) != self.topics_hash {
                self.bump(turn);
            }
            self.seen = Some(revision);
        }
        if self.epoch > self.target.epoch {
            self.assign(turn);
        }
    }

    /// Goes to the next epoch.
    fn bump(&mut self, turn: &mut Turn<'_>) {
        self.seen = Some(turn.cluster.revision());
        self.topics_hash = self.hash(turn);
        self.epoch = self.epoch.next();
        let record = ShareRecord::Group {
            epoch: self.epoch,
            topics_hash: self.topics_hash,
        };
        turn.out.emit(ShareKey::Group.record(&self.id, &record));
    }

    fn hash(&self, turn: &Turn<'_>) -> i64 {
        if turn.group_settings(&self.id).is_paused {
            return PAUSED_HASH;
        }
        topics_hash(turn.cluster, self.subscribed().iter().map(String::as_str))
    }

    fn subscribed(&self) -> BTreeSet<String> {
        let members = self.members.values();
        members
            .flat_map(|member| member.profile.topics.iter().cloned())
            .collect()
    }

    /// Computes the target of the newest epoch.
    fn assign(&mut self, turn: &mut Turn<'_>) {
        let spec = self.spec(turn);
        self.give_states(turn, &spec);
        let changed = self
            .target
            .replace(self.epoch, turn.now.wall.0, simple(&spec));
        for id in &changed {
            let share = self.target.of(id).cloned().unwrap_or_default();
            let record = ShareRecord::TargetMember(share);
            let key = ShareKey::TargetMember(id.clone());
            turn.out.emit(key.record(&self.id, &record));
        }
        let record = ShareRecord::Target {
            epoch: self.epoch,
            at_ms: turn.now.wall.0,
        };
        turn.out.emit(ShareKey::Target.record(&self.id, &record));
    }

    /// What the assignor is told: topics that there are, as far as their partitions fit one record.
    fn spec(&self, turn: &Turn<'_>) -> Spec {
        let mut topics = BTreeMap::new();
        let mut ids = BTreeMap::new();
        let mut bytes = self.states.values().map(Stated::bytes).sum::<usize>();
        let is_paused = turn.group_settings(&self.id).is_paused;
        for name in self.subscribed().into_iter().filter(|_| !is_paused) {
            let Some(topic) = turn.cluster.topic(&name) else {
                continue;
            };
            let count = usize::try_from(topic.partitions).unwrap_or(0);
            bytes += name.len() + STATED_BYTES + 4 * count;
            if bytes > turn.config.record_bytes_max {
                tracing::warn!(group = %self.id, topic = %name, "not assigned: the share group reads too many partitions");
                break;
            }
            topics.insert(topic.id, topic.partitions);
            ids.insert(name, topic.id);
        }
        let members = self.members.iter().map(|(id, member)| {
            let read = member.profile.topics.iter();
            let spec = MemberSpec {
                topics: read.filter_map(|name| ids.get(name).copied()).collect(),
                before: self.target.of(id).cloned().unwrap_or_default(),
                ..MemberSpec::default()
            };
            (id.clone(), spec)
        });
        Spec {
            members: members.collect(),
            topics,
        }
    }

    /// Everything that is assigned has a state.
    fn give_states(&mut self, turn: &mut Turn<'_>, spec: &Spec) {
        let before = self.states.clone();
        for (id, count) in &spec.topics {
            let Some(topic) = turn.cluster.topic_by_id(*id) else {
                continue;
            };
            let stated = self.states.entry(*id).or_insert(Stated {
                name: topic.name,
                partitions: BTreeSet::new(),
            });
            stated.partitions.extend(0..*count);
        }
        if self.states != before {
            self.emit_states(turn);
        }
    }

    /// The member has its share of the target, and its epoch.
    fn follow_target(&mut self, turn: &mut Turn<'_>, id: &MemberId) {
        let share = self.target.of(id).cloned().unwrap_or_default();
        let Some(member) = self.members.get_mut(id) else {
            return;
        };
        if member.current.epoch == self.target.epoch && member.current.assigned == share {
            return;
        }
        member.current = Current {
            previous_epoch: member.current.epoch,
            epoch: self.target.epoch,
            assigned: share,
        };
        let record = ShareRecord::Current(member.current.clone());
        let key = ShareKey::Current(id.clone());
        turn.out.emit(key.record(&self.id, &record));
    }

    /// Forgets members.
    fn remove(&mut self, turn: &mut Turn<'_>, ids: &[MemberId]) {
        for id in ids {
            if let Some(member) = self.members.remove(id) {
                self.bytes -= member.profile.bytes();
                self.target.remove(id);
                self.emit_member_end(turn, id);
            }
        }
        if !ids.is_empty() {
            self.bump(turn);
        }
    }

    /// Counts the member's silence from now on.
    fn touch(&mut self, turn: &Turn<'_>, id: &MemberId) {
        let session_ms = turn.group_settings(&self.id).share_session_timeout_ms;
        if let Some(member) = self.members.get_mut(id) {
            let deadline = turn.now.mono.after(u64::try_from(session_ms).unwrap_or(0));
            member.session_deadline = deadline;
            self.wake_at = Some(self.wake_at.map_or(deadline, |at| at.min(deadline)));
        }
    }

    fn emit_states(&self, turn: &mut Turn<'_>) {
        let record = ShareRecord::States(self.states.clone());
        turn.out.emit(ShareKey::States.record(&self.id, &record));
    }

    fn emit_member_end(&self, turn: &mut Turn<'_>, id: &MemberId) {
        for key in [
            ShareKey::Current(id.clone()),
            ShareKey::TargetMember(id.clone()),
            ShareKey::Member(id.clone()),
        ] {
            turn.out.emit(key.tombstone(&self.id));
        }
    }
}

/// Bytes that a topic takes in the stored list of states, beside its name and partitions.
const STATED_BYTES: usize = 32;

impl Stated {
    fn bytes(&self) -> usize {
        STATED_BYTES + self.name.len() + 4 * self.partitions.len()
    }
}
