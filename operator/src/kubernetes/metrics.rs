//! The operator's own metrics.

use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::decide::Blocked;
use crate::world::Key;

/// Counters and gauges, all registered.
pub(super) struct Metrics {
    registry: Registry,
    passes: IntCounterVec,
    seconds: HistogramVec,
    leading: IntGauge,
    topic_changes: IntCounterVec,
    blocked: IntGaugeVec,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new().unwrap_or_else(|error| {
            unreachable!("the metrics' names are valid and differ: {error}")
        })
    }
}

impl Metrics {
    fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let passes = IntCounterVec::new(
            Opts::new(
                "weir_operator_reconciles_total",
                "Passes over clusters, topics and groups.",
            ),
            &["kind", "result"],
        )?;
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "weir_operator_reconcile_duration_seconds",
                "Time that a pass took.",
            )
            .buckets(vec![0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0]),
            &["kind"],
        )?;
        let leading = IntGauge::new(
            "weir_operator_leader",
            "1 while this process holds the lease.",
        )?;
        let topic_changes = IntCounterVec::new(
            Opts::new(
                "weir_operator_topic_changes_total",
                "Topics created, grown, configured and deleted.",
            ),
            &["change"],
        )?;
        let blocked = IntGaugeVec::new(
            Opts::new(
                "weir_operator_blocked",
                "1 for each gate that holds a step of a cluster.",
            ),
            &["namespace", "cluster", "gate"],
        )?;
        registry.register(Box::new(passes.clone()))?;
        registry.register(Box::new(seconds.clone()))?;
        registry.register(Box::new(leading.clone()))?;
        registry.register(Box::new(topic_changes.clone()))?;
        registry.register(Box::new(blocked.clone()))?;
        Ok(Self {
            registry,
            passes,
            seconds,
            leading,
            topic_changes,
            blocked,
        })
    }

    pub(super) fn leading(&self, leads: bool) {
        self.leading.set(i64::from(leads));
    }

    pub(super) fn pass(&self, kind: &str, took: std::time::Duration, succeeded: bool) {
        self.passes
            .with_label_values(&[kind, if succeeded { "success" } else { "error" }])
            .inc();
        self.seconds
            .with_label_values(&[kind])
            .observe(took.as_secs_f64());
    }

    /// A pass that did not come to its end.
    pub(super) fn panicked(&self, kind: &str) {
        self.passes.with_label_values(&[kind, "panic"]).inc();
    }

    pub(super) fn topic_change(&self, change: &str) {
        self.topic_changes.with_label_values(&[change]).inc();
    }

    /// The gates that hold something of a cluster now; all others of it are open.
    pub(super) fn blocked(&self, cluster: &Key, gates: &[&'static str], blocked: &[Blocked]) {
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

    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(error) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "metrics cannot be encoded");
        }
        text
    }
}
