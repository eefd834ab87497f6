//! `docs/reference/crds.md`: every field with its type, default and bounds, and every rule in words.

use std::fmt::Write;

use serde_json::Value;
use weir_crds::{GROUP, VERSION, crds, schema::openapi};

use super::Generated;

/// Types of Kubernetes' own that appear as one row: their fields are documented there.
const OPAQUE: [&str; 5] = [
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "conditions",
    "metadata",
];

pub(crate) fn generate() -> Generated {
    let mut page = format!(
        "# Custom resources\n\n\
         Generated from the types in `crds/src`; `cargo run -p weir-crds --bin crdgen` writes it anew.\n\n\
         API group and version: `{GROUP}/{VERSION}`. A field that is not set is not managed: the brokers' or the cluster's\n\
         default applies, and nobody writes it into the resource. `kubectl get weir` lists all kinds.\n"
    );
    for crd in crds() {
        let names = crd.spec.names;
        let short = names.short_names.unwrap_or_default().join("`, `");
        let schema = openapi(&names.kind).unwrap_or_default();
        let mut rules = Vec::new();
        collect_rules(&schema, "", &mut rules);

        // Writing into a String cannot fail.
        let _ = write!(page, "\n## {}\n\n{}\n\n", names.kind, description(&schema));
        let _ = write!(
            page,
            "Names for kubectl: `{}`, `{short}`.\n\n",
            names.plural
        );
        for part in ["spec", "status"] {
            let _ = write!(page, "### {}.{part}\n\n", names.kind);
            page.push_str("| Field | Type | Default | Bounds | Meaning |\n|---|---|---|---|---|\n");
            let schema = schema
                .pointer(&format!("/properties/{part}"))
                .cloned()
                .unwrap_or_default();
            rows(&schema, part, &mut page);
            page.push('\n');
        }
        let _ = write!(
            page,
            "### Rules of {}\n\nWhat the API server says when one is broken:\n\n",
            names.kind
        );
        for (path, message) in rules {
            let _ = writeln!(page, "- {path}{message}");
        }
    }
    Generated {
        path: "docs/reference/crds.md".into(),
        contents: page,
    }
}

fn rows(schema: &Value, path: &str, page: &mut String) {
    let required: Vec<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in sorted(&schema["properties"]) {
        let path = format!("{path}.{name}");
        let default = match &field["default"] {
            Value::Null if required.contains(&name) => "required".to_owned(),
            Value::Null => String::new(),
            value => format!("`{value}`"),
        };
        let _ = writeln!(
            page,
            "| `{path}` | {} | {default} | {} | {} |",
            type_of(field),
            bounds(field),
            description(field).replace('|', "\\|")
        );
        if OPAQUE.contains(&name) {
            continue;
        }
        rows(field, &path, page);
        rows(&field["items"], &format!("{path}[]"), page);
    }
}

fn type_of(field: &Value) -> String {
    if field["x-kubernetes-int-or-string"] == true {
        return "integer or string".to_owned();
    }
    match field["type"].as_str().unwrap_or("any") {
        "array" => format!("list of {}", type_of(&field["items"])),
        "object" if field["additionalProperties"].is_object() => {
            format!("map to {}", type_of(&field["additionalProperties"]))
        }
        name => name.to_owned(),
    }
}

fn bounds(field: &Value) -> String {
    let mut said = Vec::new();
    let number = |value: &Value| value.as_f64().map(|n| n.to_string());
    match (number(&field["minimum"]), number(&field["maximum"])) {
        (Some(min), Some(max)) => said.push(format!("{min} to {max}")),
        (Some(min), None) => said.push(format!("at least {min}")),
        (None, Some(max)) => said.push(format!("at most {max}")),
        (None, None) => {}
    }
    if let Some(max) = field["maxLength"].as_u64() {
        said.push(format!("at most {max} characters"));
    }
    if let Some(max) = field["maxItems"]
        .as_u64()
        .or(field["maxProperties"].as_u64())
    {
        said.push(format!("at most {max} entries"));
    }
    if let Some(allowed) = field["enum"].as_array() {
        said.push(
            allowed
                .iter()
                .filter_map(Value::as_str)
                .map(|v| format!("`{v}`"))
                .collect::<Vec<_>>()
                .join(", "),
        );
    }
    said.join("; ")
}

/// A description as one line of a table.
fn description(field: &Value) -> String {
    field["description"]
        .as_str()
        .unwrap_or_default()
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
}

fn collect_rules(schema: &Value, path: &str, rules: &mut Vec<(String, String)>) {
    for rule in schema["x-kubernetes-validations"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let place = if path.is_empty() {
            String::new()
        } else {
            format!("`{path}`: ")
        };
        rules.push((
            place,
            rule["message"].as_str().unwrap_or_default().to_owned(),
        ));
    }
    for (name, field) in sorted(&schema["properties"]) {
        let path = if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        };
        collect_rules(field, &path, rules);
        collect_rules(&field["items"], &format!("{path}[]"), rules);
    }
}

/// The properties of a schema in the order of their names.
fn sorted(properties: &Value) -> Vec<(&str, &Value)> {
    let mut fields: Vec<(&str, &Value)> = properties
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, field)| (name.as_str(), field))
        .collect();
    fields.sort_unstable_by_key(|(name, _)| *name);
    fields
}
