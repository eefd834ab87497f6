//! Every metric of the broker, under Prometheus' conventions: names begin with `weir_` and end with their unit.
//!
//! One registry for each broker, so that several can live in one process. What changes with each request is counted where it
//! happens, through handles that were looked up before; what is a state is set when someone asks ([`crate::http`]).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use weir_groups::half::Event;

use crate::api::APIS;
use crate::grpc::OUTCOMES;

/// Topics with counters of their own. Those beyond it are counted together under [`OTHER_TOPICS`], so that a cluster of very many
/// topics does not make a scrape of many megabytes.
pub const TOPICS_MAX: usize = 1_000;

/// The label of topics that have no counters of their own.
pub const OTHER_TOPICS: &str = "_other";

/// From 50 µs, an append to a fast disk, to 10 s, the longest that clients commonly wait.
const LATENCY_SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 10.0,
];

/// All metrics of one broker.
#[derive(Debug)]
#[allow(missing_docs, reason = "each is documented by its help text in `new`")]
pub struct Metrics {
    registry: Described,
    pub connections: IntGauge,
    pub connections_opened: IntCounter,
    pub connections_refused: IntCounter,
    pub connections_aborted: IntCounterVec,
    pub request_memory: IntGauge,
    pub topics: TopicMetrics,
    pub durable_duration: Histogram,
    pub fatal_errors: IntCounter,
    pub replication_sent_bytes: IntCounter,
    pub replication_received_bytes: IntCounter,
    pub coordinator_panics: IntCounterVec,
    pub partitions: IntGauge,
    pub partition_leaders: IntGauge,
    pub offline_partitions: IntGauge,
    pub under_replicated_partitions: IntGauge,
    pub under_min_in_sync_partitions: IntGauge,
    pub moving_partitions: IntGauge,
    pub damaged_partitions: IntGauge,
    pub log_bytes: IntGauge,
    pub compaction_passes: Total,
    pub compaction_failures: Total,
    pub compaction_read_bytes: Total,
    pub compaction_written_bytes: Total,
    pub compaction_last_pass_seconds: IntGauge,
    pub compaction_dirty_ratio_max: Gauge,
    pub uncleanable_partitions: IntGauge,
    pub disk_available_bytes: IntGauge,
    pub disk_bytes: IntGauge,
    pub is_controller: IntGauge,
    pub metadata_index: IntGauge,
    pub live_brokers: IntGauge,
    pub fetch_sessions: IntGauge,
    pub fetch_session_partitions: IntGauge,
    pub fetch_sessions_evicted: Total,
    pub telemetry_clients: IntGauge,
    pub telemetry_dropped: Total,
    pub spans_sent: IntCounter,
    pub spans_dropped: IntCounter,
    pub groups: IntGaugeVec,
    /// Of groups that are coordinated here, as they were last looked at ([`crate::group_lag`]).
    pub group_lag_records: IntGaugeVec,
    pub group_lag_seconds: IntGaugeVec,
    pub group_members: IntGaugeVec,
    pub share_parked: IntGaugeVec,
    pub share_oldest: IntGaugeVec,
    pub calls: IntCounterVec,
    pub calls_waiting: IntGauge,
    pub call_duration: Histogram,
    pub subscribe_streams: IntGauge,
    pub subscribe_credit: IntGauge,
    pub subscribe_outstanding: IntGauge,
    pub half_messages: IntCounterVec,
    pub half_undecided: IntGauge,
    pub half_oldest_undecided: IntGauge,
    pub resident_memory: IntGauge,
    request_durations: Vec<Histogram>,
}

/// A counter of what is counted elsewhere since the process began.
#[derive(Debug)]
pub struct Total {
    counter: IntCounter,
    told: AtomicU64,
}

impl Total {
    /// How much it is by now. Several may ask at the same time: nothing is counted twice.
    pub fn is_by_now(&self, total: u64) {
        let told = self.told.fetch_max(total, Ordering::Relaxed);
        self.counter.inc_by(total.saturating_sub(told));
    }
}

