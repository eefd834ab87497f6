//! Fetch: batches out of partitions.
//!
//! What is at hand is answered at once; otherwise the request waits on the high watermarks of its partitions until there is enough, or
//! its time is over. In a session (KIP-227, [`crate::fetch_sessions`]) the client names only what changes, and is told only
//! what changed.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Notify, OwnedMutexGuard};
use tokio::time::Instant;
use weir_log::{Batches, ReadError};
use weir_quorum::image::{Image, Topic};
use weir_wire::messages::fetch_request::{FetchPartitionView, FetchTopicView};
use weir_wire::messages::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint,
    PartitionData,
};
use weir_wire::messages::{FetchRequestView, FetchResponse};
use weir_wire::{FileRange, LeaderEpoch, Offset, Records};

use super::leaders::{self, NotLed, Readable};
use super::request::isolation;
use super::{Answer, Peer, Refused, Reply, Request, Responder};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::fetch_sessions::{self, Fetching, Place, Session, SessionId};
use crate::host::Host;
use crate::partitions::{Isolation, Partition, WakeGuard};
use crate::quotas::{ANONYMOUS, Client, Limited, throttle_time_ms};

/// What a request asks for, but for the partitions.
struct Fetch {
    patience: Duration,
    client_id: Bytes,
    bytes_min: usize,
    bytes_max: usize,
    isolation: Isolation,
    /// Where the client stands; empty when it does not say.
    rack: String,
    /// By which listener the client came.
    peer: Arc<Peer>,
    version: i16,
}

/// The first version that tells who a partition's leader is, and the first that tells where.
const LEADER_FROM: i16 = 12;
const ENDPOINTS_FROM: i16 = 16;

struct WantedTopic {
    name: String,
    id: uuid::Uuid,
    partitions: Vec<FetchPartitionView>,
}

impl WantedTopic {
    fn of(topic: FetchTopicView<'_>) -> Self {
        let partitions = topic.partitions.iter().collect();
        Self {
            name: topic.topic.to_owned(),
            id: topic.topic_id,
            partitions,
        }
    }
}

/// The partitions that are fetched.
enum Wanted {
    Named(Vec<WantedTopic>),
    /// A session that nobody knows yet, or one that is known by its number.
    Session(SessionOf),
}

enum SessionOf {
    Begun(Box<Session>),
    Known(SessionId, OwnedMutexGuard<Session>),
}

impl SessionOf {
    fn session(&mut self) -> &mut Session {
        match self {
            Self::Begun(session) => session,
            Self::Known(_, session) => session,
        }
    }
}

/// What one look at all partitions gave.
#[derive(Default)]
struct Look {
    response: FetchResponse,
    /// In a session: where the partitions of the response are in it, in their order.
    told: Vec<Place>,
    bytes: usize,
    has_error: bool,
    /// The client is sent to another replica.
    has_nearer: bool,
    /// Partitions that more may come to, and up to where they could be read.
    waiting: Vec<(Arc<Partition>, Offset)>,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: FetchRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let of_client = |bytes: i32| usize::try_from(bytes).unwrap_or(0);
    let fetch = Fetch {
        patience: Duration::from_millis(u64::try_from(view.max_wait_ms).unwrap_or(0)),
        bytes_min: of_client(view.min_bytes),
        bytes_max: of_client(view.max_bytes)
            .min(broker.config.limits.fetch_bytes as usize)
            .min(
                broker
                    .quotas
                    .burst(&image, request.client(), Limited::Fetched),
            ),
        client_id: request.client_id.clone(),
        isolation: isolation(view.isolation_level),
        rack: view.rack_id.to_owned(),
        peer: Arc::clone(&request.peer),
        version: request.version,
    };
    let broker = Arc::clone(broker);
    if is_without_session(&view) {
        let wanted = Wanted::Named(view.topics.iter().map(WantedTopic::of).collect());
        let responder = request.responder();
        return Ok(Answer::later(async move {
            fetch.reply(&broker, wanted, responder).await
        }));
    }
    Ok(Answer::later(async move {
        let responder = request.responder();
        // In its turn, as the session's epochs ask for; and the frame is not held while the answer waits.
        let wanted = match request.decode::<FetchRequestView<'_>>() {
            Ok(view) => enter(&broker, &view, request.version).await,
            Err(refused) => return Reply::Close(refused),
        };
        drop(request);
        match wanted {
            Ok(wanted) => fetch.reply(&broker, wanted, responder).await,
            Err(code) => responder.reply(&FetchResponse {
                error_code: code.code(),
                ..FetchResponse::default()
            }),
        }
    }))
}

