//! Messages that are to come later: never early, never lost, never twice, in the order in which they are due.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use bytes::Bytes;
use weir_broker::queue::delay::RELEASER;
use weir_broker::start::Running;
use weir_wire::batch::{
    Attributes, BatchBuilder, Compression, NewHeader, NewRecord, batches, only_batch,
};
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponseView, ErrorCode, ListOffsetsRequest,
    ListOffsetsResponseView, list_offsets_request,
};
use weir_wire::{MessageView, ProducerEpoch, ProducerId, RecordsPart};

use crate::client::{Client, TestBroker, batch, eventually, values};
use crate::cluster::cluster;
use crate::replication::{leader, produce, until};
use crate::share::{ACCEPT, Member, initialize};

const MAX: (&str, &str) = ("weir.queue.delay.max.ms", "3600000");

/// Far more than release takes, for a machine that has other things to do; what is promised is measured apart.
const LATE_MAX_MS: i64 = 5_000;

fn now_ms() -> i64 {
    let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    i64::try_from(since.as_millis()).unwrap()
}

/// A record of this value, with headers.
type Sent<'a> = (&'a str, &'a [(&'a str, &'a str)]);

fn build(mut builder: BatchBuilder, records: &[Sent<'_>]) -> Bytes {
    for (value, headers) in records {
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| NewHeader {
                key,
                value: Some(value.as_bytes()),
            })
            .collect();
        builder
            .push(&NewRecord {
                timestamp_ms: now_ms(),
                value: Some(value.as_bytes()),
                headers: &headers,
                ..NewRecord::default()
            })
            .unwrap();
    }
    builder.build()
}

fn records(records: &[Sent<'_>]) -> Bytes {
    build(BatchBuilder::new(), records)
}

fn later(value: &str, ms: i64) -> Bytes {
    records(&[(value, &[("weir-delay-ms", &ms.to_string())])])
}

/// What a consumer of the partition that begins at its start has.
#[derive(Default)]
struct Consumer {
    next: i64,
    seen: Vec<(i64, String)>,
}

impl Consumer {
    /// Takes what there is, and says what of it has records.
    async fn poll(&mut self, client: &mut Client) -> Vec<(i64, String)> {
        let data = client.fetch_from("t", 0, self.next).await;
        if data.error_code != 0 {
            return Vec::new();
        }
        self.next = end_of(&data).unwrap_or(self.next);
        let new: Vec<_> = values(&data)
            .into_iter()
            .filter(|(offset, _)| !self.seen.iter().any(|(seen, _)| seen == offset))
            .collect();
        self.seen.extend(new.iter().cloned());
        new
    }

    async fn until(&mut self, client: &mut Client, count: usize) -> Vec<String> {
        eventually("all has come", async || {
            self.poll(client).await;
            (self.seen.len() >= count).then_some(())
        })
        .await;
        self.values()
    }

    fn values(&self) -> Vec<String> {
        self.seen.iter().map(|(_, value)| value.clone()).collect()
    }
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

fn end_of(data: &PartitionData) -> Option<i64> {
    let bytes = bytes_of(data);
    let last = batches(&bytes).map(|batch| batch.unwrap().header().next_offset().0);
    last.last()
}

async fn house(config: &[(&str, &str)]) -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, config).await;
    (broker, client)
}

/// Sends, and comes again while what waits is being looked through, as any client would.
async fn send(client: &mut Client, batch: &Bytes) -> i64 {
    eventually("it is taken", async || {
        let answer = client.produce("t", 0, batch.clone()).await;
        if answer.error_code == ErrorCode::NotEnoughReplicas.code() {
            return None;
        }
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        Some(answer.base_offset)
    })
    .await
}

async fn refused(client: &mut Client, batch: Bytes) -> (ErrorCode, String) {
    let answer = client.produce("t", 0, batch).await;
    let code = ErrorCode::from_code(answer.error_code).unwrap();
    (code, answer.error_message.unwrap_or_default())
}

/// When a message is due, and when it was known to be there.
type Times = (i64, i64);

