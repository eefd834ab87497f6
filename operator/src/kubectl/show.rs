//! Resources as text. Pure: resources go in, lines come out.

use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use weir_crds::{Cluster, ConsumerGroup, LastReset, Topic};

/// Resources that are named of those that are not ready.
const NAMED: usize = 10;

/// A cluster, and its topics and groups of these.
pub(super) fn status(cluster: &Cluster, topics: &[Topic], groups: &[ConsumerGroup]) -> String {
    let mut text = String::new();
    let name = cluster.name_any();
    let status = cluster.status.clone().unwrap_or_default();
    let number = |number: Option<i32>| number.map_or("?".to_owned(), |number| number.to_string());
    line(
        &mut text,
        &format!(
            "Cluster {name}: {} of {} brokers ready, version {}, {}",
            number(status.ready_replicas),
            cluster.spec.replicas,
            status.version.as_deref().unwrap_or("?"),
            status.bootstrap.as_deref().unwrap_or("no address yet"),
        ),
    );
    if let Some(brokers) = &status.brokers {
        let controller = brokers
            .controller
            .map_or("none".to_owned(), |id| format!("broker {id}"));
        line(
            &mut text,
            &format!(
                "  {} registered, {} alive, controller {controller}, {} partitions offline, {} moving",
                brokers.registered,
                brokers.alive,
                brokers.offline_partitions.unwrap_or(0),
                brokers.moving_partitions.unwrap_or(0),
            ),
        );
    }
    for condition in &status.conditions {
        line(&mut text, &format!("  {}", said(condition)));
    }
    let of = |cluster_of: &str| cluster_of == name;
    let topics: Vec<(String, &[Condition])> = topics
        .iter()
        .filter(|topic| of(&topic.spec.cluster_ref.name))
        .map(|topic| {
            let conditions = topic.status.as_ref().map(|status| &status.conditions[..]);
            (topic.name_any(), conditions.unwrap_or_default())
        })
        .collect();
    let groups: Vec<(String, &[Condition])> = groups
        .iter()
        .filter(|group| of(&group.spec.cluster_ref.name))
        .map(|group| {
            let conditions = group.status.as_ref().map(|status| &status.conditions[..]);
            (group.name_any(), conditions.unwrap_or_default())
        })
        .collect();
    summary(&mut text, "Topics", &topics);
    summary(&mut text, "ConsumerGroups", &groups);
    text
}

/// How many are ready, and which are not.
fn summary(text: &mut String, what: &str, all: &[(String, &[Condition])]) {
    let ready = |conditions: &[Condition]| {
        let mut conditions = conditions.iter();
        conditions
            .find(|condition| condition.type_ == "Ready")
            .cloned()
    };
    let is_ready = |condition: &Condition| condition.status == "True";
    let others: Vec<(&String, Option<Condition>)> = all
        .iter()
        .map(|(name, conditions)| (name, ready(conditions)))
        .filter(|(_, condition)| !condition.as_ref().is_some_and(is_ready))
        .collect();
    line(
        text,
        &format!(
            "  {what}: {} of {} ready",
            all.len() - others.len(),
            all.len()
        ),
    );
    for (name, condition) in others.iter().take(NAMED) {
        let why = condition
            .as_ref()
            .map_or("nothing was said of it yet".to_owned(), said);
        line(text, &format!("    {name}: {why}"));
    }
    if others.len() > NAMED {
        line(text, &format!("    and {} more", others.len() - NAMED));
    }
}

fn said(condition: &Condition) -> String {
    let Condition {
        type_,
        status,
        reason,
        message,
        ..
    } = condition;
    match message.is_empty() {
        true => format!("{type_} is {status} ({reason})"),
        false => format!("{type_} is {status} ({reason}): {message}"),
    }
}

/// What is about to be done, and what holds it.
pub(super) fn plan(cluster: &Cluster) -> String {
    let mut text = String::new();
    let plan = cluster
        .status
        .as_ref()
        .and_then(|status| status.plan.clone())
        .unwrap_or_default();
    let name = cluster.name_any();
    if plan.steps.is_empty() && plan.blocked.is_empty() {
        line(&mut text, &format!("Cluster {name}: nothing to do"));
        return text;
    }
    line(&mut text, &format!("Cluster {name}:"));
    for step in &plan.steps {
        let target = step.target.as_deref().unwrap_or_default();
        let why = step
            .message
            .as_ref()
            .map_or(String::new(), |message| format!(": {message}"));
        line(&mut text, &format!("  {} {target}{why}", step.action));
    }
    for blocked in &plan.blocked {
        line(
            &mut text,
            &format!(
                "  held by {}: {}: {}",
                blocked.gate, blocked.step, blocked.message
            ),
        );
    }
    text
}

/// A line for each group and topic.
pub(super) fn lag(groups: &[ConsumerGroup], now: Timestamp) -> String {
    let mut rows = vec![row([
        "GROUP", "STATE", "MEMBERS", "TOPIC", "LAG", "SECONDS",
    ])];
    for group in groups {
        let status = group.status.clone().unwrap_or_default();
        let state = match status.consumption.as_deref() {
            Some("Paused" | "Pausing") => status.consumption.clone(),
            _ => status.state.clone(),
        };
        let state = state.unwrap_or_else(|| "?".to_owned());
        let members = status
            .members
            .map_or("?".to_owned(), |count| count.to_string());
        let seconds = |since: Option<&str>| {
            let since = since?.parse::<Timestamp>().ok()?;
            Some(now.duration_since(since).as_secs().max(0).to_string())
        };
        if status.topics.is_empty() {
            let name = group.name_any();
            rows.push(row([&name, &state, &members, "-", "-", "-"]));
        }
        for topic in &status.topics {
            rows.push(row([
                &group.name_any(),
                &state,
                &members,
                &topic.topic,
                &topic.records.to_string(),
                &seconds(topic.oldest_time.as_deref()).unwrap_or_else(|| "0".to_owned()),
            ]));
        }
    }
    table(&rows)
}

/// What a reset has changed, or would.
pub(super) fn reset(last: &LastReset) -> String {
    let mut text = String::new();
    let fenced = last
        .fenced_members
        .map_or(String::new(), |count| format!(", {count} members fenced"));
    let what = match last.dry_run {
        true => "dry run",
        false => last.state.as_str(),
    };
    line(
        &mut text,
        &format!(
            "Reset {}: {what}: {}{fenced}",
            last.request_id, last.message
        ),
    );
    if last.partitions.is_empty() {
        return text;
    }
    let offset = |offset: Option<i64>| offset.map_or("-".to_owned(), |offset| offset.to_string());
    let mut rows = vec![row(["TOPIC", "PARTITION", "FROM", "TO"])];
    for one in &last.partitions {
        rows.push(row([
            &one.topic,
            &one.partition.to_string(),
            &offset(one.from),
            &offset(one.to),
        ]));
    }
    text.push_str(&table(&rows));
    text
}

pub(super) fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.into_iter().map(str::to_owned).collect()
}

/// Rows of one length, in columns.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let widths: Vec<usize> = (0..columns)
        .map(|at| {
            let cells = rows.iter().filter_map(|row| row.get(at));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for cells in rows {
        let mut said = String::new();
        for (cell, width) in cells.iter().zip(&widths) {
            // Writing into a String does not fail.
            let _ = write!(said, "{cell:<width$}   ");
        }
        line(&mut text, said.trim_end());
    }
    text
}

fn line(text: &mut String, said: &str) {
    text.push_str(said);
    text.push('\n');
}

#[cfg(test)]
mod tests;
