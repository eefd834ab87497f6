//! Produce: batches into partitions.
//!
//! The handler hands each partition's batch to its lane, in the order of the request, before it returns; the future waits for the
//! acknowledgements. The first batch of a transaction in a partition, and those behind it, are handed over once the transaction's
//! coordinator has vouched for them: a task of its own asks it. `acks=all` waits for the high watermark, `acks=1` for this broker's own
//! log, as durable as the topic asks.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weir_groups::{Producer, TransactionalId};
use weir_log::{AppendError, Appended, PartitionKey};
use weir_quorum::configs::{TimestampType, TopicConfig};
use weir_quorum::image::Image;
use weir_wire::batch::{BatchHeader, BatchView, Compression, only_batch};
use weir_wire::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse,
    TopicProduceResponse,
};
use weir_wire::messages::{ProduceRequestView, ProduceResponse};
use weir_wire::{LeaderEpoch, Offset, ProducerId};

use super::gap::Gap;
use super::leaders::{self, Led, NotLed};
use super::pipelined::Sequenced;
use super::{Answer, Refused, Reply, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::gather::{Gathered, Slot};
use crate::partitions::prepare::{self, Effort, Unfit};
use crate::partitions::{OfTransaction, Partition, Until, key_of};
use crate::queue::delay::Wish;
use crate::queue::throttle::Patience;
use crate::queue::trace::Producing;
use crate::queue::{delay, view};
use crate::quotas::{Limited, throttle_time_ms};
use crate::transactions::{ADDS_FROM, Verification};

/// What the whole request says about each of its batches.
#[derive(Clone, Copy)]
struct Rules {
    version: i16,
    acks: i16,
    now_ms: i64,
}

/// A batch that may be appended.
#[derive(Clone, Copy)]
struct Admitted {
    records: u64,
    /// Of an idempotent producer.
    sequenced: Option<Sequenced>,
    is_of_transaction: bool,
}

impl Admitted {
    fn of_transaction(&self) -> Option<Sequenced> {
        self.sequenced.filter(|_| self.is_of_transaction)
    }
}

/// What appends in a broker's own name are said to be of.
const OF_BROKERS: &str = "weir";

/// The first version that tells where a partition's leader is.
const LEADER_HINTS_FROM: i16 = 10;

/// Where in the response the outcome of an append belongs, and of which batch it is.
struct Place {
    topic: usize,
    partition: usize,
    key: PartitionKey,
    epoch: LeaderEpoch,
    sequenced: Option<Sequenced>,
    is_of_transaction: bool,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ProduceRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let rules = Rules {
        version: request.version,
        acks: view.acks,
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
                    let admitted = check(&led, data.records, rules)?;
                    if let Some(batch) = admitted.sequenced {
                        let pipelined = &request.peer.pipelined;
                        pipelined.admit((led.partition.key(), led.epoch), batch, Instant::now)?;
                    }
                    Ok((led, admitted))
                }),
            };
            let answer = match checked {
                Ok((led, admitted)) => {
                    let place = Place {
                        topic: response.responses.len(),
                        partition: partitions.len(),
                        key: led.partition.key(),
                        epoch: led.epoch,
                        sequenced: admitted.sequenced,
                        is_of_transaction: admitted.is_of_transaction,
                    };
                    let records = data.records.unwrap_or_default();
                    appends.push((place, led, records, admitted));
                    PartitionProduceResponse {
                        index: data.index,
                        ..PartitionProduceResponse::default()
                    }
                }
                Err(not_led) => {
                    let batch = Sequenced::of(data.records.unwrap_or_default());
                    if let (Ok(topic), Some(batch)) = (&found, batch) {
                        let epoch = topic.partition(data.index);
                        let epoch = epoch
                            .map_or(LeaderEpoch::NONE, |known| LeaderEpoch(known.leader_epoch.0));
                        let place = (key_of(topic, data.index), epoch);
                        let pipelined = &request.peer.pipelined;
                        pipelined.settle(place, batch, not_led.error.code, Instant::now);
                    }
                    refused(data.index, not_led)
                }
            };
            partitions.push(answer);
        }
        response.responses.push(TopicProduceResponse {
            name: topic.name.to_owned(),
            topic_id: topic.topic_id,
            partition_responses: partitions,
        });
    }
    let producers = appends
        .iter()
        .filter_map(|(.., admitted)| admitted.of_transaction());
    let producer = sole_producer(producers.map(|batch| batch.producer), view.transactional_id);
    if let Err(error) = &producer {
        for (place, ..) in std::mem::take(&mut appends) {
            let answer = answer_at(&mut response, &place);
            *answer = refused(answer.index, ApiError::from(*error).into());
        }
    }
    let outcomes = Gathered::new(appends.len());
    let mut places: Vec<Place> = Vec::with_capacity(appends.len());
    let verification = match producer {
        Ok(Some((producer, id))) => Some(Arc::new(Verification::new(
            broker.transactions.clone(),
            TransactionalId::from(id),
            producer,
            request.version,
        ))),
        Ok(None) | Err(_) => None,
    };
    let timeout = Duration::from_millis(u64::try_from(view.timeout_ms).unwrap_or(0));
    for (slot, (place, led, records, admitted)) in appends.into_iter().enumerate() {
        places.push(place);
        let outcome = outcomes.slot(slot);
        let counters = led.partition.counters();
        counters.produced_bytes.inc_by(records.len() as u64);
        let batch = request.slice(records);
        let job = Job {
            batch,
            now_ms: rules.now_ms,
            outcome,
            until: match rules.acks {
                -1 => Until::Committed,
                _ => Until::Written,
            },
            patience: waits(&led, || {
                Patience::of(timeout, Some(Arc::clone(&request.peer.held)))
            }),
            of_transaction: admitted.of_transaction(),
            begins_at_zero: request.version >= ADDS_FROM,
            verification: verification.clone(),
            traced: led.partition.trace().map(|trace| {
                trace.producing(request.client_id(), &request.peer.address.to_string())
            }),
        };
        append(broker, led, job);
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
    let (broker, peer) = (Arc::clone(broker), Arc::clone(&request.peer));
    // The request's frame is let go of here: lanes hold what they still need of it.
    drop(request);
    Ok(Answer::later(async move {
        // Nobody is told whether an unacknowledged produce took too long.
        let patience = if acks == 0 { Duration::MAX } else { timeout };
        let gathered = outcomes.all(patience).await;
        for (place, outcome) in places.into_iter().zip(gathered) {
            let outcome =
                outcome.map(|outcome| outcome.map_err(|unfit| refusal(&broker, &place, unfit)));
            let answer = answer_at(&mut response, &place);
            fill(answer, outcome);
            if let (Some(batch), Some(code)) =
                (place.sequenced, ErrorCode::from_code(answer.error_code))
            {
                let at = (place.key, place.epoch);
                let told = peer.pipelined.settle(at, batch, code, Instant::now);
                answer.error_code = told.code();
                if told == ErrorCode::UnknownProducerId
                    && let Ok(partition) = broker.partitions.get(place.key)
                {
                    // Until it hears of it Java's producer sends the batch again as it is.
                    answer.log_start_offset = partition.reader().log_start().0;
                }
            }
        }
        if acks == 0 {
            return unacknowledged(&response).throttled(wait);
        }
        if responder.version < LEADER_HINTS_FROM {
            forget_leaders(&mut response);
        } else {
            response.node_endpoints = endpoints(&image, &peer.listener, &response);
        }
        responder.reply(&response).throttled(wait)
    }))
}

