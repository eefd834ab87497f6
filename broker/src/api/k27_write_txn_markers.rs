//! WriteTxnMarkers: the end of transactions, as their coordinators say; and as people say who end one that hangs
//! (`kafka-transactions.sh abort`).

use std::sync::Arc;

use weir_groups::transactions::Version;
use weir_groups::{Marker, Outcome, Producer};
use weir_wire::messages::write_txn_markers_request::WritableTxnMarker;
use weir_wire::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use weir_wire::messages::{WriteTxnMarkersRequestView, WriteTxnMarkersResponse};
use weir_wire::{PartitionIndex, ProducerEpoch, ProducerId};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;
use crate::transactions::MarkerWriter;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: WriteTxnMarkersRequestView<'_> = request.decode()?;
    let (wanted, responder) = (view.to_owned(), request.responder());
    let writer = broker.transactions.markers().clone();
    Ok(Answer::later(async move {
        let mut response = WriteTxnMarkersResponse::default();
        // One after the other, as they were asked for: two may be of one producer.
        for marker in wanted.markers {
            response.markers.push(write(&writer, marker).await);
        }
        responder.reply(&response)
    }))
}

async fn write(writer: &MarkerWriter, wanted: WritableTxnMarker) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer: Producer {
            id: ProducerId(wanted.producer_id),
            epoch: ProducerEpoch(wanted.producer_epoch),
        },
        outcome: if wanted.transaction_result {
            Outcome::Commit
        } else {
            Outcome::Abort
        },
        coordinator_epoch: wanted.coordinator_epoch,
    };
    let version = Version::from_level(wanted.transaction_version.into());
    let mut topics = Vec::with_capacity(wanted.topics.len());
    for topic in wanted.topics {
        let indexes = &topic.partition_indexes;
        let places: Vec<_> = indexes
            .iter()
            .map(|index| (topic.name.clone(), PartitionIndex(*index)))
            .collect();
        let codes = writer.write_here(marker, version, &places).await;
        topics.push(WritableTxnMarkerTopicResult {
            partitions: results(indexes, &codes),
            name: topic.name,
        });
    }
    WritableTxnMarkerResult {
        producer_id: wanted.producer_id,
        topics,
    }
}

fn results(indexes: &[i32], codes: &[ErrorCode]) -> Vec<WritableTxnMarkerPartitionResult> {
    let results = indexes.iter().zip(codes);
    results
        .map(|(index, code)| WritableTxnMarkerPartitionResult {
            partition_index: *index,
            error_code: code.code(),
        })
        .collect()
}
