//! What a consumer group looks like from outside.

use std::collections::BTreeMap;

use bytes::Bytes;
use weir_wire::TopicId;

use super::{Consumer, Member};
use crate::classic::CONSUMER;
use crate::cluster::Cluster;
use crate::modern::{TopicPartition, by_topic};
use crate::request::{
    AssignedTopic, ConsumerDescription, ConsumerMemberDescription, Consumption, Description,
    GroupType, MemberDescription,
};

impl Consumer {
    /// What every type of group can tell.
    pub(crate) fn describe(&self) -> Description {
        let members = self.members.values().map(|member| MemberDescription {
            member: member.id.clone(),
            instance: member.profile.instance.clone(),
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            metadata: Bytes::new(),
            assignment: Bytes::new(),
        });
        Description {
            group: self.id.clone(),
            kind: GroupType::Consumer,
            state: self.state(),
            protocol_type: CONSUMER.to_owned(),
            protocol: self.preferred_assignor().to_owned(),
            members: members.collect(),
            // The coordinator knows what was asked for.
            consumption: Consumption::default(),
        }
    }

    /// What ConsumerGroupDescribe tells.
    pub(crate) fn describe_consumer(&self, cluster: &dyn Cluster) -> ConsumerDescription {
        let members = self.members.values();
        ConsumerDescription {
            group: self.id.clone(),
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target.epoch,
            assignor: self.preferred_assignor().to_owned(),
            members: members
                .map(|member| self.describe_member(cluster, member))
                .collect(),
        }
    }

    fn describe_member(&self, cluster: &dyn Cluster, member: &Member) -> ConsumerMemberDescription {
        let profile = &member.profile;
        let target = self.target.of(&member.id);
        ConsumerMemberDescription {
            member: member.id.clone(),
            instance: profile.instance.clone(),
            rack: profile.rack.clone(),
            epoch: member.current.epoch,
            client_id: profile.client_id.clone(),
            client_host: profile.client_host.clone(),
            topics: profile.topics.iter().cloned().collect(),
            regex: profile.regex.clone(),
            assignment: named(cluster, member.current.assigned.keys().copied()),
            target: named(cluster, target.into_iter().flatten().copied()),
            is_classic: member.is_classic(),
        }
    }
}

/// Partitions by topic, with the topics' names; topics that are gone are left out.
fn named(
    cluster: &dyn Cluster,
    partitions: impl Iterator<Item = TopicPartition>,
) -> Vec<AssignedTopic> {
    let topics: BTreeMap<TopicId, Vec<i32>> = by_topic(partitions);
    let named = topics.into_iter().filter_map(|(id, partitions)| {
        Some(AssignedTopic {
            id,
            name: cluster.topic_by_id(id)?.name,
            partitions,
        })
    });
    named.collect()
}
