//! The alerts.
//!
//! Each is about one cluster (labels `namespace` and `cluster`, which the scrape configuration gives to the brokers' metrics), says what it means
//! for clients, and has a page of the same name in `docs/runbooks/`. What is wrong for longer than a restart takes is critical when clients
//! notice it, and a warning when they will.
//!
//! What compares brokers' metrics with the operator's does so also where a Prometheus without `honor_labels` has called the namespace that the operator
//! speaks of `exported_namespace`: it would find no brokers in the operator's own, and say that all are down.

/// How soon somebody has to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// At once: clients notice.
    Critical,
    /// Today: clients will.
    Warning,
}

impl Severity {
    /// The label's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
        }
    }
}

/// One alert.
#[derive(Debug, Clone, Copy)]
pub struct Alert {
    /// Begins with `Weir`; its page is `docs/runbooks/<name>.md`.
    pub name: &'static str,
    /// How soon somebody has to look.
    pub severity: Severity,
    /// True while something is wrong.
    pub expression: &'static str,
    /// How long it has to be.
    pub lasts: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What is wrong, and what it means for clients.
    pub description: &'static str,
}

const fn alert(
    name: &'static str,
    severity: Severity,
    lasts: &'static str,
    expression: &'static str,
    summary: &'static str,
    description: &'static str,
) -> Alert {
    Alert {
        name,
        severity,
        expression,
        lasts,
        summary,
        description,
    }
}

use Severity::{Critical, Warning};

/// Alerts about brokers and their data.
pub const CLUSTER: &[Alert] = &[
    alert(
        "WeirOfflinePartitions",
        Critical,
        "1m",
        "max by (namespace, cluster) (weir_offline_partitions) > 0",
        "Partitions of {{ $labels.cluster }} have no leader",
        "{{ $value }} partitions of cluster {{ $labels.namespace }}/{{ $labels.cluster }} have no leader: they can be neither written nor read.",
    ),
    alert(
        "WeirUnderMinIsr",
        Critical,
        "2m",
        "sum by (namespace, cluster) (weir_under_min_in_sync_partitions) > 0",
        "Partitions of {{ $labels.cluster }} take no writes",
        "{{ $value }} partitions of cluster {{ $labels.namespace }}/{{ $labels.cluster }} have fewer in-sync replicas than min.insync.replicas: writes with acks=all are refused.",
    ),
    alert(
        "WeirUnderReplicated",
        Warning,
        "15m",
        "sum by (namespace, cluster) (weir_under_replicated_partitions) > 0",
        "Partitions of {{ $labels.cluster }} lack replicas",
        "{{ $value }} partitions of cluster {{ $labels.namespace }}/{{ $labels.cluster }} have had fewer in-sync replicas than replicas for 15 minutes: the next failure may stop writes.",
    ),
    // As the controller sees it: a broker that hears nothing goes on saying that all are alive, and if it was the controller itself, that it is.
    alert(
        "WeirBrokerDown",
        Critical,
        "3m",
        "max by (namespace, cluster) (label_replace(weir_operator_brokers_wanted, \"namespace\", \"$1\", \"exported_namespace\", \"(.+)\")) - on (namespace, cluster) (min by (namespace, cluster) (weir_live_brokers and on (namespace, cluster, pod) weir_controller == 1) or max by (namespace, cluster) (weir_live_brokers)) > 0 or max by (namespace, cluster) (label_replace(weir_operator_brokers_wanted, \"namespace\", \"$1\", \"exported_namespace\", \"(.+)\")) unless on (namespace, cluster) weir_live_brokers",
        "{{ $value }} brokers of {{ $labels.cluster }} are down",
        "{{ $value }} brokers of cluster {{ $labels.namespace }}/{{ $labels.cluster }} that should run are not alive as the controller sees it.",
    ),
    alert(
        "WeirNoController",
        Critical,
        "1m",
        "max by (namespace, cluster) (weir_controller) == 0",
        "{{ $labels.cluster }} has no controller",
        "No broker of cluster {{ $labels.namespace }}/{{ $labels.cluster }} is the controller: a majority of the quorum's voters is missing. What has a leader goes on; nothing is elected, created or changed.",
    ),
    alert(
        "WeirDiskFillingUp",
        Warning,
        "15m",
        "weir_disk_available_bytes / weir_disk_bytes < 0.25 and predict_linear(weir_disk_available_bytes[6h], 86400) < 0",
        "The disk of {{ $labels.pod }} will be full within a day",
        "{{ $value | humanizePercentage }} of the disk of broker {{ $labels.pod }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} are left, and at the rate of the last six hours they are gone within a day.",
    ),
    alert(
        "WeirDiskAlmostFull",
        Critical,
        "5m",
        "weir_disk_available_bytes / weir_disk_bytes < 0.05",
        "The disk of {{ $labels.pod }} is almost full",
        "{{ $value | humanizePercentage }} of the disk of broker {{ $labels.pod }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} are left. A broker whose disk is full takes no writes.",
    ),
    alert(
        "WeirDamagedPartitions",
        Critical,
        "1m",
        "weir_damaged_partitions > 0",
        "{{ $labels.pod }} has damaged partitions",
        "{{ $value }} partitions on broker {{ $labels.pod }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} have lost bytes that were durable, or cannot be opened. Where there are other replicas they are fetched again.",
    ),
    alert(
        "WeirCompactionStopped",
        Warning,
        "30m",
        "weir_uncleanable_partitions > 0",
        "{{ $labels.pod }} leaves partitions uncompacted",
        "{{ $value }} compacted partitions on broker {{ $labels.pod }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} are left alone by compaction because it met damage: they grow.",
    ),
    alert(
        "WeirProduceSlow",
        Warning,
        "15m",
        "histogram_quantile(0.99, sum by (namespace, cluster, le) (rate(weir_request_duration_seconds_bucket{api=\"Produce\"}[5m]))) > 1",
        "Writes to {{ $labels.cluster }} are slow",
        "One in a hundred Produce requests to cluster {{ $labels.namespace }}/{{ $labels.cluster }} has taken more than a second for 15 minutes.",
    ),
];

