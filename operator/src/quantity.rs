//! Kubernetes quantities (`500m`, `10Gi`, `1e3`), exactly, so that two spellings of one amount compare equal.
//!
//! The rules are those of `k8s.io/apimachinery/pkg/api/resource`: an optional sign, a decimal number, and a suffix: decimal
//! (`n u m k M G T P E`), binary (`Ki Mi Gi Ti Pi Ei`) or an exponent.

use std::fmt;

/// Digits kept after the point: nano is the smallest unit that Kubernetes knows.
const NANO: i128 = 1_000_000_000;

/// An amount in billionths. Amounts above 10^29 are refused, which is far above what Kubernetes itself can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

impl Quantity {
    /// Parses a quantity; `None` when it is not one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (negative, rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let digits_end = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(digits_end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || fraction.len() > 9
        {
            return None;
        }
        let whole: i128 = if whole.is_empty() {
            0
        } else {
            whole.parse().ok()?
        };
        let fraction: i128 = format!("{fraction:0<9}").parse().ok()?;
        let nanos = whole.checked_mul(NANO)?.checked_add(fraction)?;
        let (multiply, divide) = scale(suffix)?;
        let nanos = nanos.checked_mul(multiply)?;
        // Below a billionth, Kubernetes rounds up.
        let nanos = nanos.checked_add(divide - 1)? / divide;
        Some(Self(if negative { -nanos } else { nanos }))
    }

    /// The sum; `None` when it is larger than an amount can be.
    #[must_use]
    pub fn plus(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// More than nothing.
    #[must_use]
    pub fn is_positive(self) -> bool {
        self.0 > 0
    }

    /// Whole units (bytes, cores), rounded down.
    #[must_use]
    pub fn units(self) -> i128 {
        self.0 / NANO
    }
}

/// In whole units, with the largest binary suffix that loses nothing.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.units();
        let suffixes = [
            (60, "Ei"),
            (50, "Pi"),
            (40, "Ti"),
            (30, "Gi"),
            (20, "Mi"),
            (10, "Ki"),
        ];
        let fits = |shift: u32| units != 0 && units % (1_i128 << shift) == 0;
        match suffixes.into_iter().find(|(shift, _)| fits(*shift)) {
            Some((shift, suffix)) => write!(f, "{}{suffix}", units >> shift),
            None => write!(f, "{units}"),
        }
    }
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    let binary = |shift: u32| Some((1_i128 << shift, 1));
    let decimal = |exponent: i32| {
        let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
        Some(if exponent < 0 { (1, power) } else { (power, 1) })
    };
    match suffix {
        "" => Some((1, 1)),
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            if !(-18..=18).contains(&exponent) {
                return None;
            }
            decimal(exponent)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn spellings_of_one_amount_are_equal() {
        for (left, right) in [
            ("1", "1000m"),
            ("1Ki", "1024"),
            ("0.5", "500m"),
            ("1e3", "1k"),
            ("10Gi", "10240Mi"),
            (".5Gi", "512Mi"),
        ] {
            assert_eq!(
                Quantity::parse(left),
                Quantity::parse(right),
                "{left} and {right}"
            );
            assert!(Quantity::parse(left).is_some(), "{left}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in [
            "",
            "-",
            "Gi",
            "1 Gi",
            "1gi",
            "1.2.3",
            "ten",
            "1e99",
            "0.0000000001",
        ] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
    }

    #[test]
    fn an_amount_is_written_in_the_largest_unit_that_loses_nothing() {
        for (text, expected) in [
            ("10240Mi", "10Gi"),
            ("1.5Gi", "1536Mi"),
            ("10G", "9765625Ki"),
            ("1001", "1001"),
            ("0", "0"),
        ] {
            let written = Quantity::parse(text).map(|quantity| quantity.to_string());
            assert_eq!(written.as_deref(), Some(expected));
        }
        let sum = Quantity::parse("10Gi").and_then(|ten| ten.plus(Quantity::parse("512Mi")?));
        assert_eq!(sum, Quantity::parse("10752Mi"));
    }

    #[test]
    fn quantities_are_ordered_by_amount() {
        assert!(Quantity::parse("9Gi") < Quantity::parse("10Gi"));
        assert!(Quantity::parse("-1") < Quantity::parse("0"));
        assert!(Quantity::parse("-1").is_some_and(|quantity| !quantity.is_positive()));
    }
}
