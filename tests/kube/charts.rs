//! What the operator's chart makes of `monitoring`, where the Prometheus operator's definitions are there and where they are not.

use std::collections::BTreeSet;
use std::fs;

use weir_tests::given;

use crate::shell::run;

const CHART: &str = "charts/weir-operator";
const RUNBOOKS: &str = "https://example.com/runbooks";

/// The documents of `templates/monitoring.yaml` with these values, each without what stands before its first field.
fn rendered(more: &[&str]) -> Vec<String> {
    let runbooks = format!("monitoring.runbooks={RUNBOOKS}/");
    let values = ["--set", "monitoring.enabled=true", "--set", &runbooks];
    let text = helm(
        &[
            &["--show-only", "templates/monitoring.yaml"],
            &values[..],
            more,
        ]
        .concat(),
    );
    let documents = text.split("\n---\n").map(|document| {
        let is_comment = |line: &&str| line.starts_with('#') || *line == "---";
        let lines: Vec<&str> = document.lines().skip_while(is_comment).collect();
        lines.join("\n")
    });
    documents
        .filter(|document| !document.trim().is_empty())
        .collect()
}

fn helm(words: &[&str]) -> String {
    // With no cluster to ask, helm takes itself for an old Kubernetes.
    let place = [
        "template",
        "weir",
        CHART,
        "--namespace",
        "weir-system",
        "--kube-version",
        "1.34.4",
    ];
    run("helm", &[&place, words].concat())
}

/// `Kind name`
fn titles(documents: &[String]) -> BTreeSet<String> {
    let field = |document: &str, name: &str| {
        let mut lines = document.lines();
        let value = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        value.unwrap_or_default().to_owned()
    };
    let title = |document: &String| {
        assert_eq!(field(document, "  namespace"), "weir-system", "{document}");
        format!("{} {}", field(document, "kind"), field(document, "  name"))
    };
    documents.iter().map(title).collect()
}

fn dashboards() -> BTreeSet<String> {
    let folder = given::root().join(CHART).join("files/dashboards");
    let files = fs::read_dir(folder).expect("the chart has dashboards");
    let names = files.map(|file| file.expect("it is read").file_name());
    names
        .map(|name| {
            let name = name.to_string_lossy().into_owned();
            let name = name.trim_end_matches(".json").trim_start_matches("weir-");
            format!("ConfigMap weir-operator-{name}-dashboard")
        })
        .collect()
}

/// The chart's rules as they are to be installed.
fn rules() -> String {
    let file = given::root().join(CHART).join("files/alerts.yaml");
    let rules = fs::read_to_string(file).expect("the chart has rules");
    rules.replace("@RUNBOOKS@", RUNBOOKS)
}

/// What stands indented behind this line, to the end of the document.
fn behind(document: &str, line: &str, indent: usize) -> String {
    let mut lines = document.lines().skip_while(|one| *one != line);
    assert_eq!(lines.next(), Some(line), "{document}");
    let text: Vec<&str> = lines.map(|line| line.get(indent..).unwrap_or("")).collect();
    text.join("\n")
}

#[test]
fn with_the_prometheus_operator_the_chart_has_monitors_and_a_rule() {
    let with = ["--api-versions", "monitoring.coreos.com/v1"];
    let labelled = ["--set", "monitoring.labels.release=prometheus"];
    let documents = rendered(&[&with[..], &labelled].concat());
    let monitors = [
        "PodMonitor weir-operator-brokers",
        "ServiceMonitor weir-operator",
        "PrometheusRule weir-operator",
    ];
    let monitors: BTreeSet<String> = monitors.map(str::to_owned).into();
    let all: BTreeSet<String> = monitors.union(&dashboards()).cloned().collect();
    assert_eq!(titles(&documents), all);
    for document in &documents {
        let is_monitor = document.contains("apiVersion: monitoring.coreos.com/v1");
        let has_label = document.contains("\n    release: prometheus\n");
        assert_eq!(is_monitor, has_label, "{document}");
        if document.contains("kind: PrometheusRule") {
            assert_eq!(behind(document, "spec:", 2).trim(), rules().trim());
        }
        if document.contains("kind: PodMonitor") {
            assert!(document.contains("\n    any: true\n"), "{document}");
        }
    }
    let watched = ["--set", "watchNamespaces={shop,stock}"];
    let documents = rendered(&[&with[..], &watched].concat());
    let pods = documents
        .iter()
        .find(|one| one.contains("kind: PodMonitor"));
    let pods = pods.expect("brokers are looked at");
    assert!(
        pods.contains("matchNames:\n      - shop\n      - stock\n"),
        "{pods}"
    );
}

#[test]
fn without_it_the_rules_are_in_a_file_and_dashboards_are_there_all_the_same() {
    let documents = rendered(&[]);
    let alerts = "ConfigMap weir-operator-alerts".to_owned();
    let mut all = dashboards();
    all.insert(alerts);
    assert_eq!(titles(&documents), all);
    let document = documents
        .iter()
        .find(|one| one.contains("weir-alerts.yaml"));
    let document = document.expect("the rules are there");
    assert_eq!(
        behind(document, "  weir-alerts.yaml: |", 4).trim(),
        rules().trim()
    );
    let fewer = rendered(&["--set", "monitoring.dashboards.enabled=false"]);
    assert_eq!(fewer.len(), 1, "the rules alone");
    let unpublished = rendered(&["--set", "monitoring.runbooks="]);
    let unpublished = unpublished
        .iter()
        .find(|one| one.contains("weir-alerts.yaml"));
    let linked = rules();
    let lines = linked.lines().filter(|line| !line.contains("runbook_url"));
    assert_eq!(
        behind(
            unpublished.expect("the rules are there"),
            "  weir-alerts.yaml: |",
            4
        )
        .trim(),
        lines.collect::<Vec<_>>().join("\n").trim()
    );
    let none = helm(&[]);
    assert!(
        !none.contains("-alerts") && !none.contains("-dashboard"),
        "nobody asked"
    );
}
