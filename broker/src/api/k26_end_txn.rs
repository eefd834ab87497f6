//! EndTxn: a transaction is committed or aborted. From version 5 on the producer gets a new epoch with it (KIP-890).

use std::sync::Arc;

use weir_groups::Outcome;
use weir_groups::transactions::Version;
use weir_groups::transactions::request::EndRequest;
use weir_wire::messages::{EndTxnRequestView, EndTxnResponse};

use super::transactional::{code_of, producer};
use super::{Answer, Refused, Request};
use crate::Broker;

/// The first version of clients that speak version 2 of transactions.
const V2_FROM: i16 = 5;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: EndTxnRequestView<'_> = request.decode()?;
    let asked = broker.transactions.end(EndRequest {
        id: view.transactional_id.into(),
        producer: producer(view.producer_id, view.producer_epoch),
        outcome: if view.committed {
            Outcome::Commit
        } else {
            Outcome::Abort
        },
        version: if request.version < V2_FROM {
            Version::V0
        } else {
            Version::V2
        },
        fresh: None,
    });
    let responder = request.responder();
    Ok(Answer::later(async move {
        let outcome = asked.await;
        let (producer_id, producer_epoch) = outcome
            .as_ref()
            .map_or((-1, -1), |producer| (producer.id.0, producer.epoch.0));
        responder.reply(&EndTxnResponse {
            error_code: code_of(&outcome, responder.version).code(),
            producer_id,
            producer_epoch,
            ..EndTxnResponse::default()
        })
    }))
}
