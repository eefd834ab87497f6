//! One look at all groups of this broker: who is in them, where they stand, and where what they read ends.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, stream};
use tokio::time::timeout;
use weir_groups::request::{GroupState, GroupType, Listing};
use weir_groups::share::state::{NO_START, StateKey};
use weir_proto::groups::v1 as proto;
use weir_quorum::image::Image;
use weir_wire::PartitionIndex;

use super::known::{Group, Look, Place};
use crate::Broker;
use crate::groups::Standings;

/// Groups, and states of share-partitions, that are asked for at the same time: few against what waits at a coordinator anyway,
/// so that clients are not refused for it.
const CONCURRENCY: usize = 64;
/// How long a coordinator is waited for, which answers at once unless something of it is not durable: it is asked again with the
/// next look, and holds up nothing of the others meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a group stands in a partition, before it is known where that ends.
struct Committed {
    group: String,
    topic: String,
    partition: i32,
    start: Start,
}

/// From where on a group has yet to read.
#[derive(Clone, Copy)]
enum Start {
    /// From an offset on; of the records behind it so many are done with.
    Offset { offset: i64, done: i64 },
    /// That could not be learnt.
    Unknown,
}

impl Committed {
    /// What its leader is asked.
    fn place(&self) -> Option<proto::Committed> {
        match self.start {
            Start::Unknown => None,
            Start::Offset { offset, .. } => Some(proto::Committed {
                topic: self.topic.clone(),
                partition: self.partition,
                offset,
            }),
        }
    }

    /// Where it stands, by what the leaders have answered.
    fn stands(&self, standings: &Standings, now_ms: i64) -> Option<Place> {
        let Start::Offset { offset, done } = self.start else {
            return None;
        };
        let standing = standings.get(&(self.topic.clone(), self.partition, offset))?;
        let records = (standing.lag - done).max(0);
        Some(Place {
            records,
            oldest_ms: (records > 0).then_some(now_ms - standing.lag_ms),
        })
    }

    /// Offsets outlive their topics: there is nothing to lag behind any more.
    fn is_there(&self, image: &Image) -> bool {
        image.partition(&self.topic, self.partition).is_some()
    }
}

/// Looks.
pub(super) async fn look(broker: &Broker) -> Look {
    let mut look = Look::default();
    let mut listed = Vec::new();
    let shards = broker.groups.list_each().into_iter();
    let lists = shards.map(|(shard, list)| async move { (shard, timeout(PATIENCE, list).await) });
    for (shard, groups) in join_all(lists).await {
        match groups {
            Ok(Ok(groups)) => listed.extend(groups),
            Ok(Err(_)) | Err(_) => drop(look.silent.insert(shard)),
        }
    }
    let described = at_once(listed.into_iter().map(|listed| describe(broker, listed)));
    let (mut committed, mut states) = (Vec::new(), Vec::new());
    for (id, described) in described.await {
        let Described { group, share } = match described {
            Ok(described) => described,
            Err(Missing::Deleted) => continue,
            Err(Missing::NotSaid) => {
                look.groups.insert(id, None);
                continue;
            }
        };
        committed.extend(group.committed.into_iter().map(|place| Committed {
            group: id.clone(),
            topic: place.topic,
            partition: place.partition,
            start: Start::Offset {
                offset: place.offset,
                done: 0,
            },
        }));
        states.extend(share);
        let found = Group {
            members: group.members.len(),
            topics: BTreeMap::new(),
        };
        look.groups.insert(id, Some(found));
    }
    let starts = states
        .into_iter()
        .map(|(topic, key)| start_of(broker, topic, key));
    let starts = at_once(starts);
    committed.extend(starts.await.into_iter().flatten());
    let image = broker.metadata.image();
    committed.retain(|place| place.is_there(&image));
    let places = committed.iter().filter_map(Committed::place);
    let standings = broker.groups.standings_of(places).await;
    let now_ms = broker.host.clock.now_ms();
    for committed in committed {
        let place = committed.stands(&standings, now_ms);
        if let Some(Some(group)) = look.groups.get_mut(&committed.group) {
            let partitions = group.topics.entry(committed.topic).or_default();
            partitions.insert(committed.partition, place);
        }
    }
    look
}

async fn at_once<F: Future>(asked: impl Iterator<Item = F>) -> Vec<F::Output> {
    let asked = stream::iter(asked).buffer_unordered(CONCURRENCY);
    asked.collect().await
}

/// A group, and of a share group the partitions that it has a state of, each with its topic's name.
struct Described {
    group: proto::Group,
    share: Vec<(String, StateKey)>,
}

/// Why a group that was listed is not described.
enum Missing {
    Deleted,
    NotSaid,
}

async fn describe(broker: &Broker, listed: Listing) -> (String, Result<Described, Missing>) {
    let id = listed.group.to_string();
    let described = timeout(PATIENCE, describe_group(broker, listed)).await;
    (id, described.unwrap_or(Err(Missing::NotSaid)))
}

async fn describe_group(broker: &Broker, listed: Listing) -> Result<Described, Missing> {
    let group = broker.groups.own_group(listed.group.clone()).await;
    if group.error_code.is_some() {
        return Err(Missing::NotSaid);
    }
    if group.state == GroupState::Dead.name() {
        return Err(Missing::Deleted);
    }
    let mut share = Vec::new();
    if listed.kind == GroupType::Share {
        let described = broker.groups.describe_share(listed.group.clone()).await;
        let described = described.map_err(|_| Missing::NotSaid)?;
        for topic in described.states {
            share.extend(topic.partitions.into_iter().map(|partition| {
                let key = StateKey {
                    group: listed.group.clone(),
                    topic: topic.id,
                    partition: PartitionIndex(partition),
                };
                (topic.name.to_string(), key)
            }));
        }
    }
    Ok(Described { group, share })
}

/// Where a share group stands in a partition, as the coordinator of the state has it; `None` where it has never read.
async fn start_of(broker: &Broker, topic: String, key: StateKey) -> Option<Committed> {
    let committed = Committed {
        group: key.group.to_string(),
        topic,
        partition: key.partition.0,
        start: Start::Unknown,
    };
    let asked = broker.share.persister().summary(key);
    let Ok(Ok(summary)) = timeout(PATIENCE, asked).await else {
        return Some(committed);
    };
    let summary = summary.filter(|summary| summary.start != NO_START)?;
    // Another's count may be missing; without it the lag would be too great.
    let start = match i64::from(summary.complete_count) {
        ..0 => Start::Unknown,
        done => Start::Offset {
            offset: summary.start.0,
            done,
        },
    };
    Some(Committed { start, ..committed })
}
