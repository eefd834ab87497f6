//! Where volumes lie, and what Kubernetes knows of the nodes there: read only for brokers that are not ready.
//!
//! A volume is bound to nodes when its required node affinity names them (`kubernetes.io/hostname`), as that of local volumes does. What is bound
//! in another way, to a zone say, counts as lying on no node in particular: that a node is gone says nothing of it.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Node, PersistentVolume};
use kube::Client;
use kube::api::{Api, ListParams};

use super::apply;
use crate::world::{BrokerId, Home, NodeState};

/// The label that names a node in the affinity of a volume.
const HOSTNAME: &str = "kubernetes.io/hostname";

/// Finds out where volumes lie. What cannot be read says so.
pub(super) async fn of(
    client: &Client,
    volumes: BTreeMap<BrokerId, String>,
) -> BTreeMap<BrokerId, Home> {
    let mut homes = BTreeMap::new();
    for (broker, volume) in volumes {
        let home = home(client, &volume).await;
        let unread = |error: kube::Error| Home::Unread(apply::plain(&error));
        homes.insert(broker, home.unwrap_or_else(unread));
    }
    homes
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

    use super::{nodes_of, state};
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
