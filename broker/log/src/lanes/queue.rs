//! The queue in front of a lane.
//!
//! Bounded twice: by the bytes of the batches in it, which is what memory it pins, and by the number of commands. Emptied as
//! a whole, by exchanging two vectors: a turn takes all there is, and that is group commit.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::command::{Command, Refusal};

pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
    bytes_max: usize,
    commands_max: usize,
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
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a command, or refuses it on the spot.
    pub(crate) fn push(&self, command: Command) {
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
        let first = state.commands.len() == 1;
        let waker = state.waker.take();
        drop(state);
        if first {
            self.filled.notify_one();
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Moves all that is queued into `commands`, which must be empty.
    pub(crate) fn drain(&self, commands: &mut Vec<Command>) {
        let mut state = self.lock();
        std::mem::swap(&mut state.commands, commands);
        state.bytes = 0;
    }

    /// Waits until something is queued, or for so long.
    pub(crate) fn wait(&self, at_most: Option<Duration>) {
        let state = self.lock();
        let empty = |state: &mut State| state.commands.is_empty() && !state.stopped;
        match at_most {
            None => drop(self.filled.wait_while(state, empty)),
            Some(at_most) => drop(self.filled.wait_timeout_while(state, at_most, empty)),
        }
    }

    /// As [`wait`](Self::wait), for a driver that is no thread.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if !state.commands.is_empty() || state.stopped {
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
