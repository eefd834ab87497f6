//! Bounded queues: how much of a partition may be unsettled, and what becomes of more.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio::task::{JoinSet, LocalSet};
use uuid::Uuid;
use weir_broker::start::Running;
use weir_wire::batch::BatchBuilder;
use weir_wire::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use weir_wire::messages::produce_response::PartitionProduceResponse;
use weir_wire::messages::{
    CreateTopicsRequest, CreateTopicsResponseView, ErrorCode, InitProducerIdRequest,
    InitProducerIdResponseView, ProduceRequest,
};
use weir_wire::{MessageView, ProducerEpoch, ProducerId};

use crate::client::{
    Client, PATIENCE, TestBroker, batch, build, eventually, produce, produced, values,
};
use crate::cluster::cluster;
use crate::replication::leader;
use crate::share::{ACCEPT, GROUP, Member, initialize};

pub(crate) const SOLD_OUT: ErrorCode = ErrorCode::PolicyViolation;

/// A broker with a topic of one partition with this bound, of which the group has settled nothing.
pub(crate) async fn house(config: &[(&str, &str)]) -> (TestBroker, Client, Uuid) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // Batches are years old: retention would take them after half a minute, from a test that is slow.
    let config: Vec<_> = [("weir.queue.group", GROUP), ("retention.ms", "-1")]
        .into_iter()
        .chain(config.iter().copied())
        .collect();
    let topic = client.create_topic("t", 1, &config).await;
    initialize(&mut client, topic, 0).await;
    (broker, client, topic)
}

/// Appends, and comes again as long as the backlog is being counted, as any client would.
async fn send(client: &mut Client, batch: &Bytes) -> PartitionProduceResponse {
    eventually("the backlog is counted", async || {
        let answer = client.produce("t", 0, batch.clone()).await;
        let message = answer.error_message.as_deref().unwrap_or_default();
        (!message.contains("being counted")).then_some(answer)
    })
    .await
}

pub(crate) fn of(client_records: usize) -> Bytes {
    batch(&vec!["ticket"; client_records])
}

#[tokio::test]
async fn a_full_queue_says_so_until_something_is_settled() {
    let (broker, mut client, topic) = house(&[("weir.queue.max.messages", "10")]).await;
    for _ in 0..5 {
        assert_eq!(send(&mut client, &of(2)).await.error_code, 0);
    }
    let refused = send(&mut client, &of(1)).await;
    assert_eq!(refused.error_code, SOLD_OUT.code());
    let message = refused.error_message.unwrap();
    assert!(
        message.contains("10 messages are not settled, and at most 10 may be")
            && message.contains(GROUP),
        "{message}"
    );
    // What is only out counts; what is settled out of order does not.
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 9, 1)]);
    assert_eq!(send(&mut client, &of(1)).await.error_code, SOLD_OUT.code());
    assert_eq!(member.acked(&[(4, 6, ACCEPT)]).await, 0);
    assert_eq!(send(&mut client, &of(4)).await.error_code, SOLD_OUT.code());
    assert_eq!(send(&mut client, &of(3)).await.base_offset, 10);
    assert_eq!(member.acked(&[(0, 3, ACCEPT)]).await, 0);
    assert_eq!(send(&mut client, &of(4)).await.base_offset, 13);
    assert_eq!(send(&mut client, &of(1)).await.error_code, SOLD_OUT.code());
    let (_, metrics) = broker.http("/metrics").await;
    for line in [
        "weir_topic_queue_backlog_messages{topic=\"t\"} 10",
        "weir_topic_queue_bound_messages{topic=\"t\"} 10",
        "weir_topic_queue_refused_batches_total{topic=\"t\"} 4",
    ] {
        assert!(metrics.contains(line), "{line}");
    }
    broker.running.stop().await;
}

/// Of an idempotent producer.
pub(crate) async fn producer_id(client: &mut Client) -> ProducerId {
    let identity = eventually("there are producer ids", async || {
        let request = InitProducerIdRequest {
            transactional_id: None,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let body = client.call(4, &request).await;
        let identity = InitProducerIdResponseView::decode(&body, 4)
            .unwrap()
            .to_owned();
        (identity.error_code == 0).then_some(identity)
    });
    ProducerId(identity.await.producer_id)
}

fn numbered(id: ProducerId, sequence: i32, count: usize) -> Bytes {
    let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), sequence);
    build(builder, &vec!["ticket"; count])
}

