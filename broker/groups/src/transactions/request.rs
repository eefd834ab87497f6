//! What may be asked of a transaction coordinator, and what it answers: Kafka's requests without their versions and
//! encodings.

use weir_wire::{PartitionIndex, ProducerId};

use super::error::TransactionError;
use super::partitions::PartitionSet;
use super::state::{State, Version};
use crate::machine::{Outcome, Producer};
use crate::types::TransactionalId;

/// A request to the coordinator of its transactional id.
#[derive(Clone, Debug)]
pub enum Request {
    /// InitProducerId.
    Init(InitRequest),
    /// AddPartitionsToTxn and AddOffsetsToTxn, for one transactional id.
    Add(AddRequest),
    /// Whether partitions are part of the ongoing transaction.
    Verify(VerifyRequest),
    /// EndTxn.
    End(EndRequest),
    /// DescribeTransactions, for one transactional id.
    Describe(TransactionalId),
    /// ListTransactions, for one shard.
    List(ListRequest),
    /// Every partition has its marker, or is gone.
    MarkersWritten {
        /// Of which id.
        id: TransactionalId,
        /// The producer that the markers were of.
        producer: Producer,
    },
}

/// The answer to the [`Request`] of the same name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// Who the producer is from now on.
    Init(Result<Producer, TransactionError>),
    /// Whether all partitions are part of the transaction.
    Add(Result<(), TransactionError>),
    /// For each partition, or for all.
    Verify(Result<Vec<Verdict>, TransactionError>),
    /// Who the producer is from now on.
    End(Result<Producer, TransactionError>),
    /// The transactional id as it stands.
    Describe(Result<Description, TransactionError>),
    /// The shard's ids.
    List(Vec<Listing>),
    /// Taken notice of.
    MarkersWritten,
}

/// One partition, and whether it is part of the ongoing transaction.
pub type Verdict = (String, PartitionIndex, Result<(), TransactionError>);

/// A producer that begins to use its id.
#[derive(Clone, Debug)]
pub struct InitRequest {
    /// The id.
    pub id: TransactionalId,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// Who it was, when it goes on after an error (KIP-360).
    pub expected: Option<Producer>,
    /// A producer id that was never given out, for when one is wanted.
    pub fresh: Option<ProducerId>,
}

/// Partitions to add to a transaction, which begins with the first.
#[derive(Clone, Debug)]
pub struct AddRequest {
    /// The id.
    pub id: TransactionalId,
    /// Whose transaction.
    pub producer: Producer,
    /// How the producer speaks.
    pub version: Version,
    /// The partitions.
    pub partitions: PartitionSet,
}

/// Partitions that may be part of a transaction.
#[derive(Clone, Debug)]
pub struct VerifyRequest {
    /// The id.
    pub id: TransactionalId,
    /// Whose transaction.
    pub producer: Producer,
    /// The partitions.
    pub partitions: PartitionSet,
}

/// A transaction to end.
#[derive(Clone, Debug)]
pub struct EndRequest {
    /// The id.
    pub id: TransactionalId,
    /// Whose transaction.
    pub producer: Producer,
    /// How it is to end.
    pub outcome: Outcome,
    /// How the producer speaks.
    pub version: Version,
    /// A producer id that was never given out, for when one is wanted.
    pub fresh: Option<ProducerId>,
}

/// A transactional id as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Where it stands.
    pub state: State,
    /// Its producer.
    pub producer: Producer,
    /// How long a transaction may take.
    pub timeout_ms: i32,
    /// When the transaction began, milliseconds since 1970, or -1.
    pub started_at_ms: i64,
    /// The transaction's partitions.
    pub partitions: PartitionSet,
}

/// Which transactional ids to list. Empty lists filter nothing.
#[derive(Clone, Debug, Default)]
pub struct ListRequest {
    /// In these states.
    pub states: Vec<State>,
    /// Whether only states were asked for that nothing is ever in.
    pub only_unseen: bool,
    /// Of these producers.
    pub producers: Vec<ProducerId>,
    /// Whose transaction runs for longer than this.
    pub longer_than_ms: Option<i64>,
}

/// A transactional id in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The id.
    pub id: TransactionalId,
    /// Its producer.
    pub producer: ProducerId,
    /// Where it stands.
    pub state: State,
}
