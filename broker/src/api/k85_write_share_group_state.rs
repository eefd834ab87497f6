//! WriteShareGroupState: a leader stores what has changed of share-partitions (for brokers, and tools).

use std::sync::Arc;

use weir_groups::share::state::{StateError, StateKey, StateRequest, StateResponse, WriteState};
use weir_groups::share::{DeliveryState, StateBatch};
use weir_wire::messages::write_share_group_state_request::StateBatchView;
use weir_wire::messages::write_share_group_state_response::{PartitionResult, WriteStateResult};
use weir_wire::messages::{WriteShareGroupStateRequestView, WriteShareGroupStateResponse};
use weir_wire::{LeaderEpoch, Offset, PartitionIndex, TopicId};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: WriteShareGroupStateRequestView<'_> = request.decode()?;
    let mut topics = Vec::new();
    for topic in view.topics.iter() {
        let mut asked = Vec::new();
        for partition in topic.partitions.iter() {
            let key = StateKey {
                group: view.group_id.into(),
                topic: TopicId(topic.topic_id),
                partition: PartitionIndex(partition.partition),
            };
            let request = StateRequest::Write(WriteState {
                key: key.clone(),
                state_epoch: partition.state_epoch,
                leader_epoch: LeaderEpoch(partition.leader_epoch),
                start: Offset(partition.start_offset),
                complete_count: partition.delivery_complete_count,
                batches: partition.state_batches.iter().filter_map(batch).collect(),
                levels: Vec::new(),
            });
            // Handed over in the order of the requests, and waited for later.
            asked.push((
                key.partition,
                broker.share.persister().ask_here(&key, request),
            ));
        }
        topics.push((topic.topic_id, asked));
    }
    let responder = request.responder();
    Ok(Answer::later(async move {
        let mut results = Vec::with_capacity(topics.len());
        for (topic_id, asked) in topics {
            let mut partitions = Vec::with_capacity(asked.len());
            for (partition, asked) in asked {
                partitions.push(result(partition, asked.await));
            }
            results.push(WriteStateResult {
                topic_id,
                partitions,
            });
        }
        responder.reply(&WriteShareGroupStateResponse { results })
    }))
}

fn result(partition: PartitionIndex, answer: Result<StateResponse, StateError>) -> PartitionResult {
    let data = PartitionResult {
        partition: partition.0,
        ..PartitionResult::default()
    };
    match answer {
        Ok(StateResponse::Write(Ok(()))) => data,
        Ok(StateResponse::Write(Err(error))) | Err(error) => fail(data, error),
        // A coordinator answers each request with the response of its kind.
        Ok(_) => fail(data, StateError::NotAvailable),
    }
}

fn fail(data: PartitionResult, error: StateError) -> PartitionResult {
    PartitionResult {
        error_code: error.code().code(),
        error_message: Some(error.to_string()),
        ..data
    }
}

/// One that says what nobody stores is passed over: its records are handed out again.
fn batch(batch: StateBatchView) -> Option<StateBatch> {
    Some(StateBatch {
        first: Offset(batch.first_offset),
        last: Offset(batch.last_offset),
        state: DeliveryState::from_id(batch.delivery_state)?,
        deliveries: batch.delivery_count,
    })
}
