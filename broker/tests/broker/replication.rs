//! Three brokers in one process, and partitions with a replica on each.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use weir_broker::partitions::Partition;
use weir_broker::start::{Running, start};
use weir_log::PartitionKey;
use weir_wire::batch::BatchBuilder;
use weir_wire::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use weir_wire::messages::{CreateTopicsRequest, CreateTopicsResponseView, ErrorCode};
use weir_wire::{MessageView, PartitionIndex, ProducerEpoch, ProducerId, TopicId};

use crate::client::{Client, PATIENCE, batch, build, eventually, fetch, values};
use crate::cluster::{cluster, cluster_with};

/// A topic of one partition with three replicas; acknowledged is what two of them have.
pub(crate) async fn create(client: &mut Client, name: &str) {
    create_with(client, name, 3, "2").await;
}

async fn create_with(client: &mut Client, name: &str, factor: i16, min_in_sync: &str) {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: 1,
        replication_factor: factor,
        ..CreatableTopic::default()
    };
    create_topic(client, topic, min_in_sync).await;
}

async fn create_topic(client: &mut Client, topic: CreatableTopic, min_in_sync: &str) {
    // Batches are years old: retention would take them after half a minute, at each replica when it looks, from a test that is slow.
    let configs = [("min.insync.replicas", min_in_sync), ("retention.ms", "-1")];
    let configs = configs.map(|(name, value)| CreatableTopicConfig {
        name: name.to_owned(),
        value: Some(value.to_owned()),
    });
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            configs: configs.into(),
            ..topic
        }],
        timeout_ms: 10_000,
        ..CreateTopicsRequest::default()
    };
    let body = client.call(7, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 7)
        .unwrap()
        .to_owned();
    assert_eq!(
        response.topics[0].error_code, 0,
        "{:?}",
        response.topics[0].error_message
    );
}

/// A topic of one partition on these brokers; acknowledged is what those of them have that are in sync.
async fn create_on(client: &mut Client, name: &str, replicas: &[i32]) {
    let topic = CreatableTopic {
        name: name.to_owned(),
        num_partitions: -1,
        replication_factor: -1,
        assignments: vec![CreatableReplicaAssignment {
            partition_index: 0,
            broker_ids: replicas.to_vec(),
        }],
        ..CreatableTopic::default()
    };
    create_topic(client, topic, "1").await;
}

pub(crate) fn partition(broker: &Running, topic: &str) -> Option<Arc<Partition>> {
    let broker = broker.broker();
    let id = broker.metadata.image().topic(topic)?.id;
    let key = PartitionKey {
        topic_id: TopicId(id.0),
        partition: PartitionIndex(0),
    };
    broker.partitions.get(key).ok()
}

/// Everything that a replica has.
fn bytes(partition: &Partition) -> Vec<u8> {
    let reader = partition.reader();
    let (mut next, mut bytes) = (reader.log_start(), Vec::new());
    while next < reader.log_end() {
        let read = reader.read(next, reader.log_end(), 1 << 20, true).unwrap();
        bytes.extend_from_slice(&read.bytes);
        next = read.next_offset;
    }
    bytes
}

pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting)
        .await
        .unwrap_or_else(|_| panic!("waited for {what}"));
}

/// Who leads the topic's partition, as this broker knows.
pub(crate) fn leader(broker: &Running, topic: &str) -> Option<usize> {
    let image = broker.broker().metadata.image();
    let leader = image.partition(topic, 0)?.leader?;
    usize::try_from(leader.0).ok()
}

pub(crate) fn in_sync(broker: &Running, topic: &str) -> usize {
    let image = broker.broker().metadata.image();
    image
        .partition(topic, 0)
        .map_or(0, |partition| partition.isr.len())
}

