//! The Service that clients bootstrap from: any broker that is ready.

use k8s_openapi::api::core::v1::{Service, ServiceSpec};

use super::{headless_service, metadata};
use crate::names;
use crate::validate::Cluster;

pub(super) fn build(cluster: &Cluster) -> Service {
    Service {
        metadata: metadata::named(cluster, names::bootstrap_service(&cluster.key.name)),
        spec: Some(ServiceSpec {
            type_: Some("ClusterIP".to_owned()),
            selector: Some(names::selector(&cluster.key.name)),
            ports: Some(vec![
                headless_service::service_port("kafka", names::KAFKA_PORT),
                headless_service::service_port("grpc", names::GRPC_PORT),
            ]),
            ..ServiceSpec::default()
        }),
        status: None,
    }
}
