//! DescribeClientQuotas: which limits were set, for the entities that a filter finds (KIP-546).

use std::collections::BTreeSet;
use std::sync::Arc;

use weir_quorum::quotas::QuotaEntity;
use weir_wire::messages::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use weir_wire::messages::{DescribeClientQuotasRequestView, DescribeClientQuotasResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

const KINDS: [&str; 3] = ["user", "client-id", "ip"];

/// How a part of the filter finds names.
enum Wanted<'a> {
    Exactly(&'a str),
    Default,
    Any,
}

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeClientQuotasRequestView<'_> = request.decode()?;
    let filter = match filter(&view) {
        Ok(filter) => filter,
        Err(error) => {
            return request.answer(&DescribeClientQuotasResponse {
                error_code: error.code.code(),
                error_message: error.message(),
                entries: None,
                ..DescribeClientQuotasResponse::default()
            });
        }
    };
    let image = broker.metadata.image();
    let found = image
        .client_quotas()
        .iter()
        .filter(|(entity, _)| matches(entity, &filter, view.strict));
    let entries = found.map(|(entity, quotas)| EntryData {
        entity: entity
            .pairs()
            .map(|(kind, name)| EntityData {
                entity_type: kind.to_owned(),
                entity_name: name.map(str::to_owned),
            })
            .collect(),
        values: quotas
            .iter()
            .map(|(key, rate)| ValueData {
                key: key.clone(),
                value: rate.0,
            })
            .collect(),
    });
    request.answer(&DescribeClientQuotasResponse {
        entries: Some(entries.collect()),
        ..DescribeClientQuotasResponse::default()
    })
}

fn filter<'a>(
    view: &DescribeClientQuotasRequestView<'a>,
) -> Result<Vec<(&'a str, Wanted<'a>)>, ApiError> {
    let invalid = |message: String| Err(ApiError::new(ErrorCode::InvalidRequest, message));
    let mut seen = BTreeSet::new();
    let mut filter = Vec::new();
    for component in view.components.iter() {
        let kind = component.entity_type;
        if !KINDS.contains(&kind) {
            let message = format!("Unsupported entity type {kind}");
            return Err(ApiError::new(ErrorCode::UnsupportedVersion, message));
        }
        if !seen.insert(kind) {
            return invalid(format!(
                "Entity type {kind} cannot appear more than once in the filter."
            ));
        }
        let wanted = match (component.match_type, component.r#match) {
            (0, Some(name)) => Wanted::Exactly(name),
            (0, None) => {
                return invalid("Request specified EXACT, but no match.".to_owned());
            }
            (1, None) => Wanted::Default,
            (2, None) => Wanted::Any,
            (1 | 2, Some(_)) => {
                return invalid(
                    "Request specified a match that its type does not take.".to_owned(),
                );
            }
            (other, _) => return invalid(format!("Unknown match type {other}")),
        };
        filter.push((kind, wanted));
    }
    if seen.contains("ip") && seen.len() > 1 {
        return invalid(
            "Invalid entity filter component combination. IP filter component should not be used with user or clientId filter component.".to_owned(),
        );
    }
    Ok(filter)
}

/// Whether an entity has all that the filter names, and, strictly, nothing else.
fn matches(entity: &QuotaEntity, filter: &[(&str, Wanted<'_>)], strict: bool) -> bool {
    let has_all = filter.iter().all(|(kind, wanted)| {
        entity.pairs().any(|(found, name)| {
            found == *kind
                && match wanted {
                    Wanted::Exactly(wanted) => name == Some(*wanted),
                    Wanted::Default => name.is_none(),
                    Wanted::Any => true,
                }
        })
    });
    has_all && (!strict || entity.pairs().count() == filter.len())
}
