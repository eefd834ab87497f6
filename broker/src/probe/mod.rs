//! `weir-broker probe`: writes messages through the Kafka protocol and reads them back. [`messages`] are its parts for a quick look.
//!
//! What a person or a Helm test runs to see that a cluster works: it finds the topic's leaders through the bootstrap address, or
//! creates the topic, writes to every partition with an idempotent producer and `acks=all`, fetches from where it wrote, and
//! compares every byte. Blocking, one request at a time: it measures nothing. What can pass by itself (no leader yet, a broker
//! that restarts) is tried again until the deadline.

mod client;
pub mod messages;

use std::collections::BTreeMap;
use std::io;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use client::Client;
use weir_wire::batch::{BatchBuilder, BatchView, NewRecord};
use weir_wire::messages::create_topics_request::CreatableTopic;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponseView, ErrorCode, FetchRequest, FetchResponseView,
    InitProducerIdRequest, InitProducerIdResponseView, MetadataRequest, MetadataResponseView,
    ProduceRequest, ProduceResponseView,
};
use weir_wire::{MessageView, ProducerEpoch, ProducerId, Records};

/// The versions spoken: the newest that name topics instead of using their ids.
const METADATA: i16 = 9;
const CREATE_TOPICS: i16 = 7;
const INIT_PRODUCER_ID: i16 = 4;
const PRODUCE: i16 = 9;
const FETCH: i16 = 12;

/// How long to wait before something that failed for the moment is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// What to do.
#[derive(Clone, Debug, clap::Args)]
pub struct ProbeOptions {
    /// Address of any broker's Kafka listener, host:port.
    #[arg(long, value_name = "HOST:PORT")]
    pub bootstrap: String,
    /// Topic to write to; created with one partition when it is not there.
    #[arg(long)]
    pub topic: String,
    /// Messages to write in all, at least one for each partition.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub messages: u32,
    /// Seconds until it gives up.
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Why the probe failed.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// A connection could not be made, or broke.
    #[error("{address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        reason: io::Error,
    },
    /// A broker answered with an error.
    #[error("{request} was answered with {}: {message}", code.name())]
    Refused {
        /// What was asked.
        request: &'static str,
        /// Kafka's code.
        code: ErrorCode,
        /// The broker's words, or Kafka's.
        message: String,
    },
    /// There is nothing to read or to write to.
    #[error("there is no topic {0}")]
    NoTopic(String),
    /// An answer that no broker should give.
    #[error("{0}")]
    Protocol(String),
    /// A message did not come back as it was written.
    #[error("partition {partition} of {topic}: {what}")]
    Wrong {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What was wrong.
        what: String,
    },
}

impl ProbeError {
    /// Whether it may go well another time.
    fn passes(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => code.is_retriable(),
            Self::NoTopic(_) | Self::Protocol(_) | Self::Wrong { .. } => false,
        }
    }
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSummary {
    /// Messages written and read back.
    pub messages: usize,
    /// Partitions that they went to.
    pub partitions: usize,
    /// Time from start to finish.
    pub took: Duration,
}

/// Runs the probe.
pub fn run(options: &ProbeOptions) -> Result<ProbeSummary, ProbeError> {
    let started = Instant::now();
    let mut probe = Probe {
        bootstrap: &options.bootstrap,
        topic: &options.topic,
        creates: true,
        deadline: started + Duration::from_secs(options.timeout),
        connections: BTreeMap::new(),
    };
    let leaders = probe.until_deadline(Probe::leaders)?;
    let producer = probe.until_deadline(Probe::producer)?;
    let run = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros();
    let each = (options.messages as usize).div_ceil(leaders.len()).max(1);
    for &partition in leaders.keys() {
        let values: Vec<String> = (0..each)
            .map(|number| format!("probe {run} partition {partition} message {number}"))
            .collect();
        let values: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        let batch = batch(&values, producer, 0)?;
        let offset = probe.until_deadline(|probe| probe.write(partition, &batch))?;
        probe.until_deadline(|probe| probe.read_back(partition, offset, &values))?;
    }
    Ok(ProbeSummary {
        messages: each * leaders.len(),
        partitions: leaders.len(),
        took: started.elapsed(),
    })
}

/// `sequence`: how many messages the producer has written to the partition before.
fn batch(values: &[&[u8]], (id, epoch): Producer, sequence: i32) -> Result<Bytes, ProbeError> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis();
    let mut builder = BatchBuilder::new().producer(id, epoch, sequence);
    for value in values {
        builder
            .push(&NewRecord {
                timestamp_ms: i64::try_from(now).unwrap_or(i64::MAX),
                key: None,
                value: Some(value),
                headers: &[],
            })
            .map_err(protocol)?;
    }
    Ok(builder.build())
}

