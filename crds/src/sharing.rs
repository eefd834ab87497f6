//! What a `ConsumerGroup` asks of how a share group is given its messages: a filter, retries, dead letters, leases, isolation; and its other configurations.

use std::collections::BTreeMap;

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ConsumerGroupSpec;

/// The group configurations that these fields stand for. A resource that has any of the fields sets those of all: what is not named is taken back.
pub const SHARING_CONFIGS: [&str; 6] = [
    "errors.deadletterqueue.copy.record.enable",
    "errors.deadletterqueue.topic.name",
    "share.delivery.count.limit",
    "weir.share.deadletter.rate.max",
    "weir.share.filter",
    "weir.share.retry.backoff.ms",
];

/// How often a share group's messages are delivered, and what lies between.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maxDeliveries) || has(self.backoffMilliseconds)").message("retry is empty: set maxDeliveries, backoffMilliseconds or both, or remove it"))]
pub struct GroupRetry {
    /// How often a message is delivered before it is given up. Unset, as the brokers say: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 2, max = 10))]
    pub max_deliveries: Option<i32>,

    /// How long a message waits after each delivery that failed before it is delivered again; the last goes on. A message that waits holds nobody up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(range(min = 0, max = 86_400_000)))]
    pub backoff_milliseconds: Vec<i64>,
}

/// Where messages go that a share group gives up, because a consumer rejected them or they were delivered as often as they may be (KIP-1191).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetters {
    /// Name of the topic as Kafka clients see it. The topic needs the configuration errors.deadletterqueue.group.enable: "true", and a name that begins
    /// with what the cluster's errors.deadletterqueue.topic.name.prefix says: dlq.
    #[schemars(
        length(min = 1, max = 249),
        regex(pattern = "^(_?[a-zA-Z0-9.-][a-zA-Z0-9._-]*|_)$")
    )]
    pub topic: String,

    /// Whether a dead letter has the message's key, value and headers, and not only what it says of itself.
    #[serde(default = "yes")]
    pub copy_record: bool,

    /// How many messages of a partition are given up in a minute at most; more are delivered again. Unset, any number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1_000_000_000))]
    pub max_per_minute: Option<i64>,
}

/// How long, and how many, messages are with the consumers of a share group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.seconds) || has(self.maxPerPartition) || has(self.renewable)").message("lease is empty: set seconds, maxPerPartition or renewable, or remove it"))]
pub struct GroupLease {
    /// How long a message is with the consumer that it was given to; then it is another's, unless it was settled or the lease was renewed. Unset, as the brokers say: 30. They take 15 to 60,
    /// unless their configurations group.share.min.record.lock.duration.ms and group.share.max.record.lock.duration.ms say otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_600))]
    pub seconds: Option<i64>,

    /// How many messages of one partition are with consumers at once. Unset, as the brokers say: 2000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 100, max = 20_000))]
    pub max_per_partition: Option<i32>,

    /// Whether a consumer may renew a lease. Unset, it may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renewable: Option<bool>,
}

/// Which messages of transactions a share group is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum GroupIsolation {
    /// Those of transactions that are committed.
    ReadCommitted,
    /// All, also of transactions that are open, or were aborted.
    ReadUncommitted,
}

fn yes() -> bool {
    true
}

impl ConsumerGroupSpec {
    /// The group configurations that `filter`, `retry` and `deadLetters` stand for; none when there is none of them.
    #[must_use]
    pub fn sharing_config(&self) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        let mut set = |name: &str, value: String| drop(config.insert(name.to_owned(), value));
        if let Some(filter) = &self.filter {
            set("weir.share.filter", filter.trim().to_owned());
        }
        if let Some(retry) = &self.retry {
            if let Some(most) = retry.max_deliveries {
                set("share.delivery.count.limit", most.to_string());
            }
            let backoffs: Vec<String> = retry
                .backoff_milliseconds
                .iter()
                .map(ToString::to_string)
                .collect();
            if !backoffs.is_empty() {
                set("weir.share.retry.backoff.ms", backoffs.join(","));
            }
        }
        if let Some(letters) = &self.dead_letters {
            set("errors.deadletterqueue.topic.name", letters.topic.clone());
            set(
                "errors.deadletterqueue.copy.record.enable",
                letters.copy_record.to_string(),
            );
            if let Some(most) = letters.max_per_minute {
                set("weir.share.deadletter.rate.max", most.to_string());
            }
        }
        config
    }
}

