//! Share groups: fetching, acknowledging, and what is left of both when a broker is started again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uuid::Uuid;
use weir_wire::MessageView;
use weir_wire::messages::share_acknowledge_request as acknowledging;
use weir_wire::messages::share_fetch_request::{
    AcknowledgementBatch, FetchPartition, FetchTopic, ForgottenTopic,
};
use weir_wire::messages::share_fetch_response::PartitionData;
use weir_wire::messages::{
    ErrorCode, FindCoordinatorRequest, FindCoordinatorResponseView,
    InitializeShareGroupStateRequest, InitializeShareGroupStateResponseView,
    ReadShareGroupStateRequest, ReadShareGroupStateResponseView, ReadShareGroupStateSummaryRequest,
    ReadShareGroupStateSummaryResponseView, ShareAcknowledgeRequest, ShareAcknowledgeResponse,
    ShareAcknowledgeResponseView, ShareFetchRequest, ShareFetchResponse, ShareFetchResponseView,
    WriteShareGroupStateRequest, WriteShareGroupStateResponseView,
    initialize_share_group_state_request, read_share_group_state_request,
    read_share_group_state_summary_request, write_share_group_state_request,
};

use crate::client::{Client, TestBroker, batch, eventually};

pub(crate) const GROUP: &str = "sharers";
pub(crate) const ACCEPT: i8 = 1;
pub(crate) const RELEASE: i8 = 2;
pub(crate) const REJECT: i8 = 3;
const RENEW: i8 = 4;

/// A member of the group on a connection of its own.
pub(crate) struct Member {
    client: Client,
    id: String,
    epoch: i32,
    topic: Uuid,
}

/// First and last offset, and how often it was delivered.
pub(crate) type Range = (i64, i64, i16);

impl Member {
    pub(crate) async fn new(broker: &TestBroker, id: &str, topic: Uuid) -> Self {
        Self {
            client: broker.connect().await,
            id: id.to_owned(),
            epoch: 0,
            topic,
        }
    }

    fn request(&self, wait_ms: i32, acks: &[(i64, i64, i8)]) -> ShareFetchRequest {
        let batches = acks.iter().map(|(first, last, kind)| AcknowledgementBatch {
            first_offset: *first,
            last_offset: *last,
            acknowledge_types: vec![*kind],
        });
        let partition = FetchPartition {
            partition_index: 0,
            acknowledgement_batches: batches.collect(),
        };
        ShareFetchRequest {
            group_id: Some(GROUP.to_owned()),
            member_id: Some(self.id.clone()),
            share_session_epoch: self.epoch,
            max_wait_ms: wait_ms,
            max_bytes: 1 << 20,
            max_records: 500,
            batch_size: 500,
            topics: vec![FetchTopic {
                topic_id: self.topic,
                partitions: vec![partition],
            }],
            ..ShareFetchRequest::default()
        }
    }

    async fn send(&mut self, request: &ShareFetchRequest) -> i32 {
        self.epoch += 1;
        self.client.send(2, request).await
    }

    async fn answer(&mut self, number: i32) -> ShareFetchResponse {
        let body = self.client.answer::<ShareFetchRequest>(2, number).await;
        ShareFetchResponseView::decode(&body, 2).unwrap().to_owned()
    }

    /// Fetches once, and gives what there is of the partition.
    async fn fetch(&mut self, wait_ms: i32, acks: &[(i64, i64, i8)]) -> PartitionData {
        let request = self.request(wait_ms, acks);
        let number = self.send(&request).await;
        let mut response = self.answer(number).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        let topic = response.responses.pop();
        topic.map_or_else(PartitionData::default, |mut topic| {
            topic.partitions.remove(0)
        })
    }

    /// Fetches until there is something.
    pub(crate) async fn take(&mut self) -> Vec<Range> {
        eventually("there is something to take", async || {
            let data = self.fetch(500, &[]).await;
            if data.error_code == ErrorCode::NotLeaderOrFollower.code() {
                return None;
            }
            assert_eq!(data.error_code, 0, "{:?}", data.error_message);
            (!data.acquired_records.is_empty()).then(|| ranges(&data))
        })
        .await
    }

    /// Fetches once, and gives what was acquired.
    pub(crate) async fn look(&mut self, wait_ms: i32) -> Vec<Range> {
        ranges(&self.fetch(wait_ms, &[]).await)
    }

