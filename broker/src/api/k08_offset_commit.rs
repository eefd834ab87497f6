//! OffsetCommit: a group's place in its partitions.

use std::sync::Arc;

use weir_groups::request::{CommitPartition, CommitRequest, CommitTopic, CommittedTopic, TopicRef};
use weir_groups::{Generation, GroupError};
use weir_quorum::image::Topic;
use weir_wire::messages::offset_commit_request::OffsetCommitRequestTopicView;
use weir_wire::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use weir_wire::messages::{OffsetCommitRequestView, OffsetCommitResponse};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: OffsetCommitRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let mut response = OffsetCommitResponse::default();
    // Where in the response the coordinator's word on each topic belongs.
    let (mut topics, mut places) = (Vec::new(), Vec::new());
    for topic in view.topics {
        let known = leaders::topic(&image, topic.name, topic.topic_id);
        if let Ok(known) = known {
            places.push(response.topics.len());
            topics.push(to_commit(&topic, known));
        }
        response
            .topics
            .push(answer_for(&topic, known.map(Arc::as_ref)));
    }
    let answer = broker.groups.commit(CommitRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        instance: view.group_instance_id.map(Into::into),
        generation: Generation(view.generation_id_or_member_epoch),
        retention_ms: Some(view.retention_time_ms).filter(|ms| *ms >= 0),
        tells_missing_group: request.version >= 9,
        topics,
    });
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        fill(&mut response, &places, answer.await);
        responder.reply(&response)
    }))
}

fn to_commit(topic: &OffsetCommitRequestTopicView<'_>, known: &Topic) -> CommitTopic {
    let there = topic
        .partitions
        .iter()
        .filter(|partition| known.partition(partition.partition_index).is_some());
    let partitions = there.map(|partition| CommitPartition {
        partition: PartitionIndex(partition.partition_index),
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.unwrap_or_default().to_owned(),
    });
    let topic = TopicRef {
        name: known.name.to_string(),
        id: TopicId(known.id.0),
    };
    CommitTopic {
        topic,
        partitions: partitions.collect(),
    }
}

fn answer_for(
    topic: &OffsetCommitRequestTopicView<'_>,
    known: Result<&Topic, ErrorCode>,
) -> OffsetCommitResponseTopic {
    let error_code = |partition| match known {
        Err(error) => error.code(),
        Ok(topic) if topic.partition(partition).is_none() => {
            ErrorCode::UnknownTopicOrPartition.code()
        }
        Ok(_) => 0,
    };
    let partitions = topic
        .partitions
        .iter()
        .map(|partition| OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: error_code(partition.partition_index),
        });
    OffsetCommitResponseTopic {
        name: topic.name.to_owned(),
        topic_id: topic.topic_id,
        partitions: partitions.collect(),
    }
}

/// Puts the coordinator's word on each partition that is there in its place.
fn fill(
    response: &mut OffsetCommitResponse,
    places: &[usize],
    outcome: Result<Vec<CommittedTopic>, GroupError>,
) {
    let mut committed = outcome.map(Vec::into_iter);
    for place in places {
        let partitions = &mut response.topics[*place].partitions;
        let outcomes = committed.as_mut().map(|topics| {
            topics
                .next()
                .map(|topic| topic.partitions)
                .unwrap_or_default()
        });
        let there = partitions
            .iter_mut()
            .filter(|partition| partition.error_code == 0);
        for (index, partition) in there.enumerate() {
            partition.error_code = match &outcomes {
                Ok(outcomes) => outcomes
                    .get(index)
                    .map_or(0, |(_, outcome)| GroupError::code_of(outcome)),
                Err(error) => error.code().code(),
            };
        }
    }
}
