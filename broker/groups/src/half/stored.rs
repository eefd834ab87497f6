//! The records of `__half_messages`.
//!
//! Two for each half: what is to be published, which never changes, and where it stands. So an ask or a step of the commit does not write the messages
//! again; once it is decided they are gone.
//!
//! Beside them one of the partition: which numbers of transactional ids are taken.
//!
//! Key: two bytes of kind (0 messages, 1 where it stands, 2 numbers), and the id (16 bytes; numbers have none). Value: two bytes of version, then what [`Messages`] or [`Standing`]
//! has, or the first number that is not taken (8 bytes); numbers big-endian, text and bytes behind their length (4 bytes).
//!
//! Version 1 of where a half stands has more behind what version 0 has, and a broker that writes version 0 reads it so far: of a half that is being committed, the number of its transactional id
//! (8 bytes), which in version 0 is a slot (1 byte, and 255 in version 1); of one that is over, whether it is in doubt (1 byte), which version 0 takes for rolled back.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;
use weir_wire::{ProducerEpoch, ProducerId};

use super::{Identity, NUMBER_MIN, State};
use crate::machine::{Outcome, Producer};
use crate::stored::{StoredError, StoredRecord, split};

const MESSAGES: i16 = 0;
const STANDING: i16 = 1;
const NUMBERS: i16 = 2;
const VERSION: i16 = 0;
const STANDING_VERSION: i16 = 1;
/// Where version 0 has a slot: none of its own.
const NO_SLOT: u8 = u8::MAX;

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Messages {
    pub(super) group: String,
    pub(super) check_after_ms: u64,
    pub(super) asks_max: u32,
    pub(super) prepared_at_ms: i64,
    pub(super) messages: Bytes,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) asked: u32,
    pub(super) state: State,
}

/// A record of the log, read.
#[derive(Debug)]
pub(super) enum Stored {
    Messages(Uuid, Option<Messages>),
    Standing(Uuid, Option<Standing>),
    /// The first number that is not taken.
    Taken(u64),
    /// A kind that is not known.
    Other,
}

fn key(kind: i16, id: Uuid) -> Bytes {
    let mut key = BytesMut::with_capacity(18);
    key.put_i16(kind);
    key.put_slice(id.as_bytes());
    key.freeze()
}

pub(super) fn messages(id: Uuid, of: &Messages) -> StoredRecord {
    let mut value = BytesMut::with_capacity(64 + of.group.len() + of.messages.len());
    value.put_i16(VERSION);
    value.put_u64(of.check_after_ms);
    value.put_u32(of.asks_max);
    value.put_i64(of.prepared_at_ms);
    for bytes in [of.group.as_bytes(), &of.messages] {
        // Bounded by the configuration, far below.
        value.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        value.put_slice(bytes);
    }
    StoredRecord {
        key: key(MESSAGES, id),
        value: Some(value.freeze()),
    }
}

pub(super) fn standing(id: Uuid, of: Standing) -> StoredRecord {
    let mut value = BytesMut::with_capacity(32);
    value.put_i16(STANDING_VERSION);
    value.put_u32(of.asked);
    match of.state {
        State::Prepared => value.put_u8(0),
        State::Committing { begun } => {
            value.put_u8(1);
            let none = Producer {
                id: ProducerId::NONE,
                epoch: ProducerEpoch::NONE,
            };
            let (number, producer) =
                begun.map_or((NUMBER_MIN, none), |begun| (begun.number, begun.producer));
            // One that an earlier version has begun it may go on with.
            value.put_u8(u8::try_from(number).unwrap_or(NO_SLOT));
            value.put_i64(producer.id.0);
            value.put_i16(producer.epoch.0);
            value.put_u64(number);
        }
        State::Done { outcome, at_ms } => {
            value.put_u8(match outcome {
                Outcome::Commit => 2,
                Outcome::Abort => 3,
            });
            value.put_i64(at_ms);
            value.put_u8(0);
        }
        State::InDoubt { at_ms } => {
            value.put_u8(3);
            value.put_i64(at_ms);
            value.put_u8(1);
        }
    }
    StoredRecord {
        key: key(STANDING, id),
        value: Some(value.freeze()),
    }
}