    async fn acknowledge(&mut self, acks: &[(i64, i64, i8)]) -> ShareAcknowledgeResponse {
        let batches = acks
            .iter()
            .map(|(first, last, kind)| acknowledging::AcknowledgementBatch {
                first_offset: *first,
                last_offset: *last,
                acknowledge_types: vec![*kind],
            });
        let partition = acknowledging::AcknowledgePartition {
            partition_index: 0,
            acknowledgement_batches: batches.collect(),
        };
        let topics = vec![acknowledging::AcknowledgeTopic {
            topic_id: self.topic,
            partitions: vec![partition],
        }];
        let request = ShareAcknowledgeRequest {
            group_id: Some(GROUP.to_owned()),
            member_id: Some(self.id.clone()),
            share_session_epoch: self.epoch,
            is_renew_ack: acks.iter().any(|(_, _, kind)| *kind == RENEW),
            topics: if acks.is_empty() { Vec::new() } else { topics },
        };
        self.epoch += 1;
        let body = self.client.call(2, &request).await;
        ShareAcknowledgeResponseView::decode(&body, 2)
            .unwrap()
            .to_owned()
    }

    /// Acknowledges, and gives the partition's error.
    pub(crate) async fn acked(&mut self, acks: &[(i64, i64, i8)]) -> i16 {
        let response = self.acknowledge(acks).await;
        assert_eq!(response.error_code, 0, "{:?}", response.error_message);
        response.responses[0].partitions[0].error_code
    }

    pub(crate) async fn close(&mut self) -> i16 {
        self.epoch = -1;
        let response = self.acknowledge(&[]).await;
        self.epoch = 0;
        response.error_code
    }
}

fn ranges(data: &PartitionData) -> Vec<Range> {
    let ranges = data.acquired_records.iter();
    ranges
        .map(|range| (range.first_offset, range.last_offset, range.delivery_count))
        .collect()
}

/// The values of the records in a response.
fn values(data: &PartitionData) -> Vec<String> {
    let mut bytes = Vec::new();
    for part in data.records.parts() {
        let weir_wire::RecordsPart::Bytes(part) = part else {
            panic!("records in memory wanted")
        };
        bytes.extend_from_slice(part);
    }
    let mut values = Vec::new();
    for batch in weir_wire::batch::batches(&bytes) {
        let batch = batch.unwrap();
        batch.check().unwrap();
        for record in batch.records().unwrap() {
            let value = record.unwrap().value.unwrap_or_default().to_vec();
            values.push(String::from_utf8(value).unwrap());
        }
    }
    values
}

/// A broker with a topic of one partition, which the group reads from its start on.
async fn house() -> (TestBroker, Client, Uuid) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, &[]).await;
    initialize(&mut client, topic, 0).await;
    (broker, client, topic)
}

/// Sets where the group begins.
pub(crate) async fn initialize(client: &mut Client, topic: Uuid, state_epoch: i32) {
    find(client, topic).await;
    let partition = initialize_share_group_state_request::PartitionData {
        partition: 0,
        state_epoch,
        start_offset: 0,
    };
    let request = InitializeShareGroupStateRequest {
        group_id: GROUP.to_owned(),
        topics: vec![initialize_share_group_state_request::InitializeStateData {
            topic_id: topic,
            partitions: vec![partition],
        }],
    };
    let error = eventually("the coordinator is loaded", async || {
        let body = client.call(0, &request).await;
        let response = InitializeShareGroupStateResponseView::decode(&body, 0)
            .unwrap()
            .to_owned();
        let error = response.results[0].partitions[0].error_code;
        (error != ErrorCode::CoordinatorLoadInProgress.code()).then_some(error)
    })
    .await;
    assert_eq!(error, 0);
}

/// Asks who coordinates the share-partition; makes the topic of states when there is none.
async fn find(client: &mut Client, topic: Uuid) {
    let id = weir_quorum::TopicId(topic);
    let request = FindCoordinatorRequest {
        key_type: 2,
        coordinator_keys: vec![format!("{GROUP}:{id}:0"), "nonsense".to_owned()],
        ..FindCoordinatorRequest::default()
    };
    let body = client.call(6, &request).await;
    let response = FindCoordinatorResponseView::decode(&body, 6)
        .unwrap()
        .to_owned();
    let errors: Vec<_> = response
        .coordinators
        .iter()
        .map(|found| (found.error_code, found.node_id))
        .collect();
    assert_eq!(errors, [(0, 0), (ErrorCode::InvalidRequest.code(), -1)]);
}

