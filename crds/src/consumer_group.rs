//! The kind `ConsumerGroup`: one consumer group of a Cluster, watched, and what is to be done with it.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    ClusterRef, ConfigValue, ConsumerScale, DeadLetters, GroupBeginning, GroupIsolation,
    GroupLease, GroupRetry, LastReset, OffsetReset, ScaleStatus,
};

/// Most topics that a status lists: a status is a summary, and has to fit into one object many times over.
pub const MAX_TOPICS_IN_STATUS: usize = 100;

/// What a person wants to know of a consumer group.
#[derive(
    CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema,
)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "ConsumerGroup",
    plural = "consumergroups",
    shortname = "wcg",
    category = "weir",
    namespaced,
    doc = "ConsumerGroup is one consumer group of a Cluster: its members, its lag and the lag that is acceptable, and what is to be done with it: resets of offsets, pauses, consumers that follow the lag.",
    derive = "PartialEq",
    derive = "Default",
    status = "ConsumerGroupStatus",
    selectable = ".spec.clusterRef.name",
    printcolumn(
        name = "Cluster",
        type_ = "string",
        json_path = ".spec.clusterRef.name",
        description = "Cluster that the group belongs to"
    ),
    printcolumn(
        name = "Group",
        type_ = "string",
        json_path = ".status.groupId",
        description = "Id of the group as Kafka clients see it"
    ),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.state",
        description = "State of the group as Kafka names it"
    ),
    printcolumn(
        name = "Members",
        type_ = "integer",
        json_path = ".status.members",
        description = "Consumers that are in the group"
    ),
    printcolumn(
        name = "Lag",
        type_ = "integer",
        json_path = ".status.lag.records",
        description = "Records that the group has not yet consumed"
    ),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "Whether the group could be observed"
    ),
    printcolumn(
        name = "Consumption",
        type_ = "string",
        json_path = ".status.consumption",
        description = "Whether the group reads or is paused",
        priority = 1
    ),
    printcolumn(
        name = "Replicas",
        type_ = "integer",
        json_path = ".status.scale.replicas",
        description = "Replicas that the consumers' Deployment is asked for",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason",
        description = "Why the group is ready or not",
        priority = 1
    )
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.groupId) == has(oldSelf.groupId) && (!has(self.groupId) || self.groupId == oldSelf.groupId)").message("groupId cannot be set, changed or removed later, because groups cannot be renamed: create another ConsumerGroup"))]
#[x_kube(validation = Rule::new("!has(self.begin) || self.begin.shareGroup || (has(self.topics) && self.topics.size() > 0)").message("begin needs topics: name those that the group begins in, or say that it is a share group (begin.shareGroup)"))]
#[x_kube(validation = Rule::new("!has(self.begin) || self.begin.shareGroup || !(has(self.filter) || has(self.retry) || has(self.deadLetters) || has(self.lease) || has(self.isolation))").message("filter, retry, deadLetters, lease and isolation are of share groups: set begin.shareGroup to true as well"))]
pub struct ConsumerGroupSpec {
    /// The Cluster that the group belongs to.
    pub cluster_ref: ClusterRef,

    /// Id of the group as Kafka clients see it. Unset, the name of this resource. Cannot change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 255), regex(pattern = r"^[^\x00-\x1f\x7f]+$"))]
    pub group_id: Option<String>,

    /// Topics whose lag counts. Empty, all topics that the group has committed offsets for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub topics: Vec<String>,

    /// How far behind the group may be before that is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag_objective: Option<LagObjective>,

    /// Whether the group is paused: its members stay, and have no partitions. Removed after it was true, the group goes on; never set, it is left as
    /// it is. Deleting this resource changes nothing: a group that is paused then stays paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,

    /// Where the group begins in topics that it has read nothing of yet. A group that has offsets is never moved. Unset, its members begin where they
    /// themselves are configured to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub begin: Option<GroupBeginning>,

    /// Offsets that are to be set, once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reset: Option<OffsetReset>,

    /// The Deployment of the group's consumers, and how it follows the lag. Unset, nothing is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ConsumerScale>,

    /// Of a share group: which messages it is given, as a condition in CEL over headers, tags, key and timestamp, such as `headers.region == 'eu'`
    /// or `'red' in tags`. Others are passed over. What the brokers cannot read they refuse, with the place. This, retry and deadLetters are set together: where one is given, what the
    /// others leave open is as if nobody had set it, and when all are removed that is so for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024))]
    pub filter: Option<String>,

    /// Of a share group: how often a message is delivered, and what lies between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<GroupRetry>,

    /// Of a share group: where messages go that it gives up. Unset, nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<DeadLetters>,

    /// Of a share group: how long, and how many, messages are with its consumers. What is not set is left alone, and taken back when it was set before; likewise isolation and config.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<GroupLease>,

