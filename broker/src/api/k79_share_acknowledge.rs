//! ShareAcknowledge: what a member says of records that it was handed.

use std::sync::Arc;

use uuid::Uuid;
use weir_wire::messages::share_acknowledge_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareAcknowledgeTopicResponse,
};
use weir_wire::messages::{ShareAcknowledgeRequestView, ShareAcknowledgeResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::share::{Said, member_of, said};
use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::ApiError;
use crate::share::{AckOutcome, AcknowledgeCall, Named};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ShareAcknowledgeRequestView<'_> = request.decode()?;
    let responder = request.responder();
    let (group, member) = match member_of(view.group_id, view.member_id) {
        Ok(named) => named,
        Err(error) => return request.answer(&refused(error)),
    };
    let mut named = Vec::new();
    for topic in view.topics.iter() {
        for partition in topic.partitions.iter() {
            let batches = partition.acknowledgement_batches.iter().map(|batch| Said {
                first: batch.first_offset,
                last: batch.last_offset,
                types: batch.acknowledge_types.iter().collect(),
            });
            named.push(Named {
                partition: (
                    TopicId(topic.topic_id),
                    PartitionIndex(partition.partition_index),
                ),
                acknowledges: said(batches, view.is_renew_ack),
            });
        }
    }
    let answer = broker.share.acknowledge(
        broker,
        AcknowledgeCall {
            group,
            member,
            epoch: view.share_session_epoch,
            is_renew: view.is_renew_ack,
            named,
        },
    );
    let broker = Arc::clone(broker);
    let peer = Arc::clone(&request.peer);
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok((lock_ms, outcomes)) => response(&broker, &peer.listener, lock_ms, outcomes),
            Err(error) => refused(error),
        };
        responder.reply(&response)
    }))
}

fn response(
    broker: &Broker,
    listener: &str,
    lock_ms: i32,
    outcomes: Vec<AckOutcome>,
) -> ShareAcknowledgeResponse {
    let mut led_elsewhere = Vec::new();
    let mut topics: Vec<(Uuid, Vec<PartitionData>)> = Vec::new();
    for ((TopicId(topic), partition), outcome) in outcomes {
        let mut data = PartitionData {
            partition_index: partition.0,
            ..PartitionData::default()
        };
        if let Err(not_led) = outcome {
            if let Some((leader_id, leader_epoch)) = not_led.leader {
                led_elsewhere.push(leader_id);
                data.current_leader = LeaderIdAndEpoch {
                    leader_id,
                    leader_epoch,
                };
            }
            data.error_code = not_led.error.code.code();
            data.error_message = not_led.error.message();
        }
        match topics.iter_mut().find(|(id, _)| *id == topic) {
            Some((_, partitions)) => partitions.push(data),
            None => topics.push((topic, vec![data])),
        }
    }
    let topics = topics
        .into_iter()
        .map(|(topic_id, partitions)| ShareAcknowledgeTopicResponse {
            topic_id,
            partitions,
        });
    let image = broker.metadata.image();
    let endpoints = leaders::endpoints(&image, listener, led_elsewhere.into_iter()).into_iter();
    let endpoints = endpoints.map(|broker| NodeEndpoint {
        node_id: broker.id,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
    });
    ShareAcknowledgeResponse {
        acquisition_lock_timeout_ms: lock_ms,
        responses: topics.collect(),
        node_endpoints: endpoints.collect(),
        ..ShareAcknowledgeResponse::default()
    }
}

fn refused(error: ApiError) -> ShareAcknowledgeResponse {
    ShareAcknowledgeResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..ShareAcknowledgeResponse::default()
    }
}
