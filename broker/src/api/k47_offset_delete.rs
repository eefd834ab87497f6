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

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: OffsetDeleteRequestView<'_> = request.decode()?;
    let topics = view.topics.iter().map(|topic| {
        let partitions = topic
            .partitions
            .iter()
            .map(|partition| PartitionIndex(partition.partition_index));
        (
            TopicRef {
                name: topic.name.to_owned(),
                id: TopicId::ZERO,
            },
            partitions.collect(),
        )
    });
    let answer = broker.groups.delete_offsets(DeleteOffsetsRequest {
        group: view.group_id.into(),
        topics: topics.collect(),
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok(topics) => OffsetDeleteResponse {
                topics: topics.into_iter().map(topic).collect(),
                ..OffsetDeleteResponse::default()
            },
            Err(error) => OffsetDeleteResponse {
                error_code: error.code().code(),
                ..OffsetDeleteResponse::default()
            },
        };
        responder.reply(&response)
    }))
}

fn topic(deleted: CommittedTopic) -> OffsetDeleteResponseTopic {
    let partitions =
        deleted
            .partitions
            .into_iter()
            .map(|(partition, outcome)| OffsetDeleteResponsePartition {
                partition_index: partition.0,
                error_code: GroupError::code_of(&outcome),
            });
    OffsetDeleteResponseTopic {
        name: deleted.topic.name,
        partitions: partitions.collect(),
    }
}
