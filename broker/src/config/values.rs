//! What single values of the configuration look like, and within which bounds they lie.
//!
//! Each function turns a text into a value or says what is allowed instead.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use super::reader::Refusal;

/// A whole number within bounds.
pub(crate) fn number<T: FromStr + PartialOrd + Display>(
    range: RangeInclusive<T>,
) -> impl Fn(&str) -> Result<T, Refusal> {
    move |text| {
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        let value = text
            .trim()
            .replace('_', "")
            .parse::<T>()
            .map_err(|_| allowed())?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(allowed())
        }
    }
}

/// `true` or `false`.
pub(crate) fn truth(text: &str) -> Result<bool, Refusal> {
    match text.trim() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err("true or false".into()),
    }
}

/// One of a list of words.
pub(crate) fn word<T: Copy>(
    words: &'static [(&'static str, T)],
) -> impl Fn(&str) -> Result<T, Refusal> {
    move |text| {
        let found = words
            .iter()
            .find(|(name, _)| *name == text.trim())
            .map(|(_, value)| *value);
        found.ok_or_else(|| {
            let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
            format!("one of {}", names.join(", "))
        })
    }
}

/// Bytes: a plain number, or one with `KiB`, `MiB`, `GiB`, `TiB` (or Kubernetes' `Ki`, `Mi`, `Gi`, `Ti`).
pub(crate) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<u64, Refusal> {
    move |text| {
        let allowed = || {
            format!(
                "a size from {} to {}, such as 64KiB, 16MiB or 1GiB",
                size(*range.start()),
                size(*range.end())
            )
        };
        let (digits, unit) = split_unit(text);
        let factor: u64 = match unit {
            "" | "B" => 1,
            "KiB" | "Ki" => 1 << 10,
            "MiB" | "Mi" => 1 << 20,
            "GiB" | "Gi" => 1 << 30,
            "TiB" | "Ti" => 1 << 40,
            _ => return Err(allowed()),
        };
        let value = digits
            .parse::<u64>()
            .ok()
            .and_then(|value| value.checked_mul(factor))
            .ok_or_else(allowed)?;
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(allowed())
        }
    }
}

/// A span of time: a number with `ms`, `s`, `m`, `h` or `d`.
pub(crate) fn duration(
    range: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, Refusal> {
    move |text| {
        let allowed = || {
            format!(
                "a duration from {:?} to {:?}, such as 500ms, 30s, 10m, 2h or 7d",
                range.start(),
                range.end()
            )
        };
        let (digits, unit) = split_unit(text);
        let factor_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(allowed()),
        };
        let ms = digits
            .parse::<u64>()
            .ok()
            .and_then(|value| value.checked_mul(factor_ms))
            .ok_or_else(allowed)?;
        let value = Duration::from_millis(ms);
        if range.contains(&value) {
            Ok(value)
        } else {
            Err(allowed())
        }
    }
}

/// A name of letters, digits, `.`, `_` and `-`, at most 253 long.
pub(crate) fn name(text: &str) -> Result<String, Refusal> {
    let fits = !text.is_empty() && text.len() <= 253;
    if fits
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    {
        Ok(text.to_owned())
    } else {
        Err("1 to 253 letters, digits, '.', '_' or '-'".into())
    }
}

/// Any text that is not empty, at most 4096 long.
pub(crate) fn text(text: &str) -> Result<String, Refusal> {
    if text.is_empty() || text.len() > 4096 {
        Err("1 to 4096 characters".into())
    } else {
        Ok(text.to_owned())
    }
}

/// A host (name, IPv4 address, or IPv6 address in brackets) and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// The host, without brackets.
    pub host: String,
    /// The port; 0 asks the operating system for a free one where that makes sense.
    pub port: u16,
}

impl Display for HostPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// `host:port`.
pub(crate) fn host_port(text: &str) -> Result<HostPort, Refusal> {
    let allowed =
        || "host:port, such as 0.0.0.0:9092, broker-0.example:9092 or [::1]:9092".to_owned();
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(allowed)?;
    let port = port.parse::<u16>().map_err(|_| allowed())?;
    let bare = match host.strip_prefix('[') {
        Some(inner) => inner.strip_suffix(']').ok_or_else(allowed)?,
        None if host.contains(':') => return Err(allowed()),
        None => host,
    };
    // 255: what the protocol's clients and DNS accept as a name.
    if bare.is_empty() || bare.len() > 255 || bare.chars().any(|c| c.is_whitespace() || c == '/') {
        return Err(allowed());
    }
    Ok(HostPort {
        host: bare.to_owned(),
        port,
    })
}

fn split_unit(text: &str) -> (&str, &str) {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    (digits, unit.trim())
}

fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 4] = [
        ("TiB", 1 << 40),
        ("GiB", 1 << 30),
        ("MiB", 1 << 20),
        ("KiB", 1 << 10),
    ];
    let unit = UNITS
        .iter()
        .find(|(_, factor)| bytes >= *factor && bytes.is_multiple_of(*factor));
    unit.map_or_else(
        || bytes.to_string(),
        |(name, factor)| format!("{}{name}", bytes / factor),
    )
}
