//! What a pass over a Cluster has decided, carried out: volumes, then one step after the other.

use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, Preconditions};
use kube::runtime::events::EventType;
use kube::{Resource, ResourceExt};
use weir_tls::Due;

use super::super::apply;
use super::super::context::Context;
use super::super::observe::Observed;
use crate::act;
use crate::decide::cluster::{Decision, Extent, Step};
use crate::decide::{certificates, volumes};
use crate::names;
use crate::objects;
use crate::plan;
use crate::validate::Cluster;
use crate::world::{BrokerId, Key};

/// Has claims ask for more. One that the API server does not let grow is no failure of the pass, which goes on without it: the step becomes
/// something that is blocked, with the server's reason.
pub(super) async fn grow_volumes(
    context: &Context,
    resource: &weir_crds::Cluster,
    key: &Key,
    decision: &mut Decision,
) -> Result<(), String> {
    let mut refused = None;
    let mut failed = Ok(());
    let mut kept = Vec::with_capacity(decision.plan.steps.len());
    for step in std::mem::take(&mut decision.plan.steps) {
        if let Step::GrowVolume {
            claim, from, to, ..
        } = &step
        {
            match apply::claim_size(&context.client, &key.namespace, claim, to).await {
                Ok(()) => {
                    tracing::info!(cluster = %key, claim, from, to, "growing a volume");
                    let note = format!("PersistentVolumeClaim {claim}: {from} → {to}");
                    context
                        .tell(
                            &resource.object_ref(&()),
                            EventType::Normal,
                            "Resize",
                            "GrowingVolume",
                            note,
                        )
                        .await;
                }
                Err(error) => {
                    let why = apply::plain(&error);
                    tracing::warn!(cluster = %key, claim, error = why, "a volume cannot grow");
                    if matches!(&error, kube::Error::Api(status) if matches!(status.code, 403 | 422))
                    {
                        // One says what there is to do; the others are alike.
                        refused.get_or_insert(volumes::refused(claim, to, &why));
                        continue;
                    }
                    failed = Err(format!(
                        "PersistentVolumeClaim {claim} could not be grown: {why}"
                    ));
                }
            }
        }
        kept.push(step);
    }
    decision.plan.steps = kept;
    decision.plan.blocked.splice(0..0, refused);
    failed
}

/// Takes the steps in order and stops at the first that fails, with a sentence that says which and why. After one that holds up nothing it goes on.
pub(super) async fn act(
    context: &Context,
    resource: &weir_crds::Cluster,
    cluster: &Cluster,
    observed: &Observed,
    decision: &Decision,
    extent: Extent,
) -> Result<(), String> {
    let mut failed = Failed::default();
    for step in decision.steps(extent) {
        let outcome = take(context, resource, cluster, observed, step).await;
        if failed.holds_up(step, outcome) {
            break;
        }
    }
    failed.outcome()
}

/// Why steps failed.
#[derive(Debug, Default)]
struct Failed(Vec<String>);

impl Failed {
    /// Notes what came of a step. Whether the others are to wait for it.
    fn holds_up(&mut self, step: &Step, outcome: Result<(), String>) -> bool {
        let Err(why) = outcome else { return false };
        self.0.push(why);
        !step.holds_up_nothing()
    }

    fn outcome(self) -> Result<(), String> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(self.0.join("; "))
        }
    }
}

