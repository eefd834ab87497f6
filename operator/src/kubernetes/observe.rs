//! Reads what there is of a cluster: its objects, volumes and pods from the API server, and what its brokers say.
//!
//! Fresh reads, not caches: a pod is replaced on the strength of what is read here.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, PersistentVolumeClaim, Pod, Secret};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::{Client, ResourceExt};
use serde_json::Value;
use weir_tls::Role;

use super::homes;
use crate::admin::Way;
use crate::decide::cluster::World;
use crate::decide::volumes::Claim;
use crate::names;
use crate::objects;
use crate::validate::{Cluster, Listener, ListenerTls, ListenerType};
use crate::world::{BrokerId, Key, NodeAddress, Process};

/// A cluster as the API server has it, and where its brokers may be asked.
#[derive(Debug, Default)]
pub struct Observed {
    /// Objects and processes; what the brokers say is not in it yet.
    pub world: World,
    /// The way to brokers' `Admin`, to those that are ready first.
    pub way: Way,
    /// Each broker's pod, to be replaced by its uid and no other.
    pub pods: BTreeMap<BrokerId, Pod>,
    /// The uid of each broker's claim, to be deleted by it and no other.
    pub claim_uids: BTreeMap<BrokerId, String>,
}

/// Reads the objects, claims and pods of the cluster with this uid.
///
/// # Errors
/// When the API server cannot be read.
pub async fn cluster(client: &Client, key: &Key, uid: &str) -> Result<Observed, kube::Error> {
    let mut observed = Observed::default();
    let labelled = ListParams::default().labels(&format!("{}={}", names::CLUSTER_LABEL, key.name));
    for resource in objects::kinds() {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &key.namespace, &resource);
        for object in api.list(&labelled).await? {
            let name = object.name_any();
            let mut content = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
            label(&mut content, &resource);
            observed
                .world
                .objects
                .insert((resource.kind.clone(), name), content);
        }
    }
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), &key.namespace);
    let mut volumes: BTreeMap<BrokerId, String> = BTreeMap::new();
    for claim in claims
        .list(&ListParams::default().labels(&names::selector_string(&key.name)))
        .await?
    {
        let name = claim.name_any();
        let broker = name
            .strip_prefix(names::CLAIM_TEMPLATE)
            .and_then(|pod| pod.strip_prefix('-'))
            .and_then(|pod| ordinal(pod, &key.name));
        if let Some(broker) = broker {
            if let Some(uid) = claim.uid() {
                observed.claim_uids.insert(broker, uid);
            }
            let spec = claim.spec.as_ref();
            if let Some(volume) = spec.and_then(|spec| spec.volume_name.clone()) {
                volumes.insert(broker, volume);
            }
            observed.world.claims.insert(broker, volume(name, claim));
        }
    }
    // By their names: the operator may not list Secrets.
    for name in [
        names::authority_secret(&key.name),
        names::brokers_secret(&key.name),
        names::operator_secret(&key.name),
    ] {
        if let Some(content) = secret(client, key, &name).await? {
            found(
                &mut observed.world,
                key,
                uid,
                ("Secret".to_owned(), name),
                content,
            );
        }
    }
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    for pod in pods
        .list(&ListParams::default().labels(&names::selector_string(&key.name)))
        .await?
    {
        let Some(broker) = ordinal(&pod.name_any(), &key.name) else {
            continue;
        };
        observed.world.processes.insert(broker, process(&pod));
        observed.pods.insert(broker, pod);
    }
    // Of the others it does not matter.
    volumes.retain(|broker, _| {
        let process = observed.world.processes.get(broker);
        process.is_none_or(|process| !process.ready)
    });
    observed.world.now_s = Timestamp::now().as_second();
    observed.world.homes = homes::of(client, volumes, &observed.pods, observed.world.now_s).await;
    let credentials = observed.world.certificates(&key.name).pems(Role::Operator);
    observed.way = Way::new(addresses(key, &observed.pods), credentials);
    Ok(observed)
}

