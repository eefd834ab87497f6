//! `spec.config` of a Cluster: Kafka's names, into the sections of the brokers' file.
//!
//! What is not in the table is refused here, before any pod is touched, since a broker that meets a field it does not know would not
//! start. Values are checked for the same reason.

use std::collections::BTreeMap;

use serde::Serialize;

use super::table::{Section, TABLE};
use crate::validate::Invalid;

/// What a person configured, by the brokers' names.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Settings {
    /// Defaults of topics.
    pub topics: BTreeMap<&'static str, String>,
    /// Consumer groups.
    pub groups: BTreeMap<&'static str, String>,
    /// What a broker takes at most.
    pub limits: BTreeMap<&'static str, String>,
}

impl Settings {
    /// Reads `spec.config`.
    ///
    /// # Errors
    /// Names the first key that the brokers do not know, or whose value they would refuse.
    pub fn read<'a>(config: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Self, Invalid> {
        let mut settings = Self::default();
        for (key, value) in config {
            let row = TABLE
                .iter()
                .find(|row| row.kafka.contains(&key))
                .ok_or_else(|| {
                    let names: Vec<&str> = TABLE
                        .iter()
                        .filter_map(|row| row.kafka.first().copied())
                        .collect();
                    Invalid::new(
                        format!("spec.config[{key}]"),
                        "is not a configuration of Weir's brokers",
                        format!("Remove it; there are {}", names.join(", ")),
                    )
                })?;
            let value = row.kind.read(value).map_err(|allowed| {
                Invalid::new(
                    format!("spec.config[{key}]"),
                    format!("\"{value}\" is not possible"),
                    format!("Write {allowed}"),
                )
            })?;
            let section = match row.section {
                Section::Topics => &mut settings.topics,
                Section::Groups => &mut settings.groups,
                Section::Limits => &mut settings.limits,
            };
            if section.insert(row.field, value).is_some() {
                return Err(Invalid::new(
                    format!("spec.config[{key}]"),
                    "is there twice, under two names",
                    format!("Keep {} only", row.kafka[0]),
                ));
            }
        }
        Ok(settings)
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::TABLE;
    use super::Settings;

    fn read(key: &str, value: &str) -> Result<Settings, String> {
        Settings::read([(key, value)].into_iter()).map_err(|invalid| invalid.to_string())
    }

    #[test]
    fn kafkas_names_become_the_brokers_fields() {
        let settings = read("group.initial.rebalance.delay.ms", "0").unwrap_or_default();
        assert_eq!(
            settings
                .groups
                .get("initial_rebalance_delay")
                .map(String::as_str),
            Some("0ms")
        );
        let settings = read("log.retention.ms", "60000").unwrap_or_default();
        assert_eq!(
            settings.topics.get("retention.ms").map(String::as_str),
            Some("60000")
        );
    }

    #[test]
    fn what_a_broker_would_not_start_with_is_refused_with_the_field() {
        for (key, value, part) in [
            (
                "retention.ms",
                "a week",
                "spec.config[retention.ms]: \"a week\" is not possible",
            ),
            ("num.partitions", "0", "a whole number from 1 to 10000"),
            ("cleanup.policy", "shred", "some of delete, compact"),
            ("auto.create.topics.enable", "yes", "\"true\" or \"false\""),
            (
                "retention.hours",
                "1",
                "spec.config[retention.hours]: is not a configuration",
            ),
        ] {
            let error = read(key, value).err().unwrap_or_default();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn one_setting_under_two_names_is_refused() {
        let both = [("retention.ms", "1"), ("log.retention.ms", "2")];
        assert!(Settings::read(both.into_iter()).is_err());
    }

    #[test]
    fn every_name_stands_in_the_table_once() {
        let mut names: Vec<&str> = TABLE.iter().flat_map(|row| row.kafka).copied().collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    }
}
