//! The records of consumer groups, in Kafka's format.
//!
//! Keys 3 and 5 to 8, and 16 for regular expressions. Key 4 (what was known of the topics) is what Kafka wrote before 4.1;
//! it is passed over.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::array::Array;
use weir_wire::encode::EncodeError;
use weir_wire::message::MessageView;
use weir_wire::messages::consumer_group_current_member_assignment_value as current;
use weir_wire::messages::consumer_group_member_metadata_value as metadata;
use weir_wire::messages::consumer_group_target_assignment_member_value as target;
use weir_wire::messages::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentKeyView,
    ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupCurrentMemberAssignmentValueView,
    ConsumerGroupMemberMetadataKey, ConsumerGroupMemberMetadataKeyView,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMemberMetadataValueView,
    ConsumerGroupMetadataKey, ConsumerGroupMetadataKeyView, ConsumerGroupMetadataValue,
    ConsumerGroupMetadataValueView, ConsumerGroupRegularExpressionKey,
    ConsumerGroupRegularExpressionKeyView, ConsumerGroupRegularExpressionValue,
    ConsumerGroupRegularExpressionValueView, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMemberKeyView, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMemberValueView, ConsumerGroupTargetAssignmentMetadataKey,
    ConsumerGroupTargetAssignmentMetadataKeyView, ConsumerGroupTargetAssignmentMetadataValue,
    ConsumerGroupTargetAssignmentMetadataValueView,
};
use weir_wire::{PartitionIndex, TopicId};

use super::{ClassicSide, Profile, Resolved};
use crate::modern::reconcile::{Current, Held, Progress};
use crate::modern::{Epoch, Partitions, TopicPartition, by_topic};
use crate::request::Protocol;
use crate::stored::{KEY, StoredError, StoredRecord, prefixed, split};
use crate::types::{GroupId, InstanceId, MemberId};

/// Values have had one version each.
const VALUE: i16 = 0;

/// What a record is about, within its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ConsumerKey {
    Group,
    Member(MemberId),
    Target,
    TargetMember(MemberId),
    Current(MemberId),
    Regex(String),
}

/// What it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConsumerRecord {
    Group { epoch: Epoch, topics_hash: i64 },
    Member(Profile),
    Target { epoch: Epoch, at_ms: i64 },
    TargetMember(Partitions),
    Current(Current),
    Regex(Resolved),
}

impl ConsumerKey {
    /// The record that says that there is no such thing any more.
    pub(crate) fn tombstone(&self, group: &GroupId) -> Result<StoredRecord, EncodeError> {
        Ok(StoredRecord {
            key: self.encode(group)?,
            value: None,
        })
    }

    fn encode(&self, group: &GroupId) -> Result<Bytes, EncodeError> {
        let group_id = group.to_string();
        match self {
            Self::Group => {
                let key = ConsumerGroupMetadataKey { group_id };
                prefixed(ConsumerGroupMetadataKey::RECORD_KIND, &key, KEY)
            }
            Self::Target => {
                let key = ConsumerGroupTargetAssignmentMetadataKey { group_id };
                prefixed(
                    ConsumerGroupTargetAssignmentMetadataKey::RECORD_KIND,
                    &key,
                    KEY,
                )
            }
            Self::Member(member) => {
                let member_id = member.to_string();
                let key = ConsumerGroupMemberMetadataKey {
                    group_id,
                    member_id,
                };
                prefixed(ConsumerGroupMemberMetadataKey::RECORD_KIND, &key, KEY)
            }
            Self::TargetMember(member) => {
                let member_id = member.to_string();
                let key = ConsumerGroupTargetAssignmentMemberKey {
                    group_id,
                    member_id,
                };
                prefixed(
                    ConsumerGroupTargetAssignmentMemberKey::RECORD_KIND,
                    &key,
                    KEY,
                )
            }
            Self::Current(member) => {
                let member_id = member.to_string();
                let key = ConsumerGroupCurrentMemberAssignmentKey {
                    group_id,
                    member_id,
                };
                prefixed(
                    ConsumerGroupCurrentMemberAssignmentKey::RECORD_KIND,
                    &key,
                    KEY,
                )
            }
            Self::Regex(regex) => {
                let regular_expression = regex.clone();
                let key = ConsumerGroupRegularExpressionKey {
                    group_id,
                    regular_expression,
                };
                prefixed(ConsumerGroupRegularExpressionKey::RECORD_KIND, &key, KEY)
            }
        }
    }

