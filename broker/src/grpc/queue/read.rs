//! `Read`: a topic from some place on, and then what comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use futures::future::{BoxFuture, try_join_all};
use futures::stream::FuturesUnordered;
use prost::Message as _;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Code, Status};
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::read_request::From as Begin;
use weir_queues::filter::Filter;
use weir_quorum::image::Image;
use weir_quorum::{BrokerId, TopicId};
use weir_wire::MessageView;
use weir_wire::batch::RewriteError;
use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic};
use weir_wire::messages::fetch_response::PartitionDataView;
use weir_wire::messages::{FetchRequest, FetchResponseView};

use super::message::received;
use super::status::Refused;
use super::stopping;
use crate::error::{ApiError, ErrorCode};
use crate::gateway::{self, At, Gateway, Link, Place, committed, leader, passes, refused};

const FETCH: i16 = 12;
const READ_COMMITTED: i8 = 1;

/// Bytes of one fetch, and of one partition in it, about; each broker that leads is asked for so much at a time.
const FETCH_BYTES: i32 = 1 << 20;
const PARTITION_BYTES: i32 = 256 << 10;
/// How long a fetch with nothing to fetch waits at its leader.
const WAIT_MS: i32 = 500;
/// After something went wrong at a leader that passes by itself.
const PAUSE: Duration = Duration::from_millis(100);
/// Bytes of one message of the stream, about: well below what clients take by default (4 MiB).
const SEND_BYTES: usize = 1 << 20;

/// Where a partition is begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    At(At),
    Offset(i64),
}

type Answer = (BrokerId, u64, Result<Bytes, ApiError>);

/// Someone who reads.
pub(super) struct Reading {
    gateway: Gateway,
    images: watch::Receiver<std::sync::Arc<Image>>,
    client: SocketAddr,
    topic: std::sync::Arc<str>,
    id: TopicId,
    /// The partitions that were asked for; `None`: all.
    which: Option<BTreeSet<i32>>,
    /// Where partitions are begun that are not begun yet.
    start: Start,
    filter: Filter,
    /// The next offset of each partition.
    positions: BTreeMap<i32, i64>,
    /// The ways to brokers that lead, and the number of the fetch that is under way there.
    links: BTreeMap<BrokerId, (Link, Option<u64>)>,
    asking: FuturesUnordered<BoxFuture<'static, Answer>>,
    turn: u64,
    /// Something went wrong: nothing is asked before this.
    not_before: Option<Instant>,
    ready: VecDeque<proto::ReadResponse>,
}

impl Reading {
    /// Begins where a client wants to.
    pub(super) fn of(
        gateway: Gateway,
        client: SocketAddr,
        request: proto::ReadRequest,
    ) -> Result<Self, Refused> {
        let which: BTreeSet<_> = request.partitions.iter().copied().collect();
        let start = match request.from {
            None | Some(Begin::Latest(_)) => Start::At(At::Latest),
            Some(Begin::Earliest(_)) => Start::At(At::Earliest),
            Some(Begin::TimestampMs(ms)) if ms >= 0 => Start::At(At::Time(ms)),
            Some(Begin::TimestampMs(_)) => {
                return Err(Refused::invalid("timestamp_ms", "is before 1970"));
            }
            Some(Begin::Offset(offset)) if offset >= 0 && which.len() == 1 => Start::Offset(offset),
            Some(Begin::Offset(_)) => {
                let why = "is below 0, or more than one partition is read";
                return Err(Refused::invalid("offset", why));
            }
        };
        let named = |field, text: &str, parsed: Result<_, _>| {
            parsed.map_err(|error| Refused::invalid(field, format!("{text:?}: {error}")))
        };
        named("tags", &request.tags, Filter::parse(&request.tags, ""))?;
        let filter = Filter::parse(&request.tags, &request.filter);
        let filter = named("filter", &request.filter, filter)?;
        let image = gateway.image();
        let topic = gateway::topic(&image, &request.topic)?;
        if let Some(index) = which
            .iter()
            .find(|index| topic.partition(**index).is_none())
        {
            let why = format!("topic {} has no partition {index}", topic.name);
            return Err(Refused::new(Code::NotFound, why));
        }
        Ok(Self {
            images: gateway.broker().metadata.watch(),
            gateway,
            client,
            topic: topic.name.clone(),
            id: topic.id,
            which: (!which.is_empty()).then_some(which),
            start,
            filter,
            positions: BTreeMap::new(),
            links: BTreeMap::new(),
            asking: FuturesUnordered::new(),
            turn: 0,
            not_before: None,
            ready: VecDeque::new(),
        })
    }

