//! Commits: which are under way, in which transactional ids, and what comes of them.

use uuid::Uuid;

use super::request::{Action, Commit, Event, Fate, HalfError, Identity, Own, Response};
use super::{Halves, State, stored};
use crate::machine::{Entry, Outcome};
use crate::types::Now;

impl Halves {
    /// Begins commits as far as there may be more.
    pub(super) fn commit_next(&mut self) {
        while self.committing < self.config.commits_max {
            let Some(id) = self.queue.pop_front() else {
                return;
            };
            let Some(half) = self.halves.get_mut(&id) else {
                continue;
            };
            self.committing += 1;
            half.is_queued = false;
            half.standing.state = State::Committing { begun: None };
            self.stand(id);
            self.act(id);
        }
    }

    /// Has a commit carried out, once all that is known of it is durable.
    pub(super) fn act(&mut self, id: Uuid) {
        let Some(half) = self.halves.get(&id) else {
            return;
        };
        if let State::Committing { begun } = half.standing.state
            && let Some(prepared) = &half.prepared
        {
            let messages = prepared.messages.clone();
            let commit = Commit {
                id,
                begun,
                messages,
            };
            let action = Action::Commit(Box::new(commit));
            self.out.act_when_durable(action);
        }
    }

    /// An id for the transaction of a commit. One that was never used is this machine's when the record is durable that says so.
    pub(super) fn take(&mut self, id: Uuid) -> Option<Own> {
        let half = self.halves.get(&id)?;
        if !matches!(half.standing.state, State::Committing { .. }) {
            return None;
        }
        if let Some(identity) = self.idle.pop() {
            return Some(Own::Used(identity));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.emit(Entry::Record(stored::taken(self.next_number)));
        Some(Own::New(number))
    }

    pub(super) fn began(&mut self, id: Uuid, as_whom: Identity) -> bool {
        let Some(half) = self.halves.get_mut(&id) else {
            return false;
        };
        let State::Committing { begun } = &mut half.standing.state else {
            return false;
        };
        *begun = Some(as_whom);
        self.stand(id);
        true
    }

    pub(super) fn finished(&mut self, id: Uuid, fate: Fate, next: Option<Identity>, now: Now) {
        let Some(half) = self.halves.get_mut(&id) else {
            return;
        };
        if !matches!(half.standing.state, State::Committing { .. }) {
            return;
        }
        match fate {
            Fate::Published => self.decide(id, Outcome::Commit, now),
            Fate::Unknown => {
                let at_ms = now.wall.0;
                let waiting = self.close(id, State::InDoubt { at_ms }, at_ms);
                self.tally(Event::InDoubt);
                for call in waiting {
                    let doubt = Response::End(Err(HalfError::InDoubt(id)));
                    self.out.reply_when_durable(call, doubt);
                }
            }
            Fate::Refused(code, message) => {
                half.standing.state = State::Prepared;
                let waiting = std::mem::take(&mut half.waiting);
                let prepared = half.prepared.as_ref();
                let again_ms = prepared.map_or(0, |prepared| prepared.check_after_ms);
                self.stand(id);
                self.wait(id, now.mono.after(again_ms));
                for call in waiting {
                    let message = message.clone();
                    let refused = HalfError::Refused { code, message };
                    self.out
                        .reply_when_durable(call, Response::End(Err(refused)));
                }
            }
        }
        // No more than there are commits at the same time.
        self.idle.extend(next.filter(Identity::may_go_on));
        self.committing -= 1;
        self.commit_next();
    }
}
