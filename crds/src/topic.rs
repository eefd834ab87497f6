//! The kind `Topic`: one topic of a Cluster.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ClusterRef, ConfigValue};

/// What a person wants of a topic. What is not set is unmanaged: created with the cluster's default and left alone after.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Topic",
    plural = "topics",
    shortname = "wt",
    category = "weir",
    namespaced,
    doc = "Topic is one topic of a Cluster.",
    derive = "PartialEq",
    derive = "Default",
    status = "TopicStatus",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name",
        description = "Cluster that the topic belongs to"
    ),
    printcolumn(
        name = "Topic",
        type_ = "string",
        json_path = ".status.topicName",
        description = "Name of the topic as Kafka clients see it"
    ),
    printcolumn(
        name = "Partitions",
        type_ = "integer",
        json_path = ".status.partitions",
        description = "Partitions that the topic has"
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.replicationFactor",
        description = "Replicas of each partition"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the topic is as its spec says"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the topic is ready or not",
        priority = 1
    ),
    validation = Rule::new("has(self.spec.topicName) || self.metadata.name.size() <= 249").message("metadata.name is longer than the 249 characters that Kafka allows a topic: choose a shorter one, or set spec.topicName")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.topicName) == has(oldSelf.topicName) && (!has(self.topicName) || self.topicName == oldSelf.topicName)").message("topicName cannot be set, changed or removed later, because topics cannot be renamed: create another Topic"))]
#[x_kube(validation = Rule::new("!has(self.partitions) || !has(oldSelf.partitions) || self.partitions >= oldSelf.partitions").message("partitions cannot shrink, because records would be lost: keep the number or write a larger one, or create another Topic"))]
#[x_kube(validation = Rule::new("!has(self.config) || !self.config.exists(k, k.startsWith('weir.queue.'))").message("config has a key that begins with weir.queue.: write it as a field of queue"))]
pub struct TopicSpec {
    /// The Cluster that the topic belongs to.
    pub cluster_ref: ClusterRef,

    /// Name of the topic as Kafka clients see it. Unset, the name of this resource. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    #[x_kube(validation = Rule::new("self != '.' && self != '..'").message("topicName cannot be '.' or '..': Kafka reserves both"))]
    #[x_kube(validation = Rule::new("!(self in ['__consumer_offsets', '__transaction_state', '__share_group_state', '__half_messages'])").message("topicName is that of an internal topic, which the brokers keep themselves: choose another name"))]
    pub topic_name: Option<String>,

    /// Number of partitions. May grow, never shrink. Unset, the cluster's default at creation.
    // 10,000: ten times what a topic of the busiest clusters known has, and still one request to the brokers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 10_000))]
    pub partitions: Option<i32>,

    /// Number of replicas of each partition. Unset, the cluster's default at creation. When it changes, replicas come and go some at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 100))]
    pub replication_factor: Option<i32>,

    /// Configuration of the topic by Kafka's names (`retention.ms`, `cleanup.policy`). What is not named is left alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 64))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128)").message("a key of config is longer than 128 characters: Kafka has no configuration of such a name"))]
    pub config: BTreeMap<String, ConfigValue>,

    /// What makes the topic a queue. What is not set is left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<Queue>,

    /// What is done when the topic is changed behind this resource's back. A change of this resource itself is always carried out.
    #[serde(default)]
    pub drift_policy: DriftPolicy,

    /// What happens to the topic's data when this resource is deleted.
    #[serde(default)]
    pub deletion_policy: DeletionPolicy,
}

/// What makes a topic a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.delay) || !has(self.bound) || !has(self.bound.maxBytes)").message("a queue with delay cannot have a bound in bytes: write maxMessages"))]
#[x_kube(validation = Rule::new("!has(self.view) || !has(self.bound) && !has(self.delay) && !has(self.deduplicationWindowSeconds)").message("a view takes no messages from producers: it has no bound, delay and deduplicationWindowSeconds"))]
pub struct Queue {
    /// The share group whose unsettled messages are the topic's backlog. Unset, the backlog is what retention has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 249))]
    pub group: Option<String>,

