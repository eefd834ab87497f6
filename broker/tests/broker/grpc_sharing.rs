//! The gRPC API of queues: share groups by `Subscribe`, at one broker and at three.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use weir_proto::queue::v1 as proto;
use weir_proto::queue::v1::Disposition;
use weir_proto::queue::v1::queue_client::QueueClient;
use weir_proto::queue::v1::subscribe_request::Request as Asked;
use weir_proto::queue::v1::subscribe_response::Response as Told;

use weir_wire::MessageView;
use weir_wire::messages::create_topics_request::CreatableTopic;
use weir_wire::messages::{CreateTopicsRequest, CreateTopicsResponseView};

use crate::client::{Client, PATIENCE, eventually};
use crate::cluster::{cluster_with, knows};
use crate::grpc::{PORT, message, publish, queue_at, start, value};
use crate::share::{ACCEPT, GROUP, Member};

/// Kafka's number of groups among resources with configurations.
const GROUPS: i8 = 32;

/// Longer than anything here takes, and shorter than a lease by default (30 s).
const AT_ONCE: Duration = Duration::from_secs(10);

/// A stream, as a client has it.
struct Subscriber {
    member: String,
    requests: mpsc::UnboundedSender<proto::SubscribeRequest>,
    responses: Streaming<proto::SubscribeResponse>,
    deliveries: Vec<proto::Delivery>,
    outcomes: Vec<proto::Outcome>,
}

impl Subscriber {
    async fn open(queue: &mut QueueClient<Channel>, topic: &str, credit: u32) -> Self {
        Self::open_as("", queue, topic, credit).await
    }

    /// The stream takes the place of one that was this member.
    async fn open_as(
        member: &str,
        queue: &mut QueueClient<Channel>,
        topic: &str,
        credit: u32,
    ) -> Self {
        let (requests, mut sent) = mpsc::unbounded_channel();
        let start = proto::Start {
            group: GROUP.to_owned(),
            topics: vec![topic.to_owned()],
            credit,
            member_id: member.to_owned(),
        };
        let asked = proto::SubscribeRequest {
            request: Some(Asked::Start(start)),
        };
        requests.send(asked).unwrap();
        let sent = futures::stream::poll_fn(move |cx| sent.poll_recv(cx));
        let mut responses = queue.subscribe(sent).await.unwrap().into_inner();
        let first = responses.message().await.unwrap().unwrap();
        let Some(Told::Started(started)) = first.response else {
            panic!("it has started")
        };
        Self {
            member: started.member_id,
            requests,
            responses,
            deliveries: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    fn credit(&self, messages: u32) {
        let request = Some(Asked::Credit(proto::Credit { messages }));
        let request = proto::SubscribeRequest { request };
        self.requests.send(request).unwrap();
    }

    fn settle(&self, token: u64, disposition: Disposition, delay_ms: i64) {
        let settlement = proto::Settlement {
            token,
            disposition: disposition.into(),
            delay_ms,
        };
        let settlements = vec![settlement];
        let request = Some(Asked::Settle(proto::Settle { settlements }));
        let request = proto::SubscribeRequest { request };
        self.requests.send(request).unwrap();
    }

    /// Hears one thing, if something comes in time.
    async fn hear(&mut self, within: Duration) -> bool {
        let next = tokio::time::timeout(within, self.responses.message()).await;
        let Ok(next) = next else { return false };
        match next.unwrap().unwrap().response.unwrap() {
            Told::Deliveries(deliveries) => self.deliveries.extend(deliveries.deliveries),
            Told::Settled(settled) => self.outcomes.extend(settled.outcomes),
            Told::Started(_) => panic!("once is enough"),
        }
        true
    }

    async fn next(&mut self) -> proto::Delivery {
        while self.deliveries.is_empty() {
            assert!(self.hear(PATIENCE).await, "a delivery");
        }
        self.deliveries.remove(0)
    }

    async fn some(&mut self, count: usize) -> Vec<proto::Delivery> {
        while self.deliveries.len() < count {
            assert!(self.hear(PATIENCE).await, "{count} deliveries");
        }
        std::mem::take(&mut self.deliveries)
    }

    /// What became of a settlement: nothing when it is stored, or gRPC's code.
    async fn outcome(&mut self, token: u64) -> Option<i32> {
        loop {
            let place = self
                .outcomes
                .iter()
                .position(|outcome| outcome.token == token);
            if let Some(place) = place {
                return self.outcomes.remove(place).refused.map(|why| why.code);
            }
            assert!(self.hear(PATIENCE).await, "an outcome of {token}");
        }
    }

    async fn settled(&mut self, token: u64, disposition: Disposition) -> Option<i32> {
        self.settle(token, disposition, 0);
        self.outcome(token).await
    }
}

/// A group that begins with what is there.
async fn group(kafka: &mut Client) {
    kafka
        .set_configs(GROUPS, GROUP, &[("share.auto.offset.reset", "earliest")])
        .await;
}

#[tokio::test]
async fn a_slow_consumer_has_no_more_than_its_credit_out() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 3, &[]).await;
    group(&mut kafka).await;
    for number in 0..30 {
        publish(&mut queue, "t", &number.to_string()).await;
    }
    let mut slow = Subscriber::open(&mut queue, "t", 0).await;
    slow.credit(5);
    let mut out: Vec<_> = slow.some(5).await;
    eventually("the metrics have it", async || {
        let (_, metrics) = broker.http("/metrics").await;
        let lines = [
            "weir_subscribe_streams 1\n",
            "weir_subscribe_credit_messages 5\n",
            "weir_subscribe_outstanding_messages 5\n",
        ];
        lines
            .iter()
            .all(|line| metrics.contains(line))
            .then_some(())
    })
    .await;
    let mut seen = BTreeSet::new();
    while seen.len() < 30 {
        // What has not come by the time that something else is settled was not sent.
        assert!(out.len() <= 5, "{}", out.len());
        let one = out.remove(0);
        assert!(seen.insert(value(one.message.as_ref())), "each once");
        assert_eq!(slow.settled(one.token, Disposition::Accept).await, None);
        let left = 30 - seen.len();
        while out.len() + slow.deliveries.len() < left.min(5) {
            assert!(slow.hear(PATIENCE).await, "the next one");
        }
        out.append(&mut slow.deliveries);
    }
    assert!(out.is_empty());
    broker.stop().await;
}

