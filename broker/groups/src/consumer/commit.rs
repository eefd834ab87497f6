//! Who may commit and fetch offsets in a consumer group.

use super::{Consumer, Member};
use crate::error::GroupError;
use crate::modern::{Epoch, TopicPartition};
use crate::request::CommitRequest;
use crate::types::MemberId;

impl Consumer {
    /// Whether whoever asks may commit. A member may with an epoch that it has had since it was given the partition
    /// (KIP-1251): it may not know of a newer one yet, and nobody else has had the partition in between.
    pub(crate) fn check_commit(
        &self,
        request: &CommitRequest,
        is_transactional: bool,
    ) -> Result<(), GroupError> {
        if request.generation.0 < 0 && self.members.is_empty() {
            return Ok(());
        }
        let member = self
            .members
            .get(&request.member)
            .ok_or(GroupError::UnknownMember)?;
        let (epoch, current) = (Epoch(request.generation.0), &member.current);
        if member.is_classic() {
            return match epoch == current.epoch {
                true => Ok(()),
                false => Err(GroupError::IllegalGeneration),
            };
        }
        if !request.tells_missing_group && !is_transactional {
            return Err(GroupError::UnsupportedVersion);
        }
        if epoch == current.epoch {
            return Ok(());
        }
        if epoch > current.epoch {
            return Err(GroupError::StaleMemberEpoch);
        }
        let is_its_own = |place: TopicPartition| {
            let assigned = current
                .assigned
                .get(&place)
                .or_else(|| current.revoking.get(&place));
            assigned.is_some_and(|since| *since <= epoch)
        };
        let places = request.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|partition| TopicPartition {
                topic: topic.topic.id,
                partition: partition.partition,
            })
        });
        match places.into_iter().all(is_its_own) {
            true => Ok(()),
            false => Err(GroupError::StaleMemberEpoch),
        }
    }

    /// Whether a member that says in which epoch it is may fetch offsets.
    pub(crate) fn check_fetch(
        &self,
        member: Option<&MemberId>,
        epoch: Epoch,
    ) -> Result<(), GroupError> {
        let Some(id) = member else {
            return match epoch < Epoch::JOINING {
                true => Ok(()),
                false => Err(GroupError::UnknownMember),
            };
        };
        let member = self.members.get(id).ok_or(GroupError::UnknownMember)?;
        match member.current.epoch == epoch {
            true => Ok(()),
            false => Err(stale(member)),
        }
    }
}

fn stale(member: &Member) -> GroupError {
    if member.is_classic() {
        GroupError::IllegalGeneration
    } else {
        GroupError::StaleMemberEpoch
    }
}
