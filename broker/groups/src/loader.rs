//! From the log of a shard to its coordinator.
//!
//! Owns the groups while their records are replayed. What always holds: the last record of a key decides; what has been
//! loaded is what was durable, whatever the bounds for new things are.

use std::collections::BTreeMap;

use crate::classic::Classic;
use crate::config::Config;
use crate::consumer::{Consumer, ConsumerKey, ConsumerRecord};
use crate::coordinator::Coordinator;
use crate::group::{Group, Kind};
use crate::machine::{Marker, Producer};
use crate::pending::Producers;
use crate::share::group::{ShareGroup, ShareKey, ShareRecord};
use crate::stored::{Stored, StoredError};
use crate::types::{GroupId, Now};

/// Replays a shard's log from its start. There is no coordinator to ask before this is done.
#[derive(Debug, Default)]
pub struct Loader {
    groups: BTreeMap<GroupId, Group>,
    producers: Producers,
}

impl Loader {
    /// Takes in the next record of the log. Kinds that belong to other features are passed over.
    ///
    /// # Errors
    /// When a record of a known kind cannot be decoded: the shard must not be served, for offsets would be missing.
    pub fn replay(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), StoredError> {
        match Stored::decode(key, value)? {
            Stored::Offset {
                group,
                topic,
                partition,
                value: Some(offset),
            } => {
                let group = self.group(group);
                group.pending.overtake(&topic, partition);
                group.offsets.put(&topic, partition, offset);
            }
            Stored::Offset {
                group,
                topic,
                partition,
                value: None,
            } => {
                let group = self.group(group);
                group.pending.remove(&topic, partition);
                group.offsets.remove(&topic, partition);
            }
            Stored::Group {
                group,
                value: Some(stored),
            } => {
                let mut classic = Classic::new(group.clone());
                classic.restore(stored);
                self.group(group).kind = Kind::Classic(Box::new(classic));
            }
            Stored::Group { group, value: None } => self.end(group),
            Stored::Consumer { group, key, value } => self.replay_consumer(group, key, value),
            Stored::Share { group, key, value } => self.replay_share(group, key, value),
            Stored::Resets { group, value } => {
                self.group(group).resets = value.unwrap_or_default();
            }
            Stored::Other => {}
        }
        Ok(())
    }

    /// Takes in a record of a transaction.
    ///
    /// # Errors
    /// As [`replay`](Self::replay).
    pub(crate) fn replay_pending(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        producer: Producer,
    ) -> Result<(), StoredError> {
        // Nothing but offsets is written in transactions.
        if let Stored::Offset {
            group,
            topic,
            partition,
            value: Some(offset),
        } = Stored::decode(key, value)?
        {
            self.producers.wrote(producer, &group);
            let group = self.group(group);
            group.pending.put(producer.id, &topic, partition, offset);
        }
        Ok(())
    }

    /// Takes in the end of a transaction.
    pub(crate) fn replay_marker(&mut self, marker: &Marker) {
        for id in self.producers.ended(marker) {
            if let Some(group) = self.groups.get_mut(&id) {
                group.end_transaction(marker.producer.id, marker.outcome);
            }
        }
    }

    /// The coordinator, ready for requests.
    #[must_use]
    pub fn finish(mut self, config: Config, now: Now) -> Coordinator {
        for (id, group) in &mut self.groups {
            let is_whole = match &mut group.kind {
                Kind::Classic(_) => true,
                Kind::Consumer(consumer) => consumer.replayed(),
                Kind::Share(share) => share.replayed(),
            };
            if !is_whole {
                group.kind = Kind::Classic(Box::new(Classic::new(id.clone())));
            }
        }
        Coordinator::with_groups(config, self.groups, self.producers, now)
    }

    fn replay_consumer(&mut self, id: GroupId, key: ConsumerKey, value: Option<ConsumerRecord>) {
        let is_end = key == ConsumerKey::Group && value.is_none();
        let Some(group) = (match &value {
            Some(_) => Some(self.group(id.clone())),
            None => self.groups.get_mut(&id),
        }) else {
            return;
        };
        match &mut group.kind {
            Kind::Consumer(_) if is_end => group.kind = Kind::Classic(Box::new(Classic::new(id))),
            Kind::Consumer(consumer) => consumer.replay(key, value),
            // The end of what became a group of another type since, or was deleted.
            Kind::Classic(_) | Kind::Share(_) if value.is_none() => {}
            Kind::Classic(_) | Kind::Share(_) => {
                let mut consumer = Consumer::new(id);
                consumer.replay(key, value);
                group.kind = Kind::Consumer(Box::new(consumer));
            }
        }
    }

    fn replay_share(&mut self, id: GroupId, key: ShareKey, value: Option<ShareRecord>) {
        let is_end = key == ShareKey::Group && value.is_none();
        let Some(group) = (match &value {
            Some(_) => Some(self.group(id.clone())),
            None => self.groups.get_mut(&id),
        }) else {
            return;
        };
        match &mut group.kind {
            Kind::Share(_) if is_end => group.kind = Kind::Classic(Box::new(Classic::new(id))),
            Kind::Share(share) => share.replay(key, value),
            // The end of what became a group of another type since, or was deleted.
            Kind::Classic(_) | Kind::Consumer(_) if value.is_none() => {}
            Kind::Classic(_) | Kind::Consumer(_) => {
                let mut share = ShareGroup::new(id);
                share.replay(key, value);
                group.kind = Kind::Share(Box::new(share));
            }
        }
    }

    fn group(&mut self, id: GroupId) -> &mut Group {
        self.groups
            .entry(id.clone())
            .or_insert_with(|| Group::new(id))
    }

    /// The group has ended; offsets that were committed outside of it stay.
    fn end(&mut self, id: GroupId) {
        if let Some(group) = self.groups.get_mut(&id)
            && group.classic().is_some()
        {
            group.kind = Kind::Classic(Box::new(Classic::new(id)));
        }
    }
}
