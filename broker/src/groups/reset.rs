//! Offsets that are set from outside, or where a group begins: which partitions, where to, and by whom.
//!
//! The broker that is asked finds the coordinator; the coordinator asks the leaders where their partitions begin and end, and then has the group's
//! state machine fence the members and write everything in one batch. What always holds: either all partitions of a request are set, or none.

use std::collections::{BTreeMap, BTreeSet};

use weir_groups::request::{
    Consumption, FetchRequest, Once, ResetOutcome, ResetPartition, ResetPlace, ResetRequest,
    ResetTo, TopicRef,
};
use weir_groups::{Epoch, GroupError, GroupId};
use weir_proto::admin::v1 as admin;
use weir_proto::admin::v1::beginning::At;
use weir_proto::admin::v1::reset_offsets_request::To;
use weir_proto::groups::v1 as proto;
use weir_quorum::configs;
use weir_quorum::image::{Image, Topic};
use weir_wire::{Offset, PartitionIndex, TopicId};

use super::Groups;
use crate::error::{ApiError, ErrorCode};

impl Groups {
    /// Sets offsets of a group, whichever broker coordinates it.
    pub async fn reset_offsets(
        &self,
        request: admin::ResetOffsetsRequest,
    ) -> admin::ResetOffsetsResponse {
        match self.find(&request.group).await {
            Err(error) => failed(error.into()),
            Ok(broker) if broker.id == self.shared.metadata.broker_id() => {
                self.reset_here(request).await
            }
            Ok(broker) => match self.ask_reset(broker.id, request).await {
                Ok(response) => response,
                // It may have been carried out; who asks again with the same id is told so.
                Err(error) => failed(ApiError::new(
                    ErrorCode::CoordinatorNotAvailable,
                    error.to_string(),
                )),
            },
        }
    }

    /// Sets offsets of a group that this broker coordinates.
    pub(super) async fn reset_here(
        &self,
        request: admin::ResetOffsetsRequest,
    ) -> admin::ResetOffsetsResponse {
        match self.try_reset(request).await {
            Ok(outcome) => told(outcome),
            Err(error) => failed(error),
        }
    }

    async fn try_reset(
        &self,
        request: admin::ResetOffsetsRequest,
    ) -> Result<ResetOutcome, ApiError> {
        let to = request
            .to
            .ok_or_else(|| invalid("it is not said where to"))?;
        let (to, once) = match to {
            To::Begin(beginning) => (beginning_at(beginning)?, Once::WhereNew),
            _ if request.request_id.is_empty() => {
                return Err(invalid("the request has no id"));
            }
            to => (to, Once::Named(request.request_id)),
        };
        let group = GroupId::from(request.group);
        let image = self.shared.metadata.image();
        let partitions = match request.topics.is_empty() {
            false => named(&image, &request.topics)?,
            true => self.known(&image, &group).await?,
        };
        let timestamp_ms = match to {
            To::TimestampMs(at) if at < 0 => return Err(invalid("the time is before 1970")),
            To::TimestampMs(at) => Some(at),
            _ => None,
        };
        let wanted = partitions
            .keys()
            .map(|(topic, partition)| (topic.clone(), *partition));
        let places = self.places_of(wanted.collect(), timestamp_ms).await;
        let mut resets = Vec::with_capacity(partitions.len());
        for ((topic, partition), id) in partitions {
            let key = (topic, partition);
            let Some(place) = places.get(&key) else {
                let message = format!(
                    "where {}-{partition} begins and ends cannot be learnt from its leader now",
                    key.0
                );
                return Err(ApiError::new(ErrorCode::LeaderNotAvailable, message));
            };
            resets.push(ResetPartition {
                topic: TopicRef { name: key.0, id },
                partition: PartitionIndex(partition),
                to: target(to, place),
            });
        }
        let reset = ResetRequest {
            group,
            once,
            dry_run: request.dry_run,
            partitions: resets,
        };
        self.reset(reset).await.map_err(refused)
    }

    /// All partitions of all topics that the group has offsets of.
    async fn known(&self, image: &Image, group: &GroupId) -> Result<Partitions, ApiError> {
        let fetched = self.fetch(FetchRequest {
            group: group.clone(),
            member: None,
            epoch: Epoch::LEAVING,
            topics: None,
        });
        let names: BTreeSet<String> = fetched
            .await?
            .into_iter()
            .map(|topic| topic.topic.name)
            .collect();
        let topics = names.iter().filter_map(|name| image.topic(name));
        let partitions: Partitions = topics.flat_map(|topic| all_of(topic)).collect();
        if partitions.is_empty() {
            return Err(ApiError::new(
                ErrorCode::GroupIdNotFound,
                "the group has no offsets of any topic: name the topics",
            ));
        }
        Ok(partitions)
    }

