//! Appending at whichever broker leads.
//!
//! Each batch goes out in the name of a producer of the gateway's own, one at a time for each, so that a batch that is sent again after its
//! leader died is found to be there already: what is tried again here is never there twice.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use weir_quorum::TopicId;
use weir_wire::batch::{BatchBuilder, BatchError};
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::{
    InitProducerIdRequest, InitProducerIdResponseView, ProduceRequest, ProduceResponseView,
};
use weir_wire::{MessageView, Offset, ProducerEpoch, ProducerId, Records};

use super::link::protocol;
use super::{Gateway, leader, passes, refused};
use crate::error::{ApiError, ErrorCode};

const PRODUCE: i16 = 12;
const INIT_PRODUCER_ID: i16 = 4;

/// How long an append is tried: about as long as a failover may take at worst, as Kafka's clients wait for one request.
const PATIENCE: Duration = Duration::from_secs(30);

/// Producers that are kept for one partition: as many as appends to it are worth having under way at the same time. Each
/// is some hundred bytes at each replica.
const KEPT_MAX: usize = 16;
/// A producer that was not used for so long is not used again: brokers may have forgotten it by then, and a new leader tries its patience.
const IDLE_MAX: Duration = Duration::from_secs(3_600);
/// Partitions for which producers are kept; beyond that all are forgotten, which costs a number for each.
const PARTITIONS_MAX: usize = 10_000;

/// Where a batch goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    /// The topic's name.
    pub(crate) topic: Arc<str>,
    /// The topic's id, so that another one of the same name is not taken for it.
    pub(crate) id: TopicId,
    /// The partition.
    pub(crate) partition: i32,
}

/// A producer that has nothing under way.
#[derive(Debug)]
struct Producer {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: i32,
}

impl Producer {
    fn sent(&mut self, count: i32) {
        // Kafka's: behind the greatest comes 0.
        self.next = self.next.wrapping_add(count) & i32::MAX;
    }
}

/// Producers of one partition, each with when it was used last; the newest at the end.
type Idle = Vec<(Producer, Instant)>;

/// The producers that have nothing under way.
#[derive(Debug, Default)]
pub(super) struct Producers(Mutex<BTreeMap<(TopicId, i32), Idle>>);

impl Producers {
    fn take(&self, place: &Place) -> Option<Producer> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = kept.get_mut(&(place.id, place.partition))?;
        let (producer, used) = kept.pop()?;
        if used.elapsed() < IDLE_MAX {
            return Some(producer);
        }
        // Those below were used before.
        kept.clear();
        None
    }

    fn keep(&self, place: &Place, producer: Producer) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= PARTITIONS_MAX {
            kept.clear();
        }
        let kept = kept.entry((place.id, place.partition)).or_default();
        if kept.len() < KEPT_MAX {
            kept.push((producer, Instant::now()));
        }
    }
}

