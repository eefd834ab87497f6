//! What everyone but the lane may do with a partition's log.
//!
//! A [`LogReader`] is cheap to clone and works from any thread while the lane writes. It never takes a lock that the lane
//! holds during disk work. Offsets are bounded by the caller (`up_to` is usually the high watermark): the reader itself
//! would serve anything that is written.

use std::sync::Arc;

use bytes::Bytes;
use weir_wire::{LeaderEpoch, Offset};

use crate::dir::PartitionKey;
use crate::error::ReadError;
use crate::storage::File;

/// Whole record batches, one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batches {
    /// The bytes, as a fetch response carries them. Empty when there was nothing to read.
    pub bytes: Bytes,
    /// The first batch's base offset: at most the offset asked for.
    pub base_offset: Offset,
    /// The offset after the last batch: where to read on.
    pub next_offset: Offset,
}

/// Where whole record batches lie in a file, for `sendfile`.
#[derive(Clone, Debug)]
pub struct FileSlice {
    /// The segment. Holding it keeps the bytes readable, though retention may remove the name.
    pub file: Arc<dyn File>,
    /// First byte.
    pub position: u64,
    /// Number of bytes.
    pub len: u64,
    /// The first batch's base offset: at most the offset asked for.
    pub base_offset: Offset,
    /// The offset after the last batch.
    pub next_offset: Offset,
}

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's offset. In a compressed batch, which is not inflated for this, the batch's base offset: at most one
    /// batch early, as a consumer that seeks there may see.
    pub offset: Offset,
    /// The record's timestamp; of a compressed batch its greatest.
    pub timestamp: i64,
    /// The epoch the batch was written under.
    pub leader_epoch: LeaderEpoch,
}

/// Where an epoch ends in this log (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The greatest epoch in the log that is at most the one asked for.
    pub epoch: LeaderEpoch,
    /// The first offset after that epoch's last batch.
    pub end_offset: Offset,
}

/// The reading side of one partition.
#[derive(Clone, Debug)]
pub struct LogReader {
    key: PartitionKey,
}

impl LogReader {
    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.key
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        todo!()
    }

    /// The offset that the next batch will get.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        todo!()
    }

    /// The offset up to which the partition's [`Durability`](crate::Durability) is met, as last told to its observer.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        todo!()
    }

    /// The offset up to which everything was synced to disk. At most [`durable_end`](Self::durable_end).
    #[must_use]
    pub fn synced_end(&self) -> Offset {
        todo!()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        todo!()
    }

    /// Record batches from the one that holds `from` on, all of whose records are below `up_to`, at most `max_bytes` of
    /// them; when `min_one_batch`, at least one whole batch however large it is. Never crosses a segment's end. Reading at
    /// the end (`from == up_to` or `from == log_end`) gives no bytes. Waits for the disk.
    pub fn read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let _ = (from, up_to, max_bytes, min_one_batch);
        todo!()
    }

    /// As [`read`](Self::read), but fails with [`ReadError::WouldBlock`] instead of waiting for the disk, so that it may be
    /// called from a network thread.
    pub fn try_read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let _ = (from, up_to, max_bytes, min_one_batch);
        todo!()
    }

    /// As [`read`](Self::read), but says where the bytes lie. Waits for the disk (it reads headers).
    pub fn slice(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<FileSlice, ReadError> {
        let _ = (from, up_to, max_bytes, min_one_batch);
        todo!()
    }

    /// The first record below `up_to` whose timestamp is at least `timestamp` (ListOffsets). Waits for the disk.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        up_to: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let _ = (timestamp, up_to);
        todo!()
    }

    /// The record below `up_to` with the greatest timestamp, the first of several (ListOffsets -3). Waits for the disk.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        let _ = up_to;
        todo!()
    }

    /// The end of the greatest epoch that is at most `epoch` (OffsetForLeaderEpoch); `None` when there is none.
    #[must_use]
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let _ = epoch;
        todo!()
    }

    /// The epoch of the last batch; `None` when nothing was ever appended.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        todo!()
    }

    /// The epoch that the record at `offset` was written under.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        let _ = offset;
        todo!()
    }
}
