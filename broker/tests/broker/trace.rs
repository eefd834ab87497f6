//! Where messages were, and when: what brokers remember, and what a collector is sent.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tonic::Code;
use uuid::Uuid;
use weir_broker::queue::trace::proto as otlp;
use weir_broker::start::Running;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_proto::admin::v1::trace_request::Of;
use weir_tls::{Role, Tls, directory};
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord};

use crate::client::{Client, TestBroker, channel, eventually};
use crate::cluster::cluster;
use crate::retries::OF_GROUP;
use crate::share::{ACCEPT, GROUP, Member, REJECT, RELEASE, initialize};

const ALL: (&str, &str) = ("weir.queue.trace.ratio", "1");
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A record with a key, and headers.
fn record(key: &str, headers: &[(&str, &str)]) -> Bytes {
    let headers: Vec<_> = headers
        .iter()
        .map(|(key, value)| NewHeader {
            key,
            value: Some(value.as_bytes()),
        })
        .collect();
    let mut builder = BatchBuilder::new();
    builder
        .push(&NewRecord {
            timestamp_ms: 1_700_000_000_000,
            key: Some(key.as_bytes()),
            value: Some(b"x"),
            headers: &headers,
        })
        .unwrap();
    builder.build()
}

async fn house(settings: &str, config: &[(&str, &str)]) -> (TestBroker, Client, Uuid) {
    let broker = TestBroker::start_with(settings).await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, config).await;
    initialize(&mut client, topic, 0).await;
    (broker, client, topic)
}

