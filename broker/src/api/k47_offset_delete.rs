//! OffsetDelete: drops a group's offsets for topics that it does not read.

use std::sync::Arc;

use weir_groups::GroupError;
use weir_groups::request::{CommittedTopic, DeleteOffsetsRequest, TopicRef};
use weir_wire::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use weir_wire::messages::{OffsetDeleteRequestView, OffsetDeleteResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: OffsetDeleteRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    // What the metadata does not know is answered here; the coordinator is asked about the rest.
    let mut response = OffsetDeleteResponse::default();
    let mut topics = Vec::new();
    for topic in view.topics {
        let known = image.topic(topic.name);
        let is_there = |index| known.is_some_and(|topic| topic.partition(index).is_some());
        let indexes = topic.partitions.iter().map(|one| one.partition_index);
        let there = indexes.clone().filter(|index| is_there(*index));
        topics.push((
            TopicRef {
                name: topic.name.to_owned(),
                id: TopicId::ZERO,
            },
            there.map(PartitionIndex).collect(),
        ));
        let partitions = indexes.map(|index| OffsetDeleteResponsePartition {
            partition_index: index,
            error_code: if is_there(index) {
                0
            } else {
                ErrorCode::UnknownTopicOrPartition.code()
            },
        });
        response.topics.push(OffsetDeleteResponseTopic {
            name: topic.name.to_owned(),
            partitions: partitions.collect(),
        });
    }
    let answer = broker.groups.delete_offsets(DeleteOffsetsRequest {
        group: view.group_id.into(),
        topics,
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        match answer.await {
            Ok(deleted) => fill(&mut response, deleted),
            Err(error) => {
                response = OffsetDeleteResponse {
                    error_code: error.code().code(),
                    ..OffsetDeleteResponse::default()
                };
            }
        }
        responder.reply(&response)
    }))
}

/// Puts the coordinator's word on each partition that is there in its place.
fn fill(response: &mut OffsetDeleteResponse, deleted: Vec<CommittedTopic>) {
    for (topic, deleted) in response.topics.iter_mut().zip(deleted) {
        let there = topic
            .partitions
            .iter_mut()
            .filter(|partition| partition.error_code == 0);
        for (partition, (_, outcome)) in there.zip(deleted.partitions) {
            partition.error_code = GroupError::code_of(&outcome);
        }
    }
}
