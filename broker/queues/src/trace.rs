//! Where a message was, and when: which messages are traced, and what is remembered of them.
//!
//! Owned by one partition, at each broker for itself: what happens to a message at a leader is remembered there, and is gone with the process. What always holds:
//! at most [`EVENTS_MAX`] events are kept and [`MESSAGES_MAX`] messages known, the newest, in less than 2 MiB with names of usual
//! lengths (names are cut at [`NAME_BYTES_MAX`]); an event of a message that is not known is not kept; and which messages are traced by a ratio is a matter of their offsets
//! alone, so that every leader comes to the same.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;

use weir_wire::Offset;
use weir_wire::batch::RecordView;

use crate::Millis;
use crate::dedup::MessageId;
use crate::order::KeyHash;

/// The header that says which trace a message is part of (W3C Trace Context).
pub const TRACEPARENT: &str = "traceparent";
/// The header that has a message's id.
const MESSAGE_ID: &str = "weir-message-id";

/// Events of one partition that are kept, of some 100 bytes each beside names.
pub const EVENTS_MAX: usize = 4_096;
/// Messages of one partition that are known, of some 150 bytes each.
pub const MESSAGES_MAX: usize = 4_096;
/// Of a name that is kept.
pub const NAME_BYTES_MAX: usize = 128;
/// Headers of a message that are looked at.
const HEADERS_MAX: usize = 256;

/// Which trace a message is part of: W3C Trace Context, level 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceParent {
    /// The trace; not 0.
    pub trace_id: u128,
    /// The span that sent the message; not 0.
    pub span_id: u64,
    /// Whether whoever began the trace records it.
    pub is_sampled: bool,
}

impl TraceParent {
    /// Reads a header's value. What is not as the recommendation has it is none.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let mut parts = text.splitn(5, '-');
        let mut part = |length: usize| {
            let part = parts.next()?;
            let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
            (part.len() == length && part.bytes().all(is_hex)).then_some(part)
        };
        let version = u8::from_str_radix(part(2)?, 16).ok()?;
        let trace_id = u128::from_str_radix(part(32)?, 16).ok()?;
        let span_id = u64::from_str_radix(part(16)?, 16).ok()?;
        let flags = u8::from_str_radix(part(2)?, 16).ok()?;
        // Later versions may have more; this one has not.
        let is_whole = version != 0 || parts.next().is_none();
        let is_valid = version != 0xff && trace_id != 0 && span_id != 0 && is_whole;
        is_valid.then_some(Self {
            trace_id,
            span_id,
            is_sampled: flags & 1 == 1,
        })
    }
}

/// A number that is the same for the same two, and looks like any other.
#[must_use]
pub fn mix(seed: u64, number: u64) -> u64 {
    // SplitMix64.
    let mut z = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Which part of the messages is traced.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(pub f64);

impl Ratio {
    /// Whether a message is traced, whatever it says of itself.
    #[must_use]
    pub fn takes(self, seed: u64, offset: Offset) -> bool {
        // A fraction in [0, 1), of 53 bits.
        let fraction = (mix(seed, offset.0 as u64) >> 11) as f64 / (1_u64 << 53) as f64;
        fraction < self.0
    }
}

/// What is known of a message that is traced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// What it says of the trace that it is part of.
    pub parent: Option<TraceParent>,
    /// Its key.
    pub key: Option<KeyHash>,
    /// Its id.
    pub id: Option<MessageId>,
}

impl Message {
    /// Of a record, as far as its first headers say.
    #[must_use]
    pub fn of(record: &RecordView<'_>) -> Self {
        let mut message = Self {
            key: record.key.map(KeyHash::of),
            ..Self::default()
        };
        for header in record.headers.iter().take(HEADERS_MAX) {
            match (header.key, header.value) {
                (TRACEPARENT, Some(value)) => message.parent = TraceParent::parse(value),
                (MESSAGE_ID, Some(value)) => message.id = Some(MessageId::of(value)),
                _ => {}
            }
        }
        message
    }

    /// Whether it wants to be traced.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.parent.is_some_and(|parent| parent.is_sampled)
    }
}

