//! What the APIs of transactions have in common.

use weir_groups::Producer;
use weir_groups::transactions::TransactionError;
use weir_wire::{ErrorCode, ProducerEpoch, ProducerId};

/// The first version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn in which a producer that was replaced is told so in
/// the word made for it.
const FENCED_FROM: i16 = 2;

pub(super) const fn producer(id: i64, epoch: i16) -> Producer {
    Producer {
        id: ProducerId(id),
        epoch: ProducerEpoch(epoch),
    }
}

/// The code of an outcome, as a client of this version knows it.
pub(super) fn code_of<T>(outcome: &Result<T, TransactionError>, version: i16) -> ErrorCode {
    match outcome {
        Ok(_) => ErrorCode::None,
        Err(TransactionError::ProducerFenced) if version < FENCED_FROM => {
            ErrorCode::InvalidProducerEpoch
        }
        Err(error) => error.code(),
    }
}
