//! Producer ids are given to brokers in blocks, so that most producers cost the quorum nothing.

use super::{Decision, View, brokers};
use crate::command::{AllocateProducerIds, Reply};
use crate::error::ControlError;
use crate::record::{ProducerIdsAllocated, Record};

/// How many producer ids a broker gets at once: as Kafka's, enough that the quorum is not asked for each producer.
pub const PRODUCER_ID_BLOCK: i32 = 1000;

pub(super) fn allocate(
    view: &View<'_>,
    request: &AllocateProducerIds,
) -> Result<Decision, ControlError> {
    brokers::registration(view, request.id, request.epoch)?;
    let first = view.image.next_producer_id();
    let next = first + i64::from(PRODUCER_ID_BLOCK);
    let record = Record::ProducerIdsAllocated(ProducerIdsAllocated {
        broker: request.id,
        next,
    });
    Ok(Decision::new(
        vec![record],
        Reply::ProducerIds {
            first,
            count: PRODUCER_ID_BLOCK,
        },
    ))
}
