//! Producers that wait for room: `weir.queue.overflow=throttle`.
//!
//! A batch that the lane refuses for the moment waits here, one queue for each partition, and is handed to the lane again when room may have
//! appeared: the group has settled something, the log begins later, the bound or the lease is another, the leader is another. What always holds:
//!
//! - What came first is handed over first. While anybody waits, whoever comes waits behind; what was in the lane's queue already when the first one was
//!   refused is refused too ([`Throttled`]), and takes its place by its number. Nothing is admitted again before the lane has decided on all of that.
//! - Every batch is answered once: when it is in, when it is refused for another reason, or at its deadline, as it was refused for the moment.
//! - The lane is never held up; a connection is not read from while [`HELD_MAX`] batches of its requests wait.
//!
//! A batch in a wait has no sequence yet, so an idempotent producer's next ones are out of order for the lane; they wait behind it as well.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus::IntCounter;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_log::{Admission, AppendError, Appended, NotAdmitted, Offered, Origin, Verified};
use weir_quorum::configs::Scope;
use weir_wire::LeaderEpoch;

use super::bound::{Bound, Work};
use crate::partitions::{Replica, Until};

/// Batches of one connection that may wait before it is not read from: as many as an idempotent producer has on their way, so that for each of them its time
/// counts from when it was sent.
const HELD_MAX: usize = 5;
/// Bytes that may wait for one partition, each batch with what it takes to remember it: connections that end leave their batches behind until their time is up.
/// What is beyond it is refused for the moment at once.
const WAITING_BYTES_MAX: usize = 16 << 20;
const REMEMBERING_BYTES: usize = 256;
/// Batches that are handed to the lane together at most.
const TOGETHER_MAX: usize = 64;

/// How often the first that waits asks for more of its topic's bound, of which nobody tells when other partitions let go of it.
const ASK_EVERY: Duration = Duration::from_millis(100);

type Done = Box<dyn FnOnce(Result<Appended, AppendError>) + Send>;

/// How long a batch may wait, and which connection is slowed down by it.
#[derive(Clone, Debug)]
pub struct Patience {
    until: Instant,
    held: Option<Arc<Held>>,
}

impl Patience {
    /// Three quarters of the time that a producer gives: it counts from when it sent, and to the end of replication.
    #[must_use]
    pub fn of(timeout: Duration, held: Option<Arc<Held>>) -> Self {
        // Longer than a day nobody waits, nor does any clock end before.
        let wait = timeout.min(Duration::from_secs(86_400)) * 3 / 4;
        Self {
            until: Instant::now() + wait,
            held,
        }
    }
}

/// Batches of one connection that wait.
#[derive(Debug, Default)]
pub struct Held(AtomicUsize);

impl Held {
    /// Whether the connection is to be read from no further.
    #[must_use]
    pub fn is_enough(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= HELD_MAX
    }
}

/// One that waits, as its connection counts it.
#[derive(Debug)]
struct Hold(Arc<Held>);

impl Hold {
    fn new(held: &Arc<Held>) -> Self {
        held.0.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(held))
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A batch of a client, and how it is to be appended.
pub(crate) struct Offer {
    pub(crate) batch: Bytes,
    pub(crate) leader_epoch: LeaderEpoch,
    pub(crate) origin: Origin,
    pub(crate) verified: Option<Verified>,
    pub(crate) until: Until,
    /// `None`: it does not wait.
    pub(crate) patience: Option<Patience>,
    pub(crate) done: Done,
}

impl Offer {
    fn bytes(&self) -> usize {
        self.batch.len() + REMEMBERING_BYTES
    }
}

struct Waiting {
    offer: Offer,
    patience: Patience,
    why: AppendError,
    _hold: Option<Hold>,
}

#[derive(Default)]
struct State {
    next: u64,
    /// By number, which is the order of their coming.
    waiting: BTreeMap<u64, Waiting>,
    bytes: usize,
    /// Some of those that waited are about to be handed over: who comes waits behind them.
    is_handing: bool,
    /// The first of those that were handed over and may not be decided yet.
    handed: Option<u64>,
    /// Somebody was refused who does not wait: that says nothing of whether there is room for the first that does.
    is_closed_in_passing: bool,
    /// There is a task for it.
    is_served: bool,
}

impl State {
    /// Whether one that came before this one waits, or is being tried again.
    fn is_behind(&self, number: u64) -> bool {
        let before = |first: &u64| *first < number;
        let waiting = self.waiting.first_key_value().map(|(first, _)| first);
        waiting.is_some_and(before) || self.handed.as_ref().is_some_and(before)
    }