/// Takes one step.
async fn take(
    context: &Context,
    resource: &weir_crds::Cluster,
    cluster: &Cluster,
    observed: &Observed,
    step: &Step,
) -> Result<(), String> {
    let key = &cluster.key;
    let about = resource.object_ref(&());
    match step {
        // Taken before, since what is refused there stops nothing here.
        Step::GrowVolume { .. } => {}
        Step::CancelDrain { .. }
        | Step::Drain { .. }
        | Step::Rebalance { .. }
        | Step::Replicate { .. }
        | Step::ProveEmpty { .. }
        | Step::ProveLost { .. }
        | Step::RaiseFeatureLevel { .. }
        | Step::SetListeners { .. }
        | Step::Configure { .. }
        | Step::Unregister { .. } => {
            let sentence = plan::cluster_sentence(step);
            ask_brokers(context, key, observed, step).await?;
            tracing::info!(cluster = %key, step = sentence, "asked of the brokers");
            let action = match step {
                Step::ProveLost { .. } => "Heal",
                Step::RaiseFeatureLevel { .. } => "Upgrade",
                Step::SetListeners { .. } => "Listen",
                Step::Configure { .. } => "Configure",
                _ => "Scale",
            };
            context
                .tell(&about, EventType::Normal, action, asked(step), sentence)
                .await;
        }
        Step::MarkVolume { claim, .. } | Step::KeepVolume { claim, .. } => {
            let is_released = matches!(step, Step::MarkVolume { .. });
            apply::claim_mark(&context.client, &key.namespace, claim, is_released)
                .await
                .map_err(|error| {
                    format!(
                        "PersistentVolumeClaim {claim} could not be marked: {}",
                        apply::plain(&error)
                    )
                })?;
        }
        Step::DeleteService { name } => {
            apply::delete_service(&context.client, &key.namespace, name)
                .await
                .map_err(|error| {
                    format!(
                        "Service {name} could not be deleted: {}",
                        apply::plain(&error)
                    )
                })?;
            tracing::info!(cluster = %key, name, "deleted the Service of a listener");
        }
        Step::DeleteVolume { broker, claim } => {
            delete_volume(context, key, observed, *broker, claim).await?;
            tracing::info!(cluster = %key, claim, "deleted the volume of a broker that is gone");
            let note = format!("PersistentVolumeClaim {claim}: spec.storage.onScaleDown is Delete");
            context
                .tell(&about, EventType::Normal, "Scale", "DeletedVolume", note)
                .await;
        }
        Step::DeleteLostVolume { broker, claim, why } => {
            delete_volume(context, key, observed, *broker, claim).await?;
            tracing::warn!(cluster = %key, %broker, claim, why, "deleted the volume of a broker that has lost its disk");
            let note = format!(
                "broker {broker} gets an empty disk in place of PersistentVolumeClaim {claim}: {why}"
            );
            context
                .tell(&about, EventType::Warning, "Heal", "DiskLost", note)
                .await;
        }
        Step::DeleteLostPod { broker, at_once } => {
            let grace_period_seconds = at_once.then_some(0);
            delete_pod(context, key, observed, *broker, grace_period_seconds)
                .await
                .map_err(|error| {
                    format!("the pod of broker {broker} could not be deleted: {error}")
                })?;
            tracing::info!(cluster = %key, %broker, "deleted the pod of a broker that has lost its disk");
        }
        Step::Issue { due } => {
            let names = plan::names_of(due);
            issue(context, cluster, observed, due)
                .await
                .map_err(|error| format!("certificates could not be made: {error}"))?;
            tracing::info!(cluster = %key, certificates = names, "made");
            let note = format!("certificates: {names}");
            context
                .tell(&about, EventType::Normal, "Issue", "Issued", note)
                .await;
        }
        Step::Apply { child, change } => {
            if child.resource.kind == "StatefulSet" {
                // It may lose brokers.
                let held = context.lease.still_held().await;
                held.map_err(|lost| lost.to_string())?;
            }
            let is_there = observed.world.objects.contains_key(&child.at());
            apply::child(&context.client, &key.namespace, child, is_there)
                .await
                .map_err(|error| {
                    format!(
                        "{} could not be applied: {}",
                        child.title(),
                        apply::plain(&error)
                    )
                })?;
            tracing::info!(cluster = %key, object = child.title(), change, "applied");
            // A new cluster is told once, not once for each of its objects.
            if change != "missing" || child.resource.kind == "StatefulSet" {
                context
                    .tell(
                        &about,
                        EventType::Normal,
                        "Apply",
                        "Applied",
                        format!("{}: {change}", child.title()),
                    )
                    .await;
            }
        }
        Step::RestartBroker { broker, why } => {
            delete_pod(context, key, observed, *broker, None)
                .await
                .map_err(|error| format!("broker {broker} could not be restarted: {error}"))?;
            tracing::info!(cluster = %key, %broker, why, "restarting");
            context
                .tell(
                    &about,
                    EventType::Normal,
                    "Restart",
                    "RestartingBroker",
                    format!("broker {broker}: {why}"),
                )
                .await;
        }
    }
    Ok(())
}

