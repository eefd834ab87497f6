//! Where partitions begin and end, asked of whoever leads them.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::join_all;
use weir_proto::groups::v1 as proto;
use weir_quorum::BrokerId;

use super::Groups;
use crate::partitions::{Isolation, Partition, key_of};

impl Groups {
    /// For each partition, in order, as far as this broker leads it and can read it now: what is not known is not guessed.
    pub(super) async fn places(&self, wanted: proto::PlacesRequest) -> Vec<proto::PlaceResult> {
        let proto::PlacesRequest {
            partitions,
            timestamp_ms,
        } = wanted;
        let led: Vec<_> = partitions
            .iter()
            .map(|wanted| self.leads(&wanted.topic, wanted.partition))
            .collect();
        // A time is looked up in the log itself, which may wait for the disk.
        let found = self.shared.host.blocking(move || {
            let places = led.into_iter().map(|partition| {
                let place = partition.and_then(|partition| place(&partition, timestamp_ms));
                proto::PlaceResult { place }
            });
            places.collect()
        });
        found.await
    }

    /// By topic and partition; those that could not be learnt are left out.
    pub(super) async fn places_of(
        &self,
        partitions: Vec<(String, i32)>,
        timestamp_ms: Option<i64>,
    ) -> BTreeMap<(String, i32), proto::Place> {
        let image = self.shared.metadata.image();
        let me = self.shared.metadata.broker_id();
        let mut by_leader: BTreeMap<BrokerId, Vec<proto::Partition>> = BTreeMap::new();
        for (topic, partition) in partitions {
            let found = image.partition(&topic, partition);
            if let Some(leader) = found.and_then(|found| found.leader) {
                let led = by_leader.entry(leader).or_default();
                led.push(proto::Partition { topic, partition });
            }
        }
        let asked = by_leader.into_iter().map(|(leader, led)| async move {
            let wanted = proto::PlacesRequest {
                partitions: led.clone(),
                timestamp_ms,
            };
            let results = match leader == me {
                true => self.places(wanted).await,
                false => self.ask_places(leader, wanted).await.unwrap_or_default(),
            };
            led.into_iter().zip(results)
        });
        let found = join_all(asked).await.into_iter().flatten();
        found
            .filter_map(|(led, result)| Some(((led.topic, led.partition), result.place?)))
            .collect()
    }

    /// The partition, if this broker leads it.
    pub(super) fn leads(&self, topic: &str, partition: i32) -> Option<Arc<Partition>> {
        let image = self.shared.metadata.image();
        let topic = image.topic(topic)?;
        let leader = topic.partition(partition)?.leader;
        let here = self.shared.partitions.get(key_of(topic, partition)).ok()?;
        (leader == Some(self.shared.metadata.broker_id())).then_some(here)
    }
}

fn place(partition: &Partition, timestamp_ms: Option<i64>) -> Option<proto::Place> {
    if !partition.is_established() {
        // The watermark of a new leader may be lower than what an earlier one has told (KIP-207).
        return None;
    }
    let reader = partition.reader();
    let (start, end) = (reader.log_start(), partition.high_watermark());
    let offset_at_time = match timestamp_ms {
        None => None,
        Some(at) => {
            let up_to = partition.readable(Isolation::ReadUncommitted);
            let found = reader.offset_for_timestamp(at, up_to).ok()?;
            Some(found.map_or(end, |found| found.offset).0)
        }
    };
    Some(proto::Place {
        start_offset: start.0,
        end_offset: end.0,
        offset_at_time,
    })
}
