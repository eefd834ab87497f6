//! DeleteGroups: drops groups without members, and their offsets.

use std::sync::Arc;

use weir_groups::{GroupError, GroupId};
use weir_wire::messages::delete_groups_response::DeletableGroupResult;
use weir_wire::messages::{DeleteGroupsRequestView, DeleteGroupsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteGroupsRequestView<'_> = request.decode()?;
    let groups: Vec<GroupId> = view.groups_names.iter().map(GroupId::from).collect();
    // Every coordinator is asked before the first answer is waited for.
    let answers: Vec<_> = groups
        .iter()
        .map(|group| broker.groups.delete(group.clone()))
        .collect();
    let responder = request.responder();
    Ok(Answer::later(async move {
        let mut results = Vec::with_capacity(groups.len());
        for (group, answer) in groups.into_iter().zip(answers) {
            let error_code = GroupError::code_of(&answer.await);
            let group_id = group.to_string();
            results.push(DeletableGroupResult {
                group_id,
                error_code,
                ..DeletableGroupResult::default()
            });
        }
        responder.reply(&DeleteGroupsResponse {
            results,
            ..DeleteGroupsResponse::default()
        })
    }))
}
