//! Waiting for several outcomes at once, with one allocation for all of them.
//!
//! A wide produce request appends to many partitions, whose outcomes come from several lanes' threads in any order. Each has a slot; whoever
//! waits is woken when the last slot is filled or given up.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::time::Duration;

/// Slots to be filled. See the module.
#[derive(Debug)]
pub struct Gathered<T> {
    shared: Arc<Mutex<State<T>>>,
}

#[derive(Debug)]
struct State<T> {
    outcomes: Vec<Option<T>>,
    /// Slots that are neither filled nor given up.
    open: usize,
    waker: Option<Waker>,
}

/// One slot. Dropping it unfilled gives it up.
#[derive(Debug)]
pub struct Slot<T> {
    shared: Arc<Mutex<State<T>>>,
    index: usize,
}

fn lock<T>(shared: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    // Nothing that can panic runs while it is held.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Gathered<T> {
    /// So many slots, all of which must be taken with [`slot`](Self::slot).
    #[must_use]
    pub fn new(slots: usize) -> Self {
        let outcomes = std::iter::repeat_with(|| None).take(slots).collect();
        Self {
            shared: Arc::new(Mutex::new(State {
                outcomes,
                open: slots,
                waker: None,
            })),
        }
    }

    /// The slot of this index; each is to be taken once.
    #[must_use]
    pub fn slot(&self, index: usize) -> Slot<T> {
        Slot {
            shared: Arc::clone(&self.shared),
            index,
        }
    }

    /// All outcomes in the order of the slots, once no slot is open or after `patience`; `None` for a slot that is open or was given
    /// up.
    pub async fn all(self, patience: Duration) -> Vec<Option<T>> {
        let closed = poll_fn(|cx| {
            let mut state = lock(&self.shared);
            if state.open == 0 {
                return Poll::Ready(());
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        });
        // A timer is not begun for what is there already, nor for a wait without end.
        if patience == Duration::MAX {
            closed.await;
        } else {
            let _ = tokio::time::timeout(patience, closed).await;
        }
        std::mem::take(&mut lock(&self.shared).outcomes)
    }
}

impl<T> Slot<T> {
    /// Fills the slot.
    pub fn set(self, outcome: T) {
        // Absent when nobody waits any more.
        if let Some(slot) = lock(&self.shared).outcomes.get_mut(self.index) {
            *slot = Some(outcome);
        }
    }
}

impl<T> Drop for Slot<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.shared);
            state.open -= 1;
            if state.open == 0 {
                state.waker.take()
            } else {
                None
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn outcomes_come_in_the_order_of_their_slots_whoever_is_first() {
        let gathered = Gathered::new(2);
        let (first, second) = (gathered.slot(0), gathered.slot(1));
        second.set(2);
        std::thread::spawn(move || first.set(1));
        assert_eq!(gathered.all(Duration::MAX).await, [Some(1), Some(2)]);
    }

    #[tokio::test]
    async fn a_slot_that_is_given_up_is_not_waited_for() {
        let gathered = Gathered::<i32>::new(1);
        drop(gathered.slot(0));
        assert_eq!(gathered.all(Duration::MAX).await, [None]);
    }

    #[tokio::test]
    async fn what_takes_too_long_is_absent() {
        let gathered = Gathered::new(2);
        let (done, _never) = (gathered.slot(0), gathered.slot(1));
        done.set(1);
        assert_eq!(
            gathered.all(Duration::from_millis(1)).await,
            [Some(1), None]
        );
    }
}