    /// The key of a record of this kind, without the kind; none when it is not about consumer groups.
    pub(crate) fn decode(kind: i16, key: &[u8]) -> Result<Option<(GroupId, Self)>, StoredError> {
        Ok(Some(match kind {
            ConsumerGroupMetadataKey::RECORD_KIND => {
                let key = ConsumerGroupMetadataKeyView::decode(key, KEY)?;
                (key.group_id.into(), Self::Group)
            }
            ConsumerGroupTargetAssignmentMetadataKey::RECORD_KIND => {
                let key = ConsumerGroupTargetAssignmentMetadataKeyView::decode(key, KEY)?;
                (key.group_id.into(), Self::Target)
            }
            ConsumerGroupMemberMetadataKey::RECORD_KIND => {
                let key = ConsumerGroupMemberMetadataKeyView::decode(key, KEY)?;
                (key.group_id.into(), Self::Member(key.member_id.into()))
            }
            ConsumerGroupTargetAssignmentMemberKey::RECORD_KIND => {
                let key = ConsumerGroupTargetAssignmentMemberKeyView::decode(key, KEY)?;
                (
                    key.group_id.into(),
                    Self::TargetMember(key.member_id.into()),
                )
            }
            ConsumerGroupCurrentMemberAssignmentKey::RECORD_KIND => {
                let key = ConsumerGroupCurrentMemberAssignmentKeyView::decode(key, KEY)?;
                (key.group_id.into(), Self::Current(key.member_id.into()))
            }
            ConsumerGroupRegularExpressionKey::RECORD_KIND => {
                let key = ConsumerGroupRegularExpressionKeyView::decode(key, KEY)?;
                (
                    key.group_id.into(),
                    Self::Regex(key.regular_expression.to_owned()),
                )
            }
            _ => return Ok(None),
        }))
    }
}

impl ConsumerRecord {
    /// The record under `key`, which is of its kind.
    pub(crate) fn store(
        &self,
        group: &GroupId,
        key: &ConsumerKey,
    ) -> Result<StoredRecord, EncodeError> {
        let value = match self {
            Self::Group { epoch, topics_hash } => {
                let value = ConsumerGroupMetadataValue {
                    epoch: epoch.0,
                    metadata_hash: *topics_hash,
                };
                prefixed(VALUE, &value, VALUE)?
            }
            Self::Target { epoch, at_ms } => {
                let value = ConsumerGroupTargetAssignmentMetadataValue {
                    assignment_epoch: epoch.0,
                    assignment_timestamp: *at_ms,
                };
                prefixed(VALUE, &value, VALUE)?
            }
            Self::Member(profile) => prefixed(VALUE, &member_value(profile), VALUE)?,
            Self::TargetMember(partitions) => {
                let topics = by_topic(partitions.iter().copied()).into_iter();
                let topic_partitions = topics.map(|(topic, partitions)| target::TopicPartition {
                    topic_id: topic.0,
                    partitions,
                });
                let value = ConsumerGroupTargetAssignmentMemberValue {
                    topic_partitions: topic_partitions.collect(),
                };
                prefixed(VALUE, &value, VALUE)?
            }
            Self::Current(current) => {
                let value = ConsumerGroupCurrentMemberAssignmentValue {
                    member_epoch: current.epoch.0,
                    previous_member_epoch: current.previous_epoch.0,
                    state: current.progress.to_stored(),
                    assigned_partitions: held_value(&current.assigned),
                    partitions_pending_revocation: held_value(&current.revoking),
                };
                prefixed(VALUE, &value, VALUE)?
            }
            Self::Regex(resolved) => {
                let value = ConsumerGroupRegularExpressionValue {
                    topics: resolved.topics.iter().cloned().collect(),
                    version: resolved.version,
                    timestamp: resolved.at_ms,
                };
                prefixed(VALUE, &value, VALUE)?
            }
        };
        Ok(StoredRecord {
            key: key.encode(group)?,
            value: Some(value),
        })
    }