/// Appends one batch as a Produce with `acks=all` would that is no part of a transaction: checked, prepared as its topic asks, asked of
/// its bound, for whose room it waits within `patience`. It is handed over when this is called; the outcome comes once it is committed.
pub(crate) fn offer(
    broker: &Broker,
    led: Led,
    batch: Bytes,
    patience: Duration,
) -> Result<Gathered<Result<Appended, Unfit>>, ApiError> {
    let rules = Rules {
        version: LEADER_HINTS_FROM,
        acks: -1,
        now_ms: broker.host.clock.now_ms(),
    };
    let admitted = check(&led, Some(&batch), rules)?;
    if admitted.of_transaction().is_some() {
        let why = "a batch of a transaction comes by its producer only";
        return Err(ApiError::new(ErrorCode::InvalidTxnState, why));
    }
    let counters = led.partition.counters();
    counters.produced_bytes.inc_by(batch.len() as u64);
    let outcomes = Gathered::new(1);
    let job = Job {
        batch,
        now_ms: rules.now_ms,
        outcome: outcomes.slot(0),
        until: Until::Committed,
        patience: waits(&led, || Patience::of(patience, None)),
        of_transaction: None,
        begins_at_zero: false,
        verification: None,
        traced: led
            .partition
            .trace()
            .map(|trace| trace.producing(OF_BROKERS, "")),
    };
    append(broker, led, job);
    Ok(outcomes)
}

