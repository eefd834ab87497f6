//! Offsets that are set from outside: while members are there, once for each request id; or where a group begins that is new.
//!
//! What always holds: members are fenced before an offset changes, so that none of them commits over it; the offsets and the id of the request
//! are one change of the log, so that a request that was carried out is known to have been, whoever coordinates the group then, and is never
//! carried out again; a commit in a transaction that was open then does not undo it. Where a group begins is set only in topics that it has no offset of,
//! and only while it has no members, so that it moves nobody.

use std::collections::BTreeSet;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use weir_wire::encode::EncodeError;
use weir_wire::{LeaderEpoch, Offset, PartitionIndex};

use crate::error::GroupError;
use crate::group::{Group, Kind};
use crate::outbox::Turn;
use crate::request::{
    CommittedOffset, Once, ResetOutcome, ResetPartition, ResetPlace, ResetRequest, ResetTo,
};
use crate::stored::{StoredError, StoredRecord, split};
use crate::types::{GroupId, MemberId};

/// What a key of this kind begins with, "we" as a number: far from Kafka's own kinds, which it counts up from 0. Its tools pass over what they do
/// not know.
pub(crate) const RECORD_KIND: i16 = 0x7765;
/// Version of the value.
const VALUE: i16 = 0;
/// Requests of one group that are remembered; the oldest gives way. A person goes back over one or two, a repository that is applied again
/// holds the newest.
const REMEMBERED: usize = 16;
/// Bytes of a request's id: a UUID, a date and some words.
const ID_BYTES_MAX: usize = 128;
/// Bytes that a record takes in a batch beside its key and value, at most.
const RECORD_OVERHEAD: usize = 32;

/// A reset that was carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DoneReset {
    pub(crate) id: String,
    /// In milliseconds since 1970.
    pub(crate) at_ms: i64,
}

impl Group {
    /// Whether the request can be carried out, and what comes of it. Changes nothing.
    pub(crate) fn plan_reset(
        &self,
        turn: &Turn<'_>,
        request: &ResetRequest,
    ) -> Result<ResetOutcome, GroupError> {
        if let Once::Named(id) = &request.once {
            if id.is_empty() || id.len() > ID_BYTES_MAX {
                return Err(GroupError::InvalidRequest);
            }
            if let Some(done) = self.resets.iter().find(|done| done.id == *id) {
                return Ok(ResetOutcome::Before { at_ms: done.at_ms });
            }
        }
        if matches!(self.kind, Kind::Share(_)) {
            // Its members acknowledge; what it has read is the share coordinator's.
            return Err(GroupError::GroupIdNotFound);
        }
        let mut places: Vec<ResetPlace> = request
            .partitions
            .iter()
            .map(|wanted| self.place(wanted))
            .collect();
        if request.once == Once::WhereNew {
            if !self.kind.member_ids().is_empty() {
                return Err(GroupError::NonEmptyGroup);
            }
            let known = self.topics_with_offsets();
            for place in &mut places {
                place.after = place
                    .after
                    .filter(|_| !known.contains(place.topic.name.as_str()));
            }
        }
        let new = places
            .iter()
            .filter(|place| place.before.is_none() && place.after.is_some());
        if self.offsets.len() + self.pending.len() + new.count() > turn.config.offsets_max {
            return Err(GroupError::BoundReached);
        }
        if request
            .partitions
            .iter()
            .any(|wanted| wanted.topic.name.len() > turn.config.name_bytes_max)
        {
            return Err(GroupError::InvalidRequest);
        }
        let members = self.kind.member_ids().len();
        Ok(ResetOutcome::Done {
            at_ms: turn.now.wall.0,
            members: u32::try_from(members).unwrap_or(u32::MAX),
            places,
        })
    }

    /// Topics that the group has an offset of, or would have when an open transaction commits.
    fn topics_with_offsets(&self) -> BTreeSet<String> {
        let committed = self.offsets.topics().map(|(topic, _)| topic.to_owned());
        let pending = self.pending.places().into_iter().map(|(topic, _)| topic);
        committed.chain(pending).collect()
    }

    fn place(&self, wanted: &ResetPartition) -> ResetPlace {
        let before = self.offsets.get(&wanted.topic.name, wanted.partition);
        let before = before.map(|committed| committed.offset);
        let after = match wanted.to {
            ResetTo::Offset(offset) => Some(offset),
            ResetTo::Shift { by, start, end } => before.map(|before| {
                let shifted = before.0.saturating_add(by);
                Offset(shifted.min(end.0).max(start.0))
            }),
        };
        ResetPlace {
            topic: wanted.topic.clone(),
            partition: wanted.partition,
            before,
            after,
        }
    }

