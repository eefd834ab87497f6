#![allow(clippy::unwrap_used, reason = "tests")]

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::record::{
    self, BrokerFenced, BrokerRegistered, BrokerUnfenced, ClusterFormed, ConfigChanged, ConfigOf,
    PartitionState, PartitionsAdded, PartitionsSet, ProducerIdsAllocated, Record, TopicCreated,
    TopicDeleted,
};

fn topic_id(number: u8) -> TopicId {
    TopicId(Uuid::from_u128(u128::from(number) + 1))
}

fn created(number: u8, partitions: i32) -> Vec<Record> {
    let topic = TopicCreated {
        name: format!("t{number}"),
        id: topic_id(number),
        config: BTreeMap::new(),
    };
    let mut records = vec![Record::TopicCreated(topic)];
    // One record for all, and one for each, alike.
    if number.is_multiple_of(2) {
        let brokers = || (0..partitions).map(|index| BrokerId(index % 3));
        records.push(Record::PartitionsAdded(PartitionsAdded {
            topic: topic_id(number),
            first: 0,
            replicas: brokers().map(|broker| vec![broker]).collect(),
            leaders: brokers().map(Some).collect(),
        }));
    } else {
        records.extend((0..partitions).map(|index| partition(number, index)));
    }
    records
}

fn partition(topic: u8, index: i32) -> Record {
    let broker = BrokerId(index % 3);
    Record::PartitionsSet(PartitionsSet {
        topic: topic_id(topic),
        partitions: vec![PartitionState {
            index,
            replicas: vec![broker],
            isr: vec![broker],
            leader: Some(broker),
            leader_epoch: LeaderEpoch(0),
            epoch: PartitionEpoch(0),
            elr: Vec::new(),
            last_known: Vec::new(),
            adding: Vec::new(),
            removing: Vec::new(),
            unclean: None,
        }],
    })
}

/// What a random step asks for; turned into records that fit the image it meets.
#[derive(Clone, Debug)]
enum Step {
    Register(i32),
    Fence(i32),
    Unfence(i32),
    Create(u8, i32),
    Delete(u8),
    Grow(u8),
    Elect(u8, u8, Option<i32>),
    Lead(u8, Option<i32>),
    Config(u8, u8, Option<String>),
    ProducerIds,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..4).prop_map(Step::Register),
        (0..4).prop_map(Step::Fence),
        (0..4).prop_map(Step::Unfence),
        (0..6_u8, 0..5).prop_map(|(topic, partitions)| Step::Create(topic, partitions)),
        (0..6_u8).prop_map(Step::Delete),
        (0..6_u8).prop_map(Step::Grow),
        (0..6_u8, 0..5_u8, prop::option::of(0..4))
            .prop_map(|(topic, index, leader)| Step::Elect(topic, index, leader)),
        (0..6_u8, prop::option::of(0..4)).prop_map(|(topic, leader)| Step::Lead(topic, leader)),
        (0..8_u8, 0..3_u8, prop::option::of("[a-z\"\\\\]{0,4}"))
            .prop_map(|(of, key, value)| Step::Config(of, key, value)),
        Just(Step::ProducerIds),
    ]
}

fn records(image: &Image, step: &Step) -> Vec<Record> {
    match step {
        Step::Register(id) => vec![Record::BrokerRegistered(BrokerRegistered {
            id: BrokerId(*id),
            incarnation: Incarnation(Uuid::from_u128(7)),
            kafka: HostPort {
                host: "h".into(),
                port: 9092,
            },
            quorum_address: "h:9094".into(),
            rack: (id % 2 == 0).then(|| "r".into()),
            version: "1".into(),
            epoch: None,
            cordoned: id % 3 == 0,
            draining: id % 5 == 0,
        })],
        Step::Fence(id) => image
            .broker(BrokerId(*id))
            .map(|broker| {
                Record::BrokerFenced(BrokerFenced {
                    id: broker.id,
                    epoch: broker.epoch,
                })
            })
            .into_iter()
            .collect(),
        Step::Unfence(id) => image
            .broker(BrokerId(*id))
            .map(|broker| {
                Record::BrokerUnfenced(BrokerUnfenced {
                    id: broker.id,
                    epoch: broker.epoch,
                })
            })
            .into_iter()
            .collect(),
        Step::Create(topic, _) if image.topic_by_id(topic_id(*topic)).is_some() => Vec::new(),
        Step::Create(topic, partitions) => created(*topic, *partitions),
        Step::Delete(topic) => image
            .topic_by_id(topic_id(*topic))
            .map(|topic| Record::TopicDeleted(TopicDeleted { id: topic.id }))
            .into_iter()
            .collect(),
        Step::Grow(topic) => image
            .topic_by_id(topic_id(*topic))
            .map(|found| partition(*topic, found.partitions.len() as i32))
            .into_iter()
            .collect(),
        Step::Elect(topic, index, leader) => image
            .topic_by_id(topic_id(*topic))
            .and_then(|topic| {
                topic
                    .partition(i32::from(*index))
                    .map(|partition| (topic, partition))
            })
            .map(|(topic, partition)| {
                let mut next = partition.to_state(i32::from(*index));
                next.leader = leader.map(BrokerId);
                next.leader_epoch = partition.leader_epoch.next();
                next.epoch = partition.epoch.next();
                next.elr = leader.map(BrokerId).into_iter().collect();
                next.last_known = next.isr.clone();
                Record::PartitionsSet(PartitionsSet {
                    topic: topic.id,
                    partitions: vec![next],
                })
            })
            .into_iter()
            .collect(),
        Step::Lead(topic, leader) => image
            .topic_by_id(topic_id(*topic))
            .map(|topic| {
                let next = (0..).zip(&topic.partitions).map(|(index, partition)| {
                    let mut next = partition.to_state(index);
                    next.leader = leader.map(BrokerId);
                    next.adding = leader.map(BrokerId).into_iter().collect();
                    next
                });
                Record::PartitionsSet(PartitionsSet {
                    topic: topic.id,
                    partitions: next.collect(),
                })
            })
            .into_iter()
            .collect(),
        Step::Config(of, key, value) => {
            let of = match of {
                6 => ConfigOf::Cluster,
                7 => ConfigOf::Broker(BrokerId(1)),
                topic if image.topic_by_id(topic_id(*topic)).is_some() => {
                    ConfigOf::Topic(topic_id(*topic))
                }
                _ => return Vec::new(),
            };
            vec![Record::ConfigChanged(ConfigChanged {
                of,
                key: format!("k{key}"),
                value: value.clone(),
            })]
        }
        Step::ProducerIds => vec![Record::ProducerIdsAllocated(ProducerIdsAllocated {
            broker: BrokerId(0),
            next: image.next_producer_id() + 1000,
        })],
    }
}