#[tokio::test]
async fn the_greatest_priority_comes_first() {
    let (broker, mut kafka, mut queue) = start().await;
    let strict = [("weir.queue.priority", "strict")];
    kafka.create_topic("t", 1, &strict).await;
    group(&mut kafka).await;
    for (text, priority) in [("low", 0), ("plain", 4), ("low too", 0), ("high", 9)] {
        let message = proto::Message {
            priority: Some(priority),
            ..message(text)
        };
        let request = proto::PublishRequest {
            topic: "t".to_owned(),
            partition: None,
            message: Some(message),
        };
        queue.publish(request).await.unwrap();
    }
    let mut worker = Subscriber::open(&mut queue, "t", 1).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        let one = worker.next().await;
        heard.push(value(one.message.as_ref()));
        assert_eq!(worker.settled(one.token, Disposition::Accept).await, None);
    }
    assert_eq!(heard, ["high", "plain", "low", "low too"]);
    broker.stop().await;
}

#[tokio::test]
async fn messages_are_accepted_released_rejected_and_renewed_one_by_one() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    group(&mut kafka).await;
    for text in ["a", "b", "c"] {
        publish(&mut queue, "t", text).await;
    }
    let mut worker = Subscriber::open(&mut queue, "t", 10).await;
    let first = worker.some(3).await;
    assert!(first.iter().all(|delivery| delivery.delivery_count == 1));
    let tokens: Vec<_> = first.iter().map(|delivery| delivery.token).collect();
    assert_eq!(worker.settled(tokens[0], Disposition::Accept).await, None);
    assert_eq!(worker.settled(tokens[1], Disposition::Renew).await, None);
    assert_eq!(worker.settled(tokens[1], Disposition::Release).await, None);
    assert_eq!(worker.settled(tokens[2], Disposition::Reject).await, None);
    let again = worker.next().await;
    assert_eq!((again.offset, again.delivery_count), (1, 2));
    assert_ne!(again.token, tokens[1]);
    // What was settled cannot be settled again, and what never was handed out not at all.
    let precondition = Some(Code::FailedPrecondition as i32);
    for token in [tokens[0], tokens[1], 999] {
        let outcome = worker.settled(token, Disposition::Accept).await;
        assert_eq!(outcome, precondition);
    }
    let invalid = Some(Code::InvalidArgument as i32);
    let outcome = worker.settled(again.token, Disposition::Unspecified).await;
    assert_eq!(outcome, invalid);
    assert_eq!(worker.settled(again.token, Disposition::Accept).await, None);
    broker.stop().await;
}

#[tokio::test]
async fn a_release_with_a_delay_comes_back_when_it_is_due() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    group(&mut kafka).await;
    publish(&mut queue, "t", "a").await;
    let mut worker = Subscriber::open(&mut queue, "t", 10).await;
    let first = worker.next().await;
    let released = Instant::now();
    worker.settle(first.token, Disposition::Release, 700);
    assert_eq!(worker.outcome(first.token).await, None);
    let again = worker.next().await;
    assert!(
        released.elapsed() >= Duration::from_millis(700),
        "never before"
    );
    assert_eq!((again.offset, again.delivery_count), (0, 2));
    worker.settle(again.token, Disposition::Accept, 5);
    let invalid = Some(Code::InvalidArgument as i32);
    assert_eq!(worker.outcome(again.token).await, invalid);
    broker.stop().await;
}

