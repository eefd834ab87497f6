//! ShareGroupDescribe: epochs, members and assignments of share groups (KIP-932).

use std::sync::Arc;

use weir_groups::request::{AssignedTopic, ShareDescription};
use weir_groups::{GroupError, GroupId};
use weir_wire::messages::share_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use weir_wire::messages::{ShareGroupDescribeRequestView, ShareGroupDescribeResponse};

use super::k15_describe_groups::ALL_OPERATIONS;
use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ShareGroupDescribeRequestView<'_> = request.decode()?;
    let groups: Vec<GroupId> = view.group_ids.iter().map(GroupId::from).collect();
    let operations = match view.include_authorized_operations {
        true => ALL_OPERATIONS,
        false => i32::MIN,
    };
    // Every coordinator is asked before the first answer is waited for.
    let asked = groups.iter().map(|group| {
        let answer = broker.groups.describe_share(group.clone());
        (!group.is_empty()).then_some(answer)
    });
    let answers: Vec<_> = asked.collect();
    let responder = request.responder();
    Ok(Answer::later(async move {
        let mut described = Vec::with_capacity(groups.len());
        for (group, answer) in groups.into_iter().zip(answers) {
            let outcome = match answer {
                Some(answer) => answer.await,
                None => Err(GroupError::InvalidGroupId),
            };
            described.push(match outcome {
                Ok(description) => told(description, operations),
                Err(error) => refused(&group, error),
            });
        }
        responder.reply(&ShareGroupDescribeResponse {
            groups: described,
            ..ShareGroupDescribeResponse::default()
        })
    }))
}

fn told(group: ShareDescription, authorized_operations: i32) -> DescribedGroup {
    let members = group.members.into_iter().map(|member| Member {
        member_id: member.member.to_string(),
        rack_id: member.rack,
        member_epoch: member.epoch.0,
        client_id: member.client_id,
        client_host: member.client_host,
        subscribed_topic_names: member.topics,
        assignment: assignment(member.assignment),
    });
    DescribedGroup {
        group_id: group.group.to_string(),
        group_state: group.state.name().to_owned(),
        group_epoch: group.epoch.0,
        assignment_epoch: group.assignment_epoch.0,
        assignor_name: group.assignor,
        members: members.collect(),
        authorized_operations,
        ..DescribedGroup::default()
    }
}

fn assignment(topics: Vec<AssignedTopic>) -> Assignment {
    let topics = topics.into_iter().map(|topic| TopicPartitions {
        topic_id: topic.id.0,
        topic_name: topic.name.to_string(),
        partitions: topic.partitions,
    });
    Assignment {
        topic_partitions: topics.collect(),
    }
}

fn refused(group: &GroupId, error: GroupError) -> DescribedGroup {
    DescribedGroup {
        error_code: error.code().code(),
        error_message: Some(error.to_string()),
        group_id: group.to_string(),
        authorized_operations: i32::MIN,
        ..DescribedGroup::default()
    }
}
