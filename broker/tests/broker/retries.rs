//! Share groups that ask for more than Kafka's: backoffs, and dead letters (KIP-1191).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use uuid::Uuid;
use weir_proto::admin::v1 as proto;
use weir_proto::admin::v1::admin_client::AdminClient;
use weir_tls::Role;
use weir_wire::RecordsPart;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord, batches};
use weir_wire::messages::ErrorCode;

use crate::client::{Client, TestBroker, batch, eventually};
use crate::share::{ACCEPT, GROUP, Member, REJECT, RELEASE, initialize};

/// Kafka's number of the kind of resource that groups are.
pub(crate) const OF_GROUP: i8 = 32;
const OF_BROKERS: i8 = 4;

/// A broker with a topic of one partition, and a group with this configuration that reads it from its start on.
async fn house(config: &[(&str, &str)]) -> (TestBroker, Client, Uuid) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, &[]).await;
    initialize(&mut client, topic, 0).await;
    client.set_configs(OF_GROUP, GROUP, config).await;
    (broker, client, topic)
}

/// A record as it lies in a topic: key, value, and headers by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Lying {
    key: Option<String>,
    value: Option<String>,
    headers: BTreeMap<String, String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What lies in a topic of one partition, once there is so much.
async fn lying(client: &mut Client, topic: &str, count: usize) -> Vec<Lying> {
    eventually("there are so many records", async || {
        let data = client.fetch_from(topic, 0, 0).await;
        let mut bytes = Vec::new();
        for part in data.records.iter().flat_map(|records| records.parts()) {
            let RecordsPart::Bytes(part) = part else {
                panic!("records in memory wanted")
            };
            bytes.extend_from_slice(part);
        }
        let mut found = Vec::new();
        for batch in batches(&bytes) {
            for record in batch.unwrap().records().unwrap() {
                let record = record.unwrap();
                let headers = record.headers.iter();
                found.push(Lying {
                    key: record.key.map(text),
                    value: record.value.map(text),
                    headers: headers
                        .map(|header| (header.key.to_owned(), text(header.value.unwrap())))
                        .collect(),
                });
            }
        }
        (found.len() >= count).then_some(found)
    })
    .await
}

fn says(record: &Lying, header: &str) -> String {
    let name = format!("__dlq.errors.{header}");
    record.headers.get(&name).cloned().unwrap_or_default()
}