#[tokio::test]
async fn what_a_broken_stream_had_is_released_at_once() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    group(&mut kafka).await;
    for text in ["a", "b", "c"] {
        publish(&mut queue, "t", text).await;
    }
    let mut first = Subscriber::open(&mut queue, "t", 2).await;
    assert_eq!(first.some(2).await.len(), 2);
    let broken = Instant::now();
    drop(first);
    let mut second = Subscriber::open(&mut queue, "t", 10).await;
    let mut offsets: Vec<_> = second.some(3).await.iter().map(|one| one.offset).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, [0, 1, 2]);
    assert!(broken.elapsed() < AT_ONCE, "{:?}", broken.elapsed());
    broker.stop().await;
}

#[tokio::test]
async fn settlements_before_the_client_s_last_word_are_stored() {
    let (broker, mut kafka, mut queue) = start().await;
    kafka.create_topic("t", 1, &[]).await;
    group(&mut kafka).await;
    publish(&mut queue, "t", "a").await;
    publish(&mut queue, "t", "b").await;
    let mut first = Subscriber::open(&mut queue, "t", 1).await;
    let one = first.next().await;
    first.settle(one.token, Disposition::Accept, 0);
    let Subscriber {
        requests,
        mut responses,
        ..
    } = first;
    drop(requests);
    // It ends by itself, with what became of the settlement.
    let mut outcomes = Vec::new();
    while let Some(told) = responses.message().await.unwrap() {
        if let Some(Told::Settled(settled)) = told.response {
            outcomes.extend(settled.outcomes);
        }
    }
    assert_eq!(outcomes.len(), 1);
    assert_eq!(outcomes[0].refused, None);
    let mut second = Subscriber::open(&mut queue, "t", 10).await;
    assert_eq!(second.next().await.offset, 1);
    broker.stop().await;
}

#[tokio::test]
async fn kafka_s_share_consumers_and_streams_are_one_group() {
    let (broker, mut kafka, mut queue) = start().await;
    let topic = kafka.create_topic("t", 1, &[]).await;
    group(&mut kafka).await;
    for number in 0..4 {
        publish(&mut queue, "t", &number.to_string()).await;
    }
    let mut stream = Subscriber::open(&mut queue, "t", 2).await;
    let out = stream.some(2).await;
    assert_eq!(out.iter().map(|one| one.offset).collect::<Vec<_>>(), [0, 1]);
    let mut consumer = Member::new(&broker, "kafka", topic).await;
    assert_eq!(consumer.take().await, [(2, 3, 1)]);
    assert_eq!(consumer.acked(&[(2, 3, ACCEPT)]).await, 0);
    for one in &out {
        let settled = stream.settled(one.token, Disposition::Accept).await;
        assert_eq!(settled, None);
    }
    publish(&mut queue, "t", "last").await;
    assert_eq!(stream.next().await.offset, 4);
    broker.stop().await;
}

#[tokio::test]
async fn a_stream_that_makes_no_sense_is_refused_with_the_field_s_name() {
    let (broker, _kafka, mut queue) = start().await;
    let good = proto::Start {
        group: "g".into(),
        topics: vec!["t".into()],
        credit: 1,
        member_id: String::new(),
    };
    let start = |start: proto::Start| Some(Asked::Start(start));
    let cases = [
        (None, "start"),
        (Some(Asked::Credit(proto::Credit { messages: 1 })), "start"),
        (
            start(proto::Start {
                group: String::new(),
                ..good.clone()
            }),
            "start.group",
        ),
        (
            start(proto::Start {
                topics: Vec::new(),
                ..good.clone()
            }),
            "start.topics",
        ),
        (
            start(proto::Start {
                credit: 10_001,
                ..good
            }),
            "start.credit",
        ),
    ];
    for (request, field) in cases {
        let request = proto::SubscribeRequest { request };
        let answer: Result<_, Status> = queue.subscribe(futures::stream::iter([request])).await;
        let refused = match answer {
            Ok(answer) => answer.into_inner().message().await.unwrap_err(),
            Err(refused) => refused,
        };
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().starts_with(field), "{refused}");
    }
    broker.stop().await;
}

async fn create_everywhere(kafka: &mut Client, name: &str, partitions: i32) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.to_owned(),
            num_partitions: partitions,
            replication_factor: 3,
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let body = kafka.call(7, &request).await;
    let created = CreateTopicsResponseView::decode(&body, 7).unwrap();
    assert!(created.topics.iter().all(|topic| topic.error_code == 0));
}

