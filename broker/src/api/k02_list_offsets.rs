//! ListOffsets: where a partition begins, ends, or passes a time.

use std::sync::Arc;

use weir_log::TimestampOffset;
use weir_wire::LeaderEpoch;
use weir_wire::messages::list_offsets_request::ListOffsetsPartitionView;
use weir_wire::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use weir_wire::messages::{ListOffsetsRequest, ListOffsetsRequestView, ListOffsetsResponse};

use super::leaders::{self, Led, NotLed};
use super::request::isolation;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::partitions::Isolation;

/// What is asked for instead of a time, by the numbers that stand for it.
mod special {
    /// The offset of the next record that a consumer may read.
    pub(super) const LATEST: i64 = -1;
    /// The first offset.
    pub(super) const EARLIEST: i64 = -2;
    /// The record with the greatest timestamp (KIP-734).
    pub(super) const MAX_TIMESTAMP: i64 = -3;
    /// The first offset on the leader's own disk (KIP-405).
    pub(super) const EARLIEST_LOCAL: i64 = -4;
    /// The last offset that was moved to other storage (KIP-1005): there is none.
    pub(super) const LATEST_TIERED: i64 = -5;
    /// The first offset that is yet to be moved to other storage (KIP-1023): there is none.
    pub(super) const EARLIEST_PENDING_UPLOAD: i64 = -6;
}

/// The first version that tells a leader's epoch.
const EPOCHS_FROM: i16 = 4;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ListOffsetsRequestView<'_> = request.decode()?;
    let by_time = |partition: ListOffsetsPartitionView| {
        partition.timestamp >= 0 || partition.timestamp == special::MAX_TIMESTAMP
    };
    if !view
        .topics
        .iter()
        .any(|topic| topic.partitions.iter().any(by_time))
    {
        return request.answer(&answer(broker, &view.to_owned(), request.version));
    }
    // A time is looked up in the log itself, which may wait for the disk.
    let (owned, responder, broker) = (view.to_owned(), request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let host = broker.host.clone();
        let answering = host.blocking(move || answer(&broker, &owned, responder.version));
        responder.reply(&answering.await)
    }))
}

fn answer(broker: &Broker, request: &ListOffsetsRequest, version: i16) -> ListOffsetsResponse {
    let image = broker.metadata.image();
    let isolation = isolation(request.isolation_level);
    let mut response = ListOffsetsResponse::default();
    for topic in &request.topics {
        let found = leaders::topic(&image, &topic.name, uuid::Uuid::nil());
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            let index = partition.partition_index;
            let offset = match found {
                Err(code) => Err(NotLed::from(code)),
                Ok(topic) => leaders::led(broker, topic, index, partition.current_leader_epoch)
                    .and_then(|led| {
                        offset(&led, partition.timestamp, isolation).map_err(NotLed::from)
                    }),
            };
            partitions.push(match offset {
                Ok(found) => ListOffsetsPartitionResponse {
                    partition_index: index,
                    error_code: ErrorCode::None.code(),
                    timestamp: found.timestamp,
                    offset: found.offset,
                    leader_epoch: if version >= EPOCHS_FROM {
                        found.epoch
                    } else {
                        -1
                    },
                },
                Err(not_led) => ListOffsetsPartitionResponse {
                    partition_index: index,
                    error_code: not_led.error.code.code(),
                    timestamp: -1,
                    offset: -1,
                    leader_epoch: -1,
                },
            });
        }
        response.topics.push(ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions,
        });
    }
    response
}

/// An offset with its time and epoch; -1 for what there is not.
struct Found {
    offset: i64,
    timestamp: i64,
    epoch: i32,
}

impl Found {
    const NOTHING: Self = Self {
        offset: -1,
        timestamp: -1,
        epoch: -1,
    };

    fn by_time(found: Option<TimestampOffset>) -> Self {
        found.map_or(Self::NOTHING, |found| Self {
            offset: found.offset.0,
            timestamp: found.timestamp,
            epoch: found.leader_epoch.0,
        })
    }
}

fn offset(led: &Led, timestamp: i64, isolation: Isolation) -> Result<Found, ApiError> {
    let reader = led.partition.reader();
    let up_to = led.partition.readable(isolation);
    let at = |offset, epoch: Option<LeaderEpoch>| Found {
        offset,
        timestamp: -1,
        epoch: epoch.unwrap_or(led.epoch).0,
    };
    let is_start = matches!(timestamp, special::EARLIEST | special::EARLIEST_LOCAL);
    if !is_start && !led.partition.is_established() {
        // The watermark of a new leader may be lower than what an earlier one has told (KIP-207).
        return Err(ErrorCode::OffsetNotAvailable.into());
    }
    match timestamp {
        special::LATEST => Ok(at(up_to.0, Some(led.epoch))),
        special::EARLIEST | special::EARLIEST_LOCAL => {
            let start = reader.log_start();
            Ok(at(start.0, reader.epoch_of(start)))
        }
        special::LATEST_TIERED | special::EARLIEST_PENDING_UPLOAD => Ok(Found::NOTHING),
        special::MAX_TIMESTAMP => {
            // Kafka does not look for another when this one is not decided yet.
            let newest = reader.max_timestamp(led.partition.high_watermark())?;
            Ok(Found::by_time(
                newest.filter(|newest| newest.offset < up_to),
            ))
        }
        0.. => Ok(Found::by_time(
            reader.offset_for_timestamp(timestamp, up_to)?,
        )),
        other => Err(ApiError::new(
            ErrorCode::UnsupportedVersion,
            format!("timestamp {other}; allowed: 0 or more, -1 to -6"),
        )),
    }
}
