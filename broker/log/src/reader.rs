//! What everyone but the lane may do with a partition's log.
//!
//! A [`LogReader`] is cheap to clone and works from any thread while the lane writes. It never takes a lock that the lane
//! holds during disk work. Offsets are bounded by the caller (`up_to` is usually the high watermark): the reader itself
//! would serve anything that is written.

mod aborted;
mod fetch;
mod time;

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use weir_wire::batch::batches;
use weir_wire::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

use crate::aborted::Span;
use crate::dir::PartitionKey;
use crate::error::{Damage, ReadError};
use crate::files::Wait;
use crate::shared::Shared;
use crate::storage::File;
pub(crate) use aborted::aborted_within;
use fetch::Want;

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

impl FileSlice {
    /// The bytes, when they can be read without waiting for the disk.
    #[must_use]
    pub fn try_bytes(&self) -> Option<Bytes> {
        let mut bytes = vec![0; usize::try_from(self.len).ok()?];
        let read = self.file.try_read_at(&mut bytes, self.position).ok()?;
        (read == bytes.len()).then(|| Bytes::from(bytes))
    }
}

/// A transaction whose records a consumer leaves out that reads only what is committed: those of this producer from its first
/// offset up to the next marker that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTransaction {
    /// Whose.
    pub producer_id: ProducerId,
    /// Where it begins.
    pub first_offset: Offset,
}

/// An offset found by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's offset. In a compressed batch that cannot be inflated, the batch's base offset.
    pub offset: Offset,
    /// The record's timestamp; of a compressed batch that cannot be inflated, its greatest.
    pub timestamp: i64,
    /// The epoch the batch was written under.
    pub leader_epoch: LeaderEpoch,
}

/// Where an epoch ends in this log (KIP-101).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpochEnd {
    /// The greatest epoch in the log that is at most the one asked for; the one asked for when all in the log are greater.
    pub epoch: LeaderEpoch,
    /// The first offset after that epoch's last batch.
    pub end_offset: Offset,
}

/// The reading side of one partition.
#[derive(Clone, Debug)]
pub struct LogReader {
    shared: Arc<Shared>,
}

impl LogReader {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Which partition this is.
    #[must_use]
    pub fn key(&self) -> PartitionKey {
        self.shared.key
    }