    /// Finds the places where partitions are begun: what comes after this is read.
    pub(super) async fn begin(&mut self) -> Result<(), Status> {
        let image = self.gateway.image();
        let Some(topic) = image.topic_by_id(self.id) else {
            let gone = format!("topic {} is deleted", self.topic);
            return Err(Status::not_found(gone));
        };
        let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
        let all = (0..count).filter(|index| {
            let is_wanted = self
                .which
                .as_ref()
                .is_none_or(|which| which.contains(index));
            is_wanted && !self.positions.contains_key(index)
        });
        let new: Vec<_> = all.collect();
        if new.is_empty() {
            return Ok(());
        }
        let (gateway, start) = (&self.gateway, self.start);
        let places = new.into_iter().map(|partition| {
            let place = Place {
                topic: self.topic.clone(),
                id: self.id,
                partition,
            };
            async move {
                let offset = match start {
                    Start::Offset(offset) => offset,
                    Start::At(at) => gateway.offset(&place, at).await?,
                };
                Ok::<_, ApiError>((partition, offset))
            }
        });
        let found = try_join_all(places).await.map_err(Refused::from)?;
        self.positions.extend(found);
        // Partitions that are added later are read from their first message on.
        self.start = Start::At(At::Earliest);
        Ok(())
    }

