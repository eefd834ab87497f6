//! JoinGroup: a member asks for a place in a group's next generation. The answer waits for the rebalance.

use std::sync::Arc;

use weir_groups::Generation;
use weir_groups::request::{JoinRefused, JoinRequest, Joined, Protocol};
use weir_wire::messages::join_group_response::JoinGroupResponseMember;
use weir_wire::messages::{JoinGroupRequestView, JoinGroupResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: JoinGroupRequestView<'_> = request.decode()?;
    let version = request.version;
    let protocols = view.protocols.iter().map(|protocol| Protocol {
        name: protocol.name.to_owned(),
        // A copy: what a member says outlives the frame by its whole membership.
        metadata: protocol.metadata.to_vec().into(),
    });
    let answer = broker.groups.join(JoinRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        instance: view.group_instance_id.map(Into::into),
        client_id: request.client_id().to_owned(),
        client_host: format!("/{}", request.peer.address.ip()),
        session_timeout_ms: view.session_timeout_ms,
        rebalance_timeout_ms: view.rebalance_timeout_ms,
        protocol_type: view.protocol_type.to_owned(),
        protocols: protocols.collect(),
        member_id_required: version >= 4,
        can_skip_assignment: version >= 9,
        unique: broker.host.entropy.uuid().to_string(),
    });
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok(joined) => told(joined),
            Err(refused) => self::refused(refused, version),
        };
        responder.reply(&response)
    }))
}

fn told(joined: Joined) -> JoinGroupResponse {
    let members = joined
        .members
        .into_iter()
        .map(|member| JoinGroupResponseMember {
            member_id: member.member.to_string(),
            group_instance_id: member.instance.map(|instance| instance.to_string()),
            metadata: member.metadata,
        });
    JoinGroupResponse {
        generation_id: joined.generation.0,
        protocol_type: joined.protocol_type,
        protocol_name: Some(joined.protocol.unwrap_or_default()),
        leader: joined.leader.to_string(),
        skip_assignment: joined.skip_assignment,
        member_id: joined.member.to_string(),
        members: members.collect(),
        ..JoinGroupResponse::default()
    }
}

fn refused(refused: JoinRefused, version: i16) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: refused.error.code().code(),
        generation_id: Generation::NONE.0,
        // Older versions cannot say that there is none.
        protocol_name: (version < 7).then(String::new),
        member_id: refused.member.to_string(),
        ..JoinGroupResponse::default()
    }
}
