//! OffsetFetch: a group's place in its partitions; from version 8 on for many groups at once, from 10 on by topic id.
//!
//! With `require_stable` an offset that a transaction may yet change is told as UNSTABLE_OFFSET_COMMIT (KIP-447).

use std::sync::Arc;

use weir_groups::request::{CommittedOffset, FetchRequest, FetchedTopic, TopicRef};
use weir_groups::{Epoch, GroupError, GroupId, MemberId};
use weir_quorum::image::Image;
use weir_wire::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use weir_wire::messages::{OffsetFetchRequestView, OffsetFetchResponse};
use weir_wire::{PartitionIndex, TopicId};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// What is asked about one group.
struct Asked {
    group: GroupId,
    /// The member that asks, and its epoch (version 9).
    member: Option<MemberId>,
    epoch: Epoch,
    /// All that it has, when absent.
    topics: Option<Vec<AskedTopic>>,
}

/// A topic as it was asked for, and the name that it has, when there is such a topic.
struct AskedTopic {
    name: Option<String>,
    id: uuid::Uuid,
    partitions: Vec<PartitionIndex>,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: OffsetFetchRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let (version, require_stable) = (request.version, view.require_stable);
    let asked = if version >= 8 {
        of_groups(&view, &image, version >= 10)
    } else {
        vec![of_group(&view, &image)]
    };
    // Every coordinator is asked before the first answer is waited for.
    let asked: Vec<_> = asked
        .into_iter()
        .map(|asked| {
            let answer = broker.groups.fetch(asked.to_fetch());
            (asked, answer)
        })
        .collect();
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        let mut groups = Vec::with_capacity(asked.len());
        for (asked, answer) in asked {
            let mut answer = answer.await;
            if !require_stable {
                for topic in answer.iter_mut().flatten() {
                    topic.unstable.clear();
                }
            }
            groups.push(told(asked, answer, version));
        }
        responder.reply(&if version >= 8 {
            batch(groups)
        } else {
            single(groups, version)
        })
    }))
}

fn of_groups(view: &OffsetFetchRequestView<'_>, image: &Image, by_id: bool) -> Vec<Asked> {
    let groups = view.groups.iter().map(|group| Asked {
        group: group.group_id.into(),
        member: group.member_id.map(MemberId::from),
        epoch: Epoch(group.member_epoch),
        topics: group.topics.map(|topics| {
            let topics = topics.iter().map(|topic| {
                let partitions = topic.partition_indexes.iter().map(PartitionIndex).collect();
                if by_id {
                    by_topic_id(image, topic.topic_id, partitions)
                } else {
                    by_name(image, topic.name, partitions)
                }
            });
            topics.collect()
        }),
    });
    groups.collect()
}

fn of_group(view: &OffsetFetchRequestView<'_>, image: &Image) -> Asked {
    let topics = view.topics.map(|topics| {
        let topics = topics.iter().map(|topic| {
            by_name(
                image,
                topic.name,
                topic.partition_indexes.iter().map(PartitionIndex).collect(),
            )
        });
        topics.collect()
    });
    Asked {
        group: view.group_id.into(),
        member: None,
        epoch: Epoch::LEAVING,
        topics,
    }
}

/// A name is asked for whether or not there is such a topic now: its offsets may be there still.
fn by_name(image: &Image, name: &str, partitions: Vec<PartitionIndex>) -> AskedTopic {
    let id = image
        .topic(name)
        .map_or(uuid::Uuid::nil(), |topic| topic.id.0);
    AskedTopic {
        name: Some(name.to_owned()),
        id,
        partitions,
    }
}

fn by_topic_id(image: &Image, id: uuid::Uuid, partitions: Vec<PartitionIndex>) -> AskedTopic {
    let name = image
        .topic_by_id(weir_quorum::TopicId(id))
        .map(|topic| topic.name.to_string());
    AskedTopic {
        name,
        id,
        partitions,
    }
}

impl Asked {
    fn to_fetch(&self) -> FetchRequest {
        let topics = self.topics.as_ref().map(|topics| {
            let known = topics.iter().filter_map(|topic| {
                let name = topic.name.clone()?;
                Some((
                    TopicRef {
                        name,
                        id: TopicId(topic.id),
                    },
                    topic.partitions.clone(),
                ))
            });
            known.collect()
        });
        FetchRequest {
            group: self.group.clone(),
            member: self.member.clone(),
            epoch: self.epoch,
            topics,
        }
    }
}

