//! The records within an uncompressed batch, decoded as they are iterated.

use super::error::BatchError;
use super::header::{BatchHeader, HEADER_LEN, TimestampType};
use super::varint;
use crate::types::Offset;

/// The least bytes that a record takes: its length, attributes, two deltas, two lengths and a count.
const RECORD_LEN_MIN: usize = 7;
/// The least bytes that a record's header takes: two lengths.
const HEADER_LEN_MIN: usize = 2;

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecordView<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Milliseconds since 1970: the producer's time, or the batch's append time where the batch says so.
    pub timestamp_ms: i64,
    /// The key, if it has one.
    pub key: Option<&'a [u8]>,
    /// The value; none is a tombstone on a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order, doubles included.
    pub headers: Headers<'a>,
}

/// One header of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderView<'a> {
    /// The name.
    pub key: &'a str,
    /// The value, if it has one.
    pub value: Option<&'a [u8]>,
}

/// A record's headers: walked once when the record was decoded, decoded again as they are iterated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    count: usize,
}

impl<'a> Headers<'a> {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// As they lie in the record, without their count.
    pub(super) const fn encoded(&self) -> &'a [u8] {
        self.bytes
    }

    /// The headers in their order.
    pub fn iter(&self) -> impl Iterator<Item = HeaderView<'a>> + use<'a> {
        let mut cursor = Cursor {
            bytes: self.bytes,
            position: 0,
        };
        // Walked before: an error cannot come, and would end the iteration.
        (0..self.count).map_while(move |_| cursor.header().ok())
    }
}

/// Iterates the records of an uncompressed batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct RecordsIter<'a> {
    header: BatchHeader,
    cursor: Cursor<'a>,
    /// How many records were returned.
    returned: i32,
    /// Offset delta of the last one: deltas must grow.
    last_delta: i64,
    failed: bool,
}

impl<'a> RecordsIter<'a> {
    /// `batch` is the whole batch.
    pub(super) fn new(header: &BatchHeader, batch: &'a [u8]) -> Result<Self, BatchError> {
        Self::over(header, batch, HEADER_LEN)
    }

    /// The records begin at `from` in `bytes`.
    pub(super) fn over(
        header: &BatchHeader,
        bytes: &'a [u8],
        from: usize,
    ) -> Result<Self, BatchError> {
        let left = bytes.len() - from;
        let count = header.record_count;
        if count < 0 || count as usize > left / RECORD_LEN_MIN {
            return Err(BatchError::TooMany {
                count: count.into(),
                left,
                position: from,
            });
        }
        let cursor = Cursor {
            bytes,
            position: from,
        };
        Ok(Self {
            header: *header,
            cursor,
            returned: 0,
            last_delta: -1,
            failed: false,
        })
    }

    fn record(&mut self) -> Result<RecordView<'a>, BatchError> {
        let cursor = &mut self.cursor;
        let length = cursor.length("length", false)?.unwrap_or_default();
        let end = cursor.position + length;
        cursor.take("attributes", 1)?;
        let timestamp_delta = cursor.varint("timestamp delta")?;
        let delta_at = cursor.position;
        let delta = cursor.varint("offset delta")?;
        if delta <= self.last_delta || delta > i64::from(self.header.last_offset_delta) {
            return Err(BatchError::Record {
                field: "offset delta",
                position: delta_at,
            });
        }
        self.last_delta = delta;
        let key = cursor.nullable("key length")?;
        let value = cursor.nullable("value length")?;
        let headers = cursor.headers()?;
        if cursor.position != end {
            return Err(BatchError::Record {
                field: "length",
                position: end,
            });
        }
        Ok(RecordView {
            offset: self.header.base_offset.saturating_add(delta),
            timestamp_ms: match self.header.attributes.timestamp_type() {
                TimestampType::CreateTime => self
                    .header
                    .base_timestamp_ms
                    .saturating_add(timestamp_delta),
                TimestampType::LogAppendTime => self.header.max_timestamp_ms,
            },
            key,
            value,
            headers,
        })
    }
}

impl<'a> Iterator for RecordsIter<'a> {
    type Item = Result<RecordView<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        if self.returned == self.header.record_count {
            let position = self.cursor.position;
            let left = self.cursor.bytes.len() - position;
            if left == 0 {
                return None;
            }
            self.failed = true;
            return Some(Err(BatchError::Trailing { position, left }));
        }
        self.returned += 1;
        let record = self.record();
        self.failed = record.is_err();
        Some(record)
    }
}

