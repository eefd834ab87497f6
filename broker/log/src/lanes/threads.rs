//! The lanes of a process with their threads.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use tracing::warn;

use super::background::{Job, Urgency};
use super::command::{Command, Refusal};
use super::core::OnFatal;
use super::lent::Seat;
use super::queue::Queue;
use super::{LaneCore, LanesConfig, OpenPartition, Opened};
use crate::clean::Cleaner;
use crate::clock::Clock;
use crate::dir::{DataDir, PartitionKey};
use crate::error::{Fatal, OpenError};

/// The threads that write all partitions of a process.
pub struct Lanes {
    queues: Vec<Arc<Queue>>,
    lane_threads: Vec<JoinHandle<()>>,
    background: Option<Background>,
    /// Directories that partitions were opened in.
    dirs: Arc<Mutex<Vec<Arc<DataDir>>>>,
    on_fatal: OnFatal,
    cleaner: Arc<Cleaner>,
}

impl std::fmt::Debug for Lanes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("lanes", &self.queues.len())
            .finish_non_exhaustive()
    }
}

impl Lanes {
    /// Starts the threads. `on_fatal` is called when a disk failure leaves it unknown what is on disk: in production it logs
    /// and ends the process; nothing is acknowledged by that lane after it.
    pub fn start(
        config: LanesConfig,
        clock: Arc<dyn Clock>,
        on_fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
    ) -> io::Result<Self> {
        let (mut lanes, cores) = Self::without_threads(&config, clock, on_fatal);
        let background = Background::start(&config, &lanes.dirs, &lanes.on_fatal)?;
        for (number, core) in cores.into_iter().enumerate() {
            let seat = Seat::new(core, background.sender(), Arc::clone(&lanes.on_fatal));
            let thread = Builder::new()
                .name(format!("lane-{number}"))
                .spawn(move || seat.run())?;
            lanes.lane_threads.push(thread);
        }
        lanes.background = Some(background);
        Ok(lanes)
    }

    /// The same without threads, for a simulation that takes the lanes' turns, runs their jobs and writes the
    /// [`checkpoints`](Self::checkpoints).
    pub fn without_threads(
        config: &LanesConfig,
        clock: Arc<dyn Clock>,
        on_fatal: Arc<dyn Fn(&Fatal) + Send + Sync>,
    ) -> (Self, Vec<LaneCore>) {
        let queue = |_| {
            Arc::new(Queue::new(
                config.queue_bytes_max,
                config.queue_commands_max,
            ))
        };
        let queues: Vec<_> = (0..config.lanes.max(1)).map(queue).collect();
        let cleaner = Arc::new(Cleaner::default());
        let cores = queues
            .iter()
            .map(|queue| {
                LaneCore::new(
                    Arc::clone(queue),
                    Arc::clone(&clock),
                    Arc::clone(&on_fatal),
                    Arc::clone(&cleaner),
                )
            })
            .collect();
        let lanes = Self {
            queues,
            lane_threads: Vec::new(),
            background: None,
            dirs: Arc::default(),
            on_fatal,
            cleaner,
        };
        (lanes, cores)
    }

    /// The bounds of compaction, and what it has done.
    #[must_use]
    pub fn cleaner(&self) -> &Arc<Cleaner> {
        &self.cleaner
    }

    /// Opens a partition on its lane; `done` is called there when it has been recovered. Thousands may be under way.
    pub fn open(
        &self,
        partition: OpenPartition,
        done: impl FnOnce(Result<Opened, OpenError>) + Send + 'static,
    ) {
        let mut dirs = lock(&self.dirs);
        if !dirs.iter().any(|dir| Arc::ptr_eq(dir, &partition.dir)) {
            dirs.push(Arc::clone(&partition.dir));
        }
        drop(dirs);
        match self.queues.get(self.lane_of(partition.meta.key)) {
            Some(queue) => queue.push(Command::Open(Box::new(partition), Box::new(done))),
            None => done(Err(OpenError::Stopped)),
        }
    }

    /// Partitions of one topic go round the lanes, from a place that differs from topic to topic.
    fn lane_of(&self, key: PartitionKey) -> usize {
        let (high, low) = key.topic_id.0.as_u64_pair();
        let spread = high ^ low;
        let number = spread.wrapping_add(u64::from(key.partition.0.unsigned_abs()));
        (number % self.queues.len().max(1) as u64) as usize
    }

    /// Writes the checkpoints of all data directories now.
    pub fn write_checkpoints(&self) {
        write_checkpoints(&self.dirs, &self.on_fatal);
    }

