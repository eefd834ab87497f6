//! Views: what matches, in order, each once, whatever fails meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use tonic::Code;
use weir_broker::queue::view::COPIER;
use weir_broker::start::{OnFatal, Running, start};
use weir_wire::MessageView;
use weir_wire::batch::{
    Attributes, BatchBuilder, Compression, NewHeader, NewRecord, batches, only_batch,
};
use weir_wire::messages::create_partitions_request::CreatePartitionsTopic;
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig,
};
use weir_wire::messages::{
    CreatePartitionsRequest, CreatePartitionsResponseView, CreateTopicsRequest,
    CreateTopicsResponseView, ErrorCode, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponseView,
};
use weir_wire::{ProducerEpoch, ProducerId, RecordsPart};

use crate::client::{Client, TestBroker, batch, eventually, values};
use crate::cluster::cluster_with;
use crate::deleting::delete;
use crate::grpc::message;
use crate::replication::{in_sync, leader, produce, until};

const OF: &str = "weir.queue.view.of";
const FILTER: &str = "weir.queue.view.filter";
/// The records of the tests are of any time.
const KEPT: (&str, &str) = ("retention.ms", "-1");
const BIG: [(&str, &str); 3] = [(OF, "t"), (FILTER, "int(headers.n) >= 10"), KEPT];

/// Records with these numbers as key, value and header `n`.
fn numbers(mut builder: BatchBuilder, numbers: impl IntoIterator<Item = i64>) -> Bytes {
    for number in numbers {
        let text = number.to_string();
        let headers = [NewHeader {
            key: "n",
            value: Some(text.as_bytes()),
        }];
        builder
            .push(&NewRecord {
                timestamp_ms: 1_000_000 + number,
                key: Some(text.as_bytes()),
                value: Some(text.as_bytes()),
                headers: &headers,
            })
            .unwrap();
    }
    builder.build()
}

fn plain(of: impl IntoIterator<Item = i64>) -> Bytes {
    numbers(BatchBuilder::new(), of)
}

fn bytes_of(data: &PartitionData) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in data.records.iter().flat_map(|records| records.parts()) {
        let RecordsPart::Bytes(part) = part else {
            panic!("records in memory wanted")
        };
        bytes.extend_from_slice(part);
    }
    bytes
}

/// What a plain consumer has of a partition, from its start.
async fn all_of(client: &mut Client, topic: &str, partition: i32) -> Vec<i64> {
    let mut seen = Vec::new();
    let mut next = 0;
    loop {
        let data = client.fetch_from(topic, partition, next).await;
        if data.error_code == ErrorCode::OffsetOutOfRange.code() && next < 1_000 {
            // The log begins later.
            next += 1;
            continue;
        }
        if data.error_code != 0 {
            return Vec::new();
        }
        let new = values(&data).into_iter().filter(|(at, _)| *at >= next);
        seen.extend(new.map(|(_, value)| value.parse::<i64>().unwrap()));
        let bytes = bytes_of(&data);
        let Some(last) = batches(&bytes).last() else {
            return seen;
        };
        next = last.unwrap().header().next_offset().0;
    }
}

/// Waits until a partition's last message is this one, and gives all of them.
async fn up_to(client: &mut Client, topic: &str, partition: i32, last: i64) -> Vec<i64> {
    eventually("the view has come so far", async || {
        let seen = all_of(client, topic, partition).await;
        (seen.last() == Some(&last)).then_some(seen)
    })
    .await
}

async fn send(client: &mut Client, partition: i32, batch: Bytes) {
    let answer = client.produce("t", partition, batch).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
}

