//! Every leaf of the resources' schemas, and another value for each: what the story of leaves changes and changes back.
//!
//! A leaf that has neither a value here nor a reason for having none fails a test that needs no Kubernetes, so that nobody forgets a new field.

use std::collections::BTreeSet;

use serde_json::{Value, json};

/// Leaves that are changed together.
#[derive(Clone, Debug)]
pub struct Batch {
    /// What it is.
    pub what: &'static str,
    /// Whether anything but the resource itself looks different then.
    pub shows: bool,
    /// What is merged into `spec`.
    pub spec: Value,
}

/// One kind of resources.
#[derive(Clone, Debug)]
pub struct Kind {
    /// Its name in plural.
    pub plural: &'static str,
    /// The `spec` that everything begins and ends with.
    pub base: Value,
    /// What is changed, one after the other.
    pub batches: Vec<Batch>,
    /// Leaves that are changed though nothing but the resource itself looks different then, and why.
    pub unseen: &'static [(&'static str, &'static str)],
    /// Leaves that are not changed here, and why.
    pub left_out: &'static [(&'static str, &'static str)],
}

/// Kubernetes' own types, which are passed on as they are: below these nothing is Weir's.
const OF_KUBERNETES: [&str; 3] = [
    "pod.affinity",
    "pod.tolerations",
    "pod.topologySpreadConstraints",
];

/// The kinds, with a Cluster `shop`, a Topic `orders` and a ConsumerGroup `packers`.
#[must_use]
pub fn kinds(version: &str) -> [Kind; 3] {
    [cluster(version), topic(), group()]
}

fn cluster(version: &str) -> Kind {
    let pods = json!({
        "version": version,
        "imagePullPolicy": "Never",
        "imagePullSecrets": [{"name": "registry"}],
        "resources": {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "768Mi"}},
        "pod": {
            "annotations": {"leaf": "annotation"},
            "labels": {"leaf": "label"},
            "env": [{"name": "LEAF", "value": "set"}],
            "nodeSelector": {"kubernetes.io/os": "linux"},
            "priorityClassName": "weir-leaves",
            "serviceAccountAnnotations": {"leaf": "account"},
            "terminationGracePeriodSeconds": 45,
            "tolerations": [{"key": "leaf", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 1, "preference": {"matchExpressions": [{"key": "leaf", "operator": "Exists"}]}},
            ]}},
            "topologySpreadConstraints": [{
                "maxSkew": 2, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": {"leaf": "label"}},
            }],
        },
    });
    let around = json!({
        "config": {"num.partitions": 2},
        "rack": {"topologyKey": "kubernetes.io/hostname"},
        "storage": {"onScaleDown": "Delete", "autoGrow": {"maximum": "2Gi", "step": "100Mi", "thresholdPercent": 95}},
        "upgrade": {"finalizeAfterSeconds": 700},
        "tracing": {"otlpEndpoint": "http://collector.example.com:4318"},
        "listeners": [
            {
                "name": "one", "port": 9100, "type": "internal", "advertisedHost": "broker-{id}.example.com", "advertisedPort": 443,
                "annotations": {"leaf": "{id}"}, "tls": {"certificateSecret": "absent"},
            },
            {
                "name": "two", "port": 9101, "type": "nodePort", "nodeAddressType": "InternalIP", "bootstrapNodePort": 31_950,
                "brokers": [{"id": 0, "advertisedHost": "elsewhere.example.com", "advertisedPort": 1_234, "nodePort": 31_951}],
            },
            {"name": "three", "port": 9102, "type": "loadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]},
        ],
    });
    Kind {
        plural: "clusters",
        base: json!({"replicas": 1, "storage": {"size": "1Gi"}}),
        batches: vec![
            batch("what pods are made of", true, pods),
            batch("what is around them", true, around),
            batch(
                "the image by its name",
                false,
                json!({"image": format!("weir-broker:{version}")}),
            ),
            batch("paused", false, json!({"paused": true})),
        ],
        unseen: &[
            ("image", "it is the one that the default names"),
            ("paused", "nothing is to be done that would wait"),
        ],
        left_out: &[
            (
                "replicas",
                "scaling.rs changes it and changes it back, under load",
            ),
            ("storage.size", "volumes never shrink"),
            (
                "storage.storageClassName",
                "it cannot change while there are volumes",
            ),
        ],
    }
}

