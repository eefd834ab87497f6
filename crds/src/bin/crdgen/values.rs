//! `values.schema.json` of the chart `weir-cluster`: the chart's values are the resources' specs, less what it sets itself.

use serde_json::{Map, Value, json};
use weir_crds::schema::openapi;

use super::Generated;
use super::sorted::Sorted;

pub(crate) fn generate() -> Result<Generated, Box<dyn std::error::Error>> {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart weir-cluster",
        "$comment": "Generated from the types in crds/src. Do not edit: `cargo run -p weir-crds --bin crdgen` writes it anew.",
        "type": "object",
        "additionalProperties": false,
        "properties": {
            "nameOverride": {
                "description": "Name of the Cluster. Empty, the name of the release.",
                "type": "string",
                "maxLength": weir_crds::MAX_CLUSTER_NAME,
            },
            "cluster": spec("Cluster", &[])?,
            "topics": {
                "description": "Topics by the name of their resource.",
                "type": "object",
                "additionalProperties": spec("Topic", &["clusterRef"])?,
            },
            "consumerGroups": {
                "description": "Consumer groups by the name of their resource.",
                "type": "object",
                "additionalProperties": spec("ConsumerGroup", &["clusterRef"])?,
            },
            "test": {
                "description": "The pod of `helm test`.",
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "image": {
                        "description": "Image of the pod: the broker's. Empty, the one that cluster.image or cluster.version names, or that of this chart's version.",
                        "type": "string",
                    },
                    "imagePullPolicy": {
                        "description": "When nodes pull the image.",
                        "enum": ["", "Always", "IfNotPresent", "Never"],
                    },
                    "topic": {
                        "description": "Topic that the pod produces to and consumes from.",
                        "type": "string",
                        "minLength": 1,
                        "maxLength": 249,
                    },
                },
            },
            "global": { "description": "Helm's own, for charts that contain this one.", "type": "object" },
        },
    });
    Ok(Generated {
        path: "charts/weir-cluster/values.schema.json".into(),
        contents: serde_json::to_string_pretty(&Sorted::from(schema))? + "\n",
    })
}

/// The spec of a kind as JSON schema, without the fields that the chart sets itself.
fn spec(kind: &str, without: &[&str]) -> Result<Value, String> {
    let mut spec = openapi(kind)
        .and_then(|schema| schema.pointer("/properties/spec").cloned())
        .ok_or_else(|| format!("{kind} has no spec"))?;
    if let Some(properties) = spec.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| !without.contains(&name.as_str()));
    }
    if let Some(required) = spec.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| !without.iter().any(|w| name == w));
    }
    Ok(json_schema(spec))
}

/// OpenAPI as Kubernetes writes it, turned into JSON schema: unknown fields are refused, extensions are dropped.
fn json_schema(schema: Value) -> Value {
    let Value::Object(fields) = schema else {
        return schema;
    };
    let is = |extension: &str| fields.get(extension) == Some(&Value::Bool(true));
    let int_or_string = is("x-kubernetes-int-or-string");
    let closed = fields.contains_key("properties") && !fields.contains_key("additionalProperties");
    let mut out = Map::new();
    for (name, value) in fields {
        let value = match (name.as_str(), value) {
            (name, _) if name.starts_with("x-kubernetes-") => continue,
            // OpenAPI's numeric formats are unknown to JSON schema, and its lists of requirements may not be empty.
            ("format" | "anyOf", _) => continue,
            ("required", Value::Array(list)) if list.is_empty() => continue,
            ("properties", Value::Object(properties)) => Value::Object(
                properties
                    .into_iter()
                    .map(|(k, v)| (k, json_schema(v)))
                    .collect(),
            ),
            ("items" | "additionalProperties", value) => json_schema(value),
            (_, value) => value,
        };
        out.insert(name, value);
    }
    if int_or_string {
        out.insert("type".to_owned(), json!(["integer", "string"]));
    }
    if closed {
        out.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
    Value::Object(out)
}
