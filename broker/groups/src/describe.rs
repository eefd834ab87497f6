//! What a group looks like from outside: DescribeGroups, ListGroups, DeleteGroups.

use bytes::Bytes;

use crate::error::GroupError;
use crate::group::{Group, Phase};
use crate::outbox::Turn;
use crate::request::{CLASSIC, Description, ListRequest, Listing, MemberDescription};
use crate::stored::StoredRecord;

impl Group {
    /// The group as it is. Subscriptions and assignments are told only while they are everyone's.
    pub(crate) fn describe(&self) -> Description {
        let is_stable = matches!(self.phase, Phase::Stable { .. });
        let told = |bytes: Bytes| if is_stable { bytes } else { Bytes::new() };
        let members = self.members.values().map(|member| MemberDescription {
            member: member.id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: told(member.metadata(self.protocol.as_deref())),
            assignment: told(member.assignment.clone()),
        });
        Description {
            group: self.id.clone(),
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self
                .protocol
                .clone()
                .filter(|_| is_stable)
                .unwrap_or_default(),
            members: members.collect(),
        }
    }

    /// The group's line in a list, unless the filters leave it out.
    pub(crate) fn list(&self, request: &ListRequest) -> Option<Listing> {
        let among = |names: &[String], own: &str| {
            names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(own))
        };
        let wanted = among(&request.states, self.state().name()) && among(&request.types, CLASSIC);
        wanted.then(|| Listing {
            group: self.id.clone(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            state: self.state(),
        })
    }

    /// Drops everything that is stored of the group; it is to be forgotten after this.
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        if self.phase != Phase::Empty {
            return Err(GroupError::NonEmptyGroup);
        }
        let offsets = self.offsets.topics().flat_map(|(topic, partitions)| {
            partitions
                .keys()
                .map(move |partition| (topic.to_owned(), *partition))
        });
        for (topic, partition) in offsets.collect::<Vec<_>>() {
            self.drop_offset(turn, &topic, partition);
        }
        turn.out.emit(StoredRecord::group_tombstone(&self.id));
        Ok(())
    }
}
