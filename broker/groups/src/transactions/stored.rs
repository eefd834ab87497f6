//! The records of `__transaction_state`, in Kafka's own format, so that tools that read that topic read ours.

use weir_wire::encode::EncodeError;
use weir_wire::message::MessageView;
use weir_wire::messages::transaction_log_value::PartitionsSchema;
use weir_wire::messages::{
    TransactionLogKey, TransactionLogKeyView, TransactionLogValue, TransactionLogValueView,
};
use weir_wire::{PartitionIndex, ProducerEpoch, ProducerId};

use super::partitions::PartitionSet;
use super::state::{State, Version};
use super::transaction::Transaction;
use crate::machine::Producer;
use crate::stored::{StoredError, StoredRecord, prefixed, split};
use crate::types::TransactionalId;

/// Keys have had one version.
const KEY: i16 = 0;
/// The first flexible version, with the fields of KIP-890.
const VALUE: i16 = 1;

/// A record of the log, read.
#[derive(Debug)]
pub(super) enum Stored {
    Transaction(TransactionalId, Option<Box<Transaction>>),
    /// A kind that is not known.
    Other,
}

/// What holds of a transactional id.
pub(super) fn record(
    id: &TransactionalId,
    transaction: &Transaction,
) -> Result<StoredRecord, EncodeError> {
    let topics = transaction
        .partitions
        .topics()
        .map(|(topic, partitions)| PartitionsSchema {
            topic: topic.to_owned(),
            partition_ids: partitions.iter().map(|partition| partition.0).collect(),
        });
    let value = TransactionLogValue {
        producer_id: transaction.producer.id.0,
        previous_producer_id: transaction.previous_id.0,
        next_producer_id: transaction.next_id.0,
        producer_epoch: transaction.producer.epoch.0,
        next_producer_epoch: -1,
        transaction_timeout_ms: transaction.timeout_ms,
        transaction_status: transaction.state.number(),
        // Kafka's reader takes none for "never began".
        transaction_partitions: (transaction.state != State::Empty).then(|| topics.collect()),
        transaction_last_update_timestamp_ms: transaction.updated_at_ms,
        transaction_start_timestamp_ms: transaction.started_at_ms,
        client_transaction_version: transaction.version.level().into(),
    };
    Ok(StoredRecord {
        key: key(id)?,
        value: Some(prefixed(VALUE, &value, VALUE)?),
    })
}

/// The end of a transactional id.
pub(super) fn tombstone(id: &TransactionalId) -> Result<StoredRecord, EncodeError> {
    Ok(StoredRecord {
        key: key(id)?,
        value: None,
    })
}

/// Reads a record of the log.
pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Stored, StoredError> {
    let (kind, key) = split(key)?;
    if kind != TransactionLogKey::RECORD_KIND {
        return Ok(Stored::Other);
    }
    let id = TransactionLogKeyView::decode(key, KEY)?
        .transactional_id
        .into();
    let Some(value) = value else {
        return Ok(Stored::Transaction(id, None));
    };
    let (version, value) = split(value)?;
    let value = TransactionLogValueView::decode(value, version)?;
    let state = State::from_number(value.transaction_status).ok_or(StoredError::State {
        found: value.transaction_status,
    })?;
    let mut partitions = PartitionSet::default();
    for topic in value.transaction_partitions.into_iter().flatten() {
        for partition in topic.partition_ids.iter() {
            partitions.insert(topic.topic, PartitionIndex(partition));
        }
    }
    let transaction = Transaction {
        producer: Producer {
            id: ProducerId(value.producer_id),
            epoch: ProducerEpoch(value.producer_epoch),
        },
        previous_id: ProducerId(value.previous_producer_id),
        next_id: ProducerId(value.next_producer_id),
        last_epoch: ProducerEpoch::NONE,
        timeout_ms: value.transaction_timeout_ms,
        state,
        partitions,
        started_at_ms: value.transaction_start_timestamp_ms,
        updated_at_ms: value.transaction_last_update_timestamp_ms,
        version: Version::from_level(value.client_transaction_version),
    };
    Ok(Stored::Transaction(id, Some(Box::new(transaction))))
}

fn key(id: &TransactionalId) -> Result<bytes::Bytes, EncodeError> {
    let key = TransactionLogKey {
        transactional_id: id.to_string(),
    };
    prefixed(TransactionLogKey::RECORD_KIND, &key, KEY)
}