    /// What a group would be in that does not exist.
    pub(super) fn consumption_of_none(&self, group: &GroupId) -> Consumption {
        let (image, settings) = (
            self.shared.metadata.image(),
            self.shared.metadata.settings(),
        );
        match configs::group_config(&image, settings, group.as_str()).weir_paused {
            true => Consumption::Paused,
            false => Consumption::Running,
        }
    }
}

/// Partitions by topic and number, each with the topic's id.
type Partitions = BTreeMap<(String, i32), TopicId>;

fn all_of(topic: &Topic) -> impl Iterator<Item = ((String, i32), TopicId)> {
    let id = TopicId(topic.id.0);
    let count = i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX);
    (0..count).map(move |partition| ((topic.name.to_string(), partition), id))
}

fn named(image: &Image, topics: &[admin::ResetTopic]) -> Result<Partitions, ApiError> {
    let mut partitions = Partitions::new();
    for wanted in topics {
        let unknown = |what: String| ApiError::new(ErrorCode::UnknownTopicOrPartition, what);
        let topic = image
            .topic(&wanted.name)
            .ok_or_else(|| unknown(format!("there is no topic {}", wanted.name)))?;
        if wanted.partitions.is_empty() {
            partitions.extend(all_of(topic));
        }
        for partition in &wanted.partitions {
            if topic.partition(*partition).is_none() {
                let count = topic.partitions.len();
                return Err(unknown(format!(
                    "there is no {}-{partition}: the topic has {count} partitions",
                    wanted.name
                )));
            }
            partitions.insert((wanted.name.clone(), *partition), TopicId(topic.id.0));
        }
    }
    Ok(partitions)
}

/// In the words of a reset.
fn beginning_at(beginning: admin::Beginning) -> Result<To, ApiError> {
    match beginning.at {
        Some(At::Earliest(_)) => Ok(To::Earliest(true)),
        Some(At::Latest(_)) => Ok(To::Latest(true)),
        Some(At::TimestampMs(at_ms)) => Ok(To::TimestampMs(at_ms)),
        None => Err(invalid("it is not said where the group begins")),
    }
}

fn target(to: To, place: &proto::Place) -> ResetTo {
    let within =
        |offset: i64| ResetTo::Offset(Offset(offset.min(place.end_offset).max(place.start_offset)));
    match to {
        To::Earliest(_) => within(place.start_offset),
        // What a beginning says is one of the others by now.
        To::Latest(_) | To::Begin(_) => within(place.end_offset),
        To::TimestampMs(_) => within(place.offset_at_time.unwrap_or(place.end_offset)),
        To::Offset(offset) => within(offset),
        To::Shift(by) => ResetTo::Shift {
            by,
            start: Offset(place.start_offset),
            end: Offset(place.end_offset),
        },
    }
}

fn told(outcome: ResetOutcome) -> admin::ResetOffsetsResponse {
    match outcome {
        ResetOutcome::Before { at_ms } => admin::ResetOffsetsResponse {
            done_before: true,
            done_at_ms: at_ms,
            ..admin::ResetOffsetsResponse::default()
        },
        ResetOutcome::Done {
            at_ms,
            members,
            places,
        } => {
            let partition = |place: ResetPlace| admin::ResetPartition {
                topic: place.topic.name,
                partition: place.partition.0,
                before: place.before.map(|offset| offset.0),
                after: place.after.map(|offset| offset.0),
            };
            admin::ResetOffsetsResponse {
                done_at_ms: at_ms,
                fenced_members: members,
                partitions: places.into_iter().map(partition).collect(),
                ..admin::ResetOffsetsResponse::default()
            }
        }
    }
}

/// In the words of a reset, where those of the error speak of something else.
fn refused(error: GroupError) -> ApiError {
    let message = match error {
        GroupError::GroupIdNotFound => {
            "members of a share group acknowledge messages and commit no offsets: use AlterShareGroupOffsets while it has no members"
        }
        GroupError::CommitTooLarge => {
            "so many partitions do not fit one batch of the offsets topic: reset fewer at a time, by naming topics"
        }
        GroupError::NonEmptyGroup => {
            "the group has members, which begin where they are configured to"
        }
        GroupError::InvalidRequest => "the request's id, or a topic's name, is too long",
        other => return other.into(),
    };
    ApiError::new(error.code(), message)
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(ErrorCode::InvalidRequest, message)
}

fn failed(error: ApiError) -> admin::ResetOffsetsResponse {
    admin::ResetOffsetsResponse {
        error: Some(error.into()),
        ..admin::ResetOffsetsResponse::default()
    }
}