/// Asks who has the names of objects that no list has: those of ours that lost their label are found so, and those that are somebody else's. Whether
/// there were any.
///
/// # Errors
/// When the API server cannot be read.
pub async fn named(
    client: &Client,
    cluster: &Cluster,
    names: &[(ApiResource, String)],
    world: &mut World,
) -> Result<bool, kube::Error> {
    let mut any = false;
    for (resource, name) in names {
        let api: Api<DynamicObject> =
            Api::namespaced_with(client.clone(), &cluster.key.namespace, resource);
        let Some(object) = api.get_opt(name).await? else {
            continue;
        };
        let mut content = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
        label(&mut content, resource);
        let at = (resource.kind.clone(), name.clone());
        found(world, &cluster.key, &cluster.uid, at, content);
        any = true;
    }
    Ok(any)
}

/// Notes an object that was read by its name.
fn found(world: &mut World, key: &Key, uid: &str, at: (String, String), content: Value) {
    if objects::is_ours(&key.name, uid, &content) {
        world.objects.insert(at, content);
    } else {
        world.taken.insert(at);
    }
}

/// Reads the Secrets that listeners' certificates are to come from.
///
/// # Errors
/// When the API server cannot be read.
pub async fn brought(
    client: &Client,
    cluster: &Cluster,
    observed: &mut Observed,
) -> Result<(), kube::Error> {
    for listener in &cluster.listeners {
        let Some(ListenerTls::Secret(name)) = &listener.tls else {
            continue;
        };
        if let Some(content) = secret(client, &cluster.key, name).await? {
            let at = ("Secret".to_owned(), name.clone());
            observed.world.objects.insert(at, content);
        }
    }
    Ok(())
}

/// Finds out the addresses of the nodes that brokers are on, if clients are told of them. Where nodes may not be read, what the pods say of theirs
/// has to do; where one cannot be read now, or is gone, nothing is said of it, so that what clients were told stays.
pub async fn hosts(client: &Client, cluster: &Cluster, observed: &mut Observed) {
    let is_wanted = |listener: &Listener| listener.kind == ListenerType::NodePort;
    if !cluster.listeners.iter().any(is_wanted) {
        return;
    }
    let api: Api<Node> = Api::all(client.clone());
    let mut nodes: BTreeMap<String, Option<Vec<NodeAddress>>> = BTreeMap::new();
    for (broker, pod) in &observed.pods {
        let Some(name) = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()) else {
            continue;
        };
        if !nodes.contains_key(&name) {
            let found = match api.get_opt(&name).await {
                Ok(node) => node.as_ref().map(node_addresses),
                Err(error) => {
                    tracing::debug!(node = name, %error, "the addresses of a node cannot be read");
                    let is_forbidden =
                        matches!(&error, kube::Error::Api(status) if status.code == 403);
                    is_forbidden.then(Vec::new)
                }
            };
            nodes.insert(name.clone(), found);
        }
        let Some(Some(of_node)) = nodes.get(&name) else {
            continue;
        };
        let addresses = if of_node.is_empty() {
            host_addresses(pod)
        } else {
            of_node.clone()
        };
        observed.world.hosts.insert(*broker, addresses);
    }
}

fn node_addresses(node: &Node) -> Vec<NodeAddress> {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    let addresses = addresses.into_iter().flatten();
    addresses
        .map(|address| NodeAddress {
            kind: address.type_.clone(),
            address: address.address.clone(),
        })
        .collect()
}

/// What a pod says of its node: the address in the cluster's own network.
fn host_addresses(pod: &Pod) -> Vec<NodeAddress> {
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.host_ip.clone());
    let address = address.map(|address| NodeAddress {
        kind: "InternalIP".to_owned(),
        address,
    });
    address.into_iter().collect()
}

/// Items of a list do not say what they are.
fn label(content: &mut Value, resource: &ApiResource) {
    content["apiVersion"] = resource.api_version.clone().into();
    content["kind"] = resource.kind.clone().into();
}

