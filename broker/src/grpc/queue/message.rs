//! Messages as clients of gRPC have them, and as records are.

use bytes::Bytes;
use weir_proto::queue::v1 as proto;
use weir_wire::batch::{BatchBuilder, BatchError, HeaderView, NewHeader, NewRecord, RecordView};

use super::status::Refused;

/// Headers that are fields of a message.
pub(super) const DELIVER_AT: &str = "weir-deliver-at";
pub(super) const DELAY: &str = "weir-delay-ms";
pub(super) const PRIORITY: &str = "weir-priority";
pub(super) const TAGS: &str = weir_queues::filter::TAGS_HEADER;
pub(super) const REPLY_TO: &str = "weir-reply-to";
pub(super) const CORRELATION_ID: &str = "weir-correlation-id";
pub(super) const MESSAGE_ID: &str = "weir-message-id";
pub(super) const CANCEL: &str = "weir-cancel";
pub(super) const TRACE_PARENT: &str = "traceparent";
/// What begins so is Weir's.
const RESERVED: &str = "weir-";

const PRIORITY_MAX: u32 = 9;

/// A record to be appended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Draft {
    pub(crate) key: Option<Bytes>,
    value: Option<Bytes>,
    headers: Vec<(String, Option<Bytes>)>,
    timestamp_ms: i64,
}

impl Draft {
    /// What a client wants to publish, if its fields make sense.
    pub(crate) fn of(message: Option<proto::Message>, now_ms: i64) -> Result<Self, Refused> {
        let message = message.ok_or_else(|| Refused::invalid("message", "is missing"))?;
        let mut draft = Self {
            key: message.key,
            value: message.value,
            headers: Vec::with_capacity(message.headers.len()),
            timestamp_ms: match message.timestamp_ms {
                0 => now_ms,
                given @ 1.. => given,
                _ => {
                    let why = "is before 1970";
                    return Err(Refused::invalid("message.timestamp_ms", why));
                }
            },
        };
        for header in message.headers {
            if header.name.starts_with(RESERVED) || header.name == TRACE_PARENT {
                let why = format!("has {:?}, for which there is a field", header.name);
                return Err(Refused::invalid("message.headers", why));
            }
            draft.headers.push((header.name, header.value));
        }
        match (message.deliver_at_ms, message.delay_ms) {
            (Some(_), Some(_)) => {
                let why = "is given together with message.deliver_at_ms";
                return Err(Refused::invalid("message.delay_ms", why));
            }
            (Some(at), None) if at < 0 => {
                return Err(Refused::invalid("message.deliver_at_ms", "is before 1970"));
            }
            (None, Some(delay)) if delay < 0 => {
                return Err(Refused::invalid("message.delay_ms", "is below 0"));
            }
            (Some(at), None) => draft.set(DELIVER_AT, at.to_string()),
            (None, Some(delay)) => draft.set(DELAY, delay.to_string()),
            (None, None) => {}
        }
        if let Some(priority) = message.priority {
            if priority > PRIORITY_MAX {
                let why = format!("is {priority}; 0 to {PRIORITY_MAX} are allowed");
                return Err(Refused::invalid("message.priority", why));
            }
            draft.set(PRIORITY, priority.to_string());
        }
        if !message.tags.is_empty() {
            let is_tag = |tag: &String| !tag.trim().is_empty() && !tag.contains(',');
            if !message.tags.iter().all(is_tag) {
                let why = "has one that is empty or has a comma";
                return Err(Refused::invalid("message.tags", why));
            }
            draft.set(TAGS, message.tags.join(","));
        }
        if !message.trace_parent.is_empty() && !is_trace_parent(&message.trace_parent) {
            let why =
                "is not as W3C's Trace Context has it (00-<32 digits>-<16 digits>-<2 digits>)";
            return Err(Refused::invalid("message.trace_parent", why));
        }
        for (name, value) in [
            (REPLY_TO, message.reply_to),
            (CORRELATION_ID, message.correlation_id),
            (MESSAGE_ID, message.message_id),
            (CANCEL, message.cancel),
            (TRACE_PARENT, message.trace_parent),
        ] {
            if !value.is_empty() {
                draft.set(name, value);
            }
        }
        Ok(draft)
    }

    /// Adds one of Weir's headers.
    pub(super) fn set(&mut self, name: &str, value: impl Into<Bytes>) {
        self.headers.push((name.to_owned(), Some(value.into())));
    }

