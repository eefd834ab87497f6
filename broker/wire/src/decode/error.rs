//! What can be wrong with the bytes of a message: which field, where, what was wanted and what was there.

/// Why bytes are not the message they should be. `field` names message, struct and field; `position` counts bytes from the
/// start of what was decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The message has no such version.
    #[error("{message} of versions {min} to {max} wanted, version {found} found")]
    Version {
        /// Which message.
        message: &'static str,
        /// Its least version.
        min: i16,
        /// Its greatest version.
        max: i16,
        /// The version asked for.
        found: i16,
    },
    /// The bytes end within the field.
    #[error("{field} at byte {position}: {wanted} bytes wanted, {left} left")]
    Truncated {
        /// What was read.
        field: &'static str,
        /// Where it starts.
        position: usize,
        /// How many bytes it takes.
        wanted: usize,
        /// How many there are.
        left: usize,
    },
    /// A length below zero that is not null's, or a string longer than 32767 bytes.
    #[error("{field} at byte {position}: length {found} is not possible")]
    Length {
        /// What was read.
        field: &'static str,
        /// Where its length ends.
        position: usize,
        /// The length.
        found: i64,
    },
    /// Null where this version has none.
    #[error("{field} at byte {position}: a value wanted, null found")]
    Null {
        /// What was read.
        field: &'static str,
        /// Where its length ends.
        position: usize,
    },
    /// More elements than the bytes left could hold.
    #[error(
        "{field} at byte {position}: {count} elements of at least {min_size} bytes do not fit {left} bytes"
    )]
    Count {
        /// What was read.
        field: &'static str,
        /// Where the count ends.
        position: usize,
        /// The count.
        count: usize,
        /// The least bytes that one element takes.
        min_size: usize,
        /// How many bytes are left.
        left: usize,
    },
    /// A string that is not UTF-8.
    #[error("{field} at byte {position}: UTF-8 wanted, byte {offset} of the string is not")]
    Utf8 {
        /// What was read.
        field: &'static str,
        /// Where the string starts.
        position: usize,
        /// Where within the string it stops being UTF-8.
        offset: usize,
    },
    /// A varint of more than five bytes, or of more than 32 bits.
    #[error("{field} at byte {position}: varint of at most 32 bits wanted")]
    Varint {
        /// What was read.
        field: &'static str,
        /// Where it starts.
        position: usize,
    },
    /// A tagged field's content does not end where its size says.
    #[error("{field} at byte {position}: tagged field leaves {left} of its bytes unread")]
    Tag {
        /// What was read.
        field: &'static str,
        /// Where its content ended.
        position: usize,
        /// How many bytes its size counts beyond that.
        left: usize,
    },
    /// Bytes follow the message.
    #[error("{message} ends at byte {position}, {left} more bytes follow")]
    Trailing {
        /// Which message.
        message: &'static str,
        /// Where it ends.
        position: usize,
        /// How many bytes follow.
        left: usize,
    },
}
