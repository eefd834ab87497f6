//! A queue of keys that want work.
//!
//! A key is worked on by one task at a time. Adding it while it waits changes nothing; adding it while it is being worked on has it
//! worked on once more afterwards. Work that fails, or panics, comes back after a delay that doubles up to [`BACKOFF_MAX`]. The queue holds
//! each key once, so it is bounded by the number of things that exist.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// First delay after a failure.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
/// The longest delay after failures: what was broken is found repaired within a minute.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// When a key wants to be worked on next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// When it is added again.
    WhenAdded,
    /// After this time, or when it is added, whichever comes first.
    After(Duration),
    /// It failed.
    Failed,
}

#[derive(Debug)]
struct State<K> {
    due: BTreeMap<K, Instant>,
    running: BTreeSet<K>,
    failures: BTreeMap<K, u32>,
}

/// The queue.
#[derive(Debug)]
pub(super) struct Queue<K> {
    state: Mutex<State<K>>,
    changed: Notify,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                due: BTreeMap::new(),
                running: BTreeSet::new(),
                failures: BTreeMap::new(),
            }),
            changed: Notify::new(),
        }
    }
}

impl<K: Ord + Clone + Send + Sync + 'static> Queue<K> {
    /// Wants a key to be worked on now.
    pub(super) fn add(&self, key: K) {
        self.add_at(key, Instant::now());
    }

    fn add_at(&self, key: K, at: Instant) {
        let mut state = self.lock();
        let due = state.due.entry(key).or_insert(at);
        *due = (*due).min(at);
        drop(state);
        self.changed.notify_one();
    }

    /// Works on keys as they become due, at most `concurrency` at a time, until the future is dropped. `panicked` is told of each key whose
    /// work did not come to its end.
    pub(super) async fn work<F>(
        &self,
        concurrency: usize,
        work: impl Fn(K) -> F,
        panicked: impl Fn(&K),
    ) where
        F: Future<Output = Next> + Send + 'static,
    {
        let mut tasks: JoinSet<Next> = JoinSet::new();
        let mut keys: HashMap<tokio::task::Id, K> = HashMap::new();
        loop {
            while tasks.len() < concurrency
                && let Some(key) = self.take_due()
            {
                let id = tasks.spawn(work(key.clone())).id();
                keys.insert(id, key);
            }
            let wait = self.next_due();
            tokio::select! {
                Some(done) = tasks.join_next_with_id(), if !tasks.is_empty() => {
                    let (id, next) = match done {
                        Ok(done) => done,
                        Err(error) => {
                            tracing::error!(%error, "a pass ended by itself; it is tried again");
                            if let Some(key) = keys.get(&error.id()) {
                                panicked(key);
                            }
                            (error.id(), Next::Failed)
                        }
                    };
                    if let Some(key) = keys.remove(&id) {
                        self.finish(key, next);
                    }
                }
                () = self.changed.notified() => {}
                () = async { if let Some(at) = wait { tokio::time::sleep_until(at).await } }, if wait.is_some() && tasks.len() < concurrency => {}
            }
        }
    }

    fn take_due(&self) -> Option<K> {
        let mut state = self.lock();
        let now = Instant::now();
        let key = state
            .due
            .iter()
            .filter(|(key, at)| **at <= now && !state.running.contains(*key))
            .min_by_key(|(_, at)| **at)?
            .0
            .clone();
        state.due.remove(&key);
        state.running.insert(key.clone());
        Some(key)
    }

    fn next_due(&self) -> Option<Instant> {
        let state = self.lock();
        state
            .due
            .iter()
            .filter(|(key, _)| !state.running.contains(*key))
            .map(|(_, at)| *at)
            .min()
    }

    fn finish(&self, key: K, next: Next) {
        let mut state = self.lock();
        state.running.remove(&key);
        let delay = match next {
            Next::Failed => {
                let failures = state.failures.entry(key.clone()).or_default();
                let delay = BACKOFF_MIN
                    .saturating_mul(1_u32.checked_shl(*failures).unwrap_or(u32::MAX))
                    .min(BACKOFF_MAX);
                *failures = failures.saturating_add(1);
                Some(delay)
            }
            Next::After(delay) => {
                state.failures.remove(&key);
                Some(delay)
            }
            Next::WhenAdded => {
                state.failures.remove(&key);
                None
            }
        };
        drop(state);
        if let Some(delay) = delay {
            self.add_at(key, Instant::now() + delay);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<K>> {
        // Nothing between lock and unlock can panic half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use tokio::sync::{Semaphore, mpsc};

    use super::{BACKOFF_MIN, Next, Queue};

    type Working = (
        Arc<Queue<&'static str>>,
        mpsc::UnboundedReceiver<&'static str>,
        Arc<Semaphore>,
        tokio::task::JoinHandle<()>,
    );

    /// A queue whose work reports each key and waits for a permit before it ends.
    fn working(outcome: Next) -> Working {
        let queue = Arc::new(Queue::default());
        let (sender, receiver) = mpsc::unbounded_channel();
        let permits = Arc::new(Semaphore::new(0));
        let worker = tokio::spawn({
            let (queue, permits) = (Arc::clone(&queue), Arc::clone(&permits));
            async move {
                queue
                    .work(
                        4,
                        move |key| {
                            let (sender, permits) = (sender.clone(), Arc::clone(&permits));
                            async move {
                                let _ = sender.send(key);
                                if let Ok(permit) = permits.acquire().await {
                                    permit.forget();
                                }
                                outcome
                            }
                        },
                        |_| {},
                    )
                    .await;
            }
        });
        (queue, receiver, permits, worker)
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_whose_work_panicked_is_worked_on_again_and_that_is_told() {
        let queue = Arc::new(Queue::default());
        let (sender, mut started) = mpsc::unbounded_channel();
        let panics = Arc::new(AtomicUsize::new(0));
        let worker = tokio::spawn({
            let (queue, panics) = (Arc::clone(&queue), Arc::clone(&panics));
            async move {
                let is_first = Arc::new(AtomicBool::new(true));
                let work = move |key| {
                    let (sender, is_first) = (sender.clone(), Arc::clone(&is_first));
                    async move {
                        let _ = sender.send(key);
                        assert!(!is_first.swap(false, Ordering::Relaxed), "on purpose");
                        Next::WhenAdded
                    }
                };
                let count = |key: &&str| {
                    assert_eq!(*key, "shop");
                    panics.fetch_add(1, Ordering::Relaxed);
                };
                queue.work(4, work, count).await;
            }
        });
        queue.add("shop");
        let begun = tokio::time::Instant::now();
        assert_eq!(started.recv().await, Some("shop"));
        assert_eq!(started.recv().await, Some("shop"));
        assert!(begun.elapsed() >= BACKOFF_MIN, "not at once");
        assert_eq!(panics.load(Ordering::Relaxed), 1);
        worker.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_added_many_times_while_worked_on_is_worked_on_once_more() {
        let (queue, mut started, permits, worker) = working(Next::WhenAdded);
        queue.add("shop");
        assert_eq!(started.recv().await, Some("shop"));
        for _ in 0..5 {
            queue.add("shop");
        }
        queue.add("other");
        assert_eq!(
            started.recv().await,
            Some("other"),
            "another key does not wait"
        );
        assert!(
            started.try_recv().is_err(),
            "one key is never worked on twice at a time"
        );
        permits.add_permits(3);
        assert_eq!(started.recv().await, Some("shop"));
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert!(started.try_recv().is_err(), "and then it rests");
        worker.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_ever_later_but_within_a_minute() {
        let (queue, mut started, permits, worker) = working(Next::Failed);
        permits.add_permits(1000);
        let mut last = tokio::time::Instant::now();
        let mut gaps = Vec::new();
        queue.add("shop");
        for _ in 0..9 {
            started.recv().await;
            gaps.push(last.elapsed().as_secs());
            last = tokio::time::Instant::now();
        }
        worker.abort();
        assert_eq!(gaps, [0, 1, 2, 4, 8, 16, 32, 60, 60]);
    }

    #[tokio::test(start_paused = true)]
    async fn adding_a_key_that_waits_for_its_time_brings_it_forward() {
        let (queue, mut started, permits, worker) = working(Next::After(Duration::from_secs(3600)));
        permits.add_permits(1000);
        let begun = tokio::time::Instant::now();
        queue.add("shop");
        started.recv().await;
        queue.add("shop");
        started.recv().await;
        assert!(begun.elapsed() < Duration::from_secs(1));
        started.recv().await;
        assert!(begun.elapsed() >= Duration::from_secs(3600));
        worker.abort();
    }
}
