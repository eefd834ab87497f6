//! IncrementalAlterConfigs: sets, unsets, appends to and subtracts from configurations (KIP-339).

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::command::{
    AlterConfigs, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply,
};
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResourceView, AlterableConfigView,
};
use weir_wire::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use weir_wire::messages::{IncrementalAlterConfigsRequestView, IncrementalAlterConfigsResponse};

use super::k32_describe_configs::resource;
use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// One resource of a request, and what is to be done with it or why nothing is.
pub(super) struct Change {
    pub(super) kind: i8,
    pub(super) name: String,
    pub(super) changes: Result<ConfigChanges, ApiError>,
}

/// What became of it.
pub(super) struct Changed {
    pub(super) kind: i8,
    pub(super) name: String,
    pub(super) error: Option<ApiError>,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: IncrementalAlterConfigsRequestView<'_> = request.decode()?;
    let changes = view.resources.iter().map(|resource| Change {
        kind: resource.resource_type,
        name: resource.resource_name.to_owned(),
        changes: changes(&resource),
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
        responder.reply(&IncrementalAlterConfigsResponse {
            responses,
            ..IncrementalAlterConfigsResponse::default()
        })
    }))
}

/// Asks the controller for what can be asked, and tells of each resource in the order of the request.
pub(super) async fn alter(
    broker: &Broker,
    changes: Vec<Change>,
    validate_only: bool,
) -> Vec<Changed> {
    let resources: Vec<ConfigChanges> = changes
        .iter()
        .filter_map(|change| change.changes.clone().ok())
        .collect();
    let asked = resources.len();
    let outcomes = match broker
        .metadata
        .control(Command::AlterConfigs(AlterConfigs {
            resources,
            validate_only,
        }))
        .await
    {
        Ok(Reply::Configs(outcomes)) => outcomes
            .into_iter()
            .map(|outcome| outcome.map_err(ApiError::from).err())
            .collect(),
        Ok(_) => vec![Some(ErrorCode::UnknownServerError.into()); asked],
        Err(error) => vec![Some(ApiError::from(error)); asked],
    };
    let mut outcomes = outcomes.into_iter();
    let changed = changes.into_iter().map(|change| {
        let error = match change.changes {
            Err(error) => Some(error),
            Ok(_) => outcomes.next().flatten(),
        };
        Changed {
            kind: change.kind,
            name: change.name,
            error,
        }
    });
    changed.collect()
}

/// Whose configuration a request means.
pub(super) fn resource_of(kind: i8, name: &str) -> Result<ConfigResource, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    match kind {
        resource::TOPIC => Ok(ConfigResource::Topic(name.to_owned())),
        resource::BROKER if name.is_empty() => Ok(ConfigResource::Cluster),
        resource::BROKER => match name.parse() {
            Ok(id) => Ok(ConfigResource::Broker(BrokerId(id))),
            Err(_) => invalid(format!(
                "broker {name:?}; allowed: a broker's id, or nothing for all brokers"
            )),
        },
        resource::GROUP => Ok(ConfigResource::Group(name.to_owned())),
        resource::CLIENT_METRICS => Ok(ConfigResource::ClientMetrics(name.to_owned())),
        other => invalid(format!("resource type {other}; {}", resource::ALLOWED)),
    }
}

/// A value that has to be there.
pub(super) fn value_of(name: &str, value: Option<&str>) -> Result<String, ApiError> {
    value.map(str::to_owned).ok_or_else(|| {
        let message = format!("Null value not supported for : {name}");
        ApiError::new(ErrorCode::InvalidRequest, message)
    })
}

fn changes(resource: &AlterConfigsResourceView<'_>) -> Result<ConfigChanges, ApiError> {
    let target = resource_of(resource.resource_type, resource.resource_name)?;
    let ops = resource
        .configs
        .iter()
        .map(op)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(ConfigChanges {
        resource: target,
        ops,
    })
}

fn op(config: AlterableConfigView<'_>) -> Result<ConfigOp, ApiError> {
    let value = || value_of(config.name, config.value);
    let change = match config.config_operation {
        0 => ConfigChange::Set(value()?),
        1 => ConfigChange::Delete,
        2 => ConfigChange::Append(value()?),
        3 => ConfigChange::Subtract(value()?),
        other => {
            let message = format!(
                "operation {other}; allowed: 0 (set), 1 (delete), 2 (append), 3 (subtract)"
            );
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    Ok(ConfigOp {
        key: config.name.to_owned(),
        change,
    })
}
