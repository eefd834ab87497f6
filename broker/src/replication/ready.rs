//! Who has something new, each once, in the order of their coming.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A queue of things that have something new. A thing is in it once at most, so that it holds no more than there are things.
#[derive(Debug)]
pub(super) struct Ready<T> {
    queue: Mutex<VecDeque<Arc<T>>>,
    pushed: Notify,
}

/// Whether a thing is in its queue.
#[derive(Debug, Default)]
pub(super) struct Mark(AtomicBool);

/// What can be in a queue.
pub(super) trait Marked {
    /// Whether it is.
    fn mark(&self) -> &Mark;
}

impl<T> Default for Ready<T> {
    fn default() -> Self {
        Self {
            queue: Mutex::default(),
            pushed: Notify::new(),
        }
    }
}

impl<T: Marked> Ready<T> {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arc<T>>> {
        // Nothing that can panic runs while it is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts it at the end, unless it is in there.
    pub(super) fn push(&self, thing: Arc<T>) {
        if !thing.mark().0.swap(true, Ordering::AcqRel) {
            self.lock().push_back(thing);
            self.pushed.notify_one();
        }
    }

    /// Takes the first. What is new from here on puts it in again.
    pub(super) fn pop(&self) -> Option<Arc<T>> {
        let thing = self.lock().pop_front()?;
        thing.mark().0.store(false, Ordering::Release);
        Some(thing)
    }

    /// Waits until something was put in since this was last awaited.
    pub(super) async fn pushed(&self) {
        self.pushed.notified().await;
    }
}
