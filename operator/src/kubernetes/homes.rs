//! Where volumes lie, and what Kubernetes knows of the nodes there: read only for brokers that are not ready.
//!
//! A volume is bound to nodes when its required node affinity names them (`kubernetes.io/hostname`), as that of local volumes does. What is bound
//! in another way, to a zone say, counts as lying on no node in particular: that a node is gone says nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use kube::Client;
use kube::api::{Api, ListParams};

use super::apply;
use crate::world::{BrokerId, Home, NodeState};

/// The label that names a node in the affinity of a volume.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// A pod that has not been ready for so many seconds is not just being restarted.
const RESTARTED_S_MAX: i64 = 300;

/// Finds out where volumes lie. What cannot be read says so, with what the pods say instead.
pub(super) async fn of(
    client: &Client,
    volumes: BTreeMap<BrokerId, String>,
    pods: &BTreeMap<BrokerId, Pod>,
    now_s: i64,
) -> BTreeMap<BrokerId, Home> {
    let mut homes = BTreeMap::new();
    for (broker, volume) in volumes {
        let home = home(client, &volume).await;
        let unread = |error: kube::Error| Home::Unread {
            why: apply::plain(&error),
            missed: pods.get(&broker).is_some_and(|pod| is_missed(pod, now_s)),
        };
        homes.insert(broker, home.unwrap_or_else(unread));
    }
    homes
}

/// Whether Kubernetes says more of a pod than that it is being restarted. One that is not there is about to be made.
fn is_missed(pod: &Pod, now_s: i64) -> bool {
    let Some(status) = &pod.status else {
        return false;
    };
    // What is said of pods whose node does not answer, when they are taken off it.
    if status.reason.as_deref() == Some("NodeLost") {
        return true;
    }
    let mut conditions = status.conditions.iter().flatten();
    conditions.any(|condition| {
        let since = condition.last_transition_time.as_ref();
        match (condition.type_.as_str(), condition.status.as_str()) {
            ("DisruptionTarget", "True") => {
                condition.reason.as_deref() == Some("DeletionByTaintManager")
            }
            ("PodScheduled", "False") => true,
            ("Ready", "False" | "Unknown") => {
                since.is_some_and(|since| now_s - since.0.as_second() > RESTARTED_S_MAX)
            }
            _ => false,
        }
    })
}

async fn home(client: &Client, volume: &str) -> Result<Home, kube::Error> {
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let Some(names) = nodes_of(&volumes.get(volume).await?) else {
        return Ok(Home::Anywhere);
    };
    let nodes: Api<Node> = Api::all(client.clone());
    let selector = format!("{HOSTNAME} in ({})", names.join(","));
    let mut found = nodes
        .list(&ListParams::default().labels(&selector))
        .await?
        .items;
    // A node may have lost that label.
    for name in &names {
        found.extend(nodes.get_opt(name).await?);
    }
    let state = state(&found);
    Ok(Home::On { names, state })
}

/// The nodes that a volume is bound to, if it is bound to nodes.
fn nodes_of(volume: &PersistentVolume) -> Option<Vec<String>> {
    let affinity = volume.spec.as_ref()?.node_affinity.as_ref()?;
    let mut names = BTreeSet::new();
    // Any one of the terms is enough, and in a term everything has to hold.
    for term in &affinity.required.as_ref()?.node_selector_terms {
        let all = term.match_expressions.iter().flatten();
        let by_name = all
            .filter(|one| one.key == HOSTNAME && one.operator == "In")
            .find_map(|one| one.values.as_ref())?;
        names.extend(by_name.iter().cloned());
    }
    (!names.is_empty()).then(|| names.into_iter().collect())
}

fn state(nodes: &[Node]) -> NodeState {
    let is_ready = |node: &Node| {
        let status = node.status.as_ref();
        let conditions = status.and_then(|status| status.conditions.as_ref());
        conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    };
    if nodes.is_empty() {
        NodeState::Gone
    } else if nodes.iter().any(is_ready) {
        NodeState::Ready
    } else {
        NodeState::Unreachable
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::{Value, json};

    use super::{is_missed, nodes_of, state};
    use crate::world::NodeState;

    fn bound(terms: Value) -> Option<Vec<String>> {
        let volume = json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": terms}}}});
        nodes_of(&serde_json::from_value(volume).unwrap())
    }

    #[test]
    fn a_volume_lies_on_a_node_only_if_each_way_to_it_names_some() {
        let named = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["a"]}]});
        let other = json!({"matchExpressions": [
            {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z"]},
            {"key": "kubernetes.io/hostname", "operator": "In", "values": ["b"]},
        ]});
        let zone = json!({"matchExpressions": [{"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["z"]}]});
        let not = json!({"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "NotIn", "values": ["a"]}]});
        assert_eq!(bound(json!([named])), Some(vec!["a".into()]));
        assert_eq!(
            bound(json!([named, other])),
            Some(vec!["a".into(), "b".into()])
        );
        for anywhere in [json!([zone]), json!([named, zone]), json!([not]), json!([])] {
            assert_eq!(bound(anywhere), None);
        }
        assert_eq!(
            nodes_of(&serde_json::from_value(json!({"spec": {}})).unwrap()),
            None
        );
    }

    #[test]
    fn a_pod_is_missed_when_no_node_has_it_or_its_node_is_silent_or_it_has_been_away_for_minutes() {
        let now = jiff::Timestamp::from_second(10_000).unwrap();
        let pod = |status: Value| serde_json::from_value(json!({"status": status})).unwrap();
        let ready = |status: &str, ago_s: i64| {
            let since = jiff::Timestamp::from_second(10_000 - ago_s).unwrap();
            pod(json!({"conditions": [
                {"type": "PodScheduled", "status": "True"},
                {"type": "Ready", "status": status, "lastTransitionTime": since.to_string()},
            ]}))
        };
        let evicted = |reason: &str| {
            pod(
                json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]}),
            )
        };
        let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]});
        for (pod, expected) in [
            (Default::default(), false),
            (pod(json!({"phase": "Pending"})), false),
            (ready("False", 60), false),
            (ready("True", 6000), false),
            (ready("False", 600), true),
            (ready("Unknown", 600), true),
            (pod(unscheduled), true),
            (pod(json!({"reason": "NodeLost"})), true),
            (evicted("DeletionByTaintManager"), true),
            (evicted("EvictionByEvictionAPI"), false),
        ] {
            assert_eq!(is_missed(&pod, now.as_second()), expected, "{pod:?}");
        }
    }

    #[test]
    fn a_node_that_does_not_answer_is_not_gone() {
        let node = |status: &str| {
            serde_json::from_value(
                json!({"status": {"conditions": [{"type": "Ready", "status": status}]}}),
            )
            .unwrap()
        };
        assert_eq!(state(&[]), NodeState::Gone);
        assert_eq!(state(&[node("Unknown")]), NodeState::Unreachable);
        assert_eq!(state(&[node("False"), node("True")]), NodeState::Ready);
        assert_eq!(state(&[Default::default()]), NodeState::Unreachable);
    }
}
