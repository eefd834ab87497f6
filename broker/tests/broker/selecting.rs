//! What a share group is given of a topic: what its filter lets through, and what is not too old.

use std::time::SystemTime;

use bytes::Bytes;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord};
use weir_wire::messages::ErrorCode;

use crate::client::{TestBroker, eventually};
use crate::retries::OF_GROUP;
use crate::share::{ACCEPT, GROUP, Member, RELEASE, initialize};

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    i64::try_from(now.unwrap().as_millis()).unwrap()
}

/// Records of these regions, so old.
fn of(regions: &[&str], age_ms: i64) -> Bytes {
    with("region", regions, age_ms)
}

/// Records with these values of a header, so old.
fn with(key: &str, values: &[&str], age_ms: i64) -> Bytes {
    let mut builder = BatchBuilder::new();
    for value in values {
        let headers = [NewHeader {
            key,
            value: Some(value.as_bytes()),
        }];
        let record = NewRecord {
            timestamp_ms: now_ms() - age_ms,
            value: Some(b"x"),
            headers: &headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

#[tokio::test]
async fn what_is_passed_over_behind_a_message_that_is_out_makes_room() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let bound = [
        ("weir.queue.max.messages", "3"),
        ("weir.queue.group", GROUP),
    ];
    let topic = client.create_topic("t", 1, &bound).await;
    initialize(&mut client, topic, 0).await;
    let filter = [("weir.share.filter", "headers.region == 'eu'")];
    client.set_configs(OF_GROUP, GROUP, &filter).await;
    let mut send = async |batch: Bytes| {
        eventually("a batch is taken", async || {
            let answer = client.produce("t", 0, batch.clone()).await;
            (answer.error_code == 0).then_some(())
        })
        .await;
    };
    send(of(&["eu", "us", "us"], 0)).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 0, 1)]);
    // It is at work on the first one, and nothing is acknowledged.
    send(of(&["eu", "us"], 0)).await;
    assert_eq!(member.take().await, [(3, 3, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_group_with_a_filter_is_given_what_matches_and_passes_over_the_rest() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // Passed over is settled: a bounded queue takes more.
    let bound = [
        ("weir.queue.max.messages", "8"),
        ("weir.queue.group", GROUP),
    ];
    let topic = client.create_topic("t", 1, &bound).await;
    initialize(&mut client, topic, 0).await;
    let filter = [("weir.share.filter", "headers.region == 'eu'")];
    client.set_configs(OF_GROUP, GROUP, &filter).await;
    let mut send = async |batch: Bytes| {
        eventually("a batch is taken", async || {
            let answer = client.produce("t", 0, batch.clone()).await;
            (answer.error_code == 0).then_some(())
        })
        .await;
    };
    send(of(&["us", "eu", "eu", "us", "eu", "de"], 0)).await;
    send(of(&["us", "us"], 0)).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(1, 2, 1), (4, 4, 1)]);
    assert_eq!(member.acked(&[(1, 2, ACCEPT), (4, 4, ACCEPT)]).await, 0);
    send(of(&["us", "us", "us", "us", "us", "us", "us", "us"], 0)).await;
    // All of it is passed over, by a fetch that finds nothing for the member.
    let nothing = member.look(100).await;
    assert_eq!(nothing, []);
    send(of(&["eu"], 0)).await;
    assert_eq!(member.take().await, [(16, 16, 1)]);
    // The filter is followed as soon as it is another.
    let filter = [("weir.share.filter", "headers.region == 'us'")];
    let mut admin = broker.connect().await;
    admin.set_configs(OF_GROUP, GROUP, &filter).await;
    send(of(&["eu", "us"], 0)).await;
    eventually("what matches now comes", async || {
        let got = member.take().await;
        (got == [(18, 18, 1)]).then_some(())
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test]
async fn a_group_can_ask_for_tags() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, &[]).await;
    initialize(&mut client, topic, 0).await;
    let condition = "'red' in tags || tags.exists(t, t.startsWith('eu-'))";
    let filter = [("weir.share.filter", condition)];
    client.set_configs(OF_GROUP, GROUP, &filter).await;
    let tags = ["red", "blue, red", "redder", "eu-west", "", "us,eu-north"];
    let sent = client
        .produce("t", 0, with("weir-tags", &tags, 0))
        .await
        .error_code;
    assert_eq!(sent, 0);
    // Without the header there are none.
    assert_eq!(client.produce("t", 0, of(&["red"], 0)).await.error_code, 0);
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 1, 1), (3, 3, 1), (5, 5, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_older_than_its_topic_allows_is_not_given() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let ttl = [("weir.queue.message.ttl.ms", "600000")];
    let topic = client.create_topic("t", 1, &ttl).await;
    initialize(&mut client, topic, 0).await;
    for (regions, age_ms) in [(2, 700_000), (1, 0), (1, 700_000), (2, 10)] {
        let batch = of(&vec!["eu"; regions], age_ms);
        assert_eq!(client.produce("t", 0, batch).await.error_code, 0);
    }
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(2, 2, 1), (4, 5, 1)]);
    let (_, metrics) = broker.http("/metrics").await;
    let expired = "weir_topic_expired_messages_total{topic=\"t\"} 3\n";
    assert!(metrics.contains(expired), "{metrics}");
    // Everybody else reads all of it.
    let data = client.fetch_from("t", 0, 0).await;
    assert_eq!(crate::client::values(&data).len(), 6);
    let wrong = [(0, "weir.queue.message.ttl.ms", Some("0"))];
    let refused = client.alter_configs(2, "t", &wrong).await;
    assert_eq!(refused, ErrorCode::InvalidConfig.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn messages_of_one_key_are_given_one_at_a_time() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let order = [("weir.queue.order", "key")];
    let topic = client.create_topic("t", 1, &order).await;
    initialize(&mut client, topic, 0).await;
    let mut builder = BatchBuilder::new();
    for key in ["a", "b", "a", "c", "a"] {
        let record = NewRecord {
            timestamp_ms: now_ms(),
            key: Some(key.as_bytes()),
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    client.produce("t", 0, builder.build()).await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 1, 1), (3, 3, 1)]);
    let mut other = Member::new(&broker, "b", topic).await;
    assert_eq!(other.look(100).await, []);
    assert_eq!(member.acked(&[(0, 0, RELEASE)]).await, 0);
    assert_eq!(other.take().await, [(0, 0, 2)], "not what is behind it");
    assert_eq!(other.acked(&[(0, 0, ACCEPT)]).await, 0);
    assert_eq!(other.take().await, [(2, 2, 1)]);
    // Also after a restart, when nothing is known of keys but what is read again.
    let broker = broker.restart().await;
    let mut member = Member::new(&broker, "a", topic).await;
    let taken = member.take().await;
    assert_eq!(taken.first().map(|(first, _, _)| *first), Some(1));
    assert!(
        !taken
            .iter()
            .any(|(first, last, _)| (*first..=*last).contains(&4)),
        "{taken:?}"
    );
    broker.running.stop().await;
}
