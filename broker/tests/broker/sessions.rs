//! Fetch sessions (KIP-227), as clients see them.

use weir_wire::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use weir_wire::messages::{ErrorCode, FetchRequest, FetchResponse};

use crate::client::{Client, TestBroker, batch, fetch, values};

/// A request in a session that wants these partitions from these offsets.
fn in_session(session_id: i32, session_epoch: i32, wanted: &[(i32, i64)]) -> FetchRequest {
    let mut request = fetch("t", 0, 0);
    (request.session_id, request.session_epoch) = (session_id, session_epoch);
    let partitions = wanted
        .iter()
        .map(|(partition, fetch_offset)| FetchPartition {
            partition: *partition,
            fetch_offset: *fetch_offset,
            partition_max_bytes: 1 << 20,
            ..FetchPartition::default()
        });
    request.topics = if wanted.is_empty() {
        Vec::new()
    } else {
        vec![FetchTopic {
            topic: "t".into(),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        }]
    };
    request
}

/// The partitions of a response, in their order, with how many records each has.
fn told(response: &FetchResponse) -> Vec<(i32, usize)> {
    let partitions = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partitions);
    partitions
        .map(|data| (data.partition_index, values(data).len()))
        .collect()
}

async fn topic_of(partitions: i32) -> (TestBroker, Client) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    client.create_topic("t", partitions, &[]).await;
    for partition in 0..partitions {
        client.produce("t", partition, batch(&["a"])).await;
    }
    (broker, client)
}

#[tokio::test]
async fn trap_6_a_session_tells_only_what_changed() {
    let (_broker, mut client) = topic_of(3).await;
    let all = [(0, 1), (1, 1), (2, 1)];
    let first = client.fetch(12, &in_session(0, 0, &all)).await;
    assert!(first.session_id > 0);
    assert_eq!(told(&first), [(0, 0), (1, 0), (2, 0)]);
    let id = first.session_id;
    let second = client.fetch(12, &in_session(id, 1, &[])).await;
    assert_eq!((second.session_id, told(&second)), (id, vec![]));
    client.produce("t", 1, batch(&["b"])).await;
    let third = client.fetch(12, &in_session(id, 2, &[])).await;
    assert_eq!(told(&third), [(1, 1)]);
    // Until the client says that it has read it, it is told again.
    let again = client.fetch(12, &in_session(id, 3, &[])).await;
    assert_eq!(told(&again), [(1, 1)]);
    let read = client.fetch(12, &in_session(id, 4, &[(1, 2)])).await;
    assert_eq!(told(&read), []);
    // A partition less: what comes there is not told.
    let mut forget = in_session(id, 5, &[]);
    forget.forgotten_topics_data = vec![ForgottenTopic {
        topic: "t".into(),
        partitions: vec![1],
        ..ForgottenTopic::default()
    }];
    assert_eq!(told(&client.fetch(12, &forget).await), []);
    client.produce("t", 1, batch(&["c"])).await;
    client.produce("t", 2, batch(&["c"])).await;
    let rest = client.fetch(12, &in_session(id, 6, &[])).await;
    assert_eq!(told(&rest), [(2, 1)]);
}

#[tokio::test]
async fn trap_6_who_gave_records_waits_for_the_others_turn() {
    let (_broker, mut client) = topic_of(3).await;
    let mut request = in_session(0, 0, &[(0, 0), (1, 0), (2, 0)]);
    request.max_bytes = 1;
    let first = client.fetch(12, &request).await;
    assert_eq!(told(&first), [(0, 1), (1, 0), (2, 0)]);
    let mut order = Vec::new();
    for epoch in 1..=3 {
        let mut request = in_session(first.session_id, epoch, &[]);
        request.max_bytes = 1;
        order.extend(told(&client.fetch(12, &request).await));
    }
    assert_eq!(order, [(1, 1), (2, 1), (0, 1)]);
}

