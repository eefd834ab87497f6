#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use jiff::Timestamp;
use serde_json::json;
use weir_crds::{Cluster, ConsumerGroup, LastReset, PartitionReset, Topic};

use super::{lag, plan, reset, status};
use crate::testing::resource;

fn condition(kind: &str, is: &str, reason: &str, message: &str) -> serde_json::Value {
    json!({
        "type": kind, "status": is, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    })
}

fn cluster() -> Cluster {
    let mut cluster = resource();
    cluster.status = serde_json::from_value(json!({
        "readyReplicas": 2, "version": "0.1.0", "bootstrap": "shop-bootstrap.market.svc:9092",
        "conditions": [condition("Ready", "False", "BrokersNotReady", "2 of 3 brokers are ready")],
        "plan": {
            "steps": [{"action": "RestartBroker", "target": "broker 1", "message": "its configuration changed"}],
            "blocked": [{"gate": "QuorumAtRisk", "step": "restart of broker 2", "message": "1 of 3 is away"}],
        },
    }))
    .unwrap();
    cluster
}

fn topic(name: &str, cluster: &str, is_ready: bool) -> Topic {
    let ready = match is_ready {
        true => condition("Ready", "True", "InSync", ""),
        false => condition("Ready", "False", "Conflict", "another owns it"),
    };
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Topic", "metadata": {"name": name},
        "spec": {"clusterRef": {"name": cluster}}, "status": {"conditions": [ready]},
    }))
    .unwrap()
}

fn group(status: serde_json::Value) -> ConsumerGroup {
    serde_json::from_value(json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "ConsumerGroup", "metadata": {"name": "billing"},
        "spec": {"clusterRef": {"name": "shop"}}, "status": status,
    }))
    .unwrap()
}

#[test]
fn a_status_names_what_is_not_ready_and_counts_the_rest() {
    let topics = [
        topic("a", "shop", true),
        topic("b", "shop", false),
        topic("c", "other", false),
    ];
    let text = status(&cluster(), &topics, &[]);
    for part in [
        "Cluster shop: 2 of 3 brokers ready, version 0.1.0, shop-bootstrap.market.svc:9092",
        "Ready is False (BrokersNotReady): 2 of 3 brokers are ready",
        "Topics: 1 of 2 ready",
        "    b: Ready is False (Conflict): another owns it",
        "ConsumerGroups: 0 of 0 ready",
    ] {
        assert!(text.contains(part), "{part} in\n{text}");
    }
}

#[test]
fn a_plan_has_its_steps_and_what_holds_them() {
    assert_eq!(
        plan(&cluster()),
        "Cluster shop:\n  RestartBroker broker 1: its configuration changed\n  held by QuorumAtRisk: restart of broker 2: 1 of 3 is away\n"
    );
    assert_eq!(plan(&resource()), "Cluster shop: nothing to do\n");
}

#[test]
fn lag_is_a_line_for_each_topic() {
    let read = group(json!({
        "state": "Stable", "members": 2, "consumption": "Running",
        "topics": [{"topic": "orders", "records": 1200, "oldestTime": "1970-01-01T00:16:36Z"}],
    }));
    let paused = group(json!({"state": "Stable", "members": 2, "consumption": "Paused"}));
    let text = lag(&[read, paused], Timestamp::from_second(1_000).unwrap());
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(lines[1], ["billing", "Stable", "2", "orders", "1200", "4"]);
    assert_eq!(lines[2], ["billing", "Paused", "2", "-", "-", "-"]);
}

#[test]
fn a_reset_says_from_where_to_where() {
    let last = LastReset {
        request_id: "again".into(),
        state: "Done".into(),
        dry_run: true,
        message: "nothing was changed: this is what would be".into(),
        fenced_members: Some(2),
        partitions: vec![PartitionReset {
            topic: "orders".into(),
            partition: 3,
            from: Some(70),
            to: None,
        }],
        ..LastReset::default()
    };
    let text = reset(&last);
    assert!(text.starts_with("Reset again: dry run: nothing was changed"));
    let row: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(row, ["orders", "3", "70", "-"]);
}
