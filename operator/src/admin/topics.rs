//! What is asked of the brokers about topics.

use std::collections::{BTreeMap, BTreeSet};

use weir_proto::admin::v1 as proto;

use super::{Admin, Outcomes, Unreachable, refusal};
use crate::world::Refusal;

/// Topics in one changing call, so that one call stays within its deadline.
const BATCH: usize = 500;

/// A topic to create; what is absent takes the cluster's default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Partitions.
    pub partitions: Option<u32>,
    /// Replicas of each.
    pub replication_factor: Option<u32>,
    /// Configuration.
    pub config: BTreeMap<String, String>,
}

/// A topic to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicChange {
    /// Its name.
    pub name: String,
    /// The new number of partitions, when it grows.
    pub partitions: Option<u32>,
    /// The new number of replicas of each, when it changes.
    pub replication_factor: Option<u32>,
    /// Keys to set.
    pub set_config: BTreeMap<String, String>,
    /// Keys to go back to the cluster's default.
    pub unset_config: BTreeSet<String>,
}

impl Admin {
    /// Creates topics; each succeeds or fails alone.
    ///
    /// # Errors
    /// When no broker answers; some topics may have been created then.
    pub async fn create(&mut self, topics: &[NewTopic]) -> Result<Outcomes, Unreachable> {
        let mut outcomes = Outcomes::new();
        for batch in topics.chunks(BATCH) {
            let topics = batch
                .iter()
                .map(|topic| proto::NewTopic {
                    name: topic.name.clone(),
                    partitions: topic.partitions,
                    replication_factor: topic.replication_factor,
                    config: topic.config.clone().into_iter().collect(),
                })
                .collect();
            let request = proto::CreateTopicsRequest {
                topics,
                validate_only: false,
            };
            let answer = self
                .call(request, |mut client, request| async move {
                    client.create_topics(request).await
                })
                .await?;
            outcomes.extend(results(answer));
        }
        Ok(outcomes)
    }

    /// Grows topics and sets configuration; each succeeds or fails alone.
    ///
    /// # Errors
    /// When no broker answers; some topics may have been changed then.
    pub async fn alter(&mut self, changes: &[TopicChange]) -> Result<Outcomes, Unreachable> {
        let mut outcomes = Outcomes::new();
        for batch in changes.chunks(BATCH) {
            let changes = batch
                .iter()
                .map(|change| proto::TopicChange {
                    name: change.name.clone(),
                    partitions: change.partitions,
                    set_config: change.set_config.clone().into_iter().collect(),
                    unset_config: change.unset_config.iter().cloned().collect(),
                    replication_factor: change.replication_factor,
                })
                .collect();
            let request = proto::AlterTopicsRequest {
                changes,
                validate_only: false,
            };
            let answer = self
                .call(request, |mut client, request| async move {
                    client.alter_topics(request).await
                })
                .await?;
            outcomes.extend(results(answer));
        }
        Ok(outcomes)
    }

    /// Deletes topics and their data; each succeeds or fails alone.
    ///
    /// # Errors
    /// When no broker answers; some topics may be gone then.
    pub async fn delete(&mut self, names: &[String]) -> Result<Outcomes, Unreachable> {
        let mut outcomes = Outcomes::new();
        for batch in names.chunks(BATCH) {
            let request = proto::DeleteTopicsRequest {
                names: batch.to_vec(),
            };
            let answer = self
                .call(request, |mut client, request| async move {
                    client.delete_topics(request).await
                })
                .await?;
            outcomes.extend(results(answer));
        }
        Ok(outcomes)
    }
}

fn results(
    answer: proto::TopicResultsResponse,
) -> impl Iterator<Item = (String, Result<(), Refusal>)> {
    answer.results.into_iter().map(|result| {
        (
            result.name,
            result.error.map_or(Ok(()), |error| Err(refusal(error))),
        )
    })
}
