//! The records of `__half_messages`.
//!
//! Two for each half: what is to be published, which never changes, and where it stands. So an ask or a step of the commit does not write the messages
//! again; once it is decided they are gone.
//!
//! Key: two bytes of kind (0 messages, 1 where it stands), and the id (16 bytes). Value: two bytes of version, then what [`Messages`] or [`Standing`]
//! has, numbers big-endian, text and bytes behind their length (4 bytes).

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;
use weir_wire::{ProducerEpoch, ProducerId};

use super::State;
use crate::machine::{Outcome, Producer};
use crate::stored::{StoredError, StoredRecord, split};

const MESSAGES: i16 = 0;
const STANDING: i16 = 1;
const VERSION: i16 = 0;

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
    value.put_i16(VERSION);
    value.put_u32(of.asked);
    match of.state {
        State::Prepared => value.put_u8(0),
        State::Committing { slot, producer } => {
            value.put_u8(1);
            value.put_u8(slot);
            let none = Producer {
                id: ProducerId::NONE,
                epoch: ProducerEpoch::NONE,
            };
            let producer = producer.unwrap_or(none);
            value.put_i64(producer.id.0);
            value.put_i16(producer.epoch.0);
        }
        State::Done { outcome, at_ms } => {
            value.put_u8(match outcome {
                Outcome::Commit => 2,
                Outcome::Abort => 3,
            });
            value.put_i64(at_ms);
        }
    }
    StoredRecord {
        key: key(STANDING, id),
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

fn taken(from: &mut &[u8]) -> Result<Bytes, StoredError> {
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
    let group = taken(&mut value)?;
    let group = std::str::from_utf8(&group).map_err(|_| StoredError::NotText)?;
    let group = group.to_owned();
    Ok(Messages {
        group,
        check_after_ms,
        asks_max,
        prepared_at_ms,
        messages: taken(&mut value)?,
    })
}

fn decode_standing(value: &[u8]) -> Result<Standing, StoredError> {
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
            let producer = (producer.id != ProducerId::NONE).then_some(producer);
            State::Committing { slot, producer }
        }
        done @ (2 | 3) => State::Done {
            outcome: match done {
                2 => Outcome::Commit,
                _ => Outcome::Abort,
            },
            at_ms: fields.try_get_i64().map_err(ended)?,
        },
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
    if !matches!(kind, MESSAGES | STANDING) {
        return Ok(Stored::Other);
    }
    let id = Uuid::from_slice(id).map_err(|_| short(id.len()))?;
    let value = value.map(split).transpose()?;
    let value = value.map(|(_, value)| value);
    Ok(match kind {
        MESSAGES => Stored::Messages(id, value.map(decode_messages).transpose()?),
        _ => Stored::Standing(id, value.map(decode_standing).transpose()?),
    })
}
