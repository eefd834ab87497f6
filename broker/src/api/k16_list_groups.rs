//! ListGroups: the groups that this broker coordinates.

use std::sync::Arc;

use weir_groups::request::ListRequest;
use weir_wire::messages::list_groups_response::ListedGroup;
use weir_wire::messages::{ListGroupsRequestView, ListGroupsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ListGroupsRequestView<'_> = request.decode()?;
    let answer = broker.groups.list(&ListRequest {
        states: view.states_filter.iter().map(str::to_owned).collect(),
        types: view.types_filter.iter().map(str::to_owned).collect(),
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok(listed) => {
                let groups = listed.into_iter().map(|group| ListedGroup {
                    group_id: group.group.to_string(),
                    protocol_type: group.protocol_type,
                    group_state: group.state.name().to_owned(),
                    group_type: group.kind.name().to_owned(),
                });
                ListGroupsResponse {
                    groups: groups.collect(),
                    ..ListGroupsResponse::default()
                }
            }
            Err(error) => ListGroupsResponse {
                error_code: error.code().code(),
                ..ListGroupsResponse::default()
            },
        };
        responder.reply(&response)
    }))
}
