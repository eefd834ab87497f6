#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use serde_json::{Value, json};

use super::{Cluster, Defaults, Deletion, Group, Image, Topic};
use crate::testing::resource;

fn refused(change: impl Fn(&mut weir_crds::Cluster)) -> String {
    let mut resource = resource();
    change(&mut resource);
    Cluster::validate(
        &resource,
        &Defaults {
            broker_image: "weir-broker:0.1.0".into(),
        },
    )
    .unwrap_err()
    .to_string()
}

fn topic(spec: Value) -> weir_crds::Topic {
    serde_json::from_value(json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Topic", "metadata": {"name": "orders", "namespace": "shop"}, "spec": spec})).unwrap()
}

#[test]
fn what_the_api_server_would_have_refused_is_refused_with_field_and_remedy() {
    for (message, parts) in [
        (
            refused(|cluster| cluster.spec.replicas = 0),
            ["spec.replicas", "1 or more"],
        ),
        (
            refused(|cluster| cluster.spec.storage.size.0 = "ten".into()),
            ["spec.storage.size", "10Gi"],
        ),
        (
            refused(|cluster| cluster.spec.storage.size.0 = "-1Gi".into()),
            ["spec.storage.size", "positive"],
        ),
        (
            refused(|cluster| cluster.metadata.name = Some("Shop".into())),
            ["metadata.name", "lower-case"],
        ),
        (
            refused(|cluster| cluster.metadata.name = Some("x".repeat(41))),
            ["metadata.name", "at most 40"],
        ),
        (
            refused(|cluster| {
                cluster.spec.config.insert("log.dirs".into(), "/".into());
            }),
            ["spec.config[log.dirs]", "Remove it"],
        ),
        (
            refused(|cluster| {
                cluster.spec.image = Some("a".into());
                cluster.spec.version = Some("1.0.0".into());
            }),
            ["spec.image", "Keep one"],
        ),
    ] {
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
    }
}

#[test]
fn a_version_names_an_image_and_nothing_leaves_it_to_the_operator() {
    let defaults = Defaults {
        broker_image: "registry:5000/weir-broker:0.1.0".into(),
    };
    let mut wanted = resource();
    assert_eq!(
        Cluster::validate(&wanted, &defaults).unwrap().image,
        Image::Default(defaults.broker_image.clone())
    );
    wanted.spec.version = Some("0.2.0".into());
    assert_eq!(
        Cluster::validate(&wanted, &defaults).unwrap().image,
        Image::Named("registry:5000/weir-broker:0.2.0".into())
    );
}

#[test]
fn a_topic_is_named_after_its_resource_unless_it_says_otherwise() {
    let plain = Topic::validate(&topic(json!({"clusterRef": {"name": "main"}}))).unwrap();
    assert_eq!(
        (
            plain.name.as_str(),
            plain.partitions,
            plain.cluster.to_string().as_str()
        ),
        ("orders", None, "shop/main")
    );
    let named = Topic::validate(&topic(
        json!({"clusterRef": {"name": "main"}, "topicName": "Orders_v2"}),
    ))
    .unwrap();
    assert_eq!(named.name, "Orders_v2");
}

#[test]
fn the_fields_of_a_queue_are_configurations_of_the_topic() {
    let config = |spec: Value| {
        let topic = Topic::validate(&topic(spec)).unwrap();
        let config = topic.config.into_iter();
        let config: Vec<String> = config
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        config.join(" ")
    };
    let bounded = json!({
        "clusterRef": {"name": "m"},
        "config": {"retention.ms": "1000"},
        "queue": {"group": "tills", "bound": {"maxMessages": 10, "overflow": "DropOldest", "scope": "Topic"}},
    });
    assert_eq!(
        config(bounded),
        "retention.ms=1000 weir.queue.group=tills weir.queue.max.bytes=-1 weir.queue.max.messages=10 \
         weir.queue.max.scope=topic weir.queue.overflow=drop_oldest"
    );
    let named = json!({"clusterRef": {"name": "m"}, "queue": {"group": "tills"}});
    assert_eq!(config(named), "weir.queue.group=tills");
    let known = json!({"clusterRef": {"name": "m"}, "queue": {"deduplicationWindowSeconds": 60}});
    assert_eq!(config(known), "weir.queue.deduplication.window.ms=60000");
    let urgent =
        json!({"clusterRef": {"name": "m"}, "queue": {"priority": "Strict", "order": "Key"}});
    assert_eq!(
        config(urgent),
        "weir.queue.order=key weir.queue.priority=strict"
    );
    for (ratio, text) in [(json!(0.05), "0.05"), (json!(1), "1"), (json!(0), "0")] {
        let traced = json!({"clusterRef": {"name": "m"}, "queue": {"trace": {"ratio": ratio}}});
        assert_eq!(config(traced), format!("weir.queue.trace.ratio={text}"));
    }
    let view = json!({"clusterRef": {"name": "m"}, "queue": {"view": {"of": "orders", "filter": "key == 'a'"}}});
    assert_eq!(
        config(view),
        "weir.queue.view.filter=key == 'a' weir.queue.view.of=orders"
    );
    let all = json!({"clusterRef": {"name": "m"}, "queue": {"view": {"of": "orders"}}});
    assert_eq!(
        config(all),
        "weir.queue.view.filter= weir.queue.view.of=orders"
    );
    for (max, ms) in [
        ("0s", 0),
        ("1500ms", 1_500),
        ("90m", 5_400_000),
        ("365d", 31_536_000_000_u64),
    ] {
        let delayed = json!({"clusterRef": {"name": "m"}, "queue": {"delay": {"max": max}}});
        assert_eq!(config(delayed), format!("weir.queue.delay.max.ms={ms}"));
    }
}

#[test]
fn topics_that_cannot_be_are_refused() {
    for (spec, part) in [
        (
            json!({"clusterRef": {"name": "m"}, "queue": {"delay": {"max": "366d"}}}),
            "spec.queue.delay.max",
        ),
        (
            json!({"clusterRef": {"name": "m"}, "topicName": "a b"}),
            "spec.topicName",
        ),
        (
            json!({"clusterRef": {"name": "m"}, "topicName": ".."}),
            "spec.topicName",
        ),
        (
            json!({"clusterRef": {"name": "m"}, "topicName": "__consumer_offsets"}),
            "the brokers' own",
        ),
        (
            json!({"clusterRef": {"name": "m"}, "partitions": 0}),
            "spec.partitions",
        ),
        (
            json!({"clusterRef": {"name": "m"}, "replicationFactor": -1}),
            "spec.replicationFactor",
        ),
    ] {
        let message = Topic::validate(&topic(spec)).unwrap_err().to_string();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_topic_that_is_being_deleted_is_judged_by_nothing_but_whether_it_has_a_name() {
    for (name, deletion) in [
        ("orders", Deletion::Delete),
        ("a b", Deletion::Retain),
        ("__consumer_offsets", Deletion::Retain),
    ] {
        let mut resource = topic(json!({
            "clusterRef": {"name": "m"}, "topicName": name, "partitions": 0, "replicationFactor": 0, "deletionPolicy": "Delete",
        }));
        resource.metadata.deletion_timestamp =
            serde_json::from_value(json!("2026-01-01T00:00:00Z")).unwrap();
        let going = Topic::validate(&resource).unwrap();
        assert_eq!((going.deleting, going.deletion), (true, deletion), "{name}");
    }
}

#[test]
fn spans_go_to_a_url_that_the_brokers_take() {
    let with = |url: &str| {
        let mut resource = resource();
        let otlp_endpoint = url.to_owned();
        resource.spec.tracing = Some(weir_crds::Tracing { otlp_endpoint });
        let broker_image = "weir-broker:0.1.0".into();
        Cluster::validate(&resource, &Defaults { broker_image })
            .map(|cluster| cluster.otlp_endpoint.unwrap())
            .map_err(|invalid| invalid.to_string())
    };
    for good in [
        "http://collector",
        "http://collector.monitoring:4318",
        "http://10.0.0.1:55/otlp/",
        "http://[::1]:4318",
        "http://[fd00::1]",
    ] {
        assert_eq!(with(good).as_deref(), Ok(good));
    }
    for bad in [
        "https://collector:4318",
        "collector:4318",
        "http://",
        "http://:4318",
        "http://collector:70000",
        "http://collector:",
        "http://[::g]:1",
        "http://user@collector",
        "http://collector/?a=b",
        "http://collector/$(HOME)",
    ] {
        let message = with(bad).unwrap_err();
        assert!(
            message.contains("spec.tracing.otlpEndpoint") && message.contains(bad),
            "{message}"
        );
    }
}

#[test]
fn a_group_s_configuration_that_has_a_field_is_refused_with_the_field() {
    let group = |spec: Value| -> weir_crds::ConsumerGroup {
        serde_json::from_value(json!({"apiVersion": "weir.dev/v1alpha1", "kind": "ConsumerGroup", "metadata": {"name": "billing", "namespace": "shop"}, "spec": spec})).unwrap()
    };
    let cluster = json!({"name": "main"});
    let good = group(
        json!({"clusterRef": cluster, "lease": {"seconds": 20}, "config": {"share.heartbeat.interval.ms": 6000}}),
    );
    let config = Group::validate(&good).unwrap().config;
    let expected = [
        ("share.heartbeat.interval.ms", "6000"),
        ("share.record.lock.duration.ms", "20000"),
    ];
    let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(config, expected.into());
    for (key, field) in weir_crds::FIELD_OF_CONFIG {
        let bad = group(json!({"clusterRef": cluster, "config": {key: "1"}}));
        let message = Group::validate(&bad).unwrap_err().to_string();
        let (named, remedy) = (format!("has {key}"), format!("spec.{field}"));
        assert!(
            message.contains(&named) && message.contains(&remedy),
            "{message}"
        );
    }
}

#[test]
fn a_group_with_a_negative_objective_is_refused() {
    let group: weir_crds::ConsumerGroup = serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "ConsumerGroup", "metadata": {"name": "billing"},
        "spec": {"clusterRef": {"name": "m"}, "lagObjective": {"records": -1}},
    }))
    .unwrap();
    assert!(
        Group::validate(&group)
            .unwrap_err()
            .to_string()
            .contains("spec.lagObjective.records")
    );
}

