//! Bounded queues whose producers wait for room.

use std::collections::VecDeque;

use bytes::Bytes;
use uuid::Uuid;
use weir_broker::partitions::Partition;
use weir_broker::start::Running;
use weir_wire::ProducerEpoch;
use weir_wire::batch::BatchBuilder;
use weir_wire::frame::encode_request;
use weir_wire::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use weir_wire::messages::produce_response::PartitionProduceResponse;
use weir_wire::messages::{DeleteRecordsRequest, ErrorCode, ProduceRequest};

use crate::client::{Client, PATIENCE, TestBroker, build, eventually, produce, produced};
use crate::cluster::cluster;
use crate::grpc;
use crate::queues::{self, SOLD_OUT, create_replicated, of, producer_id};
use crate::replication::leader;
use crate::share::{ACCEPT, GROUP, Member, initialize};

const THROTTLE: (&str, &str) = ("weir.queue.overflow", "throttle");

/// A broker with a topic of one partition whose producers wait when so many messages are not settled.
async fn house(messages: &str) -> (TestBroker, Client, Uuid) {
    queues::house(&[("weir.queue.max.messages", messages), THROTTLE]).await
}

fn partitions(broker: &Running) -> impl Iterator<Item = std::sync::Arc<Partition>> {
    let all = broker.broker().partitions.all().into_iter();
    all.filter(|partition| &**partition.topic() == "t")
}

/// Batches that wait.
fn waiting(broker: &Running) -> usize {
    let counts = partitions(broker).map(|partition| {
        let throttle = partition.replica().throttle();
        throttle.map_or(0, |throttle| throttle.count())
    });
    counts.sum()
}

async fn until_waiting(broker: &Running, count: usize) {
    eventually("they wait", async || {
        (waiting(broker) == count).then_some(())
    })
    .await;
}

/// Sends without waiting for the answer.
async fn send(client: &mut Client, batch: Bytes) -> i32 {
    client.send(9, &produce("t", 0, batch)).await
}

async fn told(client: &mut Client, number: i32) -> PartitionProduceResponse {
    produced(&client.answer::<ProduceRequest>(9, number).await, 9)
}

/// Sends and waits for the answer.
async fn put(client: &mut Client, batch: Bytes) -> PartitionProduceResponse {
    client.produce("t", 0, batch).await
}

#[tokio::test]
async fn a_producer_waits_for_room_and_goes_on_when_something_is_settled() {
    let (broker, mut client, topic) = house("2").await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    // What never fits is refused for good.
    assert_eq!(put(&mut client, of(3)).await.error_code, SOLD_OUT.code());
    let number = send(&mut client, of(1)).await;
    until_waiting(&broker.running, 1).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    let answer = told(&mut client, number).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 2));
    assert_eq!(waiting(&broker.running), 0);
    broker.running.stop().await;
}

#[tokio::test]
async fn who_has_waited_in_vain_is_told_to_come_again_and_nothing_is_appended_later() {
    let (broker, mut client, topic) = house("2").await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    let mut impatient = produce("t", 0, of(1));
    // A quarter of it is left for the answer: enough for any machine.
    impatient.timeout_ms = 4_000;
    for acks in [-1, 1] {
        impatient.acks = acks;
        let answer = produced(&client.call(9, &impatient).await, 9);
        assert_eq!(answer.error_code, ErrorCode::NotEnoughReplicas.code());
        let message = answer.error_message.unwrap();
        assert!(message.contains("2 messages are not settled"), "{message}");
    }
    let mut silent = broker.connect().await;
    impatient.acks = 0;
    silent.send(9, &impatient).await;
    assert!(
        silent.receive().await.is_none(),
        "closed, as with any error"
    );
    let (_, metrics) = broker.http("/metrics").await;
    let refused = "weir_topic_queue_refused_batches_total{topic=\"t\"} 3";
    assert!(metrics.contains(refused), "{metrics}");
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    assert_eq!(put(&mut client, of(1)).await.base_offset, 2);
    broker.running.stop().await;
}

