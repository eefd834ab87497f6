//! Leaders are elected and partitions are moved because somebody asks, in a cluster of three of which one is away.

use std::sync::Arc;

use weir_broker::error::ErrorCode;
use weir_broker::partitions::Partition;
use weir_broker::start::{Running, start};
use weir_log::PartitionKey;
use weir_quorum::configs;
use weir_wire::batch::BatchBuilder;
use weir_wire::messages::alter_partition_reassignments_request::{
    ReassignablePartition, ReassignableTopic,
};
use weir_wire::messages::create_topics_request::{CreatableReplicaAssignment, CreatableTopic};
use weir_wire::messages::elect_leaders_request::TopicPartitions;
use weir_wire::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use weir_wire::messages::*;
use weir_wire::{MessageView, PartitionIndex, ProducerEpoch, ProducerId, TopicId};

use crate::client::{Client, PATIENCE, batch, build, eventually};
use crate::cluster::cluster_with;
use crate::deleting::delete;
use crate::replication::{in_sync, leader, partition, until};

/// Brokers 0 and 1, and a client of the first; broker 2 is away. Nothing is moved but on request.
async fn two_of_three() -> (Vec<Running>, Client, tempfile::TempDir) {
    let (mut brokers, _, dir) =
        cluster_with("topics: { auto.leader.rebalance.enable: false }\n").await;
    brokers.pop().unwrap().stop().await;
    let client = Client::connect(brokers[0].addresses().kafka).await;
    (brokers, client, dir)
}

async fn create(client: &mut Client, name: &str, replicas: &[i32]) {
    let request = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: name.into(),
            num_partitions: -1,
            replication_factor: -1,
            assignments: vec![CreatableReplicaAssignment {
                partition_index: 0,
                broker_ids: replicas.to_vec(),
            }],
            ..CreatableTopic::default()
        }],
        ..CreateTopicsRequest::default()
    };
    let body = client.call(5, &request).await;
    let response = CreateTopicsResponseView::decode(&body, 5)
        .unwrap()
        .to_owned();
    assert_eq!(response.topics[0].error_code, 0, "{response:?}");
}

pub(crate) async fn elect(client: &mut Client, election_type: i8, topic: &str) -> i16 {
    let request = ElectLeadersRequest {
        election_type,
        topic_partitions: Some(vec![TopicPartitions {
            topic: topic.into(),
            partitions: vec![0],
        }]),
        ..ElectLeadersRequest::default()
    };
    let body = client.call(2, &request).await;
    let response = ElectLeadersResponseView::decode(&body, 2)
        .unwrap()
        .to_owned();
    assert_eq!(response.error_code, 0);
    response.replica_election_results[0].partition_result[0].error_code
}

async fn reassign_as(
    client: &mut Client,
    version: i16,
    topic: &str,
    replicas: Option<&[i32]>,
    may_change_factor: bool,
) -> i16 {
    let request = AlterPartitionReassignmentsRequest {
        allow_replication_factor_change: may_change_factor,
        topics: vec![ReassignableTopic {
            name: topic.into(),
            partitions: vec![ReassignablePartition {
                partition_index: 0,
                replicas: replicas.map(<[i32]>::to_vec),
            }],
        }],
        ..AlterPartitionReassignmentsRequest::default()
    };
    let body = client.call(version, &request).await;
    let response = AlterPartitionReassignmentsResponseView::decode(&body, version)
        .unwrap()
        .to_owned();
    assert_eq!(response.error_code, 0, "{response:?}");
    response.responses[0].partitions[0].error_code
}

async fn reassign(client: &mut Client, topic: &str, replicas: Option<&[i32]>) -> i16 {
    reassign_as(client, 1, topic, replicas, true).await
}

/// Topic, replicas, those that come and those that go, of all that are under way.
type Ongoing = Vec<(String, Vec<i32>, Vec<i32>, Vec<i32>)>;

async fn ongoing(client: &mut Client, topics: Option<&[(&str, i32)]>) -> Ongoing {
    let request = ListPartitionReassignmentsRequest {
        topics: topics.map(|topics| {
            let named = topics
                .iter()
                .map(|(name, index)| ListPartitionReassignmentsTopics {
                    name: (*name).to_owned(),
                    partition_indexes: vec![*index],
                });
            named.collect()
        }),
        ..ListPartitionReassignmentsRequest::default()
    };
    let body = client.call(0, &request).await;
    let response = ListPartitionReassignmentsResponseView::decode(&body, 0)
        .unwrap()
        .to_owned();
    let topics = response.topics.into_iter().flat_map(|topic| {
        topic.partitions.into_iter().map(move |partition| {
            (
                topic.name.clone(),
                partition.replicas,
                partition.adding_replicas,
                partition.removing_replicas,
            )
        })
    });
    topics.collect()
}

