//! Where share groups stand, and setting that from outside: DescribeShareGroupOffsets and its like.
//!
//! The group's coordinator knows which partitions have a state, and whether anyone reads; the states' coordinators know the
//! states. What always holds: a group is asked, and answers that nobody reads, before a state of it is changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_groups::share::state::{InitializeState, NO_START, StateError, StateKey};
use weir_groups::{GroupError, GroupId, TopicPartition};
use weir_wire::{Offset, PartitionIndex, TopicId};

use super::{Share, state_key};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// Where a group stands in a partition.
#[derive(Debug)]
pub struct Standing {
    /// The topic.
    pub topic: String,
    /// Its id.
    pub topic_id: TopicId,
    /// The partition.
    pub partition: i32,
    /// Where, or why that is not known.
    pub place: Result<Place, ApiError>,
}

/// A group's place in a partition.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Every record before it is done with; -1 when the group has never read the partition.
    pub start: i64,
    /// Of the leader that said so last.
    pub leader_epoch: i32,
    /// Records that are not done with; -1 when that is not known here.
    pub lag: i64,
}

/// What came of setting the places of one topic's partitions.
#[derive(Debug)]
pub struct Altered {
    /// The topic.
    pub name: String,
    /// Its id.
    pub id: TopicId,
    /// Each partition.
    pub partitions: Vec<(i32, Result<(), ApiError>)>,
}

/// What came of forgetting one topic.
pub type Forgotten = (String, TopicId, Result<(), ApiError>);

impl Share {
    /// Where the group stands: in the partitions named, or in all that it has read.
    pub async fn standings(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
        topics: Option<Vec<(String, Vec<i32>)>>,
    ) -> Result<Vec<Standing>, ApiError> {
        let described = broker.groups.describe_share(group.clone()).await?;
        let image = self.shared.metadata.image();
        let wanted: Vec<_> = match topics {
            Some(topics) => {
                let topics = topics.into_iter().map(|(name, partitions)| {
                    let id = image
                        .topic(&name)
                        .map_or(TopicId::ZERO, |topic| TopicId(topic.id.0));
                    (name, id, partitions)
                });
                topics.collect()
            }
            None => {
                let topics = described.states.into_iter();
                topics
                    .map(|topic| (topic.name.to_string(), topic.id, topic.partitions))
                    .collect()
            }
        };
        let mut standings = Vec::new();
        for (topic, topic_id, partitions) in wanted {
            for partition in partitions {
                let key = state_key(group, (topic_id, PartitionIndex(partition)));
                standings.push(Standing {
                    topic: topic.clone(),
                    topic_id,
                    partition,
                    place: self.place(broker, key).await,
                });
            }
        }
        Ok(standings)
    }

    async fn place(&self, broker: &Arc<Broker>, key: StateKey) -> Result<Place, ApiError> {
        let at = (key.topic, key.partition);
        if self.is_missing(at) {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        }
        let summary = self.persister().summary(key).await?;
        let summary = summary.filter(|summary| summary.start != NO_START);
        let Some(summary) = summary else {
            return Ok(Place {
                start: NO_START.0,
                leader_epoch: 0,
                lag: -1,
            });
        };
        // Known where the partition is led; the tools ask the group's coordinator, which it may not be.
        let lag = self.led(broker, at).ok().and_then(|led| {
            let behind = led.partition.high_watermark().0 - summary.start.0;
            let complete = i64::from(summary.complete_count);
            (complete >= 0).then(|| (behind - complete).max(0))
        });
        Ok(Place {
            start: summary.start.0,
            leader_epoch: summary.leader_epoch.0,
            lag: lag.unwrap_or(-1),
        })
    }

    /// Sets where a group without members begins.
    pub async fn alter(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
        topics: Vec<(String, Vec<(i32, i64)>)>,
    ) -> Result<Vec<Altered>, ApiError> {
        let image = self.shared.metadata.image();
        let id_of = |name: &str| image.topic(name).map(|topic| TopicId(topic.id.0));
        let places = topics.iter().flat_map(|(name, partitions)| {
            let id = id_of(name);
            partitions.iter().filter_map(move |(partition, _)| {
                Some(TopicPartition {
                    topic: id?,
                    partition: PartitionIndex(*partition),
                })
            })
        });
        let places = places.filter(|at| !self.is_missing((at.topic, at.partition)));
        let add = places.collect();
        broker
            .groups
            .change_share_states(group.clone(), add, Vec::new())
            .await?;
        let mut altered = Vec::with_capacity(topics.len());
        for (name, partitions) in topics {
            let id = id_of(&name).unwrap_or(TopicId::ZERO);
            let mut outcomes = Vec::with_capacity(partitions.len());
            for (partition, start) in partitions {
                let key = state_key(group, (id, PartitionIndex(partition)));
                outcomes.push((partition, self.begin_at(key, start).await));
            }
            altered.push(Altered {
                name,
                id,
                partitions: outcomes,
            });
        }
        Ok(altered)
    }

