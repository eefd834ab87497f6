//! Fetching once, as consumers of both kinds do.

use std::collections::BTreeSet;

use weir_wire::batch::{RecordView, batches};
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::fetch_response::AbortedTransaction;
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::{
    ErrorCode, FetchRequest, FetchResponseView, ListOffsetsRequest, ListOffsetsResponseView,
};
use weir_wire::{MessageView, RecordsPart};

use super::Client;
use crate::history::Place;
use crate::queues::Seen;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isolation {
    /// Everything.
    Uncommitted,
    /// What no open or aborted transaction wrote.
    Committed,
}

/// What one fetch gave.
pub(super) enum Fetched<T> {
    /// Values.
    Values(Portion<T>),
    /// The position is no offset of the log.
    OutOfRange,
    /// Nothing; try again.
    Nothing,
}

/// Values, and where to go on.
#[derive(Debug)]
pub(super) struct Portion<T> {
    /// In the order of their offsets.
    pub(super) values: Vec<T>,
    /// Where to go on.
    pub(super) next: i64,
    /// The high watermark.
    pub(super) high_watermark: i64,
    /// Below it all transactions are decided.
    pub(super) last_stable: i64,
}

/// Fetches values with their offsets once.
pub(super) async fn fetch(
    client: &mut Client,
    place: &Place,
    position: i64,
    max_wait_ms: i32,
    isolation: Isolation,
) -> Fetched<(i64, String)> {
    fetch_as(client, place, position, max_wait_ms, isolation, value_of).await
}

/// Fetches records with their headers once.
pub(super) async fn fetch_records(
    client: &mut Client,
    place: &Place,
    position: i64,
    max_wait_ms: i32,
    isolation: Isolation,
) -> Fetched<Seen> {
    let seen = |record: Option<&RecordView<'_>>| {
        let (offset, value) = value_of(record);
        let text =
            |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
        // Of two of one name the last counts.
        let headers = record.iter().flat_map(|record| record.headers.iter());
        let headers = headers.map(|header| (header.key.to_owned(), text(header.value)));
        Seen {
            offset,
            value,
            headers: headers.collect(),
        }
    };
    fetch_as(client, place, position, max_wait_ms, isolation, seen).await
}

fn value_of(record: Option<&RecordView<'_>>) -> (i64, String) {
    let Some(record) = record else {
        return (-1, "a batch with a wrong checksum".into());
    };
    let value = String::from_utf8_lossy(record.value.unwrap_or_default());
    (record.offset.0, value.into_owned())
}

async fn fetch_as<T>(
    client: &mut Client,
    place: &Place,
    position: i64,
    max_wait_ms: i32,
    isolation: Isolation,
    as_what: impl Fn(Option<&RecordView<'_>>) -> T,
) -> Fetched<T> {
    let Some(leader) = client.leader(&place.0, place.1).await else {
        client.pause().await;
        return Fetched::Nothing;
    };
    let request = FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes: 1 << 20,
        isolation_level: i8::from(isolation == Isolation::Committed),
        topics: vec![FetchTopic {
            topic: place.0.to_string(),
            partitions: vec![FetchPartition {
                partition: place.1,
                fetch_offset: position,
                // Small, so that a log is read in many pieces.
                partition_max_bytes: 4 << 10,
                ..FetchPartition::default()
            }],
            ..FetchTopic::default()
        }],
        ..FetchRequest::default()
    };
    let answer = client.ask(leader, 12, &request, |body| {
        FetchResponseView::decode(body, 12).map(|view| view.to_owned())
    });
    let data = answer
        .await
        .ok()
        .and_then(|mut answer| answer.responses.pop()?.partitions.pop());
    let Some(data) = data else {
        client.forget_leader(&place.0, place.1);
        return Fetched::Nothing;
    };
    if data.error_code == ErrorCode::OffsetOutOfRange.code() {
        return Fetched::OutOfRange;
    }
    if data.error_code != 0 {
        client.forget_leader(&place.0, place.1);
        return Fetched::Nothing;
    }
    let mut bytes = Vec::new();
    for part in data.records.iter().flat_map(|records| records.parts()) {
        if let RecordsPart::Bytes(part) = part {
            bytes.extend_from_slice(part);
        }
    }
    let aborted = data.aborted_transactions.unwrap_or_default();
    let (values, next) = records(&bytes, position, aborted, as_what);
    Fetched::Values(Portion {
        values,
        next,
        high_watermark: data.high_watermark,
        last_stable: data.last_stable_offset,
    })
}

/// Where a log begins, as its leader says.
pub(super) async fn earliest(client: &mut Client, place: &Place) -> Option<i64> {
    const EARLIEST: i64 = -2;
    let leader = client.leader(&place.0, place.1).await?;
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: place.0.to_string(),
            partitions: vec![ListOffsetsPartition {
                partition_index: place.1,
                current_leader_epoch: -1,
                timestamp: EARLIEST,
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let answer = client.ask(leader, 7, &request, |body| {
        ListOffsetsResponseView::decode(body, 7).map(|view| view.to_owned())
    });
    let found = answer
        .await
        .ok()
        .and_then(|mut answer| answer.topics.pop()?.partitions.pop())
        .filter(|found| found.error_code == 0);
    if found.is_none() {
        client.forget_leader(&place.0, place.1);
    }
    Some(found?.offset)
}

/// The values from `position` on that no aborted transaction wrote, and where to go on.
pub(super) fn values(
    bytes: &[u8],
    position: i64,
    aborted: Vec<AbortedTransaction>,
) -> (Vec<(i64, String)>, i64) {
    records(bytes, position, aborted, value_of)
}

fn records<T>(
    bytes: &[u8],
    position: i64,
    mut aborted: Vec<AbortedTransaction>,
    as_what: impl Fn(Option<&RecordView<'_>>) -> T,
) -> (Vec<T>, i64) {
    aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
    let mut aborting = BTreeSet::new();
    let (mut values, mut next) = (Vec::new(), position);
    for batch in batches(bytes) {
        // The last batch may be cut off, as clients expect.
        let Ok(batch) = batch else { break };
        if batch.check().is_err() {
            return (vec![as_what(None)], next);
        }
        let header = batch.header();
        let (last, producer) = (header.last_offset().0, header.producer_id.0);
        next = next.max(last + 1);
        while let Some(begun) = aborted.pop_if(|transaction| transaction.first_offset <= last) {
            aborting.insert(begun.producer_id);
        }
        if header.attributes.is_control() {
            // Whatever it says, the transaction is over.
            aborting.remove(&producer);
            continue;
        }
        if header.attributes.is_transactional() && aborting.contains(&producer) {
            continue;
        }
        let Ok(records) = batch.records() else { break };
        for record in records.flatten() {
            if record.offset.0 >= position {
                values.push(as_what(Some(&record)));
            }
        }
    }
    (values, next)
}
