//! One partition's commit log on disk, and the lanes that write it.
//!
//! Owns the bytes of partitions below a data directory: segments in Kafka's record-batch format, the sparse index that is
//! derived from them, state snapshots (producers, leader epochs), the checkpoint of what is certainly on disk. Knows
//! nothing of the network, of replicas or of the high watermark; those are the broker's.
//!
//! What always holds:
//! - A partition has one writer, its lane; readers need no lock and never enter a lane.
//! - Offsets of a partition are dense and only grow, but for [`PartitionHandle::truncate_to`] and [`PartitionHandle::reset`].
//! - [`Observer::durable`] is called for an offset only when the partition's [`Durability`] has been met up to it.
//! - After a failed sync nothing is reported any more; the process is expected to end ([`Fatal`]).
//! - An index is never believed: what it points at is compared with the batch that lies there.
//!
//! Start reading at [`Lanes`] (the writing side), [`LogReader`] (the reading side) and [`storage`] (the seam to the disk).

pub mod mutants;
pub mod storage;
pub mod storage_os;
pub mod storage_sim;

mod aborted;
mod clean;
mod clock;
mod config;
mod dir;
mod epochs;
mod error;
mod files;
mod index;
mod lanes;
mod log;
mod producers;
mod reader;
mod recovery;
mod seek;
mod segment;
mod shared;
#[cfg(test)]
mod testing;
mod transactions;
mod walk;

pub use clean::Cleaner;
pub use clock::{Clock, SystemClock};
pub use config::{Compaction, Durability, LogConfig, TimestampType};
pub use dir::{DataDir, PartitionKey, PartitionMeta};
pub use error::{
    AppendError, Damage, Fatal, LaneError, OpenError, ReadError, SequenceError, TransactionError,
};
pub use files::{read_small, replace_small};
pub use lanes::{
    Admission, Append, Appended, Ends, Job, LaneCore, Lanes, LanesConfig, NotAdmitted, Observer,
    Offered, OpenPartition, Opened, PartitionHandle, RecoveryReport, Replicate, lend_turns,
};
pub use producers::{KnownProducers, Origin, ProducerState, Verified};
pub use reader::{AbortedTransaction, Batches, EpochEnd, FileSlice, LogReader, TimestampOffset};
