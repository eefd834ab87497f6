//! Grafana's dashboards: cluster, topics, consumer groups, queues, operator.
//!
//! Each panel is a title, a unit and expressions; where it stands follows from its place in the list.

use serde_json::{Value, json};

/// A dashboard.
#[derive(Debug)]
pub struct Dashboard {
    /// Its file, without extension; its uid too.
    pub name: &'static str,
    /// What people see.
    pub title: &'static str,
    /// Variables beyond the data source and the cluster: name and expression.
    pub variables: &'static [(&'static str, &'static str)],
    /// In the order in which they stand, two in a row.
    pub panels: &'static [Panel],
}

/// A chart over time.
#[derive(Debug)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// Grafana's name of the unit.
    pub unit: &'static str,
    /// Legends and expressions.
    pub queries: &'static [(&'static str, &'static str)],
}

const fn panel(
    title: &'static str,
    unit: &'static str,
    queries: &'static [(&'static str, &'static str)],
) -> Panel {
    Panel {
        title,
        unit,
        queries,
    }
}

/// All dashboards.
pub const ALL: &[Dashboard] = &[
    Dashboard {
        name: "weir-cluster",
        title: "Weir: cluster",
        variables: &[],
        panels: &[
            panel(
                "Brokers",
                "short",
                &[
                    (
                        "alive",
                        r#"min(weir_live_brokers{namespace="$namespace",cluster="$cluster"} and on (pod) weir_controller{namespace="$namespace",cluster="$cluster"} == 1) or max(weir_live_brokers{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "wanted",
                        r#"max(weir_operator_brokers_wanted{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "controllers",
                        r#"sum(weir_controller{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                ],
            ),
            panel(
                "Partitions that need care",
                "short",
                &[
                    (
                        "offline",
                        r#"max(weir_offline_partitions{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "under minimum",
                        r#"sum(weir_under_min_in_sync_partitions{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "under-replicated",
                        r#"sum(weir_under_replicated_partitions{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "moving",
                        r#"sum(weir_moving_partitions{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "damaged",
                        r#"sum(weir_damaged_partitions{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                ],
            ),
            panel(
                "Written",
                "Bps",
                &[(
                    "{{pod}}",
                    r#"sum by (pod) (rate(weir_topic_produced_bytes_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Read by clients",
                "Bps",
                &[(
                    "{{pod}}",
                    r#"sum by (pod) (rate(weir_topic_fetched_bytes_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Produce, 99 of 100 within",
                "s",
                &[(
                    "{{pod}}",
                    r#"histogram_quantile(0.99, sum by (pod, le) (rate(weir_request_duration_seconds_bucket{namespace="$namespace",cluster="$cluster",api="Produce"}[5m])))"#,
                )],
            ),
            panel(
                "Durable, 99 of 100 within",
                "s",
                &[(
                    "{{pod}}",
                    r#"histogram_quantile(0.99, sum by (pod, le) (rate(weir_durable_duration_seconds_bucket{namespace="$namespace",cluster="$cluster"}[5m])))"#,
                )],
            ),
            panel(
                "Requests",
                "reqps",
                &[(
                    "{{api}}",
                    r#"sum by (api) (rate(weir_request_duration_seconds_count{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Connections",
                "short",
                &[(
                    "{{pod}}",
                    r#"weir_connections{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
            panel(
                "Disk left",
                "percentunit",
                &[(
                    "{{pod}}",
                    r#"weir_disk_available_bytes{namespace="$namespace",cluster="$cluster"} / weir_disk_bytes{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
            panel(
                "Disk left in a day, at the rate of six hours",
                "bytes",
                &[(
                    "{{pod}}",
                    r#"predict_linear(weir_disk_available_bytes{namespace="$namespace",cluster="$cluster"}[6h], 86400)"#,
                )],
            ),
            panel(
                "Replication",
                "Bps",
                &[
                    (
                        "sent by {{pod}}",
                        r#"rate(weir_replication_sent_bytes_total{namespace="$namespace",cluster="$cluster"}[5m])"#,
                    ),
                    (
                        "received by {{pod}}",
                        r#"rate(weir_replication_received_bytes_total{namespace="$namespace",cluster="$cluster"}[5m])"#,
                    ),
                ],
            ),
            panel(
                "Partitions and leaders",
                "short",
                &[
                    (
                        "on {{pod}}",
                        r#"weir_partitions{namespace="$namespace",cluster="$cluster"}"#,
                    ),
                    (
                        "led by {{pod}}",
                        r#"weir_partition_leaders{namespace="$namespace",cluster="$cluster"}"#,
                    ),
                ],
            ),
            panel(
                "Memory",
                "bytes",
                &[
                    (
                        "resident, {{pod}}",
                        r#"weir_resident_memory_bytes{namespace="$namespace",cluster="$cluster"}"#,
                    ),
                    (
                        "requests, {{pod}}",
                        r#"weir_request_memory_bytes{namespace="$namespace",cluster="$cluster"}"#,
                    ),
                ],
            ),
            panel(
                "Metadata applied",
                "short",
                &[(
                    "{{pod}}",
                    r#"weir_metadata_index{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
        ],
    },
    Dashboard {
        name: "weir-topics",
        title: "Weir: topics",
        variables: &[(
            "topic",
            r#"label_values(weir_topic_produced_bytes_total{namespace="$namespace",cluster="$cluster"}, topic)"#,
        )],
        panels: &[
            panel(
                "Written",
                "Bps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_produced_bytes_total{namespace="$namespace",cluster="$cluster",topic=~"$topic"}[5m]))"#,
                )],
            ),
            panel(
                "Records written",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_produced_records_total{namespace="$namespace",cluster="$cluster",topic=~"$topic"}[5m]))"#,
                )],
            ),
            panel(
                "Read by clients",
                "Bps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_fetched_bytes_total{namespace="$namespace",cluster="$cluster",topic=~"$topic"}[5m]))"#,
                )],
            ),
            panel(
                "Batches refused",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_produce_errors_total{namespace="$namespace",cluster="$cluster",topic=~"$topic"}[5m]))"#,
                )],
            ),
            panel(
                "Queues: messages that are not settled",
                "short",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (weir_topic_queue_backlog_messages{namespace="$namespace",cluster="$cluster",topic=~"$topic"})"#,
                )],
            ),
            panel(
                "Queues: batches refused since they were full",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_queue_refused_batches_total{namespace="$namespace",cluster="$cluster",topic=~"$topic"}[5m]))"#,
                )],
            ),
            panel(
                "Data",
                "bytes",
                &[(
                    "{{pod}}",
                    r#"weir_log_bytes{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
            panel(
                "Compaction: part of the logs yet to be looked at",
                "percentunit",
                &[(
                    "{{pod}}",
                    r#"weir_compaction_dirty_ratio_max{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
        ],
    },
    Dashboard {
        name: "weir-consumer-groups",
        title: "Weir: consumer groups",
        variables: &[(
            "group",
            r#"label_values(weir_group_members{namespace="$namespace",cluster="$cluster"}, group)"#,
        )],
        panels: &[
            panel(
                "Records yet to be read",
                "short",
                &[(
                    "{{group}} in {{topic}}",
                    r#"max by (group, topic) (weir_group_lag_records{namespace="$namespace",cluster="$cluster",group=~"$group"})"#,
                )],
            ),
            panel(
                "Age of the oldest of them",
                "s",
                &[(
                    "{{group}} in {{topic}}",
                    r#"max by (group, topic) (weir_group_lag_seconds{namespace="$namespace",cluster="$cluster",group=~"$group"})"#,
                )],
            ),
            // The operator names groups after their resources, brokers by their ids: what is chosen above is an id.
            panel(
                "Records read, by ConsumerGroup",
                "cps",
                &[(
                    "{{group}}",
                    r#"max by (group) (deriv(weir_operator_group_committed_offsets{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Members",
                "short",
                &[(
                    "{{group}}",
                    r#"max by (group) (weir_group_members{namespace="$namespace",cluster="$cluster",group=~"$group"})"#,
                )],
            ),
            panel(
                "Behind the objective, by ConsumerGroup",
                "bool_yes_no",
                &[(
                    "{{group}}",
                    r#"max by (group) (weir_operator_group_lag_objective_breached{namespace="$namespace",cluster="$cluster"})"#,
                )],
            ),
            panel(
                "Groups by state",
                "short",
                &[(
                    "{{state}}",
                    r#"sum by (state) (weir_groups{namespace="$namespace",cluster="$cluster"})"#,
                )],
            ),
        ],
    },
    Dashboard {
        name: "weir-queues",
        title: "Weir: queues",
        variables: &[(
            "topic",
            r#"label_values(weir_share_oldest_unsettled_seconds{namespace="$namespace",cluster="$cluster"}, topic)"#,
        )],
        panels: &[
            panel(
                "Oldest message that is not settled",
                "s",
                &[(
                    "{{group}} in {{topic}}",
                    r#"max by (group, topic) (weir_share_oldest_unsettled_seconds{namespace="$namespace",cluster="$cluster",topic=~"$topic"})"#,
                )],
            ),
            panel(
                "Failed, and waiting for another try",
                "short",
                &[(
                    "{{group}} in {{topic}}",
                    r#"sum by (group, topic) (weir_share_parked_messages{namespace="$namespace",cluster="$cluster",topic=~"$topic"})"#,
                )],
            ),
            panel(
                "Views: messages of the source not looked at yet",
                "short",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (weir_topic_view_lag_messages{namespace="$namespace",cluster="$cluster"})"#,
                )],
            ),
            panel(
                "Bounded queues: messages that are not settled",
                "short",
                &[
                    (
                        "{{topic}}",
                        r#"sum by (topic) (weir_topic_queue_backlog_messages{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "{{topic}}: bound",
                        r#"sum by (topic) (weir_topic_queue_bound_messages{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                ],
            ),
            panel(
                "Bounded queues: bytes that are not settled",
                "bytes",
                &[
                    (
                        "{{topic}}",
                        r#"sum by (topic) (weir_topic_queue_backlog_bytes{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "{{topic}}: bound",
                        r#"sum by (topic) (weir_topic_queue_bound_bytes{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                ],
            ),
            panel(
                "Batches refused by a bound",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_queue_refused_batches_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Given up",
                "cps",
                &[
                    (
                        "{{topic}}: dead letters",
                        r#"sum by (topic) (rate(weir_topic_dead_letters_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                    ),
                    (
                        "{{topic}}: without one",
                        r#"sum by (topic) (rate(weir_topic_dead_letters_dropped_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                    ),
                ],
            ),
            panel(
                "Delayed, and not due yet",
                "short",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (weir_delayed_messages{namespace="$namespace",cluster="$cluster"})"#,
                )],
            ),
            panel(
                "Seconds until the next is due",
                "s",
                &[(
                    "{{topic}}",
                    r#"min by (topic) (weir_delayed_next_due_timestamp_seconds{namespace="$namespace",cluster="$cluster"}) - time()"#,
                )],
            ),
            panel(
                "Not appended: a message with its id was there",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_deduplicated_messages_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Too old, and passed over",
                "cps",
                &[(
                    "{{topic}}",
                    r#"sum by (topic) (rate(weir_topic_expired_messages_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Streams of gRPC: messages taken, and out",
                "short",
                &[
                    (
                        "credit",
                        r#"sum(weir_subscribe_credit_messages{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "not settled",
                        r#"sum(weir_subscribe_outstanding_messages{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                    (
                        "streams",
                        r#"sum(weir_subscribe_streams{namespace="$namespace",cluster="$cluster"})"#,
                    ),
                ],
            ),
            panel(
                "Calls that are over",
                "cps",
                &[(
                    "{{outcome}}",
                    r#"sum by (outcome) (rate(weir_call_requests_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "A call, 99 of 100 within",
                "s",
                &[(
                    "replied",
                    r#"histogram_quantile(0.99, sum by (le) (rate(weir_call_duration_seconds_bucket{namespace="$namespace",cluster="$cluster"}[5m])))"#,
                )],
            ),
            panel(
                "Calls that wait for a reply",
                "short",
                &[(
                    "{{pod}}",
                    r#"weir_call_requests_waiting{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
            panel(
                "Half messages",
                "cps",
                &[(
                    "{{event}}",
                    r#"sum by (event) (rate(weir_half_messages_total{namespace="$namespace",cluster="$cluster"}[5m]))"#,
                )],
            ),
            panel(
                "Half messages that are not decided",
                "short",
                &[(
                    "{{pod}}",
                    r#"weir_half_messages_undecided{namespace="$namespace",cluster="$cluster"}"#,
                )],
            ),
            panel(
                "The oldest half message that is not decided",
                "s",
                &[(
                    "oldest",
                    r#"max(weir_half_messages_oldest_undecided_seconds{namespace="$namespace",cluster="$cluster"})"#,
                )],
            ),
        ],
    },
    Dashboard {
        name: "weir-operator",
        title: "Weir: operator",
        variables: &[],
        panels: &[
            panel(
                "Leads",
                "bool_yes_no",
                &[("{{pod}}", "weir_operator_leader")],
            ),
            panel(
                "Passes",
                "cps",
                &[(
                    "{{kind}} {{result}}",
                    "sum by (kind, result) (rate(weir_operator_reconciles_total[5m]))",
                )],
            ),
            panel(
                "A pass, 99 of 100 within",
                "s",
                &[(
                    "{{kind}}",
                    "histogram_quantile(0.99, sum by (kind, le) (rate(weir_operator_reconcile_duration_seconds_bucket[5m])))",
                )],
            ),
            panel(
                "Passes that failed one after the other",
                "short",
                &[(
                    "{{kind}} of {{cluster}}",
                    r#"max by (kind, cluster) (weir_operator_failed_reconciles{namespace="$namespace"})"#,
                )],
            ),
            panel(
                "Gates that block",
                "short",
                &[(
                    "{{gate}} of {{cluster}}",
                    r#"max by (gate, cluster) (weir_operator_blocked{namespace="$namespace"})"#,
                )],
            ),
            panel(
                "Clusters that are ready",
                "bool_yes_no",
                &[(
                    "{{cluster}}",
                    r#"max by (cluster) (weir_operator_cluster_ready{namespace="$namespace"})"#,
                )],
            ),
            panel(
                "Data on its way",
                "short",
                &[
                    (
                        "partitions of {{cluster}}",
                        r#"max by (cluster) (weir_operator_moving_partitions{namespace="$namespace"})"#,
                    ),
                    (
                        "brokers of {{cluster}} being emptied",
                        r#"max by (cluster) (weir_operator_draining_brokers{namespace="$namespace"})"#,
                    ),
                ],
            ),
            panel(
                "Topics changed, drift repaired",
                "cps",
                &[
                    (
                        "{{change}}",
                        "sum by (change) (rate(weir_operator_topic_changes_total[5m]))",
                    ),
                    (
                        "repaired: {{kind}}",
                        "sum by (kind) (rate(weir_operator_drift_repaired_total[5m]))",
                    ),
                ],
            ),
            panel(
                "Days until the first certificate ends",
                "d",
                &[(
                    "{{cluster}}",
                    r#"(min by (cluster) (weir_operator_certificate_expiry_timestamp_seconds{namespace="$namespace"}) - time()) / 86400"#,
                )],
            ),
        ],
    },
];

impl Dashboard {
    /// As Grafana imports it.
    #[must_use]
    pub fn json(&self) -> Value {
        let panels: Vec<Value> = (0..)
            .zip(self.panels)
            .map(|(at, panel)| panel.json(at))
            .collect();
        let mut variables = vec![
            json!({"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"}),
            variable(
                "namespace",
                "label_values(weir_live_brokers, namespace)",
                false,
            ),
            variable(
                "cluster",
                "label_values(weir_live_brokers{namespace=\"$namespace\"}, cluster)",
                false,
            ),
        ];
        variables.extend(
            self.variables
                .iter()
                .map(|(name, query)| variable(name, query, true)),
        );
        json!({
            "uid": self.name,
            "title": self.title,
            "description": "Generated from operator/src/watching/dashboards.rs.",
            "tags": ["weir"],
            "schemaVersion": 39,
            "editable": true,
            "refresh": "30s",
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": variables},
            "panels": panels,
        })
    }

    /// Every expression in it, those of its variables too.
    pub fn expressions(&self) -> impl Iterator<Item = &'static str> {
        let panels = self.panels.iter().flat_map(|panel| panel.queries);
        panels
            .chain(self.variables)
            .map(|(_, expression)| *expression)
    }
}

fn variable(name: &str, query: &str, several: bool) -> Value {
    json!({
        "name": name,
        "label": name,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "$datasource"},
        "query": {"query": query, "refId": "variable"},
        "refresh": 2,
        "sort": 1,
        "multi": several,
        "includeAll": several,
        "current": if several { json!({"text": "All", "value": "$__all"}) } else { json!({}) },
    })
}

impl Panel {
    fn json(&self, at: u32) -> Value {
        const WIDTH: u32 = 12;
        const HEIGHT: u32 = 8;
        let targets: Vec<Value> = ('A'..)
            .zip(self.queries)
            .map(|(id, (legend, expression))| {
                json!({"refId": id.to_string(), "expr": expression, "legendFormat": legend, "datasource": {"type": "prometheus", "uid": "$datasource"}})
            })
            .collect();
        json!({
            "id": at + 1,
            "type": "timeseries",
            "title": self.title,
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "gridPos": {"x": at % 2 * WIDTH, "y": at / 2 * HEIGHT, "w": WIDTH, "h": HEIGHT},
            "fieldConfig": {"defaults": {"unit": self.unit, "min": 0, "custom": {"fillOpacity": 10}}, "overrides": []},
            "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi", "sort": "desc"}},
            "targets": targets,
        })
    }
}