#[tokio::test]
async fn producers_that_want_no_answer_and_those_that_want_a_quick_one_wait_too() {
    let (broker, mut client, topic) = house("2").await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    let mut silent = produce("t", 0, of(1));
    silent.acks = 0;
    client.send(9, &silent).await;
    until_waiting(&broker.running, 1).await;
    silent.acks = 1;
    let number = client.send(9, &silent).await;
    until_waiting(&broker.running, 2).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    let answer = told(&mut client, number).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 3));
    broker.running.stop().await;
}

/// A first batch that is larger than those behind it, which would fit sooner.
#[tokio::test]
async fn pipelined_batches_of_an_idempotent_producer_keep_their_order() {
    let (broker, mut client, topic) = house("6").await;
    let id = producer_id(&mut client).await;
    let numbered = |sequence, count| {
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), sequence);
        build(builder, &vec!["ticket"; count])
    };
    assert_eq!(put(&mut client, numbered(0, 5)).await.base_offset, 0);
    let mut numbers = Vec::new();
    for (sequence, count) in [(5, 3), (8, 1), (9, 2), (11, 1), (12, 1)] {
        numbers.push(send(&mut client, numbered(sequence, count)).await);
    }
    until_waiting(&broker.running, 5).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    let first = told(&mut client, numbers[0]).await;
    assert_eq!((first.error_code, first.base_offset), (0, 5));
    until_waiting(&broker.running, 4).await;
    // Two find room now, and then all.
    for (settled, still) in [((2, 4), 2), ((5, 7), 0)] {
        if settled.0 == 5 {
            member.take().await;
        }
        let (from, to) = settled;
        assert_eq!(member.acked(&[(from, to, ACCEPT)]).await, 0);
        until_waiting(&broker.running, still).await;
    }
    let mut offsets = Vec::new();
    for number in &numbers[1..] {
        let answer = told(&mut client, *number).await;
        assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
        offsets.push(answer.base_offset);
    }
    assert_eq!(offsets, [8, 9, 11, 12]);
    broker.running.stop().await;
}

#[tokio::test]
async fn who_comes_later_does_not_pass_who_waits() {
    let (broker, mut client, topic) = house("4").await;
    assert_eq!(put(&mut client, of(3)).await.error_code, 0);
    let large = send(&mut client, of(2)).await;
    until_waiting(&broker.running, 1).await;
    let mut other = broker.connect().await;
    // There would be room for it.
    let small = send(&mut other, of(1)).await;
    until_waiting(&broker.running, 2).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    assert_eq!(told(&mut client, large).await.base_offset, 3);
    assert_eq!(told(&mut other, small).await.base_offset, 5);
    broker.running.stop().await;
}

/// Two batches, of which the second would find room.
enum Two {
    OfNobody,
    OfAnIdempotentProducer,
}

/// Both are in the lane's queue before the first is refused: where nothing waits for the disk, what was read together is written together.
async fn close_behind(two: Two) {
    let config = [
        ("weir.queue.max.messages", "4"),
        ("durability", "os"),
        THROTTLE,
    ];
    let (broker, mut client, topic) = queues::house(&config).await;
    let [fills, large, small] = match two {
        Two::OfNobody => [of(3), of(2), of(1)],
        Two::OfAnIdempotentProducer => {
            let id = producer_id(&mut client).await;
            [(0, 3), (3, 2), (5, 1)].map(|(sequence, count)| {
                let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), sequence);
                build(builder, &vec!["ticket"; count])
            })
        }
    };
    assert_eq!(put(&mut client, fills).await.error_code, 0);
    let mut together = Vec::new();
    for (number, batch) in (1_001..).zip([large, small]) {
        let frame = encode_request(9, number, Some("test"), &produce("t", 0, batch)).unwrap();
        together.extend_from_slice(&frame.try_into_bytes().unwrap());
    }
    client.send_bytes(&together).await;
    until_waiting(&broker.running, 2).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    assert_eq!(told(&mut client, 1_001).await.base_offset, 3);
    assert_eq!(told(&mut client, 1_002).await.base_offset, 5);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_comes_close_behind_does_not_pass_either() {
    close_behind(Two::OfNobody).await;
}

#[tokio::test]
async fn what_is_out_of_order_for_now_waits_as_well() {
    close_behind(Two::OfAnIdempotentProducer).await;
}

