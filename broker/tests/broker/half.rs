//! Transactions of producers that speak gRPC: prepared, committed, rolled back, asked for.

use futures::future::join_all;
use tokio::sync::{Notify, mpsc};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weir_broker::start::Running;
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::check_back_request::Request as Said;
use weir_proto::queue::v1::check_back_response::Response as Told;
use weir_proto::queue::v1::queue_client::QueueClient;
use weir_proto::queue::v1::read_request::From;
use weir_wire::messages::{ListTransactionsRequest, ListTransactionsResponseView};
use weir_wire::{MessageView, Offset};

use crate::client::{Client, PATIENCE, TestBroker, eventually, values};
use crate::cluster::cluster_with;
use crate::grpc::{self, PORT, message, queue_at, value};
use crate::queues::create_replicated;
use crate::share::{ACCEPT, GROUP, Member, initialize};

const SHOP: &str = "shop";
const TOPIC_OF_HALVES: &str = "__half_messages";

fn to(topic: &str, text: &str) -> proto::PublishRequest {
    proto::PublishRequest {
        topic: topic.to_owned(),
        partition: None,
        message: Some(message(text)),
    }
}

fn preparing(messages: Vec<proto::PublishRequest>) -> proto::PrepareRequest {
    proto::PrepareRequest {
        producer_group: SHOP.to_owned(),
        messages,
        ..proto::PrepareRequest::default()
    }
}

async fn prepare(queue: &mut QueueClient<Channel>, request: proto::PrepareRequest) -> String {
    let prepared = queue.prepare(request).await.unwrap();
    prepared.into_inner().transaction_id
}

async fn commit(queue: &mut QueueClient<Channel>, id: &str) -> Result<(), Status> {
    let transaction_id = id.to_owned();
    let request = proto::CommitRequest { transaction_id };
    queue.commit(request).await.map(|_| ())
}

async fn roll_back(queue: &mut QueueClient<Channel>, id: &str) -> Result<(), Status> {
    let transaction_id = id.to_owned();
    let request = proto::RollbackRequest { transaction_id };
    queue.rollback(request).await.map(|_| ())
}

/// Where the logs of a topic's partitions end, which nothing that was not committed may change.
fn ends(broker: &TestBroker, topic: &str) -> Vec<Offset> {
    let all = broker.running.broker().partitions.all().into_iter();
    all.filter(|partition| &**partition.topic() == topic)
        .map(|partition| partition.reader().log_end())
        .collect()
}

/// Reads a topic from its start.
async fn reading(queue: &mut QueueClient<Channel>, topic: &str) -> Streaming<proto::ReadResponse> {
    let request = proto::ReadRequest {
        topic: topic.to_owned(),
        from: Some(From::Earliest(true)),
        ..proto::ReadRequest::default()
    };
    queue.read(request).await.unwrap().into_inner()
}

/// The next messages that a reader gets, at least so many.
async fn read(stream: &mut Streaming<proto::ReadResponse>, count: usize) -> Vec<String> {
    let mut all = Vec::new();
    while all.len() < count {
        let next = tokio::time::timeout(PATIENCE, stream.message()).await;
        let messages = next.unwrap().unwrap().unwrap().messages;
        all.extend(messages.iter().map(|got| value(got.message.as_ref())));
    }
    all
}