    /// How large the backlog of each partition may be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound: Option<QueueBound>,

    /// How old a message may be, in seconds by its timestamp, that is given to a share group. Older ones are passed over, and stay in the log for as long as
    /// retention says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub message_ttl_seconds: Option<i64>,

    /// In which order share groups are given messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<QueueOrder>,

    /// Whether share groups are given messages by their header `weir-priority`, `0` to `9`, 4 where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<QueuePriority>,

    /// Messages that come later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<QueueDelay>,

    /// For how long a message's id (its header `weir-message-id`) is remembered, in seconds: one that comes again is not appended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 604_800))]
    pub deduplication_window_seconds: Option<i64>,

    /// Makes the topic a view: it has what another topic has and a condition lets through, and nobody else writes to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<QueueView>,

    /// Where its messages were, and when: what brokers remember, and tell a collector.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<QueueTrace>,
}

/// Which messages are traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueTrace {
    /// Which part of them, from 0, none, to 1, all. Above 0, those whose header `traceparent` says that they are sampled are traced as well.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub ratio: Ratio,
}

/// A part, from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Ratio(pub f64);

// The schema has no place for what is no number.
impl Eq for Ratio {}

/// What a view has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueView {
    /// The topic that it is a view of, by the name that Kafka clients see. Both have the same number of partitions; a view grows with what it is of.
    #[schemars(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))]
    pub of: String,

    /// Which messages it has: a condition in CEL over `headers`, `tags`, `key` and `timestamp`, such as `headers.region == 'eu'`. Unset, all. A change holds for
    /// what comes from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1_024))]
    pub filter: Option<String>,
}

/// In which order share groups are given messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueueOrder {
    /// As they come; what is tried again is late.
    None,
    /// Of one key's messages one is out at a time, oldest first.
    Key,
}

/// Whether share groups are given messages by their priority.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum QueuePriority {
    /// In the order of the log.
    None,
    /// The greatest first, over the whole backlog of each partition.
    Strict,
    /// Each with a share of (priority + 1) parts, so that none starves.
    Weighted,
}

/// Messages that say when they are to come, in their headers `weir-deliver-at` and `weir-delay-ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct QueueDelay {
    /// How far ahead they may be due, at most a year (such as `90s`, `36h`, `30d`). `0s`: no further one is taken, and those that wait come when
    /// they are due.
    #[schemars(
        length(max = 13),
        regex(pattern = "^([0-9]{1,11}ms|[0-9]{1,8}s|[0-9]{1,6}m|[0-9]{1,4}h|[0-9]{1,3}d)$")
    )]
    pub max: String,
}

/// A year, in milliseconds.
const DELAY_MAX_MS: u64 = 365 * 24 * 3_600_000;

impl QueueDelay {
    /// In milliseconds; `None` when it is no such period, or more than a year.
    #[must_use]
    pub fn max_ms(&self) -> Option<u64> {
        let digits = self.max.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit_ms = match &self.max[digits.len()..] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 24 * 3_600_000,
            _ => return None,
        };
        let ms = digits.parse::<u64>().ok()?.checked_mul(unit_ms)?;
        (ms <= DELAY_MAX_MS).then_some(ms)
    }
}

/// How large the backlog of each partition of a queue may be, and what becomes of more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.maxMessages) || has(self.maxBytes)").message("a bound needs maxMessages, maxBytes or both"))]
pub struct QueueBound {
    /// What is bounded: each partition by itself, or the whole topic, whose bound is leased to its partitions and never passed.
    #[serde(default)]
    pub scope: BoundScope,

    /// Messages that may be unsettled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_messages: Option<i64>,

    /// Bytes that may be unsettled, as they were sent (compressed).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_bytes: Option<i64>,

    /// What becomes of a batch that does not fit.
    #[serde(default)]
    pub overflow: Overflow,
}

/// What a bound is the bound of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum BoundScope {
    /// Each partition by itself.
    #[default]
    Partition,
    /// The whole topic.
    Topic,
}

