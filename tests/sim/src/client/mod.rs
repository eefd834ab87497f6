//! Clients: Kafka's protocol over the simulated network, as a patient client library speaks it, and gRPC for what only that has.
//!
//! A client knows the brokers' addresses, asks for metadata when something is not where it was, and tries again until its
//! work is done. What it was told goes into the history that all clients share ([`Shared`](crate::history::Shared)), where it is judged.

mod admin;
mod caller;
mod committed;
mod consumer;
mod dealer;
mod feeder;
mod fetch;
mod grpc;
mod log_reader;
mod member;
mod mover;
mod producer;
mod sharer;
mod transactor;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_wire::frame::encode_request;
use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::produce_request::{PartitionProduceData, TopicProduceData};
use weir_wire::messages::produce_response::PartitionProduceResponse;
use weir_wire::messages::{
    FindCoordinatorRequest, FindCoordinatorResponseView, MetadataRequest, MetadataResponse,
    MetadataResponseView, ProduceRequest, ProduceResponseView,
};
use weir_wire::{DecodeError, MessageView, Records, Request};

pub use admin::{Admin, metadata_of};
pub use caller::{Caller, Replier};
pub use committed::{CommittedReader, read_all_committed};
pub use consumer::{Consumer, read_all};
pub use dealer::{Dealer, Teller};
pub use feeder::Feeder;
pub use log_reader::{LogReader, finish_queue};
pub use member::Member;
pub use mover::Mover;
pub use producer::Producer;
pub use sharer::{Sharer, finish_shares};
pub use transactor::Transactor;

use crate::broker::KAFKA_PORT;
use crate::network::{HostId, HostNet, Net, SimSocket, host_name};
use crate::random::Random;

/// How long a client waits for an answer before it takes the connection for dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unanswered;

/// What is coordinated.
#[derive(Clone, Copy, Debug)]
#[repr(i8)]
pub enum CoordinatorOf {
    /// A group.
    Group = 0,
    /// A transactional producer.
    Transactions = 1,
}

/// What a client stands on.
#[derive(Debug)]
pub struct Client {
    /// Its host.
    pub host: HostId,
    /// Its choices.
    pub random: Random,
    place: HostNet,
    brokers: HostId,
    connections: BTreeMap<i32, Connection>,
    /// Who leads which partition, as far as it knows.
    leaders: BTreeMap<(String, i32), i32>,
}

#[derive(Debug)]
struct Connection {
    socket: SimSocket,
    asked: i32,
}

impl Client {
    /// A client on its own host.
    #[must_use]
    pub fn new(host: HostId, net: &Net, brokers: HostId, random: Random) -> Self {
        Self {
            host,
            random,
            place: net.place(host),
            brokers,
            connections: BTreeMap::new(),
            leaders: BTreeMap::new(),
        }
    }

    /// Waits a little before something is tried again.
    pub async fn pause(&mut self) {
        self.rest(20..300).await;
    }

    /// Does nothing for some of these milliseconds.
    pub async fn rest(&mut self, ms: Range<u64>) {
        let ms = self.random.within(ms);
        tokio::time::sleep(Duration::from_millis(ms)).await;
    }

    /// Closes its connections.
    pub fn hang_up(&mut self) {
        self.connections.clear();
    }

    /// How many brokers there are.
    #[must_use]
    pub fn brokers(&self) -> i32 {
        i32::from(self.brokers)
    }

    /// Any broker.
    pub fn any_broker(&mut self) -> i32 {
        let id = self.random.within(0..u64::from(self.brokers));
        i32::try_from(id).unwrap_or(0)
    }

