//! The operator's own metrics. Those of a cluster or a group are there for as long as it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

use prometheus::core::Collector;
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::decide::Blocked;
use crate::decide::group::Report;
use crate::watching::Metric;
use crate::world::{Consumption, Key, Look};

/// Labels of what is said of a cluster.
const CLUSTER: [&str; 2] = ["namespace", "cluster"];
/// Labels of what is said of a ConsumerGroup.
const GROUP: [&str; 3] = ["namespace", "cluster", "group"];

/// Counters and gauges, all registered.
pub(crate) struct Metrics {
    registry: Registry,
    described: Vec<Metric>,
    passes: IntCounterVec,
    seconds: HistogramVec,
    failing: IntGaugeVec,
    leading: IntGauge,
    topic_changes: IntCounterVec,
    topics_stalled: IntGaugeVec,
    drift_repaired: IntCounterVec,
    blocked: IntGaugeVec,
    ready: IntGaugeVec,
    brokers_wanted: IntGaugeVec,
    moving_partitions: IntGaugeVec,
    draining_brokers: IntGaugeVec,
    voters_missing: IntGaugeVec,
    certificates_expire: IntGaugeVec,
    lag_records: IntGaugeVec,
    lag_seconds: IntGaugeVec,
    committed: IntGaugeVec,
    members: IntGaugeVec,
    group_paused: IntGaugeVec,
    objective_breached: IntGaugeVec,
    objective_seconds: IntGaugeVec,
    /// Groups that have values, by their cluster.
    groups: Mutex<BTreeMap<Key, BTreeSet<String>>>,
    /// Ids of groups that have an objective, by their cluster.
    objectives: Mutex<BTreeMap<Key, BTreeSet<String>>>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new().unwrap_or_else(|error| {
            unreachable!("the metrics' names are valid and differ: {error}")
        })
    }
}

/// A registry that remembers what is in it.
#[derive(Default)]
struct Describing {
    registry: Registry,
    described: Vec<Metric>,
}

