//! What is changed in resources: a restart, a broker that is emptied, a broker less, a reset of offsets.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};
use weir_crds::{Cluster, ConsumerGroup, ConsumerGroupStatus};

use super::{KubectlError, Place, show};
use crate::names;
use crate::validate::drained;
use crate::world::BrokerId;

/// The annotation that `kubectl rollout restart` writes too.
const RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";
/// The operator looks at groups every quarter of a minute, and at once when a spec has changed.
const RESET_LIMIT: Duration = Duration::from_secs(60);

/// Has all brokers restarted: their pods are to have another annotation, which rolls them as any change does.
pub(super) async fn restart(
    place: &Place,
    cluster: &str,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let body = json!({"spec": {"pod": {"annotations": {RESTARTED: second(Timestamp::now())}}}});
    let patched = patch::<Cluster>(place, cluster, body).await?;
    writeln!(
        out,
        "Brokers of Cluster {cluster} are restarted one at a time, as far as the gates let them: kubectl weir plan {cluster}"
    )?;
    if_paused(&patched, out)
}

/// Has a broker emptied that stays.
pub(super) async fn drain(
    place: &Place,
    cluster: &str,
    broker: u32,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (replicas, mut named) = named(place, cluster).await?;
    if i32::try_from(broker).is_ok_and(|broker| broker >= replicas) {
        return Err(KubectlError::Refused(format!(
            "Cluster {cluster} has brokers 0 to {}",
            replicas.saturating_sub(1)
        )));
    }
    named.insert(BrokerId(broker));
    let patched = name(place, cluster, &named).await?;
    writeln!(
        out,
        "Broker {broker} is emptied, and stays without holding anything: kubectl weir plan {cluster}. To have it take its share again: kubectl weir uncordon {cluster} {broker}"
    )?;
    if_paused(&patched, out)
}

/// Has a broker that was drained take its share again.
pub(super) async fn uncordon(
    place: &Place,
    cluster: &str,
    broker: u32,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let (_, mut named) = named(place, cluster).await?;
    if !named.remove(&BrokerId(broker)) {
        return Err(KubectlError::Refused(format!(
            "broker {broker} of Cluster {cluster} is not drained"
        )));
    }
    let patched = name(place, cluster, &named).await?;
    writeln!(
        out,
        "Broker {broker} takes its share again: kubectl weir plan {cluster}"
    )?;
    if_paused(&patched, out)
}

/// How many brokers there are to be, and those of them that are to hold nothing.
async fn named(place: &Place, cluster: &str) -> Result<(i32, BTreeSet<BrokerId>), KubectlError> {
    let found = place.api::<Cluster>().get(cluster).await?;
    let named = drained(found.annotations().get(names::DRAIN_ANNOTATION))
        .map_err(|invalid| KubectlError::Refused(invalid.to_string()))?;
    Ok((found.spec.replicas, named))
}

async fn name(
    place: &Place,
    cluster: &str,
    named: &BTreeSet<BrokerId>,
) -> Result<Cluster, KubectlError> {
    patch::<Cluster>(place, cluster, annotated(named)).await
}

/// What was asked for does not happen now.
fn if_paused(cluster: &Cluster, out: &mut impl Write) -> Result<(), KubectlError> {
    if cluster.spec.paused {
        writeln!(
            out,
            "Not now: Cluster {} is paused, and nothing happens until spec.paused is false",
            cluster.name_any()
        )?;
    }
    Ok(())
}

/// What is null is removed.
fn annotated(named: &BTreeSet<BrokerId>) -> Value {
    let numbers: Vec<String> = named.iter().map(ToString::to_string).collect();
    let value = (!numbers.is_empty()).then(|| numbers.join(","));
    json!({"metadata": {"annotations": {(names::DRAIN_ANNOTATION): value}}})
}

/// Has the last broker emptied and removed.
pub(super) async fn remove(
    place: &Place,
    cluster: &str,
    broker: u32,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let replicas = place.api::<Cluster>().get(cluster).await?.spec.replicas;
    let fewer = fewer(cluster, replicas, broker).map_err(KubectlError::Refused)?;
    let body = json!({"spec": {"replicas": fewer}});
    let patched = patch::<Cluster>(place, cluster, body).await?;
    writeln!(
        out,
        "Broker {broker} is emptied, and leaves once it holds nothing: kubectl weir plan {cluster}. To keep it: kubectl scale clusters.weir.dev/{cluster} --replicas={replicas}"
    )?;
    if_paused(&patched, out)
}

