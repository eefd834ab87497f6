//! The way of markers to partitions.
//!
//! A decided transaction is finished by writing a marker to each of its partitions, by whoever leads it: here, or on another
//! broker, which is asked over gRPC. Leaders change meanwhile and brokers are away, so what has failed is tried again, as
//! soon as the metadata has changed or some time has passed. Partitions whose topics are gone need none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{BoxFuture, FutureExt, join_all};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use weir_groups::transactions::{Markers, Request, Transactions, Version};
use weir_groups::{GroupError, Marker, OFFSETS_TOPIC, Outcome};
use weir_log::Clock;
use weir_log::mutants::Mutant;
use weir_quorum::BrokerId;
use weir_quorum::image::Image;
use weir_wire::batch::EndTransactionMarker;
use weir_wire::{ErrorCode, LeaderEpoch, PartitionIndex};

use crate::error::ApiError;
use crate::groups::Groups;
use crate::partitions::{self, Partition, PartitionError, Partitions};
use crate::quorum::Metadata;
use crate::quorum::net::Channels;
use crate::shards::{Call, Inbox};

/// Before the first attempt to write again what has failed: a leader that has just changed is known within this.
const RETRY_MIN: Duration = Duration::from_millis(10);
/// Before later attempts: readers of what is committed wait for it.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// A partition, by the name of its topic.
pub(super) type Place = (String, PartitionIndex);

/// Writes markers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MarkerWriter {
    pub(super) metadata: Metadata,
    partitions: Arc<Partitions>,
    groups: Groups,
    clock: Arc<dyn Clock>,
    pub(super) channels: Arc<Channels>,
}

impl MarkerWriter {
    pub(super) fn new(
        metadata: Metadata,
        partitions: Arc<Partitions>,
        groups: Groups,
        clock: Arc<dyn Clock>,
        channels: Arc<Channels>,
    ) -> Self {
        Self {
            metadata,
            partitions,
            groups,
            clock,
            channels,
        }
    }

    /// Writes the markers of a transaction, however often it takes, then tells its coordinator. Stops when that has ended.
    pub(super) async fn finish(
        self,
        markers: Markers,
        inbox: Inbox<Transactions>,
        ended: CancellationToken,
    ) {
        let written = tokio::select! {
            () = ended.cancelled() => return,
            () = self.write_all(&markers) => Request::MarkersWritten {
                id: markers.id.clone(),
                producer: markers.marker.producer,
            },
        };
        // Nobody waits for the answer.
        let (answer, _) = oneshot::channel();
        inbox
            .send(Call {
                request: written,
                answer,
            })
            .await;
    }

    async fn write_all(&self, markers: &Markers) {
        let all = markers.partitions.iter();
        let mut left: Vec<Place> = all
            .map(|(topic, partition)| (topic.to_owned(), partition))
            .collect();
        let mut images = self.metadata.watch();
        let mut wait = RETRY_MIN;
        loop {
            let image = Arc::clone(&images.borrow_and_update());
            left.retain(|place| exists(&image, place));
            left = self.attempt(&image, markers, left).await;
            if left.is_empty() || Mutant::MarkOnce.is_active() {
                return;
            }
            tracing::debug!(id = %markers.id, ?left, "markers are yet to be written");
            tokio::select! {
                () = tokio::time::sleep(wait) => wait = (wait * 2).min(RETRY_MAX),
                changed = images.changed() => if changed.is_err() {
                    // The quorum's node has stopped, and with it soon this process.
                    tokio::time::sleep(RETRY_MAX).await;
                },
            }
        }
    }

