use std::collections::BTreeMap;

use super::world::{World, error};
use crate::command::{
    AlterConfigs, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, CreatePartitions,
    CreateTopics, DeleteTopics, MorePartitions, NewTopic, Reassign, Reassignment, TopicRef,
};
use crate::configs::Settings;
use crate::error::ErrorName;
use crate::ids::{BrokerId, TopicId};
use crate::topics::{CONSUMER_OFFSETS, HALF_MESSAGES, SHARE_GROUP_STATE, TRANSACTION_STATE};

fn topic(name: &str) -> NewTopic {
    NewTopic {
        name: name.into(),
        partitions: Some(1),
        ..NewTopic::default()
    }
}

#[test]
fn partitions_are_spread_evenly_over_live_brokers() {
    let mut world = World::of(4);
    world.goodbye(3);
    let result = world.create_one("t", 7);
    assert_eq!(result.outcome.unwrap().partitions, 7);
    let mut led: Vec<_> = (0..4).map(|id| world.led_by(id)).collect();
    led.sort_unstable();
    assert_eq!((led, world.led_by(3)), (vec![0, 2, 2, 3], 0));
    world.create_one("u", 2);
    assert!(
        (0..3).all(|id| world.led_by(id) == 3),
        "the next topic evens it out"
    );
}

#[test]
fn each_topic_of_a_batch_fails_alone() {
    let mut world = World::of(1);
    world.create_one("there", 1);
    let results = world.create(vec![
        topic("good"),
        topic("there"),
        topic("bad name"),
        NewTopic {
            partitions: Some(0),
            ..topic("none")
        },
        NewTopic {
            partitions: Some(-3),
            ..topic("negative")
        },
        NewTopic {
            replication_factor: Some(3),
            ..topic("three")
        },
        NewTopic {
            config: BTreeMap::from([("retention.ms".into(), "soon".into())]),
            ..topic("config")
        },
        NewTopic {
            config: BTreeMap::from([("retention.years".into(), "1".into())]),
            ..topic("key")
        },
        topic("twice"),
        topic("twice"),
        topic("also.good"),
    ]);
    let errors: Vec<_> = results
        .iter()
        .map(|result| result.outcome.as_ref().err().map(|error| error.name))
        .collect();
    assert_eq!(
        errors,
        [
            None,
            Some(ErrorName::TopicAlreadyExists),
            Some(ErrorName::InvalidTopicException),
            Some(ErrorName::InvalidPartitions),
            Some(ErrorName::InvalidPartitions),
            Some(ErrorName::InvalidReplicationFactor),
            Some(ErrorName::InvalidConfig),
            Some(ErrorName::InvalidConfig),
            Some(ErrorName::InvalidRequest),
            Some(ErrorName::InvalidRequest),
            None,
        ]
    );
    assert_eq!(world.image.topics().len(), 3);
    let config_error = results[6].outcome.as_ref().unwrap_err();
    assert!(
        config_error.message.contains("retention.ms") && config_error.message.contains("soon"),
        "{config_error}"
    );
    let factor_error = results[5].outcome.as_ref().unwrap_err();
    assert!(
        factor_error.message.contains("replication factor 3")
            && factor_error.message.contains(": 1,"),
        "{factor_error}"
    );
}

// Traps, the Kafka protocol, 17.
#[test]
fn names_that_collide_in_dots_and_underscores_are_refused_also_within_a_batch() {
    let mut world = World::of(1);
    world.create_one("a.b", 1);
    assert_eq!(
        error(&world.create_one("a_b", 1)),
        ErrorName::InvalidTopicException
    );
    let results = world.create(vec![topic("c_d"), topic("c.d"), topic("a-b")]);
    assert!(results[0].outcome.is_ok());
    assert_eq!(error(&results[1]), ErrorName::InvalidTopicException);
    assert!(results[2].outcome.is_ok());
}

#[test]
fn what_is_not_said_comes_from_the_clusters_defaults() {
    let mut world = World::of(1);
    let unsaid = || NewTopic {
        partitions: None,
        ..topic("a")
    };
    assert_eq!(
        world.create(vec![unsaid()])[0]
            .outcome
            .as_ref()
            .unwrap()
            .partitions,
        1
    );
    world.settings =
        Settings::new(BTreeMap::from([("num.partitions".into(), "5".into())])).unwrap();
    let result = &world.create(vec![NewTopic {
        name: "b".into(),
        ..unsaid()
    }])[0];
    assert_eq!(result.outcome.as_ref().unwrap().partitions, 5);
    assert!(
        world.image.topic("b").unwrap().config.is_empty(),
        "defaults are not written down"
    );
}

