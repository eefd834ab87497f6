//! The offsets that a group has committed.
//!
//! Owns the map from partition to offset and what may change it. What always holds: an offset changes by a commit, goes
//! by a deletion, its expiry or the end of its topic, and by nothing else; each change is emitted before it is answered,
//! and no fetch is answered with what is not durable, so a committed offset never goes back by itself.

use std::collections::{BTreeMap, BTreeSet};

use weir_wire::{PartitionIndex, TopicId};

use crate::error::GroupError;
use crate::group::{Group, Kind};
use crate::machine::{Entry, Producer};
use crate::outbox::Turn;
use crate::request::{
    CommitPartition, CommitRequest, CommittedOffset, CommittedTopic, DeleteOffsetsRequest,
    FetchRequest, FetchedTopic, Response, TopicRef,
};
use crate::stored::StoredRecord;
use crate::types::CallId;

/// Committed offsets by topic and partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Offsets {
    topics: BTreeMap<String, BTreeMap<PartitionIndex, CommittedOffset>>,
    count: usize,
}

impl Offsets {
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn get(&self, topic: &str, partition: PartitionIndex) -> Option<&CommittedOffset> {
        self.topics.get(topic)?.get(&partition)
    }

    pub(crate) fn put(&mut self, topic: &str, partition: PartitionIndex, offset: CommittedOffset) {
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.to_owned(), BTreeMap::new());
        }
        let partitions = self.topics.get_mut(topic);
        if partitions.is_some_and(|partitions| partitions.insert(partition, offset).is_none()) {
            self.count += 1;
        }
    }

    pub(crate) fn remove(
        &mut self,
        topic: &str,
        partition: PartitionIndex,
    ) -> Option<CommittedOffset> {
        let partitions = self.topics.get_mut(topic)?;
        let removed = partitions.remove(&partition)?;
        if partitions.is_empty() {
            self.topics.remove(topic);
        }
        self.count -= 1;
        Some(removed)
    }

    pub(crate) fn topics(
        &self,
    ) -> impl Iterator<Item = (&str, &BTreeMap<PartitionIndex, CommittedOffset>)> {
        self.topics
            .iter()
            .map(|(topic, partitions)| (topic.as_str(), partitions))
    }
}