fn topic() -> Kind {
    let bounded = json!({
        "config": {"max.message.bytes": 2_000_000},
        "replicationFactor": 1,
        "queue": {
            "bound": {"maxMessages": 100, "maxBytes": 1_000_000, "overflow": "DropOldest", "scope": "Topic"},
            "group": "packers", "messageTtlSeconds": 60, "order": "Key", "priority": "Strict",
            "trace": {"ratio": 0.5},
        },
    });
    Kind {
        plural: "topics",
        base: json!({"clusterRef": {"name": "shop"}, "partitions": 3}),
        batches: vec![
            batch("a bounded queue", true, bounded),
            batch(
                "a queue that delays",
                true,
                json!({"queue": {"delay": {"max": "1h"}, "deduplicationWindowSeconds": 60}}),
            ),
            batch(
                "a view",
                true,
                json!({"queue": {"view": {"of": "others", "filter": "key == 'a'"}}}),
            ),
            batch(
                "what concerns other times",
                false,
                json!({"deletionPolicy": "Delete", "driftPolicy": "Report"}),
            ),
        ],
        unseen: &[
            (
                "replicationFactor",
                "there is one broker, so the topic has one replica already",
            ),
            (
                "deletionPolicy",
                "the resource gets a finalizer, and the topic shows nothing of it before it is deleted",
            ),
            ("driftPolicy", "nobody else changes the topic"),
        ],
        left_out: &[
            ("clusterRef.name", "a Topic stays with its Cluster"),
            ("topicName", "a topic keeps its name"),
            ("partitions", "partitions never become fewer"),
        ],
    }
}

fn group() -> Kind {
    let sharing = json!({
        "topics": ["orders", "others"],
        "paused": true,
        "begin": {"shareGroup": true, "secondsBack": 60},
        "lagObjective": {"records": 10, "seconds": 10},
        "filter": "headers.kind == 'large'",
        "retry": {"backoffMilliseconds": [100, 1_000], "maxDeliveries": 3},
        "deadLetters": {"topic": "dlq.orders", "copyRecord": true, "maxPerMinute": 10},
        "lease": {"seconds": 45, "maxPerPartition": 500, "renewable": false},
        "isolation": "ReadCommitted",
        "config": {"share.heartbeat.interval.ms": "6000"},
    });
    let scale = json!({"scale": {
        "deployment": "absent", "minReplicas": 1, "maxReplicas": 2, "lagPerReplica": 100,
        "scaleUpStabilizationSeconds": 1, "scaleDownStabilizationSeconds": 60,
    }});
    Kind {
        plural: "consumergroups",
        base: json!({"clusterRef": {"name": "shop"}, "topics": ["orders"]}),
        batches: vec![
            batch("how it reads", true, sharing),
            batch("a Deployment that is not there", false, scale),
        ],
        unseen: &[
            ("scale.deployment", NOT_THERE),
            ("scale.lagPerReplica", NOT_THERE),
            ("scale.maxReplicas", NOT_THERE),
            ("scale.minReplicas", NOT_THERE),
            ("scale.scaleDownStabilizationSeconds", NOT_THERE),
            ("scale.scaleUpStabilizationSeconds", NOT_THERE),
        ],
        left_out: &[
            ("clusterRef.name", "a group stays with its Cluster"),
            ("groupId", "a group keeps its id"),
            (
                "begin.to",
                "groups.rs has a group begin by it, and the other way is changed here",
            ),
            (
                "begin.timestamp",
                "offsets are committed once, and not undone by taking it back: groups.rs",
            ),
            ("reset.requestId", ONCE),
            ("reset.dryRun", ONCE),
            ("reset.offset", ONCE),
            ("reset.partitions", ONCE),
            ("reset.shift", ONCE),
            ("reset.timestamp", ONCE),
            ("reset.to", ONCE),
            ("reset.topics", ONCE),
        ],
    }
}

/// Why resets are left out.
const ONCE: &str = "a reset is done once, and not undone by taking it back: groups.rs";

/// Why scaling shows nothing.
const NOT_THERE: &str = "there is no such Deployment; groups.rs scales one";

fn batch(what: &'static str, shows: bool, spec: Value) -> Batch {
    Batch { what, shows, spec }
}

/// The leaves of a schema, as paths below `spec`; lists and maps are as their members.
#[must_use]
pub fn of_schema(spec: &Value) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    walk(spec, None, "", &mut leaves);
    leaves
}

/// The leaves that a value sets.
#[must_use]
pub fn of_value(spec: &Value, value: &Value) -> BTreeSet<String> {
    let mut leaves = BTreeSet::new();
    walk(spec, Some(value), "", &mut leaves);
    leaves
}

