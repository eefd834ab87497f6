//! What groups whose members are assigned by the coordinator have in common (KIP-848, KIP-932).
//!
//! Such a group has a *group epoch* that grows with each change of what could change the assignment: members, their
//! subscriptions, the topics. For the newest epoch an [`assignor`] computes the *target assignment* ([`Target`]), whole and
//! at once. Each member then moves towards its share of it in its own time, and its *member epoch* says how far it has
//! come. Consumer groups must not give a partition to a member before another one has let go of it: that is
//! [`reconcile`]. All of this is pure; the states are owned by the groups.
//!
//! # How share groups plug in
//!
//! A share group is a type of its own, a variant of [`crate::group::Kind`], made of the same blocks:
//!
//! - members with a subscription by name (no regular expressions, no instance, no assignor of their own), an [`Epoch`] and
//!   a session deadline; group epoch, [`topics_hash`] and [`Target`] as here, stored with the keys 10 to 15 of Kafka's
//!   schemas;
//! - an assignor of its own (`simple`), a function from [`assignor::Spec`] to [`assignor::Assignment`] beside `range` and
//!   `uniform`; it may give one partition to many members;
//! - no reconciliation and no revocation: a member's current assignment is its target, and its epoch becomes that of the
//!   target with its next heartbeat;
//! - ShareGroupHeartbeat (76) and ShareGroupDescribe (77) as requests of [`crate::request`]; members that are silent are
//!   removed by `tick` as in a consumer group;
//! - the share-partition engine, which owns records in flight, knows members by id only and is told when one is gone.

pub(crate) mod assignor;
pub(crate) mod reconcile;

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{PartitionIndex, TopicId};

use crate::cluster::Cluster;
use crate::types::MemberId;

/// Counts the changes of a group, and how many of them a member has gone along with. The first is 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub i32);

impl Epoch {
    /// A member joins with it.
    pub const JOINING: Self = Self(0);
    /// A member leaves with it.
    pub const LEAVING: Self = Self(-1);
    /// A static member leaves with it, to come back under another member id.
    pub const LEAVING_FOR_A_WHILE: Self = Self(-2);

    /// The epoch after this one.
    #[must_use]
    pub(crate) fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One partition of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicId,
    /// The partition.
    pub partition: PartitionIndex,
}

/// A set of partitions.
pub type Partitions = BTreeSet<TopicPartition>;

/// The partitions by topic, as messages and records have them.
pub fn by_topic(
    partitions: impl IntoIterator<Item = TopicPartition>,
) -> BTreeMap<TopicId, Vec<i32>> {
    let mut topics: BTreeMap<TopicId, Vec<i32>> = BTreeMap::new();
    for TopicPartition { topic, partition } in partitions {
        topics.entry(topic).or_default().push(partition.0);
    }
    topics
}

/// Which member is to have which partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    /// The group epoch that it was computed for.
    pub(crate) epoch: Epoch,
    /// When, in milliseconds since 1970.
    pub(crate) at_ms: i64,
    members: BTreeMap<MemberId, Partitions>,
}

impl Target {
    /// The member's share.
    pub(crate) fn of(&self, member: &MemberId) -> Option<&Partitions> {
        self.members.get(member)
    }

    pub(crate) fn set(&mut self, member: MemberId, partitions: Partitions) {
        self.members.insert(member, partitions);
    }

    pub(crate) fn remove(&mut self, member: &MemberId) -> Option<Partitions> {
        self.members.remove(member)
    }

    pub(crate) fn members(&self) -> impl Iterator<Item = &MemberId> {
        self.members.keys()
    }

    /// Takes over `assignment` for `epoch`. The members whose share has changed, and those that had none before.
    pub(crate) fn replace(
        &mut self,
        epoch: Epoch,
        at_ms: i64,
        assignment: assignor::Assignment,
    ) -> Vec<MemberId> {
        let mut changed = Vec::new();
        for (member, partitions) in assignment {
            if self.members.get(&member) != Some(&partitions) {
                changed.push(member.clone());
                self.members.insert(member, partitions);
            }
        }
        (self.epoch, self.at_ms) = (epoch, at_ms);
        changed
    }
}

/// Stands for the topics of a group that is paused: nothing is to be assigned, whatever they are. [`topics_hash`] never
/// gives it.
pub(crate) const PAUSED_HASH: i64 = i64::MIN;

/// A number that differs when a new target is needed because topics have come, gone, grown or moved to other racks.
/// Topics that do not exist do not count.
pub(crate) fn topics_hash<'n>(
    cluster: &dyn Cluster,
    names: impl IntoIterator<Item = &'n str>,
) -> i64 {
    let mut hash = Hash::default();
    let mut is_empty = true;
    for name in names {
        let Some(topic) = cluster.topic(name) else {
            continue;
        };
        is_empty = false;
        hash.bytes(topic.id.0.as_bytes());
        hash.bytes(name.as_bytes());
        hash.bytes(&topic.partitions.to_be_bytes());
        for partition in 0..topic.partitions {
            for rack in cluster.racks(topic.id, partition) {
                hash.bytes(&partition.to_be_bytes());
                hash.bytes(rack.as_bytes());
            }
        }
    }
    // Zero is stored for "no topics", as Kafka does.
    if is_empty {
        0
    } else {
        hash.0.cast_signed().max(i64::MIN + 1)
    }
}

/// FNV-1a: stored, so it must be the same in every build. What is hashed is not chosen by an attacker to collide: the
/// worst that comes of a collision is that the group keeps its assignment until the next change.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn bytes(&mut self, bytes: &[u8]) {
        let length = (bytes.len() as u64).to_be_bytes();
        for byte in length.iter().chain(bytes) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