    fn take(&mut self, number: u64) -> Option<Waiting> {
        let waiting = self.waiting.remove(&number)?;
        self.bytes -= waiting.offer.bytes();
        Some(waiting)
    }

    /// Takes out those whose time is up.
    fn expired(&mut self, now: Instant) -> Vec<Waiting> {
        let is_up = |waiting: &Waiting| waiting.patience.until <= now;
        let numbers = self.waiting.iter().filter(|(_, waiting)| is_up(waiting));
        let numbers: Vec<u64> = numbers.map(|(number, _)| *number).collect();
        let taken = numbers.into_iter().filter_map(|number| self.take(number));
        taken.collect()
    }
}

/// Who waits for room in one partition.
pub struct Throttle {
    work: Arc<Work>,
    refusals: IntCounter,
    /// The topic still asks for it.
    is_on: AtomicBool,
    /// The bound is the topic's: what other partitions leave is had by asking.
    asks: AtomicBool,
    /// A batch was refused for the moment, so that all behind it are. Set by the lane; undone when nothing is behind any more.
    is_closed: AtomicBool,
    room: Notify,
    state: Mutex<State>,
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("waiting", &self.lock().waiting.len())
            .finish_non_exhaustive()
    }
}

impl Throttle {
    pub(crate) fn new(work: Arc<Work>, refusals: IntCounter) -> Self {
        Self {
            work,
            refusals,
            is_on: AtomicBool::new(false),
            asks: AtomicBool::new(false),
            is_closed: AtomicBool::new(false),
            room: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Whether batches wait from now on, and for room within what. Those that do are looked at anew.
    pub(crate) fn turn(&self, scope: Option<Scope>) {
        self.is_on.store(scope.is_some(), Ordering::Relaxed);
        let asks = scope == Some(Scope::Topic);
        self.asks.store(asks, Ordering::Relaxed);
        self.poke();
    }

    /// There may be room, or no leader any more. Does nothing but wake a task, so it may be called anywhere.
    pub(crate) fn poke(&self) {
        self.room.notify_one();
    }

    /// Batches that wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().waiting.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic runs while it is held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a client's batch to the lane, behind those that wait; to be called in the order of a producer's batches.
    pub(crate) fn append(self: &Arc<Self>, replica: &Arc<Replica>, offer: Offer) {
        let mut state = self.lock();
        let number = state.next;
        state.next += 1;
        let is_behind = state.is_handing || !state.waiting.is_empty();
        if is_behind && offer.patience.is_some() {
            let why = AppendError::FullForNow("others wait for room".into());
            if let Some((offer, why)) = self.enter(&mut state, replica, (number, offer), why) {
                drop(state);
                self.tell(offer, why);
            }
            return;
        }
        drop(state);
        self.hand(replica, number, offer);
    }

    /// Gives the batch back when it may not wait.
    fn enter(
        &self,
        state: &mut State,
        replica: &Arc<Replica>,
        (number, offer): (u64, Offer),
        why: AppendError,
    ) -> Option<(Offer, AppendError)> {
        let fits = state.bytes + offer.bytes() <= WAITING_BYTES_MAX;
        let patience = offer.patience.clone();
        let Some(patience) = patience.filter(|patience| fits && patience.until > Instant::now())
        else {
            return Some((offer, why));
        };
        if !state.is_served {
            if self.work.waits.send(Arc::clone(replica)).is_err() {
                // The broker stops.
                return Some((offer, why));
            }
            state.is_served = true;
        }
        state.bytes += offer.bytes();
        let hold = patience.held.as_ref().map(Hold::new);
        let waiting = Waiting {
            offer,
            patience,
            why,
            _hold: hold,
        };
        state.waiting.insert(number, waiting);
        None
    }

    fn hand(self: &Arc<Self>, replica: &Arc<Replica>, number: u64, offer: Offer) {
        let (this, led) = (Arc::clone(self), Arc::clone(replica));
        let batch = (offer.batch.clone(), offer.leader_epoch);
        let (kind, until) = ((offer.origin, offer.verified), offer.until);
        replica.append(batch, kind, until, move |result| match result {
            Ok(appended) => (offer.done)(Ok(appended)),
            Err(error) => this.refused(&led, number, offer, error),
        });
    }

    /// The lane has said no, or this broker leads no more.
    fn refused(&self, replica: &Arc<Replica>, number: u64, offer: Offer, error: AppendError) {
        let mut state = self.lock();
        let waits = match self.is_on.load(Ordering::Relaxed) {
            true => waits(error, state.is_behind(number)),
            false => Err(error),
        };
        let back = match waits {
            Ok(why) => self.enter(&mut state, replica, (number, offer), why),
            Err(error) => Some((offer, error)),
        };
        let Some((offer, error)) = back else {
            return;
        };
        if self.is_closed.load(Ordering::Relaxed) {
            state.is_closed_in_passing = true;
            if !state.is_served {
                // It opens behind a fence: what the lane refused for the moment in the same turn is on its way back.
                state.is_served = self.work.waits.send(Arc::clone(replica)).is_ok();
                if !state.is_served {
                    self.is_closed.store(false, Ordering::Relaxed);
                }
            }
        }
        drop(state);
        self.tell(offer, error);
    }

    fn tell(&self, offer: Offer, error: AppendError) {
        if matches!(error, AppendError::FullForNow(_)) {
            self.refusals.inc();
        }
        (offer.done)(Err(error));
    }

    fn tell_all(&self, waiting: Vec<Waiting>) {
        for waiting in waiting {
            self.tell(waiting.offer, waiting.why);
        }
    }

    /// The broker stops: another one is looked for.
    fn give_up(&self) {
        let waiting = {
            let mut state = self.lock();
            // What is in the lane's queue still keeps its number.
            (state.bytes, state.is_served) = (0, false);
            std::mem::take(&mut state.waiting)
        };
        for waiting in waiting.into_values() {
            self.tell(waiting.offer, AppendError::Closed);
        }
    }

    /// Hands over those that wait, more and more as long as all are taken.
    async fn hand_all(self: &Arc<Self>, replica: &Arc<Replica>) {
        let mut together = 1;
        loop {
            self.lock().is_handing = true;
            // Whoever was in the lane's queue is in, or back.
            replica.fence().await;
            let expired = self.lock().expired(Instant::now());
            self.tell_all(expired);
            self.is_closed.store(false, Ordering::Relaxed);
            let mut handed = 0;
            while handed < together
                && let Some((number, waiting)) = self.first()
            {
                handed += 1;
                self.hand(replica, number, waiting.offer);
            }
            self.lock().is_handing = false;
            if handed == 0 {
                return;
            }
            replica.fence().await;
            self.lock().handed = None;
            if self.is_closed.load(Ordering::Relaxed) {
                return;
            }
            together = (together * 2).min(TOGETHER_MAX);
        }
    }

    /// Takes out the first that waits, to be handed over once the state is let go of: the lane's queue may call back at once. When there is none, who comes
    /// need not wait.
    fn first(&self) -> Option<(u64, Waiting)> {
        let mut state = self.lock();
        let first = state.waiting.first_key_value().map(|(number, _)| *number);
        let Some(number) = first else {
            state.is_handing = false;
            return None;
        };
        state.handed.get_or_insert(number);
        let waiting = state.take(number)?;
        Some((number, waiting))
    }

    /// Serves those that wait until nobody does.
    async fn serve(self: Arc<Self>, replica: Arc<Replica>, stop: CancellationToken) {
        loop {
            self.lock().is_closed_in_passing = false;
            self.hand_all(&replica).await;
            let due = {
                let mut state = self.lock();
                if state.is_closed_in_passing {
                    continue;
                }
                let due = state
                    .waiting
                    .values()
                    .map(|waiting| waiting.patience.until)
                    .min();
                if due.is_none() {
                    state.is_served = false;
                }
                due
            };
            let Some(due) = due else {
                return;
            };
            let due = match self.asks.load(Ordering::Relaxed) {
                true => due.min(Instant::now() + ASK_EVERY),
                false => due,
            };
            tokio::select! {
                () = stop.cancelled() => return self.give_up(),
                () = self.room.notified() => {}
                () = tokio::time::sleep_until(due) => {}
            }
        }
    }
}

/// Whether a batch that the lane refused waits, and what it is told when it has waited in vain.
fn waits(error: AppendError, is_behind: bool) -> Result<AppendError, AppendError> {
    match error {
        AppendError::FullForNow(_) => Ok(error),
        // It follows one that waits. By the time that its own is up that one may be in, and it is not out of order any more.
        error if is_behind && error.gap().is_some() => {
            Ok(AppendError::FullForNow("others wait for room".into()))
        }
        error => Err(error),
    }
}

/// A bound whose producers wait.
#[derive(Debug)]
pub(crate) struct Throttled {
    pub(crate) bound: Arc<Bound>,
    pub(crate) throttle: Arc<Throttle>,
}

impl Admission for Throttled {
    fn admit(&self, offered: Offered) -> Result<(), NotAdmitted> {
        let is_closed = &self.throttle.is_closed;
        if is_closed.load(Ordering::Relaxed) {
            return Err(NotAdmitted::ForNow("others wait for room".into()));
        }
        let admitted = self.bound.admit(offered);
        if matches!(admitted, Err(NotAdmitted::ForNow(_))) {
            is_closed.store(true, Ordering::Relaxed);
        }
        admitted
    }
}

/// Serves all partitions for which somebody waits, until `stop`.
pub(crate) async fn follow(work: Arc<Work>, stop: CancellationToken) {
    let Some(mut waits) = work.waiting() else {
        return;
    };
    let mut serving = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(replica) = waits.recv() => begin(&mut serving, replica, &stop),
            Some(_) = serving.join_next() => {}
        }
    }
    waits.close();
    while let Some(replica) = waits.recv().await {
        begin(&mut serving, replica, &stop);
    }
    while serving.join_next().await.is_some() {}
}