/// As many single messages as an idempotent producer may have on their way, all the time, while room comes and goes. Each is taken at last, in order.
async fn sells(mut client: Client, count: i32) {
    const ON_THEIR_WAY: usize = 5;
    let id = producer_id(&mut client).await;
    let mut numbers = VecDeque::new();
    let mut last = -1;
    for sequence in 0..count {
        if numbers.len() == ON_THEIR_WAY {
            last = sold(&mut client, numbers.pop_front(), last).await;
        }
        let builder = BatchBuilder::new().producer(id, ProducerEpoch(0), sequence);
        numbers.push_back(send(&mut client, build(builder, &["ticket"])).await);
    }
    while !numbers.is_empty() {
        last = sold(&mut client, numbers.pop_front(), last).await;
    }
}

async fn sold(client: &mut Client, number: Option<i32>, last: i64) -> i64 {
    let answer = told(client, number.unwrap()).await;
    assert_eq!(answer.error_code, 0, "{:?}", answer.error_message);
    assert!(
        answer.base_offset > last,
        "{} after {last}",
        answer.base_offset
    );
    answer.base_offset
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_out_of_order_while_room_comes_and_goes() {
    const EACH: i32 = 400;
    let config = [
        ("weir.queue.max.messages", "6"),
        ("durability", "os"),
        THROTTLE,
    ];
    let (broker, client, topic) = queues::house(&config).await;
    let others = [broker.connect().await, broker.connect().await];
    let mut member = Member::new(&broker, "a", topic).await;
    let settling = async {
        let mut settled = 0;
        while settled < 3 * i64::from(EACH) {
            for (first, last, _) in member.take().await {
                assert_eq!(member.acked(&[(first, last, ACCEPT)]).await, 0);
                settled += last - first + 1;
            }
        }
    };
    let [second, third] = others.map(|other| sells(other, EACH));
    tokio::join!(sells(client, EACH), second, third, settling);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_connection_is_not_read_from_while_it_waits_and_others_are_not_held_up() {
    let (broker, mut client, topic) = house("2").await;
    let mut other = broker.connect().await;
    other.create_topic("plain", 1, &[]).await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    let mut numbers = Vec::new();
    for count in 1..=5 {
        numbers.push(send(&mut client, of(1)).await);
        until_waiting(&broker.running, count).await;
    }
    for _ in 0..5 {
        numbers.push(send(&mut client, of(1)).await);
    }
    for offset in 0..100 {
        let answer = other.produce("plain", 0, of(1)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, offset));
        assert_eq!(waiting(&broker.running), 5);
    }
    let mut member = Member::new(&broker, "a", topic).await;
    let settling = async {
        for first in (0..10).step_by(2) {
            eventually("there is more", async || {
                let taken = member.take().await;
                taken
                    .first()
                    .is_some_and(|range| range.1 == first + 1)
                    .then_some(())
            })
            .await;
            assert_eq!(member.acked(&[(first, first + 1, ACCEPT)]).await, 0);
            for (number, offset) in numbers.drain(..2).zip(first + 2..) {
                assert_eq!(told(&mut client, number).await.base_offset, offset);
            }
        }
    };
    tokio::time::timeout(PATIENCE * 3, settling).await.unwrap();
    broker.running.stop().await;
}

#[tokio::test]
async fn room_appears_when_the_bound_is_raised_and_when_records_are_deleted() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let config = [
        ("weir.queue.max.messages", "2"),
        THROTTLE,
        // The batches are years old, and who deletes records looks for what is past its retention too.
        ("retention.ms", "-1"),
    ];
    client.create_topic("t", 1, &config).await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    let mut admin = broker.connect().await;
    let number = send(&mut client, of(1)).await;
    until_waiting(&broker.running, 1).await;
    let raised = [("weir.queue.max.messages", "3")];
    admin.set_configs(2, "t", &raised).await;
    assert_eq!(told(&mut client, number).await.base_offset, 2);

    let number = send(&mut client, of(1)).await;
    until_waiting(&broker.running, 1).await;
    let delete = DeleteRecordsRequest {
        topics: vec![DeleteRecordsTopic {
            name: "t".to_owned(),
            partitions: vec![DeleteRecordsPartition {
                partition_index: 0,
                offset: 1,
            }],
        }],
        timeout_ms: 30_000,
    };
    admin.call(2, &delete).await;
    assert_eq!(told(&mut client, number).await.base_offset, 3);

    // Nobody waits any more once the topic refuses: for the moment, as long as what is there is counted for the new bound, and then for good.
    let number = send(&mut client, of(1)).await;
    until_waiting(&broker.running, 1).await;
    let rejects = [("weir.queue.overflow", "reject")];
    admin.set_configs(2, "t", &rejects).await;
    let told = told(&mut client, number).await.error_code;
    assert!(
        [SOLD_OUT.code(), ErrorCode::NotEnoughReplicas.code()].contains(&told),
        "{told}"
    );
    assert_eq!(waiting(&broker.running), 0);
    broker.running.stop().await;
}

