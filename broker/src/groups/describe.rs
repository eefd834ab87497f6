//! Groups with their exact lag, whichever broker is asked.
//!
//! A group's members and offsets are known where it is coordinated, the ends of its partitions where they are led. The
//! broker that is asked puts both together: first it asks the coordinators, then the leaders. What could not be learnt
//! makes an error of the group that says so; a lag is never guessed.

use std::collections::BTreeMap;

use futures::future::join_all;
use weir_groups::request::{CommittedOffset, Description, FetchRequest, FetchedTopic, GroupState};
use weir_groups::{Epoch, GroupError, GroupId};
use weir_proto::admin::v1 as admin;
use weir_proto::groups::v1 as proto;
use weir_quorum::BrokerId;

use super::Groups;
use super::peers::Unreachable;
use crate::error::{ApiError, ErrorCode};

/// Where partitions stand, by topic, partition and committed offset.
pub(crate) type Standings = BTreeMap<(String, i32, i64), proto::Standing>;

impl Groups {
    /// Describes groups for the operator: those named, or all. Any broker answers for the whole cluster.
    ///
    /// # Errors
    /// When all are asked for and a broker that is alive cannot be asked: the list would be short of its groups.
    pub async fn describe_with_lag(
        &self,
        ids: &[String],
    ) -> Result<Vec<admin::Group>, Unreachable> {
        let groups = if ids.is_empty() {
            self.all_groups().await?
        } else {
            self.named_groups(ids).await
        };
        let committed = groups.iter().flat_map(|group| &group.committed).cloned();
        let standings = self.standings_of(committed).await;
        Ok(groups
            .into_iter()
            .map(|group| self.with_lag(group, &standings))
            .collect())
    }

    /// Groups that this broker coordinates itself: those named, or all.
    pub(super) async fn own_groups(
        &self,
        ids: Vec<String>,
    ) -> Result<Vec<proto::Group>, GroupError> {
        let ids: Vec<GroupId> = match ids.is_empty() {
            false => ids.into_iter().map(GroupId::from).collect(),
            true => self
                .list(&weir_groups::request::ListRequest::default())
                .await?
                .into_iter()
                .map(|listed| listed.group)
                .collect(),
        };
        Ok(join_all(ids.into_iter().map(|id| self.own_group(id))).await)
    }

    /// One of them, with its members and offsets.
    pub(crate) async fn own_group(&self, id: GroupId) -> proto::Group {
        let offsets = self.fetch(FetchRequest {
            group: id.clone(),
            member: None,
            epoch: Epoch::LEAVING,
            topics: None,
        });
        let described = self.describe(id.clone()).await;
        match (described, offsets.await) {
            (Ok(description), Ok(offsets)) => described_group(description, offsets),
            (Err(GroupError::GroupIdNotFound), _) => proto::Group {
                id: id.to_string(),
                state: GroupState::Dead.name().to_owned(),
                // There is nobody to read.
                consumption: self.consumption_of_none(&id).name().to_owned(),
                ..proto::Group::default()
            },
            (Err(error), _) | (_, Err(error)) => failed(id.to_string(), error),
        }
    }

    async fn all_groups(&self) -> Result<Vec<proto::Group>, Unreachable> {
        let image = self.shared.metadata.image();
        let brokers = image
            .live_brokers()
            .map(|broker| self.groups_at(broker.id, Vec::new()));
        let mut groups = Vec::new();
        for found in join_all(brokers).await {
            groups.extend(found?);
        }
        groups.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(groups)
    }

    /// In the order of the request.
    async fn named_groups(&self, ids: &[String]) -> Vec<proto::Group> {
        let mut found: BTreeMap<&str, proto::Group> = BTreeMap::new();
        let mut by_broker: BTreeMap<BrokerId, Vec<&str>> = BTreeMap::new();
        for id in ids {
            match self.find(id).await {
                Ok(broker) => by_broker.entry(broker.id).or_default().push(id),
                Err(error) => drop(found.insert(id, failed(id.clone(), error))),
            }
        }
        let asked = by_broker.into_iter().map(|(broker, ids)| async move {
            let groups = self
                .groups_at(broker, ids.iter().map(|id| (*id).to_owned()).collect())
                .await;
            (ids, groups)
        });
        for (ids, groups) in join_all(asked).await {
            match groups {
                Ok(groups) => found.extend(ids.into_iter().zip(groups)),
                Err(error) => found.extend(ids.into_iter().map(|id| (id, unreachable(id, &error)))),
            }
        }
        ids.iter()
            .filter_map(|id| found.get(id.as_str()).cloned())
            .collect()
    }

    async fn groups_at(
        &self,
        broker: BrokerId,
        ids: Vec<String>,
    ) -> Result<Vec<proto::Group>, Unreachable> {
        if broker == self.shared.metadata.broker_id() {
            self.own_groups(ids).await.map_err(|error| Unreachable {
                broker,
                why: error.to_string(),
            })
        } else {
            self.ask_groups(broker, ids).await
        }
    }