/// The number of brokers without this one.
fn fewer(cluster: &str, replicas: i32, broker: u32) -> Result<i32, String> {
    let last = replicas.saturating_sub(1);
    if i32::try_from(broker) == Ok(last) && last > 0 {
        return Ok(last);
    }
    Err(match last {
        0 => format!("Cluster {cluster} has one broker: it cannot be spared"),
        last => format!(
            "Brokers of Cluster {cluster} leave from the highest number on: only broker {last} can be removed. Another can be emptied and stays, without --remove"
        ),
    })
}

/// A reset of offsets.
#[derive(Debug, Args)]
pub(super) struct Reset {
    /// Name of the ConsumerGroup.
    group: String,
    /// To an end of each partition.
    #[arg(long, value_enum)]
    to: Option<ResetTo>,
    /// To the first message that is not older than this time, such as 2026-11-26T06:00:00Z.
    #[arg(long)]
    timestamp: Option<Timestamp>,
    /// To this offset.
    #[arg(long)]
    offset: Option<i64>,
    /// By so many messages, back when negative.
    #[arg(long, allow_negative_numbers = true)]
    shift: Option<i64>,
    /// Topics [default: those of the ConsumerGroup, or all that the group has offsets of].
    #[arg(long = "topic")]
    topics: Vec<String>,
    /// Partitions of the one topic [default: all].
    #[arg(long = "partition", requires = "topics")]
    partitions: Vec<i32>,
    /// Carry it out instead of saying what would change.
    #[arg(long)]
    execute: bool,
    /// Name of the reset, which is carried out once [default: one of the present time].
    #[arg(long)]
    request_id: Option<String>,
}

/// An end of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum ResetTo {
    /// The first message.
    Earliest,
    /// Past the last.
    Latest,
}

impl Reset {
    /// What `spec.reset` is to be; what is null is removed from what was there.
    fn spec(&self, now: Timestamp) -> Value {
        let to = self.to.map(|to| match to {
            ResetTo::Earliest => "Earliest",
            ResetTo::Latest => "Latest",
        });
        let default = || format!("kubectl-{}", now.as_millisecond());
        let list = |is_empty: bool, list: Value| if is_empty { Value::Null } else { list };
        json!({
            "requestId": self.request_id.clone().unwrap_or_else(default),
            "to": to,
            "timestamp": self.timestamp.map(|at| at.to_string()),
            "offset": self.offset,
            "shift": self.shift,
            "topics": list(self.topics.is_empty(), json!(self.topics)),
            "partitions": list(self.partitions.is_empty(), json!(self.partitions)),
            "dryRun": !self.execute,
        })
    }
}

/// Writes `spec.reset`, and waits for what comes of it.
pub(super) async fn reset(
    place: &Place,
    reset: &Reset,
    out: &mut impl Write,
) -> Result<(), KubectlError> {
    let spec = reset.spec(Timestamp::now());
    let id = spec["requestId"].as_str().unwrap_or_default().to_owned();
    let group: ConsumerGroup = patch(place, &reset.group, json!({"spec": {"reset": spec}})).await?;
    let generation = group.metadata.generation;
    let is_told = move |group: Option<&ConsumerGroup>| {
        let status = group.and_then(|group| group.status.as_ref());
        status.is_some_and(|status| is_settled(status, generation))
    };
    let waited = await_condition(place.api::<ConsumerGroup>(), &reset.group, is_told);
    let found = match tokio::time::timeout(RESET_LIMIT, waited).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(KubectlError::Api(error.to_string())),
        Err(_) => {
            return Err(KubectlError::Refused(format!(
                "the operator has not answered within {} s; look at: kubectl describe wcg/{}",
                RESET_LIMIT.as_secs(),
                reset.group
            )));
        }
    };
    let status = found.and_then(|group| group.status).unwrap_or_default();
    let last = status.last_reset.as_ref();
    match last.filter(|last| last.request_id == id && last.state == crate::decide::reset::DONE) {
        Some(last) => {
            out.write_all(show::reset(last).as_bytes())?;
            if last.dry_run {
                writeln!(
                    out,
                    "To carry it out: the same with --execute --request-id {id}"
                )?;
            }
            Ok(())
        }
        None => Err(KubectlError::Refused(why_not(&status))),
    }
}

/// Whether the operator has said what comes of the reset of this generation.
fn is_settled(status: &ConsumerGroupStatus, generation: Option<i64>) -> bool {
    let done = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "ResetDone");
    match done {
        // It is not known while it waits, or is tried again.
        Some(done) => done.observed_generation >= generation && done.status != "Unknown",
        // It says why it cannot look at the group at all.
        None => status.conditions.iter().any(|it| {
            it.type_ == "Ready" && it.status == "False" && it.observed_generation >= generation
        }),
    }
}

