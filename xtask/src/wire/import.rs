//! `cargo xtask wire --import`: the schema from Kafka's own message definitions.
//!
//! They are in the `kafka-clients` jar, and those of the coordinators' records in the `kafka-group-coordinator` and `kafka-transaction-coordinator` jars, under
//! `common/message`. What is kept is what the generator reads; prose is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Outcome;

/// What is kept of a message, in the order it is written in.
const MESSAGE: [&str; 6] = [
    "name",
    "type",
    "apiKey",
    "validVersions",
    "flexibleVersions",
    "latestVersionUnstable",
];
/// What is kept of a struct that several fields share.
const STRUCT: [&str; 2] = ["name", "versions"];
/// What is kept of a field.
const FIELD: [&str; 9] = [
    "name",
    "type",
    "versions",
    "nullableVersions",
    "tag",
    "taggedVersions",
    "flexibleVersions",
    "ignorable",
    "default",
];
/// Messages that are neither requests nor responses and are wanted all the same.
const OTHERS: [&str; 40] = [
    "RequestHeader",
    "ResponseHeader",
    "ConsumerProtocolAssignment",
    "ConsumerProtocolSubscription",
    "OffsetCommitKey",
    "OffsetCommitValue",
    "GroupMetadataKey",
    "GroupMetadataValue",
    "ShareSnapshotKey",
    "ShareSnapshotValue",
    "ShareUpdateKey",
    "ShareUpdateValue",
    "ConsumerGroupMetadataKey",
    "ConsumerGroupMetadataValue",
    "ConsumerGroupPartitionMetadataKey",
    "ConsumerGroupPartitionMetadataValue",
    "ConsumerGroupMemberMetadataKey",
    "ConsumerGroupMemberMetadataValue",
    "ConsumerGroupTargetAssignmentMetadataKey",
    "ConsumerGroupTargetAssignmentMetadataValue",
    "ConsumerGroupTargetAssignmentMemberKey",
    "ConsumerGroupTargetAssignmentMemberValue",
    "ConsumerGroupCurrentMemberAssignmentKey",
    "ConsumerGroupCurrentMemberAssignmentValue",
    "ConsumerGroupRegularExpressionKey",
    "ConsumerGroupRegularExpressionValue",
    "ShareGroupMetadataKey",
    "ShareGroupMetadataValue",
    "ShareGroupMemberMetadataKey",
    "ShareGroupMemberMetadataValue",
    "ShareGroupTargetAssignmentMetadataKey",
    "ShareGroupTargetAssignmentMetadataValue",
    "ShareGroupTargetAssignmentMemberKey",
    "ShareGroupTargetAssignmentMemberValue",
    "ShareGroupCurrentMemberAssignmentKey",
    "ShareGroupCurrentMemberAssignmentValue",
    "ShareGroupStatePartitionMetadataKey",
    "ShareGroupStatePartitionMetadataValue",
    "TransactionLogKey",
    "TransactionLogValue",
];

/// Writes the schema of what clients may call, from a directory with the unpacked definitions.
pub(super) fn run(from: &Path, schema: &Path) -> Outcome {
    let mut messages = BTreeMap::new();
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            let message = parse(&fs::read_to_string(&path)?)
                .map_err(|error| format!("{}: {error}", path.display()))?;
            messages.insert(
                message["name"].as_str().unwrap_or_default().to_owned(),
                message,
            );
        }
    }
    let called: BTreeSet<i64> = messages.values().filter_map(called_by_clients).collect();
    for (name, message) in &messages {
        let is_api =
            ["request", "response"].contains(&message["type"].as_str().unwrap_or_default());
        let is_called = message["apiKey"]
            .as_i64()
            .is_some_and(|key| called.contains(&key));
        if (is_api && is_called) || OTHERS.contains(&name.as_str()) {
            let mut text = written(message, &MESSAGE, 0);
            text.push('\n');
            fs::write(schema.join(format!("{name}.json")), text)?;
        }
    }
    Ok(())
}

/// JSON with lines of comments.
fn parse(text: &str) -> serde_json::Result<Value> {
    let lines = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    serde_json::from_str(&lines.collect::<Vec<_>>().join("\n"))
}

/// The API's key, when the listeners that clients use offer it.
fn called_by_clients(message: &Value) -> Option<i64> {
    let listeners = message["listeners"].as_array()?;
    listeners
        .contains(&Value::from("broker"))
        .then(|| message["apiKey"].as_i64())?
}

/// An object with what is kept of it: on one line, but for what lies within.
fn written(object: &Value, kept: &[&str], depth: usize) -> String {
    let indent = "  ".repeat(depth);
    let mut members: Vec<String> = kept
        .iter()
        .filter_map(|&key| Some(format!("\"{key}\": {}", value(key, object.get(key)?)?)))
        .collect();
    for (key, kept) in [("commonStructs", STRUCT.as_slice()), ("fields", &FIELD)] {
        let Some(inner) = object[key].as_array() else {
            continue;
        };
        let inner: Vec<_> = inner
            .iter()
            .map(|inner| written(inner, kept, depth + 1))
            .collect();
        members.push(match inner.is_empty() {
            true => format!("\"{key}\": []"),
            false => format!("\"{key}\": [\n{}\n{indent}]", inner.join(",\n")),
        });
    }
    let mut text = String::new();
    let _ = write!(text, "{indent}{{ {} }}", members.join(", "));
    text
}

/// A value as it is written; none where it says nothing.
fn value(key: &str, value: &Value) -> Option<String> {
    match (key, value) {
        (_, Value::Bool(false)) if key != "default" => None,
        ("default", Value::String(default)) => {
            let default = default.trim();
            let hexadecimal = default
                .strip_prefix("0x")
                .and_then(|hex| i64::from_str_radix(hex, 16).ok());
            Some(format!(
                "\"{}\"",
                hexadecimal.map_or_else(|| default.to_owned(), |number| number.to_string())
            ))
        }
        ("default", value) => Some(format!("\"{value}\"")),
        (_, value) => Some(value.to_string()),
    }
}