    /// Asks the leaders of all partitions, each once.
    pub(crate) async fn standings_of(
        &self,
        committed: impl Iterator<Item = proto::Committed>,
    ) -> Standings {
        let image = self.shared.metadata.image();
        let me = self.shared.metadata.broker_id();
        let mut by_leader: BTreeMap<BrokerId, Vec<proto::Committed>> = BTreeMap::new();
        for place in committed {
            if let Some(leader) = image
                .partition(&place.topic, place.partition)
                .and_then(|partition| partition.leader)
            {
                by_leader.entry(leader).or_default().push(place);
            }
        }
        let asked = by_leader.into_iter().map(|(leader, places)| async move {
            let results = match leader == me {
                true => self.standings(places.clone()).await,
                // Those that are missing are told of with their groups.
                false => self
                    .ask_standings(leader, places.clone())
                    .await
                    .unwrap_or_default(),
            };
            places.into_iter().zip(results)
        });
        let found = join_all(asked).await.into_iter().flatten();
        let known = found.filter_map(|(place, result)| {
            Some((
                (place.topic, place.partition, place.offset),
                result.standing?,
            ))
        });
        known.collect()
    }

    fn with_lag(&self, group: proto::Group, standings: &Standings) -> admin::Group {
        let described = admin::Group {
            id: group.id,
            ..admin::Group::default()
        };
        if let Some(code) = group.error_code {
            let code = i16::try_from(code)
                .ok()
                .and_then(ErrorCode::from_code)
                .unwrap_or(ErrorCode::UnknownServerError);
            let error = ApiError::new(code, group.error_message);
            return admin::Group {
                error: Some(error.into()),
                ..described
            };
        }
        let image = self.shared.metadata.image();
        let config = image.group_config(&described.id);
        let config = config.into_iter().flatten();
        let config = config.map(|(key, value)| (key.clone(), value.clone()));
        let config = config.collect();
        let mut lag = Vec::with_capacity(group.committed.len());
        for place in group.committed {
            // Offsets outlive their topics: there is nothing to lag behind any more.
            let Some(found) = image.topic(&place.topic) else {
                continue;
            };
            if found.partition(place.partition).is_none() {
                continue;
            }
            let topic_partitions = u32::try_from(found.partitions.len()).unwrap_or(u32::MAX);
            let proto::Committed {
                topic,
                partition,
                offset,
            } = place;
            let key = (topic, partition, offset);
            let Some(standing) = standings.get(&key) else {
                let message = format!(
                    "the end of {}-{partition} cannot be learnt from its leader now",
                    key.0
                );
                let error = ApiError::new(ErrorCode::LeaderNotAvailable, message);
                return admin::Group {
                    error: Some(error.into()),
                    ..described
                };
            };
            lag.push(admin::PartitionLag {
                topic: key.0,
                partition,
                committed_offset: offset,
                end_offset: standing.end_offset,
                lag: standing.lag,
                lag_ms: standing.lag_ms,
                topic_partitions,
            });
        }
        let members = group.members.into_iter().map(|member| admin::Member {
            id: member.id,
            client_id: member.client_id,
            host: member.host,
            instance_id: member.instance_id,
        });
        admin::Group {
            config,
            state: group.state,
            protocol: group.protocol,
            members: members.collect(),
            lag,
            consumption: group.consumption,
            ..described
        }
    }
}

fn described_group(description: Description, offsets: Vec<FetchedTopic>) -> proto::Group {
    let members = description.members.into_iter().map(|member| proto::Member {
        id: member.member.to_string(),
        client_id: member.client_id,
        host: member.client_host,
        instance_id: member.instance.map(|instance| instance.to_string()),
    });
    let committed = offsets.into_iter().flat_map(|topic| {
        let name = topic.topic.name;
        let known = topic
            .partitions
            .into_iter()
            .filter_map(|(partition, offset)| Some((partition, offset?)));
        let places =
            known.map(
                move |(partition, CommittedOffset { offset, .. })| proto::Committed {
                    topic: name.clone(),
                    partition: partition.0,
                    offset: offset.0,
                },
            );
        places.collect::<Vec<_>>()
    });
    proto::Group {
        id: description.group.to_string(),
        state: description.state.name().to_owned(),
        protocol: description.protocol,
        members: members.collect(),
        committed: committed.collect(),
        consumption: description.consumption.name().to_owned(),
        ..proto::Group::default()
    }
}

fn failed(id: String, error: GroupError) -> proto::Group {
    proto::Group {
        id,
        error_code: Some(error.code().code().into()),
        error_message: error.to_string(),
        ..proto::Group::default()
    }
}

fn unreachable(id: &str, error: &Unreachable) -> proto::Group {
    let unavailable = failed(id.to_owned(), GroupError::CoordinatorNotAvailable);
    proto::Group {
        error_message: error.to_string(),
        ..unavailable
    }
}
