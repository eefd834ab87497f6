#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use weir_crds::ClusterStatus;

use super::{Metric, alerts, cases, dashboards, expressions, of_the_brokers, of_the_operator};
use crate::decide::cluster::decide;
use crate::decide::{Blocked, gates};
use crate::kubernetes::metrics::Metrics;
use crate::status;
use crate::status::cluster::{NEEDS_A_PERSON, Outcome, status};
use crate::testing::{cluster, converged};
use crate::validate::Invalid;
use crate::world::BrokerId;

/// Labels that the scrape configuration gives.
const OF_THE_SCRAPE: [&str; 4] = ["namespace", "cluster", "pod", "exported_namespace"];

fn metrics() -> BTreeMap<String, Metric> {
    let all = of_the_brokers().into_iter().chain(of_the_operator());
    all.map(|metric| (metric.name.clone(), metric)).collect()
}

/// Fails when an expression names a metric that does not exist, or chooses by a label that it does not have.
fn exists(metrics: &BTreeMap<String, Metric>, place: &str, expression: &str) {
    let is_histogram = |name: &str| {
        metrics
            .get(name)
            .is_some_and(|metric| metric.kind == "histogram")
    };
    for selector in expressions::selectors(expression) {
        let family = expressions::family(selector.metric, is_histogram);
        let metric = metrics.get(family);
        let metric = metric.unwrap_or_else(|| panic!("{place} names {family}, which no metric is"));
        for label in selector.labels {
            let has = metric.labels.iter().any(|known| known == label);
            assert!(
                has || OF_THE_SCRAPE.contains(&label) || label == "le",
                "{place}: {family} has no label {label}"
            );
        }
    }
}

#[test]
fn alerts_dashboards_and_their_tests_name_metrics_that_exist() {
    let metrics = metrics();
    assert!(metrics.len() > 50, "both tables are read");
    for alert in alerts::all() {
        exists(&metrics, alert.name, alert.expression);
        assert!(
            !expressions::selectors(alert.expression).is_empty(),
            "{}",
            alert.name
        );
    }
    for case in cases::CASES {
        for (series, _) in case.wrong.iter().chain(case.well) {
            exists(&metrics, case.alert, series);
        }
    }
    for dashboard in dashboards::ALL {
        for expression in dashboard.expressions() {
            exists(&metrics, dashboard.name, expression);
        }
    }
}

#[test]
#[should_panic(expected = "which no metric is")]
fn a_metric_that_does_not_exist_is_found_out() {
    exists(&metrics(), "a test", "sum(weir_no_such_metric) > 0");
}

#[test]
fn every_alert_is_tried_and_every_case_is_of_an_alert() {
    let alerts: BTreeSet<&str> = alerts::all().map(|alert| alert.name).collect();
    let tried: BTreeSet<&str> = cases::CASES.iter().map(|case| case.alert).collect();
    assert_eq!(alerts, tried);
    assert_eq!(cases::all().count(), cases::CASES.len());
}

fn runbooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/runbooks")
}

#[test]
fn every_alert_has_a_page_that_says_what_it_means_and_what_to_do() {
    let mut pages: BTreeSet<String> = fs::read_dir(runbooks())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.remove("README.md");
    for alert in alerts::all() {
        let page = format!("{}.md", alert.name);
        let text = fs::read_to_string(runbooks().join(&page)).unwrap_or_default();
        for part in [
            &format!("# {}\n", alert.name),
            "## What it means\n",
            "## What to do\n",
        ] {
            assert!(text.contains(part), "{page} lacks {part:?}");
        }
        pages.remove(&page);
    }
    assert_eq!(pages, BTreeSet::new(), "pages of no alert");
}

#[test]
fn what_holds_a_change_up_is_a_condition_a_metric_and_a_page() {
    let (cluster, gates) = (cluster(), gates::of_a_cluster().collect::<Vec<_>>());
    let world = converged(&cluster);
    let page = fs::read_to_string(runbooks().join("README.md")).unwrap();
    let metrics = Metrics::default();
    for &gate in &gates {
        let mut decision = decide(&cluster, &world).unwrap();
        let message = "why".to_owned();
        decision.plan.blocked.push(Blocked { gate, message });
        if gates::ROLL.iter().any(|of_a_roll| of_a_roll.name == gate) {
            decision.outdated.push(BrokerId(0));
        }
        metrics.blocked(&cluster.key, &gates, &decision.plan.blocked);
        let text = String::from_utf8(metrics.text()).unwrap();
        let of_the_gate = format!("gate=\"{gate}\"");
        let mut held = text
            .lines()
            .filter(|line| line.starts_with("weir_operator_blocked{") && line.ends_with(" 1"));
        let named = held.next().unwrap_or_default();
        assert!(
            named.contains(&of_the_gate),
            "the metric of {gate}: {named}"
        );
        assert_eq!(held.next(), None, "of {gate} alone");

        let outcome = Outcome::Decided {
            cluster: &cluster,
            world: &world,
            decision: &decision,
            failed: None,
            unseen: None,
        };
        let status = status(
            &ClusterStatus::default(),
            Some(1),
            &outcome,
            Timestamp::UNIX_EPOCH,
        );
        let mut conditions = status.conditions.iter();
        let says = conditions.find(|condition| condition.reason == gate);
        assert!(
            says.is_some(),
            "the condition of {gate}: {:?}",
            status.conditions
        );

        assert!(
            page.contains(&format!("\n### {gate}\n")),
            "the page of {gate}"
        );
    }
}

#[test]
fn alerts_by_gates_name_gates_that_exist() {
    let known: BTreeSet<&str> = gates::of_a_cluster().collect();
    for alert in alerts::all() {
        for pattern in gates_of(alert) {
            let exists = known.iter().any(|gate| matches(pattern, gate));
            assert!(exists, "{}: {pattern}", alert.name);
        }
    }
}

/// What an alert by gates names them by.
fn gates_of(alert: &alerts::Alert) -> impl Iterator<Item = &'static str> {
    let rest = alert.expression.split_once("gate=~\"");
    let pattern = rest.and_then(|(_, rest)| rest.split_once('"'));
    pattern
        .into_iter()
        .flat_map(|(pattern, _)| pattern.split('|'))
}

fn matches(pattern: &str, gate: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(prefix) => gate.starts_with(prefix),
        None => gate == pattern,
    }
}

#[test]
fn every_gate_that_only_a_person_can_open_has_an_alert() {
    for gate in NEEDS_A_PERSON {
        let has = alerts::all().any(|alert| gates_of(alert).any(|one| matches(one, gate)));
        // Of a spec that cannot be carried out WeirClusterNotReady tells.
        assert_eq!(has, gate != gates::INVALID_SPEC, "{gate}");
    }
    let invalid = Invalid::new("spec.version", "and image", "Give one");
    let invalid = Outcome::Invalid(&invalid);
    let now = Timestamp::UNIX_EPOCH;
    let told = status(&ClusterStatus::default(), Some(1), &invalid, now);
    assert_eq!(status::holds(&told.conditions, "Ready"), Some(false));
}
