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
    let responder = request.responder();
    let broker = Arc::clone(broker);
    Ok(Answer::later(async move {
        // All coordinators are asked at once; of a share group the states go first, so that none is left that nobody knows of.
        let answers: Vec<_> = groups
            .iter()
            .map(|group| {
                let (broker, group) = (&broker, group.clone());
                async move {
                    broker.share.drop_group(broker, &group).await?;
                    broker.groups.delete(group).await
                }
            })
            .collect();
        let answers = futures::future::join_all(answers).await;
        let mut results = Vec::with_capacity(groups.len());
        for (group, answer) in groups.into_iter().zip(answers) {
            let error_code = GroupError::code_of(&answer);
            let group_id = group.to_string();
            results.push(DeletableGroupResult {
                group_id,
                error_code,
                error_message: answer.err().map(|error| error.to_string()),
            });
        }
        responder.reply(&DeleteGroupsResponse {
            results,
            ..DeleteGroupsResponse::default()
        })
    }))
}