impl Gateway {
    /// Appends the batch that `fill` fills, with acks=all; its first offset. What passes by itself is tried again for a while.
    ///
    /// # Errors
    /// Kafka's. [`passes`] says of which the caller may try again; after [`ErrorCode::RequestTimedOut`] it may be there all the same.
    pub(crate) async fn append(
        &self,
        place: &Place,
        fill: impl Fn(&mut BatchBuilder) -> Result<(), BatchError> + Send,
    ) -> Result<Offset, ApiError> {
        let deadline = Instant::now() + PATIENCE;
        let producers = &self.shared.producers;
        let mut producer = match producers.take(place) {
            Some(producer) => producer,
            None => self.producer(deadline).await?,
        };
        let mut attempts = 0;
        loop {
            let mut batch =
                BatchBuilder::new().producer(producer.id, producer.epoch, producer.next);
            fill(&mut batch)?;
            let count = batch.record_count();
            attempts += 1;
            let error = match self.append_once(place, None, batch.build(), deadline).await {
                Ok(offset) => {
                    producer.sent(count);
                    producers.keep(place, producer);
                    return Ok(offset);
                }
                Err(error) => error,
            };
            match error.code {
                // What is refused so counts as sent (`docs/design.md`, "Queues").
                ErrorCode::PolicyViolation => {
                    producer.sent(count);
                    producers.keep(place, producer);
                    return Err(error);
                }
                // The producer was forgotten for having been silent; nothing of this batch was sent before.
                ErrorCode::UnknownProducerId | ErrorCode::InvalidProducerEpoch if attempts == 1 => {
                    producer = self.producer(deadline).await?;
                }
                // The same, or another leads, which does not know what its predecessor refused. This batch is the producer's last, so it would be
                // found if it were there; and what is still on its way of an earlier attempt follows as little.
                ErrorCode::OutOfOrderSequenceNumber if Instant::now() < deadline => {
                    producer = self.producer(deadline).await?;
                }
                code if passes(code) => {
                    if Instant::now() >= deadline {
                        return Err(error);
                    }
                    if self.image().topic_by_id(place.id).is_none() {
                        let gone = format!("topic {} is deleted", place.topic);
                        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, gone));
                    }
                    self.pause().await;
                }
                _ => return Err(error),
            }
        }
    }

    /// One attempt to append a batch, which may be of the transaction of this id. After an error that passes it may be there all the same.
    pub(crate) async fn append_once(
        &self,
        place: &Place,
        transactional_id: Option<&str>,
        batch: Bytes,
        deadline: Instant,
    ) -> Result<Offset, ApiError> {
        let image = self.image();
        let topic = image.topic_by_id(place.id);
        let partition = topic
            .and_then(|topic| topic.partition(place.partition))
            .ok_or(ErrorCode::UnknownTopicOrPartition)?;
        let led = leader(&image, partition).ok_or(ErrorCode::LeaderNotAvailable)?;
        let left = deadline.saturating_duration_since(Instant::now());
        let partition = PartitionProduceData {
            index: place.partition,
            records: Some(Records::from(batch)),
        };
        let request = ProduceRequest {
            transactional_id: transactional_id.map(str::to_owned),
            acks: -1,
            timeout_ms: i32::try_from(left.as_millis()).unwrap_or(i32::MAX).max(1),
            topic_data: vec![TopicProduceData {
                name: place.topic.to_string(),
                partition_data: vec![partition],
                ..TopicProduceData::default()
            }],
        };
        let link = self.link(led.0)?;
        let body = tokio::select! {
            body = link.ask(PRODUCE, &request) => body?,
            // A leader that hangs answers nothing, while another leads already.
            () = self.moved(place.id, place.partition, led) => return Err(ErrorCode::NotLeaderOrFollower.into()),
            () = tokio::time::sleep_until(deadline) => return Err(ErrorCode::RequestTimedOut.into()),
        };
        let response = ProduceResponseView::decode(&body, PRODUCE).map_err(protocol)?;
        let answer = response
            .responses
            .iter()
            .flat_map(|topic| topic.partition_responses.iter())
            .next()
            .ok_or_else(|| protocol("an answer without the partition"))?;
        refused(answer.error_code, answer.error_message)?;
        Ok(Offset(answer.base_offset))
    }

    /// A producer that never wrote anything.
    async fn producer(&self, deadline: Instant) -> Result<Producer, ApiError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: i32::MAX,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        loop {
            let link = self.link(self.broker().metadata.broker_id())?;
            let body = link.ask(INIT_PRODUCER_ID, &request).await?;
            let response =
                InitProducerIdResponseView::decode(&body, INIT_PRODUCER_ID).map_err(protocol)?;
            match refused(response.error_code, None) {
                Ok(()) => {
                    return Ok(Producer {
                        id: ProducerId(response.producer_id),
                        epoch: ProducerEpoch(response.producer_epoch),
                        next: 0,
                    });
                }
                Err(error) if passes(error.code) && Instant::now() < deadline => {
                    self.pause().await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_producer_that_was_idle_for_an_hour_is_not_used_again() {
        let place = Place {
            topic: "orders".into(),
            id: TopicId(uuid::Uuid::from_u128(1)),
            partition: 0,
        };
        let keep = |producers: &Producers, id| {
            let producer = Producer {
                id: ProducerId(id),
                epoch: ProducerEpoch(0),
                next: 5,
            };
            producers.keep(&place, producer);
        };
        let take = |producers: &Producers| producers.take(&place).map(|producer| producer.id.0);
        let producers = Producers::default();
        keep(&producers, 1);
        tokio::time::advance(IDLE_MAX / 2).await;
        keep(&producers, 2);
        tokio::time::advance(IDLE_MAX / 2).await;
        assert_eq!(take(&producers), Some(2));
        assert_eq!(take(&producers), None);
    }
}