fn why_not(status: &ConsumerGroupStatus) -> String {
    let mut conditions = status.conditions.iter();
    let told = conditions
        .find(|it| matches!(it.type_.as_str(), "ResetDone" | "Ready") && it.status != "True");
    told.map_or("it was not done".to_owned(), |told| {
        format!("it was not done ({}): {}", told.reason, told.message)
    })
}

fn second(at: Timestamp) -> String {
    Timestamp::from_second(at.as_second())
        .unwrap_or(at)
        .to_string()
}

async fn patch<K>(place: &Place, name: &str, body: Value) -> Result<K, KubectlError>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let parameters = PatchParams {
        field_manager: Some("kubectl-weir".to_owned()),
        ..PatchParams::default()
    };
    let api = place.api::<K>();
    let patched = api.patch(name, &parameters, &Patch::Merge(body)).await?;
    tracing::debug!(name = patched.name_any(), "written");
    Ok(patched)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use jiff::Timestamp;
    use serde_json::json;
    use weir_crds::ConsumerGroupStatus;

    use super::{Place, Reset, ResetTo, annotated, drain, fewer, is_settled, restart, why_not};
    use crate::testing::api::Api;
    use crate::world::BrokerId;

    #[test]
    fn brokers_that_are_drained_are_named_on_the_cluster_and_nothing_is_left_of_the_last() {
        let named = |numbers: &[u32]| {
            let named = numbers.iter().copied().map(BrokerId).collect();
            annotated(&named)["metadata"]["annotations"]["weir.dev/drain"].clone()
        };
        assert_eq!(named(&[4, 1]), json!("1,4"));
        assert_eq!(named(&[]), json!(null));
    }

    #[tokio::test]
    async fn of_a_paused_cluster_it_is_said_that_nothing_happens_yet() {
        for is_paused in [false, true] {
            let server = Api::default();
            let cluster = json!({
                "apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "shop", "namespace": "market"},
                "spec": {"replicas": 3, "storage": {"size": "1Gi"}, "paused": is_paused},
            });
            let path = "/apis/weir.dev/v1alpha1/namespaces/market/clusters/shop";
            server.put(path, cluster);
            let place = Place {
                client: server.client(),
                namespace: "market".into(),
            };
            let mut told = Vec::new();
            restart(&place, "shop", &mut told).await.unwrap();
            drain(&place, "shop", 1, &mut told).await.unwrap();
            let told = String::from_utf8(told).unwrap();
            let expected = if is_paused { 2 } else { 0 };
            assert_eq!(told.matches("Cluster shop is paused").count(), expected);
        }
    }

    #[test]
    fn brokers_leave_from_the_highest_on_and_one_stays() {
        assert_eq!(fewer("shop", 4, 3), Ok(3));
        for (replicas, broker, part) in [
            (4, 1, "only broker 3"),
            (1, 0, "one broker"),
            (4, 4, "only broker 3"),
        ] {
            let error = fewer("shop", replicas, broker).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_reset_is_a_dry_run_unless_told_and_takes_nothing_over_from_the_one_before() {
        let reset = Reset {
            group: "billing".into(),
            to: Some(ResetTo::Earliest),
            timestamp: None,
            offset: None,
            shift: None,
            topics: Vec::new(),
            partitions: Vec::new(),
            execute: false,
            request_id: None,
        };
        let now = Timestamp::from_second(1).unwrap();
        assert_eq!(
            reset.spec(now),
            json!({
                "requestId": "kubectl-1000", "to": "Earliest", "timestamp": null, "offset": null, "shift": null,
                "topics": null, "partitions": null, "dryRun": true,
            })
        );
    }

    #[test]
    fn an_answer_is_waited_for_that_is_about_this_spec_and_final() {
        let status = |generation: i64, kind: &str, is: &str, reason: &str| -> ConsumerGroupStatus {
            serde_json::from_value(json!({"conditions": [{
                "type": kind, "status": is, "reason": reason, "message": "so", "observedGeneration": generation,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}))
            .unwrap()
        };
        for (told, expected) in [
            (status(4, "ResetDone", "True", "Done"), false),
            (status(5, "ResetDone", "True", "Done"), true),
            (status(5, "ResetDone", "False", "DryRun"), true),
            (status(5, "ResetDone", "False", "Refused"), true),
            (status(5, "ResetDone", "Unknown", "Retrying"), false),
            (status(5, "Ready", "True", "Observed"), false),
            (status(5, "Ready", "False", "ClusterNotFound"), true),
        ] {
            assert_eq!(is_settled(&told, Some(5)), expected, "{told:?}");
        }
        let refused = status(5, "ResetDone", "False", "Refused");
        assert_eq!(why_not(&refused), "it was not done (Refused): so");
    }
}
