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

mod following;
mod leading;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::oneshot;
use tokio::time::Instant;
use weir_log::mutants::Mutant;
use weir_log::{LogReader, Observer, PartitionHandle};
use weir_replication::{Ends, Known, Leadership, Millis};
use weir_wire::{BrokerId, LeaderEpoch, Offset};

use super::watermark::{Abandoned, Watermark};
use crate::queue::throttle::Throttle;
use crate::replication::Links;
use following::Following;
pub use following::NotFed;
use leading::Leading;
pub use leading::{Progress, Until};

/// Somebody who is to be told that there is something new of a partition: the sending half of a stream to another broker.
pub trait Wake: fmt::Debug + Send + Sync {
    /// There is. Must not block, nor ask the partition anything.
    fn wake(&self);
}

/// What the metadata makes of this broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Assignment {
    /// It leads.
    Lead(LeaderEpoch, Known),
    /// It follows this broker, or waits for a leader.
    Follow(LeaderEpoch, Option<BrokerId>),
}

/// What comes of an append in an epoch in which the metadata has this broker lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is taken.
    Leads,
    /// Not yet; perhaps some microseconds later.
    Soon,
    /// Not any more, or this broker has not heard of it.
    Other,
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
            since: now,
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
        self.standing(epoch) == Standing::Leads
    }

    /// How this broker stands to an epoch in which the metadata has it lead.
    pub(crate) fn standing(&self, epoch: LeaderEpoch) -> Standing {
        let state = self.lock();
        match &*state {
            State::Leading(leading) if leading.epoch == epoch => Standing::Leads,
            State::Leading(_) => Standing::Other,
            State::Promoting(promoting, _) if *promoting <= epoch => Standing::Soon,
            _ if state.epoch() < epoch => Standing::Soon,
            _ => Standing::Other,
        }
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
