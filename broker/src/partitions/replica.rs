//! What this broker is to a partition: its leader in one epoch, a follower of another broker, or nothing yet.
//!
//! Owns the high watermark's rule. Changes of the role, appends of the leader and appends of a follower go through one lock, in the
//! order in which they reach the lane. What always holds:
//!
//! - Nothing is handed to the lane but in the role, and the epoch, that is in force at that moment; what an earlier role handed over
//!   is in the lane's queue before everything of the next.
//! - An acknowledgement waits only while this broker leads in the epoch in which the batch was appended: whoever waits when that
//!   ends is told so, and never that all is well.
//! - A leader's epoch begins once everything that was queued before it is written; only then it takes appends.
//! - What a follower reports of itself it reports in the epoch in which it follows, and to the stream that feeds it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::error;
use weir_log::mutants::Mutant;
use weir_log::{
    Append, AppendError, Appended, LaneError, LogReader, Observer, Origin, PartitionHandle,
    Replicate, Verified,
};
use weir_replication::{Answer, Ends, Known, Leadership, Millis, Want};
use weir_wire::{BrokerId, LeaderEpoch, Offset};

use super::watermark::{Abandoned, Passed, Watermark};
use crate::queue::throttle::Throttle;
use crate::replication::Links;

/// Somebody who is to be told that there is something new of a partition: the sending half of a stream to another broker.
pub trait Wake: fmt::Debug + Send + Sync {
    /// There is. Must not block, nor ask the partition anything.
    fn wake(&self);
}

/// What has to have happened to a batch before its producer hears of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Until {
    /// The high watermark has passed it (`acks=all`).
    #[default]
    Committed,
    /// This broker's own log has it, as the topic's durability asks (`acks=1`).
    Written,
}

/// What the metadata makes of this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// It leads.
    Lead(LeaderEpoch, Known),
    /// It follows this broker, or waits for a leader.
    Follow(LeaderEpoch, Option<BrokerId>),
}

/// One partition's role. See the module.
pub struct Replica {
    me: BrokerId,
    handle: PartitionHandle,
    watermark: Arc<Watermark>,
    links: Arc<Links>,
    state: Mutex<State>,
    /// Who waits for room, once the partition had producers wait.
    throttle: OnceLock<Arc<Throttle>>,
    /// The zero of [`Millis`].
    began: Instant,
}

enum State {
    /// The metadata has not been seen yet.
    Unassigned,
    /// The lane has to write what was queued before.
    Promoting(LeaderEpoch, Known),
    Leading(Box<Leading>),
    Following(Following),
}

struct Leading {
    epoch: LeaderEpoch,
    leadership: Leadership,
    /// Passes what this broker's own log has.
    own: Arc<Watermark>,
    /// Everything below was there when the epoch began.
    began_at: Offset,
    /// By follower.
    outlets: Vec<(BrokerId, Arc<dyn Wake>)>,
    /// Nobody knows what came of the in-sync set that was asked for.
    is_unsure: bool,
    /// Where the logs of followers begin, as far as they have said.
    starts: BTreeMap<BrokerId, Offset>,
    /// Who waits until all in sync begin there.
    deletions: Vec<(Offset, oneshot::Sender<()>)>,
}

struct Following {
    epoch: LeaderEpoch,
    leader: Option<BrokerId>,
    /// The stream that feeds it.
    inlet: Option<Arc<dyn Wake>>,
    /// What the leader says its high watermark is.
    leader_watermark: Offset,
    /// Where the leader says its log begins, and up to where this log was asked to begin.
    leader_start: Offset,
    start_asked: Offset,
}

impl Following {
    /// Lets the log begin where the leader's does, as far as this one is durable.
    fn follow_start(&mut self, handle: &PartitionHandle) {
        let reader = handle.reader();
        let start = self.leader_start.min(reader.durable_end());
        if start <= self.start_asked.max(reader.log_start()) {
            return;
        }
        self.start_asked = start;
        let key = reader.key();
        handle.delete_records(start, move |result| {
            if let Err(error) = result {
                error!(%key, %error, "the log's start does not follow the leader's");
            }
        });
    }
}