/// A checked batch, and where its outcome goes.
struct Job {
    batch: Bytes,
    now_ms: i64,
    outcome: Slot<Result<Appended, Unfit>>,
    until: Until,
    /// How long it waits for room, where batches do.
    patience: Option<Patience>,
    of_transaction: Option<Sequenced>,
    begins_at_zero: bool,
    /// Of the request's batches: the coordinator is asked once the last of them has been handed over.
    verification: Option<Arc<Verification>>,
    /// Of a topic that is traced.
    traced: Option<Box<Producing>>,
}

/// Hands a checked batch to its lane, after what its topic asks of batches was done with it.
fn append(broker: &Broker, led: Led, job: Job) {
    let Job {
        batch,
        now_ms,
        outcome,
        until,
        patience,
        of_transaction,
        begins_at_zero,
        verification,
        traced,
    } = job;
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
        let prepared = prepared.and_then(|batch| {
            let heeds = led.partition.heeds();
            let wish = heeds.map_or(Ok(None), |heeds| delay::look(&batch, heeds, now_ms))?;
            Ok((batch, wish))
        });
        let traced = match (traced, &prepared) {
            (Some(traced), Ok((batch, wish))) => {
                let waits = wish.as_ref().map(Wish::waits);
                Some(traced.look(batch, waits.unwrap_or_default()))
            }
            _ => None,
        };
        let done = move |result: Result<Appended, Unfit>| {
            if let (Some(traced), Ok(appended)) = (traced, &result) {
                traced.appended(appended);
            }
            outcome.set(result);
        };
        match (prepared, of_transaction) {
            (Ok((batch, Some(wish))), _) => {
                let offered = (&batch, &wish);
                delay::append(&led.partition, led.epoch, until, offered, now_ms, done);
            }
            (Ok((batch, None)), None) => {
                let done = move |result: Result<_, AppendError>| done(result.map_err(Unfit::from));
                led.partition
                    .append(batch, led.epoch, until, patience, done);
            }
            (Ok((batch, None)), Some(Sequenced { producer, sequence })) => {
                let offered = OfTransaction {
                    batch,
                    producer_id: producer.id,
                    producer_epoch: producer.epoch,
                    base_sequence: sequence,
                    patience,
                    begins_at_zero,
                };
                let done = move |result: Result<_, ApiError>| done(result.map_err(Unfit::from));
                if led.partition.offer(offered, led.epoch, done)
                    && let Some(verification) = &verification
                {
                    verification.add(led.partition);
                }
            }
            (Err(unfit), _) => {
                led.partition.counters().produce_errors.inc();
                done(Err(unfit));
            }
        }
    };
    partition.in_order(&broker.host, effort == Effort::Long, job);
}

/// Only where batches may have to wait.
fn waits(led: &Led, patience: impl FnOnce() -> Patience) -> Option<Patience> {
    let throttle = led.partition.replica().throttle();
    throttle.map(|_| patience())
}

/// The producer whose transactions the batches of a request are part of, if they are, and the id that it goes by.
fn sole_producer(
    mut producers: impl Iterator<Item = Producer>,
    transactional_id: Option<&str>,
) -> Result<Option<(Producer, &str)>, ErrorCode> {
    let Some(producer) = producers.next() else {
        return Ok(None);
    };
    // As Kafka has it: nobody may write in the name of none.
    let id = transactional_id.ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
    if producers.any(|other| other != producer) {
        return Err(ErrorCode::InvalidProducerIdMapping);
    }
    Ok(Some((producer, id)))
}