#[test]
fn validating_says_what_would_be_and_changes_nothing() {
    let mut world = World::of(1);
    let before = world.image.revision();
    let command = Command::CreateTopics(CreateTopics {
        topics: vec![topic("t"), topic("bad name")],
        validate_only: true,
    });
    let results = world.topics(command);
    assert_eq!(results[0].outcome.as_ref().unwrap().partitions, 1);
    assert_eq!(error(&results[1]), ErrorName::InvalidTopicException);
    assert_eq!(world.image.revision(), before);
}

#[test]
fn replicas_go_where_the_client_says() {
    let mut world = World::of(3);
    let assigned = |of: &[(i32, &[i32])]| NewTopic {
        name: "t".into(),
        assignments: of
            .iter()
            .map(|(index, ids)| (*index, ids.iter().map(|id| BrokerId(*id)).collect()))
            .collect(),
        ..NewTopic::default()
    };
    let refused = |world: &mut World, topic| error(&world.create(vec![topic])[0]);
    assert_eq!(
        refused(&mut world, assigned(&[(1, &[0])])),
        ErrorName::InvalidReplicaAssignment
    );
    assert_eq!(
        refused(&mut world, assigned(&[(0, &[9])])),
        ErrorName::InvalidReplicaAssignment
    );
    assert_eq!(
        refused(&mut world, assigned(&[(0, &[0, 0])])),
        ErrorName::InvalidReplicaAssignment
    );
    assert_eq!(
        refused(&mut world, assigned(&[(0, &[0, 1]), (1, &[2])])),
        ErrorName::InvalidReplicaAssignment
    );
    let both = NewTopic {
        partitions: Some(1),
        ..assigned(&[(0, &[0])])
    };
    assert_eq!(refused(&mut world, both), ErrorName::InvalidRequest);
    assert!(
        world.create(vec![assigned(&[(0, &[2]), (1, &[2])])])[0]
            .outcome
            .is_ok()
    );
    assert_eq!(world.led_by(2), 2);
}

#[test]
fn topics_grow_and_never_shrink() {
    let mut world = World::of(2);
    world.create_one("t", 2);
    let mut grow = |name: &str, count| {
        let more = MorePartitions {
            name: name.into(),
            count,
            assignments: None,
        };
        let command = Command::CreatePartitions(CreatePartitions {
            topics: vec![more],
            validate_only: false,
        });
        world.topics(command).remove(0)
    };
    assert_eq!(error(&grow("t", 2)), ErrorName::InvalidPartitions);
    assert_eq!(error(&grow("t", 1)), ErrorName::InvalidPartitions);
    assert_eq!(error(&grow("none", 3)), ErrorName::UnknownTopicOrPartition);
    assert!(grow("t", 6).outcome.is_ok());
    assert_eq!((world.led_by(0), world.led_by(1)), (3, 3));
}

#[test]
fn deleting_is_by_name_or_id_and_the_unknown_is_said_to_be() {
    let mut world = World::of(1);
    let id = world.create_one("a", 1).id.unwrap();
    world.create_one("b", 1);
    let topics = vec![
        TopicRef::Id(id),
        TopicRef::Name("b".into()),
        TopicRef::Name("c".into()),
        TopicRef::Id(TopicId(uuid::Uuid::from_u128(99))),
    ];
    let results = world.topics(Command::DeleteTopics(DeleteTopics { topics }));
    assert_eq!(
        (
            results[0].name.as_str(),
            results[0].outcome.is_ok(),
            results[1].outcome.is_ok()
        ),
        ("a", true, true)
    );
    assert_eq!(error(&results[2]), ErrorName::UnknownTopicOrPartition);
    assert_eq!(error(&results[3]), ErrorName::UnknownTopicId);
    assert_eq!(world.image.topics().len(), 0);
    assert_ne!(
        world.create_one("a", 1).id.unwrap(),
        id,
        "a topic made anew has a new id"
    );
}

#[test]
fn the_brokers_own_topics_are_made_as_they_have_to_be_once() {
    let mut world = World::of(3);
    let ensure = || Command::EnsureInternalTopic {
        name: CONSUMER_OFFSETS.into(),
    };
    let first = world.topics(ensure()).remove(0);
    assert_eq!(first.outcome.unwrap().partitions, 50);
    assert_eq!(
        world.image.topic(CONSUMER_OFFSETS).unwrap().config["cleanup.policy"],
        "compact"
    );
    assert!(world.image.topic(CONSUMER_OFFSETS).unwrap().is_internal());
    assert_eq!(world.topics(ensure()).remove(0).id, first.id);
    for name in [TRANSACTION_STATE, SHARE_GROUP_STATE, HALF_MESSAGES] {
        let made = world
            .topics(Command::EnsureInternalTopic { name: name.into() })
            .remove(0);
        assert_eq!(made.outcome.unwrap().partitions, 50, "{name}");
    }
    let other = world
        .topics(Command::EnsureInternalTopic {
            name: "mine".into(),
        })
        .remove(0);
    assert_eq!(error(&other), ErrorName::InvalidTopicException);
}