impl State {
    fn epoch(&self) -> LeaderEpoch {
        match self {
            Self::Unassigned => LeaderEpoch::NONE,
            Self::Promoting(epoch, _) => *epoch,
            Self::Leading(leading) => leading.epoch,
            Self::Following(following) => following.epoch,
        }
    }

    fn leading(&self, epoch: LeaderEpoch) -> Option<&Leading> {
        match self {
            Self::Leading(leading) if leading.epoch == epoch => Some(leading),
            _ => None,
        }
    }

    fn leading_mut(&mut self, epoch: LeaderEpoch) -> Option<&mut Leading> {
        match self {
            Self::Leading(leading) if leading.epoch == epoch => Some(leading),
            _ => None,
        }
    }

    /// As a follower that is fed by this stream.
    fn fed_by(&mut self, inlet: &Arc<dyn Wake>) -> Option<&mut Following> {
        match self {
            Self::Following(following)
                if following
                    .inlet
                    .as_ref()
                    .is_some_and(|fed| Arc::ptr_eq(fed, inlet)) =>
            {
                Some(following)
            }
            _ => None,
        }
    }
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

/// Why a stream cannot feed a partition.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NotFed {
    /// The metadata has not come to that epoch here.
    #[error("epoch {0} is not known here yet")]
    NotYet(i32),
    /// It has gone on since.
    #[error("the epoch is over; the current one is {0}")]
    Over(i32),
    /// Somebody else leads in that epoch, or another stream of the leader's feeds it.
    #[error("another stream feeds the partition")]
    Another,
    /// What is to be cut off lies below the high watermark: a mistake that nobody must mend by losing records.
    #[error(
        "the leader's log parts from this one at {agreed}, below the high watermark {high_watermark}"
    )]
    BelowWatermark {
        /// Where.
        agreed: i64,
        /// What consumers may have seen.
        high_watermark: i64,
    },
    /// It would be begun anew, and counts as one that has everything: the metadata has to let go of it first.
    #[error("the replica is damaged or cannot follow, and still counts as in sync")]
    CountsAsInSync,
    /// The log cannot be used.
    #[error("the log cannot be used: {0}")]
    Unusable(String),
    /// The lane said no.
    #[error(transparent)]
    Lane(#[from] LaneError),
    /// The lane would not append.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl fmt::Debug for Replica {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replica")
            .field("epoch", &self.lock().epoch())
            .finish_non_exhaustive()
    }
}

impl Observer for Replica {
    fn written(&self, end: Offset) {
        if Mutant::CountReceived.is_active() {
            self.durable(end);
        }
        if let State::Leading(leading) = &*self.lock() {
            leading.wake_all();
        }
    }

    fn durable(&self, end: Offset) {
        let (ends, now) = (self.ends(), self.now());
        let mut own = None;
        let moved = match &mut *self.lock() {
            State::Leading(leading) => {
                own = Some(Arc::clone(&leading.own));
                let moved = leading.leadership.own(ends, now);
                moved.then(|| leading.moved())
            }
            State::Following(following) => {
                if let Some(inlet) = &following.inlet {
                    inlet.wake();
                }
                following.follow_start(&self.handle);
                Some(following.leader_watermark.min(ends.received))
            }
            State::Unassigned | State::Promoting(..) => None,
        };
        if let Some(own) = own {
            own.advance(end, Offset::ZERO);
        }
        if let Some(end) = moved {
            self.advance(end);
        }
    }

    fn log_start(&self, _: Offset) {
        match &*self.lock() {
            // Followers begin there too, also when nothing is appended any more.
            State::Leading(leading) => leading.wake_all(),
            State::Following(following) => {
                if let Some(inlet) = &following.inlet {
                    inlet.wake();
                }
            }
            State::Unassigned | State::Promoting(..) => {}
        }
        // The beginning of an open transaction may have been deleted.
        self.advance(self.watermark.get());
        self.poke();
    }
}