proptest! {
    #[test]
    fn a_snapshot_makes_the_same_image(steps in prop::collection::vec(step(), 0..60)) {
        let formed = Record::ClusterFormed(ClusterFormed { cluster_id: ClusterId("c".into()) });
        let mut image = Image::default().apply(1, &[formed]).unwrap();
        for (index, step) in (2..).zip(&steps) {
            image = image.apply(index, &records(&image, step)).unwrap();
        }
        let frame = record::decode(&record::encode(image.revision(), &image.snapshot())).unwrap();
        let again = Image::from_snapshot(image.index(), frame.revision, &frame.records).unwrap();
        prop_assert_eq!(&again, &image);
        for topic in image.topics() {
            prop_assert_eq!(image.topic_by_id(topic.id), Some(topic));
        }
    }
}

#[test]
fn an_image_that_someone_holds_does_not_change() {
    let before = Image::default().apply(1, &created(1, 2)).unwrap();
    let held = before.clone();
    let after = before.apply(2, &created(2, 1)).unwrap();
    assert_eq!(before, held);
    assert_eq!((before.topics().len(), after.topics().len()), (1, 2));
    assert!(
        Arc::ptr_eq(before.topic("t1").unwrap(), after.topic("t1").unwrap()),
        "what was not touched is shared"
    );
}

#[test]
fn a_topic_made_anew_has_another_id_and_the_old_one_is_unknown() {
    let image = Image::default().apply(1, &created(1, 2)).unwrap();
    let image = image
        .apply(2, &[Record::TopicDeleted(TopicDeleted { id: topic_id(1) })])
        .unwrap();
    assert!(image.topic("t1").is_none() && image.topic_by_id(topic_id(1)).is_none());
    let anew = TopicCreated {
        name: "t1".into(),
        id: topic_id(9),
        config: BTreeMap::new(),
    };
    let image = image.apply(3, &[Record::TopicCreated(anew)]).unwrap();
    assert_eq!(image.topic("t1").unwrap().id, topic_id(9));
    assert!(image.topic_by_id(topic_id(1)).is_none());
}

#[test]
fn records_that_contradict_the_image_are_errors() {
    let image = Image::default().apply(1, &created(1, 1)).unwrap();
    assert!(matches!(
        image.apply(2, &created(1, 0)),
        Err(ApplyError::TopicExists(_))
    ));
    assert!(matches!(
        image.apply(2, &[partition(1, 5)]),
        Err(ApplyError::NoPartition(..))
    ));
    assert!(matches!(
        image.apply(2, &[partition(2, 0)]),
        Err(ApplyError::NoTopic(_))
    ));
    let fenced = Record::BrokerFenced(BrokerFenced {
        id: BrokerId(1),
        epoch: BrokerEpoch(1),
    });
    assert!(matches!(
        image.apply(2, &[fenced]),
        Err(ApplyError::NoBroker(..))
    ));
}

#[test]
fn ten_thousand_partitions_make_one_image() {
    let mut records = created(1, 9_000);
    records.extend(created(2, 1_000));
    let image = Image::default().apply(1, &records).unwrap();
    assert_eq!(image.partition_count(), 10_000);
    assert_eq!(image.partitions_led_by(BrokerId(0)).count(), 3_000 + 334);
    // One partition's change touches that one alone: the others are the same in both images.
    let mut changed = image.partition("t1", 17).unwrap().to_state(17);
    changed.leader = None;
    let change = Record::PartitionsSet(PartitionsSet {
        topic: topic_id(1),
        partitions: vec![changed],
    });
    let next = image.apply(2, &[change]).unwrap();
    assert!(Arc::ptr_eq(
        image.partition("t1", 16).unwrap(),
        next.partition("t1", 16).unwrap()
    ));
    assert!(Arc::ptr_eq(
        image.topic("t2").unwrap(),
        next.topic("t2").unwrap()
    ));
    assert_eq!(next.partition("t1", 17).unwrap().leader, None);
}