/// Numbers below this one are taken.
pub(super) fn taken(next: u64) -> StoredRecord {
    let mut value = BytesMut::with_capacity(10);
    value.put_i16(VERSION);
    value.put_u64(next);
    StoredRecord {
        key: Bytes::copy_from_slice(&NUMBERS.to_be_bytes()),
        value: Some(value.freeze()),
    }
}

/// The messages are not needed any more.
pub(super) fn no_messages(id: Uuid) -> StoredRecord {
    StoredRecord {
        key: key(MESSAGES, id),
        value: None,
    }
}

/// Nothing is known of the id any more.
pub(super) fn nothing(id: Uuid) -> StoredRecord {
    StoredRecord {
        key: key(STANDING, id),
        value: None,
    }
}

fn short(found: usize) -> StoredError {
    StoredError::Short { found }
}

fn counted(from: &mut &[u8]) -> Result<Bytes, StoredError> {
    let len = from.try_get_u32().map_err(|_| short(from.len()))?;
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    let bytes = from.get(..len).ok_or_else(|| short(from.len()))?;
    let bytes = Bytes::copy_from_slice(bytes);
    from.advance(len);
    Ok(bytes)
}

fn decode_messages(mut value: &[u8]) -> Result<Messages, StoredError> {
    let ended = |_| short(value.len());
    let mut fields = value;
    let check_after_ms = fields.try_get_u64().map_err(ended)?;
    let asks_max = fields.try_get_u32().map_err(ended)?;
    let prepared_at_ms = fields.try_get_i64().map_err(ended)?;
    value = fields;
    let group = counted(&mut value)?;
    let group = std::str::from_utf8(&group).map_err(|_| StoredError::NotText)?;
    let group = group.to_owned();
    Ok(Messages {
        group,
        check_after_ms,
        asks_max,
        prepared_at_ms,
        messages: counted(&mut value)?,
    })
}

fn decode_standing(version: i16, value: &[u8]) -> Result<Standing, StoredError> {
    let ended = |_| short(value.len());
    let mut fields = value;
    let asked = fields.try_get_u32().map_err(ended)?;
    let state = match fields.try_get_u8().map_err(ended)? {
        0 => State::Prepared,
        1 => {
            let slot = fields.try_get_u8().map_err(ended)?;
            let producer = Producer {
                id: ProducerId(fields.try_get_i64().map_err(ended)?),
                epoch: ProducerEpoch(fields.try_get_i16().map_err(ended)?),
            };
            let number = match version {
                0 => slot.into(),
                _ => fields.try_get_u64().map_err(ended)?,
            };
            let begun = Identity { number, producer };
            let begun = (producer.id != ProducerId::NONE).then_some(begun);
            State::Committing { begun }
        }
        done @ (2 | 3) => {
            let at_ms = fields.try_get_i64().map_err(ended)?;
            let is_in_doubt = version > 0 && fields.try_get_u8().map_err(ended)? != 0;
            let outcome = match done {
                2 => Outcome::Commit,
                _ => Outcome::Abort,
            };
            match is_in_doubt {
                true => State::InDoubt { at_ms },
                false => State::Done { outcome, at_ms },
            }
        }
        other => {
            let found = i8::try_from(other).unwrap_or(i8::MAX);
            return Err(StoredError::State { found });
        }
    };
    Ok(Standing { asked, state })
}

/// Reads a record of the log.
pub(super) fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Stored, StoredError> {
    let (kind, id) = split(key)?;
    if !matches!(kind, MESSAGES | STANDING | NUMBERS) {
        return Ok(Stored::Other);
    }
    let value = value.map(split).transpose()?;
    if kind == NUMBERS {
        // Nobody takes it away.
        let Some((_, mut value)) = value else {
            return Ok(Stored::Other);
        };
        let found = value.len();
        let next = value.try_get_u64().map_err(|_| short(found))?;
        return Ok(Stored::Taken(next));
    }
    let id = Uuid::from_slice(id).map_err(|_| short(id.len()))?;
    Ok(match kind {
        MESSAGES => {
            let messages = value.map(|(_, value)| decode_messages(value));
            Stored::Messages(id, messages.transpose()?)
        }
        _ => {
            let standing = value.map(|(version, value)| decode_standing(version, value));
            Stored::Standing(id, standing.transpose()?)
        }
    })
}