/// Counters for each topic, of what this broker does as leader.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is documented by its help text in `new`")]
pub struct TopicMetrics {
    pub produced_bytes: IntCounterVec,
    pub produced_records: IntCounterVec,
    pub fetched_bytes: IntCounterVec,
    pub produce_errors: IntCounterVec,
    pub queue_refusals: IntCounterVec,
    pub dead_letters: IntCounterVec,
    pub dead_letters_dropped: IntCounterVec,
    pub expired_messages: IntCounterVec,
    pub queue_backlog_messages: IntGaugeVec,
    pub queue_backlog_bytes: IntGaugeVec,
    pub queue_bound_messages: IntGaugeVec,
    pub queue_bound_bytes: IntGaugeVec,
    /// Of views: how far their copiers are behind their sources.
    pub view_lag_messages: IntGaugeVec,
    pub view_lag_seconds: IntGaugeVec,
    pub deduplicated_messages: IntCounterVec,
    pub delayed_messages: IntGaugeVec,
    pub delayed_next_due: IntGaugeVec,
    labelled: Arc<Mutex<HashSet<Arc<str>>>>,
}

impl TopicMetrics {
    /// What a topic is counted under: its name, for the first [`TOPICS_MAX`] that are asked for; [`OTHER_TOPICS`] for all others.
    #[must_use]
    pub fn label<'t>(&self, topic: &'t Arc<str>) -> &'t str {
        let mut labelled = self.labelled.lock().unwrap_or_else(PoisonError::into_inner);
        let has_its_own = labelled.contains(topic)
            || (labelled.len() < TOPICS_MAX && labelled.insert(Arc::clone(topic)));
        match has_its_own {
            true => topic,
            false => OTHER_TOPICS,
        }
    }

    /// The topic is gone.
    pub fn forget(&self, topic: &str) {
        if self
            .labelled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(topic)
        {
            for counters in [
                &self.produced_bytes,
                &self.produced_records,
                &self.fetched_bytes,
                &self.produce_errors,
                &self.queue_refusals,
                &self.dead_letters,
                &self.dead_letters_dropped,
                &self.expired_messages,
                &self.deduplicated_messages,
            ] {
                // One that was never counted is not there.
                let _ = counters.remove_label_values(&[topic]);
            }
            for gauges in [
                &self.queue_backlog_messages,
                &self.queue_backlog_bytes,
                &self.queue_bound_messages,
                &self.queue_bound_bytes,
                &self.view_lag_messages,
                &self.view_lag_seconds,
                &self.delayed_messages,
                &self.delayed_next_due,
            ] {
                let _ = gauges.remove_label_values(&[topic]);
            }
        }
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Described::default();
        let r = &registry;
        let durations = register(
            r,
            HistogramVec::new(
                HistogramOpts::new(
                    "weir_request_duration_seconds",
                    "Time from a whole request being there to its response being queued on the connection, by API.",
                )
                .buckets(LATENCY_SECONDS.to_vec()),
                &["api"],
            )?,
        )?;
        let build = register(
            r,
            IntGaugeVec::new(
                Opts::new("weir_build_info", "Always 1; the version is in the label."),
                &["version"],
            )?,
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let halves = counters(
            r,
            "weir_half_messages_total",
            "What has happened to transactions of half messages coordinated here: `prepared`, `asked` (a producer was), `committed`, `rolled_back`, `in_doubt`.",
            "event",
        )?;
        let calls = counters(
            r,
            "weir_call_requests_total",
            "Calls of request and reply that are over, by outcome: `replied`, `expired` (no reply before the deadline), `refused`, `unavailable`, `cancelled` (by the caller).",
            "outcome",
        )?;
        for outcome in OUTCOMES {
            calls.with_label_values(&[outcome]);
        }
        // An increase from nothing is none to Prometheus.
        for event in Event::ALL {
            halves.with_label_values(&[event.name()]);
        }
        Ok(Self {
            connections: gauge(r, "weir_connections", "Open client connections.")?,
            connections_opened: counter(
                r,
                "weir_connections_opened_total",
                "Client connections accepted.",
            )?,
            connections_refused: counter(
                r,
                "weir_connections_refused_total",
                "Client connections closed at once because there were too many.",
            )?,
            connections_aborted: counters(
                r,
                "weir_connections_aborted_total",
                "Client connections that the broker closed, by reason.",
                "reason",
            )?,
            request_memory: gauge(
                r,
                "weir_request_memory_bytes",
                "Bytes of requests being received or answered.",
            )?,
            topics: TopicMetrics {
                produced_bytes: counters(
                    r,
                    "weir_topic_produced_bytes_total",
                    "Bytes of record batches appended to partitions that this broker leads.",
                    "topic",
                )?,
                produced_records: counters(
                    r,
                    "weir_topic_produced_records_total",
                    "Records appended to partitions that this broker leads.",
                    "topic",
                )?,
                fetched_bytes: counters(
                    r,
                    "weir_topic_fetched_bytes_total",
                    "Bytes of record batches given to consumers.",
                    "topic",
                )?,
                produce_errors: counters(
                    r,
                    "weir_topic_produce_errors_total",
                    "Batches that were refused.",
                    "topic",
                )?,
                queue_refusals: counters(
                    r,
                    "weir_topic_queue_refused_batches_total",
                    "Batches that were refused since the topic's queue was full.",
                    "topic",
                )?,
                dead_letters: counters(
                    r,
                    "weir_topic_dead_letters_total",
                    "Records of the topic that share groups gave up and whose dead letters were written.",
                    "topic",
                )?,
                dead_letters_dropped: counters(
                    r,
                    "weir_topic_dead_letters_dropped_total",
                    "Records of the topic that share groups gave up without a dead letter, since the topic for it is missing or takes none.",
                    "topic",
                )?,
                expired_messages: counters(
                    r,
                    "weir_topic_expired_messages_total",
                    "Messages that were older than their topic's time to live and were passed over, by each share group once.",
                    "topic",
                )?,
                queue_backlog_messages: gauges(
                    r,
                    "weir_topic_queue_backlog_messages",
                    "Messages of bounded partitions that this broker leads which are not settled yet.",
                    &["topic"],
                )?,
                queue_backlog_bytes: gauges(
                    r,
                    "weir_topic_queue_backlog_bytes",
                    "Their bytes, where the bound is one of bytes.",
                    &["topic"],
                )?,
                queue_bound_messages: gauges(
                    r,
                    "weir_topic_queue_bound_messages",
                    "Messages that may be unsettled: of partitions that this broker leads; of a topic with one bound for all of them, as the leader of partition 0 tells.",
                    &["topic"],
                )?,
                queue_bound_bytes: gauges(
                    r,
                    "weir_topic_queue_bound_bytes",
                    "Bytes of messages that may be unsettled, likewise.",
                    &["topic"],
                )?,
                view_lag_messages: gauges(
                    r,
                    "weir_topic_view_lag_messages",
                    "Committed messages of a view's source that the view's copier has not looked at, of partitions of the view that this broker leads.",
                    &["topic"],
                )?,
                view_lag_seconds: gauges(
                    r,
                    "weir_topic_view_lag_seconds",
                    "Time since a view had everything that was committed in its source, of the partition that is furthest behind; 0 to 1 when it is up to date.",
                    &["topic"],
                )?,
                deduplicated_messages: counters(
                    r,
                    "weir_topic_deduplicated_messages_total",
                    "Messages that were not appended since one with their id was.",
                    "topic",
                )?,
                delayed_messages: register(
                    r,
                    IntGaugeVec::new(
                        Opts::new(
                            "weir_delayed_messages",
                            "Messages of partitions that this broker leads which are not due yet, those that were cancelled included.",
                        ),
                        &["topic"],
                    )?,
                )?,
                delayed_next_due: register(
                    r,
                    IntGaugeVec::new(
                        Opts::new(
                            "weir_delayed_next_due_timestamp_seconds",
                            "When the next of them is due; of one that is far, when its second, minute or hour begins. In the past while what is due cannot be released.",
                        ),
                        &["topic"],
                    )?,
                )?,
                labelled: Arc::default(),
            },
            durable_duration: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "weir_durable_duration_seconds",
                        "Time from an append being queued to its batch being durable.",
                    )
                    .buckets(LATENCY_SECONDS.to_vec()),
                )?,
            )?,
            fatal_errors: counter(
                r,
                "weir_fatal_errors_total",
                "Disk failures after which the process ends; seen only by a scrape that comes in time.",
            )?,
            replication_sent_bytes: counter(
                r,
                "weir_replication_sent_bytes_total",
                "Bytes sent to brokers that follow partitions of this one.",
            )?,
            replication_received_bytes: counter(
                r,
                "weir_replication_received_bytes_total",
                "Bytes of batches received from the leaders of partitions that this broker follows.",
            )?,
            coordinator_panics: counters(
                r,
                "weir_coordinator_panics_total",
                "Coordinators that ended by a defect and were loaded again, by what they coordinate.",
                "of",
            )?,
            partitions: gauge(
                r,
                "weir_partitions",
                "Partitions whose log is open on this broker.",
            )?,
            partition_leaders: gauge(
                r,
                "weir_partition_leaders",
                "Partitions that this broker leads.",
            )?,
            offline_partitions: gauge(
                r,
                "weir_offline_partitions",
                "Partitions of the cluster without a live leader, as this broker's metadata has it.",
            )?,
            under_replicated_partitions: gauge(
                r,
                "weir_under_replicated_partitions",
                "Partitions that this broker leads with fewer in-sync replicas than replicas.",
            )?,
            under_min_in_sync_partitions: gauge(
                r,
                "weir_under_min_in_sync_partitions",
                "Partitions that this broker leads with fewer in-sync replicas than a write with acks=all takes.",
            )?,
            moving_partitions: gauge(
                r,
                "weir_moving_partitions",
                "Partitions that this broker leads and whose replicas are being moved.",
            )?,
            damaged_partitions: gauge(
                r,
                "weir_damaged_partitions",
                "Partitions of this broker that have lost bytes that were durable, or cannot be opened.",
            )?,
            log_bytes: gauge(
                r,
                "weir_log_bytes",
                "Bytes of all partitions' segments on this broker.",
            )?,
            compaction_passes: total(
                r,
                "weir_compaction_passes_total",
                "Passes of compaction that were finished.",
            )?,
            compaction_failures: total(
                r,
                "weir_compaction_failures_total",
                "Passes of compaction that could not be finished.",
            )?,
            compaction_read_bytes: total(
                r,
                "weir_compaction_read_bytes_total",
                "Bytes of logs that compaction has read.",
            )?,
            compaction_written_bytes: total(
                r,
                "weir_compaction_written_bytes_total",
                "Bytes of logs that compaction has written.",
            )?,
            compaction_last_pass_seconds: gauge(
                r,
                "weir_compaction_last_pass_timestamp_seconds",
                "When compaction last finished a pass, in seconds since 1970; 0 when it never did.",
            )?,
            compaction_dirty_ratio_max: register(
                r,
                Gauge::new(
                    "weir_compaction_dirty_ratio_max",
                    "The greatest part of a compacted partition's closed segments that is still to be looked at.",
                )?,
            )?,
            uncleanable_partitions: gauge(
                r,
                "weir_uncleanable_partitions",
                "Partitions that compaction leaves alone because it met damage.",
            )?,
            disk_available_bytes: gauge(
                r,
                "weir_disk_available_bytes",
                "Bytes that can still be written to the data directory's file system.",
            )?,
            disk_bytes: gauge(
                r,
                "weir_disk_bytes",
                "Size of the data directory's file system.",
            )?,
            is_controller: gauge(
                r,
                "weir_controller",
                "1 when this broker is the cluster's controller, 0 otherwise.",
            )?,
            metadata_index: gauge(
                r,
                "weir_metadata_index",
                "Index of the last metadata record that was applied.",
            )?,
            live_brokers: gauge(
                r,
                "weir_live_brokers",
                "Brokers of the cluster that are not fenced.",
            )?,
            fetch_sessions: gauge(
                r,
                "weir_fetch_sessions",
                "Fetch sessions that this broker keeps.",
            )?,
            fetch_session_partitions: gauge(
                r,
                "weir_fetch_session_partitions",
                "Partitions of all fetch sessions.",
            )?,
            fetch_sessions_evicted: total(
                r,
                "weir_fetch_sessions_evicted_total",
                "Fetch sessions that had to go for others.",
            )?,
            spans_sent: counter(
                r,
                "weir_trace_spans_sent_total",
                "Spans of traced messages that the collector has taken.",
            )?,
            spans_dropped: counter(
                r,
                "weir_trace_spans_dropped_total",
                "Spans of traced messages that were dropped, because the collector did not take them or too many waited for it.",
            )?,
            telemetry_clients: gauge(
                r,
                "weir_telemetry_clients",
                "Clients that have asked which metrics to push.",
            )?,
            telemetry_dropped: total(
                r,
                "weir_telemetry_dropped_points_total",
                "Values that clients pushed and for which there was no room.",
            )?,
            groups: gauges(
                r,
                "weir_groups",
                "Consumer groups coordinated here, by state.",
                &["state"],
            )?,
            group_lag_records: gauges(
                r,
                "weir_group_lag_records",
                "Records of the topic that the group, which is coordinated here, has yet to read: of a consumer group beyond its committed offsets, of a share group those that it has not settled. Over the partitions that it has offsets of; of one whose leader cannot be asked, as it was last known.",
                &["group", "topic"],
            )?,
            group_lag_seconds: gauges(
                r,
                "weir_group_lag_seconds",
                "Age of the oldest of them, of the partition that is furthest behind; 0 when there is none.",
                &["group", "topic"],
            )?,
            group_members: gauges(
                r,
                "weir_group_members",
                "Members of the group, which is coordinated here.",
                &["group"],
            )?,
            share_parked: gauges(
                r,
                "weir_share_parked_messages",
                "Messages that failed for a share group and wait for their next delivery, of partitions that this broker leads.",
                &["group", "topic"],
            )?,
            share_oldest: gauges(
                r,
                "weir_share_oldest_unsettled_seconds",
                "Age of the oldest message that a share group has not settled, of partitions that this broker leads; 0 when all are. Known while the group has members, and of bounded queues always.",
                &["group", "topic"],
            )?,
            calls,
            calls_waiting: gauge(
                r,
                "weir_call_requests_waiting",
                "Calls of request and reply that are with this broker.",
            )?,
            call_duration: register(
                r,
                Histogram::with_opts(
                    HistogramOpts::new(
                        "weir_call_duration_seconds",
                        "Time from a call of request and reply to its reply, of those that got one.",
                    )
                    .buckets(LATENCY_SECONDS.to_vec()),
                )?,
            )?,
            subscribe_streams: gauge(
                r,
                "weir_subscribe_streams",
                "Streams of gRPC that receive messages of share groups here.",
            )?,
            subscribe_credit: gauge(
                r,
                "weir_subscribe_credit_messages",
                "Messages that these streams say that they take.",
            )?,
            subscribe_outstanding: gauge(
                r,
                "weir_subscribe_outstanding_messages",
                "Messages that these streams were given and have not settled.",
            )?,
            half_messages: halves,
            half_undecided: gauge(
                r,
                "weir_half_messages_undecided",
                "Transactions of half messages coordinated here that are neither committed nor rolled back.",
            )?,
            half_oldest_undecided: gauge(
                r,
                "weir_half_messages_oldest_undecided_seconds",
                "Time since the oldest of them was prepared; 0 when there is none.",
            )?,
            resident_memory: gauge(
                r,
                "weir_resident_memory_bytes",
                "Resident memory of the process.",
            )?,
            request_durations: APIS
                .iter()
                .map(|api| durations.with_label_values(&[api.key.name()]))
                .collect(),
            registry,
        })
    }

    /// The latency histogram of the API in this line of the table.
    #[must_use]
    pub fn request_duration(&self, line: usize) -> Option<&Histogram> {
        self.request_durations.get(line)
    }

    /// Everything, in Prometheus' text format.
    pub fn encode(&self) -> Result<Vec<u8>, prometheus::Error> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// Every metric there is, also those that have no value yet: for what is generated from them.
    #[must_use]
    pub fn descriptions(&self) -> Vec<Description> {
        let described = self.registry.metrics.lock();
        described.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What a metric is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Labels whose values vary.
    pub labels: Vec<String>,
    /// What it tells.
    pub help: String,
}

