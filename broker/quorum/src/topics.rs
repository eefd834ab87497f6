//! Names of topics: which are allowed, which collide, and which are the brokers' own.

use std::collections::BTreeMap;

use crate::error::{ControlError, ErrorName};

/// The longest name: with a partition's number and a suffix for deletion it still is a file name (Kafka's rule).
pub const NAME_LENGTH_MAX: usize = 249;

/// One of the brokers' own topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InternalTopic {
    /// Its name.
    pub name: &'static str,
    /// The cluster's configuration that says how many partitions it gets.
    pub partitions_config: &'static str,
    /// The one that says how many replicas it gets.
    pub factor_config: &'static str,
    /// The one that says how many of them must be in sync, if there is one.
    pub in_sync_config: Option<&'static str>,
    /// Its configuration.
    pub config: &'static [(&'static str, &'static str)],
}

impl InternalTopic {
    /// Its configuration, as a topic's.
    pub fn config(&self) -> BTreeMap<String, String> {
        self.config
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }
}

/// The group coordinators' topic.
pub const CONSUMER_OFFSETS: &str = "__consumer_offsets";

/// The transaction coordinators' topic.
pub const TRANSACTION_STATE: &str = "__transaction_state";

/// The share coordinators' topic.
pub const SHARE_GROUP_STATE: &str = "__share_group_state";

/// The topic of those who coordinate half messages.
pub const HALF_MESSAGES: &str = "__half_messages";

// Small segments in each, as Kafka's, so that compaction finds something to do and a coordinator loads quickly.

/// The brokers' own topics, which are created when first needed.
pub const INTERNAL_TOPICS: [InternalTopic; 4] = [
    InternalTopic {
        name: CONSUMER_OFFSETS,
        partitions_config: "offsets.topic.num.partitions",
        factor_config: "offsets.topic.replication.factor",
        in_sync_config: None,
        config: &[
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            ("segment.bytes", "104857600"),
        ],
    },
    InternalTopic {
        name: TRANSACTION_STATE,
        partitions_config: "transaction.state.log.num.partitions",
        factor_config: "transaction.state.log.replication.factor",
        in_sync_config: Some("transaction.state.log.min.isr"),
        config: &[
            ("cleanup.policy", "compact"),
            ("compression.type", "uncompressed"),
            ("segment.bytes", "104857600"),
            ("unclean.leader.election.enable", "false"),
        ],
    },
    // Of as many partitions and replicas as that of transactions, by which half messages are committed.
    InternalTopic {
        name: HALF_MESSAGES,
        partitions_config: "transaction.state.log.num.partitions",
        factor_config: "transaction.state.log.replication.factor",
        in_sync_config: Some("transaction.state.log.min.isr"),
        config: &[
            ("cleanup.policy", "compact"),
            ("compression.type", "producer"),
            // A mebibyte of messages, and what is said about them.
            ("max.message.bytes", "2097152"),
            ("segment.bytes", "104857600"),
            ("unclean.leader.election.enable", "false"),
        ],
    },
    // Its coordinator deletes what it needs no more.
    InternalTopic {
        name: SHARE_GROUP_STATE,
        partitions_config: "share.coordinator.state.topic.num.partitions",
        factor_config: "share.coordinator.state.topic.replication.factor",
        in_sync_config: Some("share.coordinator.state.topic.min.isr"),
        config: &[
            ("cleanup.policy", "delete"),
            ("compression.type", "producer"),
            ("retention.ms", "-1"),
            ("segment.bytes", "104857600"),
        ],
    },
];

/// Whether a topic is the brokers' own.
pub fn is_internal(name: &str) -> bool {
    INTERNAL_TOPICS.iter().any(|internal| internal.name == name)
}

/// Kafka's rules for a topic's name.
pub fn check_name(name: &str) -> Result<(), ControlError> {
    let refuse = |what: String| {
        Err(ControlError::new(
            ErrorName::InvalidTopicException,
            format!(
                "topic name {what}; allowed are 1 to {NAME_LENGTH_MAX} of the characters a-z, A-Z, 0-9, '.', '_' and '-', \
                 but not '.' or '..' alone"
            ),
        ))
    };
    if name.is_empty() {
        return refuse("is empty".to_owned());
    }
    if name == "." || name == ".." {
        return refuse(format!("{name:?} is not allowed"));
    }
    if name.len() > NAME_LENGTH_MAX {
        return refuse(format!("is {} bytes long", name.len()));
    }
    match name
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))
    {
        Some(wrong) => refuse(format!("{name:?} holds {wrong:?}")),
        None => Ok(()),
    }
}

/// What two names must not share: metrics' names know no dots, so `a.b` and `a_b` would be one.
pub fn collision_key(name: &str) -> String {
    name.replace('.', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kafkas_rules() {
        for good in [
            "a",
            "A.b_c-9",
            "...",
            "__consumer_offsets",
            &"x".repeat(249),
        ] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ü", "a:b", &"x".repeat(250)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_that_differ_in_dots_and_underscores_only_collide() {
        assert_eq!(collision_key("a.b_c"), collision_key("a_b.c"));
        assert_ne!(collision_key("a.b"), collision_key("a-b"));
    }
}
