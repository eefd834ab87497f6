//! The gRPC API of queues: publishing, reading, calls, as a client in another language has them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::publish_result::Result as Published;
use weir_proto::queue::v1::queue_client::QueueClient;
use weir_proto::queue::v1::read_request::From;
use weir_wire::batch::{Attributes, BatchBuilder, NewHeader, NewRecord};
use weir_wire::{ProducerEpoch, ProducerId};

use crate::client::{Client, PATIENCE, TestBroker, build, eventually, values};

/// Lines of configuration that open the port.
pub(crate) const PORT: &str = "  grpc: { bind: \"127.0.0.1:0\" }\n";

pub(crate) fn queue_at(address: Option<SocketAddr>) -> QueueClient<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{}", address.unwrap())).unwrap();
    QueueClient::new(endpoint.connect_lazy())
}

/// A broker, a client of Kafka's, and one of gRPC.
pub(crate) async fn start() -> (TestBroker, Client, QueueClient<Channel>) {
    let broker = TestBroker::start_with(PORT).await;
    let kafka = broker.connect().await;
    let queue = queue_at(broker.running.addresses().grpc);
    (broker, kafka, queue)
}

pub(crate) fn message(value: &str) -> proto::Message {
    proto::Message {
        value: Some(Bytes::copy_from_slice(value.as_bytes())),
        ..proto::Message::default()
    }
}

pub(crate) fn value(message: Option<&proto::Message>) -> String {
    let value = message.unwrap().value.clone().unwrap();
    String::from_utf8(value.to_vec()).unwrap()
}

fn to(topic: &str, message: proto::Message) -> proto::PublishRequest {
    proto::PublishRequest {
        topic: topic.to_owned(),
        partition: None,
        message: Some(message),
    }
}

pub(crate) async fn publish(queue: &mut QueueClient<Channel>, topic: &str, of: &str) -> (i32, i64) {
    let published = queue.publish(to(topic, message(of))).await.unwrap();
    let published = published.into_inner();
    (published.partition, published.offset)
}

fn from(topic: &str, from: From) -> proto::ReadRequest {
    proto::ReadRequest {
        topic: topic.to_owned(),
        from: Some(from),
        ..proto::ReadRequest::default()
    }
}

/// The first `count` messages that a reader gets, and none that comes with them.
async fn read(
    queue: &mut QueueClient<Channel>,
    request: proto::ReadRequest,
    count: usize,
) -> Vec<proto::Received> {
    let mut stream = queue.read(request).await.unwrap().into_inner();
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        all.extend(next.unwrap().unwrap().unwrap().messages);
    }
    assert_eq!(all.len(), count, "{all:?}");
    all
}

fn values_of(received: &[proto::Received]) -> Vec<String> {
    let messages = received.iter();
    messages
        .map(|received| value(received.message.as_ref()))
        .collect()
}

fn full() -> proto::Message {
    proto::Message {
        key: Some(Bytes::from_static(b"customer-7")),
        headers: vec![
            proto::Header {
                name: "colour".into(),
                value: Some(Bytes::from_static(b"red")),
            },
            proto::Header {
                name: "nothing".into(),
                value: None,
            },
        ],
        timestamp_ms: 1_700_000_000_000,
        priority: Some(7),
        tags: vec!["paid".into(), "express".into()],
        reply_to: "answers".into(),
        correlation_id: "one".into(),
        message_id: "id-1".into(),
        trace_parent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into(),
        ..message("order")
    }
}

