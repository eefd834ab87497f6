//! One pass over all ConsumerGroups of one cluster: one call to the brokers, and status where it changed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use tokio::time::Instant;

use super::apply;
use super::context::Context;
use super::observe;
use super::queue::Next;
use crate::decide::group;
use crate::status::{self, group::Outcome};
use crate::validate::{Group, Invalid};
use crate::world::{GroupSeen, Key, Refusal};

/// Clusters whose groups are looked at at the same time.
const CONCURRENCY: usize = 4;
/// Lag changes all the time; this often it is looked at.
const LOOK: Duration = Duration::from_secs(15);
/// A coordinator that has just moved, or was never needed before, is there soon.
const AGAIN: Duration = Duration::from_secs(3);
/// A resource without its cluster waits for the cluster, which announces itself.
const LOST: Duration = Duration::from_secs(60);

/// Works on the queue until dropped.
pub(super) async fn work(context: &Arc<Context>) {
    context
        .groups
        .work(CONCURRENCY, |key| {
            let context = Arc::clone(context);
            async move {
                let began = Instant::now();
                let result = pass(&context, &key).await;
                context
                    .metrics
                    .pass("groups", &key, began.elapsed(), result.is_ok());
                result.unwrap_or_else(|error| {
                    tracing::warn!(cluster = %key, error = apply::plain(&error), "a pass over groups failed");
                    Next::Failed
                })
            }
        }, || context.metrics.panicked("groups"))
        .await;
}

type Answers = BTreeMap<String, Result<GroupSeen, Refusal>>;

async fn pass(context: &Context, cluster: &Key) -> Result<Next, kube::Error> {
    let judged: Vec<(Arc<weir_crds::ConsumerGroup>, Result<Group, Invalid>)> = context
        .watched
        .groups_of(cluster)
        .into_iter()
        .map(|resource| (Arc::clone(&resource), Group::validate(&resource)))
        .collect();
    if judged.is_empty() {
        context.metrics.groups(cluster, &[]);
        return Ok(Next::WhenAdded);
    }
    let found = context
        .watched
        .cluster(cluster)
        .is_some_and(|resource| resource.metadata.deletion_timestamp.is_none());
    let answers: Result<Answers, String> = if found {
        let way = observe::way_to(&context.client, cluster).await?;
        let door = context.door(cluster, way).await;
        let ids = judged
            .iter()
            .filter_map(|(_, verdict)| Some(verdict.as_ref().ok()?.id.clone()))
            .collect();
        let answer = door.lock().await.1.groups(ids).await;
        answer.map_err(|error| error.to_string())
    } else {
        Ok(Answers::new())
    };
    let mut reports = Vec::new();
    for (resource, verdict) in &judged {
        let report;
        let outcome = match (verdict, &answers) {
            (Err(invalid), _) => Outcome::Invalid(invalid),
            (Ok(group), _) if !found => Outcome::ClusterNotFound(group),
            (Ok(group), Err(error)) => Outcome::Unreachable(group, error),
            (Ok(group), Ok(answers)) => match answers.get(&group.id) {
                Some(Ok(seen)) => {
                    report = group::report(group, seen);
                    let committed = seen.lag.iter().map(|lag| lag.committed_offset.max(0));
                    reports.push((resource.name_any(), report.clone(), committed.sum()));
                    Outcome::Seen(group, &report)
                }
                Some(Err(refusal)) => Outcome::Refused(group, refusal),
                None => Outcome::Unreachable(group, "the brokers did not answer for this group"),
            },
        };
        write(context, resource, &outcome).await?;
    }
    // Of groups that could not be asked for, what was last seen stays.
    if answers.is_ok() {
        context.metrics.groups(cluster, &reports);
    }
    let all_seen = answers.is_ok_and(|answers| answers.values().all(Result::is_ok));
    Ok(Next::After(match (found, all_seen) {
        (true, true) => LOOK,
        (true, false) => AGAIN,
        (false, _) => LOST,
    }))
}

async fn write(
    context: &Context,
    resource: &weir_crds::ConsumerGroup,
    outcome: &Outcome<'_>,
) -> Result<(), kube::Error> {
    let previous = resource.status.clone().unwrap_or_default();
    let status = status::group::status(
        &previous,
        resource.metadata.generation,
        outcome,
        Timestamp::now(),
    );
    if status == previous {
        return Ok(());
    }
    let key = Key::new(
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    );
    apply::status::<weir_crds::ConsumerGroup, _>(&context.client, &key, &status).await?;
    let missed = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "LagObjectiveMet" && condition.status == "False");
    let missed_before = status::holds(&previous.conditions, "LagObjectiveMet") == Some(false);
    if let Some(missed) = missed.filter(|_| !missed_before) {
        context
            .tell(
                &resource.object_ref(&()),
                EventType::Warning,
                "Observe",
                "LagObjectiveMissed",
                missed.message.clone(),
            )
            .await;
    }
    Ok(())
}