/// A registry that can tell what is in it: the one below leaves out what has no value yet.
#[derive(Debug, Default)]
struct Described {
    registry: Registry,
    metrics: Mutex<Vec<Description>>,
}

impl Described {
    fn register<C: Collector + Clone + 'static>(
        &self,
        metric: &C,
    ) -> Result<(), prometheus::Error> {
        let family = metric.collect();
        let kind = match family.first().map(MetricFamily::get_field_type) {
            Some(MetricType::HISTOGRAM) => "histogram",
            Some(MetricType::COUNTER) => "counter",
            _ => "gauge",
        };
        let described = metric.desc().into_iter().map(|desc| Description {
            name: desc.fq_name.clone(),
            kind,
            labels: desc.variable_labels.clone(),
            help: desc.help.clone(),
        });
        let mut metrics = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.extend(described);
        self.registry.register(Box::new(metric.clone()))
    }
}

fn register<C: Collector + Clone + 'static>(
    registry: &Described,
    metric: C,
) -> Result<C, prometheus::Error> {
    registry.register(&metric)?;
    Ok(metric)
}

fn gauge(registry: &Described, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
    register(registry, IntGauge::new(name, help)?)
}

fn total(registry: &Described, name: &str, help: &str) -> Result<Total, prometheus::Error> {
    Ok(Total {
        counter: counter(registry, name, help)?,
        told: AtomicU64::default(),
    })
}

fn gauges(
    registry: &Described,
    name: &str,
    help: &str,
    labels: &[&str],
) -> Result<IntGaugeVec, prometheus::Error> {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn counter(registry: &Described, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
    register(registry, IntCounter::new(name, help)?)
}

fn counters(
    registry: &Described,
    name: &str,
    help: &str,
    label: &str,
) -> Result<IntCounterVec, prometheus::Error> {
    register(
        registry,
        IntCounterVec::new(Opts::new(name, help), &[label])?,
    )
}

#[cfg(test)]
mod tests;