/// What the single record of a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// The producer's transaction was aborted.
    Abort,
    /// The producer's transaction was committed.
    Commit,
    /// A kind that readers skip: leader changes and snapshots of KRaft's own log.
    Other(i16),
}

impl ControlRecord {
    /// Reads the kind from a control record's key: version, then kind.
    #[must_use]
    pub fn from_key(key: &[u8]) -> Option<Self> {
        let &[_, _, high, low] = key.first_chunk::<4>()?;
        Some(match i16::from_be_bytes([high, low]) {
            0 => Self::Abort,
            1 => Self::Commit,
            other => Self::Other(other),
        })
    }

    /// The kind's number on the wire.
    #[must_use]
    pub const fn kind(self) -> i16 {
        match self {
            Self::Abort => 0,
            Self::Commit => 1,
            Self::Other(kind) => kind,
        }
    }
}

/// The end of a producer's transaction, as the single record of a marker tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Committed, or aborted.
    pub is_commit: bool,
    /// Of the coordinator that decided: a greater one fences the lesser.
    pub coordinator_epoch: i32,
}

impl EndTransactionMarker {
    /// Reads key and value of a control record; `None` when it is of another kind. Later versions of the value may say more.
    pub(super) fn from_record(record: &RecordView<'_>) -> Result<Option<Self>, BatchError> {
        let is_commit = match record.key.and_then(ControlRecord::from_key) {
            Some(ControlRecord::Commit) => true,
            Some(ControlRecord::Abort) => false,
            Some(ControlRecord::Other(_)) | None => return Ok(None),
        };
        let value = record.value.and_then(<[u8]>::first_chunk::<6>);
        let Some(&[_, _, b0, b1, b2, b3]) = value else {
            return Err(BatchError::Record {
                field: "marker",
                position: HEADER_LEN,
            });
        };
        Ok(Some(Self {
            is_commit,
            coordinator_epoch: i32::from_be_bytes([b0, b1, b2, b3]),
        }))
    }

    /// The kind of control record that it is.
    #[must_use]
    pub const fn kind(self) -> ControlRecord {
        if self.is_commit {
            ControlRecord::Commit
        } else {
            ControlRecord::Abort
        }
    }
}

/// Reads forward through a batch; never beyond its end.
#[derive(Clone, Debug)]
struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
}

impl<'a> Cursor<'a> {
    fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    fn varint(&mut self, field: &'static str) -> Result<i64, BatchError> {
        let rest = &self.bytes[self.position..];
        let (value, taken) = varint::get(rest).ok_or(BatchError::Record {
            field,
            position: self.position,
        })?;
        self.position += taken;
        Ok(value)
    }

    /// A length that the bytes left can hold; -1 means null where that is allowed.
    fn length(&mut self, field: &'static str, nullable: bool) -> Result<Option<usize>, BatchError> {
        let position = self.position;
        let value = self.varint(field)?;
        if nullable && value == -1 {
            return Ok(None);
        }
        match usize::try_from(value) {
            Ok(length) if length <= self.left() => Ok(Some(length)),
            _ => Err(BatchError::Record { field, position }),
        }
    }

    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], BatchError> {
        let end = self.position + length;
        let bytes = self
            .bytes
            .get(self.position..end)
            .ok_or(BatchError::Record {
                field,
                position: self.position,
            })?;
        self.position = end;
        Ok(bytes)
    }

    fn nullable(&mut self, field: &'static str) -> Result<Option<&'a [u8]>, BatchError> {
        self.length(field, true)?
            .map(|length| self.take(field, length))
            .transpose()
    }

    fn header(&mut self) -> Result<HeaderView<'a>, BatchError> {
        let position = self.position;
        let length = self.length("header key length", false)?.unwrap_or_default();
        let key = std::str::from_utf8(self.take("header key", length)?).map_err(|_| {
            BatchError::Record {
                field: "header key",
                position,
            }
        })?;
        Ok(HeaderView {
            key,
            value: self.nullable("header value length")?,
        })
    }

    fn headers(&mut self) -> Result<Headers<'a>, BatchError> {
        let count = self.varint("header count")?;
        let left = self.left();
        let position = self.position;
        let too_many = BatchError::TooMany {
            count,
            left,
            position,
        };
        let count = usize::try_from(count).map_err(|_| too_many)?;
        if count > left / HEADER_LEN_MIN {
            return Err(too_many);
        }
        for _ in 0..count {
            self.header()?;
        }
        Ok(Headers {
            bytes: &self.bytes[position..self.position],
            count,
        })
    }
}