/// Whether the request names all that it wants, and begins nothing.
fn is_without_session(view: &FetchRequestView<'_>) -> bool {
    view.session_id == 0 && view.session_epoch == fetch_sessions::FINAL_EPOCH
}

async fn enter(
    broker: &Broker,
    view: &FetchRequestView<'_>,
    version: i16,
) -> Result<Wanted, ErrorCode> {
    let fetching = broker.fetch_sessions.enter(view, version).await?;
    Ok(match fetching {
        Fetching::Alone => Wanted::Named(view.topics.iter().map(WantedTopic::of).collect()),
        Fetching::Begun(session) => Wanted::Session(SessionOf::Begun(session)),
        Fetching::Going(id, session) => Wanted::Session(SessionOf::Known(id, session)),
    })
}

/// Tells the session what the client is being told, and the client the session's number.
fn settle(broker: &Broker, wanted: Wanted, look: Look) -> FetchResponse {
    let mut response = look.response;
    let Wanted::Session(mut of) = wanted else {
        return response;
    };
    let session = of.session();
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
    for (place, data) in look.told.iter().zip(partitions) {
        session.told(*place, data);
    }
    response.session_id = match of {
        SessionOf::Begun(session) => {
            let image = broker.metadata.image();
            let slots = slots(broker, &image);
            broker
                .fetch_sessions
                .keep(*session, slots, &broker.host.entropy)
        }
        SessionOf::Known(id, _) if broker.fetch_sessions.knows(id) => id.0,
        SessionOf::Known(..) => 0,
    };
    response
}

/// How many sessions this broker keeps.
fn slots(broker: &Broker, image: &Image) -> usize {
    let metadata = &broker.metadata;
    let name = "max.incremental.fetch.session.cache.slots";
    weir_quorum::configs::broker_value(image, metadata.settings(), metadata.broker_id(), name)
        .and_then(|slots| slots.parse().ok())
        .unwrap_or(0)
}

impl Fetch {
    async fn reply(&self, broker: &Arc<Broker>, wanted: Wanted, responder: Responder) -> Reply {
        let (mut response, bytes) = self.answer(broker, wanted).await;
        let client = Client {
            user: ANONYMOUS,
            client_id: std::str::from_utf8(&self.client_id).unwrap_or_default(),
        };
        let image = broker.metadata.image();
        let wait = broker
            .quotas
            .take(&image, client, Limited::Fetched, bytes as f64);
        response.throttle_time_ms = throttle_time_ms(wait);
        responder.reply(&response).throttled(wait)
    }

    /// The response, and how many bytes of records it has.
    async fn answer(&self, broker: &Arc<Broker>, mut wanted: Wanted) -> (FetchResponse, usize) {
        let deadline = Instant::now() + self.patience;
        loop {
            let look = match &mut wanted {
                Wanted::Named(topics) => self.look(broker, topics).await,
                Wanted::Session(of) => self.look_at_session(broker, of.session()).await,
            };
            let is_enough = look.bytes >= self.bytes_min
                || look.has_error
                || look.has_nearer
                || look.waiting.is_empty();
            if is_enough || Instant::now() >= deadline {
                let bytes = look.bytes;
                return (settle(broker, wanted, look), bytes);
            }
            let wake = Arc::new(Notify::new());
            let _places: Vec<WakeGuard> = look
                .waiting
                .iter()
                .map(|(partition, seen)| partition.wake_readable(*seen, self.isolation, &wake))
                .collect();
            // What is held while waiting is only the places in line.
            drop(look);
            // Either way it is looked again: at the deadline for whatever there is by then.
            let _ = tokio::time::timeout_at(deadline, wake.notified()).await;
        }
    }