/// Produces at whoever leads, as a client would: asks again where that changes.
pub(crate) async fn produce(brokers: &[&Running], topic: &str, batch: Bytes) -> i64 {
    let producing = async {
        loop {
            let known = brokers.iter().find_map(|broker| leader(broker, topic));
            let at = brokers.iter().find(|broker| {
                i32::try_from(known.unwrap_or(9)).ok()
                    == Some(broker.broker().metadata.broker_id().0)
            });
            if let Some(at) = at {
                let mut client = Client::connect(at.addresses().kafka).await;
                let answer = client.produce(topic, 0, batch.clone()).await;
                if answer.error_code == 0 {
                    return answer.base_offset;
                }
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, producing).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_has_what_was_acknowledged_byte_for_byte() {
    let (brokers, _dir) = cluster().await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t").await;
    let all: Vec<&Running> = brokers.iter().collect();
    for number in 0..50 {
        let value = format!("value {number}");
        assert_eq!(produce(&all, "t", batch(&[&value])).await, number);
    }
    let replicas: Vec<_> = all
        .iter()
        .map(|broker| partition(broker, "t").unwrap())
        .collect();
    // Acknowledged is what two have; the third is on its way.
    until("all replicas to have everything", || {
        replicas
            .iter()
            .all(|replica| replica.high_watermark().0 == 50)
    })
    .await;
    let first = bytes(&replicas[0]);
    assert!(replicas.iter().all(|replica| bytes(replica) == first));
    assert_eq!(in_sync(&brokers[0], "t"), 3);
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_replica_leads_when_the_leader_stops_and_knows_its_producers() {
    let (brokers, configs, _dir) = cluster_with("").await;
    let mut brokers: Vec<Option<Running>> = brokers.into_iter().map(Some).collect();
    let mut client = Client::connect(brokers[0].as_ref().unwrap().addresses().kafka).await;
    create(&mut client, "t").await;
    let idempotent = |sequence: i32, values: &[&str]| {
        let builder = BatchBuilder::new().producer(ProducerId(4711), ProducerEpoch(0), sequence);
        build(builder, values)
    };
    // Until then the cluster stands with the one broker that formed it.
    let votes = |broker: &Running| broker.broker().metadata.voters().len();
    until("all to vote", || {
        brokers.iter().flatten().all(|broker| votes(broker) == 3)
    })
    .await;
    let first = idempotent(0, &["a", "b"]);
    for round in 0..3 {
        let running: Vec<&Running> = brokers.iter().flatten().collect();
        assert_eq!(produce(&running, "t", first.clone()).await, 0);
        let next = idempotent(2 + round, &["c"]);
        let expected = 2 + i64::from(round);
        assert_eq!(produce(&running, "t", next.clone()).await, expected);
        until("all to be in sync", || in_sync(running[0], "t") == 3).await;
        let leads = leader(running[0], "t").unwrap();
        let stopped = brokers[leads].take().unwrap();
        stopped.stop().await;
        let running: Vec<&Running> = brokers.iter().flatten().collect();
        // What the producer sends again since it did not hear of it is known at the next leader.
        assert_eq!(produce(&running, "t", next).await, expected);
        let back = start(
            configs[leads].clone(),
            Arc::new(|what: &str| eprintln!("fatal: {what}")),
        );
        brokers[leads] = Some(tokio::time::timeout(PATIENCE, back).await.unwrap().unwrap());
    }
    let running: Vec<&Running> = brokers.iter().flatten().collect();
    until("who was away to catch up", || {
        running.iter().all(|broker| {
            partition(broker, "t").is_some_and(|replica| replica.high_watermark().0 == 5)
        })
    })
    .await;
    let mut logs = running
        .iter()
        .map(|broker| bytes(&partition(broker, "t").unwrap()));
    let log = logs.next().unwrap();
    assert!(logs.all(|other| other == log));
}

/// A batch of one message of a producer that numbers them.
fn idempotent(sequence: i32, value: &str) -> Bytes {
    let builder = BatchBuilder::new().producer(ProducerId(4711), ProducerEpoch(0), sequence);
    build(builder, &[value])
}

// A producer may send the next batch to the next leader before it hears that the last one was refused the one before.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_just_taken_over_waits_for_what_its_predecessor_may_have_refused() {
    let (mut brokers, _, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create_with(&mut client, "t", 3, "1").await;
    let all: Vec<&Running> = brokers.iter().collect();
    assert_eq!(produce(&all, "t", idempotent(0, "a")).await, 0);
    let first = leader(&brokers[0], "t").unwrap();
    brokers.remove(first).stop().await;
    let running: Vec<&Running> = brokers.iter().collect();
    assert_eq!(
        produce(&running, "t", batch(&["x"])).await,
        1,
        "somebody else leads"
    );
    let next = leader(running[0], "t").unwrap();
    let next = running
        .iter()
        .find(|broker| broker.broker().metadata.broker_id().0 == i32::try_from(next).unwrap());
    let mut client = Client::connect(next.unwrap().addresses().kafka).await;
    let mut told = async |batch| client.produce("t", 0, batch).await.error_code;
    let not_yet = ErrorCode::NotLeaderOrFollower.code();
    assert_eq!(told(idempotent(2, "c")).await, not_yet);
    assert_eq!(told(idempotent(1, "b")).await, 0);
    assert_eq!(told(idempotent(2, "c")).await, 0);
    // Nor is the second batch taken of one that it does not know.
    let of_another = |sequence| {
        let builder = BatchBuilder::new().producer(ProducerId(4712), ProducerEpoch(0), sequence);
        build(builder, &["x"])
    };
    assert_eq!(told(of_another(1)).await, not_yet);
    assert_eq!(told(of_another(0)).await, 0);
    assert_eq!(told(of_another(1)).await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_has_lost_the_quorum_serves_on_and_denies_nothing() {
    let (brokers, _, _dir) = cluster_with("").await;
    let votes = |broker: &Running| broker.broker().metadata.voters().len();
    until("all to vote", || {
        brokers.iter().all(|broker| votes(broker) == 3)
    })
    .await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create_with(&mut client, "t", 1, "1").await;
    let all: Vec<&Running> = brokers.iter().collect();
    assert_eq!(produce(&all, "t", idempotent(0, "a")).await, 0);
    let leads = leader(&brokers[0], "t").unwrap();
    let mut at_leader = Client::connect(brokers[leads].addresses().kafka).await;
    // It knows that nobody else leads: what is not here is nowhere. Not at once where it was fenced for a moment, and leads anew.
    let beyond = idempotent(7, "later");
    eventually("both are denied", async || {
        let produced = at_leader.produce("t", 0, beyond.clone()).await.error_code;
        let fetched = at_leader.fetch_from("t", 0, 100).await.error_code;
        let denied = (
            ErrorCode::OutOfOrderSequenceNumber.code(),
            ErrorCode::OffsetOutOfRange.code(),
        );
        ((produced, fetched) == denied).then_some(())
    })
    .await;

    let mut alone = None;
    for (id, broker) in brokers.into_iter().enumerate() {
        if id == leads {
            alone = Some(broker);
        } else {
            broker.stop().await;
        }
    }
    let alone = alone.unwrap();
    until("its lease to end", || {
        !alone.broker().metadata.holds_lease()
    })
    .await;
    let refused = at_leader.produce("t", 0, beyond).await.error_code;
    assert_eq!(refused, ErrorCode::NotLeaderOrFollower.code());
    let refused = at_leader.fetch_from("t", 0, 100).await.error_code;
    assert_eq!(refused, ErrorCode::NotLeaderOrFollower.code());
    let answer = at_leader.produce("t", 0, idempotent(1, "b")).await;
    assert_eq!((answer.error_code, answer.base_offset), (0, 1));
    let answer = at_leader.fetch_from("t", 0, 0).await;
    assert_eq!(values(&answer), [(0, "a".into()), (1, "b".into())]);
    alone.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_had_more_gives_it_up_after_a_loss_was_accepted() {
    let (brokers, configs, _dir) = cluster_with("").await;
    let mut brokers: Vec<Option<Running>> = brokers.into_iter().map(Some).collect();
    let votes = |broker: &Running| broker.broker().metadata.voters().len();
    until("all to vote", || {
        brokers.iter().flatten().all(|broker| votes(broker) == 3)
    })
    .await;
    let back = async |id: usize| {
        let config = configs[id].clone();
        let starting = start(config, Arc::new(|what: &str| eprintln!("fatal: {what}")));
        tokio::time::timeout(PATIENCE, starting)
            .await
            .unwrap()
            .unwrap()
    };
    let mut client = Client::connect(brokers[2].as_ref().unwrap().addresses().kafka).await;
    create_on(&mut client, "t", &[0, 1]).await;
    let running: Vec<&Running> = brokers.iter().flatten().collect();
    assert_eq!(produce(&running, "t", batch(&["a"])).await, 0);
    until("both to be in sync", || in_sync(running[2], "t") == 2).await;
    brokers[1].take().unwrap().stop().await;
    let running: Vec<&Running> = brokers.iter().flatten().collect();
    until("one to be left", || in_sync(running[1], "t") == 1).await;
    for number in 1..6 {
        assert_eq!(
            produce(&running, "t", batch(&["acknowledged"])).await,
            number
        );
    }
    brokers[0].take().unwrap().stop().await;
    brokers[1] = Some(back(1).await);
    // A person would rather go on without them than wait for broker 0.
    let elected = async {
        while crate::moving::elect(&mut client, 1, "t").await != 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, elected).await.unwrap();
    let running: Vec<&Running> = brokers.iter().flatten().collect();
    assert_eq!(produce(&running, "t", batch(&["instead"])).await, 1);
    brokers[0] = Some(back(0).await);
    let running: Vec<&Running> = brokers.iter().flatten().collect();
    until("the first to be in sync again", || {
        in_sync(running[2], "t") == 2
    })
    .await;
    let log = |broker: &Running| bytes(&partition(broker, "t").unwrap());
    assert_eq!(log(running[0]), log(running[1]));
    for broker in brokers.into_iter().flatten() {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_reads_from_the_replica_in_its_rack_and_is_sent_there_by_the_leader() {
    let (brokers, _, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t").await;
    let all: Vec<&Running> = brokers.iter().collect();
    produce(&all, "t", batch(&["a", "b"])).await;
    until("all to know everything", || {
        all.iter().all(|broker| {
            partition(broker, "t").is_some_and(|replica| replica.high_watermark().0 == 2)
        })
    })
    .await;
    let leads = leader(&brokers[0], "t").unwrap();
    let near = (leads + 1) % 3;
    let mut request = fetch("t", 0, 0);
    request.rack_id = near.to_string();
    let mut at_leader = Client::connect(brokers[leads].addresses().kafka).await;
    let answer = at_leader.fetch(12, &request).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(
        (data.error_code, data.preferred_read_replica),
        (0, i32::try_from(near).unwrap())
    );
    assert!(values(data).is_empty());
    let mut at_near = Client::connect(brokers[near].addresses().kafka).await;
    let answer = at_near.fetch(12, &request).await;
    let data = &answer.responses[0].partitions[0];
    assert_eq!(values(data), [(0, "a".into()), (1, "b".into())]);
    assert_eq!(data.preferred_read_replica, -1);
    // Where the leader stands, or nowhere: from the leader, and from nobody else.
    request.rack_id = leads.to_string();
    let answer = at_leader.fetch(12, &request).await;
    assert_eq!(values(&answer.responses[0].partitions[0]).len(), 2);
    request.rack_id.clear();
    let answer = at_near.fetch(12, &request).await;
    assert_eq!(answer.responses[0].partitions[0].error_code, 6);
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_with_a_flipped_bit_is_found_given_up_and_fetched_again() {
    let (brokers, configs, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t").await;
    let all: Vec<&Running> = brokers.iter().collect();
    for number in 0..20 {
        let value = format!("value {number}");
        produce(&all, "t", batch(&[&value])).await;
    }
    let has_all = |broker: &&Running| {
        partition(broker, "t").is_some_and(|replica| replica.high_watermark().0 == 20)
    };
    until("all to have everything", || all.iter().all(has_all)).await;
    let log = bytes(&partition(&brokers[0], "t").unwrap());
    // Of the leader: what is damaged must not lead.
    let leads = leader(&brokers[0], "t").unwrap();
    let damaged = partition(&brokers[leads], "t").unwrap();
    let dir = damaged.dir().path().join(damaged.key().to_string());
    assert!(dir.starts_with(&configs[leads].data_dir));
    let segment = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|suffix| suffix == "log"))
        .unwrap();
    let mut contents = std::fs::read(&segment).unwrap();
    let middle = contents.len() / 2;
    contents[middle] ^= 4;
    // In place: the broker has the file open.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&segment)
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &contents[middle..=middle], middle as u64)
        .unwrap();
    weir_broker::scrub::round(brokers[leads].broker()).await;
    assert!(damaged.is_damaged());
    until("the damaged replica to be whole and in sync", || {
        !damaged.is_damaged() && in_sync(&brokers[leads], "t") == 3 && has_all(&all[leads])
    })
    .await;
    assert_ne!(leader(&brokers[leads], "t"), Some(leads));
    assert!(
        all.iter()
            .all(|broker| bytes(&partition(broker, "t").unwrap()) == log)
    );
    assert_eq!(produce(&all, "t", batch(&["after"])).await, 20);
    for broker in brokers {
        broker.stop().await;
    }
}