/// Alerts about consumer groups that have a ConsumerGroup resource.
pub const GROUPS: &[Alert] = &[
    alert(
        "WeirGroupLagObjectiveBreached",
        Warning,
        "5m",
        "max by (namespace, cluster, group) (weir_operator_group_lag_objective_breached) == 1 unless on (namespace, cluster, group) weir_operator_group_paused == 1",
        "{{ $labels.group }} is further behind than its objective allows",
        "The group of ConsumerGroup {{ $labels.namespace }}/{{ $labels.group }} has been further behind than its spec.lagObjective allows for 5 minutes.",
    ),
    alert(
        "WeirGroupStalled",
        Warning,
        "5m",
        "max by (namespace, cluster, group) (weir_operator_group_lag_records) > 0 and max by (namespace, cluster, group) (changes(weir_operator_group_committed_offsets[15m])) == 0 unless on (namespace, cluster, group) weir_operator_group_paused == 1",
        "{{ $labels.group }} does not move",
        "The group of ConsumerGroup {{ $labels.namespace }}/{{ $labels.group }} has {{ $value }} records to read and has committed nothing for 15 minutes.",
    ),
];

/// Alerts about topics that are queues.
pub const QUEUES: &[Alert] = &[
    alert(
        "WeirQueueFull",
        Warning,
        "10m",
        "sum by (namespace, cluster, topic) (rate(weir_topic_queue_refused_batches_total[5m])) > 0",
        "The queue {{ $labels.topic }} is full",
        "Topic {{ $labels.topic }} of cluster {{ $labels.namespace }}/{{ $labels.cluster }} has refused producers for 10 minutes: as much of it is unsettled as its bound allows.",
    ),
    alert(
        "WeirQueueFillingUp",
        Warning,
        "10m",
        "sum by (namespace, cluster, topic) (weir_topic_queue_backlog_messages) / sum by (namespace, cluster, topic) (weir_topic_queue_bound_messages) > 0.8 or sum by (namespace, cluster, topic) (weir_topic_queue_backlog_bytes) / sum by (namespace, cluster, topic) (weir_topic_queue_bound_bytes) > 0.8",
        "The queue {{ $labels.topic }} is almost full",
        "{{ $value | humanizePercentage }} of what topic {{ $labels.topic }} of cluster {{ $labels.namespace }}/{{ $labels.cluster }} may have unsettled is there: producers are refused when it is all.",
    ),
    alert(
        "WeirOldestMessageTooOld",
        Warning,
        "5m",
        "max by (namespace, cluster, group) (weir_share_oldest_unsettled_seconds) > on (namespace, cluster, group) max by (namespace, cluster, group) (label_replace(weir_operator_group_objective_seconds, \"namespace\", \"$1\", \"exported_namespace\", \"(.+)\"))",
        "A message for {{ $labels.group }} has waited for longer than its objective allows",
        "The oldest message that share group {{ $labels.group }} of cluster {{ $labels.namespace }}/{{ $labels.cluster }} has not settled is {{ $value }} seconds old, more than the lagObjective of its ConsumerGroup allows.",
    ),
    alert(
        "WeirMessagesParked",
        Warning,
        "30m",
        "sum by (namespace, cluster, group, topic) (weir_share_parked_messages) > 0 and max by (namespace, cluster, group, topic) (delta(weir_share_parked_messages[15m])) >= 0",
        "Messages of {{ $labels.topic }} fail again and again",
        "{{ $value }} messages of topic {{ $labels.topic }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} failed for share group {{ $labels.group }} and wait for another try; for 30 minutes they have not become fewer.",
    ),
    alert(
        "WeirViewBehind",
        Warning,
        "10m",
        "max by (namespace, cluster, topic) (weir_topic_view_lag_seconds) > 300",
        "View {{ $labels.topic }} is behind its source",
        "For {{ $value }} seconds view {{ $labels.topic }} of cluster {{ $labels.namespace }}/{{ $labels.cluster }} has not had everything that is committed in the topic that it is a view of. Its consumers see old messages; none is lost.",
    ),
    alert(
        "WeirDeadLettersGrowing",
        Warning,
        "10m",
        "sum by (namespace, cluster, topic) (rate(weir_topic_dead_letters_total[10m])) > 0 or sum by (namespace, cluster, topic) (rate(weir_topic_dead_letters_dropped_total[10m])) > 0",
        "Messages of {{ $labels.topic }} are given up",
        "Share groups have given up messages of topic {{ $labels.topic }} in cluster {{ $labels.namespace }}/{{ $labels.cluster }} for 10 minutes, {{ $value | humanize }} a second. Each is a dead letter, or, where the topic for these is missing, gone.",
    ),
    alert(
        "WeirHalfMessagesUndecided",
        Warning,
        "10m",
        "max by (namespace, cluster) (weir_half_messages_oldest_undecided_seconds) > 3600",
        "A transaction of half messages waits to be decided",
        "For {{ $value }} seconds the oldest transaction of half messages of cluster {{ $labels.namespace }}/{{ $labels.cluster }} has been neither committed nor rolled back: nobody sees its messages, and producers of its group do not say what became of it.",
    ),
    alert(
        "WeirHalfMessageInDoubt",
        Warning,
        "1m",
        r#"sum by (namespace, cluster) (increase(weir_half_messages_total{event="in_doubt"}[1h])) > 0"#,
        "It is not known whether a transaction of half messages was published",
        "Of {{ $value | humanize }} transactions of half messages of cluster {{ $labels.namespace }}/{{ $labels.cluster }} it is not known whether they were published. They are not published again.",
    ),
];