    /// Asks each leader once. Gives back where the marker could not be written.
    async fn attempt(&self, image: &Image, markers: &Markers, places: Vec<Place>) -> Vec<Place> {
        let mut by_leader: BTreeMap<Option<BrokerId>, Vec<Place>> = BTreeMap::new();
        for place in places {
            by_leader
                .entry(leader_of(image, &place))
                .or_default()
                .push(place);
        }
        let asked = by_leader.into_iter().map(async |(leader, places)| {
            let codes = match leader {
                None => Vec::new(),
                Some(leader) if leader == self.metadata.broker_id() => {
                    self.write_here(markers.marker, markers.version, &places)
                        .await
                }
                Some(leader) => {
                    let asked = self.ask_leader(leader, markers, &places).await;
                    asked.unwrap_or_else(|error| {
                        tracing::warn!(id = %markers.id, %error, "markers will be written later");
                        Vec::new()
                    })
                }
            };
            let mut codes = codes.into_iter();
            let failed = places
                .into_iter()
                .filter(|_| !codes.next().is_some_and(is_done));
            failed.collect::<Vec<_>>()
        });
        join_all(asked).await.concat()
    }

    /// Writes a marker to partitions that this broker leads: for each, Kafka's code.
    pub async fn write_here(
        &self,
        marker: Marker,
        version: Version,
        places: &[Place],
    ) -> Vec<ErrorCode> {
        let image = self.metadata.image();
        let begun = places
            .iter()
            .map(|place| self.begin(&image, marker, version, place));
        // All are under way before the first is waited for.
        let begun: Vec<_> = begun.collect();
        join_all(begun).await
    }

    fn begin(
        &self,
        image: &Image,
        marker: Marker,
        version: Version,
        place: &Place,
    ) -> BoxFuture<'static, ErrorCode> {
        let (done, outcome) = oneshot::channel();
        if place.0 == OFFSETS_TOPIC {
            let ended = self.groups.end_transaction(place.1, marker, version);
            return async move {
                match ended.await {
                    Ok(()) => ErrorCode::None,
                    Err(GroupError::NotCoordinator) => ErrorCode::NotLeaderOrFollower,
                    Err(error) => error.code(),
                }
            }
            .boxed();
        }
        match self.led_here(image, place) {
            Err(code) => {
                let _ = done.send(Err(ApiError::from(code)));
            }
            Ok((partition, epoch)) => {
                let marker = partitions::Marker {
                    producer_id: marker.producer.id,
                    producer_epoch: marker.producer.epoch,
                    end: EndTransactionMarker {
                        is_commit: marker.outcome == Outcome::Commit,
                        coordinator_epoch: marker.coordinator_epoch,
                    },
                    transaction_version: version.level(),
                };
                partition.append_marker(marker, epoch, self.clock.now_ms(), move |result| {
                    let _ = done.send(result.map(|_| ()).map_err(ApiError::from));
                });
            }
        }
        async move {
            match outcome.await {
                Ok(Ok(())) => ErrorCode::None,
                Ok(Err(error)) => error.code,
                // The partition went away meanwhile.
                Err(_) => ErrorCode::NotLeaderOrFollower,
            }
        }
        .boxed()
    }

    fn led_here(
        &self,
        image: &Image,
        (topic, index): &Place,
    ) -> Result<(Arc<Partition>, LeaderEpoch), ErrorCode> {
        let unknown = ErrorCode::UnknownTopicOrPartition;
        let topic = image.topic(topic).ok_or(unknown)?;
        let metadata = topic.partition(index.0).ok_or(unknown)?;
        if metadata.leader != Some(self.metadata.broker_id()) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let key = partitions::key_of(topic, index.0);
        let partition = self.partitions.get(key).map_err(|error| match error {
            PartitionError::Failed(_) => ErrorCode::KafkaStorageError,
            // The log is on its way.
            PartitionError::NotYet | PartitionError::NotHere => ErrorCode::NotLeaderOrFollower,
        })?;
        Ok((partition, LeaderEpoch(metadata.leader_epoch.0)))
    }
}

/// Whether a partition needs no marker any more.
fn is_done(code: ErrorCode) -> bool {
    match code {
        ErrorCode::None => true,
        // It has seen a later epoch of this producer, so what was open under this one has been ended.
        ErrorCode::InvalidProducerEpoch | ErrorCode::ProducerFenced => true,
        _ => false,
    }
}

fn exists(image: &Image, (topic, index): &Place) -> bool {
    image
        .topic(topic)
        .is_some_and(|topic| topic.partition(index.0).is_some())
}

fn leader_of(image: &Image, (topic, index): &Place) -> Option<BrokerId> {
    image.topic(topic)?.partition(index.0)?.leader
}