#[tokio::test]
async fn a_partition_is_on_its_way_until_the_new_replica_is_there_or_it_is_called_back() {
    let (brokers, mut client, _dir) = two_of_three().await;
    create(&mut client, "t", &[0]).await;
    assert_eq!(ongoing(&mut client, None).await, []);
    assert_eq!(
        reassign(&mut client, "t", None).await,
        ErrorCode::NoReassignmentInProgress.code()
    );
    // Broker 2 is away, so that it does not come to an end by itself.
    assert_eq!(reassign(&mut client, "t", Some(&[2])).await, 0);
    let moving = vec![("t".to_owned(), vec![2, 0], vec![2], vec![0])];
    assert_eq!(ongoing(&mut client, None).await, moving);
    assert_eq!(ongoing(&mut client, Some(&[("t", 0)])).await, moving);
    assert_eq!(
        ongoing(&mut client, Some(&[("t", 1), ("none", 0)])).await,
        []
    );
    assert_eq!(reassign(&mut client, "t", None).await, 0);
    assert_eq!(ongoing(&mut client, None).await, []);
    let image = brokers[0].broker().metadata.image();
    let partition = image.partition("t", 0).unwrap();
    assert_eq!(partition.replicas, [weir_quorum::BrokerId(0)]);
}

#[tokio::test]
async fn every_broker_lists_what_is_on_its_way_as_soon_as_one_has_said_so() {
    let (brokers, mut one, _dir) = two_of_three().await;
    let mut other = Client::connect(brokers[1].addresses().kafka).await;
    create(&mut one, "t", &[0]).await;
    for _ in 0..50 {
        assert_eq!(reassign(&mut one, "t", Some(&[2])).await, 0);
        assert_eq!(ongoing(&mut other, None).await.len(), 1);
        assert_eq!(reassign(&mut other, "t", None).await, 0);
        assert_eq!(ongoing(&mut one, None).await, []);
    }
}

// What a producer wrote may be gone everywhere by the time a replica begins, and it goes on with the sequence that comes next.
#[tokio::test]
async fn where_a_partition_is_moved_to_producers_are_known_whose_records_are_gone() {
    moved_to_a_broker_that(false).await;
}

// As after a power cut that came while it was being begun.
#[tokio::test]
async fn an_empty_replica_without_a_snapshot_learns_of_producers_when_it_is_fed_again() {
    moved_to_a_broker_that(true).await;
}

async fn moved_to_a_broker_that(loses_its_snapshot: bool) {
    let (mut brokers, configs, _dir) =
        cluster_with("topics: { auto.leader.rebalance.enable: false }\n").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t", &[0]).await;
    let batch = |sequence: i32, value: &str| {
        let builder = BatchBuilder::new().producer(ProducerId(4711), ProducerEpoch(0), sequence);
        build(builder, &[value])
    };
    for (sequence, value) in [(0, "a"), (1, "b")] {
        let answer = client.produce("t", 0, batch(sequence, value)).await;
        assert_eq!(
            (answer.error_code, answer.base_offset),
            (0, sequence.into())
        );
    }
    assert_eq!(delete(&mut client, "t", 0, 2).await, (2, 0));
    assert_eq!(reassign(&mut client, "t", Some(&[0, 1])).await, 0);
    until("both to be in sync", || in_sync(&brokers[0], "t") == 2).await;
    if loses_its_snapshot {
        let copy = partition(&brokers[1], "t").unwrap();
        let dir = copy.dir().path().join(copy.key().to_string());
        drop(copy);
        brokers.remove(1).stop().await;
        let mut removed = 0;
        for entry in std::fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "snapshot") {
                std::fs::remove_file(path).unwrap();
                removed += 1;
            }
        }
        assert_eq!(removed, 1);
        let back = start(
            configs[1].clone(),
            Arc::new(|what: &str| eprintln!("fatal: {what}")),
        );
        let back = tokio::time::timeout(PATIENCE, back).await.unwrap().unwrap();
        brokers.insert(1, back);
    }
    assert_eq!(reassign(&mut client, "t", Some(&[1])).await, 0);
    let moved = &brokers[1];
    until("the partition to be led where it was moved to", || {
        let leads = |partition: Arc<Partition>| partition.is_established();
        leader(moved, "t") == Some(1) && partition(moved, "t").is_some_and(leads)
    })
    .await;
    let mut client = Client::connect(moved.addresses().kafka).await;
    let again = client.produce("t", 0, batch(1, "b")).await;
    assert_eq!((again.error_code, again.base_offset), (0, 1));
    let next = client.produce("t", 0, batch(2, "c")).await;
    assert_eq!((next.error_code, next.base_offset), (0, 2));
}