#[tokio::test]
async fn what_is_prepared_is_seen_by_nobody_until_it_is_committed_and_then_by_everybody() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    let topic = kafka.create_topic("t", 1, &[]).await;
    kafka.create_topic("other", 2, &[]).await;
    initialize(&mut kafka, topic, 0).await;
    let mut reader = reading(&mut queue, "t").await;
    let messages = vec![to("t", "a"), to("other", "b"), to("t", "c")];
    let id = prepare(&mut queue, preparing(messages)).await;
    // Not even in the log, where one who reads what is not committed would see it.
    assert_eq!(ends(&broker, "t"), [Offset(0)]);
    assert_eq!(ends(&broker, "other"), [Offset(0), Offset(0)]);
    assert_eq!(grpc::publish(&mut queue, "t", "plain").await, (0, 0));
    assert_eq!(read(&mut reader, 1).await, ["plain"]);

    commit(&mut queue, &id).await.unwrap();
    assert_eq!(read(&mut reader, 2).await, ["a", "c"]);
    let mut other = reading(&mut queue, "other").await;
    assert_eq!(read(&mut other, 1).await, ["b"]);
    let data = kafka.fetch_from("t", 0, 0).await;
    let seen: Vec<String> = values(&data).into_iter().map(|(_, value)| value).collect();
    assert_eq!(seen[..3], ["plain", "a", "c"]);
    let mut member = Member::new(&broker, "m", topic).await;
    let taken = member.take().await;
    assert_eq!((taken[0].0, taken.last().unwrap().1), (0, 2));

    // Again, which changes nothing.
    let end = ends(&broker, "t");
    commit(&mut queue, &id).await.unwrap();
    assert_eq!(ends(&broker, "t"), end);
    let late = roll_back(&mut queue, &id).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    // And over a restart.
    member.close().await;
    let broker = broker.restart().await;
    let mut queue = queue_at(broker.running.addresses().grpc);
    eventually("its coordinator is back", async || {
        commit(&mut queue, &id).await.ok()
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test]
async fn what_is_rolled_back_never_appears() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    kafka.create_topic("t", 1, &[]).await;
    let id = prepare(&mut queue, preparing(vec![to("t", "a")])).await;
    roll_back(&mut queue, &id).await.unwrap();
    roll_back(&mut queue, &id).await.unwrap();
    let late = commit(&mut queue, &id).await.unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    assert!(late.message().contains("rolled back"), "{late:?}");
    assert_eq!(ends(&broker, "t"), [Offset(0)]);
    broker.running.stop().await;
}

fn stream(
    mut requests: mpsc::Receiver<proto::CheckBackRequest>,
) -> impl futures::Stream<Item = proto::CheckBackRequest> + Send + 'static {
    futures::stream::poll_fn(move |cx| requests.poll_recv(cx))
}

/// A producer that is asked.
struct Checker {
    answers: mpsc::Sender<proto::CheckBackRequest>,
    told: Streaming<proto::CheckBackResponse>,
}

impl Checker {
    async fn new(queue: &mut QueueClient<Channel>) -> Self {
        let (answers, requests) = mpsc::channel(16);
        let start = proto::CheckBackStart {
            producer_group: SHOP.to_owned(),
        };
        let request = Some(Said::Start(start));
        let first = proto::CheckBackRequest { request };
        answers.send(first).await.unwrap();
        let told = queue.check_back(stream(requests)).await;
        let told = told.unwrap().into_inner();
        Self { answers, told }
    }

    async fn next(&mut self) -> Told {
        let next = tokio::time::timeout(PATIENCE, self.told.message()).await;
        next.unwrap().unwrap().unwrap().response.unwrap()
    }

    async fn asked(&mut self) -> proto::CheckBackAsk {
        match self.next().await {
            Told::Ask(ask) => ask,
            Told::Ended(ended) => panic!("{ended:?}"),
        }
    }

    async fn answer(&mut self, id: &str, decision: proto::Decision) -> Option<proto::Refusal> {
        let answer = proto::CheckBackAnswer {
            transaction_id: id.to_owned(),
            decision: decision.into(),
        };
        let request = Some(Said::Answer(answer));
        let said = proto::CheckBackRequest { request };
        self.answers.send(said).await.unwrap();
        match self.next().await {
            Told::Ended(ended) => {
                assert_eq!(ended.transaction_id, id);
                ended.refused
            }
            Told::Ask(ask) => panic!("{ask:?}"),
        }
    }
}