#[test]
fn brokers_to_be_emptied_are_numbers_with_commas_between_them() {
    let named = |text: &str| super::drained(Some(&text.to_owned()));
    assert_eq!(super::drained(None).unwrap(), [].into());
    assert_eq!(named("").unwrap(), [].into());
    let two = [crate::world::BrokerId(1), crate::world::BrokerId(4)];
    assert_eq!(named("4, 1,1").unwrap(), two.into());
    for wrong in ["all", "1;2", "-1", "broker-1"] {
        let error = named(wrong).unwrap_err().to_string();
        assert!(error.contains(wrong) && error.contains("1,4"), "{error}");
    }
}

#[test]
fn an_annotation_that_cannot_be_read_leaves_the_spec_what_it_is() {
    let mut resource = crate::testing::resource();
    let annotations = [("weir.dev/drain".to_owned(), "broker-1".to_owned())];
    resource.metadata.annotations = Some(annotations.into());
    let defaults = Defaults {
        broker_image: "image".into(),
    };
    let cluster = Cluster::validate(&resource, &defaults).unwrap();
    assert_eq!(cluster.drained, [].into());
    let why = cluster.drained_unread.unwrap().to_string();
    assert!(
        why.contains("weir.dev/drain") && why.contains("broker-1"),
        "{why}"
    );
}