#[tokio::test]
async fn what_is_behind_a_new_producers_refused_batch_is_not_taken_before_it() {
    let config = [
        ("weir.queue.max.messages", "2"),
        ("weir.queue.overflow", "throttle"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    let id = producer_id(&mut client).await;
    assert_eq!(send(&mut client, &of(2)).await.error_code, 0);
    let mut impatient = produce("t", 0, numbered(id, 0, 1));
    // A quarter of it is left for the answer: enough for any machine.
    impatient.timeout_ms = 4_000;
    let later = produced(&client.call(9, &impatient).await, 9);
    assert_eq!(later.error_code, ErrorCode::NotEnoughReplicas.code());
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    // There is room by now, and the batch was on its way.
    let mut behind = produce("t", 0, numbered(id, 1, 1));
    behind.timeout_ms = 4_000;
    let behind = produced(&client.call(9, &behind).await, 9);
    assert_eq!(behind.error_code, ErrorCode::NotEnoughReplicas.code());
    assert_eq!(send(&mut client, &numbered(id, 0, 1)).await.base_offset, 2);
    assert_eq!(send(&mut client, &numbered(id, 1, 1)).await.base_offset, 3);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_batch_too_many_is_refused_and_those_pipelined_behind_it_go_through() {
    let (broker, mut client, _) = house(&[("weir.queue.max.messages", "6")]).await;
    let id = producer_id(&mut client).await;
    let numbered = |sequence, count| numbered(id, sequence, count);
    assert_eq!(send(&mut client, &numbered(0, 5)).await.base_offset, 0);
    let mut numbers = Vec::new();
    for batch in [numbered(5, 3), numbered(8, 1), numbered(9, 1)] {
        numbers.push(client.send(9, &produce("t", 0, batch)).await);
    }
    let mut told = Vec::new();
    for number in numbers {
        let body = client.answer::<ProduceRequest>(9, number).await;
        told.push(produced(&body, 9));
    }
    let codes: Vec<i16> = told.iter().map(|answer| answer.error_code).collect();
    assert_eq!(codes, [SOLD_OUT.code(), 0, SOLD_OUT.code()]);
    assert_eq!(told[1].base_offset, 5);
    // Its answers were lost, and it sends them again: what is in the log is not refused, what was refused is not taken.
    assert_eq!(send(&mut client, &numbered(0, 5)).await.base_offset, 0);
    let again = send(&mut client, &numbered(5, 3)).await;
    assert_eq!(
        again.error_code,
        SOLD_OUT.code(),
        "librdkafka would not survive 45 here"
    );
    assert_eq!(send(&mut client, &numbered(8, 1)).await.base_offset, 5);
    // A real gap is told all the same.
    let gap = send(&mut client, &numbered(30, 1)).await;
    assert_eq!(gap.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn concurrent_producers_do_not_pass_the_bound_together() {
    let (broker, mut client, _) = house(&[("weir.queue.max.messages", "100")]).await;
    assert_eq!(send(&mut client, &of(1)).await.error_code, 0);
    let (local, mut buyers) = (LocalSet::new(), JoinSet::new());
    for _ in 0..8 {
        let mut client = broker.connect().await;
        let buyer = async move {
            let mut bought = 0;
            for count in (1..=3).cycle().take(30) {
                let answer = send(&mut client, &of(count)).await;
                match answer.error_code {
                    0 => bought += count,
                    code => assert_eq!(code, SOLD_OUT.code()),
                }
            }
            bought
        };
        buyers.spawn_local_on(buyer, &local);
    }
    let bought: usize = local.run_until(buyers.join_all()).await.into_iter().sum();
    assert_eq!(bought, 99);
    assert_eq!(send(&mut client, &of(1)).await.error_code, SOLD_OUT.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let one = of(1).len();
    let most = (one * 3).to_string();
    let (broker, mut client, topic) = house(&[("weir.queue.max.bytes", &most)]).await;
    for offset in 0..3 {
        assert_eq!(send(&mut client, &of(1)).await.base_offset, offset);
    }
    let refused = send(&mut client, &of(1)).await;
    assert_eq!(refused.error_code, SOLD_OUT.code());
    assert!(
        refused
            .error_message
            .unwrap()
            .contains("bytes are not settled")
    );
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 2, 1)]);
    assert_eq!(member.acked(&[(0, 0, ACCEPT)]).await, 0);
    assert_eq!(send(&mut client, &of(1)).await.base_offset, 3);
    assert_eq!(send(&mut client, &of(1)).await.error_code, SOLD_OUT.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn the_bound_holds_after_a_restart() {
    let bytes = (of(1).len() * 5).to_string();
    let config = [
        ("weir.queue.max.messages", "4"),
        ("weir.queue.max.bytes", bytes.as_str()),
    ];
    let (broker, mut client, topic) = house(&config).await;
    for _ in 0..4 {
        assert_eq!(send(&mut client, &of(1)).await.error_code, 0);
    }
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 0, ACCEPT), (2, 2, ACCEPT)]).await, 0);
    member.close().await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    // Two are settled, and two may come.
    assert_eq!(send(&mut client, &of(1)).await.base_offset, 4);
    assert_eq!(send(&mut client, &of(1)).await.base_offset, 5);
    let refused = send(&mut client, &of(1)).await;
    assert_eq!(refused.error_code, SOLD_OUT.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn the_oldest_messages_make_room_where_that_is_wanted() {
    let config = [
        ("weir.queue.max.messages", "3"),
        ("weir.queue.overflow", "drop_oldest"),
    ];
    let (broker, mut client, _) = house(&config).await;
    for number in 0..7 {
        let answer = send(&mut client, &batch(&[&number.to_string()])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, number));
    }
    eventually("the oldest are gone", async || {
        let data = client.fetch_from("t", 0, 3).await;
        (data.error_code == ErrorCode::OffsetOutOfRange.code()).then_some(())
    })
    .await;
    let data = client.fetch_from("t", 0, 4).await;
    let left: Vec<String> = values(&data).into_iter().map(|(_, value)| value).collect();
    assert_eq!(left, ["4", "5", "6"], "{data:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_too_much_when_a_bound_begins_makes_room_at_once() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // Years old, as in a house.
    client.create_topic("t", 1, &[("retention.ms", "-1")]).await;
    for number in 0..7 {
        let answer = send(&mut client, &batch(&[&number.to_string()])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, number));
    }
    for (most, begins) in [("4", 3), ("2", 5)] {
        let changes = [
            (0, "weir.queue.max.messages", Some(most)),
            (0, "weir.queue.overflow", Some("drop_oldest")),
        ];
        assert_eq!(client.alter_configs(2, "t", &changes).await, 0);
        eventually("the oldest are gone", async || {
            let data = client.fetch_from("t", 0, begins - 1).await;
            (data.error_code == ErrorCode::OffsetOutOfRange.code()).then_some(())
        })
        .await;
        let data = client.fetch_from("t", 0, begins).await;
        assert_eq!(values(&data).len() as i64, 7 - begins, "{data:?}");
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_settled_stays_to_be_read_while_there_is_room() {
    let config = [
        ("weir.queue.max.messages", "3"),
        ("weir.queue.overflow", "drop_oldest"),
    ];
    let (broker, mut client, topic) = house(&config).await;
    for _ in 0..2 {
        assert_eq!(send(&mut client, &of(1)).await.error_code, 0);
    }
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    member.close().await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    // Both are settled, and the backlog is counted: there is room for three.
    for offset in 2..5 {
        assert_eq!(send(&mut client, &of(1)).await.base_offset, offset);
    }
    let data = client.fetch_from("t", 0, 0).await;
    assert_eq!((data.error_code, data.log_start_offset), (0, 0), "{data:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn without_a_group_what_is_there_counts() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client
        .create_topic("t", 1, &[("weir.queue.max.messages", "2")])
        .await;
    assert_eq!(send(&mut client, &of(2)).await.error_code, 0);
    assert_eq!(send(&mut client, &of(1)).await.error_code, SOLD_OUT.code());
    broker.running.stop().await;
}

/// What whoever leads says, once somebody does who knows the backlog.
async fn ask(brokers: &[Running], batch: &Bytes) -> PartitionProduceResponse {
    let passes = [
        // It was just made, and the leader is the last to hear of it.
        ErrorCode::UnknownTopicOrPartition,
        ErrorCode::LeaderNotAvailable,
        ErrorCode::NotLeaderOrFollower,
        ErrorCode::NotEnoughReplicas,
    ];
    eventually("somebody leads", async || {
        let known = brokers.iter().find_map(|broker| leader(broker, "t"))?;
        let at = brokers.iter().find(|broker| {
            usize::try_from(broker.broker().metadata.broker_id().0).is_ok_and(|id| id == known)
        })?;
        let mut client = Client::connect(at.addresses().kafka).await;
        let answer = client.produce("t", 0, batch.clone()).await;
        let code = ErrorCode::from_code(answer.error_code)?;
        (!passes.contains(&code)).then_some(answer)
    })
    .await
}

/// A topic of which each partition has three replicas, and the group has settled nothing.
pub(crate) async fn create_replicated(
    client: &mut Client,
    partitions: i32,
    bounds: &[(&str, &str)],
) {
    let configs = [("min.insync.replicas", "2"), ("weir.queue.group", GROUP)];
    let configs = configs.iter().chain(bounds);
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "t".to_owned(),
            num_partitions: partitions,
            replication_factor: 3,
            configs: configs
                .map(|(name, value)| CreatableTopicConfig {
                    name: (*name).to_owned(),
                    value: Some((*value).to_owned()),
                })
                .collect(),
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
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
}

#[tokio::test]
async fn the_bound_holds_when_another_leads() {
    let (mut brokers, _dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    let bounds = [
        ("weir.queue.max.messages", "5"),
        ("weir.queue.max.bytes", "100000"),
    ];
    create_replicated(&mut client, 1, &bounds).await;
    for offset in 0..5 {
        let answer = ask(&brokers, &of(1)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
    }
    assert_eq!(ask(&brokers, &of(1)).await.error_code, SOLD_OUT.code());
    let led = brokers
        .iter()
        .find_map(|broker| leader(broker, "t"))
        .unwrap();
    brokers.remove(led).stop().await;
    let refused = ask(&brokers, &of(1)).await;
    assert_eq!(
        refused.error_code,
        SOLD_OUT.code(),
        "{:?}",
        refused.error_message
    );
    for broker in brokers {
        broker.stop().await;
    }
}

/// Buys from one partition until it is sold out.
async fn buy_all(brokers: &[Running], partition: i32, sold: &AtomicU64) {
    let ticket = of(1);
    let selling = async {
        loop {
            let known = brokers.iter().find_map(|broker| {
                let image = broker.broker().metadata.image();
                image.partition("t", partition)?.leader
            });
            let at = brokers
                .iter()
                .find(|broker| Some(broker.broker().metadata.broker_id()) == known);
            if let Some(at) = at {
                let mut client = Client::connect(at.addresses().kafka).await;
                loop {
                    let answer = client.produce("t", partition, ticket.clone()).await;
                    match ErrorCode::from_code(answer.error_code) {
                        Some(ErrorCode::None) => sold.fetch_add(1, Ordering::Relaxed),
                        Some(SOLD_OUT) => return,
                        _ => break,
                    };
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE * 3, selling)
        .await
        .unwrap_or_else(|_| panic!("partition {partition} is never sold out"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_bound_of_a_whole_topic_is_sold_to_the_last_message_and_never_passed() {
    const BOUND: u64 = 200;
    const PARTITIONS: i32 = 6;
    let (mut brokers, _dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    let bounds = [
        ("weir.queue.max.messages", &*BOUND.to_string()),
        ("weir.queue.max.scope", "topic"),
    ];
    create_replicated(&mut client, PARTITIONS, &bounds).await;
    let sold = AtomicU64::new(0);
    join_all((0..PARTITIONS).map(|partition| buy_all(&brokers, partition, &sold))).await;
    assert_eq!(sold.load(Ordering::Relaxed), BOUND);

    // Whoever keeps the ledger goes: the next one knows of nothing, and hears what everyone has.
    let kept = brokers
        .iter()
        .find_map(|broker| leader(broker, "t"))
        .unwrap();
    brokers.remove(kept).stop().await;
    join_all((0..PARTITIONS).map(|partition| buy_all(&brokers, partition, &sold))).await;
    assert_eq!(sold.load(Ordering::Relaxed), BOUND);
    for broker in brokers {
        broker.stop().await;
    }
}

// Out of order would be fatal to librdkafka, whose producer may only have been silent for a day.
#[tokio::test]
async fn a_producer_of_which_nothing_is_known_any_more_is_told_to_begin_anew() {
    let (broker, mut client, _) = house(&[("weir.queue.max.messages", "10")]).await;
    let numbered = |epoch, sequence| {
        let builder = BatchBuilder::new().producer(ProducerId(77), ProducerEpoch(epoch), sequence);
        build(builder, &["x"])
    };
    let told = client.produce("t", 0, numbered(0, 5)).await;
    assert_eq!(told.error_code, ErrorCode::UnknownProducerId.code());
    assert_eq!(told.log_start_offset, 0, "Java's producer waits for it");
    assert_eq!(send(&mut client, &numbered(1, 0)).await.error_code, 0);
    let told = client.produce("t", 0, numbered(1, 2)).await;
    assert_eq!(told.error_code, ErrorCode::OutOfOrderSequenceNumber.code());
    broker.running.stop().await;
}
