//! The records of share groups, in Kafka's format: keys 10 to 15.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::encode::EncodeError;
use weir_wire::message::MessageView;
use weir_wire::messages::share_group_current_member_assignment_value as current;
use weir_wire::messages::share_group_state_partition_metadata_value as states;
use weir_wire::messages::share_group_target_assignment_member_value as target;
use weir_wire::messages::{
    ShareGroupCurrentMemberAssignmentKey, ShareGroupCurrentMemberAssignmentKeyView,
    ShareGroupCurrentMemberAssignmentValue, ShareGroupCurrentMemberAssignmentValueView,
    ShareGroupMemberMetadataKey, ShareGroupMemberMetadataKeyView, ShareGroupMemberMetadataValue,
    ShareGroupMemberMetadataValueView, ShareGroupMetadataKey, ShareGroupMetadataKeyView,
    ShareGroupMetadataValue, ShareGroupMetadataValueView, ShareGroupStatePartitionMetadataKey,
    ShareGroupStatePartitionMetadataKeyView, ShareGroupStatePartitionMetadataValue,
    ShareGroupStatePartitionMetadataValueView, ShareGroupTargetAssignmentMemberKey,
    ShareGroupTargetAssignmentMemberKeyView, ShareGroupTargetAssignmentMemberValue,
    ShareGroupTargetAssignmentMemberValueView, ShareGroupTargetAssignmentMetadataKey,
    ShareGroupTargetAssignmentMetadataKeyView, ShareGroupTargetAssignmentMetadataValue,
    ShareGroupTargetAssignmentMetadataValueView,
};
use weir_wire::{PartitionIndex, TopicId};

use super::{Current, Profile, Stated, States};
use crate::modern::{Epoch, Partitions, TopicPartition, by_topic};
use crate::stored::{StoredError, StoredRecord, prefixed, split};
use crate::types::{GroupId, MemberId};

/// Keys and values have had one version each.
const VERSION: i16 = 0;
/// A member's state as Kafka stores it: it has what it is to have, always.
const STABLE: i8 = 0;

/// What a record is about, within its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ShareKey {
    Group,
    Member(MemberId),
    Target,
    TargetMember(MemberId),
    Current(MemberId),
    States,
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ShareRecord {
    Group { epoch: Epoch, topics_hash: i64 },
    Member(Profile),
    Target { epoch: Epoch, at_ms: i64 },
    TargetMember(Partitions),
    Current(Current),
    States(States),
}

impl ShareKey {
    /// The record that says so.
    pub(crate) fn record(
        &self,
        group: &GroupId,
        record: &ShareRecord,
    ) -> Result<StoredRecord, EncodeError> {
        Ok(StoredRecord {
            key: self.encode(group)?,
            value: Some(record.encode()?),
        })
    }

    /// The record that says that there is no such thing any more.
    pub(crate) fn tombstone(&self, group: &GroupId) -> Result<StoredRecord, EncodeError> {
        Ok(StoredRecord {
            key: self.encode(group)?,
            value: None,
        })
    }

    #[rustfmt::skip]
    fn encode(&self, group: &GroupId) -> Result<Bytes, EncodeError> {
        let group_id = group.to_string();
        match self {
            Self::Group => {
                let key = ShareGroupMetadataKey { group_id };
                prefixed(ShareGroupMetadataKey::RECORD_KIND, &key, VERSION)
            }
            Self::Target => {
                let key = ShareGroupTargetAssignmentMetadataKey { group_id };
                prefixed(ShareGroupTargetAssignmentMetadataKey::RECORD_KIND, &key, VERSION)
            }
            Self::States => {
                let key = ShareGroupStatePartitionMetadataKey { group_id };
                prefixed(ShareGroupStatePartitionMetadataKey::RECORD_KIND, &key, VERSION)
            }
            Self::Member(member) => {
                let key = ShareGroupMemberMetadataKey { group_id, member_id: member.to_string() };
                prefixed(ShareGroupMemberMetadataKey::RECORD_KIND, &key, VERSION)
            }
            Self::TargetMember(member) => {
                let key = ShareGroupTargetAssignmentMemberKey { group_id, member_id: member.to_string() };
                prefixed(ShareGroupTargetAssignmentMemberKey::RECORD_KIND, &key, VERSION)
            }
            Self::Current(member) => {
                let key = ShareGroupCurrentMemberAssignmentKey { group_id, member_id: member.to_string() };
                prefixed(ShareGroupCurrentMemberAssignmentKey::RECORD_KIND, &key, VERSION)
            }
        }
    }

    /// The key of a record of this kind, without the kind; none when it is not about share groups.
    #[rustfmt::skip]
    pub(crate) fn decode(kind: i16, key: &[u8]) -> Result<Option<(GroupId, Self)>, StoredError> {
        Ok(Some(match kind {
            ShareGroupMetadataKey::RECORD_KIND => {
                let key = ShareGroupMetadataKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::Group)
            }
            ShareGroupTargetAssignmentMetadataKey::RECORD_KIND => {
                let key = ShareGroupTargetAssignmentMetadataKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::Target)
            }
            ShareGroupStatePartitionMetadataKey::RECORD_KIND => {
                let key = ShareGroupStatePartitionMetadataKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::States)
            }
            ShareGroupMemberMetadataKey::RECORD_KIND => {
                let key = ShareGroupMemberMetadataKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::Member(key.member_id.into()))
            }
            ShareGroupTargetAssignmentMemberKey::RECORD_KIND => {
                let key = ShareGroupTargetAssignmentMemberKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::TargetMember(key.member_id.into()))
            }
            ShareGroupCurrentMemberAssignmentKey::RECORD_KIND => {
                let key = ShareGroupCurrentMemberAssignmentKeyView::decode(key, VERSION)?;
                (key.group_id.into(), Self::Current(key.member_id.into()))
            }
            _ => return Ok(None),
        }))
    }
}