/// What creating a topic is answered.
async fn made(
    client: &mut Client,
    name: &str,
    partitions: i32,
    replicas: i16,
    config: &[(&str, &str)],
) -> (ErrorCode, String) {
    let configs = config.iter().map(|(name, value)| CreatableTopicConfig {
        name: (*name).to_owned(),
        value: Some((*value).to_owned()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: replicas,
            configs: configs.collect(),
            ..CreatableTopic::default()
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    let body = client.call(7, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    let answer = &response.topics[0];
    let code = ErrorCode::from_code(answer.error_code).unwrap();
    if code == ErrorCode::None {
        client.until_open(name, 0..partitions).await;
    }
    (code, answer.error_message.clone().unwrap_or_default())
}

async fn altered(client: &mut Client, topic: &str, key: &str, value: &str) -> (ErrorCode, String) {
    let request = IncrementalAlterConfigsRequest {
        resources: vec![AlterConfigsResource {
            resource_type: 2,
            resource_name: topic.to_owned(),
            configs: vec![AlterableConfig {
                name: key.to_owned(),
                config_operation: 0,
                value: Some(value.to_owned()),
            }],
        }],
        validate_only: false,
    };
    let body = client.call(1, &request).await;
    let response = IncrementalAlterConfigsResponseView::decode(&body, 1)
        .unwrap()
        .to_owned();
    let answer = &response.responses[0];
    let code = ErrorCode::from_code(answer.error_code).unwrap();
    (code, answer.error_message.clone().unwrap_or_default())
}

async fn grown(client: &mut Client, topic: &str, count: i32) -> (ErrorCode, String) {
    let request = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic {
            name: topic.to_owned(),
            count,
            assignments: None,
        }],
        timeout_ms: 10_000,
        validate_only: false,
    };
    let body = client.call(3, &request).await;
    let response = CreatePartitionsResponseView::decode(&body, 3)
        .unwrap()
        .to_owned();
    let answer = &response.results[0];
    let code = ErrorCode::from_code(answer.error_code).unwrap();
    if code == ErrorCode::None {
        client.until_open(topic, 0..count).await;
    }
    (code, answer.error_message.clone().unwrap_or_default())
}

#[tokio::test]
async fn a_plain_consumer_of_a_view_sees_what_matches_as_it_was_sent() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 2, &[KEPT]).await;
    send(&mut client, 0, plain(0..20)).await;
    client.create_topic("v", 2, &BIG).await;
    send(&mut client, 0, plain([3, 12, 4, 11])).await;
    let inflated = plain(5..30);
    let zipped = only_batch(&inflated).unwrap().inflated().unwrap();
    let zipped = zipped.recompress(Compression::Lz4, None).unwrap();
    send(&mut client, 1, zipped).await;
    // Nobody can tell its number: it makes no sense to the filter.
    send(&mut client, 1, batch(&["no number"])).await;
    send(&mut client, 1, plain([99])).await;
    let expected: Vec<_> = (10..20).chain([12, 11]).collect();
    assert_eq!(up_to(&mut client, "v", 0, 11).await, expected);
    let expected: Vec<_> = (10..30).chain([99]).collect();
    assert_eq!(up_to(&mut client, "v", 1, 99).await, expected);
    let bytes = bytes_of(&client.fetch_from("v", 1, 0).await);
    let mut codecs = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        assert!(!batch.header().attributes.is_control(), "nobody sees words");
        if batch.header().record_count == 0 {
            continue;
        }
        codecs.push(batch.header().attributes.compression());
        for record in batch.inflated().unwrap().iter().unwrap() {
            let record = record.unwrap();
            let number = std::str::from_utf8(record.value.unwrap()).unwrap();
            assert_eq!(record.key, record.value);
            assert_eq!(
                record.timestamp_ms,
                1_000_000 + number.parse::<i64>().unwrap()
            );
            let headers: Vec<_> = record.headers.iter().collect();
            assert_eq!(headers.len(), 1);
            assert_eq!((headers[0].key, headers[0].value), ("n", record.value));
        }
    }
    assert_eq!(codecs.first(), Some(&Compression::Lz4));
    let metrics = eventually("the view is said to have everything", async || {
        let (_, metrics) = broker.http("/metrics").await;
        let has_all = metrics.contains("weir_topic_view_lag_messages{topic=\"v\"} 0");
        has_all.then_some(metrics)
    })
    .await;
    assert!(!metrics.contains("weir_topic_view_lag_messages{topic=\"t\"}"));
    broker.running.stop().await;
}