impl ConsumerGroupSpec {
    /// The group configurations that `lease`, `isolation` and `config` stand for. Each is set, and taken back, for itself.
    #[must_use]
    pub fn group_config(&self) -> BTreeMap<String, String> {
        let own = self.config.iter();
        let mut config: BTreeMap<String, String> = own
            .map(|(key, value)| (key.clone(), value.as_str().trim().to_owned()))
            .collect();
        let mut set = |name: &str, value: String| drop(config.insert(name.to_owned(), value));
        if let Some(lease) = &self.lease {
            if let Some(seconds) = lease.seconds {
                let ms = seconds.saturating_mul(1_000);
                set("share.record.lock.duration.ms", ms.to_string());
            }
            if let Some(most) = lease.max_per_partition {
                set("share.partition.max.record.locks", most.to_string());
            }
            if let Some(renewable) = lease.renewable {
                set("share.renew.acknowledge.enable", renewable.to_string());
            }
        }
        if let Some(isolation) = self.isolation {
            let level = match isolation {
                GroupIsolation::ReadCommitted => "read_committed",
                GroupIsolation::ReadUncommitted => "read_uncommitted",
            };
            set("share.isolation.level", level.to_owned());
        }
        config
    }
}

/// The group configurations that have a field of their own, and that field.
pub const FIELD_OF_CONFIG: [(&str, &str); 12] = [
    ("errors.deadletterqueue.copy.record.enable", "deadLetters"),
    ("errors.deadletterqueue.topic.name", "deadLetters"),
    ("share.auto.offset.reset", "begin"),
    ("share.delivery.count.limit", "retry"),
    ("share.isolation.level", "isolation"),
    ("share.partition.max.record.locks", "lease"),
    ("share.record.lock.duration.ms", "lease"),
    ("share.renew.acknowledge.enable", "lease"),
    ("weir.paused", "paused"),
    ("weir.share.deadletter.rate.max", "deadLetters"),
    ("weir.share.filter", "filter"),
    ("weir.share.retry.backoff.ms", "retry"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_stand_for_configurations() {
        let none = ConsumerGroupSpec::default();
        assert!(none.sharing_config().is_empty());
        let all = ConsumerGroupSpec {
            filter: Some("headers.region == 'eu'\n".into()),
            retry: Some(GroupRetry {
                max_deliveries: Some(3),
                backoff_milliseconds: vec![1_000, 1_000, 5_000],
            }),
            dead_letters: Some(DeadLetters {
                topic: "dlq.orders".into(),
                copy_record: true,
                max_per_minute: Some(60),
            }),
            ..none
        };
        let config = all.sharing_config();
        let names: Vec<&str> = config.keys().map(String::as_str).collect();
        assert_eq!(names, SHARING_CONFIGS);
        assert_eq!(config["weir.share.retry.backoff.ms"], "1000,1000,5000");
        assert_eq!(config["weir.share.filter"], "headers.region == 'eu'");
    }

    #[test]
    fn leases_isolation_and_other_configurations_are_told_apart_from_those() {
        let spec = ConsumerGroupSpec {
            lease: Some(GroupLease {
                seconds: Some(45),
                max_per_partition: Some(500),
                renewable: Some(false),
            }),
            isolation: Some(GroupIsolation::ReadCommitted),
            config: [("consumer.session.timeout.ms".into(), " 50000 ".into())].into(),
            ..ConsumerGroupSpec::default()
        };
        let expected = [
            ("consumer.session.timeout.ms", "50000"),
            ("share.isolation.level", "read_committed"),
            ("share.partition.max.record.locks", "500"),
            ("share.record.lock.duration.ms", "45000"),
            ("share.renew.acknowledge.enable", "false"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(spec.group_config(), expected.into());
        assert!(spec.sharing_config().is_empty());
        assert!(ConsumerGroupSpec::default().group_config().is_empty());
    }

    #[test]
    fn what_has_a_field_of_its_own_is_named_with_it() {
        let fields: BTreeMap<&str, &str> = FIELD_OF_CONFIG.into();
        for name in SHARING_CONFIGS {
            assert!(fields.contains_key(name), "{name}");
        }
        assert!(fields.contains_key(crate::BEGIN_CONFIG));
    }
}
