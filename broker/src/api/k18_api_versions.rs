//! ApiVersions: what this broker speaks.

use std::sync::Arc;

use weir_wire::ApiKey;
use weir_wire::messages::api_versions_response::ApiVersion;
use weir_wire::messages::{ApiVersionsRequestView, ApiVersionsResponse};

use super::{APIS, Answer, Refused, Request, features};
use crate::Broker;
use crate::error::ErrorCode;

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
    if is_welcome && request.version >= 3 {
        // Told once and for all: a client does not change its software on the way.
        let _ = request.peer.software.set((
            view.client_software_name.to_owned(),
            view.client_software_version.to_owned(),
        ));
    }
    let mut response = ApiVersionsResponse {
        error_code: error.code(),
        api_keys,
        ..ApiVersionsResponse::default()
    };
    if is_welcome && request.version >= 3 {
        features::tell(broker, request.version, &mut response);
    }
    request.answer(&response)
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