async fn secret(client: &Client, key: &Key, name: &str) -> Result<Option<Value>, kube::Error> {
    let resource = ApiResource::erase::<Secret>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &resource);
    let Some(object) = api.get_opt(name).await? else {
        return Ok(None);
    };
    let mut content = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
    label(&mut content, &resource);
    Ok(Some(content))
}

/// Where a cluster's brokers may be asked, and with which certificate.
///
/// # Errors
/// When the API server cannot be read.
pub async fn way_to(client: &Client, key: &Key) -> Result<Way, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let pods = pods
        .list(&ListParams::default().labels(&names::selector_string(&key.name)))
        .await?;
    let pods = pods
        .into_iter()
        .filter_map(|pod| Some((ordinal(&pod.name_any(), &key.name)?, pod)))
        .collect();
    let name = names::operator_secret(&key.name);
    let own = secret(client, key, &name).await?;
    let credentials = own.and_then(|secret| objects::credentials(&secret));
    Ok(Way::new(addresses(key, &pods), credentials))
}

/// The broker that a pod of the StatefulSet is, by the pod's name.
fn ordinal(pod: &str, cluster: &str) -> Option<BrokerId> {
    pod.strip_prefix(&names::brokers(cluster))?
        .strip_prefix('-')?
        .parse()
        .ok()
        .map(BrokerId)
}

/// A claim as far as its size is concerned.
fn volume(name: String, claim: PersistentVolumeClaim) -> Claim {
    let storage = |amounts: Option<BTreeMap<String, Quantity>>| {
        let amount = amounts.and_then(|mut amounts| amounts.remove("storage"));
        amount.map(|amount| amount.0).unwrap_or_default()
    };
    let uid = claim.uid().unwrap_or_default();
    let leaving = claim.metadata.deletion_timestamp.is_some();
    let released = claim.annotations().contains_key(names::RELEASED_ANNOTATION);
    let resources = claim.spec.and_then(|spec| spec.resources);
    let status = claim.status.unwrap_or_default();
    let conditions = status.conditions.into_iter().flatten();
    let notes: Vec<String> = conditions
        .filter(|condition| condition.status == "True")
        .map(|condition| {
            let message = condition.message.unwrap_or_default();
            format!("{}: {message}", condition.type_)
        })
        .collect();
    let failed = notes.iter().find(|note| {
        note.starts_with("ControllerResizeError: ") || note.starts_with("NodeResizeError: ")
    });
    // What newer versions say beside a condition, and older ones in place of it.
    let states = status.allocated_resource_statuses.unwrap_or_default();
    let state = states
        .get("storage")
        .filter(|state| state.ends_with("ResizeInfeasible") || state.ends_with("ResizeFailed"));
    let failed = failed.or(state).cloned();
    Claim {
        name,
        bound: status.phase.as_deref() == Some("Bound"),
        requested: storage(resources.and_then(|resources| resources.requests)),
        notes,
        failed,
        capacity: storage(status.capacity),
        released,
        uid,
        leaving,
    }
}

fn process(pod: &Pod) -> Process {
    Process {
        hash: pod.annotations().get(names::POD_HASH_ANNOTATION).cloned(),
        ready: is_ready(pod),
        leaving: pod.metadata.deletion_timestamp.is_some(),
    }
}

/// The pod's condition `Ready`.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|conditions| {
        conditions
            .iter()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// Each broker's name, since certificates carry names; then its pod's own address, for when DNS does not answer here.
