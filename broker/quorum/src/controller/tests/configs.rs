use super::world::World;
use crate::command::{
    AlterConfigs, Command, ConfigChange, ConfigChanges, ConfigOp, ConfigResource, Reply,
};
use crate::configs::{
    OffsetReset, SharingConfig, Source, effective_broker, effective_topic, group_config, topic_def,
};
use crate::controller::{CLIENT_METRICS_MAX, CONFIGURED_GROUPS_MAX};
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
            vec![
                set("min.compaction.lag.ms", "6"),
                set("max.compaction.lag.ms", "5"),
            ],
            ErrorName::InvalidConfig,
        ),
        (
            vec![set("remote.storage.enable", "true")],
            ErrorName::InvalidConfig,
        ),
        (
            vec![set("leader.replication.throttled.replicas", "zz")],
            ErrorName::InvalidConfig,
        ),
        (
            // Each a replica, and too many bytes.
            vec![set(
                "leader.replication.throttled.replicas",
                &(0..10_000)
                    .map(|partition| format!("{partition}:1,"))
                    .collect::<String>(),
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
        Some(ErrorName::InvalidRequest)
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

fn group() -> ConfigResource {
    ConfigResource::Group("g".into())
}

#[test]
fn a_groups_configuration_stands_over_the_clusters_and_survives_a_snapshot() {
    let mut world = world();
    let of = |world: &World| group_config(&world.image, &world.settings, "g");
    assert_eq!(of(&world).consumer_session_timeout_ms, 45_000);
    assert_eq!(
        alter(
            &mut world,
            ConfigResource::Cluster,
            vec![set("group.consumer.session.timeout.ms", "46000")]
        ),
        None
    );
    assert_eq!(of(&world).consumer_session_timeout_ms, 46_000);
    assert_eq!(
        alter(
            &mut world,
            group(),
            vec![
                set("consumer.session.timeout.ms", "50000"),
                set("share.auto.offset.reset", "by_duration:PT1H"),
                set("share.isolation.level", "read_committed"),
                set("share.renew.acknowledge.enable", "FALSE"),
            ]
        ),
        None
    );
    let config = of(&world);
    assert_eq!(config.consumer_session_timeout_ms, 50_000);
    assert_eq!(
        config.share_auto_offset_reset,
        OffsetReset::ByDuration(3_600_000)
    );
    assert!(config.share_is_read_committed && !config.share_renew_acknowledge_enable);
    // Bounds that are narrower now hold for what was set before.
    assert_eq!(
        alter(
            &mut world,
            ConfigResource::Cluster,
            vec![set("group.consumer.max.session.timeout.ms", "48000")]
        ),
        None
    );
    assert_eq!(of(&world).consumer_session_timeout_ms, 48_000);

    let restored = crate::Image::from_snapshot(
        world.image.index(),
        world.image.revision(),
        &world.image.snapshot(),
    );
    assert_eq!(restored.as_ref(), Ok(&world.image));
}

#[test]
fn a_group_that_loses_its_last_setting_is_not_kept() {
    let mut world = world();
    alter(
        &mut world,
        group(),
        vec![set("share.isolation.level", "read_committed")],
    );
    assert_eq!(world.image.configured_groups().len(), 1);
    alter(
        &mut world,
        group(),
        vec![op("share.isolation.level", ConfigChange::Delete)],
    );
    assert_eq!(world.image.configured_groups().len(), 0);
}

#[test]
fn a_groups_numbers_lie_within_the_brokers_bounds() {
    let mut world = world();
    for (key, value) in [
        ("consumer.session.timeout.ms", "1"),
        ("consumer.session.timeout.ms", "70000"),
        ("consumer.heartbeat.interval.ms", "1000"),
        ("share.record.lock.duration.ms", "1000"),
        ("share.delivery.count.limit", "11"),
        ("share.auto.offset.reset", "none"),
        ("share.auto.offset.reset", "by_duration:-PT1H"),
        ("no.such.key", "1"),
    ] {
        assert_eq!(
            alter(&mut world, group(), vec![set(key, value)]),
            Some(ErrorName::InvalidConfig),
            "{key}={value}"
        );
    }
    let nameless = ConfigResource::Group(String::new());
    assert_eq!(
        alter(
            &mut world,
            nameless,
            vec![set("share.isolation.level", "read_committed")]
        ),
        Some(ErrorName::InvalidRequest)
    );
}

#[test]
fn client_metrics_subscriptions_are_checked_as_kafka_checks_them() {
    let mut world = world();
    let subscription = || ConfigResource::ClientMetrics("m".into());
    for (key, value, error) in [
        ("foo", "1", ErrorName::InvalidRequest),
        ("match", "foo=bar", ErrorName::InvalidConfig),
        ("match", "client_id=(", ErrorName::InvalidConfig),
        ("interval.ms", "1", ErrorName::InvalidRequest),
    ] {
        assert_eq!(
            alter(&mut world, subscription(), vec![set(key, value)]),
            Some(error),
            "{key}={value}"
        );
    }
    assert_eq!(
        alter(
            &mut world,
            subscription(),
            vec![
                set("interval.ms", "1000"),
                set("match", "client_id=a.*,client_software_name=x")
            ]
        ),
        None
    );
    assert_eq!(world.image.client_metrics_subscriptions().len(), 1);
}

#[test]
fn how_many_groups_and_subscriptions_are_configured_is_bounded() {
    for (max, resource) in [
        (
            CONFIGURED_GROUPS_MAX,
            ConfigResource::Group as fn(String) -> ConfigResource,
        ),
        (CLIENT_METRICS_MAX, ConfigResource::ClientMetrics),
    ] {
        let mut world = world();
        let resources = (0..=max).map(|n| ConfigChanges {
            resource: resource(n.to_string()),
            ops: vec![match resource(String::new()) {
                ConfigResource::Group(_) => set("share.isolation.level", "read_committed"),
                _ => set("interval.ms", "1000"),
            }],
        });
        let Reply::Configs(results) = world
            .ask(Command::AlterConfigs(AlterConfigs {
                resources: resources.collect(),
                validate_only: false,
            }))
            .unwrap()
        else {
            panic!("of configurations");
        };
        assert!(results[..max].iter().all(Result::is_ok));
        assert_eq!(
            results[max].as_ref().map_err(|error| error.name),
            Err(ErrorName::PolicyViolation)
        );
    }
}

#[test]
fn a_resource_named_twice_is_refused_both_times() {
    let mut world = world();
    let changes = ConfigChanges {
        resource: topic(),
        ops: vec![set("retention.ms", "1000")],
    };
    let Reply::Configs(results) = world
        .ask(Command::AlterConfigs(AlterConfigs {
            resources: vec![changes.clone(), changes],
            validate_only: false,
        }))
        .unwrap()
    else {
        panic!("of configurations");
    };
    assert!(results.iter().all(Result::is_err), "{results:?}");
}

#[test]
fn what_the_configuration_file_decides_is_not_changed_and_a_strange_key_can_be_taken_away() {
    let mut world = world();
    for (key, value) in [
        ("node.id", "7"),
        ("group.initial.rebalance.delay.ms", "0"),
        ("log.retention.ms", "x"),
        ("foo.bar", "1"),
    ] {
        assert_eq!(
            alter(&mut world, ConfigResource::Cluster, vec![set(key, value)]),
            Some(ErrorName::InvalidRequest),
            "{key}"
        );
    }
    assert_eq!(
        alter(
            &mut world,
            ConfigResource::Cluster,
            vec![op("foo.bar", ConfigChange::Delete)]
        ),
        None
    );
    assert_eq!(
        alter(
            &mut world,
            ConfigResource::Broker(BrokerId(0)),
            vec![set("log.preallocate", " TRUE ")]
        ),
        None
    );
    let def = crate::configs::broker_def("log.preallocate").unwrap();
    let effective = effective_broker(&world.image, &world.settings, Some(BrokerId(0)), def);
    assert_eq!(
        (effective.value(), effective.source()),
        ("true", Source::DynamicBroker)
    );
}

#[test]
fn what_a_share_group_cannot_mean_is_refused_with_the_place() {
    let mut world = world();
    let mut refused = |key: &str, value: &str| {
        let resources = vec![ConfigChanges {
            resource: group(),
            ops: vec![set(key, value)],
        }];
        let asked = AlterConfigs {
            resources,
            validate_only: false,
        };
        match world.ask(Command::AlterConfigs(asked)).unwrap() {
            Reply::Configs(results) => results[0].as_ref().err().map(|error| error.message.clone()),
            other => panic!("{other:?}"),
        }
    };
    let filter = refused(
        "weir.share.filter",
        "headers.region == 'eu' &&\n  country == 'de'",
    );
    let filter = filter.unwrap();
    assert!(
        filter.contains("weir.share.filter: line 2, column 3"),
        "{filter}"
    );
    let backoff = refused("weir.share.retry.backoff.ms", "1000,soon").unwrap();
    assert!(backoff.contains("\"soon\""), "{backoff}");
    let topic = refused("errors.deadletterqueue.topic.name", "__consumer_offsets");
    assert!(topic.unwrap().contains("does not begin with __"));
    assert_eq!(refused("weir.share.filter", "headers.region == 'eu'"), None);
    // Doubles in a list are steps of their own.
    assert_eq!(
        refused("weir.share.retry.backoff.ms", "1000,1000,5000"),
        None
    );
    assert_eq!(refused("weir.share.deadletter.rate.max", "60"), None);
    let sharing = SharingConfig::of(&world.image, "g").unwrap();
    assert_eq!(sharing.retry_backoff, "1000,1000,5000");
    assert_eq!(sharing.dead_letter_rate_max, Some(60));
    assert_eq!(SharingConfig::of(&world.image, "another"), None);
}
