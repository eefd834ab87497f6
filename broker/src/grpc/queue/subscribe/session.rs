//! A share session at one broker: what is fetched there, and what is said of it.

use std::collections::BTreeSet;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;
use weir_proto::queue::v1 as proto;
use weir_quorum::{BrokerId, TopicId};
use weir_wire::MessageView;
use weir_wire::batch::batches;
use weir_wire::messages::share_acknowledge_request::{
    AcknowledgePartition, AcknowledgeTopic, AcknowledgementBatch,
};
use weir_wire::messages::share_fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use weir_wire::messages::{
    ShareAcknowledgeRequest, ShareAcknowledgeResponseView, ShareFetchRequest,
    ShareFetchResponseView,
};

use super::super::message::received;
use super::member::TopicPartition;
use crate::error::{ApiError, ErrorCode};
use crate::gateway::{Link, refused};

pub(super) const FETCH: i16 = 2;
pub(super) const ACKNOWLEDGE: i16 = 2;

/// Bytes of one fetch, about; a larger message comes alone.
const FETCH_BYTES: i32 = 1 << 20;
/// How strictly a number of records is meant: no more than that.
const STRICT: i8 = 1;

/// Kafka's numbers.
pub(super) const GAP: i8 = 0;
pub(super) const ACCEPT: i8 = 1;
pub(super) const RELEASE: i8 = 2;
pub(super) const REJECT: i8 = 3;
pub(super) const RENEW: i8 = 4;

/// Something to be said of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ack {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) kind: i8,
    /// Whom it is answered, if anyone.
    pub(super) token: Option<u64>,
    /// Acknowledgements are taken all or not at all; one of those with which this was sent was refused.
    pub(super) is_alone: bool,
}

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) broker: BrokerId,
    pub(super) link: Link,
    group: String,
    /// A name of its own: what a session of the same member left behind is not this one's.
    member: String,
    epoch: i32,
    /// What the broker knows that it is about.
    known: BTreeSet<TopicPartition>,
    /// What it is to be about.
    pub(super) wanted: BTreeSet<TopicPartition>,
    pub(super) is_fetching: bool,
    pub(super) is_acknowledging: bool,
    /// The last fetch brought something.
    pub(super) was_busy: bool,
    /// When it fetched last, in turns of the stream.
    pub(super) turn: u64,
    /// Something went wrong: not before this.
    pub(super) not_before: Option<Instant>,
    pub(super) acks: Vec<Ack>,
}

impl Session {
    pub(super) fn new(broker: BrokerId, link: Link, group: String, member: Uuid) -> Self {
        Self {
            broker,
            link,
            group,
            member: member.to_string(),
            epoch: 0,
            known: BTreeSet::new(),
            wanted: BTreeSet::new(),
            is_fetching: false,
            is_acknowledging: false,
            was_busy: false,
            turn: 0,
            not_before: None,
            acks: Vec::new(),
        }
    }

    /// Whether the broker is to be told what it is not about any more, though nothing is to be fetched.
    pub(super) fn only_forgets(&self) -> bool {
        self.wanted.is_empty() && !self.known.is_empty()
    }

    /// Whether it is about nothing.
    pub(super) fn is_unused(&self) -> bool {
        let is_idle = !self.is_fetching && !self.is_acknowledging && self.acks.is_empty();
        is_idle && self.wanted.is_empty() && self.known.is_empty()
    }

    /// The next request for at most so many records.
    pub(super) fn fetch(&mut self, records: u32, wait_ms: i32) -> ShareFetchRequest {
        let add: Vec<_> = self.wanted.difference(&self.known).copied().collect();
        let forget: Vec<_> = self.known.difference(&self.wanted).copied().collect();
        self.known.clone_from(&self.wanted);
        let records = i32::try_from(records).unwrap_or(i32::MAX);
        ShareFetchRequest {
            group_id: Some(self.group.clone()),
            member_id: Some(self.member.clone()),
            share_session_epoch: self.next_epoch(),
            max_wait_ms: wait_ms,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            max_records: records,
            batch_size: records,
            share_acquire_mode: STRICT,
            is_renew_ack: false,
            topics: by_topic(&add, |topic_id, partitions| FetchTopic {
                topic_id,
                partitions: partitions
                    .map(|partition_index| FetchPartition {
                        partition_index,
                        acknowledgement_batches: Vec::new(),
                    })
                    .collect(),
            }),
            forgotten_topics_data: by_topic(&forget, |topic_id, partitions| ForgottenTopic {
                topic_id,
                partitions: partitions.collect(),
            }),
        }
    }

    /// The next request that says what is to be said, and what that is.
    pub(super) fn acknowledge(&mut self) -> (ShareAcknowledgeRequest, Vec<Ack>) {
        let mut said = Vec::new();
        let mut has_single = BTreeSet::new();
        let mut is_taken = BTreeSet::new();
        let mut places = BTreeSet::new();
        let acks = std::mem::take(&mut self.acks);
        for ack in acks {
            // One that is alone is alone in its partition.
            let is_free = if ack.is_alone {
                !is_taken.contains(&ack.partition)
            } else {
                !has_single.contains(&ack.partition)
            };
            if !is_free || !places.insert((ack.partition, ack.offset)) {
                self.acks.push(ack);
                continue;
            }
            is_taken.insert(ack.partition);
            if ack.is_alone {
                has_single.insert(ack.partition);
            }
            said.push(ack);
        }
        said.sort_by_key(|ack| (ack.partition, ack.offset));
        let request = ShareAcknowledgeRequest {
            group_id: Some(self.group.clone()),
            member_id: Some(self.member.clone()),
            share_session_epoch: self.next_epoch(),
            is_renew_ack: said.iter().any(|ack| ack.kind == RENEW),
            topics: acknowledged(&said),
        };
        (request, said)
    }

