//! Produce: batches into partitions.
//!
//! The handler hands each partition's batch to its lane, in the order of the request, before it returns; the future waits for the
//! acknowledgements. With one replica, `acks=1` and `acks=all` both wait for the high watermark, which is the durable end.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_log::Appended;
use weir_quorum::configs::{TimestampType, TopicConfig};
use weir_quorum::image::Image;
use weir_wire::batch::{BatchHeader, BatchView, Compression, only_batch};
use weir_wire::messages::produce_request::PartitionProduceDataView;
use weir_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use weir_wire::messages::{ProduceRequestView, ProduceResponse};
use weir_wire::{Offset, ProducerId};

use super::leaders::{self, Led, NotLed};
use super::{Answer, Refused, Reply, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::gather::{Gathered, Slot};
use crate::partitions::prepare::{self, Effort, Unfit};
use crate::quotas::{Limited, throttle_time_ms};

/// What the whole request says about each of its batches.
#[derive(Clone, Copy)]
struct Rules {
    version: i16,
    acks: i16,
    is_transactional: bool,
    now_ms: i64,
}

/// The first version that tells where a partition's leader is.
const LEADER_HINTS_FROM: i16 = 10;

/// Where in the response the outcome of an append belongs.
type Place = (usize, usize);

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ProduceRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let rules = Rules {
        version: request.version,
        acks: view.acks,
        is_transactional: view.transactional_id.is_some(),
        now_ms: broker.host.clock.now_ms(),
    };
    let mut response = ProduceResponse::default();
    let mut appends = Vec::new();
    for topic in view.topic_data {
        let found = leaders::topic(&image, topic.name, topic.topic_id);
        let mut partitions = Vec::with_capacity(topic.partition_data.len());
        for data in topic.partition_data {
            let checked = match &found {
                Err(code) => Err(NotLed::from(*code)),
                // Only coordinators write there: what a client put there would be taken for groups and offsets.
                Ok(topic) if topic.is_internal() => {
                    Err(NotLed::from(ErrorCode::InvalidTopicException))
                }
                Ok(topic) => leaders::led(broker, topic, data.index, -1).and_then(|led| {
                    check(&led, &data, rules)
                        .map(|()| led)
                        .map_err(NotLed::from)
                }),
            };
            let answer = match checked {
                Ok(led) => {
                    appends.push((
                        (response.responses.len(), partitions.len()),
                        led,
                        data.records.unwrap_or_default(),
                    ));
                    PartitionProduceResponse {
                        index: data.index,
                        ..PartitionProduceResponse::default()
                    }
                }
                Err(not_led) => refused(data.index, not_led),
            };
            partitions.push(answer);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name.to_owned(),
            topic_id: topic.topic_id,
            partition_responses: partitions,
        });
    }
    let outcomes = Gathered::new(appends.len());
    let mut places: Vec<Place> = Vec::with_capacity(appends.len());
    for (slot, (place, led, records)) in appends.into_iter().enumerate() {
        places.push(place);
        let outcome = outcomes.slot(slot);
        let counters = led.partition.counters();
        counters.produced_bytes.inc_by(records.len() as u64);
        append(broker, led, request.slice(records), rules.now_ms, outcome);
    }
    let wait = broker.quotas.take(
        &image,
        request.client(),
        Limited::Produced,
        request.frame.len() as f64,
    );
    response.throttle_time_ms = throttle_time_ms(wait);
    let responder = request.responder();
    let acks = view.acks;
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms).unwrap_or(0));
    // The request's frame is let go of here: lanes hold what they still need of it.
    drop(request);
    Ok(Answer::later(async move {
        // Nobody is told whether an unacknowledged produce took too long.
        let patience = if acks == 0 { Duration::MAX } else { timeout };
        let gathered = outcomes.all(patience).await;
        for ((topic, partition), outcome) in places.into_iter().zip(gathered) {
            fill(
                &mut response.responses[topic].partition_responses[partition],
                outcome,
            );
        }
        if acks == 0 {
            return unacknowledged(&response).throttled(wait);
        }
        if responder.version < LEADER_HINTS_FROM {
            forget_leaders(&mut response);
        } else {
            response.node_endpoints = endpoints(&image, &response);
        }
        responder.reply(&response).throttled(wait)
    }))
}

