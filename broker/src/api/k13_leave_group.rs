//! LeaveGroup: members go; from version 3 on several at once, which is how administrators remove them.

use std::sync::Arc;

use weir_groups::GroupError;
use weir_groups::request::{LeaveRequest, Leaving, Left};
use weir_wire::messages::leave_group_response::MemberResponse;
use weir_wire::messages::{LeaveGroupRequestView, LeaveGroupResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: LeaveGroupRequestView<'_> = request.decode()?;
    let is_batch = request.version >= 3;
    let members = if is_batch {
        let members = view.members.iter().map(|member| Leaving {
            member: member.member_id.into(),
            instance: member.group_instance_id.map(Into::into),
        });
        members.collect()
    } else {
        vec![Leaving {
            member: view.member_id.into(),
            instance: None,
        }]
    };
    let answer = broker.groups.leave(LeaveRequest {
        group: view.group_id.into(),
        members,
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        let response = match answer.await {
            Err(error) => refused(error),
            Ok(left) if is_batch => told(left),
            // The only member's outcome is the response's.
            Ok(left) => left
                .into_iter()
                .find_map(|left| left.outcome.err())
                .map_or_else(Default::default, refused),
        };
        responder.reply(&response)
    }))
}

fn refused(error: GroupError) -> LeaveGroupResponse {
    LeaveGroupResponse {
        error_code: error.code().code(),
        ..LeaveGroupResponse::default()
    }
}

fn told(left: Vec<Left>) -> LeaveGroupResponse {
    let members = left.into_iter().map(|left| MemberResponse {
        member_id: left.member.to_string(),
        group_instance_id: left.instance.map(|instance| instance.to_string()),
        error_code: GroupError::code_of(&left.outcome),
    });
    LeaveGroupResponse {
        members: members.collect(),
        ..LeaveGroupResponse::default()
    }
}
