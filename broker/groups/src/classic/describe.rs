//! What a classic group looks like from outside.

use bytes::Bytes;

use super::{Classic, Phase};
use crate::request::{Consumption, Description, GroupType, MemberDescription};

impl Classic {
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
            kind: GroupType::Classic,
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_default(),
            protocol: self
                .protocol
                .clone()
                .filter(|_| is_stable)
                .unwrap_or_default(),
            members: members.collect(),
            // The coordinator knows what was asked for.
            consumption: Consumption::default(),
        }
    }
}