    /// How large it is as a record, about and not less.
    pub(crate) fn bytes(&self) -> usize {
        // A record's lengths and numbers, and a header's.
        const RECORD: usize = 40;
        const HEADER: usize = 10;
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| HEADER + name.len() + len(value));
        RECORD + len(&self.key) + len(&self.value) + headers.sum::<usize>()
    }

    /// Puts it into a batch.
    pub(crate) fn push(&self, batch: &mut BatchBuilder) -> Result<(), BatchError> {
        let headers = self.headers.iter().map(|(name, value)| NewHeader {
            key: name,
            value: value.as_deref(),
        });
        let headers: Vec<_> = headers.collect();
        batch.push(&NewRecord {
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }
}

/// Version 00 of `traceparent`.
fn is_trace_parent(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_hex = |part: &str| {
        let digits = part.bytes();
        digits
            .into_iter()
            .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    };
    let lengths: Vec<_> = parts.iter().map(|part| part.len()).collect();
    lengths == [2, 32, 16, 2] && parts.iter().all(|part| is_hex(part))
}

/// A record as a client gets it.
pub(super) fn received(record: &RecordView<'_>) -> proto::Message {
    let mut message = proto::Message {
        key: record.key.map(Bytes::copy_from_slice),
        value: record.value.map(Bytes::copy_from_slice),
        timestamp_ms: record.timestamp_ms,
        ..proto::Message::default()
    };
    for header in record.headers.iter() {
        if !take(&mut message, header) {
            message.headers.push(proto::Header {
                name: header.key.to_owned(),
                value: header.value.map(Bytes::copy_from_slice),
            });
        }
    }
    message
}

/// Whether a header is a field of the message; what makes no sense as one stays a header.
fn take(message: &mut proto::Message, header: HeaderView<'_>) -> bool {
    let Some(text) = header
        .value
        .and_then(|value| std::str::from_utf8(value).ok())
    else {
        return false;
    };
    match header.key {
        DELIVER_AT => text.parse().is_ok_and(|at| {
            message.deliver_at_ms = Some(at);
            true
        }),
        DELAY => text.parse().is_ok_and(|delay| {
            message.delay_ms = Some(delay);
            true
        }),
        PRIORITY => text.parse().is_ok_and(|priority| {
            message.priority = Some(priority);
            true
        }),
        TAGS => {
            let tags = text.split(',').map(str::trim).filter(|tag| !tag.is_empty());
            message.tags = tags.map(str::to_owned).collect();
            true
        }
        REPLY_TO => {
            text.clone_into(&mut message.reply_to);
            true
        }
        CORRELATION_ID => {
            text.clone_into(&mut message.correlation_id);
            true
        }
        MESSAGE_ID => {
            text.clone_into(&mut message.message_id);
            true
        }
        CANCEL => {
            text.clone_into(&mut message.cancel);
            true
        }
        TRACE_PARENT => {
            text.clone_into(&mut message.trace_parent);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use weir_wire::batch::BatchView;

    use super::*;

    fn full() -> proto::Message {
        proto::Message {
            key: Some(Bytes::from_static(b"k")),
            value: Some(Bytes::from_static(b"v")),
            headers: vec![proto::Header {
                name: "colour".into(),
                value: None,
            }],
            timestamp_ms: 7,
            delay_ms: Some(5),
            priority: Some(9),
            tags: vec!["paid".into(), "express".into()],
            reply_to: "answers".into(),
            correlation_id: "one".into(),
            message_id: "m".into(),
            cancel: "earlier".into(),
            trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
            ..proto::Message::default()
        }
    }

    #[test]
    fn what_is_published_is_what_is_received() {
        let draft = Draft::of(Some(full()), 1).unwrap();
        let mut builder = BatchBuilder::new();
        draft.push(&mut builder).unwrap();
        assert!(builder.len() - weir_wire::batch::HEADER_LEN <= draft.bytes());
        let batch = builder.build();
        let (batch, _) = BatchView::split_first(&batch).unwrap();
        let record = batch.records().unwrap().next().unwrap().unwrap();
        assert_eq!(received(&record), full());
    }

    #[test]
    fn a_message_without_a_time_has_the_broker_s_and_one_without_a_value_stays_so() {
        let draft = Draft::of(Some(proto::Message::default()), 11).unwrap();
        assert_eq!(draft.timestamp_ms, 11);
        assert_eq!((draft.key, draft.value), (None, None));
    }

    #[test]
    fn fields_that_make_no_sense_are_named() {
        type Spoil = fn(&mut proto::Message);
        let cases: [(&str, Spoil); 9] = [
            ("message.timestamp_ms", |m| m.timestamp_ms = -1),
            ("message.headers", |m| {
                m.headers[0].name = "weir-priority".into();
            }),
            ("message.headers", |m| {
                m.headers[0].name = TRACE_PARENT.into()
            }),
            ("message.delay_ms", |m| m.deliver_at_ms = Some(1)),
            ("message.delay_ms", |m| m.delay_ms = Some(-1)),
            ("message.priority", |m| m.priority = Some(10)),
            ("message.tags", |m| m.tags[0] = "a,b".into()),
            ("message.tags", |m| m.tags[0] = " ".into()),
            ("message.trace_parent", |m| {
                m.trace_parent = "00-1-2-3".into()
            }),
        ];
        for (field, spoil) in cases {
            let mut message = full();
            spoil(&mut message);
            let refused = Draft::of(Some(message), 1).unwrap_err();
            assert!(refused.message.starts_with(field), "{refused:?}");
        }
    }

    #[test]
    fn a_header_that_is_no_field_s_value_stays_a_header() {
        let mut builder = BatchBuilder::new();
        let headers = [NewHeader {
            key: PRIORITY,
            value: Some(b"high"),
        }];
        let record = NewRecord {
            headers: &headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
        let batch = builder.build();
        let (batch, _) = BatchView::split_first(&batch).unwrap();
        let record = batch.records().unwrap().next().unwrap().unwrap();
        let message = received(&record);
        assert_eq!((message.priority, message.headers.len()), (None, 1));
    }
}
