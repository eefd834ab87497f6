//! Transactions as partitions see them: batches, markers, and what consumers of either kind are given.

use bytes::Bytes;
use weir_wire::batch::{Attributes, BatchBuilder};
use weir_wire::messages::describe_producers_request::TopicRequest;
use weir_wire::messages::describe_producers_response::ProducerState;
use weir_wire::messages::fetch_response::PartitionData;
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::produce_response::PartitionProduceResponse;
use weir_wire::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use weir_wire::messages::{
    DescribeProducersRequest, DescribeProducersResponseView, FetchRequest, InitProducerIdRequest,
    InitProducerIdResponseView, ListOffsetsRequest, ListOffsetsResponseView, ProduceRequest,
    WriteTxnMarkersRequest, WriteTxnMarkersResponseView,
};
use weir_wire::{ErrorCode, MessageView, ProducerEpoch, ProducerId};

use crate::client::{
    Client, TestBroker, batch, build, eventually, fetch, produce, produced, values,
};

const TOPIC: &str = "flights";

/// A producer with a transactional id.
struct Producer {
    id: i64,
    epoch: i16,
    transactional_id: String,
}

impl Producer {
    /// Waits for the coordinator to be there, as any client would.
    async fn new(client: &mut Client, transactional_id: &str) -> Self {
        let request = InitProducerIdRequest {
            transactional_id: Some(transactional_id.to_owned()),
            transaction_timeout_ms: 60_000,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        loop {
            let body = client.call(5, &request).await;
            let answer = InitProducerIdResponseView::decode(&body, 5).unwrap();
            let again = [
                ErrorCode::CoordinatorNotAvailable,
                ErrorCode::CoordinatorLoadInProgress,
                ErrorCode::NotCoordinator,
                ErrorCode::ConcurrentTransactions,
            ];
            match ErrorCode::from_code(answer.error_code) {
                Some(ErrorCode::None) => {
                    return Self {
                        id: answer.producer_id,
                        epoch: answer.producer_epoch,
                        transactional_id: transactional_id.to_owned(),
                    };
                }
                Some(code) if again.contains(&code) => {
                    // Whoever asks is the one who has the topic made.
                    let find = weir_wire::messages::FindCoordinatorRequest {
                        key_type: 1,
                        coordinator_keys: vec![transactional_id.to_owned()],
                        ..Default::default()
                    };
                    client.call(4, &find).await;
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn batch(&self, sequence: i32, values: &[&str]) -> Bytes {
        let builder = BatchBuilder::new()
            .producer(ProducerId(self.id), ProducerEpoch(self.epoch), sequence)
            .attributes(Attributes::default().with_transactional(true));
        build(builder, values)
    }

    fn request(&self, sequence: i32, values: &[&str]) -> ProduceRequest {
        ProduceRequest {
            transactional_id: Some(self.transactional_id.clone()),
            ..produce(TOPIC, 0, self.batch(sequence, values))
        }
    }

    /// Produces with version 12, which adds the partition to the transaction by itself.
    async fn send(
        &self,
        client: &mut Client,
        sequence: i32,
        values: &[&str],
    ) -> PartitionProduceResponse {
        let body = client.call(12, &self.request(sequence, values)).await;
        produced(&body, 12)
    }

    /// Ends the transaction as its coordinator would, which is not asked. Gives the partition's code.
    async fn end(&self, client: &mut Client, is_commit: bool) -> ErrorCode {
        self.end_as(client, self.epoch, is_commit, 0, 0).await
    }

    async fn end_as(
        &self,
        client: &mut Client,
        producer_epoch: i16,
        transaction_result: bool,
        coordinator_epoch: i32,
        transaction_version: i8,
    ) -> ErrorCode {
        let marker = WritableTxnMarker {
            producer_id: self.id,
            producer_epoch,
            transaction_result,
            topics: vec![WritableTxnMarkerTopic {
                name: TOPIC.to_owned(),
                partition_indexes: vec![0],
            }],
            coordinator_epoch,
            transaction_version,
        };
        let request = WriteTxnMarkersRequest {
            markers: vec![marker],
        };
        let body = client.call(2, &request).await;
        let answer = WriteTxnMarkersResponseView::decode(&body, 2)
            .unwrap()
            .to_owned();
        let code = answer.markers[0].topics[0].partitions[0].error_code;
        ErrorCode::from_code(code).unwrap()
    }
}

async fn started() -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic(TOPIC, 1, &[]).await;
    // The partition is open once it takes something.
    client.produce(TOPIC, 0, batch(&["plain"])).await;
    (broker, client)
}

async fn read(client: &mut Client, offset: i64, isolation_level: i8) -> PartitionData {
    let request = FetchRequest {
        isolation_level,
        ..fetch(TOPIC, 0, offset)
    };
    let mut response = client.fetch(12, &request).await;
    response.responses.remove(0).partitions.remove(0)
}

async fn latest(client: &mut Client, isolation_level: i8, timestamp: i64) -> i64 {
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level,
        topics: vec![ListOffsetsTopic {
            name: TOPIC.to_owned(),
            partitions: vec![ListOffsetsPartition {
                current_leader_epoch: -1,
                timestamp,
                ..ListOffsetsPartition::default()
            }],
        }],
        ..ListOffsetsRequest::default()
    };
    let body = client.call(7, &request).await;
    let answer = ListOffsetsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    answer.topics[0].partitions[0].offset
}

async fn producers(client: &mut Client) -> Vec<ProducerState> {
    let request = DescribeProducersRequest {
        topics: vec![TopicRequest {
            name: TOPIC.to_owned(),
            partition_indexes: vec![0, 9],
        }],
    };
    let body = client.call(0, &request).await;
    let mut answer = DescribeProducersResponseView::decode(&body, 0)
        .unwrap()
        .to_owned();
    let mut partitions = answer.topics.remove(0).partitions;
    assert_eq!(
        partitions.pop().map(|partition| partition.error_code),
        Some(ErrorCode::UnknownTopicOrPartition.code())
    );
    partitions.remove(0).active_producers
}

fn texts(data: &PartitionData) -> Vec<String> {
    let all = values(data).into_iter();
    // Markers have no text.
    all.map(|(_, text)| text)
        .filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic()))
        .collect()
}

#[tokio::test]
async fn committed_records_are_seen_by_all_once_their_marker_is_and_not_before() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    let sent = producer.send(&mut client, 0, &["a", "b"]).await;
    assert_eq!((sent.error_code, sent.base_offset), (0, 1));
    let open = read(&mut client, 0, 1).await;
    assert_eq!(texts(&open), ["plain"]);
    assert_eq!((open.high_watermark, open.last_stable_offset), (3, 1));
    assert_eq!(open.aborted_transactions, Some(Vec::new()));
    let all = read(&mut client, 0, 0).await;
    assert_eq!(texts(&all), ["plain", "a", "b"]);
    assert_eq!((all.high_watermark, all.last_stable_offset), (3, 1));
    assert_eq!(all.aborted_transactions, None);
    assert_eq!(latest(&mut client, 1, -1).await, 1);
    assert_eq!(latest(&mut client, 0, -1).await, 3);
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    let decided = read(&mut client, 0, 1).await;
    assert_eq!(texts(&decided), ["plain", "a", "b"]);
    assert_eq!((decided.high_watermark, decided.last_stable_offset), (4, 4));
    assert_eq!(latest(&mut client, 1, -1).await, 4);
}