fn addresses(key: &Key, pods: &BTreeMap<BrokerId, Pod>) -> Vec<Vec<String>> {
    let mut ordered: Vec<(&BrokerId, &Pod)> = pods
        .iter()
        .filter(|(_, pod)| pod.metadata.deletion_timestamp.is_none())
        .collect();
    ordered.sort_by_key(|(_, pod)| !is_ready(pod));
    let port = names::INTERNAL_PORT;
    let of_one = |(broker, pod): (&BrokerId, &Pod)| {
        let name = names::broker_host(&key.name, &key.namespace, *broker);
        let status = pod.status.as_ref();
        let address = status.and_then(|status| status.pod_ip.clone());
        let hosts = std::iter::once(name).chain(address);
        hosts.map(|host| format!("{host}:{port}")).collect()
    };
    ordered.into_iter().map(of_one).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use serde_json::json;

    use super::{Observed, hosts, ordinal, volume};
    use crate::testing::api::Api;
    use crate::testing::resource;
    use crate::validate::{Cluster, Defaults};
    use crate::world::BrokerId;

    #[tokio::test]
    async fn only_an_operator_that_may_not_read_nodes_tells_what_pods_say_of_them() {
        let mut resource = resource();
        let listener = json!([{"name": "outside", "port": 9100, "type": "nodePort"}]);
        resource.spec.listeners = serde_json::from_value(listener).unwrap();
        let defaults = Defaults {
            broker_image: "image".into(),
        };
        let cluster = Cluster::validate(&resource, &defaults).unwrap();
        let api = Api::default();
        let told = async || {
            let pod = json!({"spec": {"nodeName": "one", "containers": []}, "status": {"hostIP": "10.0.0.1"}});
            let mut observed = Observed::default();
            let pod = serde_json::from_value(pod).unwrap();
            observed.pods.insert(BrokerId(0), pod);
            hosts(&api.client(), &cluster, &mut observed).await;
            let first = observed.world.hosts.remove(&BrokerId(0));
            first.map(|addresses| addresses[0].address.clone())
        };
        assert_eq!(told().await, None, "there is no such node");
        let external =
            json!({"status": {"addresses": [{"type": "ExternalIP", "address": "198.51.100.1"}]}});
        api.put("/api/v1/nodes/one", external);
        assert_eq!(told().await.as_deref(), Some("198.51.100.1"));
        api.refuse("nodes", 503);
        assert_eq!(told().await, None, "what was told before holds");
        api.refuse("nodes", 403);
        assert_eq!(told().await.as_deref(), Some("10.0.0.1"));
    }

    #[test]
    fn a_claim_whose_growth_failed_is_read_so() {
        let failed = |status: serde_json::Value| {
            let claim = json!({"metadata": {"name": "data"}, "status": status});
            volume("data".into(), serde_json::from_value(claim).unwrap()).failed
        };
        let condition = |kind: &str, status: &str| json!({"conditions": [{"type": kind, "status": status, "message": "no room"}]});
        for (status, expected) in [
            (
                condition("ControllerResizeError", "True"),
                Some("ControllerResizeError: no room"),
            ),
            (
                condition("NodeResizeError", "True"),
                Some("NodeResizeError: no room"),
            ),
            (condition("NodeResizeError", "False"), None),
            (condition("Resizing", "True"), None),
            (
                json!({"allocatedResourceStatuses": {"storage": "NodeResizeInfeasible"}}),
                Some("NodeResizeInfeasible"),
            ),
            (
                json!({"allocatedResourceStatuses": {"storage": "ControllerResizeFailed"}}),
                Some("ControllerResizeFailed"),
            ),
            (
                json!({"allocatedResourceStatuses": {"storage": "NodeResizePending"}}),
                None,
            ),
        ] {
            assert_eq!(failed(status.clone()).as_deref(), expected, "{status}");
        }
    }

    #[test]
    fn a_claim_is_read_with_what_kubernetes_says_of_its_growth() {
        let claim = json!({
            "metadata": {"name": "data-shop-broker-1"},
            "spec": {"resources": {"requests": {"storage": "20Gi"}}},
            "status": {
                "phase": "Bound", "capacity": {"storage": "10Gi"},
                "conditions": [{"type": "Resizing", "status": "True", "message": "soon"}],
            },
        });
        let read = volume(
            "data-shop-broker-1".into(),
            serde_json::from_value(claim).unwrap(),
        );
        assert!(read.bound);
        assert_eq!(
            (read.requested.as_str(), read.capacity.as_str(), read.notes),
            ("20Gi", "10Gi", vec!["Resizing: soon".to_owned()])
        );
        assert_eq!(read.failed, None);
        assert_eq!(ordinal("shop-broker-1", "shop"), Some(BrokerId(1)));
        assert_eq!(ordinal("shop-broker-x", "shop"), None);
    }
}
