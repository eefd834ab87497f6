//! What can be wrong with a record batch.

use super::header::Compression;

/// Why bytes are not the record batch they should be. Positions are in bytes from the start of the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    /// The bytes end before the batch does: a torn tail of a log, or the cut end of a fetch response.
    #[error("a record batch of {wanted} bytes wanted, {left} bytes left")]
    Truncated {
        /// How many bytes the batch (or its header) takes.
        wanted: usize,
        /// How many there are.
        left: usize,
    },
    /// The length field says less than a header, or is negative.
    #[error("batch length {found} is less than a batch header takes")]
    Length {
        /// The length field.
        found: i32,
    },
    /// Not version 2 of the format.
    #[error("record batch of magic 2 wanted, magic {found} found")]
    Magic {
        /// The magic byte.
        found: i8,
    },
    /// The checksum does not fit the bytes.
    #[error("CRC32C of the batch is {computed:#010x}, its header says {stored:#010x}")]
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// Bits that have no meaning are set, or a compression codec that does not exist.
    #[error("attributes {found:#06x} have bits or a codec without a meaning")]
    Attributes {
        /// The attributes field.
        found: i16,
    },
    /// The record count must be the last offset delta plus one, and at least one.
    #[error("{records} records wanted by the count, last offset delta {last_offset_delta}")]
    Count {
        /// The record count field.
        records: i32,
        /// The last offset delta field.
        last_offset_delta: i32,
    },
    /// More records, or headers of a record, than the bytes left could hold.
    #[error("{count} records or headers do not fit the {left} bytes left at byte {position}")]
    TooMany {
        /// The count that was read.
        count: i64,
        /// How many bytes were left.
        left: usize,
        /// Where the count ended.
        position: usize,
    },
    /// A record's own fields do not add up.
    #[error("record field {field} at byte {position} is not valid")]
    Record {
        /// Which field.
        field: &'static str,
        /// Where it is.
        position: usize,
    },
    /// Bytes follow the last record.
    #[error("{left} bytes after the last record, at byte {position}")]
    Trailing {
        /// Where they start.
        position: usize,
        /// How many.
        left: usize,
    },
    /// A partition's part of a Produce request must be exactly one batch.
    #[error("exactly one record batch wanted, found {found}")]
    NotOneBatch {
        /// "none" or "more".
        found: &'static str,
    },
    /// Records cannot be read without inflating them.
    #[error("records are compressed with {0:?}")]
    Compressed(Compression),
    /// A batch to be built would be larger than its fields can say.
    #[error("{what} does not fit a record batch")]
    TooLarge {
        /// What is too large.
        what: &'static str,
    },
}
