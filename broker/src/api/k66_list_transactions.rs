//! ListTransactions: the transactional ids that this broker coordinates.

use std::sync::Arc;

use regex::{Regex, RegexBuilder};
use weir_groups::transactions::State;
use weir_groups::transactions::request::{ListRequest, Listing};
use weir_wire::messages::list_transactions_response::TransactionState;
use weir_wire::messages::{ListTransactionsRequestView, ListTransactionsResponse};
use weir_wire::{ErrorCode, ProducerId};

use super::{Answer, Refused, Request};
use crate::Broker;

/// What a compiled pattern may take: far more than one that a person writes.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: ListTransactionsRequestView<'_> = request.decode()?;
    let pattern = match view
        .transactional_id_pattern
        .filter(|text| !text.is_empty())
    {
        None => None,
        Some(text) => match pattern(text) {
            Some(pattern) => Some(pattern),
            None => return request.answer(&refused(ErrorCode::InvalidRegularExpression)),
        },
    };
    let mut states = Vec::new();
    let mut unknown = Vec::new();
    for name in view.state_filters.iter() {
        match State::ALL.into_iter().find(|state| state.name() == name) {
            Some(state) => states.push(state),
            None if State::UNSEEN.contains(&name) => {}
            None => unknown.push(name.to_owned()),
        }
    }
    let asked = broker.transactions.list(&ListRequest {
        only_unseen: states.is_empty() && view.state_filters.iter().len() > 0,
        states,
        producers: view.producer_id_filters.iter().map(ProducerId).collect(),
        longer_than_ms: Some(view.duration_filter).filter(|ms| *ms >= 0),
    });
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        let response = match asked.await {
            Err(error) => refused(error.code()),
            Ok(listed) => ListTransactionsResponse {
                unknown_state_filters: unknown,
                transaction_states: listed
                    .into_iter()
                    .filter(|listing| is_wanted(listing, pattern.as_ref()))
                    .map(told)
                    .collect(),
                ..ListTransactionsResponse::default()
            },
        };
        responder.reply(&response)
    }))
}

/// A pattern for a whole id.
fn pattern(text: &str) -> Option<Regex> {
    let whole = format!("^(?:{text})$");
    let built = RegexBuilder::new(&whole)
        .size_limit(PATTERN_BYTES_MAX)
        .build();
    built.ok()
}

fn is_wanted(listing: &Listing, pattern: Option<&Regex>) -> bool {
    pattern.is_none_or(|pattern| pattern.is_match(listing.id.as_str()))
}

fn told(listing: Listing) -> TransactionState {
    TransactionState {
        transactional_id: listing.id.to_string(),
        producer_id: listing.producer.0,
        transaction_state: listing.state.name().to_owned(),
    }
}

fn refused(error: ErrorCode) -> ListTransactionsResponse {
    ListTransactionsResponse {
        error_code: error.code(),
        ..ListTransactionsResponse::default()
    }
}