/// Whether a batch may be appended to a partition.
fn check(led: &Led, records: Option<&[u8]>, rules: Rules) -> Result<Admitted, ApiError> {
    let config = led.partition.config();
    let checked = admissible(led, &config, records, rules);
    match &checked {
        Err(_) => led.partition.counters().produce_errors.inc(),
        Ok(admitted) => led
            .partition
            .counters()
            .produced_records
            .inc_by(admitted.records),
    }
    checked
}

fn admissible(
    led: &Led,
    config: &TopicConfig,
    records: Option<&[u8]>,
    rules: Rules,
) -> Result<Admitted, ApiError> {
    if !matches!(rules.acks, -1..=1) {
        return Err(ApiError::new(
            ErrorCode::InvalidRequiredAcks,
            format!("acks {}; allowed: 0, 1, -1 (all)", rules.acks),
        ));
    }
    if let Some(view) = config.queue.as_ref().and_then(|queue| queue.view.as_ref()) {
        let message = format!("a view of topic {}; nobody else writes to it", view.of);
        return Err(ApiError::new(ErrorCode::PolicyViolation, message));
    }
    let wanted = usize::try_from(config.min_insync_replicas).unwrap_or(1);
    if rules.acks == -1 && led.in_sync < wanted {
        let message = format!(
            "{} replicas in sync; min.insync.replicas is {wanted}",
            led.in_sync
        );
        return Err(ApiError::new(ErrorCode::NotEnoughReplicas, message));
    }
    let bytes = records.unwrap_or_default();
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
    let header = batch.header();
    Ok(Admitted {
        records: u64::try_from(header.record_count).unwrap_or(0),
        sequenced: Sequenced::from_header(header),
        // What says that it is transactional and names no producer is not; Kafka takes it for what it is.
        is_of_transaction: header.attributes.is_transactional(),
    })
}

fn check_kind(batch: &BatchView<'_>, rules: Rules) -> Result<(), ApiError> {
    let invalid = |message: &str| Err(ApiError::new(ErrorCode::InvalidRecord, message));
    let header = batch.header();
    if header.attributes.is_control() {
        return invalid("a control batch; only brokers write them");
    }
    if header.attributes.compression() == Compression::Zstd && rules.version < 7 {
        return Err(ApiError::new(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs Produce version 7 or newer",
        ));
    }
    if [delay::RELEASER, view::COPIER].contains(&header.producer_id) {
        return invalid("a producer id that only brokers use");
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

fn refusal(broker: &Broker, place: &Place, mut unfit: Unfit) -> Unfit {
    let code = broker.metadata.deny(unfit.error.code);
    let gap = match code {
        ErrorCode::OutOfOrderSequenceNumber => Gap::Known,
        ErrorCode::UnknownProducerId if place.is_of_transaction => Gap::OfTransaction,
        ErrorCode::UnknownProducerId => Gap::Unknown,
        _ => {
            unfit.error.code = code;
            return unfit;
        }
    };
    let partition = broker.partitions.get(place.key).ok();
    let may_lack = |partition: &Arc<Partition>| partition.replica().may_lack(place.epoch);
    let may_lack = partition.as_ref().is_none_or(may_lack);
    let config = partition.map(|partition| partition.config());
    let queue = config.as_ref().and_then(|config| config.queue.as_ref());
    unfit.error.code = gap.told(may_lack, queue);
    unfit
}

fn answer_at<'r>(
    response: &'r mut ProduceResponse,
    place: &Place,
) -> &'r mut PartitionProduceResponse {
    &mut response.responses[place.topic].partition_responses[place.partition]
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
fn endpoints(image: &Image, listener: &str, response: &ProduceResponse) -> Vec<NodeEndpoint> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses);
    let named = partitions
        .map(|partition| partition.current_leader.leader_id)
        .filter(|id| *id >= 0);
    let endpoints = leaders::endpoints(image, listener, named).into_iter();
    endpoints
        .map(|broker| NodeEndpoint {
            node_id: broker.id,
            host: broker.host,
            port: broker.port,
            rack: broker.rack,
        })
        .collect()
}
