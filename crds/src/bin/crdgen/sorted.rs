//! JSON values with their maps in the order of their keys, whatever `serde_json` was built to do.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A value that serialises the same each time.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Sorted {
    Map(BTreeMap<String, Sorted>),
    List(Vec<Sorted>),
    Whole(i64),
    Scalar(Value),
}

impl From<Value> for Sorted {
    fn from(value: Value) -> Self {
        match value {
            Value::Object(map) => Self::Map(map.into_iter().map(|(k, v)| (k, v.into())).collect()),
            Value::Array(list) => Self::List(list.into_iter().map(Self::from).collect()),
            // Bounds are floating-point numbers in Kubernetes' types; `maximum: 100` reads better than `100.0`.
            #[allow(
                clippy::cast_possible_truncation,
                reason = "the guard has it whole and below 2^53"
            )]
            Value::Number(n)
                if n.as_f64()
                    .is_some_and(|f| f.fract() == 0.0 && f.abs() < 9e15) =>
            {
                Self::Whole(
                    n.as_i64()
                        .unwrap_or_else(|| n.as_f64().unwrap_or_default() as i64),
                )
            }
            scalar => Self::Scalar(scalar),
        }
    }
}
