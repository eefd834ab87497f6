//! Frames, versions, and what a broker does with bytes that are neither.

use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::{
    ApiVersionsRequest, ApiVersionsResponseView, ErrorCode, MetadataRequest, MetadataResponseView,
    ProduceResponseView,
};
use weir_wire::{ApiKey, MessageView};

use crate::client::{TestBroker, batch, eventually, produce};

/// A request header of version 1 with an empty body.
fn header(key: i16, version: i16, correlation_id: i32) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&10_i32.to_be_bytes());
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    frame
}

#[tokio::test]
async fn trap_1_an_unknown_version_of_api_versions_is_answered_in_version_0_and_the_connection_stays()
 {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    for version in [6, 99] {
        // Headers of these versions end with tagged fields, of which there are none.
        let mut request = header(18, version, 7);
        request[3] += 1;
        request.push(0);
        client.send_bytes(&request).await;
        let frame = client.receive().await.unwrap();
        assert_eq!(frame[..4], 7_i32.to_be_bytes());
        let response = ApiVersionsResponseView::decode(&frame[4..], 0)
            .unwrap()
            .to_owned();
        assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
        let ranges = response
            .api_keys
            .iter()
            .map(|api| (api.api_key, api.min_version, api.max_version));
        assert_eq!(
            ranges.collect::<Vec<_>>(),
            [(ApiKey::ApiVersions.key(), 0, 5)]
        );
    }
    client.metadata(1, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn trap_2_produce_is_advertised_from_version_0_and_refused_below_3() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let request = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1.0".into(),
        ..ApiVersionsRequest::default()
    };
    let body = client.call(3, &request).await;
    let response = ApiVersionsResponseView::decode(&body, 3)
        .unwrap()
        .to_owned();
    let produce = response
        .api_keys
        .iter()
        .find(|api| api.api_key == 0)
        .unwrap();
    assert_eq!((produce.min_version, produce.max_version), (0, 13));
    client.send_bytes(&header(0, 2, 1)).await;
    assert!(
        client.receive().await.is_none(),
        "a version that is not served closes the connection"
    );
}

#[tokio::test]
async fn trap_4_unknown_tagged_fields_are_skipped_and_the_client_id_is_never_compact() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // Metadata 9: header version 2 with one unknown tag, a null array of topics, three booleans, one unknown tag.
    let mut frame = vec![0, 3, 0, 9, 0, 0, 0, 5, 0, 2, b'm', b'e', 1, 42, 3, 1, 2, 3];
    frame.extend_from_slice(&[0, 0, 0, 0, 1, 77, 1, 9]);
    client
        .send_bytes(&i32::try_from(frame.len()).unwrap().to_be_bytes())
        .await;
    client.send_bytes(&frame).await;
    let answer = client.receive().await.unwrap();
    assert_eq!(answer[..5], [0, 0, 0, 5, 0]);
}

#[tokio::test]
async fn bytes_after_the_end_of_a_request_are_ignored_as_kafka_does() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    // What librdkafka 2.16 sends when it asks for all topics: Metadata 12 with no list, may create, no operations, no tags, and
    // three bytes more.
    let mut request = header(3, 12, 9);
    request[3] += 8;
    request.extend_from_slice(&[0, 0, 1, 0, 0, 0, 0, 0]);
    client.send_bytes(&request).await;
    let frame = client.receive().await.expect("the connection stays open");
    assert_eq!(frame[..4], 9_i32.to_be_bytes());
    MetadataResponseView::decode(&frame[5..], 12).expect("an answer in full");
}

#[tokio::test]
async fn trap_21_a_frame_that_is_too_large_closes_the_connection_before_a_byte_of_it_is_taken() {
    let broker = TestBroker::start_with("limits: { request_bytes: 64KiB }").await;
    for length in [65_537_i32, i32::MAX, -1, 0, 7] {
        let mut client = broker.connect().await;
        client.send_bytes(&length.to_be_bytes()).await;
        assert!(
            client.receive().await.is_none(),
            "a frame of {length} bytes"
        );
    }
    assert_eq!(broker.running.broker().request_memory.held_bytes(), 0);
}

#[tokio::test]
async fn a_length_alone_takes_its_share_and_gives_it_back_when_the_client_goes() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.send_bytes(&(50_i32 << 20).to_be_bytes()).await;
    client.send_bytes(&[0; 100]).await;
    eventually("memory is taken", async || {
        (broker.running.broker().request_memory.held_bytes() > 0).then_some(())
    })
    .await;
    drop(client);
    eventually("memory is given back", async || {
        (broker.running.broker().request_memory.held_bytes() == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn bytes_that_are_no_request_close_their_connection_and_no_other() {
    let broker = TestBroker::start().await;
    let mut other = broker.connect().await;
    for bytes in [
        &[0, 0, 0, 12, 0, 3, 0, 12, 0, 0, 0, 1, 0x7f, 0xff, 1, 1][..],
        &[0, 0, 0, 8, 0, 99, 0, 0, 0, 0, 0, 1],
    ] {
        let mut client = broker.connect().await;
        client.send_bytes(bytes).await;
        assert!(client.receive().await.is_none());
    }
    other.metadata(1, &MetadataRequest::default()).await;
}

#[tokio::test]
async fn trap_22_pipelined_requests_are_answered_in_order() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", 1, &[]).await;
    client.produce("t", 0, batch(&["first"])).await;
    let mut numbers = Vec::new();
    for value in ["a", "b", "c", "d"] {
        numbers.push(client.send(9, &produce("t", 0, batch(&[value]))).await);
        let named = MetadataRequestTopic {
            name: Some("t".into()),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![named]),
            ..MetadataRequest::default()
        };
        numbers.push(client.send(1, &request).await);
    }
    let mut offsets = Vec::new();
    for (place, number) in numbers.into_iter().enumerate() {
        if place % 2 == 0 {
            let body = client
                .answer::<weir_wire::messages::ProduceRequest>(9, number)
                .await;
            let response = ProduceResponseView::decode(&body, 9).unwrap().to_owned();
            offsets.push(response.responses[0].partition_responses[0].base_offset);
        } else {
            client.answer::<MetadataRequest>(1, number).await;
        }
    }
    assert_eq!(offsets, [1, 2, 3, 4]);
}

#[tokio::test]
async fn trap_22_a_request_that_waits_holds_up_no_other_connection() {
    let broker = TestBroker::start().await;
    let mut waiting = broker.connect().await;
    waiting.create_topic("t", 1, &[]).await;
    waiting.produce("t", 0, batch(&["a"])).await;
    let mut request = crate::client::fetch("t", 0, 1);
    (request.min_bytes, request.max_wait_ms) = (1, 60_000);
    let number = waiting.send(12, &request).await;
    let mut other = broker.connect().await;
    other.produce("t", 0, batch(&["b"])).await;
    waiting
        .answer::<weir_wire::messages::FetchRequest>(12, number)
        .await;
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let broker = TestBroker::start_with("limits: { idle: 1s }").await;
    let mut client = broker.connect().await;
    assert!(client.receive().await.is_none());
}

#[tokio::test]
async fn a_connection_above_the_limit_is_closed_at_once() {
    let broker = TestBroker::start_with("limits: { connections: 1 }").await;
    let mut first = broker.connect().await;
    first.metadata(1, &MetadataRequest::default()).await;
    let mut second = broker.connect().await;
    assert!(second.receive().await.is_none());
    first.metadata(1, &MetadataRequest::default()).await;
}