    /// Of a share group: which messages of transactions it is given. Unset, all, unless somebody has set share.isolation.level.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub isolation: Option<GroupIsolation>,

    /// Other configuration of the group by Kafka's names (`consumer.session.timeout.ms`, `share.heartbeat.interval.ms`). What is not named is left alone; what was named before goes back to the brokers' default.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = Rule::new("self.all(k, k.size() <= 128)").message("a key of config is longer than 128 characters: Kafka has no configuration of such a name"))]
    #[x_kube(validation = Rule::new("!('weir.share.filter' in self)").message("config has weir.share.filter: write it as the field filter"))]
    #[x_kube(validation = Rule::new("!('share.delivery.count.limit' in self) && !('weir.share.retry.backoff.ms' in self)").message("config has share.delivery.count.limit or weir.share.retry.backoff.ms: write it as a field of retry"))]
    #[x_kube(validation = Rule::new("!('errors.deadletterqueue.topic.name' in self) && !('errors.deadletterqueue.copy.record.enable' in self) && !('weir.share.deadletter.rate.max' in self)").message("config has errors.deadletterqueue.topic.name, errors.deadletterqueue.copy.record.enable or weir.share.deadletter.rate.max: write it as a field of deadLetters"))]
    #[x_kube(validation = Rule::new("!('share.record.lock.duration.ms' in self) && !('share.partition.max.record.locks' in self) && !('share.renew.acknowledge.enable' in self)").message("config has share.record.lock.duration.ms, share.partition.max.record.locks or share.renew.acknowledge.enable: write it as a field of lease"))]
    #[x_kube(validation = Rule::new("!('share.isolation.level' in self)").message("config has share.isolation.level: write it as the field isolation"))]
    #[x_kube(validation = Rule::new("!('share.auto.offset.reset' in self)").message("config has share.auto.offset.reset: write it as the field begin, with begin.shareGroup"))]
    #[x_kube(validation = Rule::new("!('weir.paused' in self)").message("config has weir.paused: write it as the field paused"))]
    pub config: BTreeMap<String, ConfigValue>,
}

impl ConsumerGroup {
    /// Id of the group as Kafka clients see it: `spec.groupId`, or the resource's own name.
    #[must_use]
    pub fn group_id(&self) -> &str {
        self.spec
            .group_id
            .as_deref()
            .or(self.metadata.name.as_deref())
            .unwrap_or_default()
    }
}

/// How far behind a group may be. With both set, either one is enough to miss the objective.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.records) || has(self.seconds)").message("lagObjective is empty: set records, seconds or both, or remove it"))]
pub struct LagObjective {
    /// Records, over all partitions, that may wait to be consumed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub records: Option<i64>,

    /// Seconds that the oldest record that waits to be consumed may have waited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub seconds: Option<i64>,
}

/// What was last seen of a consumer group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConsumerGroupStatus {
    /// What holds and what does not, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,

    /// The generation of the spec that this status speaks of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Id of the group as Kafka clients see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub group_id: Option<String>,

    /// State of the group as Kafka names it (`Stable`, `Empty`, `PreparingRebalance` ...).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub state: Option<String>,

    /// Consumers that are in the group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub members: Option<i32>,

    /// How far behind the group is over all its topics.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,

    /// How far behind the group is in each topic: those with the most lag, at most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["topic".into()]))]
    pub topics: Vec<TopicLag>,

    /// Whether the group reads, as far as the brokers have a say in it: `Running`, `Pausing`, `Paused` or `NotPausable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub consumption: Option<String>,

    /// This resource has had the group paused, so that removing `spec.paused` has it go on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paused: bool,

    /// This resource has set the group's filter, retries or dead letters, so that removing them takes them back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub configured: bool,

    /// Group configurations that were set since lease, isolation or config name them. One that they do not name any more is taken back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 249)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub config_keys: Vec<String>,

    /// This resource has set where the share group begins, so that removing it takes it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begin_configured: bool,

    /// What came of the last reset that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reset: Option<LastReset>,

    /// How the consumers' Deployment stands, while it is scaled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<ScaleStatus>,
}

/// How far behind a group is. Its age changes by itself, so here is a time; the metric `weir_operator_group_lag_seconds` has the age.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Lag {
    /// Records not yet consumed.
    pub records: i64,
    /// Since when the oldest record not yet consumed has waited, to within some seconds; unset when none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub oldest_time: Option<String>,
}

/// How far behind a group is in one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TopicLag {
    /// Name of the topic.
    #[schemars(length(max = 249))]
    pub topic: String,
    /// Records not yet consumed.
    pub records: i64,
    /// Since when the oldest record not yet consumed has waited, to within some seconds; unset when none waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub oldest_time: Option<String>,
}
