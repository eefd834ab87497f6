//! Whether this broker leads a partition, and what a client is told when it does not.

use std::sync::Arc;

use weir_quorum::image::{Image, Topic};
use weir_wire::LeaderEpoch;

use crate::Broker;
use crate::error::{ApiError, ErrorCode};
use crate::partitions::{Partition, PartitionError, Standing, key_of};

/// A partition that this broker leads.
#[derive(Clone, Debug)]
pub struct Led {
    /// The partition.
    pub partition: Arc<Partition>,
    /// The epoch of this broker's leadership.
    pub epoch: LeaderEpoch,
    /// How many replicas are in sync.
    pub in_sync: usize,
}

/// A partition that may be read here: led here, or a replica that is in sync (KIP-392).
#[derive(Clone, Debug)]
pub(crate) struct Readable {
    pub(crate) partition: Arc<Partition>,
    /// Whether it is led here.
    pub(crate) is_led: bool,
    /// Who else leads to the same, nearer to the client.
    pub(crate) nearer: Option<i32>,
}

/// Why a request cannot be served for a partition, and who leads it as far as is known (KIP-951).
#[derive(Clone, Debug)]
pub struct NotLed {
    /// What the client is told.
    pub error: ApiError,
    /// The leader and its epoch, when it is another broker.
    pub leader: Option<(i32, i32)>,
}

impl NotLed {
    /// As a fetch says it. Kafka's Java consumers look up the leader and come again on NOT_LEADER_OR_FOLLOWER, and end with an exception
    /// on LEADER_NOT_AVAILABLE, which no fetch of Kafka's says.
    #[must_use]
    pub fn of_fetch(mut self) -> Self {
        if self.error.code == ErrorCode::LeaderNotAvailable {
            self.error.code = ErrorCode::NotLeaderOrFollower;
        }
        self
    }
}

impl From<ApiError> for NotLed {
    fn from(error: ApiError) -> Self {
        Self {
            error,
            leader: None,
        }
    }
}

impl From<ErrorCode> for NotLed {
    fn from(code: ErrorCode) -> Self {
        ApiError::from(code).into()
    }
}

/// The topic of a request: by id where the request has one, by name otherwise.
pub(crate) fn topic<'i>(
    image: &'i Image,
    name: &str,
    id: uuid::Uuid,
) -> Result<&'i Arc<Topic>, ErrorCode> {
    if id.is_nil() {
        image.topic(name).ok_or(ErrorCode::UnknownTopicOrPartition)
    } else {
        image
            .topic_by_id(weir_quorum::TopicId(id))
            .ok_or(ErrorCode::UnknownTopicId)
    }
}

/// The partition, if this broker leads it and the client's idea of the leader's epoch (-1: none) is neither old nor ahead.
pub(crate) fn led(
    broker: &Broker,
    topic: &Topic,
    index: i32,
    client_epoch: i32,
) -> Result<Led, NotLed> {
    led_as(broker, topic, index, known(topic, index, client_epoch)?)
}

/// The partition, if this broker leads it as the metadata says.
fn led_as(
    broker: &Broker,
    topic: &Topic,
    index: i32,
    metadata: &weir_quorum::image::Partition,
) -> Result<Led, NotLed> {
    let epoch = LeaderEpoch(metadata.leader_epoch.0);
    if metadata.leader != Some(broker.metadata.broker_id()) {
        return Err(elsewhere(metadata));
    }
    let partition = here(broker, topic, index)?;
    match partition.replica().standing(epoch) {
        Standing::Leads => {}
        // Either way clients ask again.
        Standing::Soon => return Err(ApiError::from(PartitionError::NotYet).into()),
        Standing::Other => return Err(ErrorCode::NotLeaderOrFollower.into()),
    }
    Ok(Led {
        partition,
        epoch,
        in_sync: metadata.isr.len(),
    })
}

/// The partition, if it may be read here. A client that says where it stands (`rack`) is told of a replica there, if he reaches it by his
/// listener.
pub(crate) fn readable(
    broker: &Broker,
    image: &Image,
    topic: &Topic,
    index: i32,
    client_epoch: i32,
    (rack, listener): (&str, &str),
) -> Result<Readable, NotLed> {
    let me = broker.metadata.broker_id();
    let metadata = known(topic, index, client_epoch)?;
    if metadata.leader == Some(me) {
        return Ok(Readable {
            partition: led_as(broker, topic, index, metadata)?.partition,
            is_led: true,
            nearer: nearer(image, metadata, rack, listener),
        });
    }
    // Who does not say where it stands was not sent here.
    if rack.is_empty() || metadata.leader.is_none() || !metadata.isr.contains(&me) {
        return Err(elsewhere(metadata));
    }
    Ok(Readable {
        partition: here(broker, topic, index)?,
        is_led: false,
        nearer: None,
    })
}