/// Hands a checked batch to its lane, after what its topic asks of batches was done with it.
fn append(
    broker: &Broker,
    led: Led,
    batch: Bytes,
    now_ms: i64,
    outcome: Slot<Result<Appended, Unfit>>,
) {
    let config = led.partition.config();
    // It was parsed before.
    let effort =
        BatchHeader::parse(&batch).map_or(Effort::None, |header| prepare::effort(&config, &header));
    let partition = Arc::clone(&led.partition);
    let job = move || {
        let prepared = match effort {
            Effort::None => Ok(batch),
            Effort::Brief | Effort::Long => {
                let index = led.partition.key().partition.0;
                prepare::prepare(&batch, led.partition.topic(), index, &config, now_ms)
            }
        };
        match prepared {
            Ok(batch) => led.partition.append(batch, led.epoch, move |result| {
                outcome.set(result.map_err(Unfit::from));
            }),
            Err(unfit) => {
                led.partition.counters().produce_errors.inc();
                outcome.set(Err(unfit));
            }
        }
    };
    partition.in_order(&broker.host, effort == Effort::Long, job);
}

/// Whether a batch may be appended to a partition.
fn check(led: &Led, data: &PartitionProduceDataView<'_>, rules: Rules) -> Result<(), ApiError> {
    let config = led.partition.config();
    let checked = admissible(led, &config, data, rules);
    match &checked {
        Err(_) => led.partition.counters().produce_errors.inc(),
        Ok(records) => led.partition.counters().produced_records.inc_by(*records),
    }
    checked.map(|_| ())
}

/// How many records the batch has, when it may be appended.
fn admissible(
    led: &Led,
    config: &TopicConfig,
    data: &PartitionProduceDataView<'_>,
    rules: Rules,
) -> Result<u64, ApiError> {
    if !matches!(rules.acks, -1..=1) {
        return Err(ApiError::new(
            ErrorCode::InvalidRequiredAcks,
            format!("acks {}; allowed: 0, 1, -1 (all)", rules.acks),
        ));
    }
    let wanted = usize::try_from(config.min_insync_replicas).unwrap_or(1);
    if rules.acks == -1 && led.in_sync < wanted {
        let message = format!(
            "{} replicas in sync; min.insync.replicas is {wanted}",
            led.in_sync
        );
        return Err(ApiError::new(ErrorCode::NotEnoughReplicas, message));
    }
    let bytes = data.records.unwrap_or_default();
    let batch = only_batch(bytes)?;
    let bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
    if bytes.len() > bytes_max {
        let message = format!(
            "a batch of {} bytes; max.message.bytes is {bytes_max}",
            bytes.len()
        );
        return Err(ApiError::new(ErrorCode::MessageTooLarge, message));
    }
    batch.check_produced()?;
    check_kind(&batch, rules)?;
    check_timestamps(&batch, config, rules.now_ms)?;
    Ok(u64::try_from(batch.header().record_count).unwrap_or(0))
}

fn check_kind(batch: &BatchView<'_>, rules: Rules) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRecord, message));
    let header = batch.header();
    if header.attributes.is_control() {
        return invalid("a control batch; only brokers write them");
    }
    if rules.is_transactional || header.attributes.is_transactional() {
        return Err(ApiError::new(
            ErrorCode::InvalidTxnState,
            "this broker has no transactions",
        ));
    }
    if header.attributes.compression() == Compression::Zstd && rules.version < 7 {
        return Err(ApiError::new(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs Produce version 7 or newer",
        ));
    }
    if header.producer_id != ProducerId::NONE
        && (header.producer_id.0 < 0 || header.producer_epoch.0 < 0 || header.base_sequence < 0)
    {
        return invalid(
            "an idempotent batch needs a producer id, an epoch and a sequence of 0 or more",
        );
    }
    Ok(())
}

