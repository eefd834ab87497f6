//! Whether an object in the API differs from what it should be, and where.
//!
//! What others added (defaults, other field managers) is theirs and no drift. Lists are compared by their elements' names where
//! those have names. A field that was ours and no longer is shows in the annotation with the hash of what was applied last.

use serde_json::Value;

use crate::quantity::Quantity;

/// The first difference, as `path: is → should be`; `None` when everything that is ours is as it should be.
///
/// Metadata comes last: when a spec and its hash differ, the spec says more.
#[must_use]
pub fn first_difference(desired: &Value, observed: &Value) -> Option<String> {
    let (Value::Object(wanted), Value::Object(there)) = (desired, observed) else {
        return difference("", desired, observed);
    };
    let content = wanted.iter().filter(|(key, _)| *key != "metadata");
    let metadata = wanted.iter().filter(|(key, _)| *key == "metadata");
    content
        .chain(metadata)
        .find_map(|(key, value)| field_difference(key, value, there.get(key)))
}

fn field_difference(path: &str, desired: &Value, observed: Option<&Value>) -> Option<String> {
    match observed {
        Some(observed) => difference(path, desired, observed),
        None if is_nothing(path, desired) => None,
        None => Some(format!("{path}: unset → {}", brief(desired))),
    }
}

fn difference(path: &str, desired: &Value, observed: &Value) -> Option<String> {
    match (desired, observed) {
        (Value::Object(desired), Value::Object(observed)) => {
            desired.iter().find_map(|(key, value)| {
                field_difference(&format!("{path}.{key}"), value, observed.get(key))
            })
        }
        (Value::Array(desired), Value::Array(observed)) => list_difference(path, desired, observed),
        (Value::String(desired_text), Value::String(observed_text))
            if desired_text != observed_text =>
        {
            let amounts = (
                Quantity::parse(desired_text),
                Quantity::parse(observed_text),
            );
            let same_amount =
                holds_quantities(path) && amounts.0.is_some() && amounts.0 == amounts.1;
            (!same_amount).then(|| change(path, desired, observed))
        }
        _ if desired == observed => None,
        _ => Some(change(path, desired, observed)),
    }
}

fn list_difference(path: &str, desired: &[Value], observed: &[Value]) -> Option<String> {
    if let Some(named) = desired
        .iter()
        .map(|item| item.get("name").and_then(Value::as_str))
        .collect::<Option<Vec<&str>>>()
    {
        return named.into_iter().zip(desired).find_map(|(name, item)| {
            let path = format!("{path}[{name}]");
            match observed
                .iter()
                .find(|other| other.get("name").and_then(Value::as_str) == Some(name))
            {
                Some(other) => difference(&path, item, other),
                None => Some(format!("{path}: missing")),
            }
        });
    }
    if desired.len() != observed.len() {
        return Some(format!(
            "{path}: {} → {} elements",
            observed.len(),
            desired.len()
        ));
    }
    desired
        .iter()
        .zip(observed)
        .enumerate()
        .find_map(|(at, (desired, observed))| {
            difference(&format!("{path}[{at}]"), desired, observed)
        })
}

/// The API server drops what is empty: of text, all but the values of maps whose keys somebody chose.
fn is_nothing(path: &str, value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map
            .iter()
            .all(|(key, value)| is_nothing(&format!("{path}.{key}"), value)),
        Value::Array(list) => list.is_empty(),
        Value::String(text) => text.is_empty() && !is_of_a_map(path),
        _ => false,
    }
}

/// Whether the text at a path is the value of such a map.
fn is_of_a_map(path: &str) -> bool {
    let maps = [
        ".labels.",
        ".annotations.",
        ".nodeSelector.",
        ".matchLabels.",
    ];
    path.starts_with("data.") || maps.iter().any(|map| path.contains(map))
}

/// Fields whose text is an amount, which the API server writes in its own spelling.
fn holds_quantities(path: &str) -> bool {
    path.contains(".requests.") || path.contains(".limits.")
}

fn change(path: &str, desired: &Value, observed: &Value) -> String {
    if let (Value::String(desired), Value::String(observed)) = (desired, observed)
        && desired.contains('\n')
    {
        // Of a file, the first line that differs.
        let line =
            |text: &str, at: usize| text.lines().nth(at).unwrap_or("nothing").trim().to_owned();
        let at = desired
            .lines()
            .zip(observed.lines())
            .take_while(|(desired, observed)| desired == observed)
            .count();
        return format!(
            "{path}: line {}: {} → {}",
            at + 1,
            line(observed, at),
            line(desired, at)
        );
    }
    format!("{path}: {} → {}", brief(observed), brief(desired))
}

