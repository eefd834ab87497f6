//! Reaching what other brokers lead, in the name of clients that came to this one.
//!
//! A gateway asks as Kafka's clients ask: by Kafka's requests, over a [`Link`] to the broker that can answer. What is led here is
//! asked in this process, by the same handlers; others are asked over the port for brokers ([`GatewayService`]). So whatever a client of
//! a gateway does, it does as a Kafka client would: bounds, delays, filters and leases are the handlers', and nothing of them is here.
//! What always holds: requests of one link reach their handlers in the order in which they were asked, and what belongs to a link
//! (share sessions, and what they have out) ends with it.
//!
//! [`Gateway`] is what the gRPC service for clients ([`crate::grpc::QueueService`]) stands on.

mod append;
mod committed;
mod link;
mod offsets;
mod serve;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use weir_quorum::BrokerId;
use weir_quorum::image::{Image, Partition, Topic};

pub(crate) use append::Place;
pub(crate) use committed::committed;
pub(crate) use link::{AskError, Link, protocol};
pub(crate) use offsets::At;
pub use serve::GatewayService;

use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::quorum::net::Channels;
use append::Producers;

/// Before something that passes by itself is tried again, unless the metadata change earlier.
const PAUSE: Duration = Duration::from_millis(50);

/// How long a topic that is not known here may take to become known: one that was made a moment ago, at another broker, is known within
/// milliseconds.
const LAG_PATIENCE: Duration = Duration::from_millis(500);

/// The way to all brokers. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Gateway {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: Arc<Broker>,
    channels: Channels,
    /// One to each broker, for what belongs to no link of its own.
    links: Mutex<BTreeMap<BrokerId, Arc<Link>>>,
    producers: Producers,
}

impl Gateway {
    pub(crate) fn new(broker: Arc<Broker>) -> Self {
        let channels = Channels::new(broker.host.dialer.clone());
        Self {
            shared: Arc::new(Shared {
                broker,
                channels,
                links: Mutex::default(),
                producers: Producers::default(),
            }),
        }
    }

    pub(crate) fn broker(&self) -> &Arc<Broker> {
        &self.shared.broker
    }

    pub(crate) fn image(&self) -> Arc<Image> {
        self.broker().metadata.image()
    }

    /// A link of its own, for what a client at this address does. It connects when it is first used.
    ///
    /// # Errors
    /// [`AskError::Lost`] when there is no such broker.
    pub(crate) fn open(&self, to: BrokerId, client: SocketAddr) -> Result<Link, AskError> {
        if to == self.broker().metadata.broker_id() {
            return Ok(Link::here(Arc::clone(self.broker()), client));
        }
        let image = self.image();
        let there = image
            .broker(to)
            .ok_or_else(|| AskError::Lost(format!("there is no broker {to}")))?;
        let channel = self.shared.channels.to_broker(to, &there.quorum_address);
        let channel = channel.map_err(|error| AskError::Lost(error.to_string()))?;
        Ok(Link::there(channel, client))
    }

    /// The link to a broker that all calls share that need none of their own.
    pub(crate) fn link(&self, to: BrokerId) -> Result<Arc<Link>, AskError> {
        let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut links = self
            .shared
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(link) = links.get(&to).filter(|link| !link.is_lost()) {
            return Ok(Arc::clone(link));
        }
        let link = Arc::new(self.open(to, nobody)?);
        links.insert(to, Arc::clone(&link));
        Ok(link)
    }

    /// Gives topics that are not known here, and may be elsewhere, a moment to become known.
    pub(crate) async fn look_for<'n>(&self, topics: impl Iterator<Item = &'n str>) {
        let image = self.image();
        let missing: BTreeSet<_> = topics
            .filter(|name| image.topic(name).is_none())
            .map(str::to_owned)
            .collect();
        if !missing.is_empty() {
            let are_known =
                |image: &Arc<Image>| missing.iter().all(|name| image.topic(name).is_some());
            let metadata = &self.broker().metadata;
            metadata.wait_for(LAG_PATIENCE, are_known).await;
        }
    }

    /// Waits until the metadata change, or for a moment.
    pub(crate) async fn pause(&self) {
        let mut images = self.broker().metadata.watch();
        images.mark_unchanged();
        let _ = tokio::time::timeout(PAUSE, images.changed()).await;
    }

    /// Waits until another broker leads, or this one again.
    pub(crate) async fn moved(
        &self,
        topic: weir_quorum::TopicId,
        index: i32,
        led: (BrokerId, i32),
    ) {
        let has_moved = |image: &Arc<Image>| {
            let topic = image.topic_by_id(topic);
            let partition = topic.and_then(|topic| topic.partition(index));
            partition.and_then(|partition| leader(image, partition)) != Some(led)
        };
        let mut images = self.broker().metadata.watch();
        if images.wait_for(has_moved).await.is_err() {
            // The broker stops; whoever asks is told that by the answer.
            std::future::pending::<()>().await;
        }
    }
}

/// The broker that leads a partition, if it is alive, and in which epoch.
pub(crate) fn leader(image: &Image, partition: &Partition) -> Option<(BrokerId, i32)> {
    let leader = partition.leader?;
    let is_alive = image.broker(leader).is_some_and(|broker| !broker.fenced);
    is_alive.then_some((leader, partition.leader_epoch.0))
}

/// The topic, if clients may have to do with it.
pub(crate) fn topic<'i>(image: &'i Image, name: &str) -> Result<&'i Arc<Topic>, ApiError> {
    match image.topic(name) {
        Some(topic) if topic.is_internal() => Err(ApiError::new(
            ErrorCode::InvalidTopicException,
            format!("topic {name} is the brokers' own"),
        )),
        Some(topic) => Ok(topic),
        None => Err(ApiError::new(
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no topic {name}"),
        )),
    }
}

/// Whether what a request was refused with passes by itself, perhaps at another broker.
pub(crate) fn passes(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::BrokerNotAvailable
            | ErrorCode::CoordinatorLoadInProgress
            | ErrorCode::CoordinatorNotAvailable
            | ErrorCode::FencedLeaderEpoch
            | ErrorCode::KafkaStorageError
            | ErrorCode::LeaderNotAvailable
            | ErrorCode::NetworkException
            | ErrorCode::NotCoordinator
            | ErrorCode::NotEnoughReplicas
            | ErrorCode::NotEnoughReplicasAfterAppend
            | ErrorCode::NotLeaderOrFollower
            | ErrorCode::OffsetNotAvailable
            | ErrorCode::ReplicaNotAvailable
            | ErrorCode::RequestTimedOut
            | ErrorCode::UnknownLeaderEpoch
            | ErrorCode::UnknownTopicId
            | ErrorCode::UnknownTopicOrPartition
    )
}

/// The error of a response.
pub(crate) fn refused(code: i16, message: Option<&str>) -> Result<(), ApiError> {
    match ErrorCode::from_code(code) {
        Some(ErrorCode::None) => Ok(()),
        code => Err(ApiError::new(
            code.unwrap_or(ErrorCode::UnknownServerError),
            message.unwrap_or_default(),
        )),
    }
}
