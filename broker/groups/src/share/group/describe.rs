//! What a share group looks like from outside.

use super::{ASSIGNOR, SHARE, ShareGroup};
use crate::cluster::Cluster;
use crate::modern::{Partitions, by_topic};
use crate::request::{
    AssignedTopic, Consumption, Description, GroupType, MemberDescription, ShareDescription,
    ShareMemberDescription,
};

impl ShareGroup {
    /// What every type of group can tell.
    pub(crate) fn describe(&self) -> Description {
        let members = self.members.iter().map(|(id, member)| MemberDescription {
            member: id.clone(),
            instance: None,
            client_id: member.profile.client_id.clone(),
            client_host: member.profile.client_host.clone(),
            metadata: bytes::Bytes::new(),
            assignment: bytes::Bytes::new(),
        });
        Description {
            group: self.id.clone(),
            kind: GroupType::Share,
            state: self.state(),
            protocol_type: SHARE.to_owned(),
            protocol: ASSIGNOR.to_owned(),
            members: members.collect(),
            // The coordinator knows what was asked for.
            consumption: Consumption::default(),
        }
    }

    /// What ShareGroupDescribe tells, and whose states are kept.
    pub(crate) fn describe_share(&self, cluster: &dyn Cluster) -> ShareDescription {
        let members = self
            .members
            .iter()
            .map(|(id, member)| ShareMemberDescription {
                member: id.clone(),
                rack: member.profile.rack.clone(),
                epoch: member.current.epoch,
                client_id: member.profile.client_id.clone(),
                client_host: member.profile.client_host.clone(),
                topics: member.profile.topics.iter().cloned().collect(),
                assignment: named(cluster, &member.current.assigned),
            });
        let states = self.states.iter().map(|(id, stated)| AssignedTopic {
            id: *id,
            name: stated.name.clone(),
            partitions: stated.partitions.iter().copied().collect(),
        });
        ShareDescription {
            group: self.id.clone(),
            state: self.state(),
            epoch: self.epoch,
            assignment_epoch: self.target.epoch,
            assignor: ASSIGNOR.to_owned(),
            members: members.collect(),
            states: states.collect(),
        }
    }
}

/// With the topics' names; those that are gone are left out.
fn named(cluster: &dyn Cluster, partitions: &Partitions) -> Vec<AssignedTopic> {
    let topics = by_topic(partitions.iter().copied()).into_iter();
    let named = topics.filter_map(|(id, partitions)| {
        let name = cluster.topic_by_id(id)?.name;
        Some(AssignedTopic {
            id,
            name,
            partitions,
        })
    });
    named.collect()
}