    /// The first offset that may be read.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.shared.log_start()
    }

    /// The offset that the next batch will get.
    #[must_use]
    pub fn log_end(&self) -> Offset {
        self.shared.log_end()
    }

    /// The offset up to which the partition's [`Durability`](crate::Durability) is met, as last told to its observer.
    #[must_use]
    pub fn durable_end(&self) -> Offset {
        self.shared.durable_end()
    }

    /// The offset up to which everything was synced to disk. At most [`durable_end`](Self::durable_end).
    #[must_use]
    pub fn synced_end(&self) -> Offset {
        self.shared.synced_end()
    }

    /// Bytes of all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.shared
            .segments()
            .iter()
            .map(|segment| segment.size())
            .sum()
    }

    /// Bytes of closed segments that compaction has not looked at yet, and of all closed segments.
    #[must_use]
    pub fn dirty_bytes(&self) -> (u64, u64) {
        crate::clean::dirt(&self.shared)
    }

    /// Whether compaction met bytes that are not what was written, and leaves the partition alone.
    #[must_use]
    pub fn is_uncleanable(&self) -> bool {
        self.shared.is_uncleanable()
    }

    /// Whether what is appended is synced before it is acknowledged.
    pub(crate) fn syncs_at_once(&self) -> bool {
        self.shared.syncs_at_once()
    }

    /// What is missing or wrong although it was durable, when the partition was found damaged and refuses to be written.
    #[must_use]
    pub fn damage(&self) -> Option<Damage> {
        self.shared.damage()
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
        let want = Want {
            from,
            up_to,
            max_bytes,
            min_one_batch,
        };
        self.steady(Wait::Yes, || fetch::read(&self.shared, want, Wait::Yes))
    }

    /// As [`read`](Self::read), but fails with [`ReadError::WouldBlock`] instead of waiting for the disk, so that it may be
    /// called from a network thread. May return fewer batches than there are when only these are in the page cache.
    pub fn try_read(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Batches, ReadError> {
        let want = Want {
            from,
            up_to,
            max_bytes,
            min_one_batch,
        };
        self.steady(Wait::No, || fetch::read(&self.shared, want, Wait::No))
    }

    /// As [`try_read`](Self::try_read), by a single read of the file, where it is so near to the log's end that this gets everything;
    /// otherwise `None`.
    pub fn try_read_tail(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<Option<Batches>, ReadError> {
        let want = Want {
            from,
            up_to,
            max_bytes,
            min_one_batch,
        };
        self.steady(Wait::No, || fetch::read_tail(&self.shared, want))
    }

    /// Reads from `from` on, as [`read`](Self::read) does, and checks every checksum. Says where to go on. What is not what was
    /// written is [`damage`](Self::damage) from then on, and the partition refuses to be written. Waits for the disk.
    pub fn scrub(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
    ) -> Result<Offset, ReadError> {
        let read = match self.read(from, up_to, max_bytes, true) {
            Err(ReadError::Corrupt(damage)) => {
                self.shared.set_damage(damage.clone());
                return Err(ReadError::Corrupt(damage));
            }
            read => read?,
        };
        let mut at = read.base_offset;
        for batch in batches(&read.bytes) {
            let checked = batch.and_then(|batch| {
                batch.check()?;
                Ok(batch.header().next_offset())
            });
            match checked {
                Ok(next) => at = next,
                Err(error) => {
                    let damage = Damage {
                        offsets: at..read.next_offset,
                        found: error.to_string(),
                    };
                    self.shared.set_damage(damage.clone());
                    return Err(ReadError::Corrupt(damage));
                }
            }
        }
        Ok(read.next_offset)
    }

    /// As [`read`](Self::read), but says where the bytes lie. Waits until the page cache has them.
    pub fn slice(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<FileSlice, ReadError> {
        let want = Want {
            from,
            up_to,
            max_bytes,
            min_one_batch,
        };
        self.steady(Wait::Yes, || fetch::slice(&self.shared, want, Wait::Yes))
    }

    /// As [`slice`](Self::slice), but fails with [`ReadError::WouldBlock`] instead of waiting for the disk, now or, as far as
    /// can be seen, when the slice is sent.
    pub fn try_slice(
        &self,
        from: Offset,
        up_to: Offset,
        max_bytes: usize,
        min_one_batch: bool,
    ) -> Result<FileSlice, ReadError> {
        let want = Want {
            from,
            up_to,
            max_bytes,
            min_one_batch,
        };
        self.steady(Wait::No, || fetch::slice(&self.shared, want, Wait::No))
    }

    /// The first record below `up_to` whose timestamp is at least `timestamp` (ListOffsets). Waits for the disk.
    pub fn offset_for_timestamp(
        &self,
        timestamp: i64,
        up_to: Offset,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        self.steady(Wait::Yes, || {
            time::first_at_or_after(&self.shared, timestamp, up_to)
        })
    }

    /// The record below `up_to` with the greatest timestamp, the first of several (ListOffsets -3). Waits for the disk.
    pub fn max_timestamp(&self, up_to: Offset) -> Result<Option<TimestampOffset>, ReadError> {
        self.steady(Wait::Yes, || time::newest(&self.shared, up_to))
    }

    /// Where `epoch` ends in this log (OffsetForLeaderEpoch). `None` when the log knows no epoch as late.
    #[must_use]
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> Option<EpochEnd> {
        let epochs = self.shared.epochs();
        epochs.end_of(epoch, self.shared.log_end())
    }

    /// The epoch of the last batch; `None` when nothing was ever appended.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.shared.epochs().latest()
    }

    /// The epochs in this log and their first offsets, oldest first.
    #[must_use]
    pub fn epoch_starts(&self) -> Vec<(LeaderEpoch, Offset)> {
        self.shared.epochs().starts().to_vec()
    }

    /// The same with the log's end, both of one moment: what a follower and its leader compare to find where they agree. Never
    /// waits for the disk, also while the log is cut.
    #[must_use]
    pub fn history(&self) -> (Vec<(LeaderEpoch, Offset)>, Offset) {
        let epochs = self.shared.epochs();
        (epochs.starts().to_vec(), self.shared.log_end())
    }

    /// The epoch that the record at `offset` was written under.
    #[must_use]
    pub fn epoch_of(&self, offset: Offset) -> Option<LeaderEpoch> {
        self.shared.epochs().epoch_of(offset)
    }

    /// The last stable offset: everything below it is decided, by a marker that is below the high watermark itself. The high
    /// watermark is the caller's and must never go back; the result does not either.
    #[must_use]
    pub fn last_stable(&self, high_watermark: Offset) -> Offset {
        let stable = self.shared.transactions().last_stable(high_watermark);
        // Of a transaction whose beginning was deleted only the rest is left.
        stable.max(self.shared.log_start()).min(high_watermark)
    }

    /// The aborted transactions that have a part in `from..to`, which must lie below the last stable offset: all of them, in the
    /// order of their first offsets. Waits for the disk.
    pub fn aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let span = Span { from, to };
        self.steady(Wait::Yes, || aborted::told(&self.shared, span, Wait::Yes))
    }

    /// As [`aborted_transactions`](Self::aborted_transactions), but fails with [`ReadError::WouldBlock`] instead of waiting for
    /// the disk.
    pub fn try_aborted_transactions(
        &self,
        from: Offset,
        to: Offset,
    ) -> Result<Vec<AbortedTransaction>, ReadError> {
        let span = Span { from, to };
        self.steady(Wait::No, || aborted::told(&self.shared, span, Wait::No))
    }

    /// Whether a producer has a transaction open here under this epoch.
    #[must_use]
    pub fn is_transaction_open(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        self.shared.transactions().is_ongoing(producer, epoch)
    }

    /// How many transactions are open.
    #[must_use]
    pub fn open_transactions(&self) -> usize {
        self.shared.transactions().open_count()
    }

    /// Runs `attempt` so that its result is of one moment: again when the log was truncated meanwhile, or when a segment
    /// was removed under it by retention.
    fn steady<T>(
        &self,
        wait: Wait,
        attempt: impl Fn() -> Result<T, ReadError>,
    ) -> Result<T, ReadError> {
        let mut removals_met = 0;
        loop {
            let before = self.shared.truncations();
            if before % 2 == 1 {
                match wait {
                    Wait::No => return Err(ReadError::WouldBlock),
                    Wait::Yes => std::thread::yield_now(),
                }
                continue;
            }
            let result = attempt();
            if self.shared.truncations() != before {
                continue;
            }
            let removed = matches!(&result, Err(ReadError::Io { source, .. }) if source.kind() == ErrorKind::NotFound);
            if removed && self.shared.is_gone() {
                return Err(ReadError::Gone);
            }
            // Each removal was preceded by a new list of segments, so the next attempt does not meet it again. Ten in a
            // row are a file that is really missing.
            if removed && removals_met < 10 {
                removals_met += 1;
                continue;
            }
            return result;
        }
    }
}

#[cfg(test)]
mod tests;