impl Leading {
    /// There may be something to tell followers.
    fn wake_all(&self) {
        self.outlets.iter().for_each(|(_, outlet)| outlet.wake());
    }

    /// Answers who waits for logs to begin later, as far as all in sync do.
    fn settle_deletions(&mut self, me: BrokerId) {
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
    fn moved(&self) -> Offset {
        self.wake_all();
        self.leadership.high_watermark()
    }
}

impl Replica {
    pub(crate) fn new(
        handle: PartitionHandle,
        watermark: Arc<Watermark>,
        links: Arc<Links>,
    ) -> Self {
        Self {
            me: links.me(),
            handle,
            watermark,
            links,
            state: Mutex::new(State::Unassigned),
            throttle: OnceLock::new(),
            began: Instant::now(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn reader(&self) -> &LogReader {
        self.handle.reader()
    }

    fn now(&self) -> Millis {
        Millis(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// The offset below which everything is committed, as far as is known here.
    pub(crate) fn high_watermark(&self) -> Offset {
        self.watermark.get()
    }

    fn ends(&self) -> Ends {
        let reader = self.reader();
        // In this order, since the one never passes the other.
        let synced = reader.synced_end();
        let received = reader.log_end();
        if Mutant::CountReceived.is_active() {
            return Ends {
                received,
                synced: received,
            };
        }
        Ends { received, synced }
    }

    /// What was committed from there on is here no more: its loss was accepted when another was elected, or the log begins anew.
    pub(crate) fn give_up_above(&self, end: Offset) {
        // Within the lock: whoever leads by now has its own watermark.
        let state = self.lock();
        if !matches!(&*state, State::Leading(_) | State::Promoting(..)) {
            self.watermark.lower(end);
        }
    }

    fn advance(&self, end: Offset) {
        self.watermark.advance(end, self.reader().last_stable(end));
    }

    /// Takes on what the metadata says. An assignment of an earlier epoch is out of date.
    pub(crate) fn assign(self: &Arc<Self>, assignment: Assignment) {
        let mut state = self.lock();
        let before = state.epoch();
        let deposed = match assignment {
            Assignment::Lead(epoch, known) if epoch >= before => {
                self.lead(&mut state, epoch, known)
            }
            Assignment::Follow(epoch, leader) if epoch >= before => {
                follow(&mut state, epoch, leader)
            }
            Assignment::Lead(..) | Assignment::Follow(..) => return,
        };
        let moved = match &*state {
            State::Leading(leading) => Some(leading.leadership.high_watermark()),
            _ => None,
        };
        // Within the lock: a later leader's records must not pass for those that are waited for.
        let abandoned = deposed.map(|leading| self.depose(&leading));
        drop(state);
        if let Some(abandoned) = abandoned {
            abandoned.into_iter().for_each(Abandoned::tell);
        }
        if let Some(end) = moved {
            self.advance(end);
        }
        self.poke();
    }

    /// Where batches wait for room, if they ever had to.
    #[must_use]
    pub fn throttle(&self) -> Option<&Arc<Throttle>> {
        self.throttle.get()
    }

    /// As [`throttle`](Self::throttle), with one from now on.
    pub(crate) fn throttle_or(&self, make: impl FnOnce() -> Throttle) -> &Arc<Throttle> {
        self.throttle.get_or_init(|| Arc::new(make()))
    }

    /// Who waits for room finds out what has changed.
    fn poke(&self) {
        if let Some(throttle) = self.throttle() {
            throttle.poke();
        }
    }

    /// Ends when everything that was handed to the lane before is decided.
    pub(crate) fn fence(&self) -> impl Future<Output = ()> + Send + use<> {
        let (sender, receiver) = oneshot::channel();
        self.handle.ends(move |_| {
            // Nobody may be waiting any more.
            let _ = sender.send(());
        });
        async move {
            // A lane that has stopped has refused everything.
            let _ = receiver.await;
        }
    }

    fn lead(
        self: &Arc<Self>,
        state: &mut State,
        epoch: LeaderEpoch,
        known: Known,
    ) -> Option<Box<Leading>> {
        match state {
            State::Leading(leading) if leading.epoch == epoch => {
                self.connect(leading, &known);
                if leading.leadership.learn(known, self.now()) {
                    leading.moved();
                }
                leading.settle_deletions(self.me);
                None
            }
            State::Promoting(promoting, newer) if *promoting == epoch => {
                *newer = known;
                None
            }
            _ => {
                let before = std::mem::replace(state, State::Promoting(epoch, known));
                let this = Arc::clone(self);
                self.handle.ends(move |ends| match ends {
                    Ok(_) => this.promoted(epoch),
                    // The lane has stopped or let go of the partition: nobody leads it here any more.
                    Err(error) => {
                        tracing::debug!(partition = %this.reader().key(), %error, "not led");
                    }
                });
                match before {
                    State::Leading(leading) => Some(leading),
                    _ => None,
                }
            }
        }
    }

    /// All that was queued before is written: the epoch begins.
    fn promoted(self: &Arc<Self>, epoch: LeaderEpoch) {
        let ends = self.ends();
        let mut state = self.lock();
        let State::Promoting(promoting, known) = &mut *state else {
            return;
        };
        if *promoting != epoch {
            return;
        }
        let known = known.clone();
        let (now, watermark) = (self.now(), self.watermark.get());
        let leadership = Leadership::new(self.me, epoch, known.clone(), ends, watermark, now);
        let end = leadership.high_watermark();
        let mut leading = Box::new(Leading {
            epoch,
            leadership,
            own: Arc::new(Watermark::at(self.reader().durable_end(), Offset::ZERO)),
            began_at: ends.received,
            outlets: Vec::new(),
            is_unsure: false,
            starts: BTreeMap::new(),
            deletions: Vec::new(),
        });
        self.connect(&mut leading, &known);
        *state = State::Leading(leading);
        drop(state);
        self.advance(end);
        // A reader that waits here for the watermark may have to be told something else.
        self.watermark.nudge();
    }

    /// Has a way to each follower, and none to who is no replica any more.
    fn connect(self: &Arc<Self>, leading: &mut Leading, known: &Known) {
        let others = || {
            let ids = known.replicas.iter().map(|replica| replica.id);
            ids.filter(|id| *id != self.me)
        };
        leading.outlets.retain(|(id, outlet)| {
            let stays = others().any(|other| other == *id);
            if !stays {
                outlet.wake();
            }
            stays
        });
        for id in others() {
            if !leading.outlets.iter().any(|(other, _)| *other == id) {
                let outlet = self.links.outlet(self, id, leading.epoch);
                leading.outlets.push((id, outlet));
            }
        }
    }

    /// Takes out everyone who waits for this leadership, to be told once the lock is let go of.
    fn depose(&self, leading: &Leading) -> [Abandoned; 2] {
        // They find out for themselves that this is over.
        leading.outlets.iter().for_each(|(_, outlet)| outlet.wake());
        [leading.own.abandon(), self.watermark.abandon()]
    }

    /// The partition goes away, or the broker: it is nobody's any more.
    pub(crate) fn retire(&self) {
        let mut state = self.lock();
        let abandoned = match std::mem::replace(&mut *state, State::Unassigned) {
            State::Leading(leading) => self.depose(&leading),
            _ => [self.watermark.abandon(), Abandoned::default()],
        };
        drop(state);
        abandoned.into_iter().for_each(Abandoned::tell);
        self.poke();
    }

    /// Whether this broker leads in this epoch, and takes appends.
    pub(crate) fn leads(&self, epoch: LeaderEpoch) -> bool {
        self.lock().leading(epoch).is_some()
    }

    /// Whether it does not lead in this epoch, but may some microseconds later.
    pub(crate) fn may_lead_soon(&self, epoch: LeaderEpoch) -> bool {
        match &*self.lock() {
            State::Leading(_) => false,
            State::Promoting(promoting, _) => *promoting <= epoch,
            state => state.epoch() < epoch,
        }
    }

    /// Whether everything that was there when its epoch began is below the high watermark: only then the watermark is no lower than
    /// any that an earlier leader told (KIP-207).
    pub(crate) fn is_established(&self) -> bool {
        match &*self.lock() {
            State::Leading(leading) => leading.leadership.high_watermark() >= leading.began_at,
            _ => false,
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
        let state = self.lock();
        if state.leading(leader_epoch).is_none() {
            let latest = state.epoch();
            drop(state);
            done(Err(AppendError::StaleEpoch {
                got: leader_epoch,
                latest,
            }));
            return;
        }
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

    /// A stream of the leader in this epoch begins to feed this replica, in place of any before.
    pub(crate) fn feed(
        &self,
        leader: BrokerId,
        epoch: LeaderEpoch,
        inlet: &Arc<dyn Wake>,
    ) -> Result<(), NotFed> {
        let mut state = self.lock();
        let known = state.epoch();
        match &mut *state {
            State::Following(following)
                if following.epoch == epoch && following.leader == Some(leader) =>
            {
                following.inlet = Some(Arc::clone(inlet));
                Ok(())
            }
            _ if known < epoch => Err(NotFed::NotYet(epoch.0)),
            _ if known > epoch => Err(NotFed::Over(known.0)),
            _ => Err(NotFed::Another),
        }
    }

    /// Does something with the lane for the stream that feeds this replica: nothing of another stream or role comes in between.
    pub(crate) fn while_fed<T>(
        &self,
        inlet: &Arc<dyn Wake>,
        act: impl FnOnce(&PartitionHandle) -> T,
    ) -> Result<T, NotFed> {
        let mut state = self.lock();
        if state.fed_by(inlet).is_none() {
            return Err(NotFed::Another);
        }
        Ok(act(&self.handle))
    }

    /// Queues what the stream that feeds this replica brought. `failed` is called when it cannot be appended.
    pub(crate) fn receive(
        self: &Arc<Self>,
        inlet: &Arc<dyn Wake>,
        batches: Bytes,
        failed: impl FnOnce(AppendError) + Send + 'static,
    ) -> Result<(), NotFed> {
        self.while_fed(inlet, |handle| {
            handle.replicate(Replicate {
                batches,
                done: Box::new(move |result| {
                    if let Err(error) = result {
                        failed(error);
                    }
                }),
            });
        })
    }

    /// What the leader says of itself, by the stream that feeds this replica.
    pub(crate) fn told(
        &self,
        inlet: &Arc<dyn Wake>,
        high_watermark: Offset,
        log_start: Offset,
    ) -> Result<(), NotFed> {
        let mut state = self.lock();
        let following = state.fed_by(inlet).ok_or(NotFed::Another)?;
        following.leader_watermark = following.leader_watermark.max(high_watermark);
        following.leader_start = following.leader_start.max(log_start);
        let end = following.leader_watermark.min(self.reader().log_end());
        following.follow_start(&self.handle);
        drop(state);
        self.advance(end);
        Ok(())
    }

    /// How far this replica is, for the stream that feeds it.
    pub(crate) fn fed(&self, inlet: &Arc<dyn Wake>) -> Option<Ends> {
        let mut state = self.lock();
        // Within the lock: of another epoch it would speak of other records.
        state.fed_by(inlet).map(|_| self.ends())
    }
}

fn follow(state: &mut State, epoch: LeaderEpoch, leader: Option<BrokerId>) -> Option<Box<Leading>> {
    match state {
        State::Following(following) if following.epoch == epoch => {
            following.leader = leader;
            None
        }
        _ => {
            let following = State::Following(Following {
                epoch,
                leader,
                inlet: None,
                leader_watermark: Offset::ZERO,
                leader_start: Offset::ZERO,
                start_asked: Offset::ZERO,
            });
            match std::mem::replace(state, following) {
                State::Leading(leading) => Some(leading),
                _ => None,
            }
        }
    }
}
