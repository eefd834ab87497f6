//! The deadlines of a consumer group's members: sessions, and the time to give up partitions.

use super::Consumer;
use super::member::Member;
use crate::modern::reconcile::Progress;
use crate::outbox::Turn;
use crate::types::{MemberId, MonoMs};

impl Consumer {
    /// Counts the member's silence from now on.
    pub(super) fn touch(&mut self, turn: &Turn<'_>, id: &MemberId) {
        let session_ms = turn.group_settings(&self.id).consumer_session_timeout_ms;
        if let Some(member) = self.members.get_mut(id) {
            let session_ms = match &member.profile.classic {
                Some(side) => side.session_timeout_ms,
                None => session_ms,
            };
            let deadline = turn.now.mono.after(u64::try_from(session_ms).unwrap_or(0));
            member.session_deadline = deadline;
            self.arm(deadline);
        }
    }

    /// Goes on after loading: every member's silence counts from now, for nobody could reach the coordinator before.
    pub(crate) fn resume(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<MemberId> = self.members.keys().cloned().collect();
        for id in &ids {
            self.touch(turn, id);
            let Some(member) = self.members.get_mut(id) else {
                continue;
            };
            if member.current.progress == Progress::Unrevoked {
                let timeout_ms = u64::try_from(member.profile.rebalance_timeout_ms).unwrap_or(0);
                let deadline = turn.now.mono.after(timeout_ms);
                member.revocation = Some((deadline, member.current.epoch));
                self.arm(deadline);
            }
        }
    }

    /// Acts on every deadline that has passed, and asks to be woken for the next.
    pub(crate) fn tick(&mut self, turn: &mut Turn<'_>) {
        let now = turn.now.mono;
        self.wake_at = None;
        let dead = self
            .members
            .values()
            .filter(|member| first_deadline(member) <= now);
        let dead: Vec<MemberId> = dead.map(|member| member.id.clone()).collect();
        self.remove(turn, &dead);
        // None has passed: who is woken for one finds something to do.
        self.wake_at = self.members.values().map(first_deadline).min();
    }
}

/// When the member is removed unless something happens. Time to give up partitions of an epoch that is not its own any more
/// does not count.
fn first_deadline(member: &Member) -> MonoMs {
    let revocation = member
        .revocation
        .filter(|(_, epoch)| *epoch == member.current.epoch);
    [revocation.map(|(at, _)| at), member.classic_deadline]
        .into_iter()
        .flatten()
        .fold(member.session_deadline, MonoMs::min)
}
