//! Spans: what happened to a message from when to when, as OpenTelemetry has it.
//!
//! A span's number follows from the message and from what it is of, so that nothing has to be remembered to say what is whose parent. Of a message that says which trace it is
//! part of, spans are part of that one, below the span that sent it; of others each has a trace of its own, which its append begins.

use weir_queues::Millis;
use weir_queues::trace::{TraceParent, mix};
use weir_wire::Offset;

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    /// The trace.
    pub trace_id: u128,
    /// The span.
    pub span_id: u64,
    /// The span above; 0: none.
    pub parent_id: u64,
    /// What happened.
    pub name: String,
    /// OpenTelemetry's number for which side of a message it is: 4, of who sent it; 5, of who got it; 1, of nobody.
    pub kind: i32,
    /// From when on.
    pub start: Millis,
    /// Until when.
    pub end: Millis,
    /// What else there is to say.
    pub attributes: Vec<Attribute>,
}

/// A name and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// The name, by OpenTelemetry's conventions where they have one.
    pub key: &'static str,
    /// The value.
    pub value: Value,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl Attribute {
    pub(super) fn text(key: &'static str, value: &str) -> Self {
        let value = Value::Text(value.to_owned());
        Self { key, value }
    }

    pub(super) fn number(key: &'static str, value: i64) -> Self {
        let value = Value::Number(value);
        Self { key, value }
    }
}

/// What a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Until the message is replicated.
    Append,
    /// As long as a member has it, for the so many-th time.
    Deliver(i16),
    /// Its dead letter.
    DeadLetter,
}

/// The numbers of a message's spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ids {
    seed: u64,
    trace_id: u128,
    parent: Option<u64>,
}

impl Ids {
    /// Of the message at an offset of the partition that this seed stands for.
    pub(super) fn of(seed: u64, offset: Offset, parent: Option<TraceParent>) -> Self {
        let seed = mix(seed, offset.0 as u64);
        let own = (u128::from(seed) << 64) | u128::from(mix(seed, 1)) | 1;
        Self {
            seed,
            trace_id: parent.map_or(own, |parent| parent.trace_id),
            parent: parent.map(|parent| parent.span_id),
        }
    }

    /// Of two deliveries in two groups at the same time each needs a number of its own.
    fn span_id(self, number: u64) -> u64 {
        mix(self.seed, 2 + number) | 1
    }

    pub(super) fn span(
        self,
        kind: Kind,
        topic: &str,
        (start, end): (Millis, Millis),
        attributes: Vec<Attribute>,
    ) -> Span {
        let append = self.span_id(0);
        let (what, span_id, kind) = match kind {
            Kind::Append => ("publish", append, 4),
            Kind::Deliver(count) => {
                let of_group = attributes.iter().fold(0, |sum, attribute| {
                    let Value::Text(text) = &attribute.value else {
                        return sum;
                    };
                    text.bytes()
                        .fold(sum, |sum, byte| mix(sum, u64::from(byte)))
                });
                let number = mix(of_group, u64::from(count.unsigned_abs()));
                ("process", self.span_id(number), 5)
            }
            Kind::DeadLetter => ("dead letter", self.span_id(1), 1),
        };
        let parent_id = match self.parent {
            Some(parent) => parent,
            None if span_id == append => 0,
            None => append,
        };
        Span {
            trace_id: self.trace_id,
            span_id,
            parent_id,
            name: format!("{what} {topic}"),
            kind,
            start,
            end,
            attributes,
        }
    }
}
