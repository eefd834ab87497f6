//! A consumer group from its records.
//!
//! Records of one group come in any order that compaction leaves, so a member may have a current assignment before it has
//! a profile. Assignments are put aside until all is read; those of members
//! without a profile are dropped then.

use super::{Consumer, ConsumerKey, ConsumerRecord, Member};
use crate::modern::{Epoch, Target, TopicPartition};
use crate::types::MemberId;

impl Consumer {
    /// Takes in the next record of the group.
    pub(crate) fn replay(&mut self, key: ConsumerKey, value: Option<ConsumerRecord>) {
        match (key, value) {
            (ConsumerKey::Member(id), Some(ConsumerRecord::Member(profile))) => {
                self.put(Member::new(id, profile));
            }
            (ConsumerKey::Member(id), _) => drop(self.forget(&id)),
            (ConsumerKey::Current(id), Some(ConsumerRecord::Current(current))) => {
                self.loaded.insert(id, current);
            }
            (ConsumerKey::Current(id), _) => drop(self.loaded.remove(&id)),
            (ConsumerKey::TargetMember(id), Some(ConsumerRecord::TargetMember(share))) => {
                self.target.set(id, share);
            }
            (ConsumerKey::TargetMember(id), _) => drop(self.target.remove(&id)),
            (ConsumerKey::Group, Some(ConsumerRecord::Group { epoch, topics_hash })) => {
                (self.epoch, self.topics_hash) = (epoch, topics_hash);
            }
            (ConsumerKey::Group, _) => (self.epoch, self.topics_hash) = (Epoch::default(), 0),
            (ConsumerKey::Target, Some(ConsumerRecord::Target { epoch, at_ms })) => {
                (self.target.epoch, self.target.at_ms) = (epoch, at_ms);
            }
            (ConsumerKey::Target, _) => self.target = Target::default(),
            (ConsumerKey::Regex(regex), Some(ConsumerRecord::Regex(resolved))) => {
                self.regexes.insert(regex, resolved);
            }
            (ConsumerKey::Regex(regex), _) => drop(self.regexes.remove(&regex)),
        }
    }

    /// Everything was replayed: what belongs to nobody goes. Tells whether there is such a group at all.
    pub(crate) fn replayed(&mut self) -> bool {
        let mut loaded = std::mem::take(&mut self.loaded);
        for (id, member) in &mut self.members {
            member.current = loaded.remove(id).unwrap_or_default();
        }
        let stray = self
            .target
            .members()
            .filter(|id| !self.members.contains_key(*id));
        for id in stray.cloned().collect::<Vec<MemberId>>() {
            self.target.remove(&id);
        }
        self.settle_owners();
        self.is_stored()
    }

    /// Who has what, from what the members have. A log in which two have the same is not ours: the first by id keeps it,
    /// and the other gets it again when it is free and its target says so.
    fn settle_owners(&mut self) {
        self.owners.clear();
        for (id, member) in &mut self.members {
            let mut is_free = |place: &TopicPartition| match self.owners.get(place) {
                Some(_) => false,
                None => self.owners.insert(*place, id.clone()).is_none(),
            };
            member.current.assigned.retain(|place, _| is_free(place));
            member.current.revoking.retain(|place, _| is_free(place));
        }
    }
}
