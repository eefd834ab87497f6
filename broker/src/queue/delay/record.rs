//! The bytes: what a control batch of delayed messages says, and what a released record says of itself.

use std::fmt;

use bytes::Bytes;
use weir_queues::Millis;
use weir_queues::delay::Entry;
use weir_wire::batch::{BatchHeader, RecordView, batches, filler};
use weir_wire::{Offset, ProducerId};

/// Whose batches the released ones are: no client's, so that they are known without being looked into.
pub const RELEASER: ProducerId = ProducerId(i64::MAX);

/// The header of a released record that says where it comes from.
pub(super) const FROM: &str = "weir-delayed-from";

/// The key of each record of a control batch of delayed messages: version 0, and a kind that nobody else has. Clients pass over kinds that
/// they do not know.
pub(super) const KEY: [u8; 4] = [0, 0, b'W', b'E'];

/// Of what follows.
const VERSION: u8 = 1;
const OPENS: u8 = 0;
const WAITS: u8 = 1;
const CANCELS: u8 = 2;

/// Whether a batch has what consumers are not to be given. Markers, the only other control batches, are always some producer's.
pub(super) fn holds_back(header: &BatchHeader) -> bool {
    header.attributes.is_control() && header.producer_id == ProducerId::NONE
}

/// What consumers are given: in the place of what is not due yet, batches without records.
#[must_use]
pub fn without_held_back(bytes: Bytes) -> Bytes {
    let has_some = batches(&bytes)
        .flatten()
        .any(|batch| holds_back(batch.header()));
    if !has_some {
        return bytes;
    }
    let mut out = Vec::with_capacity(bytes.len());
    // What cannot be read, behind what can, is nobody's.
    for batch in batches(&bytes).map_while(Result::ok) {
        let header = batch.header();
        if holds_back(header) {
            out.extend_from_slice(&filler(header, header.last_offset()));
        } else {
            out.extend_from_slice(batch.bytes());
        }
    }
    Bytes::from(out)
}

/// How the batch behind a control batch is known for its twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Twin {
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    record_count: i32,
    last_offset_delta: i32,
}

impl Twin {
    pub(super) fn of(header: &BatchHeader) -> Self {
        Self {
            producer_id: header.producer_id.0,
            producer_epoch: header.producer_epoch.0,
            base_sequence: header.base_sequence,
            record_count: header.record_count,
            last_offset_delta: header.last_offset_delta,
        }
    }

    pub(super) fn is(self, header: &BatchHeader) -> bool {
        !header.attributes.is_control() && self == Self::of(header)
    }
}

/// What one record of a control batch says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The first one: which batch has to follow.
    Opens(Twin),
    /// A message that waits.
    Waits(Kept<'a>),
    /// The messages before it that have this id are not to be released.
    Cancels(&'a [u8]),
}

/// A message that waits, but for its headers, which are the record's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept<'a> {
    pub(super) due: Millis,
    /// Its number in its producer's batch.
    pub(super) number: i32,
    pub(super) key: Option<&'a [u8]>,
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Said<'a> {
    /// As a record's value.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        match self {
            Self::Opens(twin) => {
                out.push(OPENS);
                out.extend_from_slice(&twin.producer_id.to_be_bytes());
                out.extend_from_slice(&twin.producer_epoch.to_be_bytes());
                out.extend_from_slice(&twin.base_sequence.to_be_bytes());
                out.extend_from_slice(&twin.record_count.to_be_bytes());
                out.extend_from_slice(&twin.last_offset_delta.to_be_bytes());
            }
            Self::Waits(kept) => {
                out.push(WAITS);
                out.extend_from_slice(&kept.due.0.to_be_bytes());
                out.extend_from_slice(&kept.number.to_be_bytes());
                put_nullable(&mut out, kept.key);
                put_nullable(&mut out, kept.value);
            }
            Self::Cancels(id) => {
                out.push(CANCELS);
                out.extend_from_slice(id);
            }
        }
        out
    }

    /// `None`: not what this version writes.
    pub(super) fn decode(record: &RecordView<'a>) -> Option<Self> {
        let mut rest = record
            .value
            .filter(|_| record.key == Some(KEY.as_slice()))?;
        let rest = &mut rest;
        let [VERSION, what] = take(rest)? else {
            return None;
        };
        Some(match what {
            OPENS => Self::Opens(Twin {
                producer_id: i64::from_be_bytes(take(rest)?),
                producer_epoch: i16::from_be_bytes(take(rest)?),
                base_sequence: i32::from_be_bytes(take(rest)?),
                record_count: i32::from_be_bytes(take(rest)?),
                last_offset_delta: i32::from_be_bytes(take(rest)?),
            }),
            WAITS => Self::Waits(Kept {
                due: Millis(u64::from_be_bytes(take(rest)?)),
                number: i32::from_be_bytes(take(rest)?),
                key: take_nullable(rest)?,
                value: take_nullable(rest)?,
            }),
            CANCELS => Self::Cancels(rest),
            _ => return None,
        })
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    // A record is shorter than 2 GiB, and so is what it has.
    let length = bytes.map_or(-1, |bytes| i32::try_from(bytes.len()).unwrap_or(i32::MAX));
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes.unwrap_or_default());
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

fn take_nullable<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let length = i32::from_be_bytes(take(bytes)?);
    let Ok(length) = usize::try_from(length) else {
        return Some(None);
    };
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(Some(head))
}

/// Where a released record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whence {
    /// The offset that its producer was told.
    pub(super) receipt: Offset,
    /// When it was due, and where it lay: its place in the order of all that are released.
    pub(super) entry: Entry,
}

impl fmt::Display for Whence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { receipt, entry } = self;
        write!(f, "{},{},{}", receipt.0, entry.due.0, entry.at.0)
    }
}

impl Whence {
    pub(super) fn parse(text: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(text).ok()?;
        let mut parts = text.splitn(3, ',');
        let receipt = Offset(parts.next()?.parse().ok()?);
        let due = Millis(parts.next()?.parse().ok()?);
        let at = Offset(parts.next()?.parse().ok()?);
        Some(Self {
            receipt,
            entry: Entry { due, at },
        })
    }

    pub(super) fn of(record: &RecordView<'_>) -> Option<Self> {
        // Ours is the last: a producer may have sent one of the same name.
        let found = record.headers.iter().filter(|header| header.key == FROM);
        Self::parse(found.last()?.value?)
    }
}
