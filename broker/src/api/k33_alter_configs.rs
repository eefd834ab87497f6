//! AlterConfigs: makes a resource's configuration exactly what the request says. Superseded by IncrementalAlterConfigs, and still what
//! older clients send.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::command::{ConfigChange, ConfigChanges, ConfigOp, ConfigResource};
use weir_quorum::image::Image;
use weir_wire::messages::alter_configs_request::AlterConfigsResourceView;
use weir_wire::messages::alter_configs_response::AlterConfigsResourceResponse;
use weir_wire::messages::{AlterConfigsRequestView, AlterConfigsResponse};

use super::k44_incremental_alter_configs::{Change, alter, resource_of, value_of};
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterConfigsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let changes = view.resources.iter().map(|resource| Change {
        kind: resource.resource_type,
        name: resource.resource_name.to_owned(),
        changes: replace(&image, &resource),
    });
    let changes: Vec<Change> = changes.collect();
    let validate_only = view.validate_only;
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let responses = alter(&broker, changes, validate_only)
            .await
            .into_iter()
            .map(|changed| {
                let code = changed
                    .error
                    .as_ref()
                    .map_or(ErrorCode::None, |error| error.code);
                AlterConfigsResourceResponse {
                    error_code: code.code(),
                    error_message: changed.error.and_then(ApiError::message),
                    resource_type: changed.kind,
                    resource_name: changed.name,
                }
            });
        let responses = responses.collect();
        responder.reply(&AlterConfigsResponse {
            responses,
            ..AlterConfigsResponse::default()
        })
    }))
}

/// Sets what is named, unsets what was set and is not named.
fn replace(
    image: &Image,
    resource: &AlterConfigsResourceView<'_>,
) -> Result<ConfigChanges, ApiError> {
    let target = resource_of(resource.resource_type, resource.resource_name)?;
    let before = match &target {
        ConfigResource::Topic(name) => image.topic(name).map(|topic| &topic.config),
        ConfigResource::Broker(id) => image.broker_config(*id),
        ConfigResource::Cluster => Some(image.cluster_config()),
        ConfigResource::Group(id) => image.group_config(id),
        ConfigResource::ClientMetrics(name) => image.client_metrics_config(name),
    };
    let named: BTreeSet<&str> = resource.configs.iter().map(|config| config.name).collect();
    let unset = before
        .into_iter()
        .flatten()
        .map(|(key, _)| key)
        .filter(|key| !named.contains(key.as_str()));
    let unset = unset.map(|key| ConfigOp {
        key: key.clone(),
        change: ConfigChange::Delete,
    });
    let set = resource.configs.iter().map(|config| {
        Ok(ConfigOp {
            key: config.name.to_owned(),
            change: ConfigChange::Set(value_of(config.name, config.value)?),
        })
    });
    Ok(ConfigChanges {
        ops: set.chain(unset.map(Ok)).collect::<Result<_, ApiError>>()?,
        resource: target,
    })
}