#[tokio::test]
async fn any_broker_serves_what_others_lead_and_a_broker_that_goes_loses_nothing() {
    let (mut brokers, _configs, _dir) = cluster_with(PORT).await;
    let mut kafka = Client::connect(brokers[0].addresses().kafka).await;
    create_everywhere(&mut kafka, "t", 6).await;
    knows(&mut kafka, 6).await;
    group(&mut kafka).await;
    let mut queue = queue_at(brokers[0].addresses().grpc);
    let mut worker = Subscriber::open(&mut queue, "t", 20).await;
    let mut published = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let last = brokers.pop().unwrap();
    let mut stopping = Some(last);
    let mut stopped = None;
    for number in 0..60 {
        let text = number.to_string();
        let topic = "t".to_owned();
        let request = proto::PublishRequest {
            topic,
            partition: Some(number % 6),
            message: Some(message(&text)),
        };
        eventually("a message is published", async || {
            queue.publish(request.clone()).await.ok()
        })
        .await;
        published.insert(text);
        if number == 20 {
            stopped = stopping.take().map(|last| tokio::spawn(last.stop()));
        }
    }
    while seen != published {
        let one = worker.next().await;
        let text = value(one.message.as_ref());
        // Of one whose lease ended with its leader it is not told that it is stored; then it comes again.
        if worker
            .settled(one.token, Disposition::Accept)
            .await
            .is_none()
        {
            seen.insert(text);
        }
    }
    stopped.unwrap().await.unwrap();
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn another_leader_knows_what_is_settled_of_each_priority() {
    let (mut brokers, _configs, _dir) = cluster_with(PORT).await;
    let mut kafka = Client::connect(brokers[0].addresses().kafka).await;
    create_everywhere(&mut kafka, "t", 6).await;
    let leaders = knows(&mut kafka, 6).await;
    let (partition, _) = leaders.iter().find(|(_, leader)| **leader == 2).unwrap();
    let strict = [("weir.queue.priority", "strict")];
    kafka.set_configs(2, "t", &strict).await;
    group(&mut kafka).await;
    let mut queue = queue_at(brokers[0].addresses().grpc);
    let mut publish = async |text: &str, priority: u32| {
        let request = proto::PublishRequest {
            topic: "t".to_owned(),
            partition: Some(*partition),
            message: Some(proto::Message {
                priority: Some(priority),
                ..message(text)
            }),
        };
        eventually("a message is published", async || {
            queue.publish(request.clone()).await.ok()
        })
        .await;
    };
    for (text, priority) in [("0", 0), ("9", 9), ("0 too", 0), ("9 too", 9), ("5", 5)] {
        publish(text, priority).await;
    }
    let mut subscribing = queue_at(brokers[0].addresses().grpc);
    let mut worker = Subscriber::open(&mut subscribing, "t", 1).await;
    let mut settled: Vec<String> = Vec::new();
    let mut settle_one = async |settled: &mut Vec<String>| {
        let one = worker.next().await;
        let text = value(one.message.as_ref());
        assert!(!settled.contains(&text), "{text} comes again");
        // Of one whose lease ended with its leader it is not told that it is stored; then it comes again.
        let outcome = worker.settled(one.token, Disposition::Accept).await;
        if outcome.is_none() {
            settled.push(text);
        }
    };
    for _ in 0..4 {
        settle_one(&mut settled).await;
    }
    assert_eq!(settled, ["9", "9 too", "5", "0"]);
    brokers.pop().unwrap().stop().await;
    publish("9 at last", 9).await;
    while settled.len() < 6 {
        settle_one(&mut settled).await;
    }
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test]
async fn a_stream_takes_the_place_of_one_whose_broker_is_gone() {
    let (mut brokers, _configs, _dir) = cluster_with(PORT).await;
    let mut kafka = Client::connect(brokers[0].addresses().kafka).await;
    create_everywhere(&mut kafka, "t", 2).await;
    knows(&mut kafka, 2).await;
    group(&mut kafka).await;
    let mut elsewhere = queue_at(brokers[2].addresses().grpc);
    let broken = Subscriber::open(&mut elsewhere, "t", 10).await;
    let member = broken.member.clone();
    brokers.pop().unwrap().stop().await;
    drop(broken);
    let mut queue = queue_at(brokers[0].addresses().grpc);
    let mut again = Subscriber::open_as(&member, &mut queue, "t", 10).await;
    assert_eq!(again.member, member);
    for partition in 0..2 {
        let request = proto::PublishRequest {
            topic: "t".to_owned(),
            partition: Some(partition),
            message: Some(message("a")),
        };
        queue.publish(request).await.unwrap();
    }
    let began = Instant::now();
    assert_eq!(again.some(2).await.len(), 2);
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
    for broker in brokers {
        broker.stop().await;
    }
}