#[tokio::test]
async fn records_are_handed_out_once_and_what_is_released_again() {
    let (broker, mut client, topic) = house().await;
    let mut a = Member::new(&broker, "a", topic).await;
    let mut b = Member::new(&broker, "b", topic).await;
    client.produce("t", 0, batch(&["0", "1", "2"])).await;
    client.produce("t", 0, batch(&["3"])).await;
    let mut got = a.fetch(5_000, &[]).await;
    if got.acquired_records.is_empty() {
        got = a.fetch(5_000, &[]).await;
    }
    assert_eq!(ranges(&got), [(0, 3, 1)]);
    assert_eq!(values(&got), ["0", "1", "2", "3"]);
    assert_eq!(ranges(&b.fetch(0, &[]).await), []);
    // With the next fetch, and by itself.
    let acked = a.fetch(0, &[(0, 0, ACCEPT), (1, 1, RELEASE)]).await;
    assert_eq!(acked.acknowledge_error_code, 0);
    assert_eq!(ranges(&acked), [(1, 1, 2)]);
    assert_eq!(values(&acked), ["0", "1", "2"], "batches are whole");
    assert_eq!(a.acked(&[(1, 1, REJECT), (2, 3, RELEASE)]).await, 0);
    let got = b.take().await;
    assert_eq!(got, [(2, 3, 2)]);
    assert_eq!(b.acked(&[(2, 3, RENEW)]).await, 0);
    assert_eq!(b.acked(&[(2, 3, ACCEPT)]).await, 0);
    // Everything is done with.
    assert_eq!(ranges(&a.fetch(0, &[]).await), []);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_fetch_waits_for_records_and_for_what_is_given_back() {
    let (broker, mut client, topic) = house().await;
    let mut a = Member::new(&broker, "a", topic).await;
    let mut b = Member::new(&broker, "b", topic).await;
    let waits = a.request(20_000, &[]);
    let number = a.send(&waits).await;
    client.produce("t", 0, batch(&["0", "1"])).await;
    let response = a.answer(number).await;
    assert_eq!(ranges(&response.responses[0].partitions[0]), [(0, 1, 1)]);
    let waits = b.request(20_000, &[]);
    let number = b.send(&waits).await;
    assert_eq!(a.acked(&[(1, 1, RELEASE)]).await, 0);
    let response = b.answer(number).await;
    assert_eq!(ranges(&response.responses[0].partitions[0]), [(1, 1, 2)]);
    broker.running.stop().await;
}

/// Clients look for what was acquired in one pass over the records; of what they do not find they say that there is no record,
/// and it is lost. An answer takes several reads of the log, and records are given back meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_while_a_fetch_reads_on_does_not_come_behind_what_it_has() {
    let (broker, mut client, topic) = house().await;
    let value = "x".repeat(60 << 10);
    for _ in 0..16 {
        client.produce("t", 0, batch(&[&value])).await;
    }
    let mut other = Member::new(&broker, "other", topic).await;
    other.take().await;
    let stop = Arc::new(AtomicBool::new(false));
    let stopping = Arc::clone(&stop);
    // Takes the first record and gives it back, again and again.
    let giving_back = tokio::spawn(async move {
        while !stopping.load(Ordering::Relaxed) {
            other.close().await;
            let first = ShareFetchRequest {
                max_bytes: 1,
                ..other.request(0, &[])
            };
            let number = other.send(&first).await;
            other.answer(number).await;
        }
    });
    let mut member = Member::new(&broker, "member", topic).await;
    for _ in 0..500 {
        let got = ranges(&member.fetch(0, &[]).await);
        let ascend = got.windows(2).all(|two| two[0].1 < two[1].0);
        assert!(ascend, "{got:?}");
        member.close().await;
    }
    stop.store(true, Ordering::Relaxed);
    giving_back.await.unwrap();
    broker.running.stop().await;
}

