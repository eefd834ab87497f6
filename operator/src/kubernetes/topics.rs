//! One pass over all Topics of one cluster: one look at the brokers, one plan, at most three batched changes, and status where it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Client, Resource, ResourceExt};
use tokio::time::Instant;
use weir_crds::TopicStatus;

use super::apply;
use super::context::Context;
use super::observe;
use super::queue::Next;
use crate::act::{self, Acted};
use crate::admin::Admin;
use crate::decide::topic::{self, ClusterView, Step, TopicsPlan};
use crate::names;
use crate::status::{self, topic::Outcome};
use crate::validate::{Invalid, Topic};
use crate::world::{Key, Look};

/// Clusters whose topics are worked on at the same time.
const CONCURRENCY: usize = 4;
/// Changes made behind our back are repaired this soon.
const DRIFT: Duration = Duration::from_secs(60);
/// What was changed is looked at once more, since another broker may answer from older metadata.
const SETTLE: Duration = Duration::from_secs(1);
/// Brokers that did not answer are asked again this soon; and how far replicas are that come and go.
const UNSEEN: Duration = Duration::from_secs(5);
/// Works on the queue until dropped.
pub(super) async fn work(context: &Arc<Context>) {
    context
        .topics
        .work(CONCURRENCY, |key| {
            let context = Arc::clone(context);
            async move {
                let began = Instant::now();
                let result = pass(&context, &key).await;
                context
                    .metrics
                    .pass("topics", &key, began.elapsed(), result.is_ok());
                result.unwrap_or_else(|error| {
                    tracing::warn!(cluster = %key, error = apply::plain(&error), "a pass over topics failed");
                    Next::Failed
                })
            }
        }, |key| context.metrics.panicked("topics", key))
        .await;
}

/// One Topic, judged.
struct Judged {
    resource: Arc<weir_crds::Topic>,
    verdict: Result<Topic, Invalid>,
}

async fn pass(context: &Context, cluster: &Key) -> Result<Next, kube::Error> {
    let mut judged: Vec<Judged> = context
        .watched
        .topics_of(cluster)
        .into_iter()
        .map(|resource| Judged {
            verdict: Topic::validate(&resource),
            resource,
        })
        .collect();
    if judged.is_empty() {
        context.metrics.topics_stalled(cluster, None);
        return Ok(Next::WhenAdded);
    }
    let topics: Vec<Topic> = judged
        .iter()
        .filter_map(|judged| judged.verdict.clone().ok())
        .collect();

    let resource = context
        .watched
        .cluster(cluster)
        .filter(|resource| resource.metadata.deletion_timestamp.is_none());
    let mut door = None;
    let mut unseen = None;
    let mut seen: Option<Look> = None;
    if resource.is_some() {
        let way = observe::way_to(&context.client, cluster).await?;
        let open = context.door(cluster, way).await;
        match open.lock().await.1.look().await {
            Ok(look) => seen = Some(look),
            Err(error) => unseen = Some(error.to_string()),
        }
        door = Some(open);
    }
    let paused = resource
        .as_ref()
        .is_some_and(|resource| resource.spec.paused);
    let mut plan = {
        let view = match (&resource, &seen) {
            (None, _) => ClusterView::Gone,
            (Some(_), None) => ClusterView::Unseen { paused },
            (Some(_), Some(look)) => ClusterView::Seen { paused, look },
        };
        topic::plan(view, &topics)
    };

    let mut acted = Acted::default();
    let mut finalizers = Ok(());
    if !plan.steps.is_empty() {
        let taken = take_finalizers(&context.client, &judged, &plan).await;
        // What could not be marked is not begun, and nothing is said of it.
        plan.steps
            .retain(|step| !taken.missing.contains(step.resource()));
        judged.retain(|judged| !taken.missing.contains(&key_of(&judged.resource)));
        if let Some(door) = &door {
            let mut open = door.lock().await;
            match on_brokers(context, &mut open.1, &plan).await {
                Ok(done) => acted = done,
                Err(error) => unseen = Some(error),
            }
            if !acted.changed.is_empty()
                && let Ok(look) = open.1.look().await
            {
                if let Some(before) = &seen {
                    acted.leave_out_what_changed_nothing(&plan.steps, before, &look);
                }
                seen = Some(look);
            }
        }
        let released = release_finalizers(&context.client, &judged, &plan, &acted).await;
        finalizers = taken.result.and(released);
    }
    let reported = report(
        context,
        cluster,
        &judged,
        &plan,
        &acted,
        seen.as_ref(),
        unseen.as_deref(),
    )
    .await;
    // Of one resource that cannot be written the others do not suffer: all that could be done is done.
    finalizers.and(reported)?;
    let is_replicating = |topic: &Topic| {
        let seen = seen.as_ref().and_then(|look| look.topics.get(&topic.name));
        seen.is_some_and(|seen| seen.wanted_replication_factor.is_some())
    };
    Ok(if unseen.is_some() || topics.iter().any(is_replicating) {
        Next::After(UNSEEN)
    } else if acted.changed.is_empty() {
        // What the brokers refuse is asked again with the rest, or when somebody changes it.
        Next::After(DRIFT)
    } else {
        Next::After(SETTLE)
    })
}