/// The producer's timestamps may lie only so far from this broker's clock. Of how far ahead the header tells; how far
/// behind is told record by record where a topic asks ([`prepare`]).
fn check_timestamps(
    batch: &BatchView<'_>,
    config: &TopicConfig,
    now_ms: i64,
) -> Result<(), ApiError> {
    let header = batch.header();
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidTimestamp, message));
    if header.attributes.timestamp_type() == weir_wire::batch::TimestampType::LogAppendTime {
        return invalid("a producer may not set the time of the append".into());
    }
    if config.message_timestamp_type == TimestampType::LogAppendTime {
        return Ok(());
    }
    let (latest, after_max) = (
        header.max_timestamp_ms,
        config.message_timestamp_after_max_ms,
    );
    // -1 is "no timestamp".
    if latest >= 0 && latest.saturating_sub(now_ms) > after_max {
        return invalid(format!(
            "timestamp {latest} is {} ms ahead; allowed: {after_max}",
            latest - now_ms
        ));
    }
    Ok(())
}

fn refused(index: i32, NotLed { error, leader }: NotLed) -> PartitionProduceResponse {
    let current_leader = leader
        .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch {
            leader_id,
            leader_epoch,
        })
        .unwrap_or_default();
    PartitionProduceResponse {
        index,
        error_code: error.code.code(),
        error_message: error.message(),
        base_offset: Offset::NONE.0,
        log_append_time_ms: -1,
        log_start_offset: Offset::NONE.0,
        current_leader,
        ..PartitionProduceResponse::default()
    }
}

/// `None`: not acknowledged in time.
fn fill(answer: &mut PartitionProduceResponse, outcome: Option<Result<Appended, Unfit>>) {
    match outcome {
        Some(Ok(appended)) => {
            answer.base_offset = appended.base_offset.0;
            answer.log_append_time_ms = appended.log_append_time.unwrap_or(-1);
            answer.log_start_offset = appended.log_start_offset.0;
        }
        Some(Err(Unfit { error, records })) => {
            *answer = refused(answer.index, error.into());
            answer.record_errors = records
                .into_iter()
                .map(|(batch_index, message)| BatchIndexAndErrorMessage {
                    batch_index,
                    batch_index_error_message: Some(message),
                })
                .collect();
        }
        None => *answer = refused(answer.index, ErrorCode::RequestTimedOut.into()),
    }
}

/// There is no response; an error is told by closing the connection.
fn unacknowledged(response: &ProduceResponse) -> Reply {
    for topic in &response.responses {
        for partition in &topic.partition_responses {
            if partition.error_code != ErrorCode::None.code() {
                let error =
                    ErrorCode::from_code(partition.error_code).map_or("unknown", ErrorCode::name);
                return Reply::Close(Refused::Unacknowledged(format!(
                    "{}-{}: {error}",
                    topic.name, partition.index
                )));
            }
        }
    }
    Reply::Nothing
}

/// Older clients ask for the metadata instead.
fn forget_leaders(response: &mut ProduceResponse) {
    for topic in &mut response.responses {
        for partition in &mut topic.partition_responses {
            partition.current_leader = LeaderIdAndEpoch::default();
        }
    }
}

/// Where the leaders are that the response names.
fn endpoints(image: &Image, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    let named = partitions
        .map(|partition| partition.current_leader.leader_id)
        .filter(|id| *id >= 0);
    let endpoints = leaders::endpoints(image, named).into_iter();
    endpoints
        .map(|broker| NodeEndpoint {
            node_id: broker.id,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        })
        .collect()
}
