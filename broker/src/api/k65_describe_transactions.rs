//! DescribeTransactions: transactional ids as they stand.

use std::sync::Arc;

use weir_groups::transactions::TransactionError;
use weir_groups::transactions::request::Description;
use weir_wire::messages::describe_transactions_response::{TopicData, TransactionState};
use weir_wire::messages::{DescribeTransactionsRequestView, DescribeTransactionsResponse};

use super::{Answer, Refused, Request};
use crate::Broker;

pub(super) fn handle(broker: &Arc<Broker>, request: Request) -> Result<Answer, Refused> {
    let view: DescribeTransactionsRequestView<'_> = request.decode()?;
    // Every coordinator is asked before the first answer is waited for.
    let asked = view.transactional_ids.iter().map(|id| {
        let asked = broker.transactions.describe(id.into());
        (id.to_owned(), asked)
    });
    let asked: Vec<_> = asked.collect();
    let responder = request.responder();
    drop(request);
    Ok(Answer::later(async move {
        let mut states = Vec::with_capacity(asked.len());
        for (id, asked) in asked {
            states.push(told(id, asked.await));
        }
        responder.reply(&DescribeTransactionsResponse {
            transaction_states: states,
            ..DescribeTransactionsResponse::default()
        })
    }))
}

fn told(
    transactional_id: String,
    outcome: Result<Description, TransactionError>,
) -> TransactionState {
    let found = match outcome {
        Ok(found) => found,
        Err(error) => {
            return TransactionState {
                error_code: error.code().code(),
                transactional_id,
                ..TransactionState::default()
            };
        }
    };
    let topics = found
        .partitions
        .topics()
        .map(|(topic, partitions)| TopicData {
            topic: topic.to_owned(),
            partitions: partitions.iter().map(|partition| partition.0).collect(),
        });
    TransactionState {
        error_code: 0,
        transactional_id,
        transaction_state: found.state.name().to_owned(),
        transaction_timeout_ms: found.timeout_ms,
        transaction_start_time_ms: found.started_at_ms,
        producer_id: found.producer.id.0,
        producer_epoch: found.producer.epoch.0,
        topics: topics.collect(),
    }
}