#[test]
fn one_request_creates_a_bounded_number_of_partitions() {
    let mut world = World::of(1);
    assert_eq!(
        error(&world.create_one("t", 10_001)),
        ErrorName::PolicyViolation
    );
    let results = world.create(vec![
        NewTopic {
            partitions: Some(9_999),
            ..topic("a")
        },
        NewTopic {
            partitions: Some(2),
            ..topic("b")
        },
        topic("c"),
    ]);
    assert!(results[0].outcome.is_ok() && results[2].outcome.is_ok());
    assert_eq!(error(&results[1]), ErrorName::PolicyViolation);
}

#[test]
fn without_a_live_broker_nothing_is_created() {
    let mut world = World::of(1);
    world.goodbye(0);
    let result = world.create_one("t", 1);
    assert_eq!(error(&result), ErrorName::InvalidReplicationFactor);
    assert!(result.outcome.unwrap_err().message.contains("0 are alive"));
}

fn with_factor(name: &str, factor: i32) -> NewTopic {
    NewTopic {
        replication_factor: Some(factor),
        ..topic(name)
    }
}

#[test]
fn a_topic_has_as_many_replicas_as_there_are_brokers_at_most() {
    let mut world = World::of(3);
    let results = world.create(vec![
        with_factor("three", 3),
        with_factor("four", 4),
        with_factor("none", 0),
        with_factor("less", -2),
    ]);
    assert_eq!(results[0].outcome.as_ref().unwrap().replication_factor, 3);
    for refused in &results[1..] {
        assert_eq!(error(refused), ErrorName::InvalidReplicationFactor);
    }
    let message = &results[1].outcome.as_ref().unwrap_err().message;
    assert!(
        message.contains("factor 4") && message.contains(": 3,"),
        "{message}"
    );
    let partition = world.image.partition("three", 0).unwrap();
    assert_eq!(
        (partition.isr.len(), partition.leader),
        (3, Some(partition.replicas[0]))
    );

    world.cordon(1, true);
    let refused = world.create(vec![with_factor("cordoned", 3)]).remove(0);
    assert_eq!(error(&refused), ErrorName::InvalidReplicationFactor);
    assert!(world.create(vec![with_factor("two", 2)])[0].outcome.is_ok());
    assert!(
        !world
            .image
            .partition("two", 0)
            .unwrap()
            .replicas
            .contains(&BrokerId(1))
    );
}

#[test]
fn a_broker_that_is_away_gets_a_replica_only_where_no_others_are_left() {
    let mut world = World::of(4);
    world.goodbye(3);
    world.create(vec![with_factor("three", 3), with_factor("four", 4)]);
    let three = world.image.partition("three", 0).unwrap();
    assert!(!three.replicas.contains(&BrokerId(3)));
    let four = world.image.partition("four", 0).unwrap();
    assert_eq!(
        (four.replicas.last(), four.isr.len()),
        (Some(&BrokerId(3)), 3)
    );
}

// KIP-966: who may be elected though not in sync must hold everything that was acknowledged.
#[test]
fn a_replica_that_was_away_from_the_beginning_is_not_eligible_once_others_acknowledge() {
    let mut world = World::of(3);
    world.goodbye(2);
    world.create(vec![with_factor("t", 3)]);
    let partition = world.image.partition("t", 0).unwrap();
    assert_eq!(
        (partition.isr.len(), partition.elr.len()),
        (2, 0),
        "two acknowledge without it"
    );
    for id in [0, 1] {
        world.goodbye(id);
    }
    let epoch = world.epoch(2);
    world.heartbeat(2, epoch).unwrap();
    assert_eq!(world.image.partition("t", 0).unwrap().leader, None);
}

