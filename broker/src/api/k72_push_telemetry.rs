//! PushTelemetry: a client pushes its metrics (KIP-714).

use std::sync::Arc;

use weir_quorum::configs::broker_value;
use weir_quorum::image::Image;
use weir_wire::messages::{PushTelemetryRequestView, PushTelemetryResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;
use crate::telemetry::{Client, Pushed};

/// What one push may have (`telemetry.max.bytes`).
pub(super) fn bytes_max(broker: &Broker, image: &Image) -> usize {
    let metadata = &broker.metadata;
    broker_value(
        image,
        metadata.settings(),
        metadata.broker_id(),
        "telemetry.max.bytes",
    )
    .and_then(|bytes| bytes.parse().ok())
    .unwrap_or(0)
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: PushTelemetryRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let client = Client {
        instance: view.client_instance_id,
        client_id: request.client_id(),
        peer: &request.peer,
    };
    let pushed = Pushed {
        subscription_id: view.subscription_id,
        is_terminating: view.terminating,
        compression: view.compression_type,
        metrics: view.metrics,
    };
    let outcome = if view.client_instance_id.is_nil() {
        Err(ErrorCode::InvalidRequest)
    } else {
        let max = bytes_max(broker, &image);
        broker.telemetry.push(&image, client, pushed, max)
    };
    request.answer(&PushTelemetryResponse {
        error_code: outcome.err().map_or(0, ErrorCode::code),
        ..PushTelemetryResponse::default()
    })
}
