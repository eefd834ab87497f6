//! Who may commit offsets in a classic group.

use super::{Classic, Phase};
use crate::error::GroupError;
use crate::outbox::Turn;
use crate::request::CommitRequest;
use crate::types::Generation;

impl Classic {
    /// Whether whoever asks may commit. A member's commit is a sign of life.
    pub(crate) fn check_commit(
        &mut self,
        turn: &Turn<'_>,
        request: &CommitRequest,
        is_transactional: bool,
    ) -> Result<(), GroupError> {
        let outside = request.generation < Generation(0);
        if outside && self.phase == Phase::Empty {
            // An administrator, or a consumer that keeps its offsets here and assigns its partitions itself.
            return Ok(());
        }
        if outside && request.member.is_empty() && request.instance.is_none() {
            return Err(GroupError::UnknownMember);
        }
        self.check_member(
            &request.member,
            request.instance.as_ref(),
            request.generation,
        )?;
        if !request.member.is_empty() {
            // Old consumers take a commit for one.
            self.touch(&request.member, turn.now.mono);
        }
        match self.phase {
            // It knows the generation, so it has joined, and cannot know yet what it owns.
            Phase::Completing { .. } if !is_transactional => Err(GroupError::RebalanceInProgress),
            _ => Ok(()),
        }
    }
}