    async fn begin_at(&self, key: StateKey, start: i64) -> Result<(), ApiError> {
        if self.is_missing((key.topic, key.partition)) {
            return Err(ErrorCode::UnknownTopicOrPartition.into());
        }
        if start < 0 {
            let why = format!("start offset {start}; it must be 0 or more");
            return Err(ApiError::new(ErrorCode::InvalidRequest, why));
        }
        // Whoever still knows the old state is fenced by the new epoch.
        let before = self.persister().summary(key.clone()).await?;
        let state_epoch = before
            .map_or(0, |before| before.state_epoch)
            .saturating_add(1);
        let begin = InitializeState {
            key: key.clone(),
            state_epoch,
            start: Offset(start),
        };
        self.persister().initialize(begin).await?;
        self.drop_leader(&key);
        Ok(())
    }

    /// Makes a group without members forget topics.
    pub async fn delete_offsets(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
        topics: Vec<String>,
    ) -> Result<Vec<Forgotten>, ApiError> {
        let described = broker.groups.describe_share(group.clone()).await?;
        let kept: BTreeMap<String, _> = described
            .states
            .into_iter()
            .map(|topic| (topic.name.to_string(), (topic.id, topic.partitions)))
            .collect();
        let ids = topics.iter().filter_map(|name| kept.get(name));
        let remove: Vec<_> = ids.map(|(id, _)| *id).collect();
        // First the states, so that none is left that nobody knows of.
        broker
            .groups
            .change_share_states(group.clone(), Vec::new(), Vec::new())
            .await?;
        let mut forgotten = Vec::with_capacity(topics.len());
        for name in topics {
            let Some((id, partitions)) = kept.get(&name) else {
                let error = ErrorCode::UnknownTopicOrPartition.into();
                forgotten.push((name, TopicId::ZERO, Err(error)));
                continue;
            };
            let outcome = self.drop_states(group, *id, partitions).await;
            forgotten.push((name, *id, outcome.map_err(ApiError::from)));
        }
        broker
            .groups
            .change_share_states(group.clone(), Vec::new(), remove)
            .await?;
        Ok(forgotten)
    }

    /// Drops the states of a group that is to be deleted; nothing for one that is not a share group.
    ///
    /// # Errors
    /// When it has members, or a state could not be dropped: the group must stay then, to be found again.
    pub async fn drop_group(
        &self,
        broker: &Arc<Broker>,
        group: &GroupId,
    ) -> Result<(), GroupError> {
        let Ok(described) = broker.groups.describe_share(group.clone()).await else {
            return Ok(());
        };
        if !described.members.is_empty() {
            return Err(GroupError::NonEmptyGroup);
        }
        for topic in described.states {
            let dropped = self.drop_states(group, topic.id, &topic.partitions).await;
            dropped.map_err(|_| GroupError::CoordinatorNotAvailable)?;
        }
        Ok(())
    }

    async fn drop_states(
        &self,
        group: &GroupId,
        topic: TopicId,
        partitions: &[i32],
    ) -> Result<(), StateError> {
        for partition in partitions {
            let key = state_key(group, (topic, PartitionIndex(*partition)));
            self.persister().delete(key.clone()).await?;
            self.drop_leader(&key);
        }
        Ok(())
    }

    /// What is known here of the share-partition is not so any more.
    fn drop_leader(&self, key: &StateKey) {
        if let Some(leader) = self.leaders().get(key) {
            leader.end();
        }
    }

    fn is_missing(&self, (topic, partition): (TopicId, PartitionIndex)) -> bool {
        let image = self.shared.metadata.image();
        let topic = image.topic_by_id(weir_quorum::TopicId(topic.0));
        topic
            .and_then(|topic| topic.partition(partition.0))
            .is_none()
    }
}

impl From<StateError> for ApiError {
    fn from(error: StateError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
