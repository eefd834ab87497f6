//! ConsumerGroupHeartbeat: a member of a consumer group joins, is alive, says what it owns, or leaves (KIP-848).

use std::sync::Arc;

use weir_groups::request::{Beat, ConsumerHeartbeatRequest};
use weir_groups::{Epoch, GroupError, MemberId, Partitions, TopicPartition, by_topic};
use weir_wire::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use weir_wire::messages::{ConsumerGroupHeartbeatRequestView, ConsumerGroupHeartbeatResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ConsumerGroupHeartbeatRequestView<'_> = request.decode()?;
    if let Err(why) = check(&view, request.version) {
        return request.answer(&refused(ApiError::new(ErrorCode::InvalidRequest, why)));
    }
    // Before version 1 the coordinator chooses the id.
    let member = match view.member_id {
        "" => broker.host.entropy.uuid().to_string().into(),
        id => MemberId::from(id),
    };
    let owned = view.topic_partitions.map(|topics| {
        let places = topics.iter().flat_map(|topic| {
            let partitions = topic.partitions.iter();
            partitions.map(move |partition| TopicPartition {
                topic: TopicId(topic.topic_id),
                partition: PartitionIndex(partition),
            })
        });
        places.collect::<Partitions>()
    });
    let answer = broker.groups.heartbeat_consumer(ConsumerHeartbeatRequest {
        group: view.group_id.into(),
        member,
        epoch: Epoch(view.member_epoch),
        instance: view.instance_id.map(Into::into),
        rack: view.rack_id.map(str::to_owned),
        rebalance_timeout_ms: Some(view.rebalance_timeout_ms).filter(|ms| *ms != -1),
        client_id: request.client_id().to_owned(),
        client_host: format!("/{}", request.peer.address.ip()),
        topics: view
            .subscribed_topic_names
            .map(|topics| topics.iter().map(str::to_owned).collect()),
        regex: view.subscribed_topic_regex.map(str::to_owned),
        assignor: view.server_assignor.map(str::to_owned),
        owned,
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
fn check(view: &ConsumerGroupHeartbeatRequestView<'_>, version: i16) -> Result<(), &'static str> {
    let epoch = Epoch(view.member_epoch);
    let is_joining = epoch == Epoch::JOINING;
    let subscribes = view.subscribed_topic_names.is_some() || view.subscribed_topic_regex.is_some();
    let owns_nothing = view
        .topic_partitions
        .is_some_and(|topics| topics.iter().next().is_none());
    let problems = [
        (view.group_id.is_empty(), "GroupId can't be empty."),
        (
            view.member_id.is_empty() && (version >= 1 || !is_joining),
            "MemberId can't be empty.",
        ),
        (view.instance_id == Some(""), "InstanceId can't be empty."),
        (view.rack_id == Some(""), "RackId can't be empty."),
        (
            is_joining && view.rebalance_timeout_ms == -1,
            "RebalanceTimeoutMs must be provided in first request.",
        ),
        (
            is_joining && !owns_nothing,
            "TopicPartitions must be empty when (re-)joining.",
        ),
        (
            is_joining && !subscribes,
            "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
        ),
        (
            epoch == Epoch::LEAVING_FOR_A_WHILE && view.instance_id.is_none(),
            "InstanceId can't be null.",
        ),
        (
            epoch < Epoch::LEAVING_FOR_A_WHILE,
            "MemberEpoch is invalid.",
        ),
    ];
    let problem = problems.into_iter().find(|(is_there, _)| *is_there);
    problem.map_or(Ok(()), |(_, why)| Err(why))
}

fn told(beat: Beat) -> ConsumerGroupHeartbeatResponse {
    let assignment = beat.assignment.map(|partitions| Assignment {
        topic_partitions: by_topic(partitions)
            .into_iter()
            .map(|(topic, partitions)| TopicPartitions {
                topic_id: topic.0,
                partitions,
            })
            .collect(),
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(beat.member.to_string()),
        member_epoch: beat.epoch.0,
        heartbeat_interval_ms: beat.interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn refused(error: ApiError) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

impl From<GroupError> for ApiError {
    fn from(error: GroupError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
