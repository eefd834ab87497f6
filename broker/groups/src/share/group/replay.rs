//! A share group from its records.

use super::{ShareGroup, ShareKey, ShareRecord};

impl ShareGroup {
    /// Takes in a record of the log.
    pub(crate) fn replay(&mut self, key: ShareKey, record: Option<ShareRecord>) {
        match (key, record) {
            (_, Some(ShareRecord::Group { epoch, topics_hash })) => {
                (self.epoch, self.topics_hash) = (epoch, topics_hash);
            }
            (ShareKey::Member(id), Some(ShareRecord::Member(profile))) => self.put(&id, profile),
            (ShareKey::Member(id), _) => {
                if let Some(member) = self.members.remove(&id) {
                    self.bytes -= member.profile.bytes();
                }
            }
            (_, Some(ShareRecord::Target { epoch, at_ms })) => {
                (self.target.epoch, self.target.at_ms) = (epoch, at_ms);
            }
            (ShareKey::TargetMember(id), Some(ShareRecord::TargetMember(share))) => {
                self.target.set(id, share);
            }
            (ShareKey::TargetMember(id), _) => {
                self.target.remove(&id);
            }
            (ShareKey::Current(id), Some(ShareRecord::Current(current))) => {
                self.loaded.insert(id, current);
            }
            (ShareKey::Current(id), _) => {
                self.loaded.remove(&id);
            }
            (_, Some(ShareRecord::States(states))) => self.states = states,
            (ShareKey::States, _) => self.states.clear(),
            // The end of these comes with that of the group.
            (ShareKey::Group | ShareKey::Target, _) => {}
        }
    }

    /// The log was read to its end. False when nothing is left of the group.
    pub(crate) fn replayed(&mut self) -> bool {
        // In a compacted log what a member has may come before the member.
        for (id, current) in std::mem::take(&mut self.loaded) {
            if let Some(member) = self.members.get_mut(&id) {
                member.current = current;
            }
        }
        self.is_stored()
    }
}
