//! DescribeProducers: who writes into a partition, and which transactions are open there.

use std::sync::Arc;
use std::time::Duration;

use weir_log::ProducerState as Known;
use weir_wire::messages::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use weir_wire::messages::{DescribeProducersRequestView, DescribeProducersResponse};

use super::leaders::{self, NotLed};
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::gather::Gathered;

/// A lane answers within one turn; more is a disk that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeProducersRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let mut response = DescribeProducersResponse::default();
    let mut asked = Vec::new();
    for topic in view.topics {
        let found = leaders::topic(&image, topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::new();
        for index in topic.partition_indexes.iter() {
            let led = match &found {
                Ok(topic) => leaders::led(broker, topic, index, -1),
                Err(code) => {
                    let message = format!("there is no topic {:?}", topic.name);
                    Err(NotLed::from(ApiError::new(*code, message)))
                }
            };
            partitions.push(match led {
                Ok(led) => {
                    asked.push((response.topics.len(), partitions.len(), led));
                    PartitionResponse {
                        partition_index: index,
                        ..PartitionResponse::default()
                    }
                }
                Err(not_led) => refused(index, not_led.error),
            });
        }
        response.topics.push(TopicResponse {
            name: topic.name.to_owned(),
            partitions,
        });
    }
    let outcomes = Gathered::new(asked.len());
    let mut places = Vec::with_capacity(asked.len());
    for (slot, (topic, partition, led)) in asked.into_iter().enumerate() {
        places.push((topic, partition));
        let outcome = outcomes.slot(slot);
        led.partition.producers(move |known| outcome.set(known));
    }
    let responder = request.responder();
    Ok(Answer::later(async move {
        let outcomes = outcomes.all(PATIENCE).await;
        for ((topic, partition), outcome) in places.into_iter().zip(outcomes) {
            let answer = &mut response.topics[topic].partitions[partition];
            match outcome {
                Some(Ok(known)) => answer.active_producers = known.iter().map(state).collect(),
                Some(Err(error)) => *answer = refused(answer.partition_index, error.into()),
                None => {
                    *answer = refused(answer.partition_index, ErrorCode::RequestTimedOut.into());
                }
            }
        }
        responder.reply(&response)
    }))
}

fn state(known: &Known) -> ProducerState {
    ProducerState {
        producer_id: known.producer_id.0,
        producer_epoch: i32::from(known.producer_epoch.0),
        last_sequence: known.last_sequence,
        last_timestamp: known.last_timestamp_ms,
        coordinator_epoch: known.coordinator_epoch,
        current_txn_start_offset: known.transaction_start.map_or(-1, |start| start.0),
    }
}

fn refused(partition_index: i32, error: ApiError) -> PartitionResponse {
    PartitionResponse {
        partition_index,
        error_code: error.code.code(),
        error_message: error.message(),
        ..PartitionResponse::default()
    }
}
