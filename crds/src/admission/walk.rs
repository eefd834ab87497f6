//! The structural schema: types, bounds and unknown fields. Messages are worded as the API server words them.

use serde_json::{Map, Value};

use super::Violation;

/// Everything in `value` that `schema` does not allow.
pub(super) fn check(schema: &Value, value: &Value) -> Vec<Violation> {
    let mut walk = Walk::default();
    walk.object(
        schema,
        value.as_object().unwrap_or(&Map::new()),
        &Path::root(),
    );
    walk.violations
}

/// A path of fields, linked upwards so that walking allocates nothing until something is wrong.
struct Path<'a> {
    parent: Option<&'a Path<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Root,
    Field(&'a str),
    Index(usize),
}

impl<'a> Path<'a> {
    fn root() -> Self {
        Path {
            parent: None,
            step: Step::Root,
        }
    }

    fn field(&'a self, name: &'a str) -> Self {
        Path {
            parent: Some(self),
            step: Step::Field(name),
        }
    }

    fn index(&'a self, index: usize) -> Self {
        Path {
            parent: Some(self),
            step: Step::Index(index),
        }
    }
}

impl std::fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) if self.parent.is_some_and(|p| matches!(p.step, Step::Root)) => {
                f.write_str(name)
            }
            Step::Field(name) => write!(f, ".{name}"),
            Step::Index(index) => write!(f, "[{index}]"),
        }
    }
}

#[derive(Default)]
struct Walk {
    violations: Vec<Violation>,
}

impl Walk {
    fn say(&mut self, path: &Path<'_>, message: impl Into<String>) {
        self.violations.push(Violation {
            field: path.to_string(),
            message: message.into(),
        });
    }

    fn value(&mut self, schema: &Value, value: &Value, path: &Path<'_>) {
        let int_or_string = schema["x-kubernetes-int-or-string"] == true;
        let wanted = schema["type"].as_str().unwrap_or_default();
        let fits = match value {
            Value::Object(_) => wanted == "object",
            Value::Array(_) => wanted == "array",
            Value::String(_) => wanted == "string" || int_or_string,
            Value::Bool(_) => wanted == "boolean",
            Value::Number(n) => {
                wanted == "number"
                    || ((wanted == "integer" || int_or_string) && (n.is_i64() || n.is_u64()))
            }
            Value::Null => false,
        };
        if !fits {
            let wanted = if int_or_string {
                "integer or string"
            } else {
                wanted
            };
            let message = format!(
                "{path} in body must be of type {wanted}: {:?}",
                type_name(value)
            );
            return self.say(path, message);
        }
        match value {
            Value::Object(fields) => self.object(schema, fields, path),
            Value::Array(items) => self.array(schema, items, path),
            Value::String(text) => self.string(schema, text, path),
            Value::Number(number) => self.number(schema, number, path),
            Value::Bool(_) | Value::Null => {}
        }
    }

    fn object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &Path<'_>) {
        for required in schema["required"].as_array().into_iter().flatten() {
            let name = required.as_str().unwrap_or_default();
            if !fields.contains_key(name) {
                self.say(&path.field(name), "Required value");
            }
        }
        if let Some(max) = schema["maxProperties"].as_u64()
            && fields.len() as u64 > max
        {
            let message = format!("Too many: {}: must have at most {max} items", fields.len());
            self.say(path, message);
        }
        let is_root = matches!(path.step, Step::Root);
        for (name, value) in fields {
            // The API server checks these itself, by rules that no schema of ours says.
            if is_root && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                continue;
            }
            let known = schema["properties"]
                .get(name)
                .or_else(|| Some(&schema["additionalProperties"]).filter(|s| s.is_object()));
            match known {
                Some(schema) => self.value(schema, value, &path.field(name)),
                None => {
                    let field = path.field(name);
                    let message = format!("unknown field \"{field}\"");
                    self.say(&field, message);
                }
            }
        }
    }

    fn array(&mut self, schema: &Value, items: &[Value], path: &Path<'_>) {
        if let Some(max) = schema["maxItems"].as_u64()
            && items.len() as u64 > max
        {
            let message = format!("Too many: {}: must have at most {max} items", items.len());
            self.say(path, message);
        }
        let keys: Vec<&str> = schema["x-kubernetes-list-map-keys"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        let unique = schema["x-kubernetes-list-type"] == "set" || !keys.is_empty();
        for (index, item) in items.iter().enumerate() {
            let same = |other: &Value| {
                if keys.is_empty() {
                    other == item
                } else {
                    keys.iter().all(|key| other.get(key) == item.get(key))
                }
            };
            if unique && items[..index].iter().any(same) {
                self.say(&path.index(index), format!("Duplicate value: {item}"));
            }
            self.value(&schema["items"], item, &path.index(index));
        }
    }

    fn string(&mut self, schema: &Value, text: &str, path: &Path<'_>) {
        let length = text.chars().count() as u64;
        if let Some(max) = schema["maxLength"].as_u64()
            && length > max
        {
            self.say(path, format!("Too long: may not be more than {max} bytes"));
        }
        if let Some(min) = schema["minLength"].as_u64()
            && length < min
        {
            self.say(
                path,
                format!("{path} in body should be at least {min} chars long"),
            );
        }
        // The schemas' patterns are all ours, and a test compiles each of them.
        if let Some(pattern) = schema["pattern"].as_str()
            && !regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        {
            self.say(path, format!("{path} in body should match '{pattern}'"));
        }
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.iter().any(|value| value == text)
        {
            let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
            self.say(
                path,
                format!(
                    "Unsupported value: {text:?}: supported values: {}",
                    allowed.join(", ")
                ),
            );
        }
    }

    fn number(&mut self, schema: &Value, number: &serde_json::Number, path: &Path<'_>) {
        let value = number.as_f64().unwrap_or(f64::INFINITY);
        if let Some(min) = schema["minimum"].as_f64()
            && value < min
        {
            self.say(
                path,
                format!("{path} in body should be greater than or equal to {min}"),
            );
        }
        if let Some(max) = schema["maximum"].as_f64()
            && value > max
        {
            self.say(
                path,
                format!("{path} in body should be less than or equal to {max}"),
            );
        }
        let fits = match schema["format"].as_str() {
            Some("int32") => number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            Some("int64") => number.as_i64().is_some(),
            _ => true,
        };
        if !fits {
            let format = schema["format"].as_str().unwrap_or_default();
            self.say(
                path,
                format!("{path} in body must be of type {format}: {number}"),
            );
        }
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