/// Walks a schema, as far as there is a value where one is given.
fn walk(schema: &Value, value: Option<&Value>, path: &str, leaves: &mut BTreeSet<String>) {
    if let Some(fields) = schema["properties"].as_object()
        && !OF_KUBERNETES.contains(&path)
    {
        for (name, schema) in fields {
            let field = value.map(|value| &value[name.as_str()]);
            if field.is_some_and(Value::is_null) {
                continue;
            }
            let path = format!("{path}.{name}");
            walk(schema, field, path.trim_start_matches('.'), leaves);
        }
        return;
    }
    let items = &schema["items"];
    if items["properties"].is_object() && !OF_KUBERNETES.contains(&path) {
        match value.and_then(Value::as_array) {
            None => walk(items, None, path, leaves),
            Some(members) => members
                .iter()
                .for_each(|member| walk(items, Some(member), path, leaves)),
        }
        return;
    }
    leaves.insert(path.to_owned());
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;

    fn schema(plural: &str) -> Value {
        let crd = match plural {
            "clusters" => weir_crds::Cluster::crd(),
            "topics" => weir_crds::Topic::crd(),
            _ => weir_crds::ConsumerGroup::crd(),
        };
        let crd = serde_json::to_value(crd).unwrap_or_default();
        crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone()
    }

    #[test]
    fn every_leaf_has_another_value_or_a_reason_for_having_none() {
        for kind in kinds("1") {
            let schema = schema(kind.plural);
            let leaves = of_schema(&schema);
            assert!(leaves.len() > 10, "the schema of {} is read", kind.plural);
            let mut covered = BTreeSet::new();
            for batch in &kind.batches {
                let set = of_value(&schema, &batch.spec);
                assert!(!set.is_empty(), "{}: {}", kind.plural, batch.what);
                covered.extend(set);
            }
            covered.extend(kind.left_out.iter().map(|(leaf, _)| (*leaf).to_owned()));
            let forgotten: Vec<_> = leaves.difference(&covered).collect();
            assert_eq!(
                forgotten,
                Vec::<&String>::new(),
                "{}: give each another value in tests/src/leaves.rs, or say why it has none",
                kind.plural
            );
            let unknown: Vec<_> = covered.difference(&leaves).collect();
            assert_eq!(unknown, Vec::<&String>::new(), "no leaf of {}", kind.plural);
        }
    }

    #[test]
    fn a_leaf_that_shows_nothing_has_its_reason() {
        for kind in kinds("1") {
            let schema = schema(kind.plural);
            let unseen: BTreeSet<String> = kind
                .unseen
                .iter()
                .map(|(leaf, _)| (*leaf).to_owned())
                .collect();
            let mut changed = BTreeSet::new();
            for batch in &kind.batches {
                let set = of_value(&schema, &batch.spec);
                let seen = set.difference(&unseen).next();
                assert_eq!(
                    seen.is_some(),
                    batch.shows,
                    "{}: {}: {seen:?}",
                    kind.plural,
                    batch.what
                );
                changed.extend(set);
            }
            let idle: Vec<_> = unseen.difference(&changed).collect();
            assert_eq!(idle, Vec::<&String>::new(), "no batch changes it");
        }
    }

    #[test]
    fn every_batch_is_a_manifest_that_an_api_server_takes() {
        for kind in kinds("0.1.0") {
            for batch in std::iter::once(None).chain(kind.batches.iter().map(Some)) {
                let mut spec = kind.base.clone();
                if let Some(batch) = batch {
                    merge(&mut spec, &batch.spec);
                }
                let (name, what) = match kind.plural {
                    "clusters" => ("shop", "Cluster"),
                    "topics" => ("orders", "Topic"),
                    _ => ("packers", "ConsumerGroup"),
                };
                let manifest = json!({
                    "apiVersion": "weir.dev/v1alpha1", "kind": what, "metadata": {"name": name, "namespace": "leaves"}, "spec": spec,
                });
                let refused = weir_crds::admission::admit(&manifest, None);
                assert!(refused.is_ok(), "{manifest:#}: {refused:?}");
            }
        }
    }

    /// As an API server merges (RFC 7386).
    fn merge(into: &mut Value, patch: &Value) {
        match (into, patch) {
            (Value::Object(into), Value::Object(patch)) => {
                for (key, value) in patch {
                    merge(into.entry(key).or_insert(Value::Null), value);
                }
            }
            (into, patch) => *into = patch.clone(),
        }
    }
}
