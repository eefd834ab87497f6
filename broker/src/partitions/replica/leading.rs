//! A partition's leader: appends and who waits for them, what followers say of themselves, and the in-sync set that is asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::oneshot;
use weir_log::mutants::Mutant;
use weir_log::{Append, AppendError, Appended, Origin, Verified};
use weir_replication::{Answer, Ends, Leadership, Millis, Want};
use weir_wire::{BrokerId, LeaderEpoch, Offset};

use super::{Replica, State, Wake};
use crate::partitions::watermark::{Passed, Watermark};

/// What has to have happened to a batch before its producer hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// The high watermark has passed it (`acks=all`).
    #[default]
    Committed,
    /// This broker's own log has it, as the topic's durability asks (`acks=1`).
    Written,
}

/// What a leader knows in its epoch.
pub(super) struct Leading {
    pub(super) epoch: LeaderEpoch,
    pub(super) leadership: Leadership,
    /// Passes what this broker's own log has.
    pub(super) own: Arc<Watermark>,
    /// When it was ready to lead in it.
    pub(super) since: Millis,
    /// Everything below was there when the epoch began.
    pub(super) began_at: Offset,
    /// By follower.
    pub(super) outlets: Vec<(BrokerId, Arc<dyn Wake>)>,
    /// Nobody knows what came of the in-sync set that was asked for.
    pub(super) is_unsure: bool,
    /// Where the logs of followers begin, as far as they have said.
    pub(super) starts: BTreeMap<BrokerId, Offset>,
    /// Who waits until all in sync begin there.
    pub(super) deletions: Vec<(Offset, oneshot::Sender<()>)>,
}

/// What a leader sends of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where its log begins.
    pub log_start: Offset,
    /// Where its log ends.
    pub log_end: Offset,
    /// Its high watermark.
    pub high_watermark: Offset,
}

/// How long a producer may take to hear that the leader before has refused what it had sent there: as long as clients wait for an answer of a broker that
/// gives none (librdkafka: 60 s; Java, franz-go: 30 s and less), and then some.
const HEARSAY: Duration = Duration::from_secs(90);

/// Whether a leader has led for a while only, and somebody did before.
fn has_just_taken_over(epoch: LeaderEpoch, since: Millis, now: Millis) -> bool {
    let led_for = Duration::from_millis(now.0.saturating_sub(since.0));
    epoch > LeaderEpoch(0) && led_for < HEARSAY
}

impl Leading {
    /// There may be something to tell followers.
    pub(super) fn wake_all(&self) {
        self.outlets.iter().for_each(|(_, outlet)| outlet.wake());
    }

    /// Answers who waits for logs to begin later, as far as all in sync do.
    pub(super) fn settle_deletions(&mut self, me: BrokerId) {
        let in_sync = self.leadership.known().isr.iter().filter(|id| **id != me);
        let starts = in_sync.map(|id| self.starts.get(id).copied().unwrap_or_default());
        let lowest = starts.min().unwrap_or(Offset(i64::MAX));
        let done = self.deletions.extract_if(.., |(start, _)| *start <= lowest);
        for (_, waits) in done {
            // Whoever asked may have given up.
            let _ = waits.send(());
        }
    }

    /// The watermark has moved: followers are told.
    pub(super) fn moved(&self) -> Offset {
        self.wake_all();
        self.leadership.high_watermark()
    }
}

impl Replica {
    /// Whether everything that was there when its epoch began is below the high watermark: only then the watermark is no lower than
    /// any that an earlier leader told (KIP-207).
    pub(crate) fn is_established(&self) -> bool {
        match &*self.lock() {
            State::Leading(leading) => leading.leadership.high_watermark() >= leading.began_at,
            _ => false,
        }
    }

    /// Whether what a batch of this epoch lacks may be on its way still: by the word of the leader before, or since another one leads by now.
    pub(crate) fn may_lack(&self, epoch: LeaderEpoch) -> bool {
        let now = self.now();
        match self.lock().leading(epoch) {
            Some(leading) => has_just_taken_over(epoch, leading.since, now),
            None => true,
        }
    }

    /// Queues a batch as the leader in this epoch.
    pub(crate) fn append(
        self: &Arc<Self>,
        (batch, leader_epoch): (Bytes, LeaderEpoch),
        (origin, verified): (Origin, Option<Verified>),
        until: Until,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let now = self.now();
        let state = self.lock();
        let Some(leading) = state.leading(leader_epoch) else {
            let latest = state.epoch();
            drop(state);
            done(Err(AppendError::StaleEpoch {
                got: leader_epoch,
                latest,
            }));
            return;
        };
        let begins_at_zero = has_just_taken_over(leader_epoch, leading.since, now);
        let this = Arc::clone(self);
        let written = move |result: Result<Appended, AppendError>| match result {
            Err(error) => done(Err(error)),
            Ok(appended) => this.when_acknowledged(leader_epoch, appended, until, done),
        };
        // Within the lock: see the module.
        self.handle.append(Append {
            batch,
            leader_epoch,
            origin,
            verified,
            begins_at_zero,
            done: Box::new(written),
        });
    }

