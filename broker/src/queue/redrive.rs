//! Takes dead letters back to where they came from: whole partitions of a topic for them, or those for which a condition holds.
//!
//! One call looks at some letters of one partition, here where it is led, and says where the next goes on; nothing is remembered in between.
//! What always holds: what is counted as redriven is committed in its topic; letters are removed only after that. A call that is made again
//! from the same place writes the same messages again.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;
use weir_proto::admin::v1 as proto;
use weir_queues::dead_letter::Origin;
use weir_queues::filter::{Filter, Message};
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord, RecordView, batches};
use weir_wire::{Offset, PartitionIndex};

use super::append::append;
use crate::Broker;
use crate::api::{Led, leaders};
use crate::error::{ApiError, ErrorCode};
use crate::partitions::Isolation;

/// Letters that one call looks at: each is a record of an append, and calls are answered within seconds.
const LETTERS_MAX: u32 = 1_000;
/// Bytes that are read at once, and so about as many are written at once.
const READ_BYTES: usize = 512 << 10;
/// What letters say of themselves begins with it, and does not go back.
const OWN_HEADERS: &str = "__dlq.errors.";

/// Does what was asked, as far as it goes.
pub(crate) async fn redrive(
    broker: &Arc<Broker>,
    request: proto::RedriveRequest,
) -> proto::RedriveResponse {
    let mut answer = proto::RedriveResponse {
        next_offset: request.from_offset,
        ..proto::RedriveResponse::default()
    };
    if let Err(error) = carry_out(broker, &request, &mut answer).await {
        answer.error = Some(error.into());
    }
    answer
}

async fn carry_out(
    broker: &Arc<Broker>,
    request: &proto::RedriveRequest,
    answer: &mut proto::RedriveResponse,
) -> Result<(), ApiError> {
    let invalid = |why: String| ApiError::new(ErrorCode::InvalidRequest, why);
    let filter =
        Filter::parse("", &request.filter).map_err(|why| invalid(format!("filter: {why}")))?;
    if request.remove && !request.filter.is_empty() {
        return Err(invalid(
            "remove and a filter: what does not match would be lost".into(),
        ));
    }
    let led = led(broker, request, answer)?;
    let letters_max = match request.letters_max {
        0 => LETTERS_MAX,
        max => max.min(LETTERS_MAX),
    };
    let mut looked_at = 0;
    let end = led.partition.readable(Isolation::ReadCommitted);
    answer.end_offset = Some(end.0);
    let start = led.partition.reader().log_start();
    answer.next_offset = answer.next_offset.max(start.0);
    while looked_at < letters_max {
        let from = Offset(answer.next_offset);
        if from >= led.partition.readable(Isolation::ReadCommitted) {
            answer.at_end = true;
            break;
        }
        let partition = Arc::clone(&led.partition);
        let read = move || partition.read_as(from, Isolation::ReadCommitted, READ_BYTES, true);
        let bytes = broker.host.blocking(read).await?.bytes;
        let portion = look(&bytes, from, letters_max - looked_at, &filter)?;
        if portion.next <= from {
            answer.at_end = true;
            break;
        }
        looked_at += portion.looked_at;
        let mut redriven = 0;
        for ((topic, partition), (builder, count)) in portion.batches {
            if !request.dry_run {
                append(broker, &topic, partition, builder.build()).await?;
            }
            redriven += count;
        }
        answer.redriven += redriven;
        answer.passed_over += portion.passed_over;
        answer.unusable += portion.unusable;
        answer.next_offset = portion.next.0;
    }
    if request.remove && !request.dry_run && answer.next_offset > start.0 {
        remove(&led, Offset(answer.next_offset)).await?;
    }
    Ok(())
}

fn led(
    broker: &Broker,
    request: &proto::RedriveRequest,
    answer: &mut proto::RedriveResponse,
) -> Result<Led, ApiError> {
    let image = broker.metadata.image();
    let topic = leaders::topic(&image, &request.topic, uuid::Uuid::nil())?;
    if topic.is_internal() {
        return Err(ErrorCode::InvalidTopicException.into());
    }
    leaders::led(broker, topic, request.partition, -1).map_err(|not_led| {
        answer.leader = not_led.leader.map(|(leader, _)| leader);
        not_led.error
    })
}

/// What a part of the log comes to.
struct Portion {
    /// Where the next begins.
    next: Offset,
    looked_at: u32,
    passed_over: u32,
    unusable: u32,
    /// What goes back, by where to, and how many.
    batches: BTreeMap<(String, PartitionIndex), (BatchBuilder, u32)>,
}

fn look(
    bytes: &Bytes,
    from: Offset,
    letters_max: u32,
    filter: &Filter,
) -> Result<Portion, ApiError> {
    let mut portion = Portion {
        next: from,
        looked_at: 0,
        passed_over: 0,
        unusable: 0,
        batches: BTreeMap::new(),
    };
    for batch in batches(bytes) {
        let batch = batch?;
        let header = batch.header();
        if !header.attributes.is_control() {
            let inflated = batch.inflated().map_err(damaged)?;
            for record in inflated.iter()? {
                let record = record?;
                if record.offset < from {
                    continue;
                }
                if portion.looked_at >= letters_max {
                    return Ok(portion);
                }
                portion.put(&record, filter)?;
                portion.looked_at += 1;
                portion.next = Offset(record.offset.0 + 1);
            }
        }
        portion.next = portion.next.max(Offset(header.last_offset().0 + 1));
    }
    Ok(portion)
}

impl Portion {
    fn put(&mut self, record: &RecordView<'_>, filter: &Filter) -> Result<(), ApiError> {
        let headers = record.headers.iter();
        let headers: Vec<(&str, &[u8])> = headers
            .map(|header| (header.key, header.value.unwrap_or_default()))
            .collect();
        let message = Message {
            headers: &headers,
            key: record.key,
            timestamp_ms: record.timestamp_ms,
        };
        if !filter.matches(&message) {
            self.passed_over += 1;
            return Ok(());
        }
        let origin = Origin::of_headers(headers.iter().copied());
        let Some(origin) = origin.filter(|_| record.key.is_some() || record.value.is_some()) else {
            self.unusable += 1;
            return Ok(());
        };
        let headers = record.headers.iter();
        let headers: Vec<NewHeader<'_>> = headers
            .filter(|header| !header.key.starts_with(OWN_HEADERS))
            .map(|header| NewHeader {
                key: header.key,
                value: header.value,
            })
            .collect();
        let place = (origin.topic, origin.partition);
        let (builder, count) = self
            .batches
            .entry(place)
            .or_insert_with(|| (BatchBuilder::new(), 0));
        builder.push(&NewRecord {
            timestamp_ms: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: &headers,
        })?;
        *count += 1;
        Ok(())
    }
}

/// Deletes letters below an offset.
async fn remove(led: &Led, below: Offset) -> Result<(), ApiError> {
    let (sender, receiver) = oneshot::channel();
    led.partition.delete_records(below, move |result| {
        // Whoever asked may be gone.
        let _ = sender.send(result.map(drop).map_err(ApiError::from));
    });
    let outcome = receiver.await;
    outcome.unwrap_or_else(|_| Err(ErrorCode::NotLeaderOrFollower.into()))
}

fn damaged(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::KafkaStorageError, error.to_string())
}