    /// Reads what there is, within the limits.
    async fn look(&self, broker: &Arc<Broker>, topics: &[WantedTopic]) -> Look {
        let image = broker.metadata.image();
        let mut look = Look::default();
        for wanted in topics {
            let topic = leaders::topic(&image, &wanted.name, wanted.id);
            let mut partitions = Vec::with_capacity(wanted.partitions.len());
            for partition in &wanted.partitions {
                let data = self.look_at(broker, &image, topic, partition, &mut look);
                partitions.push(data.await);
            }
            look.response.responses.push(FetchableTopicResponse {
                topic: wanted.name.clone(),
                topic_id: wanted.id,
                partitions,
            });
        }
        self.tell_endpoints(&image, &mut look);
        look
    }

    /// Reads what there is of a session's partitions, in the order of their turn, and takes what the client does not know.
    async fn look_at_session(&self, broker: &Arc<Broker>, session: &Session) -> Look {
        let image = broker.metadata.image();
        let mut look = Look::default();
        let mut found = None;
        let mut answered = None;
        let mut next = session.first();
        while let Some(place) = next {
            next = session.after(place);
            let (number, name, id) = session.topic(place);
            let topic = match found {
                Some((known, topic)) if known == number => topic,
                _ => leaders::topic(&image, name, id),
            };
            found = Some((number, topic));
            let data = self
                .look_at(broker, &image, topic, &session.wanted(place), &mut look)
                .await;
            if !session.is_news(place, &data) {
                continue;
            }
            look.told.push(place);
            if answered != Some(number) {
                look.response.responses.push(FetchableTopicResponse {
                    topic: name.to_owned(),
                    topic_id: id,
                    partitions: Vec::new(),
                });
                answered = Some(number);
            }
            if let Some(topic) = look.response.responses.last_mut() {
                topic.partitions.push(data);
            }
        }
        self.tell_endpoints(&image, &mut look);
        look
    }

    async fn look_at(
        &self,
        broker: &Arc<Broker>,
        image: &Image,
        topic: Result<&Arc<Topic>, ErrorCode>,
        wanted: &FetchPartitionView,
        look: &mut Look,
    ) -> PartitionData {
        let readable = match topic {
            Err(code) => Err(NotLed::from(code)),
            Ok(topic) => {
                let (index, epoch) = (wanted.partition, wanted.current_leader_epoch);
                let place = (self.rack.as_str(), &*self.peer.listener);
                leaders::readable(broker, image, topic, index, epoch, place)
            }
        };
        let read = match readable {
            Ok(readable) => self.read(broker, &readable, wanted, look).await,
            Err(not_led) => Err(not_led),
        };
        read.unwrap_or_else(|not_led| {
            look.has_error = true;
            self.refused(wanted.partition, not_led)
        })
    }

    fn tell_endpoints(&self, image: &Image, look: &mut Look) {
        if look.has_error && self.version >= ENDPOINTS_FROM {
            look.response.node_endpoints = endpoints(image, &self.peer.listener, &look.response);
        }
    }

