//! Resets of a group's offsets.

use super::Coordinator;
use crate::error::GroupError;
use crate::request::{Once, ResetOutcome, ResetRequest, Response};
use crate::types::{CallId, Now};

impl Coordinator {
    pub(super) fn reset(&mut self, call: CallId, request: &ResetRequest, now: Now) {
        let outcome = self.try_reset(request, now);
        // Also that it was carried out before, or would come out so, is told only once that is durable.
        self.out.reply_when_durable(call, Response::Reset(outcome));
    }

    fn try_reset(&mut self, request: &ResetRequest, now: Now) -> Result<ResetOutcome, GroupError> {
        let id = &request.group;
        if id.is_empty() || id.len() > self.config.name_bytes_max {
            return Err(GroupError::InvalidGroupId);
        }
        if !self.groups.contains_key(id) {
            self.create(id)?;
        }
        let mut planned = Err(GroupError::Unknown);
        let mut reset = None;
        // A group that was made for this and gets nothing is forgotten again.
        self.with(id, now, |group, turn| {
            planned = group.plan_reset(turn, request);
            if let (Ok(ResetOutcome::Done { places, .. }), false) = (&planned, request.dry_run) {
                match group.reset_records(turn, request, places) {
                    Ok(records) => {
                        reset = Some(records);
                        // A change of its own before the one of the offsets, for it may be larger than one batch. A crash in between leaves
                        // members that join again, and nothing else.
                        if request.once != Once::WhereNew {
                            group.fence(turn);
                        }
                    }
                    Err(error) => planned = Err(error),
                }
            }
        });
        if let Some(reset) = reset {
            // The fenced group may have been forgotten, for nothing was left of it.
            if !self.groups.contains_key(id) {
                self.create(id)?;
            }
            self.with(id, now, |group, turn| group.reset(turn, reset));
        }
        planned
    }
}
