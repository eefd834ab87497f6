//! One pass over all ConsumerGroups of one cluster: one call to the brokers, what was decided then, and status where it changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use jiff::Timestamp;
use kube::runtime::events::EventType;
use kube::{Api, Client, Resource, ResourceExt};
use tokio::time::Instant;
use weir_crds::ConsumerGroupStatus;

use super::apply;
use super::context::Context;
use super::observe;
use super::queue::Next;
use super::scaling::{Autoscalers, Consumers, autoscalers};
use super::watch::Watched;
use crate::admin::{Admin, Outcomes, Unreachable, is_passing};
use crate::decide;
use crate::decide::group::{self, Report};
use crate::decide::group_scale::Hold;
use crate::decide::group_steps::{self, Asked, GroupsPlan, Step};
use crate::status;
use crate::status::group::{Actions, Begun, Outcome, Reset, Scaled};
use crate::validate::{Group, Invalid};
use crate::world::{Consumption, GroupSeen, Key, Refusal};

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
        }, |key| context.metrics.panicked("groups", key))
        .await;
}

type Answers = BTreeMap<String, Result<GroupSeen, Refusal>>;

/// One ConsumerGroup, judged.
type Judged = (Arc<weir_crds::ConsumerGroup>, Result<Group, Invalid>);

fn judge(resource: Arc<weir_crds::ConsumerGroup>) -> Judged {
    let verdict = Group::validate(&resource);
    (resource, verdict)
}

/// Resources that could not be read anew: nothing is done for them, and nothing said of them.
#[derive(Default)]
struct Unread {
    resources: BTreeSet<Key>,
    /// The first that was met.
    error: Option<kube::Error>,
}

/// Reads the resources anew that a reset is due for. What is watched may be older than the status that says what came of it; asked again, the brokers
/// would know that it is done and no more from where to where, and that would be written over what is known. Those that are gone are left out; those that
/// cannot be read stay as they are watched, so that no younger one speaks for their groups.
async fn read_resets_anew(client: &Client, judged: &mut Vec<Judged>) -> Unread {
    let mut unread = Unread::default();
    let mut read = Vec::with_capacity(judged.len());
    for (resource, verdict) in judged.drain(..) {
        let wanted = verdict.as_ref().ok().and_then(|group| group.reset.as_ref());
        let last = resource.status.as_ref();
        let last = last.and_then(|status| status.last_reset.as_ref());
        if decide::reset::due(wanted, last, resource.metadata.generation).is_none() {
            read.push((resource, verdict));
            continue;
        }
        let key = key_of(&resource);
        let api: Api<weir_crds::ConsumerGroup> = Api::namespaced(client.clone(), &key.namespace);
        match api.get_opt(&key.name).await {
            Ok(now) => read.extend(now.map(|now| judge(Arc::new(now)))),
            Err(error) => {
                tracing::warn!(group = %key, error = apply::plain(&error), "a group with a reset could not be read");
                unread.resources.insert(key);
                unread.error.get_or_insert(error);
                read.push((resource, verdict));
            }
        }
    }
    *judged = read;
    unread
}

