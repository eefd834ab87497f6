//! Bounded reading: every length and count is checked against the bytes that are left before anything is done with it.
//!
//! A [`Reader`] walks one frame. It never allocates, never goes back, never reads past the end; a message's depth is its
//! schema's, which has no cycles, so recursion is bounded by construction.

mod error;

use uuid::Uuid;

use crate::array::{Array, Element};
use crate::message::Version;

pub use error::DecodeError;

/// Strings are at most this long, in either encoding: Kafka's own limit.
const STRING_LEN_MAX: usize = i16::MAX as usize;

/// Reads forward through a frame.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    /// Everything up to where this reader may go.
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Reader<'a> {
    /// A reader at the start of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0 }
    }

    /// How many bytes are left.
    #[must_use]
    pub const fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// How many bytes were read.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }

    /// What was not read.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.position..]
    }

    /// The next `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let Some(bytes) = self.rest().get(..length) else {
            return Err(self.truncated(length, field));
        };
        self.position += length;
        Ok(bytes)
    }

    #[inline]
    fn fixed<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.rest().first_chunk::<N>() else {
            return Err(self.truncated(N, field));
        };
        self.position += N;
        Ok(*bytes)
    }

    #[cold]
    const fn truncated(&self, wanted: usize, field: &'static str) -> DecodeError {
        DecodeError::Truncated {
            field,
            position: self.position,
            wanted,
            left: self.left(),
        }
    }

    /// One byte: anything but 0 is true, as in Kafka.
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.i8(field)? != 0)
    }

    /// One byte, signed.
    pub fn i8(&mut self, field: &'static str) -> Result<i8, DecodeError> {
        self.fixed(field).map(i8::from_be_bytes)
    }

    /// Two bytes, signed.
    pub fn i16(&mut self, field: &'static str) -> Result<i16, DecodeError> {
        self.fixed(field).map(i16::from_be_bytes)
    }

    /// Two bytes, unsigned.
    pub fn u16(&mut self, field: &'static str) -> Result<u16, DecodeError> {
        self.fixed(field).map(u16::from_be_bytes)
    }

    /// Four bytes, signed.
    pub fn i32(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        self.fixed(field).map(i32::from_be_bytes)
    }

    /// Eight bytes, signed.
    pub fn i64(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.fixed(field).map(i64::from_be_bytes)
    }

    /// Eight bytes, IEEE 754.
    pub fn f64(&mut self, field: &'static str) -> Result<f64, DecodeError> {
        self.fixed(field).map(f64::from_be_bytes)
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        self.fixed(field).map(Uuid::from_bytes)
    }

    /// Up to five bytes, seven bits each, least significant first.
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let position = self.position;
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed(field)?;
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= u32::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Varint { field, position })
    }

    /// Whether a struct that may be null is there.
    pub fn is_present(&mut self, nullable: bool, field: &'static str) -> Result<bool, DecodeError> {
        // The marker exists only where the version allows null.
        Ok(!nullable || self.i8(field)? >= 0)
    }

    /// A string that cannot be null.
    pub fn string(&mut self, flexible: bool, field: &'static str) -> Result<&'a str, DecodeError> {
        self.nullable_string(flexible, false, field)
            .map(Option::unwrap_or_default)
    }

    /// A string, null where `nullable` says that this version has it.
    pub fn nullable_string(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<&'a str>, DecodeError> {
        let length = if flexible {
            self.compact_length(nullable, field)?
        } else {
            let found = self.i16(field)?;
            self.length(found.into(), nullable, field)?
        };
        let Some(length) = length else {
            return Ok(None);
        };
        let position = self.position;
        if length > STRING_LEN_MAX {
            return Err(DecodeError::Length {
                field,
                position,
                found: length as i64,
            });
        }
        match std::str::from_utf8(self.take(length, field)?) {
            Ok(string) => Ok(Some(string)),
            Err(error) => Err(DecodeError::Utf8 {
                field,
                position,
                offset: error.valid_up_to(),
            }),
        }
    }

    /// Bytes or records that cannot be null.
    pub fn bytes(&mut self, flexible: bool, field: &'static str) -> Result<&'a [u8], DecodeError> {
        self.nullable_bytes(flexible, false, field)
            .map(Option::unwrap_or_default)
    }

    /// Bytes or records, null where `nullable` says that this version has it.
    pub fn nullable_bytes(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<&'a [u8]>, DecodeError> {
        self.long_length(flexible, nullable, field)?
            .map(|length| self.take(length, field))
            .transpose()
    }

    /// An array that cannot be null: its elements are walked now, and decoded when it is iterated.
    pub fn array<T: Element<'a>>(
        &mut self,
        version: Version,
        field: &'static str,
    ) -> Result<Array<'a, T>, DecodeError> {
        self.nullable_array(version, false, field)
            .map(Option::unwrap_or_default)
    }

    /// An array, null where `nullable` says that this version has it.
    pub fn nullable_array<T: Element<'a>>(
        &mut self,
        version: Version,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<Array<'a, T>>, DecodeError> {
        let Some(count) = self.long_length(version.flexible, nullable, field)? else {
            return Ok(None);
        };
        // An element that takes no bytes still counts as one, so that no count asks for work that was not paid in bytes.
        let min_size = T::min_size(version).max(1);
        if count > self.left() / min_size {
            let (position, left) = (self.position, self.left());
            return Err(DecodeError::Count {
                field,
                position,
                count,
                min_size,
                left,
            });
        }
        let start = self.position;
        if T::FIXED_SIZE {
            self.position += count * min_size;
        } else {
            for _ in 0..count {
                T::read(self, version, field)?;
            }
        }
        Ok(Some(Array::walked(
            &self.bytes[start..self.position],
            count,
            version,
        )))
    }

    /// The tagged fields at the end of a flexible struct. `known` reads those it knows and says so; others are skipped.
    pub fn tagged_fields(
        &mut self,
        field: &'static str,
        mut known: impl FnMut(u32, &mut Self) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let count = self.unsigned_varint(field)?;
        for _ in 0..count {
            let tag = self.unsigned_varint(field)?;
            let size = self.unsigned_varint(field)? as usize;
            if size > self.left() {
                return Err(self.truncated(size, field));
            }
            let end = self.position + size;
            let mut content = Self {
                bytes: &self.bytes[..end],
                position: self.position,
            };
            if known(tag, &mut content)? && content.left() > 0 {
                let (position, left) = (content.position, content.left());
                return Err(DecodeError::Tag {
                    field,
                    position,
                    left,
                });
            }
            self.position = end;
        }
        Ok(())
    }

    /// Length of bytes, records or an array.
    fn long_length(
        &mut self,
        flexible: bool,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length(nullable, field)
        } else {
            let found = self.i32(field)?;
            self.length(found.into(), nullable, field)
        }
    }

    /// Compact lengths are one more than what they say; 0 is null (KIP-482).
    fn compact_length(
        &mut self,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        let found = self.unsigned_varint(field)?;
        self.length(i64::from(found) - 1, nullable, field)
    }

    fn length(
        &self,
        found: i64,
        nullable: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        let position = self.position;
        match usize::try_from(found) {
            Ok(length) => Ok(Some(length)),
            Err(_) if found != -1 => Err(DecodeError::Length {
                field,
                position,
                found,
            }),
            Err(_) if nullable => Ok(None),
            Err(_) => Err(DecodeError::Null { field, position }),
        }
    }
}