#[tokio::test]
async fn a_message_keeps_its_fields_and_kafka_s_clients_see_them_as_headers() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    let published = queue.publish(to("t", full())).await.unwrap().into_inner();
    assert_eq!((published.partition, published.offset), (0, 0));
    let received = read(&mut queue, from("t", From::Earliest(true)), 1).await;
    assert_eq!(received[0].message, Some(full()));
    assert_eq!((received[0].partition, received[0].offset), (0, 0));
    let data = kafka.fetch_from("t", 0, 0).await;
    assert_eq!(values(&data), [(0, "order".to_owned())]);
    let parts = data.records.unwrap();
    let bytes: Vec<u8> = parts
        .parts()
        .iter()
        .flat_map(|part| match part {
            weir_wire::RecordsPart::Bytes(bytes) => bytes.to_vec(),
            weir_wire::RecordsPart::File(_) => panic!("records in memory wanted"),
        })
        .collect();
    let batch = weir_wire::batch::batches(&bytes).next().unwrap().unwrap();
    let record = batch.records().unwrap().next().unwrap().unwrap();
    let headers: Vec<_> = record
        .headers
        .iter()
        .map(|header| {
            let value = header.value.unwrap_or(b"-");
            (header.key, std::str::from_utf8(value).unwrap())
        })
        .collect();
    let expected = [
        ("colour", "red"),
        ("nothing", "-"),
        ("weir-priority", "7"),
        ("weir-tags", "paid,express"),
        ("weir-reply-to", "answers"),
        ("weir-correlation-id", "one"),
        ("weir-message-id", "id-1"),
        (
            "traceparent",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ),
    ];
    assert_eq!(headers, expected);
    broker.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field_s_name() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 2, &[]).await;
    let refused = |answer: Result<_, Status>| answer.map(|_: tonic::Response<_>| ()).unwrap_err();
    let nowhere = refused(queue.publish(to("nowhere", message("a"))).await);
    assert_eq!(nowhere.code(), Code::NotFound);
    let error = nowhere.metadata().get("weir-error").unwrap();
    assert_eq!(error, "UNKNOWN_TOPIC_OR_PARTITION");
    let wrong = proto::PublishRequest {
        partition: Some(2),
        ..to("t", message("a"))
    };
    assert_eq!(refused(queue.publish(wrong).await).code(), Code::NotFound);
    let wrong = proto::Message {
        priority: Some(10),
        ..message("a")
    };
    let wrong = refused(queue.publish(to("t", wrong)).await);
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("message.priority"), "{wrong}");
    let large = proto::Message {
        value: Some(vec![0; 2 << 20].into()),
        ..proto::Message::default()
    };
    let large = refused(queue.publish(to("t", large)).await);
    assert_eq!(large.code(), Code::InvalidArgument, "{large}");
    // The brokers' own topics are nobody's.
    kafka.find_transactions().await;
    let own = refused(queue.publish(to("__transaction_state", message("a"))).await);
    assert_eq!(own.code(), Code::InvalidArgument, "{own}");
    let wrong = proto::ReadRequest {
        filter: "headers[".into(),
        ..from("t", From::Earliest(true))
    };
    let wrong = queue.read(wrong).await.map(|_| ()).unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
    assert!(wrong.message().starts_with("filter"), "{wrong}");
    let both = from("t", From::Offset(3));
    let both = queue.read(both).await.map(|_| ()).unwrap_err();
    assert_eq!(
        both.code(),
        Code::InvalidArgument,
        "offset of two partitions"
    );
    broker.stop().await;
}

#[tokio::test]
async fn messages_of_a_stream_are_answered_in_order_and_those_of_a_key_stay_in_order() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 3, &[]).await;
    let requests: Vec<_> = (0..600)
        .map(|number: usize| {
            let topic = if number == 300 { "nowhere" } else { "t" };
            let key = format!("k{}", number % 10);
            let message = proto::Message {
                key: Some(key.into()),
                ..message(&number.to_string())
            };
            to(topic, message)
        })
        .collect();
    let answers = queue.publish_stream(futures::stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let mut places = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result.unwrap() {
            Published::Published(at) => places.push((at.partition, at.offset)),
            Published::Refused(refused) => {
                assert_eq!(places.len(), 300);
                assert_eq!(refused.code, 5, "{refused:?}");
                places.push((-1, -1));
            }
        }
    }
    assert_eq!(places.len(), 600);
    let mut received = read(&mut queue, from("t", From::Earliest(true)), 599).await;
    received.sort_by_key(|received| (received.partition, received.offset));
    for received in &received {
        let number: usize = value(received.message.as_ref()).parse().unwrap();
        assert_eq!(places[number], (received.partition, received.offset));
    }
    for key in 0..10 {
        let own = (0..600).filter(|number| number % 10 == key && *number != 300);
        let own: Vec<_> = own.map(|number| places[number]).collect();
        assert!(own.is_sorted() && own.windows(2).all(|two| two[0].0 == two[1].0));
    }
    broker.stop().await;
}