async fn pass(context: &Context, cluster: &Key) -> Result<Next, kube::Error> {
    let mut judged: Vec<Judged> = context
        .watched
        .groups_of(cluster)
        .into_iter()
        .map(judge)
        .collect();
    keep_histories(context, cluster, &judged);
    let groups = judged.iter().filter_map(|(_, group)| group.as_ref().ok());
    let objectives = groups.filter_map(|group| {
        let seconds = group.objective.as_ref()?.seconds?;
        Some((group.id.as_str(), seconds))
    });
    context.metrics.objectives(cluster, &objectives.collect());
    if judged.is_empty() {
        context.metrics.groups(cluster, &[], &BTreeSet::new());
        return Ok(Next::WhenAdded);
    }
    let resource = context
        .watched
        .cluster(cluster)
        .filter(|resource| resource.metadata.deletion_timestamp.is_none());
    let is_held = resource
        .as_ref()
        .is_some_and(|resource| resource.spec.paused);
    let unread = match resource.is_some() && !is_held {
        true => read_resets_anew(&context.client, &mut judged).await,
        false => Unread::default(),
    };
    let no_status = ConsumerGroupStatus::default();
    let asked: Vec<Asked<'_>> = judged
        .iter()
        .filter_map(|one| asked_by(one, &no_status))
        .collect();
    let mut done: BTreeMap<Key, Actions> = BTreeMap::new();
    let answers: Result<Answers, String> = if resource.is_some() {
        let way = observe::way_to(&context.client, cluster).await?;
        let door = context.door(cluster, way).await;
        let mut open = door.lock().await;
        let ids: Vec<String> = asked.iter().map(|one| one.group.id.clone()).collect();
        let mut answer = open.1.groups(ids.clone()).await;
        if let Ok(seen) = &mut answer {
            let mut plan = group_steps::plan(is_held, &asked, seen);
            plan.steps
                .retain(|step| !unread.resources.contains(step.resource()));
            if act(context, &mut open.1, &plan, &asked, &mut done).await
                && let Ok(again) = open.1.groups(ids).await
            {
                // What it has come to. Of a group that cannot be described right now, what was done is told all the same.
                seen.extend(again.into_iter().filter(|(_, group)| group.is_ok()));
            }
            for (resource, speaker) in plan.conflicts {
                done.entry(resource).or_default().conflict = Some(speaker);
            }
        }
        answer.map_err(|error| error.to_string())
    } else {
        Ok(Answers::new())
    };
    let scales = asked.iter().any(|one| one.group.scale.is_some());
    let scale_conflicts = match scales {
        true => scale_conflicts(&context.watched, &cluster.namespace),
        false => BTreeMap::new(),
    };
    let autoscaled = match scales && !is_held {
        true => autoscalers(&context.client, &cluster.namespace).await,
        false => Ok(Autoscalers::new()),
    };
    let mut reports = Vec::new();
    let mut unseen = BTreeSet::new();
    let mut changes = Vec::new();
    let mut is_settled = true;
    let found = resource.is_some();
    for (resource, verdict) in &judged {
        if unread.resources.contains(&key_of(resource)) {
            unseen.insert(resource.name_any());
            continue;
        }
        let (report, mut actions);
        let outcome = match (verdict, &answers) {
            (Err(invalid), _) => Outcome::Invalid(invalid),
            (Ok(group), _) if !found => Outcome::ClusterNotFound(group),
            (Ok(group), Err(error)) => Outcome::Unreachable(group, error),
            (Ok(group), Ok(answers)) => match answers.get(&group.id) {
                Some(Ok(seen)) => {
                    report = group::report(group, seen);
                    let committed = seen.lag.iter().map(|lag| lag.committed_offset.max(0));
                    reports.push((resource.name_any(), report.clone(), committed.sum()));
                    actions = done.remove(&group.key).unwrap_or_default();
                    actions.is_held = is_held;
                    actions.scaled = scale(
                        context,
                        group,
                        &report,
                        is_held,
                        &scale_conflicts,
                        &autoscaled,
                    )
                    .await;
                    is_settled &= settled(group, &report, &actions);
                    Outcome::Seen(group, &report, &actions)
                }
                Some(Err(refusal)) => {
                    unseen.insert(resource.name_any());
                    Outcome::Refused(group, refusal)
                }
                None => {
                    unseen.insert(resource.name_any());
                    Outcome::Unreachable(group, "the brokers did not answer for this group")
                }
            },
        };
        changes.extend(change(resource, &outcome));
    }
    let writes = changes.iter().map(|change| write(context, change).boxed());
    let written = apply::all(writes.collect()).await;
    // Of groups that could not be asked for, what was last seen stays.
    if answers.is_ok() {
        context.metrics.groups(cluster, &reports, &unseen);
    }
    // Of one resource that cannot be read or written the others do not suffer: all that could be done is done.
    unread.error.map_or(Ok(()), Err).and(written)?;
    let all_seen = answers.is_ok_and(|answers| answers.values().all(Result::is_ok));
    Ok(Next::After(match (found, all_seen) {
        (true, true) if is_settled => LOOK,
        (true, _) => AGAIN,
        (false, _) => LOST,
    }))
}

/// What a resource that makes sense asks for.
fn asked_by<'a>(
    (resource, verdict): &'a Judged,
    no_status: &'a ConsumerGroupStatus,
) -> Option<Asked<'a>> {
    let created = resource.metadata.creation_timestamp.as_ref();
    Some(Asked {
        group: verdict.as_ref().ok()?,
        created: created.map(|time| time.0),
        generation: resource.metadata.generation,
        status: resource.status.as_ref().unwrap_or(no_status),
    })
}