    /// The records of a reset, which are to be in one batch.
    pub(crate) fn reset_records(
        &self,
        turn: &Turn<'_>,
        request: &ResetRequest,
        places: &[ResetPlace],
    ) -> Result<Reset, GroupError> {
        let mut resets = self.resets.clone();
        if let Once::Named(id) = &request.once {
            resets.push(DoneReset {
                id: id.clone(),
                at_ms: turn.now.wall.0,
            });
        }
        let surplus = resets.len().saturating_sub(REMEMBERED);
        resets.drain(..surplus);
        let mut records = Vec::with_capacity(places.len() + 1);
        let mut offsets = Vec::with_capacity(places.len());
        for place in places {
            let Some(after) = place.after else { continue };
            let offset = CommittedOffset {
                offset: after,
                leader_epoch: LeaderEpoch::NONE,
                metadata: "".into(),
                committed_at_ms: turn.now.wall.0,
                expires_at_ms: None,
                topic_id: place.topic.id,
            };
            records.push(StoredRecord::offset(
                &self.id,
                &place.topic.name,
                place.partition,
                &offset,
            ));
            offsets.push((place.topic.name.clone(), place.partition, offset));
        }
        if resets != self.resets {
            records.push(Ok(resets_record(&self.id, &resets)));
        }
        let bytes = records.iter().flatten();
        let bytes: usize = bytes.map(|record| record.bytes() + RECORD_OVERHEAD).sum();
        if bytes > turn.config.record_bytes_max {
            return Err(GroupError::CommitTooLarge);
        }
        Ok(Reset {
            records,
            offsets,
            resets,
        })
    }

    /// Takes everybody out of the group. Who comes back does so as a new member, and begins at the offsets that are there then.
    pub(crate) fn fence(&mut self, turn: &mut Turn<'_>) {
        match &mut self.kind {
            Kind::Classic(group) => group.fence(turn),
            Kind::Consumer(group) => {
                let ids: Vec<MemberId> = group.members.keys().cloned().collect();
                group.remove(turn, &ids);
            }
            Kind::Share(_) => {}
        }
    }

    /// Takes over what [`reset_records`](Self::reset_records) has made.
    pub(crate) fn reset(&mut self, turn: &mut Turn<'_>, reset: Reset) {
        for record in reset.records {
            turn.out.emit(record);
        }
        for (topic, partition, offset) in reset.offsets {
            self.pending.overtake(&topic, partition);
            self.offsets.put(&topic, partition, offset);
        }
        self.resets = reset.resets;
    }

    /// Forgets which resets were carried out, in the log too.
    pub(crate) fn forget_resets(&mut self, turn: &mut Turn<'_>) {
        if !self.resets.is_empty() {
            self.resets.clear();
            turn.out.emit(Ok::<_, EncodeError>(StoredRecord {
                key: resets_key(&self.id),
                value: None,
            }));
        }
    }
}

/// What a reset writes, and what holds after it.
pub(crate) struct Reset {
    records: Vec<Result<StoredRecord, EncodeError>>,
    offsets: Vec<(String, PartitionIndex, CommittedOffset)>,
    resets: Vec<DoneReset>,
}

fn resets_key(group: &GroupId) -> Bytes {
    let mut key = BytesMut::with_capacity(2 + group.len());
    key.put_i16(RECORD_KIND);
    key.put_slice(group.as_str().as_bytes());
    key.freeze()
}

fn resets_record(group: &GroupId, resets: &[DoneReset]) -> StoredRecord {
    let mut value = BytesMut::new();
    value.put_i16(VALUE);
    for done in resets {
        value.put_i64(done.at_ms);
        // Both were checked against their bounds.
        value.put_u8(u8::try_from(done.id.len()).unwrap_or(u8::MAX));
        value.put_slice(done.id.as_bytes());
    }
    StoredRecord {
        key: resets_key(group),
        value: Some(value.freeze()),
    }
}

/// Reads a key without what it begins with.
pub(crate) fn decode_key(key: &[u8]) -> Result<GroupId, StoredError> {
    text(key).map(GroupId::from)
}

/// Reads a value.
pub(crate) fn decode_value(value: &[u8]) -> Result<Vec<DoneReset>, StoredError> {
    let (_, mut value) = split(value)?;
    let mut resets = Vec::new();
    while !value.is_empty() {
        let short = StoredError::Short { found: value.len() };
        if value.len() < 9 {
            return Err(short);
        }
        let (at_ms, length) = (value.get_i64(), usize::from(value.get_u8()));
        let id = value.get(..length).ok_or(short)?;
        resets.push(DoneReset {
            id: text(id)?.to_owned(),
            at_ms,
        });
        value.advance(length);
    }
    Ok(resets)
}

fn text(bytes: &[u8]) -> Result<&str, StoredError> {
    std::str::from_utf8(bytes).map_err(|_| StoredError::NotText)
}