    async fn read(
        &self,
        broker: &Broker,
        readable: &Readable,
        wanted: &FetchPartitionView,
        look: &mut Look,
    ) -> Result<PartitionData, NotLed> {
        let partition = &readable.partition;
        let reader = partition.reader();
        // In this order, since the one never passes the other.
        let last_stable = partition.last_stable_offset();
        let high_watermark = partition.high_watermark();
        let up_to = match self.isolation {
            Isolation::ReadUncommitted => high_watermark,
            Isolation::ReadCommitted => last_stable,
        };
        let from = Offset(wanted.fetch_offset);
        let mut data = PartitionData {
            partition_index: wanted.partition,
            high_watermark: high_watermark.0,
            last_stable_offset: last_stable.0,
            log_start_offset: reader.log_start().0,
            aborted_transactions: match self.isolation {
                Isolation::ReadUncommitted => None,
                Isolation::ReadCommitted => Some(Vec::new()),
            },
            preferred_read_replica: -1,
            records: Some(Records::empty()),
            ..PartitionData::default()
        };
        if let Some(nearer) = readable.nearer {
            data.preferred_read_replica = nearer;
            look.has_nearer = true;
            return Ok(data);
        }
        if let Some(diverging) = divergence(partition, wanted) {
            if !broker.metadata.holds_lease() {
                return Err(ErrorCode::NotLeaderOrFollower.into());
            }
            data.diverging_epoch = diverging;
            look.has_error = true;
            return Ok(data);
        }
        if from < reader.log_start() || from > reader.log_end() {
            let message = format!(
                "offset {from} is outside of {}..={high_watermark}",
                reader.log_start()
            );
            look.has_error = true;
            let code = if from < reader.log_start() {
                ErrorCode::OffsetOutOfRange
            } else if readable.is_led {
                broker.metadata.deny(ErrorCode::OffsetOutOfRange)
            } else {
                // The leader may have it, and it may come here.
                ErrorCode::OffsetNotAvailable
            };
            return Ok(self.refused(wanted.partition, ApiError::new(code, message).into()));
        }
        let partition_max = usize::try_from(wanted.partition_max_bytes).unwrap_or(0);
        let bytes_max = partition_max.min(self.bytes_max.saturating_sub(look.bytes));
        // However large it is, one batch is given, or a consumer would stand before it for ever.
        let is_first = look.bytes == 0;
        if from < up_to && (bytes_max > 0 || is_first) {
            let (records, next) =
                read_batches(&broker.host, partition, from..up_to, bytes_max, is_first)
                    .await
                    .map_err(ApiError::from)?;
            if let Some(aborted) = data.aborted_transactions.as_mut() {
                *aborted = aborted_transactions(&broker.host, partition, from..next)
                    .await
                    .map_err(ApiError::from)?;
            }
            look.bytes += records.len();
            partition
                .counters()
                .fetched_bytes
                .inc_by(records.len() as u64);
            data.records = Some(records);
        }
        look.waiting.push((Arc::clone(partition), up_to));
        Ok(data)
    }

    fn refused(&self, index: i32, not_led: NotLed) -> PartitionData {
        let NotLed { error, leader } = not_led.of_fetch();
        let leader = leader.filter(|_| self.version >= LEADER_FROM);
        let current_leader = leader
            .map(|(leader_id, leader_epoch)| LeaderIdAndEpoch {
                leader_id,
                leader_epoch,
            })
            .unwrap_or_default();
        PartitionData {
            partition_index: index,
            error_code: error.code.code(),
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            current_leader,
            preferred_read_replica: -1,
            aborted_transactions: None,
            // Never null: librdkafka cannot parse that.
            records: Some(Records::empty()),
            ..PartitionData::default()
        }
    }
}

/// As much as this leaves the file for the socket without passing through the broker's memory; reading less costs less than
/// the further system call that sending it by itself takes.
const SENT_FROM_FILE_BYTES: u64 = 32 << 10;

