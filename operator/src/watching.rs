//! What there is to see of clusters, and what is made of it: alert rules, dashboards and the reference of the metrics.
//!
//! All of it is generated (`cargo run -p weir-operator --bin watchgen`) from the definitions here and from the metrics where they are defined.
//! The brokers' are in [`BROKER_REFERENCE`], which a test of the broker keeps as its metrics are: the operator does not depend on the broker.

pub mod alerts;
pub mod cases;
pub mod dashboards;
pub mod expressions;
pub mod rules;

use std::fmt::Write as _;

use crate::kubernetes::metrics::Metrics;

/// The brokers' metrics, one in each line of the table.
pub const BROKER_REFERENCE: &str = include_str!("../../docs/reference/broker-metrics.md");

/// What a metric is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: String,
    /// Labels whose values vary.
    pub labels: Vec<String>,
    /// What it tells.
    pub help: String,
}

/// The operator's own metrics.
#[must_use]
pub fn of_the_operator() -> Vec<Metric> {
    Metrics::default().described().to_vec()
}

/// The brokers' metrics, as their reference has them.
#[must_use]
pub fn of_the_brokers() -> Vec<Metric> {
    BROKER_REFERENCE.lines().filter_map(row).collect()
}

/// A line of the table; `None` for all else.
fn row(line: &str) -> Option<Metric> {
    let mut cells = line.strip_prefix("| `")?.split(" | ");
    let name = cells.next()?.trim_end_matches('`').to_owned();
    let kind = cells.next()?.to_owned();
    let labels = cells
        .next()?
        .split(", ")
        .map(|label| label.trim_matches(['`', ' ']));
    let labels = labels
        .filter(|label| !label.is_empty())
        .map(str::to_owned)
        .collect();
    let help = cells.next()?.trim_end_matches(" |").to_owned();
    Some(Metric {
        name,
        kind,
        labels,
        help,
    })
}

/// The reference of the operator's metrics.
#[must_use]
pub fn reference() -> String {
    let mut text = String::from(
        "# Metrics of the operator\n\nGenerated from `operator/src/kubernetes/metrics.rs` by `cargo run -p weir-operator --bin watchgen`. Do not \
         edit.\n\nServed on port 9600 under `/metrics`. Of several operators only the one that leads tells of clusters and groups.\n\n\
         | Metric | Type | Labels | What it tells |\n|---|---|---|---|\n",
    );
    let mut metrics = of_the_operator();
    metrics.sort_by(|left, right| left.name.cmp(&right.name));
    for metric in metrics {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.help
        );
    }
    text
}

#[cfg(test)]
mod tests;