impl Group {
    /// Handles one OffsetCommit.
    pub(crate) fn commit(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: CommitRequest,
        producer: Option<Producer>,
    ) {
        if let Err(error) = self.kind.check_commit(turn, &request, producer.is_some()) {
            return turn.out.reply(call, refuse_commit(request, error));
        }
        let expires_at_ms = request
            .retention_ms
            .filter(|ms| *ms >= 0)
            .map(|ms| turn.now.wall.0.saturating_add(ms));
        let mut committed = Vec::with_capacity(request.topics.len());
        for topic in request.topics {
            let mut partitions = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition;
                partitions.push((
                    index,
                    self.commit_one(turn, &topic.topic, partition, expires_at_ms, producer),
                ));
            }
            committed.push(CommittedTopic {
                topic: topic.topic,
                partitions,
            });
        }
        turn.out
            .reply_when_durable(call, Response::Commit(committed));
    }

    fn commit_one(
        &mut self,
        turn: &mut Turn<'_>,
        topic: &TopicRef,
        partition: CommitPartition,
        expires_at_ms: Option<i64>,
        producer: Option<Producer>,
    ) -> Result<(), GroupError> {
        if topic.name.len() > turn.config.name_bytes_max {
            return Err(GroupError::InvalidRequest);
        }
        if partition.metadata.len() > turn.config.offset_metadata_bytes_max {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        let is_new = self.offsets.get(&topic.name, partition.partition).is_none();
        if is_new && self.offsets.len() + self.pending.len() >= turn.config.offsets_max {
            return Err(GroupError::BoundReached);
        }
        let offset = CommittedOffset {
            offset: partition.offset,
            leader_epoch: partition.leader_epoch,
            metadata: partition.metadata.into(),
            committed_at_ms: turn.now.wall.0,
            expires_at_ms,
            topic_id: topic.id,
        };
        let record = StoredRecord::offset(&self.id, &topic.name, partition.partition, &offset);
        match producer {
            None => {
                turn.out.emit(record);
                self.pending.overtake(&topic.name, partition.partition);
                self.offsets.put(&topic.name, partition.partition, offset);
            }
            Some(producer) => {
                turn.out
                    .emit(record.map(|record| Entry::Pending(producer, record)));
                self.pending
                    .put(producer.id, &topic.name, partition.partition, offset);
            }
        }
        Ok(())
    }

    /// Handles one group of an OffsetFetch.
    pub(crate) fn fetch(&self, turn: &mut Turn<'_>, call: CallId, request: FetchRequest) {
        if let Kind::Consumer(group) = &self.kind
            && let Err(error) = group.check_fetch(request.member.as_ref(), request.epoch)
        {
            return turn.out.reply(call, Response::Fetch(Err(error)));
        }
        let fetched = match request.topics {
            Some(topics) => topics
                .into_iter()
                .map(|(topic, partitions)| self.fetch_topic(topic, partitions))
                .collect(),
            None => self
                .offsets
                .topics()
                .map(|(name, partitions)| self.all_of(name, partitions))
                .collect(),
        };
        turn.out
            .reply_when_durable(call, Response::Fetch(Ok(fetched)));
    }

    fn fetch_topic(&self, topic: TopicRef, partitions: Vec<PartitionIndex>) -> FetchedTopic {
        let offset_of = |partition: PartitionIndex| {
            let offset = self.offsets.get(&topic.name, partition);
            offset.filter(|offset| is_of(offset, topic.id)).cloned()
        };
        let unstable = self.unstable(&topic.name, partitions.iter());
        let partitions = partitions
            .into_iter()
            .map(|partition| (partition, offset_of(partition)))
            .collect();
        FetchedTopic {
            topic,
            partitions,
            unstable,
        }
    }

    fn all_of(
        &self,
        name: &str,
        partitions: &BTreeMap<PartitionIndex, CommittedOffset>,
    ) -> FetchedTopic {
        let topic = TopicRef {
            name: name.to_owned(),
            id: TopicId::ZERO,
        };
        let unstable = self.unstable(name, partitions.keys());
        let partitions = partitions
            .iter()
            .map(|(partition, offset)| (*partition, Some(offset.clone())))
            .collect();
        FetchedTopic {
            topic,
            partitions,
            unstable,
        }
    }

    fn unstable<'p>(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = &'p PartitionIndex>,
    ) -> BTreeSet<PartitionIndex> {
        if self.pending.is_empty() {
            return BTreeSet::new();
        }
        let unstable = partitions.filter(|partition| self.pending.contains(topic, **partition));
        unstable.copied().collect()
    }

    /// Handles one OffsetDelete.
    pub(crate) fn delete_offsets(
        &mut self,
        turn: &mut Turn<'_>,
        call: CallId,
        request: DeleteOffsetsRequest,
    ) {
        if !self.kind.may_delete_offsets() {
            let refused = Response::DeleteOffsets(Err(GroupError::NonEmptyGroup));
            return turn.out.reply(call, refused);
        }
        let mut deleted = Vec::with_capacity(request.topics.len());
        for (topic, partitions) in request.topics {
            let outcome = match self.kind.is_subscribed_to(&topic.name) {
                true => Err(GroupError::GroupSubscribedToTopic),
                false => Ok(()),
            };
            for partition in partitions.iter().filter(|_| outcome.is_ok()) {
                self.drop_offset(turn, &topic.name, *partition);
            }
            let partitions = partitions
                .into_iter()
                .map(|partition| (partition, outcome))
                .collect();
            deleted.push(CommittedTopic { topic, partitions });
        }
        turn.out
            .reply_when_durable(call, Response::DeleteOffsets(Ok(deleted)));
    }

    /// Drops the offsets of a topic that is gone. Those of a later topic of the same name stay.
    pub(crate) fn forget_topic(&mut self, turn: &mut Turn<'_>, topic: &TopicRef) -> usize {
        let partitions = self.offsets.topics.get(&topic.name).into_iter().flatten();
        let gone = partitions
            .filter(|(_, offset)| is_of(offset, topic.id))
            .map(|(partition, _)| *partition);
        let gone: Vec<PartitionIndex> = gone.collect();
        for partition in &gone {
            self.drop_offset(turn, &topic.name, *partition);
        }
        gone.len()
    }

    /// Drops one offset, in the log too.
    pub(crate) fn drop_offset(
        &mut self,
        turn: &mut Turn<'_>,
        topic: &str,
        partition: PartitionIndex,
    ) {
        let was_pending = self.pending.remove(topic, partition);
        if self.offsets.remove(topic, partition).is_some() || was_pending {
            turn.out
                .emit(StoredRecord::offset_tombstone(&self.id, topic, partition));
        }
    }
}

/// Whether the offset belongs to the topic with this id, as far as both are known.
fn is_of(offset: &CommittedOffset, id: TopicId) -> bool {
    id == TopicId::ZERO || offset.topic_id == TopicId::ZERO || offset.topic_id == id
}

/// The same error for every partition.
pub(crate) fn refuse_commit(request: CommitRequest, error: GroupError) -> Response {
    let refused = request.topics.into_iter().map(|topic| CommittedTopic {
        topic: topic.topic,
        partitions: topic
            .partitions
            .into_iter()
            .map(|partition| (partition.partition, Err(error)))
            .collect(),
    });
    Response::Commit(refused.collect())
}

/// The answer when there is no such group: nothing is committed.
pub(crate) fn nothing_committed(request: FetchRequest) -> Response {
    let topics = request
        .topics
        .unwrap_or_default()
        .into_iter()
        .map(|(topic, partitions)| FetchedTopic {
            topic,
            partitions: partitions
                .into_iter()
                .map(|partition| (partition, None))
                .collect(),
            unstable: BTreeSet::new(),
        });
    Response::Fetch(Ok(topics.collect()))
}