/// The brokers' part of the plan. Deleting needs the lease, asked for once more.
async fn on_brokers(
    context: &Context,
    admin: &mut Admin,
    plan: &TopicsPlan,
) -> Result<Acted, String> {
    if plan
        .steps
        .iter()
        .any(|step| matches!(step, Step::Delete { .. }))
    {
        context
            .lease
            .still_held()
            .await
            .map_err(|lost| lost.to_string())?;
    }
    act::on_topics(admin, &plan.steps)
        .await
        .map_err(|error| error.to_string())
}

/// What came of taking finalizers.
struct Taken {
    /// Resources that have none though they should.
    missing: BTreeSet<Key>,
    result: Result<(), kube::Error>,
}

async fn take_finalizers(client: &Client, judged: &[Judged], plan: &TopicsPlan) -> Taken {
    let missing = Mutex::new(BTreeSet::new());
    let writes = plan.steps.iter().filter_map(|step| {
        let Step::TakeFinalizer { resource } = step else {
            return None;
        };
        let (object, missing) = (find(judged, resource)?, &missing);
        let mut finalizers = object.finalizers().to_vec();
        finalizers.push(names::TOPIC_FINALIZER.to_owned());
        let write = async move {
            let written = apply::finalizers(client, object, finalizers).await;
            if written.is_err() {
                let mut missing = missing.lock().unwrap_or_else(PoisonError::into_inner);
                missing.insert(resource.clone());
            }
            told(resource, written)
        };
        Some(write.boxed())
    });
    let result = apply::all(writes.collect()).await;
    Taken {
        missing: missing.into_inner().unwrap_or_else(PoisonError::into_inner),
        result,
    }
}

/// The error itself does not say whose finalizer it was.
fn told(topic: &Key, written: Result<(), kube::Error>) -> Result<(), kube::Error> {
    if let Err(error) = &written {
        tracing::warn!(%topic, error = apply::plain(error), "a finalizer could not be written");
    }
    written
}

/// Lets go of what was decided to be let go, and of what has been deleted on the brokers.
async fn release_finalizers(
    client: &Client,
    judged: &[Judged],
    plan: &TopicsPlan,
    acted: &Acted,
) -> Result<(), kube::Error> {
    let writes = plan.steps.iter().filter_map(|step| {
        let resource = match step {
            Step::ReleaseFinalizer { resource } => resource,
            Step::Delete { resource, .. } if acted.changed.contains(resource) => resource,
            _ => return None,
        };
        let object = find(judged, resource)?;
        let finalizers = object
            .finalizers()
            .iter()
            .filter(|name| *name != names::TOPIC_FINALIZER)
            .cloned()
            .collect();
        let write = async move {
            let written = apply::finalizers(client, object, finalizers).await;
            told(resource, written)
        };
        Some(write.boxed())
    });
    apply::all(writes.collect()).await
}

fn find<'a>(judged: &'a [Judged], key: &Key) -> Option<&'a weir_crds::Topic> {
    judged
        .iter()
        .map(|judged| &*judged.resource)
        .find(|resource| key_of(resource) == *key)
}