/// A name, cut where it is too long.
#[must_use]
pub fn name(text: &str) -> Arc<str> {
    let mut end = text.len().min(NAME_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

/// What happened to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A producer's batch that has it was given to the log.
    Appended {
        /// What the producer calls itself.
        client_id: Arc<str>,
        /// Where it came from.
        address: Arc<str>,
        /// Its number; -1: it has none.
        producer_id: i64,
    },
    /// It is committed: all in-sync replicas have it.
    Replicated,
    /// It is to come later. The offset is the receipt.
    Delayed {
        /// When it is due.
        until: Millis,
    },
    /// It was to come later, and has come.
    Due {
        /// The offset that its producer was told.
        receipt: Offset,
    },
    /// It was handed out.
    Delivered {
        /// To a member of this group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// How often it was handed out, this time included.
        deliveries: i16,
    },
    /// A member said something of it.
    Settled {
        /// The group.
        group: Arc<str>,
        /// The member.
        member: Arc<str>,
        /// What it said.
        how: Settled,
    },
    /// A lock ended, or a member was gone: it may be handed out again.
    Returned {
        /// The group.
        group: Arc<str>,
        /// How often it was handed out.
        deliveries: i16,
    },
    /// It waits before it is handed out again.
    Parked {
        /// In this group.
        group: Arc<str>,
        /// How often it was handed out.
        deliveries: i16,
        /// Until then.
        until: Millis,
    },
    /// The group has given it up.
    GivenUp {
        /// The group.
        group: Arc<str>,
        /// How often it was handed out.
        deliveries: i16,
    },
    /// Its dead letter is written.
    DeadLettered {
        /// The group that gave it up.
        group: Arc<str>,
        /// Where the letter is.
        topic: Arc<str>,
        /// In which partition.
        partition: i32,
    },
    /// It was too old for the group.
    Expired {
        /// The group.
        group: Arc<str>,
    },
}

/// What a member says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// Done.
    Accepted,
    /// Not done; someone else may try.
    Released,
    /// Cannot be done.
    Rejected,
    /// Still at it.
    Renewed,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, by the wall clock of the broker at which it happened.
    pub at: Millis,
    /// To which message.
    pub offset: Offset,
    /// What.
    pub what: What,
}

/// Which messages are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    /// The one at an offset.
    Offset(Offset),
    /// Those with a key.
    Key(KeyHash),
    /// Those with an id.
    Id(MessageId),
}

/// What is remembered of one partition. See the module.
#[derive(Clone, Debug, Default)]
pub struct Ring {
    messages: BTreeMap<Offset, Message>,
    events: VecDeque<Event>,
}

impl Ring {
    /// A message is traced. Where too many are known, the oldest are forgotten; one that is older than those is not remembered.
    pub fn note(&mut self, offset: Offset, message: Message) {
        self.messages.insert(offset, message);
        if self.messages.len() > MESSAGES_MAX {
            self.messages.pop_first();
        }
    }

    /// Whether a message is known.
    #[must_use]
    pub fn knows(&self, offset: Offset) -> bool {
        self.messages.contains_key(&offset)
    }

    /// The messages that are known of a range, in order.
    pub fn within(
        &self,
        range: RangeInclusive<Offset>,
    ) -> impl Iterator<Item = (Offset, &Message)> {
        let range = (!range.is_empty()).then(|| self.messages.range(range));
        range.into_iter().flatten().map(|(at, it)| (*at, it))
    }

    /// Something happened. Without effect if the message is not known.
    pub fn add(&mut self, event: Event) {
        if !self.knows(event.offset) {
            return;
        }
        if self.events.len() >= EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// What happened to the messages that are asked for, in the order in which it was told.
    pub fn find(&self, query: Query) -> impl Iterator<Item = &Event> {
        let is_asked_for = move |event: &Event| match query {
            Query::Offset(offset) => event.offset == offset,
            Query::Key(key) => self.is(event.offset, |message| message.key == Some(key)),
            Query::Id(id) => self.is(event.offset, |message| message.id == Some(id)),
        };
        self.events.iter().filter(move |event| is_asked_for(event))
    }

    fn is(&self, offset: Offset, of_it: impl Fn(&Message) -> bool) -> bool {
        self.messages.get(&offset).is_some_and(of_it)
    }
}