#[tokio::test]
async fn the_end_of_the_topic_ends_the_wait() {
    let (broker, mut client, _) = house("2").await;
    assert_eq!(put(&mut client, of(2)).await.error_code, 0);
    let number = send(&mut client, of(1)).await;
    until_waiting(&broker.running, 1).await;
    broker.connect().await.delete_topic("t").await;
    let answer = told(&mut client, number).await;
    let code = ErrorCode::from_code(answer.error_code).unwrap();
    assert!(
        matches!(
            code,
            ErrorCode::NotLeaderOrFollower | ErrorCode::UnknownTopicOrPartition
        ),
        "{code:?}"
    );
    broker.running.stop().await;
}

#[tokio::test]
async fn another_leader_ends_the_wait() {
    let (mut brokers, _dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    let bounds = [("weir.queue.max.messages", "2"), THROTTLE];
    create_replicated(&mut client, 1, &bounds).await;
    let led = eventually("somebody leads", async || {
        brokers.iter().find_map(|broker| leader(broker, "t"))
    })
    .await;
    let mut client = Client::connect(brokers[led].addresses().kafka).await;
    eventually("it is filled", async || {
        (put(&mut client, of(2)).await.error_code == 0).then_some(())
    })
    .await;
    // Longer than a leader may take to go.
    let mut patient = produce("t", 0, of(1));
    patient.timeout_ms = 120_000;
    let number = client.send(9, &patient).await;
    until_waiting(&brokers[led], 1).await;
    let stopping = brokers.remove(led);
    let (answer, ()) = tokio::join!(told(&mut client, number), stopping.stop());
    assert_eq!(answer.error_code, ErrorCode::NotLeaderOrFollower.code());
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn room_that_another_partition_of_the_topic_leaves_is_found() {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let config = [
        ("weir.queue.group", GROUP),
        ("weir.queue.max.messages", "4"),
        ("weir.queue.max.scope", "topic"),
        THROTTLE,
    ];
    let topic = client.create_topic("t", 2, &config).await;
    initialize(&mut client, topic, 0).await;
    // Each of them waits until the ledger has heard of both partitions.
    for _ in 0..4 {
        assert_eq!(put(&mut client, of(1)).await.error_code, 0);
    }
    let number = client.send(9, &produce("t", 1, of(2))).await;
    until_waiting(&broker.running, 1).await;
    let mut member = Member::new(&broker, "a", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    let answer = told(&mut client, number).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 0));
    broker.running.stop().await;
}

#[tokio::test]
async fn the_grpc_api_waits_as_well() {
    let (broker, mut client, mut queue) = grpc::start().await;
    let config = [
        ("weir.queue.group", GROUP),
        ("weir.queue.max.messages", "1"),
        THROTTLE,
    ];
    let topic = client.create_topic("t", 1, &config).await;
    initialize(&mut client, topic, 0).await;
    assert_eq!(grpc::publish(&mut queue, "t", "a").await, (0, 0));
    let settling = async {
        until_waiting(&broker.running, 1).await;
        let mut member = Member::new(&broker, "a", topic).await;
        member.take().await;
        assert_eq!(member.acked(&[(0, 0, ACCEPT)]).await, 0);
    };
    let (published, ()) = tokio::join!(grpc::publish(&mut queue, "t", "b"), settling);
    assert_eq!(published, (0, 1));
    broker.running.stop().await;
}