impl Describing {
    fn register<C: Collector + Clone + 'static>(
        &mut self,
        metric: C,
    ) -> Result<C, prometheus::Error> {
        let family = metric.collect();
        let kind = match family.first().map(MetricFamily::get_field_type) {
            Some(MetricType::HISTOGRAM) => "histogram",
            Some(MetricType::COUNTER) => "counter",
            _ => "gauge",
        };
        self.described
            .extend(metric.desc().into_iter().map(|desc| Metric {
                name: desc.fq_name.clone(),
                kind: kind.to_owned(),
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            }));
        self.registry.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauges(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.register(IntCounterVec::new(Opts::new(name, help), labels)?)
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let mut all = Describing::default();
        let passes = all.counters(
            "weir_operator_reconciles_total",
            "Passes over clusters, topics and groups.",
            &["kind", "result"],
        )?;
        let seconds = all.register(HistogramVec::new(
            HistogramOpts::new(
                "weir_operator_reconcile_duration_seconds",
                "Time that a pass took.",
            )
            .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0]),
            &["kind"],
        )?)?;
        let failing = all.gauges(
            "weir_operator_failed_reconciles",
            "Passes over a cluster, its topics or its groups that failed one after the other; 0 after one that succeeded.",
            &["kind", "namespace", "cluster"],
        )?;
        let leading = all.register(IntGauge::new(
            "weir_operator_leader",
            "1 while this process holds the lease.",
        )?)?;
        let topic_changes = all.counters(
            "weir_operator_topic_changes_total",
            "Topics created, grown, replicated, configured and deleted.",
            &["change"],
        )?;
        let topics_stalled = all.gauges(
            "weir_operator_topics_stalled",
            "Topics of a cluster whose condition Stalled is True: a person is needed.",
            &CLUSTER,
        )?;
        let drift_repaired = all.counters(
            "weir_operator_drift_repaired_total",
            "Resources of which something was changed back that somebody else had changed.",
            &["kind"],
        )?;
        let blocked = all.gauges(
            "weir_operator_blocked",
            "1 for each gate that holds a step of a cluster.",
            &["namespace", "cluster", "gate"],
        )?;
        let ready = all.gauges(
            "weir_operator_cluster_ready",
            "1 while a Cluster's condition Ready is True, 0 otherwise.",
            &CLUSTER,
        )?;
        let brokers_wanted = all.gauges(
            "weir_operator_brokers_wanted",
            "Brokers that a cluster is to run now.",
            &CLUSTER,
        )?;
        let moving_partitions = all.gauges(
            "weir_operator_moving_partitions",
            "Partitions of a cluster whose replicas are being moved.",
            &CLUSTER,
        )?;
        let draining_brokers = all.gauges(
            "weir_operator_draining_brokers",
            "Brokers of a cluster that are being emptied.",
            &CLUSTER,
        )?;
        let voters_missing = all.gauges(
            "weir_operator_voters_missing",
            "Brokers that should vote in a cluster's metadata quorum besides those that do.",
            &CLUSTER,
        )?;
        let certificates_expire = all.gauges(
            "weir_operator_certificate_expiry_timestamp_seconds",
            "When the first certificate of a cluster ends, in seconds since 1970.",
            &CLUSTER,
        )?;
        let lag_records = all.gauges(
            "weir_operator_group_lag_records",
            "Records that the group of a ConsumerGroup has yet to read.",
            &GROUP,
        )?;
        let lag_seconds = all.gauges(
            "weir_operator_group_lag_seconds",
            "Age of the oldest record that the group of a ConsumerGroup has yet to read; 0 when there is none.",
            &GROUP,
        )?;
        let committed = all.gauges(
            "weir_operator_group_committed_offsets",
            "Sum of the offsets that the group of a ConsumerGroup has committed: it stands still when the group does.",
            &GROUP,
        )?;
        let members = all.gauges(
            "weir_operator_group_members",
            "Members of the group of a ConsumerGroup.",
            &GROUP,
        )?;
        let group_paused = all.gauges(
            "weir_operator_group_paused",
            "1 while the group of a ConsumerGroup is paused, or its members give up their partitions for that, 0 otherwise.",
            &GROUP,
        )?;
        let objective_breached = all.gauges(
            "weir_operator_group_lag_objective_breached",
            "1 while a group is further behind than its ConsumerGroup's lagObjective allows, 0 otherwise; absent without one.",
            &GROUP,
        )?;
        let objective_seconds = all.gauges(
            "weir_operator_group_objective_seconds",
            "Seconds that the lagObjective of a ConsumerGroup allows its oldest record to wait, by the id of the group as brokers know it.",
            &GROUP,
        )?;
        Ok(Self {
            registry: all.registry,
            described: all.described,
            passes,
            seconds,
            failing,
            leading,
            topic_changes,
            topics_stalled,
            drift_repaired,
            blocked,
            ready,
            brokers_wanted,
            moving_partitions,
            draining_brokers,
            voters_missing,
            certificates_expire,
            lag_records,
            lag_seconds,
            committed,
            members,
            group_paused,
            objective_breached,
            objective_seconds,
            groups: Mutex::default(),
            objectives: Mutex::default(),
        })
    }

    /// What each metric is, for what is generated from them.
    pub(crate) fn described(&self) -> &[Metric] {
        &self.described
    }

    pub(super) fn leading(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    /// A pass over one cluster's part came to its end.
    pub(super) fn pass(&self, kind: &str, of: &Key, took: std::time::Duration, succeeded: bool) {
        self.passes
            .with_label_values(&[kind, if succeeded { "success" } else { "error" }])
            .inc();
        self.seconds
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
        let failing = self.failing(kind, of);
        if succeeded {
            failing.set(0);
        } else {
            failing.inc();
        }
    }

    /// A pass that did not come to its end has failed as well.
    pub(super) fn panicked(&self, kind: &str, of: &Key) {
        self.passes.with_label_values(&[kind, "panic"]).inc();
        self.failing(kind, of).inc();
    }

    fn failing(&self, kind: &str, of: &Key) -> IntGauge {
        let labels = [kind, of.namespace.as_str(), of.name.as_str()];
        self.failing.with_label_values(&labels)
    }

    pub(super) fn topic_change(&self, change: &str) {
        self.topic_changes.with_label_values(&[change]).inc();
    }

    /// How many Topics of a cluster need a person; `None` when it has no Topics.
    pub(super) fn topics_stalled(&self, cluster: &Key, stalled: Option<usize>) {
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        match stalled {
            Some(stalled) => {
                let gauge = self.topics_stalled.with_label_values(&labels);
                gauge.set(i64::try_from(stalled).unwrap_or(i64::MAX));
            }
            None => drop(self.topics_stalled.remove_label_values(&labels)),
        }
    }

    pub(super) fn drift_repaired(&self, kind: &str) {
        self.drift_repaired.with_label_values(&[kind]).inc();
    }

    /// The gates that hold something of a cluster now; all others of it are open.
    pub(crate) fn blocked(&self, cluster: &Key, gates: &[&'static str], blocked: &[Blocked]) {
        for gate in gates {
            let labels = [cluster.namespace.as_str(), cluster.name.as_str(), gate];
            if blocked.iter().any(|blocked| blocked.gate == *gate) {
                self.blocked.with_label_values(&labels).set(1);
            } else {
                // Absent when it has never been set, which is as good.
                let _ = self.blocked.remove_label_values(&labels);
            }
        }
    }

    /// Whether a cluster's condition Ready is True.
    pub(super) fn ready(&self, cluster: &Key, ready: bool) {
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        self.ready.with_label_values(&labels).set(i64::from(ready));
    }

    /// No broker of a cluster has answered for a while: what one said before tells nothing of now.
    pub(super) fn unseen(&self, cluster: &Key) {
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        for gauges in [
            &self.moving_partitions,
            &self.draining_brokers,
            &self.voters_missing,
        ] {
            let _ = gauges.remove_label_values(&labels);
        }
    }

    /// How a cluster stands.
    pub(super) fn cluster(&self, cluster: &Key, brokers: u32, look: Option<&Look>) {
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        self.brokers_wanted
            .with_label_values(&labels)
            .set(brokers.into());
        let Some(look) = look else { return };
        self.moving_partitions
            .with_label_values(&labels)
            .set(look.moving_partitions.into());
        let missing = look.missing_voters(brokers);
        self.voters_missing
            .with_label_values(&labels)
            .set(i64::try_from(missing).unwrap_or(i64::MAX));
        let draining = look.brokers.values().filter(|broker| broker.draining);
        self.draining_brokers
            .with_label_values(&labels)
            .set(i64::try_from(draining.count()).unwrap_or(i64::MAX));
    }

    /// When the first certificate of a cluster ends.
    pub(super) fn certificates(&self, cluster: &Key, expire_s: Option<i64>) {
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        if let Some(at) = expire_s {
            self.certificates_expire.with_label_values(&labels).set(at);
        }
    }

    /// A cluster is gone.
    pub(super) fn forget_cluster(&self, cluster: &Key, gates: &[&'static str]) {
        self.blocked(cluster, gates, &[]);
        let labels = [cluster.namespace.as_str(), cluster.name.as_str()];
        for gauges in [
            &self.ready,
            &self.brokers_wanted,
            &self.moving_partitions,
            &self.draining_brokers,
            &self.voters_missing,
            &self.certificates_expire,
        ] {
            let _ = gauges.remove_label_values(&labels);
        }
        for kind in ["cluster", "topics", "groups"] {
            let _ = self
                .failing
                .remove_label_values(&[kind, labels[0], labels[1]]);
        }
    }

    /// The groups of a cluster as they are now, by the names of their resources, each with the sum of its committed offsets. Of those that brokers could
    /// not tell of, what was last seen stays: an alert does not end because nobody knows. All others of the cluster are gone.
    pub(super) fn groups(
        &self,
        cluster: &Key,
        seen: &[(String, Report, i64)],
        unseen: &BTreeSet<String>,
    ) {
        let labels = |group| [cluster.namespace.as_str(), cluster.name.as_str(), group];
        for (name, report, committed) in seen {
            let labels = labels(name.as_str());
            let set = |gauges: &IntGaugeVec, value| gauges.with_label_values(&labels).set(value);
            set(&self.lag_records, report.lag.records);
            set(&self.lag_seconds, report.lag.seconds);
            set(&self.committed, *committed);
            set(&self.members, report.members.into());
            // Members that cannot be paused read on.
            let is_paused = matches!(
                report.consumption,
                Some(Consumption::Pausing | Consumption::Paused)
            );
            set(&self.group_paused, i64::from(is_paused));
            match &report.objective {
                Some((met, _)) => set(&self.objective_breached, i64::from(!met)),
                None => drop(self.objective_breached.remove_label_values(&labels)),
            }
        }
        let mut now: BTreeSet<String> = seen.iter().map(|(name, ..)| name.clone()).collect();
        let mut known = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.remove(cluster).unwrap_or_default();
        now.extend(before.intersection(unseen).cloned());
        for gone in before.difference(&now) {
            for gauges in [
                &self.lag_records,
                &self.lag_seconds,
                &self.committed,
                &self.members,
                &self.group_paused,
                &self.objective_breached,
            ] {
                let _ = gauges.remove_label_values(&labels(gone.as_str()));
            }
        }
        if !now.is_empty() {
            known.insert(cluster.clone(), now);
        }
    }

    /// How long the oldest record of each group may wait, by their ids, and of no other group of the cluster.
    pub(super) fn objectives(&self, cluster: &Key, wanted: &BTreeMap<&str, i64>) {
        let labels = |group| [cluster.namespace.as_str(), cluster.name.as_str(), group];
        for (group, seconds) in wanted {
            let gauge = self.objective_seconds.with_label_values(&labels(group));
            gauge.set(*seconds);
        }
        let mut known = self
            .objectives
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = known.remove(cluster).unwrap_or_default();
        for gone in &before {
            if !wanted.contains_key(gone.as_str()) {
                let _ = self.objective_seconds.remove_label_values(&labels(gone));
            }
        }
        if !wanted.is_empty() {
            let now = wanted.keys().map(|group| (*group).to_owned()).collect();
            known.insert(cluster.clone(), now);
        }
    }

    pub(crate) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be encoded");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::Metrics;
    use crate::decide::group::{Lag, Report};
    use crate::testing;
    use crate::world::Key;

    #[test]
    fn a_group_that_brokers_cannot_tell_of_keeps_what_was_last_seen_of_it() {
        let (metrics, shop) = (Metrics::default(), Key::new("market", "shop"));
        let behind = Report {
            lag: Lag {
                records: 7,
                seconds: 90,
            },
            objective: Some((false, "too far behind".to_owned())),
            ..Report::default()
        };
        let seen = |name: &str| (name.to_owned(), behind.clone(), 3);
        let names = |names: &[&str]| -> BTreeSet<String> {
            names.iter().map(|name| (*name).to_owned()).collect()
        };
        let series = |group: &str| {
            let text = String::from_utf8(metrics.text()).unwrap();
            let of = format!("group=\"{group}\"");
            text.lines().filter(|line| line.contains(&of)).count()
        };
        metrics.groups(&shop, &[seen("billing"), seen("audit")], &names(&[]));
        let all = series("billing");
        assert!(all >= 5, "{all}");
        for _ in 0..2 {
            metrics.groups(&shop, &[seen("audit")], &names(&["billing", "new"]));
            assert_eq!(
                (series("billing"), series("audit"), series("new")),
                (all, all, 0)
            );
        }
        metrics.groups(&shop, &[seen("audit")], &names(&[]));
        assert_eq!((series("billing"), series("audit")), (0, all));
    }

    #[test]
    fn what_brokers_said_is_gone_when_none_has_answered_for_a_while_and_nothing_else_is() {
        let (metrics, cluster) = (Metrics::default(), testing::cluster());
        let world = testing::converged(&cluster);
        metrics.ready(&cluster.key, false);
        metrics.cluster(&cluster.key, 3, world.look.as_ref());
        let has = |name: &str| {
            let text = String::from_utf8_lossy(&metrics.text()).into_owned();
            text.contains(&format!("\nweir_operator_{name}{{cluster=\"shop\""))
        };
        let said = ["moving_partitions", "draining_brokers", "voters_missing"];
        assert!(said.iter().all(|name| has(name)));
        // For a moment it stays.
        metrics.cluster(&cluster.key, 3, None);
        assert!(said.iter().all(|name| has(name)));
        metrics.unseen(&cluster.key);
        assert!(!said.iter().any(|name| has(name)));
        assert!(has("cluster_ready") && has("brokers_wanted"));
    }

    #[test]
    fn a_pass_that_panics_counts_as_one_that_failed() {
        let (metrics, shop) = (Metrics::default(), Key::new("market", "shop"));
        let failed = || metrics.failing("cluster", &shop).get();
        metrics.pass("cluster", &shop, Duration::ZERO, false);
        metrics.panicked("cluster", &shop);
        assert_eq!(failed(), 2);
        metrics.pass("cluster", &shop, Duration::ZERO, true);
        assert_eq!(failed(), 0);
    }
}