/// Who gives way to whom, over all Clusters of the namespace: they may name the same Deployment. One whose Cluster is gone scales nothing.
fn scale_conflicts(watched: &Watched, namespace: &str) -> BTreeMap<Key, Key> {
    let judged: Vec<Judged> = watched
        .groups_in(namespace)
        .into_iter()
        .map(judge)
        .collect();
    let no_status = ConsumerGroupStatus::default();
    let asked: Vec<Asked<'_>> = judged
        .iter()
        .filter_map(|one| asked_by(one, &no_status))
        .filter(|one| {
            let cluster = watched.cluster(&one.group.cluster);
            cluster.is_some_and(|cluster| cluster.metadata.deletion_timestamp.is_none())
        })
        .collect();
    group_steps::scale_conflicts(&asked)
}

/// Has the brokers do what was decided. Tells whether groups are to be looked at once more.
async fn act(
    context: &Context,
    admin: &mut Admin,
    plan: &GroupsPlan,
    asked: &[Asked<'_>],
    done: &mut BTreeMap<Key, Actions>,
) -> bool {
    if plan.steps.is_empty() {
        return false;
    }
    let lost = context.lease.still_held().await.err();
    let unwritten = match &lost {
        Some(_) => BTreeMap::new(),
        None => intend(&context.client, plan, asked).await,
    };
    let held = |resource: &Key| match &lost {
        Some(lost) => Some(lost.to_string()),
        None => unwritten.get(resource).cloned(),
    };
    for step in &plan.steps {
        match step {
            Step::Pause {
                resource,
                group,
                paused,
            } => {
                let failed = match held(resource) {
                    Some(why) => Some(why),
                    None => failure(admin.pause_groups(vec![group.clone()], *paused).await),
                };
                done.entry(resource.clone()).or_default().pause_failed = failed;
            }
            Step::Configure {
                resource,
                group,
                changes,
            } => {
                let failed = match held(resource) {
                    Some(why) => Some(why),
                    None => failure(admin.configure_group(group, changes).await),
                };
                done.entry(resource.clone()).or_default().configure_failed = failed;
            }
            Step::Begin {
                resource,
                group,
                at,
                topics,
            } => {
                let begun = match held(resource) {
                    Some(why) => Begun::NotYet(why),
                    None => match admin
                        .begin_group(group, *at, topics, Timestamp::now())
                        .await
                    {
                        Ok(topics) => Begun::Asked(topics),
                        Err(error) => Begun::NotYet(error.to_string()),
                    },
                };
                done.entry(resource.clone()).or_default().begun = Some(begun);
            }
            Step::Reset {
                resource,
                group,
                reset,
            } => {
                let outcome = match held(resource) {
                    Some(why) => Reset::NotYet(why),
                    None => match admin.reset_offsets(group, reset).await {
                        Ok(Ok(seen)) => Reset::Done(seen),
                        Ok(Err(refusal)) if is_passing(&refusal) => {
                            Reset::NotYet(refusal.to_string())
                        }
                        Ok(Err(refusal)) => Reset::Refused(refusal),
                        Err(error) => Reset::NotYet(error.to_string()),
                    },
                };
                done.entry(resource.clone()).or_default().reset = Some(outcome);
            }
        }
    }
    lost.is_none()
}

/// Writes down what is about to be asked for and has to be taken back one day. Tells of which resources that failed, and why: for these nothing is to be
/// done.
async fn intend(client: &Client, plan: &GroupsPlan, asked: &[Asked<'_>]) -> BTreeMap<Key, String> {
    let mut unwritten = BTreeMap::new();
    for one in asked {
        let key = &one.group.key;
        let is_to_be_taken_back = |step: &Step| match step {
            Step::Pause { resource, .. } | Step::Configure { resource, .. } => resource == key,
            Step::Begin { .. } | Step::Reset { .. } => false,
        };
        let status = status::group::intended(one.status, one.group);
        if status == *one.status || !plan.steps.iter().any(is_to_be_taken_back) {
            continue;
        }
        let written = apply::status::<weir_crds::ConsumerGroup, _>(client, key, &status).await;
        if let Err(error) = written {
            unwritten.insert(key.clone(), apply::plain(&error));
        }
    }
    unwritten
}

/// Why it failed, if it did.
fn failure(asked: Result<Outcomes, Unreachable>) -> Option<String> {
    match asked {
        Ok(outcomes) => outcomes
            .into_values()
            .find_map(Result::err)
            .map(|refusal| refusal.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Has the consumers' Deployment follow the lag.
async fn scale(
    context: &Context,
    group: &Group,
    report: &Report,
    is_held: bool,
    conflicts: &BTreeMap<Key, Key>,
    autoscaled: &Result<Autoscalers, Scaled>,
) -> Option<Scaled> {
    let scale = group.scale.as_ref()?;
    if let Some(owner) = conflicts.get(&group.key) {
        return Some(Scaled::Held(Hold::Conflict(owner.name.clone())));
    }
    if is_held {
        return Some(Scaled::Held(Hold::ClusterPaused));
    }
    if report.consumption.is_some_and(Consumption::is_to_be_paused) {
        return Some(Scaled::Held(Hold::Paused));
    }
    match autoscaled {
        Err(why) => return Some(why.clone()),
        Ok(all) => {
            if let Some(name) = all.get(&scale.deployment) {
                return Some(Scaled::Held(Hold::OwnedByAutoscaler(name.clone())));
            }
        }
    }
    let consumers = Consumers {
        client: &context.client,
        lease: &context.lease,
        histories: &context.histories,
        group,
        scale,
    };
    Some(consumers.follow(report.load).await)
}

/// Resources that scale nothing any more leave no memory behind.
fn keep_histories(context: &Context, cluster: &Key, judged: &[Judged]) {
    let scaling = judged.iter().filter_map(|(_, verdict)| {
        let group = verdict.as_ref().ok()?;
        group.scale.as_ref().map(|_| group.key.clone())
    });
    context.histories.keep(cluster, &scaling.collect());
}

/// Whether there is nothing that is about to come by itself.
fn settled(group: &Group, report: &Report, done: &Actions) -> bool {
    let is_pausing = report.consumption == Some(Consumption::Pausing);
    let is_resetting = group.reset.is_some() && matches!(done.reset, Some(Reset::NotYet(_)));
    let is_beginning = done.begun.as_ref().is_some_and(Begun::is_open);
    !is_pausing
        && !is_resetting
        && !is_beginning
        && done.pause_failed.is_none()
        && done.configure_failed.is_none()
}

fn key_of(resource: &weir_crds::ConsumerGroup) -> Key {
    Key::new(
        resource.namespace().unwrap_or_default(),
        resource.name_any(),
    )
}

/// What is to be written of a group, and told.
struct Change<'a> {
    resource: &'a weir_crds::ConsumerGroup,
    status: ConsumerGroupStatus,
    events: Vec<(EventType, &'static str, String)>,
}

/// `None` when the status says it already.
fn change<'a>(resource: &'a weir_crds::ConsumerGroup, outcome: &Outcome<'_>) -> Option<Change<'a>> {
    let previous = resource.status.clone().unwrap_or_default();
    let status = status::group::status(
        &previous,
        resource.metadata.generation,
        outcome,
        Timestamp::now(),
    );
    if status == previous {
        return None;
    }
    Some(Change {
        resource,
        events: events(&previous, &status, outcome),
        status,
    })
}

async fn write(context: &Context, change: &Change<'_>) -> Result<(), kube::Error> {
    let (key, about) = (key_of(change.resource), change.resource.object_ref(&()));
    apply::status::<weir_crds::ConsumerGroup, _>(&context.client, &key, &change.status).await?;
    for (kind, reason, note) in &change.events {
        context
            .tell(&about, *kind, "Observe", reason, note.clone())
            .await;
    }
    Ok(())
}

/// What a person is to hear of once.
fn events(
    previous: &ConsumerGroupStatus,
    now: &ConsumerGroupStatus,
    outcome: &Outcome<'_>,
) -> Vec<(EventType, &'static str, String)> {
    let mut events = Vec::new();
    let missed = now
        .conditions
        .iter()
        .find(|condition| condition.type_ == "LagObjectiveMet" && condition.status == "False");
    let missed_before = status::holds(&previous.conditions, "LagObjectiveMet") == Some(false);
    if let Some(missed) = missed.filter(|_| !missed_before) {
        let note = missed.message.clone();
        events.push((EventType::Warning, "LagObjectiveMissed", note));
    }
    if let Some(last) = now
        .last_reset
        .as_ref()
        .filter(|_| now.last_reset != previous.last_reset)
    {
        let (kind, reason) = match (last.state == decide::reset::DONE, last.dry_run) {
            (true, true) => (EventType::Normal, "OffsetsResetDryRun"),
            (true, false) => (EventType::Normal, "OffsetsReset"),
            (false, _) => (EventType::Warning, "OffsetsResetRefused"),
        };
        let note = format!("reset {}: {}", last.request_id, last.message);
        events.push((kind, reason, note));
    }
    if let Outcome::Seen(_, _, done) = outcome {
        for (topic, partitions) in done.begun.iter().flat_map(Begun::topics) {
            let note =
                format!("topic {topic}: {partitions} partitions begin where spec.begin says");
            events.push((EventType::Normal, "GroupBegun", note));
        }
    }
    if let Outcome::Seen(_, _, done) = outcome
        && let Some(Scaled::Looked {
            verdict,
            changed: Some(_),
        }) = &done.scaled
    {
        let note = format!("{} consumers: {}", verdict.replicas, verdict.why);
        events.push((EventType::Normal, "ConsumersScaled", note));
    }
    events
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use kube::api::Api;
    use serde_json::{Value, json};
    use weir_crds::{Cluster, ConsumerGroup};

    use super::{Judged, asked_by, intend, judge, pass, read_resets_anew, scale_conflicts};
    use crate::decide::group_steps::{GroupsPlan, Step};
    use crate::kubernetes::context::Context;
    use crate::kubernetes::watch::Watched;
    use crate::testing::api;
    use crate::world::Key;

    const PATH: &str = "/apis/weir.dev/v1alpha1/namespaces/market/consumergroups/billing";

    fn group(spec: &Value, status: &Value) -> ConsumerGroup {
        let mut group = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "ConsumerGroup",
            "metadata": {"name": "billing", "namespace": "market", "generation": 4},
            "spec": {"clusterRef": {"name": "shop"}},
            "status": status,
        });
        for (name, value) in spec.as_object().unwrap() {
            group["spec"][name] = value.clone();
        }
        serde_json::from_value(group).unwrap()
    }

    fn judged(group: ConsumerGroup) -> Judged {
        judge(group.into())
    }

    /// On the server there is such a group, and nothing was said of it yet.
    fn server() -> api::Api {
        let server = api::Api::default();
        server.put(
            PATH,
            serde_json::to_value(group(&json!({}), &json!({}))).unwrap(),
        );
        server
    }

    #[tokio::test]
    async fn what_is_to_be_taken_back_one_day_is_written_down_before_the_brokers_are_asked() {
        let key = Key::new("market", "billing");
        let pause = Step::Pause {
            resource: key.clone(),
            group: "billing".into(),
            paused: true,
        };
        let plan = GroupsPlan {
            steps: vec![pause],
            ..GroupsPlan::default()
        };
        let no_status = Default::default();
        let spec = json!({"paused": true, "config": {"consumer.session.timeout.ms": "50000"}});
        let pauses = judged(group(&spec, &json!({})));
        let asked = [asked_by(&pauses, &no_status).unwrap()];

        let (server, away) = (server(), server());
        assert_eq!(intend(&server.client(), &plan, &asked).await, [].into());
        let groups: Api<ConsumerGroup> = Api::namespaced(server.client(), "market");
        let status = groups.get("billing").await.unwrap().status.unwrap();
        assert!(status.paused);
        assert_eq!(status.config_keys, ["consumer.session.timeout.ms"]);

        let written = judged(group(&spec, &serde_json::to_value(&status).unwrap()));
        let asked_again = [asked_by(&written, &no_status).unwrap()];
        let before = server.requests();
        intend(&server.client(), &plan, &asked_again).await;
        assert_eq!(server.requests(), before, "it is there");

        away.refuse("consumergroups", 503);
        let unwritten = intend(&away.client(), &plan, &asked).await;
        assert_eq!(unwritten, [(key, "answered with 503".to_owned())].into());
    }

    fn cluster(name: &str) -> Cluster {
        let cluster = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": name, "namespace": "market"},
            "spec": {"storage": {"size": "1Gi"}},
        });
        serde_json::from_value(cluster).unwrap()
    }

    fn scaling(name: &str, namespace: &str, cluster: &str, day: u32) -> ConsumerGroup {
        let group = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "ConsumerGroup",
            "metadata": {"name": name, "namespace": namespace, "creationTimestamp": format!("2026-11-{day:02}T00:00:00Z")},
            "spec": {
                "clusterRef": {"name": cluster},
                "scale": {"deployment": "workers", "minReplicas": 1, "maxReplicas": 4, "lagPerReplica": 10},
            },
        });
        serde_json::from_value(group).unwrap()
    }

    #[tokio::test]
    async fn a_reset_is_due_only_when_the_api_server_itself_says_so() {
        let (spec, done) = (
            json!({"reset": {"requestId": "again", "to": "Earliest"}}),
            json!({"lastReset": {"requestId": "again", "state": "Done", "generation": 4, "partitionsReset": 2}}),
        );
        let server = server();
        let stored = serde_json::to_value(group(&spec, &done)).unwrap();
        server.put(PATH, stored);
        let resets = |all: &[Judged]| -> Vec<Option<i32>> {
            let last = all.iter().map(|(resource, _)| {
                let last = resource.status.as_ref()?.last_reset.as_ref()?;
                last.partitions_reset
            });
            last.collect()
        };

        let mut stale = vec![judged(group(&spec, &json!({})))];
        assert_eq!(resets(&stale), [None]);
        read_resets_anew(&server.client(), &mut stale).await;
        assert_eq!(resets(&stale), [Some(2)]);

        let before = server.requests();
        read_resets_anew(&server.client(), &mut stale).await;
        let mut plain = vec![judged(group(&json!({}), &json!({})))];
        read_resets_anew(&server.client(), &mut plain).await;
        assert_eq!((stale.len(), plain.len()), (1, 1));
        assert_eq!(server.requests(), before, "nothing is due");

        let mut gone = vec![judged(group(&spec, &json!({})))];
        let empty = api::Api::default();
        let unread = read_resets_anew(&empty.client(), &mut gone).await;
        assert!(unread.error.is_none());
        assert!(gone.is_empty());
    }

    #[tokio::test]
    async fn of_one_group_that_cannot_be_read_the_others_do_not_suffer() {
        let named = |name: &str, spec: &Value| {
            let mut group = group(spec, &json!({}));
            group.metadata.name = Some(name.to_owned());
            group
        };
        let spec = json!({"reset": {"requestId": "again", "to": "Earliest"}});
        let (broken, well) = (named("broken", &spec), named("well", &spec));
        let at = |name: &str| PATH.replace("billing", name);
        let server = api::Api::default();
        for group in [&broken, &well] {
            let name = group.metadata.name.as_deref().unwrap();
            server.put(&at(name), serde_json::to_value(group).unwrap());
        }
        let before = server.at(&at("broken"));
        server.refuse("broken", 503);

        let mut both = vec![judged(broken.clone()), judged(well.clone())];
        let unread = read_resets_anew(&server.client(), &mut both).await;
        assert_eq!(unread.resources, [Key::new("market", "broken")].into());
        assert_eq!(both.len(), 2, "no younger one speaks for its group");

        let mut context = Context::of(server.client());
        context.watched = Watched::of(vec![cluster("shop")], vec![broken, well]);
        let failed = pass(&context, &Key::new("market", "shop")).await;
        assert!(failed.is_err(), "it is told, and tried again");
        assert_eq!(server.at(&at("broken")), before);
        let status = &server.at(&at("well")).unwrap()["status"];
        assert_eq!(status["conditions"][0]["reason"], "BrokersNotSeen");
    }

    #[test]
    fn of_groups_of_different_clusters_that_name_one_deployment_the_oldest_scales_it() {
        let watched = Watched::of(
            vec![cluster("blue"), cluster("green")],
            vec![
                scaling("young", "market", "blue", 3),
                scaling("old", "market", "green", 2),
                // Of no cluster, and of another namespace's Deployment.
                scaling("lost", "market", "red", 1),
                scaling("far", "other", "blue", 1),
            ],
        );
        let expected = [(Key::new("market", "young"), Key::new("market", "old"))];
        assert_eq!(scale_conflicts(&watched, "market"), expected.into());
    }
}
