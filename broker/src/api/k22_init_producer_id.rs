//! InitProducerId: an identity for an idempotent producer.

use std::sync::Arc;

use tracing::info;
use weir_wire::messages::{InitProducerIdRequestView, InitProducerIdResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: InitProducerIdRequestView<'_> = request.decode()?;
    match view.transactional_id {
        None => {}
        Some("") => return request.answer(&refused(ErrorCode::InvalidRequest)),
        Some(transactional_id) => {
            // The response has no room for words.
            info!(
                transactional_id,
                "a transactional producer was refused: this broker has no transactions"
            );
            return request.answer(&refused(ErrorCode::TransactionalIdAuthorizationFailed));
        }
    }
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        // A producer without a transactional id always gets a new identity, whatever it had before.
        let response = match broker.producer_ids.next(&broker.metadata).await {
            Ok(producer_id) => InitProducerIdResponse {
                producer_id: producer_id.0,
                ..InitProducerIdResponse::default()
            },
            Err(error) => refused(ApiError::from(error).code),
        };
        responder.reply(&response)
    }))
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