#[tokio::test]
async fn trap_10_aborted_transactions_are_listed_for_the_range_in_the_order_of_their_beginnings() {
    let (_broker, mut client) = started().await;
    let first = Producer::new(&mut client, "t1").await;
    let second = Producer::new(&mut client, "t2").await;
    first.send(&mut client, 0, &["a"]).await;
    second.send(&mut client, 0, &["b"]).await;
    // Ended in the other order.
    assert_eq!(second.end(&mut client, false).await, ErrorCode::None);
    assert_eq!(first.end(&mut client, false).await, ErrorCode::None);
    let data = read(&mut client, 0, 1).await;
    let aborted = data.aborted_transactions.unwrap();
    let listed: Vec<_> = aborted
        .iter()
        .map(|aborted| (aborted.producer_id, aborted.first_offset))
        .collect();
    assert_eq!(listed, [(first.id, 1), (second.id, 2)]);
    // Behind them there is nothing to be left out.
    client.produce(TOPIC, 0, batch(&["later"])).await;
    let data = read(&mut client, 5, 1).await;
    assert_eq!(data.aborted_transactions, Some(Vec::new()));
}

#[tokio::test]
async fn a_consumer_of_what_is_committed_is_woken_by_the_marker() {
    let (broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    producer.send(&mut client, 0, &["a"]).await;
    let mut consumer = broker.connect().await;
    let request = FetchRequest {
        isolation_level: 1,
        min_bytes: 1,
        max_wait_ms: 50_000,
        ..fetch(TOPIC, 0, 1)
    };
    let number = consumer.send(12, &request).await;
    client.produce(TOPIC, 0, batch(&["plain"])).await;
    assert_eq!(producer.end(&mut client, true).await, ErrorCode::None);
    let body = consumer.answer::<FetchRequest>(12, number).await;
    let response = weir_wire::messages::FetchResponseView::decode(&body, 12)
        .unwrap()
        .to_owned();
    assert_eq!(texts(&response.responses[0].partitions[0]), ["a", "plain"]);
}

#[tokio::test]
async fn batches_that_are_sent_at_once_begin_a_transaction_in_their_order() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    let mut numbers = Vec::new();
    for sequence in 0..8 {
        numbers.push(client.send(12, &producer.request(sequence, &["a"])).await);
    }
    for (place, number) in numbers.into_iter().enumerate() {
        let body = client.answer::<ProduceRequest>(12, number).await;
        let answer = produced(&body, 12);
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, 1 + place as i64)
        );
    }
}

