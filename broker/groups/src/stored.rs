//! The records of `__consumer_offsets`, in Kafka's own format, so that tools that read that topic read ours.
//!
//! Keys begin with two bytes that say what kind of record it is, values with two that say in which version they are. A
//! record without a value ends what its key names.

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;
use weir_wire::decode::DecodeError;
use weir_wire::encode::EncodeError;
use weir_wire::message::{Message, MessageView};
use weir_wire::messages::group_metadata_value::MemberMetadata;
use weir_wire::messages::{
    GroupMetadataKey, GroupMetadataKeyView, GroupMetadataValue, GroupMetadataValueView,
    OffsetCommitKey, OffsetCommitKeyView, OffsetCommitValue, OffsetCommitValueView,
};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use crate::consumer::{ConsumerKey, ConsumerRecord};
use crate::request::CommittedOffset;
use crate::reset::{self, DoneReset};
use crate::share::group::{ShareKey, ShareRecord};
use crate::types::{Generation, GroupId, InstanceId, MemberId, WallMs};

/// Keys have had one version each.
pub(crate) const KEY: i16 = 0;
/// What Kafka 4 writes for groups: the newest before the flexible one.
const GROUP_VALUE: i16 = 3;
/// What Kafka 4 writes for offsets: with topic ids.
const OFFSET_VALUE: i16 = 4;
/// The only version that carries an expiry of its own.
const EXPIRING_OFFSET_VALUE: i16 = 1;

/// A record for the log of a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// What it is about.
    pub key: Bytes,
    /// What holds from now on; absent when the key is no more.
    pub value: Option<Bytes>,
}

/// Why a record of the log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoredError {
    /// Shorter than the two bytes that say what it is.
    #[error("a key or value of at least 2 bytes wanted, {found} found")]
    Short {
        /// How many bytes there were.
        found: usize,
    },
    /// In a state that nobody writes.
    #[error("a transaction's state wanted, {found} found")]
    State {
        /// What was there.
        found: i8,
    },
    /// A name that is none.
    #[error("text in UTF-8 wanted")]
    NotText,
    /// Of a known kind, and not decodable.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// A record of the log, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stored {
    Offset {
        group: GroupId,
        topic: String,
        partition: PartitionIndex,
        value: Option<CommittedOffset>,
    },
    Group {
        group: GroupId,
        value: Option<StoredGroup>,
    },
    /// About a consumer group.
    Consumer {
        group: GroupId,
        key: ConsumerKey,
        value: Option<ConsumerRecord>,
    },
    /// About a share group.
    Share {
        group: GroupId,
        key: ShareKey,
        value: Option<ShareRecord>,
    },
    /// Which resets of its offsets were carried out.
    Resets {
        group: GroupId,
        value: Option<Vec<DoneReset>>,
    },
    /// A kind that belongs to other features.
    Other,
}

/// What is kept of a group besides its offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredGroup {
    pub(crate) protocol_type: String,
    pub(crate) generation: Generation,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: Option<MemberId>,
    pub(crate) phase_since: Option<WallMs>,
    pub(crate) members: Vec<StoredMember>,
}

/// What is kept of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredMember {
    pub(crate) id: MemberId,
    pub(crate) instance: Option<InstanceId>,
    pub(crate) client_id: String,
    pub(crate) client_host: String,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

impl StoredRecord {
    /// A committed offset.
    pub(crate) fn offset(
        group: &GroupId,
        topic: &str,
        partition: PartitionIndex,
        offset: &CommittedOffset,
    ) -> Result<Self, EncodeError> {
        let version = if offset.expires_at_ms.is_some() {
            EXPIRING_OFFSET_VALUE
        } else {
            OFFSET_VALUE
        };
        let value = OffsetCommitValue {
            offset: offset.offset.0,
            leader_epoch: offset.leader_epoch.0,
            metadata: offset.metadata.as_ref().to_owned(),
            commit_timestamp: offset.committed_at_ms,
            expire_timestamp: offset.expires_at_ms.unwrap_or(-1),
            topic_id: offset.topic_id.0,
        };
        let value = Some(prefixed(version, &value, version)?);
        Ok(Self {
            key: offset_key(group, topic, partition)?,
            value,
        })
    }

    /// The end of a committed offset.
    pub(crate) fn offset_tombstone(
        group: &GroupId,
        topic: &str,
        partition: PartitionIndex,
    ) -> Result<Self, EncodeError> {
        Ok(Self {
            key: offset_key(group, topic, partition)?,
            value: None,
        })
    }

