//! The headless Service that names each broker in DNS.
//!
//! It publishes pods that are not ready: a broker becomes ready by talking to its peers, which have to find it for that.

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::metadata;
use crate::names;
use crate::validate::Cluster;

pub(super) fn build(cluster: &Cluster) -> Service {
    let ports = [
        ("kafka", names::KAFKA_PORT),
        ("internal", names::INTERNAL_PORT),
        ("http", names::HTTP_PORT),
        ("grpc", names::GRPC_PORT),
    ];
    Service {
        metadata: metadata::named(cluster, names::headless_service(&cluster.key.name)),
        spec: Some(ServiceSpec {
            cluster_ip: Some("None".to_owned()),
            publish_not_ready_addresses: Some(true),
            selector: Some(names::selector(&cluster.key.name)),
            ports: Some(
                ports
                    .into_iter()
                    .map(|(name, port)| service_port(name, port))
                    .collect(),
            ),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}

/// A port that leads to the container's port of the same name.
pub(super) fn service_port(name: &str, port: u16) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port: port.into(),
        protocol: Some("TCP".to_owned()),
        target_port: Some(IntOrString::String(name.to_owned())),
        ..ServicePort::default()
    }
}