#[tokio::test]
async fn a_producer_of_version_1_is_refused_where_it_has_not_announced_itself() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    for (version, code) in [
        (9, ErrorCode::InvalidTxnState),
        (11, ErrorCode::TransactionAbortable),
    ] {
        let body = client.call(version, &producer.request(0, &["a"])).await;
        assert_eq!(
            produced(&body, version).error_code,
            code.code(),
            "{version}"
        );
    }
    assert_eq!(texts(&read(&mut client, 0, 0).await), ["plain"]);
}

#[tokio::test]
async fn what_is_not_of_one_transaction_is_refused_as_a_whole() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    let anonymous = ProduceRequest {
        transactional_id: None,
        ..producer.request(0, &["a"])
    };
    let body = client.call(12, &anonymous).await;
    assert_eq!(
        produced(&body, 12).error_code,
        ErrorCode::TransactionalIdAuthorizationFailed.code()
    );
    let other = Producer::new(&mut client, "t2").await;
    let mut both = producer.request(0, &["a"]);
    let more = other.request(0, &["b"]).topic_data.remove(0);
    both.topic_data[0]
        .partition_data
        .extend(more.partition_data);
    let body = client.call(12, &both).await;
    assert_eq!(
        produced(&body, 12).error_code,
        ErrorCode::InvalidProducerIdMapping.code()
    );
    // An id alone makes nothing of it a transaction.
    let plain = ProduceRequest {
        transactional_id: Some("t".to_owned()),
        ..produce(TOPIC, 0, batch(&["b"]))
    };
    let body = client.call(12, &plain).await;
    assert_eq!(produced(&body, 12).error_code, 0);
    assert_eq!(latest(&mut client, 1, -1).await, 2);
}

#[tokio::test]
async fn late_markers_and_those_of_replaced_coordinators_are_refused() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    producer.send(&mut client, 0, &["a"]).await;
    // Version 2 raises the epoch (KIP-1228).
    let late = producer
        .end_as(&mut client, producer.epoch, true, 5, 2)
        .await;
    assert_eq!(late, ErrorCode::InvalidProducerEpoch);
    let raised = producer.epoch + 1;
    let ended = producer.end_as(&mut client, raised, true, 5, 2).await;
    assert_eq!(ended, ErrorCode::None);
    let retry = producer.end_as(&mut client, raised, true, 5, 2).await;
    assert_eq!(retry, ErrorCode::None);
    let zombie = producer.end_as(&mut client, raised, false, 4, 2).await;
    assert_eq!(zombie, ErrorCode::TransactionCoordinatorFenced);
    let fenced = producer.send(&mut client, 1, &["b"]).await;
    assert_ne!(fenced.error_code, 0);
}

#[tokio::test]
async fn producers_are_described_with_their_open_transactions() {
    let (_broker, mut client) = started().await;
    let producer = Producer::new(&mut client, "t").await;
    producer.send(&mut client, 0, &["a", "b"]).await;
    let described = producers(&mut client).await;
    let expected = ProducerState {
        producer_id: producer.id,
        producer_epoch: producer.epoch.into(),
        last_sequence: 1,
        last_timestamp: 1_700_000_000_000,
        coordinator_epoch: -1,
        current_txn_start_offset: 1,
    };
    assert_eq!(described, [expected]);
    producer
        .end_as(&mut client, producer.epoch, true, 3, 0)
        .await;
    let [described] = &producers(&mut client).await[..] else {
        panic!("one producer")
    };
    assert_eq!(
        (
            described.coordinator_epoch,
            described.current_txn_start_offset
        ),
        (3, -1)
    );
}

#[tokio::test]
async fn an_open_transaction_and_an_aborted_one_outlive_a_restart() {
    let (broker, mut client) = started().await;
    let aborted = Producer::new(&mut client, "t1").await;
    let open = Producer::new(&mut client, "t2").await;
    aborted.send(&mut client, 0, &["a"]).await;
    assert_eq!(aborted.end(&mut client, false).await, ErrorCode::None);
    open.send(&mut client, 0, &["b"]).await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let data = eventually("the partition is led", async || {
        let data = read(&mut client, 0, 1).await;
        (data.error_code == 0).then_some(data)
    })
    .await;
    assert_eq!((data.high_watermark, data.last_stable_offset), (4, 3));
    let listed = data.aborted_transactions.unwrap();
    assert_eq!(
        (listed.len(), listed[0].producer_id, listed[0].first_offset),
        (1, aborted.id, 1)
    );
    assert_eq!(open.end(&mut client, true).await, ErrorCode::None);
    assert_eq!(read(&mut client, 0, 1).await.last_stable_offset, 5);
}