// KIP-860.
#[tokio::test]
async fn who_forbids_another_number_of_replicas_is_heeded() {
    let (_brokers, mut client, _dir) = two_of_three().await;
    create(&mut client, "t", &[0, 1]).await;
    let refused = ErrorCode::InvalidReplicationFactor.code();
    assert_eq!(
        reassign_as(&mut client, 1, "t", Some(&[0]), false).await,
        refused
    );
    assert_eq!(
        reassign_as(&mut client, 1, "t", Some(&[1, 0]), false).await,
        0
    );
    // Version 0 cannot forbid it.
    assert_eq!(reassign_as(&mut client, 0, "t", Some(&[1]), true).await, 0);
}

#[tokio::test]
async fn leaders_are_elected_as_kafka_says() {
    let (brokers, mut client, _dir) = two_of_three().await;
    create(&mut client, "t", &[0, 1]).await;
    let not_needed = ErrorCode::ElectionNotNeeded.code();
    assert_eq!(elect(&mut client, 0, "t").await, not_needed);
    assert_eq!(elect(&mut client, 1, "t").await, not_needed);
    assert_eq!(reassign(&mut client, "t", Some(&[1, 0])).await, 0);
    let leader = || {
        brokers[0]
            .broker()
            .metadata
            .image()
            .partition("t", 0)
            .unwrap()
            .leader
    };
    assert_eq!(
        leader(),
        Some(weir_quorum::BrokerId(0)),
        "moved on request only"
    );
    assert_eq!(elect(&mut client, 0, "t").await, 0);
    assert_eq!(leader(), Some(weir_quorum::BrokerId(1)));
    assert_eq!(elect(&mut client, 0, "t").await, not_needed);

    create(&mut client, "away", &[2, 0]).await;
    let unavailable = ErrorCode::PreferredLeaderNotAvailable.code();
    assert_eq!(elect(&mut client, 0, "away").await, unavailable);
    create(&mut client, "alone", &[2]).await;
    let nobody = ErrorCode::EligibleLeadersNotAvailable.code();
    assert_eq!(elect(&mut client, 1, "alone").await, nobody);
}

#[tokio::test]
async fn a_broker_that_stops_hands_its_leadership_over_before_it_hangs_up() {
    let (mut brokers, mut client, _dir) = two_of_three().await;
    create(&mut client, "t", &[1, 0]).await;
    let metadata = brokers[0].broker().metadata.clone();
    let epoch = metadata.image().partition("t", 0).unwrap().leader_epoch;
    brokers.pop().unwrap().stop().await;
    let moved = metadata.wait_for(PATIENCE, |image| {
        let partition = image.partition("t", 0);
        partition.is_some_and(|p| p.leader == Some(weir_quorum::BrokerId(0)))
    });
    let image = moved.await.unwrap();
    assert_eq!(image.partition("t", 0).unwrap().leader_epoch, epoch.next());
}