/// What the page cache has, on this thread; otherwise from the disk on one that may wait. Also says where to read on.
async fn read_batches(
    host: &Host,
    partition: &Arc<Partition>,
    range: Range<Offset>,
    bytes_max: usize,
    min_one_batch: bool,
) -> Result<(Records, Offset), ReadError> {
    let (from, up_to) = (range.start, range.end);
    let reader = partition.reader();
    if partition.holds_back() {
        let batches = read_for_consumers(host, partition, range, bytes_max, min_one_batch).await?;
        return Ok((Records::from(batches.bytes), batches.next_offset));
    }
    match reader.try_read_tail(from, up_to, bytes_max, min_one_batch) {
        Ok(Some(batches)) => return Ok((Records::from(batches.bytes), batches.next_offset)),
        Ok(None) | Err(ReadError::WouldBlock) => {}
        Err(error) => return Err(error),
    }
    let slice = match reader.try_slice(from, up_to, bytes_max, min_one_batch) {
        Err(ReadError::WouldBlock) => {
            let reader = reader.clone();
            host.blocking(move || reader.slice(from, up_to, bytes_max, min_one_batch))
                .await?
        }
        slice => slice?,
    };
    let next = slice.next_offset;
    if slice.len >= SENT_FROM_FILE_BYTES
        && let Some(file) = slice.file.as_std()
        && let Ok(len) = usize::try_from(slice.len)
    {
        let offset = slice.position;
        return Ok((Records::from(FileRange { file, offset, len }), next));
    }
    if let Some(bytes) = slice.try_bytes() {
        return Ok((Records::from(bytes), next));
    }
    let reader = reader.clone();
    let read = host.blocking(move || reader.read(from, up_to, bytes_max, min_one_batch));
    let batches = read.await?;
    Ok((Records::from(batches.bytes), batches.next_offset))
}

/// The same, of a log that has what consumers are not to be given.
async fn read_for_consumers(
    host: &Host,
    partition: &Arc<Partition>,
    range: Range<Offset>,
    bytes_max: usize,
    min_one_batch: bool,
) -> Result<Batches, ReadError> {
    let (from, up_to) = (range.start, range.end);
    let reader = partition.reader();
    let read = match reader.try_read(from, up_to, bytes_max, min_one_batch) {
        Err(ReadError::WouldBlock) => {
            let reader = reader.clone();
            let read = move || reader.read(from, up_to, bytes_max, min_one_batch);
            host.blocking(read).await
        }
        read => read,
    };
    let read = read?;
    Ok(Batches {
        bytes: partition.for_consumers(read.bytes),
        ..read
    })
}

/// Whose records in a range the consumer leaves out: from memory or the page cache on this thread, otherwise on one that may wait.
async fn aborted_transactions(
    host: &Host,
    partition: &Arc<Partition>,
    range: Range<Offset>,
) -> Result<Vec<AbortedTransaction>, ReadError> {
    let (from, to) = (range.start, range.end);
    let found = match partition.reader().try_aborted_transactions(from, to) {
        Err(ReadError::WouldBlock) => {
            let reader = partition.reader().clone();
            host.blocking(move || reader.aborted_transactions(from, to))
                .await?
        }
        found => found?,
    };
    let told = found.into_iter().map(|aborted| AbortedTransaction {
        producer_id: aborted.producer_id.0,
        first_offset: aborted.first_offset.0,
    });
    Ok(told.collect())
}

/// Where the client's log and this one part, if the client says what it has read last and it is not what is here (KIP-595).
fn divergence(partition: &Partition, wanted: &FetchPartitionView) -> Option<EpochEndOffset> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let reader = partition.reader();
    let last_fetched = LeaderEpoch(wanted.last_fetched_epoch);
    let Some(end) = reader.epoch_end(last_fetched) else {
        return Some(EpochEndOffset {
            epoch: -1,
            end_offset: -1,
        });
    };
    let agrees = end.epoch == last_fetched && end.end_offset.0 >= wanted.fetch_offset;
    (!agrees).then_some(EpochEndOffset {
        epoch: end.epoch.0,
        end_offset: end.end_offset.0,
    })
}

/// Where the leaders are that the response names.
fn endpoints(image: &Image, listener: &str, response: &FetchResponse) -> Vec<NodeEndpoint> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
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
