//! ElectLeaders: asks for the preferred leader, or, unclean, for any (KIP-183, KIP-460).

use std::collections::BTreeMap;
use std::sync::Arc;

use weir_quorum::command::{Command, ElectLeaders, Election, ElectionResult, Reply};
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
    let asked: Option<Vec<(String, Vec<i32>)>> = view.topic_partitions.map(|topics| {
        let topics = topics.iter();
        topics
            .map(|topic| (topic.topic.to_owned(), topic.partitions.iter().collect()))
            .collect()
    });
    let election = match view.election_type {
        _ if request.version == 0 => Election::Preferred,
        PREFERRED => Election::Preferred,
        UNCLEAN => Election::Unclean,
        other => {
            let message = format!("election type {other}; allowed: 0 (preferred), 1 (unclean)");
            let error = ApiError::new(ErrorCode::InvalidRequest, message);
            return request.answer(&failed(asked, &error));
        }
    };
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let partitions = asked.as_ref().map(|topics| {
            let each = topics.iter().flat_map(|(topic, indexes)| {
                indexes.iter().map(move |index| (topic.clone(), *index))
            });
            each.collect()
        });
        let command = Command::ElectLeaders(ElectLeaders {
            election,
            partitions,
        });
        let response = match broker.metadata.control(command).await {
            Ok(Reply::Elections(results)) => ElectLeadersResponse {
                replica_election_results: by_topic(asked, results),
                ..ElectLeadersResponse::default()
            },
            Ok(_) => failed(asked, &ErrorCode::UnknownServerError.into()),
            Err(error) => failed(asked, &error.into()),
        };
        responder.reply(&response)
    }))
}

/// None of it was done: each partition that was named is told why, as clients look there.
fn failed(asked: Option<Vec<(String, Vec<i32>)>>, error: &ApiError) -> ElectLeadersResponse {
    let refused = |partition_id| PartitionResult {
        partition_id,
        error_code: error.code.code(),
        error_message: error.clone().message(),
    };
    let topics = asked.into_iter().flatten();
    let results = topics.map(|(topic, indexes)| ReplicaElectionResult {
        topic,
        partition_result: indexes.into_iter().map(refused).collect(),
    });
    ElectLeadersResponse {
        error_code: error.code.code(),
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}

/// The results in the order in which they were asked for; of all partitions, in the order of topics.
fn by_topic(
    asked: Option<Vec<(String, Vec<i32>)>>,
    results: Vec<ElectionResult>,
) -> Vec<ReplicaElectionResult> {
    let mut found: BTreeMap<String, BTreeMap<i32, ApiError>> = BTreeMap::new();
    for ElectionResult {
        topic,
        index,
        outcome,
    } in results
    {
        let error = outcome.err().map_or(ErrorCode::None.into(), ApiError::from);
        found.entry(topic).or_default().insert(index, error);
    }
    let asked = asked.unwrap_or_else(|| {
        let topics = found.iter();
        topics
            .map(|(topic, partitions)| (topic.clone(), partitions.keys().copied().collect()))
            .collect()
    });
    let topics = asked.into_iter().map(|(topic, indexes)| {
        let of = found.get(&topic);
        let results = indexes.into_iter().map(|index| {
            let error = of.and_then(|of| of.get(&index)).cloned();
            let error = error.unwrap_or_else(|| ErrorCode::UnknownServerError.into());
            PartitionResult {
                partition_id: index,
                error_code: error.code.code(),
                error_message: error.message(),
            }
        });
        ReplicaElectionResult {
            partition_result: results.collect(),
            topic,
        }
    });
    topics.collect()
}
