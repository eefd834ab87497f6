//! One partition's high watermark and last stable offset, and who waits for them.
//!
//! Both only grow but where a loss is accepted ([`Watermark::lower`]), and they move together: what ends a transaction is a marker in the log, which counts once the high watermark has
//! passed it. Whoever moves it (a lane's thread) wakes acknowledgements in the order of their offsets and readers in the
//! order in which they came; wakers run after the lock is released, and nothing awaits while it is held. The number of waiters
//! is bounded by the requests in flight, which each connection bounds.

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;
use weir_log::mutants::Mutant;
use weir_wire::Offset;

/// Something to be done once the watermark has passed an offset (`true`), or once it is certain that nobody here will see it do
/// so (`false`).
pub(super) type Passed = Box<dyn FnOnce(bool) + Send>;

/// The watermark and its waiters.
#[derive(Default)]
pub struct Watermark {
    value: AtomicI64,
    /// At most `value`.
    stable: AtomicI64,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// Sorted by offset: what is to be done when the watermark is above it.
    passed: VecDeque<(Offset, Passed)>,
    /// In the order of their coming: whom to wake when what they may read is above an offset.
    readers: Vec<Reader>,
    next_ticket: u64,
}

struct Reader {
    ticket: u64,
    isolation: Isolation,
    above: Offset,
    wake: Arc<Notify>,
}

/// Who waited for what will not be.
#[derive(Default)]
pub(super) struct Abandoned {
    passed: VecDeque<(Offset, Passed)>,
    readers: Vec<Reader>,
}

impl Abandoned {
    /// Tells acknowledgements that there will be none from here, and wakes readers to find out.
    pub(super) fn tell(self) {
        for (_, done) in self.passed {
            done(false);
        }
        for reader in self.readers {
            reader.wake.notify_one();
        }
    }
}

/// What a consumer may read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark.
    #[default]
    ReadUncommitted,
    /// Everything below the last stable offset.
    ReadCommitted,
}

impl Watermark {
    /// A watermark that stands at `value`, and a last stable offset at `stable`.
    #[must_use]
    pub fn at(value: Offset, stable: Offset) -> Self {
        Self {
            value: AtomicI64::new(value.0),
            stable: AtomicI64::new(stable.0),
            ..Self::default()
        }
    }

    /// The offset below which everything may be seen by consumers.
    #[must_use]
    pub fn get(&self) -> Offset {
        Offset(self.value.load(Ordering::Acquire))
    }

    /// The offset below which all transactions are decided.
    #[must_use]
    pub fn stable(&self) -> Offset {
        if Mutant::ShowUndecided.is_active() {
            return self.get();
        }
        Offset(self.stable.load(Ordering::Acquire))
    }

    /// Up to where a consumer of this kind may read.
    #[must_use]
    pub fn readable(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::ReadUncommitted => self.get(),
            Isolation::ReadCommitted => self.stable(),
        }
    }

    /// Moves both down to `end`. Nobody waits for them then: this broker leads no more, and its readers look again.
    pub(super) fn lower(&self, end: Offset) {
        let _waiting = self.lock();
        self.stable.fetch_min(end.0, Ordering::AcqRel);
        self.value.fetch_min(end.0, Ordering::AcqRel);
    }

    /// Moves the watermark up to `end` and the last stable offset up to `stable`, and wakes whoever waited for that. One that
    /// stands there already stays.
    pub fn advance(&self, end: Offset, stable: Offset) {
        let (passed, woken) = {
            let mut waiting = self.lock();
            let grown = self.value.fetch_max(end.0, Ordering::AcqRel) < end.0;
            // Second, so that whoever reads it never sees it above the watermark.
            let settled = self.stable.fetch_max(stable.0, Ordering::AcqRel) < stable.0;
            if !(grown || settled) {
                return;
            }
            let value = self.get();
            let count = waiting
                .passed
                .partition_point(|(offset, _)| *offset < value);
            let passed: Vec<_> = waiting.passed.drain(..count).collect();
            let woken: Vec<_> = waiting
                .readers
                .extract_if(.., |reader| reader.above < self.readable(reader.isolation))
                .collect();
            (passed, woken)
        };
        for (_, done) in passed {
            done(true);
        }
        for reader in woken {
            reader.wake.notify_one();
        }
    }

    /// Calls `done` once the watermark is above `offset`. Gives it back when it is already: to be called by the caller, who may
    /// hold a lock now.
    #[must_use = "what is given back is to be called"]
    pub(super) fn wait_above(&self, offset: Offset, done: Passed) -> Option<Passed> {
        let mut waiting = self.lock();
        if offset < self.get() {
            return Some(done);
        }
        // Nearly always at the end; a producer's retry may ask for an offset that others wait for too.
        let place = waiting
            .passed
            .partition_point(|(other, _)| *other <= offset);
        waiting.passed.insert(place, (offset, done));
        None
    }

    /// Wakes all readers, since something else than the watermark has changed.
    pub fn nudge(&self) {
        let readers = std::mem::take(&mut self.lock().readers);
        for reader in readers {
            reader.wake.notify_one();
        }
    }

    /// Wakes `wake` once a consumer of this kind may read beyond `offset`, unless the returned guard is dropped before. Wakes at
    /// once when it may.
    pub fn wake_above(
        self: &Arc<Self>,
        offset: Offset,
        isolation: Isolation,
        wake: &Arc<Notify>,
    ) -> WakeGuard {
        let mut waiting = self.lock();
        let ticket = waiting.next_ticket;
        waiting.next_ticket += 1;
        if offset < self.readable(isolation) {
            wake.notify_one();
        } else {
            waiting.readers.push(Reader {
                ticket,
                isolation,
                above: offset,
                wake: Arc::clone(wake),
            });
        }
        WakeGuard {
            watermark: Arc::clone(self),
            ticket,
        }
    }

    /// Gives up on everything that waits: the partition is going away, or is led elsewhere. They are to be told by whoever calls
    /// this, who may hold a lock now.
    #[must_use = "those who wait are to be told"]
    pub(super) fn abandon(&self) -> Abandoned {
        let mut waiting = self.lock();
        Abandoned {
            passed: std::mem::take(&mut waiting.passed),
            readers: std::mem::take(&mut waiting.readers),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        // Nothing that can panic runs while it is held.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Watermark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watermark").field(&self.get()).finish()
    }
}

