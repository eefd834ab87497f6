//! UnregisterBroker: a broker that is gone for good is forgotten.

use std::sync::Arc;

use weir_quorum::{BrokerId, Command};
use weir_wire::messages::{UnregisterBrokerRequestView, UnregisterBrokerResponse};

use super::{Answer, Refused, Request};
use crate::Broker;
use crate::error::ApiError;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: UnregisterBrokerRequestView = request.decode()?;
    let command = Command::UnregisterBroker {
        id: BrokerId(view.broker_id),
    };
    let (responder, broker) = (request.responder(), Arc::clone(broker));
    Ok(Answer::later(async move {
        let error = broker.metadata.control(command).await.err();
        let error = error.map(ApiError::from);
        responder.reply(&UnregisterBrokerResponse {
            error_code: error.as_ref().map_or(0, |error| error.code.code()),
            error_message: error.and_then(ApiError::message),
            ..UnregisterBrokerResponse::default()
        })
    }))
}
