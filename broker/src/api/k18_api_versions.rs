//! ApiVersions: what this broker speaks.

use std::sync::Arc;

use weir_wire::ApiKey;
use weir_wire::messages::api_versions_response::ApiVersion;
use weir_wire::messages::{ApiVersionsRequestView, ApiVersionsResponse};

use super::{APIS, Answer, Refused, Request};
use crate::Broker;
use crate::error::ErrorCode;

pub(super) fn handle(_broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ApiVersionsRequestView<'_> = request.decode()?;
    let names_fit = request.version < 3
        || (is_name(view.client_software_name) && is_name(view.client_software_version));
    let error = if names_fit {
        ErrorCode::None
    } else {
        ErrorCode::InvalidRequest
    };
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
    let api_keys = if names_fit {
        api_keys.collect()
    } else {
        Vec::new()
    };
    request.answer(&ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        ..ApiVersionsResponse::default()
    })
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