async fn send(client: &mut Client, batch: Bytes) -> i64 {
    eventually("it is taken", async || {
        let answer = client.produce("t", 0, batch.clone()).await;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
    .await
}

fn at(offset: i64) -> Of {
    Of::Place(proto::TracePlace {
        partition: 0,
        offset,
    })
}

async fn asked(broker: &TestBroker, of: Of) -> Result<proto::TraceResponse, tonic::Status> {
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let request = proto::TraceRequest {
        topic: "t".to_owned(),
        of: Some(of),
        here: false,
    };
    admin.trace(request).await.map(|answer| answer.into_inner())
}

fn what(events: &[proto::TraceEvent]) -> Vec<&str> {
    events.iter().map(|event| event.what.as_str()).collect()
}

/// Waits until the last event is this.
async fn until(broker: &TestBroker, of: Of, last: &str) -> Vec<proto::TraceEvent> {
    eventually("it has come to that", async || {
        let events = asked(broker, of.clone()).await.unwrap().events;
        let is_last = events.last().is_some_and(|event| event.what == last);
        is_last.then_some(events)
    })
    .await
}

/// Waits until all of these have been told, in whatever order: what is done at the same time is.
async fn until_all(broker: &TestBroker, of: Of, all: &[&str]) -> Vec<proto::TraceEvent> {
    eventually("all of it is told", async || {
        let events = asked(broker, of.clone()).await.unwrap().events;
        let is_told = |what: &&str| events.iter().any(|event| event.what == **what);
        all.iter().all(is_told).then_some(events)
    })
    .await
}

/// Takes what OpenTelemetry's collector would.
async fn collector() -> (String, Arc<Mutex<Vec<otlp::Span>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let spans: Arc<Mutex<Vec<otlp::Span>>> = Arc::default();
    let taken = Arc::clone(&spans);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut bytes, mut part) = (Vec::new(), [0; 4_096]);
            let (head, length) = loop {
                let read = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..read]);
                let text = String::from_utf8_lossy(&bytes).to_lowercase();
                if let Some(head) = text.find("\r\n\r\n") {
                    let length = text[..head].split("content-length: ").nth(1).unwrap();
                    let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
                    assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
                    assert!(
                        text.contains("content-type: application/x-protobuf"),
                        "{text}"
                    );
                    break (head + 4, length);
                }
                assert!(read > 0, "a request that is cut off");
            };
            while bytes.len() < head + length {
                let read = stream.read(&mut part).await.unwrap();
                bytes.extend_from_slice(&part[..read]);
            }
            let request = otlp::ExportTraceServiceRequest::decode(&bytes[head..]).unwrap();
            for of_resource in request.resource_spans {
                let of_scope = of_resource.scope_spans.into_iter();
                let new = of_scope.flat_map(|scope| scope.spans);
                taken.lock().unwrap().extend(new);
            }
            let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(answer).await.unwrap();
        }
    });
    (address, spans)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_message_is_traced_from_its_append_to_its_dead_letter() {
    let (address, spans) = collector().await;
    let settings = format!("tracing: {{ otlp_endpoint: \"http://{address}\" }}\n");
    let (broker, mut client, topic) = house(&settings, &[ALL]).await;
    let group = [
        ("errors.deadletterqueue.topic.name", "dlq.t"),
        ("weir.share.retry.backoff.ms", "100"),
    ];
    client.set_configs(OF_GROUP, GROUP, &group).await;
    let takes = [("errors.deadletterqueue.group.enable", "true")];
    client.create_topic("dlq.t", 1, &takes).await;
    let parent = format!("00-{TRACE}-{PARENT}-01");
    let headers = [("traceparent", parent.as_str()), ("weir-message-id", "m-1")];
    assert_eq!(send(&mut client, record("order-7", &headers)).await, 0);
    send(&mut client, record("order-8", &[])).await;
    let mut member = Member::new(&broker, "mia", topic).await;
    assert_eq!(member.take().await, [(0, 1, 1)]);
    assert_eq!(member.acked(&[(0, 0, RELEASE), (1, 1, ACCEPT)]).await, 0);
    assert_eq!(member.take().await, [(0, 0, 2)]);
    assert_eq!(member.acked(&[(0, 0, REJECT)]).await, 0);
    let events = until(&broker, at(0), "dead-lettered").await;
    assert_eq!(
        what(&events),
        [
            "appended",
            "replicated",
            "delivered",
            "released",
            "parked",
            "delivered",
            "rejected",
            "given up",
            "dead-lettered"
        ]
    );
    let of = |number: usize| &events[number];
    assert_eq!(of(0).client_id, "test");
    assert!(of(0).address.starts_with("127.0.0.1:"), "{}", of(0).address);
    assert_eq!(
        (of(2).group.as_str(), of(2).member.as_str()),
        (GROUP, "mia")
    );
    assert_eq!((of(2).deliveries, of(5).deliveries), (Some(1), Some(2)));
    assert!(of(4).until_ms.unwrap() > of(3).time_ms);
    assert_eq!(
        (of(8).to_topic.as_str(), of(8).to_partition),
        ("dlq.t", Some(0))
    );
    // By its key and its id it is the same, and the other one another.
    for of in [Of::Key(b"order-7".to_vec()), Of::Id(b"m-1".to_vec())] {
        assert_eq!(asked(&broker, of).await.unwrap().events, events);
    }
    let other = asked(&broker, Of::Key(b"order-8".to_vec())).await.unwrap();
    assert_eq!(
        what(&other.events),
        ["appended", "replicated", "delivered", "accepted"]
    );
    // Its spans are part of the trace that it is part of, below the span that sent it.
    let of_trace = eventually("the spans have come", async || {
        let spans = spans.lock().unwrap().clone();
        let of_trace = spans
            .into_iter()
            .filter(|span| hex(&span.trace_id) == TRACE);
        let of_trace: Vec<_> = of_trace.collect();
        (of_trace.len() >= 4).then_some(of_trace)
    })
    .await;
    let mut names: Vec<_> = of_trace.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        ["dead letter t", "process t", "process t", "publish t"]
    );
    for span in &of_trace {
        assert_eq!(hex(&span.parent_span_id), PARENT);
        assert!(span.start_time_unix_nano <= span.end_time_unix_nano);
    }
    let (_, metrics) = broker.http("/metrics").await;
    assert!(
        metrics.contains("weir_trace_spans_dropped_total 0"),
        "{metrics}"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_not_traced_is_not_remembered_unless_it_says_that_it_is_sampled() {
    let part = [("weir.queue.trace.ratio", "0.000001")];
    let (broker, mut client, _) = house("", &part).await;
    send(&mut client, record("a", &[])).await;
    let unsampled = format!("00-{TRACE}-{PARENT}-00");
    send(&mut client, record("a", &[("traceparent", &unsampled)])).await;
    let bad = format!("00-{TRACE}-{PARENT}-1");
    send(&mut client, record("a", &[("traceparent", &bad)])).await;
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    send(&mut client, record("a", &[("traceparent", &sampled)])).await;
    let events = until(&broker, Of::Key(b"a".to_vec()), "replicated").await;
    let offsets: Vec<_> = events.iter().map(|event| event.offset).collect();
    assert_eq!(offsets, [3, 3]);
    // Off, whatever a message says.
    client
        .set_configs(2, "t", &[("weir.queue.trace.ratio", "0")])
        .await;
    eventually("nothing is remembered", async || {
        let events = asked(&broker, at(3)).await.unwrap().events;
        events.is_empty().then_some(())
    })
    .await;
    assert_eq!(client.alter_configs(2, "t", &[(1, ALL.0, None)]).await, 0);
    let refused = eventually("it is known that nothing is traced", async || {
        asked(&broker, at(0)).await.err()
    })
    .await;
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let wrong = asked(
        &broker,
        Of::Place(proto::TracePlace {
            partition: 4,
            offset: 0,
        }),
    )
    .await;
    let wrong = wrong.unwrap_err();
    assert_eq!(wrong.code(), Code::NotFound);
    assert!(wrong.message().contains("has 1 partitions"), "{wrong:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_delayed_expires_or_is_given_back_says_so() {
    let config = [
        ALL,
        ("weir.queue.delay.max.ms", "3600000"),
        ("weir.queue.message.ttl.ms", "600000"),
    ];
    let (broker, mut client, topic) = house("", &config).await;
    // It is older than the topic allows.
    send(&mut client, record("old", &[])).await;
    let receipt = send(&mut client, record("later", &[("weir-delay-ms", "300")])).await;
    let mut member = Member::new(&broker, "mia", topic).await;
    let taken = member.take().await;
    let due = taken[0].0;
    assert_ne!(due, receipt);
    // Who has it is gone, without a word.
    drop(member);
    let all = ["appended", "delayed", "due", "delivered", "returned"];
    let events = until_all(&broker, Of::Key(b"later".to_vec()), &all).await;
    let mut named: Vec<_> = events
        .iter()
        .map(|event| (event.offset, event.what.as_str()))
        .collect();
    // The receipt is replicated when the broker gets to it.
    named.retain(|event| event.1 != "replicated");
    named.sort_unstable();
    assert_eq!(
        named,
        [
            (receipt, "appended"),
            (receipt, "delayed"),
            (due, "delivered"),
            (due, "due"),
            (due, "returned")
        ]
    );
    let is_due = events.iter().find(|event| event.what == "due").unwrap();
    assert_eq!(is_due.receipt, Some(receipt));
    let all = ["appended", "replicated", "expired"];
    let old = until_all(&broker, Of::Key(b"old".to_vec()), &all).await;
    assert_eq!(old.len(), all.len(), "{old:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn a_collector_that_is_away_holds_nobody_up_and_is_counted() {
    // Nobody listens there: the port was just given back.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let settings = format!("tracing: {{ otlp_endpoint: \"http://{address}\" }}\n");
    let (broker, mut client, _) = house(&settings, &[ALL]).await;
    for _ in 0..20 {
        send(&mut client, record("a", &[])).await;
    }
    eventually("the spans are dropped", async || {
        let (_, metrics) = broker.http("/metrics").await;
        let line = metrics
            .lines()
            .find(|line| line.starts_with("weir_trace_spans_dropped_total "));
        let count = line.and_then(|line| line.split(' ').nth(1));
        (count == Some("20")).then_some(())
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn any_broker_tells_what_all_remember() {
    let (brokers, dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    crate::replication::create(&mut client, "t").await;
    client.set_configs(2, "t", &[ALL]).await;
    let all: Vec<&Running> = brokers.iter().collect();
    crate::replication::until("all know that it is traced", || {
        all.iter().all(|broker| {
            let image = broker.broker().metadata.image();
            let topic = image.topic("t");
            topic.is_some_and(|topic| topic.config.contains_key(ALL.0))
        })
    })
    .await;
    let led = crate::replication::leader(&brokers[0], "t").unwrap();
    let tls = || Tls::from_files(directory::files(&dir.path().join("tls"), Role::Operator));
    for broker in &brokers {
        let mut admin = AdminClient::new(channel(broker.addresses().quorum, tls().unwrap()));
        let events = eventually("it is remembered", async || {
            crate::replication::produce(&all, "t", record("k", &[])).await;
            let request = proto::TraceRequest {
                topic: "t".to_owned(),
                of: Some(Of::Key(b"k".to_vec())),
                here: false,
            };
            let answer = admin.trace(request).await.unwrap().into_inner();
            assert_eq!(answer.unheard, Vec::<i32>::new());
            let is_there = answer.events.iter().any(|event| event.what == "replicated");
            is_there.then_some(answer.events)
        })
        .await;
        let led = i32::try_from(led).unwrap();
        assert!(events.iter().all(|event| event.broker == led), "{events:?}");
    }
    for broker in brokers {
        broker.stop().await;
    }
}
