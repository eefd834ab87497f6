//! Topic configurations: their names, what they may hold, and what they are when nobody says.
//!
//! One table. The cluster's defaults (`topics:` in the configuration file), CreateTopics, IncrementalAlterConfigs,
//! DescribeConfigs and the settings of each partition's log are all read from it.

/// The names that exist.
pub(crate) fn names() -> Vec<&'static str> {
    Vec::new()
}

/// Whether a value may stand under a name; otherwise what may.
pub(crate) fn check(_name: &str, _value: &str) -> Result<(), String> {
    Ok(())
}
