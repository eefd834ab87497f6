//! EndTxn: a producer decides how its transaction ends, and may ask again.
//!
//! In version 2, a producer that repeats its request is known by its epoch, one below the present one, or by its producer
//! id when the epochs of that were used up. What may be asked when no transaction is open, by one that repeats and by the
//! present producer:
//!
//! | state          | abort again | abort         | commit again | commit        |
//! |----------------|-------------|---------------|--------------|---------------|
//! | empty          | fenced      | a new epoch   | fenced       | invalid state |
//! | aborted        | done        | a new epoch   | invalid      | invalid state |
//! | committed      | invalid     | a new epoch   | done         | invalid state |

use weir_wire::ProducerId;

use super::error::TransactionError;
use super::request::EndRequest;
use super::state::{State, Version};
use super::transaction::{EPOCH_EXHAUSTED, EPOCH_MAX, Transaction, next_epoch};
use crate::machine::{Outcome, Producer};

/// What is to be done for a producer that ends its transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// It was done before.
    Already,
    /// The outcome is decided; markers are to be written.
    Prepared,
    /// No partition was part of it: it is over.
    Completed,
}

impl Transaction {
    /// Ends the transaction.
    pub(super) fn end(
        &mut self,
        request: &EndRequest,
        now_ms: i64,
    ) -> Result<End, TransactionError> {
        match request.version {
            Version::V0 => self.end_v0(request, now_ms),
            Version::V2 => self.end_v2(request, now_ms),
        }
    }

    fn end_v0(&mut self, request: &EndRequest, now_ms: i64) -> Result<End, TransactionError> {
        if request.producer.id != self.producer.id {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        if request.producer.epoch != self.producer.epoch {
            return Err(TransactionError::ProducerFenced);
        }
        match self.state {
            State::Ongoing => {
                self.prepare(request.outcome, Version::V0, None, now_ms);
                Ok(End::Prepared)
            }
            State::Prepare(outcome) if outcome == request.outcome => {
                Err(TransactionError::Concurrent)
            }
            State::Complete(outcome) if outcome == request.outcome => Ok(End::Already),
            State::Empty | State::Prepare(_) | State::Complete(_) => {
                Err(TransactionError::InvalidState)
            }
        }
    }

    fn end_v2(&mut self, request: &EndRequest, now_ms: i64) -> Result<End, TransactionError> {
        let who = request.producer;
        let is_current = who == self.producer;
        let is_repeated = self.is_repeated(who);
        let is_decided = matches!(self.state, State::Prepare(_));
        if is_decided && who == self.producer_when_complete() {
            // It knows how the one before ended, and has begun and ended the next, which is still empty.
            return Err(TransactionError::Concurrent);
        }
        if who.id != self.producer.id && !is_repeated {
            return Err(TransactionError::InvalidProducerIdMapping);
        }
        let is_valid = match self.state {
            State::Empty | State::Ongoing => is_current,
            State::Prepare(_) => is_repeated,
            State::Complete(_) => is_current || is_repeated,
        };
        if !is_valid {
            return Err(TransactionError::ProducerFenced);
        }
        match (self.state, request.outcome) {
            (State::Ongoing, outcome) => {
                self.check_fresh(request.fresh)?;
                self.prepare(outcome, Version::V2, request.fresh, now_ms);
                Ok(End::Prepared)
            }
            (State::Prepare(decided), outcome) if decided == outcome => {
                Err(TransactionError::Concurrent)
            }
            (State::Complete(done), outcome) if is_repeated && done == outcome => Ok(End::Already),
            (State::Empty | State::Complete(_), Outcome::Abort) if !is_repeated => {
                self.check_fresh(request.fresh)?;
                self.abort_empty(request.fresh, now_ms);
                Ok(End::Completed)
            }
            _ => Err(TransactionError::InvalidState),
        }
    }

    /// Whether `who` is the producer as it was before the last transaction was decided.
    fn is_repeated(&self, who: Producer) -> bool {
        if self.version != Version::V2 {
            return false;
        }
        if who.id == self.producer.id {
            // The greatest epoch without a successor is that of a producer that was fenced.
            let may_go_on = self.producer.epoch != EPOCH_MAX || self.next_id != ProducerId::NONE;
            return may_go_on
                && who.epoch != self.producer.epoch
                && next_epoch(who.epoch) == self.producer.epoch;
        }
        who.id == self.previous_id
            && who.epoch == EPOCH_EXHAUSTED
            && self.producer.epoch.0 == 0
            && matches!(self.state, State::Complete(_))
    }

    fn check_fresh(&self, fresh: Option<ProducerId>) -> Result<(), TransactionError> {
        if self.is_exhausted() && fresh.is_none() {
            return Err(TransactionError::ProducerIdWanted);
        }
        Ok(())
    }

    /// Whoever aborts without having added a partition gets a new epoch all the same: it may have tried to write.
    fn abort_empty(&mut self, fresh: Option<ProducerId>, now_ms: i64) {
        self.state = State::Ongoing;
        self.started_at_ms = now_ms;
        self.prepare(Outcome::Abort, Version::V2, fresh, now_ms);
        self.complete(Outcome::Abort, now_ms);
    }
}
