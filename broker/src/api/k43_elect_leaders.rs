//! ElectLeaders: asks for the preferred leader, or, unclean, for any (KIP-183, KIP-460).
//!
//! Who can lead does lead already: the controller elects by itself whenever a broker comes or goes, and an unclean leader as
//! soon as the topic allows one. So what is left to say is why there is nothing to do.

use std::sync::Arc;

use weir_quorum::image::{Image, Partition};
use weir_wire::messages::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use weir_wire::messages::{ElectLeadersRequestView, ElectLeadersResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// The first replica is to lead.
const PREFERRED: i8 = 0;
/// Any replica is to lead, whatever it lacks.
const UNCLEAN: i8 = 1;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ElectLeadersRequestView<'_> = request.decode()?;
    let kind = if request.version == 0 {
        PREFERRED
    } else {
        view.election_type
    };
    if !matches!(kind, PREFERRED | UNCLEAN) {
        return request.answer(&ElectLeadersResponse {
            error_code: ErrorCode::InvalidRequest.code(),
            ..ElectLeadersResponse::default()
        });
    }
    let image = broker.metadata.image();
    let results = match view.topic_partitions {
        None => everywhere(&image, kind),
        Some(topics) => {
            let results = topics.iter().map(|topic| ReplicaElectionResult {
                topic: topic.topic.to_owned(),
                partition_result: topic
                    .partitions
                    .iter()
                    .map(|index| result(index, outcome(&image, kind, topic.topic, index)))
                    .collect(),
            });
            results.collect()
        }
    };
    request.answer(&ElectLeadersResponse {
        replica_election_results: results,
        ..ElectLeadersResponse::default()
    })
}

/// Of all partitions, only those are told of for which there would be something to do.
fn everywhere(image: &Image, kind: i8) -> Vec<ReplicaElectionResult> {
    let topics = image.topics().map(|topic| ReplicaElectionResult {
        topic: topic.name.to_string(),
        partition_result: (0..)
            .zip(&topic.partitions)
            .map(|(index, partition)| (index, judge(image, kind, partition)))
            .filter(|(_, error)| error.code != ErrorCode::ElectionNotNeeded)
            .map(|(index, error)| result(index, error))
            .collect(),
    });
    topics
        .filter(|topic| !topic.partition_result.is_empty())
        .collect()
}

fn outcome(image: &Image, kind: i8, topic: &str, index: i32) -> ApiError {
    let unknown = |message| ApiError::new(ErrorCode::UnknownTopicOrPartition, message);
    match image.topic(topic) {
        None => unknown(format!("No such topic as {topic}")),
        Some(found) => match found.partition(index) {
            None => unknown(format!("No such partition as {topic}-{index}")),
            Some(partition) => judge(image, kind, partition),
        },
    }
}

fn judge(image: &Image, kind: i8, partition: &Partition) -> ApiError {
    let is_live =
        |id: &weir_quorum::BrokerId| image.broker(*id).is_some_and(|broker| !broker.fenced);
    let leader = partition.leader.filter(is_live);
    let is_done = match kind {
        PREFERRED => leader.is_some() && leader == partition.replicas.first().copied(),
        _ => leader.is_some(),
    };
    if is_done {
        let message = "Leader election not needed for topic partition.";
        return ApiError::new(ErrorCode::ElectionNotNeeded, message);
    }
    if kind == PREFERRED {
        let message = "The preferred leader was not available.";
        return ApiError::new(ErrorCode::PreferredLeaderNotAvailable, message);
    }
    let message = "No replica is alive that could lead.";
    ApiError::new(ErrorCode::EligibleLeadersNotAvailable, message)
}

fn result(index: i32, error: ApiError) -> PartitionResult {
    PartitionResult {
        partition_id: index,
        error_code: error.code.code(),
        error_message: error.message(),
    }
}
