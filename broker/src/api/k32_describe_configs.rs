//! DescribeConfigs: what is configured, and where each value comes from. Kafka's own tools print nothing without the sources.

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::configs::{self, BROKER, CLIENT_METRICS, Effective, GROUP, Source, TOPIC};
use weir_quorum::image::Image;
use weir_wire::messages::describe_configs_request::DescribeConfigsResourceView;
use weir_wire::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use weir_wire::messages::{DescribeConfigsRequestView, DescribeConfigsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// Kafka's numbers for what has a configuration.
pub(super) mod resource {
    /// A topic.
    pub(in crate::api) const TOPIC: i8 = 2;
    /// A broker, or with an empty name what all brokers have in common.
    pub(in crate::api) const BROKER: i8 = 4;
    /// A client metrics subscription.
    pub(in crate::api) const CLIENT_METRICS: i8 = 16;
    /// A group.
    pub(in crate::api) const GROUP: i8 = 32;
    /// All of them, for a person.
    pub(in crate::api) const ALLOWED: &str =
        "allowed: 2 (topic), 4 (broker), 16 (client metrics), 32 (group)";
}

/// Resources of one request, each of which is described once however often it is named. Topics and brokers are bounded by
/// what there is; a group or a subscription needs only a name, which is a hundredth of what is told of it.
const UNBACKED_MAX: usize = 1_000;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeConfigsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let (with_synonyms, with_documentation) = (view.include_synonyms, view.include_documentation);
    let mut seen = BTreeSet::new();
    let mut unbacked = 0;
    let resources = view
        .resources
        .iter()
        .filter(|resource| seen.insert((resource.resource_type, resource.resource_name)));
    let results = resources.map(|resource| {
        let is_unbacked = matches!(
            resource.resource_type,
            resource::GROUP | resource::CLIENT_METRICS
        );
        unbacked += usize::from(is_unbacked);
        let found = if is_unbacked && unbacked > UNBACKED_MAX {
            let message = format!("at most {UNBACKED_MAX} groups and subscriptions in one request");
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        } else {
            effective(broker, &image, &resource)
        };
        let (error, found) = match found {
            Ok(found) => (ErrorCode::None.into(), found),
            Err(error) => (error, Vec::new()),
        };
        let is_wanted = |effective: &Effective| {
            resource.configuration_keys.is_none_or(|keys| {
                keys.is_empty() || keys.iter().any(|key| key == effective.def.name)
            })
        };
        let configs = found.iter().filter(|effective| is_wanted(effective));
        DescribeConfigsResult {
            error_code: error.code.code(),
            error_message: error.message(),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name.to_owned(),
            configs: configs
                .map(|effective| describe(effective, with_synonyms, with_documentation))
                .collect(),
        }
    });
    let results = results.collect();
    request.answer(&DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    })
}

fn effective(
    broker: &Broker,
    image: &Image,
    resource: &DescribeConfigsResourceView<'_>,
) -> Result<Vec<Effective>, ApiError> {
    let settings = broker.metadata.settings();
    let name = resource.resource_name;
    match resource.resource_type {
        resource::TOPIC => {
            weir_quorum::topics::check_name(name)?;
            let topic = image
                .topic(name)
                .ok_or(ErrorCode::UnknownTopicOrPartition)?;
            Ok(TOPIC
                .iter()
                .map(|def| configs::effective_topic(image, settings, topic, def))
                .collect())
        }
        // What all brokers have in common is only what was set for them all.
        resource::BROKER if name.is_empty() => {
            let all = BROKER
                .iter()
                .map(|def| configs::effective_broker(image, settings, None, def));
            Ok(all
                .filter(|effective| effective.source() == Source::DynamicCluster)
                .collect())
        }
        resource::BROKER => {
            let me = broker.metadata.broker_id();
            if name.parse() != Ok(me.0) {
                // Another broker's file is not known here.
                let message =
                    format!("broker {name:?}; this is broker {me}, and each describes only itself");
                return Err(ApiError::new(ErrorCode::InvalidRequest, message));
            }
            Ok(BROKER
                .iter()
                .map(|def| configs::effective_broker(image, settings, Some(BrokerId(me.0)), def))
                .collect())
        }
        resource::GROUP | resource::CLIENT_METRICS if name.is_empty() => {
            let whose = match resource.resource_type {
                resource::GROUP => "Group",
                _ => "Client metrics subscription",
            };
            let message = format!("{whose} name must not be empty");
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
        resource::GROUP => Ok(GROUP
            .iter()
            .map(|def| configs::effective_group(image, settings, name, def))
            .collect()),
        resource::CLIENT_METRICS => Ok(CLIENT_METRICS
            .iter()
            .map(|def| configs::effective_client_metrics(image, name, def))
            .collect()),
        other => {
            let message = format!("resource type {other}; {}", resource::ALLOWED);
            Err(ApiError::new(ErrorCode::InvalidRequest, message))
        }
    }
}

fn describe(
    effective: &Effective,
    with_synonyms: bool,
    with_documentation: bool,
) -> DescribeConfigsResourceResult {
    let synonyms = effective
        .synonyms
        .iter()
        .filter(|_| with_synonyms)
        .map(|synonym| DescribeConfigsSynonym {
            name: synonym.name.to_owned(),
            value: Some(synonym.value.clone()),
            source: synonym.source.code(),
        });
    DescribeConfigsResourceResult {
        name: effective.def.name.to_owned(),
        value: Some(effective.value().to_owned()),
        read_only: effective.def.read_only,
        config_source: effective.source().code(),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: effective.def.kind.code(),
        documentation: with_documentation.then(|| effective.def.documentation.to_owned()),
    }
}