/// What was asked of the brokers, as an event's reason.
fn asked(step: &Step) -> &'static str {
    match step {
        Step::CancelDrain { .. } => "DrainCancelled",
        Step::Drain { .. } => "Draining",
        Step::Rebalance { .. } => "Rebalancing",
        Step::Replicate { .. } => "Replicating",
        Step::ProveEmpty { .. } => "ProvenEmpty",
        Step::ProveLost { .. } => "ProvenLost",
        Step::RaiseFeatureLevel { .. } => "FeatureLevelRaised",
        Step::SetListeners { .. } => "ListenersSet",
        Step::Configure { .. } => "Configured",
        _ => "Unregistered",
    }
}

async fn ask_brokers(
    context: &Context,
    key: &Key,
    observed: &Observed,
    step: &Step,
) -> Result<(), String> {
    let held = context.lease.still_held().await;
    held.map_err(|lost| lost.to_string())?;
    let door = context.door(key, observed.way.clone()).await;
    let mut open = door.lock().await;
    act::on_brokers(&mut open.1, step).await
}

/// Deletes the very claim that was observed, if this process still leads.
async fn delete_volume(
    context: &Context,
    key: &Key,
    observed: &Observed,
    broker: BrokerId,
    claim: &str,
) -> Result<(), String> {
    let failed =
        |error: String| format!("PersistentVolumeClaim {claim} could not be deleted: {error}");
    let held = context.lease.still_held().await;
    held.map_err(|lost| failed(lost.to_string()))?;
    let uid = observed.claim_uids.get(&broker).cloned();
    let deleted = apply::delete_claim(&context.client, &key.namespace, claim, uid).await;
    deleted.map_err(|error| failed(apply::plain(&error)))
}

/// Makes certificates, and writes all Secrets as they are then. An authority is only made where there is none, if this process still leads.
async fn issue(
    context: &Context,
    cluster: &Cluster,
    observed: &Observed,
    due: &[Due],
) -> Result<(), String> {
    context
        .lease
        .still_held()
        .await
        .map_err(|lost| lost.to_string())?;
    let Key { namespace, name } = &cluster.key;
    let (mut held, _) = certificates::held(cluster, &observed.world);
    held.issue(name, due, SystemTime::now())
        .map_err(|error| error.to_string())?;
    for child in objects::secrets(cluster, &held).map_err(|error| error.to_string())? {
        if observed.world.taken.contains(&child.at()) {
            continue;
        }
        let is_there = observed.world.objects.contains_key(&child.at());
        let is_new = due.contains(&Due::Authority) && child.name == names::authority_secret(name);
        let written = if is_new {
            apply::new_child(&context.client, namespace, &child).await
        } else {
            apply::child(&context.client, namespace, &child, is_there).await
        };
        written.map_err(|error| format!("{}: {}", child.title(), apply::plain(&error)))?;
    }
    Ok(())
}

/// Deletes the very pod that was observed, if this process still leads.
async fn delete_pod(
    context: &Context,
    key: &Key,
    observed: &Observed,
    broker: BrokerId,
    grace_period_seconds: Option<u32>,
) -> Result<(), String> {
    let uid = observed.pods.get(&broker).and_then(ResourceExt::uid);
    context
        .lease
        .still_held()
        .await
        .map_err(|lost| lost.to_string())?;
    let pods: Api<Pod> = Api::namespaced(context.client.clone(), &key.namespace);
    let only_this = DeleteParams {
        preconditions: Some(Preconditions {
            uid,
            resource_version: None,
        }),
        grace_period_seconds,
        ..DeleteParams::default()
    };
    match pods
        .delete(&names::pod(&key.name, broker), &only_this)
        .await
    {
        Ok(_) => Ok(()),
        // Gone already, or another one by now.
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => Ok(()),
        Err(error) => Err(apply::plain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Failed, Step};

    #[test]
    fn what_holds_up_nothing_fails_alone_and_is_told() {
        let configure = Step::Configure {
            set: Default::default(),
            unset: Default::default(),
        };
        let forget = Step::Unregister {
            brokers: Vec::new(),
        };
        let no = |why: &str| Err(why.to_owned());
        let mut failed = Failed::default();
        assert!(!failed.holds_up(&forget, Ok(())));
        assert!(!failed.holds_up(&configure, no("one")));
        assert!(!failed.holds_up(&configure, no("two")));
        assert!(failed.holds_up(&forget, no("three")));
        assert_eq!(failed.outcome(), no("one; two; three"));
        assert_eq!(Failed::default().outcome(), Ok(()));
    }
}
