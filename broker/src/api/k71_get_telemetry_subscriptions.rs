//! GetTelemetrySubscriptions: which metrics a client is to push (KIP-714).

use std::sync::Arc;

use weir_wire::messages::{
    GetTelemetrySubscriptionsRequestView, GetTelemetrySubscriptionsResponse,
};

use super::k72_push_telemetry::bytes_max;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::telemetry::Client;

/// Zstandard, LZ4, gzip, Snappy: as Kafka prefers them.
const COMPRESSIONS: [i8; 4] = [4, 3, 1, 2];

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: GetTelemetrySubscriptionsRequestView = request.decode()?;
    let instance = if view.client_instance_id.is_nil() {
        broker.host.entropy.uuid()
    } else {
        view.client_instance_id
    };
    let image = broker.metadata.image();
    let client = Client {
        instance,
        client_id: request.client_id(),
        peer: &request.peer,
    };
    match broker.telemetry.ask(&image, client) {
        Err(code) => request.answer(&GetTelemetrySubscriptionsResponse {
            error_code: code.code(),
            ..GetTelemetrySubscriptionsResponse::default()
        }),
        Ok(wanted) => request.answer(&GetTelemetrySubscriptionsResponse {
            client_instance_id: instance,
            subscription_id: wanted.subscription_id,
            accepted_compression_types: COMPRESSIONS.to_vec(),
            push_interval_ms: wanted.interval_ms,
            telemetry_max_bytes: i32::try_from(bytes_max(broker, &image)).unwrap_or(i32::MAX),
            delta_temporality: true,
            requested_metrics: wanted.metrics,
            ..GetTelemetrySubscriptionsResponse::default()
        }),
    }
}