#[tokio::test]
async fn a_view_can_have_what_has_a_tag() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[KEPT]).await;
    let of_tags = |filter| [(OF, "t"), (FILTER, filter), KEPT];
    let (code, why) = made(&mut client, "v", 1, 1, &of_tags("tags == 'red'")).await;
    assert_eq!(code, ErrorCode::InvalidConfig);
    assert!(why.contains("line 1, column 1: tags is a list"), "{why}");
    client.create_topic("v", 1, &of_tags("'red' in tags")).await;
    let tags = ["red", "blue", "blue, red", "redder", "red"];
    let mut builder = BatchBuilder::new();
    for (number, tags) in tags.iter().enumerate() {
        let headers = [NewHeader {
            key: "weir-tags",
            value: Some(tags.as_bytes()),
        }];
        let text = number.to_string();
        let record = NewRecord {
            timestamp_ms: 1_000_000,
            value: Some(text.as_bytes()),
            headers: &headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    send(&mut client, 0, plain([7])).await;
    send(&mut client, 0, builder.build()).await;
    assert_eq!(up_to(&mut client, "v", 0, 4).await, [0, 2, 4]);
    broker.running.stop().await;
}

#[tokio::test]
async fn nobody_else_writes_to_a_view() {
    let (broker, mut client, mut queue) = crate::grpc::start().await;
    client.create_topic("t", 1, &[KEPT]).await;
    client.create_topic("v", 1, &BIG).await;
    let answer = client.produce("v", 0, plain([77])).await;
    assert_eq!(answer.error_code, ErrorCode::PolicyViolation.code());
    let message_of = answer.error_message.unwrap();
    assert!(message_of.contains("a view of topic t"), "{message_of}");
    let request = weir_proto::queue::v1::PublishRequest {
        topic: "v".to_owned(),
        message: Some(message("77")),
        ..Default::default()
    };
    let status = queue.publish(request).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(status.message().contains("a view of topic t"), "{status:?}");
    // Nor does anyone in the copier's name, anywhere.
    let forged = BatchBuilder::new().producer(COPIER, ProducerEpoch(0), 0);
    let answer = client.produce("t", 0, numbers(forged, [1])).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRecord.code());
    send(&mut client, 0, plain([10])).await;
    assert_eq!(up_to(&mut client, "v", 0, 10).await, [10]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_view_goes_on_where_it_was_after_a_restart_and_with_another_filter() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[KEPT]).await;
    client.create_topic("v", 1, &BIG).await;
    send(&mut client, 0, plain(0..15)).await;
    up_to(&mut client, "v", 0, 14).await;
    // Enough passed over to be written down by itself, and some that is not.
    for _ in 0..12 {
        send(&mut client, 0, plain((0..1_000).map(|number| number % 10))).await;
    }
    send(&mut client, 0, plain([15, 3])).await;
    up_to(&mut client, "v", 0, 15).await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    send(&mut client, 0, plain([16])).await;
    assert_eq!(
        up_to(&mut client, "v", 0, 16).await,
        (10..17).collect::<Vec<_>>()
    );
    // What was passed over stays passed over, also for whoever leads next.
    client
        .set_configs(2, "v", &[(FILTER, "int(headers.n) < 10")])
        .await;
    eventually("the filter is followed", async || {
        send(&mut client, 0, plain([9])).await;
        let seen = all_of(&mut client, "v", 0).await;
        (seen.last() == Some(&9)).then_some(())
    })
    .await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    send(&mut client, 0, plain([20, 5])).await;
    let seen = up_to(&mut client, "v", 0, 5).await;
    assert_eq!(seen[..7], (10..17).collect::<Vec<_>>());
    assert!(
        seen[7..seen.len() - 1].iter().all(|number| *number == 9),
        "{seen:?}"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_aborted_or_undecided_never_appears() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[KEPT]).await;
    client.create_topic("v", 1, &BIG).await;
    client.find_transactions().await;
    let mut who = client.init().await;
    for (committed, number) in [(false, 66), (true, 20), (false, 67), (true, 21)] {
        client.add(who, "t", &[0]).await;
        let builder = BatchBuilder::new()
            .producer(ProducerId(who.0), ProducerEpoch(who.1), 0)
            .attributes(Attributes::default().with_transactional(true));
        let request = weir_wire::messages::ProduceRequest {
            transactional_id: Some("payments".to_owned()),
            ..crate::client::produce("t", 0, numbers(builder, [number]))
        };
        let body = client.call(10, &request).await;
        assert_eq!(crate::client::produced(&body, 10).error_code, 0);
        // Behind what is undecided, and so is this.
        send(&mut client, 0, plain([number + 100])).await;
        let seen = all_of(&mut client, "v", 0).await;
        assert!(!seen.contains(&(number + 100)), "{seen:?}");
        who = client.end(5, who, committed).await;
    }
    assert_eq!(
        up_to(&mut client, "v", 0, 121).await,
        [166, 20, 120, 167, 21, 121]
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn a_delayed_message_is_in_a_view_when_it_has_come() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let delays = [("weir.queue.delay.max.ms", "3600000"), KEPT];
    client.create_topic("t", 1, &delays).await;
    client.create_topic("v", 1, &[(OF, "t"), KEPT]).await;
    let later = |ms: &str, value: &str| {
        let mut builder = BatchBuilder::new();
        let headers = [NewHeader {
            key: "weir-delay-ms",
            value: Some(ms.as_bytes()),
        }];
        let record = NewRecord {
            value: Some(value.as_bytes()),
            headers: &headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
        builder.build()
    };
    for batch in [later("500", "2"), later("3000000", "3"), plain([1])] {
        eventually("it is taken", async || {
            let answer = client.produce("t", 0, batch.clone()).await;
            (answer.error_code == 0).then_some(())
        })
        .await;
    }
    assert_eq!(up_to(&mut client, "v", 0, 2).await, [1, 2]);
    broker.running.stop().await;
}

/// Configurations, partitions, and what the refusal has to say.
type Bad<'a> = (&'a [(&'a str, &'a str)], i32, &'a [&'a str]);

