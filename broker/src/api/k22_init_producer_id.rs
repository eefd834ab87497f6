//! InitProducerId: an identity for an idempotent or a transactional producer.

use std::sync::Arc;

use weir_groups::Producer;
use weir_groups::transactions::TransactionError;
use weir_groups::transactions::request::InitRequest;
use weir_wire::messages::{InitProducerIdRequestView, InitProducerIdResponse};
use weir_wire::{ProducerEpoch, ProducerId};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::{ApiError, ErrorCode};

/// The first version in which a producer that was replaced is told so in the word made for it.
const FENCED_FROM: i16 = 4;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: InitProducerIdRequestView<'_> = request.decode()?;
    let Some(id) = view.transactional_id else {
        return Ok(idempotent(broker, &request));
    };
    let expected = match (view.producer_id, view.producer_epoch) {
        (-1, -1) => None,
        (0.., 0..) => Some(Producer {
            id: ProducerId(view.producer_id),
            epoch: ProducerEpoch(view.producer_epoch),
        }),
        _ => return request.answer(&refused(ErrorCode::InvalidRequest)),
    };
    let asked = broker.transactions.init(InitRequest {
        id: id.into(),
        timeout_ms: view.transaction_timeout_ms,
        expected,
        fresh: None,
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        responder.reply(&match asked.await {
            Ok(producer) => InitProducerIdResponse {
                producer_id: producer.id.0,
                producer_epoch: producer.epoch.0,
                ..InitProducerIdResponse::default()
            },
            Err(TransactionError::ProducerFenced) if responder.version < FENCED_FROM => {
                refused(ErrorCode::InvalidProducerEpoch)
            }
            Err(error) => refused(error.code()),
        })
    }))
}

/// A producer without a transactional id always gets a new identity, whatever it had before.
fn idempotent(broker: &Arc<Broker>, request: &Request) -> Answer {
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Answer::later(async move {
        let response = match broker.producer_ids.next(&broker.metadata).await {
            Ok(producer_id) => InitProducerIdResponse {
                producer_id: producer_id.0,
                ..InitProducerIdResponse::default()
            },
            Err(error) => refused(ApiError::from(error).code),
        };
        responder.reply(&response)
    })
}

fn refused(error: ErrorCode) -> InitProducerIdResponse {
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: -1,
        producer_epoch: -1,
        ..InitProducerIdResponse::default()
    }
}