#[tokio::test]
async fn a_full_queue_takes_exactly_its_bound_and_says_sold_out() {
    let (broker, mut kafka, mut queue) = start().await;
    let bound = [
        ("weir.queue.group", "tills"),
        ("weir.queue.max.messages", "100"),
    ];
    kafka.create_topic("t", 1, &bound).await;
    let requests: Vec<_> = (0..150).map(|_| to("t", message("ticket"))).collect();
    let answers = queue.publish_stream(futures::stream::iter(requests)).await;
    let mut answers = answers.unwrap().into_inner();
    let (mut taken, mut refused) = (0, 0);
    while let Some(answer) = answers.message().await.unwrap() {
        match answer.result.unwrap() {
            Published::Published(_) => taken += 1,
            Published::Refused(why) => {
                assert_eq!((why.code, why.error.as_str()), (8, "POLICY_VIOLATION"));
                refused += 1;
            }
        }
    }
    assert_eq!((taken, refused), (100, 50));
    let alone = queue.publish(to("t", message("ticket"))).await.unwrap_err();
    assert_eq!(alone.code(), Code::ResourceExhausted);
    assert!(alone.message().contains("at most 100"), "{alone}");
    broker.stop().await;
}

#[tokio::test]
async fn a_reader_begins_where_it_wants_and_goes_on_with_what_comes() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    for (number, text) in ["a", "b", "c"].into_iter().enumerate() {
        let time = 1_700_000_000_000 + i64::try_from(number).unwrap() * 1_000;
        let message = proto::Message {
            timestamp_ms: time,
            ..message(text)
        };
        queue.publish(to("t", message)).await.unwrap();
    }
    let all = read(&mut queue, from("t", From::Earliest(true)), 3).await;
    assert_eq!(values_of(&all), ["a", "b", "c"]);
    let timed = from("t", From::TimestampMs(1_700_000_000_500));
    assert_eq!(values_of(&read(&mut queue, timed, 2).await), ["b", "c"]);
    let placed = proto::ReadRequest {
        partitions: vec![0],
        ..from("t", From::Offset(2))
    };
    assert_eq!(values_of(&read(&mut queue, placed, 1).await), ["c"]);
    // Once the stream has begun, everything that is published is read by it.
    let latest = from("t", From::Latest(true));
    let mut stream = queue.read(latest).await.unwrap().into_inner();
    publish(&mut queue, "t", "d").await;
    let next = stream.message().await.unwrap().unwrap();
    assert_eq!(values_of(&next.messages), ["d"]);
    let beyond = proto::ReadRequest {
        partitions: vec![0],
        ..from("t", From::Offset(99))
    };
    let mut beyond = queue.read(beyond).await.unwrap().into_inner();
    let refused = beyond.message().await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    broker.stop().await;
}

#[tokio::test]
async fn a_reader_is_given_what_its_filter_lets_through() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    for (region, tag) in [
        ("eu", "paid"),
        ("us", "paid"),
        ("eu", "open"),
        ("eu", "paid"),
    ] {
        let message = proto::Message {
            headers: vec![proto::Header {
                name: "region".into(),
                value: Some(Bytes::from_static(region.as_bytes())),
            }],
            tags: vec![tag.into()],
            ..message(tag)
        };
        queue.publish(to("t", message)).await.unwrap();
    }
    let request = proto::ReadRequest {
        filter: "headers.region == 'eu'".into(),
        tags: "paid || refunded".into(),
        ..from("t", From::Earliest(true))
    };
    let received = read(&mut queue, request, 2).await;
    let offsets: Vec<_> = received.iter().map(|received| received.offset).collect();
    assert_eq!(offsets, [0, 3]);
    broker.stop().await;
}

#[tokio::test]
async fn a_reader_is_given_nothing_of_a_transaction_that_is_aborted() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    kafka.find_transactions().await;
    let mut who = kafka.init().await;
    for (committed, text) in [(false, "no"), (true, "yes")] {
        kafka.add(who, "t", &[0]).await;
        let batch = BatchBuilder::new()
            .producer(ProducerId(who.0), ProducerEpoch(who.1), 0)
            .attributes(Attributes::default().with_transactional(true));
        let request = weir_wire::messages::ProduceRequest {
            transactional_id: Some("payments".to_owned()),
            ..crate::client::produce("t", 0, build(batch, &[text]))
        };
        let body = kafka.call(10, &request).await;
        assert_eq!(crate::client::produced(&body, 10).error_code, 0);
        who = kafka.end(5, who, committed).await;
    }
    publish(&mut queue, "t", "plain").await;
    let received = read(&mut queue, from("t", From::Earliest(true)), 2).await;
    assert_eq!(values_of(&received), ["yes", "plain"]);
    broker.stop().await;
}

