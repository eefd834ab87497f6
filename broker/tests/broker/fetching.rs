//! What a consumer is given, and when.

use weir_wire::MessageView;
use weir_wire::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use weir_wire::messages::offset_for_leader_epoch_request::{
    OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use weir_wire::messages::{
    ErrorCode, FetchRequest, FetchResponseView, ListOffsetsRequest, ListOffsetsResponseView,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponseView,
};

use crate::client::{Client, TestBroker, batch, fetch, values};

async fn broker_with(values: &[&str]) -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 2, &[]).await;
    for value in values {
        client.produce("t", 0, batch(&[value])).await;
    }
    client
        .produce("t", 1, batch(&["of the other partition"]))
        .await;
    (broker, client)
}

#[tokio::test]
async fn trap_7_at_least_one_whole_batch_comes_however_large_it_is() {
    let large = "x".repeat(10_000);
    let (_broker, mut client) = broker_with(&[&large, "small"]).await;
    let mut request = fetch("t", 0, 0);
    (
        request.max_bytes,
        request.topics[0].partitions[0].partition_max_bytes,
    ) = (1, 1);
    let data = client
        .fetch(12, &request)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(values(&data), [(0, large)]);
}

#[tokio::test]
async fn trap_7_no_records_are_of_length_0_and_never_null() {
    let (_broker, mut client) = broker_with(&["a"]).await;
    let at_end = client.fetch_from("t", 0, 1).await;
    assert_eq!(
        (
            at_end.error_code,
            at_end.records.map(|records| records.len())
        ),
        (0, Some(0))
    );
    for (offset, partition) in [(5, 0), (0, 9)] {
        let body = client.call(12, &fetch("t", partition, offset)).await;
        let response = FetchResponseView::decode(&body, 12).unwrap().to_owned();
        let data = &response.responses[0].partitions[0];
        assert_ne!(data.error_code, 0);
        assert_eq!(data.records.as_ref().map(|records| records.len()), Some(0));
    }
}

#[tokio::test]
async fn the_limit_of_the_whole_response_holds_over_its_partitions() {
    let large = "x".repeat(10_000);
    let (_broker, mut client) = broker_with(&[&large]).await;
    let mut request = fetch("t", 0, 0);
    request.max_bytes = 10_000;
    let mut second = request.topics[0].partitions[0].clone();
    second.partition = 1;
    request.topics[0].partitions.push(second);
    let response = client.fetch(12, &request).await;
    let lengths = response.responses[0]
        .partitions
        .iter()
        .map(|data| data.records.as_ref().map_or(0, |r| r.len()));
    let lengths: Vec<_> = lengths.collect();
    assert!(lengths[0] > 10_000 && lengths[1] == 0, "{lengths:?}");
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_is_woken_by_the_first() {
    let (broker, mut waiting) = broker_with(&["a"]).await;
    let mut request = fetch("t", 0, 1);
    (request.min_bytes, request.max_wait_ms) = (1, 60_000);
    let number = waiting.send(12, &request).await;
    let mut producer = broker.connect().await;
    producer.produce("t", 0, batch(&["b"])).await;
    let body = waiting.answer::<FetchRequest>(12, number).await;
    let response = FetchResponseView::decode(&body, 12).unwrap().to_owned();
    assert_eq!(
        values(&response.responses[0].partitions[0]),
        [(1, "b".into())]
    );
}

#[tokio::test]
async fn a_fetch_that_waited_long_enough_is_answered_with_what_there_is() {
    let (_broker, mut client) = broker_with(&["a"]).await;
    let mut request = fetch("t", 0, 0);
    (request.min_bytes, request.max_wait_ms) = (1 << 20, 50);
    let data = client
        .fetch(12, &request)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(values(&data), [(0, "a".into())]);
}

#[tokio::test]
async fn an_offset_outside_of_the_log_is_an_error_without_bounds_as_in_kafka() {
    let (_broker, mut client) = broker_with(&["a"]).await;
    let data = client.fetch_from("t", 0, 7).await;
    assert_eq!(data.error_code, ErrorCode::OffsetOutOfRange.code());
    assert_eq!((data.log_start_offset, data.high_watermark), (-1, -1));
}

#[tokio::test]
async fn trap_8_a_client_with_another_leader_epoch_is_told_whether_it_is_old_or_ahead() {
    let (_broker, mut client) = broker_with(&["a"]).await;
    let mut request = fetch("t", 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 5;
    let data = client
        .fetch(12, &request)
        .await
        .responses
        .remove(0)
        .partitions
        .remove(0);
    assert_eq!(data.error_code, ErrorCode::UnknownLeaderEpoch.code());
    let partition = OffsetForLeaderPartition {
        partition: 0,
        leader_epoch: 0,
        current_leader_epoch: 0,
    };
    let topic = OffsetForLeaderTopic {
        topic: "t".into(),
        partitions: vec![partition],
    };
    let request = OffsetForLeaderEpochRequest {
        topics: vec![topic],
        ..OffsetForLeaderEpochRequest::default()
    };
    let body = client.call(4, &request).await;
    let response = OffsetForLeaderEpochResponseView::decode(&body, 4)
        .unwrap()
        .to_owned();
    let end = &response.topics[0].partitions[0];
    assert_eq!(
        (end.error_code, end.leader_epoch, end.end_offset),
        (0, 0, 1)
    );
}

async fn list_offset(client: &mut Client, version: i16, timestamp: i64) -> (i16, i64, i64) {
    let partition = ListOffsetsPartition {
        partition_index: 0,
        timestamp,
        ..ListOffsetsPartition::default()
    };
    let topic = ListOffsetsTopic {
        name: "t".into(),
        partitions: vec![partition],
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![topic],
        ..ListOffsetsRequest::default()
    };
    let body = client.call(version, &request).await;
    let response = ListOffsetsResponseView::decode(&body, version)
        .unwrap()
        .to_owned();
    let found = &response.topics[0].partitions[0];
    (found.error_code, found.offset, found.timestamp)
}

#[tokio::test]
async fn trap_9_offsets_are_listed_by_time_and_by_the_special_timestamps() {
    let (_broker, mut client) = broker_with(&["a", "b", "c"]).await;
    let then = 1_700_000_000_000;
    for (timestamp, wanted) in [
        (-1, (0, 3, -1)),
        (-2, (0, 0, -1)),
        (-3, (0, 0, then)),
        (-4, (0, 0, -1)),
        (-5, (0, -1, -1)),
        (then, (0, 0, then)),
        (then + 1, (0, -1, -1)),
    ] {
        assert_eq!(
            list_offset(&mut client, 9, timestamp).await,
            wanted,
            "timestamp {timestamp}"
        );
    }
    // Versions without leader epochs have no room for one.
    assert_eq!(list_offset(&mut client, 1, -1).await, (0, 3, -1));
}
