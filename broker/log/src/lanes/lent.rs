//! Turns that others take for a lane's thread.
//!
//! Where a write does not wait for the disk, handing it to the lane's thread and hearing of it costs more than the write itself: two
//! threads are woken for each message when messages come one by one. So whoever queues may offer to take the lane's turn
//! ([`lend_turns`]), which it then does when the lane is at rest and all that is queued is such writes, and few bytes of them; a disk
//! that must be waited for is always waited for by the lane's thread. What always holds:
//!
//! - One thread at a time has the lane, and takes commands in the order of the queue.
//! - What was queued without waking the lane's thread is done before [`lend_turns`] returns, or the lane's thread is woken.

use std::cell::RefCell;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::LaneCore;
use super::core::OnFatal;
use super::queue::Queue;
use super::threads::{JobSender, Watch};

/// Bytes of batches that are written by whoever queued them: copying them into the page cache takes some 20 µs, about what waking the
/// lane's thread and being woken by it takes.
pub(crate) const BYTES_MAX: usize = 64 << 10;

thread_local! {
    /// Lanes whose turns this thread has promised to take, while it lends any.
    static PROMISED: RefCell<Option<Vec<Arc<Queue>>>> = const { RefCell::new(None) };
}

/// Runs `queueing`. What it appends to partitions that do not sync before they acknowledge is written afterwards by this thread, where
/// their lanes are at rest; then callbacks are called here, before this returns. So the caller must hold no lock that a callback takes,
/// and be one that may be held up for some microseconds.
pub fn lend_turns<T>(queueing: impl FnOnce() -> T) -> T {
    let is_first = PROMISED.with_borrow_mut(|promised| {
        let is_first = promised.is_none();
        promised.get_or_insert_default();
        is_first
    });
    // Whoever lends already keeps what is promised within.
    let _promises = is_first.then(|| Promises);
    queueing()
}

/// Promises to take a turn of the lane with this queue. False when this thread lends none, or the lane has no thread.
pub(crate) fn promise(queue: &Arc<Queue>) -> bool {
    let promise = |promised: &RefCell<Option<Vec<Arc<Queue>>>>| {
        let mut promised = promised.borrow_mut();
        let Some(queues) = promised.as_mut() else {
            return false;
        };
        if queues.iter().any(|other| Arc::ptr_eq(other, queue)) {
            return true;
        }
        let has_seat = queue.seat().is_some();
        if has_seat {
            queues.push(Arc::clone(queue));
        }
        has_seat
    };
    // A thread that is ending lends nothing.
    PROMISED.try_with(promise).unwrap_or(false)
}

/// Keeps what was promised when it is dropped, also on the way of a panic.
struct Promises;

impl Drop for Promises {
    fn drop(&mut self) {
        for queue in PROMISED.take().unwrap_or_default() {
            let may_take = !std::thread::panicking();
            let seat = queue.seat().filter(|_| may_take);
            if !seat.is_some_and(|seat| seat.lend()) {
                queue.wake();
            }
        }
    }
}

/// A lane, and what whoever takes its turns needs.
pub(crate) struct Seat {
    core: Mutex<LaneCore>,
    queue: Arc<Queue>,
    jobs: JobSender,
    on_fatal: OnFatal,
}

impl Seat {
    pub(super) fn new(core: LaneCore, jobs: JobSender, on_fatal: OnFatal) -> Arc<Self> {
        let queue = Arc::clone(core.queue());
        let seat = Arc::new(Self {
            core: Mutex::new(core),
            queue: Arc::clone(&queue),
            jobs,
            on_fatal,
        });
        queue.set_seat(&seat);
        seat
    }

    /// The lane's thread: takes turns until the lane has come to its end.
    pub(super) fn run(&self) {
        let _watch = self.watch();
        // Whoever panicked while it had the lane has told everybody.
        while let Ok(core) = self.core.lock() {
            if core.is_finished() || core.is_abandoned() {
                return;
            }
            let wake_in = core.wake_in_ms().map(Duration::from_millis);
            drop(core);
            self.queue.wait(wake_in);
            let Ok(mut core) = self.core.lock() else {
                return;
            };
            let jobs = core.turn();
            drop(core);
            jobs.into_iter().for_each(|job| self.jobs.send(job));
        }
    }

    /// A turn by another thread. False when there is something for the lane's thread: it has the lane, or is to have it.
    fn lend(&self) -> bool {
        let Ok(mut core) = self.core.try_lock() else {
            return false;
        };
        let _watch = self.watch();
        let due_ms = core.wake_at_ms();
        if !core.quick_turn() {
            return false;
        }
        // The topic's promise may have changed since it was queued.
        if core.owes_sync() {
            return false;
        }
        let jobs = core.sync_turn();
        let is_as_before = due_ms == core.wake_at_ms();
        drop(core);
        jobs.into_iter().for_each(|job| self.jobs.send(job));
        // Otherwise its thread waits for another time than it should.
        is_as_before
    }

    fn watch(&self) -> Watch {
        Watch {
            queue: Arc::clone(&self.queue),
            on_fatal: Arc::clone(&self.on_fatal),
        }
    }
}
