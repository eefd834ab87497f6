use std::collections::BTreeMap;

use super::world::{World, error};
use crate::command::{
    Command, CreatePartitions, CreateTopics, DeleteTopics, MorePartitions, NewTopic, TopicRef,
};
use crate::configs::Settings;
use crate::error::ErrorName;
use crate::ids::{BrokerId, TopicId};
use crate::topics::{CONSUMER_OFFSETS, SHARE_GROUP_STATE, TRANSACTION_STATE};

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
        factor_error.message.contains("allowed is 1"),
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
        refused(&mut world, assigned(&[(0, &[0, 1])])),
        ErrorName::InvalidReplicationFactor
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
    for name in [TRANSACTION_STATE, SHARE_GROUP_STATE] {
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
