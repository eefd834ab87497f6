//! DescribeCluster: the cluster's id, its controller and its brokers (KIP-700).

use std::sync::Arc;

use weir_wire::messages::describe_cluster_response::DescribeClusterBroker;
use weir_wire::messages::{DescribeClusterRequestView, DescribeClusterResponse};

use super::k03_metadata::{CLUSTER_OPERATIONS, NO_OPERATIONS};
use super::{Answer, Refused, Request, leaders};
use crate::Broker;
use crate::error::ErrorCode;

/// The only endpoints that there are.
const BROKERS: i8 = 1;

/// Controllers of their own, which do not exist here.
const CONTROLLERS: i8 = 2;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeClusterRequestView = request.decode()?;
    if view.endpoint_type != BROKERS {
        let error = match view.endpoint_type {
            CONTROLLERS => ErrorCode::MismatchedEndpointType,
            _ => ErrorCode::UnsupportedEndpointType,
        };
        return request.answer(&DescribeClusterResponse {
            error_code: error.code(),
            error_message: Some(
                "this is a broker's listener; only brokers are described here".into(),
            ),
            ..DescribeClusterResponse::default()
        });
    }
    let image = broker.metadata.image();
    let known = image
        .brokers()
        .filter(|broker| !broker.fenced || view.include_fenced_brokers);
    let brokers = known.filter_map(|broker| {
        let endpoint = leaders::endpoint(&image, &request.peer.listener, broker)?;
        Some(DescribeClusterBroker {
            broker_id: endpoint.id,
            host: endpoint.host,
            port: endpoint.port,
            rack: endpoint.rack,
            is_fenced: broker.fenced,
        })
    });
    let with_operations = view.include_cluster_authorized_operations;
    request.answer(&DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: broker
            .metadata
            .cluster_id()
            .map(|id| id.to_string())
            .unwrap_or_default(),
        controller_id: broker.metadata.controller_id().map_or(-1, |id| id.0),
        brokers: brokers.collect(),
        cluster_authorized_operations: if with_operations {
            CLUSTER_OPERATIONS
        } else {
            NO_OPERATIONS
        },
        ..DescribeClusterResponse::default()
    })
}