    /// Asks a broker; the connection is given up when there is no answer.
    pub async fn ask<R: Request, T: Debug>(
        &mut self,
        broker: i32,
        version: i16,
        request: &R,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, Unanswered> {
        self.ask_within(PATIENCE, broker, version, request, decode)
            .await
    }

    /// The same with another patience.
    pub async fn ask_within<R: Request, T: Debug>(
        &mut self,
        patience: Duration,
        broker: i32,
        version: i16,
        request: &R,
        decode: impl Fn(&[u8]) -> Result<T, DecodeError>,
    ) -> Result<T, Unanswered> {
        let taken = self.connections.remove(&broker);
        let place = self.place.clone();
        let asking = async move {
            let mut connection = match taken {
                Some(connection) => connection,
                None => Connection::to(&place, broker).await?,
            };
            let body = connection.ask(version, request).await?;
            Ok::<_, io::Error>((connection, body))
        };
        let answered = tokio::time::timeout(patience, asking).await;
        let Ok(Ok((connection, body))) = answered else {
            let why = answered.map(|answer| answer.map(|_| ()));
            tracing::debug!(
                client = self.host,
                broker,
                what = R::NAME,
                ?why,
                "no answer"
            );
            return Err(Unanswered);
        };
        self.connections.insert(broker, connection);
        #[allow(
            clippy::panic,
            reason = "a broker that answers nonsense fails the life"
        )]
        let decoded =
            decode(&body).unwrap_or_else(|error| panic!("{} v{version}: {error}", R::NAME));
        tracing::trace!(
            client = self.host,
            broker,
            what = R::NAME,
            ?decoded,
            "answer"
        );
        Ok(decoded)
    }

    /// Produces a batch once, at whoever is thought to lead, and wants all replicas in sync to have it. `None` when there is no answer.
    pub async fn produce(
        &mut self,
        leader: i32,
        version: i16,
        transactional_id: Option<&str>,
        (topic, partition): (&str, i32),
        batch: Bytes,
    ) -> Option<PartitionProduceResponse> {
        let request = produce_request(transactional_id, (topic, partition), batch);
        let answer = self.ask(leader, version, &request, |body| {
            ProduceResponseView::decode(body, version).map(|view| view.to_owned())
        });
        let mut answer = answer.await.ok()?;
        answer.responses.pop()?.partition_responses.pop()
    }

    /// Produces batches one behind the other without waiting for answers in between; the answers that came, of the first ones.
    pub async fn produce_all(
        &mut self,
        leader: i32,
        version: i16,
        (topic, partition): (&str, i32),
        batches: Vec<Bytes>,
    ) -> Vec<PartitionProduceResponse> {
        let taken = self.connections.remove(&leader);
        let (place, mut answers) = (self.place.clone(), Vec::new());
        let asking = async {
            let mut connection = match taken {
                Some(connection) => connection,
                None => Connection::to(&place, leader).await?,
            };
            let mut numbers = Vec::new();
            for batch in batches {
                let request = produce_request(None, (topic, partition), batch);
                numbers.push(connection.send(version, &request).await?);
            }
            for number in numbers {
                let body = connection
                    .receive::<ProduceRequest>(version, number)
                    .await?;
                let mut answer = ProduceResponseView::decode(&body, version)
                    .map(|view| view.to_owned())
                    .map_err(io::Error::other)?;
                let of_topic = answer.responses.pop();
                answers.extend(of_topic.and_then(|mut topic| topic.partition_responses.pop()));
            }
            Ok::<_, io::Error>(connection)
        };
        if let Ok(Ok(connection)) = tokio::time::timeout(PATIENCE, asking).await {
            self.connections.insert(leader, connection);
        }
        tracing::trace!(client = self.host, broker = leader, ?answers, "produced");
        answers
    }

    /// Who leads a partition, asking when it is not known.
    pub async fn leader(&mut self, topic: &str, partition: i32) -> Option<i32> {
        let key = (topic.to_owned(), partition);
        if let Some(leader) = self.leaders.get(&key) {
            return Some(*leader);
        }
        let broker = self.any_broker();
        let metadata = self.metadata(broker, Some(topic)).await.ok()?;
        for topic in &metadata.topics {
            let Some(name) = &topic.name else { continue };
            for partition in topic.partitions.iter().filter(|it| it.leader_id >= 0) {
                let key = (name.clone(), partition.partition_index);
                self.leaders.insert(key, partition.leader_id);
            }
        }
        self.leaders.get(&key).copied()
    }

    /// What was known of a partition's leader is not so.
    pub fn forget_leader(&mut self, topic: &str, partition: i32) {
        self.leaders.remove(&(topic.to_owned(), partition));
    }

    /// Who coordinates a group or a transactional producer, as some broker says.
    pub async fn coordinator(&mut self, key: &str, of: CoordinatorOf) -> Option<i32> {
        let request = FindCoordinatorRequest {
            coordinator_keys: vec![key.to_owned()],
            key_type: of as i8,
            ..FindCoordinatorRequest::default()
        };
        let broker = self.any_broker();
        let answer = self.ask(broker, 4, &request, |body| {
            FindCoordinatorResponseView::decode(body, 4).map(|view| view.to_owned())
        });
        let found = answer.await.ok()?.coordinators.pop()?;
        (found.error_code == 0).then_some(found.node_id)
    }

    /// A broker's view of a topic, or of all.
    pub async fn metadata(
        &mut self,
        broker: i32,
        topic: Option<&str>,
    ) -> Result<MetadataResponse, Unanswered> {
        let named = |name: &str| {
            vec![MetadataRequestTopic {
                name: Some(name.to_owned()),
                ..MetadataRequestTopic::default()
            }]
        };
        let request = MetadataRequest {
            topics: topic.map(named),
            ..MetadataRequest::default()
        };
        self.ask(broker, 12, &request, |body| {
            MetadataResponseView::decode(body, 12).map(|view| view.to_owned())
        })
        .await
    }
}

