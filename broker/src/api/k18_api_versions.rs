//! ApiVersions: what this broker speaks.

use std::sync::Arc;

use weir_wire::ApiKey;
use weir_wire::messages::api_versions_response::{
    ApiVersion, FinalizedFeatureKey, SupportedFeatureKey,
};
use weir_wire::messages::{ApiVersionsRequestView, ApiVersionsResponse};

use super::{APIS, Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

/// A feature by Kafka's name (KIP-584), which clients ask before they speak a newer protocol.
struct Feature {
    name: &'static str,
    /// The API without which this broker has none of it.
    needs: ApiKey,
    max: i16,
}

/// Finalized is the greatest level of each: every broker of a cluster has it from its first version on.
const FEATURES: [Feature; 3] = [
    Feature {
        name: "group.version",
        needs: ApiKey::ConsumerGroupHeartbeat,
        max: 1,
    },
    Feature {
        name: "share.version",
        needs: ApiKey::ShareFetch,
        max: 1,
    },
    Feature {
        name: "transaction.version",
        needs: ApiKey::EndTxn,
        max: 2,
    },
];

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ApiVersionsRequestView<'_> = request.decode()?;
    let error = refusal(broker, &view, request.version);
    let is_welcome = error == ErrorCode::None;
    let api_keys = APIS.iter().map(|api| ApiVersion {
        api_key: api.key.key(),
        min_version: match api.key {
            // Versions 0 to 2 are refused, yet named: librdkafka switches compression off when the range begins higher
            // (KAFKA-18659).
            ApiKey::Produce => 0,
            _ => *api.versions.start(),
        },
        max_version: *api.versions.end(),
    });
    let api_keys = if is_welcome {
        api_keys.collect()
    } else {
        Vec::new()
    };
    let served = |feature: &&Feature| APIS.iter().any(|api| api.key == feature.needs);
    let features = FEATURES.iter().filter(served).filter(|_| is_welcome);
    let supported = features.clone().map(|feature| SupportedFeatureKey {
        name: feature.name.to_owned(),
        // Clients of older versions take a level of 0 for a mistake.
        min_version: i16::from(request.version < 4),
        max_version: feature.max,
    });
    let finalized = features.map(|feature| FinalizedFeatureKey {
        name: feature.name.to_owned(),
        max_version_level: feature.max,
        min_version_level: feature.max,
    });
    let revision = broker.metadata.image().revision();
    request.answer(&ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        supported_features: supported.collect(),
        finalized_features_epoch: if is_welcome {
            i64::try_from(revision).unwrap_or(i64::MAX)
        } else {
            -1
        },
        finalized_features: finalized.collect(),
        ..ApiVersionsResponse::default()
    })
}

/// Why a client is not told what is served: it has a strange name, or it takes this broker for another one (KIP-1242).
fn refusal(broker: &Broker, view: &ApiVersionsRequestView<'_>, version: i16) -> ErrorCode {
    let names_fit = is_name(view.client_software_name) && is_name(view.client_software_version);
    if version >= 3 && !names_fit {
        return ErrorCode::InvalidRequest;
    }
    match (view.cluster_id, view.node_id) {
        (None, -1) => ErrorCode::None,
        (None, _) | (Some(_), -1) => ErrorCode::InvalidRequest,
        (Some(cluster), node) => {
            let own = broker.metadata.cluster_id().map(|id| id.to_string());
            if own.as_deref() == Some(cluster) && node == broker.config.broker_id {
                ErrorCode::None
            } else {
                ErrorCode::RebootstrapRequired
            }
        }
    }
}

/// What a client may call itself (KIP-511): letters and digits, with '-' and '.' between them.
fn is_name(name: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_edge(name.chars().next())
        && is_edge(name.chars().next_back())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.'))
}
