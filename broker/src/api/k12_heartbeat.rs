//! Heartbeat: a member of a group is alive.

use std::sync::Arc;

use weir_groups::request::HeartbeatRequest;
use weir_groups::{Generation, GroupError};
use weir_wire::messages::{HeartbeatRequestView, HeartbeatResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: HeartbeatRequestView<'_> = request.decode()?;
    let answer = broker.groups.heartbeat(HeartbeatRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        instance: view.group_instance_id.map(Into::into),
        generation: Generation(view.generation_id),
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        let error_code = GroupError::code_of(&answer.await);
        responder.reply(&HeartbeatResponse {
            error_code,
            ..HeartbeatResponse::default()
        })
    }))
}
