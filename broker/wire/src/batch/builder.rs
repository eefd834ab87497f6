//! Builds uncompressed batches: for the broker's own topics, transaction markers and tests.

use bytes::Bytes;

use super::error::BatchError;
use super::header::{Attributes, BatchHeader, CRC_FROM, HEADER_LEN, PREFIX_LEN};
use super::record::ControlRecord;
use super::varint::{self, nullable_len, put_nullable};
use super::view::crc32c;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// A record to be put into a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since 1970.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Headers in their order.
    pub headers: &'a [NewHeader<'a>],
}

/// A header of a record to be put into a batch.
#[derive(Clone, Copy, Debug)]
pub struct NewHeader<'a> {
    /// The name.
    pub key: &'a str,
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// Gathers records and closes them into one batch with a right checksum.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    /// Room for the header, then the records so far.
    bytes: Vec<u8>,
    header: BatchHeader,
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl BatchBuilder {
    /// An empty batch at offset 0, of no producer.
    #[must_use]
    pub fn new() -> Self {
        Self {
            bytes: vec![0; HEADER_LEN],
            header: BatchHeader {
                base_offset: Offset::ZERO,
                length: 0,
                leader_epoch: LeaderEpoch::NONE,
                crc: 0,
                attributes: Attributes::default(),
                last_offset_delta: -1,
                base_timestamp_ms: -1,
                max_timestamp_ms: -1,
                producer_id: ProducerId::NONE,
                producer_epoch: ProducerEpoch::NONE,
                base_sequence: -1,
                record_count: 0,
            },
        }
    }

    /// At this offset and leader epoch, for tests that need no leader to assign them.
    #[must_use]
    pub const fn at(mut self, base_offset: Offset, leader_epoch: LeaderEpoch) -> Self {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = leader_epoch;
        self
    }

    /// Of an idempotent producer.
    #[must_use]
    pub const fn producer(
        mut self,
        id: ProducerId,
        epoch: ProducerEpoch,
        base_sequence: i32,
    ) -> Self {
        self.header.producer_id = id;
        self.header.producer_epoch = epoch;
        self.header.base_sequence = base_sequence;
        self
    }

    /// With attributes other than none. The codec must be none: records are put as they are.
    #[must_use]
    pub const fn attributes(mut self, attributes: Attributes) -> Self {
        self.header.attributes = attributes;
        self
    }

    /// Appends a record: it gets the next offset.
    pub fn push(&mut self, record: &NewRecord<'_>) -> Result<(), BatchError> {
        let header = &mut self.header;
        let delta = header
            .last_offset_delta
            .checked_add(1)
            .ok_or(BatchError::TooLarge {
                what: "record count",
            })?;
        let first = if header.record_count == 0 {
            record.timestamp_ms
        } else {
            header.base_timestamp_ms
        };
        let timestamp_delta =
            record
                .timestamp_ms
                .checked_sub(first)
                .ok_or(BatchError::TooLarge {
                    what: "range of timestamps",
                })?;
        let length = 1
            + varint::len(timestamp_delta)
            + varint::len(delta.into())
            + nullable_len(record.key)
            + nullable_len(record.value)
            + varint::len(record.headers.len() as i64)
            + record
                .headers
                .iter()
                .map(|h| nullable_len(Some(h.key.as_bytes())) + nullable_len(h.value))
                .sum::<usize>();
        let total = self.bytes.len() + varint::len(length as i64) + length;
        if i32::try_from(total - PREFIX_LEN).is_err() {
            return Err(BatchError::TooLarge { what: "record" });
        }
        if header.record_count == 0 {
            header.base_timestamp_ms = record.timestamp_ms;
            header.max_timestamp_ms = record.timestamp_ms;
        }
        header.last_offset_delta = delta;
        header.record_count = delta + 1;
        header.max_timestamp_ms = header.max_timestamp_ms.max(record.timestamp_ms);
        let out = &mut self.bytes;
        varint::put(out, length as i64);
        out.push(0);
        varint::put(out, timestamp_delta);
        varint::put(out, delta.into());
        put_nullable(out, record.key);
        put_nullable(out, record.value);
        varint::put(out, record.headers.len() as i64);
        for header in record.headers {
            put_nullable(out, Some(header.key.as_bytes()));
            put_nullable(out, header.value);
        }
        Ok(())
    }

    /// How many records there are so far.
    #[must_use]
    pub const fn record_count(&self) -> i32 {
        self.header.record_count
    }

    /// Length of the batch so far, in bytes, the header counted.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there is no record yet.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.header.record_count == 0
    }

    /// Closes the batch. One without records is what compaction leaves, not what a producer may send.
    #[must_use]
    pub fn build(mut self) -> Bytes {
        // Never above `i32::MAX`: `push` saw to it.
        self.header.length = (self.bytes.len() - PREFIX_LEN) as i32;
        self.bytes[..HEADER_LEN].copy_from_slice(&self.header.to_bytes());
        self.header.crc = crc32c(&self.bytes[CRC_FROM..]);
        self.bytes[..HEADER_LEN].copy_from_slice(&self.header.to_bytes());
        Bytes::from(self.bytes)
    }
}

/// The marker that ends a producer's transaction (KIP-98): version 0 of key and value.
pub fn control_batch(
    kind: ControlRecord,
    coordinator_epoch: i32,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    timestamp_ms: i64,
) -> Result<Bytes, BatchError> {
    let mut key = [0; 4];
    key[2..].copy_from_slice(&kind.kind().to_be_bytes());
    let mut value = [0; 6];
    value[2..].copy_from_slice(&coordinator_epoch.to_be_bytes());
    let attributes = Attributes::default()
        .with_transactional(true)
        .with_control(true);
    let mut builder = BatchBuilder::new()
        .producer(producer_id, producer_epoch, -1)
        .attributes(attributes);
    builder.push(&NewRecord {
        timestamp_ms,
        key: Some(&key),
        value: Some(&value),
        headers: &[],
    })?;
    Ok(builder.build())
}