/// A value, short enough for a line.
fn brief(value: &Value) -> String {
    /// Enough to recognise a value.
    const CHARS_MAX: usize = 60;
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let text = text.replace('\n', " ");
    if text.chars().count() <= CHARS_MAX {
        text
    } else {
        format!("{}…", text.chars().take(CHARS_MAX).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::first_difference;

    #[test]
    fn what_the_api_server_and_others_added_is_no_drift() {
        let desired = json!({"metadata": {"labels": {"a": "1"}}, "spec": {"ports": [{"name": "kafka", "port": 9092}], "empty": {}}});
        let observed = json!({
            "metadata": {"labels": {"a": "1", "theirs": "x"}, "uid": "u"},
            "spec": {"ports": [{"name": "more", "port": 1}, {"name": "kafka", "port": 9092, "nodePort": 31000}], "type": "ClusterIP"},
        });
        assert_eq!(first_difference(&desired, &observed), None);
    }

    #[test]
    fn a_difference_is_named_with_both_values() {
        for (desired, observed, expected) in [
            (
                json!({"spec": {"replicas": 5}}),
                json!({"spec": {"replicas": 3}}),
                "spec.replicas: 3 → 5",
            ),
            (
                json!({"spec": {"replicas": 5}}),
                json!({"spec": {}}),
                "spec.replicas: unset → 5",
            ),
            (
                json!({"c": [{"name": "a", "image": "2"}]}),
                json!({"c": [{"name": "a", "image": "1"}]}),
                "c[a].image: 1 → 2",
            ),
            (
                json!({"c": [{"name": "a"}]}),
                json!({"c": []}),
                "c[a]: missing",
            ),
            (
                json!({"metadata": {"a": "1"}, "spec": {"b": "1"}}),
                json!({"metadata": {"a": "2"}, "spec": {"b": "2"}}),
                "spec.b: 2 → 1",
            ),
            (
                json!({"data": {"f": "a\nb: 2\n"}}),
                json!({"data": {"f": "a\nb: 1\n"}}),
                "data.f: line 2: b: 1 → b: 2",
            ),
            (
                json!({"args": ["x"]}),
                json!({"args": ["x", "y"]}),
                "args: 2 → 1 elements",
            ),
        ] {
            assert_eq!(
                first_difference(&desired, &observed).as_deref(),
                Some(expected)
            );
        }
    }

    #[test]
    fn empty_text_is_dropped_and_no_drift_but_for_values_of_maps() {
        let empty = json!({"spec": {"tolerations": [{"key": "", "operator": "Exists"}], "env": [{"name": "FOO", "value": ""}]}});
        let kept =
            json!({"spec": {"tolerations": [{"operator": "Exists"}], "env": [{"name": "FOO"}]}});
        assert_eq!(first_difference(&empty, &kept), None);
        let other = json!({"spec": {"tolerations": [{"operator": "Exists"}], "env": [{"name": "FOO", "value": "1"}]}});
        assert!(
            first_difference(&empty, &other).is_some(),
            "it was not empty"
        );
        for map in ["labels", "annotations", "nodeSelector", "matchLabels"] {
            let (with, without) = (json!({"x": {map: {"a": ""}}}), json!({"x": {map: {}}}));
            assert!(first_difference(&with, &without).is_some(), "{map}");
            assert!(
                first_difference(&with, &json!({"x": {}})).is_some(),
                "{map}"
            );
        }
        assert!(first_difference(&json!({"data": {"a": ""}}), &json!({"data": {}})).is_some());
    }

    #[test]
    fn amounts_are_compared_as_amounts_only_where_amounts_stand() {
        let amount = |text: &str| json!({"resources": {"requests": {"cpu": text}}});
        assert_eq!(first_difference(&amount("1000m"), &amount("1")), None);
        assert!(first_difference(&amount("1000m"), &amount("2")).is_some());
        assert!(
            first_difference(
                &json!({"data": {"x": "1000m"}}),
                &json!({"data": {"x": "1"}})
            )
            .is_some()
        );
    }
}
