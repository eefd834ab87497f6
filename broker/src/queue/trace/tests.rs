#![allow(clippy::unwrap_used, reason = "tests")]

use prost::Message as _;
use weir_queues::Millis;
use weir_queues::trace::TraceParent;
use weir_wire::Offset;

use super::export::Endpoint;
use super::otlp::{proto, request};
use super::spans::{Attribute, Ids, Kind};

const PARENT: TraceParent = TraceParent {
    trace_id: 77,
    span_id: 9,
    is_sampled: true,
};
const TIME: (Millis, Millis) = (Millis(5), Millis(8));

#[test]
fn a_messages_own_trace_begins_with_its_append() {
    let ids = Ids::of(3, Offset(40), None);
    let append = ids.span(Kind::Append, "t", TIME, Vec::new());
    assert_eq!(append.parent_id, 0);
    let group = |name| vec![Attribute::text("group", name)];
    let spans = [
        ids.span(Kind::Deliver(1), "t", TIME, group("a")),
        ids.span(Kind::Deliver(2), "t", TIME, group("a")),
        ids.span(Kind::Deliver(1), "t", TIME, group("b")),
        ids.span(Kind::DeadLetter, "t", TIME, group("a")),
    ];
    let mut numbers: Vec<_> = spans.iter().map(|span| span.span_id).collect();
    numbers.push(append.span_id);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 5, "each has a number of its own");
    for span in spans {
        assert_eq!(span.parent_id, append.span_id);
        assert_eq!(span.trace_id, append.trace_id);
    }
    let other = Ids::of(3, Offset(41), None);
    let other = other.span(Kind::Append, "t", TIME, Vec::new());
    assert_ne!(other.trace_id, append.trace_id);
}

#[test]
fn a_message_that_is_part_of_a_trace_has_its_spans_there() {
    let ids = Ids::of(3, Offset(40), Some(PARENT));
    for kind in [Kind::Append, Kind::Deliver(1), Kind::DeadLetter] {
        let span = ids.span(kind, "t", TIME, Vec::new());
        assert_eq!((span.trace_id, span.parent_id), (77, 9));
    }
}

#[test]
fn spans_are_sent_as_opentelemetry_has_them() {
    let attributes = vec![
        Attribute::text("messaging.system", "kafka"),
        Attribute::number("messaging.kafka.offset", 40),
    ];
    let span = Ids::of(3, Offset(40), Some(PARENT)).span(Kind::Append, "t", TIME, attributes);
    let bytes = request("shop", "broker-2", std::slice::from_ref(&span));
    let decoded = proto::ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
    let of_resource = &decoded.resource_spans[0];
    let resource = of_resource.resource.as_ref().unwrap();
    assert_eq!(resource.attributes[0].key, "service.name");
    let sent = &of_resource.scope_spans[0].spans[0];
    assert_eq!(sent.trace_id, 77_u128.to_be_bytes());
    assert_eq!(sent.span_id, span.span_id.to_be_bytes());
    assert_eq!(sent.parent_span_id, 9_u64.to_be_bytes());
    assert_eq!(sent.start_time_unix_nano, 5_000_000);
    assert_eq!(sent.end_time_unix_nano, 8_000_000);
    assert_eq!((sent.name.as_str(), sent.kind), ("publish t", 4));
    assert_eq!(sent.attributes.len(), 2);
}

#[test]
fn an_endpoint_is_http_with_a_host() {
    let good = |url: &str| format!("{:?}", Endpoint::parse(url).unwrap());
    assert!(good("http://collector").contains("\"collector:4318\""));
    assert!(good("http://collector").contains("\"/v1/traces\""));
    assert!(good("http://127.0.0.1:55/").contains("\"127.0.0.1:55\""));
    assert!(good("http://[::1]:55/otlp/").contains("\"/otlp/v1/traces\""));
    for bad in [
        "",
        "collector:4318",
        "https://collector",
        "http://",
        "http://:4318",
        "http://user@collector",
        "http://collector/?a=b",
        "http://collector:port",
    ] {
        let why = Endpoint::parse(bad).unwrap_err();
        assert!(why.contains("http://HOST"), "{bad}");
    }
}