fn begin(serving: &mut JoinSet<()>, replica: Arc<Replica>, stop: &CancellationToken) {
    if let Some(throttle) = replica.throttle() {
        let throttle = Arc::clone(throttle);
        serving.spawn(throttle.serve(replica, stop.clone()));
    }
}

/// The way to whoever serves partitions for which somebody waits. Each is in it at most once.
pub(super) type Waits = mpsc::UnboundedSender<Arc<Replica>>;

#[cfg(test)]
mod tests {
    use super::*;
    use weir_log::SequenceError;
    use weir_wire::ProducerId;

    #[test]
    fn who_comes_after_one_that_is_being_tried_again_is_behind_it() {
        let mut state = State::default();
        assert!(!state.is_behind(7));
        state.handed = Some(5);
        assert!(state.is_behind(6) && !state.is_behind(5) && !state.is_behind(4));
    }

    #[test]
    fn who_waits_behind_another_is_never_told_that_he_is_out_of_order() {
        let early = || {
            AppendError::Sequence(SequenceError::OutOfOrder {
                producer: ProducerId(1),
                expected: 3,
                got: 6,
            })
        };
        assert!(matches!(
            waits(early(), true),
            Ok(AppendError::FullForNow(_))
        ));
        assert!(matches!(
            waits(early(), false),
            Err(AppendError::Sequence(_))
        ));
        let full = AppendError::FullForNow("full".into());
        assert!(matches!(waits(full, false), Ok(AppendError::FullForNow(why)) if why == "full"));
    }
}