/// A reader's place among those who wait; given up when dropped.
#[derive(Debug)]
pub struct WakeGuard {
    watermark: Arc<Watermark>,
    ticket: u64,
}

impl Drop for WakeGuard {
    fn drop(&mut self) {
        let mut waiting = self.watermark.lock();
        // Tickets ascend, since readers are kept in the order of their coming.
        if let Ok(place) = waiting
            .readers
            .binary_search_by_key(&self.ticket, |reader| reader.ticket)
        {
            waiting.readers.remove(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acknowledgements_come_in_the_order_of_their_offsets_and_not_before_the_watermark_has_passed()
    {
        let watermark = Watermark::at(Offset(10), Offset(10));
        let order = Arc::new(Mutex::new(Vec::new()));
        for offset in [12, 10, 14, 9] {
            let order = Arc::clone(&order);
            let done = move |_| {
                order
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .push(offset)
            };
            if let Some(done) = watermark.wait_above(Offset(offset), Box::new(done)) {
                done(true);
            }
        }
        let seen = || order.lock().unwrap_or_else(PoisonError::into_inner).clone();
        assert_eq!(seen(), [9]);
        watermark.advance(Offset(12), Offset(12));
        assert_eq!(seen(), [9, 10]);
        watermark.advance(Offset(15), Offset(15));
        assert_eq!(seen(), [9, 10, 12, 14]);
    }

    #[test]
    fn the_watermark_never_goes_back() {
        let watermark = Watermark::at(Offset(10), Offset(10));
        watermark.advance(Offset(7), Offset(7));
        assert_eq!(watermark.get(), Offset(10));
    }

    #[tokio::test]
    async fn a_reader_is_woken_when_the_watermark_passes_its_offset() {
        let watermark = Arc::new(Watermark::at(Offset(3), Offset(3)));
        let wake = Arc::new(Notify::new());
        let _guard = watermark.wake_above(Offset(3), Isolation::ReadUncommitted, &wake);
        watermark.advance(Offset(4), Offset(4));
        wake.notified().await;
    }

    #[tokio::test]
    async fn a_reader_of_what_is_committed_waits_for_the_last_stable_offset() {
        let watermark = Arc::new(Watermark::at(Offset(3), Offset(3)));
        let (committed, any) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let _first = watermark.wake_above(Offset(3), Isolation::ReadCommitted, &committed);
        let _second = watermark.wake_above(Offset(3), Isolation::ReadUncommitted, &any);
        watermark.advance(Offset(5), Offset(3));
        any.notified().await;
        assert_eq!(watermark.lock().readers.len(), 1);
        assert_eq!(
            (watermark.get(), watermark.stable()),
            (Offset(5), Offset(3))
        );
        watermark.advance(Offset(5), Offset(5));
        committed.notified().await;
        assert!(watermark.lock().readers.is_empty());
    }

    #[test]
    fn a_reader_that_gave_up_leaves_nothing_behind() {
        let watermark = Arc::new(Watermark::at(Offset(0), Offset(0)));
        let wake = Arc::new(Notify::new());
        let guards: Vec<_> = (0..3)
            .map(|_| watermark.wake_above(Offset(0), Isolation::ReadUncommitted, &wake))
            .collect();
        drop(guards);
        assert!(watermark.lock().readers.is_empty());
    }

    #[test]
    fn who_waits_for_what_is_abandoned_is_told_once_that_it_will_not_be() {
        let watermark = Watermark::at(Offset(0), Offset(0));
        let told = Arc::new(Mutex::new(Vec::new()));
        let tells = Arc::clone(&told);
        let done = move |has_passed| {
            tells
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .push(has_passed);
        };
        assert!(watermark.wait_above(Offset(0), Box::new(done)).is_none());
        watermark.abandon().tell();
        watermark.advance(Offset(5), Offset(5));
        assert_eq!(
            *told.lock().unwrap_or_else(PoisonError::into_inner),
            [false]
        );
    }
}
