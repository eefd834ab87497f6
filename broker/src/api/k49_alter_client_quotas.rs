//! AlterClientQuotas: sets and removes limits (KIP-546).

use std::sync::Arc;

use weir_quorum::command::{AlterQuotas, Command, QuotaChanges, Reply as Controlled};
use weir_quorum::quotas::{QuotaEntity, Rate};
use weir_wire::messages::alter_client_quotas_request::EntryDataView;
use weir_wire::messages::alter_client_quotas_response::{EntityData, EntryData};
use weir_wire::messages::{AlterClientQuotasRequestView, AlterClientQuotasResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: AlterClientQuotasRequestView<'_> = request.decode()?;
    let entries: Vec<(Vec<EntityData>, Result<QuotaChanges, ApiError>)> = view
        .entries
        .iter()
        .map(|entry| (named(&entry), changes(&entry)))
        .collect();
    let validate_only = view.validate_only;
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let good: Vec<QuotaChanges> = entries
            .iter()
            .filter_map(|(_, changes)| changes.as_ref().ok().cloned())
            .collect();
        let asked = good.len();
        let command = Command::AlterQuotas(AlterQuotas {
            entries: good,
            validate_only,
        });
        let outcomes: Vec<Option<ApiError>> = match broker.metadata.control(command).await {
            Ok(Controlled::Quotas(outcomes)) => outcomes
                .into_iter()
                .map(|outcome| outcome.map_err(ApiError::from).err())
                .collect(),
            Ok(_) => vec![Some(ErrorCode::UnknownServerError.into()); asked],
            Err(error) => vec![Some(ApiError::from(error)); asked],
        };
        let mut outcomes = outcomes.into_iter();
        let entries = entries.into_iter().map(|(entity, changes)| {
            let error = match changes {
                Err(error) => Some(error),
                Ok(_) => outcomes.next().flatten(),
            };
            EntryData {
                error_code: error.as_ref().map_or(0, |error| error.code.code()),
                error_message: error.and_then(ApiError::message),
                entity,
            }
        });
        responder.reply(&AlterClientQuotasResponse {
            entries: entries.collect(),
            ..AlterClientQuotasResponse::default()
        })
    }))
}

fn named(entry: &EntryDataView<'_>) -> Vec<EntityData> {
    let parts = entry.entity.iter().map(|part| EntityData {
        entity_type: part.entity_type.to_owned(),
        entity_name: part.entity_name.map(str::to_owned),
    });
    parts.collect()
}

fn changes(entry: &EntryDataView<'_>) -> Result<QuotaChanges, ApiError> {
    let parts = entry
        .entity
        .iter()
        .map(|part| (part.entity_type, part.entity_name));
    let entity = QuotaEntity::of(parts)?;
    let ops = entry.ops.iter().map(|op| {
        // What is no number cannot even be told to the controller.
        if !op.remove && !op.value.is_finite() {
            let message = format!("Quota {} must be greater than 0", op.key);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        Ok((op.key.to_owned(), (!op.remove).then_some(Rate(op.value))))
    });
    Ok(QuotaChanges {
        entity,
        ops: ops.collect::<Result<_, _>>()?,
    })
}
