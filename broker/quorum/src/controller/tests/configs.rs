use super::world::World;
use crate::command::{
    AlterConfigs, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply,
};
use crate::configs::{Source, effective_topic, topic_def};
use crate::error::ErrorName;
use crate::ids::BrokerId;

fn set(key: &str, value: &str) -> ConfigOp {
    op(key, ConfigChange::Set(value.into()))
}

fn op(key: &str, change: ConfigChange) -> ConfigOp {
    ConfigOp {
        key: key.into(),
        change,
    }
}

fn alter(world: &mut World, resource: ConfigResource, ops: Vec<ConfigOp>) -> Option<ErrorName> {
    let resources = vec![ConfigChanges { resource, ops }];
    match world
        .ask(Command::AlterConfigs(AlterConfigs {
            resources,
            validate_only: false,
        }))
        .unwrap()
    {
        Reply::Configs(results) => results[0].as_ref().err().map(|error| error.name),
        other => panic!("{other:?}"),
    }
}

fn topic() -> ConfigResource {
    ConfigResource::Topic("t".into())
}

fn world() -> World {
    let mut world = World::of(1);
    world.create_one("t", 1);
    world
}

#[test]
fn keys_are_set_and_unset_and_lists_grow_and_shrink() {
    let mut world = world();
    let config =
        |world: &World, key: &str| world.image.topic("t").unwrap().config.get(key).cloned();
    assert_eq!(
        alter(&mut world, topic(), vec![set("retention.ms", "1000")]),
        None
    );
    assert_eq!(config(&world, "retention.ms").as_deref(), Some("1000"));
    assert_eq!(
        alter(
            &mut world,
            topic(),
            vec![op("retention.ms", ConfigChange::Delete)]
        ),
        None
    );
    assert_eq!(config(&world, "retention.ms"), None);

    let append = |value: &str| op("cleanup.policy", ConfigChange::Append(value.into()));
    assert_eq!(alter(&mut world, topic(), vec![append("compact")]), None);
    assert_eq!(
        config(&world, "cleanup.policy").as_deref(),
        Some("delete,compact")
    );
    let subtract = |value: &str| op("cleanup.policy", ConfigChange::Subtract(value.into()));
    assert_eq!(alter(&mut world, topic(), vec![subtract("delete")]), None);
    assert_eq!(config(&world, "cleanup.policy").as_deref(), Some("compact"));
}

#[test]
fn what_is_wrong_is_refused_and_nothing_of_it_happens() {
    let mut world = world();
    let before = world.image.revision();
    for (ops, name) in [
        (
            vec![set("retention.ms", "1"), set("cleanup.policy", "shred")],
            ErrorName::InvalidConfig,
        ),
        (
            vec![set("retention.ms", "1"), set("no.such.key", "1")],
            ErrorName::InvalidConfig,
        ),
        (
            vec![op("retention.ms", ConfigChange::Append("1".into()))],
            ErrorName::InvalidConfig,
        ),
        (
            vec![op(
                "cleanup.policy",
                ConfigChange::Subtract("delete".into()),
            )],
            ErrorName::InvalidConfig,
        ),
        (
            vec![set("retention.ms", "1"), set("retention.ms", "2")],
            ErrorName::InvalidRequest,
        ),
    ] {
        assert_eq!(alter(&mut world, topic(), ops), Some(name));
    }
    let none = ConfigResource::Topic("none".into());
    assert_eq!(
        alter(&mut world, none, vec![]),
        Some(ErrorName::UnknownTopicOrPartition)
    );
    let broker = ConfigResource::Broker(BrokerId(9));
    assert_eq!(
        alter(&mut world, broker, vec![]),
        Some(ErrorName::BrokerIdNotRegistered)
    );
    assert_eq!(world.image.revision(), before);
}

#[test]
fn validating_changes_nothing() {
    let mut world = world();
    let before = world.image.revision();
    let resources = vec![ConfigChanges {
        resource: topic(),
        ops: vec![set("retention.ms", "1000")],
    }];
    world
        .ask(Command::AlterConfigs(AlterConfigs {
            resources,
            validate_only: true,
        }))
        .unwrap();
    assert_eq!(world.image.revision(), before);
}

#[test]
fn a_topics_value_comes_from_the_nearest_place_that_has_one() {
    let mut world = world();
    let source = |world: &World| {
        let def = topic_def("retention.ms").unwrap();
        let effective = effective_topic(
            &world.image,
            &world.settings,
            world.image.topic("t").unwrap(),
            def,
        );
        (
            effective.value().to_owned(),
            effective.source(),
            effective.synonyms.len(),
        )
    };
    assert_eq!(source(&world), ("604800000".into(), Source::Default, 1));
    let settings = [("retention.ms".to_owned(), "1".to_owned())].into();
    world.settings = crate::configs::Settings::new(settings).unwrap();
    assert_eq!(source(&world), ("1".into(), Source::StaticBroker, 2));
    assert_eq!(
        alter(
            &mut world,
            ConfigResource::Cluster,
            vec![set("log.retention.ms", "2")]
        ),
        None
    );
    assert_eq!(source(&world), ("2".into(), Source::DynamicCluster, 3));
    assert_eq!(
        alter(&mut world, topic(), vec![set("retention.ms", "3")]),
        None
    );
    assert_eq!(source(&world), ("3".into(), Source::Topic, 4));
}