#[test]
fn who_was_eligible_is_not_any_more_when_fewer_may_acknowledge() {
    let set = |of: ConfigResource, value: &str| {
        Command::AlterConfigs(AlterConfigs {
            resources: vec![ConfigChanges {
                resource: of,
                ops: vec![ConfigOp {
                    key: "min.insync.replicas".into(),
                    change: ConfigChange::Set(value.into()),
                }],
            }],
            validate_only: false,
        })
    };
    for resource in [ConfigResource::Topic("t".into()), ConfigResource::Cluster] {
        let mut world = World::of(3);
        world.create(vec![with_factor("t", 3)]);
        world.goodbye(1);
        world.goodbye(2);
        let before = world.image.partition("t", 0).unwrap().clone();
        assert_eq!((before.isr.len(), before.elr.len()), (1, 1), "{before:?}");
        world.ask(set(resource, "1")).unwrap();
        let after = world.image.partition("t", 0).unwrap();
        assert_eq!((&after.isr, after.elr.len()), (&before.isr, 0), "{after:?}");
    }
}

#[test]
fn the_default_minimum_falls_with_the_number_of_replicas_and_takes_the_eligible_along() {
    let mut world = World::of(3);
    let three = NewTopic {
        partitions: Some(2),
        ..with_factor("t", 3)
    };
    world.create(vec![three]);
    world.goodbye(1);
    world.goodbye(2);
    assert!((0..2).all(|index| world.image.partition("t", index).unwrap().elr.len() == 1));
    let single = Command::Reassign(Reassign {
        partitions: vec![Reassignment {
            topic: "t".into(),
            index: 0,
            replicas: Some(vec![BrokerId(0)]),
        }],
        allow_replication_factor_change: true,
    });
    world.ask(single).unwrap();
    let (moved, other) = (
        world.image.partition("t", 0).unwrap(),
        world.image.partition("t", 1).unwrap(),
    );
    assert_eq!(moved.replicas, [BrokerId(0)]);
    assert_eq!(
        (other.isr.len(), other.elr.len()),
        (1, 0),
        "one acknowledges alone from here on"
    );
}

#[test]
fn where_nobody_says_a_cluster_of_three_keeps_three_and_acknowledges_with_two() {
    let minimum = |world: &World, topic: &str| {
        let topic = world.image.topic(topic).unwrap();
        crate::configs::in_sync_min(&world.image, &world.settings, topic)
    };
    for (brokers, replicas, in_sync) in [(1, 1, 1), (2, 2, 1), (3, 3, 2), (5, 3, 2)] {
        let mut world = World::with(brokers, Settings::default());
        let made = world.create(vec![topic("t")]).remove(0).outcome.unwrap();
        assert_eq!(made.replication_factor, replicas, "{brokers} brokers");
        assert_eq!(minimum(&world, "t"), in_sync, "{brokers} brokers");
    }
    let said = [("min.insync.replicas".to_owned(), "3".to_owned())];
    let mut world = World::with(3, Settings::new(said.into()).unwrap());
    world.create(vec![topic("t")]);
    assert_eq!(minimum(&world, "t"), 3);
}

#[test]
fn the_brokers_own_topics_wait_until_as_many_brokers_have_registered_as_they_are_to_have_replicas()
{
    let ensure = |name: &str| Command::EnsureInternalTopic { name: name.into() };
    let mut world = World::with(2, Settings::default().of_cluster(5));
    let early = world.topics(ensure(CONSUMER_OFFSETS)).remove(0);
    assert_eq!(error(&early), ErrorName::CoordinatorNotAvailable);
    let epoch = world.register(2, 1).unwrap();
    world.heartbeat(2, epoch).unwrap();
    let made = world.topics(ensure(CONSUMER_OFFSETS)).remove(0);
    assert_eq!(made.outcome.unwrap().replication_factor, 3);

    let said = [
        (
            "transaction.state.log.replication.factor".to_owned(),
            "2".to_owned(),
        ),
        ("transaction.state.log.min.isr".to_owned(), "2".to_owned()),
    ];
    let mut world = World::with(2, Settings::new(said.into()).unwrap().of_cluster(5));
    let made = world.topics(ensure(TRANSACTION_STATE)).remove(0);
    assert_eq!(made.outcome.unwrap().replication_factor, 2);
    assert_eq!(
        world.image.topic(TRANSACTION_STATE).unwrap().config["min.insync.replicas"],
        "2"
    );
}

#[test]
fn racks_take_turns() {
    let mut world = World::of(0);
    for (id, rack) in [(0, "a"), (1, "a"), (2, "b"), (3, "b")] {
        let epoch = world.register_in(id, 1, Some(rack)).unwrap();
        world.heartbeat(id, epoch).unwrap();
    }
    world.create_one("t", 2);
    let racks: std::collections::BTreeSet<_> = world
        .image
        .partitions()
        .map(|(_, _, partition)| {
            world
                .image
                .broker(partition.leader.unwrap())
                .unwrap()
                .rack
                .clone()
        })
        .collect();
    assert_eq!(racks.len(), 2);
}
