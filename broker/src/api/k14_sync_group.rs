//! SyncGroup: a member asks what it owns; the leader says what everyone owns. The answer waits for the leader.

use std::sync::Arc;

use weir_groups::Generation;
use weir_groups::request::SyncRequest;
use weir_wire::messages::{SyncGroupRequestView, SyncGroupResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: SyncGroupRequestView<'_> = request.decode()?;
    // Copies: an assignment outlives the frame by its whole generation.
    let assignments = view
        .assignments
        .iter()
        .map(|share| (share.member_id.into(), share.assignment.to_vec().into()));
    let answer = broker.groups.sync(SyncRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        instance: view.group_instance_id.map(Into::into),
        generation: Generation(view.generation_id),
        protocol_type: view.protocol_type.map(str::to_owned),
        protocol: view.protocol_name.map(str::to_owned),
        assignments: assignments.collect(),
    });
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok(synced) => SyncGroupResponse {
                protocol_type: synced.protocol_type,
                protocol_name: synced.protocol,
                assignment: synced.assignment,
                ..SyncGroupResponse::default()
            },
            Err(error) => SyncGroupResponse {
                error_code: error.code().code(),
                ..SyncGroupResponse::default()
            },
        };
        responder.reply(&response)
    }))
}
