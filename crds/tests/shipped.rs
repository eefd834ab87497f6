#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(missing_docs, reason = "tests")]
//! What we hand out with the custom resources agrees with them: the examples, the charts, the tables of manifests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weir_crds::{Cluster, ConsumerGroup, Topic, admission, crds};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn documents(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::from_multiple(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn examples() -> Vec<PathBuf> {
    let folder = fs::read_dir(root().join("examples")).unwrap();
    let paths: Vec<PathBuf> = folder
        .map(|entry| entry.unwrap().path())
        .filter(|p| p.extension().is_some_and(|e| e == "yaml"))
        .collect();
    assert!(paths.len() >= 3);
    paths
}

#[test]
fn every_example_is_admitted_and_names_its_own_cluster() {
    for path in examples() {
        let documents = documents(&path);
        let cluster =
            documents.iter().find(|d| d["kind"] == "Cluster").unwrap()["metadata"]["name"].clone();
        for manifest in &documents {
            let admitted = admission::admit(manifest, None)
                .unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
            if manifest["kind"] != "Cluster" {
                assert_eq!(
                    admitted["spec"]["clusterRef"]["name"],
                    cluster,
                    "{}",
                    path.display()
                );
            }
        }
    }
}

#[test]
fn resources_survive_being_read_and_written() {
    for path in examples() {
        for manifest in documents(&path) {
            let admitted = admission::admit(&manifest, None).unwrap();
            let written = match admitted["kind"].as_str().unwrap() {
                "Cluster" => serde_json::to_value(
                    serde_json::from_value::<Cluster>(admitted.clone()).unwrap(),
                ),
                "Topic" => {
                    serde_json::to_value(serde_json::from_value::<Topic>(admitted.clone()).unwrap())
                }
                _ => serde_json::to_value(
                    serde_json::from_value::<ConsumerGroup>(admitted.clone()).unwrap(),
                ),
            };
            assert_eq!(
                with_numbers_as_text(written.unwrap()),
                with_numbers_as_text(admitted)
            );
        }
    }
}

/// Numbers of configurations and resources become text when they are read; nothing else may change.
fn with_numbers_as_text(value: Value) -> Value {
    match value {
        Value::Number(n) => Value::String(n.to_string()),
        Value::Array(list) => list.into_iter().map(with_numbers_as_text).collect(),
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, with_numbers_as_text(v)))
            .collect(),
        other => other,
    }
}

#[test]
fn the_example_of_everything_sets_every_field() {
    let documents = documents(&root().join("examples/everything.yaml"));
    for crd in crds() {
        let kind = crd.spec.names.kind;
        let manifest = documents
            .iter()
            .find(|d| d["kind"] == kind.as_str())
            .unwrap();
        let schema = weir_crds::schema::openapi(&kind).unwrap();
        let mut missing = Vec::new();
        unset(
            &schema["properties"]["spec"],
            &manifest["spec"],
            "spec",
            &mut missing,
        );
        // version and image exclude each other, and so do delay and a bound in bytes, and view and any bound; rack is read by no version yet.
        let left_out = [
            "spec.image",
            "spec.rack",
            "spec.queue.delay",
            "spec.queue.view",
        ];
        missing.retain(|field| !left_out.contains(&field.as_str()));
        // A reset goes to one place, and a group begins at one.
        let other_places = [
            "spec.begin.timestamp",
            "spec.begin.secondsBack",
            "spec.reset.timestamp",
            "spec.reset.offset",
            "spec.reset.shift",
        ];
        missing.retain(|field| !other_places.contains(&field.as_str()));
        assert!(
            missing.is_empty(),
            "examples/everything.yaml does not show {missing:?} of {kind}"
        );
    }
}

/// Fields of the schema, Kubernetes' own types aside, that a manifest does not set.
fn unset(schema: &Value, value: &Value, path: &str, missing: &mut Vec<String>) {
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        match value.get(name) {
            None => missing.push(path),
            Some(value)
                if !matches!(
                    name.as_str(),
                    "affinity" | "tolerations" | "topologySpreadConstraints"
                ) =>
            {
                unset(field, value, &path, missing);
            }
            Some(_) => {}
        }
    }
}