#[tokio::test]
async fn a_producer_that_has_died_is_asked_when_it_returns() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    kafka.create_topic("t", 1, &[]).await;
    let request = proto::PrepareRequest {
        check_after_ms: 100,
        ..preparing(vec![to("t", "a"), to("t", "b")])
    };
    let id = prepare(&mut queue, request).await;
    // The coordinator starts anew meanwhile.
    let broker = broker.restart().await;
    let mut queue = queue_at(broker.running.addresses().grpc);
    let mut checker = Checker::new(&mut queue).await;
    let ask = checker.asked().await;
    assert_eq!((&ask.transaction_id, ask.asked), (&id, 1));
    let texts = ask.messages.iter().map(|of| value(of.message.as_ref()));
    assert_eq!(texts.collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(ends(&broker, "t"), [Offset(0)]);
    // It dies again, and another of its group is asked.
    drop(checker);
    let mut checker = Checker::new(&mut queue).await;
    let ask = checker.asked().await;
    assert_eq!(ask.transaction_id, id);
    assert!(ask.asked > 1);
    let refused = checker.answer(&id, proto::Decision::Commit).await;
    assert_eq!(refused, None);
    let mut reader = reading(&mut queue, "t").await;
    assert_eq!(read(&mut reader, 2).await, ["a", "b"]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_producer_that_never_knows_is_asked_so_often_and_then_it_is_rolled_back() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    kafka.create_topic("t", 1, &[]).await;
    let request = proto::PrepareRequest {
        check_after_ms: 100,
        asks_max: 2,
        ..preparing(vec![to("t", "a")])
    };
    let id = prepare(&mut queue, request).await;
    let mut checker = Checker::new(&mut queue).await;
    for time in 1..=2 {
        assert_eq!(checker.asked().await.asked, time);
        if time == 1 {
            let refused = checker.answer(&id, proto::Decision::Unknown).await;
            assert_eq!(refused, None);
        }
    }
    let partition = id.split('-').next().unwrap().parse().unwrap();
    eventually("it is decided", async || {
        is_decided(&broker, partition).then_some(())
    })
    .await;
    let late = checker.answer(&id, proto::Decision::Commit).await.unwrap();
    assert_eq!(late.code, i32::from(Code::FailedPrecondition));
    assert_eq!(ends(&broker, "t"), [Offset(0)]);
    broker.running.stop().await;
}

/// Whether an outcome was stored: the messages, two asks, and the two records of an outcome.
fn is_decided(broker: &TestBroker, index: i32) -> bool {
    let all = broker.running.broker().partitions.all().into_iter();
    all.filter(|of| &**of.topic() == TOPIC_OF_HALVES && of.key().partition.0 == index)
        .any(|of| of.reader().log_end() >= Offset(5))
}

#[tokio::test]
async fn what_a_queue_has_no_room_for_stays_prepared() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    let config = [
        ("weir.queue.group", GROUP),
        ("weir.queue.max.messages", "2"),
    ];
    let topic = kafka.create_topic("t", 1, &config).await;
    kafka.create_topic("other", 1, &[]).await;
    initialize(&mut kafka, topic, 0).await;
    assert_eq!(grpc::publish(&mut queue, "t", "a").await, (0, 0));
    assert_eq!(grpc::publish(&mut queue, "t", "b").await, (0, 1));
    let messages = vec![to("other", "x"), to("t", "c")];
    let id = prepare(&mut queue, preparing(messages)).await;
    let full = commit(&mut queue, &id).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted, "{full:?}");
    let mut member = Member::new(&broker, "m", topic).await;
    member.take().await;
    assert_eq!(member.acked(&[(0, 1, ACCEPT)]).await, 0);
    commit(&mut queue, &id).await.unwrap();
    let mut reader = reading(&mut queue, "t").await;
    assert_eq!(read(&mut reader, 3).await, ["a", "b", "c"]);
    // The first attempt has left nothing there.
    let mut reader = reading(&mut queue, "other").await;
    assert_eq!(grpc::publish(&mut queue, "other", "y").await.0, 0);
    assert_eq!(read(&mut reader, 2).await, ["x", "y"]);
    broker.running.stop().await;
}

