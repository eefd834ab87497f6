//! Kubernetes quantities (`10Gi`, `500m`) as manifests write them, and their values when somebody asks.
//!
//! Both types hold the text unchanged, so that reading a resource never fails and writing it back changes nothing.
//! The grammar is that of `k8s.io/apimachinery/pkg/api/resource.Quantity`, less what no size or resource needs: signs.

use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use crate::shared::text_or_number;

/// A number, without sign, with one of the suffixes of Kubernetes.
const PATTERN: &str = r"^([0-9]+(\.[0-9]*)?|\.[0-9]+)([numkMGTPE]|[KMGTPE]i|[eE][+-]?[0-9]{1,2})?$";

/// Longer than any quantity that a person writes, short enough for the cost of the rules that parse it.
const LENGTH_MAX: u32 = 32;

/// What is wrong with a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {text:?} {problem}")]
pub struct QuantityError {
    /// The field that holds it, as a path from the resource's root (`spec.storage.size`).
    pub field: String,
    /// What was written there.
    pub text: String,
    /// What is wrong, and what to write instead.
    pub problem: &'static str,
}

/// The size of a volume, such as `10Gi`: a positive quantity.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StorageSize(pub String);

impl StorageSize {
    /// The size in bytes, rounded up to a whole byte. `field` is the path to name in the error.
    ///
    /// # Errors
    /// When the text is not a quantity, is not positive, or is more than 2^63-1 bytes, which is Kubernetes' own bound.
    pub fn bytes(&self, field: &str) -> Result<u64, QuantityError> {
        let error = |problem| QuantityError {
            field: field.to_owned(),
            text: self.0.clone(),
            problem,
        };
        match parse_milli(&self.0).map_err(error)? {
            0 => Err(error("must be more than zero, for example 10Gi")),
            milli => u64::try_from(milli.div_ceil(1000))
                .ok()
                .filter(|bytes| i64::try_from(*bytes).is_ok())
                .ok_or_else(|| error("is more than Kubernetes can express (2^63-1 bytes)")),
        }
    }

    /// The same text as Kubernetes' own type, for a volume claim.
    #[must_use]
    pub fn to_quantity(&self) -> Quantity {
        Quantity(self.0.clone())
    }
}

impl fmt::Display for StorageSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for StorageSize {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "StorageSize".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "maxLength": LENGTH_MAX, "pattern": PATTERN })
    }
}

/// An amount of CPU, memory or another resource: a quantity that is not negative. Whole numbers need no quotes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ResourceQuantity(pub String);

impl ResourceQuantity {
    /// The same text as Kubernetes' own type, for a container.
    #[must_use]
    pub fn to_quantity(&self) -> Quantity {
        Quantity(self.0.clone())
    }

    /// The amount in thousandths (of a core, of a byte), rounded up. `field` is the path to name in the error.
    ///
    /// # Errors
    /// When the text is not a quantity, or too large to be one.
    pub fn milli(&self, field: &str) -> Result<u128, QuantityError> {
        parse_milli(&self.0).map_err(|problem| QuantityError {
            field: field.to_owned(),
            text: self.0.clone(),
            problem,
        })
    }
}

impl<'de> Deserialize<'de> for ResourceQuantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        text_or_number(deserializer).map(Self)
    }
}

impl JsonSchema for ResourceQuantity {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ResourceQuantity".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maxLength": LENGTH_MAX,
            "pattern": PATTERN,
        })
    }
}

const NOT_A_QUANTITY: &str =
    "is not a quantity: write a number with an optional suffix, for example 500m, 2 or 10Gi";
const TOO_LARGE: &str = "is too large for a quantity";

/// The value in thousandths, rounded up as Kubernetes rounds what is finer.
fn parse_milli(text: &str) -> Result<u128, &'static str> {
    let digits_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.len() + fraction.len() == 0 || fraction.contains('.') {
        return Err(NOT_A_QUANTITY);
    }
    if text.len() > LENGTH_MAX as usize {
        return Err(TOO_LARGE);
    }
    let mantissa: u128 = format!("{whole}{fraction}")
        .parse()
        .map_err(|_| NOT_A_QUANTITY)?;
    let (binary, exponent_10) = suffix_value(suffix).ok_or(NOT_A_QUANTITY)?;
    // value = mantissa * binary * 10^(exponent - digits after the point), in thousandths.
    let scaled = mantissa.checked_mul(u128::from(binary)).ok_or(TOO_LARGE)?;
    let fraction_digits = i32::try_from(fraction.len()).map_err(|_| TOO_LARGE)?;
    let power = exponent_10 + 3 - fraction_digits;
    let factor = 10u128.checked_pow(power.unsigned_abs()).ok_or(TOO_LARGE)?;
    if power >= 0 {
        scaled.checked_mul(factor).ok_or(TOO_LARGE)
    } else {
        Ok(scaled.div_ceil(factor))
    }
}

/// The power of two and the power of ten that a suffix stands for.
fn suffix_value(suffix: &str) -> Option<(u64, i32)> {
    Some(match suffix {
        "" => (1, 0),
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent
                .strip_prefix('+')
                .unwrap_or(exponent)
                .parse()
                .ok()?;
            (exponent.abs() < 100).then_some((1, exponent))?
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn bytes(text: &str) -> Result<u64, QuantityError> {
        StorageSize(text.to_owned()).bytes("spec.storage.size")
    }

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("1", 1),
            ("1Ki", 1024),
            ("1.5Gi", 1_610_612_736),
            ("10G", 10_000_000_000),
            ("1e3", 1000),
            ("1E+3", 1000),
            (".5Ki", 512),
            ("5.", 5),
            ("100m", 1),
            ("1001m", 2),
            ("7Ei", 8_070_450_532_247_928_832),
        ] {
            assert_eq!(bytes(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_size_is_refused_by_the_name_of_its_field() {
        for text in [
            "",
            ".",
            "Gi",
            "-1Gi",
            "+1Gi",
            "1 Gi",
            "1gi",
            "1.2.3",
            "0",
            "0Gi",
            "8Ei",
            "1e99",
            "1e+",
            "１Gi",
            "9".repeat(40).as_str(),
        ] {
            let error = bytes(text).unwrap_err();
            assert!(
                error.to_string().starts_with("spec.storage.size: "),
                "{text}: {error}"
            );
        }
    }

    #[test]
    fn a_whole_number_without_quotes_is_a_resource() {
        let cpu: ResourceQuantity = serde_json::from_str("2").unwrap();
        assert_eq!(cpu.milli("spec.resources.requests.cpu"), Ok(2000));
        let cpu: ResourceQuantity = serde_json::from_str("\"250m\"").unwrap();
        assert_eq!(cpu.milli("spec.resources.requests.cpu"), Ok(250));
    }
}
