//! The header in front of every request.
//!
//! Key, version, correlation id and client id stand at the same place in all of its versions, which is why a request of an unknown
//! version can still be answered. The client id is not compact in version 2 either.

use std::ops::Range;

/// The header's fields, and where in the frame the client id lies and the message begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) key: i16,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    pub(crate) client_id: Range<usize>,
    pub(crate) body_start: usize,
}

/// What is wrong with a header.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("request header: {wanted} at byte {at}")]
pub(crate) struct HeaderError {
    at: usize,
    wanted: &'static str,
}

/// Where the header stops being the same for all versions, or the tagged fields begin.
const CLIENT_ID_AT: usize = 8;

impl Header {
    /// Reads the header; `is_flexible` tells whether this version of this API has tagged fields behind the client id.
    pub(crate) fn read(frame: &[u8], is_flexible: impl Fn(i16, i16) -> bool) -> Result<Self, HeaderError> {
        let key = i16::from_be_bytes(take(frame, 0)?);
        let version = i16::from_be_bytes(take(frame, 2)?);
        let correlation_id = i32::from_be_bytes(take(frame, 4)?);
        let length = i16::from_be_bytes(take(frame, CLIENT_ID_AT)?);
        let start = CLIENT_ID_AT + 2;
        let end = match usize::try_from(length) {
            Ok(length) => start + length,
            Err(_) if length == -1 => start,
            Err(_) => return Err(HeaderError { at: CLIENT_ID_AT, wanted: "a client id's length" }),
        };
        let wrong = HeaderError { at: start, wanted: "a client id in UTF-8" };
        if frame.get(start..end).is_none_or(|name| std::str::from_utf8(name).is_err()) {
            return Err(wrong);
        }
        let body_start = if is_flexible(key, version) { skip_tagged_fields(frame, end)? } else { end };
        Ok(Self { key, version, correlation_id, client_id: start..end, body_start })
    }
}

fn take<const N: usize>(frame: &[u8], at: usize) -> Result<[u8; N], HeaderError> {
    let bytes = frame.get(at..).and_then(|rest| rest.first_chunk::<N>());
    bytes.copied().ok_or(HeaderError { at, wanted: "more bytes" })
}

/// Tagged fields of which none is known: each is a tag, a length and that many bytes.
fn skip_tagged_fields(frame: &[u8], mut at: usize) -> Result<usize, HeaderError> {
    let count = unsigned_varint(frame, &mut at)?;
    for _ in 0..count {
        let _tag = unsigned_varint(frame, &mut at)?;
        let length = unsigned_varint(frame, &mut at)? as usize;
        // Each takes two bytes at least, so the loop ends with the frame at the latest.
        at = at.checked_add(length).filter(|end| *end <= frame.len()).ok_or(HeaderError { at, wanted: "a tagged field" })?;
    }
    Ok(at)
}

fn unsigned_varint(frame: &[u8], at: &mut usize) -> Result<u32, HeaderError> {
    let mut value = 0;
    for shift in [0, 7, 14, 21, 28] {
        let [byte] = take(frame, *at)?;
        *at += 1;
        value |= u32::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(HeaderError { at: *at, wanted: "a varint of at most five bytes" })
}