#[tokio::test]
async fn what_was_prepared_for_a_topic_that_is_deleted_meanwhile_is_refused_and_nothing_of_it_appears()
 {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    for topic in ["t", "gone"] {
        kafka.create_topic(topic, 1, &[]).await;
    }
    let id = prepare(&mut queue, preparing(vec![to("t", "x"), to("gone", "y")])).await;
    kafka.delete_topic("gone").await;
    // One of the same name is another.
    kafka.create_topic("gone", 1, &[]).await;
    let refused = commit(&mut queue, &id).await.unwrap_err();
    assert_eq!(refused.message(), "topic gone is deleted");
    for topic in ["t", "gone"] {
        assert_eq!(ends(&broker, topic), [Offset(0)]);
    }
    broker.running.stop().await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_the_field_s_name_and_what_is_unknown_is_not_found() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    kafka.create_topic("t", 1, &[]).await;
    let good = preparing(vec![to("t", "a")]);
    let late = proto::PublishRequest {
        message: Some(proto::Message {
            delay_ms: Some(1),
            ..message("a")
        }),
        ..to("t", "a")
    };
    let cases = [
        (
            "producer_group",
            proto::PrepareRequest {
                producer_group: String::new(),
                ..good.clone()
            },
        ),
        (
            "producer_group",
            proto::PrepareRequest {
                producer_group: "x".repeat(256),
                ..good.clone()
            },
        ),
        (
            "check_after_ms",
            proto::PrepareRequest {
                check_after_ms: 99,
                ..good.clone()
            },
        ),
        (
            "check_after_ms",
            proto::PrepareRequest {
                check_after_ms: -1,
                ..good.clone()
            },
        ),
        (
            "asks_max",
            proto::PrepareRequest {
                asks_max: 1_001,
                ..good.clone()
            },
        ),
        ("messages has 0", preparing(Vec::new())),
        ("messages has 1001", preparing(vec![to("t", "a"); 1_001])),
        (
            "messages has 1048",
            preparing(vec![to("t", &"x".repeat(1 << 20))]),
        ),
        ("message.delay_ms", preparing(vec![late])),
        (
            "message is missing",
            preparing(vec![proto::PublishRequest {
                message: None,
                ..to("t", "")
            }]),
        ),
    ];
    for (field, request) in cases {
        let refused = queue.prepare(request).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
        assert!(refused.message().starts_with(field), "{field}: {refused:?}");
    }
    let unknown = queue.prepare(preparing(vec![to("nothing", "a")])).await;
    assert_eq!(unknown.unwrap_err().code(), Code::NotFound);
    for id in ["", "x", "1-x", "-1-a"] {
        let refused = commit(&mut queue, id).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{id}");
        assert!(
            refused.message().starts_with("transaction_id"),
            "{refused:?}"
        );
    }
    let nobody = "0-00000000-0000-0000-0000-000000000001";
    for found in [
        commit(&mut queue, nobody).await,
        roll_back(&mut queue, nobody).await,
    ] {
        assert_eq!(found.unwrap_err().code(), Code::NotFound);
    }
    let id = prepare(&mut queue, good).await;
    let other = format!("{}-{}", id.split('-').next().unwrap(), &nobody[2..]);
    assert_eq!(
        commit(&mut queue, &other).await.unwrap_err().code(),
        Code::NotFound
    );
    let (answers, requests) = mpsc::channel(1);
    let first = proto::CheckBackRequest { request: None };
    answers.send(first).await.unwrap();
    let told = queue.check_back(stream(requests)).await;
    let refused = told.unwrap().into_inner().message().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    broker.running.stop().await;
}

#[tokio::test]
async fn commits_share_an_id_and_what_happens_is_counted() {
    let (broker, mut kafka, mut queue) = grpc::start().await;
    kafka.create_topic("t", 1, &[]).await;
    let mut ids = Vec::new();
    for text in ["a", "b", "c", "never", "later"] {
        ids.push(prepare(&mut queue, preparing(vec![to("t", text)])).await);
    }
    for id in &ids[..3] {
        commit(&mut queue, id).await.unwrap();
    }
    roll_back(&mut queue, &ids[3]).await.unwrap();
    let mut reader = reading(&mut queue, "t").await;
    assert_eq!(read(&mut reader, 3).await, ["a", "b", "c"]);
    let any = ListTransactionsRequest {
        duration_filter: -1,
        ..ListTransactionsRequest::default()
    };
    let listed = eventually("transactions are listed", async || {
        let body = kafka.call(2, &any).await;
        let listed = ListTransactionsResponseView::decode(&body, 2).unwrap();
        let listed = listed.to_owned();
        (listed.error_code == 0).then_some(listed.transaction_states)
    })
    .await;
    let listed: Vec<String> = listed.into_iter().map(|of| of.transactional_id).collect();
    let partition = ids[0].split('-').next().unwrap();
    assert_eq!(listed, [format!("__half-{partition}-256")]);
    let (_, metrics) = broker.http("/metrics").await;
    for line in [
        "weir_half_messages_total{event=\"prepared\"} 5\n",
        "weir_half_messages_total{event=\"committed\"} 3\n",
        "weir_half_messages_total{event=\"rolled_back\"} 1\n",
        "weir_half_messages_total{event=\"in_doubt\"} 0\n",
        "weir_half_messages_undecided 1\n",
    ] {
        assert!(metrics.contains(line), "{line} {metrics}");
    }
    broker.running.stop().await;
}