    fn next_epoch(&mut self) -> i32 {
        let epoch = self.epoch;
        self.epoch = epoch.checked_add(1).unwrap_or(1);
        epoch
    }

    /// Whether there is a session at the broker: before the first fetch there is none.
    pub(super) fn is_open(&self) -> bool {
        self.epoch > 0
    }
}

fn by_topic<T>(
    partitions: &[TopicPartition],
    make: impl Fn(Uuid, &mut dyn Iterator<Item = i32>) -> T,
) -> Vec<T> {
    let topics = partitions.chunk_by(|(one, _), (other, _)| one == other);
    let topics = topics.map(|topic| {
        let mut indexes = topic.iter().map(|(_, index)| *index);
        make(topic[0].0.0, &mut indexes)
    });
    topics.collect()
}

/// `said` is sorted. Offsets that follow one another and have the same said of them are one range.
fn acknowledged(said: &[Ack]) -> Vec<AcknowledgeTopic> {
    let mut topics: Vec<AcknowledgeTopic> = Vec::new();
    for of_partition in said.chunk_by(|one, other| one.partition == other.partition) {
        let (TopicId(topic_id), partition_index) = of_partition[0].partition;
        let ranges = of_partition
            .chunk_by(|one, other| one.kind == other.kind && one.offset + 1 == other.offset);
        let ranges = ranges.map(|range| AcknowledgementBatch {
            first_offset: range[0].offset,
            last_offset: range[range.len() - 1].offset,
            acknowledge_types: vec![range[0].kind],
        });
        let partition = AcknowledgePartition {
            partition_index,
            acknowledgement_batches: ranges.collect(),
        };
        match topics.last_mut().filter(|topic| topic.topic_id == topic_id) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(AcknowledgeTopic {
                topic_id,
                partitions: vec![partition],
            }),
        }
    }
    topics
}

/// What a fetch has brought.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub(super) lease_ms: i64,
    pub(super) records: Vec<Record>,
    /// Offsets that were acquired and have no record, or none that could be read.
    pub(super) unreadable: Vec<(TopicPartition, i64, i8)>,
    /// Of some partition nothing could be fetched.
    pub(super) has_errors: bool,
}

/// A record that was acquired.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) deliveries: u32,
    pub(super) message: proto::Message,
}

fn undecodable(error: impl std::fmt::Display) -> ApiError {
    ApiError::new(ErrorCode::UnknownServerError, error.to_string())
}

/// Reads the response to a fetch.
pub(super) fn fetched(body: &Bytes) -> Result<Fetched, ApiError> {
    let response = ShareFetchResponseView::decode(body, FETCH).map_err(undecodable)?;
    refused(response.error_code, response.error_message)?;
    let mut fetched = Fetched {
        lease_ms: response.acquisition_lock_timeout_ms.into(),
        ..Fetched::default()
    };
    for topic in response.responses.iter() {
        for data in topic.partitions.iter() {
            let partition = (TopicId(topic.topic_id), data.partition_index);
            fetched.has_errors |= data.error_code != ErrorCode::None.code();
            let ranges = data.acquired_records.iter();
            let ranges: Vec<_> = ranges
                .map(|range| (range.first_offset, range.last_offset, range.delivery_count))
                .collect();
            if !ranges.is_empty() {
                read(&mut fetched, partition, data.records, &ranges);
            }
        }
    }
    Ok(fetched)
}

/// Takes from whole batches the records that were acquired. Ranges ascend, as batches do.
fn read(
    fetched: &mut Fetched,
    partition: TopicPartition,
    bytes: &[u8],
    ranges: &[(i64, i64, i16)],
) {
    let mut missing: BTreeSet<i64> = BTreeSet::new();
    for (first, last, _) in ranges {
        missing.extend(*first..=*last);
    }
    let mut is_damaged = false;
    for batch in batches(bytes) {
        let Ok(batch) = batch else {
            is_damaged = true;
            break;
        };
        if batch.header().attributes.is_control() {
            continue;
        }
        let inflated = batch.inflated();
        let records = inflated.as_ref().ok().and_then(|batch| batch.iter().ok());
        let Some(records) = records else {
            is_damaged = true;
            continue;
        };
        for record in records {
            let Ok(record) = record else {
                is_damaged = true;
                break;
            };
            let offset = record.offset.0;
            if !missing.remove(&offset) {
                continue;
            }
            let range = ranges.partition_point(|(_, last, _)| *last < offset);
            let deliveries = ranges.get(range).map_or(1, |(_, _, count)| *count);
            fetched.records.push(Record {
                partition,
                offset,
                deliveries: u32::try_from(deliveries).unwrap_or(1),
                message: received(&record),
            });
        }
    }
    // What compaction took is nothing; what cannot be read nobody else could read either.
    let kind = if is_damaged { REJECT } else { GAP };
    let missing = missing.into_iter();
    fetched
        .unreadable
        .extend(missing.map(|offset| (partition, offset, kind)));
}

/// Reads the response to acknowledgements: what was refused, by partition.
pub(super) fn acked(body: &Bytes) -> Result<Vec<(TopicPartition, ApiError)>, ApiError> {
    let response = ShareAcknowledgeResponseView::decode(body, ACKNOWLEDGE).map_err(undecodable)?;
    refused(response.error_code, response.error_message)?;
    let mut errors = Vec::new();
    for topic in response.responses.iter() {
        for data in topic.partitions.iter() {
            if let Err(error) = refused(data.error_code, data.error_message) {
                errors.push(((TopicId(topic.topic_id), data.partition_index), error));
            }
        }
    }
    Ok(errors)
}