fn key_of(resource: &weir_crds::Topic) -> Key {
    Key::new(
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

async fn report(
    context: &Context,
    cluster: &Key,
    judged: &[Judged],
    plan: &TopicsPlan,
    acted: &Acted,
    look: Option<&Look>,
    unseen: Option<&str>,
) -> Result<(), kube::Error> {
    let steps: BTreeMap<&Key, &Step> = plan
        .steps
        .iter()
        .map(|step| (step.resource(), step))
        .collect();
    let mut writes: Vec<BoxFuture<'_, Result<(), kube::Error>>> = Vec::with_capacity(judged.len());
    let mut stalled = 0;
    for judged in judged {
        let key = key_of(&judged.resource);
        let seen = judged
            .verdict
            .as_ref()
            .ok()
            .and_then(|topic| look?.topics.get(&topic.name));
        let outcome = match &judged.verdict {
            Err(invalid) => Outcome::Invalid(invalid),
            Ok(topic) if plan.drifted.contains_key(&key) => {
                Outcome::Drifted(topic, plan.drifted.get(&key).map_or("", String::as_str))
            }
            Ok(topic) => match (
                plan.blocked.get(&key),
                acted.refused.get(&key),
                unseen,
                steps.get(&key),
            ) {
                (Some(blocked), ..) => Outcome::Blocked(topic, blocked),
                (None, Some(refusal), ..) => Outcome::Refused(topic, refusal),
                (None, None, Some(error), _) => Outcome::Unreachable(topic, error),
                (None, None, None, Some(_)) if !is_as_wanted(topic, look) => {
                    Outcome::Changed(topic)
                }
                (None, None, None, _) => match seen {
                    Some(seen) if seen.wanted_replication_factor.is_some() => {
                        Outcome::Replicating(topic, seen)
                    }
                    _ => Outcome::AsWanted(topic),
                },
            },
        };
        let step = acted
            .changed
            .contains(&key)
            .then(|| steps.get(&key).copied())
            .flatten();
        let resource = &judged.resource;
        let previous = resource.status.clone().unwrap_or_default();
        let generation = resource.metadata.generation;
        let now = Timestamp::now();
        let status = status::topic::status(&previous, generation, &outcome, seen, now);
        stalled += usize::from(status::holds(&status.conditions, "Stalled") == Some(true));
        writes.push(
            async move { report_one(context, resource, &key, &previous, &status, step).await }
                .boxed(),
        );
    }
    context.metrics.topics_stalled(cluster, Some(stalled));
    apply::all(writes).await
}

/// Whether a look after the change shows it done: a plan for this one topic alone would be empty.
fn is_as_wanted(topic: &Topic, look: Option<&Look>) -> bool {
    look.is_some_and(|look| {
        let again = topic::plan(
            ClusterView::Seen {
                paused: false,
                look,
            },
            std::slice::from_ref(topic),
        );
        again.blocked.is_empty()
            && again.steps.iter().all(|step| {
                matches!(
                    step,
                    Step::TakeFinalizer { .. } | Step::ReleaseFinalizer { .. }
                )
            })
    })
}

async fn report_one(
    context: &Context,
    resource: &weir_crds::Topic,
    key: &Key,
    previous: &TopicStatus,
    status: &TopicStatus,
    step: Option<&Step>,
) -> Result<(), kube::Error> {
    let about = resource.object_ref(&());
    if let Some((change, note)) = step.and_then(described) {
        context.metrics.topic_change(change);
        if previously_applied(resource) {
            context.metrics.drift_repaired("Topic");
        }
        tracing::info!(topic = %key, note, "changed");
        context
            .tell(&about, EventType::Normal, change, change, note)
            .await;
    }
    if resource.metadata.deletion_timestamp.is_some() && matches!(step, Some(Step::Delete { .. })) {
        return Ok(());
    }
    if status == previous {
        return Ok(());
    }
    for kind in ["Stalled", "Drifted"] {
        if let Some(holds) = status::newly(&previous.conditions, &status.conditions, kind) {
            context
                .tell(
                    &about,
                    EventType::Warning,
                    "Reconcile",
                    &holds.reason,
                    holds.message.clone(),
                )
                .await;
        }
    }
    apply::status::<weir_crds::Topic, _>(&context.client, key, status).await
}

/// Whether the topic was seen to be as this generation of its resource says before.
fn previously_applied(resource: &weir_crds::Topic) -> bool {
    let applied = resource
        .status
        .as_ref()
        .and_then(|status| status.applied_generation);
    applied.is_some()
        && applied == resource.metadata.generation
        && resource.metadata.deletion_timestamp.is_none()
}

/// What was changed, as a metric's label and an event's reason, and as a sentence.
fn described(step: &Step) -> Option<(&'static str, String)> {
    match step {
        Step::Create { topic, .. } => Some(("Created", format!("topic {topic} was created"))),
        Step::Alter {
            topic,
            grow: Some((from, to)),
            ..
        } => Some((
            "Grown",
            format!("topic {topic} was grown from {from} to {to} partitions"),
        )),
        Step::Alter {
            topic,
            replicas: Some((from, to)),
            ..
        } => Some((
            "Replicated",
            format!("topic {topic} is changed from {from} to {to} replicas"),
        )),
        Step::Alter {
            topic,
            set_config,
            unset_config,
            ..
        } => {
            let keys: Vec<&str> = set_config
                .keys()
                .chain(unset_config)
                .map(String::as_str)
                .collect();
            Some((
                "Configured",
                format!(
                    "topic {topic} was given {} as its spec says",
                    keys.join(", ")
                ),
            ))
        }
        Step::Delete { topic, .. } => Some((
            "Deleted",
            format!("topic {topic} was deleted with its data"),
        )),
        Step::TakeFinalizer { .. } | Step::ReleaseFinalizer { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::sync::Arc;

    use kube::ResourceExt;
    use kube::api::Api;
    use serde_json::json;

    use super::{Judged, release_finalizers, take_finalizers};
    use crate::act::Acted;
    use crate::decide::topic::{Step, TopicsPlan};
    use crate::names::TOPIC_FINALIZER;
    use crate::testing::api;
    use crate::validate::Topic;
    use crate::world::Key;

    const NAMES: [&str; 3] = ["a", "broken", "z"];

    /// Topics that may all be written but one.
    async fn topics(finalizers: &[&str]) -> (api::Api, Api<weir_crds::Topic>, Vec<Judged>) {
        let server = api::Api::default();
        for name in NAMES {
            let topic = json!({
                "apiVersion": "weir.dev/v1alpha1", "kind": "Topic",
                "metadata": {"name": name, "namespace": "market", "finalizers": finalizers},
                "spec": {"clusterRef": {"name": "shop"}},
            });
            let path = format!("/apis/weir.dev/v1alpha1/namespaces/market/topics/{name}");
            server.put(&path, topic);
        }
        let topics: Api<weir_crds::Topic> = Api::namespaced(server.client(), "market");
        let mut judged = Vec::new();
        for name in NAMES {
            let resource = Arc::new(topics.get(name).await.unwrap());
            judged.push(Judged {
                verdict: Topic::validate(&resource),
                resource,
            });
        }
        server.refuse("broken", 422);
        (server, topics, judged)
    }

    fn plan(step: impl Fn(Key) -> Step) -> TopicsPlan {
        let keys = NAMES.map(|name| Key::new("market", name));
        TopicsPlan {
            steps: keys.into_iter().map(step).collect(),
            ..TopicsPlan::default()
        }
    }

    #[tokio::test]
    async fn one_topic_that_cannot_be_written_keeps_no_other_from_its_finalizer() {
        let (server, topics, judged) = topics(&[]).await;
        let plan = plan(|resource| Step::TakeFinalizer { resource });
        let taken = take_finalizers(&server.client(), &judged, &plan).await;
        assert_eq!(taken.missing, [Key::new("market", "broken")].into());
        assert!(taken.result.is_err());
        for name in ["a", "z"] {
            let topic = topics.get(name).await.unwrap();
            assert_eq!(topic.finalizers(), [TOPIC_FINALIZER], "{name}");
        }
    }

    #[tokio::test]
    async fn one_topic_that_cannot_be_written_keeps_no_other_from_being_let_go() {
        let (server, topics, judged) = topics(&[TOPIC_FINALIZER]).await;
        let plan = plan(|resource| Step::ReleaseFinalizer { resource });
        let acted = Acted::default();
        let released = release_finalizers(&server.client(), &judged, &plan, &acted).await;
        assert!(released.is_err());
        for name in ["a", "z"] {
            let topic = topics.get(name).await.unwrap();
            assert!(topic.finalizers().is_empty(), "{name}");
        }
    }
}
