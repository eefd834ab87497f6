//! Appending to a partition in no Kafka client's name, whoever leads it.

use bytes::Bytes;
use weir_broker::queue::append::{append, passes};
use weir_broker::start::Running;
use weir_wire::batch::{Attributes, BatchBuilder};
use weir_wire::messages::ErrorCode;
use weir_wire::{Offset, PartitionIndex, ProducerEpoch, ProducerId};

use crate::client::{Client, TestBroker, batch, build, eventually, values};
use crate::cluster::{cluster, knows};
use crate::share::initialize;

/// Appends at a broker, again on what passes.
async fn append_at(at: &Running, batch: &Bytes) -> Result<i64, ErrorCode> {
    eventually("a batch is appended or refused", async || {
        let partition = PartitionIndex(0);
        match append(at.broker(), "t", partition, batch.clone()).await {
            Ok(offset) => Some(Ok(offset.0)),
            Err(error) if passes(error.code) => None,
            Err(error) => Some(Err(error.code)),
        }
    })
    .await
}

#[tokio::test]
async fn any_broker_appends_to_a_partition_that_another_leads() {
    let (brokers, _dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    client.create_topic("t", 1, &[]).await;
    let leader = knows(&mut client, 1).await[&0];
    let at = usize::try_from(leader).unwrap();
    let other = &brokers[(at + 1) % 3];
    other
        .broker()
        .metadata
        .until(|metadata| metadata.image().topic("t").is_some())
        .await;
    let numbered = |sequence| {
        let builder = BatchBuilder::new().producer(ProducerId(77), ProducerEpoch(0), sequence);
        build(builder, &["x"])
    };
    assert_eq!(append_at(other, &batch(&["a", "b"])).await, Ok(0));
    assert_eq!(append_at(&brokers[at], &batch(&["c"])).await, Ok(2));
    // A second attempt of what has a number is no second message, wherever it comes from.
    assert_eq!(append_at(other, &numbered(0)).await, Ok(3));
    assert_eq!(append_at(other, &numbered(0)).await, Ok(3));
    assert_eq!(append_at(&brokers[at], &numbered(0)).await, Ok(3));
    assert_eq!(append_at(other, &numbered(1)).await, Ok(4));
    let gap = append_at(other, &numbered(9)).await;
    assert_eq!(gap, Err(ErrorCode::OutOfOrderSequenceNumber));
    // What is given an offset can be read.
    let mut client = Client::connect(brokers[at].addresses().kafka).await;
    let read: Vec<String> = values(&client.fetch_from("t", 0, 0).await)
        .into_iter()
        .map(|(_, value)| value)
        .collect();
    assert_eq!(read, ["a", "b", "c", "x", "x"]);
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn what_a_producer_would_be_refused_is_refused_there_too() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client
        .create_topic("t", 1, &[("weir.queue.max.messages", "2")])
        .await;
    let running = &broker.running;
    assert_eq!(append_at(running, &batch(&["a", "b"])).await, Ok(0));
    let full = append_at(running, &batch(&["c"])).await;
    assert_eq!(full, Err(ErrorCode::PolicyViolation));
    let control = BatchBuilder::new().attributes(Attributes::default().with_control(true));
    let control = append_at(running, &build(control, &["d"])).await;
    assert_eq!(control, Err(ErrorCode::InvalidRecord));
    let of_transaction = BatchBuilder::new()
        .producer(ProducerId(77), ProducerEpoch(0), 0)
        .attributes(Attributes::default().with_transactional(true));
    let of_transaction = append_at(running, &build(of_transaction, &["d"])).await;
    assert_eq!(of_transaction, Err(ErrorCode::InvalidTxnState));
    let to = async |topic: &str, partition: i32| {
        let partition = PartitionIndex(partition);
        let appended = append(running.broker(), topic, partition, batch(&["e"])).await;
        appended.map_err(|error| error.code)
    };
    let unknown: Result<Offset, _> = Err(ErrorCode::UnknownTopicOrPartition);
    assert_eq!(to("nowhere", 0).await, unknown);
    assert_eq!(to("t", 7).await, unknown);
    // Which makes the topic of states.
    initialize(&mut client, topic, 0).await;
    assert_eq!(
        to("__share_group_state", 0).await,
        Err(ErrorCode::InvalidTopicException)
    );
    broker.running.stop().await;
}