/// Alerts about what the operator does, or cannot.
pub const OPERATOR: &[Alert] = &[
    alert(
        "WeirOperatorDown",
        Critical,
        "5m",
        "max(weir_operator_leader) == 0 or absent(weir_operator_leader)",
        "No operator works",
        "No process of the operator holds the lease. Clusters go on as they are; nothing that is changed in their resources happens, and no broker that is lost is replaced.",
    ),
    alert(
        "WeirClusterNotReady",
        Warning,
        "15m",
        "max by (namespace, cluster) (weir_operator_cluster_ready) == 0",
        "{{ $labels.cluster }} is not Ready",
        "The condition Ready of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} has not been True for 15 minutes; its message says why.",
    ),
    alert(
        "WeirClusterStalled",
        Warning,
        "15m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"CertificatesUnusable|DrainAnnotationInvalid|NameTaken|RackNotSupported\"}) == 1",
        "{{ $labels.cluster }} needs a person",
        "{{ $labels.gate }} has held something of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} for 15 minutes, and does until somebody changes what is in its way. The condition Stalled says what.",
    ),
    alert(
        "WeirTopicsStalled",
        Warning,
        "15m",
        "max by (namespace, cluster) (weir_operator_topics_stalled) > 0",
        "Topics of {{ $labels.cluster }} are not as asked for",
        "{{ $value }} Topics of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} have not been carried out for 15 minutes, and are not until somebody changes them or what is in their way. Their condition Stalled says what.",
    ),
    alert(
        "WeirReconcileStuck",
        Warning,
        "15m",
        "max by (namespace, cluster, kind) (weir_operator_failed_reconciles) > 0",
        "Work on {{ $labels.cluster }} fails",
        "{{ $value }} passes over {{ $labels.kind }} of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} have failed one after the other for 15 minutes.",
    ),
    alert(
        "WeirScaleDownBlocked",
        Warning,
        "15m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"ScaleDown.*\"}) == 1",
        "{{ $labels.cluster }} cannot be scaled down",
        "Cluster {{ $labels.namespace }}/{{ $labels.cluster }} is to have fewer brokers, and {{ $labels.gate }} says no. Nothing was removed.",
    ),
    alert(
        "WeirListenersPending",
        Warning,
        "15m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"Listener.*\"}) == 1",
        "Clients of {{ $labels.cluster }} cannot come by a listener",
        "{{ $labels.gate }} has held listeners of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} for 15 minutes: by these, some brokers cannot be reached, or are told of by an address that is none.",
    ),
    alert(
        "WeirDowngradeRefused",
        Warning,
        "5m",
        "max by (namespace, cluster) (weir_operator_blocked{gate=~\"DowngradeRefused\"}) == 1",
        "{{ $labels.cluster }} cannot run the image that it is to run",
        "The image of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} knows less than the cluster uses already. No pod was touched: brokers go on with the image that they have, and so does one that is restarted.",
    ),
    alert(
        "WeirBrokerLost",
        Warning,
        "15m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"Lost.*\"}) == 1",
        "A broker of {{ $labels.cluster }} may have lost its disk",
        "A broker of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} has been away with the node of its volume for 15 minutes, and {{ $labels.gate }} holds its getting an empty disk. Its partitions have a replica less.",
    ),
    alert(
        "WeirRollBlocked",
        Warning,
        "30m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"BrokersNotReady|BrokersNotSeen|QuorumAtRisk|PartitionWouldFallBelowMinimum\"}) == 1",
        "Brokers of {{ $labels.cluster }} wait to be restarted",
        "Brokers of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} run what is no longer wanted, and {{ $labels.gate }} has held their restart for 30 minutes.",
    ),
    alert(
        "WeirStorageStuck",
        Warning,
        "30m",
        "max by (namespace, cluster, gate) (weir_operator_blocked{gate=~\"StorageResizePending|StorageAtMaximum\"}) == 1",
        "Volumes of {{ $labels.cluster }} cannot grow",
        "Volumes of Cluster {{ $labels.namespace }}/{{ $labels.cluster }} should be larger, and {{ $labels.gate }} holds them.",
    ),
    alert(
        "WeirReassignmentStuck",
        Warning,
        "30m",
        "max by (namespace, cluster) (weir_operator_moving_partitions) > 0 and max by (namespace, cluster) (changes(weir_operator_moving_partitions[30m])) == 0",
        "Replicas of {{ $labels.cluster }} do not arrive",
        "{{ $value }} partitions of cluster {{ $labels.namespace }}/{{ $labels.cluster }} are being moved, and that number has not changed for 30 minutes.",
    ),
    alert(
        "WeirVotersMissing",
        Warning,
        "15m",
        "max by (namespace, cluster) (weir_operator_voters_missing) > 0",
        "Fewer brokers of {{ $labels.cluster }} vote than should",
        "{{ $value }} brokers of cluster {{ $labels.namespace }}/{{ $labels.cluster }} should vote in the metadata quorum and have not for 15 minutes: until they do, the loss of another disk may be the loss of the metadata.",
    ),
    alert(
        "WeirCertificateExpiring",
        Warning,
        "1h",
        "min by (namespace, cluster) (weir_operator_certificate_expiry_timestamp_seconds) - time() < 2592000",
        "A certificate of {{ $labels.cluster }} ends soon",
        "A certificate of cluster {{ $labels.namespace }}/{{ $labels.cluster }} ends within 30 days. It should have been renewed months ago: brokers will not speak to each other after that.",
    ),
];

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Alert> {
    let brokers = CLUSTER.iter().chain(GROUPS).chain(QUEUES);
    brokers.chain(OPERATOR)
}
