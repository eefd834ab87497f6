//! Priorities: the greatest first over the whole backlog, or by weight; what is settled of each level stays so.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_groups::share::state::StateKey;
use weir_wire::batch::{BatchBuilder, NewHeader, NewRecord};
use weir_wire::messages::ErrorCode;
use weir_wire::{PartitionIndex, TopicId};

use crate::client::{Client, TestBroker, eventually};
use crate::share::{ACCEPT, GROUP, Member, RELEASE, Range, initialize};

const STRICT: (&str, &str) = ("weir.queue.priority", "strict");
const TOPICS: i8 = 2;

/// Records with these headers, and keys where there are some; `-`: no header.
fn of(records: &[(&str, &str)]) -> Bytes {
    let mut builder = BatchBuilder::new();
    for (priority, key) in records {
        let header = NewHeader {
            key: "weir-priority",
            value: Some(priority.as_bytes()),
        };
        let headers: &[NewHeader<'_>] = if *priority == "-" { &[] } else { &[header] };
        let record = NewRecord {
            key: (!key.is_empty()).then_some(key.as_bytes()),
            value: Some(b"x"),
            headers,
            ..NewRecord::default()
        };
        builder.push(&record).unwrap();
    }
    builder.build()
}

async fn send(client: &mut Client, priorities: &[&str]) {
    let records: Vec<_> = priorities.iter().map(|priority| (*priority, "")).collect();
    let batch = of(&records);
    eventually("the batch is taken", async || {
        let answer = client.produce("t", 0, batch.clone()).await;
        let is_counting = (answer.error_message.as_deref())
            .is_some_and(|message| message.contains("being counted"));
        assert!(is_counting || answer.error_code == 0, "{answer:?}");
        (answer.error_code == 0).then_some(())
    })
    .await;
}

/// A broker with a topic of one partition, which the group reads from its start on, and a member.
async fn house(config: &[(&str, &str)]) -> (TestBroker, Client, Member, uuid::Uuid) {
    let broker = TestBroker::start().await;
    let mut client = broker.connect().await;
    let topic = client.create_topic("t", 1, config).await;
    initialize(&mut client, topic, 0).await;
    let member = Member::new(&broker, "a", topic).await;
    (broker, client, member, topic)
}

async fn settle(member: &mut Member, ranges: &[Range]) {
    let acks: Vec<_> = ranges
        .iter()
        .map(|(first, last, _)| (*first, *last, ACCEPT))
        .collect();
    assert_eq!(member.acked(&acks).await, 0);
}

#[tokio::test]
async fn nine_comes_first_however_much_lies_before_it() {
    let (broker, mut client, mut member, topic) = house(&[STRICT]).await;
    for _ in 0..50 {
        send(&mut client, &["0"; 100]).await;
    }
    send(&mut client, &["0", "9", "-", "x", "9"]).await;
    assert_eq!(member.take().await, [(5_001, 5_001, 1), (5_004, 5_004, 1)]);
    assert_eq!(member.take().await, [(5_002, 5_003, 1)], "4 by default");
    let low = member.take().await;
    assert_eq!((low[0].0, low[0].2), (0, 1));
    // What comes meanwhile is next, for everybody, though others are out.
    send(&mut client, &["5"]).await;
    let mut other = Member::new(&broker, "b", topic).await;
    assert_eq!(other.take().await, [(5_005, 5_005, 1)]);
    // Whoever reads the topic as a log does so in its order.
    let data = client.fetch_from("t", 0, 0).await;
    assert_eq!(data.error_code, 0);
    let wrong = [(0, "weir.queue.priority", Some("high"))];
    let refused = client.alter_configs(TOPICS, "t", &wrong).await;
    assert_eq!(refused, ErrorCode::InvalidConfig.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn weights_starve_nobody() {
    let config = [("weir.queue.priority", "weighted")];
    let (broker, mut client, mut member, _) = house(&config).await;
    for _ in 0..2 {
        send(&mut client, &["0"; 500]).await;
        for _ in 0..6 {
            send(&mut client, &["9"; 500]).await;
        }
    }
    let mut low = 0;
    for _ in 0..11 {
        let taken = member.take().await;
        // Of 3,500 messages the first 500 are of the level 0.
        low += i32::from(taken[0].0 % 3_500 < 500);
        settle(&mut member, &taken).await;
    }
    assert_eq!(low, 1, "of eleven answers as long as each other");
    broker.running.stop().await;
}

#[tokio::test]
async fn whoever_leads_next_knows_what_is_settled_of_each_level() {
    let (broker, mut client, mut member, topic) = house(&[STRICT]).await;
    send(&mut client, &["0", "9", "0", "9", "5"]).await;
    assert_eq!(member.take().await, [(1, 1, 1), (3, 3, 1)]);
    assert_eq!(member.acked(&[(1, 1, ACCEPT), (3, 3, RELEASE)]).await, 0);
    assert_eq!(member.take().await, [(3, 3, 2)]);
    assert_eq!(member.take().await, [(4, 4, 1)]);
    assert_eq!(member.take().await, [(0, 0, 1), (2, 2, 1)]);
    assert_eq!(member.acked(&[(0, 0, ACCEPT), (4, 4, ACCEPT)]).await, 0);
    let broker = broker.restart().await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(3, 3, 3)]);
    assert_eq!(member.take().await, [(2, 2, 2)]);
    assert_eq!(member.look(0).await, []);
    assert_eq!(member.acked(&[(2, 3, ACCEPT)]).await, 0);
    // Set from outside, the group stands there with all levels.
    let mut client = broker.connect().await;
    initialize(&mut client, topic, 1).await;
    let broker = broker.restart().await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(1, 1, 1), (3, 3, 1)]);
    assert_eq!(member.take().await, [(4, 4, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn priorities_come_and_go_on_a_topic_in_use() {
    let (broker, mut client, mut member, topic) = house(&[]).await;
    send(&mut client, &["0", "9", "0", "9"]).await;
    assert_eq!(member.take().await, [(0, 3, 1)]);
    let said = [(0, 0, RELEASE), (1, 2, ACCEPT), (3, 3, RELEASE)];
    assert_eq!(member.acked(&said).await, 0);
    client.set_configs(TOPICS, "t", &[STRICT]).await;
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(3, 3, 2)]);
    settle(&mut member, &[(3, 3, 2)]).await;
    send(&mut client, &["1", "8"]).await;
    assert_eq!(member.take().await, [(5, 5, 1)]);
    settle(&mut member, &[(5, 5, 1)]).await;
    // Nothing of it comes again, and nothing is left out: the oldest first.
    let none = [("weir.queue.priority", "none")];
    client.set_configs(TOPICS, "t", &none).await;
    let broker = broker.restart().await;
    let mut member = Member::new(&broker, "a", topic).await;
    assert_eq!(member.take().await, [(0, 0, 2)]);
    assert_eq!(member.take().await, [(4, 4, 1)]);
    assert_eq!(member.look(0).await, []);
    settle(&mut member, &[(0, 0, 2), (4, 4, 1)]).await;
    // When nothing is left of priorities the next leader knows of none.
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let mut member = Member::new(&broker, "a", topic).await;
    // It has begun before anything comes that would have to be settled first.
    eventually("the state is one again", async || {
        assert_eq!(member.look(0).await, []);
        let key = StateKey {
            group: GROUP.into(),
            topic: TopicId(topic),
            partition: PartitionIndex(0),
        };
        let persister = broker.running.broker().share.persister();
        let summary = persister.summary(key).await.ok()??;
        (summary.state_epoch == 1).then_some(())
    })
    .await;
    send(&mut client, &["1", "9"]).await;
    assert_eq!(member.take().await, [(6, 7, 1)]);
    settle(&mut member, &[(6, 7, 1)]).await;
    // Without a restart too, with one of the next fetches.
    client.set_configs(TOPICS, "t", &[STRICT]).await;
    let mut next = 8;
    eventually("priorities are heeded", async || {
        send(&mut client, &["1", "9"]).await;
        let taken = member.take().await;
        settle(&mut member, &taken).await;
        let (low, high) = (next, next + 1);
        next += 2;
        if taken == [(low, high, 1)] {
            return None;
        }
        assert_eq!(taken, [(high, high, 1)]);
        assert_eq!(member.take().await, [(low, low, 1)]);
        Some(())
    })
    .await;
    broker.running.stop().await;
}

#[tokio::test]
async fn of_a_key_one_message_is_out_whatever_its_priority() {
    let config = [STRICT, ("weir.queue.order", "key")];
    let (broker, mut client, mut member, topic) = house(&config).await;
    let batch = of(&[("0", "a"), ("0", "b"), ("9", "a"), ("9", "c"), ("9", "a")]);
    assert_eq!(client.produce("t", 0, batch).await.error_code, 0);
    assert_eq!(member.take().await, [(2, 3, 1)]);
    let mut other = Member::new(&broker, "b", topic).await;
    assert_eq!(other.take().await, [(1, 1, 1)], "of a there is one out");
    assert_eq!(member.acked(&[(2, 2, RELEASE)]).await, 0);
    assert_eq!(other.take().await, [(2, 2, 2)], "which holds up all of a");
    assert_eq!(member.look(0).await, []);
    settle(&mut other, &[(2, 2, 2)]).await;
    assert_eq!(member.take().await, [(4, 4, 1)]);
    settle(&mut member, &[(4, 4, 1)]).await;
    assert_eq!(member.take().await, [(0, 0, 1)]);
    broker.running.stop().await;
}

#[tokio::test]
async fn a_bound_counts_what_is_unsettled_of_all_levels() {
    let config = [
        STRICT,
        ("weir.queue.max.messages", "4"),
        ("weir.queue.group", GROUP),
    ];
    let (broker, mut client, mut member, _) = house(&config).await;
    send(&mut client, &["0", "9", "0", "9"]).await;
    let full = client.produce("t", 0, of(&[("9", "")])).await;
    assert_eq!(full.error_code, ErrorCode::PolicyViolation.code());
    assert_eq!(member.take().await, [(1, 1, 1), (3, 3, 1)]);
    settle(&mut member, &[(1, 1, 1), (3, 3, 1)]).await;
    send(&mut client, &["0", "3"]).await;
    let full = client.produce("t", 0, of(&[("9", "")])).await;
    assert_eq!(full.error_code, ErrorCode::PolicyViolation.code());
    let broker = broker.restart().await;
    let mut client = broker.connect().await;
    let full = eventually("the backlog is counted", async || {
        let answer = client.produce("t", 0, of(&[("9", "")])).await;
        let message = answer.error_message.as_deref().unwrap_or_default();
        (!message.contains("being counted")).then_some(answer)
    })
    .await;
    assert_eq!(full.error_code, ErrorCode::PolicyViolation.code());
    broker.running.stop().await;
}

#[tokio::test]
async fn a_mixed_backlog_is_given_once_each_and_by_level() {
    let (broker, mut client, mut member, _) = house(&[STRICT]).await;
    let digits = ["3", "1", "4", "1", "5", "9", "2", "6", "0", "8", "7"];
    for round in 0..60 {
        let priorities: Vec<_> = (0..20)
            .map(|at| digits[(round * 7 + at * 3) % 11])
            .collect();
        send(&mut client, &priorities).await;
    }
    let mut given: BTreeMap<i64, usize> = BTreeMap::new();
    let mut last = 9;
    while given.len() < 1_200 {
        let taken = member.take().await;
        for (first, until, _) in &taken {
            for offset in *first..=*until {
                let place = usize::try_from(offset).unwrap();
                let (round, at) = (place / 20, place % 20);
                let level: usize = digits[(round * 7 + at * 3) % 11].parse().unwrap();
                assert!(level <= last, "{level} behind {last}");
                last = level;
                assert_eq!(given.insert(offset, level), None, "once");
            }
        }
        settle(&mut member, &taken).await;
    }
    assert_eq!(member.look(0).await, []);
    broker.running.stop().await;
}