/// Three brokers with a topic `t` of which each has a replica.
async fn three() -> (Vec<Running>, tempfile::TempDir) {
    let (brokers, _, dir) = cluster_with(PORT).await;
    let mut kafka = Client::connect(brokers[0].addresses().kafka).await;
    let bound = [("weir.queue.max.messages", "100000")];
    create_replicated(&mut kafka, 2, &bound).await;
    (brokers, dir)
}

/// The broker that coordinates a transaction.
fn coordinator(brokers: &[Running], id: &str) -> Option<usize> {
    let partition = id.split('-').next().unwrap().parse().unwrap();
    let image = brokers[0].broker().metadata.image();
    let leader = image.partition(TOPIC_OF_HALVES, partition)?.leader?;
    let is_leader = |broker: &Running| broker.broker().metadata.broker_id() == leader;
    brokers.iter().position(is_leader)
}

/// Prepares as soon as all is there.
async fn prepared(queue: &mut QueueClient<Channel>, texts: &[&str]) -> String {
    eventually("it can be prepared", async || {
        let messages = texts.iter().map(|text| to("t", text)).collect();
        let prepared = queue.prepare(preparing(messages)).await.ok()?;
        Some(prepared.into_inner().transaction_id)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_survives_its_coordinator_between_prepare_and_commit() {
    let (mut brokers, _dir) = three().await;
    let mut queue = queue_at(brokers[0].addresses().grpc);
    let id = prepared(&mut queue, &["a", "b"]).await;
    let other = prepared(&mut queue, &["never"]).await;
    let led = coordinator(&brokers, &id).unwrap();
    brokers.remove(led).stop().await;
    let mut queue = queue_at(brokers[0].addresses().grpc);
    for _ in 0..2 {
        eventually("it is committed", async || {
            commit(&mut queue, &id).await.ok()
        })
        .await;
    }
    roll_back(&mut queue, &other).await.unwrap();
    let last = prepared(&mut queue, &["last"]).await;
    eventually("it is committed", async || {
        commit(&mut queue, &last).await.ok()
    })
    .await;
    let mut reader = reading(&mut queue, "t").await;
    let mut all = read(&mut reader, 3).await;
    all.sort_unstable();
    assert_eq!(all, ["a", "b", "last"]);
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_there_twice_when_the_coordinator_goes_during_commits() {
    const COUNT: usize = 40;
    let (mut brokers, _dir) = three().await;
    let mut queue = queue_at(brokers[0].addresses().grpc);
    let mut ids = Vec::new();
    let texts: Vec<String> = (0..COUNT).map(|number| format!("{number:03}")).collect();
    for text in &texts {
        ids.push(prepared(&mut queue, &[text]).await);
    }
    let led = coordinator(&brokers, &ids[0]).unwrap();
    let leading = brokers.remove(led);
    let addresses: Vec<_> = brokers
        .iter()
        .map(|broker| broker.addresses().grpc)
        .collect();
    let first = Notify::new();
    let committing = ids.iter().enumerate().map(async |(number, id)| {
        let mut queue = queue_at(addresses[number % addresses.len()]);
        eventually("it is committed", async || {
            commit(&mut queue, id).await.ok()
        })
        .await;
        first.notify_one();
    });
    // Some are done then, some under way.
    let stopping = async {
        first.notified().await;
        leading.stop().await;
    };
    tokio::join!(join_all(committing), stopping);
    let mut queue = queue_at(addresses[0]);
    let last = prepared(&mut queue, &["last"]).await;
    eventually("it is committed", async || {
        commit(&mut queue, &last).await.ok()
    })
    .await;
    let mut reader = reading(&mut queue, "t").await;
    let mut all = read(&mut reader, COUNT + 1).await;
    all.sort_unstable();
    assert_eq!(all[..COUNT], texts);
    assert_eq!(all[COUNT..], ["last"]);
    for broker in brokers {
        broker.stop().await;
    }
}