#[tokio::test]
async fn a_fetch_that_waits_takes_nothing_for_a_member_that_has_left() {
    let (broker, mut client, topic) = house().await;
    let mut a = Member::new(&broker, "a", topic).await;
    let mut b = Member::new(&broker, "b", topic).await;
    a.fetch(0, &[]).await;
    b.fetch(0, &[]).await;
    let waits = a.request(20_000, &[]);
    let number = a.send(&waits).await;
    let mut same = Member::new(&broker, "a", topic).await;
    eventually("the session is closed", async || {
        // Only once the fetch that waits has opened its part of it.
        same.epoch = 2;
        (same.acknowledge(&[]).await.error_code == 0).then_some(())
    })
    .await;
    assert_eq!(same.close().await, 0);
    client.produce("t", 0, batch(&["0", "1"])).await;
    assert_eq!(b.take().await, [(0, 1, 1)]);
    let answer = a.answer(number).await;
    assert!(answer.responses.is_empty(), "{answer:?}");
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_acknowledged_wrongly_is_refused_whole() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0", "1", "2"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    let mut b = Member::new(&broker, "b", topic).await;
    assert_eq!(a.take().await, [(0, 2, 1)]);
    b.fetch(0, &[]).await;
    let stolen = b.acked(&[(0, 0, ACCEPT)]).await;
    assert_eq!(stolen, ErrorCode::InvalidRecordState.code());
    let beyond = a.acked(&[(0, 0, ACCEPT), (2, 9, ACCEPT)]).await;
    assert_eq!(beyond, ErrorCode::InvalidRecordState.code());
    for nonsense in [(1, 0, ACCEPT), (0, 0, 9), (-1, 0, ACCEPT)] {
        let refused = a.acked(&[nonsense]).await;
        assert_eq!(refused, ErrorCode::InvalidRequest.code(), "{nonsense:?}");
    }
    assert_eq!(a.acked(&[(0, 2, ACCEPT)]).await, 0);
    let twice = a.acked(&[(2, 2, ACCEPT)]).await;
    assert_eq!(twice, 0, "what is before the start is done with");
    broker.running.stop().await;
}