/// An idempotent producer's identity.
type Producer = (ProducerId, ProducerEpoch);

struct Probe<'a> {
    bootstrap: &'a str,
    topic: &'a str,
    /// The topic is created when it is not there.
    creates: bool,
    deadline: Instant,
    /// By address; one that broke is taken out.
    connections: BTreeMap<String, Client>,
}

impl Probe<'_> {
    /// Does something again and again until it goes well, fails for good, or the time is up.
    fn until_deadline<T>(
        &mut self,
        mut attempt: impl FnMut(&mut Self) -> Result<T, ProbeError>,
    ) -> Result<T, ProbeError> {
        loop {
            match attempt(self) {
                Err(error) if error.passes() && Instant::now() < self.deadline => {
                    if matches!(error, ProbeError::Unreachable { .. }) {
                        self.connections.clear();
                    }
                    thread::sleep(PAUSE);
                }
                outcome => return outcome,
            }
        }
    }

    fn at(&mut self, address: &str) -> Result<&mut Client, ProbeError> {
        if !self.connections.contains_key(address) {
            let client = Client::connect(address, self.deadline)?;
            self.connections.insert(address.to_owned(), client);
        }
        self.connections
            .get_mut(address)
            .ok_or_else(|| ProbeError::Protocol("the connection is gone".into()))
    }

    /// Each partition's leader by its address. Creates the topic when it is not there.
    fn leaders(&mut self) -> Result<BTreeMap<i32, String>, ProbeError> {
        let request = MetadataRequest {
            topics: Some(vec![MetadataRequestTopic {
                name: Some(self.topic.to_owned()),
                ..MetadataRequestTopic::default()
            }]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        let (bootstrap, deadline) = (self.bootstrap, self.deadline);
        let body = self.at(bootstrap)?.call(METADATA, &request, deadline)?;
        let response = MetadataResponseView::decode(&body, METADATA).map_err(protocol)?;
        let addresses: BTreeMap<i32, String> = response
            .brokers
            .iter()
            .map(|broker| (broker.node_id, format!("{}:{}", broker.host, broker.port)))
            .collect();
        let topic = only(response.topics.iter(), "Metadata")?;
        if topic.error_code == ErrorCode::UnknownTopicOrPartition.code() {
            if !self.creates {
                return Err(ProbeError::NoTopic(self.topic.to_owned()));
            }
            self.create_topic()?;
        }
        refused("Metadata", topic.error_code, None)?;
        let mut leaders = BTreeMap::new();
        for partition in &topic.partitions {
            refused("Metadata", partition.error_code, None)?;
            let leader = addresses.get(&partition.leader_id);
            let leader = leader.ok_or_else(|| {
                ProbeError::Protocol(format!("leader {} is no broker", partition.leader_id))
            })?;
            leaders.insert(partition.partition_index, leader.clone());
        }
        if leaders.is_empty() {
            return Err(refusal("Metadata", ErrorCode::LeaderNotAvailable, None));
        }
        Ok(leaders)
    }

    fn create_topic(&mut self) -> Result<(), ProbeError> {
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: self.topic.to_owned(),
                num_partitions: 1,
                replication_factor: -1,
                ..CreatableTopic::default()
            }],
            timeout_ms: 10_000,
            validate_only: false,
        };
        let (bootstrap, deadline) = (self.bootstrap, self.deadline);
        let body = self
            .at(bootstrap)?
            .call(CREATE_TOPICS, &request, deadline)?;
        let response = CreateTopicsResponseView::decode(&body, CREATE_TOPICS).map_err(protocol)?;
        let topic = only(response.topics.iter(), "CreateTopics")?;
        if topic.error_code == ErrorCode::TopicAlreadyExists.code() {
            return Ok(());
        }
        refused("CreateTopics", topic.error_code, topic.error_message)
    }

    fn producer(&mut self) -> Result<Producer, ProbeError> {
        let request = InitProducerIdRequest {
            transactional_id: None,
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let (bootstrap, deadline) = (self.bootstrap, self.deadline);
        let body = self
            .at(bootstrap)?
            .call(INIT_PRODUCER_ID, &request, deadline)?;
        let response =
            InitProducerIdResponseView::decode(&body, INIT_PRODUCER_ID).map_err(protocol)?;
        refused("InitProducerId", response.error_code, None)?;
        Ok((
            ProducerId(response.producer_id),
            ProducerEpoch(response.producer_epoch),
        ))
    }

    /// Appends the batch and returns the offset of its first message. Safe to try again: the producer is idempotent.
    fn write(&mut self, partition: i32, batch: &Bytes) -> Result<i64, ProbeError> {
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![TopicProduceData {
                name: self.topic.to_owned(),
                partition_data: vec![PartitionProduceData {
                    index: partition,
                    records: Some(Records::from(batch.clone())),
                }],
                ..TopicProduceData::default()
            }],
            ..ProduceRequest::default()
        };
        let deadline = self.deadline;
        let body = self.leader(partition)?.call(PRODUCE, &request, deadline)?;
        let response = ProduceResponseView::decode(&body, PRODUCE).map_err(protocol)?;
        let topic = only(response.responses.iter(), "Produce")?;
        let partition = only(topic.partition_responses.iter(), "Produce")?;
        refused("Produce", partition.error_code, partition.error_message)?;
        Ok(partition.base_offset)
    }

    /// Fetches from `offset` on until all of `values` were seen there, in order and unchanged.
    fn read_back(
        &mut self,
        partition: i32,
        offset: i64,
        values: &[&[u8]],
    ) -> Result<(), ProbeError> {
        let mut seen = 0;
        while seen < values.len() {
            let from = offset + i64::try_from(seen).unwrap_or(i64::MAX);
            let records = self.fetch(partition, from)?;
            let before = seen;
            let mut rest = &records[..];
            while !rest.is_empty() && seen < values.len() {
                let (batch, after) = BatchView::split_first(rest).map_err(protocol)?;
                batch.check().map_err(protocol)?;
                rest = after;
                for record in batch.records().map_err(protocol)? {
                    let record = record.map_err(protocol)?;
                    let at = record.offset.0;
                    let Some(expected) = usize::try_from(at - offset)
                        .ok()
                        .filter(|index| *index == seen)
                        .and_then(|index| values.get(index))
                    else {
                        continue; // below what was asked for, or another producer's
                    };
                    if record.value != Some(*expected) {
                        return Err(self.wrong(
                            partition,
                            format!("offset {at} holds other bytes than were written there"),
                        ));
                    }
                    seen += 1;
                }
            }
            if seen == before {
                return Err(refusal("Fetch", ErrorCode::OffsetNotAvailable, None));
            }
        }
        Ok(())
    }

    fn fetch(&mut self, partition: i32, from: i64) -> Result<Bytes, ProbeError> {
        let request = FetchRequest {
            replica_id: -1,
            max_wait_ms: 500,
            min_bytes: 1,
            max_bytes: 8 << 20,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: self.topic.to_owned(),
                partitions: vec![FetchPartition {
                    partition,
                    current_leader_epoch: -1,
                    fetch_offset: from,
                    last_fetched_epoch: -1,
                    log_start_offset: -1,
                    partition_max_bytes: 8 << 20,
                    ..FetchPartition::default()
                }],
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        };
        let deadline = self.deadline;
        let body = self.leader(partition)?.call(FETCH, &request, deadline)?;
        let response = FetchResponseView::decode(&body, FETCH).map_err(protocol)?;
        refused("Fetch", response.error_code, None)?;
        let topic = only(response.responses.iter(), "Fetch")?;
        let partition = only(topic.partitions.iter(), "Fetch")?;
        refused("Fetch", partition.error_code, None)?;
        Ok(body.slice_ref(partition.records.unwrap_or_default()))
    }

    /// The connection to a partition's leader, asked for anew each time: it may have moved.
    fn leader(&mut self, partition: i32) -> Result<&mut Client, ProbeError> {
        let leaders = self.leaders()?;
        let address = leaders
            .get(&partition)
            .ok_or_else(|| refusal("Metadata", ErrorCode::LeaderNotAvailable, None))?;
        self.at(address)
    }

    fn wrong(&self, partition: i32, what: String) -> ProbeError {
        ProbeError::Wrong {
            topic: self.topic.to_owned(),
            partition,
            what,
        }
    }
}

fn protocol(error: impl std::error::Error) -> ProbeError {
    ProbeError::Protocol(error.to_string())
}

fn only<T>(mut answers: impl Iterator<Item = T>, request: &str) -> Result<T, ProbeError> {
    answers
        .next()
        .ok_or_else(|| ProbeError::Protocol(format!("the answer to {request} is empty")))
}

fn refusal(request: &'static str, code: ErrorCode, message: Option<&str>) -> ProbeError {
    ProbeError::Refused {
        request,
        code,
        message: message.unwrap_or(code.message()).to_owned(),
    }
}

fn refused(request: &'static str, code: i16, message: Option<&str>) -> Result<(), ProbeError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        Some(code) => Err(refusal(request, code, message)),
        None => Err(ProbeError::Protocol(format!(
            "{request} was answered with the unknown error {code}"
        ))),
    }
}