#[tokio::test]
async fn what_makes_no_view_is_refused_and_says_why() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 2, &[]).await;
    client.create_topic("v", 2, &[(OF, "t")]).await;
    client.create_topic("plain", 2, &[]).await;
    let bad: [Bad<'_>; 9] = [
        (
            &[(OF, "t"), (FILTER, "headers.n ==")],
            2,
            &[FILTER, "line 1, column"],
        ),
        (&[(FILTER, "key == 'a'")], 2, &[FILTER, OF, "not set"]),
        (&[(OF, "t")], 3, &["has 3 partitions", "\"t\"", "has 2"]),
        (&[(OF, "w")], 2, &["view of itself"]),
        (&[(OF, "v")], 2, &["\"v\" is a view itself", "of \"t\""]),
        (&[(OF, "__consumer_offsets")], 2, &["the brokers' own"]),
        (
            &[(OF, "t"), ("weir.queue.max.messages", "5")],
            2,
            &["weir.queue.max.messages"],
        ),
        (
            &[(OF, "t"), ("weir.queue.delay.max.ms", "5")],
            2,
            &["weir.queue.delay.max.ms"],
        ),
        (
            &[(OF, "t"), ("weir.queue.deduplication.window.ms", "5")],
            2,
            &["weir.queue.deduplication.window.ms"],
        ),
    ];
    for (config, partitions, parts) in bad {
        let (code, message) = made(&mut client, "w", partitions, 1, config).await;
        let expected = match partitions {
            3 => ErrorCode::InvalidPartitions,
            _ => ErrorCode::InvalidConfig,
        };
        assert_eq!(code, expected, "{config:?}: {message}");
        for part in parts {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
    // The same of what is changed.
    client.create_topic("three", 3, &[]).await;
    for (topic, key, value, parts) in [
        ("v", FILTER, "1 +", ["line 1", "column"]),
        ("plain", OF, "v", ["is a view itself", "\"t\""]),
        (
            "t",
            OF,
            "plain",
            ["\"v\" is a view of it", "no views of views"],
        ),
        ("three", OF, "t", ["has 3 partitions", "has 2"]),
        (
            "v",
            "weir.queue.max.bytes",
            "9",
            ["weir.queue.max.bytes", OF],
        ),
    ] {
        let (code, message) = altered(&mut client, topic, key, value).await;
        assert!(
            [ErrorCode::InvalidConfig, ErrorCode::InvalidPartitions].contains(&code),
            "{topic} {key}: {code:?}"
        );
        for part in parts {
            assert!(message.contains(part), "{part:?} in {message}");
        }
    }
    // A source that comes later has to fit.
    let (code, message) = made(&mut client, "waits", 2, 1, &[(OF, "later")]).await;
    assert_eq!(code, ErrorCode::None, "{message}");
    let (code, message) = made(&mut client, "later", 3, 1, &[]).await;
    assert_eq!(code, ErrorCode::InvalidPartitions);
    assert!(
        message.contains("\"waits\"") && message.contains("has 2"),
        "{message}"
    );
    assert_eq!(
        made(&mut client, "later", 2, 1, &[]).await.0,
        ErrorCode::None
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn a_view_grows_with_its_source() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[KEPT]).await;
    client.create_topic("v", 1, &BIG).await;
    let (code, message) = grown(&mut client, "v", 2).await;
    assert_eq!(code, ErrorCode::InvalidPartitions);
    assert!(
        message.contains("a view of \"t\", which has 1"),
        "{message}"
    );
    assert_eq!(grown(&mut client, "t", 3).await.0, ErrorCode::None);
    send(&mut client, 2, plain([1, 30])).await;
    assert_eq!(up_to(&mut client, "v", 2, 30).await, [30]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_source_may_come_go_and_come_again() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("v", 1, &BIG).await;
    client.create_topic("t", 1, &[KEPT]).await;
    send(&mut client, 0, plain(0..12)).await;
    assert_eq!(up_to(&mut client, "v", 0, 11).await, [10, 11]);
    client.delete_topic("t").await;
    assert_eq!(
        all_of(&mut client, "v", 0).await,
        [10, 11],
        "what was copied stays"
    );
    eventually("it is gone", async || {
        let (code, _) = made(&mut client, "t", 1, 1, &[KEPT]).await;
        (code == ErrorCode::None).then_some(())
    })
    .await;
    // It is another one, read from its beginning.
    send(&mut client, 0, plain([5, 50])).await;
    assert_eq!(up_to(&mut client, "v", 0, 50).await, [10, 11, 50]);
    // Its beginning moves away while nobody looks.
    client.set_configs(2, "v", &[(OF, "other")]).await;
    send(&mut client, 0, plain([51, 52])).await;
    assert_eq!(delete(&mut client, "t", 0, 3).await, (3, 0));
    client.set_configs(2, "v", &[(OF, "t")]).await;
    send(&mut client, 0, plain([53])).await;
    let seen = up_to(&mut client, "v", 0, 53).await;
    assert!(seen.ends_with(&[52, 53]), "{seen:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn a_view_that_is_emptied_still_knows_how_far_it_is() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[KEPT]).await;
    let small = [("segment.bytes", "300"), ("retention.bytes", "1")];
    let config: Vec<_> = BIG.into_iter().chain(small).collect();
    client.create_topic("v", 1, &config).await;
    for number in 10..20 {
        send(&mut client, 0, plain([number])).await;
        up_to(&mut client, "v", 0, number).await;
    }
    let partitions = &broker.running.broker().partitions;
    partitions.retain();
    let (start, code) = delete(&mut client, "v", 0, -1).await;
    assert_eq!(code, 0);
    let left = all_of(&mut client, "v", 0).await;
    assert!(start > 10 && left == [19], "{start} {left:?}");
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    broker.running.broker().partitions.retain();
    send(&mut client, 0, plain([20])).await;
    assert_eq!(up_to(&mut client, "v", 0, 20).await, [19, 20]);
    broker.running.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_of_source_and_view_neither_loses_nor_doubles_nor_reorders() {
    let (brokers, configs, _dir) = cluster_with("").await;
    let mut brokers: Vec<Option<Running>> = brokers.into_iter().map(Some).collect();
    let mut client = Client::connect(brokers[0].as_ref().unwrap().addresses().kafka).await;
    let strict = ("min.insync.replicas", "2");
    let source = [strict, KEPT];
    let view: Vec<_> = BIG.into_iter().chain([strict]).collect();
    for (name, config) in [("t", source.as_slice()), ("v", &view)] {
        let (code, message) = made(&mut client, name, 1, 3, config).await;
        assert_eq!(code, ErrorCode::None, "{message}");
    }
    // One identity for each: sent again, it is taken once.
    let send = async |brokers: &[Option<Running>], number: i64| {
        let all: Vec<&Running> = brokers.iter().flatten().collect();
        let builder = BatchBuilder::new().producer(ProducerId(9_000 + number), ProducerEpoch(0), 0);
        produce(&all, "t", numbers(builder, [number, number % 10])).await;
    };
    let mut number = 10;
    // Whoever leads the view stops in the middle of it, and then whoever leads the source.
    for topic in ["v", "t"] {
        for topic in ["t", "v"] {
            until("all are in sync", || {
                brokers
                    .iter()
                    .flatten()
                    .all(|broker| in_sync(broker, topic) == 3)
            })
            .await;
        }
        for _ in 0..60 {
            send(&brokers, number).await;
            number += 1;
        }
        let led = leader(brokers[0].as_ref().unwrap(), topic).unwrap();
        let stopping = tokio::spawn(brokers[led].take().unwrap().stop());
        for _ in 0..60 {
            send(&brokers, number).await;
            number += 1;
        }
        stopping.await.unwrap();
        let other = brokers.iter().flatten().next().unwrap();
        until("another leads the view", || {
            leader(other, "v").is_some_and(|now| now != led)
        })
        .await;
        let at = leader(other, "v").unwrap();
        let mut at_view = Client::connect(brokers[at].as_ref().unwrap().addresses().kafka).await;
        // What each batch has besides does not match.
        let seen = up_to(&mut at_view, "v", 0, number - 1).await;
        assert_eq!(seen, (10..number).collect::<Vec<_>>());
        let on_fatal: OnFatal = Arc::new(|what: &str| eprintln!("fatal: {what}"));
        brokers[led] = Some(start(configs[led].clone(), on_fatal).await.unwrap());
    }
    for broker in brokers.into_iter().flatten() {
        broker.stop().await;
    }
}
