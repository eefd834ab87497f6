//! The queue in front of a lane.
//!
//! Bounded twice: by the bytes of the batches in it, which is what memory it pins, and by the number of commands. Emptied as
//! a whole, by exchanging two vectors: a turn takes all there is, and that is group commit. The lane's thread is woken by the first
//! command that is for it; see [`lent`] for those that are not.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::command::{Command, Refusal};
use super::lent::{self, Seat};

pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    bytes_max: usize,
    commands_max: usize,
    /// Where the lane's turns are taken, when it has a thread.
    seat: OnceLock<Weak<Seat>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Queue").finish_non_exhaustive()
    }
}

#[derive(Default)]
struct State {
    commands: Vec<Command>,
    bytes: usize,
    stopped: bool,
    /// There is something for the lane's thread: a command that no other may carry out, or a look at the clock.
    for_thread: bool,
    /// Of whoever drives the lane, when that is no thread.
    waker: Option<Waker>,
}

impl Queue {
    pub(crate) fn new(bytes_max: usize, commands_max: usize) -> Self {
        Self {
            state: Mutex::default(),
            filled: Condvar::new(),
            bytes_max,
            commands_max,
            seat: OnceLock::new(),
        }
    }

    /// Once, by the thread that drives the lane.
    pub(crate) fn set_seat(&self, seat: &Arc<Seat>) {
        // There is one thread for each lane.
        let _ = self.seat.set(Arc::downgrade(seat));
    }

    pub(crate) fn seat(&self) -> Option<Arc<Seat>> {
        self.seat.get()?.upgrade()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command, or refuses it on the spot.
    pub(crate) fn push(&self, command: Command) {
        self.put(command, true);
    }

    /// As [`push`](Self::push), for a write that does not wait for the disk: this thread may take its turn later.
    pub(crate) fn push_quick(self: &Arc<Self>, command: Command) {
        let is_promised = command.bytes() <= lent::BYTES_MAX && lent::promise(self);
        self.put(command, !is_promised);
    }

    fn put(&self, command: Command, for_thread: bool) {
        let mut state = self.lock();
        let bytes = command.bytes();
        // A batch above the bound by itself is taken when nothing else waits: it has passed the broker's own limit.
        let full = bytes > 0 && state.bytes > 0 && state.bytes + bytes > self.bytes_max;
        // Background work was begun by the lane itself and is bounded there; its end must not get lost. Nor must the end of a
        // partition, and what the beginning of its leadership waits for: there are few of them for each partition.
        let counted = !matches!(
            command,
            Command::JobDone(..)
                | Command::Shutdown(..)
                | Command::Ends(..)
                | Command::Close(..)
                | Command::Delete(..)
        );
        let refusal = if state.stopped {
            Some(Refusal::Stopped)
        } else if full || counted && state.commands.len() >= self.commands_max {
            Some(Refusal::Busy)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            drop(state);
            command.refuse(refusal);
            return;
        }
        state.bytes += bytes;
        state.commands.push(command);
        if for_thread {
            self.wake_from(state);
        }
    }

    /// Has the lane's thread look, now or when it is done with its turn.
    pub(crate) fn wake(&self) {
        self.wake_from(self.lock());
    }

    fn wake_from(&self, mut state: MutexGuard<'_, State>) {
        if std::mem::replace(&mut state.for_thread, true) {
            return;
        }
        let waker = state.waker.take();
        drop(state);
        self.filled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves all that is queued into `commands`, which must be empty.
    pub(crate) fn drain(&self, commands: &mut Vec<Command>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.commands, commands);
        state.bytes = 0;
        state.for_thread = false;
    }

    /// The same when nothing in it is for the lane's thread. False, and nothing moved, otherwise.
    pub(crate) fn drain_quick(&self, commands: &mut Vec<Command>) -> bool {
        let mut state = self.lock();
        if state.for_thread || state.bytes > lent::BYTES_MAX {
            return false;
        }
        std::mem::swap(&mut state.commands, commands);
        state.bytes = 0;
        true
    }

    /// Waits until something is there for the lane's thread, or for so long.
    pub(crate) fn wait(&self, at_most: Option<Duration>) {
        let state = self.lock();
        let empty = |state: &mut State| !state.for_thread && !state.stopped;
        match at_most {
            None => drop(self.filled.wait_while(state, empty)),
            Some(at_most) => drop(self.filled.wait_timeout_while(state, at_most, empty)),
        }
    }

    /// As [`wait`](Self::wait), for a driver that is no thread.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.for_thread || state.stopped {
            return Poll::Ready(());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes nothing more. What is queued is still to be drained.
    pub(crate) fn stop(&self) {
        let waker = {
            let mut state = self.lock();
            state.stopped = true;
            state.waker.take()
        };
        self.filled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Whether it takes nothing more and nothing is left in it.
    pub(crate) fn is_over(&self) -> bool {
        let state = self.lock();
        state.stopped && state.commands.is_empty()
    }
}
