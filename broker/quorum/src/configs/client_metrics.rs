//! The configurations of client metrics subscriptions (KIP-714): which clients push which metrics, and how often.

use super::Allowed::*;
use super::ConfigDef;
use super::ConfigKind::*;
use super::list;

/// What a subscription's configuration may hold, by name.
pub const CLIENT_METRICS: &[ConfigDef] = &[
    ConfigDef {
        name: "interval.ms",
        kind: Int,
        default: "300000",
        allowed: Between(100, 3_600_000),
        cluster_name: None,
        read_only: false,
        documentation: "How often clients push their metrics, in milliseconds.",
    },
    ConfigDef {
        name: "match",
        kind: List,
        default: "",
        allowed: Where(
            |value| ClientMatch::parse(value).is_some(),
            "a list of key=pattern, each key once, with regular expressions of at most 4096 bytes",
        ),
        cluster_name: None,
        read_only: false,
        documentation: "Which clients push: a list of key=regular expression, all of which must match; keys are \
                        client_instance_id, client_id, client_software_name, client_software_version, \
                        client_source_address and client_source_port.",
    },
    ConfigDef {
        name: "metrics",
        kind: List,
        default: "",
        allowed: Any,
        cluster_name: None,
        read_only: false,
        documentation: "Prefixes of the names of the metrics that clients push; `*` for all of them.",
    },
];

/// What a pattern may look at.
pub const MATCH_KEYS: [&str; 6] = [
    "client_instance_id",
    "client_id",
    "client_software_name",
    "client_software_version",
    "client_source_address",
    "client_source_port",
];

/// Which clients a subscription is for: for each key a pattern that the whole of the client's value must match.
#[derive(Clone, Debug, Default)]
pub struct ClientMatch {
    patterns: Vec<(&'static str, regex::Regex)>,
}

impl ClientMatch {
    /// Reads a list of `key=pattern`; `None` when a key is unknown or named twice, or a pattern is no regular expression.
    pub fn parse(text: &str) -> Option<Self> {
        let mut patterns: Vec<(&'static str, regex::Regex)> = Vec::new();
        for part in list(text) {
            let (key, pattern) = part.split_once('=')?;
            let key = *MATCH_KEYS.iter().find(|known| **known == key.trim())?;
            if patterns.iter().any(|(known, _)| *known == key) {
                return None;
            }
            patterns.push((key, whole(pattern.trim())?));
        }
        Some(Self { patterns })
    }

    /// Whether the client with these values is meant.
    pub fn matches<'v>(&self, value_of: impl Fn(&str) -> &'v str) -> bool {
        self.patterns
            .iter()
            .all(|(key, pattern)| pattern.is_match(value_of(key)))
    }
}

/// A pattern that must match all of a text. The length and the compiled size are bounded, since anyone who may alter
/// configurations writes them; this kind of matcher takes time linear in the text.
fn whole(pattern: &str) -> Option<regex::Regex> {
    if pattern.len() > 4_096 {
        return None;
    }
    // By itself it must be a pattern too: `a)(b` is not.
    let build = |pattern: &str| {
        regex::RegexBuilder::new(pattern)
            .size_limit(1 << 18)
            .build()
            .ok()
    };
    build(pattern)?;
    build(&format!(r"\A(?:{pattern})\z"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn all_patterns_must_match_the_whole_value() {
        let clients =
            ClientMatch::parse("client_id=app-.*, client_software_name=librdkafka").unwrap();
        let matches = |id: &'static str, software: &'static str| {
            clients.matches(|key| match key {
                "client_id" => id,
                "client_software_name" => software,
                _ => "",
            })
        };
        assert!(matches("app-1", "librdkafka"));
        assert!(!matches("my-app-1", "librdkafka"));
        assert!(!matches("app-1", "librdkafka2"));
        assert!(ClientMatch::parse("").unwrap().matches(|_| "anyone"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let long = format!("client_id={}", "a".repeat(5_000));
        for bad in [
            "foo=bar",
            "client_id",
            "client_id=(",
            "client_id=a)(b",
            "client_id=a,client_id=b",
            "client_id=(((a{100}){100}){100})",
            &long,
        ] {
            assert!(ClientMatch::parse(bad).is_none(), "{bad:.40}");
        }
    }
}
