//! DeleteRecords: what lies before an offset is not to be read any more.
//!
//! The log's start moves durably; the bytes go with retention, which is asked at once. Answered when all replicas in sync have done it, so that
//! what is deleted is deleted also for the next leader (in Kafka: all that are alive).

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use weir_log::LaneError;
use weir_quorum::image::Topic;
use weir_wire::messages::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use weir_wire::messages::{DeleteRecordsRequestView, DeleteRecordsResponse};
use weir_wire::{Offset, PartitionIndex};

use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::gather::Gathered;
use crate::partitions::Partition;

/// Stands for the high watermark.
const HIGH_WATERMARK: i64 = -1;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DeleteRecordsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let mut response = DeleteRecordsResponse::default();
    let mut moves = Vec::new();
    for topic in view.topics {
        let found = leaders::topic(&image, topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in topic.partitions {
            let index = wanted.partition_index;
            let checked = match &found {
                Err(code) => Err(ApiError::from(*code)),
                Ok(topic) => admissible(broker, topic, index, wanted.offset),
            };
            let code = match checked {
                Ok((partition, start)) => {
                    let place = (response.topics.len(), partitions.len());
                    moves.push((place, partition, start));
                    ErrorCode::None
                }
                Err(error) => error.code,
            };
            partitions.push(DeleteRecordsPartitionResult {
                partition_index: index,
                low_watermark: -1,
                error_code: code.code(),
            });
        }
        response.topics.push(DeleteRecordsTopicResult {
            name: topic.name.to_owned(),
            partitions,
        });
    }
    let outcomes = Gathered::new(moves.len());
    let mut places = Vec::with_capacity(moves.len());
    for (slot, (place, partition, start)) in moves.into_iter().enumerate() {
        let outcome = outcomes.slot(slot);
        places.push((place, Arc::clone(&partition)));
        partition.delete_records(start, move |result| outcome.set(result));
    }
    let responder = request.responder();
    let patience = Duration::from_millis(u64::try_from(view.timeout_ms).unwrap_or(0));
    drop(request);
    Ok(Answer::later(async move {
        let until = Instant::now() + patience;
        let gathered = outcomes.all(patience).await;
        for (((topic, index), partition), outcome) in places.into_iter().zip(gathered) {
            let outcome = match outcome {
                Some(Ok(start)) => {
                    let everywhere = partition.replica().all_begin_at(start);
                    match timeout_at(until, everywhere).await {
                        Ok(Ok(())) => Ok(start),
                        Ok(Err(_)) => Err(ErrorCode::NotLeaderOrFollower),
                        Err(_) => Err(ErrorCode::RequestTimedOut),
                    }
                }
                Some(Err(error)) => Err(code_of(&error)),
                None => Err(ErrorCode::RequestTimedOut),
            };
            let answer = &mut response.topics[topic].partitions[index];
            match outcome {
                Ok(start) => answer.low_watermark = start.0,
                Err(code) => answer.error_code = code.code(),
            }
        }
        responder.reply(&response)
    }))
}

/// The partition and its new start, when that may be.
fn admissible(
    broker: &Broker,
    topic: &Topic,
    index: i32,
    offset: i64,
) -> Result<(Arc<Partition>, Offset), ApiError> {
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    let led = leaders::led(broker, topic, index, -1).map_err(|not_led| not_led.error)?;
    debug_assert_eq!(led.partition.key().partition, PartitionIndex(index));
    let policy = led.partition.config().cleanup_policy;
    if policy.compact && !policy.delete {
        return Err(ErrorCode::PolicyViolation.into());
    }
    let end = led.partition.high_watermark();
    let start = match offset {
        HIGH_WATERMARK => end,
        offset => Offset(offset),
    };
    if start.0 < 0 || start > end {
        return Err(ErrorCode::OffsetOutOfRange.into());
    }
    Ok((led.partition, start))
}

fn code_of(error: &LaneError) -> ErrorCode {
    match error {
        LaneError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
        LaneError::Closed => ErrorCode::NotLeaderOrFollower,
        _ => ErrorCode::KafkaStorageError,
    }
}
