//! The record batch, version 2: what a producer sends, what lies in a segment, what a consumer gets.
//!
//! Offsets and leader epoch precede the checksum, so that a leader assigns them by writing [`PatchedHeader`] in front of
//! the rest of the batch. Nothing is copied or allocated by reading: [`BatchView`] borrows, its records are decoded as they
//! are iterated. Magic 0 and 1 are refused. Compressed records are inflated only by [`BatchView::inflated`], within a bound.

mod builder;
mod compression;
mod error;
mod header;
mod record;
mod rewrite;
mod varint;
mod view;

pub use builder::{BatchBuilder, NewHeader, NewRecord, control_batch};
pub use compression::{CompressionError, INFLATED_BYTES_MAX, deflate, inflate};
pub use error::BatchError;
pub use header::{
    Attributes, BatchHeader, Compression, HEADER_LEN, PATCHED_LEN, PREFIX_LEN, PatchedHeader,
    TimestampType,
};
pub use record::{
    ControlRecord, EndTransactionMarker, HeaderView, Headers, RecordView, RecordsIter,
};
pub use rewrite::{Inflated, Rewrite, RewriteError, filler};
pub use view::{BatchView, Batches, batches, only_batch};

#[cfg(test)]
mod tests;
