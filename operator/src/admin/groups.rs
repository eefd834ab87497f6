//! What is asked of the brokers about groups beside what they are: pauses, where they begin, and resets.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::beginning::At;
use weir_proto::admin::v1::reset_offsets_request::To;

use super::{Admin, Outcomes, Unreachable, group_seen, refusal};
use crate::validate::{BeginAt, Reset, ResetTo};
use crate::world::{GroupSeen, Refusal, ResetSeen};

impl Admin {
    /// Has groups paused, or go on; each succeeds or fails alone.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn pause_groups(
        &mut self,
        ids: Vec<String>,
        paused: bool,
    ) -> Result<Outcomes, Unreachable> {
        if ids.is_empty() {
            return Ok(Outcomes::new());
        }
        let request = proto::PauseGroupsRequest { ids, paused };
        let answer = self
            .call(request, |mut client, request| async move {
                client.pause_groups(request).await
            })
            .await?;
        Ok(outcomes(answer))
    }

    /// Sets configurations of a group, and takes back those without a value.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn configure_group(
        &mut self,
        id: &str,
        changes: &BTreeMap<String, Option<String>>,
    ) -> Result<Outcomes, Unreachable> {
        let set = changes
            .iter()
            .filter_map(|(key, value)| Some((key.clone(), value.clone()?)));
        let unset = changes.iter().filter(|(_, value)| value.is_none());
        let change = proto::GroupConfigChange {
            id: id.to_owned(),
            set: set.collect(),
            unset: unset.map(|(key, _)| key.clone()).collect(),
        };
        let request = proto::ConfigureGroupsRequest {
            groups: vec![change],
        };
        let answer = self
            .call(request, |mut client, request| async move {
                client.configure_groups(request).await
            })
            .await?;
        Ok(outcomes(answer))
    }

    /// Asks for all groups; one that could not be described comes with the reason.
    ///
    /// # Errors
    /// When no broker answers.
    pub async fn every_group(
        &mut self,
    ) -> Result<Vec<(String, Result<GroupSeen, Refusal>)>, Unreachable> {
        let request = proto::DescribeGroupsRequest { ids: Vec::new() };
        let answer = self
            .call(request, |mut client, request| async move {
                client.describe_groups(request).await
            })
            .await?;
        Ok(answer
            .groups
            .into_iter()
            .map(|group| (group.id.clone(), group_seen(group)))
            .collect())
    }

    /// Has the offsets of a group set, or tells what would come of it.
    ///
    /// # Errors
    /// When no broker answers; it may have been carried out then, and the next call says so.
    pub async fn reset_offsets(
        &mut self,
        group: &str,
        reset: &Reset,
    ) -> Result<Result<ResetSeen, Refusal>, Unreachable> {
        let topics = reset.topics.iter().map(|name| proto::ResetTopic {
            name: name.clone(),
            partitions: reset.partitions.clone(),
        });
        let request = proto::ResetOffsetsRequest {
            group: group.to_owned(),
            request_id: reset.id.clone(),
            topics: topics.collect(),
            dry_run: reset.dry_run,
            to: Some(match reset.to {
                ResetTo::Earliest => To::Earliest(true),
                ResetTo::Latest => To::Latest(true),
                ResetTo::Timestamp(at_ms) => To::TimestampMs(at_ms),
                ResetTo::Offset(offset) => To::Offset(offset),
                ResetTo::Shift(by) => To::Shift(by),
            }),
        };
        self.set_offsets(request).await
    }

    /// Has a group begin in topics that are new to it, each for itself. One that the brokers find to be known to the group stays as it is.
    ///
    /// # Errors
    /// When no broker answers; some topics may have been begun then, and the next call leaves those alone.
    pub async fn begin_group(
        &mut self,
        group: &str,
        at: BeginAt,
        topics: &BTreeSet<String>,
        now: Timestamp,
    ) -> Result<BTreeMap<String, Result<ResetSeen, Refusal>>, Unreachable> {
        let at = match at {
            BeginAt::Earliest => At::Earliest(true),
            BeginAt::Latest => At::Latest(true),
            BeginAt::Timestamp(at_ms) => At::TimestampMs(at_ms.max(0)),
            BeginAt::SecondsBack(seconds) => {
                let back_ms = seconds.saturating_mul(1_000);
                At::TimestampMs(now.as_millisecond().saturating_sub(back_ms).max(0))
            }
        };
        let mut outcomes = BTreeMap::new();
        for topic in topics {
            let request = proto::ResetOffsetsRequest {
                group: group.to_owned(),
                topics: vec![proto::ResetTopic {
                    name: topic.clone(),
                    partitions: Vec::new(),
                }],
                to: Some(To::Begin(proto::Beginning { at: Some(at) })),
                ..proto::ResetOffsetsRequest::default()
            };
            outcomes.insert(topic.clone(), self.set_offsets(request).await?);
        }
        Ok(outcomes)
    }

    async fn set_offsets(
        &mut self,
        request: proto::ResetOffsetsRequest,
    ) -> Result<Result<ResetSeen, Refusal>, Unreachable> {
        let answer = self
            .call(request, |mut client, request| async move {
                client.reset_offsets(request).await
            })
            .await?;
        if let Some(error) = answer.error {
            return Ok(Err(refusal(error)));
        }
        let partitions = answer
            .partitions
            .into_iter()
            .map(|reset| (reset.topic, reset.partition, reset.before, reset.after));
        Ok(Ok(ResetSeen {
            before: answer.done_before,
            at_ms: answer.done_at_ms,
            fenced: answer.fenced_members,
            partitions: partitions.collect(),
        }))
    }
}

fn outcomes(answer: proto::GroupResultsResponse) -> Outcomes {
    let results = answer.results.into_iter().map(|result| {
        let outcome = result.error.map_or(Ok(()), |error| Err(refusal(error)));
        (result.id, outcome)
    });
    results.collect()
}

/// Whether asking again may help: the brokers were not able to, and did not say no.
#[must_use]
pub fn is_passing(refusal: &Refusal) -> bool {
    matches!(
        refusal.code.as_str(),
        "COORDINATOR_NOT_AVAILABLE"
            | "COORDINATOR_LOAD_IN_PROGRESS"
            | "NOT_COORDINATOR"
            | "LEADER_NOT_AVAILABLE"
            | "NOT_CONTROLLER"
            | "REQUEST_TIMED_OUT"
    )
}