impl ShareRecord {
    fn encode(&self) -> Result<Bytes, EncodeError> {
        match self {
            Self::Group { epoch, topics_hash } => {
                let value = ShareGroupMetadataValue {
                    epoch: epoch.0,
                    metadata_hash: *topics_hash,
                };
                prefixed(VERSION, &value, VERSION)
            }
            Self::Member(profile) => {
                let value = ShareGroupMemberMetadataValue {
                    rack_id: profile.rack.clone(),
                    client_id: profile.client_id.clone(),
                    client_host: profile.client_host.clone(),
                    subscribed_topic_names: profile.topics.iter().cloned().collect(),
                };
                prefixed(VERSION, &value, VERSION)
            }
            Self::Target { epoch, at_ms } => {
                let value = ShareGroupTargetAssignmentMetadataValue {
                    assignment_epoch: epoch.0,
                    assignment_timestamp: *at_ms,
                };
                prefixed(VERSION, &value, VERSION)
            }
            Self::TargetMember(share) => {
                let topics = by_topic(share.iter().copied()).into_iter();
                let topics = topics.map(|(topic, partitions)| target::TopicPartition {
                    topic_id: topic.0,
                    partitions,
                });
                let value = ShareGroupTargetAssignmentMemberValue {
                    topic_partitions: topics.collect(),
                };
                prefixed(VERSION, &value, VERSION)
            }
            Self::Current(has) => {
                let topics = by_topic(has.assigned.iter().copied()).into_iter();
                let topics = topics.map(|(topic, partitions)| current::TopicPartitions {
                    topic_id: topic.0,
                    partitions,
                });
                let value = ShareGroupCurrentMemberAssignmentValue {
                    member_epoch: has.epoch.0,
                    previous_member_epoch: has.previous_epoch.0,
                    state: STABLE,
                    assigned_partitions: topics.collect(),
                };
                prefixed(VERSION, &value, VERSION)
            }
            Self::States(kept) => {
                let topics = kept
                    .iter()
                    .map(|(topic, stated)| states::TopicPartitionsInfo {
                        topic_id: topic.0,
                        topic_name: stated.name.to_string(),
                        partitions: stated.partitions.iter().copied().collect(),
                    });
                let value = ShareGroupStatePartitionMetadataValue {
                    initialized_topics: topics.collect(),
                    ..ShareGroupStatePartitionMetadataValue::default()
                };
                prefixed(VERSION, &value, VERSION)
            }
        }
    }

    /// The value of a record with this key.
    pub(crate) fn decode(key: &ShareKey, value: &[u8]) -> Result<Self, StoredError> {
        let (version, value) = split(value)?;
        Ok(match key {
            ShareKey::Group => {
                let value = ShareGroupMetadataValueView::decode(value, version)?;
                Self::Group {
                    epoch: Epoch(value.epoch),
                    topics_hash: value.metadata_hash,
                }
            }
            ShareKey::Member(_) => {
                let value = ShareGroupMemberMetadataValueView::decode(value, version)?;
                let topics = value.subscribed_topic_names.iter();
                Self::Member(Profile {
                    rack: value.rack_id.map(str::to_owned),
                    client_id: value.client_id.to_owned(),
                    client_host: value.client_host.to_owned(),
                    topics: topics.map(str::to_owned).collect(),
                })
            }
            ShareKey::Target => {
                let value = ShareGroupTargetAssignmentMetadataValueView::decode(value, version)?;
                Self::Target {
                    epoch: Epoch(value.assignment_epoch),
                    at_ms: value.assignment_timestamp,
                }
            }
            ShareKey::TargetMember(_) => {
                let value = ShareGroupTargetAssignmentMemberValueView::decode(value, version)?;
                let topics = value.topic_partitions.iter();
                let share = topics.flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(move |partition| place(topic.topic_id, partition))
                });
                Self::TargetMember(share.collect())
            }
            ShareKey::Current(_) => {
                let value = ShareGroupCurrentMemberAssignmentValueView::decode(value, version)?;
                let topics = value.assigned_partitions.iter();
                let assigned = topics.flat_map(|topic| {
                    let partitions = topic.partitions.iter();
                    partitions.map(move |partition| place(topic.topic_id, partition))
                });
                Self::Current(Current {
                    epoch: Epoch(value.member_epoch),
                    previous_epoch: Epoch(value.previous_member_epoch),
                    assigned: assigned.collect(),
                })
            }
            ShareKey::States => {
                let value = ShareGroupStatePartitionMetadataValueView::decode(value, version)?;
                let mut kept: States = BTreeMap::new();
                let topics = value.initialized_topics.iter();
                // Kafka also lists those that it has begun to initialise; here the leader does that when it has to.
                for topic in topics.chain(value.initializing_topics.iter()) {
                    let id = TopicId(topic.topic_id);
                    let stated = kept.entry(id).or_insert_with(|| Stated {
                        name: topic.topic_name.into(),
                        partitions: Default::default(),
                    });
                    stated.partitions.extend(topic.partitions.iter());
                }
                Self::States(kept)
            }
        })
    }
}

fn place(topic: uuid::Uuid, partition: i32) -> TopicPartition {
    TopicPartition {
        topic: TopicId(topic),
        partition: PartitionIndex(partition),
    }
}