fn produce_request(
    transactional_id: Option<&str>,
    (topic, partition): (&str, i32),
    batch: Bytes,
) -> ProduceRequest {
    ProduceRequest {
        transactional_id: transactional_id.map(str::to_owned),
        acks: -1,
        timeout_ms: 3_000,
        topic_data: vec![TopicProduceData {
            name: topic.to_owned(),
            partition_data: vec![PartitionProduceData {
                index: partition,
                records: Some(Records::from(batch)),
            }],
            ..TopicProduceData::default()
        }],
    }
}

impl Connection {
    async fn to(place: &HostNet, broker: i32) -> io::Result<Self> {
        let host = HostId::try_from(broker).map_err(io::Error::other)?;
        let socket = place
            .connect(&format!("{}:{KAFKA_PORT}", host_name(host)))
            .await?;
        Ok(Self { socket, asked: 0 })
    }

    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> io::Result<Bytes> {
        let number = self.send(version, request).await?;
        self.receive::<R>(version, number).await
    }

    /// Asks without waiting for the answer; its number.
    async fn send<R: Request>(&mut self, version: i16, request: &R) -> io::Result<i32> {
        self.asked += 1;
        let frame = encode_request(version, self.asked, Some("sim"), request);
        let frame = frame.map_err(io::Error::other)?;
        let bytes = frame
            .try_into_bytes()
            .map_err(|_| io::Error::other("a file in a request"))?;
        self.socket.write_all(&bytes).await?;
        Ok(self.asked)
    }

    /// The answer that comes next, which is this one.
    async fn receive<R: Request>(&mut self, version: i16, asked: i32) -> io::Result<Bytes> {
        let length = self.socket.read_u32().await?;
        let mut answer = vec![0; length as usize];
        self.socket.read_exact(&mut answer).await?;
        let number = answer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes));
        if number != Some(asked) {
            return Err(io::Error::other("an answer to something else"));
        }
        // A flexible header ends with its tagged fields, of which there are none.
        let header = 4 + usize::from(R::KEY.response_header_version(version) > 0);
        Ok(Bytes::from(answer).slice(header..))
    }
}
