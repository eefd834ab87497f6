//! DescribeGroups: state, members and assignments of groups.

use std::sync::Arc;

use weir_groups::request::{Description, GroupState, GroupType};
use weir_groups::{GroupError, GroupId};
use weir_wire::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use weir_wire::messages::{DescribeGroupsRequestView, DescribeGroupsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

/// What anyone may do with a group while nobody is forbidden anything: read (3), delete (6), describe (8), and its
/// configuration's describe (10) and alter (11), a bit each.
pub(super) const ALL_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8 | 1 << 10 | 1 << 11;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeGroupsRequestView<'_> = request.decode()?;
    let groups: Vec<GroupId> = view.groups.iter().map(GroupId::from).collect();
    let operations = if view.include_authorized_operations {
        ALL_OPERATIONS
    } else {
        i32::MIN
    };
    // Every coordinator is asked before the first answer is waited for.
    let answers: Vec<_> = groups
        .iter()
        .map(|group| broker.groups.describe(group.clone()))
        .collect();
    let responder = request.responder();
    let version = request.version;
    Ok(Answer::later(async move {
        let mut described = Vec::with_capacity(groups.len());
        for (group, answer) in groups.into_iter().zip(answers) {
            described.push(match answer.await {
                Ok(description) if description.kind == GroupType::Classic => {
                    told(description, operations)
                }
                // Groups of other types have requests of their own.
                Ok(_) => refused(&group, GroupError::GroupIdNotFound, version),
                Err(error) => refused(&group, error, version),
            });
        }
        responder.reply(&DescribeGroupsResponse {
            groups: described,
            ..DescribeGroupsResponse::default()
        })
    }))
}

fn told(group: Description, authorized_operations: i32) -> DescribedGroup {
    let members = group
        .members
        .into_iter()
        .map(|member| DescribedGroupMember {
            member_id: member.member.to_string(),
            group_instance_id: member.instance.map(|instance| instance.to_string()),
            client_id: member.client_id,
            client_host: member.client_host,
            member_metadata: member.metadata,
            member_assignment: member.assignment,
        });
    DescribedGroup {
        group_id: group.group.to_string(),
        group_state: group.state.name().to_owned(),
        protocol_type: group.protocol_type,
        protocol_data: group.protocol,
        members: members.collect(),
        authorized_operations,
        ..DescribedGroup::default()
    }
}

fn refused(group: &GroupId, error: GroupError, version: i16) -> DescribedGroup {
    let is_missing = error == GroupError::GroupIdNotFound;
    let described = DescribedGroup {
        group_id: group.to_string(),
        ..DescribedGroup::default()
    };
    let group_state = if is_missing {
        GroupState::Dead.name().to_owned()
    } else {
        String::new()
    };
    // Before version 6 a group that does not exist is a dead one, and no error.
    let error_code = if is_missing && version < 6 {
        0
    } else {
        error.code().code()
    };
    // Kafka's words for a group that is not there, which its own tools print.
    let words = if is_missing {
        format!("Group {group} not found.")
    } else {
        error.to_string()
    };
    let error_message = (version >= 6).then_some(words);
    DescribedGroup {
        error_code,
        error_message,
        group_state,
        ..described
    }
}
