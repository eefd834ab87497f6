//! The lanes that write this broker's logs: with threads of their own, or as tasks of the one thread that there is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use weir_log::{Fatal, LaneCore, Lanes, LanesConfig};

use super::OnFatal;
use crate::config::Config;
use crate::host::{Host, Threads};
use crate::metrics::Metrics;

/// Starts the lanes. Without threads of their own they run as tasks in `tasks`, which end when the lanes are shut down.
pub(super) fn start(
    config: &Config,
    host: &Host,
    metrics: &Arc<Metrics>,
    on_fatal: OnFatal,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<Lanes> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    // A lane mostly waits for its disk: a quarter of the cores is enough to keep one busy, two let one batch gather meanwhile.
    let lanes = if config.threads.lanes == 0 {
        (cores / 4).clamp(2, 16)
    } else {
        config.threads.lanes
    };
    let fatal_errors = metrics.fatal_errors.clone();
    let report = move |fatal: &Fatal| {
        fatal_errors.inc();
        on_fatal(&fatal.to_string());
    };
    // All that clients may have in memory may be queued at one lane, and what coordinators write besides: whoever was let in with a
    // batch is not turned away for want of room.
    let queue_bytes_max = usize::try_from(config.limits.request_memory_bytes).unwrap_or(usize::MAX);
    let defaults = LanesConfig::default();
    let queue_bytes_max = queue_bytes_max.saturating_add(defaults.queue_bytes_max);
    let config = LanesConfig {
        lanes,
        queue_bytes_max,
        ..defaults
    };
    let clock = Arc::clone(&host.clock);
    let Threads::One { sync_takes } = &host.threads else {
        return Lanes::start(config, clock, Arc::new(report));
    };
    let (lanes, cores) = Lanes::without_threads(&config, clock, Arc::new(report));
    for core in cores {
        tasks.spawn(run(core, Arc::clone(sync_takes)));
    }
    let checkpoints = lanes.checkpoints();
    let every = Duration::from_millis(u64::try_from(config.checkpoint_interval_ms).unwrap_or(1));
    let stop = stop.clone();
    tasks.spawn(async move {
        let keep = async {
            loop {
                tokio::time::sleep(every).await;
                checkpoints();
            }
        };
        stop.run_until_cancelled(keep).await;
    });
    Ok(lanes)
}

/// One lane as a task. Its disk takes its time between writing and syncing, and before what is done in the background.
async fn run(mut core: LaneCore, sync_takes: Arc<dyn Fn() -> Duration + Send + Sync>) {
    let jobs = TaskTracker::new();
    while !core.is_finished() && !core.is_abandoned() {
        let queued = core.queued();
        match core.wake_in_ms() {
            Some(ms) => {
                let _ = tokio::time::timeout(Duration::from_millis(ms), queued).await;
            }
            None => queued.await,
        }
        core.write_turn();
        tokio::time::sleep(sync_takes()).await;
        for job in core.sync_turn() {
            let takes = sync_takes();
            jobs.spawn(async move {
                tokio::time::sleep(takes).await;
                job.run();
            });
        }
    }
    jobs.close();
    jobs.wait().await;
}