/// Messages come in the order of their time, those of one time in that of their sending, however slow the machine is: nothing is said of one that was
/// there only when it was due already, nor of those that came to be there after it was due.
fn assert_in_order<'m>(came: impl Iterator<Item = &'m String>, sent: &BTreeMap<String, Times>) {
    let came: Vec<_> = came.collect();
    for (at, first) in came.iter().enumerate() {
        let (due, stored) = sent[*first];
        for second in &came[at + 1..] {
            let (its_due, its_stored) = sent[*second];
            let both_wait = stored < due && its_stored < due;
            assert!(
                !both_wait || (due, first) < (its_due, second),
                "{first} came before {second}: {came:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_message_comes_at_its_time_never_before_and_in_the_order_of_its_time() {
    let (broker, mut client) = house(&[MAX]).await;
    let (mut due, mut sent) = (BTreeMap::new(), BTreeMap::new());
    let begin = now_ms() + 300;
    for number in 0..40_i64 {
        // Shuffled, and some at the same time.
        let at = begin + number * 17 % 40 / 2 * 50;
        let value = format!("{number:02}");
        let at_text = at.to_string();
        let batch = records(&[(&value, &[("weir-deliver-at", &at_text)])]);
        send(&mut client, &batch).await;
        sent.insert(value.clone(), (at, now_ms()));
        due.insert(value, at);
    }
    let mut consumer = Consumer::default();
    let mut lateness = Vec::new();
    eventually("all has come", async || {
        let new = consumer.poll(&mut client).await;
        let now = now_ms();
        for (_, value) in new {
            assert!(
                now >= due[&value],
                "{value} came {} ms early",
                due[&value] - now
            );
            lateness.push(now - due[&value]);
        }
        (consumer.seen.len() == due.len()).then_some(())
    })
    .await;
    lateness.sort_unstable();
    assert!(lateness[39] < LATE_MAX_MS, "{lateness:?}");
    let mut came = consumer.values();
    assert_in_order(came.iter(), &sent);
    came.sort();
    assert_eq!(came, due.into_keys().collect::<Vec<_>>());
    let (_, metrics) = broker.http("/metrics").await;
    assert!(
        metrics.contains("weir_delayed_messages{topic=\"t\"} 0"),
        "{metrics}"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn consumers_are_given_no_byte_of_what_waits() {
    let (broker, mut client) = house(&[MAX]).await;
    send(&mut client, &batch(&["before"])).await;
    send(&mut client, &later("secret", 60_000)).await;
    send(&mut client, &batch(&["behind"])).await;
    let data = client.fetch_from("t", 0, 0).await;
    let bytes = bytes_of(&data);
    assert!(!String::from_utf8_lossy(&bytes).contains("secret"));
    assert_eq!(
        values(&data)
            .into_iter()
            .map(|(_, value)| value)
            .collect::<Vec<_>>(),
        ["before", "behind"]
    );
    for batch in batches(&bytes) {
        assert!(!batch.unwrap().header().attributes.is_control());
    }
    let (_, metrics) = broker.http("/metrics").await;
    assert!(
        metrics.contains("weir_delayed_messages{topic=\"t\"} 1"),
        "{metrics}"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn a_mixed_batch_keeps_its_order_its_offsets_and_its_producers_sequence() {
    let (broker, mut client) = house(&[MAX]).await;
    let of = |sequence, sent: &[Sent<'_>]| {
        let id = ProducerId(4_000);
        build(
            BatchBuilder::new().producer(id, ProducerEpoch(0), sequence),
            sent,
        )
    };
    let soon: &[(&str, &str)] = &[("weir-delay-ms", "400")];
    let mixed = of(
        0,
        &[("a", &[]), ("later-1", soon), ("b", &[]), ("later-2", soon)],
    );
    let inflated = only_batch(&mixed).unwrap().inflated().unwrap();
    let mixed = inflated.recompress(Compression::Lz4, None).unwrap();
    let base = send(&mut client, &mixed).await;
    // All of it is delayed, and then nothing: the sequence goes on.
    let delayed = of(4, &[("later-3", soon)]);
    let receipt = send(&mut client, &delayed).await;
    let plain = send(&mut client, &of(5, &[("c", &[])])).await;
    // The answers were lost.
    assert_eq!(send(&mut client, &mixed).await, base);
    assert_eq!(send(&mut client, &delayed).await, receipt);
    let gap = refused(&mut client, of(9, &[("d", soon)])).await;
    assert_eq!(gap.0, ErrorCode::OutOfOrderSequenceNumber);
    let mut consumer = Consumer::default();
    consumer.poll(&mut client).await;
    while consumer.seen.len() < 3 {
        consumer.poll(&mut client).await;
    }
    let due = [(base, "a"), (base + 2, "b"), (plain, "c")];
    assert_eq!(
        consumer.seen[..3],
        due.map(|(offset, value)| (offset, value.to_owned()))
    );
    let all = consumer.until(&mut client, 6).await;
    assert_eq!(all[3..], ["later-1", "later-2", "later-3"]);
    // Each says which receipt it had.
    let data = client.fetch_from("t", 0, consumer.seen[3].0).await;
    let bytes = bytes_of(&data);
    let mut receipts = Vec::new();
    for batch in batches(&bytes) {
        let batch = batch.unwrap();
        for record in batch.records().unwrap() {
            let record = record.unwrap();
            let headers: Vec<_> = record.headers.iter().collect();
            assert_eq!(headers.len(), 1, "{headers:?}");
            assert_eq!(headers[0].key, "weir-delayed-from");
            let text = std::str::from_utf8(headers[0].value.unwrap()).unwrap();
            let parts: Vec<i64> = text.split(',').map(|part| part.parse().unwrap()).collect();
            assert_eq!(
                record.timestamp_ms, parts[1],
                "it is as old as it is visible"
            );
            receipts.push(parts[0]);
        }
    }
    assert_eq!(receipts, [base + 1, base + 3, receipt]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_cancelled_before_it_is_due_never_comes() {
    let (broker, mut client) = house(&[MAX]).await;
    let named = |value: &str, id: &str| {
        records(&[(value, &[("weir-delay-ms", "700"), ("weir-message-id", id)])])
    };
    send(&mut client, &named("one", "1")).await;
    send(&mut client, &named("two", "2")).await;
    send(&mut client, &named("two again", "2")).await;
    send(&mut client, &named("three", "3")).await;
    let cancel = |id: &str| records(&[("", &[("weir-cancel", id)])]);
    send(&mut client, &cancel("2")).await;
    send(&mut client, &cancel("nobody")).await;
    // Only what was there is meant.
    send(&mut client, &named("two anew", "2")).await;
    // Also by who leads next.
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    send(&mut client, &later("end", 1_200)).await;
    let mut consumer = Consumer::default();
    let all = consumer.until(&mut client, 4).await;
    assert_eq!(all, ["one", "three", "two anew", "end"]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_cannot_be_delayed_is_refused_and_says_why() {
    let (broker, mut client) = house(&[MAX]).await;
    send(&mut client, &later("fits", 3_500_000)).await;
    let (code, message) = refused(&mut client, later("far", 3_700_000)).await;
    assert_eq!(code, ErrorCode::InvalidRecord);
    assert!(
        message.contains("weir.queue.delay.max.ms is 3600000"),
        "{message}"
    );
    let (code, _) = refused(&mut client, records(&[("x", &[("weir-delay-ms", "soon")])])).await;
    assert_eq!(code, ErrorCode::InvalidRecord);
    let forged = BatchBuilder::new().producer(RELEASER, ProducerEpoch(0), 0);
    let (code, _) = refused(&mut client, build(forged, &[("x", &[])])).await;
    assert_eq!(code, ErrorCode::InvalidRecord);
    let control = BatchBuilder::new().attributes(Attributes::default().with_control(true));
    let (code, _) = refused(&mut client, build(control, &[("x", &[])])).await;
    assert_eq!(code, ErrorCode::InvalidRecord);
    // A year at most, and not where compaction would take it away.
    let year = (365_i64 * 24 * 3_600_000 + 1).to_string();
    for (key, value) in [
        ("weir.queue.delay.max.ms", year.as_str()),
        ("cleanup.policy", "compact"),
        ("weir.queue.max.bytes", "9"),
    ] {
        let code = client.alter_configs(2, "t", &[(0, key, Some(value))]).await;
        assert_eq!(code, ErrorCode::InvalidConfig.code(), "{key}");
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn a_topic_that_does_not_ask_for_it_heeds_no_header_and_zero_lets_what_waits_come() {
    let (broker, mut client) = house(&[]).await;
    send(&mut client, &later("at once", 60_000)).await;
    let mut consumer = Consumer::default();
    assert_eq!(consumer.until(&mut client, 1).await, ["at once"]);
    client.set_configs(2, "t", &[MAX]).await;
    eventually("the configuration has come", async || {
        let answer = client.produce("t", 0, later("far", 3_700_000)).await;
        (answer.error_code != 0).then_some(())
    })
    .await;
    // Those that were taken while it had not are there too.
    let mut consumer = Consumer::default();
    eventually("all is read", async || {
        consumer.poll(&mut client).await.is_empty().then_some(())
    })
    .await;
    let before = consumer.seen.len();
    send(&mut client, &later("soon", 900)).await;
    client
        .set_configs(2, "t", &[("weir.queue.delay.max.ms", "0")])
        .await;
    eventually("no further one is taken", async || {
        let answer = client.produce("t", 0, later("x", 800)).await;
        (answer.error_code == ErrorCode::InvalidRecord.code()).then_some(())
    })
    .await;
    let all = consumer.until(&mut client, before + 1).await;
    assert!(all.contains(&"soon".to_owned()), "{all:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn a_share_group_gets_a_message_when_it_is_due() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, &[MAX]).await;
    initialize(&mut client, topic, 0).await;
    send(&mut client, &later("much later", 3_600_000)).await;
    send(&mut client, &batch(&["first"])).await;
    let mut member = Member::new(&broker, "a", topic).await;
    let first = member.take().await;
    assert_eq!(first.len(), 1);
    assert_eq!(first[0].0, first[0].1, "one message");
    assert_eq!(member.acked(&[(first[0].0, first[0].1, ACCEPT)]).await, 0);
    let sent = now_ms();
    send(&mut client, &later("later", 700)).await;
    let second = member.take().await;
    assert!(now_ms() >= sent + 700, "early");
    assert_eq!(second.len(), 1);
    assert_eq!(second[0].0, second[0].1, "one message");
    assert!(second[0].0 > first[0].1);
    broker.running.stop().await;
}

#[tokio::test]
async fn retention_leaves_what_waits() {
    let config = [MAX, ("segment.bytes", "2000"), ("retention.bytes", "1")];
    let (broker, mut client) = house(&config).await;
    send(&mut client, &later("waits", 1_500)).await;
    let filling = "x".repeat(900);
    for _ in 0..20 {
        send(&mut client, &batch(&[&filling])).await;
    }
    let earliest = async |client: &mut Client| {
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![list_offsets_request::ListOffsetsTopic {
                name: "t".to_owned(),
                partitions: vec![list_offsets_request::ListOffsetsPartition {
                    timestamp: -2,
                    ..Default::default()
                }],
            }],
            ..ListOffsetsRequest::default()
        };
        let body = client.call(5, &request).await;
        let response = ListOffsetsResponseView::decode(&body, 5)
            .unwrap()
            .to_owned();
        response.topics[0].partitions[0].offset
    };
    broker.running.broker().partitions.retain();
    let mut consumer = Consumer::default();
    let all = consumer.until(&mut client, 21).await;
    assert_eq!(all[20], "waits");
    assert_eq!(earliest(&mut client).await, 0, "it lies there");
    // And then lets go of it.
    send(&mut client, &batch(&[&filling])).await;
    eventually("the log is cut", async || {
        broker.running.broker().partitions.retain();
        (earliest(&mut client).await > 0).then_some(())
    })
    .await;
    broker.running.stop().await;
}

/// What a process that is killed leaves: its files as they are, of which it has not taken leave.
fn copied(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copied(&entry.path(), &target);
        } else {
            // What is renamed or removed meanwhile is there under another name, or not.
            let _ = std::fs::copy(entry.path(), target);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_dies_while_it_releases_loses_and_doubles_nothing() {
    let (broker, mut client) = house(&[MAX]).await;
    let begin = now_ms() + 500;
    let mut sent = BTreeMap::new();
    for number in 0..300 {
        let (value, at) = (format!("{number:03}"), begin + number * 3);
        let at_text = at.to_string();
        let batch = records(&[(&value, &[("weir-deliver-at", &at_text)])]);
        send(&mut client, &batch).await;
        sent.insert(value, (at, now_ms()));
    }
    let mut consumer = Consumer::default();
    consumer.until(&mut client, 100).await;
    let left = tempfile::tempdir().unwrap();
    copied(broker.dir.path(), left.path());
    // What was seen by then is in it.
    let dir = broker.stop().await;
    for name in std::fs::read_dir(dir.path()).unwrap() {
        let path = name.unwrap().path();
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap();
        } else {
            std::fs::remove_file(path).unwrap();
        }
    }
    copied(left.path(), dir.path());
    let broker = TestBroker::on(dir, "").await;
    let mut client = broker.connect().await;
    send(&mut client, &later("end", 1_500)).await;
    let mut after = Consumer::default();
    after.until(&mut client, 301).await;
    let mut all = after.values();
    assert_eq!(all.pop().as_deref(), Some("end"));
    assert_in_order(all.iter(), &sent);
    all.sort();
    assert_eq!(all, sent.into_keys().collect::<Vec<_>>());
    assert_eq!(
        consumer.seen[..100],
        after.seen[..100],
        "what was seen has not moved"
    );
    broker.running.stop().await;
}

async fn create(client: &mut Client, name: &str) {
    let config = [MAX, ("min.insync.replicas", "2")];
    let configs = config.map(|(name, value)| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    });
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: 3,
        configs: configs.to_vec(),
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    let body = client.call(7, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    assert_eq!(response.topics[0].error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn failover_neither_loses_nor_doubles_nor_reorders_what_is_due() {
    let (brokers, _dir) = cluster().await;
    let mut brokers: Vec<Option<Running>> = brokers.into_iter().map(Some).collect();
    let mut client = Client::connect(brokers[0].as_ref().unwrap().addresses().kafka).await;
    create(&mut client, "t").await;
    until("all are in sync", || {
        crate::replication::in_sync(brokers[0].as_ref().unwrap(), "t") == 3
    })
    .await;
    let begin = now_ms() + 1_500;
    let (mut due, mut sent) = (BTreeMap::new(), BTreeMap::new());
    let send = async |brokers: &[Option<Running>], value: String, at: i64| {
        let all: Vec<&Running> = brokers.iter().flatten().collect();
        // One identity for each: sent again, it is taken once.
        let id = ProducerId(5_000 + value.parse::<i64>().unwrap());
        let at = at.to_string();
        let batch = build(
            BatchBuilder::new().producer(id, ProducerEpoch(0), 0),
            &[(&value, &[("weir-deliver-at", &at)])],
        );
        produce(&all, "t", batch).await;
    };
    for number in 0..200_i64 {
        let at = begin + number * 37 % 200 * 15;
        let value = format!("{number:03}");
        send(&brokers, value.clone(), at).await;
        sent.insert(value.clone(), (at, now_ms()));
        due.insert(value, at);
    }
    let led = leader(brokers[0].as_ref().unwrap(), "t").unwrap();
    let mut at_leader = Client::connect(brokers[led].as_ref().unwrap().addresses().kafka).await;
    let mut before = Consumer::default();
    before.until(&mut at_leader, 30).await;
    // In the middle of it another takes over.
    let gone = brokers[led].take().unwrap();
    gone.stop().await;
    for number in 200..230_i64 {
        let at = now_ms() + 500;
        let value = format!("{number:03}");
        send(&brokers, value.clone(), at).await;
        due.insert(value, at);
    }
    let other = brokers.iter().flatten().next().unwrap();
    until("another leads", || {
        leader(other, "t").is_some_and(|now| now != led)
    })
    .await;
    let next = leader(other, "t").unwrap();
    let mut at_next = Client::connect(brokers[next].as_ref().unwrap().addresses().kafka).await;
    let mut after = Consumer::default();
    eventually("all has come", async || {
        let new = after.poll(&mut at_next).await;
        let now = now_ms();
        for (_, value) in new {
            assert!(now >= due[&value], "{value} is early");
        }
        (after.seen.len() >= due.len()).then_some(())
    })
    .await;
    // Behind whatever might come once more.
    send(&brokers, "230".to_owned(), now_ms() + 100).await;
    let mut all = after.until(&mut at_next, due.len() + 1).await;
    assert_eq!(all.pop().as_deref(), Some("230"));
    assert_eq!(
        all.iter().collect::<BTreeSet<_>>().len(),
        all.len(),
        "twice"
    );
    assert_eq!(all.len(), due.len());
    // What was sent before it is in the order of its time.
    assert_in_order(all.iter().filter(|value| sent.contains_key(*value)), &sent);
    assert_eq!(before.seen[..30], after.seen[..30]);
    for broker in brokers.into_iter().flatten() {
        broker.stop().await;
    }
}

fn named(id: &str, value: &str) -> Bytes {
    records(&[(value, &[("weir-message-id", id)])])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_twice_within_the_window_is_there_once() {
    let (broker, mut client) = house(&[("weir.queue.deduplication.window.ms", "600000")]).await;
    let first = send(&mut client, &named("1", "one")).await;
    let second = send(&mut client, &named("2", "two")).await;
    assert_eq!(send(&mut client, &named("1", "one, again")).await, first);
    // Of a batch what is new is taken.
    let mixed = records(&[
        ("two, again", &[("weir-message-id", "2")]),
        ("three", &[("weir-message-id", "3")]),
        ("three, again", &[("weir-message-id", "3")]),
        ("without", &[]),
    ]);
    let base = send(&mut client, &mixed).await;
    let expected = [
        (first, "one".to_owned()),
        (second, "two".to_owned()),
        (base + 1, "three".to_owned()),
        (base + 3, "without".to_owned()),
    ];
    let mut consumer = Consumer::default();
    consumer.until(&mut client, 4).await;
    assert_eq!(consumer.seen, expected);
    // An idempotent producer's sequence goes on over what was left out.
    let of = |sequence, id: &str| {
        let builder = BatchBuilder::new().producer(ProducerId(4_000), ProducerEpoch(0), sequence);
        build(builder, &[(id, &[("weir-message-id", id)])])
    };
    let five = send(&mut client, &of(0, "5")).await;
    assert_eq!(
        send(&mut client, &of(0, "5")).await,
        five,
        "its answer was lost"
    );
    send(&mut client, &of(1, "1")).await;
    send(&mut client, &of(2, "6")).await;
    // Also by who leads next.
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    assert_eq!(
        send(&mut client, &named("3", "three, late")).await,
        base + 1
    );
    assert_eq!(send(&mut client, &named("2", "two, late")).await, second);
    // And by many at once.
    let senders = (0..8).map(|number| {
        let address = broker.running.addresses().kafka;
        async move {
            let mut client = Client::connect(address).await;
            for id in 100..120 {
                let message = named(&id.to_string(), &format!("{id} of {number}"));
                send(&mut client, &message).await;
            }
        }
    });
    futures::future::join_all(senders).await;
    let mut consumer = Consumer::default();
    let end = send(&mut client, &batch(&["end"])).await;
    eventually("all is read", async || {
        consumer.poll(&mut client).await;
        (consumer.next > end).then_some(())
    })
    .await;
    let all = consumer.values();
    assert_eq!(all.len(), 4 + 2 + 20 + 1, "{all:?}");
    assert_eq!(all[4..6], ["5", "6"]);
    let ids: BTreeSet<_> = all[6..26]
        .iter()
        .map(|value| value[..3].to_owned())
        .collect();
    assert_eq!(ids.len(), 20);
    let (_, metrics) = broker.http("/metrics").await;
    let line = "weir_topic_deduplicated_messages_total{topic=\"t\"} 142";
    assert!(metrics.contains(line), "{metrics}");
    broker.running.stop().await;
}

#[tokio::test]
async fn a_delayed_message_that_comes_twice_is_released_once() {
    let config = [MAX, ("weir.queue.deduplication.window.ms", "600000")];
    let (broker, mut client) = house(&config).await;
    let later =
        |id: &str, ms: &str| records(&[(id, &[("weir-message-id", id), ("weir-delay-ms", ms)])]);
    let receipt = send(&mut client, &later("a", "300")).await;
    assert_eq!(send(&mut client, &later("a", "400")).await, receipt);
    let mut consumer = Consumer::default();
    consumer.until(&mut client, 1).await;
    assert_eq!(send(&mut client, &named("a", "again")).await, receipt);
    send(&mut client, &later("end", "200")).await;
    assert_eq!(consumer.until(&mut client, 2).await, ["a", "end"]);
    broker.running.stop().await;
}