    /// The value of a record with this key.
    pub(crate) fn decode(key: &ConsumerKey, value: &[u8]) -> Result<Self, StoredError> {
        let (version, value) = split(value)?;
        Ok(match key {
            ConsumerKey::Group => {
                let value = ConsumerGroupMetadataValueView::decode(value, version)?;
                Self::Group {
                    epoch: Epoch(value.epoch),
                    topics_hash: value.metadata_hash,
                }
            }
            ConsumerKey::Target => {
                let value = ConsumerGroupTargetAssignmentMetadataValueView::decode(value, version)?;
                Self::Target {
                    epoch: Epoch(value.assignment_epoch),
                    at_ms: value.assignment_timestamp,
                }
            }
            ConsumerKey::Member(_) => Self::Member(profile(
                &ConsumerGroupMemberMetadataValueView::decode(value, version)?,
            )),
            ConsumerKey::TargetMember(_) => {
                let value = ConsumerGroupTargetAssignmentMemberValueView::decode(value, version)?;
                let places = value.topic_partitions.iter().flat_map(|topic| {
                    let places = topic.partitions.iter();
                    places.map(move |partition| place(topic.topic_id, partition))
                });
                Self::TargetMember(places.collect())
            }
            ConsumerKey::Current(_) => {
                let value = ConsumerGroupCurrentMemberAssignmentValueView::decode(value, version)?;
                let epoch = Epoch(value.member_epoch);
                Self::Current(Current {
                    epoch,
                    previous_epoch: Epoch(value.previous_member_epoch),
                    // Of a state that is not known, the member is looked at as one that waits: the next heartbeat
                    // takes it from there.
                    progress: Progress::from_stored(value.state).unwrap_or(Progress::Unreleased),
                    assigned: held(value.assigned_partitions, epoch),
                    revoking: held(value.partitions_pending_revocation, epoch),
                })
            }
            ConsumerKey::Regex(_) => {
                let value = ConsumerGroupRegularExpressionValueView::decode(value, version)?;
                Self::Regex(Resolved {
                    topics: value.topics.iter().map(str::to_owned).collect(),
                    version: value.version,
                    at_ms: value.timestamp,
                })
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

fn member_value(profile: &Profile) -> ConsumerGroupMemberMetadataValue {
    let classic = profile.classic.as_ref().map(|side| {
        let protocols = side.protocols.iter().map(|own| metadata::ClassicProtocol {
            name: own.name.clone(),
            metadata: own.metadata.clone(),
        });
        metadata::ClassicMemberMetadata {
            session_timeout_ms: side.session_timeout_ms,
            supported_protocols: protocols.collect(),
        }
    });
    ConsumerGroupMemberMetadataValue {
        instance_id: profile.instance.as_ref().map(ToString::to_string),
        rack_id: profile.rack.clone(),
        client_id: profile.client_id.clone(),
        client_host: profile.client_host.clone(),
        subscribed_topic_names: profile.topics.iter().cloned().collect(),
        subscribed_topic_regex: profile.regex.clone(),
        rebalance_timeout_ms: profile.rebalance_timeout_ms,
        server_assignor: profile.assignor.clone(),
        classic_member_metadata: classic,
    }
}

fn profile(value: &ConsumerGroupMemberMetadataValueView<'_>) -> Profile {
    let classic = value.classic_member_metadata.map(|side| {
        let protocols = side.supported_protocols.iter().map(|own| Protocol {
            name: own.name.to_owned(),
            metadata: Bytes::copy_from_slice(own.metadata),
        });
        ClassicSide {
            session_timeout_ms: side.session_timeout_ms,
            protocols: protocols.collect(),
        }
    });
    let text = |text: Option<&str>| text.map(str::to_owned);
    Profile {
        instance: value.instance_id.map(InstanceId::from),
        rack: text(value.rack_id),
        client_id: value.client_id.to_owned(),
        client_host: value.client_host.to_owned(),
        topics: value
            .subscribed_topic_names
            .iter()
            .map(str::to_owned)
            .collect(),
        regex: text(value.subscribed_topic_regex).filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: text(value.server_assignor),
        classic,
    }
}

fn held_value(held: &Held) -> Vec<current::TopicPartitions> {
    let mut topics: BTreeMap<TopicId, current::TopicPartitions> = BTreeMap::new();
    for (place, since) in held {
        let topic = topics
            .entry(place.topic)
            .or_insert_with(|| current::TopicPartitions {
                topic_id: place.topic.0,
                partitions: Vec::new(),
                assignment_epochs: Some(Vec::new()),
            });
        topic.partitions.push(place.partition.0);
        if let Some(epochs) = &mut topic.assignment_epochs {
            epochs.push(since.0);
        }
    }
    topics.into_values().collect()
}

/// Where it is not said since when a partition was held (Kafka before 4.3), the member's epoch is as good: it is stricter.
fn held(topics: Array<'_, current::TopicPartitionsView<'_>>, epoch: Epoch) -> Held {
    let mut held = Held::new();
    for topic in topics {
        let mut epochs = topic
            .assignment_epochs
            .into_iter()
            .flat_map(|epochs| epochs.iter());
        for partition in topic.partitions {
            let since = epochs.next().map_or(epoch, Epoch);
            held.insert(place(topic.topic_id, partition), since);
        }
    }
    held
}
