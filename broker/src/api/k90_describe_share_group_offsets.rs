//! DescribeShareGroupOffsets: where share groups stand in partitions.

use std::sync::Arc;

use weir_groups::GroupId;
use weir_wire::messages::describe_share_group_offsets_response::{
    DescribeShareGroupOffsetsResponseGroup, DescribeShareGroupOffsetsResponsePartition,
    DescribeShareGroupOffsetsResponseTopic,
};
use weir_wire::messages::{
    DescribeShareGroupOffsetsRequestView, DescribeShareGroupOffsetsResponse,
};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ApiError;
use crate::share::Standing;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeShareGroupOffsetsRequestView<'_> = request.decode()?;
    let groups = view.groups.iter().map(|group| {
        let topics = group.topics.map(|topics| {
            let topics = topics.iter().map(|topic| {
                let partitions: Vec<i32> = topic.partitions.iter().collect();
                (topic.topic_name.to_owned(), partitions)
            });
            topics.collect::<Vec<_>>()
        });
        (GroupId::from(group.group_id), topics)
    });
    let groups: Vec<_> = groups.collect();
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let mut described = Vec::with_capacity(groups.len());
        for (group, topics) in groups {
            let standings = broker.share.standings(&broker, &group, topics).await;
            described.push(match standings {
                Ok(standings) => told(&group, standings),
                Err(error) => refused(&group, error),
            });
        }
        responder.reply(&DescribeShareGroupOffsetsResponse {
            groups: described,
            ..DescribeShareGroupOffsetsResponse::default()
        })
    }))
}

fn told(group: &GroupId, standings: Vec<Standing>) -> DescribeShareGroupOffsetsResponseGroup {
    let mut topics: Vec<DescribeShareGroupOffsetsResponseTopic> = Vec::new();
    for standing in standings {
        let mut partition = DescribeShareGroupOffsetsResponsePartition {
            partition_index: standing.partition,
            start_offset: -1,
            ..DescribeShareGroupOffsetsResponsePartition::default()
        };
        match standing.place {
            Ok(place) => {
                partition.start_offset = place.start;
                partition.leader_epoch = place.leader_epoch;
                partition.lag = place.lag;
            }
            Err(error) => {
                partition.error_code = error.code.code();
                partition.error_message = error.message();
            }
        }
        match topics.last_mut() {
            Some(topic) if topic.topic_name == standing.topic => topic.partitions.push(partition),
            _ => topics.push(DescribeShareGroupOffsetsResponseTopic {
                topic_name: standing.topic,
                topic_id: standing.topic_id.0,
                partitions: vec![partition],
            }),
        }
    }
    DescribeShareGroupOffsetsResponseGroup {
        group_id: group.to_string(),
        topics,
        ..DescribeShareGroupOffsetsResponseGroup::default()
    }
}

fn refused(group: &GroupId, error: ApiError) -> DescribeShareGroupOffsetsResponseGroup {
    DescribeShareGroupOffsetsResponseGroup {
        group_id: group.to_string(),
        error_code: error.code.code(),
        error_message: error.message(),
        ..DescribeShareGroupOffsetsResponseGroup::default()
    }
}
