//! What all groups look like from outside: ListGroups, DeleteGroups.

use crate::error::GroupError;
use crate::group::Group;
use crate::outbox::Turn;
use crate::request::{ListRequest, Listing};

impl Group {
    /// The group's line in a list, unless the filters leave it out.
    pub(crate) fn list(&self, request: &ListRequest) -> Option<Listing> {
        let among = |names: &[String], own: &str| {
            names.is_empty() || names.iter().any(|name| name.eq_ignore_ascii_case(own))
        };
        let (state, kind) = (self.kind.state(), self.kind.group_type());
        let wanted = among(&request.states, state.name()) && among(&request.types, kind.name());
        wanted.then(|| Listing {
            group: self.id.clone(),
            kind,
            protocol_type: self.kind.protocol_type().to_owned(),
            state,
        })
    }

    /// Drops everything that is stored of the group; it is to be forgotten after this.
    pub(crate) fn delete(&mut self, turn: &mut Turn<'_>) -> Result<(), GroupError> {
        if !self.kind.is_empty() {
            return Err(GroupError::NonEmptyGroup);
        }
        let offsets = self.offsets.topics().flat_map(|(topic, partitions)| {
            partitions
                .keys()
                .map(move |partition| (topic.to_owned(), *partition))
        });
        let mut places = self.pending.places();
        places.extend(offsets);
        for (topic, partition) in places {
            self.drop_offset(turn, &topic, partition);
        }
        self.kind.end(turn);
        self.forget_resets(turn);
        Ok(())
    }
}