    fn when_acknowledged(
        &self,
        epoch: LeaderEpoch,
        appended: Appended,
        until: Until,
        done: impl FnOnce(Result<Appended, AppendError>) + Send + 'static,
    ) {
        let state = self.lock();
        let Some(leading) = state.leading(epoch) else {
            let latest = state.epoch();
            drop(state);
            done(Err(AppendError::StaleEpoch { got: epoch, latest }));
            return;
        };
        let passes: Arc<Watermark> = match until {
            Until::Committed => Arc::clone(&self.watermark),
            Until::Written => Arc::clone(&leading.own),
        };
        let passed: Passed = Box::new(move |has_passed| {
            done(if has_passed {
                Ok(appended)
            } else {
                Err(AppendError::Closed)
            });
        });
        // It has to be among those who wait before the role can change, and to be called without the lock.
        let now = passes.wait_above(appended.last_offset, passed);
        drop(state);
        if let Some(passed) = now {
            passed(true);
        }
    }

    /// What there is for a follower while this broker leads in this epoch.
    pub(crate) fn progress(&self, epoch: LeaderEpoch, follower: BrokerId) -> Option<Progress> {
        let state = self.lock();
        let leading = state.leading(epoch)?;
        if !leading.outlets.iter().any(|(id, _)| *id == follower) {
            return None;
        }
        let reader = self.reader();
        Some(Progress {
            log_start: reader.log_start(),
            log_end: reader.log_end(),
            high_watermark: leading.leadership.high_watermark(),
        })
    }

    /// A follower says how far it is. True when that may bring it into the in-sync set.
    pub(crate) fn heard(
        &self,
        epoch: LeaderEpoch,
        follower: BrokerId,
        registration: u64,
        (log_start, ends): (Offset, Ends),
    ) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let Some(leading) = state.leading_mut(epoch) else {
            return false;
        };
        if leading.starts.insert(follower, log_start) != Some(log_start) {
            leading.settle_deletions(self.me);
        }
        let is_out = !leading.leadership.known().isr.contains(&follower);
        let ends = match Mutant::JoinEarly.is_active() && is_out {
            true => self.ends(),
            false => ends,
        };
        let moved = leading
            .leadership
            .heard(follower, registration, ends, now)
            .then(|| leading.moved());
        let joins = is_out && leading.leadership.may_join(follower, now);
        drop(state);
        if let Some(end) = moved {
            self.advance(end);
        }
        joins
    }

    /// Ends when no replica in sync has anything before `start` any more; with an error when this one does not lead until then.
    pub(crate) fn all_begin_at(&self, start: Offset) -> oneshot::Receiver<()> {
        let (sender, receiver) = oneshot::channel();
        if let State::Leading(leading) = &mut *self.lock() {
            leading.deletions.retain(|(_, waits)| !waits.is_closed());
            leading.deletions.push((start, sender));
            leading.settle_deletions(self.me);
        }
        receiver
    }

    /// A follower has no room for what it is sent. True when it may have to leave the in-sync set for that.
    pub(crate) fn takes_nothing(
        &self,
        epoch: LeaderEpoch,
        follower: BrokerId,
        registration: u64,
    ) -> bool {
        let mut state = self.lock();
        state.leading_mut(epoch).is_some_and(|leading| {
            let leadership = &mut leading.leadership;
            leadership.takes_nothing(follower, registration)
        })
    }

    /// Whether it leads others, which may fall behind.
    pub(crate) fn has_followers(&self) -> bool {
        match &*self.lock() {
            State::Leading(leading) => leading.leadership.known().replicas.len() > 1,
            _ => false,
        }
    }

    /// The in-sync set to ask the controller for, now or again.
    pub(crate) fn want(&self, lag_max_ms: u64) -> Option<(LeaderEpoch, Want)> {
        let now = self.now();
        let mut state = self.lock();
        let State::Leading(leading) = &mut *state else {
            return None;
        };
        let again = leading
            .leadership
            .asked()
            .filter(|_| leading.is_unsure)
            .cloned();
        let want = again.or_else(|| leading.leadership.want(now, lag_max_ms))?;
        leading.is_unsure = false;
        Some((leading.epoch, want))
    }

    /// What came of it.
    pub(crate) fn answered(&self, epoch: LeaderEpoch, answer: Answer) {
        let mut state = self.lock();
        let Some(leading) = state.leading_mut(epoch) else {
            return;
        };
        leading.is_unsure = answer == Answer::Unknown;
        let moved = leading.leadership.answered(answer).then(|| leading.moved());
        leading.settle_deletions(self.me);
        drop(state);
        if let Some(end) = moved {
            self.advance(end);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{HEARSAY, has_just_taken_over};
    use weir_replication::Millis;
    use weir_wire::LeaderEpoch;

    #[test]
    fn what_the_leader_before_has_said_is_waited_for_and_not_for_ever() {
        let since = Millis(5_000);
        let all = Millis(5_000 + HEARSAY.as_millis() as u64);
        let almost = Millis(all.0 - 1);
        assert!(has_just_taken_over(LeaderEpoch(1), since, since));
        assert!(has_just_taken_over(LeaderEpoch(1), since, almost));
        assert!(!has_just_taken_over(LeaderEpoch(1), since, all));
        assert!(
            !has_just_taken_over(LeaderEpoch(0), since, since),
            "nobody led before"
        );
    }
}
