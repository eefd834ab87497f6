//! No request makes the broker hold more than a small multiple of what was sent (promise 6).

use weir_wire::Request;
use weir_wire::frame::encode_request;
use weir_wire::messages::create_acls_request::AclCreation;
use weir_wire::messages::describe_configs_request::DescribeConfigsResource;
use weir_wire::messages::metadata_request::MetadataRequestTopic;
use weir_wire::messages::{
    CreateAclsRequest, DeleteTopicsRequest, DescribeConfigsRequest, MetadataRequest,
};

use crate::client::{TestBroker, eventually};

/// The length of a request's frame and of what it is answered with.
async fn asked<R: Request>(broker: &TestBroker, version: i16, request: &R) -> (usize, usize) {
    let mut client = broker.connect().await;
    let frame = encode_request(version, 1, Some("test"), request).unwrap();
    let length = frame.len();
    let answer = client.call(version, request).await;
    (length, answer.len())
}

/// Requests of as many and as small elements as there can be: the response, which is built from owned values before it is
/// encoded, is a measure of them.
#[tokio::test]
async fn promise_6_a_request_of_many_small_parts_is_answered_with_a_small_multiple_of_it() {
    const MANY: usize = 20_000;
    let broker = TestBroker::start().await;
    let names = || (0..MANY).map(|n| format!("{n:x}"));
    let topics = names().map(|name| MetadataRequestTopic {
        name: Some(name),
        ..MetadataRequestTopic::default()
    });
    let metadata = MetadataRequest {
        topics: Some(topics.collect()),
        ..MetadataRequest::default()
    };
    let delete = DeleteTopicsRequest {
        topic_names: names().collect(),
        ..DeleteTopicsRequest::default()
    };
    let resources = (0..MANY).map(|n| DescribeConfigsResource {
        resource_type: [2, 32][n % 2],
        resource_name: format!("{:x}", n % 1_000),
        configuration_keys: None,
    });
    let configs = DescribeConfigsRequest {
        resources: resources.collect(),
        include_synonyms: true,
        include_documentation: true,
    };
    let acls = CreateAclsRequest {
        creations: vec![AclCreation::default(); MANY],
    };
    for (length, answer) in [
        asked(&broker, 9, &metadata).await,
        asked(&broker, 5, &delete).await,
        asked(&broker, 3, &acls).await,
    ] {
        assert!(answer < length * 16, "{answer} of {length}");
    }
    // Each resource once, and only so many that nothing stands behind: a fixed amount, however many are named.
    let (_, answer) = asked(&broker, 4, &configs).await;
    assert!(answer < 16 << 20, "{answer}");
}

#[tokio::test]
async fn promise_6_only_records_come_in_large_frames() {
    let broker = TestBroker::start().await;
    let length = (16_i32 << 20) + 1;
    for (key, is_taken) in [
        (0_i16, true),
        (72, true),
        (3, false),
        (32, false),
        (-1, false),
    ] {
        let mut client = broker.connect().await;
        client.send_bytes(&length.to_be_bytes()).await;
        client.send_bytes(&key.to_be_bytes()).await;
        let memory = &broker.running.broker().request_memory;
        if is_taken {
            eventually("memory is taken", async || {
                (memory.held_bytes() > 0).then_some(())
            })
            .await;
            drop(client);
            eventually("memory is given back", async || {
                (memory.held_bytes() == 0).then_some(())
            })
            .await;
        } else {
            assert!(client.receive().await.is_none(), "API {key}");
        }
    }
}

#[tokio::test]
async fn promise_6_what_is_taken_apart_takes_more_of_the_memory_for_requests() {
    let broker = TestBroker::start().await;
    for (key, times) in [(0_i16, 1), (3, 16)] {
        let mut client = broker.connect().await;
        client.send_bytes(&(1_i32 << 20).to_be_bytes()).await;
        client.send_bytes(&key.to_be_bytes()).await;
        let memory = &broker.running.broker().request_memory;
        eventually("memory is taken", async || {
            (memory.held_bytes() > 0).then_some(())
        })
        .await;
        assert_eq!(memory.held_bytes(), times << 20);
        drop(client);
        eventually("memory is given back", async || {
            (memory.held_bytes() == 0).then_some(())
        })
        .await;
    }
}
