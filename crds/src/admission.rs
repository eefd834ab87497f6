//! What the API server would say of a manifest, without one.
//!
//! `weir-operator local` and `weir-operator plan` read manifests from files; what Kubernetes would refuse they have to refuse
//! too, in words that a person can search for. [`admit`] follows the API server's order: unknown fields, defaults, the
//! structural schema, and only when that holds the CEL rules, transition rules included when there was an older version.
//! The table of manifests in `tests/` holds it to what a real API server says.

mod walk;

use std::fmt;
use std::sync::LazyLock;

use kube::core::cel::{Validator, apply_defaults};
use serde_json::Value;

use crate::{GROUP, VERSION, schema};

/// One thing that is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field from the root of the resource, such as `spec.storage.size`; empty for the resource itself.
    pub field: String,
    /// What is wrong, and where a rule of ours says no also what to do.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.field, self.message)
        }
    }
}

/// A manifest that is refused, and why. There is at least one violation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal {
    /// Kind and name of the resource, such as `Topic "orders"`.
    pub resource: String,
    /// Everything that is wrong with it.
    pub violations: Vec<Violation>,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is invalid: ", self.resource)?;
        for (index, violation) in self.violations.iter().enumerate() {
            if index > 0 {
                f.write_str("; ")?;
            }
            violation.fmt(f)?;
        }
        Ok(())
    }
}

/// Kinds in the order of [`schema::crds`], each with its schema.
static SCHEMAS: LazyLock<Vec<(String, Value)>> = LazyLock::new(|| {
    schema::crds()
        .into_iter()
        .filter_map(|crd| {
            let kind = crd.spec.names.kind;
            schema::openapi(&kind).map(|schema| (kind, schema))
        })
        .collect()
});

/// Whether a manifest is one of Weir's kinds, and so one that [`admit`] judges.
#[must_use]
pub fn is_ours(manifest: &Value) -> bool {
    text(manifest, "/apiVersion").is_some_and(|version| version.split('/').next() == Some(GROUP))
}

/// Judges a manifest as the API server would, `old` being the version before it, and returns it with its defaults set.
///
/// # Errors
/// With everything that the API server would refuse it for.
pub fn admit(manifest: &Value, old: Option<&Value>) -> Result<Value, Refusal> {
    let kind = text(manifest, "/kind").unwrap_or_default();
    let name = text(manifest, "/metadata/name").unwrap_or_default();
    let refuse = |violations| Refusal {
        resource: format!("{kind} {name:?}"),
        violations,
    };
    let one = |field: &str, message: String| {
        refuse(vec![Violation {
            field: field.to_owned(),
            message,
        }])
    };

    if text(manifest, "/apiVersion") != Some(&format!("{GROUP}/{VERSION}")) {
        return Err(one("apiVersion", format!("must be {GROUP}/{VERSION}")));
    }
    let Some((_, schema)) = SCHEMAS.iter().find(|(known, _)| known == kind) else {
        let known: Vec<&str> = SCHEMAS.iter().map(|(known, _)| known.as_str()).collect();
        return Err(one("kind", format!("must be one of {}", known.join(", "))));
    };
    if !is_dns_subdomain(name) {
        let message = "must be a DNS name: lower-case letters, digits, '-' and '.', beginning and ending with a letter or digit, at most 253 characters";
        return Err(one("metadata.name", message.to_owned()));
    }

    let defaulted = apply_defaults(schema, manifest);
    let violations = walk::check(schema, &defaulted);
    if !violations.is_empty() {
        return Err(refuse(violations));
    }
    Validator::new()
        .validate(schema, &defaulted, old)
        .map_err(|errors| {
            refuse(
                errors
                    .into_vec()
                    .into_iter()
                    .map(|error| Violation {
                        field: error.field_path,
                        message: error.message,
                    })
                    .collect(),
            )
        })?;
    Ok(defaulted)
}

fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer).and_then(Value::as_str)
}

/// RFC 1123 as Kubernetes applies it to the names of resources.
fn is_dns_subdomain(name: &str) -> bool {
    let inner = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    name.len() <= 253
        && name.split('.').all(|label| {
            let bytes = label.as_bytes();
            bytes.first().copied().is_some_and(inner)
                && bytes.last().copied().is_some_and(inner)
                && bytes.iter().all(|&c| inner(c) || c == b'-')
        })
}

#[cfg(test)]
mod tests;
