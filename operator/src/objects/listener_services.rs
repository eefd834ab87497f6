//! The Services of listeners: one to bootstrap from, and where clients reach brokers by nodes or load balancers, one for each broker.
//!
//! Their ports lead to the brokers' by number: brokers open listeners while they run, and pods that were made before know no name for them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::names;
use crate::validate::{Cluster, Listener, ListenerType};
use crate::world::BrokerId;

/// All Services of a cluster's listeners.
pub(super) fn build(cluster: &Cluster, brokers: u32) -> Vec<Service> {
    let of = |listener: &Listener| {
        let each = listener.has_service_each();
        let each = (0..brokers).filter(|_| each).map(BrokerId).map(Some);
        let all: Vec<Service> = [None]
            .into_iter()
            .chain(each)
            .map(|broker| service(cluster, listener, broker))
            .collect();
        all
    };
    cluster.listeners.iter().flat_map(of).collect()
}

/// The Service of one broker, or the one to bootstrap from.
fn service(cluster: &Cluster, listener: &Listener, broker: Option<BrokerId>) -> Service {
    let name = &cluster.key.name;
    let mut meta = metadata::named(
        cluster,
        names::listener_service(name, &listener.name, broker),
    );
    let labels = meta.labels.get_or_insert_default();
    labels.insert(names::LISTENER_LABEL.to_owned(), listener.name.clone());
    let id = broker.map_or_else(|| "bootstrap".to_owned(), |broker| broker.to_string());
    let annotations: BTreeMap<String, String> = listener
        .annotations
        .iter()
        .map(|(key, value)| (key.clone(), value.replace("{id}", &id)))
        .collect();
    meta.annotations = (!annotations.is_empty()).then_some(annotations);
    let mut selector = names::selector(name);
    if let Some(broker) = broker {
        // Which the StatefulSet's controller gives to each of its pods.
        let pod = names::pod(name, broker);
        selector.insert("statefulset.kubernetes.io/pod-name".to_owned(), pod);
    }
    let node_port = match broker {
        None => listener.bootstrap_node_port,
        Some(broker) => listener.brokers.get(&broker).and_then(|own| own.node_port),
    };
    let kind = match listener.kind {
        ListenerType::Internal => "ClusterIP",
        ListenerType::NodePort => "NodePort",
        ListenerType::LoadBalancer => "LoadBalancer",
    };
    let ranges = &listener.load_balancer_source_ranges;
    Service {
        metadata: meta,
        spec: Some(ServiceSpec {
            type_: Some(kind.to_owned()),
            selector: Some(selector),
            ports: Some(vec![ServicePort {
                name: Some("kafka".to_owned()),
                port: listener.port.into(),
                protocol: Some("TCP".to_owned()),
                target_port: Some(IntOrString::Int(listener.port.into())),
                node_port: node_port.map(i32::from),
                ..ServicePort::default()
            }]),
            load_balancer_source_ranges: (!ranges.is_empty()).then(|| ranges.clone()),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
