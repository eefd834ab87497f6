//! A node: a runtime of its own, whose clock only moves when the node is run.
//!
//! All nodes of a life live on one thread and take turns: each lives through one millisecond, then the next one does. What
//! a node's process has in memory is what is in its runtime's tasks; dropping the runtime is the death of the process. A
//! node that is not run is a process that is stopped: when it goes on, its clock jumps.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// A process.
#[derive(Debug)]
pub struct Node {
    runtime: Runtime,
    start: Instant,
    /// What the life's clock showed when the process began, and what it shows now, to the process's knowledge.
    began_ms: u64,
    now_ms: u64,
    /// Told when the process has ended itself.
    exit: Arc<Notify>,
}

impl Node {
    /// A process that begins now.
    #[must_use]
    pub fn begin(now_ms: u64) -> Self {
        let mut builder = Builder::new_current_thread();
        builder.enable_time().start_paused(true);
        #[allow(clippy::expect_used, reason = "without a runtime there is no life")]
        let runtime = builder.build().expect("a runtime without threads");
        let start = runtime.block_on(async { Instant::now() });
        Self {
            runtime,
            start,
            began_ms: now_ms,
            now_ms,
            exit: Arc::default(),
        }
    }

    /// What to tell when the process ends itself: it does nothing more.
    #[must_use]
    pub fn exit(&self) -> Arc<Notify> {
        Arc::clone(&self.exit)
    }

    /// Begins a task.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Lives until then.
    pub fn run_until(&mut self, now_ms: u64) {
        let gap = now_ms.saturating_sub(self.now_ms);
        if gap > 1 {
            // It was stopped: all that was due meanwhile is due at once.
            let advance = async { tokio::time::advance(Duration::from_millis(gap - 1)).await };
            self.runtime.block_on(advance);
        }
        self.now_ms = now_ms;
        let until = self.start + Duration::from_millis(now_ms - self.began_ms);
        let exit = Arc::clone(&self.exit);
        self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = exit.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        });
    }
}
