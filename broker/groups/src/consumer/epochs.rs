//! From a change to the next epoch, from the epoch to its target, from the target to what each member has.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::TopicId;

use super::Consumer;
use super::stored::{ConsumerKey, ConsumerRecord};
use crate::modern::assignor::{CONSUMER_ASSIGNORS, MemberSpec, Spec};
use crate::modern::reconcile::{Progress, Way};
use crate::modern::{PAUSED_HASH, Partitions, topics_hash};
use crate::outbox::Turn;
use crate::types::MemberId;

impl Consumer {
    /// Looks whether the assignment is out of date, and computes the next one if so.
    pub(super) fn refresh(&mut self, turn: &mut Turn<'_>, subscription_changed: bool) {
        if subscription_changed {
            self.drop_unused_regexes(turn);
        }
        let regexes_changed = self.match_regexes(turn);
        let revision = turn.cluster.revision();
        if subscription_changed || regexes_changed {
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
    pub(super) fn bump(&mut self, turn: &mut Turn<'_>) {
        self.seen = Some(turn.cluster.revision());
        self.topics_hash = self.hash(turn);
        self.epoch = self.epoch.next();
        self.emit_group(turn);
    }

    fn hash(&self, turn: &Turn<'_>) -> i64 {
        if turn.group_settings(&self.id).is_paused {
            return PAUSED_HASH;
        }
        topics_hash(turn.cluster, self.subscribed())
    }

    /// Computes the target of the newest epoch.
    pub(super) fn assign(&mut self, turn: &mut Turn<'_>) {
        let spec = self.spec(turn);
        let name = self.preferred_assignor();
        let assignor = CONSUMER_ASSIGNORS.iter().find(|(known, _)| *known == name);
        let assignment = assignor.unwrap_or(&CONSUMER_ASSIGNORS[0]).1(&spec);
        let changed = self.target.replace(self.epoch, turn.now.wall.0, assignment);
        for member in &changed {
            self.emit_target_of(turn, member);
        }
        self.emit_target(turn);
    }

    /// The assignor that most members ask for; the default when none does.
    pub(crate) fn preferred_assignor(&self) -> &str {
        let mut votes: BTreeMap<&str, usize> = BTreeMap::new();
        for member in self.members.values() {
            if let Some(name) = member.profile.assignor.as_deref() {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().max().copied();
        let preferred = votes.iter().find(|(_, count)| Some(**count) == most);
        preferred.map_or(CONSUMER_ASSIGNORS[0].0, |(name, _)| *name)
    }

    fn spec(&self, turn: &Turn<'_>) -> Spec {
        let mut spec = Spec::default();
        let is_paused = turn.group_settings(&self.id).is_paused;
        let mut ids: BTreeMap<&str, TopicId> = BTreeMap::new();
        let mut room = turn.config.assigned_partitions_max;
        for name in self.subscribed().into_iter().filter(|_| !is_paused) {
            let Some(topic) = turn.cluster.topic(name) else {
                continue;
            };
            let count = usize::try_from(topic.partitions).unwrap_or(0);
            if count > room {
                tracing::warn!(group = %self.id, topic = name, "more partitions than one group may have: not assigned");
                continue;
            }
            room -= count;
            ids.insert(name, topic.id);
            spec.topics.insert(topic.id, topic.partitions);
        }
        for (id, member) in &self.members {
            let topics = self.subscribed_by(&member.profile);
            let member = MemberSpec {
                instance: member.profile.instance.clone(),
                topics: topics.filter_map(|name| ids.get(name)).copied().collect(),
                before: self.target.of(id).cloned().unwrap_or_default(),
            };
            spec.members.insert(id.clone(), member);
        }
        spec
    }

    /// Moves a member on its way to its target, as far as it can go now. Tells whether it has moved.
    pub(super) fn reconcile(
        &mut self,
        turn: &mut Turn<'_>,
        id: &MemberId,
        owned: Option<&Partitions>,
    ) -> bool {
        let Some(member) = self.members.get(id) else {
            return false;
        };
        let nothing = Partitions::new();
        let names: BTreeSet<&str> = self.subscribed_by(&member.profile).collect();
        let way = Way {
            target: self.target.of(id).unwrap_or(&nothing),
            target_epoch: self.target.epoch,
            owned,
            subscribes: &|topic| {
                let topic = turn.cluster.topic_by_id(topic);
                topic.is_some_and(|topic| names.contains(&*topic.name))
            },
            is_held: &|partition| self.owners.contains_key(partition),
        };
        let Some(next) = way.next(&member.current) else {
            return false;
        };
        let (progress, epoch) = (next.progress, next.epoch);
        self.hold(id, next);
        self.emit_current(turn, id);
        let Some(member) = self.members.get_mut(id) else {
            return true;
        };
        if progress == Progress::Unrevoked {
            let timeout_ms = u64::try_from(member.profile.rebalance_timeout_ms).unwrap_or(0);
            let deadline = turn.now.mono.after(timeout_ms);
            member.revocation = Some((deadline, epoch));
            self.arm(deadline);
        } else {
            member.revocation = None;
        }
        true
    }

    pub(super) fn emit_group(&self, turn: &mut Turn<'_>) {
        let record = ConsumerRecord::Group {
            epoch: self.epoch,
            topics_hash: self.topics_hash,
        };
        turn.out.emit(record.store(&self.id, &ConsumerKey::Group));
    }

    pub(super) fn emit_target(&self, turn: &mut Turn<'_>) {
        let record = ConsumerRecord::Target {
            epoch: self.target.epoch,
            at_ms: self.target.at_ms,
        };
        turn.out.emit(record.store(&self.id, &ConsumerKey::Target));
    }

    pub(super) fn emit_target_of(&self, turn: &mut Turn<'_>, id: &MemberId) {
        let share = self.target.of(id).cloned().unwrap_or_default();
        let record = ConsumerRecord::TargetMember(share);
        turn.out
            .emit(record.store(&self.id, &ConsumerKey::TargetMember(id.clone())));
    }

    pub(super) fn emit_profile(&self, turn: &mut Turn<'_>, id: &MemberId) {
        if let Some(member) = self.members.get(id) {
            let record = ConsumerRecord::Member(member.profile.clone());
            turn.out
                .emit(record.store(&self.id, &ConsumerKey::Member(id.clone())));
        }
    }

    pub(super) fn emit_current(&self, turn: &mut Turn<'_>, id: &MemberId) {
        if let Some(member) = self.members.get(id) {
            let record = ConsumerRecord::Current(member.current.clone());
            turn.out
                .emit(record.store(&self.id, &ConsumerKey::Current(id.clone())));
        }
    }
}