/// What becomes of a batch that does not fit into a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Overflow {
    /// It is refused for good, with an error that producers can tell from a fault (POLICY_VIOLATION).
    #[default]
    Reject,
    /// Its producer waits for room.
    Throttle,
    /// The oldest messages make room for it, settled or not.
    DropOldest,
}

impl Queue {
    /// The topic's configurations that it stands for. A bound that is not named is none.
    #[must_use]
    pub fn config(&self) -> BTreeMap<String, String> {
        let mut config = BTreeMap::new();
        if let Some(group) = &self.group {
            config.insert("weir.queue.group".to_owned(), group.clone());
        }
        if let Some(seconds) = self.message_ttl_seconds {
            let ms = seconds.saturating_mul(1_000);
            config.insert("weir.queue.message.ttl.ms".to_owned(), ms.to_string());
        }
        if let Some(order) = self.order {
            let order = match order {
                QueueOrder::None => "none",
                QueueOrder::Key => "key",
            };
            config.insert("weir.queue.order".to_owned(), order.to_owned());
        }
        if let Some(priority) = self.priority {
            let priority = match priority {
                QueuePriority::None => "none",
                QueuePriority::Strict => "strict",
                QueuePriority::Weighted => "weighted",
            };
            config.insert("weir.queue.priority".to_owned(), priority.to_owned());
        }
        if let Some(bound) = &self.bound {
            let most = |most: Option<i64>| most.unwrap_or(-1).to_string();
            let overflow = match bound.overflow {
                Overflow::Reject => "reject",
                Overflow::Throttle => "throttle",
                Overflow::DropOldest => "drop_oldest",
            };
            let scope = match bound.scope {
                BoundScope::Partition => "partition",
                BoundScope::Topic => "topic",
            };
            config.extend([
                ("weir.queue.max.scope".to_owned(), scope.to_owned()),
                (
                    "weir.queue.max.messages".to_owned(),
                    most(bound.max_messages),
                ),
                ("weir.queue.max.bytes".to_owned(), most(bound.max_bytes)),
                ("weir.queue.overflow".to_owned(), overflow.to_owned()),
            ]);
        }
        if let Some(seconds) = self.deduplication_window_seconds {
            let ms = seconds.saturating_mul(1_000);
            config.insert(
                "weir.queue.deduplication.window.ms".to_owned(),
                ms.to_string(),
            );
        }
        if let Some(view) = &self.view {
            let filter = view.filter.clone().unwrap_or_default();
            config.insert("weir.queue.view.of".to_owned(), view.of.clone());
            config.insert("weir.queue.view.filter".to_owned(), filter);
        }
        if let Some(trace) = &self.trace {
            let ratio = trace.ratio.0.to_string();
            config.insert("weir.queue.trace.ratio".to_owned(), ratio);
        }
        if let Some(ms) = self.delay.as_ref().and_then(QueueDelay::max_ms) {
            config.insert("weir.queue.delay.max.ms".to_owned(), ms.to_string());
        }
        config
    }
}

/// What is done when the topic is changed behind the resource's back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DriftPolicy {
    /// It is changed back.
    #[default]
    Repair,
    /// The condition `Drifted` says what differs, and nothing is changed.
    Report,
}

impl Topic {
    /// Name of the topic as Kafka clients see it: `spec.topicName`, or the resource's own name.
    #[must_use]
    pub fn kafka_name(&self) -> &str {
        self.spec
            .topic_name
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}

/// What happens to a topic's data when its resource is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DeletionPolicy {
    /// The topic and its data stay in the cluster.
    #[default]
    Retain,
    /// The topic is deleted with all its data.
    Delete,
}

/// What was last seen of a topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// What holds and what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// The last generation of the spec that the topic was seen to be as. What differs from it later was changed by somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied_generation: Option<i64>,

    /// Configuration keys that were set since the spec names them. One that it does not name any more goes back to the cluster's default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 249)))]
    pub configured: Vec<String>,

    /// Name of the topic as Kafka clients see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 249))]
    pub topic_name: Option<String>,

    /// Id of the topic. One that was deleted and made again has another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub topic_id: Option<String>,

    /// Partitions that the topic has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<i32>,

    /// Replicas of each partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replication_factor: Option<i32>,
}