#[test]
fn the_charts_have_the_version_of_the_workspace() {
    for chart in ["weir-operator", "weir-cluster"] {
        let chart = root().join("charts").join(chart).join("Chart.yaml");
        let document = documents(&chart).remove(0);
        assert_eq!(
            document["version"],
            env!("CARGO_PKG_VERSION"),
            "{}",
            chart.display()
        );
        assert_eq!(
            document["appVersion"],
            env!("CARGO_PKG_VERSION"),
            "{}",
            chart.display()
        );
    }
}

#[test]
fn the_values_of_the_cluster_chart_make_a_cluster_that_is_admitted() {
    let values = documents(&root().join("charts/weir-cluster/values.yaml")).remove(0);
    let manifest = serde_json::json!({
        "apiVersion": "weir.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": "shop"},
        "spec": values["cluster"],
    });
    admission::admit(&manifest, None).unwrap();
}

#[test]
fn every_list_map_and_text_of_a_spec_has_a_bound() {
    for crd in crds() {
        let kind = crd.spec.names.kind;
        let schema = weir_crds::schema::openapi(&kind).unwrap();
        let mut unbounded = Vec::new();
        bounds(
            &schema["properties"]["spec"],
            &format!("{kind}.spec"),
            &mut unbounded,
        );
        assert!(unbounded.is_empty(), "without a bound: {unbounded:?}");
    }
}

fn bounds(schema: &Value, path: &str, unbounded: &mut Vec<String>) {
    // Types of Kubernetes' own are validated again where they end up, in the pod.
    if ["affinity", "tolerations[]", "topologySpreadConstraints[]"]
        .iter()
        .any(|own| path.ends_with(own))
    {
        return;
    }
    let bounded = match schema["type"].as_str() {
        Some("string") => schema["maxLength"].is_u64() || schema["enum"].is_array(),
        Some("array") => schema["maxItems"].is_u64(),
        Some("object") if schema["additionalProperties"].is_object() => {
            schema["maxProperties"].is_u64()
        }
        Some("integer") => schema["minimum"].is_number(),
        _ if schema["x-kubernetes-int-or-string"] == true => schema["maxLength"].is_u64(),
        _ => true,
    };
    if !bounded {
        unbounded.push(path.to_owned());
    }
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        bounds(field, &format!("{path}.{name}"), unbounded);
    }
    if schema["items"].is_object() {
        bounds(&schema["items"], &format!("{path}[]"), unbounded);
    }
    if schema["additionalProperties"].is_object() {
        bounds(
            &schema["additionalProperties"],
            &format!("{path}{{}}"),
            unbounded,
        );
    }
}

#[test]
fn every_rule_says_what_is_wrong_in_a_sentence() {
    fn walk(schema: &Value, rules: &mut usize) {
        for rule in schema["x-kubernetes-validations"]
            .as_array()
            .into_iter()
            .flatten()
        {
            *rules += 1;
            let message = rule["message"].as_str().unwrap_or_default();
            assert!(message.len() > 20 && !message.contains('\n'), "{rule}");
        }
        match schema {
            Value::Object(fields) => fields.values().for_each(|field| walk(field, rules)),
            Value::Array(items) => items.iter().for_each(|item| walk(item, rules)),
            _ => {}
        }
    }
    let mut rules = 0;
    for crd in crds() {
        walk(
            &serde_json::to_value(&crd.spec.versions[0].schema).unwrap(),
            &mut rules,
        );
    }
    assert!(rules >= 18, "{rules}");
}

#[test]
fn an_absent_field_and_null_are_not_two_ways_to_say_one_thing() {
    for crd in crds() {
        let text = serde_json::to_string(&crd).unwrap();
        assert!(!text.contains("nullable"), "{}", crd.spec.names.kind);
    }
}
