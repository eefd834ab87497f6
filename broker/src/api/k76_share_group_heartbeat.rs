//! ShareGroupHeartbeat: a member of a share group joins, is alive, or leaves (KIP-932).

use std::sync::Arc;

use weir_groups::request::{Beat, ShareHeartbeatRequest};
use weir_groups::{Epoch, by_topic};
use weir_wire::messages::share_group_heartbeat_response::{Assignment, TopicPartitions};
use weir_wire::messages::{ShareGroupHeartbeatRequestView, ShareGroupHeartbeatResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ShareGroupHeartbeatRequestView<'_> = request.decode()?;
    if let Err(why) = check(&view) {
        return request.answer(&refused(ApiError::new(ErrorCode::InvalidRequest, why)));
    }
    let answer = broker.groups.heartbeat_share(ShareHeartbeatRequest {
        group: view.group_id.into(),
        member: view.member_id.into(),
        epoch: Epoch(view.member_epoch),
        rack: view.rack_id.map(str::to_owned),
        client_id: request.client_id().to_owned(),
        client_host: format!("/{}", request.peer.address.ip()),
        topics: view
            .subscribed_topic_names
            .map(|topics| topics.iter().map(str::to_owned).collect()),
    });
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        responder.reply(&match answer.await {
            Ok(beat) => told(beat),
            Err(error) => refused(error.into()),
        })
    }))
}

/// What Kafka asks of such a request before it looks at the group.
fn check(view: &ShareGroupHeartbeatRequestView<'_>) -> Result<(), &'static str> {
    let is_joining = view.member_epoch == Epoch::JOINING.0;
    let subscribes = view
        .subscribed_topic_names
        .is_some_and(|topics| topics.iter().next().is_some());
    let problems = [
        (view.group_id.is_empty(), "GroupId can't be empty."),
        (view.member_id.is_empty(), "MemberId can't be empty."),
        (view.rack_id == Some(""), "RackId can't be empty."),
        (
            is_joining && !subscribes,
            "SubscribedTopicNames must be set in first request.",
        ),
        (
            view.member_epoch < Epoch::LEAVING.0,
            "MemberEpoch is invalid.",
        ),
    ];
    let problem = problems.into_iter().find(|(is_there, _)| *is_there);
    problem.map_or(Ok(()), |(_, why)| Err(why))
}

fn told(beat: Beat) -> ShareGroupHeartbeatResponse {
    let assignment = beat.assignment.map(|partitions| Assignment {
        topic_partitions: by_topic(partitions)
            .into_iter()
            .map(|(topic, partitions)| TopicPartitions {
                topic_id: topic.0,
                partitions,
            })
            .collect(),
    });
    ShareGroupHeartbeatResponse {
        member_id: Some(beat.member.to_string()),
        member_epoch: beat.epoch.0,
        heartbeat_interval_ms: beat.interval_ms,
        assignment,
        ..ShareGroupHeartbeatResponse::default()
    }
}

fn refused(error: ApiError) -> ShareGroupHeartbeatResponse {
    ShareGroupHeartbeatResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..ShareGroupHeartbeatResponse::default()
    }
}
