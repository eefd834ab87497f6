#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;

#[test]
fn every_default_is_a_value_that_is_allowed() {
    for def in [TOPIC, BROKER, GROUP, CLIENT_METRICS].into_iter().flatten() {
        def.check(def.default).unwrap();
    }
}

#[test]
fn every_cluster_name_of_a_topics_configuration_is_a_brokers() {
    for def in TOPIC.iter().chain(GROUP) {
        if let Some(name) = def.cluster_name {
            let broker = broker_def(name).unwrap();
            assert_eq!(broker.default, def.default, "{name}");
            assert_eq!(broker.kind, def.kind, "{name}");
        }
    }
}

#[test]
fn names_are_unique_and_in_order() {
    for table in [TOPIC, BROKER, GROUP, CLIENT_METRICS] {
        let names: Vec<_> = table.iter().map(|def| def.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }
}

#[test]
fn a_refused_value_is_named_with_its_key_and_what_is_allowed() {
    let error = topic_def("cleanup.policy")
        .unwrap()
        .check("shred")
        .unwrap_err();
    for part in ["cleanup.policy", "shred", "delete", "compact"] {
        assert!(error.message.contains(part), "{error}");
    }
    assert!(topic_def("retention.ms").unwrap().check("-2").is_err());
    assert!(topic_def("retention.ms").unwrap().check("-1").is_ok());
    assert!(topic_def("durability").unwrap().check("maybe").is_err());
    assert!(
        topic_def("min.cleanable.dirty.ratio")
            .unwrap()
            .check("1.5")
            .is_err()
    );
}