#[tokio::test]
async fn a_released_record_waits_for_its_backoff_and_holds_nobody_up() {
    let config = [("weir.share.retry.backoff.ms", "600000")];
    let (broker, mut client, topic) = house(&config).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 1, 1)]);
    assert_eq!(member.acked(&[(0, 0, RELEASE), (1, 1, ACCEPT)]).await, 0);
    let (_, metrics) = broker.http("/metrics").await;
    let parked = "weir_share_parked_messages{group=\"sharers\",topic=\"t\"} 1\n";
    assert!(metrics.contains(parked), "{metrics}");
    // What tests write is of 2023.
    let oldest = "weir_share_oldest_unsettled_seconds{group=\"sharers\",topic=\"t\"} ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(oldest));
    assert!(value.unwrap().parse::<u64>().unwrap() > 60_000_000);
    client.produce("t", 0, batch(&["c"])).await;
    assert_eq!(
        member.take().await,
        [(2, 2, 1)],
        "what is behind it does not wait for it"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn a_released_record_comes_again_when_its_backoff_is_over() {
    let config = [("weir.share.retry.backoff.ms", "700")];
    let (broker, mut client, topic) = house(&config).await;
    client.produce("t", 0, batch(&["a"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 0, 1)]);
    let released = Instant::now();
    assert_eq!(member.acked(&[(0, 0, RELEASE)]).await, 0);
    // A long poll is woken when the time has come.
    assert_eq!(member.take().await, [(0, 0, 2)]);
    let waited = released.elapsed();
    assert!(waited >= Duration::from_millis(700), "{waited:?}");
    assert_eq!(member.acked(&[(0, 0, ACCEPT)]).await, 0);
    let (_, metrics) = broker.http("/metrics").await;
    for gauge in ["parked_messages", "oldest_unsettled_seconds"] {
        let none = format!("weir_share_{gauge}{{group=\"sharers\",topic=\"t\"}} 0\n");
        assert!(metrics.contains(&none), "{none} {metrics}");
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn what_waits_goes_on_waiting_when_the_last_member_leaves() {
    let config = [("weir.share.retry.backoff.ms", "600000")];
    let (broker, mut client, topic) = house(&config).await;
    client.produce("t", 0, batch(&["a", "b"])).await;
    let mut first = Member::new(&broker, "first", topic).await;
    assert_eq!(first.take().await, [(0, 1, 1)]);
    assert_eq!(first.acked(&[(0, 0, RELEASE), (1, 1, ACCEPT)]).await, 0);
    assert_eq!(first.close().await, 0);
    let mut second = Member::new(&broker, "second", topic).await;
    client.produce("t", 0, batch(&["c"])).await;
    assert_eq!(second.take().await, [(2, 2, 1)], "0 waits for ten minutes");
    // Who goes without a word has failed at what it had, which waits from then on.
    drop(second);
    client.produce("t", 0, batch(&["d"])).await;
    let mut third = Member::new(&broker, "third", topic).await;
    assert_eq!(third.take().await, [(3, 3, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_given_up_becomes_a_dead_letter_that_says_why() {
    let config = [
        ("errors.deadletterqueue.topic.name", "dlq.t"),
        ("errors.deadletterqueue.copy.record.enable", "true"),
        ("share.delivery.count.limit", "2"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    let takes = [("errors.deadletterqueue.group.enable", "true")];
    client.create_topic("dlq.t", 1, &takes).await;
    let headers = [NewHeader {
        key: "region",
        value: Some(b"eu"),
    }];
    let mut builder = BatchBuilder::new();
    for value in ["poison", "good", "hard"] {
        let record = NewRecord {
            timestamp_ms: 1_700_000_000_000,
            key: Some(b"order-7"),
            value: Some(value.as_bytes()),
            headers: &headers,
        };
        builder.push(&record).unwrap();
    }
    client.produce("t", 0, builder.build()).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 2, 1)]);
    let acks = [(0, 0, REJECT), (1, 1, ACCEPT), (2, 2, RELEASE)];
    assert_eq!(member.acked(&acks).await, 0);
    assert_eq!(member.take().await, [(2, 2, 2)]);
    assert_eq!(member.acked(&[(2, 2, RELEASE)]).await, 0);
    let dead = lying(&mut client, "dlq.t", 2).await;
    let told: Vec<_> = dead
        .iter()
        .map(|letter| {
            let of = |header| says(letter, header);
            (
                of("topic"),
                of("partition"),
                of("offset"),
                of("group"),
                of("delivery.count"),
            )
        })
        .collect();
    let expected = |offset: &str, count: &str| {
        let owned = str::to_owned;
        (
            owned("t"),
            owned("0"),
            owned(offset),
            owned(GROUP),
            owned(count),
        )
    };
    assert_eq!(told, [expected("0", "1"), expected("2", "2")]);
    assert!(says(&dead[0], "message").contains("rejected"));
    assert!(says(&dead[1], "message").contains("as often as the group allows"));
    for (letter, value) in dead.iter().zip(["poison", "hard"]) {
        assert_eq!(letter.key.as_deref(), Some("order-7"));
        assert_eq!(letter.value.as_deref(), Some(value));
        assert_eq!(letter.headers["region"], "eu");
    }
    // They are done with: nobody gets them again, and what comes next is next.
    client.produce("t", 0, batch(&["next"])).await;
    assert_eq!(member.take().await, [(3, 3, 1)]);
    eventually("they are counted", async || {
        let (_, metrics) = broker.http("/metrics").await;
        let line = "weir_topic_dead_letters_total{topic=\"t\"} 2";
        metrics.contains(line).then_some(())
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test]
async fn a_dead_letter_without_its_record_still_says_where_that_lies() {
    let config = [("errors.deadletterqueue.topic.name", "dlq.t")];
    let (broker, mut client, topic) = house(&config).await;
    let create = [("errors.deadletterqueue.auto.create.topics.enable", "true")];
    client.set_configs(OF_BROKERS, "", &create).await;
    client.produce("t", 0, batch(&["poison"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 0, 1)]);
    assert_eq!(member.acked(&[(0, 0, REJECT)]).await, 0);
    // The topic is made for it.
    let dead = lying(&mut client, "dlq.t", 1).await;
    assert_eq!((&dead[0].key, &dead[0].value), (&None, &None));
    assert_eq!(says(&dead[0], "offset"), "0");
    broker.running.stop().await;
}

#[tokio::test]
async fn a_record_whose_dead_letter_is_not_written_yet_is_not_lost_by_a_restart() {
    let config = [
        ("errors.deadletterqueue.topic.name", "dlq.t"),
        ("errors.deadletterqueue.copy.record.enable", "true"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    client.produce("t", 0, batch(&["poison", "good"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 1, 1)]);
    // There is no topic for it yet.
    assert_eq!(member.acked(&[(0, 0, REJECT), (1, 1, ACCEPT)]).await, 0);
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let takes = [("errors.deadletterqueue.group.enable", "true")];
    client.create_topic("dlq.t", 1, &takes).await;
    client.produce("t", 0, batch(&["next"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(2, 2, 1)]);
    let dead = lying(&mut client, "dlq.t", 1).await;
    assert_eq!(dead[0].value.as_deref(), Some("poison"));
    broker.running.stop().await;
}

#[tokio::test]
async fn without_a_topic_that_takes_it_a_record_is_given_up_without_a_letter() {
    let config = [("errors.deadletterqueue.topic.name", "dlq.t")];
    let (broker, mut client, topic) = house(&config).await;
    // It exists, and nobody meant it for dead letters.
    client.create_topic("dlq.t", 1, &[]).await;
    client.produce("t", 0, batch(&["poison"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 0, 1)]);
    assert_eq!(member.acked(&[(0, 0, REJECT)]).await, 0);
    eventually("it is counted", async || {
        let (_, metrics) = broker.http("/metrics").await;
        let line = "weir_topic_dead_letters_dropped_total{topic=\"t\"} 1";
        metrics.contains(line).then_some(())
    })
    .await;
    assert!(lying(&mut client, "dlq.t", 0).await.is_empty());
    broker.running.stop().await;
}

#[tokio::test]
async fn a_flood_of_rejections_does_not_empty_the_queue_into_its_dead_letters() {
    let config = [
        ("errors.deadletterqueue.topic.name", "dlq.t"),
        ("weir.share.deadletter.rate.max", "2"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    let takes = [("errors.deadletterqueue.group.enable", "true")];
    client.create_topic("dlq.t", 1, &takes).await;
    client.produce("t", 0, batch(&["x"; 5])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 4, 1)]);
    assert_eq!(member.acked(&[(0, 4, REJECT)]).await, 0);
    client.produce("t", 0, batch(&["next"])).await;
    assert_eq!(member.take().await, [(5, 5, 1)]);
    assert_eq!(lying(&mut client, "dlq.t", 2).await.len(), 2);
    broker.running.stop().await;
}

#[tokio::test]
async fn dead_letters_go_back_whole_or_by_a_condition() {
    let config = [
        ("errors.deadletterqueue.topic.name", "dlq.t"),
        ("errors.deadletterqueue.copy.record.enable", "true"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    let takes = [("errors.deadletterqueue.group.enable", "true")];
    client.create_topic("dlq.t", 1, &takes).await;
    client.produce("t", 0, batch(&["a", "b", "c"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 2, 1)]);
    assert_eq!(member.acked(&[(0, 2, REJECT)]).await, 0);
    lying(&mut client, "dlq.t", 3).await;
    let mut admin = AdminClient::new(broker.channel(Role::Operator));
    let mut redrive = async |request: proto::RedriveRequest| {
        let request = proto::RedriveRequest {
            topic: "dlq.t".to_owned(),
            ..request
        };
        admin.redrive(request).await.unwrap().into_inner()
    };
    let would = redrive(proto::RedriveRequest {
        remove: true,
        dry_run: true,
        ..proto::RedriveRequest::default()
    })
    .await;
    assert_eq!(would.error, None);
    assert_eq!((would.redriven, would.end_offset), (3, Some(3)));
    assert_eq!(lying(&mut client, "t", 3).await.len(), 3);
    assert_eq!(lying(&mut client, "dlq.t", 3).await.len(), 3);
    let beyond = redrive(proto::RedriveRequest {
        from_offset: i64::MAX,
        ..proto::RedriveRequest::default()
    })
    .await;
    assert_eq!(beyond.error, None);
    assert_eq!((beyond.redriven, beyond.end_offset), (0, Some(3)));
    let one = redrive(proto::RedriveRequest {
        filter: "headers['__dlq.errors.offset'] == '1'".to_owned(),
        ..proto::RedriveRequest::default()
    })
    .await;
    assert_eq!(one.error, None);
    assert_eq!((one.redriven, one.passed_over, one.at_end), (1, 2, true));
    assert_eq!(member.take().await, [(3, 3, 1)]);
    let in_parts = redrive(proto::RedriveRequest {
        letters_max: 2,
        remove: true,
        ..proto::RedriveRequest::default()
    })
    .await;
    assert_eq!(
        (in_parts.redriven, in_parts.next_offset, in_parts.at_end),
        (2, 2, false)
    );
    let rest = redrive(proto::RedriveRequest {
        from_offset: in_parts.next_offset,
        remove: true,
        ..proto::RedriveRequest::default()
    })
    .await;
    assert_eq!((rest.redriven, rest.at_end), (1, true));
    let back = lying(&mut client, "t", 7).await;
    let values: Vec<_> = back
        .iter()
        .filter_map(|record| record.value.as_deref())
        .collect();
    assert_eq!(values, ["a", "b", "c", "b", "a", "b", "c"]);
    assert!(
        back.iter().all(|record| record.headers.is_empty()),
        "what letters say of themselves stays behind"
    );
    let gone = client.fetch_from("dlq.t", 0, 0).await;
    assert_eq!(gone.error_code, ErrorCode::OffsetOutOfRange.code());
    for (filter, remove) in [("nonsense", false), ("true", true)] {
        let refused = redrive(proto::RedriveRequest {
            filter: filter.to_owned(),
            remove,
            ..proto::RedriveRequest::default()
        });
        assert_eq!(refused.await.error.unwrap().code, "INVALID_REQUEST");
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn what_a_group_cannot_mean_is_refused_where_it_is_written() {
    let (broker, mut client, _) = house(&[]).await;
    let wrong = [
        ("weir.share.filter", "country == 'de'"),
        ("weir.share.retry.backoff.ms", "soon"),
        ("weir.share.deadletter.rate.max", "-2"),
        ("errors.deadletterqueue.topic.name", "__consumer_offsets"),
    ];
    for (key, value) in wrong {
        let error = client
            .alter_configs(OF_GROUP, GROUP, &[(0, key, Some(value))])
            .await;
        assert_eq!(error, ErrorCode::InvalidConfig.code(), "{key}");
    }
    broker.running.stop().await;
}