    /// The same for later, wherever the lanes are by then.
    pub fn checkpoints(&self) -> impl Fn() + Send + Sync + 'static + use<> {
        let (dirs, on_fatal) = (Arc::clone(&self.dirs), Arc::clone(&self.on_fatal));
        move || write_checkpoints(&dirs, &on_fatal)
    }

    /// Syncs and closes all partitions, marks their data directories as cleanly shut down, and ends the threads. Blocks.
    pub fn shutdown(mut self) {
        let closed = self.ask_to_close();
        let all_closed = closed.iter().all(|closed| closed);
        for thread in self.lane_threads.drain(..) {
            let _ = thread.join();
        }
        if let Some(background) = self.background.take() {
            background.stop();
        }
        if all_closed {
            self.mark_clean();
        }
    }

    /// The same for lanes [without threads](Self::without_threads): they are asked to close. When all of them are finished,
    /// what is returned is to be called; it does what is left to do.
    pub fn shut_down_by_hand(self) -> impl FnOnce() + Send {
        let closed = self.ask_to_close();
        move || {
            if closed.try_iter().all(|closed| closed) {
                self.mark_clean();
            }
        }
    }

    /// Tells all lanes to close; each answers once whether all of it is on disk.
    fn ask_to_close(&self) -> Receiver<bool> {
        let (sender, closed) = mpsc::channel();
        for queue in &self.queues {
            let sender = sender.clone();
            queue.push(Command::Shutdown(Box::new(move |result| {
                // Whoever asked may be gone; then nobody marks anything as clean.
                let _ = sender.send(result.is_ok());
            })));
        }
        closed
    }

    /// Everything derived goes to disk too, so that the next start finds it after a power cut as well.
    fn mark_clean(&self) {
        for dir in lock(&self.dirs).iter() {
            let written = dir
                .storage()
                .sync_file_system(dir.path())
                .map_err(crate::files::FileError::of(
                    crate::files::SYNCING,
                    dir.path(),
                ))
                .and_then(|()| dir.write_checkpoint(true));
            if let Err(error) = written {
                warn!(path = %error.path.display(), error = %error.source, "the next start will check the logs' ends");
            }
        }
    }
}

impl Drop for Lanes {
    /// Lanes that are not shut down leave the disk as a kill would.
    fn drop(&mut self) {
        for queue in &self.queues {
            queue.stop();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Tells everybody when a thread panics that has a lane, which is a defect: without it appends would be queued for nobody.
pub(super) struct Watch {
    pub(super) queue: Arc<Queue>,
    pub(super) on_fatal: OnFatal,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        self.queue.stop();
        let mut left = Vec::new();
        self.queue.drain(&mut left);
        for command in left {
            command.refuse(Refusal::Stopped);
        }
        let source = Arc::new(io::Error::other("its thread panicked"));
        (self.on_fatal)(&Fatal {
            doing: "running",
            path: "lane".into(),
            source,
        });
    }
}

/// Sends jobs to the thread they belong on.
#[derive(Clone)]
pub(super) struct JobSender {
    deadline: Sender<Job>,
    cleaning: Sender<Job>,
    other: Sender<Job>,
}

impl JobSender {
    pub(super) fn send(&self, job: Job) {
        let sender = match job.urgency {
            Urgency::Deadline => &self.deadline,
            Urgency::Hours => &self.cleaning,
            Urgency::None => &self.other,
        };
        if let Err(unsent) = sender.send(job) {
            // The thread is gone: do it here.
            unsent.0.run();
        }
    }
}

/// Three threads: one for syncs that have a deadline, one for compaction, which so makes one pass at a time, one for
/// everything else and the checkpoints.
struct Background {
    sender: JobSender,
    threads: Vec<JoinHandle<()>>,
}

impl Background {
    fn start(
        config: &LanesConfig,
        dirs: &Arc<Mutex<Vec<Arc<DataDir>>>>,
        on_fatal: &OnFatal,
    ) -> io::Result<Self> {
        let (deadline, deadline_jobs) = mpsc::channel::<Job>();
        let (cleaning, cleaning_jobs) = mpsc::channel::<Job>();
        let (other, other_jobs) = mpsc::channel();
        let syncs = run_jobs("log-sync", deadline_jobs)?;
        let cleaner = run_jobs("log-cleaner", cleaning_jobs)?;
        let interval = Duration::from_millis(
            u64::try_from(config.checkpoint_interval_ms)
                .unwrap_or(0)
                .max(1),
        );
        let (dirs, on_fatal) = (Arc::clone(dirs), Arc::clone(on_fatal));
        let housekeeping = Builder::new()
            .name("log-background".to_owned())
            .spawn(move || keep_house(&other_jobs, interval, &dirs, &on_fatal))?;
        Ok(Self {
            sender: JobSender {
                deadline,
                cleaning,
                other,
            },
            threads: vec![syncs, cleaner, housekeeping],
        })
    }

    fn sender(&self) -> JobSender {
        self.sender.clone()
    }

    /// Lets the threads finish what they have. The lanes' senders must be gone.
    fn stop(self) {
        drop(self.sender);
        for thread in self.threads {
            let _ = thread.join();
        }
    }
}

fn run_jobs(name: &str, jobs: Receiver<Job>) -> io::Result<JoinHandle<()>> {
    Builder::new().name(name.to_owned()).spawn(move || {
        for job in jobs {
            job.run();
        }
    })
}

fn keep_house(
    jobs: &Receiver<Job>,
    interval: Duration,
    dirs: &Mutex<Vec<Arc<DataDir>>>,
    on_fatal: &OnFatal,
) {
    let mut due = std::time::Instant::now() + interval;
    loop {
        match jobs.recv_timeout(due.saturating_duration_since(std::time::Instant::now())) {
            Ok(job) => job.run(),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        if std::time::Instant::now() >= due {
            write_checkpoints(dirs, on_fatal);
            due = std::time::Instant::now() + interval;
        }
    }
}

fn write_checkpoints(dirs: &Mutex<Vec<Arc<DataDir>>>, on_fatal: &OnFatal) {
    let dirs = lock(dirs).clone();
    for dir in dirs {
        match dir.write_checkpoint(false) {
            Err(error) if error.is_fatal() => on_fatal(&error.into()),
            // The old checkpoint stays: the next start checks more.
            Err(error) => {
                warn!(path = %error.path.display(), error = %error.source, "no checkpoint written")
            }
            Ok(()) => {}
        }
    }
}
