//! DeleteShareGroupState: ends the state of share-partitions (for brokers, and tools).

use std::sync::Arc;

use weir_groups::share::state::{StateError, StateKey, StateRequest, StateResponse};
use weir_wire::messages::delete_share_group_state_response::{DeleteStateResult, PartitionResult};
use weir_wire::messages::{DeleteShareGroupStateRequestView, DeleteShareGroupStateResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteShareGroupStateRequestView<'_> = request.decode()?;
    let mut topics = Vec::new();
    for topic in view.topics.iter() {
        let mut asked = Vec::new();
        for partition in topic.partitions.iter() {
            let key = StateKey {
                group: view.group_id.into(),
                topic: TopicId(topic.topic_id),
                partition: PartitionIndex(partition.partition),
            };
            let request = StateRequest::Delete(key.clone());
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
            results.push(DeleteStateResult {
                topic_id,
                partitions,
            });
        }
        responder.reply(&DeleteShareGroupStateResponse { results })
    }))
}

fn result(partition: PartitionIndex, answer: Result<StateResponse, StateError>) -> PartitionResult {
    let data = PartitionResult {
        partition: partition.0,
        ..PartitionResult::default()
    };
    match answer {
        Ok(StateResponse::Delete) => data,
        Err(error) => fail(data, error),
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
