//! OffsetForLeaderEpoch: where a leader's epoch ends in this log (KIP-101, KIP-320).

use std::cmp::Ordering;
use std::sync::Arc;

use weir_wire::LeaderEpoch;
use weir_wire::messages::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use weir_wire::messages::{OffsetForLeaderEpochRequestView, OffsetForLeaderEpochResponse};

use super::leaders::{self, Led, NotLed};
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// No epoch, no offset.
const UNDEFINED: (i32, i64) = (-1, -1);

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: OffsetForLeaderEpochRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in view.topics {
        let found = leaders::topic(&image, topic.topic, uuid::Uuid::nil());
        let partitions = topic.partitions.iter().map(|wanted| {
            let led = match found {
                Err(code) => Err(NotLed::from(code)),
                Ok(topic) => {
                    leaders::led(broker, topic, wanted.partition, wanted.current_leader_epoch)
                }
            };
            let (error, (leader_epoch, end_offset)) = match led {
                Ok(led) => (
                    ErrorCode::None,
                    end_of(&led, LeaderEpoch(wanted.leader_epoch)),
                ),
                Err(not_led) => (not_led.error.code, UNDEFINED),
            };
            EpochEndOffset {
                error_code: error.code(),
                partition: wanted.partition,
                leader_epoch,
                end_offset,
            }
        });
        let partitions = partitions.collect();
        response.topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic.to_owned(),
            partitions,
        });
    }
    request.answer(&response)
}

fn end_of(led: &Led, epoch: LeaderEpoch) -> (i32, i64) {
    let reader = led.partition.reader();
    if epoch.0 < 0 {
        return UNDEFINED;
    }
    match epoch.cmp(&led.epoch) {
        Ordering::Greater => UNDEFINED,
        // The leader's own epoch goes on.
        Ordering::Equal => (epoch.0, reader.log_end().0),
        Ordering::Less => reader
            .epoch_end(epoch)
            .map_or(UNDEFINED, |end| (end.epoch.0, end.end_offset.0)),
    }
}