/// A live replica in sync that stands in that rack, if the leader does not.
fn nearer(
    image: &Image,
    metadata: &weir_quorum::image::Partition,
    rack: &str,
    listener: &str,
) -> Option<i32> {
    let leader = image.broker(metadata.leader?)?;
    if rack.is_empty() || leader.rack.as_deref() == Some(rack) {
        return None;
    }
    let stands_there = |id: &weir_quorum::BrokerId| {
        image.broker(*id).is_some_and(|broker| {
            !broker.fenced
                && broker.rack.as_deref() == Some(rack)
                && image.address(broker, listener).is_some()
        })
    };
    let found = metadata.isr.iter().find(|id| stands_there(id));
    found.map(|id| id.0)
}

/// What the metadata has of a partition, if the client's idea of the leader's epoch (-1: none) is neither old nor ahead.
fn known(
    topic: &Topic,
    index: i32,
    client_epoch: i32,
) -> Result<&weir_quorum::image::Partition, NotLed> {
    let metadata = topic
        .partition(index)
        .ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let epoch = metadata.leader_epoch.0;
    if client_epoch >= 0 && client_epoch < epoch {
        return Err(NotLed {
            error: ErrorCode::FencedLeaderEpoch.into(),
            leader: metadata.leader.map(|leader| (leader.0, epoch)),
        });
    }
    if client_epoch > epoch {
        return Err(ErrorCode::UnknownLeaderEpoch.into());
    }
    Ok(metadata)
}

fn elsewhere(metadata: &weir_quorum::image::Partition) -> NotLed {
    NotLed {
        error: ErrorCode::NotLeaderOrFollower.into(),
        leader: metadata
            .leader
            .map(|leader| (leader.0, metadata.leader_epoch.0)),
    }
}

fn here(broker: &Broker, topic: &Topic, index: i32) -> Result<Arc<Partition>, ApiError> {
    broker
        .partitions
        .get(key_of(topic, index))
        .map_err(|error| match error {
            // The metadata has it here, and the log is on its way: clients ask again.
            PartitionError::NotHere => PartitionError::NotYet.into(),
            other => ApiError::from(other),
        })
}

/// A broker's address as clients are told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    pub(super) id: i32,
    pub(super) host: String,
    pub(super) port: i32,
    pub(super) rack: Option<String>,
}

/// Where clients of a listener reach the brokers of these ids; each once, those that are not alive, or not there, left out.
pub(super) fn endpoints(
    image: &Image,
    listener: &str,
    ids: impl Iterator<Item = i32>,
) -> Vec<Endpoint> {
    let mut ids: Vec<i32> = ids.collect();
    ids.sort_unstable();
    ids.dedup();
    let alive = ids.into_iter().filter_map(|id| {
        image
            .broker(weir_quorum::BrokerId(id))
            .filter(|broker| !broker.fenced)
    });
    alive
        .filter_map(|broker| endpoint(image, listener, broker))
        .collect()
}

/// A broker's address as clients of a listener are told it; `None` when it cannot be reached by that one. Who came by one listener is never
/// told of an address of another, which may not be reachable from where he is.
pub(super) fn endpoint(
    image: &Image,
    listener: &str,
    broker: &weir_quorum::image::Broker,
) -> Option<Endpoint> {
    let address = image.address(broker, listener)?;
    Some(Endpoint {
        id: broker.id.0,
        host: address.host,
        port: i32::from(address.port),
        rack: broker.rack.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_fetch_says_that_no_leader_is_available() {
        let not_yet = NotLed::from(ApiError::from(PartitionError::NotYet));
        assert_eq!(
            not_yet.of_fetch().error.code,
            ErrorCode::NotLeaderOrFollower
        );
        let full = NotLed::from(ErrorCode::KafkaStorageError).of_fetch();
        assert_eq!(full.error.code, ErrorCode::KafkaStorageError);
    }
}