    /// A group's metadata.
    pub(crate) fn group(id: &GroupId, group: &StoredGroup) -> Result<Self, EncodeError> {
        let members = group.members.iter().map(|member| MemberMetadata {
            member_id: member.id.to_string(),
            group_instance_id: member.instance.as_ref().map(ToString::to_string),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            rebalance_timeout: member.rebalance_timeout_ms,
            session_timeout: member.session_timeout_ms,
            subscription: member.subscription.clone(),
            assignment: member.assignment.clone(),
        });
        let value = GroupMetadataValue {
            protocol_type: group.protocol_type.clone(),
            generation: group.generation.0,
            protocol: group.protocol.clone(),
            leader: group.leader.as_ref().map(ToString::to_string),
            current_state_timestamp: group.phase_since.map_or(-1, |since| since.0),
            members: members.collect(),
        };
        let value = Some(prefixed(GROUP_VALUE, &value, GROUP_VALUE)?);
        Ok(Self {
            key: group_key(id)?,
            value,
        })
    }

    /// The end of a group.
    pub(crate) fn group_tombstone(id: &GroupId) -> Result<Self, EncodeError> {
        Ok(Self {
            key: group_key(id)?,
            value: None,
        })
    }

    /// Bytes of key and value.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.key.len() + self.value.as_ref().map_or(0, Bytes::len)
    }
}

impl Stored {
    /// Reads a record of the log.
    pub(crate) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Self, StoredError> {
        let (kind, key) = split(key)?;
        if kind == OffsetCommitKey::RECORD_KIND {
            let key = OffsetCommitKeyView::decode(key, KEY)?;
            let value = value.map(decode_offset).transpose()?;
            let (group, topic) = (key.group.into(), key.topic.to_owned());
            Ok(Self::Offset {
                group,
                topic,
                partition: PartitionIndex(key.partition),
                value,
            })
        } else if kind == GroupMetadataKey::RECORD_KIND {
            let group = GroupMetadataKeyView::decode(key, KEY)?.group.into();
            let value = value.map(decode_group).transpose()?;
            Ok(Self::Group { group, value })
        } else if let Some((group, key)) = ConsumerKey::decode(kind, key)? {
            let value = value.map(|value| ConsumerRecord::decode(&key, value));
            let value = value.transpose()?;
            Ok(Self::Consumer { group, key, value })
        } else if let Some((group, key)) = ShareKey::decode(kind, key)? {
            let value = value.map(|value| ShareRecord::decode(&key, value));
            let value = value.transpose()?;
            Ok(Self::Share { group, key, value })
        } else if kind == reset::RECORD_KIND {
            let group = reset::decode_key(key)?;
            let value = value.map(reset::decode_value).transpose()?;
            Ok(Self::Resets { group, value })
        } else {
            Ok(Self::Other)
        }
    }
}

fn decode_offset(value: &[u8]) -> Result<CommittedOffset, StoredError> {
    let (version, value) = split(value)?;
    let value = OffsetCommitValueView::decode(value, version)?;
    Ok(CommittedOffset {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: value.metadata.into(),
        committed_at_ms: value.commit_timestamp,
        expires_at_ms: Some(value.expire_timestamp).filter(|at| *at >= 0),
        topic_id: TopicId(value.topic_id),
    })
}

fn decode_group(value: &[u8]) -> Result<StoredGroup, StoredError> {
    let (version, value) = split(value)?;
    let value = GroupMetadataValueView::decode(value, version)?;
    let members = value.members.iter().map(|member| StoredMember {
        id: member.member_id.into(),
        instance: member.group_instance_id.map(InstanceId::from),
        client_id: member.client_id.to_owned(),
        client_host: member.client_host.to_owned(),
        rebalance_timeout_ms: match member.rebalance_timeout {
            absent if absent < 0 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        subscription: Bytes::copy_from_slice(member.subscription),
        assignment: Bytes::copy_from_slice(member.assignment),
    });
    Ok(StoredGroup {
        protocol_type: value.protocol_type.to_owned(),
        generation: Generation(value.generation),
        protocol: value.protocol.map(str::to_owned),
        leader: value.leader.map(MemberId::from),
        phase_since: Some(WallMs(value.current_state_timestamp)).filter(|since| since.0 >= 0),
        members: members.collect(),
    })
}

fn offset_key(
    group: &GroupId,
    topic: &str,
    partition: PartitionIndex,
) -> Result<Bytes, EncodeError> {
    let key = OffsetCommitKey {
        group: group.to_string(),
        topic: topic.to_owned(),
        partition: partition.0,
    };
    prefixed(OffsetCommitKey::RECORD_KIND, &key, KEY)
}

fn group_key(group: &GroupId) -> Result<Bytes, EncodeError> {
    prefixed(
        GroupMetadataKey::RECORD_KIND,
        &GroupMetadataKey {
            group: group.to_string(),
        },
        KEY,
    )
}

pub(crate) fn prefixed(
    prefix: i16,
    message: &impl Message,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let message = message.to_bytes(version)?;
    let mut bytes = BytesMut::with_capacity(2 + message.len());
    bytes.put_i16(prefix);
    bytes.put_slice(&message);
    Ok(bytes.freeze())
}

pub(crate) fn split(bytes: &[u8]) -> Result<(i16, &[u8]), StoredError> {
    let (prefix, rest) = bytes
        .split_first_chunk()
        .ok_or(StoredError::Short { found: bytes.len() })?;
    Ok((i16::from_be_bytes(*prefix), rest))
}
