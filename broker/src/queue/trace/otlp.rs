//! Spans in OpenTelemetry's protocol (OTLP 1.x, `opentelemetry/proto/collector/trace/v1`), as far as they are sent.

use prost::Message as _;

use super::spans::{Span, Value};

/// The messages, by their names and numbers there.
#[allow(missing_docs, reason = "OpenTelemetry's own")]
pub mod proto {
    /// `opentelemetry.proto.collector.trace.v1.ExportTraceServiceRequest`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ExportTraceServiceRequest {
        #[prost(message, repeated, tag = "1")]
        pub resource_spans: Vec<ResourceSpans>,
    }

    /// `opentelemetry.proto.trace.v1.ResourceSpans`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ResourceSpans {
        #[prost(message, optional, tag = "1")]
        pub resource: Option<Resource>,
        #[prost(message, repeated, tag = "2")]
        pub scope_spans: Vec<ScopeSpans>,
    }

    /// `opentelemetry.proto.resource.v1.Resource`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "1")]
        pub attributes: Vec<KeyValue>,
    }

    /// `opentelemetry.proto.trace.v1.ScopeSpans`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct ScopeSpans {
        #[prost(message, repeated, tag = "2")]
        pub spans: Vec<Span>,
    }

    /// `opentelemetry.proto.trace.v1.Span`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Span {
        #[prost(bytes = "vec", tag = "1")]
        pub trace_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")]
        pub span_id: Vec<u8>,
        #[prost(bytes = "vec", tag = "4")]
        pub parent_span_id: Vec<u8>,
        #[prost(string, tag = "5")]
        pub name: String,
        #[prost(int32, tag = "6")]
        pub kind: i32,
        #[prost(fixed64, tag = "7")]
        pub start_time_unix_nano: u64,
        #[prost(fixed64, tag = "8")]
        pub end_time_unix_nano: u64,
        #[prost(message, repeated, tag = "9")]
        pub attributes: Vec<KeyValue>,
    }

    /// `opentelemetry.proto.common.v1.KeyValue`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct KeyValue {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<AnyValue>,
    }

    /// `opentelemetry.proto.common.v1.AnyValue`.
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct AnyValue {
        #[prost(oneof = "any_value::Value", tags = "1, 3")]
        pub value: Option<any_value::Value>,
    }

    /// What an `AnyValue` may be.
    pub mod any_value {
        /// Text or a whole number.
        #[derive(Clone, PartialEq, prost::Oneof)]
        pub enum Value {
            #[prost(string, tag = "1")]
            StringValue(String),
            #[prost(int64, tag = "3")]
            IntValue(i64),
        }
    }
}

/// A request that has these spans, of this service and instance of it.
#[must_use]
pub fn request(service: &str, instance: &str, spans: &[Span]) -> Vec<u8> {
    let text = |key: &str, value: &str| {
        let value = proto::any_value::Value::StringValue(value.to_owned());
        key_value(key, value)
    };
    let resource = proto::Resource {
        attributes: vec![
            text("service.name", service),
            text("service.instance.id", instance),
        ],
    };
    let request = proto::ExportTraceServiceRequest {
        resource_spans: vec![proto::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![proto::ScopeSpans {
                spans: spans.iter().map(span).collect(),
            }],
        }],
    };
    request.encode_to_vec()
}

fn key_value(key: &str, value: proto::any_value::Value) -> proto::KeyValue {
    proto::KeyValue {
        key: key.to_owned(),
        value: Some(proto::AnyValue { value: Some(value) }),
    }
}

fn span(span: &Span) -> proto::Span {
    let attributes = span.attributes.iter().map(|attribute| {
        let value = match &attribute.value {
            Value::Text(text) => proto::any_value::Value::StringValue(text.clone()),
            Value::Number(number) => proto::any_value::Value::IntValue(*number),
        };
        key_value(attribute.key, value)
    });
    let parent = match span.parent_id {
        0 => Vec::new(),
        parent => parent.to_be_bytes().to_vec(),
    };
    proto::Span {
        trace_id: span.trace_id.to_be_bytes().to_vec(),
        span_id: span.span_id.to_be_bytes().to_vec(),
        parent_span_id: parent,
        name: span.name.clone(),
        kind: span.kind,
        start_time_unix_nano: span.start.0.saturating_mul(1_000_000),
        end_time_unix_nano: span.end.0.saturating_mul(1_000_000),
        attributes: attributes.collect(),
    }
}
