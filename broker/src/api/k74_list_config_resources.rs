//! ListConfigResources: what has, or may have, a configuration (KIP-1142). Version 0 lists client metrics subscriptions only.

use std::sync::Arc;

use weir_wire::messages::list_config_resources_response::ConfigResource;
use weir_wire::messages::{ListConfigResourcesRequestView, ListConfigResourcesResponse};

use super::k32_describe_configs::resource;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// The types that are listed when none is named.
const LISTED: [i8; 4] = [
    resource::TOPIC,
    resource::BROKER,
    resource::CLIENT_METRICS,
    resource::GROUP,
];

/// Kafka's type for a broker's loggers, of which none can be set here: asked for, none are listed.
const BROKER_LOGGER: i8 = 8;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ListConfigResourcesRequestView<'_> = request.decode()?;
    let all = view.resource_types.is_empty() && request.version > 0;
    let is_wanted = |kind: i8| match request.version {
        0 => kind == resource::CLIENT_METRICS,
        _ => all || view.resource_types.iter().any(|wanted| wanted == kind),
    };
    let is_known = |kind: i8| LISTED.contains(&kind) || kind == BROKER_LOGGER;
    if request.version > 0 && !view.resource_types.iter().all(is_known) {
        return request.answer(&ListConfigResourcesResponse {
            error_code: ErrorCode::UnsupportedVersion.code(),
            ..ListConfigResourcesResponse::default()
        });
    }
    let image = broker.metadata.image();
    let mut response = ListConfigResourcesResponse::default();
    let mut push = |kind: i8, name: String| {
        response.config_resources.push(ConfigResource {
            resource_name: name,
            resource_type: kind,
        });
    };
    for kind in LISTED.into_iter().filter(|kind| is_wanted(*kind)) {
        match kind {
            resource::TOPIC => image
                .topics()
                .for_each(|topic| push(kind, topic.name.to_string())),
            resource::BROKER => image
                .live_brokers()
                .for_each(|broker| push(kind, broker.id.to_string())),
            resource::CLIENT_METRICS => image
                .client_metrics_subscriptions()
                .for_each(|(name, _)| push(kind, name.clone())),
            _ => image
                .configured_groups()
                .for_each(|group| push(kind, group.clone())),
        }
    }
    request.answer(&response)
}
