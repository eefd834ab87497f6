//! AddOffsetsToTxn: the offsets of a group become part of a transaction: the partition that keeps the group is added.

use std::sync::Arc;

use weir_groups::transactions::request::AddRequest;
use weir_groups::transactions::{TransactionError, Version};
use weir_groups::{OFFSETS_TOPIC, partition_for};
use weir_wire::messages::{AddOffsetsToTxnRequestView, AddOffsetsToTxnResponse};

use super::transactional::{code_of, producer};
use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AddOffsetsToTxnRequestView<'_> = request.decode()?;
    let id = view.transactional_id.into();
    let group = view.group_id.to_owned();
    let producer = producer(view.producer_id, view.producer_epoch);
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    drop(request);
    Ok(Answer::later(async move {
        let outcome = match partition_of(&broker, &group).await {
            None => Err(TransactionError::CoordinatorNotAvailable),
            Some(partition) => {
                let added = broker.transactions.add(AddRequest {
                    id,
                    producer,
                    version: Version::V0,
                    partitions: [(OFFSETS_TOPIC, partition)].into_iter().collect(),
                });
                added.await
            }
        };
        responder.reply(&AddOffsetsToTxnResponse {
            error_code: code_of(&outcome, responder.version).code(),
            ..AddOffsetsToTxnResponse::default()
        })
    }))
}

/// Where the group is kept. Makes the topic when there is none.
pub(super) async fn partition_of(
    broker: &Broker,
    group: &str,
) -> Option<weir_wire::PartitionIndex> {
    if broker.metadata.image().topic(OFFSETS_TOPIC).is_none() {
        broker.groups.find(group).await.ok()?;
    }
    let image = broker.metadata.image();
    let count = image.topic(OFFSETS_TOPIC)?.partitions.len();
    Some(partition_for(group, i32::try_from(count).ok()?))
}
