//! AlterShareGroupOffsets: a share group without members begins elsewhere.

use std::sync::Arc;

use weir_groups::GroupId;
use weir_wire::messages::alter_share_group_offsets_response::{
    AlterShareGroupOffsetsResponsePartition, AlterShareGroupOffsetsResponseTopic,
};
use weir_wire::messages::{AlterShareGroupOffsetsRequestView, AlterShareGroupOffsetsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::share::Altered;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterShareGroupOffsetsRequestView<'_> = request.decode()?;
    let group = GroupId::from(view.group_id);
    let topics = view.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter();
        let partitions: Vec<_> = partitions
            .map(|partition| (partition.partition_index, partition.start_offset))
            .collect();
        (topic.topic_name.to_owned(), partitions)
    });
    let topics: Vec<_> = topics.collect();
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let response = match broker.share.alter(&broker, &group, topics).await {
            Ok(topics) => AlterShareGroupOffsetsResponse {
                responses: topics.into_iter().map(told).collect(),
                ..AlterShareGroupOffsetsResponse::default()
            },
            Err(error) => AlterShareGroupOffsetsResponse {
                error_code: error.code.code(),
                error_message: error.message(),
                ..AlterShareGroupOffsetsResponse::default()
            },
        };
        responder.reply(&response)
    }))
}

fn told(topic: Altered) -> AlterShareGroupOffsetsResponseTopic {
    let partitions = topic.partitions.into_iter().map(|(index, outcome)| {
        let error = outcome.err();
        AlterShareGroupOffsetsResponsePartition {
            partition_index: index,
            error_code: error.as_ref().map_or(0, |error| error.code.code()),
            error_message: error.and_then(|error| error.message()),
        }
    });
    AlterShareGroupOffsetsResponseTopic {
        topic_name: topic.name,
        topic_id: topic.id.0,
        partitions: partitions.collect(),
    }
}
