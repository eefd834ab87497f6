#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use super::Metrics;

/// What `docs/reference/broker-metrics.md` is to say.
fn reference() -> String {
    let mut text = String::from(
        "# Metrics of the broker\n\nGenerated from `broker/src/metrics.rs`: `WEIR_GOLDEN=write cargo test -p weir-broker --lib metrics` writes it \
         anew. Do not edit.\n\nServed on port 9600 under `/metrics`. Those by topic are there for the first thousand topics; the others are counted \
         together under `_other`. So it is with pairs of a group and a topic, and with groups, of those that one broker coordinates.\n\n| Metric | Type | Labels | What it tells |\n|---|---|---|---|\n",
    );
    let mut metrics = Metrics::new().unwrap().descriptions();
    metrics.sort_by(|left, right| left.name.cmp(&right.name));
    for metric in metrics {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        writeln!(
            text,
            "| `{}` | {} | {} | {} |",
            metric.name,
            metric.kind,
            labels.join(", "),
            metric.help
        )
        .unwrap();
    }
    text
}

/// Alerts and dashboards are checked against this file, so what it says has to be so.
#[test]
fn the_reference_names_every_metric_as_it_is() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference/broker-metrics.md");
    let text = reference();
    if std::env::var("WEIR_GOLDEN").is_ok_and(|wish| wish == "write") {
        fs::write(&path, &text).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, written, "{} is stale", path.display());
}

#[test]
fn metrics_keep_to_prometheus_conventions() {
    for metric in Metrics::new().unwrap().descriptions() {
        let name = &metric.name;
        assert!(name.starts_with("weir_"), "{name}");
        assert_eq!(
            metric.kind == "counter",
            name.ends_with("_total"),
            "{name} is a {}",
            metric.kind
        );
        assert!(metric.help.ends_with('.'), "{name}: {}", metric.help);
    }
}

#[test]
fn what_is_counted_elsewhere_is_counted_once() {
    let metrics = Metrics::new().unwrap();
    for total in [3, 3, 5, 4] {
        metrics.compaction_passes.is_by_now(total);
    }
    let text = String::from_utf8(metrics.encode().unwrap()).unwrap();
    assert!(
        text.contains("\nweir_compaction_passes_total 5\n"),
        "{text}"
    );
}