    /// The next messages.
    pub(super) async fn next(&mut self) -> Result<proto::ReadResponse, Status> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Ok(ready);
            }
            self.begin().await?;
            self.fetch();
            let pause = self.not_before;
            tokio::select! {
                Some((broker, turn, answer)) = self.asking.next(), if !self.asking.is_empty() => {
                    self.answered(broker, turn, answer).await?;
                }
                changed = self.images.changed() => if changed.is_err() {
                    return Err(stopping());
                },
                () = tokio::time::sleep_until(pause.unwrap_or_else(Instant::now)), if pause.is_some() => {
                    self.not_before = None;
                }
            }
        }
    }

    /// Asks every broker that leads something and is not being asked.
    fn fetch(&mut self) {
        if self.not_before.is_some() {
            return;
        }
        let image = self.gateway.image();
        let Some(topic) = image.topic_by_id(self.id) else {
            return;
        };
        let mut led: BTreeMap<BrokerId, Vec<(i32, i64)>> = BTreeMap::new();
        for (index, position) in &self.positions {
            let partition = topic.partition(*index);
            if let Some((leader, _)) = partition.and_then(|partition| leader(&image, partition)) {
                led.entry(leader).or_default().push((*index, *position));
            }
        }
        // Who leads nothing any more may not even answer.
        self.links
            .retain(|broker, (link, _)| led.contains_key(broker) && !link.is_lost());
        for (broker, partitions) in led {
            if matches!(self.links.get(&broker), Some((_, Some(_)))) {
                continue;
            }
            self.turn += 1;
            let turn = self.turn;
            let request = self.request(partitions);
            let link = match self.links.remove(&broker) {
                Some((link, _)) => Ok(link),
                None => self.gateway.open(broker, self.client),
            };
            match link {
                Ok(link) => {
                    let answer = link.ask(FETCH, &request);
                    self.asking.push(Box::pin(async move {
                        (broker, turn, answer.await.map_err(ApiError::from))
                    }));
                    self.links.insert(broker, (link, Some(turn)));
                }
                Err(_) => self.not_before = Some(Instant::now() + PAUSE),
            }
        }
    }

    fn request(&self, mut partitions: Vec<(i32, i64)>) -> FetchRequest {
        // Another one first each time, so that none starves behind a busy one.
        let first = usize::try_from(self.turn).unwrap_or(0) % partitions.len().max(1);
        partitions.rotate_left(first);
        let partitions = partitions
            .into_iter()
            .map(|(partition, fetch_offset)| FetchPartition {
                partition,
                current_leader_epoch: -1,
                fetch_offset,
                last_fetched_epoch: -1,
                log_start_offset: -1,
                partition_max_bytes: PARTITION_BYTES,
                ..FetchPartition::default()
            });
        FetchRequest {
            replica_id: -1,
            max_wait_ms: WAIT_MS,
            min_bytes: 1,
            max_bytes: FETCH_BYTES,
            isolation_level: READ_COMMITTED,
            session_epoch: -1,
            topics: vec![FetchTopic {
                topic: self.topic.to_string(),
                partitions: partitions.collect(),
                ..FetchTopic::default()
            }],
            ..FetchRequest::default()
        }
    }

    async fn answered(
        &mut self,
        broker: BrokerId,
        turn: u64,
        answer: Result<Bytes, ApiError>,
    ) -> Result<(), Status> {
        if let Some((_, asked)) = self.links.get_mut(&broker)
            && *asked == Some(turn)
        {
            *asked = None;
        }
        let body = match answer {
            Ok(body) => body,
            Err(error) => {
                tracing::debug!(%broker, %error, "a fetch is not answered");
                self.links.remove(&broker);
                self.not_before = Some(Instant::now() + PAUSE);
                return Ok(());
            }
        };
        let response = FetchResponseView::decode(&body, FETCH)
            .map_err(|error| Status::internal(error.to_string()))?;
        refused(response.error_code, None).map_err(Refused::from)?;
        let mut batch = Batch::default();
        let mut beyond = Vec::new();
        for topic in response.responses.iter() {
            for data in topic.partitions.iter() {
                let index = data.partition_index;
                match ErrorCode::from_code(data.error_code) {
                    Some(ErrorCode::None) => self.take(&data, &mut batch)?,
                    Some(ErrorCode::OffsetOutOfRange) => beyond.push(index),
                    Some(code) if passes(code) => {
                        self.not_before = Some(Instant::now() + PAUSE);
                    }
                    _ => {
                        refused(data.error_code, None).map_err(Refused::from)?;
                    }
                }
            }
        }
        self.ready.extend(batch.finish());
        for index in beyond {
            self.find_again(index).await?;
        }
        Ok(())
    }

    /// The position is not in the log: retention was faster, which nothing can be done about, or there is no such place.
    async fn find_again(&mut self, index: i32) -> Result<(), Status> {
        let place = Place {
            topic: self.topic.clone(),
            id: self.id,
            partition: index,
        };
        let found = self.gateway.offset(&place, At::Earliest).await;
        let start = found.map_err(Refused::from)?;
        let position = self.positions.entry(index).or_insert(start);
        if *position > start {
            let why = format!("partition {index} has nothing at offset {position} yet");
            return Err(Status::out_of_range(why));
        }
        *position = start;
        Ok(())
    }

    /// Takes the records of one partition that are committed and match.
    fn take(&mut self, data: &PartitionDataView<'_>, out: &mut Batch) -> Result<(), Status> {
        let Some(position) = self.positions.get_mut(&data.partition_index) else {
            return Ok(());
        };
        let partition = data.partition_index;
        let filter = &self.filter;
        let next = committed(data, *position, |_, record| {
            if filter.matches_record(record, usize::MAX) {
                out.push(proto::Received {
                    partition,
                    offset: record.offset.0,
                    message: Some(received(record)),
                });
            }
            Ok::<_, RewriteError>(())
        });
        *position = next.map_err(|error| Status::internal(error.to_string()))?;
        Ok(())
    }
}

/// Messages, in responses within the bound.
#[derive(Debug, Default)]
struct Batch {
    done: Vec<proto::ReadResponse>,
    messages: Vec<proto::Received>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, message: proto::Received) {
        let more = message.encoded_len();
        if self.bytes > 0 && self.bytes + more > SEND_BYTES {
            self.close();
        }
        self.bytes += more;
        self.messages.push(message);
    }

    fn close(&mut self) {
        let messages = std::mem::take(&mut self.messages);
        self.bytes = 0;
        if !messages.is_empty() {
            self.done.push(proto::ReadResponse { messages });
        }
    }

    fn finish(mut self) -> Vec<proto::ReadResponse> {
        self.close();
        self.done
    }
}
