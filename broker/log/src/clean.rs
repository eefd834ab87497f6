//! Compaction: of each key the last record stays.
//!
//! A pass over a partition reads what was written since the last pass into a map from keys to their last offsets, then reads
//! the log from its beginning and writes anew each segment of which something can go. It runs on a thread of its own, never
//! on a lane, at most one pass at a time, and may stop between any two segments: what was exchanged until then stays.
//!
//! What always holds:
//! - Offsets do not move, and the log has no hole: a batch without records takes the place of batches that went (Kafka leaves
//!   a gap there). So damage is still told from compaction, by everyone who walks a log.
//! - The active segment, what is not on disk yet and what consumers may not see yet is left alone.
//! - A segment's file appears under its final name only whole and synced, and no name is used for other bytes before: readers
//!   that have the old file go on with it, those that come late to open it look again. At a power cut both may be
//!   there; the higher generation counts (`recovery::inventory`).
//! - The last batch of a producer keeps its header, so that its sequence is known to whoever rebuilds the state (KAFKA-5351).
//! - Tombstones, and markers of transactions of which nothing is left, go once the time that the batch's header names has
//!   passed (KIP-534).

mod cleaner;
mod filter;
mod map;
mod output;
mod pass;
mod source;
mod swap;
#[cfg(test)]
mod tests;
mod transactions;

pub use cleaner::Cleaner;
pub(crate) use filter::{LastBatch, Rules};
pub(crate) use pass::{CleanJob, dirt};
pub(crate) use swap::{
    is_name_of_another, remove as remove_if_there, remove_superseded, store_compacted_to,
};
