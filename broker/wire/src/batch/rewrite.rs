//! Batches made from other batches: with fewer records, with another codec, with nothing but their header.
//!
//! What always holds: base offset, last offset, leader epoch, producer and sequence stay, so that offsets never move and a
//! producer's next batch still follows; records that stay keep their offsets, timestamps and bytes.

use std::borrow::Cow;

use bytes::Bytes;

use super::compression::{CompressionError, INFLATED_BYTES_MAX, deflate, inflate};
use super::error::BatchError;
use super::header::{BatchHeader, CRC_FROM, Compression, HEADER_LEN, PREFIX_LEN, TimestampType};
use super::record::{RecordView, RecordsIter};
use super::varint;
use super::view::{BatchView, crc32c};
use crate::types::{Offset, ProducerEpoch, ProducerId};

/// Why a batch's records could not be seen or written again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    /// The records are not compressed as the header says, or would be too many bytes.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// The records are not what they should be.
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// A batch's records, inflated where they were compressed.
#[derive(Clone, Debug)]
pub struct Inflated<'a> {
    header: BatchHeader,
    records: Cow<'a, [u8]>,
}

impl Inflated<'_> {
    /// The records in their order.
    pub fn iter(&self) -> Result<RecordsIter<'_>, BatchError> {
        RecordsIter::over(&self.header, &self.records, 0)
    }

    /// How many bytes they take uncompressed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The same records in a batch of another codec. Timestamps and offsets stay.
    pub fn recompress(
        &self,
        codec: Compression,
        level: Option<i32>,
    ) -> Result<Bytes, RewriteError> {
        let mut header = self.header;
        header.attributes = header.attributes.with_compression(codec);
        Ok(seal(header, &deflate(codec, level, &self.records)?)?)
    }
}

impl<'a> BatchView<'a> {
    /// The records, inflated within [`INFLATED_BYTES_MAX`] when they are compressed.
    pub fn inflated(&self) -> Result<Inflated<'a>, CompressionError> {
        let header = *self.header();
        let records = &self.bytes()[HEADER_LEN..];
        let records = match header.attributes.compression() {
            Compression::None => Cow::Borrowed(records),
            codec => Cow::Owned(inflate(codec, records, INFLATED_BYTES_MAX)?),
        };
        Ok(Inflated { header, records })
    }
}

/// Gathers those of a batch's records that stay.
#[derive(Debug)]
pub struct Rewrite {
    header: BatchHeader,
    /// What timestamps are told from.
    base_timestamp_ms: i64,
    records: Vec<u8>,
    record_count: i32,
    max_timestamp_ms: Option<i64>,
}

impl Rewrite {
    /// Of this batch. With a `delete_horizon_ms`, tombstones and markers in it are kept until then (KIP-534), and the header
    /// says so.
    #[must_use]
    pub fn of(header: &BatchHeader, delete_horizon_ms: Option<i64>) -> Self {
        let mut header = *header;
        if let Some(horizon) = delete_horizon_ms {
            header.attributes = header.attributes.with_delete_horizon(true);
            header.base_timestamp_ms = horizon;
        }
        Self {
            base_timestamp_ms: header.base_timestamp_ms,
            header,
            records: Vec::new(),
            record_count: 0,
            max_timestamp_ms: None,
        }
    }

    /// Keeps a record of that batch; in their order.
    pub fn keep(&mut self, record: &RecordView<'_>) {
        let timestamp_delta = record.timestamp_ms.wrapping_sub(self.base_timestamp_ms);
        let offset_delta = record.offset.0 - self.header.base_offset.0;
        let headers = record.headers.encoded();
        let length = 1
            + varint::len(timestamp_delta)
            + varint::len(offset_delta)
            + varint::nullable_len(record.key)
            + varint::nullable_len(record.value)
            + varint::len(record.headers.len() as i64)
            + headers.len();
        let out = &mut self.records;
        varint::put(out, length as i64);
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, offset_delta);
        varint::put_nullable(out, record.key);
        varint::put_nullable(out, record.value);
        varint::put(out, record.headers.len() as i64);
        out.extend_from_slice(headers);
        self.record_count += 1;
        let max = self.max_timestamp_ms.unwrap_or(i64::MIN);
        self.max_timestamp_ms = Some(max.max(record.timestamp_ms));
    }

    /// How many records stay.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.record_count
    }

    /// The batch, compressed as the one it was made from. One in which no record stayed is a header that says whose it was.
    pub fn build(self) -> Result<Bytes, RewriteError> {
        let mut header = self.header;
        header.record_count = self.record_count;
        if header.attributes.timestamp_type() == TimestampType::CreateTime
            && let Some(max) = self.max_timestamp_ms
        {
            header.max_timestamp_ms = max;
        }
        if self.record_count == 0 {
            header.attributes = header.attributes.with_compression(Compression::None);
        }
        let codec = header.attributes.compression();
        Ok(seal(header, &deflate(codec, None, &self.records)?)?)
    }
}

/// A batch without records that takes the place of others, so that offsets go on without a hole where they were. It is of no
/// producer and of no time.
#[must_use]
pub fn filler(first: &BatchHeader, last: Offset) -> Bytes {
    let mut header = *first;
    header.attributes = super::Attributes::default();
    header.last_offset_delta = i32::try_from(last.0 - first.base_offset.0).unwrap_or(i32::MAX);
    header.base_timestamp_ms = -1;
    header.max_timestamp_ms = -1;
    header.producer_id = ProducerId::NONE;
    header.producer_epoch = ProducerEpoch::NONE;
    header.base_sequence = -1;
    header.record_count = 0;
    // A header alone is never too large.
    seal(header, &[]).unwrap_or_default()
}

/// Header and records with length and checksum made right.
fn seal(mut header: BatchHeader, records: &[u8]) -> Result<Bytes, BatchError> {
    let total = HEADER_LEN + records.len();
    header.length = i32::try_from(total - PREFIX_LEN).map_err(|_| BatchError::TooLarge {
        what: "rewritten batch",
    })?;
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&header.to_bytes());
    bytes.extend_from_slice(records);
    header.crc = crc32c(&bytes[CRC_FROM..]);
    bytes[..HEADER_LEN].copy_from_slice(&header.to_bytes());
    Ok(Bytes::from(bytes))
}
