//! DescribeConfigs: what is configured, and where each value comes from. Kafka's own tools print nothing without the sources.

use std::sync::Arc;

use weir_quorum::BrokerId;
use weir_quorum::configs::{self, BROKER, Effective, Source, TOPIC};
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
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeConfigsRequestView<'_> = request.decode()?;
    let image = broker.metadata.image();
    let (with_synonyms, with_documentation) = (view.include_synonyms, view.include_documentation);
    let results = view.resources.iter().map(|resource| {
        let (error, found) = match effective(broker, &image, &resource) {
            Ok(found) => (ErrorCode::None.into(), found),
            Err(error) => (error, Vec::new()),
        };
        let is_wanted = |effective: &Effective| {
            resource
                .configuration_keys
                .is_none_or(|keys| keys.iter().any(|key| key == effective.def.name))
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
        other => {
            let message = format!("resource type {other}; allowed: 2 (topic), 4 (broker)");
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
        read_only: false,
        config_source: effective.source().code(),
        is_sensitive: false,
        synonyms: synonyms.collect(),
        config_type: effective.def.kind.code(),
        documentation: with_documentation.then(|| effective.def.documentation.to_owned()),
    }
}