#[tokio::test]
async fn trap_6_a_session_is_known_by_its_number_and_its_epoch() {
    let (broker, mut client) = topic_of(1).await;
    let error = |response: FetchResponse| {
        (
            ErrorCode::from_code(response.error_code).unwrap(),
            response.session_id,
        )
    };
    let unknown = client.fetch(12, &in_session(5, 1, &[])).await;
    assert_eq!(error(unknown), (ErrorCode::FetchSessionIdNotFound, 0));
    let id = client
        .fetch(12, &in_session(0, 0, &[(0, 0)]))
        .await
        .session_id;
    let wrong = client.fetch(12, &in_session(id, 7, &[])).await;
    assert_eq!(error(wrong), (ErrorCode::InvalidFetchSessionEpoch, 0));
    // Trap 5: names and ids are not mixed.
    let mut with_ids = in_session(id, 1, &[]);
    with_ids.replica_id = -1;
    let mixed = client.fetch(13, &with_ids).await;
    assert_eq!(error(mixed), (ErrorCode::FetchSessionTopicIdError, 0));
    // A session that is ended is gone, and the last answer has everything.
    let last = client.fetch(12, &in_session(id, -1, &[(0, 0)])).await;
    assert_eq!((last.session_id, told(&last)), (0, vec![(0, 1)]));
    let gone = client.fetch(12, &in_session(id, 1, &[])).await;
    assert_eq!(error(gone), (ErrorCode::FetchSessionIdNotFound, 0));
    assert_eq!(broker.running.broker().fetch_sessions.kept().sessions, 0);
}

#[tokio::test]
async fn a_fetch_without_a_session_makes_none() {
    let (broker, mut client) = topic_of(1).await;
    for (version, epoch) in [(6, -1), (12, -1)] {
        let request = in_session(0, epoch, &[(0, 0)]);
        let response = client.fetch(version, &request).await;
        assert_eq!((response.session_id, told(&response)), (0, vec![(0, 1)]));
    }
    assert_eq!(broker.running.broker().fetch_sessions.kept().sessions, 0);
}

#[tokio::test]
async fn a_fetch_in_a_session_waits_for_records_of_any_of_its_partitions() {
    let (broker, mut waiting) = topic_of(3).await;
    let all = [(0, 1), (1, 1), (2, 1)];
    let id = waiting.fetch(12, &in_session(0, 0, &all)).await.session_id;
    let mut request = in_session(id, 1, &[]);
    (request.min_bytes, request.max_wait_ms) = (1, 60_000);
    let number = waiting.send(12, &request).await;
    let mut producer = broker.connect().await;
    producer.produce("t", 2, batch(&["b"])).await;
    let body = waiting.answer::<FetchRequest>(12, number).await;
    let response = {
        use weir_wire::MessageView;
        use weir_wire::messages::FetchResponseView;
        FetchResponseView::decode(&body, 12).unwrap().to_owned()
    };
    assert_eq!(told(&response), [(2, 1)]);
}

#[tokio::test]
async fn an_error_of_a_partition_is_told_until_it_is_over() {
    let (_broker, mut client) = topic_of(1).await;
    let first = client.fetch(12, &in_session(0, 0, &[(0, 9), (5, 0)])).await;
    let codes = |response: &FetchResponse| -> Vec<i16> {
        let partitions = response
            .responses
            .iter()
            .flat_map(|topic| &topic.partitions);
        partitions.map(|data| data.error_code).collect()
    };
    let wanted = [
        ErrorCode::OffsetOutOfRange.code(),
        ErrorCode::UnknownTopicOrPartition.code(),
    ];
    assert_eq!(codes(&first), wanted);
    let id = first.session_id;
    let second = client.fetch(12, &in_session(id, 1, &[])).await;
    assert_eq!(codes(&second), wanted);
    let third = client.fetch(12, &in_session(id, 2, &[(0, 1)])).await;
    // The high watermark is news to a client that was told of an error last.
    assert_eq!(codes(&third), [0, wanted[1]]);
}

#[tokio::test]
async fn without_slots_there_are_no_sessions() {
    let (broker, mut client) = topic_of(1).await;
    use weir_quorum::command::{
        AlterConfigs, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource,
    };
    let op = ConfigOp {
        key: "max.incremental.fetch.session.cache.slots".into(),
        change: ConfigChange::Set("0".into()),
    };
    let changes = ConfigChanges {
        resource: ConfigResource::Cluster,
        ops: vec![op],
    };
    let command = Command::AlterConfigs(AlterConfigs {
        resources: vec![changes],
        validate_only: false,
    });
    broker
        .running
        .broker()
        .metadata
        .control(command)
        .await
        .unwrap();
    let response = client.fetch(12, &in_session(0, 0, &[(0, 0)])).await;
    assert_eq!((response.session_id, told(&response)), (0, vec![(0, 1)]));
}