#[tokio::test]
async fn sessions_are_kept_as_kip_932_says() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    // None yet.
    a.epoch = 3;
    let request = a.request(0, &[]);
    let number = a.send(&request).await;
    let refused = a.answer(number).await;
    assert_eq!(refused.error_code, ErrorCode::ShareSessionNotFound.code());
    // The first has nothing to acknowledge.
    a.epoch = 0;
    let request = a.request(0, &[(0, 0, ACCEPT)]);
    let number = a.send(&request).await;
    assert_eq!(
        a.answer(number).await.error_code,
        ErrorCode::InvalidRequest.code()
    );
    a.epoch = 0;
    assert_eq!(a.take().await, [(0, 0, 1)]);
    let due = a.epoch;
    a.epoch = due + 5;
    let request = a.request(0, &[]);
    let number = a.send(&request).await;
    let refused = a.answer(number).await;
    assert_eq!(
        refused.error_code,
        ErrorCode::InvalidShareSessionEpoch.code()
    );
    // One that closes it in order hands back what it has, as if it had never been delivered.
    assert_eq!(a.close().await, 0);
    assert_eq!(a.close().await, ErrorCode::ShareSessionNotFound.code());
    let mut b = Member::new(&broker, "b", topic).await;
    assert_eq!(b.take().await, [(0, 0, 1)]);
    // One whose connection is gone hands it back too.
    drop(b);
    let mut c = Member::new(&broker, "c", topic).await;
    assert_eq!(c.take().await, [(0, 0, 2)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_a_member_has_of_a_partition_that_it_leaves_stays_with_it_until_it_goes() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0", "1"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    assert_eq!(a.take().await, [(0, 1, 1)]);
    // As when it is assigned others: nobody fetches from this one for a moment.
    let leaves = ShareFetchRequest {
        topics: Vec::new(),
        forgotten_topics_data: vec![ForgottenTopic {
            topic_id: topic,
            partitions: vec![0],
        }],
        ..a.request(0, &[])
    };
    let number = a.send(&leaves).await;
    assert_eq!(a.answer(number).await.error_code, 0);
    client.produce("t", 0, batch(&["2"])).await;
    let mut b = Member::new(&broker, "b", topic).await;
    assert_eq!(b.take().await, [(2, 2, 1)], "the others are with somebody");
    assert_eq!(a.acked(&[(0, 0, ACCEPT)]).await, 0);
    assert_eq!(b.look(0).await, []);
    assert_eq!(a.close().await, 0);
    assert_eq!(b.take().await, [(1, 1, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_partition_that_a_session_opened_anew_does_not_name_is_not_looked_after_any_more() {
    let (broker, mut client, topic) = house().await;
    let other = client.create_topic("u", 1, &[]).await;
    initialize(&mut client, other, 0).await;
    let is_measured = async |topic: &str| {
        let (_, metrics) = broker.http("/metrics").await;
        metrics.contains(&format!(
            "weir_share_parked_messages{{group=\"{GROUP}\",topic=\"{topic}\"}}"
        ))
    };
    let mut a = Member::new(&broker, "a", topic).await;
    eventually("it is looked after", async || {
        a.look(0).await;
        is_measured("t").await.then_some(())
    })
    .await;
    (a.epoch, a.topic) = (0, other);
    eventually("the other is", async || {
        a.look(0).await;
        is_measured("u").await.then_some(())
    })
    .await;
    eventually("the first is not any more", async || {
        (!is_measured("t").await).then_some(())
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test]
async fn after_a_restart_what_was_acknowledged_stays_so_and_the_rest_is_delivered_again() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0", "1", "2", "3"])).await;
    client.produce("t", 0, batch(&["4", "5"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    assert_eq!(a.take().await, [(0, 5, 1)]);
    let acked = a
        .acked(&[(0, 0, ACCEPT), (2, 2, ACCEPT), (4, 4, REJECT)])
        .await;
    assert_eq!(acked, 0);
    let broker = broker.restart().await;
    let mut b = Member::new(&broker, "b", topic).await;
    assert_eq!(b.take().await, [(1, 1, 2), (3, 3, 2), (5, 5, 2)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_renewal_fetches_nothing() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0", "1"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    assert_eq!(a.take().await, [(0, 1, 1)]);
    let mut request = a.request(0, &[(0, 1, RENEW)]);
    request.is_renew_ack = true;
    let number = a.send(&request).await;
    assert_eq!(
        a.answer(number).await.error_code,
        ErrorCode::InvalidRequest.code()
    );
    let mut request = a.request(0, &[(0, 1, RENEW)]);
    // The one before did not count.
    request.share_session_epoch -= 1;
    (request.is_renew_ack, request.max_bytes, request.max_records) = (true, 0, 0);
    let number = a.client.send(2, &request).await;
    let answer = a.answer(number).await;
    assert_eq!(
        (answer.error_code, answer.acquisition_lock_timeout_ms),
        (0, 30_000)
    );
    assert_eq!(answer.responses[0].partitions[0].acknowledge_error_code, 0);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_limit_of_records_is_kept_when_it_is_meant_so() {
    let (broker, mut client, topic) = house().await;
    client.produce("t", 0, batch(&["0", "1", "2", "3"])).await;
    let mut a = Member::new(&broker, "a", topic).await;
    a.fetch(0, &[]).await;
    let mut b = Member::new(&broker, "b", topic).await;
    let got = eventually("b has what a gave back", async || {
        let mut request = b.request(500, &[]);
        (request.share_acquire_mode, request.max_records) = (1, 3);
        let number = b.send(&request).await;
        let answer = b.answer(number).await;
        a.close().await;
        let data = &answer.responses.first()?.partitions[0];
        (!data.acquired_records.is_empty()).then(|| ranges(data))
    })
    .await;
    assert_eq!(got, [(0, 2, 1)]);
    broker.running.stop().await;
}

/// Reads the share-partition's state as its leader in this epoch.
async fn read(client: &mut Client, topic: Uuid, leader_epoch: i32) -> Bytes {
    let partition = read_share_group_state_request::PartitionData {
        partition: 0,
        leader_epoch,
    };
    let request = ReadShareGroupStateRequest {
        group_id: GROUP.to_owned(),
        topics: vec![read_share_group_state_request::ReadStateData {
            topic_id: topic,
            partitions: vec![partition],
        }],
    };
    client.call(0, &request).await
}

#[tokio::test]
async fn states_are_kept_for_whoever_leads() {
    let (broker, mut client, topic) = house().await;
    assert_eq!(write(&mut client, topic, (0, 5), 3).await, 0);
    let body = read(&mut client, topic, 6).await;
    let response = read_response(&body);
    let result = &response.results[0].partitions[0];
    assert_eq!((result.error_code, result.start_offset), (0, 3));
    let batches: Vec<_> = result
        .state_batches
        .iter()
        .map(|batch| (batch.first_offset, batch.last_offset, batch.delivery_state))
        .collect();
    assert_eq!(batches, [(4, 6, 2)]);
    // The leader before it is fenced, and so is one that has not seen the state begin anew.
    let fenced = write(&mut client, topic, (0, 5), 4).await;
    assert_eq!(fenced, ErrorCode::FencedLeaderEpoch.code());
    initialize(&mut client, topic, 1).await;
    let fenced = write(&mut client, topic, (0, 6), 4).await;
    assert_eq!(fenced, ErrorCode::FencedStateEpoch.code());
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let partition = read_share_group_state_summary_request::PartitionData {
        partition: 0,
        leader_epoch: -1,
    };
    let request = ReadShareGroupStateSummaryRequest {
        group_id: GROUP.to_owned(),
        topics: vec![
            read_share_group_state_summary_request::ReadStateSummaryData {
                topic_id: topic,
                partitions: vec![partition],
            },
        ],
    };
    let result = eventually("the state is told", async || {
        let body = client.call(1, &request).await;
        let response = ReadShareGroupStateSummaryResponseView::decode(&body, 1)
            .unwrap()
            .to_owned();
        let result = response.results[0].partitions[0].clone();
        (result.error_code == 0).then_some(result)
    })
    .await;
    assert_eq!((result.state_epoch, result.start_offset), (1, 0));
    broker.running.stop().await;
}

#[tokio::test]
async fn a_fetch_is_told_that_its_share_partition_cannot_be_loaded_and_does_not_spin() {
    let (broker, mut client, topic) = house().await;
    // As if a later leader had taken the state over: every load is refused at once.
    let body = read(&mut client, topic, 7).await;
    let result = &read_response(&body).results[0].partitions[0];
    assert_eq!(result.error_code, 0);
    let begun = Instant::now();
    let mut member = Member::new(&broker, "a", topic).await;
    let data = member.fetch(30_000, &[]).await;
    assert_eq!(data.error_code, ErrorCode::NotLeaderOrFollower.code());
    assert!(
        begun.elapsed() < Duration::from_secs(20),
        "it waited in vain"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn a_group_that_no_state_can_be_kept_for_is_refused_at_once() {
    let (broker, _client, topic) = house().await;
    let mut member = Member::new(&broker, "a", topic).await;
    let mut request = member.request(30_000, &[]);
    request.group_id = Some("g".repeat(16_385));
    let number = member.send(&request).await;
    let answer = member.answer(number).await;
    assert_eq!(answer.error_code, ErrorCode::InvalidRequest.code());
    broker.running.stop().await;
}

fn read_response(body: &Bytes) -> weir_wire::messages::ReadShareGroupStateResponse {
    ReadShareGroupStateResponseView::decode(body, 0)
        .unwrap()
        .to_owned()
}

async fn write(
    client: &mut Client,
    topic: Uuid,
    (state_epoch, leader_epoch): (i32, i32),
    start_offset: i64,
) -> i16 {
    let batch = write_share_group_state_request::StateBatch {
        first_offset: 4,
        last_offset: 6,
        delivery_state: 2,
        delivery_count: 1,
    };
    let partition = write_share_group_state_request::PartitionData {
        partition: 0,
        state_epoch,
        leader_epoch,
        start_offset,
        delivery_complete_count: 3,
        state_batches: vec![batch],
    };
    let request = WriteShareGroupStateRequest {
        group_id: GROUP.to_owned(),
        topics: vec![write_share_group_state_request::WriteStateData {
            topic_id: topic,
            partitions: vec![partition],
        }],
    };
    let body = client.call(1, &request).await;
    let response = WriteShareGroupStateResponseView::decode(&body, 1)
        .unwrap()
        .to_owned();
    response.results[0].partitions[0].error_code
}