/// The answer for one group, in the form of version 8 and later.
fn told(
    asked: Asked,
    outcome: Result<Vec<FetchedTopic>, GroupError>,
    version: i16,
) -> OffsetFetchResponseGroup {
    let group_id = asked.group.to_string();
    let fetched = match outcome {
        Ok(fetched) => fetched,
        Err(error) => {
            let error_code = error.code().code();
            // Version 1 has room for errors with partitions only.
            let topics = if version < 2 {
                unanswered(asked, error_code)
            } else {
                Vec::new()
            };
            return OffsetFetchResponseGroup {
                group_id,
                topics,
                error_code,
            };
        }
    };
    let topics = match asked.topics {
        None => fetched
            .into_iter()
            .filter(|topic| version < 10 || topic.topic.id != TopicId::ZERO)
            .map(topic)
            .collect(),
        Some(asked) => {
            let mut fetched = fetched.into_iter();
            let answers = asked.into_iter().map(|asked| match asked.name {
                Some(_) => fetched.next().map(topic).unwrap_or_default(),
                None => missing(asked, ErrorCode::UnknownTopicId.code()),
            });
            answers.collect()
        }
    };
    OffsetFetchResponseGroup {
        group_id,
        topics,
        error_code: 0,
    }
}

fn unanswered(asked: Asked, error_code: i16) -> Vec<OffsetFetchResponseTopics> {
    asked
        .topics
        .unwrap_or_default()
        .into_iter()
        .map(|topic| missing(topic, error_code))
        .collect()
}

fn missing(asked: AskedTopic, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = asked
        .partitions
        .into_iter()
        .map(|index| partition(index, None, error_code));
    OffsetFetchResponseTopics {
        name: asked.name.unwrap_or_default(),
        topic_id: asked.id,
        partitions: partitions.collect(),
    }
}

fn topic(fetched: FetchedTopic) -> OffsetFetchResponseTopics {
    let partitions = fetched.partitions.into_iter().map(|(index, offset)| {
        match fetched.unstable.contains(&index) {
            true => partition(index, None, ErrorCode::UnstableOffsetCommit.code()),
            false => partition(index, offset, 0),
        }
    });
    OffsetFetchResponseTopics {
        name: fetched.topic.name,
        topic_id: fetched.topic.id.0,
        partitions: partitions.collect(),
    }
}

fn partition(
    index: PartitionIndex,
    offset: Option<CommittedOffset>,
    error_code: i16,
) -> OffsetFetchResponsePartitions {
    let (committed_offset, committed_leader_epoch, metadata) =
        offset.map_or((-1, -1, String::new()), |offset| {
            (
                offset.offset.0,
                offset.leader_epoch.0,
                offset.metadata.into(),
            )
        });
    OffsetFetchResponsePartitions {
        partition_index: index.0,
        committed_offset,
        committed_leader_epoch,
        metadata: Some(metadata),
        error_code,
    }
}

fn batch(groups: Vec<OffsetFetchResponseGroup>) -> OffsetFetchResponse {
    OffsetFetchResponse {
        groups,
        ..OffsetFetchResponse::default()
    }
}

/// The form of the versions that ask about one group.
fn single(groups: Vec<OffsetFetchResponseGroup>, version: i16) -> OffsetFetchResponse {
    let group = groups.into_iter().next().unwrap_or_default();
    let topics = group
        .topics
        .into_iter()
        .map(|topic| OffsetFetchResponseTopic {
            name: topic.name,
            partitions: topic
                .partitions
                .into_iter()
                .map(|partition| OffsetFetchResponsePartition {
                    partition_index: partition.partition_index,
                    committed_offset: partition.committed_offset,
                    committed_leader_epoch: partition.committed_leader_epoch,
                    metadata: partition.metadata,
                    error_code: partition.error_code,
                })
                .collect(),
        });
    let error_code = if version < 2 { 0 } else { group.error_code };
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code,
        ..OffsetFetchResponse::default()
    }
}