async fn set_leader_rate(client: &mut Client, bytes_per_second: &str) {
    const BROKER: i8 = 4;
    let rate = [("leader.replication.throttled.rate", bytes_per_second)];
    client.set_configs(BROKER, "", &rate).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_heeds_the_rate_and_what_is_in_sync_does_not() {
    let (brokers, _, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "moved", &[0]).await;
    create(&mut client, "other", &[0, 1, 2]).await;
    let end_at = |broker: usize, topic: &str| {
        let broker = brokers[broker].broker();
        let id = broker.metadata.image().topic(topic)?.id;
        let key = PartitionKey {
            topic_id: TopicId(id.0),
            partition: PartitionIndex(0),
        };
        let partition = broker.partitions.get(key).ok()?;
        Some(partition.reader().log_end().0)
    };
    let value = "x".repeat(100_000);
    for number in 0..30 {
        let answer = client.produce("moved", 0, batch(&[&value])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, number));
    }
    set_leader_rate(&mut client, "1").await;
    eventually("the rate is known", async || {
        let image = brokers[0].broker().metadata.image();
        let def = configs::broker_def("leader.replication.throttled.rate").unwrap();
        let settings = brokers[0].broker().metadata.settings();
        let effective = configs::effective_broker(&image, settings, None, def);
        (effective.value() == "1").then_some(())
    })
    .await;
    assert_eq!(reassign(&mut client, "moved", Some(&[0, 1])).await, 0);
    eventually("the first of it to arrive", async || {
        end_at(1, "moved").filter(|end| *end > 0)
    })
    .await;
    // What is in sync goes on over the same stream, and however long that takes, of the other there is no more.
    for number in 0..30 {
        let answer = client.produce("other", 0, batch(&["x"])).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, number));
    }
    assert!(end_at(1, "moved").unwrap() < 30);
    assert_eq!(ongoing(&mut client, None).await.len(), 1);
    set_leader_rate(&mut client, "1000000000").await;
    eventually("the move to end", async || {
        ongoing(&mut client, None).await.is_empty().then_some(())
    })
    .await;
    assert_eq!(end_at(1, "moved"), Some(30));
    for broker in brokers {
        broker.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_let_go_of_what_was_deleted_also_when_nothing_is_appended_any_more() {
    let (brokers, _, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t", &[0, 1, 2]).await;
    client.set_configs(2, "t", &[("retention.ms", "-1")]).await;
    let appended = client.produce("t", 0, batch(&["0", "1", "2"])).await;
    assert_eq!(appended.error_code, 0);
    let all = |is_so: &dyn Fn(&Partition) -> bool| {
        let so = |broker| partition(broker, "t").is_some_and(|replica| is_so(&replica));
        brokers.iter().all(so).then_some(())
    };
    eventually("all to have them", async || {
        all(&|replica| replica.high_watermark().0 == 3)
    })
    .await;
    eventually("all to be in sync", async || {
        (in_sync(&brokers[0], "t") == 3).then_some(())
    })
    .await;
    assert_eq!(delete(&mut client, "t", 0, 2).await, (2, 0));
    // It is answered when all have done it.
    assert_eq!(
        all(&|replica| replica.reader().log_start().0 == 2),
        Some(())
    );
    for broker in brokers {
        broker.stop().await;
    }
}

/// DeleteRecords may leave a log that begins within a batch; a copy of it is made all the same, and is the same.
#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_log_begins_within_a_batch_is_moved() {
    let (brokers, _, _dir) = cluster_with("").await;
    let mut client = Client::connect(brokers[0].addresses().kafka).await;
    create(&mut client, "t", &[0]).await;
    // The test's records are of long ago.
    let kept = [("retention.ms", "-1")];
    client.set_configs(2, "t", &kept).await;
    for values in [["0", "1", "2"], ["3", "4", "5"], ["6", "7", "8"]] {
        assert_eq!(client.produce("t", 0, batch(&values)).await.error_code, 0);
    }
    assert_eq!(delete(&mut client, "t", 0, 4).await, (4, 0));
    assert_eq!(reassign(&mut client, "t", Some(&[1, 2])).await, 0);
    eventually("the move to end", async || {
        ongoing(&mut client, None).await.is_empty().then_some(())
    })
    .await;
    eventually("its log to begin where that one did", async || {
        let begins = |broker: usize| {
            let partition = partition(&brokers[broker], "t")?;
            Some(partition.reader().log_start().0)
        };
        (begins(1) == Some(4) && begins(2) == Some(4)).then_some(())
    })
    .await;
    let mut client = eventually("a new leader that serves", async || {
        let led = leader(&brokers[1], "t").filter(|led| *led != 0)?;
        let mut client = Client::connect(brokers[led].addresses().kafka).await;
        let seen = client.fetch_from("t", 0, 4).await;
        let is_whole = (seen.log_start_offset, seen.high_watermark) == (4, 9);
        is_whole.then_some(client)
    })
    .await;
    let out_of_range = ErrorCode::OffsetOutOfRange.code();
    let before = client.fetch_from("t", 0, 3).await;
    assert_eq!(before.error_code, out_of_range);
    for broker in brokers {
        broker.stop().await;
    }
}
