//! The 61 bytes in front of a batch's records.
//!
//! | byte | field                | |
//! |-----:|----------------------|-|
//! |    0 | base offset          | assigned by the leader |
//! |    8 | length of what follows | never changed |
//! |   12 | partition leader epoch | assigned by the leader |
//! |   16 | magic                | 2 |
//! |   17 | CRC32C               | of everything from byte 21 |
//! |   21 | attributes           | |
//! |   23 | last offset delta    | |
//! |   27 | base timestamp       | ms since 1970 |
//! |   35 | max timestamp        | ms since 1970 |
//! |   43 | producer id          | |
//! |   51 | producer epoch       | |
//! |   53 | base sequence        | |
//! |   57 | record count         | |

use super::error::BatchError;
use crate::types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};

/// Length of a batch's header.
pub const HEADER_LEN: usize = 61;
/// Length of the part of the header that a leader may change: base offset, length, leader epoch.
pub const PATCHED_LEN: usize = 16;
/// Length of base offset and length, which the length field does not count.
pub const PREFIX_LEN: usize = 12;

const MAGIC_AT: usize = 16;
const CRC_AT: usize = 17;
/// Where what the checksum covers starts.
pub(super) const CRC_FROM: usize = 21;

/// How a batch's records are compressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// Deflate.
    Gzip,
    /// Snappy, in Java's framing.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard: since Produce 7 (KIP-110).
    Zstd,
}

impl Compression {
    /// The codec's number in the attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The codec of a number, if there is one.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }
}

/// What a batch's timestamps say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// When the producer made the record.
    #[default]
    CreateTime,
    /// When the leader appended the batch: its max timestamp holds for every record.
    LogAppendTime,
}

/// The attributes field: codec, timestamp type, and what kind of batch it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(i16);

impl Attributes {
    const CODEC: i16 = 0b111;
    const LOG_APPEND_TIME: i16 = 1 << 3;
    const TRANSACTIONAL: i16 = 1 << 4;
    const CONTROL: i16 = 1 << 5;
    const DELETE_HORIZON: i16 = 1 << 6;
    const KNOWN: i16 = 0b111_1111;

    /// The field as it is on the wire, checked: bits without a meaning and unknown codecs are refused.
    pub const fn from_bits(bits: i16) -> Result<Self, BatchError> {
        if bits & !Self::KNOWN != 0 || Compression::from_id((bits & Self::CODEC) as u8).is_none() {
            return Err(BatchError::Attributes { found: bits });
        }
        Ok(Self(bits))
    }

    /// The field as it is on the wire.
    #[must_use]
    pub const fn bits(self) -> i16 {
        self.0
    }

    /// How the records are compressed.
    #[must_use]
    pub const fn compression(self) -> Compression {
        match Compression::from_id((self.0 & Self::CODEC) as u8) {
            Some(codec) => codec,
            None => Compression::None,
        }
    }

