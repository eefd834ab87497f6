//! ShareFetch: records for a member of a share group, and its acknowledgements of earlier ones.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;
use weir_groups::share::AcquireMode;
use weir_quorum::image::Image;
use weir_wire::messages::share_fetch_response::{
    AcquiredRecords, LeaderIdAndEpoch, NodeEndpoint, PartitionData, ShareFetchableTopicResponse,
};
use weir_wire::messages::{ShareFetchRequestView, ShareFetchResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::leaders::NotLed;
use super::share::{Said, member_of, said};
use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::share::{FetchAnswer, FetchCall, Named, PartitionAnswer};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ShareFetchRequestView<'_> = request.decode()?;
    let responder = request.responder();
    let call = match call(&view) {
        Ok(call) => call,
        Err(error) => return request.answer(&refused(error)),
    };
    let peer = Arc::clone(&request.peer);
    let answer = broker.share.fetch(broker, &peer, call);
    let broker = Arc::clone(broker);
    Ok(Answer::later(async move {
        let response = match answer.await {
            Ok(answer) => response(&broker.metadata.image(), &peer.listener, answer),
            Err(error) => refused(error),
        };
        responder.reply(&response)
    }))
}

fn call(view: &ShareFetchRequestView<'_>) -> Result<FetchCall, ApiError> {
    let (group, member) = member_of(view.group_id, view.member_id)?;
    let wants = [
        view.max_wait_ms,
        view.min_bytes,
        view.max_bytes,
        view.max_records,
    ];
    if view.is_renew_ack && wants.iter().any(|wanted| *wanted > 0) {
        let why = "a request that renews fetches nothing: wait, bytes and records must be 0";
        return Err(ApiError::new(ErrorCode::InvalidRequest, why));
    }
    let mode = match view.share_acquire_mode {
        0 => AcquireMode::BatchOptimized,
        1 => AcquireMode::RecordLimit,
        other => {
            let why = format!("acquire mode {other}; allowed: 0 (batches), 1 (a limit of records)");
            return Err(ApiError::new(ErrorCode::InvalidRequest, why));
        }
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
    let forgotten = view.forgotten_topics_data.iter().flat_map(|topic| {
        let id = TopicId(topic.topic_id);
        topic
            .partitions
            .iter()
            .map(move |partition| (id, PartitionIndex(partition)))
    });
    let forgotten = forgotten.collect();
    Ok(FetchCall {
        group,
        member,
        epoch: view.share_session_epoch,
        wait: Duration::from_millis(u64::try_from(view.max_wait_ms).unwrap_or(0)),
        bytes_max: usize::try_from(view.max_bytes).unwrap_or(0),
        records_max: i64::from(view.max_records),
        batch_size: i64::from(view.batch_size),
        mode,
        is_renew: view.is_renew_ack,
        named,
        forgotten,
    })
}

fn response(image: &Image, listener: &str, answer: FetchAnswer) -> ShareFetchResponse {
    let mut response = ShareFetchResponse {
        acquisition_lock_timeout_ms: answer.lock_ms,
        ..ShareFetchResponse::default()
    };
    let mut led_elsewhere = Vec::new();
    let mut topics: Vec<(Uuid, Vec<PartitionData>)> = Vec::new();
    for answer in answer.partitions {
        let (TopicId(topic), _) = answer.partition;
        let data = partition(answer, &mut led_elsewhere);
        match topics.iter_mut().find(|(id, _)| *id == topic) {
            Some((_, partitions)) => partitions.push(data),
            None => topics.push((topic, vec![data])),
        }
    }
    let topics = topics
        .into_iter()
        .map(|(topic_id, partitions)| ShareFetchableTopicResponse {
            topic_id,
            partitions,
        });
    response.responses = topics.collect();
    let endpoints = leaders::endpoints(image, listener, led_elsewhere.into_iter()).into_iter();
    let endpoints = endpoints.map(|broker| NodeEndpoint {
        node_id: broker.id,
        host: broker.host,
        port: broker.port,
        rack: broker.rack,
    });
    response.node_endpoints = endpoints.collect();
    response
}

fn partition(answer: PartitionAnswer, led_elsewhere: &mut Vec<i32>) -> PartitionData {
    let mut data = PartitionData {
        partition_index: answer.partition.1.0,
        records: answer.records,
        ..PartitionData::default()
    };
    if let Some(not_led) = answer.error.map(NotLed::of_fetch) {
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
    if let Some(error) = answer.ack_error {
        data.acknowledge_error_code = error.code.code();
        data.acknowledge_error_message = error.message();
    }
    let acquired = answer.acquired.into_iter().map(|range| AcquiredRecords {
        first_offset: range.first.0,
        last_offset: range.last.0,
        delivery_count: range.deliveries,
    });
    data.acquired_records = acquired.collect();
    data
}

fn refused(error: ApiError) -> ShareFetchResponse {
    ShareFetchResponse {
        error_code: error.code.code(),
        error_message: error.message(),
        ..ShareFetchResponse::default()
    }
}
