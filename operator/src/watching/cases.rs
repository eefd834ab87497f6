//! For each alert, series with which it fires, and series with which it does not, in promtool's notation.

use super::alerts::{self, Alert};

/// What an alert is tried with.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The alert that this is about.
    pub alert: &'static str,
    /// Something is wrong.
    pub wrong: &'static [(&'static str, &'static str)],
    /// Nothing is, or not for long enough.
    pub well: &'static [(&'static str, &'static str)],
    /// When it is looked, from the first sample on.
    pub at: &'static str,
    /// The labels that it fires with, without the severity.
    pub labels: &'static [(&'static str, &'static str)],
    /// Its value as text.
    pub value: &'static str,
}

/// A topic's.
const OF_TOPIC: &[(&str, &str)] = &[
    ("namespace", "market"),
    ("cluster", "shop"),
    ("topic", "orders"),
];
const OF_CLUSTER: &[(&str, &str)] = &[("namespace", "market"), ("cluster", "shop")];
const OF_POD: &[(&str, &str)] = &[
    ("namespace", "market"),
    ("cluster", "shop"),
    ("pod", "shop-broker-1"),
];
const OF_GROUP: &[(&str, &str)] = &[
    ("namespace", "market"),
    ("cluster", "shop"),
    ("group", "readers"),
];

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        alert: "WeirQueueFull",
        wrong: &[(
            r#"weir_topic_queue_refused_batches_total{namespace="market",cluster="shop",topic="tickets"}"#,
            "0+60x30",
        )],
        well: &[(
            r#"weir_topic_queue_refused_batches_total{namespace="market",cluster="shop",topic="tickets"}"#,
            "0+60x3 180x30",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("topic", "tickets"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirOfflinePartitions",
        wrong: &[
            (
                r#"weir_offline_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "0 3x9",
            ),
            (
                r#"weir_offline_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "0 2x9",
            ),
        ],
        well: &[(
            r#"weir_offline_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
            "0x4 3 0x4",
        )],
        at: "5m",
        labels: OF_CLUSTER,
        value: "3",
    },
    Case {
        alert: "WeirUnderMinIsr",
        wrong: &[
            (
                r#"weir_under_min_in_sync_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "2x9",
            ),
            (
                r#"weir_under_min_in_sync_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1x9",
            ),
        ],
        well: &[(
            r#"weir_under_min_in_sync_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
            "0x4 2 0x4",
        )],
        at: "5m",
        labels: OF_CLUSTER,
        value: "3",
    },
    Case {
        alert: "WeirUnderReplicated",
        wrong: &[(
            r#"weir_under_replicated_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
            "4x30",
        )],
        // A restart leaves some behind for a while.
        well: &[(
            r#"weir_under_replicated_partitions{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
            "0x9 4x10 0x11",
        )],
        at: "20m",
        labels: OF_CLUSTER,
        value: "4",
    },
    Case {
        alert: "WeirBrokerDown",
        wrong: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "2x9",
            ),
        ],
        well: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "3 2 2 3x6",
            ),
        ],
        at: "5m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        // A broker that hears nothing says that all are alive. And one that is behind for a moment is not asked.
        alert: "WeirBrokerDown",
        wrong: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "3x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "0x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "2x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1x9",
            ),
        ],
        well: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "2x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "0x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "3x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1x9",
            ),
        ],
        at: "5m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        // It was the controller, and has not heard of the next one.
        alert: "WeirBrokerDown",
        wrong: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "3x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "1x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "2x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1x9",
            ),
        ],
        well: &[
            (
                r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "3x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "1x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "3x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1x9",
            ),
        ],
        at: "5m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        // Nobody is left to tell of the others.
        alert: "WeirBrokerDown",
        wrong: &[(
            r#"weir_operator_brokers_wanted{namespace="market",cluster="shop"}"#,
            "3x9",
        )],
        well: &[],
        at: "5m",
        labels: OF_CLUSTER,
        value: "3",
    },
    // Scraped without honor_labels.
    Case {
        alert: "WeirBrokerDown",
        wrong: &[
            (
                r#"weir_operator_brokers_wanted{namespace="weir-system",exported_namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "2x9",
            ),
        ],
        well: &[
            (
                r#"weir_operator_brokers_wanted{namespace="weir-system",exported_namespace="market",cluster="shop"}"#,
                "3x9",
            ),
            (
                r#"weir_live_brokers{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "3x9",
            ),
        ],
        at: "5m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        alert: "WeirNoController",
        wrong: &[
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "1 0x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "0x9",
            ),
        ],
        well: &[
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "1 0x9",
            ),
            (
                r#"weir_controller{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "0 1x9",
            ),
        ],
        at: "5m",
        labels: OF_CLUSTER,
        value: "0",
    },
    Case {
        alert: "WeirDiskFillingUp",
        wrong: &[
            (
                r#"weir_disk_available_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "500-0.5x700",
            ),
            (
                r#"weir_disk_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1000x700",
            ),
        ],
        // Little is left, and it stays as it is.
        well: &[
            (
                r#"weir_disk_available_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "200x700",
            ),
            (
                r#"weir_disk_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1000x700",
            ),
        ],
        at: "10h",
        labels: OF_POD,
        value: "20%",
    },
    Case {
        alert: "WeirDiskAlmostFull",
        wrong: &[
            (
                r#"weir_disk_available_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "40x20",
            ),
            (
                r#"weir_disk_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1000x20",
            ),
        ],
        well: &[
            (
                r#"weir_disk_available_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "60x20",
            ),
            (
                r#"weir_disk_bytes{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "1000x20",
            ),
        ],
        at: "10m",
        labels: OF_POD,
        value: "4%",
    },
    Case {
        alert: "WeirDamagedPartitions",
        wrong: &[(
            r#"weir_damaged_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
            "1x9",
        )],
        well: &[(
            r#"weir_damaged_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
            "0x9",
        )],
        at: "5m",
        labels: OF_POD,
        value: "1",
    },
    Case {
        alert: "WeirCompactionStopped",
        wrong: &[(
            r#"weir_uncleanable_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
            "1x60",
        )],
        well: &[(
            r#"weir_uncleanable_partitions{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
            "0x60",
        )],
        at: "40m",
        labels: OF_POD,
        value: "1",
    },
    Case {
        alert: "WeirProduceSlow",
        wrong: &[
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Produce",le="1"}"#,
                "0+90x40",
            ),
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Produce",le="2.5"}"#,
                "0+100x40",
            ),
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Produce",le="+Inf"}"#,
                "0+100x40",
            ),
        ],
        // Fetches that wait for new records are no slowness.
        well: &[
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Fetch",le="1"}"#,
                "0+1x40",
            ),
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Fetch",le="+Inf"}"#,
                "0+100x40",
            ),
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Produce",le="1"}"#,
                "0+100x40",
            ),
            (
                r#"weir_request_duration_seconds_bucket{namespace="market",cluster="shop",pod="shop-broker-0",api="Produce",le="+Inf"}"#,
                "0+100x40",
            ),
        ],
        at: "30m",
        labels: OF_CLUSTER,
        value: "2.35",
    },
    Case {
        alert: "WeirGroupLagObjectiveBreached",
        wrong: &[(
            r#"weir_operator_group_lag_objective_breached{namespace="market",cluster="shop",group="readers"}"#,
            "1x20",
        )],
        well: &[(
            r#"weir_operator_group_lag_objective_breached{namespace="market",cluster="shop",group="readers"}"#,
            "0x8 1 1 0x10",
        )],
        at: "10m",
        labels: OF_GROUP,
        value: "1",
    },
    // Somebody has paused it.
    Case {
        alert: "WeirGroupLagObjectiveBreached",
        wrong: &[
            (
                r#"weir_operator_group_lag_objective_breached{namespace="market",cluster="shop",group="readers"}"#,
                "1x20",
            ),
            (
                r#"weir_operator_group_paused{namespace="market",cluster="shop",group="readers"}"#,
                "0x20",
            ),
        ],
        well: &[
            (
                r#"weir_operator_group_lag_objective_breached{namespace="market",cluster="shop",group="readers"}"#,
                "1x20",
            ),
            (
                r#"weir_operator_group_paused{namespace="market",cluster="shop",group="readers"}"#,
                "1x20",
            ),
        ],
        at: "10m",
        labels: OF_GROUP,
        value: "1",
    },
    Case {
        alert: "WeirGroupStalled",
        wrong: &[
            (
                r#"weir_operator_group_lag_records{namespace="market",cluster="shop",group="readers"}"#,
                "100x40",
            ),
            (
                r#"weir_operator_group_committed_offsets{namespace="market",cluster="shop",group="readers"}"#,
                "7x40",
            ),
            // It goes on for long enough, and hangs.
            (
                r#"weir_operator_group_paused{namespace="market",cluster="shop",group="readers"}"#,
                "1x20 0x20",
            ),
        ],
        well: &[
            (
                r#"weir_operator_group_lag_records{namespace="market",cluster="shop",group="readers"}"#,
                "100x40",
            ),
            (
                r#"weir_operator_group_committed_offsets{namespace="market",cluster="shop",group="readers"}"#,
                "7x40",
            ),
            (
                r#"weir_operator_group_paused{namespace="market",cluster="shop",group="readers"}"#,
                "1x40",
            ),
        ],
        at: "30m",
        labels: OF_GROUP,
        value: "100",
    },
    Case {
        alert: "WeirGroupStalled",
        wrong: &[
            (
                r#"weir_operator_group_lag_records{namespace="market",cluster="shop",group="readers"}"#,
                "100x40",
            ),
            (
                r#"weir_operator_group_committed_offsets{namespace="market",cluster="shop",group="readers"}"#,
                "7x40",
            ),
        ],
        // It stays as far behind, and moves.
        well: &[
            (
                r#"weir_operator_group_lag_records{namespace="market",cluster="shop",group="readers"}"#,
                "100x40",
            ),
            (
                r#"weir_operator_group_committed_offsets{namespace="market",cluster="shop",group="readers"}"#,
                "7+5x40",
            ),
        ],
        at: "30m",
        labels: OF_GROUP,
        value: "100",
    },
    Case {
        alert: "WeirQueueFillingUp",
        // One bound for the topic, told once; the backlog lies on two brokers.
        wrong: &[
            (
                r#"weir_topic_queue_backlog_messages{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
                "500x40",
            ),
            (
                r#"weir_topic_queue_backlog_messages{namespace="market",cluster="shop",pod="b",topic="orders"}"#,
                "400x40",
            ),
            (
                r#"weir_topic_queue_bound_messages{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
                "1000x40",
            ),
        ],
        well: &[
            (
                r#"weir_topic_queue_backlog_messages{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
                "500x40",
            ),
            (
                r#"weir_topic_queue_bound_messages{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
                "1000x40",
            ),
        ],
        at: "20m",
        labels: OF_TOPIC,
        value: "90%",
    },
    Case {
        alert: "WeirOldestMessageTooOld",
        wrong: &[
            (
                r#"weir_share_oldest_unsettled_seconds{namespace="market",cluster="shop",pod="a",group="packers",topic="orders"}"#,
                "600x40",
            ),
            (
                r#"weir_operator_group_objective_seconds{namespace="market",cluster="shop",group="packers"}"#,
                "300x40",
            ),
        ],
        // A group without an objective may take its time.
        well: &[
            (
                r#"weir_share_oldest_unsettled_seconds{namespace="market",cluster="shop",pod="a",group="archivers",topic="orders"}"#,
                "600x40",
            ),
            (
                r#"weir_operator_group_objective_seconds{namespace="market",cluster="shop",group="packers"}"#,
                "300x40",
            ),
        ],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("group", "packers"),
        ],
        value: "600",
    },
    Case {
        alert: "WeirMessagesParked",
        wrong: &[(
            r#"weir_share_parked_messages{namespace="market",cluster="shop",pod="a",group="packers",topic="orders"}"#,
            "7x90",
        )],
        // Retries that succeed.
        well: &[(
            r#"weir_share_parked_messages{namespace="market",cluster="shop",pod="a",group="packers",topic="orders"}"#,
            "90-1x90",
        )],
        at: "60m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("group", "packers"),
            ("topic", "orders"),
        ],
        value: "7",
    },
    Case {
        alert: "WeirViewBehind",
        wrong: &[(
            r#"weir_topic_view_lag_seconds{namespace="market",cluster="shop",pod="a",topic="refunds"}"#,
            "0+60x40",
        )],
        // It catches up with a burst.
        well: &[(
            r#"weir_topic_view_lag_seconds{namespace="market",cluster="shop",pod="a",topic="refunds"}"#,
            "0+60x8 0x32",
        )],
        at: "30m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("topic", "refunds"),
        ],
        value: "1800",
    },
    Case {
        alert: "WeirHalfMessagesUndecided",
        wrong: &[
            (
                r#"weir_half_messages_oldest_undecided_seconds{namespace="market",cluster="shop",pod="shop-broker-0"}"#,
                "0x30",
            ),
            (
                r#"weir_half_messages_oldest_undecided_seconds{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
                "3600+60x30",
            ),
        ],
        well: &[(
            r#"weir_half_messages_oldest_undecided_seconds{namespace="market",cluster="shop",pod="shop-broker-1"}"#,
            "3400+60x8 0x22",
        )],
        at: "20m",
        labels: OF_CLUSTER,
        value: "4800",
    },
    Case {
        alert: "WeirHalfMessageInDoubt",
        wrong: &[(
            r#"weir_half_messages_total{namespace="market",cluster="shop",event="in_doubt"}"#,
            "0x5 1x25",
        )],
        well: &[
            (
                r#"weir_half_messages_total{namespace="market",cluster="shop",event="in_doubt"}"#,
                "3x30",
            ),
            (
                r#"weir_half_messages_total{namespace="market",cluster="shop",event="committed"}"#,
                "0+10x30",
            ),
        ],
        at: "20m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        alert: "WeirDeadLettersGrowing",
        wrong: &[(
            r#"weir_topic_dead_letters_total{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
            "0+60x40",
        )],
        well: &[(
            r#"weir_topic_dead_letters_total{namespace="market",cluster="shop",pod="a",topic="orders"}"#,
            "60x40",
        )],
        at: "30m",
        labels: OF_TOPIC,
        value: "1",
    },
    Case {
        alert: "WeirOperatorDown",
        wrong: &[(r#"weir_operator_leader{pod="weir-operator-a"}"#, "0x20")],
        // It fails over.
        well: &[
            (r#"weir_operator_leader{pod="weir-operator-a"}"#, "1x5 0x15"),
            (r#"weir_operator_leader{pod="weir-operator-b"}"#, "0x7 1x13"),
        ],
        at: "10m",
        labels: &[],
        value: "0",
    },
    Case {
        alert: "WeirClusterNotReady",
        wrong: &[(
            r#"weir_operator_cluster_ready{namespace="market",cluster="shop"}"#,
            "0x40",
        )],
        well: &[(
            r#"weir_operator_cluster_ready{namespace="market",cluster="shop"}"#,
            "0x10 1x30",
        )],
        at: "20m",
        labels: OF_CLUSTER,
        value: "0",
    },
    Case {
        alert: "WeirClusterStalled",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="CertificatesUnusable"}"#,
            "1x40",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="Paused"}"#,
            "1x40",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "CertificatesUnusable"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirClusterStalled",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="NameTaken"}"#,
            "1x40",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="NameTaken"}"#,
            "1x10 0x30",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "NameTaken"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirClusterStalled",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="DrainAnnotationInvalid"}"#,
            "1x40",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="DrainAnnotationInvalid"}"#,
            "1x10 0x30",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "DrainAnnotationInvalid"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirTopicsStalled",
        wrong: &[(
            r#"weir_operator_topics_stalled{namespace="market",cluster="shop"}"#,
            "1x10 2x30",
        )],
        well: &[(
            r#"weir_operator_topics_stalled{namespace="market",cluster="shop"}"#,
            "2x10 0x30",
        )],
        at: "20m",
        labels: OF_CLUSTER,
        value: "2",
    },
    Case {
        alert: "WeirReconcileStuck",
        wrong: &[(
            r#"weir_operator_failed_reconciles{namespace="market",cluster="shop",kind="topics"}"#,
            "1+1x40",
        )],
        well: &[(
            r#"weir_operator_failed_reconciles{namespace="market",cluster="shop",kind="topics"}"#,
            "1 2 3 0 1 0x35",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("kind", "topics"),
        ],
        value: "21",
    },
    Case {
        alert: "WeirScaleDownBlocked",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="ScaleDownReplicationFactor"}"#,
            "1x40",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="Draining"}"#,
            "1x40",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "ScaleDownReplicationFactor"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirListenersPending",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="ListenerAddressMissing"}"#,
            "1x40",
        )],
        // A load balancer takes some minutes.
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="ListenerAddressMissing"}"#,
            "1x10 stale",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "ListenerAddressMissing"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirDowngradeRefused",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="DowngradeRefused"}"#,
            "1x20",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="FinalizeWaits"}"#,
            "1x20",
        )],
        at: "10m",
        labels: OF_CLUSTER,
        value: "1",
    },
    Case {
        alert: "WeirBrokerLost",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="LostProofMissing"}"#,
            "1x40",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="Healing"}"#,
            "1x40",
        )],
        at: "20m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "LostProofMissing"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirRollBlocked",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="QuorumAtRisk"}"#,
            "1x60",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="QuorumAtRisk"}"#,
            "1x20 stale",
        )],
        at: "40m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "QuorumAtRisk"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirStorageStuck",
        wrong: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="StorageAtMaximum"}"#,
            "1x60",
        )],
        well: &[(
            r#"weir_operator_blocked{namespace="market",cluster="shop",gate="StorageResizing"}"#,
            "1x60",
        )],
        at: "40m",
        labels: &[
            ("namespace", "market"),
            ("cluster", "shop"),
            ("gate", "StorageAtMaximum"),
        ],
        value: "1",
    },
    Case {
        alert: "WeirReassignmentStuck",
        wrong: &[(
            r#"weir_operator_moving_partitions{namespace="market",cluster="shop"}"#,
            "5x90",
        )],
        well: &[(
            r#"weir_operator_moving_partitions{namespace="market",cluster="shop"}"#,
            "90-1x90",
        )],
        at: "80m",
        labels: OF_CLUSTER,
        value: "5",
    },
    Case {
        alert: "WeirVotersMissing",
        wrong: &[(
            r#"weir_operator_voters_missing{namespace="market",cluster="shop"}"#,
            "2x40",
        )],
        // A cluster that has just been formed.
        well: &[(
            r#"weir_operator_voters_missing{namespace="market",cluster="shop"}"#,
            "2x5 0x40",
        )],
        at: "20m",
        labels: OF_CLUSTER,
        value: "2",
    },
    Case {
        alert: "WeirCertificateExpiring",
        wrong: &[(
            r#"weir_operator_certificate_expiry_timestamp_seconds{namespace="market",cluster="shop"}"#,
            "864000x90",
        )],
        well: &[(
            r#"weir_operator_certificate_expiry_timestamp_seconds{namespace="market",cluster="shop"}"#,
            "8640000x90",
        )],
        at: "80m",
        labels: OF_CLUSTER,
        value: "859200",
    },
];

/// Each case with its alert.
pub fn all() -> impl Iterator<Item = (&'static Alert, Case)> {
    CASES.iter().filter_map(|case| {
        let alert = alerts::all().find(|alert| alert.name == case.alert)?;
        Some((alert, *case))
    })
}