    /// What the timestamps say.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// Whether the batch is a marker, which no consumer sees.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// Whether the base timestamp is the time until which tombstones are kept (KIP-534).
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & Self::DELETE_HORIZON != 0
    }

    /// The same, as part of a transaction or not.
    #[must_use]
    pub const fn with_transactional(self, transactional: bool) -> Self {
        self.with(Self::TRANSACTIONAL, transactional)
    }

    /// The same, as a marker or not.
    #[must_use]
    pub const fn with_control(self, control: bool) -> Self {
        self.with(Self::CONTROL, control)
    }

    /// The same, with timestamps of that type.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(
            Self::LOG_APPEND_TIME,
            matches!(kind, TimestampType::LogAppendTime),
        )
    }

    /// The same, with the base timestamp being a delete horizon or not.
    #[must_use]
    pub const fn with_delete_horizon(self, horizon: bool) -> Self {
        self.with(Self::DELETE_HORIZON, horizon)
    }

    /// The same, with records compressed in that way.
    #[must_use]
    pub const fn with_compression(self, codec: Compression) -> Self {
        Self((self.0 & !Self::CODEC) | codec.id() as i16)
    }

    const fn with(self, bit: i16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

/// A batch's header, decoded. That it fits the records behind it is [`BatchView::check`](super::BatchView::check)'s word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: Offset,
    /// Length of what follows the length field, in bytes; at least 49.
    pub length: i32,
    /// Epoch of the leader that appended the batch.
    pub leader_epoch: LeaderEpoch,
    /// CRC32C of everything from the attributes on.
    pub crc: u32,
    /// Codec, timestamp type, kind.
    pub attributes: Attributes,
    /// Offset of the last record, from the base offset. Compaction keeps it when it takes records out.
    pub last_offset_delta: i32,
    /// Timestamp of the first record, in milliseconds since 1970.
    pub base_timestamp_ms: i64,
    /// Greatest timestamp of all records, in milliseconds since 1970.
    pub max_timestamp_ms: i64,
    /// Who wrote it, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Which incarnation of the producer.
    pub producer_epoch: ProducerEpoch,
    /// Sequence number of the first record, or -1.
    pub base_sequence: i32,
    /// How many records there are.
    pub record_count: i32,
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`: magic, length and attributes are valid afterwards.
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        // Magic comes before lengths: older formats are shorter, and should be told what they are.
        if let Some(&magic) = bytes.get(MAGIC_AT)
            && magic != 2
        {
            return Err(BatchError::Magic { found: magic as i8 });
        }
        let Some(header) = bytes.first_chunk::<HEADER_LEN>() else {
            return Err(BatchError::Truncated {
                wanted: HEADER_LEN,
                left: bytes.len(),
            });
        };
        let length = i32::from_be_bytes(take(header, 8));
        if length < (HEADER_LEN - PREFIX_LEN) as i32 {
            return Err(BatchError::Length { found: length });
        }
        Ok(Self {
            base_offset: Offset(i64::from_be_bytes(take(header, 0))),
            length,
            leader_epoch: LeaderEpoch(i32::from_be_bytes(take(header, 12))),
            crc: u32::from_be_bytes(take(header, CRC_AT)),
            attributes: Attributes::from_bits(i16::from_be_bytes(take(header, CRC_FROM)))?,
            last_offset_delta: i32::from_be_bytes(take(header, 23)),
            base_timestamp_ms: i64::from_be_bytes(take(header, 27)),
            max_timestamp_ms: i64::from_be_bytes(take(header, 35)),
            producer_id: ProducerId(i64::from_be_bytes(take(header, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(take(header, 51))),
            base_sequence: i32::from_be_bytes(take(header, 53)),
            record_count: i32::from_be_bytes(take(header, 57)),
        })
    }

    /// The header as it is on the wire.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut bytes = [0; HEADER_LEN];
        bytes[..PATCHED_LEN].copy_from_slice(
            &PatchedHeader::assign(self, self.base_offset, self.leader_epoch).to_bytes(),
        );
        bytes[MAGIC_AT] = 2;
        bytes[CRC_AT..CRC_FROM].copy_from_slice(&self.crc.to_be_bytes());
        bytes[CRC_FROM..23].copy_from_slice(&self.attributes.bits().to_be_bytes());
        bytes[23..27].copy_from_slice(&self.last_offset_delta.to_be_bytes());
        bytes[27..35].copy_from_slice(&self.base_timestamp_ms.to_be_bytes());
        bytes[35..43].copy_from_slice(&self.max_timestamp_ms.to_be_bytes());
        bytes[43..51].copy_from_slice(&self.producer_id.0.to_be_bytes());
        bytes[51..53].copy_from_slice(&self.producer_epoch.0.to_be_bytes());
        bytes[53..57].copy_from_slice(&self.base_sequence.to_be_bytes());
        bytes[57..].copy_from_slice(&self.record_count.to_be_bytes());
        bytes
    }

    /// Length of the whole batch in bytes, the header counted.
    #[must_use]
    pub const fn total_len(&self) -> usize {
        // `length` is at least 49: `parse` and the builder saw to it.
        PREFIX_LEN + self.length as usize
    }

    /// Offset of the last record.
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset
            .saturating_add(self.last_offset_delta as i64)
    }

    /// The offset after the batch: where the next one goes.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.last_offset().next()
    }

    /// Sequence number of the last record; sequences wrap from the greatest `i32` to 0. -1 when there are none.
    #[must_use]
    pub const fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return self.base_sequence;
        }
        let last = self.base_sequence as i64 + self.last_offset_delta as i64;
        (last & i32::MAX as i64) as i32
    }
}

/// The first 16 bytes of a batch with what its leader assigned: write these, then the batch from byte 16 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchedHeader {
    base_offset: Offset,
    length: i32,
    leader_epoch: LeaderEpoch,
}

impl PatchedHeader {
    /// Assigns offset and leader epoch to the batch of this header. The checksum stays valid: it covers neither.
    #[must_use]
    pub const fn assign(
        header: &BatchHeader,
        base_offset: Offset,
        leader_epoch: LeaderEpoch,
    ) -> Self {
        Self {
            base_offset,
            length: header.length,
            leader_epoch,
        }
    }

    /// The bytes that replace the batch's first [`PATCHED_LEN`].
    #[must_use]
    pub fn to_bytes(self) -> [u8; PATCHED_LEN] {
        let mut bytes = [0; PATCHED_LEN];
        bytes[..8].copy_from_slice(&self.base_offset.0.to_be_bytes());
        bytes[8..PREFIX_LEN].copy_from_slice(&self.length.to_be_bytes());
        bytes[PREFIX_LEN..].copy_from_slice(&self.leader_epoch.0.to_be_bytes());
        bytes
    }
}

fn take<const N: usize>(header: &[u8; HEADER_LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&header[at..at + N]);
    bytes
}
