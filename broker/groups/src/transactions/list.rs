//! DescribeTransactions and ListTransactions.

use super::request::{Description, ListRequest, Listing};
use super::transaction::Transaction;
use crate::types::TransactionalId;

impl Transaction {
    pub(super) fn describe(&self) -> Description {
        Description {
            state: self.state,
            producer: self.producer,
            timeout_ms: self.timeout_ms,
            started_at_ms: self.started_at_ms,
            partitions: self.partitions.clone(),
        }
    }

    pub(super) fn list(
        &self,
        id: &TransactionalId,
        request: &ListRequest,
        now_ms: i64,
    ) -> Option<Listing> {
        let runs_ms = now_ms.saturating_sub(self.started_at_ms);
        let is_wanted = !request.only_unseen
            && (request.states.is_empty() || request.states.contains(&self.state))
            && (request.producers.is_empty() || request.producers.contains(&self.producer.id))
            && request.longer_than_ms.is_none_or(|ms| runs_ms > ms);
        is_wanted.then(|| Listing {
            id: id.clone(),
            producer: self.producer.id,
            state: self.state,
        })
    }
}
