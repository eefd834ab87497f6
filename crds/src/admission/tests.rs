#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
//! The tables of manifests in `tests/`: bad ones with what is said of them, good ones, and pairs of old and new.
//!
//! The same files go to a real API server in `tests/kube`.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    assert!(!paths.is_empty(), "{} is empty", folder.display());
    paths
}

fn manifest(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap();
    serde_yaml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What the first line of a file, `# expect: ...`, says.
fn expectation(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let first = text.lines().next().unwrap();
    first
        .strip_prefix("# expect: ")
        .unwrap_or_else(|| panic!("{}: no expectation", path.display()))
        .to_owned()
}

#[test]
fn a_bad_manifest_is_refused_for_the_reason_that_its_file_says() {
    for path in entries(&folder("bad")) {
        let expected = expectation(&path);
        let refusal = admit(&manifest(&path), None)
            .expect_err(&path.display().to_string())
            .to_string();
        assert!(
            refusal.contains(&expected),
            "{}\n  expected: {expected}\n  refusal:  {refusal}",
            path.display()
        );
    }
}

#[test]
fn a_good_manifest_is_admitted() {
    for path in entries(&folder("good")) {
        admit(&manifest(&path), None)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", path.display()));
    }
}

#[test]
fn a_change_is_judged_by_what_was_there_before() {
    for pair in entries(&folder("update")) {
        let old = admit(&manifest(&pair.join("old.yaml")), None).unwrap();
        let new = pair.join("new.yaml");
        let expected = expectation(&new);
        match admit(&manifest(&new), Some(&old)) {
            Ok(_) => assert_eq!(expected, "accepted", "{}", pair.display()),
            Err(refusal) => assert!(
                refusal.to_string().contains(&expected),
                "{}\n  expected: {expected}\n  refusal:  {refusal}",
                pair.display()
            ),
        }
    }
}

#[test]
fn defaults_are_those_that_the_schema_says() {
    let topic = serde_json::json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Topic", "metadata": {"name": "orders"},
        "spec": {"clusterRef": {"name": "shop"}},
    });
    let admitted = admit(&topic, None).unwrap();
    assert_eq!(
        admitted["spec"],
        serde_json::json!({"clusterRef": {"name": "shop"}, "deletionPolicy": "Retain", "driftPolicy": "Repair"})
    );

    let cluster = serde_json::json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "shop"},
        "spec": {"storage": {"size": "1Gi"}},
    });
    let admitted = admit(&cluster, None).unwrap();
    assert_eq!(
        admitted["spec"],
        serde_json::json!({"replicas": 3, "paused": false, "storage": {"size": "1Gi", "onScaleDown": "Retain"}})
    );
}

#[test]
fn what_is_not_ours_is_named() {
    let secret =
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}});
    assert!(!is_ours(&secret));
    let user = serde_json::json!({"apiVersion": "weir.dev/v1alpha1", "kind": "Queue", "metadata": {"name": "a"}});
    assert!(is_ours(&user));
    assert_eq!(
        admit(&user, None).unwrap_err().to_string(),
        "Queue \"a\" is invalid: kind: must be one of Cluster, Topic, ConsumerGroup"
    );
}
