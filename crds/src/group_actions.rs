//! What a `ConsumerGroup` may ask for to be done, and what is said of it: where a new group begins, resets of offsets, scaling of the consumers.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Most partitions of a reset that a status lists: a status is a summary.
pub const MAX_PARTITIONS_IN_STATUS: usize = 100;

/// The group configuration that says where a share group begins.
pub const BEGIN_CONFIG: &str = "share.auto.offset.reset";

/// Where a group begins that is new to a topic: the operator commits these offsets once, while the group has no members and no offset of any
/// partition of the topic. A topic that it has an offset of is left as it is. Of a share group it is the configuration share.auto.offset.reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.to), has(self.timestamp), has(self.secondsBack)].filter(given, given).size() == 1").message("begin needs one of to, timestamp and secondsBack, and no more than one"))]
#[x_kube(validation = Rule::new("!self.shareGroup || !has(self.timestamp)").message("a share group cannot begin at a timestamp: set begin.to or begin.secondsBack"))]
pub struct GroupBeginning {
    /// At the first or past the last message of each partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ResetPosition>,

    /// At the first message that is not older than this time; past the last where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub timestamp: Option<String>,

    /// At the first message that is not older than so many seconds when the group begins; past the last where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 3_153_600_000_i64))]
    pub seconds_back: Option<i64>,

    /// It is a share group, of which the brokers keep what it has read: there are no offsets to commit.
    #[serde(default)]
    pub share_group: bool,
}

impl GroupBeginning {
    /// What [`BEGIN_CONFIG`] is to be for a share group.
    #[must_use]
    pub fn share_config(&self) -> Option<String> {
        let text = match (self.share_group, self.to, self.seconds_back) {
            (false, ..) => return None,
            (true, Some(ResetPosition::Earliest), _) => "earliest".to_owned(),
            (true, Some(ResetPosition::Latest), _) => "latest".to_owned(),
            (true, None, seconds) => format!("by_duration:PT{}S", seconds?),
        };
        Some(text)
    }
}

/// Offsets that are to be set, once. Members of the group are fenced for the moment of the reset: they join again, and go on from the new offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("[has(self.to), has(self.timestamp), has(self.offset), has(self.shift)].filter(given, given).size() == 1").message("reset needs one of to, timestamp, offset and shift, and no more than one"))]
#[x_kube(validation = Rule::new("!has(self.partitions) || (has(self.topics) && self.topics.size() == 1)").message("reset.partitions are those of one topic: name it, and no other, in reset.topics"))]
pub struct OffsetReset {
    /// Names this reset. A reset of the same name is carried out once, whatever else is applied in between: to reset again, choose another.
    #[schemars(
        length(min = 1, max = 64),
        regex(pattern = r"^[A-Za-z0-9]([A-Za-z0-9._:-]*[A-Za-z0-9])?$")
    )]
    pub request_id: String,

    /// To the first or past the last message of each partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<ResetPosition>,

    /// To the first message that is not older than this time; past the last where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub timestamp: Option<String>,

    /// To this offset, or the nearest that a partition has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub offset: Option<i64>,

    /// By so many messages from where the group is: back when negative. Partitions without a committed offset stay as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = -9_007_199_254_740_991_i64, max = 9_007_199_254_740_991_i64))]
    #[x_kube(validation = Rule::new("self != 0").message("reset.shift of 0 changes nothing: set another number, or remove it"))]
    pub shift: Option<i64>,

    /// Topics to reset. Empty, those of `spec.topics`; where that is empty too, all that the group has committed offsets for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 100),
        inner(length(min = 1, max = 249), regex(pattern = "^[a-zA-Z0-9._-]+$"))
    )]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub topics: Vec<String>,

    /// Partitions of the one topic that is named. Empty, all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 1000), inner(range(min = 0)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub partitions: Vec<i32>,

    /// Only say in `status.lastReset` what would change. Set to false afterwards, with the same `requestId`, the reset is carried out.
    #[serde(default)]
    pub dry_run: bool,
}

/// An end of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ResetPosition {
    /// The first message that there is.
    Earliest,
    /// Past the last message.
    Latest,
}

/// How the consumers' Deployment follows the group's lag.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas").message("scale.minReplicas is more than scale.maxReplicas: lower the one or raise the other"))]
pub struct ConsumerScale {
    /// Name of the Deployment, in this namespace, whose pods are the group's consumers. The operator has to be permitted to scale Deployments in
    /// this namespace (value `scaleConsumers.namespaces` of its chart).
    #[schemars(length(min = 1, max = 253))]
    pub deployment: String,

    /// Replicas that stay when nothing waits.
    #[serde(default)]
    #[schemars(range(min = 0, max = 1000))]
    pub min_replicas: i32,

    /// Replicas that there are at most. More than the topics have partitions are of no use, and are not asked for.
    #[schemars(range(min = 1, max = 1000))]
    pub max_replicas: i32,

    /// Messages that may wait for each replica: with so many more there is one replica more.
    #[schemars(range(min = 1))]
    pub lag_per_replica: i64,

    /// Seconds for which more replicas must have been wanted all the time before there are more.
    #[serde(default)]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_up_stabilization_seconds: i32,

    /// Seconds for which fewer replicas must have been wanted all the time before there are fewer.
    #[serde(default = "five_minutes")]
    #[schemars(range(min = 0, max = 3600))]
    pub scale_down_stabilization_seconds: i32,
}

/// As Kubernetes' own autoscaler has it.
fn five_minutes() -> i32 {
    300
}

/// What came of the last reset that was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct LastReset {
    /// The `requestId` of the reset.
    #[schemars(length(max = 64))]
    pub request_id: String,

    /// `Done`, or `Refused` when the brokers said no.
    #[schemars(length(max = 16))]
    pub state: String,

    /// Nothing was changed: this is what would have been.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dry_run: bool,

    /// The generation of the spec that asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,

    /// When it was carried out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub time: Option<String>,

    /// What was done, or why it was not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 1024))]
    pub message: String,

    /// Members that were fenced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced_members: Option<i32>,

    /// Partitions whose offsets were set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions_reset: Option<i32>,

    /// From where to where, for the first 100 partitions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub partitions: Vec<PartitionReset>,
}

/// An offset before and after a reset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PartitionReset {
    /// Name of the topic.
    #[schemars(length(max = 249))]
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// Committed before; absent when nothing was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<i64>,
    /// Committed after; absent when there was nothing to shift from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<i64>,
}

/// How the consumers' Deployment stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ScaleStatus {
    /// Replicas that the Deployment is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replicas: Option<i32>,
    /// Replicas that the lag of this moment asks for, within the bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wanted_replicas: Option<i32>,
    /// When the operator last changed the number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), extend("format" = "date-time"))]
    pub last_scale_time: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_share_group_begins_is_written_as_the_brokers_read_it() {
        let begin = |to, seconds_back| GroupBeginning {
            to,
            seconds_back,
            share_group: true,
            ..GroupBeginning::default()
        };
        for (begin, expected) in [
            (begin(Some(ResetPosition::Earliest), None), Some("earliest")),
            (begin(Some(ResetPosition::Latest), None), Some("latest")),
            (begin(None, Some(3_600)), Some("by_duration:PT3600S")),
            (begin(None, None), None),
            (GroupBeginning::default(), None),
        ] {
            assert_eq!(begin.share_config().as_deref(), expected);
        }
    }
}