fn calling(topic: &str, text: &str, within: Duration) -> Request<proto::CallRequest> {
    let mut request = Request::new(proto::CallRequest {
        topic: topic.to_owned(),
        partition: None,
        message: Some(message(text)),
    });
    request.set_timeout(within);
    request
}

#[tokio::test]
async fn a_call_is_answered_by_whoever_reads_it() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("questions", 1, &[]).await;
    let questions = from("questions", From::Latest(true));
    let mut questions = queue.read(questions).await.unwrap().into_inner();
    let mut answering = queue.clone();
    let answers = tokio::spawn(async move {
        let mut answered = 0;
        while answered < 20 {
            for question in questions.message().await.unwrap().unwrap().messages {
                let question = question.message.unwrap();
                let answer = format!("re: {}", value(Some(&question)));
                let reply = proto::ReplyRequest {
                    reply_to: question.reply_to,
                    correlation_id: question.correlation_id,
                    message: Some(message(&answer)),
                };
                answering.reply(reply).await.unwrap();
                answered += 1;
            }
        }
    });
    let calls = (0..20).map(|number| {
        let mut queue = queue.clone();
        async move {
            let text = number.to_string();
            let call = calling("questions", &text, PATIENCE);
            let reply = queue.call(call).await.unwrap().into_inner();
            assert_eq!(value(reply.message.as_ref()), format!("re: {text}"));
        }
    });
    futures::future::join_all(calls).await;
    answers.await.unwrap();
    let (_, metrics) = broker.http("/metrics").await;
    for line in [
        "weir_call_requests_total{outcome=\"replied\"} 20\n",
        "weir_call_requests_total{outcome=\"expired\"} 0\n",
        "weir_call_requests_waiting 0\n",
        "weir_call_duration_seconds_count 20\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
    // A thousand callers, and one topic.
    let image = broker.running.broker().metadata.image();
    let topics: Vec<_> = image
        .topics()
        .filter(|topic| topic.name.starts_with("weir-replies"))
        .map(|topic| topic.name.to_string())
        .collect();
    assert_eq!(topics, ["weir-replies-0"]);
    broker.stop().await;
}

#[tokio::test]
async fn a_kafka_client_answers_by_a_record_and_a_reply_that_comes_late_is_dropped() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("questions", 1, &[]).await;
    // Nobody answers within the deadline.
    let call = calling("questions", "late", Duration::from_millis(300));
    let late = queue.call(call).await.unwrap_err();
    assert!(
        matches!(late.code(), Code::DeadlineExceeded | Code::Cancelled),
        "{late}"
    );
    let mut asking = queue.clone();
    let call = calling("questions", "now", PATIENCE);
    let asked = tokio::spawn(async move { asking.call(call).await.unwrap().into_inner() });
    let questions = read(&mut queue, from("questions", From::Earliest(true)), 2).await;
    for question in questions {
        let question = question.message.unwrap();
        let text = format!("re: {}", value(Some(&question)));
        let headers = [NewHeader {
            key: "weir-correlation-id",
            value: Some(question.correlation_id.as_bytes()),
        }];
        let mut batch = BatchBuilder::new();
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            key: None,
            value: Some(text.as_bytes()),
            headers: &headers,
        };
        batch.push(&record).unwrap();
        let batch = batch.build();
        let answer = kafka.produce(&question.reply_to, 0, batch).await;
        assert_eq!(answer.error_code, 0);
    }
    let reply = asked.await.unwrap();
    assert_eq!(value(reply.message.as_ref()), "re: now");
    let without = Request::new(proto::CallRequest {
        topic: "questions".to_owned(),
        partition: None,
        message: Some(message("a")),
    });
    let without = queue.call(without).await.unwrap_err();
    assert_eq!(without.code(), Code::InvalidArgument);
    assert!(without.message().contains("deadline"), "{without}");
    broker.stop().await;
}

#[tokio::test]
async fn a_broker_that_stops_ends_streams_and_calls() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    let reading = from("t", From::Earliest(true));
    let mut reading = queue.read(reading).await.unwrap().into_inner();
    let mut asking = queue.clone();
    let asked = tokio::spawn(async move { asking.call(calling("t", "a", PATIENCE)).await });
    // The call is under way when its request is there.
    eventually("the request is published", async || {
        let next = reading.message().await.unwrap()?;
        (!next.messages.is_empty()).then_some(())
    })
    .await;
    tokio::time::timeout(PATIENCE, broker.stop()).await.unwrap();
    let ended = reading.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    let ended = asked.await.unwrap().unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
}
