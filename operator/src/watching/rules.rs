//! The alerts as Prometheus reads them, and the tests of them as promtool does.

use serde_json::{Map, Value, json};

use super::alerts::{self, Alert};
use super::cases::{self, Case};

/// The place of the runbooks in the generated rules; the chart puts the value `monitoring.runbooks` there, or leaves the links out.
pub const RUNBOOKS: &str = "@RUNBOOKS@";

/// The rule file: what `spec` of a PrometheusRule is too.
///
/// # Errors
/// Never for these types in practice; the serialiser's own error otherwise.
pub fn file() -> Result<String, serde_yaml::ser::Error> {
    let groups = [
        ("weir-cluster", alerts::CLUSTER),
        ("weir-consumer-groups", alerts::GROUPS),
        ("weir-queues", alerts::QUEUES),
        ("weir-operator", alerts::OPERATOR),
    ];
    let groups = groups.map(|(name, alerts)| {
        let rules: Vec<Value> = alerts.iter().map(rule).collect();
        json!({"name": name, "rules": rules})
    });
    let text = serde_yaml::to_string(&json!({"groups": groups}))?;
    Ok(format!("{GENERATED}{text}"))
}

const GENERATED: &str = "# Generated from operator/src/watching by `cargo run -p weir-operator --bin watchgen`. Do not edit.\n";

fn rule(alert: &Alert) -> Value {
    json!({
        "alert": alert.name,
        "expr": alert.expression,
        "for": alert.lasts,
        "labels": {"severity": alert.severity.as_str()},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": format!("{RUNBOOKS}/{}.md", alert.name),
        },
    })
}

/// Tests for `promtool test rules`: each alert fires when it should, and does not when all is well.
///
/// # Errors
/// As [`file()`].
pub fn tests(rule_file: &str) -> Result<String, serde_yaml::ser::Error> {
    let tests: Vec<Value> = cases::all()
        .flat_map(|(alert, case)| [fires(alert, &case), is_quiet(alert, &case)])
        .collect();
    let file = json!({
        "rule_files": [rule_file],
        "evaluation_interval": "1m",
        "tests": tests,
    });
    Ok(format!("{GENERATED}{}", serde_yaml::to_string(&file)?))
}

fn test(name: &str, series: &[(&str, &str)], at: &str, alert: &Alert, expected: Value) -> Value {
    let series: Vec<Value> = series
        .iter()
        .map(|(series, values)| json!({"series": series, "values": values}))
        .collect();
    json!({
        "name": format!("{} {name}", alert.name),
        "interval": "1m",
        "input_series": series,
        "alert_rule_test": [{"eval_time": at, "alertname": alert.name, "exp_alerts": expected}],
    })
}

fn fires(alert: &Alert, case: &Case) -> Value {
    let mut labels: Map<String, Value> = case
        .labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).into()))
        .collect();
    labels.insert("severity".to_owned(), alert.severity.as_str().into());
    let expand = |text: &str| {
        let text = case
            .labels
            .iter()
            .fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("{{{{ $labels.{name} }}}}"), value)
            });
        let plain = text.replace("{{ $value }}", case.value);
        let plain = plain.replace("{{ $value | humanize }}", case.value);
        plain.replace("{{ $value | humanizePercentage }}", case.value)
    };
    let expected = json!([{
        "exp_labels": labels,
        "exp_annotations": {
            "summary": expand(alert.summary),
            "description": expand(alert.description),
            "runbook_url": format!("{RUNBOOKS}/{}.md", alert.name),
        },
    }]);
    test("fires", case.wrong, case.at, alert, expected)
}

fn is_quiet(alert: &Alert, case: &Case) -> Value {
    test("is quiet", case.well, case.at, alert, json!([]))
}
