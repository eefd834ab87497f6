//! Writing owned messages, and what a version cannot say.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::message::Version;
use crate::sink::{Records, Sink};

/// Why a message cannot be written in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// The message has no such version.
    #[error("{message} of versions {min} to {max} wanted, version {found} asked for")]
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
    /// The field says something, this version has no place for it, and leaving it out would change the meaning.
    #[error("{field} is set, version {version} has no such field")]
    NotInVersion {
        /// Which field.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// The field is null, which this version cannot say.
    #[error("{field} is null, which this version cannot say")]
    Null {
        /// Which field.
        field: &'static str,
    },
    /// Longer than the length field can say.
    #[error("{field} has length {len}, at most {max} can be said")]
    TooLong {
        /// Which field.
        field: &'static str,
        /// Its length.
        len: usize,
        /// The greatest that fits.
        max: usize,
    },
    /// Bytes wanted, and the message refers to a file.
    #[error("{message} refers to a file: it can be sent, not held")]
    File {
        /// Which message.
        message: &'static str,
    },
}

/// What can be written as a part of a message.
pub trait Encode {
    /// Writes it. `field` is named in errors.
    fn write<S: Sink>(
        &self,
        sink: &mut S,
        version: Version,
        field: &'static str,
    ) -> Result<(), EncodeError>;
}

/// Writes a length before what it is the length of; null where `len` is none.
fn put_length<S: Sink>(
    sink: &mut S,
    flexible: bool,
    nullable: bool,
    len: Option<usize>,
    field: &'static str,
) -> Result<(), EncodeError> {
    let Some(len) = len else {
        return match (nullable, flexible) {
            (false, _) => Err(EncodeError::Null { field }),
            (true, true) => {
                sink.put_u8(0);
                Ok(())
            }
            (true, false) => {
                sink.put_i32(-1);
                Ok(())
            }
        };
    };
    let Ok(short) = i32::try_from(len) else {
        return Err(EncodeError::TooLong {
            field,
            len,
            max: i32::MAX as usize,
        });
    };
    if flexible {
        sink.put_unsigned_varint(short as u32 + 1);
    } else {
        sink.put_i32(short);
    }
    Ok(())
}

/// Writes a string, null where `nullable` says that this version has it.
pub fn put_string<S: Sink>(
    sink: &mut S,
    flexible: bool,
    nullable: bool,
    string: Option<&str>,
    field: &'static str,
) -> Result<(), EncodeError> {
    let len = string.map(str::len);
    match len.map(i16::try_from) {
        Some(Err(_)) => {
            let len = len.unwrap_or_default();
            return Err(EncodeError::TooLong {
                field,
                len,
                max: i16::MAX as usize,
            });
        }
        Some(Ok(short)) if !flexible => sink.put_i16(short),
        None if nullable && !flexible => sink.put_i16(-1),
        _ => put_length(sink, flexible, nullable, len, field)?,
    }
    sink.put_slice(string.unwrap_or_default().as_bytes());
    Ok(())
}

/// Writes bytes, null where `nullable` says that this version has it.
pub fn put_bytes<S: Sink>(
    sink: &mut S,
    flexible: bool,
    nullable: bool,
    bytes: Option<&Bytes>,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(sink, flexible, nullable, bytes.map(Bytes::len), field)?;
    if let Some(bytes) = bytes {
        sink.put_bytes(bytes);
    }
    Ok(())
}

/// Writes records, null where `nullable` says that this version has it.
pub fn put_records<S: Sink>(
    sink: &mut S,
    flexible: bool,
    nullable: bool,
    records: Option<&Records>,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(sink, flexible, nullable, records.map(Records::len), field)?;
    if let Some(records) = records {
        sink.put_records(records);
    }
    Ok(())
}

/// Writes an array, null where `nullable` says that this version has it.
pub fn put_array<S: Sink, T: Encode>(
    sink: &mut S,
    version: Version,
    nullable: bool,
    elements: Option<&[T]>,
    field: &'static str,
) -> Result<(), EncodeError> {
    put_length(
        sink,
        version.flexible,
        nullable,
        elements.map(<[T]>::len),
        field,
    )?;
    for element in elements.unwrap_or_default() {
        element.write(sink, version, field)?;
    }
    Ok(())
}

/// Writes a struct that may be null: a marker where `nullable` says that this version has null, then the struct.
pub fn put_nullable_struct<S: Sink, T: Encode>(
    sink: &mut S,
    version: Version,
    nullable: bool,
    value: Option<&T>,
    field: &'static str,
) -> Result<(), EncodeError> {
    match value {
        None if nullable => {
            sink.put_i8(-1);
            Ok(())
        }
        None => Err(EncodeError::Null { field }),
        Some(value) => {
            if nullable {
                sink.put_i8(1);
            }
            value.write(sink, version, field)
        }
    }
}

/// Writes the content of a tagged field that is a struct or null.
pub fn put_tagged_struct<S: Sink, T: Encode>(
    sink: &mut S,
    version: Version,
    value: Option<&T>,
    field: &'static str,
) -> Result<(), EncodeError> {
    sink.put_unsigned_varint(u32::from(value.is_some()));
    value.map_or(Ok(()), |value| value.write(sink, version, field))
}

/// A tagged field's content, gathered because its length goes before it. Tagged fields are few and small.
#[derive(Debug, Default)]
pub struct TagContent(BytesMut);

impl TagContent {
    /// Writes tag, length and content.
    pub fn put<S: Sink>(
        self,
        sink: &mut S,
        tag: u32,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let len = self.0.len();
        let Ok(short) = i32::try_from(len) else {
            return Err(EncodeError::TooLong {
                field,
                len,
                max: i32::MAX as usize,
            });
        };
        sink.put_unsigned_varint(tag);
        sink.put_unsigned_varint(short as u32);
        sink.put_slice(&self.0);
        Ok(())
    }
}

impl Sink for TagContent {
    fn put_slice(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    fn put_records(&mut self, _: &Records) {
        debug_assert!(false, "the generator refuses records in tagged fields");
    }
}

impl Encode for String {
    fn write<S: Sink>(
        &self,
        sink: &mut S,
        version: Version,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        put_string(sink, version.flexible, false, Some(self), field)
    }
}

impl Encode for Bytes {
    fn write<S: Sink>(
        &self,
        sink: &mut S,
        version: Version,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        put_bytes(sink, version.flexible, false, Some(self), field)
    }
}

/// A number is written as it is.
macro_rules! number_encode {
    ($($number:ty, $put:ident;)*) => {$(
        impl Encode for $number {
            fn write<S: Sink>(&self, sink: &mut S, _: Version, _: &'static str) -> Result<(), EncodeError> {
                sink.$put(*self);
                Ok(())
            }
        }
    )*};
}

number_encode! {
    i8, put_i8;
    i16, put_i16;
    i32, put_i32;
    i64, put_i64;
    Uuid, put_uuid;
}
